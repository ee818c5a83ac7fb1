//! Calls of one connection whose request is not whole yet.
//!
//! ```text
//!  Call -> open        Message -> fill        HalfClose -> close        Cancelled -> drop_call
//! ```
//!
//! The events of a unary call come one behind the other unless its request is large, so the call opened last has a place
//! of its own and no hash is computed for it.
//!
//! A client may send a whole message and never end its half of the call. The machine has given the message away by
//! then, so what such calls hold is bounded here.

use std::collections::HashMap;

use bytes::Bytes;
use net::CallId;

use crate::method::MethodNo;

/// Room for so many calls is kept when all are gone.
const KEEP_COUNT: usize = 256;

/// A call whose request is not whole yet.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) method: MethodNo,
    pub(super) payload: Option<Bytes>,
}

impl OpenCall {
    fn held_len(&self) -> usize {
        self.payload.as_ref().map_or(0, Bytes::len)
    }
}

/// The messages of half-open calls hold as much as they may; this call must end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("requests that are not finished hold too much memory")]
pub(super) struct Full(pub(super) MethodNo);

/// All of them of one connection. The machine bounds how many.
#[derive(Debug)]
pub(super) struct OpenCalls {
    newest: Option<(CallId, OpenCall)>,
    /// All but the newest.
    others: HashMap<CallId, OpenCall>,
    /// Bytes of messages held.
    held_len: usize,
    held_len_max: usize,
}

impl OpenCalls {
    /// Messages may hold `held_len_max` bytes, and one message always may.
    pub(super) fn new(held_len_max: usize) -> Self {
        OpenCalls {
            newest: None,
            others: HashMap::new(),
            held_len: 0,
            held_len_max,
        }
    }

    pub(super) fn open(&mut self, id: CallId, method: MethodNo) {
        let call = OpenCall {
            method,
            payload: None,
        };
        if let Some((older, call)) = self.newest.replace((id, call)) {
            self.others.insert(older, call);
        }
    }

    /// A message came. A second one is dropped, as etcd does with what follows a unary request.
    ///
    /// # Errors
    /// [`Full`]: the call is no longer here.
    pub(super) fn fill(&mut self, id: CallId, payload: Bytes) -> Result<(), Full> {
        let (held_len, held_len_max) = (self.held_len, self.held_len_max);
        let Some(call) = self.get_mut(id).filter(|call| call.payload.is_none()) else {
            return Ok(());
        };
        let (method, len) = (call.method, payload.len());
        if held_len > 0 && held_len.saturating_add(len) > held_len_max {
            self.take(id);
            return Err(Full(method));
        }
        call.payload = Some(payload);
        self.held_len += len;
        Ok(())
    }

    /// Takes a call out: its request is whole, or it is over.
    pub(super) fn take(&mut self, id: CallId) -> Option<OpenCall> {
        let call = match self.newest.take_if(|(newest, _)| *newest == id) {
            Some((_, call)) => call,
            None if self.others.is_empty() => return None,
            None => self.others.remove(&id)?,
        };
        self.held_len -= call.held_len();
        if self.others.is_empty() && self.others.capacity() > KEEP_COUNT {
            self.others = HashMap::new();
        }
        Some(call)
    }

    fn get_mut(&mut self, id: CallId) -> Option<&mut OpenCall> {
        match &mut self.newest {
            Some((newest, call)) if *newest == id => Some(call),
            _ => self.others.get_mut(&id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use net::{ClientConnection, Limits, Metadata, ServerConnection, ServerEvent};

    use super::*;

    /// Ids of calls that are open on one connection.
    fn ids<const N: usize>() -> [CallId; N] {
        let mut client =
            ClientConnection::new(Limits::client().into(), "localhost", Duration::ZERO);
        let mut server = ServerConnection::new(Arc::new(Limits::default()), Duration::ZERO);
        for _ in 0..N {
            client
                .start_call("/a/b", &Metadata::default(), None)
                .unwrap();
        }
        let mut octets = Vec::new();
        while client.poll_transmit(&mut octets, 1 << 20) > 0 {}
        server.on_bytes(&octets);
        std::array::from_fn(|_| match server.poll_event() {
            Some(ServerEvent::Call { id, .. }) => id,
            event => panic!("no call: {event:?}"),
        })
    }

    #[test]
    fn calls_are_found_in_any_order() {
        let [first, second, third] = ids();
        let mut calls = OpenCalls::new(100);
        for (method, id) in [first, second, third].into_iter().enumerate() {
            calls.open(id, method);
        }
        for id in [third, first, second] {
            calls.fill(id, Bytes::from_static(b"one")).unwrap();
            calls.fill(id, Bytes::from_static(b"another")).unwrap();
        }
        for (method, id) in [(1, second), (2, third), (0, first)] {
            let call = calls.take(id).unwrap();
            assert_eq!(call.method, method);
            assert_eq!(call.payload.as_deref(), Some(&b"one"[..]));
            assert!(calls.take(id).is_none());
            assert_eq!(calls.fill(id, Bytes::from_static(b"late")), Ok(()));
        }
        assert_eq!(calls.held_len, 0);
    }

    #[test]
    fn messages_of_half_open_calls_are_bounded() {
        let [first, second, third] = ids();
        let mut calls = OpenCalls::new(10);
        for id in [first, second, third] {
            calls.open(id, 7);
        }
        // A single one may be of any size.
        calls.fill(first, Bytes::from_static(&[0; 11])).unwrap();
        assert_eq!(calls.fill(second, Bytes::from_static(b"x")), Err(Full(7)));
        assert!(calls.take(second).is_none());
        // What is gone makes room.
        calls.take(first).unwrap();
        calls.fill(third, Bytes::from_static(b"x")).unwrap();
        calls.take(third).unwrap();
        assert_eq!(calls.held_len, 0);
    }
}
