//! What the daemon asks of the archives of one store, and how that fails.

use std::fmt;

use cairn_content::objects::{FenceError, ObjectError};
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
    fn identity(&self, archive: &Archive) -> [u8; 32];
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

/// Why work on archives failed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It was asked to stop.
    #[error("the work was cancelled")]
    Cancelled,
    /// The object store.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The store is somebody else's.
    #[error(transparent)]
    Fence(#[from] FenceError),
    /// The tree that is archived cannot be read.
    #[error("the snapshot cannot be read: {0}")]
    Source(#[source] SourceError),
    /// The tree that is pulled cannot be written.
    #[error("what is pulled cannot be written: {0}")]
    Target(#[source] TargetError),
    /// No archive fits.
    #[error("there is no archive {reference:?}")]
    NotFound {
        /// What was asked for.
        reference: String,
    },
    /// Several archives fit.
    #[error("{reference} fits {} archives", candidates.len())]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// What fits.
        candidates: Vec<SnapshotId>,
    },
    /// The root of an archive is damaged.
    #[error("the archive's root {object} is damaged: {what}")]
    Root {
        /// The object.
        object: String,
        /// What is wrong.
        what: String,
    },
    /// A later version wrote the archive.
    #[error("{object} has format version {found}, and this cairnd knows up to {known}")]
    NewerVersion {
        /// The object.
        object: String,
        /// Its version.
        found: u64,
        /// The newest that is known.
        known: u64,
    },
    /// Stored bytes are not what was written.
    #[error("{} objects are damaged or missing, the first: {}", .0.len(), first(.0))]
    Damaged(Vec<Damage>),
    /// A part that this version does not have.
    #[error("this version of cairnd cannot {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
}

fn first(damages: &[Damage]) -> String {
    damages.first().map_or_else(
        || "none told".to_owned(),
        |damage| format!("{}: {}", damage.object, damage.what),
    )
}
