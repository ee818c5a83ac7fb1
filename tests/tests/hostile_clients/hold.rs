//! Clients that have much made or kept for them and do not go on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use net::{CallId, ClientConnection, Limits, Metadata};
use prost::Message;
use proto::etcdserverpb::RangeRequest;
use tests::api::{self, PUT, RANGE};
use tests::raw::*;

use crate::floods::{session, streams};
use crate::window::Attack;

/// Large answers asked for on one connection.
pub(crate) const CALLS: usize = 64;

/// Calls of a client that sends whole messages and never says that they are all.
pub(crate) fn unfinished_calls() -> Attack {
    /// Three times what a connection may hold.
    const COUNT: usize = 130;
    const LEN: usize = 3 << 19;
    /// What a network of some gigabits a second brings; loopback brings more than a core can copy.
    const INTERVAL: Duration = Duration::from_millis(4);
    let payload = Bytes::from(vec![b'p'; LEN]);
    Arc::new(move |stage| {
        let mut hostile = stage.connect()?;
        let limits = Limits::client().into();
        let mut machine = ClientConnection::new(limits, "localhost", Duration::ZERO);
        let begin = |machine: &mut ClientConnection| -> Option<CallId> {
            let call = machine.start_call(PUT, &Metadata::default(), None)?;
            machine.send_message(call, payload.clone());
            Some(call)
        };
        let mut calls: Vec<CallId> = Vec::new();
        let start = Instant::now();
        let (mut out, mut input) = (Vec::new(), vec![0; 16 * 1024]);
        while !stage.is_over() {
            let is_sent = calls
                .last()
                .is_none_or(|call| machine.queued_len(*call) == 0);
            let is_due = start.elapsed() >= INTERVAL * calls.len() as u32;
            if is_sent && is_due && calls.len() < COUNT {
                calls.push(begin(&mut machine)?);
            }
            out.clear();
            if machine.poll_transmit(&mut out, 64 * 1024) > 0 {
                hostile.send_deaf(&out)?;
            }
            match hostile.read(&mut input)? {
                0 if out.is_empty() => hostile.rest(),
                len => machine.on_bytes(&input[..len]),
            }
            while machine.poll_event().is_some() {}
        }
        None
    })
}

/// Many calls for everything there is.
fn ask_for_everything() -> Vec<u8> {
    let request = RangeRequest {
        range_end: "fill0".into(),
        ..api::get("fill/")
    };
    let request = message(&request.encode_to_vec());
    let calls = streams(CALLS as u32).flat_map(|stream| unary_call(stream, RANGE, &request));
    calls.collect()
}

fn initial_window(len: u32) -> Vec<u8> {
    let mut entry = vec![0, 4];
    entry.extend(len.to_be_bytes());
    frame(kind::SETTINGS, 0, 0, &entry)
}

fn window_update(stream: u32, len: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &len.to_be_bytes())
}

/// Large answers, taken by the octet, a thousand times a second each. Faster, it would be a flood of frames: the server
/// ends those, and what is left is to connect.
pub(crate) fn tiny_windows() -> Attack {
    let opening = session(&[initial_window(1), ask_for_everything()].concat());
    let updates = streams(CALLS as u32).flat_map(|stream| window_update(stream, 1));
    let updates: Vec<u8> = updates.collect();
    Arc::new(move |stage| {
        let mut hostile = stage.connect()?;
        hostile.send(&opening)?;
        while hostile.send(&updates).is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    })
}

/// Large answers that may come at once, and are left in the socket.
pub(crate) fn slow_readers() -> Attack {
    const WINDOW_MAX: u32 = 0x7fff_ffff;
    let windows = [initial_window(WINDOW_MAX), window_update(0, 1 << 30)].concat();
    let opening = session(&[windows, ask_for_everything()].concat());
    Arc::new(move |stage| {
        let mut hostile = stage.connect()?;
        hostile.send_deaf(&opening)?;
        let mut octets = [0; 1024];
        while !stage.is_over() {
            hostile.read(&mut octets)?;
            hostile.rest();
        }
        None
    })
}
