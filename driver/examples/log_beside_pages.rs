//! What durable 4 KiB log writes cost while pages of a database are written beside them: at once, paced, and sent to the disk
//! in batches before the one sync at the end. And what it saves to ask ahead for what is read through a map.
//!
//! `cargo run --release -p driver --example log_beside_pages -- <directory>`

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driver::{AlignedBuf, Allocate, Caching, ExecutorConfig, File, MappedFile, sleep, spawn};

const LOG_SIZE_BYTES: u64 = 8 << 20;
const PAGES_SIZE_BYTES: u64 = 32 << 20;
const PIECE_SIZE_BYTES: u64 = 256 << 10;
/// Larger than all there is.
const NO_BATCH: u64 = 1 << 30;

async fn log(file: File, ends: Rc<Cell<bool>>) -> io::Result<Vec<Duration>> {
    let mut buf = AlignedBuf::zeroed(4096);
    let mut took = Vec::new();
    while !ends.get() {
        let start = Instant::now();
        let (result, back) = file
            .write_and_sync(buf, took.len() as u64 * 4096 % LOG_SIZE_BYTES)
            .await;
        result?;
        buf = back;
        took.push(start.elapsed());
        sleep(Duration::from_micros(200)).await;
    }
    Ok(took)
}

async fn pages(file: &File, pause: Duration, batch: u64) -> io::Result<()> {
    let mut buf = AlignedBuf::copy_of(&vec![7; PIECE_SIZE_BYTES as usize]);
    for piece in 0..PAGES_SIZE_BYTES / PIECE_SIZE_BYTES {
        sleep(pause).await;
        let offset = piece * PIECE_SIZE_BYTES;
        let (result, back) = file.write_at(buf, offset).await;
        result?;
        buf = back;
        let end = offset + PIECE_SIZE_BYTES;
        if end.is_multiple_of(batch) {
            file.write_back(end - batch, batch).await?;
        }
    }
    file.datasync().await
}

async fn compare(dir: &Path) -> io::Result<()> {
    let store = File::create(dir.join("pages"), Caching::Buffered).await?;
    store.allocate(0, PAGES_SIZE_BYTES, Allocate::Grow).await?;
    pages(&store, Duration::ZERO, NO_BATCH << 10).await?;
    for _ in 0..3 {
        for (pause_ms, batch_kib) in [
            (0, NO_BATCH),
            (2, NO_BATCH),
            (2, 256),
            (2, 1 << 10),
            (2, 4 << 10),
            (2, 16 << 10),
        ] {
            let file = File::create(dir.join("log"), Caching::Direct).await?;
            file.write_at(AlignedBuf::zeroed(LOG_SIZE_BYTES as usize), 0)
                .await
                .0?;
            file.datasync().await?;
            let ends = Rc::new(Cell::new(false));
            let logging = spawn(log(file, Rc::clone(&ends)));
            let start = Instant::now();
            pages(&store, Duration::from_millis(pause_ms), batch_kib << 10).await?;
            let whole = start.elapsed();
            ends.set(true);
            let mut took = logging.await?;
            took.sort_unstable();
            let at = |part: usize| took[(took.len() * part / 1000).min(took.len() - 1)].as_micros();
            println!(
                "pause {pause_ms} ms, batch {batch_kib:10} KiB: log p50 {:6} p99 {:6} max {:7} us of {:5}; pages {:5} ms",
                at(500),
                at(990),
                at(1000),
                took.len(),
                whole.as_millis()
            );
        }
    }
    let map = Arc::new(MappedFile::new(&store, "pages")?);
    for asks in [false, true] {
        rustix::fs::fadvise(&store, 0, None, rustix::fs::Advice::DontNeed)?;
        let start = Instant::now();
        if asks {
            map.load(0, PAGES_SIZE_BYTES).await?;
        }
        let bytes = map.bytes(0, PAGES_SIZE_BYTES as usize).unwrap_or_default();
        let sum: u64 = bytes.iter().step_by(4096).map(|&b| u64::from(b)).sum();
        println!(
            "read through the map, asked ahead {asks}: {:?} ({sum})",
            start.elapsed()
        );
    }
    Ok(())
}

fn main() {
    let dir = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let compared = driver::run(ExecutorConfig::new("bench"), || compare(dir.as_ref()));
    if let Err(error) = compared.map_err(io::Error::other).flatten() {
        eprintln!("{error}");
    }
}
