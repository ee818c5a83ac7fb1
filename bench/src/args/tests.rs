//! Command lines that are understood, and those that are not.

use super::*;

fn parse(line: &str) -> Result<Request, ArgsError> {
    Request::parse(line.split_ascii_whitespace().map(str::to_owned))
}

fn compare(line: &str) -> Comparison {
    match parse(&format!("compare {line}")).unwrap() {
        Request::Compare(comparison) => comparison,
        other => panic!("{other:?}"),
    }
}

fn run(line: &str) -> SingleRun {
    match parse(&format!("run --endpoint 127.0.0.1:1 {line}")).unwrap() {
        Request::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_the_real_sizes() {
    let comparison = compare("--a etcd --b=etcore");
    assert_eq!(comparison.cases, Case::USUAL);
    assert_eq!(comparison.round_count, 3);
    let settings = comparison.settings;
    assert_eq!(settings.sizes, REAL);
    assert_eq!(
        (settings.server_core, settings.client.core()),
        (Some(0), Some(1))
    );
    assert_eq!(settings.client.name(), "own");
}

#[test]
fn flags_beat_small_sizes() {
    let line = "--small --a x --b y --put-total 300 --server-core any --cases idle,put \
                --client benchmark --benchmark tool --client-core 3";
    let comparison = compare(line);
    assert_eq!(comparison.settings.sizes.put_total, 300);
    assert_eq!(comparison.settings.sizes.range_total, 200);
    assert_eq!(comparison.settings.server_core, None);
    assert_eq!(comparison.settings.client.name(), "benchmark");
    assert_eq!(comparison.settings.client.core(), Some(3));
    assert_eq!(comparison.cases, [Case::Idle, Case::Put]);
}

#[test]
fn a_run_is_one_request_at_a_time_unless_told() {
    let plain = run("");
    assert_eq!(plain.load.op, Op::Put);
    assert_eq!((plain.load.conn_count, plain.load.client_count), (1, 1));
    assert_eq!(plain.load.measured, Extent::requests(10_000));
    assert_eq!(plain.load.warm_up, Extent::requests(1_000));
    assert!(!plain.is_filled && !plain.is_json && plain.server_pid.is_none());

    let deep = run("--conns 100 --depth 10 --op get --fill --json --pid 7 --client-core 1");
    assert_eq!((deep.load.conn_count, deep.load.client_count), (100, 1_000));
    assert_eq!(deep.load.op, Op::Get);
    assert!(deep.is_filled && deep.is_json);
    assert_eq!((deep.server_pid, deep.client.core), (Some(7), Some(1)));
    assert_eq!(run("--conns 3 --in-flight 7").load.client_count, 7);
}

#[test]
fn seconds_take_the_place_of_a_count() {
    let load = run("--seconds 5").load;
    let secs = Duration::from_secs;
    assert_eq!(
        (load.measured.requests, load.measured.at_least),
        (1, secs(5))
    );
    assert_eq!((load.warm_up.requests, load.warm_up.at_least), (0, secs(1)));
    let both = run("--seconds 5 --ops 100 --warm-up-seconds 2 --warm-up-ops 3").load;
    assert_eq!(
        (both.measured.requests, both.measured.at_least),
        (100, secs(5))
    );
    assert_eq!((both.warm_up.requests, both.warm_up.at_least), (3, secs(2)));
}

#[test]
fn the_other_commands() {
    let Request::Floors(floors) = parse("floors --etcd a --etcore b").unwrap() else {
        panic!("not floors");
    };
    assert!(floors.tool.is_none(), "only if it is named");
    let Request::Floors(floors) = parse("floors --etcd a --etcore b --benchmark t").unwrap() else {
        panic!("not floors");
    };
    assert_eq!(floors.tool.unwrap().program, PathBuf::from("t"));
    let Request::Steady(steady) = parse("steady --etcd a --etcore b").unwrap() else {
        panic!("not steady");
    };
    assert_eq!(steady.sizes, REAL_STEADY);
    let line = "steady --etcd a --etcore b --small --background-puts 0 --seconds 2";
    let Request::Steady(steady) = parse(line).unwrap() else {
        panic!("not steady");
    };
    let wanted = SteadySizes {
        background_puts_per_sec: 0,
        phase: Duration::from_secs(2),
        ..SMALL_STEADY
    };
    assert_eq!(steady.sizes, wanted);
    assert_eq!(steady.settings.sizes, SMALL);
    let Request::Agree(agreement) = parse("agree --server a").unwrap() else {
        panic!("not agree");
    };
    assert_eq!(agreement.tool.program, PathBuf::from(DEFAULT_TOOL));
    let Request::NullServer(server) = parse("null-server --listen http://127.0.0.1:5").unwrap()
    else {
        panic!("not null-server");
    };
    assert_eq!(server.listen.port(), 5);
    assert!(matches!(
        parse("disk --count 5").unwrap(),
        Request::Disk(Disk { count: 5, .. })
    ));
    assert!(matches!(
        parse("profile --server etcd").unwrap(),
        Request::Profile(_)
    ));
    for line in ["", "--help", "run -h"] {
        assert!(matches!(parse(line).unwrap(), Request::Help), "{line:?}");
    }
}

#[test]
fn bad_lines_are_refused() {
    assert_eq!(parse("compare --b y").unwrap_err(), ArgsError::Missing("a"));
    assert_eq!(
        parse("run --op put").unwrap_err(),
        ArgsError::Missing("endpoint")
    );
    assert_eq!(
        parse("ran").unwrap_err(),
        ArgsError::UnknownCommand("ran".to_owned())
    );
    for line in [
        "compare --a x --b y --colour red",
        "compare a b",
        "compare --a x --b y --server z",
        "profile --server x --rounds 2",
        "disk --endpoint 127.0.0.1:1",
    ] {
        assert!(matches!(parse(line), Err(ArgsError::Unknown(_))), "{line}");
    }
    for flag in [
        "--rounds 0",
        "--put-total 99",
        "--idle-secs NaN",
        "--cases all",
        "--conns -1",
        "--client mine",
        "--key-size 1",
        "--key-size 4 --key-space 1001",
    ] {
        let line = format!("compare --a x --b y {flag}");
        assert!(
            matches!(parse(&line), Err(ArgsError::Value { .. })),
            "{line}"
        );
    }
    assert_eq!(
        parse("run --endpoint 127.0.0.1:1 --conns 3 --in-flight 2").unwrap_err(),
        FEWER_THAN_CONNS
    );
}
