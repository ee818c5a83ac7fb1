//! Snapshot files, their names, and the values of the database's bucket `meta`.
//!
//! ```text
//!  input = kind, then: 0 a file's octets · 1 a file to write, and which bit of it to change · 2 a value · 3 a name
//! ```

use bytes::Bytes;
use engine::boot::meta;
use engine::snap::{SnapDbName, SnapFile, SnapName};
use proto::raftpb::ConfState;

use crate::input::Input;

pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    match input.byte() % 4 {
        0 => check_file(Bytes::copy_from_slice(input.rest())),
        1 => check_changed_file(&mut input),
        2 => check_value(input.rest()),
        _ => check_name(&String::from_utf8_lossy(input.rest())),
    }
}

/// What is read is written so that it reads the same.
fn check_file(octets: Bytes) {
    let Ok(file) = SnapFile::decode(octets.clone()) else {
        return;
    };
    let mut again = SnapFile::decode_as(file.name(), file.encode()).expect("what we write we read");
    // Unset is written as false.
    if file.conf_state.auto_leave.is_none() {
        again.conf_state.auto_leave = None;
    }
    assert_eq!(again, file);
}

/// A changed bit never makes another snapshot.
fn check_changed_file(input: &mut Input<'_>) {
    let ids = |input: &mut Input<'_>| {
        (0..input.byte() % 4)
            .map(|_| u64::from(input.u32()))
            .collect()
    };
    let file = SnapFile {
        term: u64::from(input.u32()),
        index: u64::from(input.u32()) + 1,
        conf_state: ConfState {
            voters: ids(input),
            learners: ids(input),
            auto_leave: Some(false),
            ..ConfState::default()
        },
        data: Bytes::copy_from_slice(input.piece()),
    };
    let encoded = file.encode();
    assert_eq!(SnapFile::decode(encoded.clone()).as_ref(), Ok(&file));
    let mut changed = encoded.to_vec();
    let (at, bit) = (usize::from(input.u16()) % changed.len(), input.byte() % 8);
    changed[at] ^= 1 << bit;
    if let Ok(read) = SnapFile::decode(changed.into()) {
        assert_eq!(read, file);
    }
}

fn check_value(value: &[u8]) {
    if let Ok(number) = meta::decode_number(value) {
        assert_eq!(meta::encode_number(number), value);
    }
    let _ = meta::decode_storage_version(value);
    if let Ok(mut conf_state) = meta::decode_conf_state(value) {
        let written = meta::encode_conf_state(&conf_state);
        conf_state.auto_leave = Some(conf_state.auto_leave());
        assert_eq!(meta::decode_conf_state(&written), Ok(conf_state));
    }
}

fn check_name(text: &str) {
    if let Ok(name) = text.parse::<SnapName>() {
        assert_eq!(name.to_string(), text);
    }
    if let Ok(name) = text.parse::<SnapDbName>() {
        assert_eq!(name.to_string(), text);
    }
}
