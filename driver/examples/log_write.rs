//! What a durable 4 KiB write costs through the ring, beside blocking calls.
//!
//! `cargo run --release -p driver --example log_write -- <directory>`

use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use driver::{AlignedBuf, Caching, ExecutorConfig, File};

const COUNT: usize = 2000;
const FILE_SIZE_BYTES: u64 = 8 << 20;

/// How write and sync are asked for. `Single` is linked for a while where it was slow, and always for a buffered file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Single,
    Linked,
    Apart,
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() * part / 1000).min(took.len() - 1)].as_micros();
    println!(
        "{what:24} p50 {:6} us  p99 {:6} us  max {:7} us",
        at(500),
        at(990),
        at(1000)
    );
}

fn offset(round: usize) -> u64 {
    (round as u64 * 4096) % FILE_SIZE_BYTES
}

async fn ring(path: &Path, caching: Caching) -> io::Result<()> {
    println!("{caching:?}");
    let file = File::create(path, caching).await?;
    file.write_at(AlignedBuf::zeroed(FILE_SIZE_BYTES as usize), 0)
        .await
        .0?;
    file.datasync().await?;
    for way in [Way::Single, Way::Linked, Way::Apart].repeat(2) {
        let mut buf = AlignedBuf::zeroed(4096);
        let mut took = Vec::new();
        for round in 0..COUNT {
            let start = Instant::now();
            let result;
            (result, buf) = match way {
                Way::Single => file.write_durably(buf, offset(round)).await,
                Way::Linked => file.write_and_sync(buf, offset(round)).await,
                Way::Apart => file.write_at(buf, offset(round)).await,
            };
            result?;
            if way == Way::Apart {
                file.datasync().await?;
            }
            took.push(start.elapsed());
        }
        report(&format!("ring, {way:?}"), took);
    }
    let mut took = Vec::new();
    let mut buf = AlignedBuf::zeroed(4096);
    for round in 0..COUNT {
        let start = Instant::now();
        let result;
        (result, buf) = file.write_at(buf, offset(round)).await;
        result?;
        took.push(start.elapsed());
    }
    report("ring, only write", took);
    let mut took = Vec::new();
    for _ in 0..COUNT {
        let start = Instant::now();
        file.datasync().await?;
        took.push(start.elapsed());
    }
    report("ring, only sync", took);
    Ok(())
}

fn blocking(path: &Path) -> io::Result<()> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    let buf = AlignedBuf::zeroed(4096);
    let mut took = Vec::new();
    for round in 0..COUNT {
        let start = Instant::now();
        file.write_all_at(buf.as_slice(), offset(round))?;
        file.sync_data()?;
        took.push(start.elapsed());
    }
    report("blocking calls", took);
    let mut took = Vec::new();
    for round in 0..COUNT {
        let start = Instant::now();
        file.write_all_at(buf.as_slice(), offset(round))?;
        took.push(start.elapsed());
    }
    report("blocking, only write", took);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args()
        .nth(1)
        .ok_or("usage: log_write <directory>")?;
    let path = Path::new(&directory).join("log_write.tmp");
    driver::run(ExecutorConfig::new("bench"), || async {
        ring(&path, Caching::Buffered).await?;
        ring(&path, Caching::Direct).await
    })??;
    blocking(&path)?;
    std::fs::remove_file(&path)?;
    Ok(())
}
