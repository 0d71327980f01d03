//! Verification in the background: snapshots that nobody has read since they were captured, and those that were read long ago, are read at a
//! limited rate, with the lowest priority, one at a time on each device. What is found stands in the repositories; damage is told in the
//! log, in the status and in the metrics.
//!
//! Goes on after a restart with the snapshots that have no outcome yet. Archives in a store that is not on this node are left to
//! those who pay for its traffic: `cairn verify`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::repository::{Area, Outcome, Repository, RepositoryId};
use cairn_types::{SnapshotId, Timestamp};
use parking_lot::Mutex;

use super::DirectoriesError;
use super::work::verify_one;
use crate::assembly::with_causes;

/// Seconds after which the snapshots of a repository are looked through again.
const SCAN_INTERVAL: i64 = 60;
/// Seconds after which also outcomes that are known are read again: somebody may have verified without the daemon.
const REFRESH_INTERVAL: i64 = 60 * 60;
/// Snapshots that wait to be read, of one repository.
const QUEUE_MAX: usize = 1000;
/// How nice the thread is (nice(2)).
const NICENESS: i32 = 19;

/// How it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationSettings {
    /// Bytes that are read in a second; nothing: snapshots are not read in the background.
    pub bytes_per_second: Option<u64>,
    /// How old an outcome may be before the snapshot is read again; nothing: for ever.
    pub again_after: Option<Duration>,
}

/// What is known of the snapshots of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Snapshots.
    pub snapshots: u64,
    /// Of these, never read as a whole.
    pub unverified: u64,
    /// Of these, found whole.
    pub verified: u64,
    /// Those that were found damaged, or cannot be read at all.
    pub damaged: Vec<SnapshotId>,
}

/// Reads snapshots.
#[derive(Debug)]
pub struct Verifier {
    settings: VerificationSettings,
    inner: Mutex<Inner>,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    stopping: bool,
    repositories: HashMap<RepositoryId, Known>,
    /// By device.
    running: HashMap<u64, Running>,
    /// Threads that have ended or are about to.
    ended: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Running {
    repository: RepositoryId,
    snapshot: SnapshotId,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

/// What is known of a repository.
#[derive(Debug, Default)]
struct Known {
    scanned: Option<Timestamp>,
    refreshed: Option<Timestamp>,
    snapshots: u64,
    /// When each was read last, and whether it was whole.
    outcomes: BTreeMap<SnapshotId, (Timestamp, bool)>,
    /// Snapshots that cannot be read at all, and when that was found.
    unreadable: BTreeMap<SnapshotId, Timestamp>,
    queue: VecDeque<SnapshotId>,
}

impl Known {
    fn health(&self) -> Health {
        let damaged: std::collections::BTreeSet<SnapshotId> = self
            .outcomes
            .iter()
            .filter(|(_, (_, whole))| !whole)
            .map(|(id, _)| *id)
            .chain(self.unreadable.keys().copied())
            .collect();
        let whole = |id: &SnapshotId, outcome: &(Timestamp, bool)| outcome.1 && !damaged.contains(id);
        let verified = self
            .outcomes
            .iter()
            .filter(|(id, outcome)| whole(id, outcome))
            .count() as u64;
        Health {
            snapshots: self.snapshots,
            unverified: self.snapshots.saturating_sub(verified + damaged.len() as u64),
            verified,
            damaged: damaged.into_iter().collect(),
        }
    }
}

fn is_older(time: Option<Timestamp>, now: Timestamp, seconds: i64) -> bool {
    // A clock that has gone back is no reason to wait for ever.
    time.is_none_or(|time| now.seconds().abs_diff(time.seconds()) >= seconds.unsigned_abs())
}

impl Verifier {
    /// Reads nothing yet.
    pub fn new(settings: VerificationSettings) -> Self {
        Verifier {
            settings,
            inner: Mutex::new(Inner::default()),
            bytes: AtomicU64::new(0),
        }
    }

    /// What is known of a repository; nothing before it was looked at.
    pub fn health(&self, repository: RepositoryId) -> Option<Health> {
        let inner = self.inner.lock();
        let known = inner.repositories.get(&repository)?;
        known.scanned.map(|_| known.health())
    }

    /// The snapshot of a repository that is read now.
    pub fn verifying(&self, repository: RepositoryId) -> Option<SnapshotId> {
        let inner = self.inner.lock();
        let found = inner
            .running
            .values()
            .find(|running| running.repository == repository)?;
        Some(found.snapshot)
    }

    /// Bytes that were read since the start.
    pub fn bytes_read(&self) -> u64 {
        let inner = self.inner.lock();
        let now: u64 = inner
            .running
            .values()
            .map(|running| running.progress.now().bytes)
            .sum();
        self.bytes.load(Ordering::Relaxed) + now
    }

    /// Says that snapshots of a repository were made, removed or read: they are looked through again soon.
    pub fn changed(&self, repository: RepositoryId) {
        if let Some(known) = self.inner.lock().repositories.get_mut(&repository) {
            known.scanned = known.scanned.map(|_| Timestamp::new(0, 0));
            known.refreshed = None;
        }
    }

    /// Forgets a repository, and stops reading it.
    pub fn forget(&self, repository: RepositoryId) {
        let mut inner = self.inner.lock();
        inner.repositories.remove(&repository);
        for running in inner
            .running
            .values()
            .filter(|running| running.repository == repository)
        {
            running.progress.cancel();
        }
    }

    /// Looks through the snapshots of a repository if it is time to, and starts to read one if there is one to be read and nothing is read on
    /// the device.
    ///
    /// # Errors
    /// The repository cannot be looked through.
    pub fn look(self: &Arc<Self>, repository: Repository, now: Timestamp) -> Result<(), DirectoriesError> {
        let id = repository.identity().id;
        let is_due = {
            let mut inner = self.inner.lock();
            let known = inner.repositories.entry(id).or_default();
            is_older(known.scanned, now, SCAN_INTERVAL)
        };
        if is_due {
            self.scan(&repository, now)?;
        }
        if self.settings.bytes_per_second.is_none() || is_elsewhere(&repository) {
            return Ok(());
        }
        let device = rustix::fs::fstat(repository.control().as_fd()).map_or(0, |stat| stat.st_dev);
        let mut inner = self.inner.lock();
        reap(&mut inner);
        if inner.stopping || inner.running.contains_key(&device) {
            return Ok(());
        }
        let Some(snapshot) = inner
            .repositories
            .get_mut(&id)
            .and_then(|known| known.queue.pop_front())
        else {
            return Ok(());
        };
        let progress = Arc::new(Progress::new());
        let (this, mine) = (Arc::clone(self), Arc::clone(&progress));
        // The thread cannot take itself off the list before it is on it: the lock is held here.
        let thread = std::thread::Builder::new()
            .name("cairnd-verify".to_owned())
            .spawn(move || this.read(&repository, device, snapshot, &mine));
        match thread {
            Ok(thread) => {
                inner.running.insert(
                    device,
                    Running {
                        repository: id,
                        snapshot,
                        progress,
                        thread: Some(thread),
                    },
                );
            }
            Err(error) => tracing::warn!(%error, "a thread to verify snapshots cannot be started"),
        }
        Ok(())
    }

    /// Reads snapshots until none of the repository waits.
    fn read(&self, repository: &Repository, device: u64, first: SnapshotId, progress: &Progress) {
        // Only this thread: nice(2) of Linux is per thread. Without it, the rate is the limit.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let id = repository.identity().id;
        let mut snapshot = first;
        loop {
            let before = progress.now().bytes;
            let mut room = 1;
            let found = verify_one(
                repository,
                snapshot,
                self.settings.bytes_per_second,
                &mut room,
                progress,
            );
            let now = repository.parts().clock.now();
            let mut inner = self.inner.lock();
            let known = inner.repositories.get_mut(&id);
            match (found, known) {
                (Ok(found), Some(known)) => {
                    let directory = repository.workspace_path().display();
                    if let Some(error) = &found.error {
                        tracing::error!(%directory, %snapshot, error, "a snapshot cannot be read: it is damaged");
                        known.unreadable.insert(snapshot, now);
                    } else {
                        known.unreadable.remove(&snapshot);
                        known.outcomes.insert(snapshot, (now, found.damaged == 0));
                        if found.damaged > 0 {
                            tracing::error!(%directory, %snapshot, files = found.damaged, "a snapshot is damaged: cairn verify tells which files");
                        } else {
                            tracing::debug!(%directory, %snapshot, bytes = progress.now().bytes - before, "a snapshot is verified");
                        }
                    }
                }
                (Err(error), Some(known)) if !error.is_cancelled() => {
                    let directory = repository.workspace_path().display();
                    let error = with_causes(&error);
                    // Removed meanwhile, or not to be reached now: the next look tells.
                    tracing::info!(%directory, %snapshot, error, "a snapshot was not verified");
                    known.queue.clear();
                }
                (Ok(_) | Err(_), _) => {}
            }
            let next = match inner.stopping || progress.is_cancelled() {
                true => None,
                false => inner
                    .repositories
                    .get_mut(&id)
                    .and_then(|known| known.queue.pop_front()),
            };
            match (next, inner.running.get_mut(&device)) {
                (Some(next), Some(running)) => {
                    running.snapshot = next;
                    snapshot = next;
                }
                (_, _) => {
                    self.bytes.fetch_add(progress.now().bytes, Ordering::Relaxed);
                    if let Some(mut running) = inner.running.remove(&device) {
                        inner.ended.extend(running.thread.take());
                    }
                    return;
                }
            }
        }
    }

    /// Looks which snapshots there are, and what is known of them.
    fn scan(&self, repository: &Repository, now: Timestamp) -> Result<(), DirectoriesError> {
        let id = repository.identity().id;
        let ids = repository.snapshot_ids()?;
        let with_outcome: std::collections::BTreeSet<SnapshotId> = repository
            .control()
            .list(Area::Verified)?
            .iter()
            .filter_map(|name| SnapshotId::parse(name.strip_suffix(".json")?))
            .collect();
        let refresh = {
            let inner = self.inner.lock();
            let known = inner.repositories.get(&id);
            known.is_none_or(|known| is_older(known.refreshed, now, REFRESH_INTERVAL))
        };
        let mut outcomes = match (refresh, self.inner.lock().repositories.get(&id)) {
            (false, Some(known)) => known.outcomes.clone(),
            (true, _) | (false, None) => BTreeMap::new(),
        };
        let there: std::collections::BTreeSet<SnapshotId> = ids.iter().copied().collect();
        outcomes.retain(|id, _| there.contains(id));
        for id in ids.iter().filter(|id| with_outcome.contains(id)) {
            if !outcomes.contains_key(id)
                && let Ok(Some(found)) = repository.verification(*id)
            {
                outcomes.insert(*id, (found.verified, found.outcome == Outcome::Sound));
            }
        }
        let again = self
            .settings
            .again_after
            .map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        let mut inner = self.inner.lock();
        let reading: Vec<SnapshotId> = inner.running.values().map(|running| running.snapshot).collect();
        let known = inner.repositories.entry(id).or_default();
        known.unreadable.retain(|id, _| there.contains(id));
        let is_wanted = |id: &SnapshotId| match (outcomes.get(id), known.unreadable.get(id)) {
            (_, Some(found)) => is_older(Some(*found), now, REFRESH_INTERVAL),
            (None, None) => true,
            (Some((read, _)), None) => {
                again.is_some_and(|age| now.seconds().saturating_sub(read.seconds()) >= age)
            }
        };
        // What was never read comes first.
        let (fresh, old): (Vec<SnapshotId>, Vec<SnapshotId>) = ids
            .iter()
            .copied()
            .filter(|id| !reading.contains(id) && is_wanted(id))
            .partition(|id| !outcomes.contains_key(id));
        known.queue = fresh.into_iter().chain(old).take(QUEUE_MAX).collect();
        known.snapshots = ids.len() as u64;
        known.outcomes = outcomes;
        known.scanned = Some(now);
        if refresh {
            known.refreshed = Some(now);
        }
        Ok(())
    }

    /// Stops reading, and waits until that has ended.
    pub fn stop(&self) {
        let threads: Vec<JoinHandle<()>> = {
            let mut inner = self.inner.lock();
            inner.stopping = true;
            let mut threads = std::mem::take(&mut inner.ended);
            for running in inner.running.values_mut() {
                running.progress.cancel();
                threads.extend(running.thread.take());
            }
            threads
        };
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("verifying snapshots broke off: please report this");
            }
        }
    }
}

/// Collects threads that have ended.
fn reap(inner: &mut Inner) {
    let (done, left): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.ended)
        .into_iter()
        .partition(JoinHandle::is_finished);
    inner.ended = left;
    for thread in done {
        if thread.join().is_err() {
            tracing::error!("verifying snapshots broke off: please report this");
        }
    }
}

/// Whether archives of a repository are not on this node. One whose configuration cannot be read is not known to be here.
fn is_elsewhere(repository: &Repository) -> bool {
    match repository.config() {
        Ok(config) => config.store.url.is_some_and(|url| !url.starts_with("file:")),
        Err(_) => true,
    }
}
