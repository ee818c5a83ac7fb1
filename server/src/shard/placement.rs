//! Which shard serves a new connection.
//!
//! A hop between cores costs several times a whole request, so a connection stays on the log shard while that has
//! room. What is decided at accept holds for the connection's life.

use std::cell::Cell;
use std::sync::Arc;

use super::ask::ShardNo;
use super::load::{Load, LoadSample};
use crate::config::ShardPlacement;

/// The log shard has room while less of its core than this was busy lately. The rest is for the disk's completions,
/// ticks and the applying of what other shards propose.
const LOG_BUSY_PERMILLE_MAX: u32 = 600;

/// Shards whose loads differ by less than this are equally busy; fewer connections decide then.
const BUSY_STEP_PERMILLE: u32 = 100;

pub(super) struct Placement {
    rule: ShardPlacement,
    /// By shard; the log shard first.
    loads: Vec<Arc<Load>>,
    /// Connections placed so far.
    placed: Cell<usize>,
}

impl Placement {
    pub(super) fn new(rule: ShardPlacement, loads: Vec<Arc<Load>>) -> Self {
        Placement {
            rule,
            loads,
            placed: Cell::new(0),
        }
    }

    /// The shard for the next connection.
    pub(super) fn next(&self) -> ShardNo {
        let turn = self.placed.get();
        self.placed.set(turn.wrapping_add(1));
        choose(self.rule, self.loads.iter().map(|load| load.sample()), turn)
    }
}

fn choose(
    rule: ShardPlacement,
    loads: impl ExactSizeIterator<Item = LoadSample>,
    turn: usize,
) -> ShardNo {
    match rule {
        ShardPlacement::Log => 0,
        ShardPlacement::Spread => turn % loads.len().max(1),
        ShardPlacement::Auto => least_loaded(loads),
    }
}

fn least_loaded(loads: impl Iterator<Item = LoadSample>) -> ShardNo {
    let mut loads = loads.enumerate();
    let log = loads.next().map_or(LoadSample::default(), |(_, log)| log);
    if log.busy_permille < LOG_BUSY_PERMILLE_MAX {
        return 0;
    }
    let rank = |load: LoadSample| {
        (
            load.busy_permille / BUSY_STEP_PERMILLE,
            load.connection_count,
        )
    };
    let best = loads.min_by_key(|(_, load)| rank(*load));
    // The log shard does the node's work beside its connections', so it takes more only if all are as busy.
    best.filter(|(_, load)| rank(*load) < rank(log))
        .map_or(0, |(shard_no, _)| shard_no)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(rule: ShardPlacement, loads: &[(u32, u64)], turn: usize) -> ShardNo {
        let samples = loads
            .iter()
            .map(|&(busy_permille, connection_count)| LoadSample {
                busy_permille,
                connection_count,
            });
        choose(rule, samples, turn)
    }

    #[test]
    fn the_log_shard_keeps_connections_while_it_has_room() {
        let auto = |loads: &[(u32, u64)]| chosen(ShardPlacement::Auto, loads, 7);
        assert_eq!(auto(&[(599, 500), (0, 0)]), 0);
        assert_eq!(auto(&[(600, 500), (0, 0)]), 1);
        assert_eq!(auto(&[(1000, 1)]), 0);
    }

    #[test]
    fn past_that_the_least_loaded_one_is_chosen() {
        let auto = |loads: &[(u32, u64)]| chosen(ShardPlacement::Auto, loads, 7);
        assert_eq!(auto(&[(900, 9), (500, 1), (200, 8), (400, 0)]), 2);
        // Within a step the count decides.
        assert_eq!(auto(&[(900, 9), (250, 5), (210, 6)]), 1);
        // All are full: the log shard if it has the fewest.
        assert_eq!(auto(&[(900, 9), (950, 10), (999, 12)]), 0);
        assert_eq!(auto(&[(900, 9), (950, 10), (999, 3)]), 2);
    }

    #[test]
    fn the_other_rules_look_at_no_load() {
        let loads = [(1000, 9), (0, 0), (0, 0)];
        let spread = (0..6).map(|turn| chosen(ShardPlacement::Spread, &loads, turn));
        assert_eq!(spread.collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(chosen(ShardPlacement::Log, &loads, 1), 0);
    }
}
