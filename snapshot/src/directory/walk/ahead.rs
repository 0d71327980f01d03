//! A walk on a thread of its own, which runs ahead of the caller by a bounded number of entries.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::levels::Levels;
use super::{Found, WalkError};

/// Entries that are handed over at once.
const BATCH_ENTRIES: usize = 256;
/// Batches that wait for the caller.
const BATCHES_AHEAD_MAX: usize = 16;

type Batch = Vec<Result<Found, WalkError>>;

pub(super) struct Ahead {
    now: std::vec::IntoIter<Result<Found, WalkError>>,
    // Dropped before the thread is waited for, so that it does not wait for us.
    batches: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    pub(super) fn start(levels: Levels) -> Result<Ahead, WalkError> {
        let (sender, batches) = sync_channel(BATCHES_AHEAD_MAX);
        let thread = std::thread::Builder::new()
            .name("walk".into())
            .spawn(move || run(levels, &sender))
            .map_err(|source| WalkError::Thread { source })?;
        Ok(Ahead {
            now: Vec::new().into_iter(),
            batches: Some(batches),
            thread: Some(thread),
        })
    }

    pub(super) fn next(&mut self) -> Option<Result<Found, WalkError>> {
        loop {
            if let Some(item) = self.now.next() {
                return Some(item);
            }
            match self.batches.as_ref()?.recv() {
                Ok(batch) => self.now = batch.into_iter(),
                Err(_) => {
                    self.batches = None;
                    let ended = self.thread.take().map(JoinHandle::join);
                    if let Some(Err(_)) = ended {
                        let source = std::io::Error::other("it panicked");
                        return Some(Err(WalkError::Thread { source }));
                    }
                    return None;
                }
            }
        }
    }
}

fn run(mut levels: Levels, batches: &SyncSender<Batch>) {
    // The first batches are small, so that the caller starts at once.
    let mut size = 8;
    loop {
        let mut batch = Vec::with_capacity(size);
        while batch.len() < size
            && let Some(item) = levels.next()
        {
            batch.push(item);
        }
        if batch.is_empty() || batches.send(batch).is_err() {
            return;
        }
        size = (2 * size).min(BATCH_ENTRIES);
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, who walks has heard of it by `next`, or does not care any more.
            let _ = thread.join();
        }
    }
}
