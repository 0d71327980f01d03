//! Sizes and lengths of time as people type them.

use std::time::Duration;

/// Units of sizes with their factors.
const SIZES: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Units of time in seconds.
const TIMES: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// A number of bytes: `100MiB`, `4096`.
pub fn size(text: &str) -> Result<u64, String> {
    scaled(text, &SIZES, true).ok_or_else(|| "give a size such as 100MiB (B, KiB, MiB, GiB, TiB)".to_owned())
}

/// A limit, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Any number.
    Any,
    /// At most so many.
    AtMost(u64),
}

impl Limit {
    /// The number, if there is one.
    pub fn number(self) -> Option<u64> {
        match self {
            Limit::Any => None,
            Limit::AtMost(number) => Some(number),
        }
    }
}

/// A number of bytes, or `any`.
pub fn limited_size(text: &str) -> Result<Limit, String> {
    match text {
        "any" => Ok(Limit::Any),
        text => size(text)
            .map(Limit::AtMost)
            .map_err(|error| format!("{error}, or any")),
    }
}

/// A number, or `any`.
pub fn limited_count(text: &str) -> Result<Limit, String> {
    match text {
        "any" => Ok(Limit::Any),
        text => text
            .parse()
            .map(Limit::AtMost)
            .map_err(|_| "give a whole number, or any".to_owned()),
    }
}

/// A length of time: `24h`, `90m`, `0s`. The unit must be there: what 24 means is anybody's guess.
pub fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, &TIMES, false)
        .map(Duration::from_secs)
        .ok_or_else(|| "give a whole number with a unit, such as 90m, 24h or 7d (s, m, h, d)".to_owned())
}

fn scaled(text: &str, units: &[(&str, u64)], bare: bool) -> Option<u64> {
    let unit = units.iter().find(|(unit, _)| text.ends_with(unit));
    let (digits, factor) = match unit {
        Some((unit, factor)) => (text.strip_suffix(unit)?.trim_end(), *factor),
        None if bare => (text, 1),
        None => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::{duration, size};

    #[test]
    fn sizes_and_times_are_read() {
        for (text, bytes) in [("0", 0), ("7B", 7), ("100MiB", 100 << 20), ("2 TiB", 2 << 40)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "-1", "+1", "1MB", "20000000TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        for (text, seconds) in [("0s", 0), ("90m", 5400), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(duration(text).map(|time| time.as_secs()), Ok(seconds), "{text}");
        }
        for text in ["", "24", "h", "1.5h", "-1h", "1w", "24 hours"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
