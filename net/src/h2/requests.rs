//! HEADERS and CONTINUATION (RFC 9113 §6.2, §6.10): header blocks made whole, and what they mean for their stream:
//! a new one, a response, trailers, or a fault.

use super::connection::{Connection, Event, Fault, Role};
use super::frame::{DEFAULT_FRAME_LEN_MAX, ErrorCode, FrameHead, flag, strip_padding, take_u32};
use super::head::{Head, Shape};
use super::input::{Handled, SHORT, protocol};
use super::stream::Key;

/// A header block of which CONTINUATION frames bring more.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) stream: u32,
    ends_stream: bool,
    depends_on_itself: bool,
    frames: u32,
    block: Vec<u8>,
}

impl<X: Default> Connection<X> {
    pub(super) fn on_headers(&mut self, head: FrameHead, payload: &[u8]) -> Handled<X> {
        if head.stream == 0 {
            return Err(protocol("HEADERS on stream 0"));
        }
        let Some(mut block) = strip_padding(head, payload) else {
            return Err(protocol("padding longer than the frame"));
        };
        let mut depends_on_itself = false;
        if head.has(flag::PRIORITY) {
            let (dependency, rest) = take_u32(block).ok_or(SHORT)?;
            let (_weight, rest) = rest.split_first().ok_or(SHORT)?;
            // RFC 7540 §5.3.1.
            depends_on_itself = dependency & 0x7fff_ffff == head.stream;
            block = rest;
        }
        let ends_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.on_header_block(head.stream, ends_stream, depends_on_itself, block);
        }
        self.assembly = Some(Assembly {
            stream: head.stream,
            ends_stream,
            depends_on_itself,
            frames: 0,
            block: block.to_vec(),
        });
        Ok(None)
    }

    pub(super) fn on_continuation(&mut self, head: FrameHead, payload: &[u8]) -> Handled<X> {
        let limits = &self.limits;
        // Huffman coding may lengthen, but whoever uses it then has no header list in mind.
        let block_len_max = limits.header_list_bytes_max as usize + DEFAULT_FRAME_LEN_MAX as usize;
        let Some(assembly) = &mut self.assembly else {
            return Err(protocol("CONTINUATION without HEADERS"));
        };
        assembly.frames += 1;
        assembly.block.extend_from_slice(payload);
        if assembly.frames > limits.continuation_frames_max || assembly.block.len() > block_len_max
        {
            let code = ErrorCode::ENHANCE_YOUR_CALM;
            return Err(Fault::Connection(code, "header block too large"));
        }
        if !head.has(flag::END_HEADERS) {
            return Ok(None);
        }
        let Some(whole) = self.assembly.take() else {
            return Ok(None);
        };
        self.on_header_block(
            whole.stream,
            whole.ends_stream,
            whole.depends_on_itself,
            &whole.block,
        )
    }

    fn on_header_block(
        &mut self,
        id: u32,
        is_end: bool,
        depends_on_itself: bool,
        block: &[u8],
    ) -> Handled<X> {
        let key = self.streams.find(id);
        let stream = key.and_then(|key| self.streams.get(key));
        let shape = match (stream, self.role) {
            (Some(stream), _) if stream.recv.has_head => Shape::Trailers,
            (_, Role::Server) => Shape::Request,
            (_, Role::Client) => Shape::Response,
        };
        // Decoded in any case, or the tables of both sides part.
        let list_size_max = self.limits.header_list_bytes_max as usize;
        let read = self
            .heads
            .read(&mut self.decoder, block, list_size_max, shape);
        let Ok(verdict) = read else {
            let code = ErrorCode::COMPRESSION_ERROR;
            return Err(Fault::Connection(code, "header block cannot be decoded"));
        };
        let verdict = verdict.ok().filter(|_| !depends_on_itself);
        match (key, shape) {
            (Some(key), Shape::Trailers) => self.on_trailers(key, id, is_end, verdict),
            (Some(key), _) => self.on_response(key, id, is_end, verdict),
            (None, _) => self.on_new_stream(id, is_end, verdict),
        }
    }

    fn on_trailers(&mut self, key: Key, id: u32, is_end: bool, head: Option<Head>) -> Handled<X> {
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(None);
        };
        if stream.recv.is_ended {
            return Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED));
        }
        // §8.1: trailers end the stream, and the body must be whole.
        let is_whole = stream.recv.content_left.is_none_or(|left| left == 0);
        let Some(head) = head.filter(|_| is_end && is_whole) else {
            return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR));
        };
        stream.recv.is_ended = true;
        Ok(Some(Event::Trailers {
            key,
            fields: head.fields,
        }))
    }

    fn on_response(&mut self, key: Key, id: u32, is_end: bool, head: Option<Head>) -> Handled<X> {
        // §8.1: an informational response does not end the stream, and 101 does not exist.
        let malformed = |head: &Head| head.status == 101 || (head.status < 200 && is_end);
        let Some(head) = head.filter(|head| !malformed(head)) else {
            return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR));
        };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(None);
        };
        if head.status < 200 && !head.is_too_large {
            return Ok(None);
        }
        stream.recv.has_head = true;
        stream.recv.is_ended = is_end;
        // An answer to HEAD names a length and has no body.
        stream.recv.content_left = head.content_len.filter(|_| !is_end);
        Ok(Some(Event::Head { key, head, is_end }))
    }

    fn on_new_stream(&mut self, id: u32, is_end: bool, head: Option<Head>) -> Handled<X> {
        if self.role == Role::Client || id.is_multiple_of(2) {
            // A client's streams that are not there any more; a server opens none.
            return if self.is_idle(id) || id.is_multiple_of(2) {
                Err(protocol("stream id of the wrong side"))
            } else {
                self.judge_closed(id).map(|()| None)
            };
        }
        if id <= self.last_peer_id {
            return match self.closed.how(id) {
                // §5.1.1: ids only grow.
                None if !self.is_refused(id) => Err(protocol("stream id went back")),
                _ => self.judge_closed(id).map(|()| None),
            };
        }
        self.last_peer_id = id;
        if self.is_refused(id) {
            return Ok(None);
        }
        let Some(head) = head else {
            return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR));
        };
        if is_end && head.content_len.is_some_and(|len| len > 0) {
            return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR));
        }
        // §5.1.2. Retries of a refused stream are safe, and gRPC clients make them by themselves.
        let is_full = self.streams.len() >= self.limits.streams_max() as usize;
        if is_full || self.queued_len > self.limits.output_bytes_max {
            return Err(Fault::Stream(id, ErrorCode::REFUSED_STREAM));
        }
        let window = self.recv_window_size();
        let key = self
            .streams
            .insert(self.peer.initial_window, window, self.now);
        self.streams.assign_id(key, id);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.recv.has_head = true;
            stream.recv.is_ended = is_end;
            stream.recv.content_left = head.content_len;
        }
        Ok(Some(Event::Head { key, head, is_end }))
    }
}
