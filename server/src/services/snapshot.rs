//! Snapshot: the store's file as one stream, while everything else goes on.
//!
//! ```text
//!   wait for a checkpoint with all that is applied -> image -> blobs of the file, in order -> SHA-256 of them
//! ```
//!
//! The image keeps the pages that it is made of ([`engine::backend::StoreImage`]); the file grows by what is written
//! meanwhile. Reading, hashing and sending would take a whole core, so beside others' calls there is a pause after each piece. It
//! is read by plain reads of the disk's queue and not through the map, so no core waits for a page, and what
//! lies between the pages of the image may change under the read.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use driver::{AlignedBuf, Caching, File};
use engine::backend::StoreImage;
use net::grpc::{Code, Status};
use proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use sha2::{Digest, Sha256};

use super::failure::{Failure, end};
use super::respond;
use crate::logging;
use crate::shard::{ReplyTo, Shard, StreamReply};

/// Bytes of the file in one message; etcd's number.
const BLOB_LEN: usize = 32 * 1024;
/// Bytes read at once. What is written to the log meanwhile waits for them in the disk's queue.
const READ_LEN: usize = 128 * 1024;
/// Pause after each of them while others call: a quarter of the core is left to this, some 100 MB/s.
const PAUSE: Duration = Duration::from_millis(1);
/// How long after a call others are expected to call again.
const BUSY_TIME: Duration = Duration::from_millis(20);

pub(crate) fn snapshot(shard: &Rc<Shard>, _request: SnapshotRequest, reply: ReplyTo) {
    let shard = Rc::clone(shard);
    driver::spawn(async move {
        let out = reply.into_stream();
        let sent = send(&shard, &out).await;
        end(out, sent);
    })
    .detach();
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let text = format!("etcore: the database cannot be read: {error}");
        Failure::Refused(Status::new(Code::Unknown, text))
    }
}

async fn send(shard: &Shard, out: &StreamReply) -> Result<(), Failure> {
    let started = driver::now();
    let image = shard.image().await;
    let image = image.map_err(|error| Failure::Refused(error.status()))?;
    let path = shard.config.snap_dir().join("db");
    let file = File::open(&path, Caching::Buffered).await?;
    file.reads_nothing_ahead();
    let sent = send_image(shard, &image, &file, out).await;
    file.close().await;
    sent?;
    let took = driver::now().saturating_sub(started);
    shard.metrics.backend_snapshot.observe(took);
    logging::info!(
        "sent a snapshot of the database",
        "total-bytes" => image.file_len(),
        "took" => took
    );
    Ok(())
}

async fn send_image(
    shard: &Shard,
    image: &StoreImage,
    file: &File,
    out: &StreamReply,
) -> Result<(), Failure> {
    let version = image.storage_version().unwrap_or_default().to_owned();
    let total = image.file_len();
    let mut hash = Sha256::new();
    let mut offset = 0;
    let mut buf = AlignedBuf::zeroed(READ_LEN);
    let mut others = Others::new(shard);
    while offset < total {
        if others.are_busy(shard) {
            driver::sleep(PAUSE).await;
        }
        let (read, back) = file.read_at(buf, offset).await;
        buf = back;
        let len = usize::try_from(total - offset).map_or(READ_LEN, |left| left.min(READ_LEN));
        // Behind the end of the file no page of the image can be: it was cut since.
        let bytes = buf.as_mut_slice();
        bytes[read?..].fill(0);
        if offset == 0 {
            let head = image.meta_pages();
            bytes[..head.len()].copy_from_slice(head);
        }
        for blob in buf.as_slice()[..len].chunks(BLOB_LEN) {
            offset += blob.len() as u64;
            hash.update(blob);
            out.send(message(
                total - offset,
                Bytes::copy_from_slice(blob),
                &version,
            ))?;
            out.ready().await?;
            if driver::need_yield() {
                driver::yield_now().await;
            }
        }
    }
    let digest = Bytes::copy_from_slice(&hash.finalize());
    out.send(message(0, digest, &version))?;
    Ok(())
}

/// Whether others want the core too.
struct Others {
    call_count: u64,
    busy_until: Duration,
}

impl Others {
    fn new(shard: &Shard) -> Self {
        Others {
            call_count: shard.call_count(),
            busy_until: Duration::ZERO,
        }
    }

    fn are_busy(&mut self, shard: &Shard) -> bool {
        let (now, call_count) = (driver::now(), shard.call_count());
        if call_count != self.call_count {
            self.call_count = call_count;
            self.busy_until = now + BUSY_TIME;
        }
        now < self.busy_until
    }
}

fn message(remaining_bytes: u64, blob: Bytes, version: &str) -> Bytes {
    respond::message(&SnapshotResponse {
        header: None,
        remaining_bytes,
        blob,
        version: version.to_owned(),
    })
}
