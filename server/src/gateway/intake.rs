//! The messages of one request, read out of its body as it comes.
//!
//! A unary call has one message: what follows its value is passed over, and an empty body stands for an empty message.
//! A stream has any number; one that cannot be read ends it as if nothing more had come, as in etcd, which has
//! nobody to tell.
//!
//! What is kept is the value that has begun: at most [`Intake::held_len`] octets, which has a bound.

use bytes::Bytes;
use net::grpc::{Code, Status};

use super::form::Form;
use super::read;
use super::scan::{ScanError, Values};

/// A message takes at most so many times its length as JSON: each letter of base64 may be written as `\u0041`.
const JSON_FACTOR: usize = 8;
/// Braces, names and blanks around it.
const JSON_ROOM: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Intake {
    values: Values,
    /// The type of the messages.
    message_no: usize,
    is_stream: bool,
    /// The rest of the body means nothing.
    is_over: bool,
    message_len_max: usize,
    /// The body is no JSON.
    form: Option<Form>,
}

impl Intake {
    pub(super) fn new(message_no: usize, is_stream: bool, message_len_max: usize) -> Self {
        Intake {
            values: Values::default(),
            message_no,
            is_stream,
            is_over: false,
            message_len_max,
            form: None,
        }
    }

    /// The same for a body that is a form: its call is an empty one, or none.
    pub(super) fn of_form(self, form: Form) -> Self {
        Intake {
            form: Some(form),
            ..self
        }
    }

    /// Whether only the end of the body tells if there is a call.
    pub(crate) fn is_form(&self) -> bool {
        self.form.is_some()
    }

    /// Octets that wait for the rest of their value.
    pub(crate) fn held_len(&self) -> usize {
        self.values.held_len()
    }

    /// Takes a piece of the body, and appends the messages that are whole.
    ///
    /// # Errors
    /// The status to end the call with.
    pub(crate) fn push(&mut self, octets: &[u8], messages: &mut Vec<Bytes>) -> Result<(), Status> {
        if self.is_over {
            return Ok(());
        }
        if let Some(form) = &mut self.form {
            return form.push(octets);
        }
        self.values.push(octets);
        self.poll(messages, false)?;
        let len_max = self.message_len_max.saturating_mul(JSON_FACTOR) + JSON_ROOM;
        if self.held_len() > len_max {
            self.close();
            let text = format!("etcore: a message takes more than {len_max} bytes as JSON");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(())
    }

    /// The body has ended.
    ///
    /// # Errors
    /// As [`Intake::push`].
    pub(crate) fn end(&mut self, messages: &mut Vec<Bytes>) -> Result<(), Status> {
        if let Some(form) = &mut self.form {
            form.end()?;
            self.is_over |= self.is_stream;
        }
        match self.is_over {
            true => Ok(()),
            false => self.poll(messages, true),
        }
    }

    /// Whether all messages have come, though the body may go on.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    fn close(&mut self) {
        self.is_over = true;
        self.values = Values::default();
    }

    fn poll(&mut self, messages: &mut Vec<Bytes>, is_last: bool) -> Result<(), Status> {
        while !self.is_over {
            match self.poll_message(is_last) {
                Ok(None) => return Ok(()),
                Ok(Some(message)) => {
                    let (len, len_max) = (message.len(), self.message_len_max);
                    if len > len_max {
                        self.close();
                        let text =
                            format!("grpc: received message larger than max ({len} vs. {len_max})");
                        return Err(Status::new(Code::ResourceExhausted, text));
                    }
                    messages.push(message);
                    if !self.is_stream {
                        self.close();
                    }
                }
                Err(text) => {
                    self.close();
                    if !self.is_stream {
                        return Err(Status::new(Code::InvalidArgument, text));
                    }
                }
            }
        }
        Ok(())
    }

    fn poll_message(&mut self, is_last: bool) -> Result<Option<Bytes>, String> {
        match self.values.poll_value(is_last) {
            Ok(None) => Ok(None),
            Err(ScanError::Empty) if !self.is_stream => Ok(Some(Bytes::new())),
            Err(error) => Err(error.to_string()),
            Ok(Some(value)) => match read::message(&value, self.message_no) {
                Ok(message) => Ok(Some(message.into())),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::etcdserverpb::LeaseKeepAliveRequest;

    use super::*;

    fn intake(is_stream: bool) -> Intake {
        let schema = proto::schema::method("/etcdserverpb.Lease/LeaseKeepAlive").unwrap();
        Intake::new(schema.input, is_stream, 100)
    }

    /// The ids that come out of a body, octet by octet, and how it ends.
    fn ids(mut intake: Intake, body: &str) -> (Vec<i64>, Result<(), Status>) {
        let mut messages = Vec::new();
        let mut result = Ok(());
        for octet in body.bytes() {
            result = result.and_then(|()| intake.push(&[octet], &mut messages));
        }
        let result = result.and_then(|()| intake.end(&mut messages));
        assert_eq!(intake.held_len(), 0);
        let ids = messages.iter();
        let ids = ids.map(|m| LeaseKeepAliveRequest::decode(&m[..]).unwrap().id);
        (ids.collect(), result)
    }

    #[test]
    fn a_stream_has_messages_until_one_is_none() {
        let read = |body| ids(intake(true), body);
        assert_eq!(read(" {\"ID\":1}\n{\"ID\":\"2\"} "), (vec![1, 2], Ok(())));
        assert_eq!(read("{\"ID\":1}{x}{\"ID\":2}"), (vec![1], Ok(())));
        assert_eq!(read("{\"ID\":1}{\"ID\":true}{\"ID\":2}"), (vec![1], Ok(())));
        assert_eq!(read("{\"ID\":1}{\"ID\":"), (vec![1], Ok(())));
        assert_eq!(read(""), (vec![], Ok(())));
    }

    #[test]
    fn a_unary_call_has_one() {
        let read = |body| ids(intake(false), body);
        assert_eq!(read("{\"ID\":1} {x"), (vec![1], Ok(())));
        assert_eq!(read(" "), (vec![0], Ok(())));
        let refused = Status::new(Code::InvalidArgument, "unexpected EOF");
        assert_eq!(read("{\"ID\":1"), (vec![], Err(refused)));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut intake = intake(false);
        let mut messages = Vec::new();
        // Blanks in front cost nothing.
        for _ in 0..100 {
            intake.push(&[b' '; 10_000], &mut messages).unwrap();
        }
        assert_eq!(intake.held_len(), 0);
        let bound = 100 * JSON_FACTOR + JSON_ROOM;
        intake.push(b"\"", &mut messages).unwrap();
        intake.push(&vec![b'a'; bound - 1], &mut messages).unwrap();
        let refused = intake.push(b"a", &mut messages).unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert_eq!(intake.held_len(), 0);
        assert!(intake.is_over() && messages.is_empty());
    }
}
