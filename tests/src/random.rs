//! Numbers from a seed, so that a run can be repeated.

/// SplitMix64: small, seedable, good enough to choose operations.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A generator of its own for the part of a test that `part` names.
    pub fn fork(&self, part: u64) -> Self {
        let mut parent = Self {
            state: self.state ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93),
        };
        Self {
            state: parent.number(),
        }
    }

    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number in `0..limit`.
    ///
    /// # Panics
    /// If `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    pub fn octets(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.number() as u8).collect()
    }
}

/// The seed without `ETCORE_SEED`: the same in every run, so that a change alone decides whether its tests pass.
const USUAL_SEED: u64 = 1;

/// The seed of this run: `ETCORE_SEED`, which `cargo xtask soak` draws anew, else the usual one.
pub fn seed(test: &str) -> u64 {
    let seed = env_number("ETCORE_SEED", USUAL_SEED);
    eprintln!("{test}: repeat with ETCORE_SEED={seed}");
    seed
}

/// A number from the environment.
///
/// # Panics
/// If the variable is set to something else.
pub fn env_number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence() {
        let sequence =
            |mut random: Random| -> Vec<u64> { (0..8).map(|_| random.number()).collect() };
        assert_eq!(sequence(Random::new(1)), sequence(Random::new(1)));
        assert_ne!(sequence(Random::new(1)), sequence(Random::new(2)));
        assert_ne!(
            sequence(Random::new(1).fork(1)),
            sequence(Random::new(1).fork(2))
        );
        assert!((0..1000).all(|_| Random::new(9).below(3) < 3));
    }
}
