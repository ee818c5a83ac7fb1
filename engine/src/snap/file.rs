//! The content of a `.snap` file.
//!
//! ```text
//!  snappb.snapshot { crc = 1: CRC-32C of data, data = 2: raftpb.Snapshot }
//!  raftpb.Snapshot { data = 1: v2 store as JSON, metadata = 2 { conf_state = 1, index = 2, term = 3 } }
//! ```
//! Numbers are always written, zero or not, as etcd 3.6 and older write them.

use super::SnapName;
use bytes::Bytes;
use prost::Message;
use proto::{raftpb, snappb};

/// What a `.snap` file says.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapFile {
    pub term: u64,
    pub index: u64,
    /// The configuration at `index`.
    pub conf_state: raftpb::ConfState,
    /// The v2 store as JSON; see [`v2_store_json`](super::v2_store_json). Nobody reads it here.
    pub data: Bytes,
}

/// Why a `.snap` file cannot be used. etcd sets such a file aside as `.broken` and takes the next older one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapError {
    #[error("the file is empty")]
    Empty,
    #[error("the file cannot be decoded")]
    Undecodable,
    #[error("crc {stored:#010x}, computed {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    /// The checksum is right but its content is no snapshot: no metadata, or index 0.
    #[error("the file holds no snapshot")]
    NoSnapshot,
    #[error("the file is of {found}")]
    OtherName { found: SnapName },
}

impl SnapFile {
    /// The file's name.
    pub fn name(&self) -> SnapName {
        SnapName {
            term: self.term,
            index: self.index,
        }
    }

    /// The file's bytes.
    pub fn encode(&self) -> Bytes {
        let snapshot = raftpb::Snapshot {
            data: Some(self.data.clone()),
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(explicit(&self.conf_state)),
                index: Some(self.index),
                term: Some(self.term),
            }),
        };
        let data = snapshot.encode_to_vec();
        let file = snappb::Snapshot {
            crc: Some(crc32c::crc32c(&data)),
            data: Some(data.into()),
        };
        file.encode_to_vec().into()
    }

    /// Reads a file back. `data` is a slice of `bytes`.
    ///
    /// # Errors
    /// [`SnapError`], all but [`SnapError::OtherName`].
    pub fn decode(bytes: Bytes) -> Result<SnapFile, SnapError> {
        if bytes.is_empty() {
            return Err(SnapError::Empty);
        }
        let file = snappb::Snapshot::decode(bytes).map_err(|_| SnapError::Undecodable)?;
        let data = file.data.unwrap_or_default();
        if data.is_empty() {
            return Err(SnapError::Empty);
        }
        let (stored, computed) = (file.crc.unwrap_or(0), crc32c::crc32c(&data));
        if stored != computed {
            return Err(SnapError::Crc { stored, computed });
        }
        let snapshot = raftpb::Snapshot::decode(data).map_err(|_| SnapError::Undecodable)?;
        let metadata = snapshot.metadata.unwrap_or_default();
        let index = metadata.index.unwrap_or(0);
        if index == 0 {
            return Err(SnapError::NoSnapshot);
        }
        Ok(SnapFile {
            term: metadata.term.unwrap_or(0),
            index,
            conf_state: metadata.conf_state.unwrap_or_default(),
            data: snapshot.data.unwrap_or_default(),
        })
    }

    /// Reads the file of this name.
    ///
    /// # Errors
    /// [`SnapError`]; also if the file is another one's content.
    pub fn decode_as(name: SnapName, bytes: Bytes) -> Result<SnapFile, SnapError> {
        let file = Self::decode(bytes)?;
        match file.name() {
            found if found == name => Ok(file),
            found => Err(SnapError::OtherName { found }),
        }
    }
}

/// `auto_leave` is the one field of a configuration that can be unset.
fn explicit(conf_state: &raftpb::ConfState) -> raftpb::ConfState {
    raftpb::ConfState {
        auto_leave: Some(conf_state.auto_leave.unwrap_or(false)),
        ..conf_state.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Member;
    use crate::snap::v2_store_json;
    use proptest::prelude::*;

    fn member(id: u64, name: &str, peer_port: u16) -> Member {
        let urls = |port| vec![format!("http://127.0.0.1:{port}")];
        let is_learner = name.is_empty();
        Member {
            id,
            peer_urls: urls(peer_port),
            is_learner,
            name: name.to_owned(),
            client_urls: if is_learner {
                Vec::new()
            } else {
                urls(peer_port - 1)
            },
        }
    }

    /// Files of etcd 3.6.14 and 3.7.1 with `--snapshot-count=10`: one voter, a learner, a removed member.
    #[test]
    fn what_etcd_wrote() {
        let of_36 = (
            &include_bytes!("../../tests/golden/etcd-3.6.snap")[..],
            member(0xac7c_97ef_0ec1_93b0, "m36", 23791),
            member(0x8737_4d3b_759a_6c8a, "", 9998),
            "3.6.0",
        );
        let of_37 = (
            &include_bytes!("../../tests/golden/etcd-3.7.snap")[..],
            member(0x5494_4d8e_6137_cb1d, "m37", 23793),
            member(0xfa39_a636_4ffb_110b, "", 9998),
            "3.7.0",
        );
        for (bytes, voter, learner, version) in [of_36, of_37] {
            let name = "0000000000000002-0000000000000021.snap".parse().unwrap();
            let file = SnapFile::decode_as(name, Bytes::from_static(bytes)).unwrap();
            assert_eq!((file.term, file.index), (2, 33));
            assert_eq!(file.conf_state.voters, [voter.id]);
            assert_eq!(file.conf_state.learners, [learner.id]);
            let removed = [0x06b3_9775_c5f1_3a48];
            let json = v2_store_json([&voter, &learner], removed, Some(version));
            assert_eq!(
                String::from_utf8_lossy(&json),
                String::from_utf8_lossy(&file.data)
            );
            let ours = SnapFile { data: json, ..file };
            assert_eq!(ours.encode(), bytes, "{version}");
        }
    }

    #[test]
    fn strangers_are_refused() {
        let whole = SnapFile {
            term: 2,
            index: 9,
            conf_state: explicit(&raftpb::ConfState::default()),
            data: Bytes::from_static(b"{}"),
        };
        let bytes = whole.encode();
        assert_eq!(SnapFile::decode(bytes.clone()), Ok(whole.clone()));
        let name = |term, index| SnapName { term, index };
        let other = SnapFile::decode_as(name(2, 8), bytes.clone());
        assert_eq!(other, Err(SnapError::OtherName { found: name(2, 9) }));
        assert_eq!(SnapFile::decode(Bytes::new()), Err(SnapError::Empty));
        assert_eq!(
            SnapFile::decode(Bytes::from_static(&[8, 1])),
            Err(SnapError::Empty)
        );
        let empty = SnapFile { index: 0, ..whole };
        assert_eq!(SnapFile::decode(empty.encode()), Err(SnapError::NoSnapshot));
        // A crash may leave a front of the file, or zeros.
        for len in 1..bytes.len() {
            assert!(SnapFile::decode(bytes.slice(..len)).is_err(), "{len}");
        }
        assert!(SnapFile::decode(Bytes::from(vec![0; bytes.len()])).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_bit_is_seen(index in 1u64.., data in prop::collection::vec(any::<u8>(), 0..50), bit: prop::sample::Index) {
            let conf_state = raftpb::ConfState { voters: vec![7, index], auto_leave: Some(false), ..Default::default() };
            let file = SnapFile { term: 3, index, conf_state, data: data.into() };
            let bytes = file.encode();
            prop_assert_eq!(SnapFile::decode_as(file.name(), bytes.clone()), Ok(file.clone()));
            let bit = bit.index(bytes.len() * 8);
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            // Bits that no number needs are passed over; other content never comes out.
            if let Ok(read) = SnapFile::decode(changed.into()) {
                prop_assert_eq!(read, file);
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = SnapFile::decode(bytes.into());
        }
    }
}
