//! Heads of messages: where one ends, what it says, and how long the body is.

use bytes::Bytes;

use super::{HEADER_COUNT_MAX, Limits};
use crate::http::{Headers, HttpRequest, HttpResponse, Method, Version, decode_path, split_target};

/// Finds the empty line that ends a head, looking at each byte once however the head arrives.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    /// Before this position no head ends.
    scanned: usize,
}

impl HeadScanner {
    /// The length of the head `input` begins with, its empty line included.
    pub(super) fn find_end(&mut self, input: &[u8]) -> Option<usize> {
        while let Some(offset) = input[self.scanned..]
            .iter()
            .position(|&octet| octet == b'\n')
        {
            let line_end = self.scanned + offset + 1;
            let empty_line_len = match &input[line_end..] {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [] | [b'\r'] => {
                    self.scanned = line_end - 1;
                    return None;
                }
                _ => {
                    self.scanned = line_end;
                    continue;
                }
            };
            self.scanned = 0;
            return Some(line_end + empty_line_len);
        }
        self.scanned = input.len();
        None
    }
}

/// How a message's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    /// Responses only.
    UntilEof,
}

/// Why a request is not served. The client is at fault; the connection is closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("malformed request")]
    Malformed,
    #[error("missing required Host header")]
    MissingHost,
    #[error("too many Host headers")]
    ManyHosts,
    #[error("malformed Host header")]
    MalformedHost,
    #[error("head is too large")]
    HeadTooLarge,
    #[error("body is too large")]
    BodyTooLarge,
    #[error("unsupported transfer encoding")]
    TransferEncoding,
    #[error("unsupported protocol version")]
    Version,
    #[error("unsupported expectation")]
    Expectation,
}

impl Refusal {
    /// The whole answer, byte for byte what Go's `net/http` sends.
    pub(super) fn answer(self) -> Bytes {
        const FIELDS: &str =
            "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n";
        let (status, text) = match self {
            Self::Malformed => ("400 Bad Request".to_owned(), ""),
            Self::MissingHost | Self::ManyHosts | Self::MalformedHost => {
                (format!("400 Bad Request: {self}"), "")
            }
            Self::HeadTooLarge => ("431 Request Header Fields Too Large".to_owned(), ""),
            Self::BodyTooLarge => ("413 Request Entity Too Large".to_owned(), ""),
            Self::TransferEncoding => (
                "501 Not Implemented".to_owned(),
                "Unsupported transfer encoding",
            ),
            Self::Version => (format!("505 HTTP Version Not Supported: {self}"), ""),
            Self::Expectation => {
                let answer = "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                return Bytes::from_static(answer.as_bytes());
            }
        };
        let body = if text.is_empty() { &status } else { text };
        Bytes::from(format!("HTTP/1.1 {status}{FIELDS}{body}"))
    }
}

/// A request whose body is still to come.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) request: HttpRequest,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
}

/// Whether a head that has not ended yet can still become one. Lets noise be answered at once.
pub(super) fn is_hopeless(input: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    httparse::Request::new(&mut fields).parse(input).is_err()
}

pub(super) fn parse_request(head: &[u8], limits: &Limits) -> Result<RequestHead, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Refusal::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Err(httparse::Error::Version) if names_a_version(head) => return Err(Refusal::Version),
        Err(_) => return Err(Refusal::Malformed),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Refusal::Malformed);
    };
    let version = if minor == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let method = Method::parse(method.as_bytes()).ok_or(Refusal::Malformed)?;
    let target = origin_form(&method, target).ok_or(Refusal::Malformed)?;
    let headers = collect_fields(parsed.headers);
    check_host(version, &headers)?;
    let expects_continue = check_expectation(&headers)?;
    let framing = request_framing(version, &headers)?;
    let (path, query) = split_target(target);
    if decode_path(path).is_none() {
        return Err(Refusal::Malformed);
    }
    let is_large = matches!(framing, Framing::Length(len) if len > limits.body_size_bytes_max);
    if is_large && !limits.is_streamed(path) {
        return Err(Refusal::BodyTooLarge);
    }
    let keep_alive = is_kept_alive(version, &headers);
    let request = HttpRequest {
        version,
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Bytes::new(),
    };
    Ok(RequestHead {
        request,
        framing,
        keep_alive,
        expects_continue,
    })
}

/// Whether the first line ends in a version, though none that we speak.
fn names_a_version(head: &[u8]) -> bool {
    let line = head
        .split(|&octet| octet == b'\n')
        .next()
        .unwrap_or_default()
        .trim_ascii_end();
    matches!(
        line,
        [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit()
    )
}

/// The target without scheme and authority (RFC 9112 §3.2). `None`: not a target of ours.
fn origin_form<'a>(method: &Method, target: &'a str) -> Option<&'a str> {
    if target.starts_with('/') || *method == Method::Connect {
        return Some(target);
    }
    if target == "*" {
        return Some(target);
    }
    let rest = target
        .strip_prefix("http://")
        .or_else(|| target.strip_prefix("https://"))?;
    match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => Some(&rest[at..]),
        Some(_) => None,
        None => Some("/"),
    }
}

fn collect_fields(fields: &[httparse::Header<'_>]) -> Headers {
    fields
        .iter()
        .map(|field| (field.name, field.value.trim_ascii()))
        .collect()
}

/// RFC 9112 §3.2: one, in HTTP/1.1 always.
fn check_host(version: Version, headers: &Headers) -> Result<(), Refusal> {
    let mut hosts = headers.get_all("host");
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::Http11 => Err(Refusal::MissingHost),
        (Some(_), Some(_)) => Err(Refusal::ManyHosts),
        (Some(host), None) if !host.iter().all(is_host_octet) => Err(Refusal::MalformedHost),
        _ => Ok(()),
    }
}

fn is_host_octet(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(octet)
}

fn check_expectation(headers: &Headers) -> Result<bool, Refusal> {
    match headers.get("expect") {
        None => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(Refusal::Expectation),
    }
}

/// RFC 9112 §6.3, strictly: what two readers could frame in two ways is refused.
fn request_framing(version: Version, headers: &Headers) -> Result<Framing, Refusal> {
    let is_coded = headers.contains("transfer-encoding");
    if is_coded && (version == Version::Http10 || headers.contains("content-length")) {
        return Err(Refusal::Malformed);
    }
    if is_coded {
        return if is_chunked(headers) {
            Ok(Framing::Chunked)
        } else {
            Err(Refusal::TransferEncoding)
        };
    }
    let len = content_length(headers).ok_or(Refusal::Malformed)?;
    Ok(Framing::Length(len.unwrap_or(0)))
}

/// Whether `chunked` is the one coding.
fn is_chunked(headers: &Headers) -> bool {
    let mut codings = headers.get_all("transfer-encoding");
    let is_chunked = codings
        .next()
        .is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    is_chunked && codings.next().is_none()
}

/// The length, if one is given. `None`: it is no number, or given twice and differently.
fn content_length(headers: &Headers) -> Option<Option<usize>> {
    let mut values = headers.get_all("content-length");
    let Some(first) = values.next() else {
        return Some(None);
    };
    if values.any(|value| value != first) || !first.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(first).ok()?.parse().ok().map(Some)
}

fn is_kept_alive(version: Version, headers: &Headers) -> bool {
    match version {
        Version::Http10 => headers.has_element("connection", "keep-alive"),
        _ => !headers.has_element("connection", "close"),
    }
}

/// A response whose body is still to come.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) response: HttpResponse,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
}

/// `None`: not a response, or one whose body cannot be delimited for sure.
pub(super) fn parse_response(head: &[u8], method: &Method) -> Option<ResponseHead> {
    let mut fields = [httparse::EMPTY_HEADER; HEADER_COUNT_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    if !parsed.parse(head).ok()?.is_complete() {
        return None;
    }
    let version = if parsed.version? == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let status = parsed.code.filter(|code| (100..600).contains(code))?;
    let headers = collect_fields(parsed.headers);
    let framing = response_framing(status, method, &headers)?;
    let keep_alive = framing != Framing::UntilEof && is_kept_alive(version, &headers);
    let response = HttpResponse {
        status,
        headers,
        body: Bytes::new(),
    };
    Some(ResponseHead {
        response,
        framing,
        keep_alive,
    })
}

fn response_framing(status: u16, method: &Method, headers: &Headers) -> Option<Framing> {
    if *method == Method::Head || is_bodiless(status) {
        return Some(Framing::Length(0));
    }
    let len = content_length(headers)?;
    match (headers.contains("transfer-encoding"), len) {
        (true, Some(_)) => None,
        (true, None) => is_chunked(headers).then_some(Framing::Chunked),
        (false, Some(len)) => Some(Framing::Length(len)),
        (false, None) => Some(Framing::UntilEof),
    }
}

/// Responses that end with their head (RFC 9112 §6.3).
pub(super) fn is_bodiless(status: u16) -> bool {
    status < 200 || status == 204 || status == 304
}
