//! A listening socket in the file system.
//!
//! Its connections are [`Stream`]s like those of TCP, without an address of their peer.

use std::io;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::Stream;
use super::listener::Acceptor;

/// A socket file that accepts connections on this executor. Closed, and the file removed, on drop.
#[derive(Debug)]
pub struct UnixListener {
    acceptor: Acceptor,
    path: PathBuf,
}

impl UnixListener {
    /// Binds and listens at `path`. What is there already is removed first: it is left over from a process that was killed,
    /// and nothing tells it apart from one that is in use.
    ///
    /// # Errors
    /// What the kernel says about the path.
    pub fn bind(path: &Path, backlog: i32) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        socket.listen(backlog)?;
        Ok(Self {
            acceptor: Acceptor::new(socket.into()),
            path: path.to_owned(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection. Never fails, as [`Listener::accept`](super::Listener::accept).
    pub async fn accept(&self) -> Stream {
        self.acceptor.accept(Ok).await
    }
}

impl Drop for UnixListener {
    fn drop(&mut self) {
        // If it is gone, somebody else has tidied up.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{ExecutorConfig, blocking, run, spawn};

    #[test]
    fn a_left_over_file_is_taken_over_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("localhost:12345");
        std::fs::write(&path, "left over").unwrap();
        run(ExecutorConfig::new("t"), move || async move {
            let listener = UnixListener::bind(&path, 16).unwrap();
            let place = path.clone();
            let client = spawn(blocking(move || {
                let mut client = UnixStream::connect(place).unwrap();
                client.write_all(b"ping").unwrap();
                let mut answer = [0; 4];
                client.read_exact(&mut answer).unwrap();
                answer
            }));
            let stream = listener.accept().await;
            assert!(stream.peer_addr().is_err());
            let (count, bytes) = stream.read(Vec::with_capacity(16)).await;
            assert_eq!(count.unwrap(), 4);
            stream.write_all(bytes).await.0.unwrap();
            assert_eq!(&client.await, b"ping");
            assert!(path.exists());
            drop(listener);
            assert!(!path.exists());
        })
        .unwrap();
    }

    #[test]
    fn a_path_that_cannot_be_is_refused() {
        run(ExecutorConfig::new("t"), || async {
            let long = PathBuf::from("x".repeat(200));
            assert!(UnixListener::bind(&long, 16).is_err());
            let absent = Path::new("/no/such/folder/x.sock");
            let error = UnixListener::bind(absent, 16).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        })
        .unwrap();
    }
}
