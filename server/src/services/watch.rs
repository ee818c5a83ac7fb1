//! Watch: a client's requests on its way to the hub of this shard.
//!
//! What is refused is refused by a response, and the stream lives on; only octets that are no request end it.

use std::rc::Rc;

use bytes::Bytes;
use engine::watch::StreamNo;
use net::Metadata;
use proto::etcdserverpb::WatchRequest;
use proto::etcdserverpb::watch_request::RequestUnion;

use super::{decode, requires_leader};
use crate::method::Shape;
use crate::shard::{ReplyTo, Shard};

/// Begins a stream. Nothing is answered before the first request.
pub(crate) fn open(shard: &Rc<Shard>, metadata: &Metadata, reply: ReplyTo) -> StreamNo {
    shard.watches.open(reply, requires_leader(metadata))
}

/// Takes one request. One that asks for nothing is passed over, as in etcd.
pub(crate) fn on_message(shard: &Shard, stream: StreamNo, payload: Bytes) {
    let request = match decode::<WatchRequest>(Shape::BidiStream, payload) {
        Ok(request) => request.request_union,
        Err(status) => {
            shard.metrics.stream_failures.watch_receive.inc();
            return shard.watches.close(stream, &status);
        }
    };
    let Some(request) = request else { return };
    shard.with_view(|view| {
        shard.watches.with_hub(|hub| match request {
            RequestUnion::CreateRequest(create) => {
                hub.create(stream, create, view, driver::now());
            }
            RequestUnion::CancelRequest(cancel) => hub.cancel(stream, cancel.watch_id, view),
            RequestUnion::ProgressRequest(_) => hub.request_progress(stream, view),
        });
    });
}
