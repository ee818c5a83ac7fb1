//! Random messages, and ways to cut a stream.

use proptest::prelude::*;
use proto::raftpb;

pub(super) const LOCAL: u64 = 7;
pub(super) const REMOTE: u64 = 9;

/// Cuts `octets` into parts of these lengths, over and over.
pub(super) fn cut<'a>(octets: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = octets;
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let len = rest.len().min(*lengths.next()?);
        let (part, more) = rest.split_at(len);
        rest = more;
        (!part.is_empty()).then_some(part)
    })
}

fn entry() -> impl Strategy<Value = raftpb::Entry> {
    (0..4_u64, 0..4_u64, any::<Option<[u8; 3]>>()).prop_map(|(term, index, data)| raftpb::Entry {
        r#type: Some(0),
        term: Some(term),
        index: Some(index),
        data: data.map(|data| bytes::Bytes::copy_from_slice(&data)),
    })
}

/// Any message, sensible or not.
pub(super) fn message() -> impl Strategy<Value = raftpb::Message> {
    (
        any::<[Option<u64>; 7]>(),
        0..20_i32,
        proptest::collection::vec(entry(), 0..4),
        any::<Option<bool>>(),
    )
        .prop_map(|(numbers, kind, entries, reject)| raftpb::Message {
            r#type: Some(kind),
            to: numbers[0],
            from: numbers[1],
            term: numbers[2],
            log_term: numbers[3],
            index: numbers[4],
            commit: numbers[5],
            reject_hint: numbers[6],
            entries,
            reject,
            ..raftpb::Message::default()
        })
}

/// One thing that a leader does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Sends that many new entries.
    Append(u64),
    /// Goes back by so many entries and sends from there.
    Again(u64),
    /// Another term begins, with nothing new yet.
    Elect,
}

/// The appends of leaders to a follower, with entries numbered as raft does.
pub(super) fn appends() -> impl Strategy<Value = Vec<raftpb::Message>> {
    let act = prop_oneof![
        4 => (0..3_u64).prop_map(Act::Append),
        1 => (0..3_u64).prop_map(Act::Again),
        1 => Just(Act::Elect),
    ];
    proptest::collection::vec(act, 0..30).prop_map(|acts| {
        // The term of each entry; the one before the first is 0.
        let mut log = vec![0_u64];
        let (mut term, mut next) = (1, 1_usize);
        let mut messages = Vec::new();
        for act in acts {
            match act {
                Act::Append(count) => log.extend(std::iter::repeat_n(term, count as usize)),
                Act::Again(back) => next = next.saturating_sub(back as usize).max(1),
                Act::Elect => term += 1,
            }
            messages.push(append(&log, term, next));
            next = log.len();
        }
        messages
    })
}

fn append(log: &[u64], term: u64, next: usize) -> raftpb::Message {
    let entries = (next..log.len()).map(|index| raftpb::Entry {
        r#type: Some(0),
        term: Some(log[index]),
        index: Some(index as u64),
        data: Some(index.to_string().into()),
    });
    raftpb::Message {
        r#type: Some(raftpb::MessageType::MsgApp as i32),
        to: Some(LOCAL),
        from: Some(REMOTE),
        term: Some(term),
        log_term: Some(log[next - 1]),
        index: Some(next as u64 - 1),
        commit: Some(next as u64 - 1),
        entries: entries.collect(),
        ..raftpb::Message::default()
    }
}
