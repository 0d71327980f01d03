//! Appending: a place in the log under a short lock, checksums and the write itself outside of it.
//!
//! Invariants of [`Tail`], which one mutex guards:
//! - `pending` holds the records that have a place, in the order of their sequence numbers, from the first one that is
//!   not yet written on. `written` is the end of the record before it: everything up to there is in the files.
//! - A segment is in `unsynced` from its creation until a sync has covered its last record.
//! - The active segment is the last one of `unsynced`.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cairn_types::{LogPosition, LogSlice, SegmentId};
use parking_lot::MutexGuard;

use super::error::LogError;
use super::format::{
    RECORD_ALIGNMENT, SEGMENT_HEADER_BYTES, SegmentHeader, encode_front, payload_offset, record_bytes,
    seal_front,
};
use super::settings::{APPENDS_IN_FLIGHT_MAX, RECORD_CONTEXT_BYTES_MAX, UNSYNCED_SEGMENTS_MAX};
use super::store::SegmentFile;
use super::{Log, SegmentInfo};
use crate::checksum::block_checksums;

/// What an append returns. The bytes can be read at once; they are durable when [`Log::sync`] has returned a position
/// of at least `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Where the payload is.
    pub slice: LogSlice,
    /// Where the record begins.
    pub start: LogPosition,
    /// Where the record ends.
    pub end: LogPosition,
    /// The record's number: one more than that of the record before it in the log.
    pub sequence: u64,
}

/// A segment that this process has written to.
pub(super) struct Segment {
    pub id: SegmentId,
    pub base: LogPosition,
    pub bytes: u64,
    pub file: Arc<dyn SegmentFile>,
    /// Where its last record ends, once no more can follow; 0 before.
    pub closed_end: AtomicU64,
    /// Whether its directory entry is durable.
    pub entry_durable: AtomicBool,
}

/// A record that has a place.
struct Placed {
    end: LogPosition,
    written: bool,
}

/// The end of the log.
pub(super) struct Tail {
    active: Option<Arc<Segment>>,
    /// Where the next record goes in the active segment.
    offset: u64,
    /// Where the last record that has a place ends.
    pub end: LogPosition,
    next_sequence: u64,
    next_segment: SegmentId,
    next_base: LogPosition,
    pending: VecDeque<Placed>,
    /// Everything that ends at or before this position is in the files.
    pub written: LogPosition,
    /// The highest end of a record that is in the files; there may be gaps before it.
    pub returned: LogPosition,
    pub unsynced: VecDeque<Arc<Segment>>,
}

impl Tail {
    /// The tail of a log that ends at `end` and has no segment to append to yet.
    pub(super) fn after(
        end: LogPosition,
        next_sequence: u64,
        next_segment: SegmentId,
        next_base: LogPosition,
    ) -> Self {
        Tail {
            active: None,
            offset: 0,
            end,
            next_sequence,
            next_segment,
            next_base,
            pending: VecDeque::new(),
            written: end,
            returned: end,
            unsynced: VecDeque::new(),
        }
    }

    /// Whether the active segment has room for a record of `length` bytes.
    fn fits(&self, length: u64) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| self.offset + length <= active.bytes)
    }

    /// Gives the next record its place in the active segment, which must have room.
    fn place(&mut self, length: u64) -> Option<Place> {
        let segment = Arc::clone(self.active.as_ref()?);
        let place = Place {
            offset: self.offset,
            start: LogPosition(segment.base.0 + self.offset),
            end: LogPosition(segment.base.0 + self.offset + length),
            sequence: self.next_sequence,
            previous_end: self.end,
            segment,
        };
        self.pending.push_back(Placed {
            end: place.end,
            written: false,
        });
        self.offset += length;
        self.end = place.end;
        self.next_sequence += 1;
        Some(place)
    }

    /// Notes that a record is written. Says whether `written` moved.
    fn complete(&mut self, place: &Place) -> bool {
        let first = self.next_sequence - self.pending.len() as u64;
        if let Some(placed) = self.pending.get_mut((place.sequence - first) as usize) {
            placed.written = true;
        }
        self.returned = self.returned.max(place.end);
        let before = self.written;
        while let Some(placed) = self.pending.pop_front_if(|placed| placed.written) {
            self.written = placed.end;
        }
        self.written != before
    }

    /// Takes back the place of a record that could not be written; not if others have got theirs after it.
    fn take_back(&mut self, place: &Place) -> bool {
        let active = self
            .active
            .as_ref()
            .is_some_and(|active| active.id == place.segment.id);
        if !active || self.next_sequence != place.sequence + 1 {
            return false;
        }
        self.pending.pop_back();
        self.offset = place.offset;
        self.end = place.previous_end;
        self.next_sequence = place.sequence;
        true
    }
}

/// The place of a record.
struct Place {
    segment: Arc<Segment>,
    offset: u64,
    start: LogPosition,
    end: LogPosition,
    sequence: u64,
    previous_end: LogPosition,
}

impl Log {
    /// Appends a record: up to [`RECORD_CONTEXT_BYTES_MAX`] bytes of context, which replay hands back, and the
    /// concatenation of `payload`, 1 to `payload_bytes_max` bytes. May be called from many threads at once; returns
    /// when the bytes can be read, which is before they are durable.
    ///
    /// Errors: [`LogError::Length`]; [`LogError::NoSpace`], after which nothing has changed; [`LogError::Poisoned`]
    /// from the first failed write or sync on; [`LogError::Io`] if a new segment could not be made, after which
    /// nothing has changed either.
    pub fn append(&self, context: &[u8], payload: &[&[u8]]) -> Result<Appended, LogError> {
        let payload_length = self.check_lengths(context, payload)?;
        let checksums = block_checksums(payload);
        let mut front = encode_front(context, payload_length, &checksums);
        let length = record_bytes(context.len(), payload_length);

        let place = self.reserve(length)?;
        // Never beyond the record's own place: nothing is durable that is not written.
        seal_front(&mut front, &self.key, place.sequence, place.start, self.durable());
        let padding = [0; RECORD_ALIGNMENT as usize];
        let padding = &padding[..(length - front.len() as u64 - u64::from(payload_length)) as usize];
        let mut parts = Vec::with_capacity(payload.len() + 2);
        parts.push(IoSlice::new(&front));
        parts.extend(payload.iter().map(|part| IoSlice::new(part)));
        parts.push(IoSlice::new(padding));
        if let Err(error) = place.segment.file.write_all_at(&mut parts, place.offset) {
            let operation = format!("write to segment {:016x}", place.segment.id.0);
            return Err(self.write_failed(&place, LogError::io(operation, error)));
        }
        if self.tail.lock().complete(&place) {
            self.progress.notify_all();
        }

        let payload_offset = place.offset + payload_offset(context.len(), payload_length) as u64;
        let slice = LogSlice::new(
            place.segment.id,
            payload_offset,
            payload_length,
            0,
            payload_length,
            checksums,
        )
        .expect("a payload of at least one byte with one checksum per block is a slice");
        Ok(Appended {
            slice,
            start: place.start,
            end: place.end,
            sequence: place.sequence,
        })
    }

    fn check_lengths(&self, context: &[u8], payload: &[&[u8]]) -> Result<u32, LogError> {
        let maximum = RECORD_CONTEXT_BYTES_MAX as u64;
        if context.len() as u64 > maximum {
            return Err(LogError::Length {
                what: "context",
                found: context.len() as u64,
                minimum: 0,
                maximum,
            });
        }
        let found = payload.iter().map(|part| part.len() as u64).sum();
        let maximum = u64::from(self.settings.payload_bytes_max);
        if !(1..=maximum).contains(&found) {
            return Err(LogError::Length {
                what: "payload",
                found,
                minimum: 1,
                maximum,
            });
        }
        Ok(found as u32)
    }

    /// Gives a record of `length` bytes its place, in a new segment if need be.
    fn reserve(&self, length: u64) -> Result<Place, LogError> {
        loop {
            let mut tail = self.tail.lock();
            self.check_poison()?;
            if tail.pending.len() >= APPENDS_IN_FLIGHT_MAX {
                self.progress.wait(&mut tail);
                continue;
            }
            if (tail.fits(length) || self.roll(&mut tail)?)
                && let Some(place) = tail.place(length)
            {
                return Ok(place);
            }
            // Too many segments wait for a sync.
            drop(tail);
            self.sync()?;
        }
    }

    /// Makes a new segment the active one; `false` if a sync must come first. The lock stays held, for whoever
    /// appends needs the new segment too; it happens once per segment.
    fn roll(&self, tail: &mut MutexGuard<'_, Tail>) -> Result<bool, LogError> {
        if tail.unsynced.len() >= UNSYNCED_SEGMENTS_MAX {
            return Ok(false);
        }
        let header = SegmentHeader {
            identity: self.identity,
            id: tail.next_segment,
            base: tail.next_base,
            bytes: self.settings.segment_bytes,
            first_sequence: tail.next_sequence,
            previous_end: tail.end,
            durable: self.durable(),
        };
        let name = format!("segment {:016x}", header.id.0);
        let file = self
            .store
            .create(header.id)
            .map_err(|error| LogError::io(format!("create {name}"), error))?;
        // Neither the id nor the positions of an attempt are used again, so whatever is left of it means nothing.
        tail.next_segment = SegmentId(header.id.0 + 1);
        tail.next_base = header.limit();
        let made = self.make(&header, file.as_ref());
        let disk_bytes = match made {
            Ok(disk_bytes) => disk_bytes,
            Err(error) => {
                if let Err(error) = self.store.remove(header.id) {
                    tracing::warn!(segment = header.id.0, %error, "cannot remove a segment that could not be made");
                }
                return Err(LogError::io(format!("make {name}"), error));
            }
        };

        let mut catalog = self.catalog.lock();
        if let Some(closed) = tail.active.take() {
            closed.closed_end.store(tail.offset, Ordering::Release);
            if let Some(info) = catalog.get_mut(&closed.id) {
                info.end = LogPosition(closed.base.0 + tail.offset);
            }
        }
        let segment = Arc::new(Segment {
            id: header.id,
            base: header.base,
            bytes: header.bytes,
            file: Arc::clone(&file),
            closed_end: AtomicU64::new(0),
            entry_durable: AtomicBool::new(false),
        });
        let info = SegmentInfo {
            id: header.id,
            start: header.base,
            end: header.limit(),
            disk_bytes,
        };
        catalog.insert(header.id, info);
        drop(catalog);
        self.files.insert(header.id, file);
        tail.unsynced.push_back(Arc::clone(&segment));
        tail.active = Some(segment);
        tail.offset = SEGMENT_HEADER_BYTES;
        Ok(true)
    }

    /// Reserves a new segment's room and writes its header. Says how many bytes it takes up on disk.
    fn make(&self, header: &SegmentHeader, file: &dyn SegmentFile) -> io::Result<u64> {
        file.allocate(header.bytes)?;
        file.write_all_at(&mut [IoSlice::new(&header.encode())], 0)?;
        if self.catalog.lock().is_empty() {
            // The first segment of the log carries its identity: no record without it, whatever happens to the power.
            file.sync_data()?;
            self.store.sync_directory()?;
        }
        file.disk_bytes()
    }

    /// Says what a failed write means: without room, and with no record after it, the log is as it was before.
    /// Otherwise there is a gap that replay could not get past, so the log stops.
    fn write_failed(&self, place: &Place, error: LogError) -> LogError {
        let mut tail = self.tail.lock();
        if matches!(error, LogError::NoSpace(_)) && tail.take_back(place) {
            self.progress.notify_all();
            return error;
        }
        drop(tail);
        self.poison(&error)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;
    use std::sync::Arc;

    use super::super::testing::MemoryStore;
    use super::super::{Log, LogError, LogParts, LogSettings, ReplayStart};

    fn log() -> Log {
        let store = Arc::new(MemoryStore::new());
        let parts = LogParts {
            store,
            settings: LogSettings::default(),
            new_identity: [1; 16],
        };
        Log::open::<Infallible>(parts, ReplayStart::default(), &mut |_| Ok(())).unwrap()
    }

    #[test]
    fn nothing_after_a_record_that_is_not_written_counts_as_written() {
        let log = log();
        let first = log.append(b"", &[b"first"]).unwrap();
        let gap = log.reserve(64).unwrap();
        let second = log.append(b"", &[b"second"]).unwrap();
        assert_eq!((gap.start, gap.end), (first.end, second.start));
        assert_eq!(log.tail.lock().returned, second.end);
        assert_eq!(log.wait_until_written(first.end).unwrap().0, first.end);
        assert!(log.tail.lock().complete(&gap));
        assert_eq!(log.sync().unwrap(), second.end);
    }

    #[test]
    fn a_record_without_room_is_taken_back_only_if_none_follows() {
        let no_space = || LogError::NoSpace(io::ErrorKind::StorageFull.into());
        let log = log();
        let first = log.append(b"", &[b"first"]).unwrap();
        let gap = log.reserve(64).unwrap();
        assert!(matches!(log.write_failed(&gap, no_space()), LogError::NoSpace(_)));
        assert_eq!(log.end(), first.end);
        let gap = log.reserve(64).unwrap();
        let second = log.append(b"", &[b"second"]).unwrap();
        assert!(matches!(
            log.write_failed(&gap, no_space()),
            LogError::Poisoned { .. }
        ));
        assert!(matches!(
            log.wait_until_written(second.end),
            Err(LogError::Poisoned { .. })
        ));
        assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
        assert_eq!(log.read(&second.slice).unwrap(), &b"second"[..]);
    }
}
