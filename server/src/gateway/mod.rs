//! The JSON gateway: gRPC calls as POST requests below `/v3/`, as grpc-gateway makes them of etcd's services.
//!
//! ```text
//!  head -> begin -> method, metadata, timeout
//!  body, in pieces -> Intake -> its messages in protobuf -> the same services as any call's (crate::shard)
//!  answer, or stream_head, stream_line .., stream_end <- the messages and the status that they give
//! ```
//!
//! Nothing here knows a method but the table of routes: what a message looks like is read from `proto::schema`, so a
//! method that comes to be served is served here as well.
//!
//! Pure functions of their arguments. Requests are read in two steps because etcd's are (`scan`, `read`), and clients
//! see the errors of both. A request's field may be given by either of its names; the response has those of the `.proto`
//! files.
//!
//! Tested by tables, against the types of `proto`, and beside the real etcd in `tests/compat/gateway`.

mod base64;
mod fields;
mod form;
mod intake;
mod read;
mod routes;
mod scan;
mod text;
pub(crate) mod websocket;
mod write;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use net::Metadata;
use net::grpc::{Code, Status};
use net::http::{HttpRequest, HttpResponse, Method, decode_path};

use crate::errors;
use crate::method::{self, METHODS, MethodNo, Shape};
use form::Form;
pub(crate) use intake::Intake;
pub use text::{Message, Requests, methods};

/// Behind this prefix the gateway answers every path.
const PREFIX: &str = "/v3/";
/// An older name of it.
const PREFIX_BETA: &str = "/v3beta/";

/// What the machine must hand on before it is whole: requests of these paths have no bound but ours.
pub(crate) const STREAMED_PREFIXES: &[&str] = &[PREFIX, PREFIX_BETA];

/// A call that a request asks for.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) method: MethodNo,
    pub(crate) metadata: Metadata,
    /// When the client gives up.
    pub(crate) timeout: Option<Duration>,
    /// Reads the messages out of the body.
    pub(crate) intake: Intake,
}

/// Whether a route is the gateway's.
pub(crate) fn is_ours(route: &str) -> bool {
    route.starts_with(PREFIX)
}

/// Finds out by its head what a request asks for, or answers it.
pub(crate) fn begin(request: &HttpRequest, message_len_max: usize) -> Result<Begun, HttpResponse> {
    let path = unescaped(&request.path);
    let route = path
        .strip_prefix(PREFIX)
        .or_else(|| path.strip_prefix(PREFIX_BETA));
    let Some(path) = route.and_then(routes::find) else {
        return Err(refusal(&Status::new(Code::NotFound, "Not Found")));
    };
    if request.method != Method::Post {
        return Err(refusal(&method_not_allowed()));
    }
    let (Some(method), Some(schema)) = (method::find(path), proto::schema::method(path)) else {
        return Err(refusal(&errors::unknown_path(path)));
    };
    let timeout = fields::timeout(&request.headers).map_err(|status| refusal(&status))?;
    let metadata = fields::metadata(&request.headers).map_err(|status| refusal(&status))?;
    if timeout.is_some_and(|timeout| timeout < TIMEOUT_MIN) {
        return Err(refusal(&timed_out()));
    }
    let is_stream = METHODS[method].shape == Shape::BidiStream;
    let intake = Intake::new(schema.input, is_stream, message_len_max);
    let intake = match form::method_override(request) {
        None => intake,
        Some(name) => {
            let refusal = (name != "POST").then(method_not_allowed);
            intake.of_form(Form::new(&request.query, refusal))
        }
    };
    Ok(Begun {
        method,
        metadata,
        timeout,
        intake,
    })
}

fn method_not_allowed() -> Status {
    Status::new(Code::Unimplemented, "Method Not Allowed")
}

/// No call is over sooner.
const TIMEOUT_MIN: Duration = Duration::from_micros(1);

/// What a client hears whose time is over.
pub(crate) fn timed_out() -> Status {
    Status::new(Code::DeadlineExceeded, "context deadline exceeded")
}

/// A path without percent-encoding; one that is no valid encoding stays as it is, and leads nowhere.
fn unescaped(path: &str) -> Cow<'_, str> {
    match decode_path(path) {
        None => Cow::Borrowed(path),
        Some(octets) => match octets {
            Cow::Borrowed(_) => Cow::Borrowed(path),
            Cow::Owned(octets) => String::from_utf8(octets).map_or(Cow::Borrowed(path), Cow::Owned),
        },
    }
}

/// The response to a unary call that has ended.
pub(crate) fn answer(method: MethodNo, message: Option<&Bytes>, status: &Status) -> HttpResponse {
    if !status.is_ok() {
        return refusal(status);
    }
    let mut body = Vec::new();
    match message.map(|message| write_message(method, message, &mut body)) {
        Some(Ok(())) => with_metadata(HttpResponse::json(200, body)),
        _ => refusal(&unmarshalled()),
    }
}

/// What every response carries behind which there is one of gRPC.
fn with_metadata(response: HttpResponse) -> HttpResponse {
    response.header("Grpc-Metadata-Content-Type", "application/grpc")
}

fn unmarshalled() -> Status {
    Status::new(Code::Internal, "failed to marshal the response")
}

fn write_message(
    method: MethodNo,
    message: &[u8],
    body: &mut Vec<u8>,
) -> Result<(), write::NoMessage> {
    let schema = proto::schema::method(METHODS[method].path).ok_or(write::NoMessage)?;
    body.reserve(message.len() * 2);
    write::message(message, schema.output, body)
}

/// The head of an answer that is a stream, with its first message.
pub(crate) fn stream_head() -> HttpResponse {
    with_metadata(HttpResponse::json(200, Bytes::new()))
}

/// One message of a stream.
///
/// # Errors
/// The status to end it with.
pub(crate) fn stream_line(method: MethodNo, message: &[u8]) -> Result<Bytes, Status> {
    let mut line = b"{\"result\":".to_vec();
    write_message(method, message, &mut line).map_err(|_| unmarshalled())?;
    line.extend_from_slice(b"}\n");
    Ok(line.into())
}

/// The head of a stream that has ended before its first message.
pub(crate) fn stream_end_head(status: &Status) -> HttpResponse {
    match status.is_ok() {
        true => HttpResponse::new(200),
        false => HttpResponse::json(http_status(status.code), Bytes::new()),
    }
}

/// The last words of a stream.
pub(crate) fn stream_end(status: &Status) -> Bytes {
    if status.is_ok() {
        return Bytes::new();
    }
    let mut line = b"{\"error\":".to_vec();
    write_status(status, &mut line);
    line.extend_from_slice(b"}\n");
    line.into()
}

/// A status as the gateway shows it.
pub(crate) fn refusal(status: &Status) -> HttpResponse {
    let mut body = Vec::new();
    write_status(status, &mut body);
    let response = HttpResponse::json(http_status(status.code), body);
    match status.code {
        Code::Unauthenticated => response.header("Www-Authenticate", status.message.as_bytes()),
        _ => response,
    }
}

fn write_status(status: &Status, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"code\":");
    out.extend_from_slice(status.code.as_str().as_bytes());
    if !status.message.is_empty() {
        out.extend_from_slice(b",\"message\":");
        write::write_text(&status.message, out);
    }
    out.push(b'}');
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

    /// What a request leads to, its body whole.
    fn post(path: &str, body: &str) -> Result<(Begun, Vec<Bytes>), (u16, String)> {
        let request = HttpRequest::new(Method::Post, path);
        let mut begun = begin(&request, LEN_MAX).map_err(shown)?;
        let mut messages = Vec::new();
        let read = begun.intake.push(body.as_bytes(), &mut messages);
        let read = read.and_then(|()| begun.intake.end(&mut messages));
        read.map_err(|status| shown(refusal(&status)))?;
        Ok((begun, messages))
    }

    fn shown(response: HttpResponse) -> (u16, String) {
        let body = String::from_utf8(response.body.to_vec()).unwrap();
        (response.status, body)
    }

    #[test]
    fn requests_lead_to_methods() {
        let (begun, messages) = post("/v3beta/kv/%72ange", r#"{"key":"Zm9v"} rest"#).unwrap();
        assert_eq!(METHODS[begun.method].name(), "Range");
        let range = RangeRequest::decode(&messages[0][..]).unwrap();
        assert_eq!(range.key, "foo");
        assert_eq!(
            post("/v3/maintenance/status", " ").unwrap().1,
            [Bytes::new()]
        );
        let (_, messages) = post("/v3/lease/keepalive", "{\"ID\":1}\n{\"ID\":\"2\"}").unwrap();
        let ids = messages.iter();
        let ids = ids.map(|m| LeaseKeepAliveRequest::decode(&m[..]).unwrap().id);
        assert_eq!(ids.collect::<Vec<_>>(), [1, 2]);
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
        let message = LeaseKeepAliveResponse {
            id: 1,
            ttl: 5,
            header: None,
        };
        let line = stream_line(method, &message.encode_to_vec()).unwrap();
        assert_eq!(line, "{\"result\":{\"ID\":\"1\",\"TTL\":\"5\"}}\n");
        let head = stream_head();
        let metadata = head.headers.get_str("grpc-metadata-content-type");
        assert_eq!((head.status, metadata), (200, Some("application/grpc")));
        let status = timed_out();
        assert_eq!(stream_end_head(&status).status, 504);
        assert_eq!(
            stream_end(&status),
            "{\"error\":{\"code\":4,\"message\":\"context deadline exceeded\"}}\n"
        );
        assert!(stream_end_head(&Status::OK).headers.is_empty());
        assert!(stream_end(&Status::OK).is_empty());
    }
}
