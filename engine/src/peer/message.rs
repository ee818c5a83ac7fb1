//! The message stream: everything but appends, each with its length before it.

use prost::Message as _;
use proto::raftpb;

use super::frame::Received;
use super::{StreamError, is_link_heartbeat};

/// Reads a message stream; see the module text.
#[derive(Debug)]
pub struct MessageDecoder {
    received: Received,
    message_size_bytes_max: usize,
}

impl MessageDecoder {
    /// Takes messages of at most that many bytes.
    pub fn new(message_size_bytes_max: usize) -> Self {
        MessageDecoder {
            received: Received::default(),
            message_size_bytes_max,
        }
    }

    /// Input: bytes of the stream.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        self.received.push(bytes);
    }

    /// Output: the next message that is whole.
    ///
    /// # Errors
    /// A [`StreamError`], the same one from then on.
    pub fn poll_message(&mut self) -> Result<Option<raftpb::Message>, StreamError> {
        self.received.check()?;
        let taken = self.take();
        self.received.note(taken)
    }

    fn take(&mut self) -> Result<Option<raftpb::Message>, StreamError> {
        while let Some(piece) = self.received.take_piece(self.message_size_bytes_max)? {
            let message =
                raftpb::Message::decode(piece).map_err(|_not_one| StreamError::Malformed)?;
            if !is_link_heartbeat(&message) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

/// Appends a message to `out` as the message stream has it.
pub fn encode_message(message: &raftpb::Message, out: &mut Vec<u8>) {
    let len = message.encoded_len();
    out.reserve(len + size_of::<u64>());
    out.extend_from_slice(&(len as u64).to_be_bytes());
    message.encode_raw(out);
}

/// Appends the word that the link lives.
pub fn encode_link_heartbeat(out: &mut Vec<u8>) {
    let heartbeat = raftpb::Message {
        r#type: Some(raftpb::MessageType::MsgHeartbeat as i32),
        from: Some(0),
        to: Some(0),
        ..raftpb::Message::default()
    };
    encode_message(&heartbeat, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{cut, message};
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn drain(decoder: &mut MessageDecoder) -> Vec<raftpb::Message> {
        let mut messages = Vec::new();
        while let Some(message) = decoder.poll_message().expect("well-formed") {
            messages.push(message);
        }
        messages
    }

    proptest! {
        #[test]
        fn messages_arrive_in_order_however_they_are_cut(
            messages in proptest::collection::vec(message(), 0..12),
            cuts in proptest::collection::vec(1_usize..40, 1..60),
        ) {
            let mut octets = Vec::new();
            for message in &messages {
                encode_link_heartbeat(&mut octets);
                encode_message(message, &mut octets);
            }
            let mut decoder = MessageDecoder::new(LIMIT);
            let mut arrived = Vec::new();
            for part in cut(&octets, &cuts) {
                decoder.on_bytes(part);
                arrived.extend(drain(&mut decoder));
            }
            let expected: Vec<_> = messages.into_iter().filter(|m| !is_link_heartbeat(m)).collect();
            prop_assert_eq!(arrived, expected);
        }
    }

    #[test]
    fn a_length_past_the_limit_ends_the_stream_at_once_and_for_good() {
        let mut decoder = MessageDecoder::new(10);
        let error = StreamError::TooLarge {
            size_bytes: 11,
            limit_bytes: 10,
        };
        decoder.on_bytes(&11_u64.to_be_bytes());
        assert_eq!(decoder.poll_message(), Err(error));
        decoder.on_bytes(&[0; 64]);
        assert_eq!(decoder.poll_message(), Err(error));
    }

    #[test]
    fn bytes_that_are_no_message_end_the_stream() {
        let mut decoder = MessageDecoder::new(10);
        decoder.on_bytes(&1_u64.to_be_bytes());
        decoder.on_bytes(&[0xff]);
        assert_eq!(decoder.poll_message(), Err(StreamError::Malformed));
    }

    /// The bytes that etcd 3.7.1 sends: proto2, the three fields set.
    #[test]
    fn a_link_heartbeat_is_etcds() {
        let mut octets = Vec::new();
        encode_link_heartbeat(&mut octets);
        assert_eq!(octets, [0, 0, 0, 0, 0, 0, 0, 6, 8, 8, 16, 0, 24, 0]);
    }
}
