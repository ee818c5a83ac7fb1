//! Seeded numbers, the same on every machine and in every version of this program.

use engine::random::SplitMix64;

/// The generator of all chance in here.
#[derive(Clone, Debug)]
pub struct Rng(SplitMix64);

impl Rng {
    /// The stream of one part of the world: parts with other labels draw independently.
    pub fn new(seed: u64, label: u64) -> Self {
        let mut mixer = SplitMix64(seed ^ label.wrapping_mul(0xd6e8_feb8_6659_fd93));
        mixer.next();
        Rng(SplitMix64(mixer.next()))
    }

    pub fn draw(&mut self) -> u64 {
        self.0.next()
    }

    /// A number of `0..limit`; `limit` is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    /// A number of `first..limit`.
    pub fn between(&mut self, first: u64, limit: u64) -> u64 {
        first + self.below(limit - first)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn per_mille(&mut self, share: u64) -> bool {
        self.below(1000) < share
    }

    /// Mostly near `first`, now and then up to `limit`: delays.
    pub fn skewed(&mut self, first: u64, limit: u64) -> u64 {
        let span = match self.below(20) {
            0 => limit - first,
            1..=4 => (limit - first) / 8,
            _ => (limit - first) / 64,
        };
        first + self.below(span + 1)
    }
}
