//! Golden files: comment lines start with `#`, columns are parted by tabs.

use std::fs;
use std::path::PathBuf;

use prost::bytes::Bytes;

/// A message, how it was filled, its bytes and its fields.
#[derive(Debug, PartialEq)]
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) variant: String,
    pub(crate) bytes: Bytes,
    pub(crate) dump: String,
    /// The dump without what a proto2 writer may or may not write, see [`crate::dump::Zeros`].
    pub(crate) bare: String,
}

impl Vector {
    /// No bytes are written as `-`, and a bare dump that equals the dump as `=`.
    pub(crate) fn line(&self) -> String {
        let hex = if self.bytes.is_empty() {
            "-".to_owned()
        } else {
            to_hex(&self.bytes)
        };
        let bare = if self.bare == self.dump {
            "="
        } else {
            &self.bare
        };
        [&self.name, &self.variant, &hex, &self.dump, bare].join("\t")
    }

    fn parse(line: &str) -> Vector {
        let columns: Vec<&str> = line.split('\t').collect();
        let &[name, variant, hex, dump, bare] = columns.as_slice() else {
            panic!("not five columns: {line}");
        };
        Vector {
            name: name.to_owned(),
            variant: variant.to_owned(),
            bytes: from_hex(hex.trim_start_matches('-')),
            dump: dump.to_owned(),
            bare: if bare == "=" { dump } else { bare }.to_owned(),
        }
    }
}

pub(crate) fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name]
        .iter()
        .collect()
}

pub(crate) fn lines(name: &str) -> Vec<String> {
    let text = fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

pub(crate) fn vectors(name: &str) -> Vec<Vector> {
    let vectors: Vec<_> = lines(name).iter().map(|line| Vector::parse(line)).collect();
    assert!(!vectors.is_empty(), "{name} is empty");
    vectors
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Bytes {
    assert!(
        text.is_ascii() && text.len().is_multiple_of(2),
        "not hexadecimal: {text}"
    );
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("a golden file holds digits"))
        .collect()
}
