//! The keys below a name, oldest first, and waiting in that row.

use bytes::Bytes;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{RangeRequest, ResponseHeader, WatchCreateRequest, WatchResponse};
use proto::mvccpb::Event;
use proto::mvccpb::event::EventType;

use super::super::failure::Failure;
use super::client::Client;
use crate::shard::{OwnWatch, StreamReply, Unwatched};

/// The range of keys that begin with a name and a slash.
pub(super) struct Queue {
    prefix: Vec<u8>,
}

impl Queue {
    pub(super) fn new(name: &[u8]) -> Self {
        Queue {
            prefix: [name, b"/"].concat(),
        }
    }

    /// The key of whoever has this lease. Its number is signed, as Go prints it.
    pub(super) fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        let number = format!("{sign}{:x}", lease.unsigned_abs());
        [&*self.prefix, number.as_bytes()].concat().into()
    }

    /// Asks for the oldest key.
    pub(super) fn oldest(&self) -> RangeRequest {
        self.by_age(SortOrder::Ascend)
    }

    /// Asks for the youngest key that was created no later than `create_revision`.
    fn youngest_until(&self, create_revision: i64) -> RangeRequest {
        RangeRequest {
            max_create_revision: create_revision,
            ..self.by_age(SortOrder::Descend)
        }
    }

    fn by_age(&self, order: SortOrder) -> RangeRequest {
        RangeRequest {
            key: self.prefix.clone().into(),
            range_end: self.range_end(),
            limit: 1,
            sort_order: order.into(),
            sort_target: SortTarget::Create.into(),
            ..RangeRequest::default()
        }
    }

    /// Behind a slash comes a zero.
    fn range_end(&self) -> Bytes {
        let (_, name) = self.prefix.split_last().unwrap_or((&0, &[]));
        [name, b"0"].concat().into()
    }

    /// Waits until no key is left that was created no later than `create_revision`.
    pub(super) async fn wait_for_older(
        &self,
        client: &Client,
        out: &StreamReply,
        create_revision: i64,
    ) -> Result<(), Failure> {
        loop {
            let found = client.get(self.youngest_until(create_revision)).await?;
            let Some(older) = found.kvs.into_iter().next() else {
                return Ok(());
            };
            let watch = watch_key(client, out, older.key, found.header.revision);
            while !watch.next().await?.events.iter().any(is_deletion) {}
        }
    }

    /// Waits until a key is put, from `revision` on; tells it, and the header as of then.
    pub(super) async fn wait_for_first(
        &self,
        client: &Client,
        out: &StreamReply,
        revision: i64,
    ) -> Result<(ResponseHeader, proto::mvccpb::KeyValue), Failure> {
        let request = WatchCreateRequest {
            key: self.prefix.clone().into(),
            range_end: self.range_end(),
            start_revision: revision,
            fragment: true,
            ..WatchCreateRequest::default()
        };
        let watch = OwnWatch::open(&client.shard, out, request);
        loop {
            let WatchResponse { header, events, .. } = watch.next().await?;
            let put = events.into_iter().find(|event| !is_deletion(event));
            if let Some(pair) = put.and_then(|event| event.kv) {
                let header = ResponseHeader {
                    revision: pair.mod_revision,
                    ..header.unwrap_or_default()
                };
                return Ok((header, pair));
            }
        }
    }
}

/// Watches one key from `revision` on.
pub(super) fn watch_key(client: &Client, out: &StreamReply, key: Bytes, revision: i64) -> OwnWatch {
    let request = WatchCreateRequest {
        key,
        start_revision: revision,
        fragment: true,
        ..WatchCreateRequest::default()
    };
    OwnWatch::open(&client.shard, out, request)
}

pub(super) fn is_deletion(event: &Event) -> bool {
    event.r#type == EventType::Delete as i32
}

impl From<Unwatched> for Failure {
    fn from(error: Unwatched) -> Self {
        match error {
            Unwatched::Gone => Failure::Gone,
            Unwatched::Ended(status) => Failure::Refused(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_lease_in_gos_hex_behind_the_name() {
        let queue = Queue::new(b"a");
        for (lease, key) in [
            (1, "a/1"),
            (0x3265_7fbc, "a/32657fbc"),
            (-1, "a/-1"),
            (i64::MIN, "a/-8000000000000000"),
        ] {
            assert_eq!(queue.key(lease), key);
        }
        assert_eq!(Queue::new(b"").key(-255), "/-ff");
    }

    #[test]
    fn a_queue_is_what_begins_with_its_name_and_a_slash() {
        let oldest = Queue::new(b"a/b").oldest();
        assert_eq!(
            (&*oldest.key, &*oldest.range_end),
            (&b"a/b/"[..], &b"a/b0"[..])
        );
        let oldest = Queue::new(b"").oldest();
        assert_eq!((&*oldest.key, &*oldest.range_end), (&b"/"[..], &b"0"[..]));
    }
}
