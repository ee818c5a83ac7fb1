//! The streams between members: what is read is written so that it reads the same, however it was cut.
//!
//! ```text
//!  input = kind (0 message stream, 1 append stream), lengths of the parts, then the stream's octets
//! ```

use engine::peer::{
    AppendDecoder, AppendEncoder, MessageDecoder, StreamError, encode_message, is_append,
    is_link_heartbeat,
};
use proto::raftpb::Message;

use crate::input::Input;

const LOCAL: u64 = 1;
const REMOTE: u64 = 2;
/// Small enough for inputs to reach it.
const MESSAGE_SIZE_BYTES_MAX: usize = 2048;

/// What one stream gave, and why it ended.
type Read = (Vec<Message>, Option<StreamError>);

pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    let (kind, part_len) = (input.byte() % 2, usize::from(input.byte()) + 1);
    let stream = input.rest();
    let read = match kind {
        0 => read_messages,
        _ => read_appends,
    };
    let whole = read(stream, stream.len().max(1));
    assert_eq!(read(stream, part_len), whole, "parts of {part_len}");
    match kind {
        0 => check_messages(&whole.0),
        _ => check_appends(&whole.0),
    }
}

fn read_messages(stream: &[u8], part_len: usize) -> Read {
    let mut decoder = MessageDecoder::new(MESSAGE_SIZE_BYTES_MAX);
    let mut read = Vec::new();
    for part in stream.chunks(part_len) {
        decoder.on_bytes(part);
        loop {
            match decoder.poll_message() {
                Ok(Some(message)) => {
                    assert!(!is_link_heartbeat(&message));
                    read.push(message);
                }
                Ok(None) => break,
                Err(error) => return (read, Some(error)),
            }
        }
    }
    (read, None)
}

fn read_appends(stream: &[u8], part_len: usize) -> Read {
    let mut decoder = AppendDecoder::new(LOCAL, REMOTE, MESSAGE_SIZE_BYTES_MAX);
    let mut read = Vec::new();
    for part in stream.chunks(part_len) {
        decoder.on_bytes(part);
        loop {
            match decoder.poll_message() {
                Ok(Some(message)) => read.push(message),
                Ok(None) => break,
                Err(error) => return (read, Some(error)),
            }
        }
    }
    (read, None)
}

fn check_messages(messages: &[Message]) {
    let mut octets = Vec::new();
    for message in messages {
        encode_message(message, &mut octets);
    }
    let mut decoder = MessageDecoder::new(usize::MAX);
    decoder.on_bytes(&octets);
    let again = drain(|| decoder.poll_message());
    assert_eq!(again, messages);
}

/// The short form carries what an append of a raft leader has and nothing else, so that is what is written.
fn check_appends(messages: &[Message]) {
    let appends: Vec<Message> = messages
        .iter()
        .filter(|m| is_append(m))
        .map(plain)
        .collect();
    let mut encoder = AppendEncoder::default();
    let mut octets = Vec::new();
    for append in &appends {
        encoder.encode(append, &mut octets);
    }
    let mut decoder = AppendDecoder::new(LOCAL, REMOTE, usize::MAX);
    decoder.on_bytes(&octets);
    let again = drain(|| decoder.poll_message());
    assert_eq!(again, appends);
}

fn plain(message: &Message) -> Message {
    Message {
        r#type: message.r#type,
        to: Some(LOCAL),
        from: Some(REMOTE),
        term: Some(message.term()),
        log_term: Some(message.log_term()),
        index: Some(message.index()),
        commit: Some(message.commit()),
        entries: message.entries.clone(),
        ..Message::default()
    }
}

fn drain(mut take: impl FnMut() -> Result<Option<Message>, StreamError>) -> Vec<Message> {
    std::iter::from_fn(|| take().expect("what we write we read")).collect()
}
