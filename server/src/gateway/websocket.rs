//! Websockets (RFC 6455) on the gateway's paths, for browsers: each message of the client is some of the request's body,
//! each line of the answer a message.
//!
//! ```text
//!  GET, Upgrade: websocket -> upgrade -> 101, and the request as the gateway would get it by POST
//!  octets -> WebSocket::hear -> Heard { some of the body, what is to be said at once, whether this is the end }
//!  a line -> frame -> octets
//! ```
//!
//! As in etcd: any origin may ask, a token comes as a subprotocol or a cookie, no extension is spoken, and a stream that
//! ends ends the connection without a word. A frame's payload is handed on as it comes, so its length costs nothing;
//! what is kept is a frame's head, or a control frame.

use net::http::{HttpRequest, HttpResponse, Method, Version};
use sha1::{Digest, Sha1};

use super::base64;

/// What is mixed with a client's key, to show that the server knows what it agrees to (§1.3).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Control frames are no longer (§5.5).
const CONTROL_LEN_MAX: u64 = 125;
/// The status of a close frame to a client that breaks the protocol (§7.4.1).
const PROTOCOL_ERROR: u16 = 1002;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A request to speak websocket.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// What is agreed to.
    pub(crate) response: HttpResponse,
    /// What is asked of the gateway.
    pub(crate) request: HttpRequest,
}

/// `None`: the request is no such. An error is the answer to one that cannot be met.
pub(crate) fn upgrade(request: &HttpRequest) -> Option<Result<Upgrade, HttpResponse>> {
    let headers = &request.headers;
    let is_upgrade = request.version == Version::Http11
        && headers.has_element("connection", "upgrade")
        && headers.has_element("upgrade", "websocket");
    if !is_upgrade {
        return None;
    }
    let key = headers.get("sec-websocket-key").unwrap_or_default();
    let refusal = match request.method {
        Method::Get if headers.has_element("sec-websocket-version", "13") && !key.is_empty() => {
            None
        }
        Method::Get => Some((400, "Bad Request")),
        _ => Some((405, "Method Not Allowed")),
    };
    if let Some((status, text)) = refusal {
        let refusal = HttpResponse::error(status, text).header("Sec-Websocket-Version", "13");
        return Some(Err(refusal));
    }
    let mut response = HttpResponse::new(101)
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Accept", accept(key));
    let protocol = headers.get_str("sec-websocket-protocol");
    if protocol.is_some_and(|protocol| protocol.starts_with("Bearer")) {
        response = response.header("Sec-WebSocket-Protocol", "Bearer");
    }
    let mut asked = HttpRequest::new(Method::Post, &request.target());
    if let Some(token) = token(request) {
        asked
            .headers
            .push("authorization", format!("Bearer {token}"));
    }
    Some(Ok(Upgrade {
        response,
        request: asked,
    }))
}

/// What proves that the key was understood.
fn accept(key: &[u8]) -> Vec<u8> {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX);
    let mut text = Vec::new();
    base64::encode(&digest.finalize(), &mut text);
    text
}

/// A browser cannot choose header fields, but these.
fn token(request: &HttpRequest) -> Option<&str> {
    let headers = &request.headers;
    let cookies = headers.get_str("cookie").unwrap_or_default().split(';');
    let mut cookie = cookies.filter_map(|cookie| cookie.trim().strip_prefix("token="));
    let protocol = headers.get_str("sec-websocket-protocol");
    let by_protocol = protocol.and_then(|protocol| protocol.split_once("Bearer,"));
    let by_protocol = by_protocol.map(|(_, token)| token.trim_matches(' '));
    cookie.next().or(by_protocol)
}

/// A message of text, in one frame.
pub(crate) fn frame(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 10);
    put_frame(TEXT, text, &mut out);
    out
}

fn put_frame(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | kind);
    match payload.len() {
        len @ 0..=125 => out.push(len as u8),
        len @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// The client's end of one connection.
#[derive(Debug, Default)]
pub(crate) struct WebSocket {
    state: State,
    /// A frame of data came that did not end its message.
    is_mid_message: bool,
    is_closed: bool,
}

/// What comes next.
#[derive(Debug)]
enum State {
    /// The rest of a frame's head.
    Head(Vec<u8>),
    Payload(Payload),
}

impl Default for State {
    fn default() -> Self {
        State::Head(Vec::new())
    }
}

#[derive(Debug)]
struct Payload {
    kind: u8,
    ends_message: bool,
    mask: [u8; 4],
    /// Octets that came; the mask goes round with them.
    at: u64,
    len: u64,
    /// Of a control frame.
    control: Vec<u8>,
}

/// What came of some octets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) body: Vec<u8>,
    /// Answers to control frames.
    pub(crate) answer: Vec<u8>,
    /// The client wants no more, or does not speak the protocol.
    pub(crate) is_end: bool,
}

/// The client does not speak the protocol.
#[derive(Debug)]
struct Broken;

impl WebSocket {
    pub(crate) fn hear(&mut self, mut octets: &[u8]) -> Heard {
        let mut heard = Heard::default();
        while !octets.is_empty() && !self.is_closed {
            if self.hear_some(&mut octets, &mut heard).is_err() {
                put_frame(CLOSE, &PROTOCOL_ERROR.to_be_bytes(), &mut heard.answer);
                self.is_closed = true;
            }
        }
        heard.is_end = self.is_closed;
        heard
    }

    fn hear_some(&mut self, octets: &mut &[u8], heard: &mut Heard) -> Result<(), Broken> {
        match &mut self.state {
            State::Head(head) => {
                let missing = head_len(head)?.saturating_sub(head.len());
                let (some, rest) = octets.split_at(missing.min(octets.len()));
                head.extend_from_slice(some);
                *octets = rest;
                if head_len(head)? > head.len() {
                    return Ok(());
                }
                let payload = self.begin_payload()?;
                self.state = State::Payload(payload);
            }
            State::Payload(payload) => {
                let left = usize::try_from(payload.len - payload.at).unwrap_or(usize::MAX);
                let (some, rest) = octets.split_at(left.min(octets.len()));
                *octets = rest;
                payload.take(some, &mut heard.body);
            }
        }
        self.end_payload(heard)
    }

    /// The head is whole.
    fn begin_payload(&mut self) -> Result<Payload, Broken> {
        let State::Head(head) = &self.state else {
            return Err(Broken);
        };
        let ([first, second, ..], Some((rest, mask))) = (&head[..], head.split_last_chunk::<4>())
        else {
            return Err(Broken);
        };
        let (kind, is_last) = (first & 0x0f, first & 0x80 != 0);
        let len = match (second & 0x7f, &rest[2..]) {
            (126, [a, b]) => u64::from(u16::from_be_bytes([*a, *b])),
            (127, long) => u64::from_be_bytes(long.try_into().map_err(|_| Broken)?),
            (len, _) => u64::from(len),
        };
        let is_expected = match kind {
            0 => self.is_mid_message,
            TEXT | BINARY => !self.is_mid_message,
            CLOSE | PING | PONG => is_last && len <= CONTROL_LEN_MAX,
            _ => false,
        };
        // No extension is spoken, clients mask, and a length has 63 bits (§5.2).
        let is_plain = first & 0x70 == 0 && second & 0x80 != 0 && len >> 63 == 0;
        if !is_expected || !is_plain {
            return Err(Broken);
        }
        if kind < CLOSE {
            self.is_mid_message = !is_last;
        }
        Ok(Payload {
            kind,
            ends_message: is_last,
            mask: *mask,
            at: 0,
            len,
            control: Vec::new(),
        })
    }

    /// Does what a frame asks for, if it is whole.
    fn end_payload(&mut self, heard: &mut Heard) -> Result<(), Broken> {
        let State::Payload(payload) = &mut self.state else {
            return Ok(());
        };
        if payload.at < payload.len {
            return Ok(());
        }
        match payload.kind {
            PING => put_frame(PONG, &payload.control, &mut heard.answer),
            PONG => {}
            CLOSE => {
                let status: &[u8] = match &payload.control[..] {
                    [] => &[],
                    [_] => return Err(Broken),
                    longer => &longer[..2],
                };
                put_frame(CLOSE, status, &mut heard.answer);
                self.is_closed = true;
            }
            // As etcd does, so that two values do not grow together.
            _ if payload.ends_message => heard.body.push(b'\n'),
            _ => {}
        }
        self.state = State::default();
        Ok(())
    }
}

impl Payload {
    fn take(&mut self, octets: &[u8], body: &mut Vec<u8>) {
        let out = match self.kind {
            CLOSE.. => &mut self.control,
            _ => body,
        };
        out.reserve(octets.len());
        for octet in octets {
            out.push(octet ^ self.mask[(self.at % 4) as usize]);
            self.at += 1;
        }
    }
}

/// How long a frame's head is, as far as can be told from its beginning.
fn head_len(head: &[u8]) -> Result<usize, Broken> {
    let [_, second, ..] = head else {
        return Ok(2);
    };
    let has_mask = second & 0x80 != 0;
    match second & 0x7f {
        _ if !has_mask => Err(Broken),
        126 => Ok(8),
        127 => Ok(14),
        _ => Ok(6),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as clients send it.
    fn sent(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_frame(0, payload, &mut out);
        let head_len = out.len() - payload.len();
        out[0] = first;
        out[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        let masked = payload.iter().zip(mask.iter().cycle()).map(|(o, m)| o ^ m);
        let masked: Vec<u8> = masked.collect();
        [&out[..head_len], &mask[..], &masked[..]].concat()
    }

    /// What is heard must not depend on the cuts.
    fn hear(octets: &[u8]) -> Heard {
        let whole = WebSocket::default().hear(octets);
        let mut slow = WebSocket::default();
        let mut slowly = Heard::default();
        for octet in octets {
            let heard = slow.hear(&[*octet]);
            slowly.body.extend(heard.body);
            slowly.answer.extend(heard.answer);
            slowly.is_end = heard.is_end;
        }
        assert_eq!(whole, slowly);
        whole
    }

    #[test]
    fn messages_become_lines_of_a_body() {
        let long = vec![b'x'; 70_000];
        let octets = [
            sent(0x81, b"{}"),
            sent(0x01, b"{\"a\""),
            sent(0x89, b"ping"),
            sent(0x80, b":1}"),
            sent(0x82, &long[..300]),
            sent(0x82, &long),
            sent(0x8a, b"pong"),
        ]
        .concat();
        let heard = hear(&octets);
        let expected = [
            &b"{}\n{\"a\":1}\n"[..],
            &long[..300],
            &b"\n"[..],
            &long[..],
            &b"\n"[..],
        ];
        let expected = expected.concat();
        assert!(heard.body == expected && !heard.is_end);
        assert_eq!(heard.answer, b"\x8a\x04ping");
    }

    #[test]
    fn a_close_is_answered_and_ends() {
        let octets = [sent(0x88, b"\x03\xe8bye"), sent(0x81, b"late")].concat();
        let heard = hear(&octets);
        assert_eq!(heard.answer, b"\x88\x02\x03\xe8");
        assert!(heard.is_end && heard.body.is_empty());
        assert_eq!(hear(&sent(0x88, b"")).answer, b"\x88\x00");
    }

    #[test]
    fn what_breaks_the_protocol_ends_it() {
        let unmasked = b"\x81\x02{}".to_vec();
        let cases = [
            unmasked,
            sent(0x80, b"goes on with nothing"),
            [sent(0x01, b"a"), sent(0x81, b"b")].concat(),
            sent(0xc1, b"compressed"),
            sent(0x83, b"of no kind"),
            sent(0x09, b"a ping in parts"),
            sent(0x89, &[0; 126]),
            sent(0x88, b"x"),
            [&b"\x81\xff\x80"[..], &[0; 11]].concat(),
        ];
        for octets in cases {
            let heard = hear(&octets);
            assert!(heard.is_end, "{octets:?}");
            assert_eq!(heard.answer, b"\x88\x02\x03\xea", "{octets:?}");
        }
    }

    #[test]
    fn the_answer_to_a_key_is_the_rfcs() {
        let mut request = HttpRequest::new(Method::Get, "/v3/watch?a");
        assert!(upgrade(&request).is_none());
        for (name, value) in [
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Protocol", "Bearer, abc"),
        ] {
            request.headers.push(name, value);
        }
        let agreed = upgrade(&request).unwrap().unwrap();
        let header = |name| agreed.response.headers.get_str(name);
        assert_eq!(
            header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        assert_eq!(header("sec-websocket-protocol"), Some("Bearer"));
        assert_eq!(agreed.request.method, Method::Post);
        assert_eq!(agreed.request.target(), "/v3/watch?a");
        let token = agreed.request.headers.get_str("authorization");
        assert_eq!(token, Some("Bearer abc"));
        request.headers.push("Cookie", "a=b; token=other");
        let agreed = upgrade(&request).unwrap().unwrap();
        let token = agreed.request.headers.get_str("authorization");
        assert_eq!(token, Some("Bearer other"));
        request.method = Method::Put;
        assert_eq!(upgrade(&request).unwrap().unwrap_err().status, 405);
    }

    proptest! {
        #[test]
        fn any_octets_are_judged(octets: Vec<u8>) {
            hear(&octets);
        }
    }
}
