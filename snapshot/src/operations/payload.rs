//! The data of a snapshot, wherever its engine keeps it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::OperationError;
use crate::directory::beneath::open_file;
use crate::directory::place::{Way, clone_or_copy};
use crate::directory::read::summarize;
use crate::directory::{Body, Digest, Entry, RelativePath};

/// Gives the data of a snapshot's files.
pub trait Payload: Send + Sync {
    /// Writes the data of a regular file into `to`, an empty file: the same length, the same holes. `entry` is the file itself, not
    /// another name of it.
    fn write(&self, entry: &Entry, to: BorrowedFd<'_>) -> Result<(), OperationError>;

    /// The digest of the data of a regular file, read again.
    fn digest(&self, entry: &Entry) -> Result<Digest, OperationError>;
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
