//! Watches of the server's own: a task that serves a call waits for changes.
//!
//! ```text
//!   Watches::deliver -> Told -> OwnWatch::next: the task        the gate of its call wakes it, for either reason:
//!                                                               something was told, or the client has left
//! ```
//!
//! What waits to be taken is bounded as a client's stream is: from [`ROOM_LEN`](super::watches::ROOM_LEN) on the hub
//! tells nothing more. So a call that waits costs a stream and a watcher of the hub, which has its own bound.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use engine::watch::{ResponseBytes, StreamNo};
use net::grpc::{Code, Status};
use proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use super::Shard;
use super::inbox::End;
use super::stream::{Gate, StreamReply};
use super::watches::ROOM_LEN;
use crate::errors::FrontError;

/// What a task was told and has not taken.
#[derive(Debug)]
pub(super) struct Told {
    responses: RefCell<VecDeque<ResponseBytes>>,
    queued_len: Cell<usize>,
    end: RefCell<Option<Status>>,
    gate: Rc<Gate>,
}

impl Told {
    pub(super) fn push(&self, response: ResponseBytes) {
        self.queued_len.set(self.queued_len.get() + response.len());
        self.responses.borrow_mut().push_back(response);
        self.gate.open();
    }

    pub(super) fn queued_len(&self) -> usize {
        self.queued_len.get()
    }

    /// Nothing more comes.
    pub(super) fn end(&self, status: &Status) {
        *self.end.borrow_mut() = Some(status.clone());
        self.gate.open();
    }

    fn pop(&self) -> Option<ResponseBytes> {
        let response = self.responses.borrow_mut().pop_front()?;
        self.queued_len.set(self.queued_len.get() - response.len());
        Some(response)
    }
}

/// Why a watch of the server's own tells nothing more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unwatched {
    /// The call it was for is over: its client has left.
    #[error("the call has ended")]
    Gone,
    /// The server ends, the history is compacted, there is no room for another watcher, or no leader for a call that asked
    /// for one.
    #[error("{}", .0.message)]
    Ended(Status),
}

/// One watch, as long as it lives.
pub(crate) struct OwnWatch {
    shard: Rc<Shard>,
    no: StreamNo,
    told: Rc<Told>,
}

impl OwnWatch {
    /// Watches on behalf of the call that `out` answers.
    pub(crate) fn open(shard: &Rc<Shard>, out: &StreamReply, request: WatchCreateRequest) -> Self {
        let told = Rc::new(Told {
            responses: RefCell::default(),
            queued_len: Cell::new(0),
            end: RefCell::default(),
            gate: out.gate(),
        });
        let no = shard.watches.open_own(Rc::clone(&told));
        shard.with_view(|view| {
            let now = driver::now();
            let create = |hub: &mut engine::watch::Hub| hub.create(no, request, view, now);
            shard.watches.with_hub(create);
        });
        OwnWatch {
            shard: Rc::clone(shard),
            no,
            told,
        }
    }

    /// Waits for the next response with events.
    ///
    /// # Errors
    /// [`Unwatched`]: there will be none.
    pub(crate) async fn next(&self) -> Result<WatchResponse, Unwatched> {
        loop {
            let response = self.next_response().await?;
            if response.canceled {
                return Err(Unwatched::Ended(refusal(&response)));
            }
            if !response.events.is_empty() {
                return Ok(response);
            }
        }
    }

    async fn next_response(&self) -> Result<WatchResponse, Unwatched> {
        loop {
            match self.told.gate.ended() {
                Some(End::Gone) => return Err(Unwatched::Gone),
                Some(End::Leaderless) => {
                    return Err(Unwatched::Ended(FrontError::NoLeader.status()));
                }
                // The hub says so itself.
                Some(End::Stopping | End::HalfClosed) | None => {}
            }
            if let Some(bytes) = self.told.pop() {
                let is_again_writable = self.told.queued_len() < ROOM_LEN;
                if is_again_writable && self.told.queued_len() + bytes.len() >= ROOM_LEN {
                    self.shard.watches.on_writable(self.no);
                }
                return bytes.decode().map_err(|error| {
                    Unwatched::Ended(Status::new(Code::Internal, error.to_string()))
                });
            }
            if let Some(status) = &*self.told.end.borrow() {
                return Err(Unwatched::Ended(status.clone()));
            }
            self.told.gate.told().await;
        }
    }
}

impl Drop for OwnWatch {
    fn drop(&mut self) {
        self.shard.watches.close(self.no, &Status::OK);
    }
}

/// Why the hub ended a watch.
fn refusal(response: &WatchResponse) -> Status {
    if response.compact_revision != 0 {
        return FrontError::Compacted.status();
    }
    Status::new(Code::ResourceExhausted, response.cancel_reason.clone())
}
