//! A listening TCP socket.
//!
//! SO_REUSEADDR is set, or a restart would find the port taken for as long as old connections linger.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::Stream;
use crate::ring::{Op, Request};
use crate::time::sleep;

/// First and longest pause after a refused accept.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Let several sockets listen on the same address (SO_REUSEPORT), one per executor. The kernel spreads
    /// connections by a hash.
    pub reuse_port: bool,
    /// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    pub backlog: i32,
    /// Probe idle accepted connections this often; `None` leaves dead peers to the upper layers.
    pub keepalive: Option<Duration>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            reuse_port: false,
            backlog: 4096,
            keepalive: Some(Duration::from_secs(30)),
        }
    }
}

/// A socket that accepts connections on this executor. Closed on drop.
#[derive(Debug)]
pub struct Listener {
    acceptor: Acceptor,
    local_addr: SocketAddr,
    keepalive: Option<Duration>,
}

impl Listener {
    /// Binds and listens. SO_REUSEADDR is always set. An IPv6 wildcard takes IPv4 as well.
    ///
    /// # Errors
    /// What the kernel says, above all `AddrInUse` and `AddrNotAvailable`.
    pub fn bind(addr: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if options.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if addr.is_ipv6() {
            socket.set_only_v6(!addr.ip().is_unspecified())?;
        }
        socket.bind(&addr.into())?;
        socket.listen(options.backlog)?;
        Self::from_socket(socket, options.keepalive)
    }

    /// Takes over a socket that listens already, as one made by another process or executor.
    ///
    /// # Errors
    /// If its local address cannot be read.
    pub fn from_std(listener: std::net::TcpListener, options: ListenOptions) -> io::Result<Self> {
        Self::from_socket(listener.into(), options.keepalive)
    }

    fn from_socket(socket: Socket, keepalive: Option<Duration>) -> io::Result<Self> {
        let local_addr = socket
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            acceptor: Acceptor::new(socket.into()),
            local_addr,
            keepalive,
        })
    }

    /// The address bound, with the port that the kernel chose if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next connection, with TCP_NODELAY and keep-alive set.
    ///
    /// Never fails: a connection that broke meanwhile is skipped, and when descriptors or memory are short
    /// this pauses (5 ms doubling to 1 s) and tries again, while the kernel queues the callers.
    pub async fn accept(&self) -> (Stream, SocketAddr) {
        let set_up = |stream: Stream| {
            let peer_addr = stream.peer_addr()?;
            if let Some(idle) = self.keepalive {
                let keepalive = TcpKeepalive::new().with_time(idle).with_interval(idle);
                SockRef::from(stream.socket()).set_tcp_keepalive(&keepalive)?;
            }
            Ok((stream, peer_addr))
        };
        self.acceptor.accept(set_up).await
    }
}

/// A listening socket of any kind.
#[derive(Debug)]
pub(super) struct Acceptor {
    socket: Rc<OwnedFd>,
}

impl Acceptor {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket: Rc::new(socket),
        }
    }

    /// The next connection that can be set up.
    pub(super) async fn accept<T>(&self, set_up: impl Fn(Stream) -> io::Result<T>) -> T {
        let mut backoff = BACKOFF_MIN;
        loop {
            let accepted = self.try_accept().await;
            let error = match accepted.and_then(&set_up) {
                Ok(accepted) => return accepted,
                Err(error) => error,
            };
            if !concerns_one_connection(&error) {
                sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Stream> {
        let accepting = Op::new(Request::Accept {
            socket: self.socket.clone(),
            accepted: None,
        });
        let (result, request) = accepting.await;
        result?;
        let Request::Accept {
            accepted: Some(socket),
            ..
        } = request
        else {
            return Err(io::ErrorKind::Other.into());
        };
        Stream::from_accepted(socket)
    }
}

/// Whether the error belongs to the connection that was to be accepted, so that the next one may do.
fn concerns_one_connection(error: &io::Error) -> bool {
    // accept(2): network errors pending on the new socket are reported by accept itself.
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::ENOTCONN
                | libc::EINVAL
                | libc::EINTR
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
        )
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::{ExecutorConfig, blocking, run, spawn, timeout};

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn the_port_is_free_again_while_old_connections_linger() {
        run(ExecutorConfig::new("t"), || async {
            let listener = Listener::bind(loopback(), ListenOptions::default()).unwrap();
            let addr = listener.local_addr();
            let client = blocking(move || std::net::TcpStream::connect(addr).unwrap()).await;
            let (server, peer) = listener.accept().await;
            assert_eq!(peer, client.local_addr().unwrap());
            // Our side closes first and keeps the connection in FIN-WAIT.
            drop(server);
            drop(listener);
            let again = timeout(Duration::from_secs(10), async {
                // The old socket leaves the ring with the loop's next turn.
                loop {
                    match Listener::bind(addr, ListenOptions::default()) {
                        Ok(listener) => break listener,
                        Err(_) => sleep(Duration::from_millis(1)).await,
                    }
                }
            });
            assert_eq!(again.await.unwrap().local_addr(), addr);
            drop(client);
        })
        .unwrap();
    }

    #[test]
    fn a_taken_port_is_refused_unless_both_share_it() {
        run(ExecutorConfig::new("t"), || async {
            let first = Listener::bind(loopback(), ListenOptions::default()).unwrap();
            let error = Listener::bind(first.local_addr(), ListenOptions::default()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);

            let shared = ListenOptions {
                reuse_port: true,
                ..ListenOptions::default()
            };
            let first = Listener::bind(loopback(), shared).unwrap();
            let second = Listener::bind(first.local_addr(), shared).unwrap();
            assert_eq!(first.local_addr(), second.local_addr());
        })
        .unwrap();
    }

    #[test]
    fn accepted_sockets_are_set_up() {
        run(ExecutorConfig::new("t"), || async {
            let listener = Listener::bind(loopback(), ListenOptions::default()).unwrap();
            let addr = listener.local_addr();
            let client = spawn(blocking(move || {
                let mut client = std::net::TcpStream::connect(addr).unwrap();
                client.write_all(b"hi").unwrap();
                let mut rest = Vec::new();
                client.read_to_end(&mut rest).unwrap();
                rest
            }));
            let (stream, _) = listener.accept().await;
            {
                let fd = stream.socket();
                let socket = SockRef::from(fd);
                assert!(socket.keepalive().unwrap());
                assert!(socket.tcp_nodelay().unwrap());
                let flags = rustix::io::fcntl_getfd(fd).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            }
            let (result, data) = stream.read(Vec::with_capacity(16)).await;
            assert_eq!((result.unwrap(), data.as_slice()), (2, b"hi".as_slice()));
            drop(stream);
            assert_eq!(client.await, b"");
        })
        .unwrap();
    }

    #[test]
    fn only_errors_of_the_listener_pause() {
        let of = |errno| concerns_one_connection(&io::Error::from_raw_os_error(errno));
        assert!(of(libc::ECONNABORTED));
        assert!(!of(libc::EMFILE) && !of(libc::ENFILE) && !of(libc::ENOBUFS) && !of(libc::ENOMEM));
    }
}
