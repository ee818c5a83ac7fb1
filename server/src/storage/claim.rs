//! Claiming space, also where the file system cannot.

use std::io;

use driver::{AlignedBuf, Allocate, BLOCK_SIZE_BYTES, File};

/// Bytes of zeros written at once where only written space is claimed space.
const ZERO_SIZE_BYTES: u64 = 1 << 20;

/// Claims space up to `len`; what is new reads as zeros, what is there stays.
///
/// # Errors
/// What the kernel says, above all that there is no space. Parts of it may be claimed then.
pub(super) async fn claim(file: &File, len: u64) -> io::Result<()> {
    let old_len = file.file_len().await?;
    match file.allocate(0, len, Allocate::Grow).await {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let start = old_len.next_multiple_of(BLOCK_SIZE_BYTES as u64);
            write_zeros(file, start, len).await
        }
        result => result,
    }
}

async fn write_zeros(file: &File, start: u64, end: u64) -> io::Result<()> {
    let mut zeros = AlignedBuf::zeroed(0);
    let mut offset = start;
    while offset < end {
        let piece = ZERO_SIZE_BYTES.min(end - offset);
        let piece_len = usize::try_from(piece).map_err(io::Error::other)?;
        if zeros.len() != piece_len {
            zeros = AlignedBuf::zeroed(piece_len);
        }
        let (result, back) = file.write_at(zeros, offset).await;
        result?;
        zeros = back;
        offset += piece;
    }
    Ok(())
}
