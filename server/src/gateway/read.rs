//! From JSON to a message's bytes, led by the tables of its type.
//!
//! ```text
//!  {"key":"Zm9v","limit":"5"}  ->  0a 03 66 6f 6f  18 05
//! ```
//!
//! The rules are those of proto3's JSON as Go's `protojson` has them when it is told to pass over unknown fields: names of
//! the file or of JSON, numbers as numbers or strings, enums by name or number (an unknown name is left out), base64 of
//! either alphabet, `null` for what is not set. So are the texts of the errors; columns count characters from 1.
//!
//! The text was found to be JSON by [`super::scan`]. Messages nest [`DEPTH_MAX`] deep at most, which is deeper than the
//! service decodes; what is passed over may nest as deep as the scan allows, without recursion.

use prost::encoding::{WireType, encode_key, encode_varint};
use proto::schema::{ENUMS, Enum, Field, Kind, MESSAGES, Message};

use super::base64;
use super::scan::is_blank;

/// Protobuf's own limit is a hundred.
const DEPTH_MAX: usize = 110;

/// Why a value is no such message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    #[error("proto: syntax error (line {line}:{column}): {text}")]
    Syntax {
        line: usize,
        column: usize,
        text: String,
    },
    #[error("proto: (line {line}:{column}): {text}")]
    Value {
        line: usize,
        column: usize,
        text: String,
    },
    #[error("proto: exceeded max recursion depth")]
    TooDeep,
}

/// The bytes of the message of this type that `value`, one whole JSON value, stands for.
pub(super) fn message(value: &[u8], message_no: usize) -> Result<Vec<u8>, ReadError> {
    let mut reader = Reader { text: value, at: 0 };
    let mut out = Vec::with_capacity(value.len());
    reader.message(&MESSAGES[message_no], 0, &mut out)?;
    Ok(out)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// One word of the text, as it stands there.
#[derive(Clone, Copy)]
struct Token<'a> {
    begin: usize,
    raw: &'a [u8],
}

impl Token<'_> {
    fn first(&self) -> u8 {
        self.raw.first().copied().unwrap_or(b' ')
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(self.raw).into_owned()
    }
}

impl<'a> Reader<'a> {
    fn message(
        &mut self,
        message: &'static Message,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        if depth > DEPTH_MAX {
            return Err(ReadError::TooDeep);
        }
        let open = self.token();
        if open.first() != b'{' {
            return Err(self.unexpected(open));
        }
        let mut seen = Vec::new();
        let mut seen_oneofs: Vec<&'static str> = Vec::new();
        while let Some(name) = self.member_name() {
            let text = self.string(name)?;
            let Some(field) = find_field(message, &text) else {
                self.skip_value()?;
                continue;
            };
            if seen.contains(&field.number) {
                return Err(self.wrong(name, format!("duplicate field {}", name.shown())));
            }
            seen.push(field.number);
            if self.peek() == b'n' {
                self.token();
                continue;
            }
            if field.is_repeated {
                self.list(field, depth, out)?;
                continue;
            }
            if let Some(oneof) = field.oneof {
                if seen_oneofs.contains(&oneof) {
                    let text = format!(
                        "error parsing {}, oneof {oneof} is already set",
                        name.shown()
                    );
                    return Err(self.wrong(name, text));
                }
                seen_oneofs.push(oneof);
            }
            self.value(field, depth, out)?;
        }
        Ok(())
    }

    fn list(
        &mut self,
        field: &'static Field,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let open = self.token();
        if open.first() != b'[' {
            return Err(self.unexpected(open));
        }
        while self.has_element() {
            self.value(field, depth, out)?;
        }
        Ok(())
    }

    /// Appends a field with the value that comes next.
    fn value(
        &mut self,
        field: &'static Field,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        if let Kind::Message(no) = field.kind {
            let mut inner = Vec::new();
            self.message(&MESSAGES[no], depth + 1, &mut inner)?;
            put_bytes(field.number, &inner, out);
            return Ok(());
        }
        let token = self.token();
        match self.scalar(field, token)? {
            Scalar::Varint(number) => {
                encode_key(field.number, WireType::Varint, out);
                encode_varint(number, out);
            }
            Scalar::Bytes(octets) => put_bytes(field.number, &octets, out),
            Scalar::Nothing => {}
        }
        Ok(())
    }

    fn scalar(&self, field: &Field, token: Token<'a>) -> Result<Scalar, ReadError> {
        let is_string = token.first() == b'"';
        let text = match is_string {
            true => Some(self.string(token)?),
            false => None,
        };
        let number = || match &text {
            Some(text) => integer(text.as_bytes()),
            None => integer(token.raw),
        };
        let value = match field.kind {
            Kind::Bool => match token.raw {
                b"true" => Some(Scalar::Varint(1)),
                b"false" => Some(Scalar::Varint(0)),
                _ => None,
            },
            Kind::Int32 => number().and_then(|n| i32::try_from(n).ok()).map(signed),
            Kind::Int64 => number().and_then(|n| i64::try_from(n).ok()).map(signed),
            Kind::Uint32 => number()
                .and_then(|n| u32::try_from(n).ok())
                .map(|n| Scalar::Varint(n.into())),
            Kind::Uint64 => number()
                .and_then(|n| u64::try_from(n).ok())
                .map(Scalar::Varint),
            Kind::String => text.map(|text| Scalar::Bytes(text.into_bytes())),
            Kind::Bytes => text
                .and_then(|text| base64::decode(text.as_bytes()))
                .map(Scalar::Bytes),
            Kind::Enum(no) => enum_value(&ENUMS[no], text.as_deref(), token.raw),
            Kind::Message(_) | Kind::Other => None,
        };
        value.ok_or_else(|| {
            let (kind, name) = (field.kind.label(), field.json_name);
            let text = format!("invalid value for {kind} field {name}: {}", token.shown());
            self.wrong(token, text)
        })
    }

    // ---- words

    fn peek(&mut self) -> u8 {
        while self
            .text
            .get(self.at)
            .is_some_and(|o| is_blank(*o) || matches!(o, b',' | b':'))
        {
            self.at += 1;
        }
        self.text.get(self.at).copied().unwrap_or(b'}')
    }

    /// The next word; commas and colons are where the grammar wants them.
    fn token(&mut self) -> Token<'a> {
        let first = self.peek();
        let rest = &self.text[self.at.min(self.text.len())..];
        let len = match first {
            b'{' | b'}' | b'[' | b']' => 1,
            b'"' => string_len(rest),
            _ => rest
                .iter()
                .position(|o| is_blank(*o) || matches!(o, b',' | b':' | b']' | b'}'))
                .unwrap_or(rest.len()),
        };
        let token = Token {
            begin: self.at,
            raw: &rest[..len.min(rest.len())],
        };
        self.at += token.raw.len();
        token
    }

    /// The name of the next member; `None`, past its end, behind the last one.
    fn member_name(&mut self) -> Option<Token<'a>> {
        let token = self.token();
        (token.first() == b'"').then_some(token)
    }

    /// Whether an array goes on; its end is taken.
    fn has_element(&mut self) -> bool {
        let has_more = !matches!(self.peek(), b']' | b'}');
        if !has_more {
            self.token();
        }
        has_more
    }

    fn skip_value(&mut self) -> Result<(), ReadError> {
        let mut open = 0_usize;
        loop {
            let token = self.token();
            match token.first() {
                b'{' | b'[' => open += 1,
                b'}' | b']' => open = open.saturating_sub(1),
                // It is read as any other, so that it is found out if it is no text.
                b'"' => drop(self.string(token)?),
                _ => {}
            }
            if open == 0 || token.raw.is_empty() {
                return Ok(());
            }
        }
    }

    /// What a string says.
    fn string(&self, token: Token<'_>) -> Result<String, ReadError> {
        let end = token.raw.len().saturating_sub(1).max(1);
        let inner = token.raw.get(1..end).unwrap_or_default();
        let Ok(text) = str::from_utf8(inner) else {
            return Err(self.syntax(token.begin, "invalid UTF-8 in string".to_owned()));
        };
        if !text.contains('\\') {
            return Ok(text.to_owned());
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((plain, escaped)) = rest.split_once('\\') {
            out.push_str(plain);
            let (character, len) = unescape(escaped).ok_or_else(|| {
                let shown: String = escaped.chars().take(5).collect();
                let text = format!("invalid escape code \"\\\\{shown}\" in string");
                self.syntax(token.begin, text)
            })?;
            out.push(character);
            rest = &escaped[len..];
        }
        out.push_str(rest);
        Ok(out)
    }

    // ---- errors

    fn unexpected(&self, token: Token<'_>) -> ReadError {
        self.syntax(token.begin, format!("unexpected token {}", token.shown()))
    }

    fn syntax(&self, at: usize, text: String) -> ReadError {
        let (line, column) = self.position(at);
        ReadError::Syntax { line, column, text }
    }

    fn wrong(&self, token: Token<'_>, text: String) -> ReadError {
        let (line, column) = self.position(token.begin);
        ReadError::Value { line, column, text }
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.split(|octet| *octet == b'\n');
        let last = line.clone().next_back().unwrap_or_default();
        (
            line.count(),
            String::from_utf8_lossy(last).chars().count() + 1,
        )
    }
}

/// What a field's value becomes.
enum Scalar {
    Varint(u64),
    Bytes(Vec<u8>),
    /// A name that the enum does not have.
    Nothing,
}

fn signed(number: impl Into<i64>) -> Scalar {
    // A negative number takes ten octets, of 32 bits too (protobuf's encoding of int32).
    Scalar::Varint(number.into().cast_unsigned())
}

fn put_bytes(number: u32, octets: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(octets.len() as u64, out);
    out.extend_from_slice(octets);
}

fn find_field(message: &'static Message, name: &str) -> Option<&'static Field> {
    let by_json = message.fields.iter().find(|field| field.json_name == name);
    by_json.or_else(|| message.fields.iter().find(|field| field.name == name))
}

fn enum_value(item: &Enum, text: Option<&str>, raw: &[u8]) -> Option<Scalar> {
    match text {
        Some(name) => Some(item.number_of(name).map_or(Scalar::Nothing, signed)),
        None => integer(raw).and_then(|n| i32::try_from(n).ok()).map(signed),
    }
}

/// The length of a string with its quotes, at the front of `rest`.
fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while let Some(octet) = rest.get(at) {
        match octet {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The character behind a backslash, and the length of what stands for it.
fn unescape(escaped: &str) -> Option<(char, usize)> {
    let character = match escaped.as_bytes().first()? {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unescape_utf16(escaped),
        other => char::from(*other),
    };
    Some((character, 1))
}

/// One character, or two halves of one (RFC 8259 §7).
fn unescape_utf16(escaped: &str) -> Option<(char, usize)> {
    let unit = |at: usize| u16::from_str_radix(escaped.get(at..at + 4)?, 16).ok();
    let first = unit(1)?;
    if let Some(character) = char::from_u32(first.into()) {
        return Some((character, 5));
    }
    let second = (escaped.get(5..7)? == "\\u").then(|| unit(7)).flatten()?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, 11))
}

/// A whole number, however it is written: `12`, `1.2e1`, `120e-1`.
fn integer(text: &[u8]) -> Option<i128> {
    /// More than any number of 64 bits has.
    const DIGITS_MAX: usize = 20;
    let text = str::from_utf8(text).ok()?;
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    let is_number = |part: &str| part.bytes().all(|octet| octet.is_ascii_digit());
    let has_zero_first = whole.len() > 1 && whole.starts_with('0');
    if whole.is_empty() || has_zero_first || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    // How many digits stand before the point once the exponent has moved it.
    let place = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let significant = digits.trim_end_matches('0').trim_start_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let place = usize::try_from(place).ok()?;
    let leading = digits.len() - digits.trim_start_matches('0').len();
    if digits.trim_end_matches('0').len() > place || place.saturating_sub(leading) > DIGITS_MAX {
        return None;
    }
    let mut number: i128 = 0;
    for at in 0..place {
        let digit = digits.as_bytes().get(at).map_or(0, |octet| octet - b'0');
        number = number * 10 + i128::from(digit);
    }
    Some(if is_negative { -number } else { number })
}

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    // What does not fit makes the number too large or too small.
    let exponent = digits.parse::<i64>().ok().filter(|e| *e <= 1 << 32)?;
    Some(if text.starts_with('-') {
        -exponent
    } else {
        exponent
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use proto::etcdserverpb::{
        AlarmRequest, CompactionRequest, RangeRequest, TxnRequest, compare, request_op,
    };

    use super::super::scan;
    use super::*;

    fn input(path: &str) -> usize {
        proto::schema::method(path).unwrap().input
    }

    fn read(path: &str, text: &str) -> Result<Vec<u8>, String> {
        let (value, _) = scan::first_value(text.as_bytes()).unwrap();
        message(&value, input(path)).map_err(|error| error.to_string())
    }

    const RANGE: &str = "/etcdserverpb.KV/Range";
    const TXN: &str = "/etcdserverpb.KV/Txn";

    #[test]
    fn either_name_numbers_as_strings_and_unknown_fields() {
        let text = r#"{"key":"Zm9v","rangeEnd":"Zm9w","limit":"5","revision":-1,"sort_order":"DESCEND",
            "sort_target":2,"keysOnly":true,"what":{"a":[1,{"b":"\u00e9]"}]},"serializable":null}"#;
        let range = RangeRequest::decode(&read(RANGE, text).unwrap()[..]).unwrap();
        let expected = RangeRequest {
            key: "foo".into(),
            range_end: "fop".into(),
            limit: 5,
            revision: -1,
            sort_order: 2,
            sort_target: 2,
            keys_only: true,
            ..RangeRequest::default()
        };
        assert_eq!(range, expected);
    }

    #[test]
    fn messages_nest_and_repeat() {
        let text = r#"{"compare":[{"target":"CREATE","key":"Zm9v","createRevision":"0"}],
            "success":[{"requestPut":{"key":"Zm9v","value":"YmFy"}},{"request_txn":{"failure":[{"request_range":{}}]}}]}"#;
        let txn = TxnRequest::decode(&read(TXN, text).unwrap()[..]).unwrap();
        assert_eq!(
            txn.compare[0].target_union,
            Some(compare::TargetUnion::CreateRevision(0))
        );
        assert!(matches!(
            txn.success[0].request,
            Some(request_op::Request::RequestPut(_))
        ));
        assert_eq!(txn.success.len(), 2);
    }

    #[test]
    fn an_unknown_name_of_an_enum_is_left_out() {
        let bytes = read(
            "/etcdserverpb.Maintenance/Alarm",
            r#"{"action":"X","alarm":"NOSPACE"}"#,
        );
        let alarm = AlarmRequest::decode(&bytes.unwrap()[..]).unwrap();
        assert_eq!((alarm.action, alarm.alarm), (0, 1));
    }

    #[test]
    fn whole_numbers_have_many_forms() {
        let number = |text: &str| {
            let text = format!("{{\"revision\":{text}}}");
            read("/etcdserverpb.KV/Compact", &text)
                .map(|b| CompactionRequest::decode(&b[..]).unwrap().revision)
                .ok()
        };
        for (text, expected) in [
            ("12", Some(12)),
            ("\"12\"", Some(12)),
            ("1.2e1", Some(12)),
            ("120e-1", Some(12)),
            ("0.0", Some(0)),
            ("0e99", Some(0)),
            ("-0", Some(0)),
            ("0.00012e5", Some(12)),
            ("9223372036854775807", Some(i64::MAX)),
            ("\"-9223372036854775808\"", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("1e4000000000", None),
            ("1.5", None),
            ("\" 12\"", None),
            ("\"\"", None),
            ("\"012\"", None),
            ("\"1.\"", None),
            ("true", None),
            ("[]", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn errors_are_those_of_go() {
        for (text, expected) in [
            ("[]", "proto: syntax error (line 1:1): unexpected token ["),
            ("1", "proto: syntax error (line 1:1): unexpected token 1"),
            (
                r#"{"key":5}"#,
                "proto: (line 1:8): invalid value for bytes field key: 5",
            ),
            (
                "{\n \"range_end\": \"*\"}",
                "proto: (line 2:15): invalid value for bytes field rangeEnd: \"*\"",
            ),
            (
                r#"{"key":"","key":""}"#,
                "proto: (line 1:11): duplicate field \"key\"",
            ),
            (
                r#"{"count_only":1}"#,
                "proto: (line 1:15): invalid value for bool field countOnly: 1",
            ),
        ] {
            assert_eq!(read(RANGE, text).unwrap_err(), expected, "{text}");
        }
        let twice = r#"{"compare":[{"version":"1","lease":"1"}]}"#;
        assert_eq!(
            read(TXN, twice).unwrap_err(),
            "proto: (line 1:28): error parsing \"lease\", oneof etcdserverpb.Compare.target_union is already set"
        );
        let list = r#"{"compare":{}}"#;
        assert_eq!(
            read(TXN, list).unwrap_err(),
            "proto: syntax error (line 1:12): unexpected token {"
        );
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| {
            let open = "{\"success\":[{\"request_txn\":".repeat(depth);
            open + "{}" + &"}]}".repeat(depth)
        };
        assert!(read(TXN, &deep(40)).is_ok());
        assert_eq!(
            read(TXN, &deep(1000)).unwrap_err(),
            "proto: exceeded max recursion depth"
        );
        let unknown = format!("{{\"x\":{}{}}}", "[".repeat(9000), "]".repeat(9000));
        assert!(read(RANGE, &unknown).is_ok());
    }

    mod arbitrary {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            /// Whatever is JSON is read or refused; what is read can be decoded.
            #[test]
            fn text_is_judged(text in r#"[\[\]{}:,"\\a-c0-9eu.\- ]{0,40}|\{("(key|limit|kvs|compare|success)":("[A-Za-z0-9=]{0,6}"|[0-9.e-]{1,5}|\{\}|\[\{\}\]|null|true),?){0,4}\}"#) {
                if let Ok((value, _)) = scan::first_value(text.as_bytes())
                    && let Ok(bytes) = message(&value, input(TXN))
                {
                    prop_assert!(TxnRequest::decode(&bytes[..]).is_ok());
                }
            }
        }
    }
}
