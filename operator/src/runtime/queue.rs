//! A queue of keys to look at. A key is in it at most once, so it is bounded by the number of objects; a key that is added while somebody works on it
//! is looked at once more when that has ended. Nobody works on one key twice at a time.
//!
//! The queue knows nothing of what is done with a key, and forgets everything when it is cleared: what is to be done is in the objects.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A queue of keys. See the module.
#[derive(Debug)]
pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    stages: HashMap<K, Stage>,
    /// When, and a number that tells equal moments apart.
    delayed: BTreeMap<(Instant, u64), K>,
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    next_number: u64,
    begun: u64,
    closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Ready,
    Running,
    /// It was added while it was running.
    RunningAndReady,
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Queue {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                stages: HashMap::new(),
                delayed: BTreeMap::new(),
                due: HashMap::new(),
                failures: HashMap::new(),
                next_number: 0,
                begun: 0,
                closed: false,
            }),
            wake: Notify::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// To be looked at as soon as somebody is free. A delay that was asked for is over.
    pub fn add(&self, key: K) {
        self.state.lock().add(key);
        self.wake.notify_one();
    }

    /// To be looked at after `delay`, unless it is looked at earlier: of several delays the shortest holds.
    pub fn add_after(&self, key: K, delay: Duration) {
        let mut state = self.state.lock();
        if matches!(
            state.stages.get(&key),
            Some(Stage::Ready | Stage::RunningAndReady)
        ) {
            return;
        }
        let at = Instant::now() + delay;
        match state.due.get(&key) {
            Some((earlier, _)) if *earlier <= at => return,
            Some(later) => {
                let later = *later;
                state.delayed.remove(&later);
            }
            None => {}
        }
        let slot = (at, state.next_number);
        state.next_number += 1;
        state.delayed.insert(slot, key.clone());
        state.due.insert(key, slot);
        drop(state);
        self.wake.notify_one();
    }

    /// Waits for a key. It is the caller's until [`Queue::done`] or [`Queue::failed`]. Nothing once the queue is closed.
    pub async fn next(&self) -> Option<K> {
        loop {
            let until = {
                let mut state = self.state.lock();
                if state.closed {
                    drop(state);
                    // Whoever waits beside us shall see it, too.
                    self.wake.notify_one();
                    return None;
                }
                state.ripen(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.stages.insert(key.clone(), Stage::Running);
                    state.begun += 1;
                    let more = !state.ready.is_empty();
                    drop(state);
                    if more {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.keys().next().map(|(at, _)| *at)
            };
            match until {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.wake.notified() => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    /// The caller is done with the key: its failures are forgotten.
    pub fn done(&self, key: &K) {
        let mut state = self.state.lock();
        state.failures.remove(key);
        state.release(key);
        drop(state);
        self.wake.notify_one();
    }

    /// The caller is done with the key, and it is to be tried again after what `wait` says for its number of failures in a row. Answers the wait.
    pub fn failed(&self, key: &K, wait: impl FnOnce(u32) -> Duration) -> Duration {
        let wait = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            let wait = wait(*failures);
            state.release(key);
            wait
        };
        self.add_after(key.clone(), wait);
        wait
    }

    /// Forgets every key; those that are being worked on are forgotten when that has ended.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        state.ready.clear();
        state.delayed.clear();
        state.due.clear();
        state.failures.clear();
        state.stages.retain(|_, stage| {
            let running = *stage != Stage::Ready;
            *stage = Stage::Running;
            running
        });
    }

    /// [`Queue::next`] answers nothing from now on.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Keys that wait for somebody, keys that are worked on, keys whose delay is not over.
    pub fn depth(&self) -> Depth {
        let state = self.state.lock();
        Depth {
            ready: state.ready.len(),
            running: state.stages.len() - state.ready.len(),
            delayed: state.delayed.len(),
        }
    }

    /// How many keys workers were given since the process began.
    pub fn begun(&self) -> u64 {
        self.state.lock().begun
    }
}

/// How many keys a queue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// They wait for a worker.
    pub ready: usize,
    /// A worker has them.
    pub running: usize,
    /// Their delay is not over.
    pub delayed: usize,
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if let Some(slot) = self.due.remove(&key) {
            self.delayed.remove(&slot);
        }
        match self.stages.get_mut(&key) {
            Some(Stage::Ready | Stage::RunningAndReady) => {}
            Some(stage @ Stage::Running) => *stage = Stage::RunningAndReady,
            None => {
                self.stages.insert(key.clone(), Stage::Ready);
                self.ready.push_back(key);
            }
        }
    }

    fn release(&mut self, key: &K) {
        match self.stages.remove(key) {
            Some(Stage::RunningAndReady) => self.add(key.clone()),
            Some(Stage::Ready) => {
                self.stages.insert(key.clone(), Stage::Ready);
            }
            Some(Stage::Running) | None => {}
        }
    }

    /// Moves what is due to what is ready.
    fn ripen(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.add(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Depth, Queue};

    #[tokio::test]
    async fn a_key_is_there_once_and_with_one_worker() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert_eq!(queue.next().await, Some("b"));
        assert_eq!(
            queue.depth(),
            Depth {
                ready: 0,
                running: 2,
                delayed: 0
            }
        );
        queue.done(&"b");
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        assert_eq!(queue.depth().ready + queue.depth().running, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_shortest_delay_holds() {
        let queue = Queue::default();
        let start = tokio::time::Instant::now();
        queue.add_after("a", Duration::from_secs(60));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(90));
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&"a");
        assert_eq!(queue.depth().delayed, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_count_until_it_works() {
        let queue = Queue::default();
        let mut waits = Vec::new();
        queue.add(7);
        for _ in 0..3 {
            let key = queue.next().await.unwrap();
            waits.push(queue.failed(&key, |n| Duration::from_secs(u64::from(n))));
        }
        let key = queue.next().await.unwrap();
        queue.done(&key);
        queue.add(7);
        let key = queue.next().await.unwrap();
        waits.push(queue.failed(&key, |n| Duration::from_secs(u64::from(n))));
        assert_eq!(waits, [1, 2, 3, 1].map(Duration::from_secs));
    }

    #[tokio::test]
    async fn a_closed_queue_lets_all_workers_go() {
        let queue: Arc<Queue<u8>> = Arc::default();
        let workers: Vec<_> = (0..5)
            .map(|_| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn what_is_cleared_comes_back_only_when_it_is_added() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("b");
        let a = queue.next().await.unwrap();
        queue.add("a");
        queue.clear();
        queue.done(&a);
        assert_eq!(queue.depth().ready, 0);
        queue.add("b");
        assert_eq!(queue.next().await, Some("b"));
    }
}
