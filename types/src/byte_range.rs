//! A half-open range of byte offsets.

/// The bytes from `start` up to, not including, `end`. Invariant: `start <= end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// The range `start..end`, or `None` if `end` lies before `start`.
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start <= end).then_some(ByteRange { start, end })
    }

    /// The `length` bytes from `start` on, cut at `u64::MAX`.
    pub fn at(start: u64, length: u64) -> Self {
        ByteRange {
            start,
            end: start.saturating_add(length),
        }
    }

    /// Offset of the first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// Offset one past the last byte.
    pub fn end(self) -> u64 {
        self.end
    }

    /// Number of bytes.
    pub fn length(self) -> u64 {
        self.end - self.start
    }

    /// Whether the range holds no byte.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes in both ranges; `None` if there are none.
    pub fn intersection(self, other: ByteRange) -> Option<ByteRange> {
        let start = self.start.max(other.start);
        let end = self.end.min(other.end);
        (start < end).then_some(ByteRange { start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::ByteRange;

    #[test]
    fn ranges_are_half_open() {
        let a = ByteRange::at(0, 10);
        assert_eq!(a.intersection(ByteRange::at(10, 5)), None);
        assert_eq!(a.intersection(ByteRange::at(9, 5)), ByteRange::new(9, 10));
        assert_eq!(ByteRange::new(3, 2), None);
        assert!(ByteRange::at(7, 0).is_empty());
        assert_eq!(ByteRange::at(u64::MAX - 1, 10).length(), 1);
    }
}
