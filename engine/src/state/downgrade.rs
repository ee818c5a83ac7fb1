//! The downgrade that the cluster prepares for, as bucket `cluster` keeps it: JSON, in etcd's words and order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ClusterVersion;

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct DowngradeInfo {
    /// `X.Y.0`; empty without a downgrade.
    #[serde(rename = "target-version")]
    target_version: String,
    enabled: bool,
}

/// What is stored for a downgrade to `target`; `None`: for none.
pub(super) fn encode(target: Option<&str>) -> Bytes {
    let info = DowngradeInfo {
        target_version: target.unwrap_or_default().to_owned(),
        enabled: target.is_some(),
    };
    // A string and a flag, which JSON can always hold.
    serde_json::to_vec(&info).unwrap_or_default().into()
}

/// The target that a stored value names; `None` if the value is none that an etcd writes.
pub(super) fn decode(value: &[u8]) -> Option<Option<String>> {
    let info: DowngradeInfo = serde_json::from_slice(value).ok()?;
    if !info.enabled {
        return Some(None);
    }
    ClusterVersion::parse(&info.target_version)?;
    Some(Some(info.target_version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_etcds() {
        let stored = encode(Some("3.6.0"));
        assert_eq!(stored, r#"{"target-version":"3.6.0","enabled":true}"#);
        assert_eq!(decode(&stored), Some(Some("3.6.0".to_owned())));
        let none = encode(None);
        assert_eq!(none, r#"{"target-version":"","enabled":false}"#);
        assert_eq!(decode(&none), Some(None));
    }

    #[test]
    fn what_no_etcd_writes_is_refused() {
        for value in ["", "{", "[]x", r#"{"target-version":"","enabled":true}"#] {
            assert_eq!(decode(value.as_bytes()), None, "{value}");
        }
    }
}
