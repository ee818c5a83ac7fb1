//! A server of one route, `GET /version`, and one gRPC method that echoes, over HTTP/1.1 and HTTP/2 on one port: a thing
//! to point h2spec, curl and h2load at. One thread for each connection; prints its address and serves until killed.
//!
//! `cargo run -p net --example version_server -- 127.0.0.1:0`

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use net::grpc::{Code, Status};
use net::http::{HttpResponse, Method};
use net::{Limits, ServerConnection, ServerEvent};

const READ_LEN: usize = 64 * 1024;

/// A read that waits longer makes way for timers.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1);
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:0"))?;
    println!("listening on {}", listener.local_addr()?);
    // Announced, so that h2spec can test that it is kept.
    let limits = Arc::new(Limits {
        concurrent_streams_max: 100,
        ..Limits::default()
    });
    for stream in listener.incoming() {
        let limits = Arc::clone(&limits);
        let stream = stream?;
        std::thread::spawn(move || serve(stream, limits));
    }
    Ok(())
}

fn serve(mut stream: TcpStream, limits: Arc<Limits>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(POLL_INTERVAL))?;
    let start = Instant::now();
    let mut connection = ServerConnection::new(limits, Duration::ZERO);
    let mut input = vec![0; READ_LEN];
    let mut output = Vec::new();
    loop {
        while connection.poll_transmit(&mut output, READ_LEN) > 0 {
            stream.write_all(&output)?;
            output.clear();
        }
        if connection.is_finished() {
            return linger(stream);
        }
        let read = stream.read(&mut input);
        connection.on_time(start.elapsed());
        match read {
            Ok(0) => connection.on_eof(),
            Ok(len) => connection.on_bytes(&input[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        while let Some(event) = connection.poll_event() {
            answer(&mut connection, event);
        }
    }
}

/// Lets the peer read what was sent last before the socket is closed.
fn linger(mut stream: TcpStream) -> std::io::Result<()> {
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut sink = [0; 4096];
    for _ in 0..10 {
        if matches!(stream.read(&mut sink), Ok(0)) {
            break;
        }
    }
    Ok(())
}

fn answer(connection: &mut ServerConnection, event: ServerEvent) {
    match event {
        ServerEvent::Http { id, request } => {
            let response = match (&request.path[..], &request.method) {
                ("/version", Method::Get | Method::Head | Method::Post) => {
                    HttpResponse::json(200, r#"{"etcdserver":"3.7.1"}"#)
                }
                ("/version", _) => HttpResponse::method_not_allowed("GET"),
                _ => HttpResponse::not_found(),
            };
            connection.respond(id, response);
        }
        ServerEvent::Call { id, path, .. } if path != "/test.Echo/Echo" => {
            let status = Status::new(Code::Unimplemented, "unknown method");
            connection.finish(id, &status);
        }
        ServerEvent::Message { id, payload } => connection.send_message(id, payload),
        ServerEvent::HalfClose { id } => connection.finish(id, &Status::OK),
        _ => {}
    }
}
