//! Watchers that read the history together.
//!
//! A lane reads a *batch* of changes in slices, matches them against its groups, then tells its members, again in
//! slices, and has *done* the batch's revisions when all were told.
//!
//! ```text
//!   done    Gathering: changes are matched          Fanning: members are told
//!    |---------------> at                            |------------------------> last
//! ```
//!
//! A batch is of whole revisions, and of one alone if that is large. It ends when it is large enough or at the newest
//! revision. A watcher can join where the lane has not been yet.

use std::sync::Arc;

use proto::etcdserverpb::ResponseHeader;

use super::body::{Body, BodyBuild, Event, Meter, ResponseBytes};
use super::group::{GroupNo, Groups, Member};
use super::watcher::Form;
use crate::mvcc::{RequestError, key_in};
use crate::types::{Budget, Revision};
use crate::view::PinnedView;

/// Position of a lane in the hub.
pub(super) type LaneNo = u32;

/// A batch with so many events ends at the next revision.
const EVENTS_MAX: usize = 256;
/// The same for the bytes of its pairs.
const EVENTS_LEN_MAX: usize = 256 * 1024;
/// Ids for which a response is kept while a body is told: of some kilobytes each at most, as long ones share their parts.
const SHARED_IDS_MAX: usize = 1024;
/// Revisions of one batch; no more go into one response, as in etcd.
const REVISIONS_MAX: i64 = 1000;

#[derive(Debug)]
pub(super) struct Lane {
    /// All members have been told all changes up to this revision.
    pub(super) done: i64,
    /// It goes with the store; the others catch up with it.
    is_frontier: bool,
    /// Of the hub.
    meter: Meter,
    pub(super) groups: Groups,
    pub(super) batch: Option<Batch>,
    /// Its members are moved elsewhere; nobody may join.
    pub(super) is_leaving: bool,
}

#[derive(Debug)]
pub(super) struct Batch {
    events: Vec<Event>,
    events_len: usize,
    /// Groups with hits.
    touched: Vec<GroupNo>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The next change to look at stands here or behind.
    Gathering { at: Revision },
    /// The members are told all up to `last`.
    Fanning(Box<Fan>),
}

/// Where telling the members has got to.
#[derive(Debug)]
pub(super) struct Fan {
    pub(super) last: i64,
    /// With the newest revision then.
    header: ResponseHeader,
    /// Of the touched groups.
    group_index: usize,
    /// The member of that group that was told last.
    after: Option<Member>,
    /// With the position of the next hit.
    build: Option<(BodyBuild, usize)>,
    /// What those of a form are told; `None`: not built yet.
    pub(super) body: Option<(Form, Arc<Body>)>,
    /// What those with small ids were told, by id: streams number their watchers alike, and the bytes are the same.
    shared: Vec<Option<(ResponseBytes, usize)>>,
}

/// What a slice of gathering came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    /// The budget is spent.
    More,
    Whole,
    /// What stands next is compacted, and nothing is left to be told before.
    Compacted,
}

impl Lane {
    pub(super) fn new(done: i64, is_frontier: bool, meter: &Meter) -> Self {
        Lane {
            done,
            is_frontier,
            meter: meter.clone(),
            groups: Groups::default(),
            batch: None,
            is_leaving: false,
        }
    }

    /// From which revision on a watcher misses nothing and hears nothing twice if it joins now.
    pub(super) fn joinable_from(&self) -> Option<i64> {
        if self.is_leaving {
            return None;
        }
        Some(match &self.batch {
            None => self.done + 1,
            Some(batch) => match &batch.stage {
                Stage::Gathering { at } => at.main + i64::from(at.sub > 0),
                Stage::Fanning(fan) => fan.last + 1,
            },
        })
    }

    /// Begins or goes on with a batch.
    ///
    /// # Errors
    /// [`RequestError::Damaged`].
    pub(super) fn gather(
        &mut self,
        view: &PinnedView<'_>,
        header: ResponseHeader,
        budget: &mut Budget,
    ) -> Result<Gathered, RequestError> {
        let first = self.done + 1;
        let batch = self.batch.get_or_insert_with(|| Batch::at(first));
        let Stage::Gathering { at } = batch.stage else {
            return Ok(Gathered::Whole);
        };
        if !view.has_changes_from(at.main) {
            batch.cut(at.main, &mut self.groups);
            if at.main > first {
                batch.end(at.main - 1, header);
                return Ok(Gathered::Whole);
            }
            self.batch = None;
            return Ok(Gathered::Compacted);
        }
        let mut latest = at.main;
        for change in view.changes_after(at) {
            let change = change?;
            let revision = change.revision;
            if revision.main > latest {
                // All of `latest` is here.
                if batch.is_large() || revision.main - first >= REVISIONS_MAX {
                    batch.end(revision.main - 1, header);
                    return Ok(Gathered::Whole);
                }
                latest = revision.main;
            } else if batch.is_large() && batch.begins_before(latest) {
                // This revision is, or may be, large: it gets a batch of its own.
                batch.cut(latest, &mut self.groups);
                batch.end(latest - 1, header);
                return Ok(Gathered::Whole);
            }
            if budget.is_spent() {
                batch.stage = Stage::Gathering { at: revision };
                return Ok(Gathered::More);
            }
            let no = batch.events.len() as u32;
            let key = key_in(&change.pair).unwrap_or_default();
            let count = self.groups.hit(key, no, &mut batch.touched);
            budget.spend(1 + count);
            if count > 0 {
                let event = Event::new(
                    revision.main,
                    change.tombstone,
                    &change.pair,
                    change.pair.shared(),
                );
                batch.events_len += event.len();
                batch.events.push(event);
            }
        }
        batch.end(view.revision(), header);
        Ok(Gathered::Whole)
    }

    /// Gets the next body ready, unless there is one or the budget is spent.
    ///
    /// # Errors
    /// [`RequestError::Damaged`].
    pub(super) fn build(
        &mut self,
        view: &PinnedView<'_>,
        fragment_len: usize,
        budget: &mut Budget,
    ) -> Result<(), RequestError> {
        let (is_frontier, meter) = (self.is_frontier, &self.meter);
        while let Some(batch) = &mut self.batch
            && let Stage::Fanning(fan) = &mut batch.stage
            && fan.body.is_none()
            && !budget.is_spent()
        {
            budget.spend(1);
            let Some(&group_no) = batch.touched.get(fan.group_index) else {
                self.done = fan.last;
                self.batch = None;
                return Ok(());
            };
            let group = self.groups.get_mut(group_no);
            let next = group.as_ref().and_then(|g| g.member_after(fan.after));
            let (Some(group), Some(member)) = (group, next) else {
                // All of them were told, or have left.
                if let Some(group) = self.groups.get_mut(group_no) {
                    group.hits = Vec::new();
                }
                fan.group_index += 1;
                (fan.after, fan.build) = (None, None);
                continue;
            };
            let form = Form(member.form);
            let begun = fan.build.take().filter(|(build, _)| build.form() == form);
            let (mut build, mut position) =
                begun.unwrap_or_else(|| (BodyBuild::new(form, fragment_len, meter), 0));
            while let Some(&hit) = group.hits.get(position) {
                if budget.is_spent() {
                    fan.build = Some((build, position));
                    return Ok(());
                }
                budget.spend(1);
                if let Some(event) = batch.events.get_mut(hit as usize) {
                    if form.prev_kv() {
                        event.find_prev_kv(view)?;
                        budget.spend(1);
                    }
                    build.push(event);
                }
                position += 1;
            }
            let body = build.finish(&fan.header, is_frontier);
            fan.shared.clear();
            match body.is_empty() {
                // Nobody of this form wants any of it.
                true => fan.after = Some(member.last_of_form()),
                false => fan.body = Some((form, Arc::new(body))),
            }
        }
        Ok(())
    }

    /// The next member to be told of the body that is ready, and its group. `None` ends that body.
    pub(super) fn next_member(&mut self) -> Option<(GroupNo, Member)> {
        let batch = self.batch.as_mut()?;
        let Stage::Fanning(fan) = &mut batch.stage else {
            return None;
        };
        let (form, _) = fan.body.as_ref()?;
        let group_no = *batch.touched.get(fan.group_index)?;
        let group = self.groups.get(group_no);
        let next = group.and_then(|group| group.member_after(fan.after));
        let next = next.filter(|member| Form(member.form) == *form);
        match next {
            Some(member) => fan.after = Some(member),
            None => fan.body = None,
        }
        next.map(|member| (group_no, member))
    }

    /// What a member is told that has joined for `next` and later only; all that it needs was looked for before.
    pub(super) fn body_from(&self, group_no: GroupNo, next: i64, fragment_len: usize) -> Body {
        let (form, header) = match self.fan() {
            Some(fan) => (fan.body.as_ref().map(|(form, _)| *form), fan.header),
            None => (None, ResponseHeader::default()),
        };
        let mut build = BodyBuild::new(form.unwrap_or(Form(0)), fragment_len, &self.meter);
        let events = self.batch.as_ref().map_or(&[][..], |batch| &batch.events);
        let hits = self.groups.get(group_no).map_or(&[][..], |g| &g.hits);
        for hit in hits {
            let event = events.get(*hit as usize);
            if let Some(event) = event.filter(|event| event.revision >= next) {
                build.push(event);
            }
        }
        build.finish(&header, self.is_frontier)
    }

    /// The revision of the first event that a group is told of.
    pub(super) fn first_hit(&self, group_no: GroupNo) -> Option<i64> {
        let hit = *self.groups.get(group_no)?.hits.first()?;
        let event = self.batch.as_ref()?.events.get(hit as usize)?;
        Some(event.revision)
    }

    pub(super) fn fan(&self) -> Option<&Fan> {
        match &self.batch.as_ref()?.stage {
            Stage::Fanning(fan) => Some(fan),
            Stage::Gathering { .. } => None,
        }
    }

    pub(super) fn fan_mut(&mut self) -> Option<&mut Fan> {
        match &mut self.batch.as_mut()?.stage {
            Stage::Fanning(fan) => Some(fan),
            Stage::Gathering { .. } => None,
        }
    }
}

impl Fan {
    /// The first part of the body that is ready, for a watcher with this id, and its count of events.
    ///
    /// Ids below `member_count` are shared: so the table takes no more than what it is for.
    pub(super) fn response(
        &mut self,
        id: i64,
        member_count: usize,
    ) -> Option<(ResponseBytes, usize)> {
        let (_, body) = self.body.as_ref()?;
        let slot = usize::try_from(id).ok();
        let Some(slot) = slot.filter(|slot| *slot < member_count.min(SHARED_IDS_MAX)) else {
            return body.response(id, 0);
        };
        if self.shared.len() <= slot {
            self.shared.resize(slot + 1, None);
        }
        let shared = &mut self.shared[slot];
        if shared.is_none() {
            *shared = body.response(id, 0);
        }
        shared.clone()
    }
}

impl Batch {
    fn at(first: i64) -> Self {
        Batch {
            events: Vec::new(),
            events_len: 0,
            touched: Vec::new(),
            stage: Stage::Gathering {
                at: Revision::new(first, 0),
            },
        }
    }

    fn is_large(&self) -> bool {
        self.events.len() >= EVENTS_MAX || self.events_len >= EVENTS_LEN_MAX
    }

    fn begins_before(&self, revision: i64) -> bool {
        self.events
            .first()
            .is_some_and(|event| event.revision < revision)
    }

    /// Forgets the changes of `revision`, which are not all here.
    fn cut(&mut self, revision: i64, groups: &mut Groups) {
        let kept = self.events.partition_point(|e| e.revision < revision);
        self.events.truncate(kept);
        for no in &self.touched {
            if let Some(group) = groups.get_mut(*no) {
                let kept = group.hits.partition_point(|hit| (*hit as usize) < kept);
                group.hits.truncate(kept);
            }
        }
    }

    /// All up to `last` is here: the members can be told.
    fn end(&mut self, last: i64, header: ResponseHeader) {
        self.stage = Stage::Fanning(Box::new(Fan {
            last,
            header,
            group_index: 0,
            after: None,
            build: None,
            body: None,
            shared: Vec::new(),
        }));
    }
}
