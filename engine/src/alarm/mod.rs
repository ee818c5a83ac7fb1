//! Alarms: facts about members that make every member refuse some requests until they are disarmed.
//!
//! Replicated: they change only when an `Alarm` entry is applied, and are stored in bucket `alarm`. NOSPACE caps puts
//! and lease grants, CORRUPT stops nearly everything; [`crate::state`] decides which requests. The set is small (types
//! times members), so all of it is read at once.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse, AlarmType};

use crate::tail::{Bucket, Mutation, Tail};

/// The alarms that are up. Ordered by type, then member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// (type number, member). Numbers of types that a newer member may know are kept as they came.
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// True if any member has raised `alarm`.
    pub fn is_raised(&self, alarm: AlarmType) -> bool {
        self.of(alarm as i32).next().is_some()
    }

    /// All alarms of one type; all there are for `NONE`.
    pub fn list(&self, alarm: i32) -> Vec<AlarmMember> {
        let member = |&(alarm, member_id): &(i32, u64)| AlarmMember { member_id, alarm };
        match alarm == AlarmType::None as i32 {
            true => self.raised.iter().map(member).collect(),
            false => self.of(alarm).map(member).collect(),
        }
    }

    fn of(&self, alarm: i32) -> impl Iterator<Item = &(i32, u64)> {
        self.raised.range((alarm, 0)..=(alarm, u64::MAX))
    }

    /// An alarm as the store has it.
    pub(crate) fn restore(&mut self, alarm: &AlarmMember) {
        self.raised.insert((alarm.alarm, alarm.member_id));
    }

    /// Applies an `Alarm` entry. An unknown action answers an empty list.
    pub(crate) fn apply(&mut self, request: &AlarmRequest, tail: &mut Tail) -> AlarmResponse {
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.list(request.alarm),
            Ok(AlarmAction::Activate) => self.activate(request, tail).into_iter().collect(),
            Ok(AlarmAction::Deactivate) => self.deactivate(request, tail).into_iter().collect(),
            Err(_) => Vec::new(),
        };
        AlarmResponse {
            header: None,
            alarms,
        }
    }

    /// Raising an alarm that is up answers it again, and `NONE` cannot be raised.
    fn activate(&mut self, request: &AlarmRequest, tail: &mut Tail) -> Option<AlarmMember> {
        let member = named(request)?;
        if self.raised.insert((member.alarm, member.member_id)) {
            let key = Bytes::from(member.encode_to_vec());
            tail.push(Mutation::put(Bucket::Alarm, key, Bytes::new()));
        }
        Some(member)
    }

    fn deactivate(&mut self, request: &AlarmRequest, tail: &mut Tail) -> Option<AlarmMember> {
        let member = named(request)?;
        if !self.raised.remove(&(member.alarm, member.member_id)) {
            return None;
        }
        let key = Bytes::from(member.encode_to_vec());
        tail.push(Mutation::delete(Bucket::Alarm, key));
        Some(member)
    }
}

fn named(request: &AlarmRequest) -> Option<AlarmMember> {
    let AlarmRequest {
        member_id, alarm, ..
    } = *request;
    (alarm != AlarmType::None as i32).then_some(AlarmMember { member_id, alarm })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: AlarmAction, member_id: u64, alarm: AlarmType) -> AlarmRequest {
        AlarmRequest {
            action: action as i32,
            member_id,
            alarm: alarm as i32,
        }
    }

    #[test]
    fn activate_answers_the_alarm_each_time_but_stores_it_once() {
        let (mut alarms, mut tail) = (Alarms::default(), Tail::new());
        let up = request(AlarmAction::Activate, 5, AlarmType::Nospace);
        for _ in 0..2 {
            let answer = alarms.apply(&up, &mut tail);
            assert_eq!(
                answer.alarms,
                [AlarmMember {
                    member_id: 5,
                    alarm: 1
                }]
            );
        }
        assert_eq!(tail.end().0, 1);
        assert!(alarms.is_raised(AlarmType::Nospace) && !alarms.is_raised(AlarmType::Corrupt));
    }

    #[test]
    fn get_lists_one_type_or_all() {
        let (mut alarms, mut tail) = (Alarms::default(), Tail::new());
        alarms.apply(
            &request(AlarmAction::Activate, 5, AlarmType::Nospace),
            &mut tail,
        );
        alarms.apply(
            &request(AlarmAction::Activate, u64::MAX, AlarmType::Corrupt),
            &mut tail,
        );
        let get = |alarms: &mut Alarms, tail: &mut Tail, alarm| {
            alarms
                .apply(&request(AlarmAction::Get, 0, alarm), tail)
                .alarms
                .len()
        };
        assert_eq!(get(&mut alarms, &mut tail, AlarmType::None), 2);
        assert_eq!(get(&mut alarms, &mut tail, AlarmType::Corrupt), 1);
    }

    #[test]
    fn disarming_what_is_not_up_answers_nothing() {
        let (mut alarms, mut tail) = (Alarms::default(), Tail::new());
        let down = request(AlarmAction::Deactivate, 5, AlarmType::Nospace);
        assert!(alarms.apply(&down, &mut tail).alarms.is_empty());
        alarms.apply(
            &request(AlarmAction::Activate, 5, AlarmType::Nospace),
            &mut tail,
        );
        assert_eq!(alarms.apply(&down, &mut tail).alarms.len(), 1);
        assert!(!alarms.is_raised(AlarmType::Nospace));
        assert_eq!(tail.end().0, 2);
    }

    #[test]
    fn none_and_unknown_actions_change_nothing() {
        let (mut alarms, mut tail) = (Alarms::default(), Tail::new());
        for action in [1, 2, 77] {
            let odd = AlarmRequest {
                action,
                member_id: 1,
                alarm: 0,
            };
            assert!(alarms.apply(&odd, &mut tail).alarms.is_empty());
        }
        assert_eq!((tail.end().0, alarms), (0, Alarms::default()));
    }
}
