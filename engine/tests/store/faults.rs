//! Operations that fail, each in turn.

use std::collections::BTreeMap;

use engine::store::{CommitState, Store, StoreOp};

use crate::disk::FAULT;
use crate::model::{World, batch};
use engine::random::SplitMix64 as Rng;

/// A world with two durable commits and a sealed third one.
fn sealed(seed: u64) -> World {
    let mut rng = Rng(seed);
    let mut world = World::new();
    let mut next = 0;
    for _ in 0..2 {
        let changes = batch(&mut rng, &world.model, &mut next);
        world.commit(&changes, false);
    }
    let changes = batch(&mut rng, &world.model, &mut next);
    world.change(&changes);
    world.store.seal(true).unwrap();
    world
}

#[test]
fn no_room_is_asked_for_again_and_nothing_is_written_meanwhile() {
    let mut world = World::new();
    world.store.begin();
    world.store.seal(false).unwrap();
    for _ in 0..3 {
        let io = world.store.poll_io().unwrap();
        assert!(matches!(io.op, StoreOp::Grow { len } if len > 16 * 1024 * 1024));
        assert_eq!(world.store.poll_io(), None);
        world.store.on_io_done(io.ticket, Err(FAULT));
        assert_eq!(world.store.state(), CommitState::ClaimFailed);
        assert_eq!(world.store.poll_io(), None);
        world.store.retry_claim();
    }
    world.write();
    assert_eq!(world.store.state(), CommitState::Idle);
    world.verify();
}

#[test]
fn a_growing_file_is_refused_room_later_too() {
    let mut world = World::new();
    let mut refused = 0;
    for commit in 0..6_u64 {
        world.store.begin();
        for page in 0..40_u64 {
            let key = (commit * 100 + page).to_be_bytes().to_vec();
            let value = vec![1; 120_000];
            let bucket = engine::tail::Bucket::Key;
            world.store.put(bucket, &key, &value).unwrap();
            world.model.entry(bucket).or_default().insert(key, value);
        }
        world.store.seal(false).unwrap();
        while let Some(io) = world.store.poll_io() {
            if matches!(io.op, StoreOp::Grow { .. }) && refused % 2 == 0 {
                refused += 1;
                world.store.on_io_done(io.ticket, Err(FAULT));
                world.store.retry_claim();
                continue;
            }
            refused += u64::from(matches!(io.op, StoreOp::Grow { .. }));
            world.disk.perform(&io);
            world.store.on_io_done(io.ticket, Ok(()));
        }
        world.verify();
    }
    assert!(refused >= 4, "the file grew {refused} times or was refused");
}

/// While the kernel cuts a file, whoever meets a page of it that is not mapped yet waits.
#[test]
fn a_long_file_is_cut_in_steps_and_a_step_that_fails_leaves_the_rest() {
    let mut world = World::new();
    let bucket = engine::tail::Bucket::Key;
    let keys = (0..60_u64).map(|no| no.to_be_bytes().to_vec());
    let value = vec![1; 1 << 20];
    let put = |value: Option<Vec<u8>>| {
        let changes = keys.clone().map(|key| (key, value.clone()));
        BTreeMap::from([(bucket, changes.collect())])
    };
    world.commit(&put(Some(value)), false);
    world.commit(&put(None), false);
    let long = world.disk.now.len();
    let mut cuts = Vec::new();
    for _ in 0..8 {
        world.store.release(world.store.txid());
        world.begin_moves(100);
        world.store.seal(false).unwrap();
        while let Some(io) = world.store.poll_io() {
            let StoreOp::Cut { len } = io.op else {
                world.disk.perform(&io);
                world.store.on_io_done(io.ticket, Ok(()));
                continue;
            };
            cuts.push(len);
            let fails = cuts.len() == 2;
            if !fails {
                world.disk.perform(&io);
            }
            world
                .store
                .on_io_done(io.ticket, if fails { Err(FAULT) } else { Ok(()) });
        }
        assert_eq!(world.store.state(), CommitState::Idle);
        world.verify();
    }
    assert_eq!(
        cuts[..3],
        [long - (16 << 20), long - (32 << 20), long - (32 << 20)]
    );
    assert!(world.store.file_bytes() < 20 << 20, "{cuts:?}");
}

#[test]
fn any_failed_write_or_sync_ends_the_store_and_loses_nothing() {
    for seed in 0..8 {
        for step in 0.. {
            let mut world = sealed(seed);
            let (txid, tree) = (
                world.store.txid(),
                world.store.tree(engine::tail::Bucket::Key),
            );
            let mut done = 0;
            while let Some(io) = world.store.poll_io() {
                if done == step {
                    world.store.on_io_done(io.ticket, Err(FAULT));
                    break;
                }
                done += 1;
                world.disk.perform(&io);
                world.store.on_io_done(io.ticket, Ok(()));
            }
            if done < step {
                break;
            }
            if world.store.state() == CommitState::ClaimFailed {
                continue;
            }
            if world.store.state() == CommitState::Idle {
                assert_eq!(world.store.txid(), txid + 1);
                break;
            }
            assert_eq!(world.store.state(), CommitState::Failed);
            assert_eq!(world.store.poll_io(), None);
            assert_eq!(world.store.txid(), txid);
            assert_eq!(world.store.tree(engine::tail::Bucket::Key), tree);
            let disk = world.disk.crash(&mut Rng(seed + step));
            let reopened = Store::open(disk.pages(), disk.now.len()).unwrap();
            assert!(reopened.txid() == txid || reopened.txid() == txid + 1);
        }
    }
}
