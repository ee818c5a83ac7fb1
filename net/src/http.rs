//! Plain HTTP requests and responses, the same whether they travel by HTTP/1.1 or HTTP/2.
//!
//! Bodies are whole: what etcd serves beside gRPC is small, and what is not (peer streams) does not come this way.
//! Nothing here interprets a route; the constructors of [`HttpResponse`] give the forms in which Go's `net/http`
//! answers, because clients and dashboards have learnt them.

use std::borrow::Cow;

use bytes::Bytes;

/// The protocol a message came by or goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    Http11,
    Http2,
}

/// A request method; those no route of ours serves keep only their name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
    Other(Box<str>),
}

impl Method {
    /// `None` unless `name` is a token (RFC 9110 §5.6.2).
    pub fn parse(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"CONNECT" => Self::Connect,
            b"TRACE" => Self::Trace,
            _ if is_token(name) => Self::Other(str::from_utf8(name).ok()?.into()),
            _ => return None,
        })
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
            Self::Other(name) => name,
        }
    }
}

/// RFC 9110 §5.6.2: what methods and header names are made of.
pub(crate) fn is_token(octets: &[u8]) -> bool {
    let is_tchar = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet);
    !octets.is_empty() && octets.iter().all(is_tchar)
}

/// Header fields in order, all in one buffer. Names compare without regard to case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Name, value, name, value, … without separators.
    octets: Vec<u8>,
    fields: Vec<Ends>,
}

/// Where a field's name and value end in `Headers::octets`. The name begins where the previous value ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    name: usize,
    value: usize,
}

impl Headers {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.fields.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Octets of memory the fields take.
    pub(crate) fn memory_len(&self) -> usize {
        self.octets.len() + self.fields.len() * size_of::<Ends>()
    }

    /// Adds a field behind the others, also if the name is there already.
    pub fn push(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.octets.extend_from_slice(name.as_ref());
        let name = self.octets.len();
        self.octets.extend_from_slice(value.as_ref());
        self.fields.push(Ends {
            name,
            value: self.octets.len(),
        });
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The first value of `name`, if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    pub fn get_all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let begins = std::iter::once(0).chain(self.fields.iter().map(|ends| ends.value));
        begins.zip(&self.fields).map(|(begin, ends)| {
            (
                &self.octets[begin..ends.name],
                &self.octets[ends.name..ends.value],
            )
        })
    }

    /// Whether one of the comma-separated elements of `name`'s values is `element` (RFC 9110 §5.6.1).
    pub fn has_element(&self, name: &str, element: &str) -> bool {
        self.get_all(name)
            .flat_map(|value| value.split(|&octet| octet == b','))
            .any(|part| part.trim_ascii().eq_ignore_ascii_case(element.as_bytes()))
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields = self.iter().map(|(name, value)| {
            (
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value),
            )
        });
        f.debug_map().entries(fields).finish()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in fields {
            headers.push(name, value);
        }
        headers
    }
}

/// One request with its whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    pub version: Version,
    pub method: Method,
    /// As sent, percent-encoding included; begins with `/`, or is `*` for OPTIONS.
    pub path: String,
    /// What follows the `?`, undecoded; empty if there is none.
    pub query: String,
    /// HTTP/2's `:authority` appears as `host`.
    pub headers: Headers,
    pub body: Bytes,
}

impl HttpRequest {
    /// A request without header fields and body.
    pub fn new(method: Method, target: &str) -> Self {
        let (path, query) = split_target(target);
        Self {
            version: Version::Http11,
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }

    /// Octets of memory it takes, its body included.
    pub(crate) fn memory_len(&self) -> usize {
        self.path.len() + self.query.len() + self.headers.memory_len() + self.body.len()
    }

    /// Path and query as one string.
    pub fn target(&self) -> Cow<'_, str> {
        if self.query.is_empty() {
            Cow::Borrowed(&self.path)
        } else {
            Cow::Owned(format!("{}?{}", self.path, self.query))
        }
    }

    /// The query's parameters, decoded. Pairs that are no valid encoding are left out, as Go does.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.contains(';'))
            .filter_map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Some((decode_query(name)?, decode_query(value)?))
            })
    }
}

/// Cuts a request target in origin form into path and query.
pub fn split_target(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

/// Undoes percent-encoding and `+` for space. `None` if an escape is malformed or the result is not UTF-8.
fn decode_query(encoded: &str) -> Option<Cow<'_, str>> {
    if !encoded.contains(['%', '+']) {
        return Some(Cow::Borrowed(encoded));
    }
    let spaced = encoded.replace('+', " ");
    let octets = decode_path(&spaced)?.into_owned();
    String::from_utf8(octets).ok().map(Cow::Owned)
}

/// Undoes percent-encoding. `None` if an escape is malformed.
pub fn decode_path(encoded: &str) -> Option<Cow<'_, [u8]>> {
    if !encoded.contains('%') {
        return Some(Cow::Borrowed(encoded.as_bytes()));
    }
    let mut octets = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            octets.push(first);
            continue;
        }
        let (digits, tail) = tail.split_first_chunk::<2>()?;
        rest = tail;
        let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
        octets.push((high? << 4 | low?) as u8);
    }
    Some(Cow::Owned(octets))
}

/// Whether a path, without its escapes, begins with one of these.
pub(crate) fn is_below(path: &str, prefixes: &[&str]) -> bool {
    let path = decode_path(path).unwrap_or_default();
    prefixes
        .iter()
        .any(|prefix| path.starts_with(prefix.as_bytes()))
}

/// One response with its whole body. Length, connection handling and, in HTTP/1.1, the reason are added when sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    pub headers: Headers,
    pub body: Bytes,
}

impl HttpResponse {
    /// A response without header fields and body.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Headers::new(),
            body: Bytes::new(),
        }
    }

    pub fn with_body(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..Self::new(status)
        }
        .header("Content-Type", content_type)
    }

    pub fn text(status: u16, body: impl Into<Bytes>) -> Self {
        Self::with_body(status, "text/plain; charset=utf-8", body)
    }

    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::with_body(status, "application/json", body)
    }

    /// `message` and a newline, marked so that no browser takes it for anything but text (Go's `http.Error`).
    pub fn error(status: u16, message: &str) -> Self {
        Self::text(status, format!("{message}\n")).header("X-Content-Type-Options", "nosniff")
    }

    pub fn not_found() -> Self {
        Self::error(404, "404 page not found")
    }

    /// `allow` lists the methods that would have been served, like `GET, HEAD`.
    pub fn method_not_allowed(allow: &str) -> Self {
        Self::error(405, "Method Not Allowed").header("Allow", allow)
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push(name, value);
        self
    }
}

/// The reason phrase of `status`, as Go spells it; empty if it has no name.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_order_and_ignore_case() {
        let mut headers = Headers::new();
        headers.push("Accept", "text/html");
        headers.push("X-Empty", "");
        headers.push("accept", "Gzip , br");
        assert_eq!(headers.get("ACCEPT"), Some(&b"text/html"[..]));
        assert_eq!(headers.get_all("accept").count(), 2);
        assert_eq!(headers.get_str("x-empty"), Some(""));
        assert_eq!(headers.get("x-emp"), None);
        assert!(headers.has_element("accept", "gzip") && headers.has_element("accept", "br"));
        assert!(!headers.has_element("accept", "zip"));
        let names: Vec<_> = headers.iter().map(|(name, _)| name.to_vec()).collect();
        assert_eq!(names, [&b"Accept"[..], b"X-Empty", b"accept"]);
        assert_eq!(headers.iter().collect::<Headers>(), headers);
    }

    #[test]
    fn methods() {
        for name in [
            "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
        ] {
            assert_eq!(
                Method::parse(name.as_bytes()).expect("a token").as_str(),
                name
            );
        }
        assert_eq!(Method::parse(b"get"), Some(Method::Other("get".into())));
        for name in [&b""[..], b"GE T", b"G\xc3\xa9", b"G\r"] {
            assert_eq!(Method::parse(name), None);
        }
    }

    #[test]
    fn targets_and_queries() {
        let request = HttpRequest::new(
            Method::Get,
            "/health?exclude=NO%53PACE&a+b=%2b&bad=%zz&x&;=1",
        );
        assert_eq!(request.path, "/health");
        let pairs: Vec<_> = request.query_pairs().collect();
        let expected = [("exclude", "NOSPACE"), ("a b", "+"), ("x", "")];
        assert_eq!(
            pairs,
            expected.map(|(n, v)| (Cow::Borrowed(n), Cow::Borrowed(v)))
        );
        assert_eq!(
            request.target(),
            "/health?exclude=NO%53PACE&a+b=%2b&bad=%zz&x&;=1"
        );
        assert_eq!(HttpRequest::new(Method::Get, "/").target(), "/");
    }

    #[test]
    fn error_responses_are_those_of_go() {
        let response = HttpResponse::not_found();
        assert_eq!(
            (response.status, &response.body[..]),
            (404, &b"404 page not found\n"[..])
        );
        assert_eq!(
            response.headers.get_str("content-type"),
            Some("text/plain; charset=utf-8")
        );
        assert_eq!(
            response.headers.get_str("x-content-type-options"),
            Some("nosniff")
        );
        let response = HttpResponse::method_not_allowed("GET");
        assert_eq!(response.headers.get_str("allow"), Some("GET"));
    }
}
