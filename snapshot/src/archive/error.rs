//! Why something with archives fails.

use cairn_content::objects::{FenceError, ObjectError};
use cairn_content::pipeline::PipelineError;
use cairn_content::sealing::KeysError;
use cairn_content::store::{ChunkReadError, ChunkStoreError};
use cairn_types::{ErrorKind, SnapshotId};

use super::ends::{SourceError, TargetError};
use super::pull::UnreadableFile;
use super::tree::TreeReadError;

/// Why something with archives failed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Somebody asked for it to stop.
    #[error("cancelled")]
    Cancelled,
    /// The object store failed.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The store is not ours, or that cannot be told.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// The store's keys, or the one that is given.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The packs, or the index over them.
    #[error(transparent)]
    Store(#[from] ChunkStoreError),
    /// A chunk cannot be read.
    #[error(transparent)]
    Read(#[from] ChunkReadError),
    /// A file of an archive cannot be read.
    #[error(transparent)]
    Unreadable(UnreadableFile),
    /// A part of an archive's tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeReadError<ChunkReadError>),
    /// The pipeline stopped.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// What is pushed cannot be read.
    #[error("what is pushed cannot be read")]
    Source(#[source] SourceError),
    /// What is pulled into cannot be written.
    #[error("what is pulled into cannot be written")]
    Target(#[source] TargetError),
    /// What is pushed is not in the order of a tree, or has no root directory: a fault of Cairn.
    #[error("the tree that is pushed is not in order: {what}")]
    Order {
        /// What is wrong with it.
        what: String,
    },
    /// Nothing fits a reference.
    #[error("object store {store} has no archive {reference}")]
    NotFound {
        /// URL of the store.
        store: String,
        /// What was asked for.
        reference: String,
    },
    /// Several archives fit a reference.
    #[error("{reference} fits {} archives of object store {store}", candidates.len())]
    Ambiguous {
        /// URL of the store.
        store: String,
        /// What was asked for.
        reference: String,
        /// What fits, at most ten.
        candidates: Vec<SnapshotId>,
    },
    /// An object that is not what it must be.
    #[error("object {object} of object store {store} is damaged: {what}")]
    Damaged {
        /// URL of the store.
        store: String,
        /// The name of the object.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// An object of a version that this code does not know.
    #[error(
        "object {object} of object store {store} has version {found}; this Cairn knows versions up to {supported}"
    )]
    NewerVersion {
        /// URL of the store.
        store: String,
        /// The name of the object.
        object: String,
        /// Its version.
        found: u32,
        /// The newest that is known.
        supported: u32,
    },
    /// The snapshot is being pushed already, by this process.
    #[error("snapshot {snapshot} is being pushed to this store already")]
    Busy {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// The description of a snapshot is longer than an archive takes.
    #[error("the description of snapshot {snapshot} has {found} bytes; an archive takes {limit}")]
    Description {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Bytes that it has.
        found: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// An option out of its bounds.
    #[error("{what} is {found} and must be {minimum} to {maximum}")]
    Option {
        /// Which.
        what: &'static str,
        /// What it is.
        found: u64,
        /// The least.
        minimum: u64,
        /// The most.
        maximum: u64,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
}

impl ArchiveError {
    /// What the caller can do. Of a source and a target only they themselves know more.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ArchiveError::Cancelled | ArchiveError::Busy { .. } => ErrorKind::Conflict,
            ArchiveError::Objects(error) => error.kind(),
            ArchiveError::Fence(error) => error.kind(),
            ArchiveError::Keys(error) => error.kind(),
            ArchiveError::Store(error) => error.kind(),
            ArchiveError::Read(error) => error.kind(),
            ArchiveError::Unreadable(file) => file.cause.kind(),
            ArchiveError::Tree(TreeReadError::Fetch(error)) => error.kind(),
            ArchiveError::Tree(TreeReadError::Damage { .. }) | ArchiveError::Damaged { .. } => {
                ErrorKind::Corrupt
            }
            ArchiveError::Pipeline(error) => pipeline_kind(error),
            ArchiveError::Source(_) | ArchiveError::Target(_) | ArchiveError::Thread(_) => {
                ErrorKind::Unavailable
            }
            ArchiveError::Order { .. } => ErrorKind::Internal,
            ArchiveError::NotFound { .. } => ErrorKind::NotFound,
            ArchiveError::Ambiguous { .. }
            | ArchiveError::NewerVersion { .. }
            | ArchiveError::Description { .. }
            | ArchiveError::Option { .. } => ErrorKind::Invalid,
        }
    }
}

fn pipeline_kind(error: &PipelineError) -> ErrorKind {
    match error {
        PipelineError::Store(cause) => {
            let store = cause.downcast_ref::<ChunkStoreError>();
            store.map_or(ErrorKind::Unavailable, ChunkStoreError::kind)
        }
        PipelineError::Setting { .. } | PipelineError::Level(_) => ErrorKind::Invalid,
        PipelineError::Start(_) => ErrorKind::Unavailable,
        PipelineError::Cancelled => ErrorKind::Conflict,
        _ => ErrorKind::Internal,
    }
}
