//! Index keys: a user key and a revision as one run of bytes whose order is (key, revision).
//!
//! ```text
//!   user key, each 0x00 as 00 FF | 00 | main: length, big-endian bytes | sub: length, big-endian bytes
//!   "ab", 300_0            ->      61 62  00  02 01 2C  00
//! ```
//!
//! No index key begins another one, and a terminator sorts below every continuation: a length is at most 8, and what
//! follows an escaped zero is FF.

use crate::types::Revision;

const TERMINATOR: u8 = 0x00;
const ESCAPED: u8 = 0xff;
/// Above every length, below [`ESCAPED`]: sorts behind all revisions of a key.
const PAST_REVISIONS: u8 = 0x10;

/// The revisions' part at its longest.
pub(super) const REVISION_LEN_MAX: usize = 18;

/// Appends user key and terminator.
fn push_key(out: &mut Vec<u8>, key: &[u8]) {
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|byte| *byte == 0) {
        out.extend_from_slice(&rest[..zero]);
        out.extend_from_slice(&[TERMINATOR, ESCAPED]);
        rest = &rest[zero + 1..];
    }
    out.extend_from_slice(rest);
    out.push(TERMINATOR);
}

fn push_number(out: &mut Vec<u8>, number: i64) {
    let bytes = number.to_be_bytes();
    let skip = (number.leading_zeros() / 8) as usize;
    out.push((8 - skip) as u8);
    out.extend_from_slice(&bytes[skip..]);
}

/// Where `key` at `revision` stands, which must not be negative.
pub(super) fn at(key: &[u8], revision: Revision) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 1 + REVISION_LEN_MAX);
    push_at(&mut out, key, revision);
    out
}

/// Appends what [`at`] answers.
pub(super) fn push_at(out: &mut Vec<u8>, key: &[u8], revision: Revision) {
    push_key(out, key);
    push_revision(out, revision);
}

/// Makes [`before`] the same as [`at`].
pub(super) fn push_revision(out: &mut Vec<u8>, revision: Revision) {
    push_number(out, revision.main);
    push_number(out, revision.sub);
}

/// Before all revisions of `key`, after those of lesser keys. Index keys of `key` are those that begin with this and
/// go on with a length.
pub(super) fn before(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 1 + REVISION_LEN_MAX);
    push_key(&mut out, key);
    out
}

/// Length of [`before`].
pub(super) fn before_len(key: &[u8]) -> usize {
    key.len() + key.iter().filter(|byte| **byte == 0).count() + 1
}

/// Behind all revisions of `key`, before those of greater keys.
pub(super) fn behind(key: &[u8]) -> Vec<u8> {
    let mut out = before(key);
    out.push(PAST_REVISIONS);
    out
}

/// True if `index_key` is one of the key that `before` was made of.
pub(super) fn is_of(index_key: &[u8], before: &[u8]) -> bool {
    index_key.starts_with(before) && index_key.get(before.len()).is_some_and(|b| *b != ESCAPED)
}

fn take_number(bytes: &[u8]) -> (i64, &[u8]) {
    let (len, rest) = bytes.split_first().map_or((0, bytes), |(n, r)| (*n, r));
    let (number, rest) = rest.split_at(usize::from(len).min(rest.len()));
    let value = number.iter().fold(0, |n, byte| n << 8 | i64::from(*byte));
    (value, rest)
}

/// True if bytes that nobody vouches for end as an index key does: a terminator, and a revision of `len` bytes.
pub(super) fn is_whole(index_key: &[u8], len: usize) -> bool {
    let Some(split) = index_key.len().checked_sub(len) else {
        return false;
    };
    let (named, mut revision) = index_key.split_at(split);
    for _ in 0..2 {
        let Some((&len, rest)) = revision.split_first() else {
            return false;
        };
        let Some((number, rest)) = rest.split_at_checked(len.into()) else {
            return false;
        };
        // A greater one would be negative.
        if len > 8 || (len == 8 && number[0] > 0x7f) {
            return false;
        }
        revision = rest;
    }
    revision.is_empty() && named.last() == Some(&TERMINATOR)
}

/// The revision of an index key whose last `len` bytes are it.
pub(super) fn revision(index_key: &[u8], len: usize) -> Revision {
    let (main, rest) = take_number(&index_key[index_key.len() - len..]);
    Revision::new(main, take_number(rest).0)
}

/// The user key of an index key whose last `len` bytes are the revision. `buffer` is used if the key has zeros.
pub(super) fn user_key<'a>(index_key: &'a [u8], len: usize, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    let escaped = &index_key[..index_key.len() - len - 1];
    if !escaped.contains(&0) {
        return escaped;
    }
    buffer.clear();
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        buffer.push(*byte);
        if *byte == TERMINATOR {
            bytes.next();
        }
    }
    buffer
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0_u8), Just(1), Just(0x10), Just(0xff), any::<u8>()];
        prop::collection::vec(byte, 0..6)
    }

    proptest! {
        #[test]
        fn order_is_by_key_then_revision(
            a in keys(), b in keys(),
            ra in (0_i64..70_000, 0_i64..300), rb in (0_i64..70_000, 0_i64..300),
        ) {
            let (ra, rb) = (Revision::new(ra.0, ra.1), Revision::new(rb.0, rb.1));
            prop_assert_eq!(at(&a, ra).cmp(&at(&b, rb)), (&a, ra).cmp(&(&b, rb)));
            prop_assert!(before(&a) < at(&a, ra) && at(&a, ra) < behind(&a));
            prop_assert_eq!(is_of(&at(&a, ra), &before(&b)), a == b);
            if a < b {
                prop_assert!(behind(&a) < before(&b));
            }
            let index_key = at(&a, ra);
            let len = index_key.len() - before(&a).len();
            prop_assert_eq!(before(&a).len(), before_len(&a));
            prop_assert!(is_whole(&index_key, len) && !is_whole(&index_key, len - 1));
            prop_assert_eq!(revision(&index_key, len), ra);
            let mut buffer = Vec::new();
            prop_assert_eq!(user_key(&index_key, len, &mut buffer), &a[..]);
        }
    }
}
