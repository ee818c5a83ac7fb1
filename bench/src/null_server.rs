//! A server that does nothing: `net`'s HTTP/2 and gRPC on `driver`'s sockets, every call answered by the same
//! empty `PutResponse`.
//!
//! It is what any request costs before the store has seen it, so it is a denominator: a put at depth 1 can be no
//! faster than this and a write with its sync, and what a request costs beyond this is the engine's. `GET /health`
//! says that it is there. Each connection is two tasks, as in the server.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use driver::{ExecutorConfig, ListenOptions, Listener, Notify, Stream};
use net::grpc::Status;
use net::http::HttpResponse;
use net::{Limits, ServerConnection, ServerEvent};
use prost::Message as _;
use proto::etcdserverpb::{PutResponse, ResponseHeader};

/// As the server reads and writes.
const READ_SIZE_BYTES: usize = 64 * 1024;
const WRITE_SIZE_BYTES_MAX: usize = 256 * 1024;

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub enum NullServerError {
    #[error(transparent)]
    Driver(#[from] driver::DriverError),
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
}

/// Serves until the process ends. `on_ready` is told the address, which matters if the port was 0.
///
/// # Errors
/// [`NullServerError`] if it cannot listen or this machine has no io_uring.
pub fn serve(
    address: SocketAddr,
    core: Option<usize>,
    on_ready: impl FnOnce(SocketAddr),
) -> Result<(), NullServerError> {
    let config = ExecutorConfig {
        core,
        ..ExecutorConfig::new("null-server")
    };
    driver::run(config, || listen(address, on_ready))?
}

async fn listen(
    address: SocketAddr,
    on_ready: impl FnOnce(SocketAddr),
) -> Result<(), NullServerError> {
    let listener = Listener::bind(address, ListenOptions::default())
        .map_err(|source| NullServerError::Listen { address, source })?;
    on_ready(listener.local_addr());
    let limits = Arc::new(Limits::default());
    let answer = answer();
    loop {
        let (stream, _peer) = listener.accept().await;
        // A socket that refuses the option is gone already; its first read says so.
        let _ = stream.set_nodelay(true);
        let connection = Rc::new(Connection {
            machine: RefCell::new(ServerConnection::new(Arc::clone(&limits), driver::now())),
            answer: answer.clone(),
            writer: Notify::new(),
            is_over: Cell::new(false),
        });
        driver::spawn(connection.serve(stream)).detach();
    }
}

/// An answer as long as a real one: its header says who and when.
fn answer() -> Bytes {
    let response = PutResponse {
        header: Some(ResponseHeader {
            cluster_id: 0xcdf8_18f1_8a56_6cf1,
            member_id: 0x8e9e_05c5_2164_694d,
            revision: 1_000_000,
            raft_term: 2,
        }),
        ..PutResponse::default()
    };
    Bytes::from(response.encode_to_vec())
}

struct Connection {
    machine: RefCell<ServerConnection>,
    answer: Bytes,
    writer: Notify,
    /// Nothing more can be written.
    is_over: Cell<bool>,
}

impl Connection {
    async fn serve(self: Rc<Self>, stream: Stream) {
        let stream = Rc::new(stream);
        let reader = driver::spawn(Rc::clone(&self).read_all(Rc::clone(&stream)));
        self.write_all(&stream).await;
        drop(reader);
        let _ = stream.shutdown();
    }

    async fn read_all(self: Rc<Self>, stream: Rc<Stream>) {
        let mut buffer = Vec::with_capacity(READ_SIZE_BYTES);
        while !self.is_over.get() {
            buffer.clear();
            let (result, back) = stream.read(buffer).await;
            buffer = back;
            let is_last = !matches!(result, Ok(1..));
            {
                let mut machine = self.machine.borrow_mut();
                machine.on_time(driver::now());
                match result {
                    Ok(0) => machine.on_eof(),
                    Ok(_) => machine.on_bytes(&buffer),
                    Err(_) => machine.on_lost(),
                }
            }
            self.answer_all();
            self.writer.notify();
            if is_last {
                return;
            }
        }
    }

    async fn write_all(&self, stream: &Stream) {
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            self.machine
                .borrow_mut()
                .poll_transmit(&mut buffer, WRITE_SIZE_BYTES_MAX);
            if buffer.is_empty() {
                if self.machine.borrow().is_finished() {
                    break;
                }
                self.writer.notified().await;
                continue;
            }
            let (result, back) = stream.write_all(buffer).await;
            buffer = back;
            if result.is_err() {
                break;
            }
        }
        self.is_over.set(true);
    }

    fn answer_all(&self) {
        let mut machine = self.machine.borrow_mut();
        while let Some(event) = machine.poll_event() {
            match event {
                ServerEvent::HalfClose { id } => {
                    machine.send_message(id, self.answer.clone());
                    machine.finish(id, &Status::OK);
                }
                ServerEvent::Http { id, .. } => {
                    machine.respond(id, HttpResponse::json(200, r#"{"health":"true"}"#));
                }
                ServerEvent::Call { .. }
                | ServerEvent::Message { .. }
                | ServerEvent::Cancelled { .. }
                | ServerEvent::HttpStart { .. }
                | ServerEvent::HttpBody { .. }
                | ServerEvent::HttpLeft { .. }
                | ServerEvent::Writable { .. } => {}
            }
        }
    }
}
