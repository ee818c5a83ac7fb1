//! The index against its naive twin: the same steps, the same answers, and the tree's invariants after each.

use bytes::Bytes;
use proptest::prelude::*;

use super::read::Entry;
use super::saved::{header, push_block};
use super::{
    Bulk, Buried, Gather, Index, KeyRange, NotAscending, Unusable, Version, Walked, load, save,
    twin,
};
use crate::tail::TailPosition;
use crate::types::{LeaseId, Revision};

#[derive(Clone, Debug)]
enum Step {
    /// One revision with a version for each key; `true` is a put.
    Change(Vec<(Vec<u8>, bool)>),
    /// So many ascending keys behind a prefix.
    Ascend(Vec<u8>, u16),
    Bury(Vec<u8>, Vec<u8>),
    /// Compacts this many revisions below the newest, in slices of so many, while reads at some revisions are held.
    Compact(i64, usize, Vec<i64>),
    Publish,
}

/// Keys that share prefixes of all lengths, with zeros, and some far longer than a page.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    let stem = prop_oneof![
        8 => Just(Vec::new()),
        4 => Just(b"/registry/pods/kube-system/".to_vec()),
        1 => Just(vec![b'x'; 318]),
        1 => Just(vec![b'x'; 340]),
        1 => Just(vec![b'y'; 2500]),
        1 => Just(vec![0; 200]),
    ];
    let letter = prop_oneof![Just(0_u8), Just(0xff), Just(0x10), b'a'..b'e'];
    let end = prop_oneof![
        prop::collection::vec(letter, 1..4),
        prop::collection::vec(any::<u8>(), 1..3),
    ];
    (stem, end).prop_map(|(mut stem, end)| {
        stem.extend(end);
        stem
    })
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => prop::collection::vec((keys(), prop::bool::weighted(0.7)), 1..20).prop_map(Step::Change),
        3 => (keys(), 1_u16..120).prop_map(|(key, count)| Step::Ascend(key, count)),
        2 => (keys(), keys()).prop_map(|(start, end)| Step::Bury(start, end)),
        3 => (0_i64..12, 1_usize..40, prop::collection::vec(0_i64..20, 0..4))
            .prop_map(|(back, limit, held)| Step::Compact(back, limit, held)),
        2 => Just(Step::Publish),
    ]
}

fn range(start: &[u8], end: &[u8]) -> KeyRange {
    KeyRange::new(&Bytes::copy_from_slice(start), &Bytes::copy_from_slice(end))
}

fn all() -> KeyRange {
    range(b"\0", b"\0")
}

/// Both of them, in step.
#[derive(Default)]
struct Pair {
    index: Index,
    twin: twin::Index,
    main: i64,
    compacted: i64,
}

fn next(newest: Option<&Version>, revision: Revision, put: bool) -> Version {
    let position = TailPosition(revision.main as u64 * 1000 + revision.sub as u64);
    if !put {
        return Version::tombstone(revision, position);
    }
    let former = newest.filter(|version| version.is_live());
    Version {
        revision,
        create_revision: former.map_or(revision.main, |former| former.create_revision),
        version: former.map_or(1, |former| former.version + 1),
        lease: LeaseId(revision.main % 3 * -0x1234_5678),
        position,
    }
}

impl Pair {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Change(changes) => {
                self.main += 1;
                for (sub, (key, put)) in changes.iter().enumerate() {
                    self.insert(key, sub as i64, *put);
                }
            }
            Step::Ascend(prefix, count) => {
                self.main += 1;
                for sub in 0..*count {
                    let mut key = prefix.clone();
                    key.extend_from_slice(format!("/{sub:05}").as_bytes());
                    self.insert(&key, sub.into(), true);
                }
            }
            Step::Bury(start, end) => self.bury(&range(start, end)),
            Step::Compact(back, limit, held) => {
                let held = held.iter().map(|back| self.main - back).collect();
                self.compact_but(self.main - back, held, *limit);
            }
            Step::Publish => self.index.publish(b""),
        }
        self.index.tree.check();
    }

    fn insert(&mut self, key: &[u8], sub: i64, put: bool) {
        let revision = Revision::new(self.main, sub);
        let mut seen = None;
        self.index.insert(key, |newest| {
            seen = newest.copied();
            next(newest, revision, put)
        });
        self.twin.insert(key, |newest| {
            assert_eq!(newest, seen.as_ref());
            next(newest, revision, put)
        });
    }

    fn bury(&mut self, range: &KeyRange) {
        self.main += 1;
        let main = self.main;
        let mut runs = [Vec::new(), Vec::new()];
        let kill =
            |seen: &mut Vec<(Vec<u8>, Option<Version>)>, key: &[u8], version: Option<&Version>| {
                seen.push((key.to_vec(), version.copied()));
                let revision = Revision::new(main, seen.len() as i64);
                match version {
                    _ if seen.len() == 40 => Buried::Stop,
                    Some(_) => Buried::Tombstone(next(version, revision, false)),
                    None => Buried::Skipped,
                }
            };
        let [mine, twins] = &mut runs;
        let walked = self.index.bury(range, None, |k, v| kill(mine, k, v));
        assert_eq!(
            walked,
            self.twin.bury(range, None, |k, v| kill(twins, k, v))
        );
        assert_eq!(mine, twins);
    }

    fn compact(&mut self, revision: i64, limit: usize) {
        self.compact_but(revision, Vec::new(), limit);
    }

    /// A held revision's reads were possible before, since its hold was taken before the compaction.
    fn compact_but(&mut self, revision: i64, mut held: Vec<i64>, limit: usize) {
        held.retain(|held| *held >= self.compacted);
        held.sort_unstable();
        let seen = |pair: &Pair, at: &i64| listing_live(|v| pair.index.walk(&all(), None, *at, v));
        let before: Vec<_> = held.iter().map(|at| seen(self, at)).collect();
        self.compacted = self.compacted.max(revision);
        let mut after: Option<Box<[u8]>> = None;
        let mut slices = 0;
        while let Some(last) = self.index.compact(after.as_deref(), revision, &held, limit) {
            self.index.tree.check();
            after = Some(last);
            slices += 1;
            assert!(slices < 100_000, "compaction does not end");
        }
        self.twin.compact(None, revision, &held, usize::MAX);
        for (at, before) in held.iter().zip(before) {
            assert_eq!(seen(self, at), before, "a read at {at} was held");
        }
    }

    fn agree(&self, probes: &[Vec<u8>]) {
        assert_eq!(self.index.len(), self.twin.len());
        assert_eq!(self.index.live_count(), self.twin.live_count());
        for at in [self.main, self.main - 1, self.main - 5, self.compacted] {
            assert_eq!(listing(|v| self.index.walk(&all(), None, at, v)), {
                listing(|v| self.twin.walk(&all(), None, at, v))
            });
            assert_eq!(self.index.any_live(at), self.twin.any_live(at));
            for pair in probes.windows(2) {
                self.agree_on(&pair[0], &pair[1], at);
            }
        }
    }

    fn agree_on(&self, key: &[u8], other: &[u8], at: i64) {
        let found = self.twin.get(key, at);
        assert_eq!(self.index.get(key, at), found, "{key:?} at {at}");
        if let Some(version) = found {
            assert!(self.index.holds(key, version.revision));
        }
        let absent = Revision::new(at, 999);
        assert_eq!(self.index.holds(key, absent), self.twin.holds(key, absent));
        let span = range(key, other);
        assert_eq!(self.index.count(&span, at), self.twin.count(&span, at));
        let point = range(key, b"");
        assert_eq!(self.index.count(&point, at), self.twin.count(&point, at));
        assert_eq!(listing(|v| self.index.walk(&all(), Some(key), at, v)), {
            listing(|v| self.twin.walk(&all(), Some(key), at, v))
        });
    }
}

type Visit<'a> = &'a mut dyn FnMut(&[u8], Option<&Version>) -> bool;

fn listing(walk: impl FnOnce(Visit<'_>) -> Walked) -> Vec<(Vec<u8>, Option<Version>)> {
    let mut seen = Vec::new();
    walk(&mut |key, version| {
        seen.push((key.to_vec(), version.copied()));
        true
    });
    seen
}

/// Keys that live.
fn listing_live(walk: impl FnOnce(Visit<'_>) -> Walked) -> Vec<(Vec<u8>, Option<Version>)> {
    let mut seen = listing(walk);
    seen.retain(|(_, version)| version.is_some());
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn index_equals_twin(
        steps in prop::collection::vec(steps(), 1..60),
        probes in prop::collection::vec(keys(), 2..8),
    ) {
        let mut pair = Pair::default();
        for (number, step) in steps.iter().enumerate() {
            pair.apply(step);
            if number % 8 == 0 {
                pair.agree(&probes);
            }
        }
        pair.agree(&probes);
    }

    /// What a reader pinned stays as it was, whatever the writer does and publishes.
    #[test]
    fn a_pinned_state_does_not_change(
        before in prop::collection::vec(steps(), 1..20),
        after in prop::collection::vec(steps(), 1..20),
    ) {
        let mut pair = Pair::default();
        before.iter().for_each(|step| pair.apply(step));
        pair.index.publish(b"");
        let mut reader = pair.index.reader().unwrap();
        let snapshot = reader.pin().unwrap();
        let (at, live) = (pair.main, pair.twin.live_count() as u64);
        let former = listing(|v| pair.twin.walk(&all(), None, at, v));
        for step in &after {
            pair.apply(step);
            pair.index.publish(b"");
        }
        prop_assert_eq!(listing(|v| snapshot.reading().walk(&all(), None, at, v)), former);
        prop_assert_eq!(snapshot.reading().live_count(), live);
        prop_assert_eq!(snapshot.reading().count_newest(&all(), None, at), Some(live));
        drop(snapshot);
        pair.index.publish(b"");
        let snapshot = reader.pin().unwrap();
        let newest = listing(|v| pair.twin.walk(&all(), None, pair.main, v));
        prop_assert_eq!(listing(|v| snapshot.reading().walk(&all(), None, pair.main, v)), newest);
    }
}

/// All versions, in the index's own order.
fn versions(index: &Index) -> Vec<(Vec<u8>, Version)> {
    let reading = index.reading();
    let (mut entry, mut all) = (Entry::default(), Vec::new());
    let mut cursor = reading.seek(b"");
    while let Some(at) = &mut cursor {
        reading.load(at, &mut entry);
        let version = reading.version(at, &entry);
        all.push((entry.user_key(&mut Vec::new()).to_vec(), version));
        if !reading.advance(at) {
            cursor = None;
        }
    }
    all
}

/// What saving leaves out.
fn stored(mut version: Version) -> Version {
    version.position = TailPosition::STORED;
    version
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However an index came to be, it is the same, and goes on as the same.
    #[test]
    fn an_index_is_filled_in_bulk_from_revisions_and_from_what_was_saved(
        before in prop::collection::vec(steps(), 0..40),
        after in prop::collection::vec(steps(), 1..20),
        probes in prop::collection::vec(keys(), 2..8),
        poured in 1_usize..200,
        way in 0..3,
    ) {
        let mut pair = Pair::default();
        before.iter().for_each(|step| pair.apply(step));
        let all = versions(&pair.index);
        let newest = pair.index.newest;
        pair.index = match way {
            0 => {
                let mut bulk = Bulk::default();
                all.iter().for_each(|(key, version)| bulk.push(key, version).unwrap());
                bulk.finish()
            }
            1 => {
                let (mut index, mut gathered) = (Index::new(), Gather::default());
                let mut by_revision = all.clone();
                by_revision.sort_by_key(|(_, version)| version.revision);
                for (count, (key, version)) in by_revision.iter().enumerate() {
                    gathered.push(key, version);
                    if (count + 1) % poured == 0 {
                        gathered.pour(&mut index).unwrap();
                    }
                }
                gathered.pour(&mut index).unwrap();
                index
            }
            _ => {
                let mut by_revision = all.clone();
                by_revision.sort_by_key(|(_, version)| version.revision);
                pair.twin = twin::Index::new();
                for (key, version) in by_revision {
                    pair.twin.insert(&key, |_| stored(version));
                }
                load(&save(&pair.index, b"id"), b"id").unwrap()
            }
        };
        prop_assert_eq!(pair.index.tree.check(), all.len());
        // Compaction may have taken the newest revision away; the store does not know it either then.
        prop_assert!(pair.index.newest <= newest);
        pair.agree(&probes);
        for step in &after {
            pair.apply(step);
        }
        pair.agree(&probes);
    }

    /// Damage anywhere is seen, and nothing worse happens.
    #[test]
    fn saved_bytes_that_changed_are_not_used(
        steps in prop::collection::vec(steps(), 0..20),
        place in any::<prop::sample::Index>(),
        flip in 1_u8..,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut pair = Pair::default();
        steps.iter().for_each(|step| pair.apply(step));
        let saved = save(&pair.index, b"identity");
        prop_assert!(load(&saved, b"identity").is_ok());
        prop_assert_eq!(load(&saved, b"Identity").err(), Some(Unusable::Stranger));
        let mut flipped = saved.clone();
        flipped[place.index(saved.len())] ^= flip;
        prop_assert!(load(&flipped, b"identity").is_err());
        prop_assert!(load(&saved[..cut.index(saved.len())], b"identity").is_err());
        let longer = [&saved[..], &[flip]].concat();
        prop_assert!(load(&longer, b"identity").is_err());
    }
}

#[test]
fn versions_out_of_order_are_refused() {
    let version = |main| next(None, Revision::new(main, 0), true);
    let mut bulk = Bulk::default();
    bulk.push(b"b", &version(2)).unwrap();
    bulk.push(b"b", &version(3)).unwrap();
    assert!(bulk.push(b"b", &version(3)).is_err());
    let mut index = Index::new();
    for expected in [Ok(()), Err(NotAscending)] {
        let mut gathered = Gather::default();
        (0..40).for_each(|_| gathered.push(b"b", &version(7)));
        assert_eq!(gathered.pour(&mut Index::new()), Err(NotAscending));
        gathered.push(b"b", &version(7));
        assert_eq!(gathered.pour(&mut index), expected);
    }
}

/// Bytes with right checksums that no index ever was.
#[test]
fn saved_entries_are_not_trusted_for_their_checksum() {
    let saved = |block: &[u8]| {
        let mut out = header(b"");
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        push_block(&mut out, block.len() as u32, block, crc);
        out
    };
    let good = b"\x00\x05a\0\x01\x02\0\x03\x02\x01\x00";
    let at_end = saved(good).len();
    assert_eq!(
        load(&saved(good), b"").err(),
        Some(Unusable::Damaged(at_end))
    );
    for bad in [
        &b"\x01\x05a\0\x01\x02\0\x03\x02\x01\x00"[..], // shares what is not there
        b"\x00\xff\xff\xff\xff\xffa\0\x01\x02\0\x03",  // longer than the block
        b"\x00\x05a\0\x09\x02\0\x03\x02\x01\x00",      // a number of nine bytes
        b"\x00\x05a\0\x01\x02\0\x09\x02\x01\x00",      // a revision longer than its key
        b"\x00\x05ab\x01\x02\0\x03\x02\x01\x00",       // no terminator
        b"\x00\x05a\0\x01\x02\0\x03\x02\x01\xff",      // ends within a number
        b"\x00",
    ] {
        assert_eq!(
            load(&saved(bad), b"").err(),
            Some(Unusable::Damaged(saved(bad).len()))
        );
    }
}

fn filled(keys: impl Iterator<Item = Vec<u8>>) -> Pair {
    let mut pair = Pair::default();
    for key in keys {
        pair.main += 1;
        pair.insert(&key, 0, true);
    }
    pair
}

/// Half-full leaves behind ascending keys in the middle were what the probe of this layout lacked.
#[test]
fn ascending_keys_fill_pages_at_the_end_and_in_the_middle() {
    let key = |ns: &str, i: u32| format!("/registry/events/{ns}/event-{i:08}").into_bytes();
    let mut pair = filled((0..3000).flat_map(|i| [key("a", i), key("z", i)]));
    let before = pair.index.size_bytes();
    for i in 0..20_000 {
        pair.main += 1;
        pair.insert(&key("m", i), 0, true);
    }
    pair.index.tree.check();
    let bytes = (pair.index.size_bytes() - before) / 20_000;
    assert!(bytes < 48, "{bytes} bytes for each key");
}

#[test]
fn deleting_and_compacting_everything_gives_all_pages_back() {
    let mut pair =
        filled((0..5000_u32).map(|i| (i.wrapping_mul(0x9e37_79b9)).to_be_bytes().to_vec()));
    for (key, _) in listing(|v| pair.twin.walk(&all(), None, pair.main, v)) {
        pair.main += 1;
        pair.insert(&key, 0, false);
    }
    assert_eq!(pair.index.live_count(), 0);
    pair.main += 1;
    pair.compact(pair.main, 300);
    assert_eq!((pair.index.len(), pair.index.tree.check()), (0, 0));
    assert_eq!(pair.index.tree.space.used_count(), 1);
}

#[test]
fn a_long_history_is_passed_and_compacted_in_slices() {
    let mut pair = filled((0..3).flat_map(|_| [b"a".to_vec(), b"c".to_vec()]));
    for _ in 0..5000 {
        pair.main += 1;
        pair.insert(b"b", 0, true);
    }
    let probes = [b"a".to_vec(), b"b".to_vec(), b"c".to_vec()];
    pair.agree(&probes);
    // Below nearly all of it, then above.
    pair.compact(pair.main - 4990, 64);
    assert_eq!(pair.index.tree.check(), 4993);
    pair.agree(&probes);
    pair.compact(pair.main - 10, 64);
    assert_eq!(pair.index.tree.check(), 13);
    pair.agree(&probes);
}
