//! Sorts symbols: Rust by crate and module, Go by package, C by library, the kernel by system call.

/// Name for code that no system call or interrupt frame leads to.
const KERNEL_OTHER: &str = "kernel: other";

/// How the kernel's functions for a system call begin. The outermost one often ends in a jump to the next and is
/// then missing in the stack, so any of them names the call.
const CALL_PREFIXES: [&str; 5] = ["__x64_sys_", "__do_sys_", "__se_sys_", "ksys_", "__sys_"];

/// Outermost entries of the kernel that say less than a system call's name, by part of their symbol.
const KERNEL_ENTRIES: [(&str, &str); 6] = [
    ("do_syscall_64", "kernel: system call's entry or exit"),
    ("page_fault", "kernel: page fault"),
    ("apic_timer", "kernel: timer interrupt"),
    ("common_interrupt", "kernel: device interrupt"),
    ("ret_from_fork", "kernel: worker thread"),
    ("sysvec", "kernel: other interrupt"),
];

/// Our crates, of which the module is of interest; of others the crate is enough.
const OUR_CRATES: [&str; 5] = ["proto", "net", "engine", "driver", "server"];

/// The system call (or interrupt) under which a sample of the kernel was taken.
pub(super) fn kernel_entry<'a>(symbols: impl Iterator<Item = &'a str>) -> String {
    let mut entry = None;
    for symbol in symbols {
        let call = |prefix: &&str| symbol.strip_prefix(*prefix);
        if let Some(call) = CALL_PREFIXES.iter().find_map(call) {
            return format!("kernel: {call}");
        }
        let known = KERNEL_ENTRIES
            .iter()
            .find(|(part, _)| symbol.contains(part));
        entry = entry.or(known.map(|(_, name)| (*name).to_owned()));
    }
    entry.unwrap_or_else(|| KERNEL_OTHER.to_owned())
}

/// The group of a symbol outside of the kernel.
pub(super) fn group_of(symbol: &str, object: &str) -> String {
    if symbol.is_empty() || symbol == "[unknown]" {
        return library(object);
    }
    rust_module(symbol)
        .or_else(|| go_package(symbol))
        .unwrap_or_else(|| library(object))
}

/// A symbol without the hash that older Rust names end with.
pub(super) fn function_of(symbol: &str) -> String {
    match symbol.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            name.to_owned()
        }
        _ => symbol.to_owned(),
    }
}

/// Crate, and for ours the module: of `<&mut net::hpack::Decoder<T> as …>::next` it is `net::hpack`.
fn rust_module(symbol: &str) -> Option<String> {
    if !symbol.contains("::") {
        return None;
    }
    let start = symbol.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let start = start.strip_prefix("mut ").unwrap_or(start);
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let path = start.split(|c| !is_path(c)).next()?;
    let mut parts = path.split("::").filter(|part| !part.is_empty());
    let krate = parts.next()?;
    let module = parts.next().filter(|_| OUR_CRATES.contains(&krate));
    // A function or type at the crate's root is no module: those end the path or begin upper case.
    let module =
        module.filter(|name| name.starts_with(char::is_lowercase) && parts.next().is_some());
    Some(module.map_or_else(|| krate.to_owned(), |module| format!("{krate}::{module}")))
}

/// Of `go.etcd.io/etcd/server/v3/etcdserver.(*EtcdServer).Put` it is all up to `etcdserver`.
fn go_package(symbol: &str) -> Option<String> {
    let name_at = symbol.rfind('/').map_or(0, |at| at + 1);
    // A receiver or closure may hold a slash too, in its type parameters: those come after the first dot.
    let name_at = if symbol.find(['(', '[']).is_some_and(|at| at < name_at) {
        let head = symbol.split(['(', '[']).next()?;
        head.rfind('/').map_or(0, |at| at + 1)
    } else {
        name_at
    };
    let dot = symbol.get(name_at..)?.find('.')?;
    symbol
        .get(..name_at + dot)
        .filter(|package| !package.is_empty())
        .map(str::to_owned)
}

/// File name of an object: `libc.so.6`.
fn library(object: &str) -> String {
    let name = object.rsplit('/').next().unwrap_or(object);
    name.trim_matches(['[', ']']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_find_their_group() {
        let cases = [
            ("net::hpack::decoder::Decoder::decode", "net::hpack"),
            (
                "<&mut net::hpack::Decoder<T> as core::iter::Iterator>::next",
                "net::hpack",
            ),
            ("<engine::wal::Wal>::seal::h0123456789abcdef", "engine::wal"),
            ("server::main", "server"),
            ("<raft::raft::Raft<S>>::step", "raft"),
            ("core::ptr::drop_in_place<net::h2::Stream>", "core"),
            ("runtime.mallocgc", "runtime"),
            (
                "internal/runtime/gc/scan.ScanSpanPackedAVX512",
                "internal/runtime/gc/scan",
            ),
            (
                "google.golang.org/grpc.(*Server).serveStreams",
                "google.golang.org/grpc",
            ),
            (
                "go.etcd.io/etcd/server/v3/etcdserver.(*EtcdServer).Put",
                "go.etcd.io/etcd/server/v3/etcdserver",
            ),
            ("sync.(*Map[go.shape/x.T]).Load", "sync"),
            ("__memmove_avx_unaligned_erms", "libc.so.6"),
            ("[unknown]", "libc.so.6"),
        ];
        for (symbol, group) in cases {
            assert_eq!(group_of(symbol, "/lib/libc.so.6"), group, "{symbol}");
        }
    }

    #[test]
    fn kernel_time_goes_to_its_system_call() {
        let entry = |symbols: &[&str]| kernel_entry(symbols.iter().copied());
        assert_eq!(
            entry(&["tcp_sendmsg", "__x64_sys_sendto", "do_syscall_64"]),
            "kernel: sendto"
        );
        assert_eq!(
            entry(&["clear_page", "exc_page_fault"]),
            "kernel: page fault"
        );
        // A page fault within a system call belongs to the call.
        assert_eq!(entry(&["exc_page_fault", "__x64_sys_read"]), "kernel: read");
        assert_eq!(
            entry(&["io_worker", "ret_from_fork"]),
            "kernel: worker thread"
        );
        assert_eq!(entry(&["schedule"]), KERNEL_OTHER);
    }

    #[test]
    fn hashes_are_cut() {
        assert_eq!(function_of("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(function_of("a::hash"), "a::hash");
    }
}
