//! The fixed parts of the file as bytes: page headers, meta pages, bucket values.
//!
//! ```text
//!   page header   id u64 | flags u16 | count u16 | overflow u32 (pages that follow and belong to it)       16 bytes
//!   meta          magic u32 | version u32 | page size u32 | flags u32 | root page u64 | root sequence u64
//!                 | freelist page u64 | high water u64 | txid u64 | FNV-1a of these 56 bytes u64           64 bytes
//!   bucket value  root page u64 | sequence u64; root page 0: the bucket's leaf page follows in the value
//! ```
//!
//! All integers are little-endian (bbolt writes those of the machine; etcd's release builds are little-endian).

use super::damage::{DamageKind, StoreDamage};

/// Which page of the file, counted from 0; the first two are the meta pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(pub u64);

impl PageNo {
    /// The first page that is no meta page.
    pub(super) const FIRST: PageNo = PageNo(2);
    /// In a meta page: no list of free pages is stored.
    pub(super) const NO_FREELIST: PageNo = PageNo(u64::MAX);
}

pub(super) const HEADER_LEN: usize = 16;
/// Elements of branch and leaf pages have the same length.
pub(super) const ELEMENT_LEN: usize = 16;
pub(super) const META_LEN: usize = 64;
pub(super) const BUCKET_HEADER_LEN: usize = 16;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;

/// Flag of a leaf element whose value is a bucket.
pub(super) const IS_BUCKET: u32 = 0x01;

/// A count field with this value: the real count of a freelist is its first u64.
pub(super) const COUNT_ELSEWHERE: u16 = 0xFFFF;

pub(super) const PAGE_SIZE_MIN: u32 = 1024;
pub(super) const PAGE_SIZE_MAX: u32 = 65_536;
/// What new files get: the page size of the machines etcd is released for.
pub(super) const PAGE_SIZE_NEW: u32 = 4096;

/// No store ever commits so often; a larger number is made up, and counting on from it would overflow.
const TXID_MAX: u64 = u64::MAX / 2;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// Reads an integer; the caller has checked that the bytes are there.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut raw = [0; 2];
    raw.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(raw)
}

/// See [`u16_at`].
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// See [`u16_at`].
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

/// The first 16 bytes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) page: u64,
    pub(super) flags: u16,
    pub(super) count: u16,
    /// Pages behind this one that belong to it.
    pub(super) overflow: u32,
}

impl Header {
    /// The caller has checked that the bytes are there.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        Header {
            page: u64_at(bytes, 0),
            flags: u16_at(bytes, 8),
            count: u16_at(bytes, 10),
            overflow: u32_at(bytes, 12),
        }
    }

    pub(super) fn encode(&self, bytes: &mut [u8]) {
        bytes[..8].copy_from_slice(&self.page.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.flags.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.overflow.to_le_bytes());
    }
}

/// Where a bucket's tree begins: at a page of its own, or inside the leaf of the root bucket (inline).
///
/// Good for as long as the commit that it was taken from is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// A page number, or the offset of an inline leaf page in the file.
    at: u64,
    /// Bytes of the inline leaf page; 0: `at` is a page number, and page 0 is the tree without any element.
    inline_len: u64,
}

/// What a [`Tree`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Empty,
    Page(PageNo),
    Inline { offset: u64, len: u64 },
}

impl Tree {
    pub const EMPTY: Tree = Tree {
        at: 0,
        inline_len: 0,
    };

    pub const fn to_words(self) -> [u64; 2] {
        [self.at, self.inline_len]
    }

    pub const fn from_words([at, inline_len]: [u64; 2]) -> Tree {
        Tree { at, inline_len }
    }

    pub(super) const fn at_page(page: PageNo) -> Tree {
        Tree {
            at: page.0,
            inline_len: 0,
        }
    }

    pub(super) const fn root(self) -> Root {
        match (self.at, self.inline_len) {
            (0, 0) => Root::Empty,
            (page, 0) => Root::Page(PageNo(page)),
            (offset, len) => Root::Inline { offset, len },
        }
    }
}

/// The value of a bucket's element in the leaf of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BucketValue {
    pub(super) tree: Tree,
    pub(super) sequence: u64,
}

impl BucketValue {
    /// `offset` is where `value` stands in the file.
    pub(super) fn decode(value: &[u8], offset: u64) -> Result<Self, StoreDamage> {
        let len = value.len();
        let short = StoreDamage::new(offset, DamageKind::BucketValue { len });
        if len < BUCKET_HEADER_LEN {
            return Err(short);
        }
        let tree = match u64_at(value, 0) {
            0 if len < BUCKET_HEADER_LEN + HEADER_LEN => return Err(short),
            0 => Tree {
                at: offset + BUCKET_HEADER_LEN as u64,
                inline_len: (len - BUCKET_HEADER_LEN) as u64,
            },
            page => Tree::at_page(PageNo(page)),
        };
        let sequence = u64_at(value, 8);
        Ok(BucketValue { tree, sequence })
    }

    /// The value of a bucket whose tree begins at a page.
    pub(super) fn encode(root: PageNo, sequence: u64) -> [u8; BUCKET_HEADER_LEN] {
        let mut value = [0; BUCKET_HEADER_LEN];
        value[..8].copy_from_slice(&root.0.to_le_bytes());
        value[8..].copy_from_slice(&sequence.to_le_bytes());
        value
    }
}

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_size: u32,
    pub(super) root: PageNo,
    /// The sequence number of the root bucket; nobody uses it, so it is kept.
    pub(super) root_sequence: u64,
    pub(super) freelist: PageNo,
    /// Pages of the file that are in use or free; the file may be longer.
    pub(super) high_water: u64,
    pub(super) txid: u64,
}

/// Why 64 bytes are no meta page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMeta {
    Magic,
    Checksum,
    Version(u32),
    PageSize(u32),
}

impl Meta {
    /// Reads the bytes behind a page header. The caller has checked that there are [`META_LEN`].
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoMeta> {
        if u32_at(bytes, 0) != MAGIC {
            return Err(NoMeta::Magic);
        }
        if u64_at(bytes, 56) != fnv1a(&bytes[..56]) {
            return Err(NoMeta::Checksum);
        }
        // Behind the checksum: a flipped bit must not pass for a later version.
        match u32_at(bytes, 4) {
            VERSION => {}
            other => return Err(NoMeta::Version(other)),
        }
        let page_size = u32_at(bytes, 8);
        if !page_size.is_power_of_two() || !(PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&page_size) {
            return Err(NoMeta::PageSize(page_size));
        }
        let txid = u64_at(bytes, 48);
        if txid > TXID_MAX {
            return Err(NoMeta::Checksum);
        }
        Ok(Meta {
            page_size,
            root: PageNo(u64_at(bytes, 16)),
            root_sequence: u64_at(bytes, 24),
            freelist: PageNo(u64_at(bytes, 32)),
            high_water: u64_at(bytes, 40),
            txid,
        })
    }

    pub(super) fn encode(&self) -> [u8; META_LEN] {
        let mut bytes = [0; META_LEN];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        for (at, word) in [
            (16, self.root.0),
            (24, self.root_sequence),
            (32, self.freelist.0),
            (40, self.high_water),
            (48, self.txid),
        ] {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        let checksum = fnv1a(&bytes[..56]);
        bytes[56..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The whole page that this meta page is at `slot` (0 or 1).
    pub(super) fn encode_page(&self, slot: u64, page: &mut [u8]) {
        let header = Header {
            page: slot,
            flags: META,
            count: 0,
            overflow: 0,
        };
        header.encode(page);
        page[HEADER_LEN..HEADER_LEN + META_LEN].copy_from_slice(&self.encode());
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv1a_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn meta_survives_and_each_flipped_bit_shows() {
        let meta = Meta {
            page_size: 4096,
            root: PageNo(7),
            root_sequence: 1,
            freelist: PageNo::NO_FREELIST,
            high_water: 99,
            txid: 12,
        };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Ok(meta));
        for bit in 0..META_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn trees_survive_as_words() {
        let inline = BucketValue::decode(&[0; 40], 1000).expect("inline").tree;
        for tree in [Tree::EMPTY, Tree::at_page(PageNo(9)), inline] {
            assert_eq!(Tree::from_words(tree.to_words()), tree);
        }
        let (offset, len) = (1016, 24);
        assert_eq!(inline.root(), Root::Inline { offset, len });
        assert!(BucketValue::decode(&[0; 31], 0).is_err());
        assert!(BucketValue::decode(&[9; 15], 0).is_err());
    }
}
