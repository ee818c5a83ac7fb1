//! Starts that cannot succeed, and orderly stops.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Instant;

use net::grpc::Code;
use prost::Message;
use proto::etcdserverpb::{
    PutRequest, WatchCreateRequest, WatchRequest, WatchResponse, watch_request,
};
use rustix::process::Signal;
use tempfile::TempDir;
use tests::api::{self, PUT, WATCH};
use tests::client::{CallError, Client};
use tests::process::{Options, Process, STOP_TIMEOUT, is_etcore, refusal};
use tests::raw::{Raw, kind, unary_call};

/// NO_ERROR (RFC 9113 §7).
const NO_ERROR: u32 = 0;

fn temp_dir() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

/// What must not start says that it is about `cause`.
fn expect_refusal(options: Options, cause: &str) {
    let told = refusal(options);
    assert!(told.contains(cause), "no line about {cause:?}: {told}");
}

#[test]
fn a_taken_client_port() {
    let dir = temp_dir();
    let options = Options::new(dir.path().join("data"));
    let _listener = TcpListener::bind(options.client_addr).expect("the port was free");
    let cause = format!(
        "listen tcp {}: bind: address already in use",
        options.client_addr
    );
    expect_refusal(options, &cause);
}

#[test]
fn a_taken_peer_port() {
    let dir = temp_dir();
    let options = Options::new(dir.path().join("data"));
    let _listener = TcpListener::bind(options.peer_addr).expect("the port was free");
    let cause = format!(
        "listen tcp {}: bind: address already in use",
        options.peer_addr
    );
    expect_refusal(options, &cause);
}

#[test]
fn a_directory_that_cannot_be() {
    let dir = temp_dir();
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a file");
    expect_refusal(Options::new(file.join("data")), "not a directory");
    assert_eq!(std::fs::read(&file).expect("it is still there"), b"");
}

#[test]
fn a_directory_that_may_not_be_written() {
    let dir = temp_dir();
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).expect("a directory");
    set_mode(&locked, 0o500);
    // Root may write everywhere, so there is nothing to refuse.
    let is_refused = std::fs::write(locked.join("probe"), "").is_err();
    if is_refused {
        expect_refusal(Options::new(&locked), "permission denied");
    }
    set_mode(&locked, 0o700);
    // Not even root can make directories here.
    expect_refusal(Options::new("/proc/etcore"), "/proc/etcore");
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn a_missing_directory_is_made_for_its_owner_alone() {
    let dir = temp_dir();
    let data_dir = dir.path().join("not/there/yet");
    let process = Process::start(Options::new(&data_dir));
    let metadata = std::fs::metadata(&data_dir).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    process.stop();
}

/// etcd waits for the lock without a word; etcore says who has it.
#[test]
fn a_second_member_on_one_directory() {
    let dir = temp_dir();
    let data_dir = dir.path().join("data");
    let first = Process::start(Options::new(&data_dir));
    let mut client = Client::connect(first.client_addr()).expect("a listener");
    client.put("k", "before").expect("a put");
    if is_etcore() {
        expect_refusal(Options::new(&data_dir), &data_dir.display().to_string());
    }
    client
        .put("k", "after")
        .expect("the first one is not disturbed");
    drop(client);
    let options = first.kill();
    let again = Process::start(options);
    let mut client = Client::connect(again.client_addr()).expect("a listener");
    let answer = client.range(&api::get("k")).expect("a read");
    assert_eq!(
        answer.kvs[0].value, "after",
        "a lock does not outlive its owner"
    );
}

#[test]
fn signals_end_the_process_by_themselves() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = temp_dir();
        let mut process = Process::start(Options::new(dir.path().join("data")));
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        client.put("k", "v").expect("a put");
        // A client that stays and is silent would be waited for.
        drop(client);
        process.signal(signal);
        let status = process.wait(STOP_TIMEOUT);
        // What a shell shows as 128 + the signal's number.
        assert_eq!(
            status.signal(),
            Some(signal.as_raw()),
            "{status}:\n{}",
            process.log().text()
        );
        let process = Process::start(process.options().clone());
        let mut client = Client::connect(process.client_addr()).expect("a listener");
        assert_eq!(client.range(&api::get("k")).expect("a read").count, 1);
    }
}

/// Every call the server has begun gets its answer; then GOAWAY says which ones those were.
#[test]
fn a_stop_answers_what_is_in_flight() {
    const CALLS: u32 = 200;
    let dir = temp_dir();
    let mut process = Process::start(Options::new(dir.path().join("data")));
    let mut raw = Raw::connect_http2(process.client_addr()).expect("a listener");
    let stream_of = |number: u32| 2 * number + 1;
    let mut calls = Vec::new();
    for number in 0..CALLS {
        let request = PutRequest {
            ..api::put(format!("key/{number}"), "v")
        };
        let data = tests::raw::message(&request.encode_to_vec());
        calls.extend(unary_call(stream_of(number), PUT, &data));
    }
    raw.send(&calls).expect("the server reads");
    let deadline = Instant::now() + STOP_TIMEOUT;
    // The first answer shows that the server is at work on them.
    let mut ended = vec![false; CALLS as usize];
    let mut succeeded = vec![false; CALLS as usize];
    let mut last_stream = None;
    let mut is_signalled = false;
    while let Some(frame) = raw.next_frame(deadline).expect("an end in time") {
        // Fails if the server has closed already, which the next read tells.
        let _ = raw.acknowledge(&frame);
        if let Some((last, code)) = frame.goaway() {
            assert_eq!(code, NO_ERROR, "{frame:?}");
            last_stream = Some(last);
        }
        if frame.kind != kind::HEADERS {
            continue;
        }
        let fields = raw.fields(&frame);
        let number = (frame.stream / 2) as usize;
        if let Some((_, status)) = fields.iter().find(|(name, _)| name == "grpc-status") {
            ended[number] = true;
            succeeded[number] = status == "0";
        }
        if !is_signalled {
            is_signalled = true;
            process.signal(Signal::TERM);
        }
    }
    let last_stream = last_stream.expect("a GOAWAY");
    let taken = (0..CALLS).filter(|number| stream_of(*number) <= last_stream);
    let unanswered: Vec<_> = taken.filter(|number| !ended[*number as usize]).collect();
    assert!(
        unanswered.is_empty(),
        "taken but not answered: {unanswered:?} (last {last_stream})"
    );
    let status = process.wait(STOP_TIMEOUT);
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status}");

    let process = Process::start(process.options().clone());
    let mut client = Client::connect(process.client_addr()).expect("a listener");
    for number in (0..CALLS).filter(|number| succeeded[*number as usize]) {
        let answer = client
            .range(&api::get(format!("key/{number}")))
            .expect("a read");
        assert_eq!(answer.count, 1, "key/{number} was acknowledged");
    }
}

#[test]
fn a_stop_ends_watches() {
    let dir = temp_dir();
    let mut process = Process::start(Options::new(dir.path().join("data")));
    let mut client = Client::connect(process.client_addr()).expect("a listener");
    let call = client.start(WATCH).expect("a call");
    let create = WatchCreateRequest {
        key: "k".into(),
        ..WatchCreateRequest::default()
    };
    let union = watch_request::RequestUnion::CreateRequest(create);
    client.send(
        call,
        &WatchRequest {
            request_union: Some(union),
        },
    );
    let created: WatchResponse = client.next(call).expect("no error").expect("an answer");
    assert!(created.created);
    process.signal(Signal::TERM);
    match client.next::<WatchResponse>(call) {
        Err(CallError::Status(status)) => assert_eq!(status.code, Code::Unavailable, "{status:?}"),
        Err(CallError::Lost(_)) if !is_etcore() => {}
        other => panic!("{other:?}"),
    }
    process.wait(STOP_TIMEOUT);
}
