//! The threads that write the files of a capture.
//!
//! No more than [`BATCHES_MAX`] batches are under way; both queues have room for all of them, so nobody ever waits to hand something
//! over, and a thread that fails or a caller that gives up leaves nobody waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

use parking_lot::Mutex;

use super::EngineError;
use super::file::{Files, Outcome};
use crate::directory::{Found, Record};

/// Most batches under way.
const BATCHES_MAX: usize = 32;
/// Most threads.
const THREADS_MAX: usize = 32;

/// An entry to be written.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) found: Found,
    pub(super) unchanged: Option<Record>,
}

/// What became of a batch, by the numbers of its jobs.
pub(super) type Outcomes = Result<Vec<(u64, Outcome)>, EngineError>;

/// The threads. They end when it is dropped.
pub(super) struct Pool {
    jobs: Option<SyncSender<Vec<Job>>>,
    done: Receiver<Outcomes>,
    under_way: usize,
    stop: Arc<AtomicBool>,
}

impl Pool {
    /// Starts the threads. Errors: [`EngineError::Io`] if one does not start.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        files: &'scope Files<'scope>,
        threads: usize,
    ) -> Result<Pool, EngineError> {
        let (jobs, waiting) = sync_channel::<Vec<Job>>(BATCHES_MAX);
        let (finished, done) = sync_channel(BATCHES_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..threads.clamp(1, THREADS_MAX) {
            let (waiting, finished, stop) = (Arc::clone(&waiting), finished.clone(), Arc::clone(&stop));
            let work = move || {
                while let Some(batch) = next(&waiting) {
                    if finished.send(write(files, batch, &stop)).is_err() {
                        return;
                    }
                }
            };
            Builder::new()
                .name("capture".into())
                .spawn_scoped(scope, work)
                .map_err(|error| EngineError::io("start a thread for", "the capture", error))?;
        }
        Ok(Pool {
            jobs: Some(jobs),
            done,
            under_way: 0,
            stop,
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.under_way >= BATCHES_MAX
    }

    /// Hands a batch over. The pool must not be full.
    pub(super) fn send(&mut self, batch: Vec<Job>) {
        if let Some(jobs) = &self.jobs
            && jobs.send(batch).is_ok()
        {
            self.under_way += 1;
        }
    }

    /// A batch that is done; nothing if none is.
    pub(super) fn done_already(&mut self) -> Option<Outcomes> {
        let done = self.done.try_recv().ok()?;
        self.under_way -= 1;
        Some(done)
    }

    /// Waits for a batch; nothing if none is under way.
    pub(super) fn next_done(&mut self) -> Option<Outcomes> {
        if self.under_way == 0 {
            return None;
        }
        self.under_way -= 1;
        self.done.recv().ok()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
    }
}

fn next(waiting: &Mutex<Receiver<Vec<Job>>>) -> Option<Vec<Job>> {
    // Waiting with the lock held: the others wait for the same.
    waiting.lock().recv().ok()
}

fn write(files: &Files<'_>, batch: Vec<Job>, stop: &AtomicBool) -> Outcomes {
    let mut outcomes = Vec::with_capacity(batch.len());
    for Job {
        number,
        found,
        unchanged,
    } in batch
    {
        if stop.load(Ordering::Relaxed) || files.progress.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        outcomes.push((number, files.write(&found, unchanged)?));
    }
    Ok(outcomes)
}
