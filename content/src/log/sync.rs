//! Making the log durable, and stopping it for good when that fails.
//!
//! What is durable is always a prefix: a sync first waits until every record before its target is written, then syncs
//! the segments in their order, and only then moves `durable`. After a failed `fdatasync` nobody can know which bytes
//! are on the disk (the kernel forgets which ones were not), so it is never retried.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_types::LogPosition;

use super::Log;
use super::append::Segment;
use super::error::LogError;

impl Log {
    /// Makes every record whose append had returned before the call durable against a power cut. Returns a position
    /// such that every record that ends at or before it is durable.
    ///
    /// Blocks. Calls from many threads at once share their work: whoever waits for a running sync finds that the next
    /// one covers all of those that wait. Fails with [`LogError::Poisoned`] only.
    pub fn sync(&self) -> Result<LogPosition, LogError> {
        let target = {
            let tail = self.tail.lock();
            self.check_poison()?;
            tail.returned
        };
        if self.durable() >= target {
            return Ok(self.durable());
        }
        let _turn = self.sync_turn.lock();
        if self.durable() >= target {
            return Ok(self.durable());
        }
        let (end, segments) = self.wait_until_written(target)?;
        self.sync_segments(end, &segments)
            .map_err(|error| self.poison(&error))?;
        self.durable.store(end.0, Ordering::Release);
        if let Some(newest) = segments.last() {
            self.anchor.store(newest.id.0, Ordering::Release);
        }
        self.tail
            .lock()
            .unsynced
            .retain(|segment| !finished(segment, end));
        // An append may wait because too many segments were not synced.
        self.progress.notify_all();
        Ok(end)
    }

    /// Waits until everything up to `target` is in the files, and says up to where everything is, and which segments
    /// hold the part of it that is not durable.
    pub(super) fn wait_until_written(
        &self,
        target: LogPosition,
    ) -> Result<(LogPosition, Vec<Arc<Segment>>), LogError> {
        let mut tail = self.tail.lock();
        while tail.written < target {
            self.check_poison()?;
            self.progress.wait(&mut tail);
        }
        self.check_poison()?;
        let end = tail.written;
        Ok((
            end,
            tail.unsynced
                .iter()
                .filter(|segment| segment.base < end)
                .cloned()
                .collect(),
        ))
    }

    fn sync_segments(&self, end: LogPosition, segments: &[Arc<Segment>]) -> Result<(), LogError> {
        let mut entries_durable = true;
        for segment in segments {
            let io =
                |operation| move |error| LogError::io(format!("{operation} {:016x}", segment.id.0), error);
            if finished(segment, end) {
                self.trim(segment);
            }
            segment.file.sync_data().map_err(io("sync segment"))?;
            entries_durable &= segment.entry_durable.load(Ordering::Acquire);
        }
        if !entries_durable {
            self.store
                .sync_directory()
                .map_err(|error| LogError::io("sync the log directory".to_owned(), error))?;
            segments
                .iter()
                .for_each(|segment| segment.entry_durable.store(true, Ordering::Release));
        }
        Ok(())
    }

    /// Gives back the room that a closed segment has not used. If that fails, the room is merely wasted.
    fn trim(&self, segment: &Segment) {
        let end = segment.closed_end.load(Ordering::Acquire);
        let disk_bytes = segment
            .file
            .truncate(end)
            .and_then(|()| segment.file.disk_bytes());
        match disk_bytes {
            Ok(disk_bytes) => {
                if let Some(info) = self.catalog.lock().get_mut(&segment.id) {
                    info.disk_bytes = disk_bytes;
                }
            }
            Err(error) => tracing::warn!(segment = segment.id.0, %error, "cannot trim a full segment"),
        }
    }

    /// Whether the log still takes appends and syncs.
    pub(super) fn check_poison(&self) -> Result<(), LogError> {
        match self.poison.get() {
            Some(cause) => Err(LogError::Poisoned {
                cause: Arc::clone(cause),
            }),
            None => Ok(()),
        }
    }

    /// Stops the log because of `error`, unless it has stopped already.
    pub(super) fn poison(&self, error: &LogError) -> LogError {
        let cause = self.poison.get_or_init(|| {
            let source = error
                .source()
                .map(|source| format!(": {source}"))
                .unwrap_or_default();
            let cause = format!("{error}{source}");
            tracing::error!(
                cause,
                "the log stops: what is on the disk is unknown; check the disk and restart"
            );
            cause.into()
        });
        // Under the lock, so that nobody who has just found no poison goes to sleep after this.
        let _tail = self.tail.lock();
        self.progress.notify_all();
        LogError::Poisoned {
            cause: Arc::clone(cause),
        }
    }
}

/// Whether a sync up to `end` covers all that the segment will ever hold.
fn finished(segment: &Segment, end: LogPosition) -> bool {
    let closed_end = segment.closed_end.load(Ordering::Acquire);
    closed_end != 0 && segment.base.0 + closed_end <= end.0
}
