//! Room on the node's disk, and a nudge for the background.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How long a look at the file system is good for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Tells whether changes that need room may go on. Asks the file system now and then, not each time.
pub(crate) struct SpaceGuard {
    free: Box<dyn Fn() -> Option<u64> + Send + Sync>,
    reserve: u64,
    headroom: u64,
    started: Instant,
    looked_ms: AtomicU64,
    last_free: AtomicU64,
}

impl SpaceGuard {
    /// `free` tells the free bytes, `None` if it cannot; below `reserve` of them there is no room. `headroom` is what may be
    /// taken at once after a look, such as the log's next segment: it stays free besides, unless nothing is reserved.
    pub fn new(free: Box<dyn Fn() -> Option<u64> + Send + Sync>, reserve: u64, headroom: u64) -> Self {
        let headroom = if reserve == 0 { 0 } else { headroom };
        let last_free = AtomicU64::new(free().unwrap_or(u64::MAX));
        SpaceGuard {
            free,
            reserve,
            headroom,
            started: Instant::now(),
            looked_ms: AtomicU64::new(0),
            last_free,
        }
    }

    /// Free bytes, lately.
    pub fn free_bytes(&self) -> u64 {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked = self.looked_ms.load(Ordering::Relaxed);
        let due = now.saturating_sub(looked) >= LOOK_AGAIN.as_millis() as u64;
        if due
            && self
                .looked_ms
                .compare_exchange(looked, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.last_free
                .store((self.free)().unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.last_free.load(Ordering::Relaxed)
    }

    /// Bytes that stay free.
    pub fn reserve_bytes(&self) -> u64 {
        self.reserve
    }

    pub fn has_room(&self) -> bool {
        self.free_bytes() >= self.reserve.saturating_add(self.headroom)
    }
}

/// Lets one thread sleep until its time or until somebody asks for it.
#[derive(Clone, Default)]
pub(crate) struct Nudge(Arc<(Mutex<Asked>, Condvar)>);

#[derive(Default)]
struct Asked {
    early: bool,
    stop: bool,
}

impl Nudge {
    /// Ends the current or next sleep.
    pub fn ask(&self) {
        self.0.0.lock().early = true;
        self.0.1.notify_one();
    }

    /// Ends this and all later sleeps.
    pub fn stop(&self) {
        self.0.0.lock().stop = true;
        self.0.1.notify_all();
    }

    /// Sleeps; `false` when it is time to stop.
    pub fn sleep(&self, time: Duration) -> bool {
        let mut asked = self.0.0.lock();
        let until = Instant::now() + time;
        while !asked.early && !asked.stop && !self.0.1.wait_until(&mut asked, until).timed_out() {}
        asked.early = false;
        !asked.stop
    }
}
