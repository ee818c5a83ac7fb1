//! The repository's own lints: what the compiler cannot know about our layers and habits.

use std::fs;
use std::path::{Path, PathBuf};

use crate::step::Failure;

/// Crates and the crates of ours that they may name in their manifest.
const LAYERS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("net", &["proto"]),
    ("engine", &["proto"]),
    ("driver", &[]),
    ("server", &["proto", "net", "engine", "driver"]),
    ("bench", &["proto", "net", "engine", "driver"]),
    ("sim", &["proto", "engine"]),
    ("fuzz", &["proto", "net", "engine", "server"]),
    ("tests", &["proto", "net", "engine", "driver", "server"]),
    ("xtask", &[]),
];

/// What a deterministic core must not contain: `(text, why)`.
const BANNED_IN_CORES: &[(&str, &str)] = &[
    ("Instant::now", "a core gets time as an argument"),
    ("SystemTime::now", "a core gets time as an argument"),
    ("thread_rng", "a core gets its seed at birth"),
    ("std::fs", "a core opens no file"),
    ("std::net", "a core opens no socket"),
    (
        "HashMap::new()",
        "iteration order of a random hasher; use BTreeMap or a seeded hasher",
    ),
];
const CORES: &[&str] = &["net", "engine"];

/// Crates that may hold `unsafe`, and the files of each that do; they say why with SAFETY texts.
const MAY_BE_UNSAFE: &[(&str, &[&str])] = &[
    (
        "driver",
        // `map`: a slice of mapped memory, which no safe call hands out, and the handler of its faults.
        &[
            "sys.rs",
            "memory.rs",
            "map/mod.rs",
            "map/bus_error.rs",
            "ring/kernel.rs",
            "ring/pool.rs",
        ],
    ),
    ("engine", &["cow/arena.rs"]),
];

/// Checks the whole tree.
///
/// # Errors
/// All findings, a line each.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let mut findings = Vec::new();
    for (name, allowed) in LAYERS {
        check_layer(root, name, allowed, &mut findings);
        let folder = root.join(name).join("src");
        for file in rust_files(&folder) {
            check_file(root, name, &file, &mut findings);
        }
        check_unsafe(root, name, &mut findings);
    }
    if findings.is_empty() {
        println!("tidy: nothing to mend");
        return Ok(());
    }
    Err(findings.join("\n"))
}

fn check_layer(root: &Path, name: &str, allowed: &[&str], findings: &mut Vec<String>) {
    let path = root.join(name).join("Cargo.toml");
    let Ok(manifest) = fs::read_to_string(&path) else {
        findings.push(format!("{name}/Cargo.toml: cannot be read"));
        return;
    };
    for (other, _) in LAYERS {
        let named = manifest.lines().any(|line| {
            line.trim_start().strip_prefix(other).is_some_and(|rest| {
                rest.starts_with(".workspace") || rest.trim_start().starts_with('=')
            })
        });
        if named && !allowed.contains(other) {
            findings.push(format!(
                "{name}/Cargo.toml: {name} must not depend on {other}"
            ));
        }
    }
}

fn check_file(root: &Path, name: &str, file: &Path, findings: &mut Vec<String>) {
    let shown = file
        .strip_prefix(root)
        .unwrap_or(file)
        .display()
        .to_string();
    let Ok(text) = fs::read_to_string(file) else {
        findings.push(format!("{shown}: cannot be read"));
        return;
    };
    if !text.starts_with("//!") {
        findings.push(format!("{shown}: no module text (`//!`) at its head"));
    }
    if !CORES.contains(&name) {
        return;
    }
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    for (number, line) in code.lines().enumerate() {
        for (banned, why) in BANNED_IN_CORES {
            if line.contains(banned) && !line.trim_start().starts_with("//") {
                findings.push(format!("{shown}:{}: {banned}: {why}", number + 1));
            }
        }
    }
}

/// A crate forbids `unsafe`, or denies it but in the file that is listed for it.
fn check_unsafe(root: &Path, name: &str, findings: &mut Vec<String>) {
    let listed = MAY_BE_UNSAFE.iter().find(|(listed, _)| *listed == name);
    let source = root.join(name).join("src");
    let wanted = match listed {
        Some(_) => "#![deny(unsafe_code)]",
        None => "#![forbid(unsafe_code)]",
    };
    for top in ["lib.rs", "main.rs"] {
        if let Ok(text) = fs::read_to_string(source.join(top))
            && !text.contains(wanted)
        {
            findings.push(format!("{name}/src/{top}: lacks {wanted}"));
        }
    }
    let Some((_, allowed)) = listed else { return };
    for file in rust_files(&source) {
        let is_allowed = allowed.iter().any(|allowed| file.ends_with(allowed));
        let text = fs::read_to_string(&file).unwrap_or_default();
        if !is_allowed && text.contains("allow(unsafe_code") {
            findings.push(format!(
                "{}: only {} may be unsafe in {name}",
                file.display(),
                allowed.join(", ")
            ));
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
