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

    /// The same point in time for calendars. Nothing outside the years -9999 to 9999.
    pub fn to_instant(self) -> Option<jiff::Timestamp> {
        let nanoseconds = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds);
        jiff::Timestamp::from_nanosecond(nanoseconds).ok()
    }

    /// The point in time that a calendar names.
    pub fn from_instant(instant: jiff::Timestamp) -> Self {
        // Of times before 1970 both parts are negative there; here the nanoseconds count forward. Its range fits 63 bits of seconds.
        let nanoseconds = instant.as_nanosecond();
        Timestamp {
            seconds: nanoseconds.div_euclid(1_000_000_000) as i64,
            nanoseconds: nanoseconds.rem_euclid(1_000_000_000) as u32,
        }
    }

    /// The next representable point in time.
    pub fn successor(self) -> Self {
        Timestamp::new(self.seconds, self.nanoseconds + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn instants_are_the_same_points_in_time() {
        for (seconds, nanoseconds) in [
            (0, 0),
            (-1, 999_999_999),
            (1_795_269_789, 7),
            (-62_135_596_800, 0),
        ] {
            let time = Timestamp::new(seconds, nanoseconds);
            assert_eq!(time.to_instant().map(Timestamp::from_instant), Some(time));
        }
        assert_eq!(Timestamp::new(i64::MAX, 0).to_instant(), None);
    }
}
