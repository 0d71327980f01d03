//! Waiting for durability together: one thread syncs, everybody whose change it covered goes on.
//!
//! A waiter names the position that it needs; the thread syncs up to whatever there is and announces how far that got. While
//! one sync runs, further waiters gather for the next. A failed sync is announced to all, now and later: nothing is
//! acknowledged any more.

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

struct Shared {
    wanted: Mutex<Wanted>,
    wake: Condvar,
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
        mut sync: impl FnMut() -> Result<u64, String> + Send + 'static,
        on_failure: impl Fn(&str) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            wanted: Mutex::default(),
            wake: Condvar::new(),
        });
        let (announce, progress) = watch::channel(Progress::default());
        let worker = shared.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut durable = 0;
            loop {
                let mut wanted = worker.wanted.lock();
                while wanted.position <= durable && !wanted.stop {
                    worker.wake.wait(&mut wanted);
                }
                if wanted.position <= durable {
                    return;
                }
                drop(wanted);
                match sync() {
                    Ok(position) => {
                        durable = position.max(durable);
                        announce.send_modify(|progress| progress.durable = durable);
                    }
                    Err(reason) => {
                        on_failure(&reason);
                        announce.send_modify(|progress| progress.failed = Some(reason.into()));
                        return;
                    }
                }
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
    }
}

/// Waits for one position of one group.
pub(crate) struct SyncBarrier {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    position: u64,
}

impl SyncBarrier {
    async fn reached(mut self) -> Result<(), Error> {
        if self.progress.borrow().durable >= self.position {
            return Ok(());
        }
        {
            let mut wanted = self.shared.wanted.lock();
            if wanted.position < self.position {
                wanted.position = self.position;
                self.shared.wake.notify_one();
            }
        }
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
    fn wait(self: Box<Self>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
        Box::pin(self.reached())
    }
}

/// Waits for two groups at once.
pub(crate) struct BothBarriers(pub SyncBarrier, pub SyncBarrier);

impl Barrier for BothBarriers {
    fn wait(self: Box<Self>) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
        Box::pin(async move {
            let BothBarriers(first, second) = *self;
            let (first, second) = tokio::join!(first.reached(), second.reached());
            first.and(second)
        })
    }
}
