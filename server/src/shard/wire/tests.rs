//! Connections of peers that take nothing: each must end, and in time, which once hung with the write under way.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use driver::{ExecutorConfig, ListenOptions, Listener};
use net::grpc::Status;
use net::http::HttpResponse;
use net::{CallId, ClientConnection, Metadata};

use super::*;

/// How long a test may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_millis(50);
/// More than the buffers of two sockets hold.
const LARGE: usize = 64 << 20;

/// Answers every request with `len` octets, and a call with as many again after `delay`.
struct Answerer {
    wire: Wire,
    len: usize,
    delay: Duration,
}

impl Owner for Answerer {
    fn wire(&self) -> &Wire {
        &self.wire
    }

    fn on_event(self: &Rc<Self>, event: ServerEvent) {
        match event {
            ServerEvent::HalfClose { id } => self.answer_later(id, false),
            ServerEvent::Http { id, .. } => self.answer_later(id, true),
            _ => {}
        }
    }
}

impl Answerer {
    fn answer_later(self: &Rc<Self>, id: CallId, is_http: bool) {
        let this = Rc::clone(self);
        driver::spawn(async move {
            driver::yield_now().await;
            let body = Bytes::from(vec![b'x'; this.len]);
            if is_http {
                let response = HttpResponse {
                    body,
                    ..HttpResponse::new(200)
                };
                this.wire.command(|machine| machine.respond(id, response));
            } else {
                let again = body.clone();
                this.wire.command(|machine| machine.send_message(id, body));
                driver::sleep(this.delay).await;
                this.wire.command(|machine| machine.send_message(id, again));
                this.wire.command(|machine| machine.finish(id, &Status::OK));
            }
        })
        .detach();
    }
}

/// Serves one connection, which must end by itself.
fn serve_one(limits: Limits, len: usize, peer: impl FnOnce(SocketAddr) -> TcpStream) {
    serve_late(limits, len, Duration::ZERO, peer)
}

fn serve_late(
    limits: Limits,
    len: usize,
    delay: Duration,
    peer: impl FnOnce(SocketAddr) -> TcpStream,
) {
    let ended = driver::run(ExecutorConfig::new("t"), || async move {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, ListenOptions::default()).unwrap();
        // The kernel completes the connection and takes what is sent before anybody accepts.
        let peer = peer(listener.local_addr());
        let (stream, _) = listener.accept().await;
        let owner = Rc::new(Answerer {
            wire: Wire::new(Arc::new(limits), Rc::default(), None),
            len,
            delay,
        });
        let served = driver::timeout(PATIENCE, serve(owner, Rc::new(stream), Vec::new())).await;
        drop(peer);
        served.is_ok()
    });
    assert!(ended.unwrap(), "the connection did not end");
}

/// Asks for something by HTTP/2, as a client whose streams have this window.
fn ask(addr: SocketAddr, stream_window: u32) -> TcpStream {
    let limits = Limits {
        stream_window,
        connection_window: 1 << 30,
        ..Limits::client()
    };
    let mut client = ClientConnection::new(limits.into(), "localhost", Duration::ZERO);
    let call = client
        .start_call("/a/b", &Metadata::default(), None)
        .unwrap();
    client.send_message(call, Bytes::new());
    client.half_close(call);
    let mut out = Vec::new();
    while client.poll_transmit(&mut out, 1 << 20) > 0 {}
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.write_all(&out).unwrap();
    socket
}

fn ask_http1(addr: SocketAddr) -> TcpStream {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    socket
}

/// The write hangs; nothing but the silence tells that the peer is gone.
#[test]
fn a_silent_peer_is_given_up_while_a_write_hangs() {
    let limits = Limits {
        keepalive_interval: Some(SOON),
        keepalive_timeout: SOON,
        ..Limits::default()
    };
    serve_one(limits, LARGE, |addr| ask(addr, 1 << 30));
}

/// The machine has handed out everything, so it cannot know that its last octets wait.
#[test]
fn a_write_that_hangs_ends_in_time() {
    let limits = || Limits {
        unread_timeout: SOON,
        keepalive_interval: None,
        ..Limits::default()
    };
    serve_one(limits(), LARGE, |addr| ask(addr, 1 << 30));
    serve_one(limits(), LARGE, ask_http1);
}

/// The peer sends its end, and reads nothing.
#[test]
fn a_peer_that_has_left_does_not_hold_up_its_write() {
    let limits = Limits {
        keepalive_interval: None,
        ..Limits::default()
    };
    let ended = driver::run(ExecutorConfig::new("t"), || async move {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, ListenOptions::default()).unwrap();
        let peer = ask(listener.local_addr(), 1 << 30);
        let (stream, _) = listener.accept().await;
        let owner = Rc::new(Answerer {
            wire: Wire::new(Arc::new(limits), Rc::default(), None),
            len: LARGE,
            delay: Duration::ZERO,
        });
        let leaver = Rc::clone(&owner);
        let leave = driver::spawn(async move {
            let hangs = |since: Duration| driver::now() > since + 2 * SOON;
            while !leaver.wire.writing_since.get().is_some_and(hangs) {
                driver::sleep(SOON / 10).await;
            }
            peer.shutdown(std::net::Shutdown::Write).unwrap();
            peer
        });
        let served = driver::timeout(
            PATIENCE,
            serve(Rc::clone(&owner), Rc::new(stream), Vec::new()),
        )
        .await;
        drop(leave.await);
        served.is_ok()
    });
    assert!(ended.unwrap(), "the connection did not end");
}

/// No write hangs, for no window lets one begin. The rest comes when nothing is waited for any more.
#[test]
fn an_answer_without_a_window_has_its_time() {
    const LEN: usize = 10;
    const PREFIX_LEN: u32 = 5;
    let limits = Limits {
        unread_timeout: SOON,
        keepalive_interval: None,
        ..Limits::default()
    };
    let window = LEN as u32 + PREFIX_LEN;
    serve_late(limits, LEN, 4 * SOON, |addr| ask(addr, window));
}

/// A good end, while the last write is under way.
#[test]
fn the_last_words_are_not_cut() {
    const LEN: usize = 8 << 20;
    let (tell, told) = std::sync::mpsc::channel();
    serve_one(Limits::default(), LEN, |addr| {
        let mut socket = TcpStream::connect(addr).unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        socket.write_all(request).unwrap();
        let mut reader = socket.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            tell.send(all.len()).unwrap();
        });
        socket
    });
    assert!(told.recv_timeout(PATIENCE).unwrap() > LEN);
}
