//! Whether glommio can open a file for direct I/O, asked before it would panic or err.
//!
//! Two traps are passed by here, once per device and thread, as glommio keeps its own knowledge:
//!
//! - glommio reads the properties of the device `<major>:0` below /sys and panics if one is missing, as happens
//!   when 0 is a partition's number or /sys is half hidden by a container. tmpfs it knows by itself.
//! - At the first file of a device glommio tries a polled read. On an empty file that read always succeeds, and
//!   from then on each operation on the device fails with EOPNOTSUPP if it cannot really be polled. So the
//!   first file is one of ours that cannot be read, which settles the question as "not polled".

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use glommio::io::OpenOptions;

use crate::blocking;

thread_local! {
    static KNOWN: RefCell<Vec<(u64, bool)>> = const { RefCell::new(Vec::new()) };
}

/// Whether a file at `path` can be opened with O_DIRECT. Fails if its directory is missing or not writable.
pub(super) async fn is_supported(path: &Path) -> io::Result<bool> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir.to_owned(),
        _ => PathBuf::from("."),
    };
    let device = std::fs::metadata(&dir)?.dev();
    let known = KNOWN.with_borrow(|known| {
        known
            .iter()
            .find(|(known, _)| *known == device)
            .map(|(_, supported)| *supported)
    });
    if let Some(supported) = known {
        return Ok(supported);
    }
    let supported = blocking(move || is_described(device)).await && settle(&dir).await?;
    KNOWN.with_borrow_mut(|known| known.push((device, supported)));
    Ok(supported)
}

/// Whether /sys has all that glommio reads of a device, or knows nothing of it at all.
fn is_described(device: u64) -> bool {
    let major = rustix::fs::major(device);
    let device = match Path::new("/sys/dev/block")
        .join(format!("{major}:0"))
        .canonicalize()
    {
        Ok(device) => device,
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    };
    let queue = device.join("queue");
    let numbers = [
        "rotational",
        "minimum_io_size",
        "optimal_io_size",
        "logical_block_size",
        "physical_block_size",
        "max_sectors_kb",
        "max_segment_size",
    ];
    let is_number = |name| {
        let text = std::fs::read_to_string(queue.join(name)).unwrap_or_default();
        text.trim_matches('\n').parse::<isize>().is_ok()
    };
    let cache = std::fs::read_to_string(queue.join("write_cache")).unwrap_or_default();
    numbers.into_iter().all(is_number)
        && matches!(cache.trim_matches('\n'), "write back" | "write through")
        && std::fs::read_dir(device.join("slaves")).is_ok()
}

/// Opens a nameless file in `dir`, only for writing. Its failed read turns polling off, see above.
async fn settle(dir: &Path) -> io::Result<bool> {
    let opened = OpenOptions::new()
        .write(true)
        .tmpfile(true)
        .mode(0o600)
        .dma_open(dir)
        .await;
    match opened.map_err(super::io_error) {
        Ok(file) => file.close().await.map(|()| true).map_err(super::io_error),
        // O_DIRECT or nameless files are not for this file system.
        Err(error) => match error.raw_os_error() {
            Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT) => Ok(false),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExecutorConfig, run};

    #[test]
    fn answers_for_a_directory_and_reports_a_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        run(ExecutorConfig::new("t"), || async {
            let first = is_supported(&dir.path().join("file")).await.unwrap();
            let again = is_supported(&dir.path().join("file")).await.unwrap();
            assert_eq!(first, again);
            let error = is_supported(&dir.path().join("none/file"))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        })
        .unwrap();
    }

    #[test]
    fn a_device_unknown_to_sys_is_left_to_glommio() {
        assert!(is_described(rustix::fs::makedev(4000, 3)));
    }
}
