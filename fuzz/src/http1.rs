//! HTTP/1.1 from either end: any octets, cut in any way.
//!
//! Where a message ends must not depend on how it arrived: whole, octet by octet and in pieces must give the same.

use bytes::Bytes;
use net::http::{HttpRequest, HttpResponse, Method};
use net::http1::{Client, ClientEvent, Event, Limits, Server};

use crate::input::{Cuts, Input};

const LIMITS: Limits = Limits {
    head_size_bytes_max: 2048,
    body_size_bytes_max: 4096,
    streamed_prefixes: &["/s/"],
};

/// The octets at once and one by one.
const WHOLE: u8 = 0;
const SINGLE: u8 = 1;

pub(crate) fn run_server(octets: &[u8]) {
    let mut input = Input::new(octets);
    let seed = input.byte();
    let octets = input.rest();
    let whole = serve(octets, WHOLE);
    for seed in [SINGLE, seed] {
        assert_eq!(whole, serve(octets, seed), "depends on the cuts {seed}");
    }
    for request in whole {
        let is_streamed = request.path.starts_with("/s/");
        assert!(is_streamed || request.body.len() <= LIMITS.body_size_bytes_max);
        check_again(&request);
    }
}

/// The requests that a server finds.
fn serve(octets: &[u8], seed: u8) -> Vec<HttpRequest> {
    let mut cuts = Cuts::new(seed);
    let mut server = Server::new(LIMITS);
    let mut requests = Vec::new();
    let mut streamed = None;
    let mut answers = Vec::new();
    let mut rest = octets;
    while !rest.is_empty() {
        server.on_bytes(cuts.next(&mut rest));
        answer(&mut server, &mut requests, &mut streamed, &mut answers);
    }
    server.on_eof();
    answer(&mut server, &mut requests, &mut streamed, &mut answers);
    assert!(streamed.is_none(), "{streamed:?} never ended");
    assert!(server.is_finished(), "nothing can follow");
    assert!(answers.len() >= requests.len() * "HTTP/1.1 200 OK".len());
    requests
}

/// A streamed request is answered by its own pieces; its body gathers in `streamed` until it ends.
fn answer(
    server: &mut Server,
    requests: &mut Vec<HttpRequest>,
    streamed: &mut Option<(HttpRequest, Vec<u8>)>,
    answers: &mut Vec<u8>,
) {
    loop {
        let sent = server.poll_transmit(answers, 1000);
        let event = server.poll_event();
        let is_idle = sent == 0 && event.is_none();
        match event {
            Some(Event::Request(request)) => {
                requests.push(request.clone());
                server.respond(HttpResponse::json(200, request.body));
            }
            Some(Event::Start(request)) => {
                assert!(streamed.is_none(), "two at once");
                server.start_response(HttpResponse::new(200));
                *streamed = Some((request, Vec::new()));
            }
            Some(Event::Body(piece)) => {
                let (_, body) = streamed.as_mut().expect("a body without a request");
                body.extend_from_slice(&piece);
                server.push_body(piece);
            }
            Some(Event::End) => {
                let (mut request, body) = streamed.take().expect("an end without a request");
                request.body = Bytes::from(body);
                requests.push(request);
                server.end_response();
            }
            Some(Event::Left) => panic!("it was answered when it began"),
            Some(Event::Gone) => drop(streamed.take().expect("nobody was there")),
            None => {}
        }
        if is_idle {
            return;
        }
    }
}

/// What was understood is understood again when our client asks it.
fn check_again(request: &HttpRequest) {
    let mut client = Client::new("a:1", LIMITS);
    client.request(request.clone());
    let mut octets = Vec::new();
    while client.poll_transmit(&mut octets, 1000) > 0 {}
    // Chunks may have been longer heads than they are without.
    if octets.len() - request.body.len() > LIMITS.head_size_bytes_max {
        return;
    }
    let again = serve(&octets, WHOLE);
    assert_eq!(again.len(), 1, "{}", String::from_utf8_lossy(&octets));
    let again = &again[0];
    assert_eq!(again.method, request.method);
    assert_eq!(again.target(), request.target());
    assert_eq!(again.body, request.body);
    assert!(again.query_pairs().count() <= again.query.len() + 1);
}

pub(crate) fn run_client(octets: &[u8]) {
    let mut input = Input::new(octets);
    let seed = input.byte();
    let methods = [Method::Get, Method::Head, Method::Post];
    let first = usize::from(input.byte());
    let asked: Vec<Method> = methods
        .iter()
        .cycle()
        .skip(first % 3)
        .take(3)
        .cloned()
        .collect();
    let octets = input.rest();
    let whole = ask(&asked, octets, SINGLE);
    for event in &whole {
        if let ClientEvent::Response(response) = event {
            assert!(response.body.len() <= LIMITS.body_size_bytes_max);
        }
    }
    let again = ask(&asked, octets, seed.max(2));
    check_alike(&whole, &again);
}

/// Answers before the connection fails must be the same. Which request it fails at may differ: octets that arrive with
/// the end of a response are nobody's, those that arrive later belong to the next request.
fn check_alike(one: &[ClientEvent], other: &[ClientEvent]) {
    for (one, other) in one.iter().zip(other) {
        match (one, other) {
            (ClientEvent::Response(one), ClientEvent::Response(other)) => assert_eq!(one, other),
            _ => return,
        }
    }
}

/// Asks and reads what is said to be the answers; each request has one event.
fn ask(methods: &[Method], octets: &[u8], seed: u8) -> Vec<ClientEvent> {
    let mut cuts = Cuts::new(seed);
    let mut client = Client::new("a:1", LIMITS);
    for method in methods {
        let mut request = HttpRequest::new(method.clone(), "/a?b");
        if *method == Method::Post {
            request.body = Bytes::from_static(b"body");
        }
        client.request(request);
    }
    let mut events = Vec::new();
    let mut output = Vec::new();
    let mut rest = octets;
    while !rest.is_empty() {
        client.on_bytes(cuts.next(&mut rest));
        events.extend(std::iter::from_fn(|| client.poll_event()));
        while client.poll_transmit(&mut output, 1000) > 0 {}
    }
    client.on_eof();
    events.extend(std::iter::from_fn(|| client.poll_event()));
    assert_eq!(events.len(), methods.len(), "{events:?}");
    assert!(client.is_finished());
    events
}
