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

/// The value of `storageVersion`, as (major, minor).
///
/// # Errors
/// [`MetaError::NotAVersion`] unless the text is `X.Y.Z`.
pub fn decode_storage_version(value: &[u8]) -> Result<(u64, u64), MetaError> {
    let bad = || MetaError::NotAVersion(String::from_utf8_lossy(value).into_owned());
    let text = str::from_utf8(value).map_err(|_| bad())?;
    let number = |part: Option<&str>| {
        let digits = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        digits
            .and_then(|part| part.parse::<u64>().ok())
            .ok_or_else(bad)
    };
    let mut parts = text.split('.');
    let version = (number(parts.next())?, number(parts.next())?);
    number(parts.next())?;
    match parts.next() {
        None => Ok(version),
        Some(_) => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes out of `db` of etcd 3.6.14 and 3.7.1, read with the bbolt tool.
    #[test]
    fn what_etcd_wrote() {
        let of_36 = br#"{"voters":[12428976124636271536],"learners":[9743341236610821258],"auto_leave":false}"#;
        let of_37 = br#"{"voters":[6094581469650864925],"learners":[18030625335354790155],"auto_leave":false}"#;
        for (text, voter, learner) in [
            (&of_36[..], 0xac7c_97ef_0ec1_93b0, 0x8737_4d3b_759a_6c8a),
            (&of_37[..], 0x5494_4d8e_6137_cb1d, 0xfa39_a636_4ffb_110b),
        ] {
            let conf_state = decode_conf_state(text).unwrap();
            assert_eq!(conf_state.voters, [voter]);
            assert_eq!(conf_state.learners, [learner]);
            assert_eq!(encode_conf_state(&conf_state), text);
        }
        assert_eq!(decode_number(&[0, 0, 0, 0, 0, 0, 0, 0x27]), Ok(39));
        assert_eq!(encode_number(39), [0, 0, 0, 0, 0, 0, 0, 0x27]);
        assert_eq!(decode_storage_version(b"3.6.0"), Ok((3, 6)));
    }

    #[test]
    fn what_is_unknown_or_null_is_passed_over() {
        let text = br#"{"voters":null,"learners":[],"witnesses":[4],"auto_leave":true}"#;
        let expected = ConfState {
            auto_leave: Some(true),
            ..ConfState::default()
        };
        assert_eq!(decode_conf_state(text), Ok(expected));
        assert_eq!(decode_conf_state(b"{}"), Ok(ConfState::default()));
        assert_eq!(
            encode_conf_state(&ConfState::default()),
            &br#"{"auto_leave":false}"#[..]
        );
    }

    #[test]
    fn strangers_are_refused() {
        for text in [
            &b""[..],
            b"[1]",
            br#"{"voters":[-1]}"#,
            br#"{"voters":["1"]}"#,
            b"{\"voters\":[1]",
        ] {
            assert!(
                decode_conf_state(text).is_err(),
                "{}",
                String::from_utf8_lossy(text)
            );
        }
        assert_eq!(
            decode_number(&[0; 7]),
            Err(MetaError::NotANumber { len: 7 })
        );
        assert_eq!(
            decode_number(&[0; 9]),
            Err(MetaError::NotANumber { len: 9 })
        );
        for text in [
            &b""[..],
            b"3.6",
            b"3.6.0.1",
            b"3.+6.0",
            b"v3.6.0",
            b"3..0",
            b"3.6.\xff",
        ] {
            assert!(
                decode_storage_version(text).is_err(),
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }

    proptest! {
        #[test]
        fn a_configuration_is_read_as_it_was_written(
            [voters, learners, voters_outgoing, learners_next] in prop::array::uniform4(prop::collection::vec(any::<u64>(), 0..4)),
            auto_leave: bool,
        ) {
            let auto_leave = Some(auto_leave);
            let conf_state = ConfState { voters, learners, voters_outgoing, learners_next, auto_leave };
            prop_assert_eq!(decode_conf_state(&encode_conf_state(&conf_state)), Ok(conf_state));
        }
    }
}
