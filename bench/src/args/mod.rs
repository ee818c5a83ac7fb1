//! The command line of `etcore-bench`.

mod flags;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::flags::ArgsError;
use self::flags::Flags;
use crate::agree::Agreement;
use crate::case::{Case, Settings, Sizes};
use crate::compare::Comparison;
use crate::extremes::{Extreme, ExtremeSizes, ExtremesRun};
use crate::floors::FloorsRun;
use crate::load::{Client, Extent, Load, Op, Order};
use crate::own::{OwnClient, key_space_max};
use crate::profile::ProfileRun;
use crate::server::ServerCommand;
use crate::single::SingleRun;
use crate::steady::{SteadyRun, SteadySizes};
use crate::tool::LoadTool;

/// Printed by `--help` and with each error.
pub const USAGE: &str = "\
usage: etcore-bench run --endpoint IP:PORT [--op put] …      load a server that runs already
       etcore-bench compare --a COMMAND --b COMMAND          two servers in turns, fresh directories
       etcore-bench floors --etcd COMMAND --etcore COMMAND   every promise with its figure, PASS or MISS
       etcore-bench steady --etcd COMMAND --etcore COMMAND   a prober while checkpoints and a compaction run
       etcore-bench extremes --etcd COMMAND --etcore COMMAND what etcd is worst at: crowds, stalled clients, maintenance
       etcore-bench agree --server COMMAND                   our client and etcd's on one server, in turns
       etcore-bench profile --server COMMAND                 where a put's microseconds go
       etcore-bench null-server [--listen URL] [--core N]    answers everything, does nothing
       etcore-bench disk [--count N] [--core N]              write + fdatasync of 4 KiB, by itself

COMMAND is a program with its own flags, split at blanks. Directory and URLs are added as etcd's flags, unless the
command holds placeholders: {data-dir}, {client-url}, {peer-url}.

run
  --op NAME               put, get, count, limit or null    (put)
  --conns N               connections                       (1)
  --depth N               in flight on each connection      (1)
  --in-flight N           in flight over all, instead
  --ops N                 measured requests                 (10000)
  --seconds S             measured time, instead; with both, until both are reached
  --warm-up-ops N         requests before                   (a tenth of --ops)
  --warm-up-seconds S     time before                       (a fifth of --seconds)
  --keys N                key space                         (10000)
  --order NAME            random, sequential or scattered   (random)
  --fill                  write every key once before
  --pid N                 the server, for its CPU time and memory
  --json                  one JSON line instead of the table

steady
  --keys N                keys                              (50000)
  --overwrites N          writes of each after its first, which the compaction takes away (10)
  --seconds S             least length of a phase           (20)
  --background-puts N     paced puts a second beside the prober, 0 for none (2000)

extremes
  --cases LIST            of watch,idle_watchers,stalled,keepalive,stampede,maintenance,starts (all)
  --watchers N            of one key                        (10000)
  --seconds S             least length of a measured part   (5)
  --stalled N             watchers that do not read         (1000)
  --leases N              that are kept alive               (10000)
  --stampede N            leases that end together          (1000000)
  --store-keys N          keys of the maintenance case, of 1000 B (1600000)
  --start-keys N          keys of the starts case           (1000000)

compare, floors, steady, extremes, agree, profile
  --client NAME           own or benchmark (compare, profile) (own)
  --benchmark PATH        etcd's tool                       (tests/compat/bin/benchmark; floors: not used)
  --rounds N              rounds                            (3)
  --cases LIST            compare: of put,range,put_depth1,prefix_get,prefix_count,prefix_limit,memory,idle
                          (put,range,put_depth1,idle); null and null_depth1 for null servers
  --conns N --clients N   connections, requests in flight   (100, 1000)
  --put-total N           measured puts                     (100000)
  --range-total N         measured reads                    (100000)
  --depth1-total N        measured puts with one client     (5000)
  --key-space N           keys filled in before             (10000)
  --prefix-keys N         keys of the large prefix          (100000)
  --prefix-total N        least measured requests on it     (200)
  --prefix-secs S         least time of these, own client   (3)
  --memory-keys N         keys of the memory case           (1000000)
  --idle-secs S           length of the idle case           (10)
  --server-core N|any     core of the server                (0)
  --folder PATH           where data directories are made   (the system's temporary folder)
  --limit-secs S          bound for one run of etcd's tool  (600)
  --small                 sizes that take a second, to see that it works

all clients
  --val-size BYTES        size of a value                   (256)
  --key-size BYTES        size of a key                     (8)
  --client-core N|any     core of the client                (1; run: any)
  --stall-secs S          give up without an answer         (60)
";

/// What the program was asked to do.
#[derive(Debug)]
pub enum Request {
    Help,
    Run(SingleRun),
    Compare(Comparison),
    Floors(FloorsRun),
    Steady(SteadyRun),
    Extremes(ExtremesRun),
    Agree(Agreement),
    Profile(ProfileRun),
    NullServer(NullServer),
    Disk(Disk),
}

#[derive(Debug, PartialEq, Eq)]
pub struct NullServer {
    pub listen: SocketAddr,
    pub core: Option<usize>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Disk {
    pub folder: PathBuf,
    pub core: Option<usize>,
    pub count: u32,
    pub is_json: bool,
}

const REAL: Sizes = Sizes {
    conn_count: 100,
    client_count: 1000,
    put_total: 100_000,
    range_total: 100_000,
    depth1_total: 5_000,
    key_size_bytes: 8,
    value_size_bytes: 256,
    key_space: 10_000,
    prefix_key_count: 100_000,
    // etcd counts a prefix of 100,000 keys some 80 times a second.
    prefix_total: 200,
    prefix_at_least: Duration::from_secs(3),
    memory_key_count: 1_000_000,
    idle: Duration::from_secs(10),
};

const SMALL: Sizes = Sizes {
    conn_count: 2,
    client_count: 10,
    put_total: 200,
    range_total: 200,
    depth1_total: 200,
    key_space: 200,
    prefix_key_count: 300,
    prefix_total: 100,
    prefix_at_least: Duration::from_millis(50),
    memory_key_count: 1_000,
    idle: Duration::from_millis(100),
    ..REAL
};

const REAL_STEADY: SteadySizes = SteadySizes {
    key_count: 50_000,
    // With their first writes these are 550,000 revisions, 500,000 of which nobody sees any more.
    overwrite_count: 10,
    phase: Duration::from_secs(20),
    background_puts_per_sec: 2_000,
    look: Duration::from_secs(1),
};

const SMALL_STEADY: SteadySizes = SteadySizes {
    key_count: 200,
    overwrite_count: 3,
    phase: Duration::from_millis(600),
    look: Duration::from_millis(20),
    ..REAL_STEADY
};

const REAL_EXTREMES: ExtremeSizes = ExtremeSizes {
    conn_count: 100,
    watcher_count: 10_000,
    measured: Duration::from_secs(5),
    idle_conn_count: 500,
    idle_streams_per_conn: 10,
    idle_watchers_per_stream: 20,
    settle: Duration::from_secs(2),
    stalled_count: 1_000,
    stalled_round_count: 5,
    lease_count: 10_000,
    keepalives_in_flight: 1_000,
    stampede_count: 1_000_000,
    maintenance_key_count: 1_600_000,
    maintenance_value_len: 1_000,
    start_key_count: 1_000_000,
};

const SMALL_EXTREMES: ExtremeSizes = ExtremeSizes {
    conn_count: 3,
    watcher_count: 30,
    measured: Duration::from_millis(200),
    idle_conn_count: 3,
    idle_streams_per_conn: 2,
    idle_watchers_per_stream: 2,
    settle: Duration::from_millis(50),
    stalled_count: 6,
    stalled_round_count: 1,
    lease_count: 30,
    keepalives_in_flight: 6,
    stampede_count: 200,
    maintenance_key_count: 4_000,
    maintenance_value_len: 500,
    start_key_count: 1_000,
};

/// A bound for counts, far above what anyone waits for.
const MANY: u64 = 1_000_000_000;

const ORDERS: [(&str, Order); 3] = [
    ("random", Order::Random),
    ("sequential", Order::Sequential),
    ("scattered", Order::Scattered),
];

impl Request {
    /// Reads a command line, without the program's name.
    ///
    /// # Errors
    /// [`ArgsError`] for whatever is unknown, missing or out of range.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, ArgsError> {
        let args: Vec<String> = args.into_iter().collect();
        if args.is_empty() || args.iter().any(|arg| arg == "--help" || arg == "-h") {
            return Ok(Self::Help);
        }
        let mut args = args.into_iter();
        let command = args.next().unwrap_or_default();
        let mut flags = Flags::parse(args)?;
        let request = match command.as_str() {
            "run" => Self::Run(single(&mut flags)?),
            "compare" => Self::Compare(comparison(&mut flags)?),
            "floors" => Self::Floors(floors(&mut flags)?),
            "steady" => Self::Steady(steady(&mut flags)?),
            "extremes" => Self::Extremes(extremes(&mut flags)?),
            "agree" => Self::Agree(agreement(&mut flags)?),
            "profile" => Self::Profile(profile(&mut flags)?),
            "null-server" => Self::NullServer(null_server(&mut flags)?),
            "disk" => Self::Disk(disk(&mut flags)?),
            _ => return Err(ArgsError::UnknownCommand(command)),
        };
        // A flag of another subcommand is as wrong as an unknown one.
        flags.finish()?;
        Ok(request)
    }
}

fn comparison(flags: &mut Flags) -> Result<Comparison, ArgsError> {
    let all = Case::ALL.map(|case| (case.name(), case));
    Ok(Comparison {
        a: flags.command("a")?,
        b: flags.command("b")?,
        cases: flags.list("cases", &Case::USUAL, &all)?,
        round_count: rounds(flags)?,
        settings: chosen_settings(flags)?,
    })
}

fn profile(flags: &mut Flags) -> Result<ProfileRun, ArgsError> {
    Ok(ProfileRun {
        server: flags.command("server")?,
        settings: chosen_settings(flags)?,
    })
}

fn agreement(flags: &mut Flags) -> Result<Agreement, ArgsError> {
    let core = flags.core("client-core", Some(1))?;
    Ok(Agreement {
        server: flags.command("server")?,
        tool: tool(flags, core, DEFAULT_TOOL)?,
        round_count: rounds(flags)?,
        settings: settings(flags, core)?,
    })
}

fn floors(flags: &mut Flags) -> Result<FloorsRun, ArgsError> {
    let core = flags.core("client-core", Some(1))?;
    // Without a path the half with etcd's tool is left out.
    let tool = match flags.text("benchmark") {
        Some(path) => Some(tool(flags, core, &path)?),
        None => None,
    };
    Ok(FloorsRun {
        etcd: flags.command("etcd")?,
        etcore: flags.command("etcore")?,
        tool,
        round_count: rounds(flags)?,
        settings: settings(flags, core)?,
    })
}

fn steady(flags: &mut Flags) -> Result<SteadyRun, ArgsError> {
    let core = flags.core("client-core", Some(1))?;
    let base = if flags.is_set("small") {
        SMALL_STEADY
    } else {
        REAL_STEADY
    };
    let settings = settings(flags, core)?;
    let Client::Own(client) = settings.client else {
        return Err(ArgsError::Contradiction("only our own client is paced"));
    };
    let keys_max = key_space_max(settings.sizes.key_size_bytes).min(MANY);
    Ok(SteadyRun {
        etcd: flags.command("etcd")?,
        etcore: flags.command("etcore")?,
        round_count: rounds(flags)?,
        client,
        settings,
        sizes: SteadySizes {
            key_count: flags.number("keys", base.key_count, 1..=keys_max)?,
            overwrite_count: flags.number("overwrites", base.overwrite_count, 0..=1_000)?,
            phase: flags.seconds("seconds", base.phase, 0.01..=3_600.0)?,
            background_puts_per_sec: flags.number(
                "background-puts",
                base.background_puts_per_sec,
                0..=100_000,
            )?,
            look: base.look,
        },
    })
}

fn extremes(flags: &mut Flags) -> Result<ExtremesRun, ArgsError> {
    let core = flags.core("client-core", Some(1))?;
    let base = if flags.is_set("small") {
        SMALL_EXTREMES
    } else {
        REAL_EXTREMES
    };
    let settings = settings(flags, core)?;
    let Client::Own(client) = settings.client else {
        return Err(ArgsError::Contradiction(
            "only our own client holds streams",
        ));
    };
    let keys_max = key_space_max(settings.sizes.key_size_bytes).min(MANY);
    Ok(ExtremesRun {
        etcd: flags.command("etcd")?,
        etcore: flags.command("etcore")?,
        cases: flags.list(
            "cases",
            &Extreme::ALL,
            &Extreme::ALL.map(|case| (case.name(), case)),
        )?,
        round_count: rounds(flags)?,
        client,
        settings,
        sizes: ExtremeSizes {
            watcher_count: flags.number("watchers", base.watcher_count, 1..=1_000_000)?,
            measured: flags.seconds("seconds", base.measured, 0.01..=3_600.0)?,
            stalled_count: flags.number("stalled", base.stalled_count, 1..=1_000_000)?,
            lease_count: flags.number("leases", base.lease_count, 1..=MANY)?,
            stampede_count: flags.number("stampede", base.stampede_count, 1..=MANY)?,
            maintenance_key_count: flags.number(
                "store-keys",
                base.maintenance_key_count,
                4..=keys_max,
            )?,
            start_key_count: flags.number("start-keys", base.start_key_count, 100..=keys_max)?,
            ..base
        },
    })
}

fn rounds(flags: &mut Flags) -> Result<u32, ArgsError> {
    flags.number("rounds", 3, 1..=1_000)
}

const DEFAULT_TOOL: &str = "tests/compat/bin/benchmark";

fn tool(flags: &mut Flags, core: Option<usize>, default: &str) -> Result<LoadTool, ArgsError> {
    let path = flags.text("benchmark");
    Ok(LoadTool {
        program: PathBuf::from(path.unwrap_or_else(|| default.to_owned())),
        core,
        time_limit: Duration::from_secs(flags.number("limit-secs", 600, 1..=86_400)?),
    })
}

fn own(flags: &mut Flags, core: Option<usize>) -> Result<OwnClient, ArgsError> {
    let default = Duration::from_secs(60);
    Ok(OwnClient {
        core,
        stall_limit: flags.seconds("stall-secs", default, 0.1..=86_400.0)?,
    })
}

/// Settings with the client that `--client` names.
fn chosen_settings(flags: &mut Flags) -> Result<Settings, ArgsError> {
    let core = flags.core("client-core", Some(1))?;
    let is_tool = flags.named("client", false, &[("own", false), ("benchmark", true)])?;
    let mut settings = settings(flags, core)?;
    if is_tool {
        settings.client = Client::Benchmark(tool(flags, core, DEFAULT_TOOL)?);
    }
    Ok(settings)
}

/// Settings with our own client.
fn settings(flags: &mut Flags, client_core: Option<usize>) -> Result<Settings, ArgsError> {
    let folder = flags.text("folder");
    Ok(Settings {
        client: Client::Own(own(flags, client_core)?),
        server_core: flags.core("server-core", Some(0))?,
        folder: folder.map_or_else(std::env::temp_dir, PathBuf::from),
        ready_limit: Duration::from_secs(60),
        sizes: sizes(flags)?,
    })
}

fn sizes(flags: &mut Flags) -> Result<Sizes, ArgsError> {
    let base = if flags.switch("small") { SMALL } else { REAL };
    let key_size_bytes = key_size(flags)?;
    let keys_max = key_space_max(key_size_bytes).min(MANY);
    let conn_count = flags.number("conns", base.conn_count, 1..=10_000)?;
    let client_count = flags.number("clients", base.client_count, 1..=100_000)?;
    if client_count < conn_count {
        return Err(FEWER_THAN_CONNS);
    }
    Ok(Sizes {
        conn_count,
        client_count,
        // Below a hundred requests there is no 99th percentile.
        put_total: flags.number("put-total", base.put_total, 100..=MANY)?,
        range_total: flags.number("range-total", base.range_total, 100..=MANY)?,
        depth1_total: flags.number("depth1-total", base.depth1_total, 100..=MANY)?,
        key_size_bytes,
        value_size_bytes: value_size(flags)?,
        key_space: flags.number("key-space", base.key_space, 100..=keys_max)?,
        prefix_key_count: flags.number("prefix-keys", base.prefix_key_count, 100..=keys_max)?,
        prefix_total: flags.number("prefix-total", base.prefix_total, 100..=MANY)?,
        prefix_at_least: flags.seconds("prefix-secs", base.prefix_at_least, 0.0..=3_600.0)?,
        memory_key_count: flags.number("memory-keys", base.memory_key_count, 100..=keys_max)?,
        idle: flags.seconds("idle-secs", base.idle, 0.01..=3_600.0)?,
    })
}

const FEWER_THAN_CONNS: ArgsError =
    ArgsError::Contradiction("there are fewer requests in flight than connections");

fn key_size(flags: &mut Flags) -> Result<usize, ArgsError> {
    flags.number("key-size", REAL.key_size_bytes, 2..=1 << 16)
}

fn value_size(flags: &mut Flags) -> Result<usize, ArgsError> {
    flags.number("val-size", REAL.value_size_bytes, 1..=1 << 20)
}

fn single(flags: &mut Flags) -> Result<SingleRun, ArgsError> {
    let core = flags.core("client-core", None)?;
    Ok(SingleRun {
        endpoint: flags
            .parsed("endpoint")?
            .ok_or(ArgsError::Missing("endpoint"))?,
        server_pid: flags.parsed("pid")?,
        client: own(flags, core)?,
        is_filled: flags.switch("fill"),
        is_json: flags.switch("json"),
        load: single_load(flags)?,
    })
}

fn single_load(flags: &mut Flags) -> Result<Load, ArgsError> {
    let key_size_bytes = key_size(flags)?;
    let keys_max = key_space_max(key_size_bytes).min(MANY);
    let conn_count = flags.number("conns", 1, 1..=10_000)?;
    let depth = flags.number("depth", 1, 1..=100_000)?;
    let client_count = flags.number("in-flight", conn_count * depth, 1..=10_000_000)?;
    if client_count < conn_count {
        return Err(FEWER_THAN_CONNS);
    }
    let (warm_up, measured) = extents(flags)?;
    Ok(Load {
        op: flags.named("op", Op::Put, &Op::ALL.map(|op| (op.name(), op)))?,
        order: flags.named("order", Order::Random, &ORDERS)?,
        key_space: flags.number("keys", 10_000.min(keys_max), 1..=keys_max)?,
        key_size_bytes,
        value_size_bytes: value_size(flags)?,
        conn_count,
        client_count,
        warm_up,
        measured,
    })
}

/// Warm-up and measured part: by requests unless seconds are given.
fn extents(flags: &mut Flags) -> Result<(Extent, Extent), ArgsError> {
    let at_least = flags.seconds("seconds", Duration::ZERO, 0.0..=86_400.0)?;
    let default = if at_least.is_zero() { 10_000 } else { 1 };
    let requests = flags.number("ops", default, 1..=MANY)?;
    let measured = Extent { requests, at_least };
    let warm_up = Extent {
        requests: flags.number("warm-up-ops", requests / 10, 0..=MANY)?,
        at_least: flags.seconds("warm-up-seconds", at_least / 5, 0.0..=86_400.0)?,
    };
    Ok((warm_up, measured))
}

fn null_server(flags: &mut Flags) -> Result<NullServer, ArgsError> {
    let url = flags.text("listen");
    let url = url.unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let address = url.strip_prefix("http://").unwrap_or(&url);
    let Ok(listen) = address.parse() else {
        return Err(ArgsError::Value {
            name: "listen",
            value: url,
        });
    };
    Ok(NullServer {
        listen,
        core: flags.core("core", None)?,
    })
}

fn disk(flags: &mut Flags) -> Result<Disk, ArgsError> {
    let folder = flags.text("folder");
    Ok(Disk {
        folder: folder.map_or_else(std::env::temp_dir, PathBuf::from),
        core: flags.core("core", None)?,
        count: flags.number("count", 2_000, 1..=10_000_000)?,
        is_json: flags.switch("json"),
    })
}

/// The null server as a command for [`ServerCommand::start`]: this very program.
///
/// # Errors
/// If the system does not tell where this program is.
pub fn null_server_command() -> std::io::Result<ServerCommand> {
    Ok(ServerCommand {
        program: std::env::current_exe()?,
        args: ["null-server", "--listen", "{client-url}"]
            .map(str::to_owned)
            .to_vec(),
    })
}
