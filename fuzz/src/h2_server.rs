//! A server's connection: any octets, and frames that are right or nearly so.

use crate::frames::{SETTINGS, Side, Writer, put};
use crate::input::{Cuts, Input};
use crate::service::Session;

/// Octets as they come, behind a preface or not.
pub(crate) fn run_octets(octets: &[u8]) {
    let mut input = Input::new(octets);
    let mode = input.byte();
    let mut cuts = Cuts::new(input.byte());
    let mut writer = Writer::new(Side::Client);
    if mode & 1 != 0 {
        writer.put_greeting();
    }
    let mut all = writer.out;
    all.extend_from_slice(input.rest());
    let mut session = Session::new(mode & 2 != 0);
    let mut rest = all.as_slice();
    while !rest.is_empty() && !session.server.is_finished() {
        session.on_bytes(cuts.next(&mut rest));
        if mode & 4 != 0 {
            session.transmit(1000);
        }
        if mode & 8 != 0 {
            session.pass(u16::from(mode) << 2);
        }
    }
    session.end(mode & 16 != 0);
}

/// Frames, with time, commands of the service and reads of the peer between them.
pub(crate) fn run_frames(octets: &[u8]) {
    let mut input = Input::new(octets);
    let mode = input.byte();
    let mut cuts = Cuts::new(input.byte());
    let mut session = Session::new(mode & 1 != 0);
    let mut writer = Writer::new(Side::Client);
    writer.put_greeting();
    if mode & 2 != 0 {
        // As clients do that want their answers at once: a large window.
        put(&mut writer.out, SETTINGS, 0, 0, &[0, 4, 0, 16, 0, 0]);
    }
    while !input.is_empty() && !session.server.is_finished() {
        let what = input.byte() % (Writer::KIND_COUNT + 7);
        match what.checked_sub(Writer::KIND_COUNT) {
            None => {
                writer.put(what, &mut input);
                if mode & 4 != 0 {
                    continue;
                }
            }
            Some(0) => session.pass(input.u16()),
            Some(1..=3) => session.command(&mut input),
            Some(4) => session.transmit(usize::from(input.u16())),
            Some(5) => session.transmit(usize::MAX),
            Some(_) => {
                if input.byte() == 0 {
                    session.server.shut_down();
                }
            }
        }
        deliver(&mut session, &mut writer, &mut cuts);
    }
    deliver(&mut session, &mut writer, &mut cuts);
    session.end(mode & 8 != 0);
}

fn deliver(session: &mut Session, writer: &mut Writer, cuts: &mut Cuts) {
    let mut rest = writer.out.as_slice();
    while !rest.is_empty() {
        session.on_bytes(cuts.next(&mut rest));
    }
    writer.out.clear();
}
