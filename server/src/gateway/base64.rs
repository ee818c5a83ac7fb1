//! Base64 as the gateway reads and writes it (RFC 4648 §4 and §5).
//!
//! Written is the standard alphabet with padding. Read are both alphabets, and padding may be missing.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `octets`.
pub(super) fn encode(octets: &[u8], out: &mut Vec<u8>) {
    out.reserve(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|place| group.get(place).copied().unwrap_or(0));
        let bits = u32::from_be_bytes([0, a, b, c]);
        let digits = [18, 12, 6, 0].map(|shift| STANDARD[(bits >> shift) as usize & 63]);
        let len = group.len() + 1;
        out.extend_from_slice(&digits[..len]);
        out.extend_from_slice(&b"=="[..4 - len]);
    }
}

/// `None` if the text is no base64. As in Go, line ends do not count, nor do bits behind the last octet; a text of whole
/// groups has its padding, if it needs any.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let is_url = text.iter().any(|octet| matches!(octet, b'-' | b'_'));
    let is_padded = text.len().is_multiple_of(4);
    let (mut out, mut bits, mut digits, mut padding) =
        (Vec::with_capacity(text.len() / 4 * 3 + 2), 0_u32, 0, 0);
    for &octet in text.iter().filter(|octet| !matches!(octet, b'\r' | b'\n')) {
        if octet == b'=' && is_padded {
            padding += 1;
            continue;
        }
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | digit(octet, is_url)?;
        digits += 1;
        if digits % 4 == 0 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    let rest = digits % 4;
    let is_whole = match (is_padded, rest) {
        (_, 1) => false,
        (true, 0) => padding == 0,
        (true, rest) => rest + padding == 4,
        (false, _) => true,
    };
    if !is_whole {
        return None;
    }
    match rest {
        2 => out.push((bits >> 4) as u8),
        3 => out.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => {}
    }
    Some(out)
}

fn digit(octet: u8, is_url: bool) -> Option<u32> {
    let value = match octet {
        b'A'..=b'Z' => octet - b'A',
        b'a'..=b'z' => octet - b'a' + 26,
        b'0'..=b'9' => octet - b'0' + 52,
        b'+' if !is_url => 62,
        b'/' if !is_url => 63,
        b'-' if is_url => 62,
        b'_' if is_url => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(octets: &[u8]) -> String {
        let mut out = Vec::new();
        encode(octets, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn vectors_of_the_rfc() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encoded(plain.as_bytes()), text);
            assert_eq!(decode(text.as_bytes()).unwrap(), plain.as_bytes());
            let bare = text.trim_end_matches('=');
            assert_eq!(decode(bare.as_bytes()).unwrap(), plain.as_bytes());
        }
        assert_eq!(decode(b"-_-_").unwrap(), decode(b"+/+/").unwrap());
        assert_eq!(decode(b"Zm9v\nYmFy\n\r\n").unwrap(), b"foobar");
    }

    #[test]
    fn what_is_none() {
        for text in [
            "Z", "Zg=", "Zg=x", "Z===", "====", "Zm9v====", "+_AA", "a b=", "Zg==Zg==", "Zm9vZ",
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(octets: Vec<u8>) {
            prop_assert_eq!(decode(encoded(&octets).as_bytes()), Some(octets));
        }

        #[test]
        fn arbitrary_text_is_judged(text: Vec<u8>) {
            let _ = decode(&text);
        }
    }
}
