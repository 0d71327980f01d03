//! One sync for all who wait: callers that arrive while a sync runs share the next one.
//!
//! A caller is served only by a sync that started after its call, because one that was already under way may have
//! missed its write. So at most two syncs pass before a call returns, however many callers there are.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use super::EngineError;

/// Hands out the sync of one device to many callers.
#[derive(Debug, Default)]
pub(super) struct GroupSync {
    state: Mutex<State>,
    finished: Condvar,
    /// Set under the lock, so that nobody waits for a sync that will never run; read without it.
    poisoned: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Syncs that have started; the newest is under way if `running`.
    started: u64,
    /// The newest sync that succeeded. It covers all earlier ones.
    succeeded: u64,
    running: bool,
}

impl GroupSync {
    /// Returns once a sync that started after the call has succeeded. `sync` runs in one caller at a time, without a
    /// lock held. An error goes to the caller whose `sync` met it. [`EngineError::NoSpace`] leaves the others to try on
    /// their own; any other error poisons: they, and everybody later, get [`EngineError::Poisoned`].
    pub(super) fn sync(&self, sync: impl Fn() -> Result<(), EngineError>) -> Result<(), EngineError> {
        let mut state = self.state.lock();
        let needed = state.started + 1;
        loop {
            self.check()?;
            if state.succeeded >= needed {
                return Ok(());
            }
            if !state.running {
                break;
            }
            self.finished.wait(&mut state);
        }
        state.started += 1;
        state.running = true;
        drop(state);
        let outcome = sync();
        let mut state = self.state.lock();
        state.running = false;
        match &outcome {
            Ok(()) => state.succeeded = state.started,
            Err(EngineError::NoSpace(_)) => {}
            Err(_) => self.poisoned.store(true, Ordering::Release),
        }
        drop(state);
        self.finished.notify_all();
        outcome
    }

    /// Fails every later call of [`GroupSync::check`] and [`GroupSync::sync`].
    pub(super) fn poison(&self) {
        let state = self.state.lock();
        self.poisoned.store(true, Ordering::Release);
        drop(state);
        self.finished.notify_all();
    }

    /// [`EngineError::Poisoned`] if a sync has failed.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        if self.poisoned.load(Ordering::Acquire) {
            Err(EngineError::Poisoned)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU64;

    use super::*;

    fn broken() -> EngineError {
        EngineError::Failed(Box::new(std::io::Error::other("broken")))
    }

    #[test]
    fn a_sync_that_had_started_does_not_serve_a_later_caller() {
        let group = GroupSync::default();
        let entered = Barrier::new(2);
        let release = Barrier::new(2);
        let syncs = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let first = group.sync(|| {
                    syncs.fetch_add(1, Ordering::SeqCst);
                    entered.wait();
                    release.wait();
                    Ok(())
                });
                assert!(first.is_ok());
            });
            entered.wait();
            // All of these arrive while the first runs (or later): none may be served by it.
            let late: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let before = syncs.load(Ordering::SeqCst);
                        let outcome = group.sync(|| {
                            syncs.fetch_add(1, Ordering::SeqCst);
                            Ok(())
                        });
                        assert!(outcome.is_ok());
                        assert!(syncs.load(Ordering::SeqCst) > before);
                    })
                })
                .collect();
            release.wait();
            for thread in late {
                thread.join().expect("a late caller");
            }
        });
        let total = syncs.load(Ordering::SeqCst);
        assert!((2..=9).contains(&total), "{total} syncs for 9 callers");
    }

    #[test]
    fn a_failure_poisons_those_who_wait_and_those_who_come() {
        let group = GroupSync::default();
        let entered = Barrier::new(2);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                entered.wait();
                group.sync(|| Ok(()))
            });
            let first = group.sync(|| {
                entered.wait();
                Err(broken())
            });
            assert!(matches!(first, Err(EngineError::Failed(_))));
            assert!(matches!(
                waiting.join().expect("the waiter"),
                Err(EngineError::Poisoned)
            ));
        });
        assert!(matches!(group.check(), Err(EngineError::Poisoned)));
        assert!(matches!(group.sync(|| Ok(())), Err(EngineError::Poisoned)));
    }

    #[test]
    fn lack_of_space_does_not_poison() {
        let group = GroupSync::default();
        let full = || Err(EngineError::NoSpace(Box::new(std::io::Error::other("full"))));
        assert!(matches!(group.sync(full), Err(EngineError::NoSpace(_))));
        assert!(group.sync(|| Ok(())).is_ok());
        group.poison();
        assert!(matches!(group.check(), Err(EngineError::Poisoned)));
    }
}
