//! What the header fields of a request mean for its call: metadata, and how much time it has.

use std::time::Duration;

use net::Metadata;
use net::grpc::{Code, Status};
use net::http::Headers;

use super::base64;

/// Fields that begin so become metadata.
const METADATA_PREFIX: &[u8] = b"grpc-metadata-";
/// Values of fields that end so travel as base64.
const BINARY_SUFFIX: &[u8] = b"-bin";

/// How long the client waits; `None`: for ever.
pub(super) fn timeout(headers: &Headers) -> Result<Option<Duration>, Status> {
    let Some(text) = headers.get("grpc-timeout").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let nanos = parse_timeout(text).ok_or_else(|| {
        let text = String::from_utf8_lossy(text);
        invalid(format!("invalid grpc-timeout: {text}"))
    })?;
    // As Go counts: what is negative, perhaps because it was too much, has passed.
    Ok((nanos != 0).then(|| Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))))
}

/// A number and a unit, in nanoseconds.
fn parse_timeout(text: &[u8]) -> Option<i64> {
    let (unit, number) = text.split_last()?;
    let unit = match unit {
        b'H' => 3_600_000_000_000_i64,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1000,
        b'n' => 1,
        _ => return None,
    };
    let number: i64 = str::from_utf8(number).ok()?.parse().ok()?;
    Some(number.wrapping_mul(unit))
}

/// What of the header fields a service may see.
pub(super) fn metadata(headers: &Headers) -> Result<Metadata, Status> {
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in headers.iter() {
        let name = name.to_ascii_lowercase();
        if name == b"authorization" {
            fields.push((name, value.to_vec()));
            continue;
        }
        let Some(own) = name.strip_prefix(METADATA_PREFIX) else {
            continue;
        };
        // etcd's gateway is a client of its own server, and this is what becomes of such a call.
        if own.is_empty() {
            return Err(internal("there is an empty key in the header"));
        }
        if own == b"connection" {
            return Err(internal(
                "stream terminated by RST_STREAM with error code: PROTOCOL_ERROR",
            ));
        }
        if !own.iter().all(is_of_name) {
            continue;
        }
        if name.ends_with(BINARY_SUFFIX) {
            fields.push((own.to_vec(), binary(&name, value)?));
        } else if value.iter().all(|octet| matches!(octet, 0x20..=0x7e)) {
            fields.push((own.to_vec(), value.to_vec()));
        }
    }
    let fields = fields.iter();
    Ok(fields.map(|(name, value)| (name, value)).collect())
}

fn is_of_name(octet: &u8) -> bool {
    octet.is_ascii_lowercase() || octet.is_ascii_digit() || b".-_".contains(octet)
}

fn binary(name: &[u8], value: &[u8]) -> Result<Vec<u8>, Status> {
    let of_standard = |octet: &&u8| !matches!(octet, b'-' | b'_');
    let decoded = match value.iter().all(|octet| of_standard(&octet)) {
        true => base64::decode(value),
        false => None,
    };
    decoded.ok_or_else(|| {
        let at = value.iter().position(|octet| !is_of_base64(*octet));
        // A last group of one letter is no octet; its beginning is told.
        let at = at.unwrap_or(value.len() / 4 * 4);
        let name = canonical(name);
        invalid(format!(
            "invalid binary header {name}: illegal base64 data at input byte {at}"
        ))
    })
}

fn is_of_base64(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/')
}

/// A field's name as Go writes it.
fn canonical(name: &[u8]) -> String {
    let words = name.split(|octet| *octet == b'-').map(|word| {
        let mut word = String::from_utf8_lossy(word).into_owned();
        if let Some(first) = word.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        word
    });
    words.collect::<Vec<_>>().join("-")
}

fn internal(text: &'static str) -> Status {
    Status::new(Code::Internal, text)
}

fn invalid(text: String) -> Status {
    Status::new(Code::InvalidArgument, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> Headers {
        fields.iter().copied().collect()
    }

    #[test]
    fn metadata_is_what_was_meant_for_it() {
        let read = metadata(&headers(&[
            ("Authorization", "token"),
            ("Grpc-Metadata-HasLeader", "true"),
            ("Grpc-Metadata-Odd!", "x"),
            ("Grpc-Metadata-Foreign", "\u{e9}"),
            ("Grpc-Metadata-X-Bin", "Zm9v"),
            ("Accept", "x"),
        ]));
        let read = read.unwrap();
        assert_eq!(read.get_str("authorization"), Some("token"));
        assert_eq!(read.get_str("hasleader"), Some("true"));
        assert_eq!(read.get_str("x-bin"), Some("foo"));
        assert_eq!(read.iter().count(), 3);
        let refused = metadata(&headers(&[("grpc-metadata-x-bin", "Zm9*")])).unwrap_err();
        assert_eq!(
            refused.message,
            "invalid binary header Grpc-Metadata-X-Bin: illegal base64 data at input byte 3"
        );
        let refused = metadata(&headers(&[("grpc-metadata-x-bin", "Zm9vZ")])).unwrap_err();
        assert!(refused.message.ends_with("input byte 4"));
        for (name, text) in [
            ("Grpc-Metadata-", "there is an empty key in the header"),
            (
                "Grpc-Metadata-Connection",
                "stream terminated by RST_STREAM with error code: PROTOCOL_ERROR",
            ),
        ] {
            let refused = metadata(&headers(&[(name, "x")])).unwrap_err();
            assert_eq!((refused.code, &*refused.message), (Code::Internal, text));
        }
    }

    #[test]
    fn timeouts() {
        let read = |text: &str| timeout(&headers(&[("Grpc-Timeout", text)]));
        assert_eq!(read("200m"), Ok(Some(Duration::from_millis(200))));
        assert_eq!(read("2H"), Ok(Some(Duration::from_secs(7200))));
        assert_eq!(read("0n"), Ok(None));
        assert_eq!(read(""), Ok(None));
        // It has passed.
        assert_eq!(read("-1S"), Ok(Some(Duration::ZERO)));
        for text in ["1x", "S", "1", "1.5S", " 1S"] {
            let status = read(text).unwrap_err();
            assert_eq!(status.message, format!("invalid grpc-timeout: {text}"));
        }
        assert_eq!(timeout(&headers(&[])), Ok(None));
    }
}
