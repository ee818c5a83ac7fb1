//! The system calls that need `unsafe`; everything here has a safe face.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Room for every operation an io_uring probe can describe (`struct io_uring_probe` + 256 ops of 8 bytes).
const PROBE_SIZE_BYTES: usize = 16 + 256 * 8;
/// `IORING_REGISTER_PROBE` of `linux/io_uring.h`.
const REGISTER_PROBE: libc::c_uint = 8;
/// Size of `struct io_uring_params` of `linux/io_uring.h`; all zeros asks for the defaults.
const PARAMS_SIZE_BYTES: usize = 120;

/// Asks the kernel for a small ring; the ring is gone when the result is dropped.
pub(crate) fn ring_setup(entries: u32) -> io::Result<OwnedFd> {
    let mut params = [0u64; PARAMS_SIZE_BYTES / 8];
    // SAFETY: `params` is writable, 8-byte aligned and as long as `struct io_uring_params`; the kernel
    // reads and writes nothing beyond that, and only during the call.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, params.as_mut_ptr()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just returned `fd` to us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The number of the last operation that the kernel behind `ring` knows.
pub(crate) fn ring_last_op(ring: &OwnedFd) -> io::Result<u8> {
    let mut probe = [0u64; PROBE_SIZE_BYTES / 8];
    let fd = ring.as_raw_fd();
    // SAFETY: `probe` is writable, zeroed, aligned and has room for 256 operations, which is what the
    // last argument promises; the kernel writes to it only during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            fd,
            REGISTER_PROBE,
            probe.as_mut_ptr(),
            256u32,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // `last_op` is the structure's first byte.
    Ok(probe[0].to_le_bytes()[0])
}

/// Names the calling thread; a name with a NUL byte is left out.
pub(crate) fn name_thread(name: &str) {
    // The kernel keeps 15 bytes and the NUL.
    let mut end = name.len().min(15);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if let Ok(name) = CString::new(&name[..end]) {
        // SAFETY: `name` is a NUL-terminated string that outlives the call; the kernel copies it.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}
