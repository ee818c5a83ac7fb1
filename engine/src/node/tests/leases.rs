//! Leases on the leader's clock: crowds, keep-alives of what is on its way out or in, checkpoints.

use super::*;

fn grant(id: i64, ttl: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_grant: Some(LeaseGrantRequest { id, ttl }),
        ..InternalRaftRequest::default()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Member1 {
    fn grant(&mut self, id: i64, ttl: i64) {
        self.node.propose(grant(id, ttl)).expect("room");
        self.settle();
    }

    fn renew(&mut self, id: i64, now: u64) -> Renewal {
        let granted_by = self.node.commit_index();
        self.node.renew_lease(LeaseId(id), granted_by, seconds(now))
    }
}

#[test]
fn a_crowd_is_revoked_by_bounded_proposals_and_without_further_ticks() {
    let mut member = Member1::new();
    member.tick(1);
    const COUNT: i64 = 5000;
    for id in 1..=COUNT {
        member.node.propose(grant(id, 5)).expect("room");
        if id % 500 == 0 {
            member.settle();
        }
    }
    member.grant(COUNT + 1, 60);
    member.node.on_tick(seconds(7));
    let mut turns = 0;
    loop {
        let more = member.work(1000);
        assert!(member.node.pending_proposal_count() <= 1024);
        if member.serve_disk(usize::MAX) == 0 && !more {
            break;
        }
        turns += 1;
    }
    let (left, _) = member.node.list_leases(LeaseCursor::default());
    assert_eq!(left, [LeaseId(COUNT + 1)]);
    assert!(turns > 5, "{turns} turns: nothing else had its share");
}

#[test]
fn a_keep_alive_of_what_ran_out_waits_for_its_revocation() {
    let mut member = Member1::new();
    member.tick(1);
    member.grant(7, 5);
    assert_eq!(member.renew(7, 2), Renewal::Renewed(5));
    assert_eq!(member.renew(7, 7), Renewal::NotYet);
    member.tick(7);
    assert_eq!(member.renew(7, 7), Renewal::Unknown);
}

#[test]
fn a_keep_alive_of_an_unknown_lease_waits_for_the_entries_before_it() {
    let mut member = Member1::new();
    member.tick(1);
    member.node.propose(grant(7, 5)).expect("room");
    let granted_by = member.node.commit_index() + 1;
    let renew = |member: &mut Member1| member.node.renew_lease(LeaseId(7), granted_by, seconds(1));
    assert_eq!(renew(&mut member), Renewal::NotYet);
    member.settle();
    assert_eq!(renew(&mut member), Renewal::Renewed(5));
}

#[test]
fn remaining_times_go_into_the_log_and_a_keep_alive_clears_them() {
    let mut member = Member1::with_leases(ExpiryOptions {
        checkpoint_interval: Some(seconds(300)),
    });
    member.tick(1);
    member.grant(7, 1000);
    member.tick(302);
    let remaining = |member: &Member1| {
        let leases = member.node.view().leases();
        leases.get(LeaseId(7)).expect("known").remaining_ttl()
    };
    assert_eq!(remaining(&member), 699);
    assert_eq!(member.renew(7, 303), Renewal::Renewed(1000));
    member.settle();
    assert_eq!(remaining(&member), 1000);
}

/// A grant that is applied long after the last tick has its whole time; the simulator found that it had not.
#[test]
fn a_lease_begins_on_the_clock_of_its_turn() {
    let mut member = Member1::new();
    member.tick(1);
    member.node.on_time(seconds(4));
    member.grant(7, 5);
    let told = member.node.lease_time(LeaseId(7), false, seconds(4));
    assert_eq!(told.map(|told| told.remaining_seconds), Some(5));
    member.tick(8);
    assert_eq!(member.renew(7, 8), Renewal::Renewed(5));
}
