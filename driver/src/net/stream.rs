//! A connected TCP socket, or one from a socket file.
//!
//! One read and one write may be in flight together from two tasks; both take `&self`.
//!
//! Received bytes land in a buffer that the kernel picks from the executor's pool when they arrive, and are appended
//! to the caller's from there. So an idle connection needs no buffer of its own, and the copy is of what has arrived, a
//! few hundred bytes as a rule.

use std::cell::Cell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::ring::{Op, Request};
use crate::time::timeout;

/// Most bytes that a read brings whose buffer has no room.
const READ_SIZE_BYTES_DEFAULT: usize = 16 * 1024;

/// A connection of this executor. Closed on drop.
#[derive(Debug)]
pub struct Stream {
    socket: Rc<OwnedFd>,
    reading: Cell<bool>,
    writing: Cell<bool>,
}

impl Stream {
    /// Connects within `limit`, with TCP_NODELAY set.
    ///
    /// # Errors
    /// `TimedOut`, or what the kernel says.
    pub async fn connect(addr: SocketAddr, limit: Duration) -> io::Result<Self> {
        let kind = Type::STREAM.cloexec();
        let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
        let stream = Self::from_accepted(socket.into())?;
        let connected = Op::new(Request::Connect {
            socket: stream.socket.clone(),
            address: Box::new(addr.into()),
        });
        match timeout(limit.max(Duration::from_millis(1)), connected).await {
            Ok((result, _)) => result.map(|_| stream),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    pub(super) fn from_accepted(socket: OwnedFd) -> io::Result<Self> {
        match SockRef::from(&socket).set_tcp_nodelay(true) {
            // A connection of a socket file, which delays nothing.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            result => result?,
        }
        Ok(Self {
            socket: Rc::new(socket),
            reading: Cell::new(false),
            writing: Cell::new(false),
        })
    }

    /// Appends what has arrived to `buf`, at most 16 KiB and at most its spare capacity (16 KiB if it has none,
    /// taken only when bytes are there). `Ok(0)`: the peer has sent its last byte.
    ///
    /// If the future is dropped midway, bytes that have arrived by then are lost.
    ///
    /// # Errors
    /// Of the connection; `ResourceBusy` if another read is in flight.
    pub async fn read(&self, mut buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let Some(_turn) = Turn::take(&self.reading) else {
            return (Err(io::ErrorKind::ResourceBusy.into()), buf);
        };
        let len_max = match buf.capacity() - buf.len() {
            0 => READ_SIZE_BYTES_DEFAULT,
            spare => spare,
        };
        loop {
            let (result, request) = Op::new(Request::Receive {
                socket: self.socket.clone(),
                bytes: buf,
                len_max,
            })
            .await;
            let Request::Receive { bytes, .. } = request else {
                unreachable!("an operation gives back what it was given");
            };
            buf = bytes;
            match result {
                // No buffer was free in the pool: they are again, now that this turn has emptied them.
                Err(error) if is_passing(&error) => {}
                result => return (result.map(|count| count as usize), buf),
            }
        }
    }

    /// Sends all of `buf`. If the future is dropped midway, an unknown part has been sent.
    ///
    /// # Errors
    /// Of the connection; `ResourceBusy` if another write is in flight.
    pub async fn write_all(&self, mut buf: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let Some(_turn) = Turn::take(&self.writing) else {
            return (Err(io::ErrorKind::ResourceBusy.into()), buf);
        };
        let mut sent = 0;
        while sent < buf.len() {
            let (result, request) = Op::new(Request::Send {
                socket: self.socket.clone(),
                bytes: buf,
                from: sent,
            })
            .await;
            let Request::Send { bytes, .. } = request else {
                unreachable!("an operation gives back what it was given");
            };
            buf = bytes;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
                Ok(count) => sent += count as usize,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), buf),
            }
        }
        (Ok(()), buf)
    }

    /// Tells the peer that no more bytes come; reading goes on.
    ///
    /// # Errors
    /// `NotConnected` if the connection is gone.
    pub fn shutdown_write(&self) -> io::Result<()> {
        SockRef::from(&*self.socket).shutdown(Shutdown::Write)
    }

    /// Ends both directions at once; a read in flight ends with 0 bytes.
    ///
    /// # Errors
    /// `NotConnected` if the connection is gone.
    pub fn shutdown(&self) -> io::Result<()> {
        SockRef::from(&*self.socket).shutdown(Shutdown::Both)
    }

    /// Whether small writes are sent at once. On for every new stream.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        SockRef::from(&*self.socket).set_tcp_nodelay(on)
    }

    /// # Errors
    /// `NotConnected` if the peer is gone already.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let addr = SockRef::from(&*self.socket).peer_addr()?;
        addr.as_socket()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// # Errors
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = SockRef::from(&*self.socket).local_addr()?;
        addr.as_socket()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// The descriptor itself, or a copy while an operation is under way.
    pub(super) fn into_socket(self) -> io::Result<OwnedFd> {
        match Rc::try_unwrap(self.socket) {
            Ok(socket) => Ok(socket),
            Err(shared) => shared.try_clone(),
        }
    }
}

/// Whether a read that failed so should be tried again at once.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EINTR))
}

/// Holds a direction of a stream for one operation.
struct Turn<'a>(&'a Cell<bool>);

impl<'a> Turn<'a> {
    fn take(taken: &'a Cell<bool>) -> Option<Self> {
        (!taken.replace(true)).then_some(Turn(taken))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{ExecutorConfig, ListenOptions, Listener, run, spawn, timeout, yield_now};

    const LIMIT: Duration = Duration::from_secs(20);

    async fn pair() -> (Rc<Stream>, Rc<Stream>) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, ListenOptions::default()).unwrap();
        let client = Stream::connect(listener.local_addr(), LIMIT).await.unwrap();
        let (server, peer) = listener.accept().await;
        assert_eq!(peer, client.local_addr().unwrap());
        assert_eq!(client.peer_addr().unwrap(), server.local_addr().unwrap());
        (Rc::new(client), Rc::new(server))
    }

    #[test]
    fn echoes_then_sees_the_end() {
        run(ExecutorConfig::new("t"), || async {
            let (client, server) = pair().await;
            let echo = spawn(async move {
                loop {
                    let (count, data) = server.read(Vec::new()).await;
                    if count.unwrap() == 0 {
                        break server.shutdown_write().unwrap();
                    }
                    server.write_all(data).await.0.unwrap();
                }
            });
            for round in 0..5000u32 {
                let sent = format!("message {round}").into_bytes();
                client.write_all(sent.clone()).await.0.unwrap();
                let mut got = Vec::new();
                while got.len() < sent.len() {
                    let (count, data) = client.read(got).await;
                    assert!(count.unwrap() > 0);
                    got = data;
                }
                assert_eq!(got, sent);
            }
            client.shutdown_write().unwrap();
            assert_eq!(client.read(Vec::new()).await.0.unwrap(), 0);
            echo.await;
        })
        .unwrap();
    }

    #[test]
    fn a_read_waits_while_large_writes_go_both_ways() {
        const LEN: usize = 8 << 20;
        async fn pull(stream: &Stream) -> Vec<u8> {
            let mut all = Vec::with_capacity(LEN);
            while all.len() < LEN {
                let (count, data) = stream.read(all).await;
                assert!(count.unwrap() > 0);
                all = data;
            }
            all
        }
        let pattern = |seed: usize| (0..LEN).map(|i| (i * 31 + seed) as u8).collect::<Vec<_>>();
        run(ExecutorConfig::new("t"), || async move {
            let (client, server) = pair().await;
            let (c, s) = (client.clone(), server.clone());
            let reads = (
                spawn(async move { pull(&c).await }),
                spawn(async move { pull(&s).await }),
            );
            yield_now().await;
            let s = server.clone();
            let reply = spawn(async move { s.write_all(pattern(2)).await.0.unwrap() });
            client.write_all(pattern(1)).await.0.unwrap();
            reply.await;
            assert!(reads.0.await == pattern(2) && reads.1.await == pattern(1));
        })
        .unwrap();
    }

    #[test]
    fn reads_no_more_than_the_spare_capacity() {
        run(ExecutorConfig::new("t"), || async {
            let (client, server) = pair().await;
            client.write_all(b"abcdef".to_vec()).await.0.unwrap();
            let mut buf = Vec::with_capacity(4);
            buf.push(b'>');
            let room = buf.capacity() - buf.len();
            let (count, buf) = server.read(buf).await;
            assert_eq!(count.unwrap(), room.min(6));
            assert_eq!(buf, b">abcdef"[..=room.min(6)]);
        })
        .unwrap();
    }

    #[test]
    fn a_second_read_is_refused_and_a_dropped_one_loses_nothing() {
        run(ExecutorConfig::new("t"), || async {
            let (client, server) = pair().await;
            let reader = server.clone();
            let first = spawn(async move { reader.read(Vec::new()).await });
            yield_now().await;
            let (second, _) = server.read(Vec::new()).await;
            assert_eq!(second.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
            assert!(first.cancel().is_none());

            let late = timeout(Duration::from_millis(5), server.read(Vec::new())).await;
            assert!(late.is_err());
            client.write_all(b"x".to_vec()).await.0.unwrap();
            let (count, data) = server.read(Vec::new()).await;
            assert_eq!((count.unwrap(), data), (1, b"x".to_vec()));
        })
        .unwrap();
    }

    #[test]
    fn errors_reach_the_caller() {
        run(ExecutorConfig::new("t"), || async {
            // A port that was just free.
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let addr = std::net::TcpListener::bind(any)
                .unwrap()
                .local_addr()
                .unwrap();
            let refused = Stream::connect(addr, LIMIT).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

            let (client, server) = pair().await;
            server.shutdown().unwrap();
            drop(server);
            let failed = timeout(LIMIT, async {
                loop {
                    let (result, _) = client.write_all(vec![0; 1 << 16]).await;
                    if let Err(error) = result {
                        break error;
                    }
                }
            });
            let kind = failed.await.unwrap().kind();
            assert!(
                matches!(
                    kind,
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ),
                "{kind:?}"
            );
        })
        .unwrap();
    }
}
