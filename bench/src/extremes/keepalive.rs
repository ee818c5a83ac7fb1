//! Keep-alives on streams, as Go's client sends them: one stream for each connection, many leases on it.

use std::time::{Duration, Instant};

use net::Limits;
use prost::Message;
use proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse};

use super::{ExtremesRun, Figures, per_cpu, span_figures};
use crate::case::CaseError;
use crate::own::crowd::{Crowd, Said, Word, fail_unless_ok};
use crate::own::{OwnError, thread_cpu};
use crate::process;
use crate::server::ServerCommand;
use crate::stopwatch::Stopwatch;

pub(super) const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub(super) const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// Longer than any run.
pub(super) const LONG_TTL_SECS: i64 = 36_000;

/// Of the measured time, before it.
const WARM_UP_SHARE: u32 = 5;

pub(super) fn measure(run: &ExtremesRun, command: &ServerCommand) -> Result<Figures, CaseError> {
    let server = run.start(command)?;
    let mut stopwatch = Stopwatch::of(server.pid());
    let (conn_count, lease_count) = (run.sizes.conn_count, run.sizes.lease_count);
    let (mut figures, client_cpu) = process::with_core(run.client.core, || {
        let stall_limit = run.client.stall_limit;
        let limits = Limits::client();
        let mut crowd = Crowd::connect(server.endpoint(), conn_count, limits, stall_limit)?;
        crowd.ask_many(GRANT, lease_count, |no| LeaseGrantRequest {
            ttl: LONG_TTL_SECS,
            id: lease_id(no),
        })?;
        let mut asking = Asking::start(crowd, conn_count, lease_count)?;
        for no in 0..run.sizes.keepalives_in_flight {
            asking.ask(no % conn_count);
        }
        asking.go_on(run.sizes.measured / WARM_UP_SHARE)?;
        let cpu_before = thread_cpu();
        stopwatch.start()?;
        let answered_count = asking.go_on(run.sizes.measured)?;
        stopwatch.stop()?;
        let client_cpu = thread_cpu().saturating_sub(cpu_before);
        let span = stopwatch.span()?;
        let [by_cpu, by_clock] = per_cpu(&span, answered_count);
        let figures = Figures::from([
            ("keepalives_per_server_cpu_sec", by_cpu),
            ("keepalives_per_sec", by_clock),
        ]);
        Ok::<_, CaseError>((figures, client_cpu))
    })?;
    figures.extend(span_figures(&stopwatch.span()?, client_cpu)?);
    server.stop()?;
    Ok(figures)
}

fn lease_id(no: u64) -> i64 {
    i64::try_from(no + 1).unwrap_or(i64::MAX)
}

/// The streams. Each asks for its leases in turn.
struct Asking {
    crowd: Crowd,
    calls: Vec<net::CallId>,
    /// How often each stream has asked.
    asked: Vec<u64>,
    lease_count: u64,
}

impl Asking {
    fn start(mut crowd: Crowd, stream_count: usize, lease_count: u64) -> Result<Self, OwnError> {
        let calls: Result<Vec<_>, _> = (0..stream_count)
            .map(|member| crowd.start(member, KEEP_ALIVE))
            .collect();
        Ok(Self {
            crowd,
            calls: calls?,
            asked: vec![0; stream_count],
            lease_count,
        })
    }

    /// Has a stream ask for its next lease: every `stream_count`th is its own.
    fn ask(&mut self, member: usize) {
        let stream_count = self.calls.len() as u64;
        let own_count = (self.lease_count / stream_count).max(1);
        let no = self.asked[member] % own_count * stream_count + member as u64;
        self.asked[member] += 1;
        let id = lease_id(no % self.lease_count);
        let call = self.calls[member];
        self.crowd.say(member, call, &LeaseKeepAliveRequest { id });
    }

    /// Each answer is followed by a question; returns the number of answers.
    fn go_on(&mut self, at_least: Duration) -> Result<u64, OwnError> {
        let begun = Instant::now();
        let mut answered_count = 0;
        let mut words = Vec::new();
        while begun.elapsed() < at_least {
            self.crowd.wait(Duration::MAX, &mut words)?;
            for word in words.drain(..) {
                let member = word.member;
                if renewed(word)? <= 0 {
                    return Err(OwnError::Answer("a living lease is gone"));
                }
                answered_count += 1;
                self.ask(member);
            }
        }
        Ok(answered_count)
    }
}

/// The time to live that an answer tells; the end of a stream is a failure.
pub(super) fn renewed(word: Word) -> Result<i64, OwnError> {
    match word.said {
        Said::Message(message) => {
            let answer = LeaseKeepAliveResponse::decode(message);
            let answer = answer.map_err(|_| OwnError::Answer("it is no message"))?;
            Ok(answer.ttl)
        }
        Said::Ended(status) => {
            fail_unless_ok(&status)?;
            Err(OwnError::Answer("a stream of keep-alives has ended"))
        }
    }
}
