//! Header lists: from a header block to a checked request, response or trailers (RFC 9113 §8).
//!
//! Everything a list holds goes into one arena per connection, so a request costs no allocation until a chunk of the
//! arena is full. A chunk lives as long as some list in it; lists live as long as their call.

use bytes::{Bytes, BytesMut};

use crate::hpack::{Decoder, Field, HpackError, Outcome};
use crate::metadata::{Metadata, push_record};

/// Size of an arena chunk: some twenty requests.
const CHUNK_LEN: usize = 4096;
/// Of the first one, as most connections are silent most of the time; each further one is twice as large as the one before.
const FIRST_CHUNK_LEN: usize = 512;

/// What a header block must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Request,
    Response,
    Trailers,
}

/// A checked header list. Pseudo-header fields that the shape does not have are empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    /// The values of the pseudo-header fields, without gaps; the places below lie in it.
    pseudo: Bytes,
    method: Place,
    path: Place,
    authority: Place,
    /// A response's; 0 in a request.
    pub(crate) status: u16,
    /// The fields that are no pseudo-header fields.
    pub(crate) fields: Metadata,
    pub(crate) content_len: Option<u64>,
    /// The list was longer than allowed and is not whole.
    pub(crate) is_too_large: bool,
}

impl Head {
    pub(crate) fn method(&self) -> &[u8] {
        self.method.of(&self.pseudo)
    }

    pub(crate) fn path(&self) -> &[u8] {
        self.path.of(&self.pseudo)
    }

    /// The path, to keep.
    pub(crate) fn path_bytes(&self) -> Bytes {
        self.pseudo.slice_ref(self.path())
    }

    pub(crate) fn authority(&self) -> &[u8] {
        self.authority.of(&self.pseudo)
    }

    #[cfg(test)]
    pub(crate) fn of_request(method: &str, path: &str, authority: &str, fields: Metadata) -> Self {
        let place = |start: usize, value: &str| Place {
            start: start as u32,
            end: (start + value.len()) as u32,
            is_set: true,
        };
        Self {
            method: place(0, method),
            path: place(method.len(), path),
            authority: place(method.len() + path.len(), authority),
            pseudo: Bytes::from([method, path, authority].concat()),
            fields,
            ..Self::default()
        }
    }
}

/// The list breaks RFC 9113 §8: a stream error, PROTOCOL_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Decodes header blocks into the arena.
#[derive(Debug)]
pub(super) struct HeadReader {
    arena: BytesMut,
    /// Of the next chunk.
    chunk_len: usize,
}

impl HeadReader {
    pub(super) fn new() -> Self {
        Self {
            arena: BytesMut::new(),
            chunk_len: FIRST_CHUNK_LEN,
        }
    }

    /// Decodes one whole block.
    ///
    /// # Errors
    /// Ends the connection: the compression state is lost.
    pub(super) fn read(
        &mut self,
        decoder: &mut Decoder,
        block: &[u8],
        list_size_max: usize,
        shape: Shape,
    ) -> Result<Result<Head, Malformed>, HpackError> {
        if self.arena.capacity() < self.chunk_len / 8 {
            self.arena.reserve(self.chunk_len);
            self.chunk_len = (self.chunk_len * 2).min(CHUNK_LEN);
        }
        let mut list = List::new(&mut self.arena, shape);
        let outcome = decoder.decode(block, list_size_max, &mut |field| list.push(field));
        let verdict = match outcome {
            Ok(Outcome::Complete) => list.finish(false),
            Ok(Outcome::ListTooLong) => list.finish(true),
            Err(error) => {
                self.arena.clear();
                return Err(error);
            }
        };
        if verdict.is_err() {
            self.arena.clear();
        }
        Ok(verdict)
    }
}

/// Where a pseudo-header field's value lies.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    start: u32,
    end: u32,
    is_set: bool,
}

impl Place {
    /// The value; empty if there is none.
    fn of(self, octets: &[u8]) -> &[u8] {
        octets
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// A list being read.
struct List<'a> {
    arena: &'a mut BytesMut,
    shape: Shape,
    is_malformed: bool,
    method: Place,
    scheme: Place,
    path: Place,
    authority: Place,
    status: Place,
    /// Where the first field that is no pseudo-header field begins.
    fields_from: Option<usize>,
    content_len: Option<u64>,
}

impl<'a> List<'a> {
    fn new(arena: &'a mut BytesMut, shape: Shape) -> Self {
        Self {
            arena,
            shape,
            is_malformed: false,
            method: Place::default(),
            scheme: Place::default(),
            path: Place::default(),
            authority: Place::default(),
            status: Place::default(),
            fields_from: None,
            content_len: None,
        }
    }

    fn push(&mut self, field: Field<'_>) {
        if self.is_malformed {
            return;
        }
        let is_fine = is_valid_value(field.value)
            && if field.name.first() == Some(&b':') {
                self.push_pseudo(field)
            } else {
                self.push_regular(field)
            };
        self.is_malformed = !is_fine;
    }

    fn push_pseudo(&mut self, field: Field<'_>) -> bool {
        // §8.3: before all others, each once, none in trailers, none that is not defined.
        if self.fields_from.is_some() {
            return false;
        }
        let place = match (self.shape, field.name) {
            (Shape::Request, b":method") => &mut self.method,
            (Shape::Request, b":scheme") => &mut self.scheme,
            (Shape::Request, b":path") => &mut self.path,
            (Shape::Request, b":authority") => &mut self.authority,
            (Shape::Response, b":status") => &mut self.status,
            _ => return false,
        };
        if place.is_set {
            return false;
        }
        let start = self.arena.len() as u32;
        self.arena.extend_from_slice(field.value);
        *place = Place {
            start,
            end: self.arena.len() as u32,
            is_set: true,
        };
        true
    }

    fn push_regular(&mut self, field: Field<'_>) -> bool {
        let is_fine = match field.name {
            // §8.2.2: HTTP/1.1's connection handling has no place here.
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => false,
            b"te" => field.value.eq_ignore_ascii_case(b"trailers"),
            b"content-length" => self.set_content_len(field.value),
            name => is_valid_name(name),
        };
        if is_fine {
            self.fields_from.get_or_insert(self.arena.len());
            push_record(field.name, field.value, self.arena);
        }
        is_fine
    }

    fn set_content_len(&mut self, value: &[u8]) -> bool {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return false;
        }
        let Some(len) = str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok())
        else {
            return false;
        };
        *self.content_len.get_or_insert(len) == len
    }

    fn finish(self, is_too_large: bool) -> Result<Head, Malformed> {
        if self.is_malformed || !(is_too_large || self.has_required()) {
            return Err(Malformed);
        }
        let mut pseudo = self.arena.split().freeze();
        let fields = pseudo.split_off(self.fields_from.unwrap_or(pseudo.len()));
        Ok(Head {
            status: parse_status(self.status.of(&pseudo)).unwrap_or(0),
            pseudo,
            method: self.method,
            path: self.path,
            authority: self.authority,
            fields: Metadata::from_records(fields),
            content_len: self.content_len,
            is_too_large,
        })
    }

    fn has_required(&self) -> bool {
        match self.shape {
            // §8.3.1. CONNECT has no path; this is no proxy, so it counts as malformed.
            Shape::Request => {
                !self.method.of(self.arena).is_empty()
                    && self.scheme.is_set
                    && !self.path.of(self.arena).is_empty()
            }
            Shape::Response => parse_status(self.status.of(self.arena)).is_some(),

            Shape::Trailers => true,
        }
    }
}

fn parse_status(value: &[u8]) -> Option<u16> {
    let is_number = value.len() == 3 && value.iter().all(u8::is_ascii_digit);
    let status: u16 = str::from_utf8(value)
        .ok()
        .filter(|_| is_number)?
        .parse()
        .ok()?;
    (100..=999).contains(&status).then_some(status)
}

/// §8.2.1: no upper case, no controls, no space, nothing beyond ASCII, no colon.
fn is_valid_name(name: &[u8]) -> bool {
    let is_valid =
        |octet: &u8| matches!(octet, 0x21..=0x7e) && !octet.is_ascii_uppercase() && *octet != b':';
    // Without an early end, so that many octets are looked at in one step; names are short.
    !name.is_empty()
        && name
            .iter()
            .fold(true, |so_far, octet| so_far & is_valid(octet))
}

/// §8.2.1: no NUL, CR or LF, and no white space at the ends.
fn is_valid_value(value: &[u8]) -> bool {
    let is_space = |octet: Option<&u8>| matches!(octet, Some(b' ' | b'\t'));
    let is_bad = |octet: &u8| matches!(octet, 0 | b'\r' | b'\n');
    !value
        .iter()
        .fold(false, |so_far, octet| so_far | is_bad(octet))
        && !is_space(value.first())
        && !is_space(value.last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::{Encoder, Indexing};

    fn read(fields: &[(&str, &str)], shape: Shape) -> Result<Head, Malformed> {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        let mut block = Vec::new();
        for (name, value) in fields {
            encoder.encode(
                name.as_bytes(),
                value.as_bytes(),
                Indexing::Without,
                &mut block,
            );
        }
        HeadReader::new()
            .read(&mut decoder, &block, 1000, shape)
            .expect("a valid block")
    }

    const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "http"), (":path", "/")];

    fn request_with(more: &[(&str, &str)]) -> Result<Head, Malformed> {
        read(&[&GET[..], more].concat(), Shape::Request)
    }

    #[test]
    fn a_request_is_taken_apart() {
        let head = request_with(&[
            (":authority", "h:1"),
            ("a", "b"),
            ("te", "trailers"),
            ("content-length", "12"),
        ])
        .expect("well-formed");
        assert_eq!((head.method(), head.path()), (&b"GET"[..], &b"/"[..]));
        assert_eq!(
            (head.authority(), &head.path_bytes()[..]),
            (&b"h:1"[..], &b"/"[..])
        );
        assert_eq!(head.fields.get("a"), Some(&b"b"[..]));
        assert_eq!(head.fields.iter().count(), 3);
        assert_eq!(head.content_len, Some(12));
    }

    #[test]
    fn malformed_requests() {
        let long = "9".repeat(30);
        let bad: [&[(&str, &str)]; 18] = [
            &[("Upper", "x")],
            &[("na me", "x")],
            &[("a:b", "x")],
            &[("", "x")],
            &[("n", "a\nb")],
            &[("n", "a\0")],
            &[("n", " a")],
            &[("n", "a\t")],
            &[("connection", "close")],
            &[("transfer-encoding", "chunked")],
            &[("te", "gzip")],
            &[("content-length", "-1")],
            &[("content-length", &long)],
            &[("content-length", "1"), ("content-length", "2")],
            &[(":path", "/again")],
            &[(":status", "200")],
            &[(":unknown", "x")],
            &[("a", "b"), (":authority", "late")],
        ];
        for more in bad {
            assert!(request_with(more).is_err(), "{more:?}");
        }
        for missing in 0..GET.len() {
            let mut fields = GET.to_vec();
            fields.remove(missing);
            assert!(read(&fields, Shape::Request).is_err(), "{fields:?}");
        }
        let empty_path = [(":method", "GET"), (":scheme", "http"), (":path", "")];
        assert!(read(&empty_path, Shape::Request).is_err());
    }

    #[test]
    fn responses_and_trailers() {
        let head = read(&[(":status", "204"), ("a", "b")], Shape::Response).expect("fine");
        assert_eq!(head.status, 204);
        for status in ["20", "2000", "2x0", "099"] {
            assert!(read(&[(":status", status)], Shape::Response).is_err());
        }
        assert!(read(&[], Shape::Response).is_err());
        assert!(read(&[("grpc-status", "0")], Shape::Trailers).is_ok());
        assert!(read(&[(":status", "200")], Shape::Trailers).is_err());
    }

    #[test]
    fn a_list_beyond_the_limit_is_marked() {
        let value = "v".repeat(1000);
        let head = request_with(&[("a", &value)]).expect("not malformed");
        assert!(head.is_too_large);
        assert!(request_with(&[("B", ""), ("a", &value)]).is_err());
    }
}
