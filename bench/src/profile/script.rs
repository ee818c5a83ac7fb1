//! Reads the output of `perf script -F tid,comm,ip,sym,dso`.
//!
//! Each sample is a head line (thread name and id), then its frames from the innermost outwards, then an empty line:
//!
//! ```text
//! etcd 21657
//!         ffffffff81688025 memcg1_commit_charge ([kernel.kallsyms])
//!         ffffffff821f3046 exc_page_fault ([kernel.kallsyms])
//!                    2526e runtime.mallocgc (bin/etcd)
//! ```

use super::group::{function_of, group_of, kernel_entry};
use super::{Profile, ProfileError};

/// Where a sample was taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Crate and module, Go package, library, or the kernel with the system call.
    pub group: String,
    pub function: String,
}

/// A frame: symbol and the object that holds it.
struct Frame<'a> {
    symbol: &'a str,
    object: &'a str,
}

/// Counts the samples by the place of their innermost frame.
///
/// # Errors
/// [`ProfileError::Script`] at the first line that is neither head, frame nor empty.
pub fn parse(text: &str) -> Result<Profile, ProfileError> {
    let mut profile = Profile::default();
    let mut stack: Vec<Frame<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            count(&mut profile, &mut stack);
        } else if line.starts_with(char::is_whitespace) && stack_line(line).is_some() {
            stack.extend(stack_line(line));
        } else if is_head(line) {
            count(&mut profile, &mut stack);
        } else {
            return Err(ProfileError::Script {
                line_no: index + 1,
                line: line.to_owned(),
            });
        }
    }
    count(&mut profile, &mut stack);
    Ok(profile)
}

fn count(profile: &mut Profile, stack: &mut Vec<Frame<'_>>) {
    if let Some(place) = place_of(stack) {
        *profile.places.entry(place).or_default() += 1;
    }
    stack.clear();
}

fn place_of(stack: &[Frame<'_>]) -> Option<Place> {
    let top = stack.first()?;
    if top.object.starts_with("[kernel") {
        let in_kernel = stack
            .iter()
            .take_while(|frame| frame.object.starts_with("[kernel"));
        let entry = kernel_entry(in_kernel.map(|frame| frame.symbol));
        return Some(Place {
            group: entry,
            function: top.symbol.to_owned(),
        });
    }
    Some(Place {
        group: group_of(top.symbol, top.object),
        function: function_of(top.symbol),
    })
}

/// `   address symbol (object)`; the symbol may hold blanks and parentheses.
fn stack_line(line: &str) -> Option<Frame<'_>> {
    let (address, rest) = line.trim().split_once(' ')?;
    if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let (symbol, object) = rest.rsplit_once(" (")?;
    Some(Frame {
        symbol: symbol.trim(),
        object: object.strip_suffix(')')?,
    })
}

/// `name tid`; the name may hold blanks.
fn is_head(line: &str) -> bool {
    let last = line.split_ascii_whitespace().next_back();
    line.split_ascii_whitespace().count() >= 2
        && last.is_some_and(|tid| tid.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
etcore shard 0 21657 
\tffffffff81688025 memcg1_commit_charge ([kernel.kallsyms])
\tffffffff821f3046 __x64_sys_io_uring_enter ([kernel.kallsyms])
\t           2526e syscall (/lib/libc.so.6)

etcore 21658 
\t           4d266 <net::hpack::Decoder as core::iter::Iterator>::next (/x/etcore (deleted))
\t           28bde net::h2::connection::on_bytes (/x/etcore)

etcore 21658 
\t           4d266 <net::hpack::Decoder as core::iter::Iterator>::next (/x/etcore)
";

    #[test]
    fn innermost_frames_are_counted() {
        let profile = parse(TEXT).unwrap();
        let rows: Vec<(&str, &str, u64)> = profile
            .places
            .iter()
            .map(|(p, n)| (p.group.as_str(), p.function.as_str(), *n))
            .collect();
        let decoder = "<net::hpack::Decoder as core::iter::Iterator>::next";
        // `(deleted)` follows the object's name after a rebuild; the last one is the usual form.
        assert_eq!(
            rows[0],
            ("kernel: io_uring_enter", "memcg1_commit_charge", 1)
        );
        let decoded: u64 = rows
            .iter()
            .filter(|row| row.1.starts_with(decoder))
            .map(|row| row.2)
            .sum();
        assert_eq!(decoded, 2, "{rows:?}");
    }

    #[test]
    fn unknown_lines_are_an_error() {
        let error = parse("etcd 21657\n\tnot a frame\n").unwrap_err();
        assert!(
            matches!(error, ProfileError::Script { line_no: 2, .. }),
            "{error}"
        );
        assert_eq!(parse("").unwrap(), Profile::default());
    }
}
