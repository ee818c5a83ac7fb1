//! The open connections of a shard: to be told when the server ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use driver::Notify;

use super::Connection;

/// Does not keep connections alive.
#[derive(Default)]
pub(crate) struct Connections {
    by_no: RefCell<HashMap<u64, Weak<Connection>>>,
    next_no: Cell<u64>,
    arrival: Notify,
}

/// Takes its connection off the list when dropped.
pub(crate) struct Registration<'a> {
    connections: &'a Connections,
    no: u64,
}

impl Connections {
    pub(crate) fn insert(&self, connection: &Rc<Connection>) -> Registration<'_> {
        let no = self.next_no.get();
        self.next_no.set(no + 1);
        self.by_no
            .borrow_mut()
            .insert(no, Rc::downgrade(connection));
        self.arrival.notify();
        Registration {
            connections: self,
            no,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_no.borrow().len()
    }

    /// Waits for a new one. For one waiter.
    pub(super) async fn arrival(&self) {
        self.arrival.notified().await;
    }

    /// There has been no leader for a while.
    pub(super) fn on_leaderless(&self) {
        for connection in self.by_no.borrow().values().filter_map(Weak::upgrade) {
            connection.on_leaderless();
        }
    }

    /// Asks all of them to finish.
    pub(crate) fn shut_down(&self) {
        for connection in self.by_no.borrow().values().filter_map(Weak::upgrade) {
            connection.shut_down();
        }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.connections.by_no.borrow_mut().remove(&self.no);
    }
}
