//! Numbers that look random, the same for the same seed on every platform and in every release.

use std::time::Duration;

use crate::sched::counters::saturating_nanos;

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// Not more than `most`.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.below(saturating_nanos(most).saturating_add(1)))
    }

    /// Less than `n`; zero for zero.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        // The high half of the product: no bias worth mentioning, and no division.
        ((u128::from(self.roll()) * u128::from(n)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed that was noted down gives the same order for ever.
    #[test]
    fn the_numbers_of_a_seed_never_change() {
        let mut dice = Dice::new(0);
        assert_eq!([dice.roll(), dice.roll()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        let mut dice = Dice::new(1234);
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(|n| dice.below(n)), [0, 1, 0, 1, 3, 4, 3, 1, 3, 8]);
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (0..8).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
        assert!(rolls(7).iter().all(|&n| n < 1000));
        assert_eq!(Dice::new(1).below(0), 0);
    }
}
