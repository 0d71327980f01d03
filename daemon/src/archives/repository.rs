//! What the daemon asks of the archives of one store, and how that fails.

use std::fmt;

use cairn_content::objects::{FenceError, ObjectError};
use cairn_content::pipeline::PipelineError;
use cairn_content::store::{ChunkReadError, ChunkStoreError};
use cairn_snapshot::archive::tree::TreeReadError;
use cairn_snapshot::archive::{
    Archive, Damage, Description, PackVerdict, Progress, Pulled, Pushed, ReclaimOptions, Reclaimed, Sizes,
    Source, SourceError, StoreSizes, Target, TargetError, Verified, VerifyOptions,
};
use cairn_types::SnapshotId;

/// The archives of one store. All calls block, and none is made on a thread of the runtime.
pub trait Repository: Send + Sync {
    /// Makes the store this daemon's, if it is nobody's yet; somebody else's only if `take_over` says so.
    fn own(&self, take_over: bool) -> Result<(), ArchiveError>;
    /// Archives a tree.
    fn push(
        &self,
        source: &dyn Source,
        description: Description,
        progress: &Progress,
    ) -> Result<Pushed, ArchiveError>;
    /// All archives, newest snapshot first.
    fn archives(&self) -> Result<Vec<Archive>, ArchiveError>;
    /// The archive that a reference means; `None`: the newest.
    fn find(&self, reference: Option<&str>) -> Result<Archive, ArchiveError>;
    /// Writes an archive's tree.
    fn pull(
        &self,
        archive: &Archive,
        target: &mut dyn Target,
        progress: &Progress,
    ) -> Result<Pulled, ArchiveError>;
    /// Names the archive and the store that it is in.
    fn identity(&self, archive: &Archive) -> Result<[u8; 32], ArchiveError>;
    /// What an archive takes up.
    fn sizes(&self, snapshot: SnapshotId, progress: &Progress) -> Result<Sizes, ArchiveError>;
    /// What the store takes up.
    fn store_sizes(&self, progress: &Progress) -> Result<StoreSizes, ArchiveError>;
    /// Compares what is stored with its checksums.
    fn verify(
        &self,
        options: &VerifyOptions,
        progress: &Progress,
        found: &mut dyn FnMut(Damage),
    ) -> Result<Verified, ArchiveError>;
    /// Deletes an archive.
    fn delete(&self, snapshot: SnapshotId) -> Result<(), ArchiveError>;
    /// Removes what no archive needs.
    fn reclaim(
        &self,
        options: &ReclaimOptions,
        progress: &Progress,
        verdict: &mut dyn FnMut(PackVerdict),
    ) -> Result<Reclaimed, ArchiveError>;
}

impl fmt::Debug for dyn Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Repository")
    }
}

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
    /// The packs, or the index over them.
    #[error(transparent)]
    Store(#[from] ChunkStoreError),
    /// A chunk cannot be read.
    #[error(transparent)]
    Read(#[from] ChunkReadError),
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
    /// A part that this version does not have.
    #[error("this version of cairnd cannot {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
}
