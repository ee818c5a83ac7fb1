//! A client's end of a connection that carries one response without an end: the stream of a peer.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::body::{BodyError, BodyReader};
use super::client::request_head;
use super::head::{self, HeadScanner};
use super::output::Output;
use super::{ClientError, Limits};
use crate::http::{HttpRequest, HttpResponse, Method};

/// What the caller has to know, in this order: one head, then pieces, then one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadEvent {
    /// Status and fields; its body is empty.
    Head(HttpResponse),
    /// What has come of the body.
    Piece(Bytes),
    /// The body is whole.
    End,
    /// There is nothing more to come.
    Failed(ClientError),
}

/// Asks a server once and hands its response on as it comes.
///
/// Takes the input of one call at a time: the caller looks at all events before the next `on_bytes`, and what is kept
/// between two is a head or the framing of a chunk at most.
#[derive(Debug)]
pub struct Download {
    limits: Limits,
    input: BytesMut,
    state: State,
    events: VecDeque<DownloadEvent>,
    output: Output,
}

#[derive(Debug)]
enum State {
    Head {
        method: Method,
        scanner: HeadScanner,
    },
    Body(BodyReader),
    Closed,
}

impl Download {
    /// Sends `request` to the server, whose name is `authority`.
    pub fn new(authority: &str, request: HttpRequest, limits: Limits) -> Self {
        let mut output = Output::default();
        output.push(request_head(authority, &request));
        output.push(request.body);
        Self {
            limits,
            input: BytesMut::new(),
            state: State::Head {
                method: request.method,
                scanner: HeadScanner::default(),
            },
            events: VecDeque::new(),
            output,
        }
    }

    /// Input: bytes from the server.
    pub fn on_bytes(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Closed) {
            self.input.extend_from_slice(bytes);
            self.advance(false);
        }
    }

    /// Input: the server sends no more.
    pub fn on_eof(&mut self) {
        self.advance(true);
        self.fail(ClientError::Closed);
    }

    pub fn poll_event(&mut self) -> Option<DownloadEvent> {
        self.events.pop_front()
    }

    /// Output: appends up to `max` bytes to `out` and tells how many.
    pub fn poll_transmit(&mut self, out: &mut Vec<u8>, max: usize) -> usize {
        self.output.take(out, max)
    }

    fn advance(&mut self, is_eof: bool) {
        while matches!(self.state, State::Head { .. }) {
            if !self.read_head() {
                return;
            }
        }
        let State::Body(reader) = &mut self.state else {
            return;
        };
        match reader.read_piece(&mut self.input, is_eof) {
            Ok((piece, is_whole)) => {
                if !piece.is_empty() {
                    self.events.push_back(DownloadEvent::Piece(piece));
                }
                if is_whole {
                    self.events.push_back(DownloadEvent::End);
                    self.close();
                }
            }
            Err(BodyError::Malformed) => self.fail(ClientError::Malformed),
            Err(BodyError::TooLarge) => self.fail(ClientError::TooLarge),
        }
    }

    /// Whether a head was read.
    fn read_head(&mut self) -> bool {
        let State::Head { method, scanner } = &mut self.state else {
            return false;
        };
        let end = scanner.find_end(&self.input);
        if end.unwrap_or(self.input.len()) > self.limits.head_size_bytes_max {
            self.fail(ClientError::TooLarge);
            return false;
        }
        let Some(end) = end else { return false };
        let octets = self.input.split_to(end);
        match head::parse_response(&octets, method) {
            // Interim: the response proper follows. We never ask to switch protocols.
            Some(head)
                if (100..200).contains(&head.response.status) && head.response.status != 101 => {}
            Some(head) if head.response.status >= 200 => {
                self.state = State::Body(BodyReader::new(head.framing));
                self.events.push_back(DownloadEvent::Head(head.response));
            }
            _ => self.fail(ClientError::Malformed),
        }
        true
    }

    fn fail(&mut self, error: ClientError) {
        if !matches!(self.state, State::Closed) {
            self.events.push_back(DownloadEvent::Failed(error));
            self.close();
        }
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.input = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn download() -> Download {
        let mut download = Download::new(
            "h:1",
            HttpRequest::new(Method::Get, "/x"),
            Limits::default(),
        );
        let mut sent = Vec::new();
        download.poll_transmit(&mut sent, usize::MAX);
        assert_eq!(sent, b"GET /x HTTP/1.1\r\nHost: h:1\r\n\r\n");
        download
    }

    /// Status, body and end, however the bytes were cut.
    fn read(
        octets: &str,
        part_len: usize,
        has_eof: bool,
    ) -> (Option<u16>, Vec<u8>, Option<DownloadEvent>) {
        let mut download = download();
        let (mut status, mut body, mut end) = (None, Vec::new(), None);
        let mut take = |download: &mut Download| {
            while let Some(event) = download.poll_event() {
                assert_eq!(end, None, "behind the end");
                match event {
                    DownloadEvent::Head(response) => {
                        assert!(status.replace(response.status).is_none() && body.is_empty());
                    }
                    DownloadEvent::Piece(piece) => body.extend_from_slice(&piece),
                    last => end = Some(last),
                }
            }
        };
        for part in octets.as_bytes().chunks(part_len) {
            download.on_bytes(part);
            take(&mut download);
        }
        if has_eof {
            download.on_eof();
            take(&mut download);
        }
        (status, body, end)
    }

    #[test]
    fn every_framing_is_handed_on_as_it_comes() {
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n";
        let failed = |error| Some(DownloadEvent::Failed(error));
        for part_len in [1, 2, 7, 1000] {
            let hello = |end| (Some(200), b"hello!".to_vec(), end);
            assert_eq!(read(chunked, part_len, false), hello(None));
            assert_eq!(
                read(chunked, part_len, true),
                hello(failed(ClientError::Closed))
            );
            let whole = format!("{chunked}0\r\n\r\n");
            assert_eq!(
                read(&whole, part_len, true),
                hello(Some(DownloadEvent::End))
            );
            let sized =
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!";
            assert_eq!(read(sized, part_len, true), hello(Some(DownloadEvent::End)));
            let until_eof = "HTTP/1.1 200 OK\r\n\r\nhello!";
            assert_eq!(read(until_eof, part_len, false), hello(None));
            assert_eq!(
                read(until_eof, part_len, true),
                hello(Some(DownloadEvent::End))
            );
        }
    }

    #[test]
    fn what_is_no_response_ends_it() {
        let failed = Some(DownloadEvent::Failed(ClientError::Malformed));
        for octets in [
            "nonsense\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ] {
            assert_eq!(
                read(octets, 3, false),
                (None, Vec::new(), failed.clone()),
                "{octets}"
            );
        }
        let bad_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        assert_eq!(read(bad_chunk, 3, false).2, failed);
    }
}
