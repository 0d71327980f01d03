//! Buffers for large WRITE payloads, used again when the file system has let go of them.
//!
//! A fresh megabyte costs the kernel a page fault for every 4 KiB, about a tenth of the time that the payload takes to
//! arrive. Payloads of a power of two from [`POOLED_BYTES_MIN`] on come from the pool; others, which are rare, are allocated,
//! each exactly as long as its payload, so that who keeps the bytes keeps nothing else. The pool keeps at most so many bytes
//! as it was told; what is in use is bounded by the connection's budget.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// Smallest pooled payload.
const POOLED_BYTES_MIN: usize = 128 << 10;
/// Classes of the pool: 128 KiB, 256 KiB, 512 KiB, 1 MiB.
const CLASSES: usize = 4;

#[derive(Default)]
struct Idle {
    bytes: usize,
    classes: [Vec<Box<[u8]>>; CLASSES],
}

struct Shared {
    idle: Mutex<Idle>,
    bytes_max: usize,
}

/// The pool.
pub(crate) struct PayloadPool(Arc<Shared>);

/// An initialised buffer for one payload, exactly as long as it.
pub(crate) struct Payload {
    bytes: Box<[u8]>,
    pool: Weak<Shared>,
}

fn class(length: usize) -> Option<usize> {
    let class = length.checked_ilog2()?.checked_sub(POOLED_BYTES_MIN.ilog2())? as usize;
    (length.is_power_of_two() && class < CLASSES).then_some(class)
}

impl PayloadPool {
    pub(crate) fn new(bytes_max: usize) -> Self {
        PayloadPool(Arc::new(Shared {
            idle: Mutex::default(),
            bytes_max,
        }))
    }

    /// A buffer of `length` bytes with any content.
    pub(crate) fn take(&self, length: usize) -> Payload {
        let Some(class) = class(length) else {
            return Payload {
                bytes: vec![0; length].into_boxed_slice(),
                pool: Weak::new(),
            };
        };
        let mut idle = self.0.idle.lock();
        let pooled = idle.classes[class].pop();
        if pooled.is_some() {
            idle.bytes -= length;
        }
        drop(idle);
        let bytes = pooled.unwrap_or_else(|| vec![0; length].into_boxed_slice());
        Payload {
            bytes,
            pool: Arc::downgrade(&self.0),
        }
    }
}

impl Payload {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The buffer as shared bytes; it goes back to the pool when the last of them is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let length = self.bytes.len();
        let Some(class) = class(length) else { return };
        let mut idle = pool.idle.lock();
        if idle.bytes + length <= pool.bytes_max {
            idle.bytes += length;
            idle.classes[class].push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PayloadPool, class};

    #[test]
    fn only_powers_of_two_are_pooled() {
        assert_eq!(class(0), None);
        assert_eq!(class(64 << 10), None);
        assert_eq!(class(128 << 10), Some(0));
        assert_eq!(class((128 << 10) + 4), None);
        assert_eq!(class(1 << 20), Some(3));
        assert_eq!(class(2 << 20), None);
    }

    #[test]
    fn buffers_come_back_up_to_the_bound() {
        let pool = PayloadPool::new(3 << 20);
        let taken: Vec<_> = (0..4).map(|_| pool.take(1 << 20).freeze()).collect();
        assert_eq!(pool.0.idle.lock().bytes, 0);
        let part = taken[0].slice(5..6);
        drop(taken);
        assert_eq!(pool.0.idle.lock().bytes, 3 << 20);
        drop(part);
        assert_eq!(pool.0.idle.lock().bytes, 3 << 20);
        let mut payload = pool.take(1 << 20);
        assert_eq!(payload.as_mut().len(), 1 << 20);
        assert_eq!(pool.0.idle.lock().bytes, 2 << 20);
        assert_eq!(pool.take(1000).as_ref().len(), 1000);
    }
}
