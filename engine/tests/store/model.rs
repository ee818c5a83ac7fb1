//! Random commits against maps, old trees readable until they are released, and the whole file checked each time.

use std::collections::BTreeMap;

use engine::state::Progress;
use engine::store::{BUCKETS, CommitState, Store, Tree, TreeReader, check};
use engine::tail::Bucket;
use engine::types::Budget;
use proptest::prelude::*;

use crate::disk::Disk;
use engine::random::SplitMix64 as Rng;

pub(crate) type Map = BTreeMap<Vec<u8>, Vec<u8>>;
pub(crate) type Model = BTreeMap<Bucket, Map>;

/// A store with its disk, and what should be in it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) disk: Disk,
    pub(crate) store: Store,
    pub(crate) model: Model,
}

impl World {
    pub(crate) fn new() -> Self {
        let disk = Disk::new();
        World {
            store: Store::create(disk.pages()),
            disk,
            model: Model::new(),
        }
    }

    /// Commits a batch: for each bucket, key and new value (`None`: delete).
    pub(crate) fn commit(&mut self, batch: &Batch, stores_freelist: bool) {
        self.change(batch);
        self.store.seal(stores_freelist).unwrap();
        self.write();
        assert_eq!(self.store.state(), CommitState::Idle);
    }

    pub(crate) fn change(&mut self, batch: &Batch) {
        self.store.begin();
        for (bucket, changes) in batch {
            let map = self.model.entry(*bucket).or_default();
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        self.store.put(*bucket, key, value).unwrap();
                        map.insert(key.clone(), value.clone());
                    }
                    None => {
                        let was_there = self.store.delete(*bucket, key).unwrap();
                        assert_eq!(was_there, map.remove(key).is_some());
                    }
                }
            }
        }
    }

    /// Begins a commit that moves some of what lies far behind; true if there was anything.
    pub(crate) fn begin_moves(&mut self, count_max: usize) -> bool {
        let found = BUCKETS.map(|bucket| {
            // In the smallest slices that there are.
            let (mut keys, mut from) = (Vec::new(), Some(Vec::new()));
            while let Some(first) = from.take() {
                let room = count_max - keys.len();
                let mut budget = Budget::new(1);
                let found = self
                    .store
                    .high_pages(bucket, &first, None, room, &mut budget);
                let found = found.unwrap();
                keys.extend(found.keys);
                from = found.rest.filter(|_| keys.len() < count_max);
            }
            assert!(keys.is_sorted());
            (bucket, keys)
        });
        self.store.begin();
        self.store.shrink();
        for (bucket, keys) in &found {
            for key in keys {
                self.store.touch(*bucket, key).unwrap();
            }
        }
        found.iter().any(|(_, keys)| !keys.is_empty())
    }

    pub(crate) fn write(&mut self) {
        while let Some(io) = self.store.poll_io() {
            self.disk.perform(&io);
            self.store.on_io_done(io.ticket, Ok(()));
        }
    }

    pub(crate) fn verify(&self) {
        let report = check(&*self.disk.now, self.disk.now.len()).unwrap();
        assert_eq!(report.single_child_branches, 0, "{report:?}");
        assert_eq!(report.empty_leaves, 0, "{report:?}");
        let elements: usize = self.model.values().map(Map::len).sum();
        assert_eq!(report.elements, elements as u64);
        let unused = self.store.file_bytes() - self.store.in_use_bytes();
        assert_eq!(report.free_pages * 4096, unused);
        for bucket in BUCKETS {
            let empty = Map::new();
            let map = self.model.get(&bucket).unwrap_or(&empty);
            verify_tree(&self.disk, self.store.tree(bucket), map);
        }
    }

    pub(crate) fn reopen(&mut self) {
        self.store = open(&self.disk);
    }
}

pub(crate) type Batch = BTreeMap<Bucket, BTreeMap<Vec<u8>, Option<Vec<u8>>>>;

pub(crate) fn open(disk: &Disk) -> Store {
    let mut store = Store::open(disk.pages(), disk.now.len()).unwrap();
    // Small slices: the scan must go on where it was.
    while store.scan(&mut Budget::new(7)).unwrap() == Progress::More {}
    store
}

pub(crate) fn read_all(reader: TreeReader<'_>) -> Map {
    let mut cursor = reader.seek(b"").unwrap();
    let mut map = Map::new();
    while let Some((key, value)) = cursor.next().unwrap() {
        map.insert(key.to_vec(), value.to_vec());
    }
    map
}

pub(crate) fn verify_tree(disk: &Disk, tree: Tree, map: &Map) {
    let tree = Tree::from_words(tree.to_words());
    let reader = TreeReader::new(&*disk.now, 4096, tree);
    assert!(read_all(reader) == *map, "not what was put");
    let last = map.last_key_value().map(|(k, v)| (&k[..], &v[..]));
    assert_eq!(reader.last().unwrap(), last);
    for (key, value) in map.iter().step_by(map.len() / 50 + 1) {
        assert_eq!(reader.get(key).unwrap(), Some(&value[..]));
        let mut above = key.clone();
        above.push(0);
        if !map.contains_key(&above) {
            assert_eq!(reader.get(&above).unwrap(), None);
        }
        let next = reader.seek(&above).unwrap().next().unwrap();
        let expected = map.range(above..).next().map(|(k, v)| (&k[..], &v[..]));
        assert_eq!(next, expected);
    }
}

fn value(rng: &mut Rng, large: bool) -> Vec<u8> {
    let len = match rng.below(40) {
        0 if large => rng.below(100 * 1024),
        1..4 => rng.below(3000),
        _ => rng.below(200),
    };
    let byte = rng.next() as u8;
    vec![byte; len as usize]
}

/// A batch of a kind that the seed draws; `next` is the revision for appends.
pub(crate) fn batch(rng: &mut Rng, model: &Model, next: &mut u64) -> Batch {
    let mut batch = Batch::new();
    for bucket in BUCKETS {
        if !rng.one_in(3) && bucket != Bucket::Key {
            continue;
        }
        let mut changes = BTreeMap::new();
        let empty = Map::new();
        let map = model.get(&bucket).unwrap_or(&empty);
        match rng.below(7) {
            // Appends, as puts of keys are.
            0 | 1 => {
                for _ in 0..rng.below(400) {
                    *next += 1;
                    changes.insert(next.to_be_bytes().to_vec(), Some(value(rng, true)));
                }
            }
            // A range goes.
            2 => {
                let from = rng.below(map.len() as u64 + 1) as usize;
                let count = rng.below(map.len() as u64 + 1) as usize;
                let keys = map.keys().skip(from).take(count).cloned();
                changes.extend(keys.map(|key| (key, None)));
            }
            // Many go, as in a compaction.
            3 => {
                let n = rng.below(10) + 1;
                let keys: Vec<_> = map.keys().filter(|_| !rng.one_in(n)).cloned().collect();
                changes.extend(keys.into_iter().map(|key| (key, None)));
            }
            // Anywhere.
            _ => {
                let key_len_max = if rng.one_in(10) { 3000 } else { 12 };
                for _ in 0..rng.below(100) {
                    let mut key = vec![rng.below(250) as u8; 1 + rng.below(key_len_max) as usize];
                    let tail = key.len() - 1;
                    key[tail] = rng.next() as u8;
                    let value = (!rng.one_in(4)).then(|| value(rng, true));
                    changes.insert(key, value);
                }
            }
        }
        if !changes.is_empty() {
            batch.insert(bucket, changes);
        }
    }
    batch
}

/// An old state that somebody still reads.
struct Pinned {
    txid: u64,
    trees: Vec<(Tree, Map)>,
}

fn run(seed: u64, commits: u64) {
    let mut rng = Rng(seed);
    let mut world = World::new();
    let mut pinned: Vec<Pinned> = Vec::new();
    let mut next = 0;
    for _ in 0..commits {
        let batch = batch(&mut rng, &world.model, &mut next);
        world.commit(&batch, rng.one_in(3));
        world.verify();
        let trees = BUCKETS.map(|bucket| {
            let map = world.model.get(&bucket).cloned().unwrap_or_default();
            (world.store.tree(bucket), map)
        });
        pinned.push(Pinned {
            txid: world.store.txid(),
            trees: trees.into(),
        });
        if rng.one_in(4) {
            let released = rng.below(pinned.len() as u64) as usize;
            for old in &pinned {
                for (tree, map) in &old.trees {
                    verify_tree(&world.disk, *tree, map);
                }
            }
            world.store.release(pinned[released].txid);
            pinned.drain(..released);
        }
        if rng.one_in(3) {
            let count_max = 1 + rng.below(60) as usize;
            world.begin_moves(count_max);
            world.store.seal(rng.one_in(3)).unwrap();
            world.write();
            world.verify();
            for old in &pinned {
                for (tree, map) in &old.trees {
                    verify_tree(&world.disk, *tree, map);
                }
            }
        }
        if rng.one_in(12) {
            // Nobody holds anything across a start.
            pinned.clear();
            world.reopen();
            world.verify();
        }
    }
}

#[test]
fn a_new_store_has_etcds_buckets() {
    let mut world = World::new();
    world.commit(&Batch::new(), false);
    world.verify();
    let report = check(&*world.disk.now, world.disk.now.len()).unwrap();
    assert_eq!((report.buckets, report.elements), (10, 0));
    world.reopen();
    world.verify();
}

/// Once a commit without changes and without a list of free pages had nothing to write and never ended.
#[test]
fn a_commit_without_changes_ends() {
    let mut world = World::new();
    for (txid, stores_freelist) in [(1, false), (2, false), (3, true), (4, true), (5, false)] {
        world.commit(&Batch::new(), stores_freelist);
        assert_eq!(world.store.txid(), txid);
        world.verify();
        world.reopen();
    }
}

/// A store whose pages are spread over a file that is far too long becomes short, though a reader is in the way at first.
#[test]
fn moves_make_the_file_short() {
    let mut world = World::new();
    let key = |n: u64| n.to_be_bytes().to_vec();
    for round in 0..10 {
        let changes = (0..2000).map(|n| (key(round * 2000 + n), Some(vec![7; 1500])));
        world.commit(&Batch::from([(Bucket::Key, changes.collect())]), false);
    }
    let changes = (0..20_000).filter(|n| n % 10 != 3).map(|n| (key(n), None));
    world.commit(&Batch::from([(Bucket::Key, changes.collect())]), false);
    let pinned = (world.store.txid(), world.store.tree(Bucket::Key));
    let map = world.model[&Bucket::Key].clone();
    let long = world.disk.now.len();
    assert!(long > 40 << 20);
    for is_pinned in [true, false] {
        let mut rounds = 0;
        let mut empty = 0;
        while empty < 4 {
            rounds += 1;
            assert!(rounds < 60, "it never ends");
            empty += usize::from(!world.begin_moves(100));
            world.store.seal(false).unwrap();
            world.write();
            world.verify();
            let oldest = if is_pinned {
                verify_tree(&world.disk, pinned.1, &map);
                pinned.0
            } else {
                world.store.txid()
            };
            world.store.release(oldest);
        }
    }
    let used = world.store.in_use_bytes();
    let file = world.store.file_bytes();
    assert!(file < used + used / 32 + (2 << 20), "{file} for {used}");
    assert!(world.disk.now.len() < file + (17 << 20));
    world.reopen();
    world.verify();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn commits_are_what_maps_are(seed in any::<u64>()) {
        run(seed, 30);
    }
}
