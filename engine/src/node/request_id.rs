//! Ids of requests and leases, unique over members and restarts.
//!
//! ```text
//!  | low 16 bits of the member id | 40 bits of unix milliseconds at start | 8-bit counter |
//! ```
//! The counter carries into the milliseconds, so ids grow by one. Source: contract `semantics.md` section 1.

/// Hands out ids.
#[derive(Clone, Debug)]
pub struct RequestIds {
    prefix: u64,
    suffix: u64,
}

const SUFFIX_BITS: u32 = 48;
const COUNTER_BITS: u32 = 8;

impl RequestIds {
    /// `started_unix_ms` is the wall clock at start; two runs of one member must differ in it.
    pub fn new(member_id: u64, started_unix_ms: u64) -> Self {
        let suffix = (started_unix_ms << COUNTER_BITS) & low_bits(SUFFIX_BITS);
        RequestIds {
            prefix: (member_id & low_bits(16)) << SUFFIX_BITS,
            suffix,
        }
    }

    /// A fresh id; never 0.
    pub fn next_id(&mut self) -> u64 {
        self.suffix += 1;
        let id = self.prefix | (self.suffix & low_bits(SUFFIX_BITS));
        if id == 0 { self.next_id() } else { id }
    }

    /// A fresh lease id: an id with the sign bit cleared.
    pub fn next_lease_id(&mut self) -> i64 {
        (self.next_id() & low_bits(63)) as i64
    }
}

const fn low_bits(count: u32) -> u64 {
    (1 << count) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_the_member_and_the_time_and_grow_by_one() {
        let mut ids = RequestIds::new(0x1234_5678, 0x12_3456_789a);
        assert_eq!(ids.next_id(), 0x5678_1234_5678_9a01);
        assert_eq!(ids.next_id(), 0x5678_1234_5678_9a02);
    }

    #[test]
    fn the_counter_wraps_inside_its_part() {
        let mut ids = RequestIds::new(0xffff, u64::MAX);
        for _ in 0..300 {
            assert_eq!(ids.next_id() >> SUFFIX_BITS, 0xffff);
        }
        assert!(RequestIds::new(0xffff, 1).next_lease_id() > 0);
    }
}
