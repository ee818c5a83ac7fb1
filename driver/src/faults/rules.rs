//! The rules, their counts, and where they come from.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Op;

const VARIABLE: &str = "ETCORE_FAULTS";

/// A rule that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault rule {rule:?}: {reason}")]
pub struct BadRule {
    rule: String,
    reason: &'static str,
}

/// Takes its rules away when dropped.
#[derive(Debug)]
#[must_use = "the rules end when this is dropped"]
pub struct Guard {
    owner: u64,
}

/// Adds rules, separated by `;` or by lines, for the whole process. Tests that run side by side keep apart by
/// patterns with their own directory.
///
/// # Errors
/// [`BadRule`] names the one that is wrong; none is installed then.
pub fn install(rules: &str) -> Result<Guard, BadRule> {
    static OWNER: AtomicU64 = AtomicU64::new(1);
    let rules = parse(rules)?;
    let owner = OWNER.fetch_add(1, Ordering::Relaxed);
    with_state(|state| state.sets.push(RuleSet { owner, rules }));
    Ok(Guard { owner })
}

impl Drop for Guard {
    fn drop(&mut self) {
        with_state(|state| state.sets.retain(|set| set.owner != self.owner));
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Errno(i32),
    Short(usize),
    Delay(Duration),
}

/// The effect of the first rule that hits.
pub(super) fn check(op: Op, path: &Path) -> Option<Effect> {
    let path = path.to_string_lossy();
    with_state(|state| {
        state.refresh();
        state
            .sets
            .iter_mut()
            .flat_map(|set| &mut set.rules)
            .find_map(|rule| rule.hit(op, &path))
    })
}

#[derive(Debug)]
struct Rule {
    /// `None`: any.
    op: Option<Op>,
    pattern: String,
    /// How many more matches pass.
    after: u64,
    /// How many more matches are hit.
    times: u64,
    effect: Effect,
}

impl Rule {
    fn hit(&mut self, op: Op, path: &str) -> Option<Effect> {
        if self.op.is_some_and(|wanted| wanted != op) || !matches_pattern(&self.pattern, path) {
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        if self.times == 0 {
            return None;
        }
        self.times -= 1;
        Some(self.effect)
    }
}

struct RuleSet {
    /// 0: the environment's.
    owner: u64,
    rules: Vec<Rule>,
}

#[derive(Default)]
struct State {
    sets: Vec<RuleSet>,
    environment_read: bool,
    control_file: Option<PathBuf>,
    control_text: String,
}

impl State {
    /// Looks at the environment once, and at the control file each time.
    fn refresh(&mut self) {
        if !self.environment_read {
            self.environment_read = true;
            let value = std::env::var(VARIABLE).unwrap_or_default();
            match value.strip_prefix('@') {
                Some(path) => self.control_file = Some(PathBuf::from(path)),
                None => self.replace_environment(&value),
            }
        }
        let Some(path) = &self.control_file else {
            return;
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            // Out of descriptors, say: as before.
            Err(_) => return,
        };
        if text != self.control_text {
            self.replace_environment(&text);
            self.control_text = text;
        }
    }

    fn replace_environment(&mut self, text: &str) {
        self.sets.retain(|set| set.owner != 0);
        match parse(text) {
            Ok(rules) => self.sets.push(RuleSet { owner: 0, rules }),
            // A test that asks for a fault and gets none would pass for nothing.
            Err(error) => panic!("{VARIABLE}: {error}"),
        }
    }
}

fn with_state<T>(act: impl FnOnce(&mut State) -> T) -> T {
    static STATE: Mutex<Option<State>> = Mutex::new(None);
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    act(state.get_or_insert_default())
}

fn parse(text: &str) -> Result<Vec<Rule>, BadRule> {
    text.split([';', '\n'])
        .map(str::trim)
        .filter(|rule| !rule.is_empty() && !rule.starts_with('#'))
        .map(|rule| {
            parse_rule(rule).map_err(|reason| BadRule {
                rule: rule.to_owned(),
                reason,
            })
        })
        .collect()
}

fn parse_rule(text: &str) -> Result<Rule, &'static str> {
    let mut parts = text.split(':');
    let op = parse_op(parts.next().unwrap_or_default())?;
    let pattern = parts.next().ok_or("no path pattern")?.to_owned();
    let (mut after, mut times, mut effect) = (0, u64::MAX, None);
    for part in parts {
        match part.split_once('=') {
            Some(("after", n)) => after = number(n)?,
            Some(("times", n)) => times = number(n)?,
            Some(("short", n)) => effect = Some(Effect::Short(number(n)?)),
            Some(("delay", n)) => effect = Some(Effect::Delay(Duration::from_millis(number(n)?))),
            Some(_) => return Err("an unknown setting"),
            None => effect = Some(Effect::Errno(parse_errno(part)?)),
        }
    }
    Ok(Rule {
        op,
        pattern,
        after,
        times,
        effect: effect.ok_or("no effect")?,
    })
}

fn parse_op(text: &str) -> Result<Option<Op>, &'static str> {
    Ok(Some(match text {
        "*" => return Ok(None),
        "open" => Op::Open,
        "read" => Op::Read,
        "write" => Op::Write,
        "sync" => Op::Sync,
        "allocate" => Op::Allocate,
        "truncate" => Op::Truncate,
        "rename" => Op::Rename,
        "remove" => Op::Remove,
        "mkdir" => Op::CreateDir,
        "syncdir" => Op::SyncDir,
        _ => return Err("an unknown operation"),
    }))
}

fn parse_errno(text: &str) -> Result<i32, &'static str> {
    Ok(match text {
        "ENOSPC" => libc::ENOSPC,
        "EIO" => libc::EIO,
        "EDQUOT" => libc::EDQUOT,
        "EROFS" => libc::EROFS,
        "EACCES" => libc::EACCES,
        "EMFILE" => libc::EMFILE,
        "EINTR" => libc::EINTR,
        "ENOMEM" => libc::ENOMEM,
        number => number.parse().map_err(|_| "an unknown errno")?,
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "not a number")
}

/// Whether `text` is `pattern` with each `*` replaced by some text.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The leftmost place for each piece leaves the most for the others.
    for piece in middle.split('*') {
        let Some(at) = text.find(piece) else {
            return false;
        };
        text = &text[at + piece.len()..];
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AlignedBuf, Allocate, Caching, ExecutorConfig, File, fs, now, run};

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*.wal", "/a/b.wal", true),
            ("*.wal", "/a/b.wal.tmp", false),
            ("/a/*", "/a/b/c", true),
            ("/a/*/c", "/a/b/b/c", true),
            ("*a*b*", "xaxbx", true),
            ("*a*b*", "xbxax", false),
            ("a*a", "a", false),
            ("a", "a", true),
            ("a", "ab", false),
        ] {
            assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn bad_rules_are_named() {
        for rule in [
            "write",
            "write:*",
            "wrote:*:EIO",
            "write:*:ENONSENSE",
            "write:*:after=x:EIO",
        ] {
            let error = install(&format!("read:/none:EIO; {rule}")).unwrap_err();
            assert_eq!(error.rule, rule);
        }
    }

    #[test]
    fn each_operation_fails_when_told_and_recovers() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        run(ExecutorConfig::new("t"), || async {
            for caching in [Caching::Direct, Caching::Buffered] {
                let path = dir.path().join("file");
                let file = File::create(&path, caching).await.unwrap();
                {
                    let _guard = install(&format!(
                        "allocate:{at}/*:after=1:times=1:ENOSPC
                         write:{at}/*:times=1:EIO
                         sync:{at}/*:EIO
                         read:{at}/*:times=1:short=10"
                    ))
                    .unwrap();
                    file.allocate(0, 4096, Allocate::Grow).await.unwrap();
                    let error = file.allocate(0, 4096, Allocate::Grow).await.unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                    file.allocate(0, 4096, Allocate::Grow).await.unwrap();

                    let buf = AlignedBuf::copy_of(&[3; 4096]);
                    let (result, buf) = file.write_at(buf, 0).await;
                    assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
                    file.write_at(buf, 0).await.0.unwrap();
                    for _ in 0..3 {
                        file.datasync().await.unwrap_err();
                    }
                    let (count, buf) = file.read_at(AlignedBuf::zeroed(4096), 0).await;
                    assert_eq!(count.unwrap(), 10);
                    assert_eq!(file.read_at(buf, 0).await.0.unwrap(), 4096);
                }
                file.datasync().await.unwrap();
            }
        })
        .unwrap();
    }

    #[test]
    fn a_torn_write_leaves_its_head() {
        let dir = tempfile::tempdir().unwrap();
        run(ExecutorConfig::new("t"), || async {
            let file = File::create(dir.path().join("f"), Caching::Direct)
                .await
                .unwrap();
            file.write_at(AlignedBuf::copy_of(&[1; 8192]), 0)
                .await
                .0
                .unwrap();
            let rule = format!("write:{}/f:short=4096", dir.path().display());
            let guard = install(&rule).unwrap();
            let (result, _) = file.write_at(AlignedBuf::copy_of(&[2; 8192]), 0).await;
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WriteZero);
            drop(guard);
            let bytes = fs::read(dir.path().join("f"), 8192).await.unwrap();
            assert!(bytes[..4096] == [2; 4096] && bytes[4096..] == [1; 4096]);
        })
        .unwrap();
    }

    #[test]
    fn delays_pass_and_directories_fail_too() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display().to_string();
        run(ExecutorConfig::new("t"), || async {
            let rules =
                format!("syncdir:{at}:times=1:delay=20;rename:{at}/*:EROFS;open:{at}/n:EACCES");
            let _guard = install(&rules).unwrap();
            let start = now();
            fs::sync_dir(&at).await.unwrap();
            assert!(now() - start >= Duration::from_millis(20));
            let error = fs::rename(dir.path().join("a"), dir.path().join("b"))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
            let error = File::create(dir.path().join("n"), Caching::Direct)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        })
        .unwrap();
    }

    #[test]
    fn a_control_file_starts_and_ends_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("control");
        let mut state = State {
            environment_read: true,
            ..State::default()
        };
        state.control_file = Some(control.clone());
        let hit = |state: &mut State| {
            state.refresh();
            let rules = state.sets.iter_mut().flat_map(|set| &mut set.rules);
            rules.into_iter().find_map(|rule| rule.hit(Op::Write, "/x"))
        };
        assert_eq!(hit(&mut state), None);
        std::fs::write(&control, "# full\nwrite:/x:after=1:ENOSPC\n").unwrap();
        assert_eq!(hit(&mut state), None);
        assert_eq!(hit(&mut state), Some(Effect::Errno(libc::ENOSPC)));
        std::fs::remove_file(&control).unwrap();
        assert_eq!(hit(&mut state), None);
    }
}
