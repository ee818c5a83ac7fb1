//! One connection of the load: its line, and the unary calls in flight on it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::{CallId, ClientEvent, Limits, Metadata};
use prost::Message as _;

use super::OwnError;
use super::line::{Line, ReadEnd};
use super::requests::Answer;

#[derive(Debug)]
pub(super) struct Connection {
    line: Line,
    calls: HashMap<CallId, Call>,
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

impl Connection {
    pub(super) fn connect(
        endpoint: SocketAddr,
        limits: &Arc<Limits>,
        now: Duration,
    ) -> io::Result<Self> {
        Ok(Self {
            line: Line::connect(endpoint, limits, now)?,
            calls: HashMap::new(),
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        self.line.socket()
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
            .line
            .machine
            .start_call(path, &Metadata::default(), None)
            .ok_or(OwnError::Lost("it takes no more calls"))?;
        self.line.machine.send_message(id, request);
        self.line.machine.half_close(id);
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
        self.line.read(buffer)
    }

    pub(super) fn on_time(&mut self, now: Duration) {
        self.line.machine.on_time(now);
    }

    /// The next call that ended; one that failed is an error.
    pub(super) fn poll_answered(&mut self) -> Result<Option<Answered>, OwnError> {
        while let Some(event) = self.line.machine.poll_event() {
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
        self.line.flush()
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
