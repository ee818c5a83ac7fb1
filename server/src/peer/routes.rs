//! The raft routes of a peer listener, as a pure function: what a request asks for, or how it is refused.

use std::time::SystemTime;

use net::http::{HttpRequest, HttpResponse, Method};
use prost::Message as _;
use proto::raftpb;

use super::{StreamKind, headers};
use crate::identity::Identity;
use crate::logging::Civil;
use crate::version;

const RAFT: &str = "/raft";
const PROBING: &str = "/raft/probing";
const SNAPSHOT: &str = "/raft/snapshot";
const STREAM: &str = "/raft/stream/";
const APPEND_STREAM: &str = "/raft/stream/msgapp";
const MESSAGE_STREAM: &str = "/raft/stream/message";

/// Why a database is not taken, and what helps. It is logged where it was sent from.
pub(super) const SNAPSHOT_REFUSED: &str = "etcore cannot receive a database snapshot from a peer yet, which a leader sends in \
     place of entries that it has no more in memory: add this member within the first hundred entries of the cluster, and \
     give the others a --snapshot-catchup-entries large enough for the time that it may be away";

/// The path to ask a member's stream by.
pub(super) fn stream_path(kind: StreamKind, own_id: u64) -> String {
    let folder = match kind {
        StreamKind::Append => APPEND_STREAM,
        StreamKind::Message => MESSAGE_STREAM,
    };
    format!("{folder}/{own_id:x}")
}

/// What a request asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Route {
    /// The answer is known.
    Respond(HttpResponse),
    /// To be given to raft.
    Message(Box<raftpb::Message>),
    /// To be answered with messages for that member, without an end.
    Stream { kind: StreamKind, from: u64 },
    /// A database, which is refused.
    Snapshot(HttpResponse),
    /// None of raft's.
    Other,
}

/// What is known of other members.
pub(super) trait Directory {
    fn is_known(&self, id: u64) -> bool;
    fn is_removed(&self, id: u64) -> bool;
    /// A member says where it is.
    fn on_remote(&self, id: u64, urls: &[String]);
}

/// Routes a request to this member; `now` is for probes only.
pub(super) fn route(
    request: &HttpRequest,
    identity: Identity,
    directory: &impl Directory,
    now: SystemTime,
) -> Route {
    match request.path.as_str() {
        RAFT => route_message(request, identity, directory),
        PROBING => Route::Respond(probe_response(now)),
        SNAPSHOT => route_snapshot(request, identity),
        path if path.starts_with(STREAM) => route_stream(request, identity, directory),
        _ => Route::Other,
    }
}

fn route_message(request: &HttpRequest, identity: Identity, directory: &impl Directory) -> Route {
    if request.method != Method::Post {
        return Route::Respond(HttpResponse::method_not_allowed("POST"));
    }
    let refuse = |response| Route::Respond(with_cluster(response, identity));
    if let Err(mismatch) = headers::check(&request.headers, identity) {
        return refuse(HttpResponse::error(412, &mismatch.to_string()));
    }
    if let (Some(id), Some(urls)) = (
        headers::sender(&request.headers),
        headers::peer_urls(&request.headers),
    ) {
        directory.on_remote(id, &urls);
    }
    match raftpb::Message::decode(request.body.clone()) {
        Ok(message) => Route::Message(Box::new(message)),
        Err(_) => refuse(HttpResponse::error(400, "error unmarshalling raft message")),
    }
}

fn route_snapshot(request: &HttpRequest, identity: Identity) -> Route {
    if request.method != Method::Post {
        return Route::Respond(HttpResponse::method_not_allowed("POST"));
    }
    let refuse = |response| with_cluster(response, identity);
    match headers::check(&request.headers, identity) {
        Err(mismatch) => Route::Respond(refuse(HttpResponse::error(412, &mismatch.to_string()))),
        Ok(()) => Route::Snapshot(refuse(HttpResponse::error(500, SNAPSHOT_REFUSED))),
    }
}

fn route_stream(request: &HttpRequest, identity: Identity, directory: &impl Directory) -> Route {
    if request.method != Method::Get {
        return Route::Respond(HttpResponse::method_not_allowed("GET"));
    }
    let refuse = |status, text: &str| {
        Route::Respond(stream_head(HttpResponse::error(status, text), identity))
    };
    if let Err(mismatch) = headers::check(&request.headers, identity) {
        return refuse(412, &mismatch.to_string());
    }
    let (folder, name) = request.path.rsplit_once('/').unwrap_or_default();
    let kind = match folder {
        APPEND_STREAM => StreamKind::Append,
        MESSAGE_STREAM => StreamKind::Message,
        _ => return refuse(404, "invalid path"),
    };
    let Some(from) = headers::parse_id(name) else {
        return refuse(404, "invalid from");
    };
    if directory.is_removed(from) {
        return refuse(410, "removed member");
    }
    if !directory.is_known(from) {
        if let Some(urls) = headers::peer_urls(&request.headers) {
            directory.on_remote(from, &urls);
        }
        return refuse(404, "error sender not found");
    }
    match headers::is_to(&request.headers, identity) {
        true => Route::Stream { kind, from },
        false => refuse(412, "to field mismatch"),
    }
}

/// The head of a stream's answer: who speaks.
pub(super) fn stream_head(response: HttpResponse, identity: Identity) -> HttpResponse {
    with_cluster(
        response.header(headers::SERVER_VERSION, version::ETCD),
        identity,
    )
}

pub(super) fn with_cluster(response: HttpResponse, identity: Identity) -> HttpResponse {
    response.header(headers::CLUSTER_ID, format!("{:x}", identity.cluster_id))
}

/// Life, and the clock by which the other end sees how far the two are apart.
fn probe_response(now: SystemTime) -> HttpResponse {
    let at = Civil::from_system(now);
    let body = format!(
        "{{\"OK\":true,\"Now\":\"{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z\"}}\n",
        at.year, at.month, at.day, at.hour, at.minute, at.second, at.nanosecond
    );
    HttpResponse::text(200, body)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const OURS: Identity = Identity {
        member_id: 0xa,
        cluster_id: 0xc,
    };
    const THEIRS: Identity = Identity {
        member_id: 0xb,
        cluster_id: 0xc,
    };
    const REMOVED: u64 = 0xdead;

    #[derive(Default)]
    struct Book {
        remotes: RefCell<Vec<u64>>,
    }

    impl Directory for Book {
        fn is_known(&self, id: u64) -> bool {
            id == THEIRS.member_id
        }

        fn is_removed(&self, id: u64) -> bool {
            id == REMOVED
        }

        fn on_remote(&self, id: u64, _urls: &[String]) {
            self.remotes.borrow_mut().push(id);
        }
    }

    fn ask(method: Method, path: &str, sender: Identity, to: u64) -> HttpRequest {
        headers::request(method, path, sender, "http://b:1", Some(to))
    }

    fn routed(request: &HttpRequest) -> Route {
        route(request, OURS, &Book::default(), UNIX_EPOCH)
    }

    fn refusal(request: &HttpRequest) -> (u16, String) {
        match routed(request) {
            Route::Respond(response) | Route::Snapshot(response) => {
                let text = String::from_utf8(response.body.to_vec()).expect("text");
                (response.status, text.trim_end().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn streams_are_given_to_members_that_ask_the_right_one() {
        for (kind, path) in [
            (StreamKind::Append, "/raft/stream/msgapp/b"),
            (StreamKind::Message, "/raft/stream/message/b"),
        ] {
            assert_eq!(stream_path(kind, 0xb), path);
            let stream = Route::Stream { kind, from: 0xb };
            assert_eq!(routed(&ask(Method::Get, path, THEIRS, 0xa)), stream);
        }
    }

    #[test]
    fn streams_are_refused_in_etcds_words_and_order() {
        let other_cluster = Identity {
            cluster_id: 0xd,
            ..THEIRS
        };
        let get = |path| ask(Method::Get, path, THEIRS, 0xa);
        let cases = [
            (
                ask(Method::Post, "/raft/stream/msgapp/b", THEIRS, 0xa),
                405,
                "Method Not Allowed",
            ),
            (
                ask(Method::Get, "/raft/stream/x/z", other_cluster, 0xa),
                412,
                "cluster ID mismatch",
            ),
            (get("/raft/stream/x/b"), 404, "invalid path"),
            (get("/raft/stream/msgapp/x/b"), 404, "invalid path"),
            (get("/raft/stream/msgapp/z"), 404, "invalid from"),
            (get("/raft/stream/msgapp/"), 404, "invalid from"),
            (get("/raft/stream/msgapp/dead"), 410, "removed member"),
            (get("/raft/stream/msgapp/e"), 404, "error sender not found"),
            (
                ask(Method::Get, "/raft/stream/msgapp/b", THEIRS, 0xf),
                412,
                "to field mismatch",
            ),
            (
                HttpRequest::new(Method::Get, "/raft/stream/msgapp/b"),
                412,
                "incompatible version",
            ),
        ];
        for (request, status, text) in cases {
            assert_eq!(
                refusal(&request),
                (status, text.to_owned()),
                "{}",
                request.path
            );
        }
    }

    #[test]
    fn strangers_are_remembered() {
        let book = Book::default();
        let request = ask(Method::Get, "/raft/stream/msgapp/e", THEIRS, 0xa);
        route(&request, OURS, &book, UNIX_EPOCH);
        let post = ask(Method::Post, "/raft", THEIRS, 0xa);
        route(&post, OURS, &book, UNIX_EPOCH);
        assert_eq!(*book.remotes.borrow(), [0xe, 0xb]);
    }

    #[test]
    fn posted_messages_are_decoded() {
        let message = raftpb::Message {
            r#type: Some(8),
            from: Some(0xb),
            ..raftpb::Message::default()
        };
        let mut request = ask(Method::Post, "/raft", THEIRS, 0xa);
        request.body = message.encode_to_vec().into();
        assert_eq!(routed(&request), Route::Message(Box::new(message)));
        request.body = "\u{7f}".into();
        assert_eq!(
            refusal(&request),
            (400, "error unmarshalling raft message".to_owned())
        );
        assert_eq!(refusal(&ask(Method::Get, "/raft", THEIRS, 0xa)).0, 405);
        assert_eq!(refusal(&HttpRequest::new(Method::Post, "/raft")).0, 412);
    }

    #[test]
    fn a_database_is_refused_with_what_to_do() {
        let (status, text) = refusal(&ask(Method::Post, "/raft/snapshot", THEIRS, 0xa));
        assert!(
            status == 500 && text.contains("--snapshot-catchup-entries"),
            "{text}"
        );
        assert_eq!(
            refusal(&HttpRequest::new(Method::Post, "/raft/snapshot")).0,
            412
        );
    }

    #[test]
    fn probes_tell_the_time() {
        let at = UNIX_EPOCH + Duration::new(1_795_226_939, 382_331_650);
        let Route::Respond(response) = route(
            &HttpRequest::new(Method::Get, PROBING),
            OURS,
            &Book::default(),
            at,
        ) else {
            panic!("no answer");
        };
        let expected = "{\"OK\":true,\"Now\":\"2026-11-21T02:08:59.382331650Z\"}\n";
        assert_eq!(
            (response.status, &response.body[..]),
            (200, expected.as_bytes())
        );
        assert_eq!(
            routed(&HttpRequest::new(Method::Get, "/members")),
            Route::Other
        );
    }
}
