//! What lies between members: ordered streams that drop, delay and part.
//!
//! As in etcd's peer transport each pair has two streams a way: one for appends, one for everything else. Within a
//! stream nothing overtakes and nothing comes twice; a message may be lost (a full queue, a connection that broke), and
//! the streams overtake each other. A member that crashes takes what was under way to and from it along.

use std::collections::{BTreeMap, BTreeSet};

use proto::raftpb::{Message, MessageType};

use crate::plan::Time;
use crate::random::Rng;

/// One stream: sender, receiver, and whether it carries appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    pub from: usize,
    pub to: usize,
    pub is_append: bool,
}

/// A message's ticket: where it goes, when, and on which connection of the stream.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    pub stream: Stream,
    pub at: Time,
    connection: u64,
}

#[derive(Debug, Default)]
struct Line {
    /// Counts reconnects: what was sent on a former connection is lost.
    connection: u64,
    last_at: Time,
}

/// The network's state; the messages themselves wait in the world's event queue.
#[derive(Debug)]
pub struct Network {
    rng: Rng,
    lines: BTreeMap<Stream, Line>,
    /// Ways `(from, to)` that carry nothing.
    blocked: BTreeSet<(usize, usize)>,
    pub loss_per_mille: u64,
    pub delay_max: Time,
}

impl Network {
    pub fn new(rng: Rng) -> Self {
        Network {
            rng,
            lines: BTreeMap::new(),
            blocked: BTreeSet::new(),
            loss_per_mille: 0,
            delay_max: 3_000,
        }
    }

    /// Takes a message; `None` if it is lost at once.
    pub fn send(
        &mut self,
        from: usize,
        to: usize,
        message: &Message,
        now: Time,
    ) -> Option<Passage> {
        let is_append = message.r#type == Some(MessageType::MsgApp as i32);
        let stream = Stream {
            from,
            to,
            is_append,
        };
        let delay = self.rng.skewed(100, self.delay_max);
        let is_lost = self.rng.per_mille(self.loss_per_mille);
        if is_lost || self.blocked.contains(&(from, to)) {
            return None;
        }
        let line = self.lines.entry(stream).or_default();
        line.last_at = line.last_at.max(now + delay);
        Some(Passage {
            stream,
            at: line.last_at,
            connection: line.connection,
        })
    }

    /// Whether a message still arrives, now that its time has come.
    pub fn arrives(&self, passage: &Passage) -> bool {
        let Stream { from, to, .. } = passage.stream;
        let connection = self.lines.get(&passage.stream).map(|line| line.connection);
        connection == Some(passage.connection) && !self.blocked.contains(&(from, to))
    }

    /// All connections of a member break: what is under way is lost.
    pub fn reconnect(&mut self, member: usize) {
        for (stream, line) in &mut self.lines {
            if stream.from == member || stream.to == member {
                line.connection += 1;
            }
        }
    }

    pub fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    pub fn unblock(&mut self, from: usize, to: usize) {
        self.blocked.remove(&(from, to));
    }

    /// Everything flows again.
    pub fn heal(&mut self) {
        self.blocked.clear();
        self.loss_per_mille = 0;
        self.delay_max = 3_000;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: MessageType) -> Message {
        Message {
            r#type: Some(kind as i32),
            ..Message::default()
        }
    }

    #[test]
    fn a_stream_keeps_its_order_and_two_do_not() {
        let mut network = Network::new(Rng::new(3, 0));
        let mut at = |kind, now| {
            let passage = network.send(0, 1, &message(kind), now);
            passage.expect("no loss").at
        };
        let mut last = 0;
        let mut overtakes = 0;
        for now in 0..500 {
            let append = at(MessageType::MsgApp, now);
            assert!(append >= last);
            last = append;
            overtakes += u32::from(at(MessageType::MsgHeartbeat, now) < append);
        }
        assert!(overtakes > 0);
    }

    #[test]
    fn a_broken_or_blocked_way_loses_what_is_under_way() {
        let mut network = Network::new(Rng::new(3, 0));
        let beat = message(MessageType::MsgHeartbeat);
        let first = network.send(0, 1, &beat, 0).expect("no loss");
        let other = network.send(0, 2, &beat, 0).expect("no loss");
        network.reconnect(1);
        assert!(!network.arrives(&first) && network.arrives(&other));
        network.block(0, 2);
        assert!(!network.arrives(&other));
        assert!(network.send(0, 2, &beat, 0).is_none());
        network.heal();
        assert!(network.arrives(&other));
    }
}
