//! A hostile connection: it sends whatever the server takes, and never waits for long.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::window::Stage;

/// Between two tries at a socket that takes nothing, or has nothing.
const RETRY_INTERVAL: Duration = Duration::from_micros(200);

pub(crate) struct Hostile<'a> {
    socket: TcpStream,
    stage: &'a Stage,
}

impl<'a> Hostile<'a> {
    pub(crate) fn connect(stage: &'a Stage) -> io::Result<Self> {
        let socket = TcpStream::connect(stage.addr)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        // Closing resets, or thousands of connections would leave their ports waiting.
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        Ok(Self { socket, stage })
    }

    /// Sends all and takes meanwhile what the server says. `None`: the server has closed, or the window is over.
    pub(crate) fn send(&mut self, octets: &[u8]) -> Option<()> {
        self.send_then(octets, Self::drain)
    }

    /// The same, but never reads.
    pub(crate) fn send_deaf(&mut self, octets: &[u8]) -> Option<()> {
        self.send_then(octets, |_| Some(()))
    }

    fn send_then(
        &mut self,
        octets: &[u8],
        mut listen: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        let mut rest = octets;
        while !rest.is_empty() {
            if self.stage.is_over() {
                return None;
            }
            match self.socket.write(rest) {
                Ok(len) => {
                    self.stage.add_sent(len);
                    rest = &rest[len..];
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.rest(),
                Err(_) => return None,
            }
            listen(self)?;
        }
        Some(())
    }

    /// Says that no more comes and waits for the server to close, which it does when it has taken all.
    pub(crate) fn leave(&mut self) -> Option<()> {
        self.socket.shutdown(Shutdown::Write).ok()?;
        while !self.stage.is_over() {
            self.drain()?;
            self.rest();
        }
        None
    }

    /// Reads all that is there and forgets it. `None`: the server has closed.
    fn drain(&mut self) -> Option<()> {
        let mut octets = [0; 16 * 1024];
        while self.read(&mut octets)? > 0 {}
        Some(())
    }

    /// What is there; 0: nothing now. `None`: the server has closed.
    pub(crate) fn read(&mut self, octets: &mut [u8]) -> Option<usize> {
        match self.socket.read(octets) {
            Ok(0) => None,
            Ok(len) => Some(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
            Err(_) => None,
        }
    }

    /// A moment of doing nothing.
    pub(crate) fn rest(&self) {
        std::thread::sleep(RETRY_INTERVAL);
    }
}
