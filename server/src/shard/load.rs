//! How busy each shard is, for whoever places new connections.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::Shard;

/// How far back "busy" looks.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
const PERMILLE: u128 = 1000;

/// The load of one shard. Each number has one writer; anybody may read it.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Share of a core that the executor used lately; its own shard writes it.
    busy_permille: AtomicU32,
    /// Connections it was given; whoever places connections writes it.
    given: AtomicU64,
    /// Connections that ended; its own shard writes it.
    ended: AtomicU64,
}

/// A look at a [`Load`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LoadSample {
    pub(super) busy_permille: u32,
    pub(super) connection_count: u64,
}

impl Load {
    pub(super) fn sample(&self) -> LoadSample {
        let ended = self.ended.load(Ordering::Relaxed);
        let given = self.given.load(Ordering::Relaxed);
        LoadSample {
            busy_permille: self.busy_permille.load(Ordering::Relaxed),
            connection_count: given.saturating_sub(ended),
        }
    }

    pub(super) fn on_given(&self) {
        let before = self.given.load(Ordering::Relaxed);
        self.given.store(before + 1, Ordering::Relaxed);
    }

    pub(super) fn on_ended(&self) {
        let before = self.ended.load(Ordering::Relaxed);
        self.ended.store(before + 1, Ordering::Relaxed);
    }
}

/// Keeps the load of a shard up to date; sleeps while it has no connections.
pub(crate) async fn measure(shard: Rc<Shard>) {
    let load = Arc::clone(&shard.load);
    loop {
        if shard.connections.len() == 0 {
            load.busy_permille.store(0, Ordering::Relaxed);
            shard.connections.arrival().await;
        }
        let (start, used) = (driver::now(), driver::thread_cpu_time());
        driver::sleep(SAMPLE_INTERVAL).await;
        let passed = driver::now().saturating_sub(start);
        let used = driver::thread_cpu_time().saturating_sub(used);
        load.busy_permille
            .store(permille(used, passed), Ordering::Relaxed);
    }
}

fn permille(part: Duration, whole: Duration) -> u32 {
    let whole = whole.as_micros().max(1);
    let share = part.as_micros() * PERMILLE / whole;
    u32::try_from(share.min(PERMILLE)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_a_whole_core_at_most() {
        let ms = Duration::from_millis;
        assert_eq!(permille(ms(25), ms(100)), 250);
        assert_eq!(permille(ms(101), ms(100)), 1000);
        assert_eq!(permille(ms(0), ms(0)), 0);
    }

    #[test]
    fn connections_are_those_given_and_not_ended() {
        let load = Load::default();
        for _ in 0..3 {
            load.on_given();
        }
        load.on_ended();
        assert_eq!(load.sample().connection_count, 2);
    }
}
