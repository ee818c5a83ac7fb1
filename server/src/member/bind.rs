//! The listening sockets of a member.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use driver::{ListenOptions, Listener};

use super::MemberError;
use crate::config::{Config, ListenUrl};

/// How long a taken port is tried again; see [`bind`].
const BIND_PATIENCE: Duration = Duration::from_secs(1);
const BIND_RETRY_INTERVAL: Duration = Duration::from_millis(10);

pub(super) async fn bind_all(
    config: &Config,
    urls: &[ListenUrl],
) -> Result<Vec<Listener>, MemberError> {
    let mut listeners = Vec::with_capacity(urls.len());
    for listen in urls {
        listeners.push(bind(config, listen.address).await?);
    }
    Ok(listeners)
}

/// Binds, and gives the kernel a moment to take the port from a process that was just killed: sockets that an
/// io_uring still polls outlive their process by some milliseconds.
async fn bind(config: &Config, address: SocketAddr) -> Result<Listener, MemberError> {
    let options = ListenOptions {
        reuse_port: config.socket.reuse_port,
        ..ListenOptions::default()
    };
    let deadline = driver::now() + BIND_PATIENCE;
    loop {
        let error = match Listener::bind(address, options) {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        if error.kind() != ErrorKind::AddrInUse || driver::now() >= deadline {
            let reason = bind_reason(&error);
            return Err(MemberError::Listen {
                address: address.to_string(),
                reason,
            });
        }
        driver::sleep(BIND_RETRY_INTERVAL).await;
    }
}

/// The words that Go uses for the usual causes.
fn bind_reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "address already in use".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        _ => error.to_string(),
    }
}
