//! The hot append log: every write lands here once, as one record in a large preallocated segment file on local disk.
//!
//! Invariants:
//! - What was acknowledged by [`Log::sync`] survives a power cut, as an unbroken sequence of records that
//!   [`Log::open`] replays.
//! - Bytes are returned only if they have the checksums that they were written with.
//! - Bytes never change once they are written, and no position and no [`SegmentId`] that a sync has covered is used
//!   twice. Segments go as a whole, by [`Log::remove_segment`].
//! - After a write or a sync failed, nothing is acknowledged any more.
//!
//! Positions. The log is one endless sequence of bytes; each segment owns a run of it, whose start (its *base*) stands
//! in its header, so the size of new segments can be changed at any time. Positions between the last record of a
//! segment and the first of the next mean nothing. A position to keep is always the end of a record (or 0).
//!
//! It does not know what the bytes mean and which of them are still needed, does not group the syncs of its callers
//! (one thread of theirs should), and does not encrypt. All methods block.
//!
//! Lock order: `sync_turn`, `tail`, `catalog`. The set of open files has a lock of its own, below all of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_types::{LogPosition, SegmentId};
use parking_lot::{Condvar, Mutex};

mod append;
pub mod directory;
mod error;
mod format;
mod read;
mod read_buffers;
mod replay;
mod settings;
pub mod store;
mod sync;
pub mod testing;
#[cfg(test)]
mod tests;

pub use append::Appended;
pub use directory::DirectoryStore;
pub use error::{LogError, OpenError, RecordFault};
pub use format::{FORMAT_VERSION, SEGMENT_HEADER_BYTES};
pub use replay::{Recovery, ReplayedRecord};
pub use settings::{
    APPENDS_IN_FLIGHT_MAX, LogSettings, OPEN_SEGMENTS_MAX, RECORD_CONTEXT_BYTES_MAX,
    RECORD_PAYLOAD_BYTES_MAX, SEGMENT_BYTES_MAX, UNSYNCED_SEGMENTS_MAX,
};

use append::Tail;
use format::RecordKey;
use read::OpenFiles;
use read_buffers::ReadBuffers;
use store::SegmentStore;

/// What a log is made of.
pub struct LogParts {
    /// Where the segments are: a [`DirectoryStore`], but for tests.
    pub store: Arc<dyn SegmentStore>,
    /// Bounds and sizes.
    pub settings: LogSettings,
    /// 16 random bytes, the identity of the log if this opening makes it. Ignored if there is one.
    pub new_identity: [u8; 16],
}

/// What the caller knows about the log that it opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayStart {
    /// Replay the records after this position: 0, or the end of a record ([`Appended::end`], [`ReplayedRecord::end`] or
    /// what [`Log::sync`] returned).
    pub from: LogPosition,
    /// The log is known to have been durable up to here. If its end is found before that, opening fails.
    pub known_durable: LogPosition,
    /// The identity that the log must have, if the caller has kept it.
    pub expected_identity: Option<[u8; 16]>,
}

/// A segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its id.
    pub id: SegmentId,
    /// Log position of its first byte.
    pub start: LogPosition,
    /// Log position where its last record ends, or, of the one that is being appended to, where its room ends.
    pub end: LogPosition,
    /// Bytes that it takes up on disk.
    pub disk_bytes: u64,
}

/// The log. All methods may be called from many threads at once.
pub struct Log {
    store: Arc<dyn SegmentStore>,
    settings: LogSettings,
    identity: [u8; 16],
    key: RecordKey,
    recovery: Recovery,
    tail: Mutex<Tail>,
    /// Signals, together with `tail`: a record was written, a place was taken back, a sync ended, or the log stopped.
    progress: Condvar,
    /// Held by the thread that syncs.
    sync_turn: Mutex<()>,
    /// The position up to which everything is durable. Written by the holder of `sync_turn` only.
    durable: AtomicU64,
    /// The newest segment that is certainly on the disk, as its id; 0 if none. Segments before it may be removed: it
    /// is what finds the log's end and identity again.
    anchor: AtomicU64,
    /// Why the log has stopped.
    poison: OnceLock<Arc<str>>,
    files: OpenFiles,
    buffers: ReadBuffers,
    catalog: Mutex<BTreeMap<SegmentId, SegmentInfo>>,
}

impl Log {
    /// Opens a log, or makes one if the store is empty, and hands every valid record after `start.from` to `visit`, in
    /// order. All of them are durable by then. Reads the segments that hold such records, and only the headers of
    /// others; so its time is bounded by what the log holds after `start.from`.
    ///
    /// A torn tail is cut; [`Log::recovery`] says so. Errors: [`LogError::DamagedRecord`], [`LogError::DamagedHeader`],
    /// [`LogError::MissingSegment`] and [`LogError::Shortened`] if something is missing that was durable,
    /// [`LogError::NotABoundary`], [`LogError::Foreign`], [`LogError::Version`], [`LogError::Setting`], and
    /// [`LogError::Io`]; after these nothing has been cut or removed, unless the removal itself failed.
    /// [`OpenError::Visit`] if `visit` fails: then nothing has been cut either. A full disk is no reason to fail.
    pub fn open<E: std::error::Error + 'static>(
        parts: LogParts,
        start: ReplayStart,
        visit: &mut dyn FnMut(ReplayedRecord<'_>) -> Result<(), E>,
    ) -> Result<Log, OpenError<E>> {
        let LogParts {
            store,
            settings,
            new_identity,
        } = parts;
        settings.check()?;
        let recovered = replay::recover(store.as_ref(), new_identity, &start, visit)?;
        let replay::Recovered { end, recovery, .. } = recovered;
        tracing::info!(
            records = recovery.records,
            bytes = recovery.payload_bytes,
            end = end.0,
            removed_segments = recovery.removed_segments,
            "the log is open"
        );
        if let Some((segment, offset, fault)) = &recovery.torn {
            tracing::warn!(segment = segment.0, offset, %fault, "the log's tail was torn and is cut");
        }
        Ok(Log {
            key: RecordKey::new(&recovered.identity),
            identity: recovered.identity,
            tail: Mutex::new(Tail::after(
                end,
                recovered.next_sequence,
                recovered.next_segment,
                recovered.next_base,
            )),
            progress: Condvar::new(),
            sync_turn: Mutex::new(()),
            durable: AtomicU64::new(end.0),
            anchor: AtomicU64::new(recovered.anchor.map_or(0, |anchor| anchor.0)),
            poison: OnceLock::new(),
            files: OpenFiles::new(settings.open_segments_max),
            buffers: ReadBuffers::default(),
            catalog: Mutex::new(recovered.catalog),
            recovery,
            settings,
            store,
        })
    }

    /// What opening found.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The identity in the header of every segment.
    pub fn identity(&self) -> [u8; 16] {
        self.identity
    }

    /// The position up to which everything is durable.
    pub fn durable(&self) -> LogPosition {
        LogPosition(self.durable.load(Ordering::Acquire))
    }

    /// Where the last record ends that has a place in the log. It may not be written yet.
    pub fn end(&self) -> LogPosition {
        self.tail.lock().end
    }

    /// Why the log has stopped; `None` while it has not.
    pub fn poisoned(&self) -> Option<Arc<str>> {
        self.poison.get().cloned()
    }

    /// All segments, the oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.catalog.lock().values().copied().collect()
    }

    /// Bytes that all segments take up on disk, with the room reserved for the newest.
    pub fn disk_bytes(&self) -> u64 {
        self.catalog.lock().values().map(|info| info.disk_bytes).sum()
    }

    /// Bytes that may still be written to the file system. Fails with [`LogError::Io`].
    pub fn free_bytes(&self) -> Result<u64, LogError> {
        let failed = |error| LogError::io("examine the log's file system".to_owned(), error);
        self.store.free_bytes().map_err(failed)
    }

    /// Removes a segment with all that it holds. Reads that are running end well; later ones fail with
    /// [`LogError::NoSegment`]. The caller must never again open the log with a `from` before the segment's end.
    ///
    /// Fails with [`LogError::SegmentInUse`] for the newest segment that is durable and those after it, with
    /// [`LogError::NoSegment`] if there is none, and with [`LogError::Io`]. The removal need not be durable on return:
    /// after a power cut the segment may be there again.
    pub fn remove_segment(&self, id: SegmentId) -> Result<(), LogError> {
        if !self.catalog.lock().contains_key(&id) {
            return Err(LogError::NoSegment { segment: id });
        }
        if id.0 >= self.anchor.load(Ordering::Acquire) {
            return Err(LogError::SegmentInUse { segment: id });
        }
        self.store.remove(id).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LogError::NoSegment { segment: id },
            _ => LogError::io(format!("remove segment {:016x}", id.0), error),
        })?;
        self.catalog.lock().remove(&id);
        self.files.remove(id);
        Ok(())
    }
}
