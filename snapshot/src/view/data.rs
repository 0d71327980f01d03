//! The bytes of files: out of a tree that an engine keeps, or chunk by chunk out of an object store.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_content::store::ChunkReadError;
use cairn_types::{ChunkId, ErrorKind, InodeId};
use parking_lot::Mutex;
use rustix::io::Errno;

use super::cache::Cache;
use super::pages::{Entry, Extent, FileContent};
use super::{CHUNKS_CACHE_BYTES, FILES_OPEN_MAX};
use crate::archive::{Progress, Repository as Archives};
use crate::directory::beneath::open_file;
use crate::directory::{Hole, RelativePath, Status};
use crate::engine::chunks::ChunksError;
use crate::operations::OperationError;
use crate::operations::store::store;
use crate::repository::Repository;

/// Packs that were written by somebody else are looked for at most so often, when a chunk is not where it was.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// And at most this part of the time.
const LOOK_PART: u32 = 10;

/// An object store that is open.
pub(super) enum Store {
    /// That of a repository of a plain directory.
    OfRepository(Arc<Repository>),
    /// Opened for the view.
    Own(Box<Archives>),
}

impl Store {
    /// The archives in it. Errors: as of [`store`]; none once it was open.
    pub fn get(&self) -> Result<&Archives, OperationError> {
        match self {
            Store::OfRepository(repository) => store(repository),
            Store::Own(archives) => Ok(archives),
        }
    }
}

/// Where bytes come from.
pub(super) enum Data {
    Kept(KeptTree),
    Chunks(Chunks),
}

impl Data {
    /// Reads a regular file. Fewer bytes than fit only at its end.
    pub fn read(
        &self,
        inode: InodeId,
        entry: &Entry,
        file: &FileContent,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, OperationError> {
        let rest = entry.attributes.size.saturating_sub(offset);
        let length = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..length];
        if length == 0 {
            return Ok(0);
        }
        match self {
            Data::Kept(tree) => tree.read(inode, entry, offset, buffer)?,
            Data::Chunks(_) if !file.is_whole => {
                let path = entry.path.clone();
                return Err(ChunksError::NoRuns { path }.into());
            }
            Data::Chunks(chunks) => chunks
                .read(&file.chunks, offset, buffer)
                .map_err(|error| error.told(&entry.path))?,
        }
        Ok(length)
    }
}

/// A tree of files with the paths of the snapshot.
pub(super) struct KeptTree {
    root: OwnedFd,
    open: Cache<InodeId, OwnedFd>,
}

impl KeptTree {
    pub fn new(root: OwnedFd) -> Self {
        KeptTree {
            root,
            open: Cache::new(FILES_OPEN_MAX),
        }
    }

    /// Fills the buffer, all of which lies inside of the file.
    fn read(
        &self,
        inode: InodeId,
        entry: &Entry,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), OperationError> {
        let failed = |source| OperationError::Payload {
            path: entry.path.clone(),
            source,
        };
        let file = match self.open.get(&inode) {
            Some(file) => file,
            None => {
                let file = self.open(entry).map_err(failed)?;
                self.open.get_or_insert(&inode, 1, || file)
            }
        };
        let mut done = 0;
        while done < buffer.len() {
            match rustix::io::pread(&*file, &mut buffer[done..], offset + done as u64) {
                Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error.into())),
            }
        }
        Ok(())
    }

    fn open(&self, entry: &Entry) -> io::Result<OwnedFd> {
        let file = open_file(&self.root, &entry.path)?;
        let found = Status::of(&file)?.attributes.size;
        if found == entry.attributes.size {
            return Ok(file);
        }
        let expected = entry.attributes.size;
        let what = format!("it has {found} bytes where the snapshot has {expected}");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

/// A chunk that is fetched once, however many want it.
type Slot = OnceLock<Result<Bytes, ChunkReadError>>;

/// Chunks of an object store, fetched when they are wanted.
pub(super) struct Chunks {
    store: Arc<Store>,
    kept: Cache<ChunkId, Slot>,
    /// From when on packs may be looked for again.
    look_again: Mutex<Option<Instant>>,
}

/// Why a chunk cannot be read.
pub(super) enum ChunkFailure {
    Store(OperationError),
    Chunk(ChunkReadError),
}

impl ChunkFailure {
    fn told(self, path: &RelativePath) -> OperationError {
        match self {
            ChunkFailure::Store(error) => error,
            ChunkFailure::Chunk(source) => ChunksError::Data {
                path: path.clone(),
                source,
            }
            .into(),
        }
    }

    /// The same, where no path is known.
    pub fn pathless(self) -> OperationError {
        match self {
            ChunkFailure::Store(error) => error,
            ChunkFailure::Chunk(source) => crate::archive::ArchiveError::from(source).into(),
        }
    }
}

impl Chunks {
    pub fn new(store: Arc<Store>) -> Self {
        Chunks {
            store,
            kept: Cache::new(CHUNKS_CACHE_BYTES),
            look_again: Mutex::new(None),
        }
    }

    /// Fills the buffer with bytes of a file that consists of these chunks, ascending, and of zeros.
    pub fn read(&self, chunks: &[Extent], offset: u64, buffer: &mut [u8]) -> Result<(), ChunkFailure> {
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        let first = chunks.partition_point(|extent| extent.offset + u64::from(extent.length) <= offset);
        for extent in chunks[first..].iter().take_while(|extent| extent.offset < end) {
            let data = self.chunk(&extent.chunk, extent.length)?;
            let from = offset.max(extent.offset);
            let to = end.min(extent.offset + u64::from(extent.length));
            // Both lie in the chunk, whose length was checked, and in the buffer.
            let source = &data[(from - extent.offset) as usize..(to - extent.offset) as usize];
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
        }
        Ok(())
    }

    /// The bytes of a chunk, verified.
    pub fn chunk(&self, id: &ChunkId, length: u32) -> Result<Bytes, ChunkFailure> {
        let archives = self.store.get().map_err(ChunkFailure::Store)?;
        let slot = self.kept.get_or_insert(id, length as usize, Slot::new);
        let read = slot.get_or_init(|| {
            let mut read = archives.read_chunk(id, length);
            if read
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::NotFound)
                && self.look(archives)
            {
                read = archives.read_chunk(id, length);
            }
            // Of its own: a small part of a large frame would keep the frame in memory.
            read.map(|bytes| Bytes::copy_from_slice(&bytes))
        });
        match read {
            Ok(bytes) => Ok(bytes.clone()),
            Err(error) => {
                // Perhaps it can be had the next time.
                self.kept.remove(id);
                Err(ChunkFailure::Chunk(error.clone()))
            }
        }
    }

    /// Looks which packs there are: a reclaim may have written chunks anew while the view was open. False if that was done a moment ago.
    fn look(&self, archives: &Archives) -> bool {
        // Others that miss a chunk wait, and then find that this was done.
        let mut look_again = self.look_again.lock();
        let begun = Instant::now();
        if look_again.is_some_and(|at| begun < at) {
            return false;
        }
        let refreshed = archives.refresh(&Progress::new());
        let pause = begun.elapsed().saturating_mul(LOOK_PART).max(LOOK_AGAIN);
        *look_again = Instant::now().checked_add(pause);
        drop(look_again);
        match refreshed {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "the packs of the object store cannot be listed");
                false
            }
        }
    }
}

/// Where data begins at `offset` or behind it, in a file of `size` bytes with these holes, ascending; nothing if there is none.
pub(super) fn next_data(holes: &[Hole], size: u64, offset: u64) -> Option<u64> {
    let at = match hole_at(holes, offset) {
        // Holes are as large as can be: data follows, or the end.
        Some(hole) => hole.offset.saturating_add(hole.length),
        None => offset,
    };
    (at < size).then_some(at)
}

/// Where a hole begins at `offset` or behind it; the end of the file is one.
pub(super) fn next_hole(holes: &[Hole], size: u64, offset: u64) -> Option<u64> {
    if offset >= size {
        return None;
    }
    if hole_at(holes, offset).is_some() {
        return Some(offset);
    }
    let next = holes.partition_point(|hole| hole.offset <= offset);
    Some(holes.get(next).map_or(size, |hole| hole.offset))
}

fn hole_at(holes: &[Hole], offset: u64) -> Option<&Hole> {
    let behind = holes.partition_point(|hole| hole.offset <= offset);
    let hole = holes.get(behind.checked_sub(1)?)?;
    (offset - hole.offset < hole.length).then_some(hole)
}

#[cfg(test)]
mod tests {
    use super::{next_data, next_hole};
    use crate::directory::Hole;

    #[test]
    fn holes_and_data_are_found_from_anywhere() {
        let hole = |offset, length| Hole { offset, length };
        let holes = [hole(0, 4096), hole(8192, 4096), hole(20_480, 100)];
        let size = 20_580;
        let data: Vec<_> = [
            0, 4095, 4096, 8191, 8192, 12_287, 12_288, 20_479, 20_480, 20_579, 20_580,
        ]
        .map(|at| next_data(&holes, size, at))
        .to_vec();
        let expected = [
            Some(4096),
            Some(4096),
            Some(4096),
            Some(8191),
            Some(12_288),
            Some(12_288),
            Some(12_288),
            Some(20_479),
            None,
            None,
            None,
        ];
        assert_eq!(data, expected);
        let found: Vec<_> = [0, 4095, 4096, 8191, 8192, 12_288, 20_480, 20_579, 20_580]
            .map(|at| next_hole(&holes, size, at))
            .to_vec();
        let expected = [
            Some(0),
            Some(4095),
            Some(8192),
            Some(8192),
            Some(8192),
            Some(20_480),
            Some(20_480),
            Some(20_579),
            None,
        ];
        assert_eq!(found, expected);
        assert_eq!((next_data(&[], 5, 3), next_hole(&[], 5, 3)), (Some(3), Some(5)));
        assert_eq!((next_data(&[], 0, 0), next_hole(&[], 0, 0)), (None, None));
    }
}
