//! The JSON gateway: gRPC calls as POST requests below `/v3/`, as grpc-gateway makes them of etcd's services.
//!
//! ```text
//!  HttpRequest -> begin -> method, its messages in protobuf -> the same services as any call's (crate::shard)
//!  HttpResponse <- answer <- the messages and the status that they give
//! ```
//!
//! Nothing here knows a method but the table of routes: what a message looks like is read from `proto::schema`, so a
//! method that comes to be served is served here as well. The two exceptions are in [`is_finite`].
//!
//! Pure functions of their arguments; a request is as large as `net::Limits` lets a body be. Requests are read in two
//! steps because etcd's are ([`scan`], [`read`]), and clients see the errors of both. A request's field may be given by
//! either of its names; the response has those of the `.proto` files.
//!
//! Tested by tables, against the types of `proto`, and beside the real etcd in `tests/compat/gateway`.

mod base64;
mod read;
mod routes;
mod scan;
mod write;

use bytes::Bytes;
use net::Metadata;
use net::grpc::{Code, Status};
use net::http::{HttpRequest, HttpResponse, Method};

use crate::errors;
use crate::method::{self, METHODS, MethodNo, Shape};
use scan::ScanError;

/// Behind this prefix the gateway answers every path.
const PREFIX: &str = "/v3/";
/// An older name of it.
const PREFIX_BETA: &str = "/v3beta/";

/// Header fields that begin so become metadata.
const METADATA_PREFIX: &str = "grpc-metadata-";

/// A call that a request asks for.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) method: MethodNo,
    /// One, or of a streamed request any number.
    pub(crate) messages: Vec<Bytes>,
    pub(crate) metadata: Metadata,
}

/// Whether a path is the gateway's.
pub(crate) fn is_ours(path: &str) -> bool {
    path.starts_with(PREFIX) || path.starts_with(PREFIX_BETA)
}

/// Finds out what a request asks for, or answers it.
pub(crate) fn begin(request: &HttpRequest, message_len_max: usize) -> Result<Begun, HttpResponse> {
    let path = request.path.as_str();
    let route = path
        .strip_prefix(PREFIX)
        .or_else(|| path.strip_prefix(PREFIX_BETA));
    let Some(path) = route.and_then(routes::find) else {
        return Err(refusal(&Status::new(Code::NotFound, "Not Found")));
    };
    if request.method != Method::Post {
        let status = Status::new(Code::Unimplemented, "Method Not Allowed");
        return Err(refusal(&status));
    }
    let (Some(method), Some(schema)) = (method::find(path), proto::schema::method(path)) else {
        return Err(refusal(&errors::unknown_path(path)));
    };
    let messages = match METHODS[method].shape {
        Shape::Unary | Shape::ServerStream => read_one(&request.body, schema.input),
        Shape::BidiStream => read_all(&request.body, schema.input),
    };
    let messages = messages.map_err(|text| refusal(&Status::new(Code::InvalidArgument, text)))?;
    if let Some(len) = messages
        .iter()
        .map(Bytes::len)
        .find(|l| *l > message_len_max)
    {
        let text = format!("grpc: received message larger than max ({len} vs. {message_len_max})");
        return Err(refusal(&Status::new(Code::ResourceExhausted, text)));
    }
    Ok(Begun {
        method,
        messages,
        metadata: metadata(request),
    })
}

/// Whether a method's answers come to an end by themselves once its client has said all, and are few. Others would have
/// to be sent while they are made, which plain HTTP responses here cannot yet.
pub(crate) fn is_finite(method: MethodNo) -> bool {
    METHODS[method].shape == Shape::Unary
        || METHODS[method].path == "/etcdserverpb.Lease/LeaseKeepAlive"
}

/// The first value of a body; an empty body is an empty message, and what follows the value does not count.
fn read_one(body: &[u8], message_no: usize) -> Result<Vec<Bytes>, String> {
    match scan::first_value(body) {
        Err(ScanError::Empty) => Ok(vec![Bytes::new()]),
        Err(error) => Err(error.to_string()),
        Ok((value, _)) => Ok(vec![read_value(value, message_no)?]),
    }
}

/// All values of a body.
fn read_all(mut body: &[u8], message_no: usize) -> Result<Vec<Bytes>, String> {
    let mut messages = Vec::new();
    loop {
        match scan::first_value(body) {
            Err(ScanError::Empty) => return Ok(messages),
            Err(error) => return Err(error.to_string()),
            Ok((value, rest)) => {
                messages.push(read_value(value, message_no)?);
                body = rest;
            }
        }
    }
}

fn read_value(value: &[u8], message_no: usize) -> Result<Bytes, String> {
    let read = read::message(value, message_no).map_err(|error| error.to_string())?;
    Ok(read.into())
}

/// What of the header fields a service may see.
fn metadata(request: &HttpRequest) -> Metadata {
    let fields = request.headers.iter().filter_map(|(name, value)| {
        let name = name.to_ascii_lowercase();
        if name == b"authorization" {
            return Some((name, value));
        }
        let own = name.strip_prefix(METADATA_PREFIX.as_bytes())?;
        Some((own.to_vec(), value))
    });
    fields.collect()
}

/// The response to a call that has ended.
pub(crate) fn answer(method: MethodNo, messages: &[Bytes], status: &Status) -> HttpResponse {
    if !status.is_ok() {
        return refusal(status);
    }
    let output = proto::schema::method(METHODS[method].path).map(|schema| schema.output);
    let written = output.map(|output| match METHODS[method].shape {
        Shape::Unary => write_one(messages, output),
        Shape::ServerStream | Shape::BidiStream => write_lines(messages, output),
    });
    match written {
        Some(Ok(body)) => {
            HttpResponse::json(200, body).header("Grpc-Metadata-Content-Type", "application/grpc")
        }
        _ => refusal(&Status::new(
            Code::Internal,
            "failed to marshal the response",
        )),
    }
}

fn write_one(messages: &[Bytes], output: usize) -> Result<Vec<u8>, write::NoMessage> {
    let message = messages.first().ok_or(write::NoMessage)?;
    let mut body = Vec::with_capacity(message.len() * 2);
    write::message(message, output, &mut body)?;
    Ok(body)
}

fn write_lines(messages: &[Bytes], output: usize) -> Result<Vec<u8>, write::NoMessage> {
    let mut body = Vec::new();
    for message in messages {
        body.extend_from_slice(b"{\"result\":");
        write::message(message, output, &mut body)?;
        body.extend_from_slice(b"}\n");
    }
    Ok(body)
}

/// A status as the gateway shows it.
pub(crate) fn refusal(status: &Status) -> HttpResponse {
    let mut body = format!("{{\"code\":{}", status.code.as_str()).into_bytes();
    if !status.message.is_empty() {
        body.extend_from_slice(b",\"message\":");
        write::write_text(&status.message, &mut body);
    }
    body.push(b'}');
    let response = HttpResponse::json(http_status(status.code), body);
    match status.code {
        Code::Unauthenticated => response.header("Www-Authenticate", status.message.as_bytes()),
        _ => response,
    }
}

fn http_status(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::Canceled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::Unauthenticated => 401,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, RangeRequest};

    use super::*;

    const LEN_MAX: usize = 1000;

    fn post(path: &str, body: &str) -> Result<Begun, (u16, String)> {
        let mut request = HttpRequest::new(Method::Post, path);
        request.body = Bytes::copy_from_slice(body.as_bytes());
        begin(&request, LEN_MAX).map_err(shown)
    }

    fn shown(response: HttpResponse) -> (u16, String) {
        let body = String::from_utf8(response.body.to_vec()).unwrap();
        (response.status, body)
    }

    #[test]
    fn requests_lead_to_methods() {
        let begun = post("/v3beta/kv/range", r#"{"key":"Zm9v"} rest"#).unwrap();
        assert_eq!(METHODS[begun.method].name(), "Range");
        let range = RangeRequest::decode(&begun.messages[0][..]).unwrap();
        assert_eq!(range.key, "foo");
        assert_eq!(
            post("/v3/maintenance/status", " ").unwrap().messages,
            [Bytes::new()]
        );
        let begun = post("/v3/lease/keepalive", "{\"ID\":1}\n{\"ID\":\"2\"}").unwrap();
        let ids = begun.messages.iter();
        let ids = ids.map(|m| LeaseKeepAliveRequest::decode(&m[..]).unwrap().id);
        assert_eq!(ids.collect::<Vec<_>>(), [1, 2]);
        assert!(is_finite(begun.method));
        assert!(!is_finite(post("/v3/watch", "{}").unwrap().method));
    }

    #[test]
    fn refusals_are_etcds() {
        let refused = |path, body| post(path, body).unwrap_err();
        assert_eq!(
            refused("/v3/kv/rangestream", ""),
            (404, r#"{"code":5,"message":"Not Found"}"#.to_owned())
        );
        let get = begin(&HttpRequest::new(Method::Get, "/v3/kv/put"), LEN_MAX).unwrap_err();
        assert_eq!(
            shown(get),
            (
                501,
                r#"{"code":12,"message":"Method Not Allowed"}"#.to_owned()
            )
        );
        assert_eq!(
            refused("/v3/kv/put", "{"),
            (400, r#"{"code":3,"message":"unexpected EOF"}"#.to_owned())
        );
        let large = format!("{{\"key\":\"{}\"}}", "A".repeat(2000));
        assert_eq!(
            refused("/v3/kv/put", &large),
            (
                429,
                r#"{"code":8,"message":"grpc: received message larger than max (1503 vs. 1000)"}"#
                    .to_owned()
            )
        );
    }

    #[test]
    fn answers_of_a_stream_are_lines() {
        let method = method::find("/etcdserverpb.Lease/LeaseKeepAlive").unwrap();
        let message = |id| {
            Bytes::from(
                LeaseKeepAliveResponse {
                    id,
                    ttl: 5,
                    header: None,
                }
                .encode_to_vec(),
            )
        };
        let response = answer(method, &[message(1), message(2)], &Status::OK);
        assert_eq!(
            response.headers.get_str("grpc-metadata-content-type"),
            Some("application/grpc")
        );
        let expected = "{\"result\":{\"ID\":\"1\",\"TTL\":\"5\"}}\n{\"result\":{\"ID\":\"2\",\"TTL\":\"5\"}}\n";
        assert_eq!(shown(response), (200, expected.to_owned()));
    }

    #[test]
    fn metadata_is_what_was_meant_for_it() {
        let mut request = HttpRequest::new(Method::Post, "/v3/kv/range");
        request.headers.push("Authorization", "token");
        request.headers.push("Grpc-Metadata-HasLeader", "true");
        request.headers.push("Accept", "x");
        let metadata = begin(&request, LEN_MAX).unwrap().metadata;
        assert_eq!(metadata.get_str("authorization"), Some("token"));
        assert_eq!(metadata.get_str("hasleader"), Some("true"));
        assert_eq!(metadata.iter().count(), 2);
    }
}
