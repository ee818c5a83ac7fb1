//! A client's connection to a server that sends any octets, or frames that are right or nearly so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use net::http::{HttpRequest, Method};
use net::{CallId, ClientConnection, ClientEvent, Limits, Metadata};

use crate::check::Dialogue;
use crate::frames::{Side, Writer};
use crate::input::{Cuts, Input};
use crate::service::tight_limits;

const CALL_COUNT: usize = 4;

pub(crate) fn run(octets: &[u8]) {
    let mut input = Input::new(octets);
    let mode = input.byte();
    let mut cuts = Cuts::new(input.byte());
    let mut session = Session::new();
    session.ask();
    let mut writer = Writer::new(Side::Server);
    if mode & 1 == 0 {
        if mode & 2 == 0 {
            writer.put_greeting();
        }
        writer.out.extend_from_slice(input.rest());
    } else {
        writer.put_greeting();
    }
    while !input.is_empty() && !session.client.is_finished() {
        let what = input.byte() % (Writer::KIND_COUNT + 4);
        match what.checked_sub(Writer::KIND_COUNT) {
            None => writer.put(what, &mut input),
            Some(0) => session.pass(input.u16()),
            Some(1) => session.ask(),
            Some(2) => session.cancel(input.byte()),
            Some(_) => session.transmit(),
        }
        session.deliver(&mut writer, &mut cuts);
    }
    session.deliver(&mut writer, &mut cuts);
    session.end();
}

/// The connection and what it owes its caller.
struct Session {
    client: ClientConnection,
    limits: Arc<Limits>,
    dialogue: Dialogue,
    now: Duration,
    open: BTreeSet<CallId>,
    output: Vec<u8>,
}

impl Session {
    fn new() -> Self {
        let limits = Arc::new(tight_limits());
        let now = Duration::from_secs(1000);
        Self {
            client: ClientConnection::new(Arc::clone(&limits), "a:1", now),
            limits,
            dialogue: Dialogue::new(Side::Client),
            now,
            open: BTreeSet::new(),
            output: Vec::new(),
        }
    }

    /// Calls, one with a deadline, and a plain request.
    fn ask(&mut self) {
        for number in 0..CALL_COUNT {
            if self.open.len() >= 4 * CALL_COUNT {
                return;
            }
            let timeout = (number == 1).then_some(Duration::from_secs(1));
            let metadata = Metadata::default();
            let Some(id) = self.client.start_call("/a.B/C", &metadata, timeout) else {
                return;
            };
            self.client
                .send_message(id, Bytes::from(vec![1; number * 2000]));
            if number == 2 {
                self.client.half_close(id);
            }
            self.open.insert(id);
        }
        if let Some(id) = self.client.request(HttpRequest::new(Method::Get, "/")) {
            self.open.insert(id);
        }
    }

    fn cancel(&mut self, which: u8) {
        let nth = usize::from(which) % self.open.len().max(1);
        if let Some(id) = self.open.iter().nth(nth).copied() {
            self.client.cancel(id);
            self.open.remove(&id);
        }
    }

    fn pass(&mut self, millis: u16) {
        self.now += Duration::from_millis(millis.into());
        self.client.on_time(self.now);
        let next = self.client.next_timeout();
        let is_ahead = next.is_none_or(|next| next > self.now);
        assert!(is_ahead, "{next:?} is not behind {:?}: a loop", self.now);
        self.take();
    }

    fn transmit(&mut self) {
        while self.client.poll_transmit(&mut self.output, 1000) > 0 {}
        self.dialogue.on_sent(&self.output);
        self.dialogue.check_end();
        self.output.clear();
        self.take();
    }

    fn deliver(&mut self, writer: &mut Writer, cuts: &mut Cuts) {
        let mut rest = writer.out.as_slice();
        while !rest.is_empty() {
            let piece = cuts.next(&mut rest);
            self.dialogue.on_received(piece);
            self.client.on_bytes(piece);
            self.take();
        }
        writer.out.clear();
    }

    fn take(&mut self) {
        while let Some(event) = self.client.poll_event() {
            let id = event.id();
            let is_open = id.is_none_or(|id| self.open.contains(&id));
            assert!(is_open, "{event:?} of a call that is not open");
            match event {
                ClientEvent::Message { payload, .. } => {
                    assert!(payload.len() <= self.limits.message_bytes_max);
                }
                ClientEvent::Response { id, response } => {
                    assert!(response.body.len() <= self.limits.http_body_bytes_max);
                    self.open.remove(&id);
                }
                ClientEvent::Finished { id, .. } => {
                    self.open.remove(&id);
                }
                _ => {}
            }
        }
    }

    /// The connection is lost: every call ends.
    fn end(mut self) {
        self.transmit();
        self.client.on_eof();
        self.take();
        assert!(self.open.is_empty(), "{:?} never ended", self.open);
        assert!(self.client.is_finished());
        assert_eq!(self.client.open_count(), 0);
    }
}
