//! The data of a snapshot, wherever its engine keeps it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cairn_content::write_behind::{WriteBehind, leave};

use super::OperationError;
use crate::directory::beneath::open_file;
use crate::directory::place::{Way, clone_or_copy, write_at};
use crate::directory::read::{READ_BYTES, data_ranges, summarize};
use crate::directory::{Body, ContentHasher, Digest, Entry, RelativePath};
use crate::engine::chunks::{ChunksPayload, PayloadRecords};

/// Gives the data of a snapshot's files.
pub trait Payload: Send + Sync {
    /// Writes the data of a regular file into `to`, an empty file: the same length, the same holes. `entry` is the file itself, not
    /// another name of it.
    fn write(&self, entry: &Entry, to: BorrowedFd<'_>) -> Result<(), OperationError>;

    /// The digest of the data of a regular file, read again.
    fn digest(&self, entry: &Entry) -> Result<Digest, OperationError>;

    /// The list of entries that is kept with the data, besides the one of the repository; nothing if there is none.
    fn own_list(&self) -> Option<PayloadRecords<'_>> {
        None
    }
}

/// A tree of files with the paths of the snapshot.
pub struct TreePayload {
    root: OwnedFd,
}

impl TreePayload {
    /// The tree at `root`.
    pub fn new(root: OwnedFd) -> Self {
        TreePayload { root }
    }

    fn open(&self, path: &RelativePath) -> Result<OwnedFd, OperationError> {
        open_file(&self.root, path).map_err(|source| damaged(path, source))
    }
}

fn damaged(path: &RelativePath, source: io::Error) -> OperationError {
    OperationError::Payload {
        path: path.clone(),
        source,
    }
}

impl Payload for TreePayload {
    fn write(&self, entry: &Entry, to: BorrowedFd<'_>) -> Result<(), OperationError> {
        let from = self.open(&entry.path)?;
        let failed = |source| damaged(&entry.path, source);
        let found = crate::directory::read::FileState::of(&from).map_err(failed)?;
        if found.size != entry.attributes.size {
            let what = format!(
                "it has {} bytes where the snapshot has {}",
                found.size, entry.attributes.size
            );
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        let holes = match &entry.body {
            Body::File(file) => &file.holes[..],
            _ => &[],
        };
        let copied = clone_or_copy(from.as_fd(), to, entry.attributes.size, holes, Way::Clone);
        copied.map(drop).map_err(failed)
    }

    fn digest(&self, entry: &Entry) -> Result<Digest, OperationError> {
        let file = self.open(&entry.path)?;
        let read = summarize::<io::Error>(&file, |_| Ok(()));
        read.map(|read| read.value.digest)
            .map_err(|source| damaged(&entry.path, source))
    }
}

/// Chunks in an object store.
pub struct ArchivePayload<'a> {
    chunks: ChunksPayload<'a>,
}

impl<'a> ArchivePayload<'a> {
    /// The data of an archive.
    pub fn new(chunks: ChunksPayload<'a>) -> Self {
        ArchivePayload { chunks }
    }

    /// Hands out the data between the holes, in order.
    fn each(
        &self,
        entry: &Entry,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), OperationError>,
    ) -> Result<(), OperationError> {
        let holes = match &entry.body {
            Body::File(file) => &file.holes[..],
            _ => &[],
        };
        let content = self.chunks.content(entry)?;
        let size = usize::try_from(entry.attributes.size).unwrap_or(READ_BYTES);
        let mut buffer = vec![0; size.min(READ_BYTES)];
        for range in data_ranges(entry.attributes.size, holes) {
            let mut at = range.start;
            while at < range.end {
                let wanted = usize::try_from(range.end - at)
                    .unwrap_or(READ_BYTES)
                    .min(buffer.len());
                let read = content.read(at, &mut buffer[..wanted])?;
                take(at, &buffer[..read])?;
                at += read as u64;
                if read == 0 {
                    let short = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends early");
                    return Err(damaged(&entry.path, short));
                }
            }
        }
        Ok(())
    }
}

impl Payload for ArchivePayload<'_> {
    fn write(&self, entry: &Entry, to: BorrowedFd<'_>) -> Result<(), OperationError> {
        let failed = |source| OperationError::Staging { source };
        let mut end = 0;
        let mut behind = WriteBehind::new(0);
        self.each(entry, |offset, bytes| {
            end = offset + bytes.len() as u64;
            write_at(to, bytes, offset).map_err(failed)?;
            behind.advance(end, |range| leave(to, range));
            Ok(())
        })?;
        behind.finish(|range| leave(to, range));
        match end == entry.attributes.size {
            true => Ok(()),
            // It ends with a hole.
            false => rustix::fs::ftruncate(to, entry.attributes.size).map_err(|error| failed(error.into())),
        }
    }

    fn digest(&self, entry: &Entry) -> Result<Digest, OperationError> {
        let mut hasher = ContentHasher::new();
        let mut at = 0;
        self.each(entry, |offset, bytes| {
            hasher.zeros(offset - at);
            hasher.update(bytes);
            at = offset + bytes.len() as u64;
            Ok(())
        })?;
        hasher.zeros(entry.attributes.size - at);
        Ok(hasher.finish())
    }

    fn own_list(&self) -> Option<PayloadRecords<'_>> {
        Some(self.chunks.records(RelativePath::root()))
    }
}
