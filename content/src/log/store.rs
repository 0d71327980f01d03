//! What the log asks of a file system: the seam between the log and the disk, so that tests can cut the power.
//!
//! All methods block. Implementations retry interrupted calls. Files are named by their [`SegmentId`] alone.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use cairn_types::SegmentId;

/// A directory of segment files, for one log alone.
pub trait SegmentStore: Send + Sync + 'static {
    /// The segments that have a file, in ascending order.
    fn list(&self) -> io::Result<Vec<SegmentId>>;

    /// Makes an empty file. It is an error if there is one. Durable only after [`SegmentStore::sync_directory`].
    fn create(&self, id: SegmentId) -> io::Result<Arc<dyn SegmentFile>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, id: SegmentId) -> io::Result<Arc<dyn SegmentFile>>;

    /// Removes a file. Files that are open can still be used. Durable only after [`SegmentStore::sync_directory`].
    fn remove(&self, id: SegmentId) -> io::Result<()>;

    /// Makes all creations and removals durable.
    fn sync_directory(&self) -> io::Result<()>;

    /// Bytes that an unprivileged process may still write to the file system.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One segment file. All methods may be called from many threads at once.
pub trait SegmentFile: Send + Sync + 'static {
    /// Writes the concatenation of `parts` at `offset`. On an error any part of it may have been written.
    fn write_all_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Fills `bytes` from `offset` on, or a part of it if the file ends before, and returns how many that were. After an
    /// error `bytes` has any content.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `bytes` from `offset` on if that needs no disk. `false` if it might, or the file ends before; then `bytes` has
    /// any content.
    fn read_cached_at(&self, bytes: &mut [u8], offset: u64) -> bool;

    /// Makes all bytes written so far, and the file's length, durable.
    fn sync_data(&self) -> io::Result<()>;

    /// Reserves room for the first `length` bytes of the file and makes it at least that long; new bytes are zeros.
    /// Does nothing where the file system cannot.
    fn allocate(&self, length: u64) -> io::Result<()>;

    /// Cuts the file to `length` bytes and gives back the room reserved beyond.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// Bytes of the file.
    fn length(&self) -> io::Result<u64>;

    /// Bytes that the file takes up on disk.
    fn disk_bytes(&self) -> io::Result<u64>;

    /// Drops cached bytes that the system believes to be on the disk, so that the next read asks the disk. Bytes of a
    /// failed sync are among them: the page cache calls them clean.
    fn evict(&self) -> io::Result<()>;

    /// Advises that these bytes will not be read soon: the system may begin to write them to the disk, and forget those that are there.
    fn leave(&self, _range: Range<u64>) {}
}
