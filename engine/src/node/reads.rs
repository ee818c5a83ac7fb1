//! Linearizable reads that need a round through raft.
//!
//! A read asked for at some instant may go once apply has reached the index that was committed at that instant.

use super::{Node, NodeEvent, PendingRead};

impl Node {
    /// Raft learned the index for the round with this context: an id, 8 bytes big-endian, given out after those of all
    /// reads that the round serves.
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
    ///
    /// Each round has an id of its own. Raft ends a round at the first quorum of acknowledgements of its id, and all
    /// rounds asked of that leader before it: late ones of a former round must not end a later one.
    pub(super) fn retry_reads(&mut self) {
        if self.reads.iter().any(|read| read.index.is_none()) {
            let round = self.ids.next_id();
            self.consensus.read_index(round.to_be_bytes().to_vec());
        }
    }
}
