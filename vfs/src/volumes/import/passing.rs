//! Bytes of an import on their way through the page cache: see [`cairn_content::write_behind`]. A tree that comes in is larger than what
//! anybody reads of it soon.

use cairn_content::Log;
use cairn_content::write_behind::WriteBehind;
use cairn_types::{LogSlice, SegmentId};

/// The run of records in one segment that is being written.
#[derive(Default)]
pub(super) struct Passing {
    now: Option<(SegmentId, WriteBehind)>,
}

impl Passing {
    /// These bytes were appended.
    pub(super) fn appended(&mut self, log: &Log, slice: &LogSlice) {
        let segment = slice.segment();
        if self.now.as_ref().is_none_or(|(current, _)| *current != segment) {
            self.finish(log);
            self.now = Some((segment, WriteBehind::new(slice.offset())));
        }
        if let Some((_, behind)) = &mut self.now {
            let end = slice.offset() + u64::from(slice.covered());
            behind.advance(end, |range| log.leave(segment, range));
        }
    }

    /// Everything that was appended is on the disk, or nothing more comes in this segment.
    pub(super) fn finish(&mut self, log: &Log) {
        if let Some((segment, behind)) = self.now.take() {
            behind.finish(|range| log.leave(segment, range));
        }
    }
}
