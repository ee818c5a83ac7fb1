//! What one unary put costs the server's side of the protocol: bytes in, events, the answer, bytes out; no sockets.
//!
//! ```text
//!  cargo run --release -p net --example unary_cost             the real size
//!  cargo run --release -p net --example unary_cost -- small    a moment, to see that it runs
//! ```
//!
//! The requests are those of a real `ClientConnection`, made before the clock starts: the fields of etcd's client, with
//! a deadline, 8 octets of key and 256 of value. Each turn a connection reads what its client pipelined, answers all of
//! it, and collects the output once. Printed is the cost of a put in the median and in the best round, one line a case.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use net::grpc::Status;
use net::{CallId, ClientConnection, Limits, Metadata, ServerConnection, ServerEvent};

/// Octets of a put's request and of its response.
const REQUEST_LEN: usize = 8 + 256 + 8;
const RESPONSE_LEN: usize = 28;

/// What of a connection's input one round of the clock takes.
struct Case {
    name: &'static str,
    connection_count: usize,
    /// Calls that arrive in one read.
    depth: usize,
    /// Reads of each connection that are timed together.
    rounds: usize,
}

/// A server's connection and what its client will send, read by read.
struct Peer {
    server: ServerConnection,
    reads: VecDeque<Vec<u8>>,
    output: Vec<u8>,
    open: Vec<CallId>,
}

fn main() {
    let is_small = std::env::args().nth(1).is_some_and(|size| size == "small");
    let cases = [
        ("100 connections x 10 calls", 100, 10, 30),
        ("1 connection x 10 calls", 1, 10, 2000),
        ("1 connection x 1 call", 1, 1, 10_000),
    ];
    for (name, connection_count, depth, rounds) in cases {
        let case = Case {
            name,
            connection_count,
            depth,
            rounds: if is_small { 3 } else { rounds },
        };
        run(&case, if is_small { 3 } else { 31 });
    }
}

/// Times a case `repeats` times, each with fresh connections.
fn run(case: &Case, repeats: usize) {
    let mut costs: Vec<f64> = (0..repeats).map(|_| cost_ns(case)).collect();
    costs.sort_by(f64::total_cmp);
    println!(
        "unary_cost case={:?} median_ns={:.0} best_ns={:.0}",
        case.name,
        costs[costs.len() / 2],
        costs[0]
    );
}

/// Nanoseconds for one put.
fn cost_ns(case: &Case) -> f64 {
    const WARM_UP: usize = 2;
    let mut peers: Vec<Peer> = (0..case.connection_count)
        .map(|_| Peer::new(case.depth, case.rounds + WARM_UP))
        .collect();
    let answer = Bytes::from(vec![1; RESPONSE_LEN]);
    let mut now = Duration::from_secs(1000);
    let mut turn = |peers: &mut [Peer]| {
        for peer in peers {
            now += Duration::from_micros(10);
            peer.turn(now, &answer);
        }
    };
    for _ in 0..WARM_UP {
        turn(&mut peers);
    }
    let start = Instant::now();
    for _ in 0..case.rounds {
        turn(&mut peers);
    }
    let elapsed = start.elapsed();
    let put_count = case.connection_count * case.depth * case.rounds;
    assert!(peers.iter().all(|peer| peer.reads.is_empty()));
    elapsed.as_nanos() as f64 / put_count as f64
}

impl Peer {
    fn new(depth: usize, read_count: usize) -> Self {
        let now = Duration::from_secs(1000);
        let mut server = ServerConnection::new(Arc::new(Limits::default()), now);
        let mut client = ClientConnection::new(Arc::new(Limits::client()), "localhost:2379", now);
        let mut octets = Vec::new();
        for _ in 0..3 {
            client.poll_transmit(&mut octets, usize::MAX);
            server.on_bytes(&octets);
            octets.clear();
            server.poll_transmit(&mut octets, usize::MAX);
            client.on_bytes(&octets);
            octets.clear();
        }
        let reads = (0..read_count)
            .map(|_| read_of(&mut client, depth))
            .collect();
        Self {
            server,
            reads,
            output: Vec::new(),
            open: Vec::new(),
        }
    }

    /// One read, its answers, one write.
    fn turn(&mut self, now: Duration, answer: &Bytes) {
        let Some(read) = self.reads.pop_front() else {
            return;
        };
        self.server.on_time(now);
        self.server.on_bytes(&read);
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Call { path, metadata, .. } => {
                    black_box((path.len(), metadata.get("hasleader")));
                }
                ServerEvent::Message { payload, .. } => assert_eq!(payload.len(), REQUEST_LEN),
                ServerEvent::HalfClose { id } => self.open.push(id),
                other => panic!("{other:?}"),
            }
        }
        black_box(self.server.next_timeout());
        for id in self.open.drain(..) {
            self.server.send_message(id, answer.clone());
            self.server.finish(id, &Status::OK);
        }
        self.output.clear();
        self.server.poll_transmit(&mut self.output, 256 * 1024);
        black_box(&self.output);
    }
}

/// The octets of `depth` puts. The client is never answered: only what it sends is wanted.
fn read_of(client: &mut ClientConnection, depth: usize) -> Vec<u8> {
    let metadata: Metadata = [("client-api-version", "3.6.0"), ("hasleader", "true")]
        .into_iter()
        .collect();
    let mut octets = Vec::new();
    for _ in 0..depth {
        let timeout = Some(Duration::from_secs(5));
        let id = client.start_call("/etcdserverpb.KV/Put", &metadata, timeout);
        let id = id.unwrap_or_else(|| panic!("no more calls"));
        client.send_message(id, Bytes::from(vec![7; REQUEST_LEN]));
        client.half_close(id);
        client.poll_transmit(&mut octets, usize::MAX);
    }
    octets
}
