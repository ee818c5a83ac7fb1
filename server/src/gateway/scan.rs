//! Finds one whole JSON value in some octets, with the errors of Go's `encoding/json`.
//!
//! The gateway of etcd reads a request in two steps: this one, which only sees to the grammar (RFC 8259; octets beyond
//! ASCII are not looked at), and then [`super::read`], which knows the type. Clients see the errors of both.
//!
//! The text may come in any pieces. It keeps one octet for each open bracket, [`DEPTH_MAX`] of them at most, and calls
//! nothing recursively.

use bytes::{Buf, BytesMut};

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

/// Whether JSON passes over it between two words.
pub(super) fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// The values of a text that comes piece by piece. Each octet is looked at once, however it comes.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// What has come since the last value.
    text: BytesMut,
    scanner: Scanner,
}

impl Values {
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.text.extend_from_slice(octets);
    }

    /// Octets that wait for the end of their value.
    pub(super) fn held_len(&self) -> usize {
        self.text.len()
    }

    /// The next value, without blanks around it; `None`: its end has not come. No more text comes if `is_last`.
    pub(super) fn poll_value(&mut self, is_last: bool) -> Result<Option<BytesMut>, ScanError> {
        let Some(end) = self.scanner.scan(&self.text, is_last)? else {
            if self.scanner.is_at_begin() {
                self.text = BytesMut::new();
                self.scanner = Scanner::default();
            }
            return Ok(None);
        };
        let mut value = self.text.split_to(end);
        let blank_len = value.iter().take_while(|octet| is_blank(**octet)).count();
        value.advance(blank_len);
        self.scanner = Scanner::default();
        Ok(Some(value))
    }
}

/// How far a text was looked at, and what may come next.
#[derive(Debug, Default)]
struct Scanner {
    at: usize,
    /// The brackets that are open.
    open: Vec<u8>,
    state: State,
}

/// What may come next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but blanks has come.
    #[default]
    Begin,
    Value,
    /// A value, or the end of an array that was just opened.
    ValueOrEnd,
    Key,
    /// A key, or the end of an object that was just opened.
    KeyOrEnd,
    Colon,
    /// A comma or the end of what is open; with nothing open, the value is whole.
    Next,
    /// More of a string, which is the key of a member or not; so in the next two.
    Text {
        is_key: bool,
    },
    Escape {
        is_key: bool,
    },
    Hex {
        is_key: bool,
        left: u8,
    },
    /// The letters of a word from this place on.
    Literal {
        word: &'static str,
        at: usize,
    },
    Number(Number),
}

/// Which part of a number has come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Number {
    /// Whether it may end here.
    fn is_whole(self) -> bool {
        matches!(
            self,
            Number::Zero | Number::Digits | Number::Fraction | Number::ExponentDigits
        )
    }

    /// What it becomes with one octet more; `None`: that is not of a number.
    fn next(self, octet: u8) -> Option<Self> {
        Some(match (self, octet) {
            (Number::Minus, b'0') => Number::Zero,
            (Number::Minus | Number::Digits, b'0'..=b'9') => Number::Digits,
            (Number::Zero | Number::Digits, b'.') => Number::Point,
            (Number::Zero | Number::Digits | Number::Fraction, b'e' | b'E') => Number::Exponent,
            (Number::Point | Number::Fraction, b'0'..=b'9') => Number::Fraction,
            (Number::Exponent, b'+' | b'-') => Number::ExponentSign,
            (Number::Exponent | Number::ExponentSign | Number::ExponentDigits, b'0'..=b'9') => {
                Number::ExponentDigits
            }
            _ => return None,
        })
    }

    /// Where a number is that cannot end here.
    fn place(self) -> &'static str {
        match self {
            Number::Point => "after decimal point in numeric literal",
            Number::Exponent | Number::ExponentSign => "in exponent of numeric literal",
            _ => "in numeric literal",
        }
    }
}

impl Scanner {
    fn is_at_begin(&self) -> bool {
        self.state == State::Begin
    }

    /// Goes on where it stopped in a text that has grown. `Some`: where the value ends.
    fn scan(&mut self, text: &[u8], is_last: bool) -> Result<Option<usize>, ScanError> {
        while let Some(octet) = text.get(self.at) {
            if self.step(*octet)? {
                self.at += 1;
            }
            if self.state == State::Next && self.open.is_empty() {
                return Ok(Some(self.at));
            }
        }
        match self.state {
            _ if !is_last => Ok(None),
            State::Begin => Err(ScanError::Empty),
            State::Number(number) if number.is_whole() && self.open.is_empty() => Ok(Some(self.at)),
            _ => Err(ScanError::Truncated),
        }
    }

    /// Takes an octet; `false`: it ended a number, and is to be looked at again.
    fn step(&mut self, octet: u8) -> Result<bool, ScanError> {
        let state = match (self.state, octet) {
            (State::Text { is_key }, b'"') if is_key => State::Colon,
            (State::Text { .. }, b'"') => State::Next,
            (State::Text { is_key }, b'\\') => State::Escape { is_key },
            (State::Text { .. }, 0..=0x1f) => return Err(invalid(octet, "in string literal")),
            (State::Text { .. }, _) => return Ok(true),
            (State::Escape { is_key }, b'u') => State::Hex { is_key, left: 4 },
            (State::Escape { is_key }, b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => {
                State::Text { is_key }
            }
            (State::Escape { .. }, _) => return Err(invalid(octet, "in string escape code")),
            (State::Hex { is_key, left }, _) if octet.is_ascii_hexdigit() => match left {
                1 => State::Text { is_key },
                _ => State::Hex {
                    is_key,
                    left: left - 1,
                },
            },
            (State::Hex { .. }, _) => {
                return Err(invalid(octet, "in \\u hexadecimal character escape"));
            }
            (State::Literal { word, at }, _) => literal(word, at, octet)?,
            (State::Number(number), _) => match number.next(octet) {
                Some(number) => State::Number(number),
                None if number.is_whole() => {
                    self.state = State::Next;
                    return Ok(false);
                }
                None => return Err(invalid(octet, number.place())),
            },
            (_, _) if is_blank(octet) => return Ok(true),
            (State::Begin | State::Value | State::ValueOrEnd, b'{') => {
                self.open(octet, State::KeyOrEnd)?
            }
            (State::Begin | State::Value | State::ValueOrEnd, b'[') => {
                self.open(octet, State::ValueOrEnd)?
            }
            (State::ValueOrEnd, b']') | (State::KeyOrEnd, b'}') => self.close(),
            (State::Begin | State::Value | State::ValueOrEnd, _) => scalar(octet)?,
            (State::Key | State::KeyOrEnd, b'"') => State::Text { is_key: true },
            (State::Key | State::KeyOrEnd, _) => {
                return Err(invalid(octet, "looking for beginning of object key string"));
            }
            (State::Colon, b':') => State::Value,
            (State::Colon, _) => return Err(invalid(octet, "after object key")),
            (State::Next, b',') => match self.open.last() {
                Some(b'{') => State::Key,
                _ => State::Value,
            },
            (State::Next, b'}') if self.open.last() == Some(&b'{') => self.close(),
            (State::Next, b']') if self.open.last() == Some(&b'[') => self.close(),
            (State::Next, _) => {
                let place = match self.open.last() {
                    Some(b'{') => "after object key:value pair",
                    _ => "after array element",
                };
                return Err(invalid(octet, place));
            }
        };
        self.state = state;
        Ok(true)
    }

    fn open(&mut self, bracket: u8, next: State) -> Result<State, ScanError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(ScanError::TooDeep);
        }
        self.open.push(bracket);
        Ok(next)
    }

    fn close(&mut self) -> State {
        self.open.pop();
        State::Next
    }
}

fn invalid(found: u8, expected: &str) -> ScanError {
    ScanError::Invalid {
        found,
        expected: expected.to_owned(),
    }
}

fn scalar(first: u8) -> Result<State, ScanError> {
    Ok(match first {
        b'"' => State::Text { is_key: false },
        b'-' => State::Number(Number::Minus),
        b'0' => State::Number(Number::Zero),
        b'1'..=b'9' => State::Number(Number::Digits),
        b't' => State::Literal {
            word: "true",
            at: 1,
        },
        b'f' => State::Literal {
            word: "false",
            at: 1,
        },
        b'n' => State::Literal {
            word: "null",
            at: 1,
        },
        _ => return Err(invalid(first, "looking for beginning of value")),
    })
}

fn literal(word: &'static str, at: usize, octet: u8) -> Result<State, ScanError> {
    match word.as_bytes().get(at) {
        Some(expected) if *expected != octet => {
            let expected = char::from(*expected);
            let place = format!("in literal {word} (expecting '{expected}')");
            Err(invalid(octet, &place))
        }
        _ if at + 1 < word.len() => Ok(State::Literal { word, at: at + 1 }),
        _ => Ok(State::Next),
    }
}

/// Splits `octets` behind their first value, which comes without the blanks before it. What comes octet by octet
/// must not differ.
#[cfg(test)]
pub(super) fn first_value(octets: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ScanError> {
    let mut whole = Values::default();
    whole.push(octets);
    let value = whole.poll_value(true).map(|value| {
        let value = value.expect("no more comes");
        (value.to_vec(), whole.text.to_vec())
    });
    let mut slow = Values::default();
    let mut slowly = Ok(None);
    for octet in octets {
        slow.push(&[*octet]);
        slowly = slow.poll_value(false);
        if slowly != Ok(None) {
            break;
        }
    }
    if slowly == Ok(None) {
        slowly = slow.poll_value(true);
    }
    let slowly = slowly.map(|value| value.expect("no more comes").to_vec());
    assert_eq!(value.clone().map(|(value, _)| value), slowly);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        first_value(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_value_is_split_from_what_follows() {
        let split = |text: &str| {
            let (value, rest) = first_value(text.as_bytes()).unwrap();
            [value, rest].map(|part| String::from_utf8(part).unwrap())
        };
        assert_eq!(split(" {} x"), ["{}", " x"]);
        let [value, rest] = split("[1,-0.5e+3,\"\\u00e9\\\"\",null,{\"a\":[[]]}]{");
        assert_eq!((value.len(), &rest[..]), (38, "{"));
        assert_eq!(split("12 "), ["12", " "]);
        assert_eq!(split("true"), ["true", ""]);
        assert_eq!(split("00"), ["0", "0"]);
        assert_eq!(split("\n0.25E-7,"), ["0.25E-7", ","]);
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
