//! Puts beside watchers whose clients have stopped to read, and the same puts without them.
//!
//! The stalled ones watch all keys that are put, on connections with gRPC's usual windows, and read nothing after their
//! creation. By the time that is measured, fill and warm-up have filled windows, sockets and whatever a server queues.

use bytes::Bytes;
use net::Limits;
use proto::etcdserverpb::WatchCreateRequest;

use super::{ExtremesRun, Figures, watch};
use crate::case::{Case, CaseError};
use crate::load::Client;
use crate::own::OwnError;
use crate::own::crowd::Crowd;
use crate::server::{ServerCommand, http_get};
use crate::stopwatch::Stopwatch;

/// gRPC's window, of a stream and of a connection.
const WINDOW: u32 = 64 * 1024 - 1;

const SLOW_WATCHERS: &str = "etcd_debugging_mvcc_slow_watcher_total ";

/// Which of the two comes first changes from round to round, as the machine drifts.
pub(super) fn measure(
    run: &ExtremesRun,
    command: &ServerCommand,
    round: u32,
) -> Result<Figures, CaseError> {
    let mut figures = Figures::new();
    let order = if round.is_multiple_of(2) {
        [false, true]
    } else {
        [true, false]
    };
    for is_stalled in order {
        figures.extend(measure_one(run, command, is_stalled)?);
    }
    Ok(figures)
}

fn measure_one(
    run: &ExtremesRun,
    command: &ServerCommand,
    is_stalled: bool,
) -> Result<Figures, CaseError> {
    let server = run.start(command)?;
    let mut stopwatch = Stopwatch::of(server.pid());
    let stalled = if is_stalled {
        Some(stall(run, server.endpoint())?)
    } else {
        None
    };
    let client = Client::Own(run.client);
    let load = run.settings.sizes.load(Case::Put);
    client.fill(&load, server.endpoint())?;
    let result = client.run(&load, server.endpoint(), &mut stopwatch)?;
    let span = stopwatch.span()?;
    let on_cpu = span.server.map_or(0.0, |usage| usage.on_cpu.as_secs_f64());
    let cpu_us = on_cpu * 1e6 / load.measured.requests as f64;
    let p99_us = result.report.p99_secs.unwrap_or(f64::NAN) * 1e6;
    let foreign = span.foreign_percent(result.client_cpu)?;
    let figures = if is_stalled {
        Figures::from([
            ("stalled_server_cpu_us_per_put", cpu_us),
            ("stalled_put_p99_us", p99_us),
            ("stalled_foreign_cpu_percent", foreign),
            ("slow_watchers", slow_watchers(server.endpoint())?),
        ])
    } else {
        Figures::from([
            ("control_server_cpu_us_per_put", cpu_us),
            ("control_put_p99_us", p99_us),
            ("control_foreign_cpu_percent", foreign),
        ])
    };
    drop(stalled);
    server.stop()?;
    Ok(figures)
}

/// Watchers of all keys, of which nobody reads any more.
fn stall(run: &ExtremesRun, endpoint: std::net::SocketAddr) -> Result<Crowd, OwnError> {
    let limits = Limits {
        stream_window: WINDOW,
        connection_window: WINDOW,
        ..Limits::client()
    };
    let conn_count = run.sizes.conn_count;
    let mut crowd = Crowd::connect(endpoint, conn_count, limits, run.client.stall_limit)?;
    watch::create(&mut crowd, conn_count, run.sizes.stalled_count, |_| {
        WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..WatchCreateRequest::default()
        }
    })?;
    for member in 0..conn_count {
        crowd.stop_listening(member)?;
    }
    Ok(crowd)
}

/// Those that the server calls slow.
fn slow_watchers(endpoint: std::net::SocketAddr) -> Result<f64, CaseError> {
    let page = http_get(endpoint, "/metrics")?;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(SLOW_WATCHERS));
    Ok(line
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0.0))
}
