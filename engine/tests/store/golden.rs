//! A file of a real etcd, read and taken over.
//!
//! `etcd-3.7.db` is `member/snap/db` of etcd 3.7.1 after transactions, a large value, deletes, leases, users, roles and a
//! compaction, up to its high water (the rest is zeros). It has inline buckets and no stored list of free pages.
//! `etcd-3.7.txt` is what bbolt's own tool finds in it: bucket, key (hex), length and CRC-32C of the value.

use engine::store::{BUCKETS, check};
use engine::tail::Bucket;

use crate::disk::Disk;
use crate::model::{Map, World, open, read_all};

const FILE: &[u8] = include_bytes!("../golden/store/etcd-3.7.db");
const CONTENT: &str = include_str!("../golden/store/etcd-3.7.txt");
/// What etcd makes of a file at once.
const FILE_LEN: u64 = 16_801_792;

fn listed(bucket: Bucket, map: &Map) -> String {
    let hex = |key: &[u8]| key.iter().map(|b| format!("{b:02x}")).collect::<String>();
    map.iter()
        .map(|(key, value)| {
            let (name, len, crc) = (bucket.name(), value.len(), crc32c::crc32c(value));
            format!("{name} {} {len} {crc:08x}\n", hex(key))
        })
        .collect()
}

fn opened() -> World {
    let disk = Disk::from_bytes(FILE, FILE_LEN);
    let store = open(&disk);
    let model = BUCKETS
        .into_iter()
        .map(|bucket| (bucket, read_all(store.reader(bucket))))
        .collect();
    World { disk, store, model }
}

#[test]
fn every_pair_is_what_bbolt_reads() {
    let world = opened();
    let found: String = BUCKETS
        .into_iter()
        .map(|bucket| listed(bucket, &world.model[&bucket]))
        .collect();
    assert_eq!(found, CONTENT);
    let report = check(&*world.disk.now, FILE_LEN).unwrap();
    assert_eq!((report.buckets, report.free_pages), (10, 9));
    assert!(report.inline_buckets > 0 && report.overflow_pages > 0);
    assert_eq!(world.store.file_bytes(), 28 * 4096);
    assert_eq!(world.store.in_use_bytes(), 19 * 4096);
    world.verify();
}

#[test]
fn it_is_taken_over_bucket_by_bucket() {
    for bucket in BUCKETS {
        let mut world = opened();
        let keys: Vec<_> = world.model[&bucket].keys().cloned().collect();
        let mut changes: std::collections::BTreeMap<_, _> =
            keys.into_iter().step_by(2).map(|key| (key, None)).collect();
        changes.insert(b"zzz".to_vec(), Some(vec![1; 5000]));
        for stores_freelist in [false, true, false] {
            let batch = [(bucket, changes.clone())].into();
            world.commit(&batch, stores_freelist);
            world.verify();
            world.reopen();
            world.verify();
            changes.retain(|_, value| value.is_some());
        }
    }
}

/// Made with bbolt 1.5.0: pages of 1024 bytes, a stored list of free pages, buckets `lease`, `meta`, `test` and `zoo` with
/// sequences (12 that of `lease`), in `lease` and `test` 60 pairs each and the buckets `inner` (inline, 1 pair) and `outer`
/// (50 pairs), in `zoo` 59 pairs.
const FOREIGN: &[u8] = include_bytes!("../golden/store/foreign.db");

#[test]
fn what_is_not_etcds_stays() {
    let disk = Disk::from_bytes(FOREIGN, 131_072);
    let before = check(&*disk.now, 131_072).unwrap();
    assert_eq!((before.buckets, before.elements), (8, 281));
    assert!(before.freelist_pages > 0);
    let mut disk = disk;
    let mut store = open(&disk);
    assert_eq!(store.page_size(), 1024);
    assert_eq!(read_all(store.reader(Bucket::Lease)).len(), 60);
    assert_eq!(store.reader(Bucket::Lease).get(b"inner"), Ok(None));
    for (commit, stores_freelist) in [(0, false), (1, true), (2, true), (3, false)] {
        store.begin();
        store.put(Bucket::Key, b"new bucket", &[commit]).unwrap();
        assert_eq!(store.delete(Bucket::Lease, b"inner"), Ok(false));
        store.put(Bucket::Lease, b"outer space", b"1").unwrap();
        store.put(Bucket::Meta, b"term", &[commit]).unwrap();
        store.seal(stores_freelist).unwrap();
        while let Some(io) = store.poll_io() {
            disk.perform(&io);
            store.on_io_done(io.ticket, Ok(()));
        }
        store.release(store.txid());
        let after = check(&*disk.now, disk.now.len()).unwrap();
        assert_eq!((after.buckets, after.elements), (9, 284));
        assert_eq!(read_all(store.reader(Bucket::Lease)).len(), 61);
        // The element of the root bucket: name, root page, sequence.
        let mut element = b"lease".to_vec();
        element.extend(store.tree(Bucket::Lease).to_words()[0].to_le_bytes());
        element.extend(12_u64.to_le_bytes());
        let content = disk.now.to_bytes();
        assert!(content.windows(element.len()).any(|at| at == element));
        store = open(&disk);
    }
    let put = |bucket: Bucket| {
        let mut store = open(&disk);
        store.begin();
        store.put(bucket, b"outer", b"a pair in a bucket's place")
    };
    assert!(put(Bucket::Lease).is_err());
    assert!(put(Bucket::Meta).is_ok());
}
