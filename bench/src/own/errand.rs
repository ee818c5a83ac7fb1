//! What a server is asked to do once, beside other requests: a compaction, a defragmentation, a snapshot.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::{CallId, ClientEvent, Limits, Metadata};
use prost::Message as _;
use proto::etcdserverpb::{DefragmentRequest, SnapshotRequest};

use super::line::Line;
use super::{OwnError, crowd, requests};

const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";

/// Something that takes a server a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Errand {
    /// Up to this revision, answered when it was carried out.
    Compact(i64),
    Defragment,
    /// Taken to its end and thrown away.
    Snapshot,
}

/// One that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrandDone {
    pub errand: Errand,
    pub took: Duration,
    /// Of all its messages.
    pub len: u64,
}

/// One that is under way, on a connection of its own.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) line: Line,
    errand: Errand,
    call: CallId,
    started: Duration,
    len: u64,
}

impl Errand {
    fn request(self) -> (&'static str, Bytes) {
        match self {
            Self::Compact(revision) => requests::compaction(revision),
            Self::Defragment => (DEFRAGMENT, DefragmentRequest {}.encode_to_vec().into()),
            Self::Snapshot => (SNAPSHOT, SnapshotRequest {}.encode_to_vec().into()),
        }
    }
}

impl Running {
    pub(super) fn start(
        errand: Errand,
        endpoint: SocketAddr,
        limits: &Arc<Limits>,
        now: Duration,
    ) -> Result<Self, OwnError> {
        let mut line = Line::connect(endpoint, limits, now)?;
        let (path, request) = errand.request();
        let call = line.machine.start_call(path, &Metadata::default(), None);
        let call = call.ok_or(OwnError::Lost("it takes no more calls"))?;
        line.machine.send_message(call, request);
        line.machine.half_close(call);
        Ok(Self {
            line,
            errand,
            call,
            started: now,
            len: 0,
        })
    }

    /// Reads once, so that what else is due need not wait for all that a snapshot has to say.
    pub(super) fn on_ready(
        &mut self,
        buffer: &mut [u8],
        now: Duration,
    ) -> Result<Option<ErrandDone>, OwnError> {
        self.line.machine.on_time(now);
        self.line.read(buffer)?;
        while let Some(event) = self.line.machine.poll_event() {
            match event {
                ClientEvent::Message { payload, .. } => self.len += payload.len() as u64,
                ClientEvent::Finished { id, status, .. } if id == self.call => {
                    crowd::fail_unless_ok(&status)?;
                    return Ok(Some(ErrandDone {
                        errand: self.errand,
                        took: now.saturating_sub(self.started),
                        len: self.len,
                    }));
                }
                ClientEvent::GoAway { .. } => return Err(OwnError::Lost("it is going away")),
                _ => {}
            }
        }
        Ok(None)
    }
}
