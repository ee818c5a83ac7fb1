//! One Watch call.

use net::CallId;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tests::api::WATCH;
use tests::client::{CallError, Client};

pub(crate) fn watch(key: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_owned().into(),
        ..WatchCreateRequest::default()
    }
}

pub(crate) fn watch_range(key: &str, range_end: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: range_end.to_owned().into(),
        ..watch(key)
    }
}

pub(crate) struct Stream<'a> {
    pub(crate) client: &'a mut Client,
    call: CallId,
}

impl<'a> Stream<'a> {
    pub(crate) fn open(client: &'a mut Client) -> Self {
        let call = client.start(WATCH).expect("a call");
        Stream { client, call }
    }

    pub(crate) fn send(&mut self, union: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(union),
        };
        self.client.send(self.call, &request);
        self.client.flush().expect("the socket lives");
    }

    pub(crate) fn send_create(&mut self, request: WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(request));
    }

    pub(crate) fn send_cancel(&mut self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    pub(crate) fn send_progress(&mut self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    /// The answer to a creation, whatever it is.
    pub(crate) fn ask(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.send_create(request);
        let answer = self.next();
        assert!(answer.created, "{answer:?}");
        answer
    }

    /// Begins a watch; returns its id.
    pub(crate) fn create(&mut self, request: WatchCreateRequest) -> i64 {
        let answer = self.ask(request);
        assert!(!answer.canceled, "{answer:?}");
        answer.watch_id
    }

    /// The answer to a cancellation.
    pub(crate) fn cancel(&mut self, watch_id: i64) -> WatchResponse {
        self.send_cancel(watch_id);
        let answer = self.next();
        assert!(answer.canceled, "{answer:?}");
        answer
    }

    pub(crate) fn half_close(&mut self) {
        self.client.half_close(self.call);
        self.client.flush().expect("the socket lives");
    }

    pub(crate) fn next(&mut self) -> WatchResponse {
        self.try_next().expect("the stream lives")
    }

    /// The same on a stream that the server may end.
    pub(crate) fn try_next(&mut self) -> Result<WatchResponse, CallError> {
        let response = self.client.next(self.call)?;
        Ok(response.expect("the stream goes on"))
    }
}
