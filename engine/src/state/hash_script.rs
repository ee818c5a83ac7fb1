//! HashKV against what etcd 3.7.1's own store answered.
//!
//! `testdata/hash_kv.txt` is a trace of that store: `new` begins another one, `p key value` puts, `d key [end]` deletes,
//! `t` and `e` enclose one request, `c revision` compacts and waits for the sweep, `h revision` hashes. A line that
//! begins with `=` is etcd's answer: `ok`, an error, or hash, compact revision, hashed revision and newest revision.

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::InternalRaftRequest;
use proto::etcdserverpb::request_op::Request;

use super::*;
use crate::backend::testing::TestDisk;

const TRACE: &str = include_str!("testdata/hash_kv.txt");

/// Replays a trace on a state.
struct Replay {
    disk: TestDisk,
    state: State,
    next: u64,
    /// The operations of the open request.
    open: Option<Vec<pb::RequestOp>>,
    /// Sweep as etcd did, or never.
    sweeps: bool,
    answer: String,
}

impl Replay {
    fn new(sweeps: bool) -> Self {
        let disk = TestDisk::default();
        Replay {
            state: disk.state(StateOptions::default()),
            disk,
            next: 0,
            open: None,
            sweeps,
            answer: String::new(),
        }
    }

    fn apply(&mut self, request: InternalRaftRequest) -> Result<Response, RequestError> {
        self.next += 1;
        self.state
            .apply(LogIndex(self.next), Term(1), Some(request))
            .result
    }

    fn op(&mut self, request: Request) {
        let op = pb::RequestOp {
            request: Some(request),
        };
        match &mut self.open {
            Some(ops) => ops.push(op),
            None => self.txn(vec![op]),
        }
    }

    fn txn(&mut self, success: Vec<pb::RequestOp>) {
        let txn = Some(pb::TxnRequest {
            success,
            ..Default::default()
        });
        self.apply(InternalRaftRequest {
            txn,
            ..Default::default()
        })
        .unwrap();
    }

    fn run(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let bytes = |i: usize| {
            words
                .get(i)
                .map_or(Bytes::new(), |w| Bytes::copy_from_slice(w.as_bytes()))
        };
        match words[0] {
            "new" => *self = Replay::new(self.sweeps),
            "p" => self.op(Request::RequestPut(pb::PutRequest {
                key: bytes(1),
                value: bytes(2),
                ..Default::default()
            })),
            "d" => self.op(Request::RequestDeleteRange(pb::DeleteRangeRequest {
                key: bytes(1),
                range_end: bytes(2),
                prev_kv: false,
            })),
            "t" => self.open = Some(Vec::new()),
            "e" => {
                let ops = self.open.take().unwrap();
                self.txn(ops);
            }
            "c" => self.compact(words[1].parse().unwrap()),
            "h" => self.hash(words[1].parse().unwrap()),
            other => panic!("{other}"),
        }
    }

    fn compact(&mut self, revision: i64) {
        let compaction = Some(pb::CompactionRequest {
            revision,
            physical: true,
        });
        let result = self.apply(InternalRaftRequest {
            compaction,
            ..Default::default()
        });
        self.answer = result.map_or_else(|error| text(&error), |_| "ok".into());
        if self.sweeps {
            self.disk.settle(&mut self.state, 3);
        }
    }

    fn hash(&mut self, revision: i64) {
        self.answer = match self.state.view().hash_kv(revision) {
            Ok(hash) => format!(
                "{} {} {} {}",
                hash.hash, hash.compact_revision, hash.hash_revision, hash.revision
            ),
            Err(error) => text(&error),
        };
    }
}

fn text(error: &RequestError) -> String {
    format!("mvcc: {error}")
}

#[test]
fn hashes_are_etcds() {
    let mut replay = Replay::new(true);
    let mut compared = 0;
    for (number, line) in TRACE.lines().enumerate() {
        match line.strip_prefix("= ") {
            Some(expected) => {
                assert_eq!(replay.answer, expected, "line {}", number + 1);
                compared += 1;
            }
            None => replay.run(line),
        }
    }
    assert!(compared > 50, "{compared}");
}

#[test]
fn hashes_do_not_depend_on_the_sweep() {
    let (mut swept, mut unswept) = (Replay::new(true), Replay::new(false));
    for line in TRACE.lines().filter(|line| !line.starts_with('=')) {
        swept.run(line);
        unswept.run(line);
        let Some(revision) = line.strip_prefix("h ") else {
            continue;
        };
        // A remembered hash exists only after a sweep.
        if swept
            .state
            .view()
            .remembered_hash(revision.parse().unwrap())
            .is_none()
        {
            assert_eq!(swept.answer, unswept.answer, "{line}");
        }
    }
}
