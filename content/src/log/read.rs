//! Reading and verifying slices, and the bounded set of files that are open for it.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{CHECKSUM_BLOCK, LogSlice, SegmentId};
use parking_lot::Mutex;

use super::Log;
use super::error::LogError;
use super::read_buffers::ReadBuffer;
use super::settings::RECORD_PAYLOAD_BYTES_MAX;
use super::store::{SegmentFile, SegmentStore};
use crate::checksum::crc32c;

/// Segment files that are open, at most `limit`; the one that was used longest ago goes first. A file that goes stays
/// open for whoever reads it at that moment.
pub(super) struct OpenFiles {
    limit: usize,
    files: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    /// Counts uses.
    clock: u64,
    files: HashMap<SegmentId, (Arc<dyn SegmentFile>, u64)>,
}

impl OpenFiles {
    pub(super) fn new(limit: usize) -> Self {
        OpenFiles {
            limit,
            files: Mutex::default(),
        }
    }

    /// The file of a segment, if it is open.
    fn opened(&self, id: SegmentId) -> Option<Arc<dyn SegmentFile>> {
        let mut used = self.files.lock();
        used.clock += 1;
        let clock = used.clock;
        let (file, last) = used.files.get_mut(&id)?;
        *last = clock;
        Some(Arc::clone(file))
    }

    /// The file of a segment, opened if it is not open.
    pub(super) fn get(
        &self,
        store: &dyn SegmentStore,
        id: SegmentId,
    ) -> Result<Arc<dyn SegmentFile>, LogError> {
        if let Some(file) = self.opened(id) {
            return Ok(file);
        }
        // Not under the lock. Two threads may open the same file; one of the two stays.
        let file = store.open(id).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LogError::NoSegment { segment: id },
            _ => LogError::io(format!("open segment {:016x}", id.0), error),
        })?;
        self.insert(id, Arc::clone(&file));
        Ok(file)
    }

    pub(super) fn insert(&self, id: SegmentId, file: Arc<dyn SegmentFile>) {
        let mut used = self.files.lock();
        if used.files.len() >= self.limit && !used.files.contains_key(&id) {
            // A walk over all of them, but only when a file had to be opened anyway.
            let oldest = used
                .files
                .iter()
                .min_by_key(|(_, (_, last))| *last)
                .map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                used.files.remove(&oldest);
            }
        }
        used.clock += 1;
        let clock = used.clock;
        used.files.insert(id, (file, clock));
    }

    pub(super) fn remove(&self, id: SegmentId) {
        self.files.lock().files.remove(&id);
    }
}

impl Log {
    /// The bytes of a slice, verified against its checksums. One read of the blocks that cover them, no copy.
    ///
    /// Blocks. Errors: [`LogError::Checksum`], [`LogError::ShortSegment`] and [`LogError::NoSegment`] if the bytes are
    /// damaged or gone, with the place; [`LogError::Io`] if the disk cannot be read; [`LogError::Length`] if the slice
    /// is longer than any record.
    pub fn read(&self, slice: &LogSlice) -> Result<Bytes, LogError> {
        // Slices come from stored metadata: the bound keeps a wrong one from asking for gigabytes of memory.
        if slice.covered() > RECORD_PAYLOAD_BYTES_MAX {
            return Err(LogError::Length {
                what: "slice",
                found: slice.covered().into(),
                minimum: 1,
                maximum: RECORD_PAYLOAD_BYTES_MAX.into(),
            });
        }
        let segment = slice.segment();
        let file = self.files.get(self.store.as_ref(), segment)?;
        let mut buffer = self.buffers.take(slice.covered() as usize);
        let covered = buffer.as_mut();
        let found = file
            .read_at(covered, slice.offset())
            .map_err(|error| LogError::io(format!("read segment {:016x}", segment.0), error))?;
        if found != covered.len() {
            return Err(LogError::ShortSegment {
                segment,
                offset: slice.offset(),
                expected: slice.covered().into(),
                found: found as u64,
            });
        }
        verify(slice, covered)?;
        Ok(part(buffer, slice))
    }

    /// Advises that a part of a segment will not be read soon, see [`write_behind`](crate::write_behind). What the advice is worth is the
    /// system's matter; nothing fails.
    pub fn leave(&self, segment: SegmentId, range: Range<u64>) {
        if let Ok(file) = self.files.get(self.store.as_ref(), segment) {
            file.leave(range);
        }
    }

    /// As [`Log::read`], if the bytes are in memory and sound. `None` says nothing: ask [`Log::read`]. Does not block.
    pub fn read_cached(&self, slice: &LogSlice) -> Option<Bytes> {
        if slice.covered() > RECORD_PAYLOAD_BYTES_MAX {
            return None;
        }
        let file = self.files.opened(slice.segment())?;
        let mut buffer = self.buffers.take(slice.covered() as usize);
        let covered = buffer.as_mut();
        if !file.read_cached_at(covered, slice.offset()) {
            return None;
        }
        verify(slice, covered).ok()?;
        Some(part(buffer, slice))
    }
}

/// Checks the blocks of a slice.
fn verify(slice: &LogSlice, covered: &[u8]) -> Result<(), LogError> {
    let blocks = covered.chunks(CHECKSUM_BLOCK as usize).zip(slice.checksums());
    for (index, (block, expected)) in blocks.enumerate() {
        let found = crc32c(block);
        if found != *expected {
            return Err(LogError::Checksum {
                segment: slice.segment(),
                offset: slice.offset() + index as u64 * u64::from(CHECKSUM_BLOCK),
                expected: *expected,
                found,
            });
        }
    }
    Ok(())
}

/// The data of a slice out of the blocks that cover it.
fn part(covered: ReadBuffer, slice: &LogSlice) -> Bytes {
    let start = slice.skip() as usize;
    covered.freeze().slice(start..start + slice.length() as usize)
}
