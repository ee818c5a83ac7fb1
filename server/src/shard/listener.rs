//! Accepting connections.

use std::rc::Rc;

use driver::Listener;

use super::Fleet;

/// Whom a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// gRPC and HTTP for clients.
    Client,
    /// HTTP for other members.
    Peer,
}

/// Accepts until dropped, and gives each connection to a shard.
pub(crate) async fn listen(fleet: Rc<Fleet>, listener: Listener, role: Role) {
    loop {
        let (stream, _peer) = listener.accept().await;
        // However fast they come, those that are here have their turn between two of them.
        let _turn = fleet.turn().await;
        fleet.place(stream, role);
    }
}
