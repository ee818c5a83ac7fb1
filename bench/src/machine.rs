//! What the figures were measured on: processor, kernel, file system.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use serde::Serialize;

/// The machine, in the words that a reader of the figures needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub cpu_model: String,
    pub core_count: usize,
    pub kernel: String,
    pub memory_mib: u64,
}

impl Machine {
    /// Reads the machine this program runs on.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn read() -> io::Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            cpu_model: value(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            core_count: thread::available_parallelism()?.get(),
            kernel: release,
            memory_mib: memory_kib(&meminfo).unwrap_or(0) / 1024,
        })
    }
}

/// The text behind the first `name :`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn memory_kib(meminfo: &str) -> Option<u64> {
    value(meminfo, "MemTotal")?
        .strip_suffix(" kB")?
        .parse()
        .ok()
}

/// Type of the file system that holds `path`, with the device: `ext4 on /dev/vda`.
///
/// # Errors
/// If the path does not exist or the mounts cannot be read.
pub fn filesystem_of(path: &Path) -> io::Result<String> {
    let path = fs::canonicalize(path)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(find_filesystem(&mounts, &path).unwrap_or_else(|| "unknown".to_owned()))
}

/// The deepest mount above `path`; of two on the same point the later one hides the other.
fn find_filesystem(mountinfo: &str, path: &Path) -> Option<String> {
    let mounts = mountinfo.lines().filter_map(parse_mount);
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    above
        .max_by_key(|(point, _)| point.components().count())
        .map(|(_, name)| name)
}

/// Mount point and `type on device` of a line `id parent maj:min root POINT options … - TYPE DEVICE options`.
fn parse_mount(line: &str) -> Option<(PathBuf, String)> {
    let (front, back) = line.split_once(" - ")?;
    let point = front.split(' ').nth(4)?;
    let mut fields = back.split(' ');
    let (kind, device) = (fields.next()?, fields.next()?);
    Some((PathBuf::from(point), format!("{kind} on {device}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deepest_and_latest_mount_wins() {
        let mounts = "1 0 8:1 / / rw shared:1 - ext4 /dev/vda rw\n\
            2 1 0:5 / /tmp rw - tmpfs tmpfs rw\n3 1 0:6 / /tmp rw - xfs /dev/vdb rw\n";
        let of = |path: &str| find_filesystem(mounts, Path::new(path)).unwrap();
        assert_eq!(of("/tmp/x"), "xfs on /dev/vdb");
        assert_eq!(of("/tmpx"), "ext4 on /dev/vda");
    }

    #[test]
    fn cpu_model_and_memory() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\n\nmodel name\t: other\n";
        assert_eq!(value(text, "model name"), Some("AMD EPYC"));
        assert_eq!(memory_kib("MemTotal:       16384 kB\n"), Some(16384));
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read().unwrap();
        assert!(machine.core_count > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty());
        assert_ne!(filesystem_of(Path::new(".")).unwrap(), "");
    }
}
