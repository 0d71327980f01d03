//! The real clock and the real randomness, and the forms of time that the API server knows.
//!
//! Decisions take a [`Clock`], so that tests say what time it is. Delays of queues and back-off use the monotonic clock of the async runtime: they
//! decide nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use cairn_types::{Clock, Randomness, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};

/// The wall clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is where the operator's clock comes from"
    )]
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp::new(
                i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                since.subsec_nanos(),
            ),
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
        getrandom::fill(buffer).expect("getrandom(2) exists on every supported kernel and does not fail");
    }
}

/// A random number, for jitter and names.
pub fn random(randomness: &dyn Randomness) -> u64 {
    let mut bytes = [0; 8];
    randomness.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// As the API server writes times: whole seconds. Times outside the years -9999 to 9999 become the nearest.
pub fn time(timestamp: Timestamp) -> Time {
    Time(instant(Timestamp::new(timestamp.seconds(), 0)))
}

/// As leases and events write times: microseconds.
pub fn micro_time(timestamp: Timestamp) -> MicroTime {
    let microseconds = timestamp.nanoseconds() / 1000 * 1000;
    MicroTime(instant(Timestamp::new(timestamp.seconds(), microseconds)))
}

/// The point in time of a field of an object.
pub fn timestamp(time: &Time) -> Timestamp {
    Timestamp::from_instant(time.0)
}

fn instant(timestamp: Timestamp) -> jiff::Timestamp {
    timestamp.to_instant().unwrap_or(match timestamp.seconds() < 0 {
        true => jiff::Timestamp::MIN,
        false => jiff::Timestamp::MAX,
    })
}

#[cfg(test)]
mod tests {
    use cairn_types::{Clock, Randomness, Timestamp};

    use super::{SystemClock, SystemRandomness, time, timestamp};

    #[test]
    fn times_of_objects_are_whole_seconds() {
        let shown = serde_json::to_value(time(Timestamp::new(1_795_269_789, 700))).unwrap();
        assert_eq!(shown, "2026-11-21T14:03:09Z");
        assert_eq!(
            timestamp(&time(Timestamp::new(1_795_269_789, 700))),
            Timestamp::new(1_795_269_789, 0)
        );
    }

    #[test]
    fn the_real_ones_answer() {
        assert!(SystemClock.now().seconds() > 1_700_000_000);
        let (mut a, mut b) = ([0u8; 16], [0u8; 16]);
        SystemRandomness.fill(&mut a);
        SystemRandomness.fill(&mut b);
        assert_ne!(a, b);
    }
}
