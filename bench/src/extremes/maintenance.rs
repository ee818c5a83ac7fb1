//! A prober while a large store is compacted, sent as a snapshot, and defragmented.
//!
//! ```text
//!   fill in scattered order; three quarters of the keys deleted by ranges, so each page of the file keeps some of its pairs
//!   quiet │ compaction of all that, and a snapshot │ defragmentation           the prober all the while, each ms
//! ```
//!
//! The prober is that of `steady`. What a server refuses meanwhile is counted and asked no more; latencies are of what was
//! answered. Beside the errands a [`Bystander`] tells what of the lateness is the machine's.

use std::time::Duration;

use net::Limits;
use proto::etcdserverpb::DeleteRangeRequest;

use super::{ExtremesRun, Figures};
use crate::case::CaseError;
use crate::load::{Client, Extent, Load, Op, Order};
use crate::own::bystander::Bystander;
use crate::own::crowd::Crowd;
use crate::own::errand::Errand;
use crate::own::paced::{self, Pace, PacedResult, ProbeLatencies};
use crate::own::{self, OwnError};
use crate::process;
use crate::server::{RunningServer, ServerCommand};
use crate::steady::{quantile_us, wait_quiet};
use crate::stopwatch::Stopwatch;

const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";

/// One in so many keys stays.
const STAYING_SHARE: u64 = 4;
/// Keys that one request deletes.
const DELETED_AT_ONCE: u64 = 2_000;
/// Such requests in flight: etcd takes longer for more than it lets them wait.
const DELETES_AT_ONCE: usize = 4;

/// Above what is written here; etcd's default is 2 GiB.
const QUOTA: &str = "--quota-backend-bytes=8589934592";

/// How long a look at the server's CPU time takes before it counts as quiet.
const LOOK: Duration = Duration::from_millis(500);

pub(super) fn measure(run: &ExtremesRun, command: &ServerCommand) -> Result<Figures, CaseError> {
    let mut command = command.clone();
    command.args.push(QUOTA.to_owned());
    let server = run.start(&command)?;
    let endpoint = server.endpoint();
    let load = fill_load(run);
    Client::Own(run.client).run(&load, endpoint, &mut Stopwatch::of_nobody())?;
    delete_most(run, &server)?;
    let revision = own::revision(endpoint)?;
    wait_quiet(server.pid(), LOOK)?;
    let before = server.store_len()?;
    let quiet = probe(run, &server, Vec::new())?;
    let errands = vec![
        vec![Errand::Compact(revision), Errand::Snapshot],
        vec![Errand::Defragment],
    ];
    let bystander = Bystander::start(run.settings.server_core);
    let busy = probe(run, &server, errands)?;
    let machine = bystander.stop()?;
    wait_quiet(server.pid(), LOOK)?;
    let after = server.store_len()?;
    server.stop()?;
    let mib = |len: u64| len as f64 / (1 << 20) as f64;
    let mut figures = Figures::from([
        ("file_before_mib", mib(before)),
        ("file_after_mib", mib(after)),
        (
            "late_p999_us",
            busy.lateness.value_at_quantile(0.999) as f64 / 1e3,
        ),
        ("late_max_us", busy.lateness.max() as f64 / 1e3),
        ("machine_p999_us", quantile_us(&machine, 0.999)),
        ("machine_max_us", quantile_us(&machine, 1.0)),
        ("refused_count", busy.refused_count as f64),
    ]);
    for done in &busy.errands {
        let name = match done.errand {
            Errand::Compact(_) => "compaction_secs",
            Errand::Snapshot => "snapshot_secs",
            Errand::Defragment => "defragmentation_secs",
        };
        figures.insert(name, done.took.as_secs_f64());
    }
    let mut all = ProbeLatencies::new()?;
    busy.beside.iter().for_each(|turn| all.add(turn));
    let names = [
        ["quiet_p999_us", "quiet_max_us"],
        ["prober_p999_us", "prober_max_us"],
        ["while_compacting_p999_us", "while_compacting_max_us"],
        ["while_defragmenting_p999_us", "while_defragmenting_max_us"],
    ];
    let of = [
        Some(&quiet.all),
        Some(&all),
        busy.beside.first(),
        busy.beside.get(1),
    ];
    for ([p999, max], latencies) in names.into_iter().zip(of) {
        if let Some(latencies) = latencies {
            let both = latencies.both();
            figures.insert(p999, quantile_us(&both, 0.999));
            figures.insert(max, quantile_us(&both, 1.0));
        }
    }
    Ok(figures)
}

fn fill_load(run: &ExtremesRun) -> Load {
    let sizes = &run.settings.sizes;
    let key_count = run.sizes.maintenance_key_count;
    Load {
        op: Op::Put,
        order: Order::Scattered,
        key_space: key_count,
        key_size_bytes: sizes.key_size_bytes,
        value_size_bytes: run.sizes.maintenance_value_len,
        conn_count: sizes.conn_count,
        client_count: sizes.client_count,
        warm_up: Extent::requests(0),
        measured: Extent::requests(key_count),
    }
}

fn delete_most(run: &ExtremesRun, server: &RunningServer) -> Result<(), CaseError> {
    let (key_count, key_len) = (
        run.sizes.maintenance_key_count,
        run.settings.sizes.key_size_bytes,
    );
    let first = key_count / STAYING_SHARE;
    let request_count = (key_count - first).div_ceil(DELETED_AT_ONCE);
    let key = |no| own::key(no, key_len);
    process::with_core(run.client.core, || {
        let stall_limit = run.client.stall_limit;
        let mut crowd = Crowd::connect(server.endpoint(), 1, Limits::client(), stall_limit)?;
        crowd.ask_some(DELETE_RANGE, request_count, DELETES_AT_ONCE, |no| {
            DeleteRangeRequest {
                key: key(first + no * DELETED_AT_ONCE),
                range_end: key(key_count.min(first + (no + 1) * DELETED_AT_ONCE)),
                ..DeleteRangeRequest::default()
            }
        })?;
        Ok::<_, OwnError>(())
    })?;
    Ok(())
}

fn probe(
    run: &ExtremesRun,
    server: &RunningServer,
    errands: Vec<Vec<Errand>>,
) -> Result<PacedResult, CaseError> {
    let fill = fill_load(run);
    let pace = Pace {
        load: Load {
            order: Order::Random,
            key_space: (fill.key_space / STAYING_SHARE).max(1),
            ..fill
        },
        background_puts_per_sec: 0,
        errands,
        endures_refusals: true,
        at_least: run.sizes.measured,
    };
    let mut stopwatch = Stopwatch::of(server.pid());
    let result = paced::run(&run.client, &pace, server.endpoint(), &mut stopwatch);
    Ok(result?)
}
