//! The real clock and the real randomness. Nothing else in the daemon asks the operating system for either.

use std::time::{SystemTime, UNIX_EPOCH};

use cairn_types::{Clock, Randomness, Timestamp};

/// The wall clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is where the engines' clock comes from"
    )]
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            // Seconds since 1970 fit 63 bits for the next 292 billion years.
            Ok(since) => Timestamp::new(since.as_secs() as i64, since.subsec_nanos()),
            // A clock before 1970 is a machine without a battery: any early time serves.
            Err(_) => Timestamp::new(0, 0),
        }
    }
}

/// The operating system's randomness (getrandom(2)).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn fill(&self, buffer: &mut [u8]) {
        // Fails only where the call does not exist, on kernels before 3.17.
        getrandom::fill(buffer).expect("getrandom(2) exists on every supported kernel and does not fail");
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{Clock, Randomness};

    use super::{SystemClock, SystemRandomness};

    #[test]
    fn the_clock_is_past_the_day_this_was_written() {
        assert!(SystemClock.now().seconds() > 1_700_000_000);
    }

    #[test]
    fn randomness_does_not_repeat() {
        let (mut a, mut b) = ([0u8; 32], [0u8; 32]);
        SystemRandomness.fill(&mut a);
        SystemRandomness.fill(&mut b);
        assert_ne!(a, b);
        assert_ne!(a, [0u8; 32]);
    }
}
