//! Space kept free on the store's file system, so that RocksDB does not run into a full disk.
//!
//! RocksDB copes with a full disk, but only after it has stopped, and it needs room to flush and to compact before it
//! can go on. So writes are refused while less than the reserve is free. Writes that remove something may use most of
//! the reserve: on a full disk, removing is what helps.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::EngineError;

/// Bytes written between two looks at the file system while it is not short of space.
const CHECK_BYTES: u64 = 256 << 10;
/// The reserve is at most this part of the file system.
const PART_OF_FILE_SYSTEM: u64 = 8;
/// The part of the reserve that is left to flushes and compactions when a write removes something.
const PART_FOR_REMOVAL: u64 = 4;

/// Admits writes while there is space.
#[derive(Debug)]
pub(super) struct SpaceReserve {
    directory: PathBuf,
    reserve_bytes: u64,
    /// Bytes until the next look; 0 while short of space, so that every write looks.
    credit: AtomicU64,
}

impl SpaceReserve {
    /// Keeps `reserve_bytes` free on the file system of `directory`, or an eighth of it if that is less. 0 admits
    /// everything.
    pub(super) fn new(directory: &Path, reserve_bytes: u64) -> Self {
        SpaceReserve {
            directory: directory.to_owned(),
            reserve_bytes,
            credit: AtomicU64::new(0),
        }
    }

    /// Refuses a write of `bytes` with [`EngineError::NoSpace`] if the reserve would have to be used for it.
    pub(super) fn admit(&self, bytes: u64, removes: bool) -> Result<(), EngineError> {
        if self.reserve_bytes == 0 {
            return Ok(());
        }
        let spend = |credit: u64| credit.checked_sub(bytes);
        if self
            .credit
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok()
        {
            return Ok(());
        }
        let (free, total) = self
            .look()
            .map_err(|error| EngineError::Failed(Box::new(error)))?;
        let reserve = self.reserve_bytes.min(total / PART_OF_FILE_SYSTEM);
        let plenty = free >= reserve.saturating_add(bytes).saturating_add(CHECK_BYTES);
        self.credit
            .store(if plenty { CHECK_BYTES } else { 0 }, Ordering::Relaxed);
        let floor = if removes {
            reserve / PART_FOR_REMOVAL
        } else {
            reserve
        };
        if free >= floor.saturating_add(bytes) {
            return Ok(());
        }
        let source = io::Error::new(
            io::ErrorKind::StorageFull,
            format!(
                "{free} bytes are free and {floor} are kept free on the file system of the metadata store"
            ),
        );
        Err(EngineError::NoSpace(Box::new(source)))
    }

    /// Bytes free for everyone, and bytes in total.
    fn look(&self) -> io::Result<(u64, u64)> {
        let found = rustix::fs::statvfs(&self.directory)?;
        Ok((
            found.f_bavail.saturating_mul(found.f_frsize),
            found.f_blocks.saturating_mul(found.f_frsize),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_of_nothing_admits_everything() {
        let space = SpaceReserve::new(Path::new("/nonexistent"), 0);
        assert!(space.admit(u64::MAX, false).is_ok());
    }

    #[test]
    fn a_write_beyond_what_is_free_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let space = SpaceReserve::new(directory.path(), 1);
        let (free, _) = space.look().unwrap();
        assert!(space.admit(1, false).is_ok());
        assert!(matches!(
            space.admit(free.saturating_mul(2), false),
            Err(EngineError::NoSpace(_))
        ));
        assert!(space.admit(1, false).is_ok());
    }

    #[test]
    fn a_missing_file_system_is_an_error() {
        let space = SpaceReserve::new(Path::new("/nonexistent"), 1);
        assert!(matches!(space.admit(1, false), Err(EngineError::Failed(_))));
    }
}
