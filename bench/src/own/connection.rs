//! One connection of the load: a socket that does not block, `net`'s client, and the calls in flight.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::{CallId, ClientConnection, ClientEvent, Limits, Metadata};
use prost::Message as _;

use super::OwnError;
use super::requests::Answer;

/// What one write carries at most.
const WRITE_SIZE_BYTES_MAX: usize = 64 * 1024;

/// Time for a connection to be accepted.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    machine: ClientConnection,
    calls: HashMap<CallId, Call>,
    outgoing: Vec<u8>,
    /// How much of `outgoing` was written.
    sent_len: usize,
}

/// A request in flight.
#[derive(Debug)]
struct Call {
    started: Duration,
    tag: u32,
    answer: Option<Bytes>,
}

/// A request that succeeded.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) started: Duration,
    /// What the call was started with.
    pub(super) tag: u32,
    pub(super) answer: Answer,
}

/// What a socket said to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// There may be more.
    Some,
    /// Nothing for now.
    Empty,
}

impl Connection {
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
            calls: HashMap::new(),
            outgoing: Vec::new(),
            sent_len: 0,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Starts a call whose latency counts from `started`; `flush` sends it. Its answer comes with `tag`.
    pub(super) fn start(
        &mut self,
        path: &str,
        request: Bytes,
        started: Duration,
        tag: u32,
    ) -> Result<(), OwnError> {
        let id = self
            .machine
            .start_call(path, &Metadata::default(), None)
            .ok_or(OwnError::Lost("it takes no more calls"))?;
        self.machine.send_message(id, request);
        self.machine.half_close(id);
        let call = Call {
            started,
            tag,
            answer: None,
        };
        self.calls.insert(id, call);
        Ok(())
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

    pub(super) fn on_time(&mut self, now: Duration) {
        self.machine.on_time(now);
    }

    /// The next call that ended; one that failed is an error.
    pub(super) fn poll_answered(&mut self) -> Result<Option<Answered>, OwnError> {
        while let Some(event) = self.machine.poll_event() {
            match event {
                ClientEvent::Message { id, payload } => {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.answer = Some(payload);
                    }
                }
                ClientEvent::Finished { id, status, .. } => {
                    if !status.is_ok() {
                        return Err(OwnError::Refused {
                            code: format!("{:?}", status.code),
                            message: status.message.into_owned(),
                        });
                    }
                    if let Some(call) = self.calls.remove(&id) {
                        return answered(call).map(Some);
                    }
                }
                ClientEvent::GoAway { .. } => return Err(OwnError::Lost("it is going away")),
                ClientEvent::Headers { .. }
                | ClientEvent::Response { .. }
                | ClientEvent::Writable { .. }
                | ClientEvent::Pong { .. } => {}
            }
        }
        Ok(None)
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

fn answered(call: Call) -> Result<Answered, OwnError> {
    let message = call.answer.ok_or(OwnError::Answer("there is none"))?;
    let answer = Answer::decode(message).map_err(|_| OwnError::Answer("it is no message"))?;
    Ok(Answered {
        started: call.started,
        tag: call.tag,
        answer,
    })
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
