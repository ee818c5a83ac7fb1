//! Many connections that say little.

use std::sync::Arc;
use std::time::Duration;

use tests::api::PUT;
use tests::raw::*;

use crate::floods::session;
use crate::window::{Attack, Stage};

/// Connections of one thread.
pub(crate) const CONNECTIONS: usize = 100;

/// Between two octets on one connection. Faster, it would be a flood of packets and no longer slow.
const OCTET_INTERVAL: Duration = Duration::from_millis(20);

/// Opens many connections, and gives each an octet in turn.
fn drop_by_drop(stage: &Stage, opening: &[u8], octets: &[u8]) -> Option<()> {
    let mut held = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let mut hostile = stage.connect()?;
        hostile.send(opening)?;
        held.push(hostile);
    }
    for octet in octets.chunks(1).cycle() {
        for hostile in &mut held {
            hostile.send(octet)?;
        }
        std::thread::sleep(OCTET_INTERVAL);
    }
    None
}

pub(crate) fn loris_http1() -> Attack {
    let opening = b"GET /version HTTP/1.1\r\nHost: h\r\n".to_vec();
    Arc::new(move |stage| drop_by_drop(stage, &opening, b"x: y\r\n"))
}

pub(crate) fn loris_http2() -> Attack {
    let opening = session(&call_headers(1, PUT));
    let message = message_of_length(1 << 20, 0, &[]);
    let octets = [
        frame(kind::DATA, 0, 1, &message),
        frame(kind::DATA, 0, 1, &[7; 200]).repeat(50),
    ];
    let octets = octets.concat();
    Arc::new(move |stage| drop_by_drop(stage, &opening, &octets))
}

/// Connections that are left in the middle of a call.
pub(crate) fn abandoned() -> Attack {
    let opening = session(&[call_headers(1, PUT), frame(kind::DATA, 0, 1, &[0, 0, 0, 1])].concat());
    Arc::new(move |stage| stage.connect()?.send(&opening))
}
