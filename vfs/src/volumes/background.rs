//! The work in the background: flushing what the log alone knows, moving the checkpoint, freeing what nothing refers to.
//!
//! Each job is a method that does one round; the thread only decides when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use cairn_metadata::engine::Durability;
use cairn_types::{InodeId, LogPosition, SegmentId, Timestamp, VolumeId};
use parking_lot::RwLock;

use super::Volumes;
use super::import::FORGOTTEN_SECONDS;
use crate::Error;
use crate::space::Nudge;
use crate::volume::{Shared, Volume, log_failed, metadata_failed};

/// Orphans looked at in one round, for each volume.
const ORPHANS_BATCH: usize = 64;

/// The thread, and the way to end it.
pub(super) struct Background {
    nudge: Nudge,
    thread: Option<JoinHandle<()>>,
}

/// What the jobs need.
struct Worker {
    shared: Arc<Shared>,
    volumes: Arc<RwLock<BTreeMap<VolumeId, Arc<Volume>>>>,
}

impl Background {
    pub fn start(volumes: &Volumes) -> std::io::Result<Self> {
        let worker = volumes.worker();
        let nudge = worker.shared.flush_early.clone();
        let thread = std::thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || worker.run())?;
        Ok(Background {
            nudge,
            thread: Some(thread),
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.nudge.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the background thread ended by a panic");
        }
    }
}

impl Volumes {
    fn worker(&self) -> Worker {
        Worker {
            shared: self.shared.clone(),
            volumes: self.volumes.clone(),
        }
    }

    /// Brings everything that the log alone knows into the metadata and moves the checkpoint.
    pub fn flush(&self) -> Result<(), Error> {
        self.worker().flush()
    }

    /// Frees what nothing refers to any more: extents of removed files, branches, segments of the log, old
    /// replies, imports that do not go on.
    pub fn sweep(&self) -> Result<(), Error> {
        self.worker().sweep()
    }
}

impl Worker {
    fn run(&self) {
        let settings = &self.shared.settings;
        let mut swept = Instant::now();
        let mut failing = false;
        while self.shared.flush_early.sleep(settings.flush_interval) {
            let mut outcome = self.flush();
            if outcome.is_ok() && swept.elapsed() >= settings.sweep_interval {
                outcome = self.sweep();
                swept = Instant::now();
            }
            match outcome {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    tracing::error!(%error, "background work failed; it is tried again, and nothing acknowledged is at risk");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }

    fn all(&self) -> Vec<Arc<Volume>> {
        self.volumes.read().values().cloned().collect()
    }

    /// A position of the log at or below which every record has been noted by its file.
    fn noted(&self) -> LogPosition {
        let _nobody_applies = self.shared.applying.write();
        self.shared.log.end()
    }

    fn flush(&self) -> Result<(), Error> {
        let end = self.noted();
        if end == self.shared.store.checkpoint().map_err(metadata_failed)? {
            return Ok(());
        }
        self.shared.log.sync().map_err(log_failed)?;
        self.shared.unstable_bytes.store(0, Ordering::Relaxed);
        for volume in self.all() {
            volume.flush_dirty()?;
        }
        self.shared
            .store
            .set_checkpoint(end, Durability::Process)
            .map_err(metadata_failed)
    }

    fn sweep(&self) -> Result<(), Error> {
        let now = u64::try_from(self.shared.now().seconds()).unwrap_or(0);
        let kept = now.saturating_sub(self.shared.settings.reply_seconds);
        self.shared.store.forget_replies(kept).map_err(metadata_failed)?;
        for volume in self.all() {
            volume.sweep_orphans()?;
        }
        self.forget_imports()?;
        self.shared.store.sweep_branches().map_err(metadata_failed)?;
        self.free_segments()
    }

    /// Forgets the imports that nobody is at and that have not come further for long.
    fn forget_imports(&self) -> Result<(), Error> {
        let store = &self.shared.store;
        let running = self.shared.importing.lock();
        let until = self.shared.now().seconds().saturating_sub(FORGOTTEN_SECONDS);
        for (name, import) in store.imports().map_err(metadata_failed)? {
            if import.progressed < Timestamp::new(until, 0) && !running.contains(&name) {
                store.abandon_import(&name).map_err(metadata_failed)?;
                tracing::info!(workspace = %name, "forgot an import that did not go on");
            }
        }
        Ok(())
    }

    /// Removes the segments of the log that end at or below the checkpoint and that no extent refers to.
    fn free_segments(&self) -> Result<(), Error> {
        let checkpoint = self.shared.store.checkpoint().map_err(metadata_failed)?;
        let old: Vec<_> = self
            .shared
            .log
            .segments()
            .into_iter()
            .filter(|segment| segment.end <= checkpoint)
            .collect();
        if old.is_empty() {
            return Ok(());
        }
        // Nothing that a power cut brings back may refer to a segment that is gone.
        let store = &self.shared.store;
        store
            .engine()
            .sync()
            .map_err(|error| metadata_failed(error.into()))?;
        // Extents move between keys while they are read: one that a change puts behind the reader is noted by the change.
        let references = &self.shared.references;
        references.begin_reading();
        let used = store.segments_in_use().map_err(metadata_failed);
        let (noted, kept_from) = references.end_reading(&self.shared.log);
        let used = used?;
        let free = |id: &SegmentId| *id < kept_from && !used.contains_key(id) && !noted.contains(id);
        for segment in old.iter().filter(|segment| free(&segment.id)) {
            match self.shared.log.remove_segment(segment.id) {
                Ok(()) => tracing::info!(
                    segment = segment.id.0,
                    bytes = segment.disk_bytes,
                    "freed a segment"
                ),
                Err(cairn_content::log::LogError::SegmentInUse { .. }) => {}
                Err(error) => return Err(log_failed(error)),
            }
        }
        Ok(())
    }
}

impl Volume {
    /// Flushes the files that are dirty now, one after the other, so that nobody waits long.
    fn flush_dirty(&self) -> Result<(), Error> {
        let files: Vec<InodeId> = self.state.read().dirty.keys().copied().collect();
        for inode in files {
            let _serial = self.write_lock(inode);
            let end = self.state.read().dirty.get(&inode).map(|file| file.log_end);
            if end.is_some_and(|end| end > self.shared.log.durable()) {
                self.shared.log.sync().map_err(log_failed)?;
            }
            let mut state = self.state.write();
            self.flush_files(&mut state, &[inode])?;
        }
        Ok(())
    }

    fn sweep_orphans(&self) -> Result<(), Error> {
        loop {
            let branch = self.state.read().lineage.branch();
            let orphans = self
                .shared
                .store
                .orphans(branch, ORPHANS_BATCH)
                .map_err(metadata_failed)?;
            for inode in &orphans {
                while !self.sweep_orphan(branch, *inode)? {}
            }
            if orphans.len() < ORPHANS_BATCH {
                return Ok(());
            }
        }
    }
}
