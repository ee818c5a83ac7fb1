//! The index as the bytes of a file, from which it is back sooner than from the store.
//!
//! ```text
//!   header   "etcoreIX" | version u32 | length u32 | identity: what the index belongs to, the caller's | crc u32
//!   block    length u32 | crc u32 | entries                                                     ... many ...
//!   end      0 u32      | crc u32 | versions u64 | keys u64 | newest main revision i64
//!
//!   entry    shared LEB128 | length LEB128 | bytes | length of the revision u8 | create, version, lease LEB128
//! ```
//!
//! Numbers are little-endian. An entry's index key begins with `shared` bytes of the one before it in its block. Where the
//! pair stands is left out: all of them are in the store.
//!
//! A cache, never the truth: what is not whole and does not belong to the identity is [`Unusable`]. Each crc (CRC-32C)
//! goes on from the one before and covers the length in front of it, so that a block counts only in its place of its
//! own file. Nothing is allocated that the bytes at hand do not fill. `docs/format.md` has the file.

use super::Index;
use super::bulk::Bulk;
use super::key::{self, REVISION_LEN_MAX};
use super::read::Entry;
use super::version::{self, Version};
use crate::tail::TailPosition;
use crate::types::LeaseId;

const MAGIC: &[u8; 8] = b"etcoreIX";
const VERSION: u32 = 1;
/// A block ends with the entry that fills it so far.
const BLOCK_LEN: usize = 64 << 10;
const END_LEN: usize = 24;

/// Why saved bytes are not used. Never more than a reason to build the index anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("it has another format")]
    Format,
    #[error("it belongs to another state of the database")]
    Stranger,
    #[error("it is damaged at byte {0}")]
    Damaged(usize),
}

/// The bytes of an index that belongs to `identity`.
pub fn save(index: &Index, identity: &[u8]) -> Vec<u8> {
    let mut out = header(identity);
    let mut crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    let (mut versions, mut block) = (0_u64, Vec::with_capacity(BLOCK_LEN + 1024));
    let reading = index.reading();
    let mut cursor = reading.seek(b"");
    let (mut entry, mut former) = (Entry::default(), Vec::new());
    while let Some(at) = &mut cursor {
        reading.load(at, &mut entry);
        let version = reading.version(at, &entry);
        push_entry(&mut block, &former, &entry, &version);
        std::mem::swap(&mut former, &mut entry.key);
        versions += 1;
        if !reading.advance(at) {
            cursor = None;
        }
        if block.len() >= BLOCK_LEN || cursor.is_none() {
            let len = u32::try_from(block.len()).expect("a key is shorter than 4 GiB");
            crc = push_block(&mut out, len, &block, crc);
            block.clear();
            former.clear();
        }
    }
    push_block(&mut out, 0, &ending(versions, index), crc);
    out
}

pub(super) fn header(identity: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK_LEN);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    let len = u32::try_from(identity.len()).expect("an identity is some numbers");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(identity);
    out
}

fn ending(versions: u64, index: &Index) -> [u8; END_LEN] {
    let mut end = [0; END_LEN];
    end[..8].copy_from_slice(&versions.to_le_bytes());
    end[8..16].copy_from_slice(&(index.len as u64).to_le_bytes());
    end[16..].copy_from_slice(&index.newest.to_le_bytes());
    end
}

fn push_entry(block: &mut Vec<u8>, former: &[u8], entry: &Entry, version: &Version) {
    let shared = former.iter().zip(&entry.key).take_while(|(a, b)| a == b);
    let shared = shared.count();
    let rest = &entry.key[shared..];
    version::push(block, shared as u64);
    version::push(block, rest.len() as u64);
    block.extend_from_slice(rest);
    block.push(entry.revision_len() as u8);
    version::push(block, version.create_revision as u64);
    version::push(block, version.version as u64);
    version::push(block, version.lease.0 as u64);
}

/// Returns the crc that the next block goes on from.
pub(super) fn push_block(out: &mut Vec<u8>, len: u32, body: &[u8], crc: u32) -> u32 {
    let len = len.to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &len), body);
    out.extend_from_slice(&len);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(body);
    crc
}

/// The index that was saved for `identity`.
///
/// # Errors
/// [`Unusable`].
pub fn load(bytes: &[u8], identity: &[u8]) -> Result<Index, Unusable> {
    let mut source = Source { bytes, at: 0 };
    let expected = header(identity);
    let known = MAGIC.len() + 4;
    if bytes.get(..known) != Some(&expected[..known]) {
        return Err(Unusable::Format);
    }
    if source.take(expected.len())? != expected {
        return Err(Unusable::Stranger);
    }
    let mut crc = crc32c::crc32c(&expected);
    if source.number()? != crc {
        return Err(source.damaged());
    }
    let (mut bulk, mut versions) = (Bulk::default(), 0);
    loop {
        let (len, stored) = (source.number()?, source.number()?);
        let body = source.take(if len == 0 { END_LEN } else { len as usize })?;
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &len.to_le_bytes()), body);
        if crc != stored {
            return Err(source.damaged());
        }
        if len == 0 {
            let index = bulk.finish();
            let is_whole = body == ending(versions, &index) && source.at == bytes.len();
            return is_whole.then_some(index).ok_or(source.damaged());
        }
        versions += load_block(&mut bulk, body).ok_or(source.damaged())?;
    }
}

/// How many versions a block holds. `None`: it cannot be one of ours, whatever its crc says.
fn load_block(bulk: &mut Bulk, mut block: &[u8]) -> Option<u64> {
    let mut count = 0;
    let mut index_key: Vec<u8> = Vec::new();
    while !block.is_empty() {
        let shared = usize::try_from(version::take_checked(&mut block)?).ok()?;
        let len = usize::try_from(version::take_checked(&mut block)?).ok()?;
        let (rest, behind) = block.split_at_checked(len)?;
        (shared <= index_key.len()).then_some(())?;
        index_key.truncate(shared);
        index_key.extend_from_slice(rest);
        let (&revision_len, behind) = behind.split_first()?;
        block = behind;
        let revision_len = usize::from(revision_len);
        let is_key = revision_len <= REVISION_LEN_MAX && key::is_whole(&index_key, revision_len);
        is_key.then_some(())?;
        let version = Version {
            revision: key::revision(&index_key, revision_len),
            create_revision: version::take_checked(&mut block)? as i64,
            version: version::take_checked(&mut block)? as i64,
            lease: LeaseId(version::take_checked(&mut block)? as i64),
            position: TailPosition::STORED,
        };
        let record = version::encode(&version, revision_len);
        bulk.push_record(&index_key, &record, version.is_live())
            .ok()?;
        count += 1;
    }
    Some(count)
}

/// Bytes that may end anywhere.
struct Source<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Source<'a> {
    fn damaged(&self) -> Unusable {
        Unusable::Damaged(self.at)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Unusable> {
        let taken = self.bytes[self.at..].get(..len).ok_or(self.damaged())?;
        self.at += len;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u32, Unusable> {
        let bytes = self.take(4)?;
        let bytes = bytes.try_into().map_err(|_| self.damaged())?;
        Ok(u32::from_le_bytes(bytes))
    }
}
