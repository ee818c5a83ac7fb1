//! One version of a key, and how a leaf keeps it.
//!
//! ```text
//!   revision's length u8 | create, version, position: LEB128 | lease: LEB128 of its bits
//! ```

use crate::tail::TailPosition;
use crate::types::{LeaseId, Revision};

/// One version of a key: a put or a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub revision: Revision,
    /// Main revision of the put that made this generation; 0 for a tombstone.
    pub create_revision: i64,
    /// Puts since the generation began, from 1; 0 for a tombstone.
    pub version: i64,
    pub lease: LeaseId,
    /// Where the pair stands.
    pub position: TailPosition,
}

impl Version {
    pub fn tombstone(revision: Revision, position: TailPosition) -> Self {
        Version {
            revision,
            create_revision: 0,
            version: 0,
            lease: LeaseId::NONE,
            position,
        }
    }

    /// False for a tombstone.
    pub fn is_live(&self) -> bool {
        self.version != 0
    }
}

pub(super) fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(bytes: &mut std::slice::Iter<'_, u8>) -> u64 {
    let mut number = 0;
    for (at, byte) in bytes.enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

/// The same of bytes that nobody vouches for: `None` if they end too soon or say more than a number holds.
pub(super) fn take_checked(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The record of a version whose revision takes `revision_len` bytes of its index key.
pub(super) fn encode(version: &Version, revision_len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(24);
    out.push(revision_len as u8);
    push(&mut out, version.create_revision as u64);
    push(&mut out, version.version as u64);
    push(&mut out, version.position.0);
    push(&mut out, version.lease.0 as u64);
    out
}

/// How many of the index key's last bytes are the revision.
pub(super) fn revision_len(record: &[u8]) -> usize {
    usize::from(record[0])
}

pub(super) fn decode(record: &[u8], revision: Revision) -> Version {
    let mut bytes = record[1..].iter();
    Version {
        revision,
        create_revision: take(&mut bytes) as i64,
        version: take(&mut bytes) as i64,
        position: TailPosition(take(&mut bytes)),
        lease: LeaseId(take(&mut bytes) as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_keep_every_number() {
        for number in [0, 1, 127, 128, 1 << 40, i64::MAX, -1, i64::MIN] {
            let version = Version {
                revision: Revision::new(3, 0),
                create_revision: number & i64::MAX,
                version: 1,
                lease: LeaseId(number),
                position: TailPosition(number as u64),
            };
            let record = encode(&version, 3);
            assert_eq!(revision_len(&record), 3);
            assert_eq!(decode(&record, version.revision), version);
        }
    }
}
