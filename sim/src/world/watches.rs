//! Watchers: when hubs work, and what their clients do.

use super::{Ending, Event, World};
use crate::check::Violation;
use crate::plan::MILLISECOND;
use crate::watching::client::StreamAt;
use crate::watching::shard::{Request, Told};

impl World {
    /// There is a newer View, or a client asked for something.
    pub(super) fn wake_watches(&mut self, no: usize) {
        for shard in 0..self.members[no].watch_shards.len() {
            self.wake_watch_shard(no, shard);
        }
    }

    fn wake_watch_shard(&mut self, no: usize, shard: usize) {
        let member = &mut self.members[no];
        let life = member.life;
        let Some(due) = member.watch_shards.get_mut(shard) else {
            return;
        };
        if !std::mem::replace(&mut due.is_due, true) {
            let at = self.now + member.rng.skewed(5, 20 * MILLISECOND);
            let event = Event::Watch {
                member: no,
                life,
                shard,
                is_timer: false,
            };
            self.schedule(at, event);
        }
    }

    /// A slice of a hub.
    pub(super) fn turn_watches(
        &mut self,
        no: usize,
        shard_no: usize,
        is_timer: bool,
    ) -> Result<(), Violation> {
        let now = self.now;
        let member = &mut self.members[no];
        let Some(shard) = member.watch_shards.get_mut(shard_no) else {
            return Ok(());
        };
        match is_timer {
            true => shard.timer = None,
            false => shard.is_due = false,
        }
        let more = shard.slice(now, &mut self.watch_counts)?;
        let timeout = shard.next_timeout();
        if let Some(at) = timeout.filter(|at| shard.timer.is_none_or(|set| *at < set)) {
            shard.timer = Some(at);
            let event = Event::Watch {
                member: no,
                life: member.life,
                shard: shard_no,
                is_timer: true,
            };
            self.schedule(at, event);
        }
        if more {
            self.wake_watch_shard(no, shard_no);
        }
        Ok(())
    }

    /// A client takes what it was told, and asks for something now and then.
    pub(super) fn step_watcher(&mut self, no: usize) -> Result<(), Violation> {
        let is_ending = self.ending != Ending::Running;
        let at = self.watchers[no].at;
        match at {
            Some(at) if self.is_alive(at.member, at.life) => self.listen(no, at, is_ending)?,
            Some(_) => self.watchers[no].on_lost(),
            None => self.open_stream(no),
        }
        let wait = self.watchers[no].rest(is_ending);
        self.schedule(self.now + wait, Event::Listen { client: no });
        Ok(())
    }

    fn open_stream(&mut self, no: usize) {
        let client = &mut self.watchers[no];
        let member_no = client.rng.below(self.plan.node_count as u64) as usize;
        let member = &mut self.members[member_no];
        if member.node.is_none() || member.watch_shards.is_empty() {
            return;
        }
        let shard_no = client.rng.below(member.watch_shards.len() as u64) as usize;
        let shard = &mut member.watch_shards[shard_no];
        let at = StreamAt {
            member: member_no,
            life: member.life,
            shard: shard_no,
            stream: shard.open(self.now),
        };
        for request in client.on_open(at, &mut self.watch_counts) {
            shard.request(at.stream, request);
        }
        self.tell(&format!("watcher {no} listens at {at:?}"));
        self.wake_watch_shard(member_no, shard_no);
    }

    fn listen(&mut self, no: usize, at: StreamAt, is_ending: bool) -> Result<(), Violation> {
        let client = &mut self.watchers[no];
        let appetite = client.appetite(self.now, is_ending);
        let shard = &mut self.members[at.member].watch_shards[at.shard];
        let taken = shard.take(at.stream, appetite);
        let has_taken = !taken.is_empty();
        for told in taken {
            self.hear(no, at, &told)?;
        }
        let client = &mut self.watchers[no];
        let request = match is_ending {
            true => None,
            false => client.next_request(&self.plan),
        };
        if let Some(request) = &request {
            let shard = &mut self.members[at.member].watch_shards[at.shard];
            shard.request(at.stream, request.clone());
            if matches!(request, Request::Close) {
                client.at = None;
            }
            self.tell(&format!("watcher {no} asks for {request:?}"));
        }
        if has_taken || request.is_some() {
            self.wake_watch_shard(at.member, at.shard);
        }
        Ok(())
    }

    fn hear(&mut self, no: usize, at: StreamAt, told: &Told) -> Result<(), Violation> {
        self.tell(&format!("watcher {no} is told {:?}", told.response));
        let client = &mut self.watchers[no];
        let published = &self.agreement.published;
        client
            .listener
            .on_told(told, published, &mut self.watch_counts)
            .map_err(|why| format!("{why}, by member {} to watcher {no}", at.member))
    }

    /// Every watcher was told everything.
    pub(super) fn are_watchers_settled(&self) -> bool {
        self.watchers.iter().all(|client| {
            client.at.is_some() && client.listener.is_up_to_date(&self.agreement.published)
        })
    }
}
