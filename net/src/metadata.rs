//! Header fields as HTTP/2 carries them, in one buffer.
//!
//! ```text
//!  record: name length u32 LE | value length u32 LE | name | value      records follow each other without gaps
//! ```
//!
//! A request has half a dozen fields and most are never asked for, so a walk beats an index, and a list costs no
//! allocation of its own: [`Metadata`] is a piece of the connection's header arena. Lists are only ever made by
//! [`MetadataBuf`], which is why the walk may trust the lengths it reads (and still never panics on wrong ones).
//! gRPC's binary fields (`…-bin`) are left in base64.

use std::fmt;

use bytes::{BufMut, Bytes};

/// Length of the two integers before each record.
const RECORD_HEAD_LEN: usize = 8;

/// A list of header fields, in the order in which they were sent. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    records: Bytes,
}

impl Metadata {
    pub(crate) fn from_records(records: Bytes) -> Self {
        Self { records }
    }

    /// The first value of `name`, which must be in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The first value of `name` if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    pub fn get_all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(found, _)| *found == name.as_bytes())
            .map(|(_, value)| value)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> Records<'_> {
        Records(&self.records)
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Octets the list takes.
    pub(crate) fn records_len(&self) -> usize {
        self.records.len()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.iter().map(|(name, value)| {
            (
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value),
            )
        });
        f.debug_map().entries(fields).finish()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut list = MetadataBuf::default();
        for (name, value) in fields {
            list.push(name.as_ref(), value.as_ref());
        }
        Self::from_records(Bytes::from(list.0))
    }
}

/// Walks records.
#[derive(Debug, Clone)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_len, rest) = self.0.split_first_chunk::<4>()?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_len) as usize)?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
        self.0 = rest;
        Some((name, value))
    }
}

/// A list being made.
#[derive(Debug, Default)]
pub(crate) struct MetadataBuf(Vec<u8>);

impl MetadataBuf {
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        push_record(name, value, &mut self.0);
    }

    pub(crate) fn iter(&self) -> Records<'_> {
        Records(&self.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Octets the list takes.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Appends one record to `out`.
pub(crate) fn push_record(name: &[u8], value: &[u8], out: &mut impl BufMut) {
    // Lists are bounded far below 4 GiB by the header list limit; a longer string of our own would be cut, not tear
    // the list apart.
    let name = &name[..name.len().min(u32::MAX as usize)];
    let value = &value[..value.len().min(u32::MAX as usize)];
    let mut head = [0; RECORD_HEAD_LEN];
    head[..4].copy_from_slice(&(name.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&(value.len() as u32).to_le_bytes());
    out.put_slice(&head);
    out.put_slice(name);
    out.put_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_repeated_names() {
        let list: Metadata = [("a", "1"), ("token", "x"), ("a", ""), ("", "v")]
            .into_iter()
            .collect();
        assert_eq!(list.get("token"), Some(&b"x"[..]));
        assert_eq!(list.get_str("a"), Some("1"));
        assert_eq!(list.get("b"), None);
        let all: Vec<_> = list.get_all("a").collect();
        assert_eq!(all, [&b"1"[..], b""]);
        assert_eq!(list.iter().count(), 4);
        assert_eq!(
            format!("{list:?}"),
            r#"{"a": "1", "token": "x", "a": "", "": "v"}"#
        );
    }

    #[test]
    fn a_torn_list_ends_early() {
        let list: Metadata = [("name", "value")].into_iter().collect();
        for cut in 0..list.records.len() {
            let torn = Metadata::from_records(list.records.slice(..cut));
            assert_eq!(torn.iter().count(), 0);
        }
    }
}
