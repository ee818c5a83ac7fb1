//! The 61 fields both ends know beforehand (RFC 7541 Appendix A).

/// How many entries there are; dynamic entries are numbered from here on.
pub(super) const LEN: usize = 61;

/// Entry `index - 1`. Fields of one name stand together.
const ENTRIES: [(&str, &str); LEN] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Name and value at `index`, counted from 1.
pub(super) fn get(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    let (name, value) = ENTRIES.get(index.checked_sub(1)?)?;
    Some((name.as_bytes(), value.as_bytes()))
}

/// Where a field is found in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    Field(usize),
    Name(usize),
}

/// The entry equal to the field, else the first one with its name.
pub(super) fn find(name: &[u8], value: &[u8]) -> Option<Match> {
    let first = first_with_name(name)?;
    let same_name = ENTRIES[first - 1..]
        .iter()
        .take_while(|entry| entry.0.as_bytes() == name);
    let exact = same_name
        .zip(first..)
        .find(|(entry, _)| entry.1.as_bytes() == value);
    Some(exact.map_or(Match::Name(first), |(_, index)| Match::Field(index)))
}

const SLOT_COUNT: usize = 256;

/// Open-addressed map from a name to the index of its first entry; 0 is an empty slot.
static SLOTS: [u8; SLOT_COUNT] = build_slots();

const fn build_slots() -> [u8; SLOT_COUNT] {
    let mut slots = [0; SLOT_COUNT];
    let mut entry = 0;
    while entry < LEN {
        let name = ENTRIES[entry].0.as_bytes();
        if entry == 0 || !is_equal(name, ENTRIES[entry - 1].0.as_bytes()) {
            let mut slot = slot_of(name);
            while slots[slot] != 0 {
                slot = (slot + 1) % SLOT_COUNT;
            }
            slots[slot] = entry as u8 + 1;
        }
        entry += 1;
    }
    slots
}

const fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

/// Where the search for `name` begins. Its length and three of its letters tell the names apart well.
const fn slot_of(name: &[u8]) -> usize {
    if name.is_empty() {
        return 0;
    }
    let first = name[0] as usize;
    let middle = name[name.len() / 2] as usize;
    let last = name[name.len() - 1] as usize;
    (name.len() * 67 + first * 7 + middle * 31 + last * 3) % SLOT_COUNT
}

fn first_with_name(name: &[u8]) -> Option<usize> {
    let mut slot = slot_of(name);
    loop {
        let index = usize::from(SLOTS[slot]);
        if get(index)?.0 == name {
            return Some(index);
        }
        slot = (slot + 1) % SLOT_COUNT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_entry() {
        for index in 1..=LEN {
            let (name, value) = get(index).expect("index is in range");
            assert_eq!(find(name, value), Some(Match::Field(index)));
        }
        assert_eq!(get(0), None);
        assert_eq!(get(LEN + 1), None);
    }

    #[test]
    fn finds_names_alone() {
        assert_eq!(find(b":status", b"418"), Some(Match::Name(8)));
        assert_eq!(
            find(b"content-type", b"application/grpc"),
            Some(Match::Name(31))
        );
        assert_eq!(find(b"", b""), None);
        assert_eq!(find(b"grpc-status", b"0"), None);
        assert_eq!(find(b"Content-Type", b""), None);
    }
}
