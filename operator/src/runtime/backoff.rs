//! How long to wait before something that failed is tried again: exponential, with jitter, with a cap. Pure.

use std::time::Duration;

/// The bounds of a back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure, before jitter.
    pub first: Duration,
    /// The longest wait, before jitter.
    pub longest: Duration,
}

impl Backoff {
    /// For objects whose reconciliation failed.
    pub const OBJECT: Backoff = Backoff {
        first: Duration::from_millis(500),
        longest: Duration::from_secs(120),
    };

    /// The wait after so many failures in a row (1: the first), between three quarters and all of the doubled wait, so that what failed together
    /// does not come again together. `random` decides where between.
    pub fn wait(&self, failures: u32, random: u64) -> Duration {
        let doubled = 1u32
            .checked_shl(failures.saturating_sub(1).min(31))
            .unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(doubled).min(self.longest);
        let quarter = full / 4;
        let share = u32::try_from(random % 1024).unwrap_or(0);
        full - quarter * share / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let waits: Vec<u128> = (1..12).map(|n| Backoff::OBJECT.wait(n, 0).as_millis()).collect();
        assert_eq!(
            waits,
            [
                500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 120_000, 120_000, 120_000
            ]
        );
        assert_eq!(Backoff::OBJECT.wait(u32::MAX, 0), Duration::from_secs(120));
        assert_eq!(Backoff::OBJECT.wait(0, 0), Duration::from_millis(500));
    }

    #[test]
    fn jitter_takes_up_to_a_quarter() {
        for random in [0, 1, 511, 1023, 1024, u64::MAX] {
            let wait = Backoff::OBJECT.wait(3, random).as_millis();
            assert!((1500..=2000).contains(&wait), "{wait}");
        }
        assert_ne!(Backoff::OBJECT.wait(3, 1), Backoff::OBJECT.wait(3, 900));
    }
}
