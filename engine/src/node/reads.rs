//! Linearizable reads that need a round through raft.
//!
//! A read asked for at some instant may go once apply has reached the index that was committed at that instant.

use super::{Node, NodeEvent, PendingRead};

impl Node {
    /// Raft learned the index for the round with this context (the read's id, 8 bytes big-endian).
    pub(super) fn on_read_state(&mut self, context: &[u8], index: u64) {
        let Ok(bytes) = <[u8; 8]>::try_from(context) else {
            return;
        };
        let id = u64::from_be_bytes(bytes);
        // A round proves the leadership at its start, so it serves every read that was asked before it.
        for read in self.reads.iter_mut().filter(|read| read.id <= id) {
            read.index.get_or_insert(index);
        }
    }

    /// Tells the reads whose index was reached, oldest first.
    pub(super) fn answer_reads(&mut self) {
        while let Some(PendingRead {
            id,
            index: Some(index),
        }) = self.reads.front()
        {
            if *index > self.applied_index {
                break;
            }
            self.events.push_back(NodeEvent::ReadReady { id: *id });
            self.reads.pop_front();
        }
    }

    /// Asks again for the reads that raft dropped, as it does before its leader has committed in its term.
    pub(super) fn retry_reads(&mut self) {
        if let Some(newest) = self.reads.iter().rev().find(|read| read.index.is_none()) {
            self.consensus.read_index(newest.id.to_be_bytes().to_vec());
        }
    }
}
