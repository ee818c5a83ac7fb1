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
