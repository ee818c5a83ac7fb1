//! One connection of the load: its line, and the unary calls in flight on it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::grpc::{Code, Status};
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

/// A status that is not OK.
#[derive(Debug)]
pub(super) struct Refusal(Status);

impl From<Refusal> for OwnError {
    fn from(Refusal(status): Refusal) -> Self {
        OwnError::Refused {
            code: format!("{:?}", status.code),
            message: status.message.into_owned(),
        }
    }
}

impl Refusal {
    /// Whether the server may take the same request a moment later.
    pub(super) fn is_of_the_moment(&self) -> bool {
        match self.0.code {
            Code::ResourceExhausted | Code::Unavailable => true,
            // What etcd says of a full queue has no code of its own.
            Code::Unknown => self.0.message == TOO_MANY_REQUESTS,
            _ => false,
        }
    }
}

const TOO_MANY_REQUESTS: &str = "etcdserver: too many requests";

/// A request that succeeded, or came to something else.
#[derive(Debug)]
pub(super) struct Answered<A = Answer> {
    pub(super) started: Duration,
    /// What the call was started with.
    pub(super) tag: u32,
    pub(super) answer: A,
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
        let Some(ended) = self.poll_ended()? else {
            return Ok(None);
        };
        let Answered {
            started,
            tag,
            answer,
        } = ended;
        let answer = answer.map_err(OwnError::from)?;
        Ok(Some(Answered {
            started,
            tag,
            answer,
        }))
    }

    /// The next call that ended, whether it was answered or refused.
    pub(super) fn poll_ended(
        &mut self,
    ) -> Result<Option<Answered<Result<Answer, Refusal>>>, OwnError> {
        while let Some(event) = self.line.machine.poll_event() {
            match event {
                ClientEvent::Message { id, payload } => {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.answer = Some(payload);
                    }
                }
                ClientEvent::Finished { id, status, .. } => {
                    let Some(call) = self.calls.remove(&id) else {
                        continue;
                    };
                    let (started, tag) = (call.started, call.tag);
                    let answer = match status.is_ok() {
                        true => Ok(answer_of(call)?),
                        false => Err(Refusal(status)),
                    };
                    return Ok(Some(Answered {
                        started,
                        tag,
                        answer,
                    }));
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

fn answer_of(call: Call) -> Result<Answer, OwnError> {
    let message = call.answer.ok_or(OwnError::Answer("there is none"))?;
    Answer::decode(message).map_err(|_| OwnError::Answer("it is no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_server_refuses_for_the_moment_only() {
        let is_of_the_moment = |code, text| Refusal(Status::new(code, text)).is_of_the_moment();
        assert!(is_of_the_moment(Code::Unavailable, "no leader"));
        assert!(is_of_the_moment(Code::Unknown, TOO_MANY_REQUESTS));
        assert!(!is_of_the_moment(Code::Unknown, "something else"));
        assert!(!is_of_the_moment(
            Code::InvalidArgument,
            "key is not provided"
        ));
    }
}
