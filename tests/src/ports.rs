//! Free loopback ports.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which Linux takes ports for outgoing connections, so that no client can sit on a server's
/// port while the server is being restarted.
const FIRST: u32 = 12_000;
const LIMIT: u32 = 32_000;

/// Where the next search begins; processes begin at different places.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A loopback address on which nobody listens. No two calls in a process give the same one.
///
/// # Panics
/// If every port is taken.
pub fn free_addr() -> SocketAddr {
    let begin = std::process::id().wrapping_mul(97);
    for _ in FIRST..LIMIT {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (LIMIT - FIRST);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, (FIRST + offset) as u16));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
    panic!("no free port in {FIRST}..{LIMIT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_differ_and_can_be_bound() {
        let (one, other) = (free_addr(), free_addr());
        assert_ne!(one, other);
        assert!(TcpListener::bind(one).is_ok() && TcpListener::bind(other).is_ok());
    }
}
