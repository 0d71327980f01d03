//! The volumes of this node as the two ends that an archive travels between: a snapshot that is read, a tree that is
//! written and then becomes a workspace.

use std::error::Error;

use cairn_snapshot::archive::{Archive, Description, Source, Target};
use cairn_types::{ErrorKind, ExportPolicy, SnapshotId, WorkspaceName};

use super::WorkError;

/// What the archives need of the volumes.
pub trait Ends: Send + Sync {
    /// A snapshot to read, and what its archive shall say of it. While the source lives, nothing of it is freed.
    fn source(
        &self,
        workspace: &WorkspaceName,
        snapshot: SnapshotId,
    ) -> Result<(Box<dyn Source>, Description), WorkError>;

    /// A tree to write. Nobody sees it before [`ImportedTree::finish`].
    fn target(&self, wanted: &Wanted) -> Result<Box<dyn ImportedTree>, WorkError>;
}

/// What shall be written, and where it shall appear.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// Whether it exists and is to become equal to the archive.
    pub into_existing: bool,
    /// Who may mount it, if it is new.
    pub policy: ExportPolicy,
    /// Names the archive and its store: an earlier attempt at the same one is gone on with.
    pub identity: [u8; 32],
    /// The archive.
    pub archive: Archive,
    /// Whether all of it is written. What is not whole does not get the snapshot's identity: nothing may be built upon it as if
    /// it were.
    pub whole: bool,
}

/// A tree that is written and then becomes visible.
pub trait ImportedTree: Send {
    /// Where its objects go.
    fn target(&mut self) -> &mut dyn Target;
    /// Makes it visible, all at once and durably.
    fn finish(self: Box<Self>) -> Result<Imported, WorkError>;
}

/// What became of a tree that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// The snapshot that holds it.
    pub snapshot: SnapshotId,
    /// The snapshot of what an existing workspace was before.
    pub safety: Option<SnapshotId>,
}

/// A failure of an end, with what can be done about it: this is what the daemon's sources and targets fail with.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EndError {
    /// What the caller can do.
    pub kind: ErrorKind,
    /// What failed, with its causes.
    pub message: String,
}

/// What can be done about a failure of an end; of one that is no [`EndError`] nothing is known.
pub fn kind_of(error: &(dyn Error + Send + Sync + 'static)) -> ErrorKind {
    error
        .downcast_ref::<EndError>()
        .map_or(ErrorKind::Internal, |error| error.kind)
}
