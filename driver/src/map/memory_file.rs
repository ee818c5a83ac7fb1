//! A file that lives in memory, read through the same map as one on a disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::MemfdFlags;

use super::MappedFile;

/// Room for a simulated database: there may be hundreds at a time.
const RESERVED_SIZE_BYTES: u64 = 4 << 30;

/// A nameless file in memory and its map. Needs no executor; gone with the last clone of the map.
#[derive(Debug)]
pub struct MemoryFile {
    file: File,
    map: Arc<MappedFile>,
}

impl MemoryFile {
    /// An empty file. `name` shows in messages only.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new(name: &str) -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
        let map = MappedFile::with_reserve(&file, name, RESERVED_SIZE_BYTES)?;
        Ok(Self {
            file,
            map: Arc::new(map),
        })
    }

    /// What any thread may read.
    pub fn map(&self) -> &Arc<MappedFile> {
        &self.map
    }

    pub fn len(&self) -> u64 {
        self.map.len()
    }

    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Cuts the file, or extends it with zeros. What is cut off must not be borrowed.
    ///
    /// # Errors
    /// What the kernel says; `OutOfMemory` past 4 GiB.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        if len < self.len() {
            self.map.set_len(len)?;
        }
        self.file.set_len(len)?;
        self.map.set_len(len)
    }

    /// Writes `bytes`, extending the file if need be. What is overwritten must not be borrowed.
    ///
    /// # Errors
    /// As of [`MemoryFile::set_len`].
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or(io::ErrorKind::InvalidInput)?;
        if end > self.len() {
            self.set_len(end)?;
        }
        self.file.write_all_at(bytes, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_in_the_map() {
        let file = MemoryFile::new("db").unwrap();
        assert!(file.is_empty());
        file.write_at(b"abc", 5000).unwrap();
        assert_eq!(file.len(), 5003);
        let map = Arc::clone(file.map());
        assert_eq!(map.bytes(4998, 5), Some(&b"\0\0abc"[..]));
        file.write_at(b"x", 0).unwrap();
        file.set_len(1).unwrap();
        assert_eq!(map.bytes(1, 1), None);
        file.set_len(5003).unwrap();
        assert_eq!(map.bytes(5000, 3), Some(&b"\0\0\0"[..]));
        file.write_at(b"y", u64::MAX).unwrap_err();
        drop(file);
        assert_eq!(map.bytes(0, 1), Some(&b"x"[..]));
    }
}
