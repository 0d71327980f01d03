//! What the threads of one ordered read share: room in the window, frames that are waited for, work for the decoders, and
//! the word to stop.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use cairn_types::ChunkId;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::objects::ObjectError;
use crate::pack::{ChunkEntry, FrameEntry, PackError};

/// Fetches that are remembered before those that are done are dropped from the list.
const FETCHES_MIN: usize = 64;

/// Shared by planner, fetches, decoders and the taker.
pub(super) struct Flow {
    window: usize,
    /// Decoded bytes of the frames in the window. No other lock is taken under this one.
    used: Mutex<usize>,
    room: Condvar,
    /// Fetched frames. Not more than are in the window.
    jobs: Mutex<VecDeque<Job>>,
    job: Condvar,
    pub in_flight: Arc<Semaphore>,
    fetches: Mutex<Vec<AbortHandle>>,
    stopped: AtomicBool,
}

/// Why a frame does not come.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Fetch(Arc<ObjectError>),
    Pack(Arc<PackError>),
    Memory(Arc<io::Error>),
    Stopped,
}

/// A frame that has come.
#[derive(Debug, Clone)]
pub(super) struct Decoded {
    pub bytes: Bytes,
    /// Offsets of chunks that were verified by their identities, ascending.
    pub verified: Vec<u32>,
}

/// A frame in the window. It leaves it when it is dropped.
pub(super) struct Frame {
    /// Pack and number.
    pub key: (u32, u32),
    pub entry: FrameEntry,
    state: Mutex<FrameState>,
    come: Condvar,
    flow: Arc<Flow>,
}

#[derive(Default)]
struct FrameState {
    wanted: Vec<(u32, u32, ChunkId)>,
    outcome: Option<Result<Arc<Decoded>, Failure>>,
}

/// A frame that is to be fetched or decoded. If that comes to nothing, its taker hears.
pub(super) struct Job {
    pub frame: Arc<Frame>,
    pub stored: Bytes,
}

impl Job {
    /// A frame that is to be fetched.
    pub fn of(frame: Arc<Frame>) -> Self {
        Job {
            frame,
            stored: Bytes::new(),
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.frame.fill(Err(Failure::Stopped));
    }
}

impl Frame {
    /// A frame that room was made for.
    pub fn new(key: (u32, u32), entry: FrameEntry, flow: Arc<Flow>) -> Arc<Self> {
        Arc::new(Frame {
            key,
            entry,
            state: Mutex::default(),
            come: Condvar::new(),
            flow,
        })
    }

    /// Says that a chunk is wanted, so that it is verified ahead, if not too many are.
    pub fn want(&self, chunk: &ChunkEntry, most: usize) {
        let mut state = self.state.lock();
        if state.outcome.is_none() && state.wanted.len() < most {
            state.wanted.push((chunk.offset, chunk.length, chunk.id));
        }
    }

    /// The chunks that are wanted so far, by offset, each once.
    pub fn wanted(&self) -> Vec<(u32, u32, ChunkId)> {
        let mut wanted = std::mem::take(&mut self.state.lock().wanted);
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Says what became of it. Only the first word counts.
    pub fn fill(&self, outcome: Result<Decoded, Failure>) {
        let mut state = self.state.lock();
        if state.outcome.is_none() {
            state.outcome = Some(outcome.map(Arc::new));
            drop(state);
            self.come.notify_all();
        }
    }

    /// Waits until it has come, or does not.
    pub fn wait(&self) -> Result<Arc<Decoded>, Failure> {
        let mut state = self.state.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return outcome.clone();
            }
            self.come.wait(&mut state);
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        *self.flow.used.lock() -= self.entry.length as usize;
        self.flow.room.notify_all();
    }
}

impl Flow {
    pub fn new(window: usize, in_flight: usize) -> Arc<Self> {
        Arc::new(Flow {
            window,
            used: Mutex::new(0),
            room: Condvar::new(),
            jobs: Mutex::default(),
            job: Condvar::new(),
            in_flight: Arc::new(Semaphore::new(in_flight)),
            fetches: Mutex::default(),
            stopped: AtomicBool::new(false),
        })
    }

    fn fits(&self, used: usize, bytes: usize) -> bool {
        used == 0 || used.saturating_add(bytes) <= self.window
    }

    /// Takes room for a frame if there is some.
    pub fn try_enter(&self, bytes: usize) -> bool {
        let mut used = self.used.lock();
        let fits = self.fits(*used, bytes);
        if fits {
            *used += bytes;
        }
        fits
    }

    /// Waits for room and takes it; not if everything stops.
    pub fn enter(&self, bytes: usize) -> bool {
        let mut used = self.used.lock();
        while !self.fits(*used, bytes) {
            if self.has_stopped() {
                return false;
            }
            self.room.wait(&mut used);
        }
        *used += bytes;
        true
    }

    /// Work for a decoder.
    pub fn give(&self, job: Job) {
        let mut jobs = self.jobs.lock();
        if self.has_stopped() {
            drop(jobs);
            return;
        }
        jobs.push_back(job);
        drop(jobs);
        self.job.notify_one();
    }

    /// Waits for work; nothing if everything stops.
    pub fn take(&self) -> Option<Job> {
        let mut jobs = self.jobs.lock();
        loop {
            if self.has_stopped() {
                return None;
            }
            match jobs.pop_front() {
                Some(job) => return Some(job),
                None => self.job.wait(&mut jobs),
            }
        }
    }

    /// Remembers a fetch, to abort it when everything stops.
    pub fn remember(&self, fetch: AbortHandle) {
        let mut fetches = self.fetches.lock();
        if self.has_stopped() {
            fetch.abort();
            return;
        }
        if fetches.len() >= FETCHES_MIN {
            fetches.retain(|fetch| !fetch.is_finished());
        }
        fetches.push(fetch);
    }

    fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Stops everything: nobody waits any more, and frames that have not come never do.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Each lock is taken after the word is given, so that whoever has looked before is waiting now and hears.
        drop(self.used.lock());
        self.room.notify_all();
        let jobs = std::mem::take(&mut *self.jobs.lock());
        self.job.notify_all();
        drop(jobs);
        for fetch in self.fetches.lock().drain(..) {
            fetch.abort();
        }
    }
}
