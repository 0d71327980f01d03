//! Which segments of the log must stay though the metadata, as it is being read, does not say so.
//!
//! A sweep reads all metadata and frees the segments that nothing refers to. Meanwhile extents move between keys, and imports
//! append data whose extents come later. So:
//! - who writes an extent while a sweep reads notes its segment, lest the sweep has passed the key;
//! - an import pins the lowest segment that may hold data of it that is not in the metadata yet. It pins before it appends, and
//!   after a commit it first notes the segments of what it committed and then moves the pin: both under one lock, which the sweep
//!   takes to decide.
//!
//! An import that pins after the decision pins the newest segment there is or a later one; the sweep frees only older ones.

use std::collections::{BTreeMap, HashSet};

use cairn_content::log::Log;
use cairn_types::SegmentId;
use parking_lot::Mutex;

/// What keeps segments. The lock is taken last, before any lock inside the log.
#[derive(Default)]
pub(crate) struct References(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// While a sweep reads: segments that something came to refer to.
    noted: Option<HashSet<SegmentId>>,
    /// By number of the pin.
    pins: BTreeMap<u64, SegmentId>,
    next_pin: u64,
}

fn newest(log: &Log) -> SegmentId {
    log.segments().last().map_or(SegmentId(0), |segment| segment.id)
}

impl References {
    /// Says that something comes to refer to the segment.
    pub fn note(&self, segment: SegmentId) {
        if let Some(noted) = self.0.lock().noted.as_mut() {
            noted.insert(segment);
        }
    }

    /// Keeps all that is appended from now on. Tells the number of the pin.
    pub fn pin(&self, log: &Log) -> u64 {
        let mut inner = self.0.lock();
        let number = inner.next_pin;
        inner.next_pin += 1;
        inner.pins.insert(number, newest(log));
        number
    }

    /// Says that everything appended under the pin is in the metadata, in these segments. From now on the pin keeps what is
    /// appended later.
    pub fn committed(&self, pin: u64, log: &Log, segments: impl IntoIterator<Item = SegmentId>) {
        let mut inner = self.0.lock();
        if let Some(noted) = inner.noted.as_mut() {
            noted.extend(segments);
        }
        inner.pins.insert(pin, newest(log));
    }

    /// Ends a pin.
    pub fn unpin(&self, pin: u64) {
        self.0.lock().pins.remove(&pin);
    }

    /// Begins a sweep's reading.
    pub fn begin_reading(&self) {
        self.0.lock().noted = Some(HashSet::new());
    }

    /// Ends a sweep's reading. Tells what must stay besides what was read: these segments, and all from that one on.
    pub fn end_reading(&self, log: &Log) -> (HashSet<SegmentId>, SegmentId) {
        let mut inner = self.0.lock();
        let noted = inner.noted.take().unwrap_or_default();
        let pinned = inner.pins.values().copied().min();
        (
            noted,
            pinned.map_or(newest(log), |pinned| pinned.min(newest(log))),
        )
    }
}
