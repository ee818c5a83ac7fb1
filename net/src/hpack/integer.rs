//! Integers with an N-bit prefix (RFC 7541 §5.1), bounded to 32 bits.

use super::HpackError;

/// Takes one integer off `input`. Its first octet carries the value's low `prefix_bits` bits.
pub(super) fn decode(input: &mut &[u8], prefix_bits: u32) -> Result<u32, HpackError> {
    let prefix_max = (1u32 << prefix_bits) - 1;
    let prefix = u32::from(take_octet(input)?) & prefix_max;
    if prefix < prefix_max {
        return Ok(prefix);
    }
    let mut value = u64::from(prefix_max);
    // Five octets of seven bits hold every 32-bit value; a sixth could only pad or overflow.
    for shift in [0, 7, 14, 21, 28] {
        let octet = take_octet(input)?;
        value += u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| HpackError::IntegerOverflow);
        }
    }
    Err(HpackError::IntegerOverflow)
}

/// Appends `value` with a prefix of `prefix_bits` bits; `flags` fills the bits above the prefix.
pub(super) fn encode(value: usize, prefix_bits: u32, flags: u8, out: &mut Vec<u8>) {
    let prefix_max = (1usize << prefix_bits) - 1;
    if value < prefix_max {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | prefix_max as u8);
    let mut rest = value - prefix_max;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn take_octet(input: &mut &[u8]) -> Result<u8, HpackError> {
    let (&octet, rest) = input.split_first().ok_or(HpackError::Truncated)?;
    *input = rest;
    Ok(octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_appendix_c_1() {
        for (value, prefix_bits, octets) in [
            (10, 5, &[0x0a][..]),
            (1337, 5, &[0x1f, 0x9a, 0x0a]),
            (42, 8, &[0x2a]),
        ] {
            let mut out = Vec::new();
            encode(value as usize, prefix_bits, 0, &mut out);
            assert_eq!(out, octets);
            let mut input = octets;
            assert_eq!(decode(&mut input, prefix_bits), Ok(value));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn bounds() {
        for value in [0, 30, 31, 32, 127, 128, 158, 159, u32::MAX - 1, u32::MAX] {
            for prefix_bits in 4..=7 {
                let mut out = Vec::new();
                encode(value as usize, prefix_bits, 0, &mut out);
                assert_eq!(decode(&mut &out[..], prefix_bits), Ok(value));
                for len in 0..out.len() {
                    assert_eq!(
                        decode(&mut &out[..len], prefix_bits),
                        Err(HpackError::Truncated)
                    );
                }
            }
        }
        let mut above = Vec::new();
        encode(u32::MAX as usize + 1, 7, 0, &mut above);
        assert_eq!(decode(&mut &above[..], 7), Err(HpackError::IntegerOverflow));
        let endless = [0xff; 64];
        assert_eq!(
            decode(&mut &endless[..], 7),
            Err(HpackError::IntegerOverflow)
        );
        let padded = [0x1f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(
            decode(&mut &padded[..], 5),
            Err(HpackError::IntegerOverflow)
        );
    }
}
