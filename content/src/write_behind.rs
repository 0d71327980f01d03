//! Write-behind: large amounts of bytes that are written once, front to back, leave the page cache as they are written.
//!
//! Left to itself the kernel keeps them all, which costs a page of memory for each, pushes out what others use, and leaves all the
//! writing to the disk to the sync at the end. Here the disk begins as soon as [`WINDOW_BYTES`] are there, and what it has
//! is dropped [`WINDOWS_MAX`] windows later, so that the same memory is used again and again. The kernel is only advised: nothing here
//! decides what is durable, and a failed write is told by the next sync.
//!
//! The advice is POSIX_FADV_DONTNEED, which begins to write what is dirty and drops what is clean (posix_fadvise(2), mm/fadvise.c): it is
//! given twice.

use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::fs::{Advice, fadvise};

/// Bytes that are given to the disk at once.
pub const WINDOW_BYTES: u64 = 8 << 20;
/// Windows that the disk may be at before the first of them is dropped.
pub const WINDOWS_MAX: u64 = 4;

/// How far the bytes of one file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteBehind {
    /// What is before this was dropped.
    dropped: u64,
    /// What is before this was given to the disk.
    given: u64,
    /// What is before this was written.
    written: u64,
}

impl WriteBehind {
    /// Bytes will be written from `start` on.
    pub fn new(start: u64) -> Self {
        WriteBehind {
            dropped: start,
            given: start,
            written: start,
        }
    }

    /// Everything before `end` is written. `advise` is called for the ranges that shall leave.
    pub fn advance(&mut self, end: u64, mut advise: impl FnMut(Range<u64>)) {
        self.written = self.written.max(end);
        if self.written - self.given < WINDOW_BYTES {
            return;
        }
        advise(self.given..self.written);
        self.given = self.written;
        let keep = self.given.saturating_sub(WINDOW_BYTES * WINDOWS_MAX);
        if keep > self.dropped {
            advise(self.dropped..keep);
            self.dropped = keep;
        }
    }

    /// Gives what is left to the disk, or drops it if a sync came before. What is less than a window in all stays in memory.
    pub fn finish(self, mut advise: impl FnMut(Range<u64>)) {
        if self.written - self.dropped >= WINDOW_BYTES {
            advise(self.dropped..self.written);
        }
    }
}

/// Advises that these bytes of a file will not be read soon. That it cannot be done is no failure.
pub fn leave(file: impl AsFd, range: Range<u64>) {
    if let Some(length) = NonZeroU64::new(range.end.saturating_sub(range.start)) {
        let _ = fadvise(file, range.start, Some(length), Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::{WINDOW_BYTES, WINDOWS_MAX, WriteBehind};

    #[test]
    fn every_byte_is_given_once_and_dropped_once_but_the_last_windows() {
        let start = 4096;
        let mut behind = WriteBehind::new(start);
        let (mut given, mut dropped) = (start, start);
        let step = WINDOW_BYTES / 3;
        let mut end = start;
        for _ in 0..100 {
            end += step;
            let mut advised = Vec::new();
            behind.advance(end, |range| advised.push(range));
            let mut advised = advised.into_iter();
            if let Some(range) = advised.next() {
                assert_eq!((range.start, range.end), (given, end));
                given = end;
            }
            if let Some(range) = advised.next() {
                assert_eq!(range.start, dropped);
                assert!(range.end + WINDOWS_MAX * WINDOW_BYTES <= given);
                dropped = range.end;
            }
            assert!(end - given < WINDOW_BYTES + step);
            assert!(given - dropped <= (WINDOWS_MAX + 2) * WINDOW_BYTES);
        }
        let mut last = Vec::new();
        behind.finish(|range| last.push(range));
        assert_eq!(last, vec![dropped..end]);
    }

    #[test]
    fn little_stays_in_memory() {
        let mut behind = WriteBehind::new(0);
        behind.advance(WINDOW_BYTES - 1, |range| unreachable!("{range:?}"));
        behind.finish(|range| unreachable!("{range:?}"));
    }
}
