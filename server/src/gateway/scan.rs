//! Finds one whole JSON value in some octets, with the errors of Go's `encoding/json`.
//!
//! The gateway of etcd reads a request in two steps: this one, which only sees to the grammar (RFC 8259; octets beyond
//! ASCII are not looked at), and then [`super::read`], which knows the type. Clients see the errors of both.
//!
//! It keeps one octet for each open bracket, [`DEPTH_MAX`] of them at most, and calls nothing recursively.

/// Open brackets in a value. It is Go's limit.
const DEPTH_MAX: usize = 10_000;

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScanError {
    /// Only blanks are left.
    #[error("EOF")]
    Empty,
    #[error("unexpected EOF")]
    Truncated,
    #[error("invalid character {} {expected}", quoted(*found))]
    Invalid { found: u8, expected: String },
    #[error("exceeded max depth")]
    TooDeep,
}

/// As Go shows a character of one octet.
fn quoted(octet: u8) -> String {
    match octet {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        7 => r"'\a'".to_owned(),
        8 => r"'\b'".to_owned(),
        9 => r"'\t'".to_owned(),
        10 => r"'\n'".to_owned(),
        11 => r"'\v'".to_owned(),
        12 => r"'\f'".to_owned(),
        13 => r"'\r'".to_owned(),
        0x20..=0x7e => format!("'{}'", char::from(octet)),
        0..=0x1f | 0x7f => format!("'\\x{octet:02x}'"),
        // Go takes the octet for the character of that number.
        0x80..=0xa0 | 0xad => format!("'\\u{:04x}'", u32::from(octet)),
        other => format!("'{}'", char::from(other)),
    }
}

/// Splits `octets` behind their first value, which is returned without the blanks before it.
pub(super) fn first_value(octets: &[u8]) -> Result<(&[u8], &[u8]), ScanError> {
    let begin = octets
        .iter()
        .position(|octet| !is_blank(*octet))
        .ok_or(ScanError::Empty)?;
    let text = &octets[begin..];
    let len = Scanner { text, at: 0 }.value_len()?;
    Ok(text.split_at(len))
}

pub(super) fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    /// A value, or the end of an array that was just opened.
    ValueOrEnd,
    Key,
    /// A key, or the end of an object that was just opened.
    KeyOrEnd,
    Colon,
    /// A comma or the end of what is open.
    Next,
}

impl Scanner<'_> {
    fn value_len(mut self) -> Result<usize, ScanError> {
        let mut open = Vec::new();
        let mut state = State::Value;
        loop {
            let Some(octet) = self.peek_past_blanks() else {
                return Err(ScanError::Truncated);
            };
            state = match (state, octet) {
                (State::Value | State::ValueOrEnd, b'{' | b'[') => {
                    if open.len() >= DEPTH_MAX {
                        return Err(ScanError::TooDeep);
                    }
                    open.push(octet);
                    self.at += 1;
                    match octet {
                        b'{' => State::KeyOrEnd,
                        _ => State::ValueOrEnd,
                    }
                }
                (State::ValueOrEnd, b']') | (State::KeyOrEnd, b'}') => self.close(&mut open),
                (State::Value | State::ValueOrEnd, _) => {
                    self.scalar(octet)?;
                    State::Next
                }
                (State::Key | State::KeyOrEnd, b'"') => {
                    self.string()?;
                    State::Colon
                }
                (State::Key | State::KeyOrEnd, _) => {
                    return Err(self.invalid("looking for beginning of object key string"));
                }
                (State::Colon, b':') => {
                    self.at += 1;
                    State::Value
                }
                (State::Colon, _) => return Err(self.invalid("after object key")),
                (State::Next, b',') => {
                    self.at += 1;
                    match open.last() {
                        Some(b'{') => State::Key,
                        _ => State::Value,
                    }
                }
                (State::Next, b'}') if open.last() == Some(&b'{') => self.close(&mut open),
                (State::Next, b']') if open.last() == Some(&b'[') => self.close(&mut open),
                (State::Next, _) => {
                    return Err(self.invalid(match open.last() {
                        Some(b'{') => "after object key:value pair",
                        _ => "after array element",
                    }));
                }
            };
            if state == State::Next && open.is_empty() {
                return Ok(self.at);
            }
        }
    }

    fn close(&mut self, open: &mut Vec<u8>) -> State {
        open.pop();
        self.at += 1;
        State::Next
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn peek_past_blanks(&mut self) -> Option<u8> {
        while self.peek().is_some_and(is_blank) {
            self.at += 1;
        }
        self.peek()
    }

    /// The octet at hand does not fit, or there is none.
    fn invalid(&self, expected: &str) -> ScanError {
        match self.peek() {
            None => ScanError::Truncated,
            Some(found) => ScanError::Invalid {
                found,
                expected: expected.to_owned(),
            },
        }
    }

    fn scalar(&mut self, first: u8) -> Result<(), ScanError> {
        match first {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            _ => Err(self.invalid("looking for beginning of value")),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), ScanError> {
        for octet in word.bytes() {
            if self.peek() != Some(octet) {
                let expected = char::from(octet);
                return Err(self.invalid(&format!("in literal {word} (expecting '{expected}')")));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), ScanError> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                None | Some(0..=0x1f) => return Err(self.invalid("in string literal")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        self.at += 1;
        match self.peek() {
            Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|octet| octet.is_ascii_hexdigit()) {
                        return Err(self.invalid("in \\u hexadecimal character escape"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.invalid("in string escape code")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), ScanError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits("in numeric literal")?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digits(&mut self, place: &str) -> Result<(), ScanError> {
        let begin = self.at;
        while self.peek().is_some_and(|octet| octet.is_ascii_digit()) {
            self.at += 1;
        }
        match self.at == begin {
            true => Err(self.invalid(place)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        first_value(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_value_is_split_from_what_follows() {
        let split = |text: &'static str| first_value(text.as_bytes()).unwrap();
        assert_eq!(split(" {} x"), (&b"{}"[..], &b" x"[..]));
        let (value, rest) = split("[1,-0.5e+3,\"\\u00e9\\\"\",null,{\"a\":[[]]}]{");
        assert_eq!((value.len(), rest), (38, &b"{"[..]));
        assert_eq!(split("12 "), (&b"12"[..], &b" "[..]));
        assert_eq!(split("true"), (&b"true"[..], &b""[..]));
        assert_eq!(split("00"), (&b"0"[..], &b"0"[..]));
    }

    #[test]
    fn errors_are_those_of_go() {
        let cases = [
            ("", "EOF"),
            (" \n", "EOF"),
            ("{", "unexpected EOF"),
            ("\"abc", "unexpected EOF"),
            (
                "foo",
                "invalid character 'o' in literal false (expecting 'a')",
            ),
            ("x", "invalid character 'x' looking for beginning of value"),
            (
                "{x",
                "invalid character 'x' looking for beginning of object key string",
            ),
            ("{\"a\"}", "invalid character '}' after object key"),
            (
                "{\"a\":1]",
                "invalid character ']' after object key:value pair",
            ),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            (
                "\"\\u12g",
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            ("-x", "invalid character 'x' in numeric literal"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            (
                "1ex",
                "invalid character 'x' in exponent of numeric literal",
            ),
            (
                "'",
                "invalid character '\\'' looking for beginning of value",
            ),
            ("é", "invalid character 'Ã' looking for beginning of value"),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected, "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(first_value(deep(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(error(&deep(DEPTH_MAX + 1)), "exceeded max depth");
    }
}
