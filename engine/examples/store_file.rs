//! Writes a store to a file and says what it put there, so that etcd's tools can be asked what they think of it; or
//! times the store.
//!
//! `store_file write PATH SEED [freelist]`  random commits; prints a line for each pair: bucket, key, value (hex)
//! `store_file check PATH`                  the walk of `engine::store::check`
//! `store_file dump PATH`                   the lines that `write` would print, as read back
//! `store_file amend PATH`                  opens it and commits the first pair of each bucket again
//! `store_file bench [PUTS]`                gets and ascending puts, in memory

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use engine::random::SplitMix64;
use engine::store::{BUCKETS, MemoryPages, Pages, Store, StoreOp, TreeReader, check};
use engine::tail::Bucket;
use engine::types::{Budget, Revision};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["write", path, seed] => write(path, SplitMix64(seed.parse()?), false),
        ["write", path, seed, "freelist"] => write(path, SplitMix64(seed.parse()?), true),
        ["check", path] => {
            let (file, len) = load(path)?;
            println!("{:#?}", check(&file, len)?);
            Ok(())
        }
        ["dump", path] => {
            let (file, len) = load(path)?;
            print_pairs(&Store::open(Arc::new(file), len)?)
        }
        ["amend", path] => amend(path),
        ["bench"] => bench(1_000_000),
        ["bench", puts] => bench(puts.parse()?),
        _ => Err("store_file write|check|dump PATH .. | bench [PUTS]".into()),
    }
}

fn load(path: &str) -> Result<(MemoryPages, u64), Box<dyn Error>> {
    let content = std::fs::read(path)?;
    Ok((MemoryPages::from_bytes(&content), content.len() as u64))
}

/// A store, the file behind it, and what it wrote.
struct Written {
    store: Store,
    file: Arc<MemoryPages>,
    bytes: u64,
}

impl Written {
    fn new() -> Self {
        let file = Arc::new(MemoryPages::default());
        let store = Store::create(Arc::clone(&file) as Arc<dyn Pages>);
        Written {
            store,
            file,
            bytes: 0,
        }
    }

    fn end_commit(&mut self, stores_freelist: bool) -> Result<(), Box<dyn Error>> {
        self.store.seal(stores_freelist)?;
        while let Some(io) = self.store.poll_io() {
            match io.op {
                StoreOp::Grow { len } => self.file.grow(len),
                StoreOp::Write { offset, bytes } => {
                    self.bytes += bytes.len() as u64;
                    self.file.write(offset, &bytes);
                }
                StoreOp::Sync | StoreOp::Cut { .. } => {}
            }
            self.store.on_io_done(io.ticket, Ok(()));
        }
        self.store.release(self.store.txid());
        Ok(())
    }
}

fn write(path: &str, mut random: SplitMix64, stores_freelist: bool) -> Result<(), Box<dyn Error>> {
    let mut written = Written::new();
    let mut kept: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut main = 1;
    for commit in 0..20_u64 {
        written.store.begin();
        for key in kept.keys().filter(|_| commit % 4 == 3) {
            if !random.next().is_multiple_of(3) {
                written.store.delete(Bucket::Key, key)?;
            }
        }
        if commit % 4 == 3 {
            kept.clear();
        }
        for _ in 0..random.next() % 600 {
            main += 1;
            let key = Revision::new(main, 0).to_bucket_key(false);
            let value = pair(&mut random, main);
            written.store.put(Bucket::Key, key.as_bytes(), &value)?;
            kept.insert(key.as_bytes().to_vec(), value);
        }
        let leases: BTreeMap<_, _> = (0..random.next() % 100)
            .map(|_| (random.next().to_be_bytes(), [0x10, 0x3c]))
            .collect();
        for (id, lease) in &leases {
            written.store.put(Bucket::Lease, id, lease)?;
        }
        let index = commit.to_be_bytes();
        written
            .store
            .put(Bucket::Meta, b"consistent_index", &index)?;
        let version = b"3.7.0";
        written
            .store
            .put(Bucket::Meta, b"storageVersion", version)?;
        written
            .store
            .put(Bucket::Meta, b"term", &2_u64.to_be_bytes())?;
        written.end_commit(stores_freelist)?;
    }
    save(&written, path)?;
    print_pairs(&written.store)
}

/// Puts back what each bucket has first, so that a real etcd can go on with the file.
fn amend(path: &str) -> Result<(), Box<dyn Error>> {
    let (file, len) = load(path)?;
    let file = Arc::new(file);
    let mut store = Store::open(Arc::clone(&file) as Arc<dyn Pages>, len)?;
    store.scan(&mut Budget::unlimited())?;
    let mut firsts = Vec::new();
    for bucket in BUCKETS {
        if let Some((key, value)) = store.reader(bucket).seek(b"")?.next()? {
            firsts.push((bucket, key.to_vec(), value.to_vec()));
        }
    }
    let bytes = 0;
    let mut written = Written { store, file, bytes };
    written.store.begin();
    for (bucket, key, value) in firsts {
        written.store.put(bucket, &key, &value)?;
    }
    written.end_commit(false)?;
    save(&written, path)?;
    print_pairs(&written.store)
}

fn save(written: &Written, path: &str) -> Result<(), Box<dyn Error>> {
    let mut content = written.file.to_bytes();
    content.resize(usize::try_from(written.file.len())?, 0);
    Ok(std::fs::write(path, content)?)
}

/// An encoded `mvccpb.KeyValue`, now and then a large one.
fn pair(random: &mut SplitMix64, main: i64) -> Vec<u8> {
    let key = format!("key{:04}", random.next() % 1000);
    let len = match random.next() % 100 {
        0 => random.next() % 400_000,
        1..10 => random.next() % 5000,
        _ => random.next() % 300,
    };
    let value = vec![b'v'; len as usize];
    let mut pair = vec![0x0a, key.len() as u8];
    pair.extend_from_slice(key.as_bytes());
    for (tag, field) in [(0x10, main as u64), (0x18, main as u64), (0x20, 1)] {
        pair.push(tag);
        varint(&mut pair, field);
    }
    pair.push(0x2a);
    varint(&mut pair, value.len() as u64);
    pair.extend_from_slice(&value);
    pair
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn print_pairs(store: &Store) -> Result<(), Box<dyn Error>> {
    let mut lines = String::new();
    for bucket in BUCKETS {
        let mut cursor = store.reader(bucket).seek(b"")?;
        while let Some((key, value)) = cursor.next()? {
            lines += &format!("{} {} {}\n", bucket.name(), hex(key), hex(value));
        }
    }
    print!("{lines}");
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bench(puts: u64) -> Result<(), Box<dyn Error>> {
    const BATCH: u64 = 50_000;
    const VALUE: [u8; 256] = [7; 256];
    let mut written = Written::new();
    let mut main = 0;
    let mut spent = Vec::new();
    while main < puts {
        let start = Instant::now();
        written.store.begin();
        for _ in 0..BATCH {
            main += 1;
            let key = Revision::new(main as i64, 0).to_bucket_key(false);
            written.store.put(Bucket::Key, key.as_bytes(), &VALUE)?;
        }
        written.store.seal(false)?;
        spent.push(start.elapsed());
        written.bytes = 0;
        while let Some(io) = written.store.poll_io() {
            match io.op {
                StoreOp::Grow { len } => written.file.grow(len),
                StoreOp::Write { offset, bytes } => {
                    written.bytes += bytes.len() as u64;
                    written.file.write(offset, &bytes);
                }
                StoreOp::Sync | StoreOp::Cut { .. } => {}
            }
            written.store.on_io_done(io.ticket, Ok(()));
        }
        written.store.release(written.store.txid());
    }
    spent.sort();
    let median = spent[spent.len() / 2];
    println!(
        "{main} puts of 256 B, {BATCH} a commit: median {:?} begin to seal, {:.0} puts/s; last commit wrote {} B of {}",
        median,
        BATCH as f64 / median.as_secs_f64(),
        written.bytes,
        written.store.file_bytes(),
    );
    // A flat copy, as a mapped file is.
    let flat = Flat(written.file.to_bytes());
    let tree = written.store.tree(Bucket::Key);
    let reader = TreeReader::new(&flat, written.store.page_size(), tree);
    let mut random = SplitMix64(1);
    const GETS: u64 = 1_000_000;
    let start = Instant::now();
    for _ in 0..GETS {
        let key = Revision::new((random.next() % main) as i64 + 1, 0).to_bucket_key(false);
        assert!(reader.get(key.as_bytes())?.is_some());
    }
    let each = start.elapsed() / GETS as u32;
    let start = Instant::now();
    let mut cursor = reader.seek(b"")?;
    let mut count = 0;
    while let Some((_, value)) = cursor.next()? {
        count += u32::from(value.len() == VALUE.len());
    }
    println!(
        "random get {each:?}, scan {:?} an element of {count}",
        start.elapsed() / count
    );
    let len = flat.0.len() as u64;
    let mut reopened = Store::open(Arc::new(flat), len)?;
    let start = Instant::now();
    reopened.scan(&mut Budget::unlimited())?;
    println!("scan for free pages {:?} of {len} B", start.elapsed());
    Ok(())
}

#[derive(Debug)]
struct Flat(Vec<u8>);

impl Pages for Flat {
    fn bytes(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let start = usize::try_from(offset).ok()?;
        self.0.get(start..start.checked_add(len)?)
    }
}
