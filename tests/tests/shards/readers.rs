//! One client thread that reads, each time in another way, and keeps what it saw.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse, response_op};
use proto::mvccpb::KeyValue;
use tests::api::{RANGE_STREAM, get, op, revision_of, txn};
use tests::client::Client;
use tests::random::Random;

use crate::history::{KEY_COUNT, Observation, Pair, key};
use crate::{Progress, REVISION_MIN};

/// Keys of the larger reads.
const SPAN: u64 = 12;

/// After so many reads a reader rests for this long. On a machine of two CPUs readers without a rest take all of both;
/// the kernel threads that end the log's writes were seen to wait for seconds then.
const READS_PER_REST: usize = 16;
const REST: Duration = Duration::from_millis(1);

/// Makes `count` reads or more, until there were writes enough; each is checked against the clock of acknowledgements at once, against the model later.
pub(crate) fn run(
    addr: SocketAddr,
    mut random: Random,
    count: usize,
    progress: &Progress,
) -> Vec<Observation> {
    let mut client = Client::connect(addr).expect("a listener");
    let mut seen = Vec::new();
    let mut newest = 0;
    let has_writer = || !progress.has_ended.load(Ordering::Relaxed);
    while seen.len() < count || (newest < REVISION_MIN && has_writer()) {
        let first = random.below(KEY_COUNT);
        let is_one = random.below(4) > 0;
        let limit = if is_one { first + 1 } else { first + SPAN };
        let is_serializable = random.below(2) == 0;
        let request = RangeRequest {
            range_end: if is_one { String::new() } else { key(limit) }.into(),
            serializable: is_serializable,
            ..get(key(first))
        };
        let before = progress.acknowledged.load(Ordering::SeqCst);
        let response = match random.below(8) {
            0 => read_by_txn(&mut client, request),
            1 => read_by_stream(&mut client, &request),
            _ => client.range(&request).expect("a read"),
        };
        let revision = revision_of(response.header);
        assert!(
            is_serializable || revision >= before,
            "{revision} was read when {before} was acknowledged"
        );
        assert!(revision >= newest, "{revision} after {newest}");
        newest = revision;
        seen.push(Observation {
            first,
            limit,
            revision,
            pairs: response.kvs.iter().map(pair).collect(),
        });
        if seen.len().is_multiple_of(READS_PER_REST) {
            std::thread::sleep(REST);
        }
    }
    seen
}

fn pair(kv: &KeyValue) -> Pair {
    let text = String::from_utf8_lossy(&kv.key).into_owned();
    let number = text
        .rsplit('/')
        .next()
        .and_then(|number| number.parse().ok());
    Pair {
        number: number.unwrap_or_else(|| panic!("{text} is no key of the model")),
        value: kv.value.clone(),
        mod_revision: kv.mod_revision,
    }
}

fn read_by_txn(client: &mut Client, request: RangeRequest) -> RangeResponse {
    let response = client
        .txn(&txn(vec![], vec![op(request)], vec![]))
        .expect("a read");
    let header = response.header;
    let first = response.responses.into_iter().next();
    match first.and_then(|op| op.response) {
        Some(response_op::Response::ResponseRange(range)) => RangeResponse { header, ..range },
        other => panic!("no range: {other:?}"),
    }
}

fn read_by_stream(client: &mut Client, request: &RangeRequest) -> RangeResponse {
    let call = client.start(RANGE_STREAM).expect("a call");
    client.send(call, request);
    client.half_close(call);
    let mut whole = RangeResponse::default();
    while let Some(part) = client.next::<RangeStreamResponse>(call).expect("no error") {
        let part = part.range_response.expect("a part");
        whole.kvs.extend(part.kvs);
        whole.header = part.header.or(whole.header);
    }
    whole
}
