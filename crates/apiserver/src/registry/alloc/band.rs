//! The two bands of a range: the lower one is left for numbers that people choose, as long as the upper one has room.
//!
//! Source: KEP-3070 (addresses) and KEP-3668 (node ports).

use std::ops::RangeInclusive;

use rand::{Rng, rand_core::RngCore};

/// How wide the lower band of a range is.
#[derive(Clone, Copy, Debug)]
pub struct BandRule {
    /// The band is one part in `step` of the range,
    pub step: u128,
    /// but no narrower than this (a range that is not larger has no lower band),
    pub min: u128,
    /// and no wider than that.
    pub max: u128,
}

/// Addresses: a sixteenth, 16 to 256.
pub const ADDRESSES: BandRule = BandRule {
    step: 16,
    min: 16,
    max: 256,
};

/// Node ports: a thirty-second, 16 to 128.
pub const PORTS: BandRule = BandRule {
    step: 32,
    min: 16,
    max: 128,
};

impl BandRule {
    /// The width of the lower band of a range with `size` numbers.
    pub fn width(&self, size: u128) -> u128 {
        if size <= self.min {
            0
        } else {
            (size / self.step).clamp(self.min, self.max)
        }
    }
}

/// The first free number of `range`: the upper band from a random start, then the lower one from another.
/// `lower` is the width of the lower band.
pub fn pick(
    range: RangeInclusive<u128>,
    lower: u128,
    rng: &mut dyn RngCore,
    free: impl Fn(u128) -> bool,
) -> Option<u128> {
    let (first, last) = range.into_inner();
    if first > last {
        return None;
    }
    let split = first.saturating_add(lower);
    let upper = (split <= last)
        .then(|| walk(split, last, rng, &free))
        .flatten();
    upper.or_else(|| {
        (lower > 0)
            .then(|| walk(first, last.min(split - 1), rng, &free))
            .flatten()
    })
}

fn walk(
    first: u128,
    last: u128,
    rng: &mut dyn RngCore,
    free: &impl Fn(u128) -> bool,
) -> Option<u128> {
    let start = rng.random_range(first..=last);
    (start..=last)
        .chain(first..start)
        .find(|number| free(*number))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn widths_of_the_lower_band() {
        let rows = [
            (ADDRESSES, 1 << 16, 256),
            (ADDRESSES, 1 << 8, 16),
            (ADDRESSES, 1 << 4, 0),
            (ADDRESSES, 1 << 64, 256),
            (PORTS, 2768, 86),
            (PORTS, 16, 0),
            (PORTS, 17, 16),
            (PORTS, 60_000, 128),
        ];
        for (rule, size, expected) in rows {
            assert_eq!(rule.width(size), expected, "{size}");
        }
    }

    #[test]
    fn the_lower_band_is_used_last_and_every_number_is_found() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut taken = Vec::new();
        while let Some(n) = pick(100..=139, 16, &mut rng, |n| !taken.contains(&n)) {
            taken.push(n);
        }
        assert_eq!(taken.len(), 40);
        assert!(taken[..24].iter().all(|n| *n >= 116), "{taken:?}");
        assert!(taken[24..].iter().all(|n| *n < 116), "{taken:?}");
    }

    #[test]
    fn the_start_is_random() {
        let picks: Vec<u128> = (0..8)
            .filter_map(|seed| pick(0..=9999, 0, &mut StdRng::seed_from_u64(seed), |_| true))
            .collect();
        assert!(picks.windows(2).any(|pair| pair[0] != pair[1]), "{picks:?}");
    }

    #[test]
    fn an_empty_range_has_nothing() {
        let mut rng = StdRng::seed_from_u64(1);
        assert_eq!(pick(RangeInclusive::new(5, 4), 0, &mut rng, |_| true), None);
    }
}
