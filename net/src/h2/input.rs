//! From bytes to frames to events. Rules of RFC 9113 are cited where they are obeyed.

use bytes::Bytes;

use super::closed::How;
use super::connection::{Connection, Drain, Event, Fault, Role};
use super::flow::WINDOW_MAX;
use super::frame::{
    self, DEFAULT_FRAME_LEN_MAX, ErrorCode, FrameHead, HEAD_LEN, PREFACE, flag, kind, take_u32,
};
use super::settings;
use super::stream::{Key, SendState};

/// Streams reset within this time of their opening count against `reset_rate`.
const RAPID: std::time::Duration = std::time::Duration::from_secs(1);

/// Window updates below this are worth nothing to anyone.
const TINY_INCREMENT: u32 = 64;

/// Changing the windows of this many streams costs a peer as much of `settings_rate` as a SETTINGS frame.
const SLOTS_PER_SETTINGS: usize = 4096;

/// GOAWAY may carry text; more than this of it is not kept.
const DEBUG_LEN_MAX: usize = 256;

/// What comes next.
#[derive(Debug)]
pub(super) enum Reading {
    Preface,
    Head,
    Payload(FrameHead),
    /// The octet of a DATA payload that says how much of it is padding.
    DataPadding(DataFrame),
    Data(DataFrame),
}

/// A DATA frame of which some is still to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataFrame {
    /// `None`: it is skipped.
    key: Option<Key>,
    payload_left: u32,
    padding_left: u32,
    ends_stream: bool,
}

/// What one step came to.
enum Step<'a, X> {
    Event(Event<'a, X>),
    Again,
    NeedMore,
}

pub(super) type Handled<X> = Result<Option<Event<'static, X>>, Fault>;

impl<X: Default> Connection<X> {
    /// Takes bytes from `input` until something happened. `None`: all bytes were taken.
    pub(crate) fn poll_input<'a>(&mut self, input: &mut &'a [u8]) -> Option<Event<'a, X>> {
        loop {
            if self.failure.is_some() {
                *input = &[];
                return None;
            }
            match self.step(input) {
                Ok(Step::Event(event)) => return Some(event),
                Ok(Step::Again) => {}
                Ok(Step::NeedMore) => return None,
                Err(Fault::Connection(code, reason)) => self.fail(code, reason),
                Err(Fault::Stream(id, code)) => {
                    if let Some(event) = self.on_stream_fault(id, code) {
                        return Some(event);
                    }
                }
            }
            if self.control.len() > self.limits.control_bytes_max {
                self.fail(
                    ErrorCode::ENHANCE_YOUR_CALM,
                    "too much to answer and nothing is read",
                );
            }
        }
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a, X>, Fault> {
        match self.reading {
            Reading::Preface => self.with_octets(input, PREFACE.len(), Self::on_preface),
            Reading::Head => self.with_octets(input, HEAD_LEN, |this, octets| {
                let octets = octets.first_chunk().ok_or(SHORT)?;
                this.on_frame_head(FrameHead::parse(octets))
            }),
            Reading::Payload(head) => {
                self.with_octets(input, head.len as usize, |this, payload| {
                    this.reading = Reading::Head;
                    this.on_frame(head, payload)
                })
            }
            Reading::DataPadding(data) => self.with_octets(input, 1, |this, octets| {
                this.on_padding_len(data, octets.first().copied().unwrap_or(0))
            }),
            Reading::Data(data) => Ok(self.on_data(data, input)),
        }
    }

    /// Calls `handle` once `len` octets are together: straight from the input if they lie in it.
    fn with_octets<'a>(
        &mut self,
        input: &mut &'a [u8],
        len: usize,
        handle: impl FnOnce(&mut Self, &[u8]) -> Handled<X>,
    ) -> Result<Step<'a, X>, Fault> {
        let handled = if self.partial.is_empty() && input.len() >= len {
            let (octets, rest) = input.split_at(len);
            *input = rest;
            handle(self, octets)
        } else {
            let missing = len - self.partial.len();
            let (more, rest) = input.split_at(missing.min(input.len()));
            *input = rest;
            self.partial.extend_from_slice(more);
            if self.partial.len() < len {
                return Ok(Step::NeedMore);
            }
            let mut octets = std::mem::take(&mut self.partial);
            let handled = handle(self, &octets);
            octets.clear();
            self.partial = octets;
            handled
        };
        Ok(handled?.map_or(Step::Again, Step::Event))
    }

    fn on_preface(&mut self, octets: &[u8]) -> Handled<X> {
        if octets != PREFACE {
            return Err(Fault::Connection(
                ErrorCode::PROTOCOL_ERROR,
                "invalid preface",
            ));
        }
        self.reading = Reading::Head;
        Ok(None)
    }

    fn on_frame_head(&mut self, head: FrameHead) -> Handled<X> {
        // §3.4: the preface ends with SETTINGS.
        if !self.has_peer_settings && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Fault::Connection(
                ErrorCode::PROTOCOL_ERROR,
                "no SETTINGS first",
            ));
        }
        // §4.2: larger than we announced. Some frames would cost only their stream; none that is well meant comes.
        if head.len > DEFAULT_FRAME_LEN_MAX {
            return Err(Fault::Connection(
                ErrorCode::FRAME_SIZE_ERROR,
                "frame too large",
            ));
        }
        // §6.10: nothing may come between the frames of a header block.
        let expected = self.assembly.as_ref().map(|assembly| assembly.stream);
        let is_continuation = head.kind == kind::CONTINUATION;
        if expected.is_some() != is_continuation || expected.is_some_and(|id| id != head.stream) {
            return Err(protocol(
                "header block interrupted, or CONTINUATION without one",
            ));
        }
        self.blocks += u64::from(!is_continuation);
        if head.kind == kind::DATA {
            return self.on_data_head(head);
        }
        self.reading = Reading::Payload(head);
        Ok(None)
    }

    fn on_frame(&mut self, head: FrameHead, payload: &[u8]) -> Handled<X> {
        match head.kind {
            kind::HEADERS => self.on_headers(head, payload),
            kind::CONTINUATION => self.on_continuation(head, payload),
            kind::PRIORITY => self.on_priority(head, payload),
            kind::RST_STREAM => self.on_reset(head, payload),
            kind::SETTINGS => self.on_settings(head, payload),
            kind::PING => self.on_ping(head, payload),
            kind::GOAWAY => {
                self.count_idle_frame()?;
                on_goaway(head, payload)
            }
            kind::WINDOW_UPDATE => self.on_window_update(head, payload),
            // §8.4: a client must not, and a server was told not to.
            kind::PUSH_PROMISE => Err(protocol("PUSH_PROMISE")),
            // §4.1: unknown types are ignored.
            _ => self.count_idle_frame().map(|()| None),
        }
    }

    // ---- DATA (§6.1)

    fn on_data_head(&mut self, head: FrameHead) -> Handled<X> {
        if head.stream == 0 {
            return Err(protocol("DATA on stream 0"));
        }
        if !self.recv_window.on_data(head.len) {
            let code = ErrorCode::FLOW_CONTROL_ERROR;
            return Err(Fault::Connection(code, "connection window exceeded"));
        }
        // The connection's window is given back at once, so that a stream that stands still stops no other.
        if let Some(increment) = self.recv_window.release(head.len) {
            frame::put_window_update(&mut self.control, 0, increment);
        }
        let mut data = DataFrame {
            key: None,
            payload_left: head.len,
            padding_left: 0,
            ends_stream: head.has(flag::END_STREAM),
        };
        // The fault, if there is one, must leave the payload to be skipped.
        let verdict = self.judge_data(head);
        if let Ok(key) = verdict {
            data.key = key;
        }
        self.reading = if !head.has(flag::PADDED) {
            Reading::Data(data)
        } else if head.len > 0 {
            Reading::DataPadding(data)
        } else {
            let code = ErrorCode::FRAME_SIZE_ERROR;
            return Err(Fault::Connection(
                code,
                "padded frame without padding length",
            ));
        };
        if head.len == 0 && !data.ends_stream {
            self.count_idle_frame()?;
        }
        verdict.map(|_| None)
    }

    /// Whether the stream may have this DATA. `Ok(None)`: it is to be ignored.
    fn judge_data(&mut self, head: FrameHead) -> Result<Option<Key>, Fault> {
        let id = head.stream;
        let Some(key) = self.streams.find(id) else {
            return self.judge_closed(id).map(|()| None);
        };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(None);
        };
        if stream.recv.is_ended {
            return Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED));
        }
        if !stream.recv.has_head {
            return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR));
        }
        if !stream.recv.window.on_data(head.len) {
            return Err(Fault::Stream(id, ErrorCode::FLOW_CONTROL_ERROR));
        }
        Ok(Some(key))
    }

    /// A frame that needs a stream, on one that is not open (§5.1).
    pub(super) fn judge_closed(&self, id: u32) -> Result<(), Fault> {
        if self.is_idle(id) {
            return Err(protocol("frame on an idle stream"));
        }
        match self.closed.how(id) {
            Some(How::ResetByUs) => Ok(()),
            Some(How::Ended) => {
                let code = ErrorCode::STREAM_CLOSED;
                Err(Fault::Connection(code, "frame after END_STREAM"))
            }
            Some(How::ResetByPeer) => Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED)),
            None if self.is_refused(id) => Ok(()),
            None => Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED)),
        }
    }

    fn on_padding_len(&mut self, mut data: DataFrame, padding: u8) -> Handled<X> {
        data.payload_left -= 1;
        let Some(payload_left) = data.payload_left.checked_sub(u32::from(padding)) else {
            return Err(protocol("padding longer than the frame"));
        };
        data.payload_left = payload_left;
        data.padding_left = u32::from(padding);
        self.reading = Reading::Data(data);
        if payload_left == 0 && !data.ends_stream {
            self.count_idle_frame()?;
        }
        // Padding counts as data (§6.9.1) and is consumed as it comes.
        if let Some(key) = data.key {
            self.reopen_window(key, usize::from(padding) + 1);
        }
        Ok(None)
    }

    fn on_data<'a>(&mut self, mut data: DataFrame, input: &mut &'a [u8]) -> Step<'a, X> {
        let take = input.len().min(data.payload_left as usize);
        let (octets, rest) = input.split_at(take);
        data.payload_left -= take as u32;
        let padding = rest.len().min(data.padding_left as usize);
        if data.payload_left == 0 {
            data.padding_left -= padding as u32;
            *input = &rest[padding..];
        } else {
            *input = rest;
        }
        let is_whole = data.payload_left == 0 && data.padding_left == 0;
        self.reading = if is_whole {
            Reading::Head
        } else {
            Reading::Data(data)
        };
        let is_end = is_whole && data.ends_stream;
        let event = data.key.and_then(|key| self.give_data(key, octets, is_end));
        match event {
            Some(event) => Step::Event(event),
            None if is_whole => Step::Again,
            None => Step::NeedMore,
        }
    }

    /// Books a piece of a body. `None`: there is nothing to tell.
    fn give_data<'a>(&mut self, key: Key, octets: &'a [u8], is_end: bool) -> Option<Event<'a, X>> {
        let len = octets.len();
        let stream = self.streams.get_mut(key)?;
        let id = stream.id;
        // §8.1.1: the length must agree with the body.
        if let Some(left) = stream.recv.content_left {
            match left.checked_sub(len as u64) {
                Some(left) if left == 0 || !is_end => stream.recv.content_left = Some(left),
                _ => return self.on_stream_fault(id, ErrorCode::PROTOCOL_ERROR),
            }
        }
        stream.recv.is_ended |= is_end;
        if len == 0 && !is_end {
            return None;
        }
        stream.recv.held += len;
        self.held_len += len;
        if self.held_len > self.limits.buffer_bytes_max {
            return self.on_stream_fault(id, ErrorCode::ENHANCE_YOUR_CALM);
        }
        Some(Event::Data {
            key,
            octets,
            is_end,
        })
    }

    // ---- PRIORITY, RST_STREAM (§6.3, §6.4)

    fn on_priority(&mut self, head: FrameHead, payload: &[u8]) -> Handled<X> {
        if head.stream == 0 {
            return Err(protocol("PRIORITY on stream 0"));
        }
        self.count_idle_frame()?;
        let dependency = take_u32(payload).filter(|_| payload.len() == 5);
        let code = match dependency {
            None => ErrorCode::FRAME_SIZE_ERROR,
            // RFC 7540 §5.3.1.
            Some((dependency, _)) if dependency & 0x7fff_ffff == head.stream => {
                ErrorCode::PROTOCOL_ERROR
            }
            Some(_) => return Ok(None),
        };
        // An idle stream cannot be reset.
        if self.is_idle(head.stream) {
            return Err(Fault::Connection(code, "bad PRIORITY"));
        }
        Err(Fault::Stream(head.stream, code))
    }

    fn on_reset(&mut self, head: FrameHead, payload: &[u8]) -> Handled<X> {
        if payload.len() != 4 {
            return Err(frame_size("RST_STREAM"));
        }
        let (code, _) = take_u32(payload).ok_or(SHORT)?;
        if head.stream == 0 || self.is_idle(head.stream) {
            return Err(protocol("RST_STREAM on an idle stream"));
        }
        let Some(key) = self.streams.find(head.stream) else {
            self.count_idle_frame()?;
            return Ok(None);
        };
        self.count_reset(key)?;
        let ext = self.remove(key, How::ResetByPeer);
        let code = ErrorCode(code);
        Ok(ext.map(|ext| Event::Reset { key, code, ext }))
    }

    /// The peer did something wrong on a stream.
    fn on_stream_fault(&mut self, id: u32, code: ErrorCode) -> Option<Event<'static, X>> {
        if !self.allowances.resets.take(self.now) {
            self.fail(ErrorCode::ENHANCE_YOUR_CALM, "too many stream errors");
            return None;
        }
        match self.streams.find(id) {
            Some(key) => {
                let ext = self.reset(key, code)?;
                Some(Event::Reset { key, code, ext })
            }
            None => {
                frame::put_reset(&mut self.control, id, code);
                // What else is on its way to a refused stream is ignored. One that was closed otherwise stays so.
                if self.closed.how(id).is_none() {
                    self.closed.push(id, How::ResetByUs);
                }
                None
            }
        }
    }

    // ---- SETTINGS (§6.5)

    fn on_settings(&mut self, head: FrameHead, payload: &[u8]) -> Handled<X> {
        if head.stream != 0 {
            return Err(protocol("SETTINGS on a stream"));
        }
        if head.has(flag::ACK) {
            if !payload.is_empty() {
                return Err(frame_size("SETTINGS"));
            }
            self.on_settings_ack();
            return self.count_idle_frame().map(|()| None);
        }
        if !payload.len().is_multiple_of(6) {
            return Err(frame_size("SETTINGS"));
        }
        let is_flood = payload.len() / 6 > self.limits.settings_entries_max;
        if is_flood || !self.allowances.settings.take(self.now) {
            let code = ErrorCode::ENHANCE_YOUR_CALM;
            return Err(Fault::Connection(code, "too many settings"));
        }
        let before = self.peer;
        for (id, value) in settings::entries(payload) {
            let set = self.peer.set(id, value);
            set.map_err(|code| Fault::Connection(code, "setting out of range"))?;
        }
        if self.role == Role::Client && self.peer.enable_push != 0 {
            return Err(protocol("a server asks for push"));
        }
        // The walk over the streams is paid for by their number.
        let walk = (self.streams.slot_count() / SLOTS_PER_SETTINGS) as u32;
        let walk = walk.min(self.limits.settings_rate.burst / 2);
        let is_walked = self.peer.initial_window != before.initial_window;
        if is_walked && !self.allowances.settings.take_some(walk, self.now) {
            let code = ErrorCode::ENHANCE_YOUR_CALM;
            return Err(Fault::Connection(code, "too many settings"));
        }
        self.has_peer_settings = true;
        self.encoder.set_max_table_size(self.peer.header_table_size);
        self.on_initial_window(before.initial_window)?;
        frame::put_settings_ack(&mut self.control);
        Ok(None)
    }

    /// §6.9.2: a new initial window moves those of all open streams.
    fn on_initial_window(&mut self, before: u32) -> Result<(), Fault> {
        let delta = i64::from(self.peer.initial_window) - i64::from(before);
        if delta == 0 {
            return Ok(());
        }
        let keys: Vec<Key> = self.streams.keys().collect();
        for key in keys {
            if let Some(stream) = self.streams.get_mut(key) {
                let adjusted = stream.send.window.adjust(delta);
                adjusted.map_err(|_| window_overflow())?;
            }
            self.wake(key);
        }
        Ok(())
    }

    // ---- PING, GOAWAY, WINDOW_UPDATE (§6.7 to §6.9)

    fn on_ping(&mut self, head: FrameHead, payload: &[u8]) -> Handled<X> {
        if head.stream != 0 {
            return Err(protocol("PING on a stream"));
        }
        let Ok(payload) = <[u8; 8]>::try_from(payload) else {
            return Err(frame_size("PING"));
        };
        let is_paid = is_paid(&mut self.pings_paid, self.work_frames);
        if !is_paid && !self.allowances.pings.take(self.now) {
            let code = ErrorCode::ENHANCE_YOUR_CALM;
            return Err(Fault::Connection(code, "too many pings"));
        }
        if head.has(flag::ACK) {
            self.on_pong(payload);
            return Ok(Some(Event::Pong(payload)));
        }
        frame::put_ping(&mut self.control, true, payload);
        Ok(Some(Event::Ping))
    }

    fn on_window_update(&mut self, head: FrameHead, payload: &[u8]) -> Handled<X> {
        if payload.len() != 4 {
            return Err(frame_size("WINDOW_UPDATE"));
        }
        let (increment, _) = take_u32(payload).ok_or(SHORT)?;
        let increment = increment & WINDOW_MAX;
        if increment < TINY_INCREMENT {
            self.count_idle_frame()?;
        }
        if head.stream == 0 {
            return self.on_connection_window(increment).map(|()| None);
        }
        if self.is_idle(head.stream) {
            return Err(protocol("WINDOW_UPDATE on an idle stream"));
        }
        let Some(key) = self.streams.find(head.stream) else {
            return Ok(None);
        };
        if let Some(stream) = self.streams.get_mut(key) {
            if increment == 0 {
                return Err(Fault::Stream(head.stream, ErrorCode::PROTOCOL_ERROR));
            }
            let adjusted = stream.send.window.adjust(i64::from(increment));
            let fault = Fault::Stream(head.stream, ErrorCode::FLOW_CONTROL_ERROR);
            adjusted.map_err(|_| fault)?;
        }
        self.wake(key);
        Ok(None)
    }

    fn on_connection_window(&mut self, increment: u32) -> Result<(), Fault> {
        if increment == 0 {
            return Err(protocol("WINDOW_UPDATE by nothing"));
        }
        let adjusted = self.send_window.adjust(i64::from(increment));
        adjusted.map_err(|_| window_overflow())
    }

    // ---- what is allowed

    /// Whether a stream was never used (§5.1, "idle").
    pub(super) fn is_idle(&self, id: u32) -> bool {
        match self.role {
            Role::Server => id.is_multiple_of(2) || id > self.last_peer_id,
            Role::Client => id.is_multiple_of(2) || id >= self.next_id,
        }
    }

    /// Whether a stream came after the last GOAWAY.
    pub(super) fn is_refused(&self, id: u32) -> bool {
        matches!(self.drain, Drain::Final { last_stream } if id > last_stream)
            && self.role == Role::Server
    }

    fn count_idle_frame(&mut self) -> Result<(), Fault> {
        // A window of the connection and one of a stream.
        let is_paid = is_paid(
            &mut self.idle_frames_paid,
            self.work_frames.saturating_mul(2),
        );
        if is_paid || self.allowances.idle_frames.take(self.now) {
            return Ok(());
        }
        let code = ErrorCode::ENHANCE_YOUR_CALM;
        Err(Fault::Connection(code, "too many frames without content"))
    }

    /// The peer resets a live stream.
    fn count_reset(&mut self, key: Key) -> Result<(), Fault> {
        let is_rapid = self.streams.get(key).is_some_and(|stream| {
            stream.send.state != SendState::Ended && self.now.saturating_sub(stream.since) < RAPID
        });
        if self.role == Role::Server && is_rapid && !self.allowances.resets.take(self.now) {
            let code = ErrorCode::ENHANCE_YOUR_CALM;
            return Err(Fault::Connection(code, "too many streams reset"));
        }
        Ok(())
    }
}

/// Whether our HEADERS and DATA frames pay for one frame more: a peer of Go that measures its bandwidth sends a PING, and
/// opens both windows by a little, for nearly every frame that it gets.
fn is_paid(paid: &mut u64, limit: u64) -> bool {
    let is_paid = *paid < limit;
    *paid += u64::from(is_paid);
    is_paid
}

fn on_goaway<X>(head: FrameHead, payload: &[u8]) -> Handled<X> {
    if head.stream != 0 {
        return Err(protocol("GOAWAY on a stream"));
    }
    let (last_stream, rest) = take_u32(payload).ok_or(SHORT)?;
    let (code, debug) = take_u32(rest).ok_or(SHORT)?;
    Ok(Some(Event::GoAway {
        last_stream: last_stream & 0x7fff_ffff,
        code: ErrorCode(code),
        debug: Bytes::copy_from_slice(&debug[..debug.len().min(DEBUG_LEN_MAX)]),
    }))
}

/// A frame shorter than its fixed fields (§4.2).
pub(super) const SHORT: Fault = Fault::Connection(ErrorCode::FRAME_SIZE_ERROR, "frame too short");

fn frame_size(what: &'static str) -> Fault {
    Fault::Connection(ErrorCode::FRAME_SIZE_ERROR, what)
}

pub(super) fn protocol(reason: &'static str) -> Fault {
    Fault::Connection(ErrorCode::PROTOCOL_ERROR, reason)
}

fn window_overflow() -> Fault {
    Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR, "window too large")
}
