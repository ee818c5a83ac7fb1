//! Writing to a member that has asked for a stream: what is queued for it, as the body of our answer.

use std::rc::Rc;
use std::time::Duration;

use driver::Stream;
use engine::peer::{AppendEncoder, encode_link_heartbeat, encode_message};
use proto::raftpb;

use super::outbox::Outbox;
use super::{Peers, READ_TIMEOUT, StreamKind, WRITE_TIMEOUT};
use crate::logging;

/// A stream that has nothing to say says that it lives, often enough for [`READ_TIMEOUT`]; etcd's.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(READ_TIMEOUT.as_millis() as u64 / 3);
/// Messages that gather in one write, unless the first one is larger.
const WRITE_SIZE_BYTES: usize = 256 * 1024;

/// Sends a member its messages of one kind until one of the two ends it. `head` goes before them.
pub(super) async fn write_stream(
    peers: &Rc<Peers>,
    to: u64,
    kind: StreamKind,
    stream: Stream,
    head: Vec<u8>,
) {
    let Some(link) = peers.link(to) else { return };
    let outbox = link.attach(kind);
    let stream = Rc::new(stream);
    let watching = driver::spawn(watch_end(Rc::clone(&stream), Rc::clone(&outbox)));
    write_all(&stream, &outbox, Encoder::new(kind), head).await;
    link.detach(kind, &outbox);
    drop(watching);
    let _ = stream.shutdown();
    // What was written last may not have arrived.
    peers.on_unreachable(to);
    logging::warn!("a stream to a peer has ended", "remote-peer-id" => format!("{to:x}"));
}

async fn write_all(stream: &Stream, outbox: &Outbox, mut encoder: Encoder, head: Vec<u8>) {
    let mut buffer = head;
    while !outbox.is_closed() {
        while buffer.len() < WRITE_SIZE_BYTES
            && let Some(message) = outbox.pop()
        {
            encoder.encode(&message, &mut buffer);
        }
        if buffer.is_empty() {
            if driver::timeout(HEARTBEAT_INTERVAL, outbox.filled())
                .await
                .is_err()
            {
                encoder.encode_link_heartbeat(&mut buffer);
            }
            continue;
        }
        let written = driver::timeout(WRITE_TIMEOUT, stream.write_all(buffer)).await;
        let Ok((Ok(()), back)) = written else { return };
        buffer = back;
        buffer.clear();
    }
}

/// The member says nothing on this connection any more; when it closes, the stream is over.
async fn watch_end(stream: Rc<Stream>, outbox: Rc<Outbox>) {
    // A word is as good as an end: none is due.
    let _ = stream.read(Vec::new()).await;
    outbox.close();
}

enum Encoder {
    Append(AppendEncoder),
    Message,
}

impl Encoder {
    fn new(kind: StreamKind) -> Self {
        match kind {
            StreamKind::Append => Encoder::Append(AppendEncoder::default()),
            StreamKind::Message => Encoder::Message,
        }
    }

    fn encode(&mut self, message: &raftpb::Message, out: &mut Vec<u8>) {
        match self {
            Encoder::Append(encoder) => encoder.encode(message, out),
            Encoder::Message => encode_message(message, out),
        }
    }

    fn encode_link_heartbeat(&self, out: &mut Vec<u8>) {
        match self {
            Encoder::Append(encoder) => encoder.encode_link_heartbeat(out),
            Encoder::Message => encode_link_heartbeat(out),
        }
    }
}
