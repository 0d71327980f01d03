//! Writing the entries of a snapshot: directories by the calling thread, in the order of the list and before what is in them; everything
//! else by several threads, but for what comes last: other names of files, then the attributes of directories.
//!
//! A thread of its own makes durable what has been written so far, again and again: the disk works from the beginning, and the last syncfs(2)
//! finds little to do. Memory: [`BATCHES_WAITING_MAX`] batches of [`BATCH_ENTRIES_MAX`] entries.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use cairn_types::FileKind;
use parking_lot::Mutex;
use rustix::fs::syncfs;

use super::Materialized;
use crate::archive::{Phase, Progress};
use crate::directory::place::{Before, PlaceError, PlaceOptions, Placer};
use crate::directory::{Body, Entry, RelativePath};
use crate::manifest::{ManifestError, ManifestReader};
use crate::operations::OperationError;
use crate::operations::live::in_scope;
use crate::operations::payload::Payload;

/// Threads that write, at most.
const THREADS_MAX: usize = 8;
/// Entries that one thread gets at once.
const BATCH_ENTRIES_MAX: usize = 64;
/// A batch of so many entries ends where the next directory begins: two threads in one directory wait for each other.
const BATCH_ENTRIES_MIN: usize = 16;
/// Batches that wait for a thread.
const BATCHES_WAITING_MAX: usize = 8;
/// Bytes that are written before the disk is made to take them.
const WRITE_BACK_BYTES: u64 = 64 << 20;

/// Entries to be made, and where.
type Batch = Vec<(RelativePath, Entry)>;

/// Writes the entries of `list` that are asked for below `root`, an empty directory. Durable on return.
///
/// # Errors
/// The list or the data cannot be read; the target cannot be written; `Cancelled`.
pub(super) fn write(
    list: &ManifestReader,
    data: &dyn Payload,
    paths: &[RelativePath],
    root: OwnedFd,
    progress: &Progress,
) -> Result<Materialized, OperationError> {
    let sync = root.try_clone().map_err(OperationError::staging)?;
    let placer = Placer::new(root, PlaceOptions::default()).map_err(OperationError::staging)?;
    let work = Work {
        list,
        paths,
        placer: &placer,
        data,
        progress,
        failed: AtomicBool::new(false),
        failure: Mutex::new(None),
        dirty: AtomicU64::new(0),
    };
    let mut done = Materialized::default();
    std::thread::scope(|scope| {
        if let Err(error) = work.run(scope, &sync, &mut done) {
            work.fail(error);
        }
    });
    if let Some(error) = work.failure.into_inner() {
        return Err(error);
    }
    work_last(list, paths, &placer)?;
    progress.enter(Phase::Finishing);
    syncfs(&sync).map_err(|error| OperationError::staging(error.into()))?;
    done.losses = placer.losses();
    Ok(done)
}

/// Makes what needs everything else: other names of files, the attributes of directories.
fn work_last(list: &ManifestReader, paths: &[RelativePath], placer: &Placer) -> Result<(), OperationError> {
    let wanted = |path: &RelativePath| in_scope(path, paths, true);
    if list.summary().counts.links > 0 {
        for record in list.records() {
            let entry = record?.entry;
            if let Body::Link(to) = &entry.body
                && wanted(&entry.path)
                && wanted(to)
            {
                placer.link(&entry.path, to)?;
            }
        }
    }
    let directories = list.records().filter_map(|record| match record {
        Ok(record) if record.entry.attributes.kind == FileKind::Directory && wanted(&record.entry.path) => {
            Some(Ok((record.entry.path, record.entry.attributes)))
        }
        Ok(_) => None,
        Err(error) => Some(Err(Finish::from(error))),
    });
    placer.finish_directories(directories).map_err(|error| error.0)
}

/// What the threads share.
struct Work<'a> {
    list: &'a ManifestReader,
    paths: &'a [RelativePath],
    placer: &'a Placer,
    data: &'a dyn Payload,
    progress: &'a Progress,
    failed: AtomicBool,
    /// The first failure.
    failure: Mutex<Option<OperationError>>,
    /// Bytes that were written since the disk was last made to take them.
    dirty: AtomicU64,
}

impl Work<'_> {
    fn fail(&self, error: OperationError) {
        self.failure.lock().get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Starts the threads and gives them what is in the list. They end when this has returned.
    fn run<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        sync: &'scope OwnedFd,
        done: &mut Materialized,
    ) -> Result<(), OperationError> {
        let (wake, woken) = sync_channel(1);
        spawn(scope, "write-back", move || self.write_back(sync, &woken))?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut queues = Vec::new();
        for number in 0..threads.min(THREADS_MAX) {
            let (queue, batches) = sync_channel(BATCHES_WAITING_MAX.div_ceil(threads.min(THREADS_MAX)));
            let wake = wake.clone();
            spawn(scope, &format!("restore-{number}"), move || {
                self.place_all(&batches, &wake);
            })?;
            queues.push(queue);
        }
        self.hand_out(&queues, done)
    }

    fn hand_out(&self, queues: &[SyncSender<Batch>], done: &mut Materialized) -> Result<(), OperationError> {
        let mut queues = queues.iter().cycle();
        // A thread that does not take any more has failed and said so.
        let mut send = |batch: &mut Batch| {
            if let Some(queue) = queues.next() {
                let _ = queue.send(std::mem::take(batch));
            }
        };
        let mut batch = Batch::new();
        for record in self.list.records() {
            if self.progress.is_cancelled() {
                return Err(OperationError::Cancelled);
            }
            if self.has_failed() {
                return Ok(());
            }
            let entry = record?.entry;
            if !in_scope(&entry.path, self.paths, true) {
                continue;
            }
            done.entries += 1;
            if entry.attributes.kind == FileKind::Directory {
                if batch.len() >= BATCH_ENTRIES_MIN {
                    send(&mut batch);
                }
                if !entry.path.is_root() {
                    self.placer.directory(&entry.path)?;
                }
                continue;
            }
            let path = entry.path.clone();
            let entry = match &entry.body {
                Body::Link(to) if in_scope(to, self.paths, true) => continue,
                // The name that came first is not wanted: this one gets a file of its own.
                Body::Link(to) => match self.list.find(to)? {
                    Some(first) => first.entry,
                    None => entry,
                },
                _ => entry,
            };
            if entry.attributes.kind == FileKind::Regular {
                done.bytes += entry.attributes.size;
            }
            batch.push((path, entry));
            if batch.len() >= BATCH_ENTRIES_MAX {
                send(&mut batch);
            }
        }
        send(&mut batch);
        Ok(())
    }

    /// A thread that writes.
    fn place_all(&self, batches: &Receiver<Batch>, wake: &SyncSender<()>) {
        // After a failure everything is still taken, lest whoever hands it out waits for ever.
        for batch in batches {
            for (path, entry) in batch {
                if self.has_failed() {
                    break;
                }
                if let Err(error) = self.place(&path, &entry) {
                    self.fail(error);
                }
                if entry.attributes.kind != FileKind::Regular {
                    continue;
                }
                let size = entry.attributes.size;
                self.progress.add(1, size);
                if self.dirty.fetch_add(size, Ordering::Relaxed) + size >= WRITE_BACK_BYTES {
                    self.dirty.store(0, Ordering::Relaxed);
                    // If it is at work already, it comes to this soon.
                    let _ = wake.try_send(());
                }
            }
        }
    }

    /// The thread that makes the disk work.
    fn write_back(&self, sync: &OwnedFd, woken: &Receiver<()>) {
        for () in woken {
            // What it could not write is told once, and would be missing in the last sync.
            if let Err(error) = syncfs(sync) {
                self.fail(OperationError::staging(error.into()));
            }
        }
    }

    /// Makes what `entry` is at `path`; no directory.
    fn place(&self, path: &RelativePath, entry: &Entry) -> Result<(), OperationError> {
        let (placer, attributes) = (self.placer, &entry.attributes);
        match &entry.body {
            Body::File(_) => {
                let to = placer.file(path)?;
                self.data.write(entry, to.as_fd())?;
                placer.file_attributes(path, to.as_fd(), attributes, Before::New)?;
            }
            Body::Symlink(target) => {
                placer.symlink(path, target)?;
                placer.attributes(path, attributes, Before::New)?;
            }
            Body::None | Body::Link(_) => {
                if placer.special(path, attributes)? {
                    placer.attributes(path, attributes, Before::New)?;
                }
            }
        }
        Ok(())
    }
}

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() + Send + 'scope,
) -> Result<(), OperationError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn_scoped(scope, work);
    spawned.map(drop).map_err(OperationError::staging)
}

/// Either of the two errors that finishing directories meets.
struct Finish(OperationError);

impl From<ManifestError> for Finish {
    fn from(error: ManifestError) -> Self {
        Finish(error.into())
    }
}

impl From<PlaceError> for Finish {
    fn from(error: PlaceError) -> Self {
        Finish(error.into())
    }
}
