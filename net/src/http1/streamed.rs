//! A request that is answered while its body comes, and an answer of which nobody knows the end when it begins.
//!
//! An answer goes out in chunks (RFC 9112 §7.1); one to an HTTP/1.0 client ends with the connection.

use bytes::{Bytes, BytesMut};

use super::body::{BodyError, BodyReader};
use super::output::Output;
use super::server::Answering;
use crate::http::Version;

/// A body that nobody wants is read up to here, so that the connection can go on; it is Go's number.
const DRAIN_LEN_MAX: usize = 256 * 1024;

/// How an answer's end is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framed {
    Length(usize),
    Chunks,
    UntilEnd,
    /// What follows is no HTTP.
    Switched,
}

/// One such request and its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) answering: Answering,
    /// `None`: the body has ended.
    reader: Option<BodyReader>,
    /// `None`: the answer has not begun.
    framed: Option<Framed>,
    pub(super) is_paused: bool,
    /// The client sends no more, which was told.
    has_left: bool,
}

impl Exchange {
    pub(super) fn new(answering: Answering, reader: Option<BodyReader>) -> Self {
        Self {
            answering,
            reader,
            framed: None,
            is_paused: false,
            has_left: false,
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.framed.is_some()
    }

    /// It makes no sense without somebody at the other end.
    pub(super) fn needs_client(&self) -> bool {
        self.has_begun() || self.reader.is_some()
    }

    /// The client sends no more; whether that is news to one who is about to answer.
    pub(super) fn note_left(&mut self) -> bool {
        !self.needs_client() && !std::mem::replace(&mut self.has_left, true)
    }

    pub(super) fn waits_for_body(&self) -> bool {
        !self.has_begun() && self.reader.is_some() && !self.is_paused
    }

    /// Input waits: it is of a later request, or of a body of which the caller has enough.
    pub(super) fn is_held(&self) -> bool {
        self.reader.is_none() || self.is_paused
    }

    /// More of the body, and whether it ends there; `None` if it has ended before.
    pub(super) fn read(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<(Bytes, bool)>, BodyError> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let (piece, is_end) = reader.read_piece(input, false)?;
        if is_end {
            self.reader = None;
        }
        Ok(Some((piece, is_end)))
    }

    pub(super) fn begin(&mut self) -> Framed {
        let framed = match self.answering.version {
            Version::Http10 => Framed::UntilEnd,
            Version::Http11 | Version::Http2 => Framed::Chunks,
        };
        // Where only the end of the connection ends an answer.
        self.answering.keep_alive &= framed == Framed::Chunks;
        self.framed = Some(framed);
        framed
    }

    /// From here on both sides send what they like (RFC 9110 §7.8).
    pub(super) fn switch(&mut self) -> Framed {
        self.reader = Some(BodyReader::UntilEof);
        self.framed = Some(Framed::Switched);
        self.answering.keep_alive = false;
        Framed::Switched
    }

    pub(super) fn push(&self, piece: Bytes, output: &mut Output) {
        if piece.is_empty() || self.answering.is_head {
            return;
        }
        match self.framed {
            Some(Framed::Chunks) => {
                output.push(format!("{:x}\r\n", piece.len()));
                output.push(piece);
                output.push(&b"\r\n"[..]);
            }
            Some(_) => output.push(piece),
            None => {}
        }
    }

    pub(super) fn end(&self, output: &mut Output) {
        if self.framed == Some(Framed::Chunks) && !self.answering.is_head {
            output.push(&b"0\r\n\r\n"[..]);
        }
    }

    /// What is left of the request when it was answered.
    pub(super) fn drain(&mut self) -> Option<Drain> {
        let reader = self.reader.take()?;
        Some(Drain {
            reader,
            left: DRAIN_LEN_MAX,
        })
    }
}

/// The rest of a body that is passed over.
#[derive(Debug)]
pub(super) struct Drain {
    reader: BodyReader,
    /// How much of it may come.
    left: usize,
}

impl Drain {
    /// Whether it is known to be too long.
    pub(super) fn is_worth_it(&self) -> bool {
        self.reader.left().is_none_or(|left| left <= self.left)
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Whether its end is here.
    pub(super) fn read(&mut self, input: &mut BytesMut) -> Result<bool, BodyError> {
        let (piece, is_end) = self.reader.read_piece(input, false)?;
        self.left = self.left.saturating_sub(piece.len());
        Ok(is_end)
    }
}
