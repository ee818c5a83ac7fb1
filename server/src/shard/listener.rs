//! Accepting connections.

use std::rc::Rc;
use std::sync::Arc;

use driver::Listener;
use net::Limits;

use super::{Connection, LogShard};

/// Whom a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// gRPC and HTTP for clients.
    Client,
    /// HTTP for other members.
    Peer,
}

/// Accepts until dropped; each connection runs as a task of its own.
pub(crate) async fn listen(
    shard: Rc<LogShard>,
    listener: Listener,
    limits: Arc<Limits>,
    role: Role,
) {
    loop {
        let (stream, _peer) = listener.accept().await;
        // Without it small responses wait for the acknowledgement of the former ones. A socket that refuses the
        // option is gone already; its first read says so.
        let _ = stream.set_nodelay(true);
        driver::spawn(Connection::serve(
            Rc::clone(&shard),
            stream,
            Arc::clone(&limits),
            role,
        ))
        .detach();
    }
}
