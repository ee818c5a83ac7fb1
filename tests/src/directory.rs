//! Copies of data directories, and a form of them that is small enough to keep.
//!
//! Most of a claimed WAL segment is zeros. A copy has holes there, and the packed form leaves them out:
//!
//! ```text
//!  for each file   path length u32, path, file length u64, number of runs u32
//!  for each run    offset u64, length u32, bytes           integers little-endian
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut};

/// Zeros are left out in such pieces: longer than what a run costs.
const PIECE_LEN: usize = 64;

/// Copies a data directory of a member that does not run.
///
/// # Errors
/// As of the files.
pub fn copy(source: &Path, target: &Path) -> io::Result<()> {
    for path in files(source)? {
        write_sparse(&target.join(&path), &fs::read(source.join(&path))?)?;
    }
    Ok(())
}

/// The packed form of a directory.
///
/// # Errors
/// As of the files.
pub fn pack(source: &Path) -> io::Result<Vec<u8>> {
    let mut packed = Vec::new();
    for path in files(source)? {
        let contents = fs::read(source.join(&path))?;
        let name = path.to_str().ok_or(io::ErrorKind::InvalidData)?;
        let runs = runs(&contents);
        packed.put_u32_le(name.len() as u32);
        packed.put_slice(name.as_bytes());
        packed.put_u64_le(contents.len() as u64);
        packed.put_u32_le(runs.len() as u32);
        for (offset, run) in runs {
            packed.put_u64_le(offset as u64);
            packed.put_u32_le(run.len() as u32);
            packed.put_slice(run);
        }
    }
    Ok(packed)
}

/// Makes the files that were packed.
///
/// # Errors
/// As of the files.
///
/// # Panics
/// If `packed` is not what [`pack`] makes.
pub fn unpack(mut packed: &[u8], target: &Path) -> io::Result<()> {
    while packed.has_remaining() {
        let name_len = packed.get_u32_le() as usize;
        let name = String::from_utf8_lossy(&packed[..name_len]).into_owned();
        packed.advance(name_len);
        let path = target.join(name);
        let file = create(&path, packed.get_u64_le())?;
        for _ in 0..packed.get_u32_le() {
            let (offset, len) = (packed.get_u64_le(), packed.get_u32_le() as usize);
            file.write_all_at(&packed[..len], offset)?;
            packed.advance(len);
        }
    }
    Ok(())
}

/// All files below a folder, by their paths in it, in order.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => found.extend(
                files(&entry.path())?
                    .into_iter()
                    .map(|path| name.join(path)),
            ),
            false => found.push(name),
        }
    }
    found.sort();
    Ok(found)
}

fn write_sparse(path: &Path, contents: &[u8]) -> io::Result<()> {
    let file = create(path, contents.len() as u64)?;
    for (offset, run) in runs(contents) {
        file.write_all_at(run, offset as u64)?;
    }
    Ok(())
}

/// A file of zeros, and the folders above it.
fn create(path: &Path, len: u64) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::create(path)?;
    file.set_len(len)?;
    Ok(file)
}

/// What is not zero, in pieces that touch each other joined.
fn runs(contents: &[u8]) -> Vec<(usize, &[u8])> {
    let mut runs: Vec<(usize, &[u8])> = Vec::new();
    for (index, piece) in contents.chunks(PIECE_LEN).enumerate() {
        if piece.iter().all(|byte| *byte == 0) {
            continue;
        }
        let offset = index * PIECE_LEN;
        match runs.last_mut() {
            Some((first, run)) if *first + run.len() == offset => {
                *run = &contents[*first..offset + piece.len()];
            }
            _ => runs.push((offset, piece)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let dir = TempDir::new().expect("a temporary directory");
        let (from, copied, unpacked) = (
            dir.path().join("from"),
            dir.path().join("copied"),
            dir.path().join("unpacked"),
        );
        let mut mixed = vec![0; 10_000];
        mixed[63..65].fill(1);
        mixed[9_999] = 2;
        let contents = [
            ("a/zeros", vec![0; 1000]),
            ("a/b/mixed", mixed),
            ("none", vec![]),
        ];
        for (name, contents) in &contents {
            write_sparse(&from.join(name), contents).expect("a file");
        }
        copy(&from, &copied).expect("a copy");
        let packed = pack(&from).expect("a packed form");
        assert!(packed.len() < 500, "{}", packed.len());
        unpack(&packed, &unpacked).expect("files");
        for (name, contents) in &contents {
            assert_eq!(&fs::read(copied.join(name)).expect("a file"), contents);
            assert_eq!(&fs::read(unpacked.join(name)).expect("a file"), contents);
        }
    }
}
