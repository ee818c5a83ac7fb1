//! A NOSPACE alarm that ends by itself, with `--auto-disarm-space-alarm`.
//!
//! Writes are refused while the file is larger than the quota, alarm or not. So the alarm is disarmed only when the file
//! has become smaller by a margin, or else the next write would raise it again; and only if less of it is in use than when
//! the alarm came, that is, if somebody has compacted and defragmented. An alarm that came while there was space is an
//! operator's, and stays.

use std::cell::Cell;
use std::rc::Rc;

use engine::mvcc::RequestError;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{AlarmRequest, AlarmType, InternalRaftRequest};

use super::{LogShard, Waiter};
use crate::errors::FrontError;

/// This part of the quota must be free.
const MARGIN_DIVISOR: u64 = 10;

/// What is known of this member's alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Alarm {
    #[default]
    Down,
    /// It is not for want of space.
    Foreign,
    /// The backend was full, with so much of it in use.
    Full { in_use: u64 },
    /// The request to disarm it is under way.
    Asked,
}

/// Bytes of the backend.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    file: u64,
    in_use: u64,
    quota: u64,
}

impl Sizes {
    fn has_margin(self) -> bool {
        self.file <= self.quota - self.quota / MARGIN_DIVISOR
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SpaceAlarm(Cell<Alarm>);

impl SpaceAlarm {
    fn on_alarm(&self, is_up: bool, sizes: Sizes) {
        self.0.set(match (is_up, self.0.get()) {
            (false, _) => Alarm::Down,
            (true, Alarm::Down) if sizes.has_margin() => Alarm::Foreign,
            (true, Alarm::Down) => Alarm::Full {
                in_use: sizes.in_use,
            },
            (true, known) => known,
        });
    }

    fn is_over(&self, sizes: Sizes) -> bool {
        matches!(self.0.get(), Alarm::Full { in_use } if sizes.in_use < in_use)
            && sizes.has_margin()
    }
}

impl LogShard {
    /// Alarms have changed, or are looked at for the first time.
    pub(super) fn note_space_alarm(&self) {
        let Some(sizes) = self.sizes() else { return };
        let is_up = self.with_node(|node| {
            let own = node.options().member_id;
            let up = node.view().alarms(AlarmType::Nospace as i32);
            up.iter().any(|alarm| alarm.member_id == own)
        });
        self.space_alarm.on_alarm(is_up, sizes);
    }

    /// Disarms the alarm if there is space again.
    pub(super) fn disarm_when_over(self: &Rc<Self>) {
        if self.space_alarm.0.get() == Alarm::Down {
            return;
        }
        let Some(sizes) = self.sizes() else { return };
        if !self.space_alarm.is_over(sizes) {
            return;
        }
        let request = InternalRaftRequest {
            alarm: Some(AlarmRequest {
                action: AlarmAction::Deactivate.into(),
                member_id: self.with_node(|node| node.options().member_id),
                alarm: AlarmType::Nospace.into(),
            }),
            ..InternalRaftRequest::default()
        };
        let (sender, outcome) = driver::oneshot();
        if self.propose(request, Waiter::Task(sender)).is_err() {
            // Too much is under way: the next tick tries again.
            return;
        }
        let known = self.space_alarm.0.replace(Alarm::Asked);
        let shard = Rc::clone(self);
        driver::spawn(async move {
            let outcome = outcome.await.unwrap_or(Err(FrontError::Stopped));
            shard.on_disarmed(known, outcome.map(|applied| applied.map(drop)));
        })
        .detach();
    }

    fn on_disarmed(&self, known: Alarm, outcome: Result<Result<(), RequestError>, FrontError>) {
        if let Ok(Ok(())) = outcome {
            return crate::logging::info!(
                "disarmed the NOSPACE alarm of this member: there is space again"
            );
        }
        if self.space_alarm.0.get() == Alarm::Asked {
            self.space_alarm.0.set(known);
        }
    }

    /// `None` if alarms are left to operators.
    fn sizes(&self) -> Option<Sizes> {
        let quota = self.config.quota_backend_bytes;
        let quota = quota.filter(|_| self.config.auto_disarm_space_alarm)?;
        Some(self.with_node(|node| Sizes {
            file: node.view().db_size(),
            in_use: node.view().db_size_in_use(),
            quota,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(file: u64, in_use: u64) -> Sizes {
        Sizes {
            file,
            in_use,
            quota: 100,
        }
    }

    #[test]
    fn it_ends_when_less_is_in_use_and_the_file_is_smaller() {
        let alarm = SpaceAlarm::default();
        assert!(!alarm.is_over(sizes(10, 10)));
        alarm.on_alarm(true, sizes(99, 80));
        for (file, in_use, is_over) in [
            (99, 80, false),
            // Compacted only.
            (99, 20, false),
            (91, 20, false),
            (90, 20, true),
            // Nothing was freed.
            (90, 80, false),
        ] {
            assert_eq!(
                alarm.is_over(sizes(file, in_use)),
                is_over,
                "{file} {in_use}"
            );
        }
        // Told of again, what was noticed first counts.
        alarm.on_alarm(true, sizes(90, 20));
        assert!(alarm.is_over(sizes(90, 20)));
        alarm.on_alarm(false, sizes(90, 20));
        assert!(!alarm.is_over(sizes(90, 20)));
    }

    #[test]
    fn an_operators_alarm_stays() {
        let alarm = SpaceAlarm::default();
        alarm.on_alarm(true, sizes(50, 50));
        assert!(!alarm.is_over(sizes(10, 10)));
    }
}
