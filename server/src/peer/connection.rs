//! A connection that another member, or whoever asks for `/members`, has opened.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use driver::Stream;
use net::http::{HttpRequest, HttpResponse};
use net::http1::{Event, Limits, Server};

use super::routes::{self, Directory, Route};
use super::{Peers, Refused, StreamKind, WRITE_TIMEOUT, outgoing};
use crate::http::{Trees, is_linearizable, locate, route_peer};
use crate::logging::{self, http_date};
use crate::services::http::node_status;
use crate::shard::AnyListener;

/// How long a connection may say nothing; etcd's.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const READ_SIZE_BYTES: usize = 64 * 1024;
/// As the listeners for clients.
const HEAD_SIZE_BYTES_MAX: usize = 64 * 1024;

/// Accepts until dropped.
pub(crate) async fn listen(peers: Rc<Peers>, listener: AnyListener) {
    loop {
        let stream = listener.accept().await;
        driver::spawn(serve(Rc::clone(&peers), stream)).detach();
    }
}

async fn serve(peers: Rc<Peers>, stream: Stream) {
    let mut server = Server::new(Limits {
        head_size_bytes_max: HEAD_SIZE_BYTES_MAX,
        body_size_bytes_max: peers.message_size_bytes_max(),
        streamed_prefixes: &[],
    });
    let mut buffer = Vec::with_capacity(READ_SIZE_BYTES);
    while !server.is_finished() {
        buffer.clear();
        let (result, back) = match driver::timeout(IDLE_TIMEOUT, stream.read(buffer)).await {
            Ok(read) => read,
            Err(_) => return,
        };
        buffer = back;
        match result {
            Ok(1..) => server.on_bytes(&buffer),
            Ok(0) => server.on_eof(),
            Err(_) => return,
        }
        while let Some(Event::Request(request)) = server.poll_event() {
            match answer(&peers, &request) {
                Answer::Whole(response) => server.respond(response),
                Answer::OnceFresh => server.respond(answer_fresh(&peers, &request).await),
                Answer::Stream { kind, from, head } => {
                    let head = server.into_body(&head);
                    return outgoing::write_stream(&peers, from, kind, stream, head).await;
                }
            }
        }
        buffer.clear();
        while server.poll_transmit(&mut buffer, READ_SIZE_BYTES) > 0 {
            let written = driver::timeout(WRITE_TIMEOUT, stream.write_all(buffer)).await;
            let Ok((Ok(()), back)) = written else { return };
            buffer = back;
            buffer.clear();
        }
    }
    let _ = stream.shutdown_write();
}

/// What a request is answered with.
enum Answer {
    Whole(HttpResponse),
    /// What the members have agreed on, no older than the request.
    OnceFresh,
    Stream {
        kind: StreamKind,
        from: u64,
        head: HttpResponse,
    },
}

fn answer(peers: &Rc<Peers>, request: &HttpRequest) -> Answer {
    let now = SystemTime::now();
    let date = http_date(now);
    if let Err(response) = locate(request, Trees::PEER) {
        return Answer::Whole(response.header("Date", date));
    }
    let response = match routes::route(request, peers.identity, &Book(peers), now) {
        Route::Stream { kind, from } => {
            let head = routes::stream_head(HttpResponse::new(200), peers.identity);
            let head = head.header("Date", date);
            return Answer::Stream { kind, from, head };
        }
        Route::Respond(response) => response,
        Route::Message(message) => {
            let from = message.from();
            routes::with_cluster(outcome(peers.receive(*message), from), peers.identity)
        }
        Route::Snapshot(response) => {
            if !peers.has_refused_snapshot.replace(true) {
                logging::warn!("refused a database snapshot", "reason" => routes::SNAPSHOT_REFUSED);
            }
            response
        }
        Route::Other if is_linearizable(&request.path) => return Answer::OnceFresh,
        Route::Other => {
            return Answer::Whole(route_peer(request, &node_status(&peers.log), &date));
        }
    };
    Answer::Whole(response.header("Date", date))
}

async fn answer_fresh(peers: &Rc<Peers>, request: &HttpRequest) -> HttpResponse {
    match peers.log.wait_linearizable().await {
        Ok(()) => {
            let date = http_date(SystemTime::now());
            route_peer(request, &node_status(&peers.log), &date)
        }
        Err(error) => HttpResponse::error(500, &format!("failed linearized read: {error}")),
    }
}

fn outcome(received: Result<(), Refused>, from: u64) -> HttpResponse {
    let forbidden = |text| {
        logging::warn!("refused a raft message", "reason" => text, "from" => format!("{from:x}"));
        HttpResponse::json(403, format!("{{\"message\":\"{text}\"}}"))
    };
    match received {
        Ok(()) => HttpResponse::new(204),
        Err(Refused::FromRemoved) => forbidden("cannot process message from removed member"),
        Err(Refused::ToOther) => forbidden("cannot process message to mismatch member"),
        Err(Refused::Stopping) => HttpResponse::error(500, "error processing raft message"),
    }
}

/// The members as the routes ask about them.
struct Book<'a>(&'a Rc<Peers>);

impl Directory for Book<'_> {
    fn is_known(&self, id: u64) -> bool {
        self.0.link(id).is_some()
    }

    fn is_removed(&self, id: u64) -> bool {
        self.0.is_removed(id)
    }

    fn on_remote(&self, id: u64, urls: &[String]) {
        self.0.add_remote(id, urls);
    }
}
