//! Waiting for durability together: whoever syncs does so for everybody whose change is there by then.
//!
//! A waiter names the position that it needs. If nobody is syncing, a waiter that may block leads: it syncs on its own
//! thread, so that a lone change pays for no change of threads. Otherwise waiters gather for the next sync, which the
//! group's thread does. Every sync covers whatever there is when it begins, and announces how far that was. A failed sync is
//! announced to all, now and later: nothing is acknowledged any more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use cairn_types::ErrorKind;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::{Barrier, Error};

/// How far syncing has got.
#[derive(Debug, Clone, Default)]
struct Progress {
    /// Everything up to here is durable.
    durable: u64,
    /// Set by the first sync that failed.
    failed: Option<Arc<str>>,
}

#[derive(Default)]
struct Wanted {
    position: u64,
    stop: bool,
}

/// What syncs. Dropping it ends all waits.
struct Syncer {
    sync: Box<dyn FnMut() -> Result<u64, String> + Send>,
    on_failure: Box<dyn Fn(&str) + Send>,
    announce: watch::Sender<Progress>,
}

impl Syncer {
    /// Syncs and announces it. Gives itself back if there may be another sync.
    fn run(mut self) -> Option<Self> {
        match (self.sync)() {
            Ok(position) => {
                self.announce
                    .send_modify(|progress| progress.durable = position.max(progress.durable));
                Some(self)
            }
            Err(reason) => {
                (self.on_failure)(&reason);
                self.announce
                    .send_modify(|progress| progress.failed = Some(reason.into()));
                None
            }
        }
    }
}

struct Shared {
    wanted: Mutex<Wanted>,
    wake: Condvar,
    /// Locked by whoever syncs. Gone after a failure, a panic, and the group's end: there is no further sync then.
    syncer: Mutex<Option<Syncer>>,
}

/// Syncs if `position` is not durable. Says whether there may be another sync.
fn sync_to(position: u64, syncer: &mut Option<Syncer>) -> bool {
    match syncer.take() {
        Some(ready) if ready.announce.borrow().durable >= position => *syncer = Some(ready),
        Some(ready) => *syncer = ready.run(),
        None => {}
    }
    syncer.is_some()
}

/// A group of waiters and the thread that syncs for them.
pub(crate) struct GroupSync {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    thread: Option<JoinHandle<()>>,
}

impl GroupSync {
    /// Starts a group. `sync` makes everything so far durable and returns how far that is; `on_failure` is called once,
    /// before any waiter hears of a failure.
    pub fn start(
        name: &str,
        sync: impl FnMut() -> Result<u64, String> + Send + 'static,
        on_failure: impl Fn(&str) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (announce, progress) = watch::channel(Progress::default());
        let shared = Arc::new(Shared {
            wanted: Mutex::default(),
            wake: Condvar::new(),
            syncer: Mutex::new(Some(Syncer {
                sync: Box::new(sync),
                on_failure: Box::new(on_failure),
                announce,
            })),
        });
        let worker = shared.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut done = 0;
            loop {
                let position = {
                    let mut wanted = worker.wanted.lock();
                    while wanted.position <= done && !wanted.stop {
                        worker.wake.wait(&mut wanted);
                    }
                    wanted.position
                };
                if position <= done || !sync_to(position, &mut worker.syncer.lock()) {
                    return;
                }
                done = position;
            }
        })?;
        Ok(GroupSync {
            shared,
            progress,
            thread: Some(thread),
        })
    }

    /// Whether everything up to `position` is durable already.
    pub fn covers(&self, position: u64) -> bool {
        self.progress.borrow().durable >= position
    }

    /// A wait for `position`.
    pub fn barrier(&self, position: u64) -> SyncBarrier {
        SyncBarrier {
            shared: self.shared.clone(),
            progress: self.progress.clone(),
            position,
        }
    }

    /// Whether a sync has failed.
    pub fn has_failed(&self) -> bool {
        self.progress.borrow().failed.is_some()
    }
}

impl Drop for GroupSync {
    fn drop(&mut self) {
        self.shared.wanted.lock().stop = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a sync thread ended by a panic");
        }
        // What it syncs is let go of now, though somebody may still hold a barrier.
        *self.shared.syncer.lock() = None;
    }
}

/// Waits for one position of one group.
pub(crate) struct SyncBarrier {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    position: u64,
}

impl SyncBarrier {
    fn is_reached(&self) -> bool {
        self.progress.borrow().durable >= self.position
    }

    /// Has the group's thread sync up to here.
    fn request(&self) {
        let mut wanted = self.shared.wanted.lock();
        if wanted.position < self.position {
            wanted.position = self.position;
            self.shared.wake.notify_one();
        }
    }

    /// Syncs on this thread, unless somebody is syncing.
    fn lead(&self) {
        if !self.is_reached()
            && let Some(mut syncer) = self.shared.syncer.try_lock()
        {
            sync_to(self.position, &mut syncer);
        }
    }

    async fn reached(mut self) -> Result<(), Error> {
        if self.is_reached() {
            return Ok(());
        }
        self.request();
        let position = self.position;
        let done = |progress: &Progress| progress.durable >= position || progress.failed.is_some();
        let outcome = match self.progress.wait_for(done).await {
            Ok(progress) if progress.durable >= position => return Ok(()),
            Ok(progress) => progress.failed.clone(),
            Err(_) => None,
        };
        let what = outcome
            .unwrap_or_else(|| "the sync thread is gone".into())
            .to_string();
        Err(Error::Io {
            what,
            kind: ErrorKind::Unavailable,
        })
    }
}

impl Barrier for SyncBarrier {
    fn assist(&self) {
        self.lead();
    }

    fn wait(self: Box<Self>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
        Box::pin(self.reached())
    }
}

/// Waits for two groups at once.
pub(crate) struct BothBarriers(pub SyncBarrier, pub SyncBarrier);

impl Barrier for BothBarriers {
    /// One of the two here, the other one at the same time on its thread.
    fn assist(&self) {
        let BothBarriers(first, second) = self;
        if !second.is_reached() {
            second.request();
        }
        first.lead();
    }

    fn wait(self: Box<Self>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
        Box::pin(async move {
            let BothBarriers(first, second) = *self;
            let (first, second) = tokio::join!(first.reached(), second.reached());
            first.and(second)
        })
    }
}

#[cfg(test)]
mod tests;
