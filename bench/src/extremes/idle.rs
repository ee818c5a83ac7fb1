//! Memory that a server keeps for connections, streams and watchers with nothing to do.
//!
//! ```text
//!   connections, each of which was asked once ─► on each some streams with one watcher ─► more watchers on each stream
//! ```
//!
//! What a step adds is divided by what it added: the last step gives a watcher, which is taken off the step before for a
//! stream by itself. Keys differ, as those of idle watchers do.

use std::thread;

use bytes::Bytes;
use net::Limits;
use proto::etcdserverpb::RangeRequest;

use super::watch::{self, WATCH, watch_key};
use super::{ExtremesRun, Figures};
use crate::case::CaseError;
use crate::own::crowd::Crowd;
use crate::process;
use crate::server::{RunningServer, ServerCommand};
use crate::usage::Memory;

const RANGE: &str = "/etcdserverpb.KV/Range";

pub(super) fn measure(run: &ExtremesRun, command: &ServerCommand) -> Result<Figures, CaseError> {
    let server = run.start(command)?;
    let sizes = &run.sizes;
    let figures = process::with_core(run.client.core, || {
        let key = |no: usize| {
            watch_key(Bytes::from(format!(
                "/registry/pods/ns-{no:04}/pod-{no:09}"
            )))
        };
        let before = settled(run, &server)?;
        let conn_count = sizes.idle_conn_count;
        let mut crowd = Crowd::connect(
            server.endpoint(),
            conn_count,
            Limits::client(),
            run.client.stall_limit,
        )?;
        for member in 0..conn_count {
            let read = RangeRequest {
                key: Bytes::from_static(b"k"),
                ..RangeRequest::default()
            };
            crowd.ask(member, RANGE, &read)?;
        }
        let connected = settled(run, &server)?;
        let mut calls = Vec::new();
        for _ in 0..sizes.idle_streams_per_conn {
            for member in 0..conn_count {
                calls.push((member, crowd.start(member, WATCH)?));
            }
        }
        let stream_count = calls.len();
        watch::create_on(&mut crowd, &calls, stream_count, key)?;
        let streaming = settled(run, &server)?;
        let more_count = stream_count * sizes.idle_watchers_per_stream;
        watch::create_on(&mut crowd, &calls, more_count, |no| key(stream_count + no))?;
        let watching = settled(run, &server)?;
        let each =
            |from: u64, to: u64, count: usize| to.saturating_sub(from) as f64 / count.max(1) as f64;
        let per_watcher = |of: fn(&Memory) -> u64| each(of(&streaming), of(&watching), more_count);
        let per_stream = |of: fn(&Memory) -> u64| {
            each(of(&connected), of(&streaming), stream_count) - per_watcher(of)
        };
        let per_connection = |of: fn(&Memory) -> u64| each(of(&before), of(&connected), conn_count);
        let anon: fn(&Memory) -> u64 = |memory| memory.anon_bytes;
        let resident: fn(&Memory) -> u64 = |memory| memory.resident_bytes;
        Ok::<_, CaseError>(Figures::from([
            ("connection_anon_bytes", per_connection(anon)),
            ("connection_rss_bytes", per_connection(resident)),
            ("stream_anon_bytes", per_stream(anon)),
            ("stream_rss_bytes", per_stream(resident)),
            ("watcher_anon_bytes", per_watcher(anon)),
            ("watcher_rss_bytes", per_watcher(resident)),
            (
                "all_anon_mib",
                watching.anon_bytes as f64 / (1 << 20) as f64,
            ),
        ]))
    })?;
    server.stop()?;
    Ok(figures)
}

/// The server's memory after it was left alone.
fn settled(run: &ExtremesRun, server: &RunningServer) -> Result<Memory, CaseError> {
    thread::sleep(run.sizes.settle);
    Ok(Memory::of(server.pid())?)
}
