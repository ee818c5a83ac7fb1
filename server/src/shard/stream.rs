//! A response that is made while it is sent.
//!
//! Its maker pushes pieces until enough is queued, then waits until the client has taken most of that. So a response
//! of any size takes the memory of what is queued, and a client that stands still costs no more than that.
//!
//! etcd waits for ever for such a client. Here one that takes nothing for [`STALL_TIMEOUT`] loses its call, because
//! a call in progress may hold old revisions back from compaction.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use driver::Notify;
use net::grpc::{Code, Status};

use super::inbox::End;
use super::reply::ReplyTo;

/// Bytes queued for one call beyond which its maker waits.
const QUEUED_LEN_MAX: usize = 256 * 1024;
/// How long a client may take nothing of a response that is queued for it.
const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// The call has ended early: nobody wants the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call has ended")]
pub(crate) struct Gone;

/// Wakes the maker of a response: there is room again, what it watches has changed, or the call is over.
#[derive(Debug, Default)]
pub(super) struct Gate {
    told: Notify,
    end: Cell<Option<End>>,
}

impl Gate {
    pub(super) fn open(&self) {
        self.told.notify();
    }

    /// Nobody wants the response any more, or those must end that would go on for ever.
    pub(super) fn end(&self, end: End) {
        if !self.is_over() {
            self.end.set(Some(end));
        }
        self.told.notify();
    }

    /// The call is over: nobody wants its response.
    pub(super) fn is_over(&self) -> bool {
        self.ended() == Some(End::Gone)
    }

    /// Why the maker should end, if it should.
    pub(super) fn ended(&self) -> Option<End> {
        self.end.get()
    }

    /// Waits for one of the reasons to look again.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }
}

/// The sending end of one streamed response.
pub(crate) struct StreamReply {
    reply: ReplyTo,
    gate: Rc<Gate>,
    /// Bytes of the message begun that were not pushed yet.
    promised_len: Cell<usize>,
}

impl StreamReply {
    pub(super) fn new(reply: ReplyTo) -> Self {
        let gate = Rc::new(Gate::default());
        reply.connection.add_gate(reply.call, Rc::clone(&gate));
        StreamReply {
            reply,
            gate,
            promised_len: Cell::new(0),
        }
    }

    /// Sends a whole message.
    ///
    /// # Errors
    /// [`Gone`].
    pub(crate) fn send(&self, message: Bytes) -> Result<(), Gone> {
        self.reply.connection.send_message(&self.reply, message);
        self.check_alive()
    }

    /// Begins a message of `len` bytes.
    ///
    /// # Errors
    /// [`Gone`].
    pub(crate) fn start_message(&self, len: usize) -> Result<(), Gone> {
        self.promised_len.set(len);
        self.reply.connection.start_message(&self.reply, len);
        self.check_alive()
    }

    /// Adds bytes to the message begun.
    ///
    /// # Errors
    /// [`Gone`].
    pub(crate) fn push(&self, piece: Bytes) -> Result<(), Gone> {
        if piece.is_empty() {
            return Ok(());
        }
        self.promised_len
            .set(self.promised_len.get().saturating_sub(piece.len()));
        self.reply.connection.push_piece(self.reply.call, piece);
        self.check_alive()
    }

    /// Bytes that may be pushed before the client has to take some.
    pub(crate) fn room(&self) -> usize {
        QUEUED_LEN_MAX.saturating_sub(self.queued_len())
    }

    /// Nobody wants the response any more.
    pub(crate) fn is_over(&self) -> bool {
        self.gate.is_over()
    }

    /// Waits until nobody wants the response, or the server ends.
    pub(crate) async fn ended(&self) -> End {
        loop {
            if let Some(end) = self.gate.end.get() {
                return end;
            }
            self.gate.told().await;
        }
    }

    /// What wakes the maker of this response.
    pub(super) fn gate(&self) -> Rc<Gate> {
        Rc::clone(&self.gate)
    }

    /// Waits until there is room, and until it is fair to go on: a connection may ask for many responses at once.
    ///
    /// # Errors
    /// [`Gone`], also if the client takes nothing for too long.
    pub(crate) async fn ready(&self) -> Result<(), Gone> {
        loop {
            let queued = self.queued_len();
            if queued < QUEUED_LEN_MAX {
                self.reply.connection.turn().await;
                return Ok(());
            }
            let told = driver::timeout(STALL_TIMEOUT, self.gate.told.notified()).await;
            if told.is_err() && self.queued_len() >= queued {
                return Err(Gone);
            }
        }
    }

    /// Ends the call. After [`Gone`] the status reaches nobody.
    pub(crate) fn finish(self, status: &Status) {
        debug_assert!(
            !status.is_ok() || self.promised_len.get() == 0,
            "{} bytes of a message are missing",
            self.promised_len.get()
        );
        self.reply.end(status);
    }

    /// Ends the call of a client that has left or stands still.
    pub(crate) fn give_up(self) {
        let status = Status::new(Code::Canceled, "the client does not read its response");
        self.reply.end(&status);
    }

    fn queued_len(&self) -> usize {
        self.reply.connection.queued_len(self.reply.call)
    }

    /// What was just queued is still there unless the call has ended.
    fn check_alive(&self) -> Result<(), Gone> {
        if self.queued_len() == 0 {
            return Err(Gone);
        }
        Ok(())
    }
}

impl Drop for StreamReply {
    fn drop(&mut self) {
        self.reply.connection.remove_gate(self.reply.call);
    }
}
