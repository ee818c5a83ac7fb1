//! What a connection costs in memory: how often it asks for some in the steady state, and how much a peer can make it keep.

#[path = "support/counting.rs"]
#[allow(unreachable_pub, reason = "shared by path")]
mod counting;
mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use counting::{Counting, claims};
use net::grpc::Status;
use net::{CallId, ClientConnection, Limits, Metadata, ServerConnection, ServerEvent};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a client pipelines, read by read, for a server that has met it.
struct Puts {
    server: ServerConnection,
    reads: VecDeque<Vec<u8>>,
}

const REQUEST_LEN: usize = 300;

fn puts(depth: usize, read_count: usize) -> Puts {
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
    let metadata: Metadata = [("client-api-version", "3.6.0"), ("hasleader", "true")]
        .into_iter()
        .collect();
    let reads = (0..read_count)
        .map(|number| {
            let mut octets = Vec::new();
            for _ in 0..depth {
                let timeout = Some(Duration::from_micros(5_000_000 - number as u64));
                let id = client.start_call("/etcdserverpb.KV/Put", &metadata, timeout);
                let id = id.expect("the client takes calls");
                client.send_message(id, Bytes::from(vec![7; REQUEST_LEN]));
                client.half_close(id);
                client.poll_transmit(&mut octets, usize::MAX);
            }
            octets
        })
        .collect();
    Puts { server, reads }
}

impl Puts {
    /// One read, whole calls out, answers in, one write.
    fn turn(&mut self, now: Duration, answer: &Bytes, open: &mut Vec<CallId>, out: &mut Vec<u8>) {
        let read = self.reads.pop_front().expect("a read is left");
        self.server.on_time(now);
        self.server.on_bytes(&read);
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Call { metadata, path, .. } => {
                    assert_eq!(path, "/etcdserverpb.KV/Put");
                    assert_eq!(metadata.get("hasleader"), Some(&b"true"[..]));
                }
                ServerEvent::Message { payload, .. } => assert_eq!(payload.len(), REQUEST_LEN),
                ServerEvent::HalfClose { id } => open.push(id),
                other => panic!("{other:?}"),
            }
        }
        for id in open.drain(..) {
            self.server.send_message(id, answer.clone());
            self.server.finish(id, &Status::OK);
        }
        out.clear();
        let len = self.server.poll_transmit(out, usize::MAX);
        assert!(len > 0 && len == out.len());
        assert_eq!(self.server.poll_transmit(out, usize::MAX), 0, "one write");
    }
}

/// A put costs one allocation in the steady state, its message, plus now and then a chunk for header lists.
#[test]
fn a_put_allocates_its_message() {
    const WARM_UP: usize = 200;
    for (depth, reads) in [(1, 3000), (10, 500)] {
        let mut puts = puts(depth, WARM_UP + reads);
        let answer = Bytes::from(vec![1; 30]);
        let (mut open, mut out) = (Vec::with_capacity(64), Vec::with_capacity(64 * 1024));
        let mut before = 0;
        for turn in 0..WARM_UP + reads {
            if turn == WARM_UP {
                before = claims();
            }
            let now = Duration::from_secs(1000) + Duration::from_micros(50 * turn as u64);
            puts.turn(now, &answer, &mut open, &mut out);
        }
        let count = claims() - before;
        let puts_done = (depth * reads) as u64;
        println!("depth {depth}: {count} allocations for {puts_done} puts");
        assert!(count >= puts_done, "nothing is counted");
        // A tenth more than one for each: chunks and tables.
        assert!(count * 10 <= puts_done * 11, "{count} for {puts_done} puts");
    }
}
