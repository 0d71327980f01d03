//! The two things an engine may not reach for by itself: time and chance. They come in as parameters, so that a test
//! decides what they say.

use crate::Timestamp;

/// Tells the wall-clock time.
pub trait Clock: Send + Sync + 'static {
    /// The current time, UTC.
    fn now(&self) -> Timestamp;
}

/// Gives unpredictable bytes.
pub trait Randomness: Send + Sync + 'static {
    /// Fills `buffer` with bytes fit for identifiers and keys.
    fn fill(&self, buffer: &mut [u8]);
}
