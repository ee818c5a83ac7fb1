//! How a call ends: code and message, and their form in `grpc-status` and `grpc-message`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// gRPC's status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Every code, at the index of its number.
const CODES: [Code; 17] = [
    Code::Ok,
    Code::Canceled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

impl Code {
    /// `None` for a number gRPC has no name for.
    pub fn from_number(number: u32) -> Option<Self> {
        CODES.get(usize::try_from(number).ok()?).copied()
    }

    /// The number in decimal, as `grpc-status` carries it.
    pub fn as_str(self) -> &'static str {
        const DIGITS: [&str; 17] = [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
            "16",
        ];
        DIGITS[self as usize]
    }

    /// Go's name of the code, as metrics and logs spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Canceled => "Canceled",
            Self::Unknown => "Unknown",
            Self::InvalidArgument => "InvalidArgument",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::PermissionDenied => "PermissionDenied",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::FailedPrecondition => "FailedPrecondition",
            Self::Aborted => "Aborted",
            Self::OutOfRange => "OutOfRange",
            Self::Unimplemented => "Unimplemented",
            Self::Internal => "Internal",
            Self::Unavailable => "Unavailable",
            Self::DataLoss => "DataLoss",
            Self::Unauthenticated => "Unauthenticated",
        }
    }

    /// What a client makes of a response that is not gRPC (an HTTP status from a proxy, say).
    pub(crate) fn from_http(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl Status {
    pub const OK: Self = Self {
        code: Code::Ok,
        message: Cow::Borrowed(""),
    };

    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }
}

/// Percent-encodes a message for `grpc-message`: what is not printable ASCII, and `%`, becomes `%XX`. So does a space at
/// either end, which a field value must not have (RFC 9113 §8.2.1).
pub(crate) fn encode_message(message: &str) -> Cow<'_, str> {
    let is_plain = |octet: u8| (b' '..=b'~').contains(&octet) && octet != b'%';
    if message.bytes().all(is_plain) && message.trim_matches(' ').len() == message.len() {
        return Cow::Borrowed(message);
    }
    let last = message.len().saturating_sub(1);
    let mut encoded = String::with_capacity(message.len() + 16);
    for (at, octet) in message.bytes().enumerate() {
        let is_at_end = at == 0 || at == last;
        if is_plain(octet) && !(octet == b' ' && is_at_end) {
            encoded.push(char::from(octet));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{octet:02X}");
        }
    }
    Cow::Owned(encoded)
}

/// Undoes [`encode_message`]. Escapes that are none stay as they are; what is not UTF-8 is replaced.
pub(crate) fn decode_message(encoded: &[u8]) -> String {
    let mut octets = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail.split_first_chunk::<2>()) {
            (b'%', Some((digits, tail))) if digits.iter().all(u8::is_ascii_hexdigit) => {
                let digit = |octet: u8| char::from(octet).to_digit(16).unwrap_or(0) as u8;
                octets.push(digit(digits[0]) << 4 | digit(digits[1]));
                rest = tail;
            }
            _ => octets.push(first),
        }
    }
    String::from_utf8(octets)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The status a client reads from trailers. `None` if there is no valid `grpc-status`.
pub(crate) fn parse_status(code: Option<&[u8]>, message: Option<&[u8]>) -> Option<Status> {
    let number: u32 = str::from_utf8(code?).ok()?.parse().ok()?;
    Some(Status {
        code: Code::from_number(number).unwrap_or(Code::Unknown),
        message: decode_message(message.unwrap_or_default()).into(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_and_numbers() {
        for (number, code) in CODES.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert_eq!(code.as_str(), number.to_string());
            assert_eq!(Code::from_number(number as u32), Some(code));
        }
        assert_eq!(Code::from_number(17), None);
        assert_eq!(Code::DeadlineExceeded.name(), "DeadlineExceeded");
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(
            encode_message("etcdserver: no leader"),
            "etcdserver: no leader"
        );
        assert_eq!(
            encode_message("100% \"x\"\n\u{e9}"),
            "100%25 \"x\"%0A%C3%A9"
        );
        assert_eq!(encode_message("  a "), "%20 a%20");
        assert_eq!(decode_message(b"%zz%4"), "%zz%4");
        assert_eq!(decode_message(b"a%20b%ff"), "a b\u{fffd}");
    }

    #[test]
    fn statuses_are_read_from_trailers() {
        assert_eq!(parse_status(Some(b"0"), None), Some(Status::OK));
        assert_eq!(
            parse_status(Some(b"14"), Some(b"a%25")),
            Some(Status::new(Code::Unavailable, "a%"))
        );
        assert_eq!(
            parse_status(Some(b"99"), None).map(|status| status.code),
            Some(Code::Unknown)
        );
        assert_eq!(parse_status(Some(b"x"), None), None);
        assert_eq!(parse_status(None, Some(b"x")), None);
    }

    proptest! {
        #[test]
        fn any_message_survives(message in "\\PC*") {
            let encoded = encode_message(&message);
            prop_assert!(encoded.bytes().all(|octet| (b' '..=b'~').contains(&octet)));
            prop_assert_eq!(decode_message(encoded.as_bytes()), message);
        }
    }
}
