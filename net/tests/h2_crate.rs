//! The h2 crate as a foreign client of our server, over a pipe in memory.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::grpc::{Code, Status};
use net::http::{HttpResponse, Method};
use net::{Limits, ServerConnection, ServerEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Echoes messages; `/a.B/Fail` fails.
fn serve(server: &mut ServerConnection, event: ServerEvent) {
    match event {
        ServerEvent::Call { id, path, .. } if path == "/a.B/Fail" => {
            server.finish(id, &Status::new(Code::NotFound, "no such \u{e9}"));
        }
        ServerEvent::Message { id, payload } => server.send_message(id, payload),
        ServerEvent::HalfClose { id } => server.finish(id, &Status::OK),
        ServerEvent::Http { id, request } => {
            assert_eq!(request.method, Method::Put);
            server.respond(id, HttpResponse::text(201, request.body));
        }
        _ => {}
    }
}

/// Runs a server on one end of a pipe until the connection ends.
async fn run_server(mut pipe: DuplexStream, limits: Limits) {
    let mut server = ServerConnection::new(Arc::new(limits), Duration::ZERO);
    let mut input = vec![0; 10_000];
    let mut output = Vec::new();
    while !server.is_finished() {
        while server.poll_transmit(&mut output, 16_384) > 0 {}
        if !output.is_empty() {
            if pipe.write_all(&output).await.is_err() {
                return;
            }
            output.clear();
            continue;
        }
        match pipe.read(&mut input).await {
            Ok(0) | Err(_) => server.on_eof(),
            Ok(len) => server.on_bytes(&input[..len]),
        }
        while let Some(event) = server.poll_event() {
            serve(&mut server, event);
        }
    }
}

type Sender = h2::client::SendRequest<Bytes>;

/// Calls `talk` with a connected client, its windows of `window` octets.
async fn with_client<T, F: Future<Output = T>>(window: u32, talk: impl FnOnce(Sender) -> F) -> T {
    let (near, far) = tokio::io::duplex(5000);
    let limits = Limits {
        stream_window: 20_000,
        connection_window: 70_000,
        message_bytes_max: 4 << 20,
        ..Limits::default()
    };
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async move {
            let server = tokio::task::spawn_local(run_server(far, limits));
            let (sender, connection) = h2::client::Builder::new()
                .initial_window_size(window)
                .header_table_size(100)
                .handshake(near)
                .await
                .expect("handshake");
            let driver = tokio::task::spawn_local(connection);
            let sender = sender.ready().await.expect("ready");
            let value = talk(sender).await;
            driver.await.expect("no panic").expect("a clean end");
            server.await.expect("no panic");
            value
        })
        .await
}

fn request(method: &str, path: &str, content_type: &str) -> http::Request<()> {
    http::Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .header("content-type", content_type)
        .header("x-long", "x".repeat(20_000))
        .body(())
        .expect("a request")
}

async fn send_all(mut body: h2::SendStream<Bytes>, mut octets: Bytes) {
    while !octets.is_empty() {
        body.reserve_capacity(octets.len());
        let granted = std::future::poll_fn(|context| body.poll_capacity(context)).await;
        let len = granted.expect("open").expect("capacity");
        body.send_data(octets.split_to(len), false).expect("sent");
    }
    body.send_data(Bytes::new(), true).expect("sent");
}

async fn read_all(body: &mut h2::RecvStream) -> Vec<u8> {
    let mut octets = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.expect("data");
        body.flow_control()
            .release_capacity(piece.len())
            .expect("released");
        octets.extend_from_slice(&piece);
    }
    octets
}

/// One call; gives back body, `grpc-status` and `grpc-message`.
async fn call(sender: &mut Sender, path: &str, message: &[u8]) -> (Vec<u8>, String, String) {
    let request = request("POST", path, "application/grpc");
    let (response, body) = sender.send_request(request, false).expect("sent");
    let framed = Bytes::from(support::message(message));
    let sending = tokio::task::spawn_local(async move {
        if !framed.is_empty() {
            send_all(body, framed).await;
        }
    });
    let response = response.await.expect("a response");
    assert_eq!(response.status(), 200);
    let head = response.headers().clone();
    let mut body = response.into_body();
    let octets = read_all(&mut body).await;
    let trailers = body.trailers().await.expect("an end").unwrap_or(head);
    let field = |name: &str| {
        let value = trailers
            .get(name)
            .map(|value| value.to_str().expect("text"));
        value.unwrap_or_default().to_owned()
    };
    if field("grpc-status") == "0" {
        sending.await.expect("no panic");
    }
    (octets, field("grpc-status"), field("grpc-message"))
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future);
}

#[test]
fn calls_of_all_sizes() {
    run(async {
        for window in [300, 65_535, 1 << 20] {
            with_client(window, |mut sender| async move {
                for len in [0, 1, 16_384, 100_000, 3 << 20] {
                    let message: Vec<u8> = (0..len).map(|at: usize| at as u8).collect();
                    let (body, status, text) = call(&mut sender, "/a.B/Echo", &message).await;
                    assert!(body == support::message(&message));
                    assert_eq!((&status[..], &text[..]), ("0", ""));
                }
            })
            .await;
        }
    });
}

#[test]
fn a_status_alone() {
    run(with_client(65_535, |mut sender| async move {
        let (body, status, text) = call(&mut sender, "/a.B/Fail", b"").await;
        assert_eq!(
            (&body[..], &status[..], &text[..]),
            (&b""[..], "5", "no such %C3%A9")
        );
    }));
}

#[test]
fn many_calls_at_once() {
    run(with_client(1000, |sender| async move {
        let calls: Vec<_> = (0..50usize)
            .map(|number| {
                let mut sender = sender.clone();
                tokio::task::spawn_local(async move {
                    let message = vec![number as u8; number * 1000];
                    let (body, status, _) = call(&mut sender, "/a.B/Echo", &message).await;
                    assert!(body == support::message(&message) && status == "0");
                })
            })
            .collect();
        for call in calls {
            call.await.expect("no panic");
        }
    }));
}

#[test]
fn a_plain_request() {
    run(with_client(300, |mut sender| async move {
        let request = request("PUT", "/x?y", "text/plain");
        let (response, body) = sender.send_request(request, false).expect("sent");
        send_all(body, Bytes::from(vec![b'z'; 50_000])).await;
        let response = response.await.expect("a response");
        assert_eq!(response.status(), 201);
        assert_eq!(response.headers()["content-length"], "50000");
        assert_eq!(
            read_all(&mut response.into_body()).await,
            vec![b'z'; 50_000]
        );
    }));
}
