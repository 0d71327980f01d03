//! The threads that execute calls which may wait for a disk.
//!
//! Threads are started when a call finds none idle, up to a bound, and stay. The queue holds no more jobs than calls are
//! admitted at all (`calls_max` of the settings): whoever submits holds a reservation of [`crate::connection::budget`].
//! Jobs run first in, first out.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

type Job = Box<dyn FnOnce() + Send>;

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    available: Condvar,
    threads_max: usize,
}

/// The pool. Dropping it lets the threads end once the jobs are done; it does not wait for them.
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

impl Workers {
    pub(crate) fn new(threads_max: usize) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            threads: 0,
            idle: 0,
            closed: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            available: Condvar::new(),
            threads_max,
        };
        Workers {
            shared: Arc::new(shared),
        }
    }

    /// Runs `job` on one of the threads. A panic in it ends the job only.
    pub(crate) fn submit(&self, job: Job) {
        let mut state = self.shared.state.lock();
        state.jobs.push_back(job);
        if state.idle > 0 {
            drop(state);
            self.shared.available.notify_one();
            return;
        }
        if state.threads == self.shared.threads_max {
            return;
        }
        state.threads += 1;
        let number = state.threads;
        drop(state);
        let shared = Arc::clone(&self.shared);
        let spawned = std::thread::Builder::new()
            .name(format!("nfs-worker-{number}"))
            .spawn(move || work(&shared));
        if let Err(error) = spawned {
            // The job stays queued for the threads there are; only the very first thread is indispensable.
            let mut state = self.shared.state.lock();
            state.threads -= 1;
            tracing::error!(%error, threads = state.threads, "cannot start a worker thread");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.available.notify_all();
    }
}

fn work(shared: &Shared) {
    let mut state = shared.state.lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            // The job reports its own panic; the thread only has to survive it.
            let _ = catch_unwind(AssertUnwindSafe(job));
            state = shared.state.lock();
        } else if state.closed {
            state.threads -= 1;
            return;
        } else {
            state.idle += 1;
            shared.available.wait(&mut state);
            state.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::Workers;

    #[test]
    fn jobs_run_though_others_panic_and_block() {
        let workers = Workers::new(2);
        let (release, blocked) = sync_channel::<()>(0);
        let (done, results) = sync_channel(16);
        workers.submit(Box::new(move || blocked.recv().unwrap_or_default()));
        for number in 0..10 {
            let done = done.clone();
            workers.submit(Box::new(move || {
                if number == 3 {
                    std::panic::resume_unwind(Box::new("expected"));
                }
                done.send(number).unwrap();
            }));
        }
        let order: Vec<i32> = (0..9).map(|_| results.recv().unwrap()).collect();
        assert_eq!(order, [0, 1, 2, 4, 5, 6, 7, 8, 9]);
        drop(release);
        assert!(workers.shared.state.lock().threads <= 2);
    }
}
