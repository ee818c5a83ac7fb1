//! What a commit writes goes with its changes, not with the store's size.

use engine::tail::Bucket;

use crate::model::{Batch, World};

const VALUE: usize = 256;

fn puts(keys: impl Iterator<Item = u64>) -> Batch {
    let changes = keys.map(|key| (key.to_be_bytes().to_vec(), Some(vec![3; VALUE])));
    Batch::from([(Bucket::Key, changes.collect())])
}

fn written(world: &mut World, batch: &Batch) -> u64 {
    let before = world.disk.written_bytes;
    world.commit(batch, false);
    world.store.release(world.store.txid());
    world.disk.written_bytes - before
}

#[test]
fn a_commit_writes_what_it_touches() {
    let mut small = World::new();
    written(&mut small, &puts(0..1_000));
    let mut large = World::new();
    for part in 0..4 {
        let (first, limit) = (part * 10_000, (part + 1) * 10_000);
        let bytes = written(&mut large, &puts(first..limit));
        let payload = 10_000 * (VALUE as u64 + 8 + 16);
        assert!(
            bytes < payload * 108 / 100 + 20 * 4096,
            "{bytes} for {payload}"
        );
    }
    // Leaf, two branches, root bucket, meta page; the larger tree is one level deeper.
    for world in [&mut small, &mut large] {
        let one = written(world, &puts(500..501));
        assert!(one <= 6 * 4096, "{one} for one put");
        let next = written(world, &puts(1_000_000..1_000_001));
        assert!(next <= 6 * 4096, "{next} for one append");
    }
    let scattered = written(&mut large, &puts((0..40_000).step_by(4_000)));
    assert!(scattered <= (2 * 10 + 6) * 4096, "{scattered} for ten puts");
    // Nearly all leaves go: only the branches above and the neighbours are written.
    let range = (1_000..39_000).map(|key: u64| (key.to_be_bytes().to_vec(), None));
    let gone = written(&mut large, &Batch::from([(Bucket::Key, range.collect())]));
    assert!(gone <= 60 * 4096, "{gone} for a range that goes");
    large.verify();
    // What went is used again, so the file does not grow.
    let len = large.store.file_bytes();
    written(&mut large, &puts(2_000_000..2_000_001));
    written(&mut large, &puts(2_000_001..2_020_000));
    assert!(large.store.file_bytes() <= len);
}
