//! Whose turn it is: how much work on plain directories runs at once.
//!
//! Invariants:
//! - At most so many turns are given at once as the configuration says.
//! - Of turns that change one repository, at most one is given at a time, in the order in which they were asked for. The lease of the
//!   repository would keep them apart too, but they would hold up others meanwhile.
//! - Who waits for a busy repository takes no turn away from others: a slow directory holds up only itself.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::repository::RepositoryId;
use parking_lot::{Condvar, Mutex};

/// How long somebody who waits may not notice that it is cancelled.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Gives turns.
#[derive(Debug)]
pub struct Turns {
    limit: usize,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    next_ticket: u64,
    /// By ticket: the repository, if it is going to be changed.
    waiting: BTreeMap<u64, Option<RepositoryId>>,
    given: usize,
    busy: HashSet<RepositoryId>,
}

/// A turn; over when it is dropped.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    changes: Option<RepositoryId>,
}

impl Inner {
    /// Whether it is the turn of a ticket.
    fn is_next(&self, ticket: u64, limit: usize) -> bool {
        let mut free = limit.saturating_sub(self.given);
        let mut busy = self.busy.clone();
        for (waiting, repository) in &self.waiting {
            let goes = repository.is_none_or(|repository| busy.insert(repository));
            if *waiting == ticket {
                return goes && free > 0;
            }
            if goes {
                free = free.saturating_sub(1);
            }
        }
        false
    }
}

impl Turns {
    /// At most `limit` at once.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Turns {
            limit: limit.max(1),
            inner: Mutex::new(Inner::default()),
            changed: Condvar::new(),
        })
    }

    /// Waits for a turn, to change `changes` if that is given. Nothing if the work is cancelled before.
    pub fn take(self: &Arc<Self>, changes: Option<RepositoryId>, progress: &Progress) -> Option<Turn> {
        let mut inner = self.inner.lock();
        let ticket = inner.next_ticket;
        inner.next_ticket += 1;
        inner.waiting.insert(ticket, changes);
        loop {
            let cancelled = progress.is_cancelled();
            if cancelled || inner.is_next(ticket, self.limit) {
                inner.waiting.remove(&ticket);
                if !cancelled {
                    inner.given += 1;
                    inner.busy.extend(changes);
                }
                // Somebody behind may be next now.
                self.changed.notify_all();
                return (!cancelled).then(|| Turn {
                    turns: Arc::clone(self),
                    changes,
                });
            }
            self.changed.wait_for(&mut inner, LOOK_INTERVAL);
        }
    }

    /// How many wait, and how many have their turn.
    pub fn count(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.waiting.len(), inner.given)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.turns.inner.lock();
        inner.given -= 1;
        if let Some(repository) = self.changes {
            inner.busy.remove(&repository);
        }
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cairn_snapshot::archive::Progress;
    use cairn_snapshot::repository::RepositoryId;

    use super::{Inner, Turns};

    fn repository(number: u8) -> Option<RepositoryId> {
        Some(RepositoryId([number; 16]))
    }

    fn next(inner: &Inner, limit: usize) -> Vec<u64> {
        let tickets = inner.waiting.keys().copied();
        tickets.filter(|ticket| inner.is_next(*ticket, limit)).collect()
    }

    #[test]
    fn a_busy_repository_holds_up_only_itself() {
        let mut inner = Inner::default();
        inner.busy.extend(repository(1));
        inner.given = 1;
        for (ticket, repository) in [
            repository(1),
            repository(1),
            repository(2),
            repository(2),
            None,
            repository(3),
        ]
        .into_iter()
        .enumerate()
        {
            inner.waiting.insert(ticket as u64, repository);
        }
        assert_eq!(next(&inner, 1), [] as [u64; 0]);
        assert_eq!(next(&inner, 2), [2]);
        assert_eq!(next(&inner, 3), [2, 4]);
        assert_eq!(next(&inner, 9), [2, 4, 5]);
        inner.busy.clear();
        assert_eq!(next(&inner, 3), [0, 2]);
    }

    #[test]
    fn turns_come_back() {
        let turns = Turns::new(1);
        let progress = Progress::new();
        let first = turns.take(repository(1), &progress).unwrap();
        let waiting = {
            let turns = Arc::clone(&turns);
            std::thread::spawn(move || turns.take(repository(1), &Progress::new()).is_some())
        };
        while turns.count() != (1, 1) {
            std::thread::yield_now();
        }
        drop(first);
        assert!(waiting.join().unwrap());
        assert_eq!(turns.count(), (0, 0));
    }

    #[test]
    fn who_is_cancelled_waits_no_more() {
        let turns = Turns::new(1);
        let held = turns.take(None, &Progress::new()).unwrap();
        let progress = Progress::new();
        progress.cancel();
        assert!(turns.take(None, &progress).is_none());
        assert_eq!(turns.count(), (0, 1));
        drop(held);
    }
}
