//! Peers: what members send each other, over HTTP/1.1 as etcd's do.
//!
//! ```text
//!                             +- append stream    they asked: GET /raft/stream/msgapp/<them>    +
//!  Node -> Peers -> Link ->---+- message stream                GET /raft/stream/message/<them>   +-> the other member
//!                             +- pipeline         POST /raft, while the stream is missing        +
//!
//!  Node <- Peers <-+- streams    we asked: GET /raft/stream/{msgapp,message}/<us>, read as they come
//!                  +- POST /raft
//! ```
//! Whoever wants to hear dials: a member's messages travel in the body of its answer to the other one's GET.
//!
//! Invariants:
//! - what is queued for a member is bounded in messages and bytes; past that it is dropped and raft is told, which sends
//!   it again;
//! - messages of one kind keep their order: a kind uses one way at a time, and the pipeline sends one after the other;
//! - nothing from another cluster, from a removed member or for another member reaches raft;
//! - while too much waits to be applied, appends wait in the sockets of their senders.
//!
//! Lives on the log shard. The decoders are [`engine::peer`]'s, the state machines of HTTP are `net`'s. Left out: TLS and
//! socket files between members, database snapshots, the calls that a follower hands on to its leader, metrics of peers.
//! Tested beside a real etcd in `tests/compat/learner`.
//!
//! Source: contract `http.md` section 4, `storage.md` section 6.

mod connection;
mod exchange;
mod headers;
mod incoming;
mod join;
mod link;
mod outbox;
mod outgoing;
mod pipeline;
mod routes;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use engine::membership::Member;
use engine::node::Node;
use proto::raftpb;

use crate::config::Url;
use crate::identity::Identity;
use crate::logging;
use crate::shard::LogShard;

pub(crate) use connection::listen;
pub use join::JoinError;
pub(crate) use join::join;
use link::Link;

/// Nothing came on a stream for that long: the other end is gone. etcd's.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// A write takes that long at most. etcd's.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A member has that long to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Members that are known by their own word only, while the log has not told of them: a cluster is not larger.
const REMOTE_COUNT_MAX: usize = 32;
/// Of a message beside what clients may propose. A leader puts 1 MiB of entries in an append, a follower hands on what it was
/// asked in one turn, which its node bounds.
const MESSAGE_SIZE_BYTES_BASE: usize = 64 << 20;

/// Which messages a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// Appends, in the short framing.
    Append,
    /// All others.
    Message,
}

/// Why a message was not given to raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    FromRemoved,
    ToOther,
    /// This member ends.
    Stopping,
}

/// The other members, as this one reaches them.
pub(crate) struct Peers {
    log: Rc<LogShard>,
    identity: Identity,
    /// Of this member, joined by commas.
    own_urls: String,
    links: RefCell<BTreeMap<u64, Rc<Link>>>,
    /// It comes again and again, but is told once.
    has_refused_snapshot: Cell<bool>,
}

impl Peers {
    /// Begins to talk with the members that the node knows, and with `remotes`, which it may not know yet.
    pub(crate) fn start(log: &Rc<LogShard>, remotes: &[Member]) -> Rc<Self> {
        let urls: Vec<String> = log
            .config
            .advertise_peer_urls
            .iter()
            .map(Url::to_string)
            .collect();
        let peers = Rc::new(Peers {
            log: Rc::clone(log),
            identity: log.identity(),
            own_urls: urls.join(","),
            links: RefCell::default(),
            has_refused_snapshot: Cell::new(false),
        });
        for remote in remotes {
            peers.add_remote(remote.id, &remote.peer_urls);
        }
        peers.follow_membership();
        let (sending, changing) = (Rc::clone(&peers), Rc::clone(&peers));
        log.set_peers(
            move |message| sending.send(message),
            move || changing.follow_membership(),
        );
        peers
    }

    /// The largest message that is taken.
    fn message_size_bytes_max(&self) -> usize {
        MESSAGE_SIZE_BYTES_BASE + self.log.config.max_request_bytes
    }

    fn link(&self, id: u64) -> Option<Rc<Link>> {
        self.links.borrow().get(&id).cloned()
    }

    fn is_removed(&self, id: u64) -> bool {
        self.log.with_node(|node| node.membership().is_removed(id))
    }

    /// Sends a message of the node's.
    fn send(&self, message: raftpb::Message) {
        let to = message.to();
        let is_sent = self.link(to).is_some_and(|link| link.send(message));
        if !is_sent {
            self.on_unreachable(to);
        }
    }

    fn on_unreachable(&self, id: u64) {
        self.log.with_node_mut(|node| node.on_unreachable(id));
    }

    /// Gives raft a message that came.
    fn receive(&self, message: raftpb::Message) -> Result<(), Refused> {
        if self.log.is_stopping() {
            return Err(Refused::Stopping);
        }
        if self.is_removed(message.from()) {
            return Err(Refused::FromRemoved);
        }
        if message.to() != self.identity.member_id {
            return Err(Refused::ToOther);
        }
        self.log.with_node_mut(|node| node.on_message(message));
        Ok(())
    }

    fn is_congested(&self) -> bool {
        self.log.with_node(Node::is_congested)
    }

    /// A member of which the log may not have told yet says where it is.
    fn add_remote(self: &Rc<Self>, id: u64, urls: &[String]) {
        let is_known = self.links.borrow().contains_key(&id);
        let is_full = self.links.borrow().len() >= REMOTE_COUNT_MAX;
        if is_known || is_full || id == self.identity.member_id || self.is_removed(id) {
            return;
        }
        self.open(id, urls);
    }

    fn open(self: &Rc<Self>, id: u64, urls: &[String]) {
        let link = Link::new(id, reachable(id, urls));
        self.links.borrow_mut().insert(id, Rc::clone(&link));
        link.start(self);
        logging::info!("started a remote peer", "remote-peer-id" => format!("{id:x}"), "urls" => urls.join(","));
    }

    /// Opens and closes links as the members come and go.
    fn follow_membership(self: &Rc<Self>) {
        let own = self.identity.member_id;
        let (members, removed, is_complete) = self.log.with_node(|node| {
            let membership = node.membership();
            let members: Vec<Member> = membership
                .members()
                .filter(|m| m.id != own)
                .cloned()
                .collect();
            let removed: Vec<u64> = membership.removed().collect();
            // Before this member knows of itself, it knows of too few.
            (members, removed, membership.member(own).is_some())
        });
        let is_gone = |id: &u64| {
            removed.contains(id) || (is_complete && members.iter().all(|member| member.id != *id))
        };
        let gone: Vec<u64> = self
            .links
            .borrow()
            .keys()
            .copied()
            .filter(is_gone)
            .collect();
        for id in gone {
            if let Some(link) = self.links.borrow_mut().remove(&id) {
                link.stop();
                logging::info!("stopped a remote peer", "remote-peer-id" => format!("{id:x}"));
            }
        }
        for member in &members {
            match self.link(member.id) {
                Some(link) => link.set_urls(reachable(member.id, &member.peer_urls)),
                None => self.open(member.id, &member.peer_urls),
            }
        }
        if removed.contains(&own) {
            logging::error!(
                "this member was removed from its cluster and takes no part any more: end it and remove its data directory"
            );
        }
    }
}

/// The URLs that this version can dial.
fn reachable(id: u64, texts: &[String]) -> Vec<Url> {
    let mut urls = Vec::with_capacity(texts.len());
    for text in texts {
        match Url::parse(text) {
            Ok(url) if url.scheme().name() == "http" => urls.push(url),
            _ => logging::warn!(
                "a peer URL cannot be dialled: etcore speaks plain HTTP to peers so far",
                "remote-peer-id" => format!("{id:x}"),
                "url" => text.clone()
            ),
        }
    }
    urls
}
