//! Whether this machine can run us, asked before anything starts.
//!
//! [`probe`] makes one small ring by hand and asks which operations the kernel knows. Its errors say what to change.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sys;

/// `IORING_OP_UNLINKAT`, the last operation of Linux 5.11, the first whose io_uring_enter takes a timeout.
const LAST_OP_OF_LINUX_5_11: u8 = 36;
/// Enough for several rings, whose memory Linux before 5.12 takes from the limit on locked memory.
const MEMLOCK_BYTES: u64 = 4 << 20;

/// Why io_uring cannot be used. All of these are the administrator's to fix; a retry does not help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    #[error("this kernel has no io_uring; Linux 5.11 or newer is needed")]
    Missing,
    #[error(
        "this kernel's io_uring is too old (last operation {last_op}); Linux 5.11 or newer is needed"
    )]
    TooOld { last_op: u8 },
    #[error(
        "io_uring is switched off on this host (sysctl kernel.io_uring_disabled = {value}); set it to 0, \
         or to 1 and give this process CAP_SYS_ADMIN or a group in kernel.io_uring_group"
    )]
    Disabled { value: String },
    #[error(
        "io_uring is forbidden to this process, usually by a container's seccomp profile; allow the calls \
         io_uring_setup, io_uring_enter and io_uring_register (Docker: --security-opt seccomp=<profile>, \
         Kubernetes: securityContext.seccompProfile)"
    )]
    Forbidden,
    #[error(
        "no memory for an io_uring; raise the limit on locked memory (ulimit -l, LimitMEMLOCK=)"
    )]
    NoMemory,
    #[error("io_uring cannot be set up: {0}")]
    Other(#[source] io::Error),
}

/// Checks that executors can start here. Costs a few system calls.
///
/// Raises the soft limit on locked memory to the hard one if it is too low.
///
/// # Errors
/// [`ProbeError`] says what is missing and what to change.
pub fn probe() -> Result<(), ProbeError> {
    raise_memlock();
    let ring = sys::ring_setup(4).map_err(|error| setup_error(error, disabled_sysctl()))?;
    match sys::ring_last_op(&ring) {
        Ok(last_op) if last_op >= LAST_OP_OF_LINUX_5_11 => Ok(()),
        Ok(last_op) => Err(ProbeError::TooOld { last_op }),
        // Before Linux 5.6 the question itself is unknown.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            Err(ProbeError::TooOld { last_op: 0 })
        }
        Err(error) => Err(setup_error(error, None)),
    }
}

/// As far as it goes; where it is too little, setting up a ring says so.
fn raise_memlock() {
    let limit = getrlimit(Resource::Memlock);
    if limit.current.is_some_and(|current| current < MEMLOCK_BYTES) {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        let _ = setrlimit(Resource::Memlock, raised);
    }
}

/// The value of the sysctl that switches io_uring off, if it does.
fn disabled_sysctl() -> Option<String> {
    let value = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    let value = value.trim();
    (value != "0").then(|| value.to_owned())
}

fn setup_error(error: io::Error, disabled: Option<String>) -> ProbeError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => ProbeError::Missing,
        Some(libc::EPERM | libc::EACCES) => match disabled {
            Some(value) => ProbeError::Disabled { value },
            None => ProbeError::Forbidden,
        },
        Some(libc::ENOMEM) => ProbeError::NoMemory,
        _ => ProbeError::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_passes() {
        probe().unwrap();
    }

    #[test]
    fn each_refusal_names_its_cure() {
        let of = |errno, sysctl: Option<&str>| {
            setup_error(
                io::Error::from_raw_os_error(errno),
                sysctl.map(str::to_owned),
            )
            .to_string()
        };
        assert!(of(libc::ENOSYS, None).contains("5.11"));
        assert!(of(libc::EPERM, None).contains("seccomp"));
        assert!(of(libc::EPERM, Some("2")).contains("kernel.io_uring_disabled = 2"));
        assert!(of(libc::ENOMEM, None).contains("LimitMEMLOCK"));
    }
}
