//! The listening sockets of a member.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use driver::{ListenOptions, Listener, UnixListener};

use super::MemberError;
use crate::config::{Config, ListenAddress, ListenUrl};
use crate::shard::{AnyListener, Entrance, Role, Security};

/// How long a taken port is tried again; see [`bind_tcp`].
const BIND_PATIENCE: Duration = Duration::from_secs(1);
const BIND_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// A socket that listens, and what comes in by it.
pub(super) struct Bound {
    pub(super) listener: AnyListener,
    pub(super) entrance: Entrance,
}

/// Binds all URLs, for whoever has this role. Those that differ only in their scheme share a socket, where the first
/// byte of a connection tells them apart.
pub(super) async fn bind_all(
    config: &Config,
    urls: &[ListenUrl],
    role: Role,
) -> Result<Vec<Bound>, MemberError> {
    let mut bound = Vec::with_capacity(urls.len());
    let mut addresses: Vec<&ListenAddress> = Vec::with_capacity(urls.len());
    for url in urls {
        if addresses.contains(&&url.address) {
            continue;
        }
        addresses.push(&url.address);
        let listener = match &url.address {
            ListenAddress::Tcp(address) => AnyListener::Tcp(bind_tcp(config, *address).await?),
            ListenAddress::File(path) => AnyListener::File(bind_file(path)?),
        };
        let security = security(urls, &url.address);
        let entrance = Entrance { role, security };
        bound.push(Bound { listener, entrance });
    }
    Ok(bound)
}

fn security(urls: &[ListenUrl], address: &ListenAddress) -> Security {
    let here = || urls.iter().filter(|url| url.address == *address);
    match (
        here().any(|url| !url.is_secure()),
        here().any(ListenUrl::is_secure),
    ) {
        (true, true) => Security::Either,
        (false, true) => Security::Tls,
        _ => Security::Plain,
    }
}

/// Binds, and gives the kernel a moment to take the port from a process that was just killed: sockets that an
/// io_uring still polls outlive their process by some milliseconds.
async fn bind_tcp(config: &Config, address: SocketAddr) -> Result<Listener, MemberError> {
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
                network: "tcp",
                address: address.to_string(),
                reason,
            });
        }
        driver::sleep(BIND_RETRY_INTERVAL).await;
    }
}

fn bind_file(path: &Path) -> Result<UnixListener, MemberError> {
    let backlog = ListenOptions::default().backlog;
    UnixListener::bind(path, backlog).map_err(|error| MemberError::Listen {
        network: "unix",
        address: path.display().to_string(),
        reason: bind_reason(&error),
    })
}

/// The words that Go uses for the usual causes.
fn bind_reason(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "address already in use".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        _ => error.to_string(),
    }
}
