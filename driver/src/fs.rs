//! Directories, and whole files at the start, on helper threads.

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::blocking;
use crate::faults::{Op, inject, inject_write};

/// What is found at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub len: u64,
    pub is_dir: bool,
    /// Permission bits, as in 0o700.
    pub mode: u32,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: OsString,
    pub metadata: Metadata,
}

/// Makes `path` and its missing parents with `mode`; those that exist stay as they are.
///
/// # Errors
/// What the kernel says.
pub async fn create_dir_all(path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    inject(Op::CreateDir, &path).await?;
    blocking(move || DirBuilder::new().recursive(true).mode(mode).create(path)).await
}

/// Renames within a file system; replaces `to` if it is a file. Durable after [`sync_dir`] of the directory.
///
/// # Errors
/// What the kernel says.
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref().to_owned(), to.as_ref().to_owned());
    inject(Op::Rename, &from).await?;
    blocking(move || std::fs::rename(from, to)).await
}

/// Makes the names in a directory durable.
///
/// # Errors
/// What the kernel says.
pub async fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    inject(Op::SyncDir, &path).await?;
    blocking(move || std::fs::File::open(path)?.sync_all()).await
}

/// Removes a file.
///
/// # Errors
/// What the kernel says; `NotFound` if there is none.
pub async fn remove(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    inject(Op::Remove, &path).await?;
    blocking(move || std::fs::remove_file(path)).await
}

/// Removes a directory and all that is in it. Symbolic links are removed, not followed.
///
/// # Errors
/// What the kernel says; `NotFound` if there is none.
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    inject(Op::Remove, &path).await?;
    blocking(move || std::fs::remove_dir_all(path)).await
}

/// What is at `path`, symbolic links followed; `None` if nothing is.
///
/// # Errors
/// What the kernel says, apart from `NotFound`.
pub async fn metadata(path: impl AsRef<Path>) -> io::Result<Option<Metadata>> {
    let path = path.as_ref().to_owned();
    match blocking(move || std::fs::metadata(path)).await {
        Ok(found) => Ok(Some(describe(&found))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a directory, sorted. A dangling link or a name that vanishes meanwhile is left out.
///
/// # Errors
/// What the kernel says.
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<Vec<DirEntry>> {
    let path = path.as_ref().to_owned();
    blocking(move || {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&path)? {
            let name = entry?.file_name();
            match std::fs::metadata(path.join(&name)) {
                Ok(found) => entries.push(DirEntry {
                    name,
                    metadata: describe(&found),
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    })
    .await
}

/// The whole of a file of at most `len_max` bytes.
///
/// # Errors
/// What the kernel says; `FileTooLarge` if it is longer.
pub async fn read(path: impl AsRef<Path>, len_max: u64) -> io::Result<Vec<u8>> {
    let path = path.as_ref().to_owned();
    let cut = inject(Op::Read, &path).await?;
    let mut bytes = blocking(move || read_whole(&path, len_max)).await?;
    if let Some(len) = cut {
        bytes.truncate(len);
    }
    Ok(bytes)
}

fn read_whole(path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let len = file.metadata()?.len();
    if len > len_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    // Failing to reserve is an error here, not the end of the process.
    bytes.try_reserve_exact(usize::try_from(len).map_err(io::Error::other)?)?;
    // It may grow while it is read.
    file.take(len_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > len_max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Writes a new file and syncs it. Fails if `path` exists. Its name is durable after [`sync_dir`].
///
/// # Errors
/// What the kernel says; a half-written file stays behind then.
pub async fn write_new(path: impl AsRef<Path>, mode: u32, bytes: Vec<u8>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    inject(Op::Open, &path).await?;
    if let Some(torn_len) = inject_write(&path).await? {
        let head = bytes[..torn_len.min(bytes.len())].to_vec();
        let path = path.clone();
        blocking(move || create_and_write(&path, mode, &head).map(drop)).await?;
        return Err(io::ErrorKind::WriteZero.into());
    }
    inject(Op::Sync, &path).await?;
    blocking(move || create_and_write(&path, mode, &bytes)?.sync_all()).await
}

fn create_and_write(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<std::fs::File> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

fn describe(found: &std::fs::Metadata) -> Metadata {
    Metadata {
        len: found.len(),
        is_dir: found.is_dir(),
        mode: found.mode() & 0o7777,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExecutorConfig, run};

    #[test]
    fn directories_are_made_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        run(ExecutorConfig::new("t"), || async {
            let deep = dir.path().join("a/b");
            create_dir_all(&deep, 0o700).await.unwrap();
            create_dir_all(&deep, 0o755).await.unwrap();
            let found = metadata(&deep).await.unwrap().unwrap();
            assert!(found.is_dir && found.mode == 0o700);

            write_new(deep.join("two"), 0o600, b"22".to_vec())
                .await
                .unwrap();
            write_new(deep.join("one"), 0o600, b"1".to_vec())
                .await
                .unwrap();
            std::os::unix::fs::symlink("nowhere", deep.join("dangling")).unwrap();
            let again = write_new(deep.join("one"), 0o600, Vec::new())
                .await
                .unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
            let names = |entries: Vec<DirEntry>| {
                entries
                    .iter()
                    .map(|e| format!("{:?}:{}", e.name, e.metadata.len))
                    .collect::<Vec<_>>()
            };
            assert_eq!(
                names(read_dir(&deep).await.unwrap()),
                ["\"one\":1", "\"two\":2"]
            );

            rename(deep.join("two"), deep.join("one")).await.unwrap();
            sync_dir(&deep).await.unwrap();
            assert_eq!(names(read_dir(&deep).await.unwrap()), ["\"one\":2"]);
            remove(deep.join("one")).await.unwrap();
            assert_eq!(metadata(deep.join("one")).await.unwrap(), None);
            remove_dir_all(dir.path().join("a")).await.unwrap();
            assert_eq!(metadata(&deep).await.unwrap(), None);
        })
        .unwrap();
    }

    #[test]
    fn a_file_longer_than_allowed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        run(ExecutorConfig::new("t"), || async {
            let path = dir.path().join("file");
            write_new(&path, 0o600, vec![5; 100]).await.unwrap();
            assert_eq!(read(&path, 100).await.unwrap(), [5; 100]);
            let error = read(&path, 99).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            // /proc says 0 bytes and then delivers more.
            let error = read("/proc/self/status", 10).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        })
        .unwrap();
    }
}
