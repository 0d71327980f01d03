//! What a volume may hold: the sum of the sizes of its regular files, and the number of its inodes.
//!
//! Both are counted exactly: what the metadata has is counted in it, with the change itself; what only the log has is counted in memory
//! and comes back when the log is replayed. A write is checked before it is appended to the log, for what is in the log comes back
//! after a crash. Between the check and the moment at which the file notes the write, its room is *reserved*: checks are made under the
//! volume's lock, shared or exclusive, and reservations end where the growth is counted, under the exclusive one.

use std::sync::atomic::{AtomicU64, Ordering};

use cairn_metadata::store::OpenVolume;
use cairn_metadata::{CapacityLimits, Usage};

use crate::Error;
use crate::control::CapacityResource;
use crate::dirty::DirtyFiles;

/// Bytes that are promised to writes on their way.
#[derive(Default)]
pub(crate) struct Reserved(AtomicU64);

/// A promise; dropped when the growth is counted, or there is none.
pub(crate) struct Reservation<'a> {
    reserved: &'a Reserved,
    bytes: u64,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.reserved.0.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Bytes of the live tree, with what only the log has.
pub(crate) fn used_bytes(open: &OpenVolume, dirty: &DirtyFiles) -> u64 {
    open.usage.bytes.saturating_add_signed(dirty.grown())
}

/// Fails if so many more inodes are more than there may be.
pub(crate) fn require_inodes(open: &OpenVolume, more: u64) -> Result<(), Error> {
    let fits = |limit: u64| open.usage.inodes.saturating_add(more) <= limit;
    match open.record.limits.inodes {
        Some(limit) if more > 0 && !fits(limit) => Err(Error::OverCapacity),
        _ => Ok(()),
    }
}

/// What of these figures is beyond the limits: the resource, the figure, the limit.
pub(crate) fn beyond(usage: Usage, limits: CapacityLimits) -> Option<(CapacityResource, u64, u64)> {
    let bytes = limits.bytes.filter(|limit| usage.bytes > *limit);
    let inodes = limits.inodes.filter(|limit| usage.inodes > *limit);
    match (bytes, inodes) {
        (Some(limit), _) => Some((CapacityResource::Bytes, usage.bytes, limit)),
        (None, Some(limit)) => Some((CapacityResource::Inodes, usage.inodes, limit)),
        (None, None) => None,
    }
}

impl Reserved {
    /// Bytes that are promised now.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Fails if so many more bytes are more than there may be. The volume is locked.
    pub fn require_bytes(&self, open: &OpenVolume, dirty: &DirtyFiles, more: u64) -> Result<(), Error> {
        let used = used_bytes(open, dirty).saturating_add(self.bytes());
        match open.record.limits.bytes {
            Some(limit) if more > 0 && used.saturating_add(more) > limit => Err(Error::OverCapacity),
            _ => Ok(()),
        }
    }

    /// Promises so many more bytes, or fails if that is more than there may be. The volume is locked, shared at least.
    pub fn reserve(
        &self,
        open: &OpenVolume,
        dirty: &DirtyFiles,
        more: u64,
    ) -> Result<Reservation<'_>, Error> {
        let left = match open.record.limits.bytes {
            Some(limit) if more > 0 => limit.saturating_sub(used_bytes(open, dirty)),
            _ => u64::MAX,
        };
        let promise = |reserved: u64| {
            let sum = reserved.checked_add(more)?;
            (sum <= left).then_some(sum)
        };
        let promised = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, promise);
        promised.map_err(|_| Error::OverCapacity)?;
        Ok(Reservation {
            reserved: self,
            bytes: more,
        })
    }
}
