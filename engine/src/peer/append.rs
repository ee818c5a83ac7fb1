//! The append stream (msgappv2): appends that go on where the last one ended say only what is new.

use prost::Message as _;
use proto::raftpb;

use super::StreamError;
use super::frame::Received;

/// The first byte of what follows.
const LINK_HEARTBEAT: u8 = 0;
const ENTRIES: u8 = 1;
const MESSAGE: u8 = 2;

/// What an entry counts for beside its bytes: entries without any must not be free.
const ENTRY_OVERHEAD_BYTES: usize = size_of::<raftpb::Entry>();

/// Where the last append ended; both ends begin at (0, 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    term: u64,
    index: u64,
}

impl Place {
    /// Behind an append that was sent whole.
    fn behind(message: &raftpb::Message) -> Place {
        let last = message.entries.last();
        Place {
            term: message.term(),
            index: last.map_or(message.index(), raftpb::Entry::index),
        }
    }

    /// True if this append goes on here, in the term of the entry before it.
    fn is_before(self, message: &raftpb::Message) -> bool {
        message.index() == self.index
            && message.log_term() == self.term
            && message.term() == self.term
    }
}

/// Writes an append stream; one for each stream.
#[derive(Debug, Default)]
pub struct AppendEncoder {
    place: Place,
}

impl AppendEncoder {
    /// Appends a `MsgApp` to `out`.
    pub fn encode(&mut self, message: &raftpb::Message, out: &mut Vec<u8>) {
        if !self.place.is_before(message) {
            out.push(MESSAGE);
            super::encode_message(message, out);
            self.place = Place::behind(message);
            return;
        }
        out.push(ENTRIES);
        out.extend_from_slice(&(message.entries.len() as u64).to_be_bytes());
        for entry in &message.entries {
            out.extend_from_slice(&(entry.encoded_len() as u64).to_be_bytes());
            entry.encode_raw(out);
            self.place.index = self.place.index.wrapping_add(1);
        }
        out.extend_from_slice(&message.commit().to_be_bytes());
    }

    /// Appends the word that the link lives.
    pub fn encode_link_heartbeat(&self, out: &mut Vec<u8>) {
        out.push(LINK_HEARTBEAT);
    }
}

/// Reads an append stream; see the module text.
#[derive(Debug)]
pub struct AppendDecoder {
    /// Who reads, and who sends: short appends do not say it.
    local: u64,
    remote: u64,
    received: Received,
    place: Place,
    step: Step,
    message_size_bytes_max: usize,
}

/// What comes next.
#[derive(Debug)]
enum Step {
    Type,
    Message,
    Count,
    Entry { left: u64, taken: Entries },
    Commit(Vec<raftpb::Entry>),
}

#[derive(Debug, Default)]
struct Entries {
    entries: Vec<raftpb::Entry>,
    size_bytes: usize,
}

impl AppendDecoder {
    /// Reads what member `remote` sends to member `local`: appends of at most that many bytes.
    pub fn new(local: u64, remote: u64, message_size_bytes_max: usize) -> Self {
        AppendDecoder {
            local,
            remote,
            received: Received::default(),
            place: Place::default(),
            step: Step::Type,
            message_size_bytes_max,
        }
    }

    /// Input: bytes of the stream.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        self.received.push(bytes);
    }

    /// Output: the next append that is whole.
    ///
    /// # Errors
    /// A [`StreamError`], the same one from then on.
    pub fn poll_message(&mut self) -> Result<Option<raftpb::Message>, StreamError> {
        self.received.check()?;
        let taken = self.take();
        self.received.note(taken)
    }

    fn take(&mut self) -> Result<Option<raftpb::Message>, StreamError> {
        loop {
            match std::mem::replace(&mut self.step, Step::Type) {
                Step::Type => match self.received.take_byte() {
                    Some(LINK_HEARTBEAT) => {}
                    Some(ENTRIES) => self.step = Step::Count,
                    Some(MESSAGE) => self.step = Step::Message,
                    Some(other) => return Err(StreamError::UnknownType(other)),
                    None => return Ok(None),
                },
                Step::Message => {
                    let Some(piece) = self.received.take_piece(self.message_size_bytes_max)? else {
                        return Ok(self.wait_in(Step::Message));
                    };
                    let message = raftpb::Message::decode(piece)
                        .map_err(|_not_one| StreamError::Malformed)?;
                    self.place = Place::behind(&message);
                    return Ok(Some(message));
                }
                Step::Count => {
                    let Some(left) = self.received.take_u64() else {
                        return Ok(self.wait_in(Step::Count));
                    };
                    let taken = Entries::default();
                    self.step = Step::Entry { left, taken };
                }
                Step::Entry { left: 0, taken } => self.step = Step::Commit(taken.entries),
                Step::Entry { left, mut taken } => {
                    let room = self.message_size_bytes_max - taken.size_bytes;
                    let Some(piece) = self.received.take_piece(room)? else {
                        return Ok(self.wait_in(Step::Entry { left, taken }));
                    };
                    taken.push(piece, self.message_size_bytes_max)?;
                    let left = left - 1;
                    self.step = Step::Entry { left, taken };
                }
                Step::Commit(entries) => {
                    let Some(commit) = self.received.take_u64() else {
                        return Ok(self.wait_in(Step::Commit(entries)));
                    };
                    return Ok(Some(self.append(entries, commit)));
                }
            }
        }
    }

    /// What the step needs has not come yet.
    fn wait_in(&mut self, step: Step) -> Option<raftpb::Message> {
        self.step = step;
        None
    }

    /// The append that these entries make where the last one ended.
    fn append(&mut self, entries: Vec<raftpb::Entry>, commit: u64) -> raftpb::Message {
        let Place { term, index } = self.place;
        self.place.index = index.wrapping_add(entries.len() as u64);
        raftpb::Message {
            r#type: Some(raftpb::MessageType::MsgApp as i32),
            to: Some(self.local),
            from: Some(self.remote),
            term: Some(term),
            log_term: Some(term),
            index: Some(index),
            commit: Some(commit),
            entries,
            ..raftpb::Message::default()
        }
    }
}

impl Entries {
    fn push(&mut self, piece: bytes::Bytes, limit_bytes: usize) -> Result<(), StreamError> {
        self.size_bytes += piece.len() + ENTRY_OVERHEAD_BYTES;
        if self.size_bytes > limit_bytes {
            return Err(StreamError::TooLarge {
                size_bytes: self.size_bytes as u64,
                limit_bytes,
            });
        }
        let entry = raftpb::Entry::decode(piece).map_err(|_not_one| StreamError::Malformed)?;
        self.entries.push(entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{LOCAL, REMOTE, appends, cut};
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn decoder() -> AppendDecoder {
        AppendDecoder::new(LOCAL, REMOTE, LIMIT)
    }

    proptest! {
        /// What both ends remember never drifts apart, whatever leader sends what.
        #[test]
        fn appends_arrive_as_they_were_sent(
            messages in appends(),
            cuts in proptest::collection::vec(1_usize..40, 1..60),
        ) {
            let mut encoder = AppendEncoder::default();
            let mut octets = Vec::new();
            for message in &messages {
                encoder.encode_link_heartbeat(&mut octets);
                encoder.encode(message, &mut octets);
            }
            let mut decoder = decoder();
            let mut arrived = Vec::new();
            for part in cut(&octets, &cuts) {
                decoder.on_bytes(part);
                while let Some(message) = decoder.poll_message().expect("well-formed") {
                    arrived.push(message);
                }
            }
            prop_assert_eq!(arrived, messages);
        }

        #[test]
        fn noise_is_refused_or_read_but_never_fatal(octets in proptest::collection::vec(0_u8..4, 0..200)) {
            let mut decoder = decoder();
            decoder.on_bytes(&octets);
            while let Ok(Some(_)) = decoder.poll_message() {}
            decoder.on_bytes(&octets);
            let _ = decoder.poll_message();
        }
    }

    fn append(term: u64, log_term: u64, index: u64, entries: &[(u64, u64)]) -> raftpb::Message {
        let entry = |&(term, index): &(u64, u64)| raftpb::Entry {
            r#type: Some(0),
            term: Some(term),
            index: Some(index),
            data: None,
        };
        raftpb::Message {
            r#type: Some(3),
            to: Some(LOCAL),
            from: Some(REMOTE),
            term: Some(term),
            log_term: Some(log_term),
            index: Some(index),
            commit: Some(1),
            entries: entries.iter().map(entry).collect(),
            ..raftpb::Message::default()
        }
    }

    /// Which form each append takes, one after the other: etcd's own rule.
    #[test]
    fn an_append_is_short_where_the_last_one_ended_in_its_term() {
        let steps = [
            (append(2, 1, 4, &[(1, 5), (2, 6)]), MESSAGE),
            (append(2, 2, 6, &[(2, 7)]), ENTRIES),
            (append(2, 2, 7, &[]), ENTRIES),
            (append(2, 2, 7, &[(2, 8)]), ENTRIES),
            // Sent again after a loss.
            (append(2, 2, 7, &[(2, 8)]), MESSAGE),
            (append(3, 2, 8, &[(3, 9)]), MESSAGE),
            (append(3, 3, 9, &[(3, 10)]), ENTRIES),
            // The entry before is of the former term.
            (append(4, 3, 10, &[]), MESSAGE),
            (append(4, 3, 10, &[(4, 11)]), MESSAGE),
            (append(4, 4, 11, &[(4, 12)]), ENTRIES),
        ];
        let mut encoder = AppendEncoder::default();
        for (step, (message, form)) in steps.iter().enumerate() {
            let mut octets = Vec::new();
            encoder.encode(message, &mut octets);
            assert_eq!(octets[0], *form, "step {step}");
        }
    }

    #[test]
    fn a_promised_count_or_length_allocates_nothing() {
        let mut decoder = decoder();
        decoder.on_bytes(&[ENTRIES]);
        decoder.on_bytes(&u64::MAX.to_be_bytes());
        assert_eq!(decoder.poll_message(), Ok(None));
        decoder.on_bytes(&u64::MAX.to_be_bytes());
        let error = decoder.poll_message().expect_err("too large");
        assert!(matches!(error, StreamError::TooLarge { .. }), "{error}");
        assert_eq!(decoder.poll_message(), Err(error));
    }

    /// Entries without a byte would be free if only bytes counted.
    #[test]
    fn empty_entries_count() {
        let mut decoder = AppendDecoder::new(LOCAL, REMOTE, 10 * ENTRY_OVERHEAD_BYTES);
        decoder.on_bytes(&[ENTRIES]);
        decoder.on_bytes(&u64::MAX.to_be_bytes());
        decoder.on_bytes(&[0; 8 * 10]);
        assert_eq!(decoder.poll_message(), Ok(None));
        decoder.on_bytes(&[0; 8]);
        assert!(decoder.poll_message().is_err());
    }

    #[test]
    fn an_unknown_type_ends_the_stream() {
        let mut decoder = decoder();
        decoder.on_bytes(&[3]);
        assert_eq!(decoder.poll_message(), Err(StreamError::UnknownType(3)));
    }
}
