//! Reading decisions out of an input: what is asked for beyond its end is zero or empty.

/// An input, taken from its front.
#[derive(Debug, Clone)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub(crate) fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.rest.split_first() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => 0,
        }
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// Up to `len` octets.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Octets behind their length, which is one byte.
    pub(crate) fn piece(&mut self) -> &'a [u8] {
        let len = self.byte();
        self.take(usize::from(len))
    }

    /// Octets behind their length, which is two bytes.
    pub(crate) fn long_piece(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.take(usize::from(len))
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

/// How a stream of octets is cut into reads.
#[derive(Debug, Clone)]
pub(crate) struct Cuts {
    state: u64,
}

impl Cuts {
    /// 0: not at all. 1: after each octet. Others: at places drawn from the number.
    pub(crate) fn new(seed: u8) -> Self {
        Self {
            state: u64::from(seed),
        }
    }

    /// Takes the next piece; at least one octet, if there is one.
    pub(crate) fn next<'a>(&mut self, octets: &mut &'a [u8]) -> &'a [u8] {
        let len = match self.state {
            0 => octets.len(),
            1 => 1,
            _ => self.draw(),
        };
        let (piece, rest) = octets.split_at(len.min(octets.len()));
        *octets = rest;
        piece
    }

    /// Mostly short, sometimes long. (The multiplier is Knuth's, of MMIX.)
    fn draw(&mut self) -> usize {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(2);
        let bits = (self.state >> 33) as usize;
        1 + bits % [3, 16, 200, 3000][bits >> 20 & 3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_ends_in_zeros() {
        let mut input = Input::new(&[1, 2, 3, 9, 8]);
        assert_eq!((input.byte(), input.u16()), (1, 0x203));
        assert_eq!(input.piece(), [8]);
        assert!(input.is_empty());
        assert_eq!(
            (input.u32(), input.piece(), input.rest()),
            (0, &[][..], &[][..])
        );
    }

    #[test]
    fn cuts_lose_nothing() {
        let octets: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        for seed in [0, 1, 2, 3, 77, 255] {
            let mut cuts = Cuts::new(seed);
            let mut rest = octets.as_slice();
            let mut joined = Vec::new();
            let mut count = 0;
            while !rest.is_empty() {
                joined.extend_from_slice(cuts.next(&mut rest));
                count += 1;
            }
            assert_eq!(joined, octets);
            assert_eq!(count == 1, seed == 0, "{seed}");
        }
    }
}
