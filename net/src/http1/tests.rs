//! Scripts of bytes against the server, client against server, noise.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::http::{HttpRequest, HttpResponse, Method, Version};

const LIMITS: Limits = Limits {
    head_size_bytes_max: 1024,
    body_size_bytes_max: 64,
    streamed_prefixes: &["/s/"],
};

fn take_output(server: &mut Server) -> String {
    let mut out = Vec::new();
    while server.poll_transmit(&mut out, 7) > 0 {}
    String::from_utf8(out).expect("our answers are ASCII")
}

fn next_request(server: &mut Server) -> Option<HttpRequest> {
    match server.poll_event()? {
        Event::Request(request) => Some(request),
        event => panic!("{event:?}"),
    }
}

/// Answers every request with its own description. Returns what was asked and the connection's output.
fn serve(server: &mut Server, pieces: &[&[u8]]) -> (Vec<HttpRequest>, String) {
    let mut requests = Vec::new();
    let mut output = String::new();
    for piece in pieces {
        server.on_bytes(piece);
        while let Some(request) = next_request(server) {
            server.respond(HttpResponse::text(200, request.target().into_owned()));
            requests.push(request);
        }
        output += &take_output(server);
    }
    (requests, output)
}

/// Feeds `input` whole and octet by octet, which must not differ.
fn exchange(input: &str) -> (Vec<HttpRequest>, String, bool) {
    let mut server = Server::new(LIMITS);
    let (requests, output) = serve(&mut server, &[input.as_bytes()]);
    let mut slow = Server::new(LIMITS);
    let octets: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
    let (slow_requests, slow_output) = serve(&mut slow, &octets);
    assert_eq!(
        (&requests, server.is_finished()),
        (&slow_requests, slow.is_finished()),
        "{input:?}"
    );
    // Only a client that waits is told to go on.
    assert_eq!(
        output,
        slow_output.replace("HTTP/1.1 100 Continue\r\n\r\n", ""),
        "{input:?}"
    );
    (requests, output, server.is_finished())
}

fn refused(input: &str) -> String {
    let (requests, output, is_finished) = exchange(input);
    assert!(
        requests.is_empty() && is_finished,
        "{input:?} gave {requests:?}"
    );
    output
}

const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                           Connection: close\r\n\r\n400 Bad Request";

#[test]
fn keep_alive_and_pipelining() {
    let (requests, output, is_finished) = exchange(
        "GET /a?x=1 HTTP/1.1\r\nHost: h:1\r\n\r\n\r\nPOST /b HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc\
         GET http://h/c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /d HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    let targets: Vec<_> = requests.iter().map(|request| request.target()).collect();
    assert_eq!(targets, ["/a?x=1", "/b", "/c"]);
    assert_eq!(
        (requests[1].method.clone(), &requests[1].body[..]),
        (Method::Post, &b"abc"[..])
    );
    let fields = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ";
    let expected = format!(
        "{fields}6\r\n\r\n/a?x=1{fields}2\r\n\r\n/b{fields}2\r\nConnection: close\r\n\r\n/c"
    );
    assert_eq!(output, expected);
    assert!(is_finished);
}

#[test]
fn one_request_is_out_at_a_time() {
    let mut server = Server::new(LIMITS);
    server.on_bytes(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(next_request(&mut server).expect("the first").path, "/1");
    assert_eq!(next_request(&mut server), None);
    server.respond(HttpResponse::new(204));
    assert_eq!(take_output(&mut server), "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(next_request(&mut server).expect("the second").path, "/2");
    server.respond(HttpResponse::new(200));
    server.respond(HttpResponse::new(500));
    assert_eq!(
        take_output(&mut server),
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    );
    assert!(server.is_idle() && !server.is_finished());
    server.on_eof();
    assert!(server.is_finished());
}

#[test]
fn a_flood_of_pipelined_requests_is_cut() {
    let mut server = Server::new(LIMITS);
    let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    for _ in 0..=PIPELINE_BYTES_MAX / request.len() + 1 {
        server.on_bytes(request.as_bytes());
    }
    assert!(next_request(&mut server).is_some());
    server.respond(HttpResponse::new(200));
    assert_eq!(next_request(&mut server), None);
    let output = take_output(&mut server);
    assert_eq!(
        output,
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    assert!(server.is_finished());
}

#[test]
fn a_client_that_reads_nothing_gets_no_further_answers() {
    let mut server = Server::new(LIMITS);
    let large = vec![b'x'; PIPELINE_BYTES_MAX];
    server.on_bytes(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(next_request(&mut server).is_some());
    server.respond(HttpResponse::text(200, large));
    assert_eq!(next_request(&mut server), None);
    take_output(&mut server);
    assert!(next_request(&mut server).is_some());
}

#[test]
fn versions_and_persistence() {
    let (requests, output, is_finished) = exchange("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((requests[0].version, is_finished), (Version::Http10, true));
    assert!(output.starts_with("HTTP/1.0 200 OK\r\n") && output.contains("Connection: close\r\n"));
    let (_, output, is_finished) = exchange("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert!(output.contains("Connection: keep-alive\r\n") && !is_finished);
    assert_eq!(
        refused("GET / HTTP/2.0\r\nHost: h\r\n\r\n"),
        "HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version\r\n\
         Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
         505 HTTP Version Not Supported: unsupported protocol version"
    );
    assert_eq!(refused("GET / HTTP/x\r\nHost: h\r\n\r\n"), BAD_REQUEST);
}

#[test]
fn head_has_the_length_but_no_body() {
    let (_, output, _) = exchange("HEAD /abc HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(
        output.contains("Content-Length: 4\r\n") && output.ends_with("\r\n\r\n"),
        "{output}"
    );
}

#[test]
fn expectations() {
    let mut server = Server::new(LIMITS);
    server.on_bytes(
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n",
    );
    assert_eq!(take_output(&mut server), "HTTP/1.1 100 Continue\r\n\r\n");
    server.on_bytes(b"ab");
    assert_eq!(
        &next_request(&mut server).expect("it is whole").body[..],
        b"ab"
    );

    let mut server = Server::new(LIMITS);
    server.on_bytes(
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nab",
    );
    assert_eq!(take_output(&mut server), "", "the body is already here");
    assert!(next_request(&mut server).is_some());

    let output = refused("GET / HTTP/1.1\r\nHost: h\r\nExpect: cake\r\n\r\n");
    assert!(output.starts_with("HTTP/1.1 417 "), "{output}");
}

#[test]
fn chunked_bodies() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (requests, _, is_finished) = exchange(&format!(
        "{head}3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
    ));
    assert_eq!((&requests[0].body[..], is_finished), (&b"abcde"[..], false));
    assert_eq!(
        refused(&format!("{head}3\r\nabcd\r\n0\r\n\r\n")),
        BAD_REQUEST
    );
    let output = refused(&format!("{head}41\r\n{}\r\n0\r\n\r\n", "a".repeat(0x41)));
    assert!(
        output.starts_with("HTTP/1.1 413 Request Entity Too Large\r\n"),
        "{output}"
    );
}

#[test]
fn limits_are_kept() {
    let output = refused("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 65\r\n\r\n");
    assert!(output.starts_with("HTTP/1.1 413 "), "{output}");
    let expected = "HTTP/1.1 431 Request Header Fields Too Large\r\n\
                    Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
                    431 Request Header Fields Too Large";
    let long = "a".repeat(1024);
    assert_eq!(
        refused(&format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n")),
        expected
    );
    assert_eq!(refused(&format!("GET /{long}")), expected);
    let many = "x:\r\n".repeat(HEADER_COUNT_MAX);
    assert_eq!(
        refused(&format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")),
        expected
    );
}

#[test]
fn what_could_smuggle_a_request_is_refused() {
    let head = "POST / HTTP/1.1\r\nHost: h\r\n";
    for fields in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length:\r\n",
        "Content-Length : 3\r\n",
        "X: a\r\n b\r\n",
        " X: a\r\n",
        "X\r\n",
        "X: a\0b\r\n",
        "X: a\rb\r\n",
        "X(: a\r\n",
    ] {
        assert_eq!(
            refused(&format!("{head}{fields}\r\nabc")),
            BAD_REQUEST,
            "{fields:?}"
        );
    }
    for coding in [
        "gzip",
        "chunked, gzip",
        "gzip, chunked",
        "identity",
        "xchunked",
        "chunked\r\nTransfer-Encoding: chunked",
    ] {
        let output = refused(&format!("{head}Transfer-Encoding: {coding}\r\n\r\n"));
        assert!(
            output.starts_with("HTTP/1.1 501 Not Implemented\r\n"),
            "{coding}: {output}"
        );
        assert!(output.ends_with("\r\n\r\nUnsupported transfer encoding"));
    }
    let output = refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(output, BAD_REQUEST);
    let (requests, ..) = exchange(&format!(
        "{head}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"
    ));
    assert_eq!(&requests[0].body[..], b"abc");
}

#[test]
fn malformed_requests_and_hosts() {
    for input in [
        "\x16\x03\x01\x02",
        "GET\r\n",
        "GET /\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "G\0T / HTTP/1.1\r\n",
        "GET relative HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a%4 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        assert_eq!(refused(input), BAD_REQUEST, "{input:?}");
    }
    for (hosts, text) in [
        ("", "missing required Host header"),
        ("Host: a\r\nHost: a\r\n", "too many Host headers"),
        ("Host: a b\r\n", "malformed Host header"),
    ] {
        let expected = BAD_REQUEST.replace("400 Bad Request", &format!("400 Bad Request: {text}"));
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{hosts}\r\n")), expected);
    }
}

#[test]
fn a_half_request_ends_with_the_connection() {
    for input in [
        "",
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab",
    ] {
        let mut server = Server::new(LIMITS);
        server.on_bytes(input.as_bytes());
        assert!(!server.is_finished());
        server.on_eof();
        assert!(server.is_finished() && server.poll_event().is_none());
    }
}

#[test]
fn shutting_down_lets_the_request_in_progress_end() {
    let mut idle = Server::new(LIMITS);
    idle.shut_down();
    assert!(idle.is_finished());

    let mut busy = Server::new(LIMITS);
    busy.on_bytes(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    busy.shut_down();
    assert!(next_request(&mut busy).is_some());
    busy.respond(HttpResponse::new(200));
    assert!(take_output(&mut busy).contains("Connection: close\r\n"));
    assert!(busy.is_finished() && busy.poll_event().is_none());
}

#[test]
fn a_response_cannot_smuggle_fields() {
    let mut server = Server::new(LIMITS);
    server.on_bytes(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(next_request(&mut server).is_some());
    let response = HttpResponse::text(200, "ok")
        .header("X", "a\r\nY: b")
        .header("content-length", "7")
        .header("Transfer-Encoding", "chunked");
    server.respond(response);
    let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nX: a  Y: b\r\n\
                    Content-Length: 2\r\n\r\nok";
    assert_eq!(take_output(&mut server), expected);
}

fn ask(client: &mut Client, server: &mut Server) -> Vec<ClientEvent> {
    let mut events = Vec::new();
    loop {
        let mut sent = Vec::new();
        client.poll_transmit(&mut sent, usize::MAX);
        server.on_bytes(&sent);
        while let Some(request) = next_request(server) {
            let body = format!("{} {}", request.method.as_str(), request.target());
            let mut answer = HttpResponse::text(200, [body.as_bytes(), &request.body].concat());
            if request.path == "/last" {
                answer = answer.header("Connection", "close");
            }
            server.respond(answer);
        }
        let answered = take_output(server);
        if sent.is_empty() && answered.is_empty() {
            return events;
        }
        for octet in answered.as_bytes().chunks(1) {
            client.on_bytes(octet);
        }
        events.extend(std::iter::from_fn(|| client.poll_event()));
    }
}

#[test]
fn client_and_server_understand_each_other() {
    let mut client = Client::new("host:2379", Limits::default());
    let mut server = Server::new(Limits::default());
    let mut post = HttpRequest::new(Method::Post, "/p?q");
    post.body = vec![b'b'; 10_000].into();
    client.request(HttpRequest::new(Method::Get, "/a"));
    client.request(post);
    client.request(HttpRequest::new(Method::Head, "/a"));
    client.request(HttpRequest::new(Method::Get, "/last"));
    client.request(HttpRequest::new(Method::Get, "/never"));
    let events = ask(&mut client, &mut server);
    let bodies: Vec<_> = events
        .iter()
        .map(|event| match event {
            ClientEvent::Response(response) => Ok(response.body.len()),
            ClientEvent::Failed(error) => Err(*error),
        })
        .collect();
    assert_eq!(
        bodies,
        [Ok(6), Ok(10_009), Ok(0), Ok(9), Err(ClientError::Closed)]
    );
    assert!(client.is_finished() && server.is_finished());
}

fn client_sees(answer: &str, is_eof: bool) -> Option<ClientEvent> {
    let mut client = Client::new("h", LIMITS);
    client.request(HttpRequest::new(Method::Get, "/"));
    client.on_bytes(answer.as_bytes());
    if is_eof {
        client.on_eof();
    }
    client.poll_event()
}

#[test]
fn the_client_delimits_bodies() {
    let text = |event| match event {
        Some(ClientEvent::Response(response)) => String::from_utf8(response.body.to_vec()).ok(),
        _ => None,
    };
    let cases = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            false,
            Some("ok"),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            false,
            Some("ok"),
        ),
        ("HTTP/1.1 200 OK\r\n\r\nok", false, None),
        ("HTTP/1.1 200 OK\r\n\r\nok", true, Some("ok")),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            false,
            Some(""),
        ),
    ];
    for (answer, is_eof, expected) in cases {
        assert_eq!(
            text(client_sees(answer, is_eof)).as_deref(),
            expected,
            "{answer:?}"
        );
    }
    let failures = [
        ("nonsense\r\n\r\n", ClientError::Malformed),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            ClientError::Malformed,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            ClientError::Malformed,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 65\r\n\r\n",
            ClientError::TooLarge,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
            ClientError::Closed,
        ),
    ];
    for (answer, error) in failures {
        assert_eq!(
            client_sees(answer, true),
            Some(ClientEvent::Failed(error)),
            "{answer:?}"
        );
    }
}

fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..20),
        prop::sample::select(vec![
            "GET / HTTP/1.1\r\n",
            "POST /x HTTP/1.1\r\n",
            "Host: h\r\n",
            "Content-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Expect: 100-continue\r\n",
            "\r\n",
            "\n",
            "5\r\nhello\r\n",
            "0\r\n\r\n",
            "hello",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

proptest! {
    #[test]
    fn noise_does_no_harm_however_it_is_cut(fragments in vec(fragment(), 0..20), cut in 1usize..40) {
        let input = fragments.concat();
        let mut server = Server::new(LIMITS);
        let (requests, _) = serve(&mut server, &[&input]);
        let mut cut_server = Server::new(LIMITS);
        let pieces: Vec<&[u8]> = input.chunks(cut).collect();
        let (cut_requests, _) = serve(&mut cut_server, &pieces);
        prop_assert_eq!(requests, cut_requests);
        prop_assert_eq!(server.is_finished(), cut_server.is_finished());
        server.on_eof();
        prop_assert!(server.is_finished());

        let mut client = Client::new("h", LIMITS);
        client.request(HttpRequest::new(Method::Get, "/"));
        client.on_bytes(&input);
        client.on_eof();
        prop_assert!(client.poll_event().is_some());
        prop_assert!(client.is_finished());
    }
}

// ---- streamed requests

/// Serves streamed requests by sending their bodies back piece by piece; tells what happened.
fn serve_streamed(pieces: &[&[u8]]) -> (Vec<String>, String, Server) {
    let mut server = Server::new(LIMITS);
    let mut told: Vec<String> = Vec::new();
    let mut output = String::new();
    for piece in pieces {
        server.on_bytes(piece);
        while let Some(event) = server.poll_event() {
            match event {
                Event::Start(request) => {
                    told.push(format!("start {}", request.path));
                    server.start_response(HttpResponse::new(200));
                }
                Event::Body(octets) => {
                    let text = String::from_utf8(octets.to_vec()).expect("text");
                    match told.last_mut().filter(|last| last.starts_with("body ")) {
                        Some(last) => *last += &text,
                        None => told.push(format!("body {text}")),
                    }
                    server.push_body(octets);
                }
                Event::End => {
                    told.push("end".to_owned());
                    server.end_response();
                }
                Event::Left => told.push("left".to_owned()),
                Event::Gone => told.push("gone".to_owned()),
                Event::Request(request) => {
                    told.push(format!("whole {}", request.path));
                    server.respond(HttpResponse::text(200, "whole"));
                }
            }
        }
        output += &take_output(&mut server);
    }
    (told, output, server)
}

/// The body of a response in chunks, whatever their lengths.
fn unchunked(mut text: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a number");
        body += &rest[..size];
        text = rest[size..].strip_prefix("\r\n").expect("its end");
        if size == 0 {
            assert_eq!(text, "");
            return body;
        }
    }
}

#[test]
fn a_streamed_request_is_answered_in_chunks() {
    let input = "POST /s/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nPOST /whole HTTP/1.1\r\nHost: h\r\n\r\n";
    let cases = [vec![input.as_bytes()], input.as_bytes().chunks(1).collect()];
    for pieces in cases {
        let (told, output, server) = serve_streamed(&pieces);
        assert_eq!(
            told,
            ["start /s/a", "body hello world", "end", "whole /whole"]
        );
        let (head, rest) = output.split_once("\r\n\r\n").expect("a head");
        assert_eq!(head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked");
        let (body, whole) = rest.split_at(rest.find("HTTP/1.1").expect("another answer"));
        assert_eq!(unchunked(body), "hello world");
        assert!(whole.ends_with("\r\n\r\nwhole"), "{whole}");
        assert!(server.is_idle());
    }
}

#[test]
fn a_streamed_body_may_be_larger_than_others() {
    let input = format!(
        "POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{}",
        "x".repeat(100)
    );
    let (told, output, _) = serve_streamed(&[&input.as_bytes()[..90], &input.as_bytes()[90..]]);
    assert_eq!(
        told,
        ["start /s/", &format!("body {}", "x".repeat(100)), "end"]
    );
    assert!(output.ends_with("0\r\n\r\n"));
    let (told, _, _) = serve_streamed(&[b"GET /s/ HTTP/1.1\r\nHost: h\r\n\r\n"]);
    assert_eq!(told, ["start /s/", "end"]);
}

/// HTTP/1.0 knows no chunks: the end of the connection is the end of the answer.
#[test]
fn a_streamed_answer_of_http_1_0_ends_with_the_connection() {
    let (told, output, server) = serve_streamed(&[
        b"POST /s/ HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nab",
    ]);
    assert_eq!(told, ["start /s/", "body ab", "end"]);
    assert_eq!(output, "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nab");
    assert!(server.is_finished());
}

#[test]
fn who_leaves_a_streamed_request_is_told_of() {
    const HEAD: &[u8] = b"POST /s/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (told, _, mut server) = serve_streamed(&[HEAD, b"2\r\nab\r\n"]);
    assert_eq!(told, ["start /s/", "body ab"]);
    server.on_eof();
    assert_eq!(server.poll_event(), Some(Event::Gone));
    assert!(server.is_finished());
    // What is no chunk is as good.
    let (told, _, server) = serve_streamed(&[HEAD, b"nonsense\r\n"]);
    assert_eq!(told, ["start /s/", "gone"]);
    assert!(server.is_finished());
    // Nothing was answered yet: so it is said.
    let mut server = Server::new(LIMITS);
    server.on_bytes(HEAD);
    server.on_bytes(b"nonsense\r\n");
    assert!(matches!(server.poll_event(), Some(Event::Start(_))));
    assert_eq!(server.poll_event(), Some(Event::Gone));
    assert_eq!(take_output(&mut server), BAD_REQUEST);
    // One that has asked and half-closed is answered if the answer is whole, but gets no stream.
    for is_streamed in [false, true] {
        let mut server = Server::new(LIMITS);
        server.on_bytes(b"POST /s/ HTTP/1.1\r\nHost: h\r\n\r\n");
        server.on_eof();
        assert!(matches!(server.poll_event(), Some(Event::Start(_))));
        assert_eq!(server.poll_event(), Some(Event::End));
        assert_eq!(server.poll_event(), Some(Event::Left));
        if is_streamed {
            server.start_response(HttpResponse::new(200));
            assert_eq!(server.poll_event(), Some(Event::Gone));
        } else {
            server.respond(HttpResponse::new(200));
            assert_eq!(server.poll_event(), None);
        }
        assert_eq!(take_output(&mut server).is_empty(), is_streamed);
        assert!(server.is_finished());
    }
}

/// An answer that comes before the body has ended: the rest is passed over, if there is not too much of it.
#[test]
fn the_rest_of_a_refused_body_is_passed_over() {
    let refuse = |declared: usize, sent: usize| {
        let mut server = Server::new(LIMITS);
        let head = format!("POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: {declared}\r\n\r\nabc");
        server.on_bytes(head.as_bytes());
        assert!(matches!(server.poll_event(), Some(Event::Start(_))));
        server.respond(HttpResponse::new(404));
        assert_eq!(server.poll_event(), None, "the body is not wanted");
        server.on_bytes(&vec![b'x'; sent - 3]);
        let output = take_output(&mut server);
        assert!(output.starts_with("HTTP/1.1 404"), "{output}");
        server.on_bytes(b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
        (output.contains("Connection: close"), server)
    };
    let (closes, mut server) = refuse(1000, 1000);
    assert!(!closes);
    assert_eq!(next_request(&mut server).expect("the next").path, "/next");
    let (closes, server) = refuse(10 << 20, 1000);
    assert!(closes && server.is_finished());
}

#[test]
fn a_paused_body_waits() {
    let mut server = Server::new(LIMITS);
    server.on_bytes(b"POST /s/ HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n");
    assert!(matches!(server.poll_event(), Some(Event::Start(_))));
    server.pause();
    assert!(server.wants_input());
    server.on_bytes(b"abc");
    assert!(!server.wants_input());
    assert_eq!(server.poll_event(), None);
    server.resume();
    assert!(server.wants_input());
    assert_eq!(server.poll_event(), Some(Event::Body("abc".into())));
    // Who does not ask whether it may loses the client rather than its memory.
    server.pause();
    server.on_bytes(&vec![b'x'; PIPELINE_BYTES_MAX]);
    assert_eq!(server.poll_event(), None);
    server.on_bytes(b"x");
    assert_eq!(server.poll_event(), Some(Event::Gone));
}

#[test]
fn what_follows_a_switch_is_no_http() {
    let mut server = Server::new(LIMITS);
    server
        .on_bytes(b"GET /s/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nGET /");
    assert!(matches!(server.poll_event(), Some(Event::Start(_))));
    server.switch_protocols(HttpResponse::new(101).header("Upgrade", "x"));
    assert_eq!(server.poll_event(), Some(Event::Body("GET /".into())));
    server.push_body("raw".into());
    assert_eq!(
        take_output(&mut server),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw"
    );
    server.on_bytes(b"more");
    assert_eq!(server.poll_event(), Some(Event::Body("more".into())));
    server.end_response();
    assert_eq!(take_output(&mut server), "");
    assert!(server.is_finished());
}
