//! Values of the database's bucket `meta`, in etcd's form.
//!
//! | key | value |
//! |---|---|
//! | `consistent_index` | u64, big-endian: index of the last entry whose effects are in the database |
//! | `term` | u64, big-endian: that entry's term; since 3.5 |
//! | `confState` | JSON of the configuration, ids as numbers; since 3.5 |
//! | `storageVersion` | text `X.Y.0`: whose schema this is; since 3.6 |
//!
//! Tested by bytes out of databases that etcd 3.6 and 3.7 wrote.

use bytes::Bytes;
use proto::raftpb::ConfState;
use serde::{Deserialize, Serialize};

pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub const TERM: &[u8] = b"term";
pub const CONF_STATE: &[u8] = b"confState";
pub const STORAGE_VERSION: &[u8] = b"storageVersion";

/// Why a value cannot be used: the database was damaged or written by something that is no etcd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaError {
    #[error("{len} bytes where a number has 8")]
    NotANumber { len: usize },
    #[error("not the JSON of a configuration: {0}")]
    NotAConfState(String),
    #[error("{0:?} is not a version")]
    NotAVersion(String),
}

/// The value of `consistent_index` and `term`.
pub fn encode_number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// # Errors
/// [`MetaError::NotANumber`] unless there are 8 bytes.
pub fn decode_number(value: &[u8]) -> Result<u64, MetaError> {
    let len = value.len();
    let bytes = value
        .try_into()
        .map_err(|_| MetaError::NotANumber { len })?;
    Ok(u64::from_be_bytes(bytes))
}

/// The members of a configuration's JSON. Go leaves out what is empty, and reads `null` as empty.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ConfStateJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    voters: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learners: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voters_outgoing: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learners_next: Option<Vec<u64>>,
    auto_leave: Option<bool>,
}

/// The value of `confState`.
pub fn encode_conf_state(conf_state: &ConfState) -> Bytes {
    let list = |ids: &[u64]| (!ids.is_empty()).then(|| ids.to_vec());
    let json = ConfStateJson {
        voters: list(&conf_state.voters),
        learners: list(&conf_state.learners),
        voters_outgoing: list(&conf_state.voters_outgoing),
        learners_next: list(&conf_state.learners_next),
        auto_leave: Some(conf_state.auto_leave.unwrap_or(false)),
    };
    let text = serde_json::to_vec(&json).expect("lists of numbers are always JSON");
    text.into()
}

/// Reads the value of `confState`; members of the JSON that are unknown here are passed over.
///
/// # Errors
/// [`MetaError::NotAConfState`].
pub fn decode_conf_state(value: &[u8]) -> Result<ConfState, MetaError> {
    let json: ConfStateJson =
        serde_json::from_slice(value).map_err(|e| MetaError::NotAConfState(e.to_string()))?;
    Ok(ConfState {
        voters: json.voters.unwrap_or_default(),
        learners: json.learners.unwrap_or_default(),
        voters_outgoing: json.voters_outgoing.unwrap_or_default(),
        learners_next: json.learners_next.unwrap_or_default(),
        auto_leave: json.auto_leave,
    })
}
