//! gRPC's message framing: a flag byte, a length (u32 BE), the message.
//!
//! Bytes are buffered as they come, never by the length alone: a peer that promises 2 MiB and sends ten bytes costs
//! [`FIRST_RESERVE_LEN`], and later at most twice what it sent, because it may do so on every stream. A message that lies
//! whole in one DATA payload is copied once, into exactly its size.

use bytes::Bytes;

use super::{Code, Status};

/// Length of the prefix before each message.
pub(crate) const PREFIX_LEN: usize = 5;

/// What is reserved for a message of which only the beginning has come; the buffer then doubles.
const FIRST_RESERVE_LEN: usize = 128;

/// The prefix of a message of `len` bytes. The caller keeps `len` below 4 GiB.
pub(crate) fn prefix(len: u32) -> [u8; PREFIX_LEN] {
    let [a, b, c, d] = len.to_be_bytes();
    [0, a, b, c, d]
}

/// Cuts one direction of a call into messages.
#[derive(Debug, Default)]
pub(crate) struct Deframer {
    prefix: [u8; PREFIX_LEN],
    /// How much of `prefix` has come. While it is whole, `body` gathers the message.
    prefix_len: u8,
    /// Length of the message whose prefix is whole.
    body_len: usize,
    body: Vec<u8>,
}

impl Deframer {
    /// Takes bytes from `input` until one message is whole. `Ok(None)`: all of `input` was taken.
    ///
    /// # Errors
    /// The status the call must end with. The deframer must not be used after it.
    pub(crate) fn poll_message(
        &mut self,
        input: &mut &[u8],
        message_len_max: usize,
    ) -> Result<Option<Bytes>, Status> {
        if !self.read_prefix(input, message_len_max)? {
            return Ok(None);
        }
        let missing = self.body_len - self.body.len();
        if input.len() < missing {
            self.reserve(input.len());
            self.body.extend_from_slice(input);
            *input = &[];
            return Ok(None);
        }
        let (rest, tail) = input.split_at(missing);
        *input = tail;
        self.prefix_len = 0;
        if self.body.is_empty() {
            return Ok(Some(Bytes::copy_from_slice(rest)));
        }
        self.body.reserve_exact(missing);
        self.body.extend_from_slice(rest);
        Ok(Some(Bytes::from(std::mem::take(&mut self.body))))
    }

    /// Whether the end of the stream may come here.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.prefix_len == 0
    }

    /// How many bytes the message that has begun still needs; 0 before its length is known.
    pub(crate) fn missing_len(&self) -> usize {
        if usize::from(self.prefix_len) < PREFIX_LEN {
            return 0;
        }
        self.body_len - self.body.len()
    }

    /// Reads on in the prefix. `false`: there is more to come.
    fn read_prefix(&mut self, input: &mut &[u8], message_len_max: usize) -> Result<bool, Status> {
        let have = usize::from(self.prefix_len);
        if have == PREFIX_LEN {
            return Ok(true);
        }
        let take = input.len().min(PREFIX_LEN - have);
        let (head, rest) = input.split_at(take);
        self.prefix[have..have + take].copy_from_slice(head);
        *input = rest;
        self.prefix_len = (have + take) as u8;
        if have + take < PREFIX_LEN {
            return Ok(false);
        }
        let [flag, a, b, c, d] = self.prefix;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        // grpc-go looks at the length first.
        if len > message_len_max {
            let message =
                format!("grpc: received message larger than max ({len} vs. {message_len_max})");
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        match flag {
            0 => {}
            // A stream that named an encoding was refused at its headers.
            1 => return Err(Status::new(Code::Internal, COMPRESSED_WITHOUT_ENCODING)),
            flag => {
                let message = format!("grpc: received unexpected payload format {flag}");
                return Err(Status::new(Code::Internal, message));
            }
        }
        self.body_len = len;
        Ok(true)
    }

    /// Makes room for `more` bytes: never beyond the message, and beyond what came at most twice over.
    fn reserve(&mut self, more: usize) {
        let want = self.body.len() + more;
        if want <= self.body.capacity() {
            return;
        }
        let target = want.max(self.body.capacity() * 2).max(FIRST_RESERVE_LEN);
        let target = target.min(self.body_len);
        self.body.reserve_exact(target - self.body.len());
    }
}

const COMPRESSED_WITHOUT_ENCODING: &str =
    "grpc: compressed flag set with identity or empty encoding";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(message: &[u8]) -> Vec<u8> {
        [&prefix(message.len() as u32)[..], message].concat()
    }

    fn refusal(input: &[u8], max: usize) -> Status {
        Deframer::default()
            .poll_message(&mut &input[..], max)
            .expect_err("refused")
    }

    #[test]
    fn refusals_are_those_of_grpc_go() {
        let status = refusal(&[0, 0, 32, 0, 1], 2_097_152);
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(
            status.message,
            "grpc: received message larger than max (2097153 vs. 2097152)"
        );
        let status = refusal(&[1, 0, 0, 0, 1], 10);
        assert_eq!(
            status,
            Status::new(Code::Internal, COMPRESSED_WITHOUT_ENCODING)
        );
        let status = refusal(&[2, 0, 0, 0, 1], 10);
        assert_eq!(status.message, "grpc: received unexpected payload format 2");
    }

    #[test]
    fn a_promised_length_reserves_little() {
        let mut deframer = Deframer::default();
        let input = [&prefix(2_000_000)[..], &[7; 10]].concat();
        assert_eq!(deframer.poll_message(&mut &input[..], 2_097_152), Ok(None));
        assert!(deframer.body.capacity() <= FIRST_RESERVE_LEN);
        assert_eq!(deframer.missing_len(), 1_999_990);
        assert!(!deframer.is_between_messages());
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..5),
            cuts in prop::collection::vec(1usize..30_000, 1..50),
        ) {
            let wire: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
            let mut deframer = Deframer::default();
            let mut found = Vec::new();
            let mut rest = &wire[..];
            let mut cuts = cuts.into_iter().cycle();
            while !rest.is_empty() {
                let (mut piece, tail) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                rest = tail;
                while let Some(message) = deframer.poll_message(&mut piece, 40_000).unwrap() {
                    found.push(message.to_vec());
                }
                prop_assert!(piece.is_empty());
            }
            prop_assert!(deframer.is_between_messages());
            prop_assert_eq!(found, messages);
        }
    }
}
