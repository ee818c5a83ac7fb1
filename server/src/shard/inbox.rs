//! What a client sends on a call that is answered while it goes on asking.
//!
//! ```text
//!  connection: push, end, ... -> Inbox -> take: the task that serves the call
//! ```
//!
//! The task takes messages when it has time, for example when its answers were taken. Meanwhile they gather here; from
//! [`HELD_COUNT_MAX`] on the client is told to wait, so what gathers is that and what the window of one stream lets
//! through.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use driver::Notify;
use net::CallId;

use super::connection::Connection;

/// Messages that wait to be taken before the client has to wait.
const HELD_COUNT_MAX: usize = 256;

/// Why no more messages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client has said all.
    HalfClosed,
    /// The call is over: nobody wants its answers.
    Gone,
    /// The server ends.
    Stopping,
    /// There has been no leader for a while, and the client said that it cannot do without.
    Leaderless,
}

/// The messages of one call. See the module text.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    messages: RefCell<Vec<Bytes>>,
    end: Cell<Option<End>>,
    is_paused: Cell<bool>,
    told: Notify,
}

impl Inbox {
    /// A message came. `true`: the client should pause now.
    pub(super) fn push(&self, message: Bytes) -> bool {
        let count = {
            let mut messages = self.messages.borrow_mut();
            messages.push(message);
            messages.len()
        };
        self.told.notify();
        count >= HELD_COUNT_MAX && !self.is_paused.replace(true)
    }

    /// No more come; what came before is still taken, unless the call is gone.
    pub(super) fn end(&self, end: End) {
        self.end.set(Some(end));
        self.told.notify();
    }
}

/// The receiving end, of the task that serves the call.
pub(crate) struct Requests {
    connection: Rc<Connection>,
    call: CallId,
    inbox: Rc<Inbox>,
}

impl Requests {
    pub(super) fn new(connection: Rc<Connection>, call: CallId, inbox: Rc<Inbox>) -> Self {
        Requests {
            connection,
            call,
            inbox,
        }
    }

    /// Waits for messages and moves all there are to `into`.
    ///
    /// # Errors
    /// [`End`]: there are no more.
    pub(crate) async fn take(&self, into: &mut Vec<Bytes>) -> Result<(), End> {
        loop {
            if self.inbox.end.get() == Some(End::Gone) {
                return Err(End::Gone);
            }
            let is_empty = self.inbox.messages.borrow().is_empty();
            match self.inbox.end.get() {
                Some(end) if is_empty => return Err(end),
                None if is_empty => self.inbox.told.notified().await,
                _ => break,
            }
        }
        // What was gathered in a burst is not kept for a call that may be silent for hours.
        into.append(&mut self.inbox.messages.take());
        if self.inbox.is_paused.take() {
            self.connection.resume(self.call);
        }
        Ok(())
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.connection.remove_inbox(self.call);
    }
}
