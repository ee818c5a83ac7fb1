//! The fixed Huffman code of HPACK (RFC 7541 §5.2, Appendix B).
//!
//! The code is canonical: codes of one length are consecutive and follow the order of their symbols, and longer codes
//! are numerically above the prefixes of shorter ones. So the 257 lengths are the whole code, and every table here is
//! computed from them at compile time.
//!
//! Decoding looks eight bits up in a table, which ends nearly every symbol of real headers (the printable ones have 5
//! to 8 bits); a longer code is found by comparing with the first code of each length.

use super::HpackError;

const SYMBOL_COUNT: usize = 257;
/// The end-of-string symbol. It never appears in a valid string; its leading ones are the padding.
const EOS: u16 = 256;
const CODE_LEN_MAX: usize = 30;
/// Codes up to this length are decoded by one table look-up.
const SHORT_LEN_MAX: usize = 8;

/// Bits per symbol.
const LENGTHS: [u8; SYMBOL_COUNT] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];

/// The code, computed once by the compiler.
struct Code {
    /// Per symbol: its bits, right-aligned.
    codes: [u32; SYMBOL_COUNT],
    /// Symbols ordered by code.
    sorted: [u16; SYMBOL_COUNT],
    /// Per length: the first code, how many there are, and where in `sorted` they begin.
    first: [u32; CODE_LEN_MAX + 1],
    count: [u32; CODE_LEN_MAX + 1],
    offset: [usize; CODE_LEN_MAX + 1],
    /// Per eight leading bits: (symbol, length), or length 0 if the code is longer.
    short: [(u8, u8); 1 << SHORT_LEN_MAX],
}

static CODE: Code = Code::build();

impl Code {
    const fn build() -> Self {
        let mut code = Self {
            codes: [0; SYMBOL_COUNT],
            sorted: [0; SYMBOL_COUNT],
            first: [0; CODE_LEN_MAX + 1],
            count: [0; CODE_LEN_MAX + 1],
            offset: [0; CODE_LEN_MAX + 1],
            short: [(0, 0); 1 << SHORT_LEN_MAX],
        };
        let mut next_code = 0;
        let mut sorted_len = 0;
        let mut len = 1;
        while len <= CODE_LEN_MAX {
            next_code <<= 1;
            code.first[len] = next_code;
            code.offset[len] = sorted_len;
            let mut symbol = 0;
            while symbol < SYMBOL_COUNT {
                if LENGTHS[symbol] as usize == len {
                    code.codes[symbol] = next_code;
                    code.sorted[sorted_len] = symbol as u16;
                    if len <= SHORT_LEN_MAX {
                        code.fill_short(symbol, len);
                    }
                    code.count[len] += 1;
                    next_code += 1;
                    sorted_len += 1;
                }
                symbol += 1;
            }
            len += 1;
        }
        // The code is complete: every bit string begins with exactly one symbol.
        assert!(next_code == 1 << CODE_LEN_MAX);
        code
    }

    const fn fill_short(&mut self, symbol: usize, len: usize) {
        let spare_bits = SHORT_LEN_MAX - len;
        let begin = (self.codes[symbol] as usize) << spare_bits;
        let mut slot = begin;
        while slot < begin + (1 << spare_bits) {
            self.short[slot] = (symbol as u8, len as u8);
            slot += 1;
        }
    }

    /// The symbol that `window` (left-aligned) begins with, and its length.
    #[inline]
    fn lookup(&self, window: u64) -> (u16, u32) {
        let (symbol, len) = self.short[(window >> (64 - SHORT_LEN_MAX)) as usize];
        if len != 0 {
            return (u16::from(symbol), u32::from(len));
        }
        self.lookup_long(window)
    }

    fn lookup_long(&self, window: u64) -> (u16, u32) {
        for len in SHORT_LEN_MAX + 1..=CODE_LEN_MAX {
            let rank = ((window >> (64 - len)) as u32).wrapping_sub(self.first[len]);
            if rank < self.count[len] {
                return (self.sorted[self.offset[len] + rank as usize], len as u32);
            }
        }
        (EOS, CODE_LEN_MAX as u32)
    }
}

/// Appends the decoded `input` to `out`. At most 8/5 of the input's length is appended.
pub(super) fn decode(mut input: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    out.reserve(input.len() * 8 / 5);
    let mut bits = 0u64; // left-aligned, zero below `bits_len`
    let mut bits_len = 0u32;
    loop {
        if bits_len <= 32 {
            refill(&mut input, &mut bits, &mut bits_len);
        }
        // Nearly every symbol of real strings is short and whole.
        let (octet, len) = CODE.short[(bits >> (64 - SHORT_LEN_MAX)) as usize];
        if len != 0 && u32::from(len) <= bits_len {
            out.push(octet);
            bits <<= len;
            bits_len -= u32::from(len);
            continue;
        }
        // Past the end of input the padding's ones are assumed to go on; they can then only look like the
        // beginning of EOS, or of a symbol that needs more bits than there are.
        let missing = if input.is_empty() {
            u64::MAX.checked_shr(bits_len).unwrap_or(0)
        } else {
            0
        };
        let window = bits | missing;
        let (symbol, len) = CODE.lookup(window);
        if len > bits_len {
            let is_padding = bits_len < 8 && window == u64::MAX;
            return if is_padding {
                Ok(())
            } else {
                Err(HpackError::Huffman)
            };
        }
        let octet = u8::try_from(symbol).map_err(|_| HpackError::Huffman)?;
        out.push(octet);
        bits <<= len;
        bits_len -= len;
    }
}

/// Moves octets from `input` behind the bits on hand: at least 30 bits, as long as there is input.
#[inline]
fn refill(input: &mut &[u8], bits: &mut u64, bits_len: &mut u32) {
    if let Some((four, rest)) = input.split_first_chunk::<4>() {
        *bits |= u64::from(u32::from_be_bytes(*four)) << (32 - *bits_len);
        *bits_len += 32;
        *input = rest;
        return;
    }
    for &octet in *input {
        *bits |= u64::from(octet) << (56 - *bits_len);
        *bits_len += 8;
    }
    *input = &[];
}

/// How many octets [`encode`] would append.
pub(super) fn encoded_len(input: &[u8]) -> usize {
    let bits: usize = input
        .iter()
        .map(|&octet| usize::from(LENGTHS[usize::from(octet)]))
        .sum();
    bits.div_ceil(8)
}

/// Appends `input` in Huffman code, padded with ones to a whole octet.
pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) {
    let mut bits = 0u64; // right-aligned; what is above `bits_len` was written
    let mut bits_len = 0u32;
    for &octet in input {
        let len = u32::from(LENGTHS[usize::from(octet)]);
        bits = bits << len | u64::from(CODE.codes[usize::from(octet)]);
        bits_len += len;
        while bits_len >= 8 {
            bits_len -= 8;
            out.push((bits >> bits_len) as u8);
        }
    }
    if bits_len > 0 {
        let padding_len = 8 - bits_len;
        out.push((bits << padding_len) as u8 | ((1u16 << padding_len) - 1) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(input: &[u8]) -> Result<Vec<u8>, HpackError> {
        let mut out = Vec::new();
        decode(input, &mut out).map(|()| out)
    }

    #[test]
    fn codes_of_appendix_b() {
        for (symbol, code) in [
            (0, 0x1ff8),
            (usize::from(b'0'), 0x0),
            (usize::from(b'a'), 0x3),
            (usize::from(b'\\'), 0x7fff0),
            (127, 0xffffffc),
            (195, 0x7fff1),
            (255, 0x3ffffee),
            (22, 0x3ffffffe),
            (256, 0x3fffffff),
        ] {
            assert_eq!(CODE.codes[symbol], code, "symbol {symbol}");
        }
    }

    #[test]
    fn every_octet_survives() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        encode(&all, &mut out);
        assert_eq!(out.len(), encoded_len(&all));
        assert_eq!(decoded(&out), Ok(all));
        for octet in 0..=255 {
            let mut out = Vec::new();
            encode(&[octet], &mut out);
            assert_eq!(decoded(&out), Ok(vec![octet]));
        }
    }

    #[test]
    fn padding_is_checked() {
        assert_eq!(decoded(&[]), Ok(vec![]));
        // '0' is 00000: three ones of padding are right, a zero among them is not.
        assert_eq!(decoded(&[0b0000_0111]), Ok(vec![b'0']));
        assert_eq!(decoded(&[0b0000_0011]), Err(HpackError::Huffman));
        // '&' is 11111000: a whole octet of padding behind it is one bit too many.
        assert_eq!(decoded(&[0b1111_1000]), Ok(vec![b'&']));
        assert_eq!(decoded(&[0b1111_1000, 0xff]), Err(HpackError::Huffman));
        for len in 1..10 {
            assert_eq!(decoded(&vec![0xff; len]), Err(HpackError::Huffman));
        }
    }

    #[test]
    fn end_of_string_is_refused() {
        // EOS (30 ones) followed by '0' and padding.
        assert_eq!(
            decoded(&[0xff, 0xff, 0xff, 0xfc, 0x1f]),
            Err(HpackError::Huffman)
        );
    }
}
