//! What the program says about itself: usage, help and version.

use std::fmt::Write as _;

use super::Exit;
use super::flags::Support;
use super::table::FLAGS;
use crate::version;

const USAGE: &str = "\
Usage:

  etcore [flags]
    Start a server. Flags and ETCD_… environment variables are etcd's.

  etcore --version
    Show the versions.

  etcore -h | --help
    Show the flags.
";

/// `--help`: usage on stderr and the flags on stdout, as etcd has it.
pub(super) fn help() -> Exit {
    Exit {
        code: 0,
        stdout: flags_text(),
        stderr: USAGE.to_owned(),
        ..Exit::default()
    }
}

/// A command line that cannot be read.
pub(super) fn syntax_exit(reason: &str) -> Exit {
    Exit {
        code: 2,
        stderr: after_error(reason),
        ..Exit::default()
    }
}

pub(super) fn after_error(reason: &str) -> String {
    format!("{reason}\n{USAGE}")
}

/// `--version`: etcd's four lines, which scripts read, then our own.
pub(super) fn versions() -> Exit {
    let stdout = format!(
        "etcd Version: {}\n\
         Git SHA: Not provided (etcore is not built from etcd's repository)\n\
         Go Version: none (etcore is written in Rust)\n\
         Go OS/Arch: linux/amd64\n\
         etcore Version: {}\n",
        version::ETCD,
        version::ETCORE,
    );
    Exit {
        code: 0,
        stdout,
        ..Exit::default()
    }
}

fn flags_text() -> String {
    let mut text = String::from("\nFlags that are honoured:\n");
    for flag in FLAGS.iter().filter(|flag| flag.support == Support::Full) {
        let _ = write!(
            text,
            "  --{} '{}'\n    {}\n",
            flag.name, flag.default, flag.help
        );
    }
    text.push_str("\nFlags of etcore's own:\n");
    for flag in FLAGS.iter().filter(|flag| flag.support == Support::Own) {
        let _ = write!(
            text,
            "  --{} '{}'\n    {}\n",
            flag.name, flag.default, flag.help
        );
    }
    text.push_str("\nFlags of etcd that are accepted only with their default value:\n");
    for flag in FLAGS
        .iter()
        .filter(|flag| flag.support == Support::DefaultOnly)
    {
        let _ = writeln!(text, "  --{} '{}'", flag.name, flag.default);
    }
    text
}
