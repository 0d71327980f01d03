//! The work in the background: flushing what the log alone knows, moving the checkpoint, freeing what nothing refers to.
//!
//! Each job is a method that does one round; the threads only decide when. Flushing and freeing have a thread each, so that freeing may
//! take as long as it likes: it looks at so many versions a second, and holds no lock of a volume but for a moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_metadata::engine::Durability;
use cairn_types::{BranchId, InodeId, LogPosition, SegmentId, Timestamp, VolumeId};
use parking_lot::{Mutex, RwLock};

use super::Volumes;
use super::import::FORGOTTEN_SECONDS;
use crate::Error;
use crate::control::Swept;
use crate::space::Nudge;
use crate::volume::{Shared, Volume, log_failed, metadata_failed};

/// Orphans looked at in one round, for each volume.
const ORPHANS_BATCH: usize = 64;

/// Versions that a sweep looks at, and removes at most, in one step.
const SWEEP_STEP: usize = 4096;
/// Versions that are looked at once more, and removed, while their volume is locked.
const HIDING_STEP: usize = 128;
/// Of so many sweeps one looks at all branches, not only at those of which it is known that something has changed.
const SWEEPS_PER_WHOLE: u64 = 60;

/// The threads, and the way to end them.
pub(super) struct Background {
    nudges: [Nudge; 2],
    threads: Vec<JoinHandle<()>>,
}

/// One sweep at a time, and what all of them have done.
#[derive(Default)]
pub(super) struct Sweeping {
    turn: Mutex<()>,
    sweeps: AtomicU64,
    branches_left: AtomicU64,
    scanned: AtomicU64,
    removed: AtomicU64,
    bytes: AtomicU64,
    segments: AtomicU64,
    log_bytes: AtomicU64,
}

impl Sweeping {
    pub fn figures(&self) -> Swept {
        let figure = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Swept {
            branches_left: figure(&self.branches_left),
            versions_scanned: figure(&self.scanned),
            versions_removed: figure(&self.removed),
            metadata_bytes: figure(&self.bytes),
            segments: figure(&self.segments),
            log_bytes: figure(&self.log_bytes),
        }
    }
}

/// Takes its time after so many versions; `false`: stop here.
type Pause<'a> = &'a mut dyn FnMut(u64) -> bool;

/// What the jobs need.
struct Worker {
    shared: Arc<Shared>,
    volumes: Arc<RwLock<BTreeMap<VolumeId, Arc<Volume>>>>,
    sweeping: Arc<Sweeping>,
}

impl Background {
    pub fn start(volumes: &Volumes) -> std::io::Result<Self> {
        let nudges = [volumes.shared.flush_early.clone(), Nudge::default()];
        let mut background = Background {
            nudges,
            threads: Vec::new(),
        };
        let worker = volumes.worker();
        let flusher = std::thread::Builder::new().name("background".to_owned());
        let flusher = flusher.spawn(move || worker.run_flushes())?;
        background.threads.push(flusher);
        let (worker, nudge) = (volumes.worker(), background.nudges[1].clone());
        let sweeper = std::thread::Builder::new().name("sweep".to_owned());
        let sweeper = sweeper.spawn(move || worker.run_sweeps(&nudge))?;
        background.threads.push(sweeper);
        Ok(background)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.nudges.iter().for_each(Nudge::stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a background thread ended by a panic");
            }
        }
    }
}

impl Volumes {
    fn worker(&self) -> Worker {
        Worker {
            shared: self.shared.clone(),
            volumes: self.volumes.clone(),
            sweeping: self.sweeping.clone(),
        }
    }

    /// Brings everything that the log alone knows into the metadata and moves the checkpoint.
    pub fn flush(&self) -> Result<(), Error> {
        self.worker().flush()
    }

    /// Frees what nothing refers to any more, all of it and as fast as it goes: extents of removed files, branches, versions that nobody can
    /// see, segments of the log, old replies, imports that do not go on.
    pub fn sweep(&self) -> Result<(), Error> {
        self.worker().sweep(true, &mut |_| true)
    }
}

/// Says of the first of several failures in a row that there is one.
#[derive(Default)]
struct Complaints {
    failing: bool,
}

impl Complaints {
    fn note(&mut self, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                tracing::error!(%error, "background work failed; it is tried again, and nothing acknowledged is at risk");
                self.failing = true;
            }
            Err(_) => {}
        }
    }
}

impl Worker {
    fn run_flushes(&self) {
        let mut complaints = Complaints::default();
        while self.shared.flush_early.sleep(self.shared.settings.flush_interval) {
            complaints.note(self.flush());
        }
    }

    fn run_sweeps(&self, nudge: &Nudge) {
        let settings = &self.shared.settings;
        let rate = settings.sweep_versions_per_second.max(1);
        let mut complaints = Complaints::default();
        while nudge.sleep(settings.sweep_interval) {
            let number = self.sweeping.sweeps.fetch_add(1, Ordering::Relaxed);
            let outcome = self.sweep(number.is_multiple_of(SWEEPS_PER_WHOLE), &mut |versions| {
                let nanoseconds = u128::from(versions) * 1_000_000_000 / u128::from(rate);
                nudge.sleep(Duration::from_nanos(
                    u64::try_from(nanoseconds).unwrap_or(u64::MAX),
                ))
            });
            complaints.note(outcome);
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

    fn sweep(&self, everything: bool, pause: Pause<'_>) -> Result<(), Error> {
        let _turn = self.sweeping.turn.lock();
        let now = u64::try_from(self.shared.now().seconds()).unwrap_or(0);
        let kept = now.saturating_sub(self.shared.settings.reply_seconds);
        self.shared.store.forget_replies(kept).map_err(metadata_failed)?;
        for volume in self.all() {
            volume.sweep_orphans()?;
        }
        self.forget_imports()?;
        self.shared.store.sweep_branches().map_err(metadata_failed)?;
        let outcome = self.sweep_history(everything, pause);
        self.sweeping.branches_left.store(0, Ordering::Relaxed);
        match outcome? {
            true => self.free_segments(pause),
            false => Ok(()),
        }
    }

    /// Removes the versions that nobody can see any more; `false` if it was stopped.
    fn sweep_history(&self, everything: bool, pause: Pause<'_>) -> Result<bool, Error> {
        let store = &self.shared.store;
        let sweeping = &self.sweeping;
        let mut sweep = store.plan_history_sweep(everything).map_err(metadata_failed)?;
        // From here on changes keep nothing that nobody can see; those that began before are over when each volume was locked once.
        for volume in self.all() {
            drop(volume.state.write());
        }
        while let Some(step) = sweep.step(store, SWEEP_STEP).map_err(metadata_failed)? {
            sweeping
                .branches_left
                .store(sweep.branches_left() as u64, Ordering::Relaxed);
            sweeping.scanned.fetch_add(step.scanned, Ordering::Relaxed);
            sweeping.removed.fetch_add(step.removed, Ordering::Relaxed);
            sweeping.bytes.fetch_add(step.bytes, Ordering::Relaxed);
            if let Some((branch, bodies)) = &step.hiding {
                self.drop_hiding(*branch, bodies)?;
            }
            if !pause(step.scanned) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes what hides nothing any more from the head of the volume that has this branch as its head.
    fn drop_hiding(&self, branch: BranchId, bodies: &[Vec<u8>]) -> Result<(), Error> {
        let has_it = |volume: &Arc<Volume>| volume.state.read().lineage.branch() == branch;
        let Some(volume) = self.all().into_iter().find(has_it) else {
            return Ok(());
        };
        for part in bodies.chunks(HIDING_STEP) {
            let state = volume.state.write();
            if state.deleted || state.lineage.branch() != branch {
                return Ok(());
            }
            let dropped = self.shared.store.drop_hiding(&state.lineage, part);
            drop(state);
            let (removed, bytes) = dropped.map_err(metadata_failed)?;
            self.sweeping.removed.fetch_add(removed, Ordering::Relaxed);
            self.sweeping.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
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
    fn free_segments(&self, pause: Pause<'_>) -> Result<(), Error> {
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
        let used = store.segments_in_use(pause).map_err(metadata_failed);
        let (noted, kept_from) = references.end_reading(&self.shared.log);
        let Some(used) = used? else {
            return Ok(());
        };
        let free = |id: &SegmentId| *id < kept_from && !used.contains_key(id) && !noted.contains(id);
        for segment in old.iter().filter(|segment| free(&segment.id)) {
            match self.shared.log.remove_segment(segment.id) {
                Ok(()) => {
                    self.sweeping.segments.fetch_add(1, Ordering::Relaxed);
                    self.sweeping
                        .log_bytes
                        .fetch_add(segment.disk_bytes, Ordering::Relaxed);
                    tracing::info!(
                        segment = segment.id.0,
                        bytes = segment.disk_bytes,
                        "freed a segment"
                    );
                }
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
