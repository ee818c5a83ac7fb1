//! What the kernel knows about this process, read at each scrape.
//!
//! These files are made by the kernel from memory; reading all of them takes well under a millisecond.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::exposition::{Exposition, Type};

/// The unit of times in `/proc`, a constant of the x86_64 ABI.
const TICKS_PER_SECOND: f64 = 100.0;
/// The size of a page on x86_64.
const PAGE_BYTES: f64 = 4096.0;

/// The numbers of `/proc/self/stat` that we use.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    /// After the boot.
    start_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

/// Adds `process_*` and `os_fd_*`. What cannot be read is left out.
pub(super) fn collect(out: &mut Exposition) {
    collect_stat(out);
    collect_descriptors(out);
    collect_network(out);
}

fn collect_stat(out: &mut Exposition) {
    let Some(stat) = read("/proc/self/stat").and_then(|text| parse_stat(&text)) else {
        return;
    };
    let gauge = Type::Gauge;
    out.number(
        "process_cpu_seconds_total",
        "CPU time of the process, in user and kernel mode.",
        Type::Counter,
        &[],
        stat.cpu_seconds,
    );
    out.number(
        "process_resident_memory_bytes",
        "Memory of the process that is in RAM.",
        gauge,
        &[],
        stat.resident_bytes,
    );
    out.number(
        "process_virtual_memory_bytes",
        "Address space of the process.",
        gauge,
        &[],
        stat.virtual_bytes,
    );
    let limit = getrlimit(Resource::As)
        .current
        .map_or(u64::MAX as f64, |bytes| bytes as f64);
    out.number(
        "process_virtual_memory_max_bytes",
        "Limit of the address space.",
        gauge,
        &[],
        limit,
    );
    if let Some(boot) = read("/proc/stat").and_then(|text| parse_boot_time(&text)) {
        out.number(
            "process_start_time_seconds",
            "Start of the process in Unix time.",
            gauge,
            &[],
            boot + stat.start_seconds,
        );
    }
}

fn collect_descriptors(out: &mut Exposition) {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    // One of them is the directory that is being read.
    let open = entries.count().saturating_sub(1) as f64;
    let limit = getrlimit(Resource::Nofile)
        .current
        .map_or(u64::MAX as f64, |count| count as f64);
    let series = [
        ("os_fd_used", "Open file descriptors.", open),
        ("process_open_fds", "Open file descriptors.", open),
        ("os_fd_limit", "Limit of open file descriptors.", limit),
        ("process_max_fds", "Limit of open file descriptors.", limit),
    ];
    for (name, help, value) in series {
        out.number(name, help, Type::Gauge, &[], value);
    }
}

fn collect_network(out: &mut Exposition) {
    let Some(text) = read("/proc/self/net/netstat") else {
        return;
    };
    let series = [
        (
            "InOctets",
            "process_network_receive_bytes_total",
            "Bytes received in the network namespace.",
        ),
        (
            "OutOctets",
            "process_network_transmit_bytes_total",
            "Bytes sent in the network namespace.",
        ),
    ];
    for (column, name, help) in series {
        if let Some(value) = parse_netstat(&text, "IpExt:", column) {
            out.number(name, help, Type::Counter, &[], value);
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Fields are counted from the closing bracket of the name, which may hold blanks; see proc(5).
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, after_name) = text.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // The state is field 3 of the manual and the first here.
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    Some(Stat {
        cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
        start_seconds: field(22)? / TICKS_PER_SECOND,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * PAGE_BYTES,
    })
}

fn parse_boot_time(text: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

/// Finds a column of the pair of lines that start with `prefix`: names, then values.
fn parse_netstat(text: &str, prefix: &str, column: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names
        .split_ascii_whitespace()
        .zip(values.split_ascii_whitespace());
    pairs.find(|(name, _)| *name == column)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_brackets_and_blanks_is_passed_over() {
        let text =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 12345 8192 2 184467";
        let expected = Stat {
            cpu_seconds: 2.0,
            start_seconds: 123.45,
            virtual_bytes: 8192.0,
            resident_bytes: 8192.0,
        };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("7 (short) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn netstat_columns_are_found_by_name() {
        let text = "TcpExt: A B\nTcpExt: 1 2\nIpExt: X InOctets\nIpExt: 3 44\n";
        assert_eq!(parse_netstat(text, "IpExt:", "InOctets"), Some(44.0));
        assert_eq!(parse_netstat(text, "IpExt:", "Nope"), None);
        assert_eq!(parse_netstat(text, "None:", "InOctets"), None);
    }

    #[test]
    fn this_process_has_all_of_the_standard_series() {
        let mut out = Exposition::default();
        collect(&mut out);
        let page = out.finish();
        for name in [
            "os_fd_limit",
            "os_fd_used",
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_network_receive_bytes_total",
            "process_network_transmit_bytes_total",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_virtual_memory_bytes",
            "process_virtual_memory_max_bytes",
        ] {
            assert!(page.contains(&format!("\n{name} ")), "{name}");
        }
    }
}
