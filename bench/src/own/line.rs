//! One connection's socket, which does not block, and `net`'s client behind it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use net::{ClientConnection, Limits};

use super::OwnError;

/// What one write carries at most.
const WRITE_SIZE_BYTES_MAX: usize = 64 * 1024;

/// Time for a connection to be accepted.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Line {
    socket: TcpStream,
    pub(super) machine: ClientConnection,
    outgoing: Vec<u8>,
    /// How much of `outgoing` was written.
    sent_len: usize,
}

/// What a socket said to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// There may be more.
    Some,
    /// Nothing for now.
    Empty,
}

impl Line {
    pub(super) fn connect(
        endpoint: SocketAddr,
        limits: &Arc<Limits>,
        now: Duration,
    ) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&endpoint, CONNECT_LIMIT)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let authority = endpoint.to_string();
        Ok(Self {
            socket,
            machine: ClientConnection::new(Arc::clone(limits), &authority, now),
            outgoing: Vec::new(),
            sent_len: 0,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<ReadEnd, OwnError> {
        match self.socket.read(buffer) {
            Ok(0) => Err(OwnError::Lost("it was closed")),
            Ok(len) => {
                self.machine.on_bytes(&buffer[..len]);
                let is_full = len == buffer.len();
                Ok(if is_full {
                    ReadEnd::Some
                } else {
                    ReadEnd::Empty
                })
            }
            Err(error) if is_passing(&error) => Ok(ReadEnd::Empty),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what there is. `false`: the socket takes no more for now.
    pub(super) fn flush(&mut self) -> Result<bool, OwnError> {
        loop {
            if self.sent_len == self.outgoing.len() {
                self.outgoing.clear();
                self.sent_len = 0;
                self.machine
                    .poll_transmit(&mut self.outgoing, WRITE_SIZE_BYTES_MAX);
                if self.outgoing.is_empty() {
                    return Ok(true);
                }
            }
            match self.socket.write(&self.outgoing[self.sent_len..]) {
                Ok(len) => self.sent_len += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
