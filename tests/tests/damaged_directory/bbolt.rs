//! Where things stand in a database file, found by our own reading of bbolt's format, so that tests hit what they mean
//! to hit. Trusts the file: it is one that was just written.

use std::fs;
use std::path::Path;

const PAGE_LEN: usize = 4096;
const HEADER_LEN: usize = 16;
const META_LEN: usize = 64;
const CHECKSUMMED_LEN: usize = 56;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const BUCKET: u32 = 1;

/// A database file in memory.
pub(crate) struct Database(pub(crate) Vec<u8>);

impl Database {
    pub(crate) fn read(path: &Path) -> Self {
        Self(fs::read(path).expect("a database"))
    }

    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, &self.0).expect("the database can be written");
    }

    /// Where the meta page that counts begins, and where the other one.
    pub(crate) fn metas(&self) -> [usize; 2] {
        let txid = |page: usize| self.u64(page * PAGE_LEN + HEADER_LEN + 48);
        match txid(0) > txid(1) {
            true => [0, PAGE_LEN],
            false => [PAGE_LEN, 0],
        }
    }

    /// Changes the format's version in both meta pages, checksums included.
    pub(crate) fn set_version(&mut self, version: u32) {
        for page in [0, PAGE_LEN] {
            let meta = page + HEADER_LEN;
            self.0[meta + 4..meta + 8].copy_from_slice(&version.to_le_bytes());
            let sum = fnv1a(&self.0[meta..meta + CHECKSUMMED_LEN]);
            self.0[meta + CHECKSUMMED_LEN..meta + META_LEN].copy_from_slice(&sum.to_le_bytes());
        }
    }

    /// The page of the stored list of free pages, if one is stored.
    pub(crate) fn freelist(&self) -> Option<usize> {
        let page = self.u64(self.metas()[0] + HEADER_LEN + 32);
        (page != u64::MAX).then(|| page as usize * PAGE_LEN)
    }

    /// Branch and leaf pages of a bucket.
    pub(crate) fn pages_of(&self, bucket: &str) -> (Vec<usize>, Vec<usize>) {
        let root = self.u64(self.metas()[0] + HEADER_LEN + 16) as usize * PAGE_LEN;
        let (_, leaves) = self.walk(root);
        let found = leaves.iter().find_map(|leaf| self.bucket(*leaf, bucket));
        self.walk(found.expect("a bucket with pages of its own"))
    }

    /// The root page of a bucket that this leaf names; `None` also if it is inline.
    fn bucket(&self, leaf: usize, name: &str) -> Option<usize> {
        let elements = (0..self.count(leaf)).map(|index| leaf + HEADER_LEN + index * 16);
        let mut buckets = elements.filter(|element| self.u32(*element) == BUCKET);
        buckets.find_map(|element| {
            let key = element + self.u32(element + 4) as usize;
            let key_len = self.u32(element + 8) as usize;
            let root = self.u64(key + key_len) as usize;
            (&self.0[key..key + key_len] == name.as_bytes() && root > 0).then_some(root * PAGE_LEN)
        })
    }

    fn walk(&self, root: usize) -> (Vec<usize>, Vec<usize>) {
        let (mut branches, mut leaves, mut left) = (vec![], vec![], vec![root]);
        while let Some(page) = left.pop() {
            match self.u16(page + 8) {
                BRANCH => {
                    branches.push(page);
                    left.extend((0..self.count(page)).map(|index| {
                        self.u64(page + HEADER_LEN + index * 16 + 8) as usize * PAGE_LEN
                    }));
                }
                LEAF => leaves.push(page),
                flags => panic!("a page with flags {flags} at {page}"),
            }
        }
        (branches, leaves)
    }

    fn count(&self, page: usize) -> usize {
        usize::from(self.u16(page + 10))
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("as long as asked")
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
