//! A connected socket on its way from the executor that accepted it to the one that will serve it.

use std::io;
use std::os::fd::OwnedFd;

use super::Stream;

/// A connection that belongs to no executor; it may be sent to any. Closed on drop.
#[derive(Debug)]
pub struct DetachedStream {
    socket: OwnedFd,
}

impl Stream {
    /// Gives the connection up, so that another executor can take it.
    ///
    /// To be called before the first read or write: bytes that one of them has taken already stay behind.
    ///
    /// # Errors
    /// No descriptor is free; the connection is closed then.
    pub fn detach(self) -> io::Result<DetachedStream> {
        let socket = self.into_socket()?;
        Ok(DetachedStream { socket })
    }

    /// Takes a connection over on this executor, with its options as they were.
    ///
    /// # Errors
    /// What the kernel says about the socket.
    pub fn attach(detached: DetachedStream) -> io::Result<Self> {
        Self::from_accepted(detached.socket)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::{ExecutorConfig, ListenOptions, Listener, mailbox, run};

    #[test]
    fn a_connection_goes_on_at_another_executor() {
        let (sender, mut mailbox) = mailbox(1);
        let other = std::thread::spawn(move || {
            run(ExecutorConfig::new("other"), || async move {
                let stream = Stream::attach(mailbox.recv().await.unwrap()).unwrap();
                let (count, bytes) = stream.read(Vec::with_capacity(16)).await;
                assert_eq!(count.unwrap(), 4);
                stream.write_all(bytes).await.0.unwrap();
            })
            .unwrap();
        });
        let echoed = run(ExecutorConfig::new("first"), || async move {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let listener = Listener::bind(any, ListenOptions::default()).unwrap();
            let limit = Duration::from_secs(20);
            let client = Stream::connect(listener.local_addr(), limit).await.unwrap();
            // Here before the connection moves: nothing of it is lost.
            client.write_all(b"ping".to_vec()).await.0.unwrap();
            let (stream, _) = listener.accept().await;
            sender.send(stream.detach().unwrap()).unwrap();
            client.read(Vec::with_capacity(16)).await.1
        })
        .unwrap();
        other.join().unwrap();
        assert_eq!(echoed, b"ping");
    }
}
