//! Bodies: by length, in chunks (RFC 9112 §7.1), or until the connection ends.

use bytes::{Buf, Bytes, BytesMut};

use super::head::Framing;

/// A chunk's size line may be this long; extensions beyond it serve no one we know.
const CHUNK_LINE_LEN_MAX: usize = 256;
/// All trailer lines together. They are dropped.
const TRAILER_SIZE_BYTES_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    Malformed,
    TooLarge,
}

/// Reads one body off the input.
#[derive(Debug)]
pub(super) enum BodyReader {
    Length(usize),
    Chunked(Chunks),
    UntilEof,
}

impl BodyReader {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(len) => Self::Length(len),
            Framing::Chunked => Self::Chunked(Chunks::default()),
            Framing::UntilEof => Self::UntilEof,
        }
    }

    /// The body, once it is whole in what was read. `input` grows by what was received only, so a large length
    /// costs nothing before its bytes are there.
    pub(super) fn read(
        &mut self,
        input: &mut BytesMut,
        is_eof: bool,
        size_max: usize,
    ) -> Result<Option<Bytes>, BodyError> {
        match self {
            Self::Length(len) if *len > size_max => Err(BodyError::TooLarge),
            Self::Length(len) if *len > input.len() => Ok(None),
            Self::Length(len) => Ok(Some(input.split_to(*len).freeze())),
            Self::Chunked(chunks) => chunks.read(input, size_max),
            Self::UntilEof if input.len() > size_max => Err(BodyError::TooLarge),
            Self::UntilEof => Ok(is_eof.then(|| input.split().freeze())),
        }
    }

    /// What has come of the body since the last time, and whether it is whole with that. For bodies that are not gathered,
    /// so there is no limit to them.
    pub(super) fn read_piece(
        &mut self,
        input: &mut BytesMut,
        is_eof: bool,
    ) -> Result<(Bytes, bool), BodyError> {
        match self {
            Self::Length(left) => {
                let piece = input.split_to(input.len().min(*left)).freeze();
                *left -= piece.len();
                Ok((piece, *left == 0))
            }
            Self::Chunked(chunks) => Ok(match chunks.read(input, usize::MAX)? {
                Some(rest) => (rest, true),
                None => (chunks.body.split().freeze(), false),
            }),
            Self::UntilEof => Ok((input.split().freeze(), is_eof)),
        }
    }

    /// How much is still to come, if that is known.
    pub(super) fn left(&self) -> Option<usize> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilEof => None,
        }
    }
}

/// A body in chunks, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    body: BytesMut,
    step: Step,
    trailer_len: usize,
}

/// What comes next.
#[derive(Debug, Default, Clone, Copy)]
enum Step {
    #[default]
    Size,
    Data {
        missing: usize,
    },
    DataEnd,
    Trailer,
}

impl Chunks {
    fn read(&mut self, input: &mut BytesMut, size_max: usize) -> Result<Option<Bytes>, BodyError> {
        loop {
            let next = match self.step {
                Step::Size => self.read_size(input, size_max)?,
                Step::Data { missing } => self.read_data(input, missing),
                Step::DataEnd => read_data_end(input)?,
                Step::Trailer => match take_line(input, TRAILER_SIZE_BYTES_MAX)? {
                    Some(line) if line.is_empty() => {
                        return Ok(Some(std::mem::take(&mut self.body).freeze()));
                    }
                    Some(line) => {
                        self.trailer_len += line.len();
                        if self.trailer_len > TRAILER_SIZE_BYTES_MAX {
                            return Err(BodyError::TooLarge);
                        }
                        Some(Step::Trailer)
                    }
                    None => None,
                },
            };
            match next {
                Some(step) => self.step = step,
                None => return Ok(None),
            }
        }
    }

    fn read_size(&self, input: &mut BytesMut, size_max: usize) -> Result<Option<Step>, BodyError> {
        let Some(line) = take_line(input, CHUNK_LINE_LEN_MAX)? else {
            return Ok(None);
        };
        let size = chunk_size(&line).ok_or(BodyError::Malformed)?;
        if size == 0 {
            return Ok(Some(Step::Trailer));
        }
        if size > size_max - self.body.len() {
            return Err(BodyError::TooLarge);
        }
        Ok(Some(Step::Data { missing: size }))
    }

    fn read_data(&mut self, input: &mut BytesMut, missing: usize) -> Option<Step> {
        let part = input.split_to(missing.min(input.len()));
        self.body.extend_from_slice(&part);
        if part.len() == missing {
            return Some(Step::DataEnd);
        }
        self.step = Step::Data {
            missing: missing - part.len(),
        };
        None
    }
}

fn read_data_end(input: &mut BytesMut) -> Result<Option<Step>, BodyError> {
    match input[..] {
        [b'\r', b'\n', ..] => {
            input.advance(2);
            Ok(Some(Step::Size))
        }
        [] | [b'\r'] => Ok(None),
        _ => Err(BodyError::Malformed),
    }
}

/// Takes a line off the input, without its CRLF. A bare CR or LF is where two readers may differ, hence malformed.
fn take_line(input: &mut BytesMut, len_max: usize) -> Result<Option<BytesMut>, BodyError> {
    let Some(at) = input
        .iter()
        .take(len_max + 2)
        .position(|&octet| octet == b'\n')
    else {
        return if input.len() > len_max + 1 {
            Err(BodyError::Malformed)
        } else {
            Ok(None)
        };
    };
    let mut line = input.split_to(at + 1);
    if !line.ends_with(b"\r\n") {
        return Err(BodyError::Malformed);
    }
    line.truncate(at - 1);
    if line.contains(&b'\r') {
        Err(BodyError::Malformed)
    } else {
        Ok(Some(line))
    }
}

/// The number in front of a chunk. Extensions are skipped.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|&octet| octet == b';').next()?;
    // Blanks only where they end the number before an extension (RFC 9112 §7.1.1).
    let digits = if digits.len() < line.len() {
        digits.trim_ascii_end()
    } else {
        digits
    };
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &str, size_max: usize) -> Result<Option<Bytes>, BodyError> {
        let mut input = BytesMut::from(octets);
        BodyReader::new(Framing::Chunked).read(&mut input, false, size_max)
    }

    #[test]
    fn chunk_framing() {
        let whole = Ok(Some(Bytes::from_static(b"hello world")));
        assert_eq!(read("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 11), whole);
        assert_eq!(
            read(
                "00b \t;a=\"b\"\r\nhello world\r\n000\r\nTrailer: x\r\n\r\n",
                11
            ),
            whole
        );
        assert_eq!(
            read("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 10),
            Err(BodyError::TooLarge)
        );
        for malformed in [
            "\r\n",
            "5\nhello\r\n",
            "g\r\n",
            "-5\r\n",
            "+5\r\n",
            "0x5\r\n",
            " 5\r\n",
            "5 \r\n",
            "5 5\r\n",
            "5\r\nhello!\r\n",
            "5\r\nhello\n",
            "5;a\rb\r\n",
            "ffffffffffffffffff\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(
                read(malformed, 100),
                Err(BodyError::Malformed),
                "{malformed:?}"
            );
        }
        assert_eq!(read("fffffffffffffff\r\n", 100), Err(BodyError::TooLarge));
        assert_eq!(read(&"1".repeat(300), 100), Err(BodyError::Malformed));
        let long_trailer = format!("0\r\n{}", "a: b\r\n".repeat(2000));
        assert_eq!(read(&long_trailer, 100), Err(BodyError::TooLarge));
    }
}
