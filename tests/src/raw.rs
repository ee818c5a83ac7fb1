//! A connection on which anything may be said, and HTTP/2 frames to say it with.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use net::hpack::{Decoder, Encoder, Indexing};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 §6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub mod flag {
    pub const END_STREAM: u8 = 0x1;
    pub const ACK: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
}

/// One frame as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// A GOAWAY's last stream and error code.
    pub fn goaway(&self) -> Option<(u32, u32)> {
        let (last, rest) = self.payload.split_first_chunk::<4>()?;
        let (code, _) = rest.split_first_chunk::<4>()?;
        let is_goaway = self.kind == kind::GOAWAY;
        is_goaway.then_some((u32::from_be_bytes(*last), u32::from_be_bytes(*code)))
    }
}

/// A frame whose length is true.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame_of_length(payload.len(), kind, flags, stream, payload)
}

/// A frame that claims `len` octets whatever follows.
pub fn frame_of_length(len: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (len as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header block without any use of the dynamic table, so it fits any connection.
pub fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    for (name, value) in fields {
        encoder.encode(
            name.as_bytes(),
            value.as_bytes(),
            Indexing::Without,
            &mut out,
        );
    }
    out
}

/// What opens a gRPC call.
pub fn call_fields(method: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
}

/// HEADERS of a gRPC call.
pub fn call_headers(stream: u32, method: &str) -> Vec<u8> {
    frame(
        kind::HEADERS,
        flag::END_HEADERS,
        stream,
        &header_block(&call_fields(method)),
    )
}

/// A gRPC message with its prefix: flag and length.
pub fn message(octets: &[u8]) -> Vec<u8> {
    message_of_length(octets.len() as u32, 0, octets)
}

/// A message whose prefix claims `len` octets and has the flag `compressed`.
pub fn message_of_length(len: u32, compressed: u8, octets: &[u8]) -> Vec<u8> {
    let mut out = vec![compressed];
    out.extend(len.to_be_bytes());
    out.extend(octets);
    out
}

/// A whole unary call: HEADERS, and DATA that ends the stream.
pub fn unary_call(stream: u32, method: &str, data: &[u8]) -> Vec<u8> {
    let mut out = call_headers(stream, method);
    let mut rest = data;
    // A frame has at most 16384 octets before other settings are agreed.
    while rest.len() > 16_384 {
        let (part, tail) = rest.split_at(16_384);
        out.extend(frame(kind::DATA, 0, stream, part));
        rest = tail;
    }
    out.extend(frame(kind::DATA, flag::END_STREAM, stream, rest));
    out
}

/// A socket, and the frames that come out of it.
pub struct Raw {
    socket: TcpStream,
    input: Vec<u8>,
    decoder: Decoder,
}

impl Raw {
    /// # Errors
    /// As of connecting a socket.
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        // A server that reads nothing more must not hang a test.
        socket.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            socket,
            input: Vec::new(),
            decoder: Decoder::new(4096),
        })
    }

    /// Connects and says what every HTTP/2 client says first.
    ///
    /// # Errors
    /// As of connecting and writing.
    pub fn connect_http2(addr: SocketAddr) -> io::Result<Self> {
        let mut raw = Self::connect(addr)?;
        raw.send(PREFACE)?;
        raw.send(&frame(kind::SETTINGS, 0, 0, &[]))?;
        Ok(raw)
    }

    /// # Errors
    /// As of writing: the server may have closed.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.socket.write_all(octets)
    }

    /// Says that no more will be sent.
    pub fn finish(&mut self) {
        // Fails only if the connection is gone, which is what the caller looks for next.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The next frame; `None` once the server has closed, in whatever way.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if neither happens in time.
    pub fn next_frame(&mut self, deadline: Instant) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Ok(Some(frame));
            }
            if !self.fill(deadline)? {
                return Ok(None);
            }
        }
    }

    /// All octets until the server closes.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if it does not.
    pub fn read_to_end(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        while self.fill(deadline)? {}
        Ok(std::mem::take(&mut self.input))
    }

    /// The fields of a HEADERS frame that is whole. Must see every such frame, in order.
    ///
    /// # Panics
    /// If the server's header block is not valid.
    pub fn fields(&mut self, frame: &Frame) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let outcome = self
            .decoder
            .decode(&frame.payload, usize::MAX, &mut |field| {
                let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
                fields.push((text(field.name), text(field.value)));
            });
        assert!(outcome.is_ok(), "the server's header block: {outcome:?}");
        fields
    }

    /// The `grpc-status` of `stream`, or `None` if the server reset it or closed the connection. Answers SETTINGS and PING.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if nothing of it happens in time.
    pub fn grpc_status(&mut self, stream: u32, deadline: Instant) -> io::Result<Option<u32>> {
        while let Some(frame) = self.next_frame(deadline)? {
            self.acknowledge(&frame)?;
            match frame.kind {
                kind::HEADERS => {
                    let fields = self.fields(&frame);
                    let status = fields.iter().find(|(name, _)| name == "grpc-status");
                    if let Some((_, status)) = status.filter(|_| frame.stream == stream) {
                        return Ok(status.parse().ok());
                    }
                }
                kind::RST_STREAM if frame.stream == stream => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Answers a frame that asks for an acknowledgement, or does nothing.
    ///
    /// # Errors
    /// As of writing: the server may have closed.
    pub fn acknowledge(&mut self, received: &Frame) -> io::Result<()> {
        if received.flags & flag::ACK != 0 {
            return Ok(());
        }
        match received.kind {
            kind::SETTINGS => self.send(&frame(kind::SETTINGS, flag::ACK, 0, &[])),
            kind::PING => self.send(&frame(kind::PING, flag::ACK, 0, &received.payload)),
            _ => Ok(()),
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let (head, rest) = self.input.split_first_chunk::<9>()?;
        let [len_high, len_mid, len_low, kind, flags, stream @ ..] = *head;
        let len = u32::from_be_bytes([0, len_high, len_mid, len_low]) as usize;
        let payload = rest.get(..len)?.to_vec();
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        self.input.drain(..9 + len);
        Some(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }

    /// Whether there was more to read.
    fn fill(&mut self, deadline: Instant) -> io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        let mut octets = [0; 16 * 1024];
        match self.socket.read(&mut octets) {
            Ok(len) => {
                self.input.extend_from_slice(&octets[..len]);
                Ok(len > 0)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
                io::ErrorKind::TimedOut => Err(error),
                // A reset is an end like another.
                _ => Ok(false),
            },
        }
    }
}
