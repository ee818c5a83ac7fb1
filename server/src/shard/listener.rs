//! Accepting connections.

use std::rc::Rc;

use driver::{Listener, Stream, UnixListener};

use super::Fleet;

/// Whom a connection serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// gRPC and HTTP for clients, in plain text.
    Client,
    /// The same by TLS.
    SecureClient,
    /// Only metrics and health, in plain text or by TLS.
    Metrics,
}

impl Role {
    /// What becomes of it after a handshake.
    pub(crate) fn by_tls(self) -> Self {
        match self {
            Role::Client | Role::SecureClient => Role::SecureClient,
            Role::Metrics => Role::Metrics,
        }
    }
}

/// What the connections of a listener speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    Tls,
    /// Either; the first byte tells.
    Either,
}

/// What is known of a connection from where it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entrance {
    /// Of what comes in plain text.
    pub(crate) role: Role,
    pub(crate) security: Security,
}

/// A socket that accepts, of any kind.
pub(crate) enum AnyListener {
    Tcp(Listener),
    File(UnixListener),
}

impl AnyListener {
    pub(crate) async fn accept(&self) -> Stream {
        match self {
            AnyListener::Tcp(listener) => listener.accept().await.0,
            AnyListener::File(listener) => listener.accept().await,
        }
    }
}

/// Accepts until dropped, and gives each connection to a shard.
pub(crate) async fn listen(fleet: Rc<Fleet>, listener: AnyListener, entrance: Entrance) {
    loop {
        let stream = listener.accept().await;
        // However fast they come, those that are here have their turn between two of them.
        let _turn = fleet.turn().await;
        fleet.place(stream, entrance);
    }
}
