//! Why the chunk store fails: which store, which pack, which chunk, the cause.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cairn_types::{ChunkId, ErrorKind};

use crate::objects::ObjectError;
use crate::pack::{PackError, PackId};

/// Why an operation on a chunk store failed.
#[derive(Debug, thiserror::Error)]
pub enum ChunkStoreError {
    /// A setting is out of bounds.
    #[error("{what} is {found} and must be {minimum} to {maximum}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What it is.
        found: u64,
        /// The least.
        minimum: u64,
        /// The most.
        maximum: u64,
    },
    /// Somebody else has opened the index in this directory.
    #[error("the chunk index in {} is in use by another process or another part of this one", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// The index on local disk cannot be read or written.
    #[error("cannot {operation} the chunk index in {}", path.display())]
    Cache {
        /// What was to be done.
        operation: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why it was not.
        source: io::Error,
    },
    /// The object store failed.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// A pack's end cannot be read.
    #[error("object store {store}: pack {pack} cannot be used")]
    Pack {
        /// URL of the store.
        store: String,
        /// The pack.
        pack: PackId,
        /// What is wrong with it.
        source: PackError,
    },
    /// A pack that the store does not have, as far as is known.
    #[error("object store {store}: there is no pack {pack}")]
    NoSuchPack {
        /// URL of the store.
        store: String,
        /// The pack.
        pack: PackId,
    },
    /// There are more packs than the index can take.
    #[error("the store has more than {maximum} packs")]
    TooManyPacks {
        /// The most.
        maximum: u64,
    },
    /// The caller has cancelled it.
    #[error("cancelled")]
    Cancelled,
}

impl ChunkStoreError {
    /// What can be done about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ChunkStoreError::Setting { .. } => ErrorKind::Invalid,
            ChunkStoreError::Locked { .. } | ChunkStoreError::Cancelled => ErrorKind::Conflict,
            ChunkStoreError::Cache { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
                io::ErrorKind::InvalidData => ErrorKind::Corrupt,
                _ => ErrorKind::Unavailable,
            },
            ChunkStoreError::Objects(error) => error.kind(),
            ChunkStoreError::Pack { source, .. } => source.kind(),
            ChunkStoreError::NoSuchPack { .. } => ErrorKind::NotFound,
            ChunkStoreError::TooManyPacks { .. } => ErrorKind::NoSpace,
        }
    }
}

/// Why a chunk cannot be read. Several chunks may fail for one cause, so it can be cloned.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChunkReadError {
    /// No known pack holds it.
    #[error("object store {store}: no pack holds chunk {id}")]
    Missing {
        /// URL of the store.
        store: String,
        /// The chunk.
        id: ChunkId,
    },
    /// It has another length than whoever refers to it says.
    #[error("object store {store}: chunk {id} has {found} bytes in pack {pack} and should have {expected}")]
    Length {
        /// URL of the store.
        store: String,
        /// The pack.
        pack: PackId,
        /// The chunk.
        id: ChunkId,
        /// Bytes that it should have.
        expected: u32,
        /// Bytes that it has.
        found: u32,
    },
    /// The pack's bytes are not what was written.
    #[error("object store {store}: chunk {id} in the frame at {offset} of pack {pack} is damaged")]
    Damaged {
        /// URL of the store.
        store: String,
        /// The pack.
        pack: PackId,
        /// Where the frame begins, in bytes from the beginning of the pack.
        offset: u32,
        /// The chunk.
        id: ChunkId,
        /// What is wrong.
        source: Arc<PackError>,
    },
    /// The pack's bytes cannot be fetched.
    #[error(
        "object store {store}: the frame at {offset} of pack {pack}, which holds chunk {id}, cannot be fetched"
    )]
    Fetch {
        /// URL of the store.
        store: String,
        /// The pack.
        pack: PackId,
        /// Where the frame begins, in bytes from the beginning of the pack.
        offset: u32,
        /// The chunk.
        id: ChunkId,
        /// What the store says.
        source: Arc<ObjectError>,
    },
    /// It cannot be told where the chunk is.
    #[error("object store {store}: it cannot be told where chunk {id} is")]
    Index {
        /// URL of the store.
        store: String,
        /// The chunk.
        id: ChunkId,
        /// Why.
        source: Arc<ChunkStoreError>,
    },
    /// There is no memory for a decoder, or no thread for reading.
    #[error("reading chunks cannot be set up")]
    Start(#[source] Arc<io::Error>),
    /// A setting is out of bounds.
    #[error("{what} is {found} and must be {minimum} to {maximum}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What it is.
        found: u64,
        /// The least.
        minimum: u64,
        /// The most.
        maximum: u64,
    },
    /// The reader was stopped: its runtime has gone, or one of its threads ended by a panic.
    #[error("reading chunks was stopped")]
    Stopped,
}

impl ChunkReadError {
    /// What can be done about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ChunkReadError::Missing { .. } => ErrorKind::NotFound,
            ChunkReadError::Length { .. } => ErrorKind::Corrupt,
            ChunkReadError::Damaged { source, .. } => source.kind(),
            ChunkReadError::Fetch { source, .. } => source.kind(),
            ChunkReadError::Index { source, .. } => source.kind(),
            ChunkReadError::Start(_) => ErrorKind::Unavailable,
            ChunkReadError::Setting { .. } => ErrorKind::Invalid,
            ChunkReadError::Stopped => ErrorKind::Internal,
        }
    }

    /// Whether another copy of the chunk may be better than this one.
    pub(super) fn is_of_this_copy(&self) -> bool {
        matches!(
            self,
            ChunkReadError::Length { .. }
                | ChunkReadError::Damaged { .. }
                | ChunkReadError::Fetch { .. }
                | ChunkReadError::Index { .. }
        ) && matches!(
            self.kind(),
            ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Invalid
        )
    }
}
