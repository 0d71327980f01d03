//! Buffers for what is read from segments, used again when whoever asked has let go of the bytes.
//!
//! A fresh large buffer costs the kernel a page fault for every 4 KiB, a good part of what reading from the page cache
//! costs. The pool keeps at most [`IDLE_BUFFERS_MAX`] buffers of at most [`POOLED_BYTES_MAX`] each. What is in use is
//! bounded by whoever reads.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// Smaller reads get memory of their own: the allocator has it at hand.
const POOLED_BYTES_MIN: usize = 32 << 10;
/// Largest buffer that is kept: a record of a megabyte and what its checksum blocks cover besides.
const POOLED_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// Most buffers that are kept.
const IDLE_BUFFERS_MAX: usize = 16;

type Idle = Arc<Mutex<Vec<Box<[u8]>>>>;

/// The pool. See the module's documentation.
#[derive(Default)]
pub(super) struct ReadBuffers(Idle);

/// A buffer of the length that was asked for, which goes back to its pool.
pub(super) struct ReadBuffer {
    memory: Box<[u8]>,
    length: usize,
    pool: Weak<Mutex<Vec<Box<[u8]>>>>,
}

impl ReadBuffers {
    /// A buffer of `length` bytes with any content.
    pub(super) fn take(&self, length: usize) -> ReadBuffer {
        let (memory, pool) = if (POOLED_BYTES_MIN..=POOLED_BYTES_MAX).contains(&length) {
            let idle = self.0.lock().pop();
            // Every buffer can serve every read: pages that none has touched yet take no memory.
            let memory = idle.unwrap_or_else(|| vec![0; POOLED_BYTES_MAX].into_boxed_slice());
            (memory, Arc::downgrade(&self.0))
        } else {
            (vec![0; length].into_boxed_slice(), Weak::new())
        };
        ReadBuffer { memory, length, pool }
    }
}

impl ReadBuffer {
    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }

    /// The buffer as shared bytes.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            let mut idle = pool.lock();
            if idle.len() < IDLE_BUFFERS_MAX {
                idle.push(std::mem::take(&mut self.memory));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IDLE_BUFFERS_MAX, POOLED_BYTES_MAX, POOLED_BYTES_MIN, ReadBuffers};

    #[test]
    fn buffers_come_back_and_only_so_many() {
        let pool = ReadBuffers::default();
        let mut buffer = pool.take(POOLED_BYTES_MIN);
        assert_eq!(buffer.as_mut().len(), POOLED_BYTES_MIN);
        buffer.as_mut()[..4].copy_from_slice(b"data");
        let place = buffer.as_ref().as_ptr();
        let frozen = buffer.freeze();
        let part = frozen.slice(1..3);
        drop(frozen);
        assert_eq!((pool.0.lock().len(), &part[..]), (0, &b"at"[..]));
        drop(part);
        let again = pool.take(POOLED_BYTES_MAX);
        assert_eq!(
            (again.as_ref().as_ptr(), again.as_ref().len()),
            (place, POOLED_BYTES_MAX)
        );
        let many: Vec<_> = (0..2 * IDLE_BUFFERS_MAX)
            .map(|_| pool.take(POOLED_BYTES_MIN))
            .collect();
        drop((again, many));
        assert_eq!(pool.0.lock().len(), IDLE_BUFFERS_MAX);
        drop((pool.take(POOLED_BYTES_MIN - 1), pool.take(POOLED_BYTES_MAX + 1)));
        assert_eq!(pool.0.lock().len(), IDLE_BUFFERS_MAX);
    }

    #[test]
    fn bytes_may_outlive_the_pool() {
        let pool = ReadBuffers::default();
        let mut buffer = pool.take(POOLED_BYTES_MIN);
        buffer.as_mut()[..4].copy_from_slice(b"data");
        let bytes = buffer.freeze();
        drop(pool);
        assert_eq!(&bytes[..4], b"data");
    }
}
