//! A body that is a form, as grpc-gateway takes one.
//!
//! A POST of this content type may name another method in `X-HTTP-Method-Override`: its body is then the form of a GET
//! with a long query. No route of etcd is asked by GET, so the form means nothing and only its errors are heard.
//!
//! Nothing of a body is kept but its first malformed escape. Source: contract `rpc.md`, section 9; Go's `net/url`.

use net::grpc::{Code, Status};
use net::http::{HttpRequest, Method};

use crate::config::go;

const CONTENT_TYPE: &[u8] = b"application/x-www-form-urlencoded";
/// Go reads no more of a form.
const LEN_MAX: usize = 10 << 20;
/// Nor so many of its parameters.
const PARAMETER_COUNT_MAX: usize = 10_000;

/// The method that a form names instead of its own, in capitals.
pub(super) fn method_override(request: &HttpRequest) -> Option<String> {
    let is_form =
        request.method == Method::Post && request.headers.get("content-type") == Some(CONTENT_TYPE);
    let name = request.headers.get("x-http-method-override")?;
    let name = String::from_utf8_lossy(name).to_uppercase();
    (is_form && !name.is_empty()).then_some(name)
}

/// The body of such a request, as it comes.
#[derive(Debug)]
pub(super) struct Form {
    body: Parameters,
    query: Option<String>,
    /// What is said to one without a mistake; `None`: it is an empty request.
    refusal: Option<Status>,
}

impl Form {
    pub(super) fn new(query: &str, refusal: Option<Status>) -> Self {
        let mut parameters = Parameters::default();
        parameters.push(query.as_bytes());
        Form {
            body: Parameters::default(),
            query: parameters.mistake(),
            refusal,
        }
    }

    /// # Errors
    /// It is too large.
    pub(super) fn push(&mut self, octets: &[u8]) -> Result<(), Status> {
        self.body.push(octets);
        match self.body.len > LEN_MAX {
            true => Err(invalid("http: POST too large".to_owned())),
            false => Ok(()),
        }
    }

    /// # Errors
    /// What is said about it.
    pub(super) fn end(&mut self) -> Result<(), Status> {
        match self.body.mistake().or(self.query.take()) {
            Some(text) => Err(invalid(text)),
            None => self.refusal.take().map_or(Ok(()), Err),
        }
    }
}

fn invalid(text: String) -> Status {
    Status::new(Code::InvalidArgument, text)
}

/// What matters of `a=b&c=%64`.
#[derive(Debug, Default)]
struct Parameters {
    len: usize,
    separator_count: usize,
    has_semicolon: bool,
    /// Behind the `=` of a pair, where another one is a letter.
    is_in_value: bool,
    /// An escape that has begun: at most two octets.
    escape: Vec<u8>,
    malformed: Option<Vec<u8>>,
}

impl Parameters {
    fn push(&mut self, octets: &[u8]) {
        self.len += octets.len();
        for octet in octets {
            self.take(*octet);
        }
    }

    fn take(&mut self, octet: u8) {
        self.has_semicolon |= octet == b';';
        if !self.escape.is_empty() {
            let is_end = octet == b'&' || (octet == b'=' && !self.is_in_value);
            if !is_end {
                return self.take_of_escape(octet);
            }
            self.end_escape();
        }
        match octet {
            b'%' => self.escape.push(octet),
            b'=' => self.is_in_value = true,
            b'&' => {
                self.separator_count += 1;
                self.is_in_value = false;
            }
            _ => {}
        }
    }

    fn take_of_escape(&mut self, octet: u8) {
        self.escape.push(octet);
        if let [_, high, low] = self.escape[..] {
            match high.is_ascii_hexdigit() && low.is_ascii_hexdigit() {
                true => self.escape.clear(),
                false => self.end_escape(),
            }
        }
    }

    /// Its component ends in the middle of an escape.
    fn end_escape(&mut self) {
        let escape = std::mem::take(&mut self.escape);
        self.malformed.get_or_insert(escape);
    }

    /// What Go says about all of them.
    fn mistake(&mut self) -> Option<String> {
        if !self.escape.is_empty() {
            self.end_escape();
        }
        if self.separator_count >= PARAMETER_COUNT_MAX {
            return Some("number of URL query parameters exceeded limit".to_owned());
        }
        if self.has_semicolon {
            return Some("invalid semicolon separator in query".to_owned());
        }
        let escape = self.malformed.as_ref()?;
        let escape = go::quote(&String::from_utf8_lossy(escape));
        Some(format!("invalid URL escape {escape}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said about a form, octet by octet.
    fn said(query: &str, body: &str) -> Option<String> {
        let mut form = Form::new(query, None);
        for octet in body.bytes() {
            form.push(&[octet]).unwrap();
        }
        form.end().err().map(|status| status.message.into_owned())
    }

    #[test]
    fn mistakes_are_told_as_go_tells_them() {
        for fine in ["", "key=Zm9v", "{", "a=1&&b", "=", "a=%4a=&b=%", "a%"] {
            let is_fine = !fine.ends_with('%');
            assert_eq!(said("", fine).is_none(), is_fine, "{fine}");
        }
        for (body, text) in [
            ("key=%zz", "invalid URL escape \"%zz\""),
            ("key=Zm9v&x=%4", "invalid URL escape \"%4\""),
            ("%=x", "invalid URL escape \"%\""),
            ("a=%=&%zz", "invalid URL escape \"%=\""),
            ("%x&%y", "invalid URL escape \"%x\""),
            ("%zz&a;b", "invalid semicolon separator in query"),
            ("a;b&%zz", "invalid semicolon separator in query"),
        ] {
            assert_eq!(said("", body).as_deref(), Some(text), "{body}");
            assert_eq!(said(body, "a=b").as_deref(), Some(text), "{body}");
        }
        let many = "a&".repeat(PARAMETER_COUNT_MAX);
        let text = "number of URL query parameters exceeded limit";
        assert_eq!(said("", &many).as_deref(), Some(text));
        assert_eq!(said("", &many[2..]), None);
        // The body comes first.
        let text = said("a;b", "%zz");
        assert_eq!(text.as_deref(), Some("invalid URL escape \"%zz\""));
    }

    #[test]
    fn a_form_is_bounded_and_nothing_of_it_is_kept() {
        let mut form = Form::new("", None);
        form.push(&vec![b'a'; LEN_MAX]).unwrap();
        assert!(form.body.escape.capacity() == 0);
        let refused = form.push(b"a").unwrap_err();
        assert_eq!(refused.message, "http: POST too large");
    }

    #[test]
    fn only_a_form_names_another_method() {
        let named = |method, kind: &str, name: &str| {
            let mut request = HttpRequest::new(method, "/v3/kv/range");
            request.headers.push("Content-Type", kind);
            request.headers.push("X-HTTP-Method-Override", name);
            method_override(&request)
        };
        let form = "application/x-www-form-urlencoded";
        assert_eq!(named(Method::Post, form, "get"), Some("GET".to_owned()));
        assert_eq!(named(Method::Post, form, ""), None);
        assert_eq!(named(Method::Put, form, "GET"), None);
        assert_eq!(named(Method::Post, "application/json", "GET"), None);
        let other = "application/x-www-form-urlencoded; charset=utf-8";
        assert_eq!(named(Method::Post, other, "GET"), None);
    }
}
