//! Names in `member/snap`: `<term>-<index>.snap` and `<index>.snap.db`, numbers as 16 lower-case hex digits.

use std::fmt;
use std::str::FromStr;

/// The name of a snapshot file. Orders by term, then index: a newer snapshot is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapName {
    pub term: u64,
    pub index: u64,
}

/// The name of a database that was received and is not yet swapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapDbName {
    /// Index of the snapshot that it belongs to.
    pub index: u64,
}

/// The text is not such a name, as is true of `db`, temporary files, `.broken` ones and strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a snapshot file")]
pub struct NotASnapName;

impl fmt::Display for SnapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.snap", self.term, self.index)
    }
}

impl FromStr for SnapName {
    type Err = NotASnapName;

    fn from_str(text: &str) -> Result<Self, NotASnapName> {
        let stem = text.strip_suffix(".snap").ok_or(NotASnapName)?;
        let (term, index) = stem.split_once('-').ok_or(NotASnapName)?;
        Ok(Self {
            term: parse_hex(term)?,
            index: parse_hex(index)?,
        })
    }
}

impl fmt::Display for SnapDbName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.snap.db", self.index)
    }
}

impl FromStr for SnapDbName {
    type Err = NotASnapName;

    fn from_str(text: &str) -> Result<Self, NotASnapName> {
        let index = text.strip_suffix(".snap.db").ok_or(NotASnapName)?;
        Ok(Self {
            index: parse_hex(index)?,
        })
    }
}

/// Exactly 16 lower-case digits: `from_str_radix` alone would also take a sign or upper case.
fn parse_hex(text: &str) -> Result<u64, NotASnapName> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 16 || !text.bytes().all(is_digit) {
        return Err(NotASnapName);
    }
    u64::from_str_radix(text, 16).map_err(|_| NotASnapName)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let name = SnapName {
            term: 2,
            index: u64::MAX,
        };
        assert_eq!(name.to_string(), "0000000000000002-ffffffffffffffff.snap");
        assert_eq!(name.to_string().parse(), Ok(name));
        let name = SnapDbName { index: 0x1f };
        assert_eq!(name.to_string(), "000000000000001f.snap.db");
        assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn a_newer_snapshot_is_greater() {
        let name = |term, index| SnapName { term, index };
        assert!(name(2, 1) > name(1, 9));
        assert!(name(2, 2) > name(2, 1));
    }

    #[test]
    fn strangers_are_refused() {
        for text in [
            "",
            "db",
            "db.tmp.1234",
            "tmp1234",
            "0-0.snap",
            "0000000000000002-000000000000000A.snap",
            "0000000000000002-000000000000000a.snap.broken",
            "0000000000000002_000000000000000a.snap",
            "+000000000000002-000000000000000a.snap",
            "000000000000001f.snap.db",
        ] {
            assert_eq!(text.parse::<SnapName>(), Err(NotASnapName), "{text}");
        }
        for text in [
            "db",
            "1f.snap.db",
            "000000000000001f.snap",
            "é0000000000001f.snap.db",
        ] {
            assert_eq!(text.parse::<SnapDbName>(), Err(NotASnapName), "{text}");
        }
    }
}
