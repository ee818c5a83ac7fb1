//! The gateway's readers and writer of JSON without a server around them, for the fuzzer.

use bytes::Bytes;

use super::{Intake, routes, write};
use crate::method::{self, METHODS, Shape};

/// The paths of the methods that the gateway has routes for.
pub fn methods() -> impl Iterator<Item = &'static str> {
    routes::methods().filter(|path| method::find(path).is_some())
}

/// The body of one request, as it comes.
#[derive(Debug)]
pub struct Requests {
    intake: Intake,
    message_no: usize,
}

/// One message of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    bytes: Bytes,
    message_no: usize,
}

impl Requests {
    /// `None`: there is no such method.
    pub fn new(path: &str, message_len_max: usize) -> Option<Self> {
        let message_no = proto::schema::method(path)?.input;
        let is_stream = METHODS[method::find(path)?].shape == Shape::BidiStream;
        Some(Requests {
            intake: Intake::new(message_no, is_stream, message_len_max),
            message_no,
        })
    }

    /// Takes a piece of the body, and appends the messages that are whole.
    ///
    /// # Errors
    /// What the client is told.
    pub fn push(&mut self, octets: &[u8], messages: &mut Vec<Message>) -> Result<(), String> {
        self.with(messages, |intake, bytes| intake.push(octets, bytes))
    }

    /// The body has ended.
    ///
    /// # Errors
    /// As [`Requests::push`].
    pub fn end(&mut self, messages: &mut Vec<Message>) -> Result<(), String> {
        self.with(messages, Intake::end)
    }

    /// Octets that wait for the rest of their message.
    pub fn held_len(&self) -> usize {
        self.intake.held_len()
    }

    fn with(
        &mut self,
        messages: &mut Vec<Message>,
        act: impl FnOnce(&mut Intake, &mut Vec<Bytes>) -> Result<(), net::grpc::Status>,
    ) -> Result<(), String> {
        let mut read = Vec::new();
        let result = act(&mut self.intake, &mut read);
        let message_no = self.message_no;
        messages.extend(read.into_iter().map(|bytes| Message { bytes, message_no }));
        result.map_err(|status| status.message.into_owned())
    }
}

impl Message {
    /// In protobuf.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As a response would show it; `None`: it is no message.
    pub fn to_json(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        write::message(&self.bytes, self.message_no, &mut out).ok()?;
        Some(out)
    }
}
