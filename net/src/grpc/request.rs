//! From a header list to a call, a plain request or a refusal; and a plain response back to a header list.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use super::{Code, Status, timeout};
use crate::h2::Head;
use crate::http::{Headers, HttpRequest, HttpResponse, Method, Version, split_target};
use crate::metadata::Metadata;

/// A refusal repeats no more than this of what the peer sent: a field of a few octets on the wire can name 4 KiB of the
/// dynamic table, and each octet may take nine in `grpc-message`.
const ECHO_LEN_MAX: usize = 256;

/// What a request turned out to be.
pub(super) enum Opening {
    Call {
        path: Bytes,
        metadata: Metadata,
        timeout: Option<Duration>,
    },
    /// A call that ends at once, with `http` as its HTTP status.
    Refused {
        http: u16,
        status: Status,
    },
    Http(Box<Parts>),
    BadHttp(HttpResponse),
}

/// A plain request whose body is arriving.
#[derive(Debug)]
pub(super) struct Parts {
    method: Method,
    target: String,
    headers: Headers,
    pub(super) body: Vec<u8>,
}

impl Parts {
    pub(super) fn is_head(&self) -> bool {
        self.method == Method::Head
    }

    pub(super) fn path(&self) -> &str {
        split_target(&self.target).0
    }

    /// Octets of memory it takes while its body is arriving, without the body.
    pub(super) fn head_len(&self) -> usize {
        self.target.len() + self.headers.memory_len() + size_of::<Self>()
    }

    pub(super) fn into_request(self) -> HttpRequest {
        let (path, query) = split_target(&self.target);
        HttpRequest {
            version: Version::Http2,
            method: self.method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers: self.headers,
            body: Bytes::from(self.body),
        }
    }
}

/// The fields that decide.
#[derive(Default)]
struct Marks<'a> {
    is_grpc: bool,
    timeout: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    host_count: usize,
}

impl<'a> Marks<'a> {
    fn find(fields: &'a Metadata) -> Self {
        let mut marks = Self::default();
        for (name, value) in fields.iter() {
            match name {
                b"content-type" => marks.is_grpc |= is_grpc(value),
                b"grpc-timeout" => marks.timeout = Some(value),
                b"grpc-encoding" => marks.encoding = Some(value),
                b"host" => marks.host_count += 1,
                _ => {}
            }
        }
        marks
    }
}

/// `application/grpc`, alone or before a subtype or parameters; not `application/grpc-web`.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    const PREFIX: &[u8] = b"application/grpc";
    content_type
        .split_at_checked(PREFIX.len())
        .is_some_and(|(prefix, rest)| {
            prefix.eq_ignore_ascii_case(PREFIX) && matches!(rest.first(), None | Some(b'+' | b';'))
        })
}

/// Decides about a request, in grpc-go's order.
pub(super) fn open(head: Head) -> Opening {
    if head.is_too_large {
        let response = HttpResponse::error(431, "Request Header Fields Too Large");
        return Opening::BadHttp(response);
    }
    let marks = Marks::find(&head.fields);
    if marks.host_count > 1 {
        let authority_count = usize::from(!head.authority().is_empty());
        let message = format!(
            "num values of :authority: {authority_count}, num values of host: {}, both must only have 1 value as per \
             HTTP/2 spec",
            marks.host_count
        );
        return refused(400, Code::Internal, message);
    }
    if !marks.is_grpc {
        return open_http(&head);
    }
    let timeout = match marks.timeout.map(timeout::parse).transpose() {
        Ok(timeout) => timeout,
        Err(error) => {
            return refused(
                400,
                Code::Internal,
                format!("malformed grpc-timeout: {error}"),
            );
        }
    };
    if head.method() != b"POST" {
        let message = format!(
            "Received a HEADERS frame with :method {:?} which should be POST",
            echo(head.method())
        );
        return refused(405, Code::Internal, message);
    }
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return refused(
            200,
            Code::DeadlineExceeded,
            "context deadline exceeded".into(),
        );
    }
    let inner = head.path().strip_prefix(b"/");
    if !inner.is_some_and(|inner| inner.contains(&b'/')) {
        let path = echo(head.path());
        return refused(
            200,
            Code::Unimplemented,
            format!("malformed method name: {path:?}"),
        );
    }
    let encoding = marks
        .encoding
        .filter(|name| !matches!(*name, b"" | b"identity"));
    if let Some(name) = encoding {
        let name = echo(name);
        let message = format!("grpc: Decompressor is not installed for grpc-encoding {name:?}");
        return refused(200, Code::Unimplemented, message);
    }
    Opening::Call {
        path: head.path_bytes(),
        metadata: head.fields,
        timeout,
    }
}

/// What the peer sent, as text to repeat to it.
fn echo(octets: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&octets[..octets.len().min(ECHO_LEN_MAX)])
}

fn refused(http: u16, code: Code, message: String) -> Opening {
    Opening::Refused {
        http,
        status: Status::new(code, message),
    }
}

fn open_http(head: &Head) -> Opening {
    let method = Method::parse(head.method());
    let target = str::from_utf8(head.path()).ok().filter(|target| {
        target.starts_with('/') || (*target == "*" && method == Some(Method::Options))
    });
    let (Some(method), Some(target)) = (method, target) else {
        return Opening::BadHttp(HttpResponse::error(400, "Bad Request"));
    };
    let mut headers = Headers::new();
    if !head.authority().is_empty() {
        headers.push("host", head.authority());
    }
    for (name, value) in head.fields.iter() {
        // §8.3.1: :authority takes the place of Host.
        if name != b"host" || head.authority().is_empty() {
            headers.push(name, value);
        }
    }
    Opening::Http(Box::new(Parts {
        method,
        target: target.to_owned(),
        headers,
        body: Vec::new(),
    }))
}

/// Writes a plain response's fields.
pub(super) fn push_response(response: &HttpResponse, push: &mut dyn FnMut(&[u8], &[u8])) {
    push_streamed_response(response, push);
    let has_no_body = matches!(response.status, 100..=199 | 204 | 304);
    if !has_no_body && !response.headers.contains("content-length") {
        push(
            b"content-length",
            response.body.len().to_string().as_bytes(),
        );
    }
}

/// The same for a response whose length is not known.
pub(super) fn push_streamed_response(response: &HttpResponse, push: &mut dyn FnMut(&[u8], &[u8])) {
    push(b":status", response.status.to_string().as_bytes());
    push_headers(&response.headers, push);
}

/// Writes header fields in lower case, without those that are HTTP/1.1's connection handling (RFC 9113 §8.2.2).
pub(crate) fn push_headers(headers: &Headers, push: &mut dyn FnMut(&[u8], &[u8])) {
    for (name, value) in headers.iter() {
        let name = name.to_ascii_lowercase();
        let is_of_connection = matches!(
            &name[..],
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade"
        );
        if !is_of_connection {
            push(&name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, path: &str, fields: &[(&str, &str)]) -> Head {
        Head::of_request(method, path, "host:2379", fields.iter().copied().collect())
    }

    const GRPC: (&str, &str) = ("content-type", "application/grpc");

    fn refusal(head: Head) -> (u16, Code, String) {
        match open(head) {
            Opening::Refused { http, status } => (http, status.code, status.message.into_owned()),
            _ => panic!("not refused"),
        }
    }

    #[test]
    fn content_types_of_grpc() {
        for fine in [
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC;a=b",
        ] {
            assert!(is_grpc(fine.as_bytes()), "{fine}");
        }
        for other in [
            "application/grpc-web",
            "application/json",
            "",
            "application/grp",
        ] {
            assert!(!is_grpc(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn refusals_are_those_of_grpc_go() {
        let (http, code, message) = refusal(head("GET", "/a/B", &[GRPC]));
        assert_eq!((http, code), (405, Code::Internal));
        assert_eq!(
            message,
            "Received a HEADERS frame with :method \"GET\" which should be POST"
        );
        let (http, code, message) = refusal(head("POST", "/a/B", &[GRPC, ("grpc-timeout", "5x")]));
        assert_eq!((http, code), (400, Code::Internal));
        assert!(
            message.starts_with("malformed grpc-timeout: transport: "),
            "{message}"
        );
        let gzip = [GRPC, ("grpc-encoding", "gzip")];
        let (http, code, message) = refusal(head("POST", "/a/B", &gzip));
        assert_eq!((http, code), (200, Code::Unimplemented));
        assert_eq!(
            message,
            "grpc: Decompressor is not installed for grpc-encoding \"gzip\""
        );
        for path in ["/a", "a/b", "*"] {
            let (http, code, message) = refusal(head("POST", path, &[GRPC]));
            assert_eq!((http, code), (200, Code::Unimplemented));
            assert_eq!(message, format!("malformed method name: {path:?}"));
        }
        let (_, code, _) = refusal(head("POST", "/a/B", &[GRPC, ("grpc-timeout", "0n")]));
        assert_eq!(code, Code::DeadlineExceeded);
        let (http, ..) = refusal(head("POST", "/a/B", &[("host", "a"), ("host", "b")]));
        assert_eq!(http, 400);
    }

    #[test]
    fn a_call_keeps_its_metadata() {
        let fields = [
            GRPC,
            ("token", "t"),
            ("grpc-timeout", "5S"),
            ("grpc-encoding", "identity"),
        ];
        match open(head("POST", "/etcdserverpb.KV/Range", &fields)) {
            Opening::Call {
                path,
                metadata,
                timeout,
            } => {
                assert_eq!(path, "/etcdserverpb.KV/Range");
                assert_eq!(metadata.get("token"), Some(&b"t"[..]));
                assert_eq!(timeout, Some(Duration::from_secs(5)));
            }
            _ => panic!("no call"),
        }
    }

    #[test]
    fn everything_else_is_plain_http() {
        match open(head("GET", "/health?x=1", &[("host", "other"), ("a", "b")])) {
            Opening::Http(parts) => {
                let request = parts.into_request();
                assert_eq!((&request.path[..], &request.query[..]), ("/health", "x=1"));
                assert_eq!(request.headers.get_all("host").count(), 1);
                assert_eq!(request.headers.get_str("host"), Some("host:2379"));
            }
            _ => panic!("no request"),
        }
        assert!(matches!(open(head("GET", "x", &[])), Opening::BadHttp(_)));
        assert!(matches!(open(head("GET", "*", &[])), Opening::BadHttp(_)));
        assert!(matches!(open(head("OPTIONS", "*", &[])), Opening::Http(_)));
    }

    #[test]
    fn responses_lose_what_http2_forbids() {
        let response = HttpResponse::text(200, "hi").header("Connection", "close");
        let mut fields = Vec::new();
        push_response(&response, &mut |name, value| {
            fields.push((name.to_vec(), value.to_vec()));
        });
        let names: Vec<_> = fields.iter().map(|(name, _)| &name[..]).collect();
        let expected: [&[u8]; 3] = [b":status", b"content-type", b"content-length"];
        assert_eq!(names, expected);
    }
}
