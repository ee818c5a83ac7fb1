//! Who watches which keys, on one lane.
//!
//! Watchers of one range are one *group*: a change is matched once for all of them, and what they are told is encoded
//! once for all that want it in the same form.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use super::StreamNo;
use super::slots::Slots;
use super::spans::Spans;
use crate::index::KeyRange;

/// Position of a group on its lane.
pub(super) type GroupNo = u32;

/// A watcher in its group. Those that want the same form stand together, as they get the same events, and in them those
/// of one stream, so that its connection is told all of them with few writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pub(super) form: u8,
    pub(super) stream: StreamNo,
    pub(super) watcher: u32,
}

impl Member {
    /// Behind all members of this one's form.
    pub(super) fn last_of_form(self) -> Self {
        Member {
            stream: StreamNo::MAX,
            watcher: u32::MAX,
            ..self
        }
    }
}

/// Most groups have one member, and there may be very many groups.
#[derive(Debug)]
enum Members {
    One(Member),
    Many(BTreeSet<Member>),
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) range: Arc<KeyRange>,
    members: Members,
    /// The events of the lane's batch that are of this range, ascending.
    pub(super) hits: Vec<u32>,
}

impl Group {
    /// The first member behind `after`.
    pub(super) fn member_after(&self, after: Option<Member>) -> Option<Member> {
        match &self.members {
            Members::One(member) => Some(*member).filter(|one| after.is_none_or(|a| *one > a)),
            Members::Many(members) => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                members.range((from, Bound::Unbounded)).next().copied()
            }
        }
    }

    pub(super) fn member_count(&self) -> usize {
        match &self.members {
            Members::One(_) => 1,
            Members::Many(members) => members.len(),
        }
    }

    fn add(&mut self, member: Member) {
        match &mut self.members {
            Members::One(one) => self.members = Members::Many(BTreeSet::from([*one, member])),
            Members::Many(members) => {
                members.insert(member);
            }
        }
    }

    /// True if nobody is left.
    fn remove(&mut self, member: Member) -> bool {
        match &mut self.members {
            Members::One(one) => *one == member,
            Members::Many(members) => {
                members.remove(&member);
                members.is_empty()
            }
        }
    }
}

/// The range of a group that is a single key, to be found by that key: so a group has its key in one place only.
#[derive(Debug)]
struct Point(Arc<KeyRange>);

impl Point {
    fn key(&self) -> &[u8] {
        match &*self.0 {
            KeyRange::Point(key) => key,
            KeyRange::Span { start, .. } => start,
        }
    }
}

impl PartialEq for Point {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Point {}

/// As the key by itself, which it borrows as.
impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Borrow<[u8]> for Point {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

/// The groups of a lane and the ways to find them: a table for single keys, a tree for ranges.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Looked up only, never walked: nothing depends on its order.
    points: HashMap<Point, GroupNo>,
    spans: Spans,
    slots: Slots<Group>,
    member_count: usize,
}

impl Groups {
    pub(super) fn len(&self) -> usize {
        self.member_count
    }

    /// Any group, for emptying the lane.
    pub(super) fn any(&mut self) -> Option<(GroupNo, Member)> {
        let no = self.slots.first()?;
        Some((no, self.slots.get(no)?.member_after(None)?))
    }

    pub(super) fn get(&self, no: GroupNo) -> Option<&Group> {
        self.slots.get(no)
    }

    pub(super) fn get_mut(&mut self, no: GroupNo) -> Option<&mut Group> {
        self.slots.get_mut(no)
    }

    pub(super) fn add(&mut self, range: &Arc<KeyRange>, member: Member) -> GroupNo {
        self.member_count += 1;
        let known = match &**range {
            KeyRange::Point(key) => self.points.get(key.as_ref()).copied(),
            KeyRange::Span { start, end } => self.spans.get(start, end),
        };
        if let Some(no) = known {
            if let Some(group) = self.slots.get_mut(no) {
                group.add(member);
            }
            return no;
        }
        let no = self.slots.insert(Group {
            range: Arc::clone(range),
            members: Members::One(member),
            hits: Vec::new(),
        });
        match &**range {
            KeyRange::Point(_) => {
                self.points.insert(Point(Arc::clone(range)), no);
            }
            KeyRange::Span { start, end } => self.spans.insert(start.clone(), end.clone(), no),
        }
        no
    }

    pub(super) fn remove(&mut self, no: GroupNo, member: Member) {
        let Some(group) = self.slots.get_mut(no) else {
            return;
        };
        self.member_count -= 1;
        if !group.remove(member) {
            return;
        }
        if let Some(group) = self.slots.remove(no) {
            match &*group.range {
                KeyRange::Point(key) => {
                    self.points.remove(key.as_ref());
                    if self.points.is_empty() {
                        self.points = HashMap::default();
                    }
                }
                KeyRange::Span { start, end } => self.spans.remove(start, end),
            }
        }
    }

    /// Notes that event `event` is of `key`. Groups that have their first hit are added to `touched`. Returns how many
    /// groups were found.
    pub(super) fn hit(&mut self, key: &[u8], event: u32, touched: &mut Vec<GroupNo>) -> usize {
        let mut count = 0;
        let slots = &mut self.slots;
        let mut found = |no: GroupNo| {
            if let Some(group) = slots.get_mut(no) {
                if group.hits.is_empty() {
                    touched.push(no);
                }
                group.hits.push(event);
                count += 1;
            }
        };
        if let Some(no) = self.points.get(key) {
            found(*no);
        }
        self.spans.stab(key, &mut found);
        count
    }
}
