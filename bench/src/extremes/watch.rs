//! Many watchers of one key: what it costs to tell them of a put.
//!
//! A put is sent when the one before was answered and everybody told of it: so nothing gathers, and each event is a
//! message of its own. That is the dearest way to be told.

use std::time::{Duration, Instant};

use bytes::Bytes;
use net::Limits;
use prost::Message;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest};

use super::{ExtremesRun, Figures, as_ns, per_cpu, quantile_ms, span_figures};
use crate::case::CaseError;
use crate::own::crowd::{Crowd, Said, Word, fail_unless_ok};
use crate::own::{OwnError, new_histogram, thread_cpu};
use crate::process;
use crate::server::ServerCommand;
use crate::stopwatch::Stopwatch;

pub(super) const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub(super) const PUT: &str = "/etcdserverpb.KV/Put";

const KEY: Bytes = Bytes::from_static(b"/registry/leases/one-that-all-watch");

/// Puts before those that count.
const WARM_UP_PUTS: u64 = 10;

/// The fields of a `WatchResponse` that are looked at; prost passes over the others.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Told {
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(bool, tag = "4")]
    canceled: bool,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    events: Vec<Bytes>,
}

pub(super) fn measure(run: &ExtremesRun, command: &ServerCommand) -> Result<Figures, CaseError> {
    let server = run.start(command)?;
    let mut stopwatch = Stopwatch::of(server.pid());
    let (conn_count, watcher_count) = (run.sizes.conn_count, run.sizes.watcher_count);
    let (mut figures, client_cpu) = process::with_core(run.client.core, || {
        let stall_limit = run.client.stall_limit;
        let mut crowd = Crowd::connect(
            server.endpoint(),
            conn_count + 1,
            Limits::client(),
            stall_limit,
        )?;
        create(&mut crowd, conn_count, watcher_count, |_| watch_key(KEY))?;
        let value = Bytes::from(vec![b'v'; run.settings.sizes.value_size_bytes]);
        let mut puts = Puts {
            crowd,
            putter: conn_count,
            watcher_count,
            value,
        };
        for _ in 0..WARM_UP_PUTS {
            puts.one()?;
        }
        let mut latencies = new_histogram().ok_or(OwnError::Answer("no histogram"))?;
        let cpu_before = thread_cpu();
        stopwatch.start()?;
        let begun = Instant::now();
        let mut put_count = 0;
        while begun.elapsed() < run.sizes.measured {
            latencies.saturating_record(as_ns(puts.one()?));
            put_count += 1;
        }
        stopwatch.stop()?;
        let client_cpu = thread_cpu().saturating_sub(cpu_before);
        let span = stopwatch.span()?;
        let [by_cpu, by_clock] = per_cpu(&span, put_count * watcher_count as u64);
        let figures = Figures::from([
            ("events_per_server_cpu_sec", by_cpu),
            ("events_per_sec", by_clock),
            ("until_all_told_p50_ms", quantile_ms(&latencies, 0.5)),
            ("until_all_told_max_ms", quantile_ms(&latencies, 1.0)),
        ]);
        Ok::<_, CaseError>((figures, client_cpu))
    })?;
    figures.extend(span_figures(&stopwatch.span()?, client_cpu)?);
    server.stop()?;
    Ok(figures)
}

/// Puts, each to its end.
struct Puts {
    crowd: Crowd,
    putter: usize,
    watcher_count: usize,
    value: Bytes,
}

impl Puts {
    /// One put, until it was answered and all watchers were told.
    fn one(&mut self) -> Result<Duration, OwnError> {
        let put = PutRequest {
            key: KEY,
            value: self.value.clone(),
            ..PutRequest::default()
        };
        let begun = Instant::now();
        self.crowd.call(self.putter, PUT, &put)?;
        let (mut is_answered, mut told_count) = (false, 0);
        let mut words = Vec::new();
        while !is_answered || told_count < self.watcher_count {
            self.crowd.wait(Duration::MAX, &mut words)?;
            for word in words.drain(..) {
                match word.said {
                    Said::Ended(status) if word.member == self.putter => {
                        fail_unless_ok(&status)?;
                        is_answered = true;
                    }
                    Said::Message(_) if word.member == self.putter => {}
                    _ => told_count += told(word)?.events.len(),
                }
            }
        }
        if told_count > self.watcher_count {
            return Err(OwnError::Answer("a watcher was told twice"));
        }
        Ok(begun.elapsed())
    }
}

pub(super) fn watch_key(key: Bytes) -> WatchCreateRequest {
    WatchCreateRequest {
        key,
        ..WatchCreateRequest::default()
    }
}

/// What a stream of watchers says; its end is a failure.
pub(super) fn told(word: Word) -> Result<Told, OwnError> {
    match word.said {
        Said::Message(message) => {
            let told = Told::decode(message).map_err(|_| OwnError::Answer("it is no message"))?;
            if told.canceled {
                return Err(OwnError::Answer("a watcher was cancelled"));
            }
            Ok(told)
        }
        Said::Ended(status) => {
            fail_unless_ok(&status)?;
            Err(OwnError::Answer("a stream of watchers has ended"))
        }
    }
}

/// Begins a stream on each of the first `stream_count` members, shares the watchers among them, and awaits them.
pub(super) fn create(
    crowd: &mut Crowd,
    stream_count: usize,
    watcher_count: usize,
    request: impl Fn(usize) -> WatchCreateRequest,
) -> Result<(), OwnError> {
    let mut calls = Vec::new();
    for member in 0..stream_count {
        calls.push((member, crowd.start(member, WATCH)?));
    }
    create_on(crowd, &calls, watcher_count, request)
}

/// Shares watchers among streams that have begun, and awaits them.
pub(super) fn create_on(
    crowd: &mut Crowd,
    calls: &[(usize, net::CallId)],
    watcher_count: usize,
    request: impl Fn(usize) -> WatchCreateRequest,
) -> Result<(), OwnError> {
    for (no, (member, call)) in (0..watcher_count).zip(calls.iter().cycle()) {
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(request(no))),
        };
        crowd.say(*member, *call, &create);
    }
    let mut created_count = 0;
    let mut words = Vec::new();
    while created_count < watcher_count {
        crowd.wait(Duration::MAX, &mut words)?;
        for word in words.drain(..) {
            created_count += usize::from(told(word)?.created);
        }
    }
    Ok(())
}
