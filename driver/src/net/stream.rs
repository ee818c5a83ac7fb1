//! A connected TCP socket.
//!
//! One read and one write may be in flight together from two tasks; both take `&self`. glommio's stream
//! wants `&mut self`, so it sits in a `RefCell` that is borrowed only inside a poll, never across an await.
//!
//! Received bytes land in a scratch buffer of the thread first and are then appended to the caller's. So an
//! idle connection needs no buffer of its own, and no spare capacity has to be zeroed for each read; the copy
//! is of what has arrived, a few hundred bytes as a rule.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use socket2::SockRef;

use crate::file::io_error;
use crate::sys;

/// Most bytes that one read brings.
const SCRATCH_SIZE_BYTES: usize = 64 * 1024;
/// Room made for a read whose buffer has none.
const READ_SIZE_BYTES_DEFAULT: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_SIZE_BYTES]);
}

/// A connection of this executor. Closed on drop.
#[derive(Debug)]
pub struct Stream {
    socket: RefCell<TcpStream>,
    reading: Cell<bool>,
    writing: Cell<bool>,
}

impl Stream {
    /// Connects within `limit`, with TCP_NODELAY set.
    ///
    /// # Errors
    /// `TimedOut`, or what the kernel says.
    pub async fn connect(addr: SocketAddr, limit: Duration) -> io::Result<Self> {
        let limit = limit.max(Duration::from_millis(1));
        let socket = TcpStream::connect_timeout(addr, limit)
            .await
            .map_err(io_error)?;
        Self::from_accepted(socket)
    }

    pub(super) fn from_accepted(socket: TcpStream) -> io::Result<Self> {
        let fd = sys::borrow_fd(&socket);
        // glommio's accept leaves the descriptor open across exec.
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
        socket.set_nodelay(true).map_err(io_error)?;
        Ok(Self {
            socket: RefCell::new(socket),
            reading: Cell::new(false),
            writing: Cell::new(false),
        })
    }

    /// Appends what has arrived to `buf`, at most 64 KiB and at most its spare capacity (16 KiB if it has
    /// none, taken only when bytes are there). `Ok(0)`: the peer has sent its last byte.
    ///
    /// # Errors
    /// Of the connection; `ResourceBusy` if another read is in flight.
    pub async fn read(&self, mut buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let Some(_turn) = Turn::take(&self.reading) else {
            return (Err(io::ErrorKind::ResourceBusy.into()), buf);
        };
        let result = poll_fn(|cx| self.poll_read(cx, &mut buf)).await;
        (result, buf)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let spare = match buf.capacity() - buf.len() {
            0 => READ_SIZE_BYTES_DEFAULT,
            spare => spare,
        };
        SCRATCH.with_borrow_mut(|scratch| {
            let scratch = &mut scratch[..spare.min(SCRATCH_SIZE_BYTES)];
            let mut socket = self.socket.borrow_mut();
            match Pin::new(&mut *socket).poll_read(cx, scratch) {
                Poll::Ready(Ok(count)) => {
                    buf.extend_from_slice(&scratch[..count]);
                    Poll::Ready(Ok(count))
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                other => other,
            }
        })
    }

    /// Sends all of `buf`. If the future is dropped midway, an unknown part has been sent.
    ///
    /// # Errors
    /// Of the connection; `ResourceBusy` if another write is in flight.
    pub async fn write_all(&self, buf: Vec<u8>) -> (io::Result<()>, Vec<u8>) {
        let Some(_turn) = Turn::take(&self.writing) else {
            return (Err(io::ErrorKind::ResourceBusy.into()), buf);
        };
        let mut sent = 0;
        let result = poll_fn(|cx| self.poll_write_all(cx, &buf, &mut sent)).await;
        (result, buf)
    }

    fn poll_write_all(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        let mut socket = self.socket.borrow_mut();
        while *sent < buf.len() {
            match Pin::new(&mut *socket).poll_write(cx, &buf[*sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => *sent += count,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that no more bytes come; reading goes on.
    ///
    /// # Errors
    /// `NotConnected` if the connection is gone.
    pub fn shutdown_write(&self) -> io::Result<()> {
        SockRef::from(&self.borrow_fd()).shutdown(Shutdown::Write)
    }

    /// Ends both directions at once; a read in flight ends with 0 bytes.
    ///
    /// # Errors
    /// `NotConnected` if the connection is gone.
    pub fn shutdown(&self) -> io::Result<()> {
        SockRef::from(&self.borrow_fd()).shutdown(Shutdown::Both)
    }

    /// Whether small writes are sent at once. On for every new stream.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        SockRef::from(&self.borrow_fd()).set_tcp_nodelay(on)
    }

    /// # Errors
    /// `NotConnected` if the peer is gone already.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let addr = SockRef::from(&self.borrow_fd()).peer_addr()?;
        addr.as_socket()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// # Errors
    /// What the kernel says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let addr = SockRef::from(&self.borrow_fd()).local_addr()?;
        addr.as_socket()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub(super) fn borrow_fd(&self) -> BorrowedFd<'_> {
        sys::borrow_cell_fd(&self.socket)
    }
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
