//! Points in time with nanosecond resolution.

/// Time since the Unix epoch, UTC. Invariant: `nanoseconds < 1_000_000_000`; times before 1970 have negative
/// `seconds` and count nanoseconds forward from there, as `struct timespec` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
}

impl Timestamp {
    /// A point in time; nanoseconds beyond a second are carried over.
    pub fn new(seconds: i64, nanoseconds: u32) -> Self {
        Timestamp {
            seconds: seconds.saturating_add(i64::from(nanoseconds / 1_000_000_000)),
            nanoseconds: nanoseconds % 1_000_000_000,
        }
    }

    /// Whole seconds since 1970-01-01 UTC.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second, `0..1_000_000_000`.
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    /// The next representable point in time.
    pub fn successor(self) -> Self {
        Timestamp::new(self.seconds, self.nanoseconds + 1)
    }
}
