//! Messages that wait for one way to a member.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use driver::Notify;
use proto::raftpb;

/// Bytes that one way may hold back; raft sends again what is dropped.
const QUEUED_SIZE_BYTES_MAX: usize = 64 << 20;
/// What a message, and an entry in it, count for beside their data.
const OVERHEAD_BYTES: usize = 64;

/// A bounded queue with one reader, on this executor.
pub(super) struct Outbox {
    queue: RefCell<VecDeque<raftpb::Message>>,
    size_bytes: Cell<usize>,
    count_max: usize,
    wake: Notify,
    is_closed: Cell<bool>,
}

impl Outbox {
    pub(super) fn new(count_max: usize) -> Self {
        Outbox {
            queue: RefCell::default(),
            size_bytes: Cell::new(0),
            count_max,
            wake: Notify::new(),
            is_closed: Cell::new(false),
        }
    }

    /// False if there is no room, or nobody who reads: the message is dropped.
    pub(super) fn push(&self, message: raftpb::Message) -> bool {
        let size_bytes = self
            .size_bytes
            .get()
            .saturating_add(size_of_message(&message));
        let mut queue = self.queue.borrow_mut();
        if self.is_closed.get()
            || queue.len() >= self.count_max
            || size_bytes > QUEUED_SIZE_BYTES_MAX
        {
            return false;
        }
        self.size_bytes.set(size_bytes);
        queue.push_back(message);
        self.wake.notify();
        true
    }

    pub(super) fn pop(&self) -> Option<raftpb::Message> {
        let message = self.queue.borrow_mut().pop_front()?;
        let size_bytes = self.size_bytes.get() - size_of_message(&message);
        self.size_bytes.set(size_bytes);
        Some(message)
    }

    /// Waits for a message, or for the end. For one reader.
    pub(super) async fn filled(&self) {
        self.wake.notified().await;
    }

    /// Nothing is taken any more; what is queued is dropped.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.queue.borrow_mut().clear();
        self.size_bytes.set(0);
        self.wake.notify();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }
}

fn size_of_message(message: &raftpb::Message) -> usize {
    let data = |entry: &raftpb::Entry| entry.data.as_ref().map_or(0, bytes::Bytes::len);
    let entries: usize = message
        .entries
        .iter()
        .map(|e| data(e) + OVERHEAD_BYTES)
        .sum();
    entries + message.context.as_ref().map_or(0, bytes::Bytes::len) + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize) -> raftpb::Message {
        raftpb::Message {
            entries: vec![raftpb::Entry {
                data: Some(vec![0; len].into()),
                ..raftpb::Entry::default()
            }],
            ..raftpb::Message::default()
        }
    }

    #[test]
    fn what_waits_is_bounded_in_messages_and_bytes() {
        let outbox = Outbox::new(2);
        assert!(outbox.push(message(1)) && outbox.push(message(1)));
        assert!(!outbox.push(message(1)));
        assert!(outbox.pop().is_some() && outbox.pop().is_some() && outbox.pop().is_none());
        assert!(!outbox.push(message(QUEUED_SIZE_BYTES_MAX)));
        assert!(outbox.push(message(QUEUED_SIZE_BYTES_MAX - 1000)));
        assert!(!outbox.push(message(1000)));
        assert!(outbox.pop().is_some());
        assert!(outbox.push(message(1000)));
        outbox.close();
        assert!(outbox.pop().is_none() && !outbox.push(message(1)));
    }
}
