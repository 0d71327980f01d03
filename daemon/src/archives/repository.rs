//! What the daemon asks of the archives of one store: a trait, so that what lies above it is tested without a store.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cairn_snapshot::archive::{
    self, Archive, ArchiveError, Damage, Description, PackVerdict, Progress, Pulled, Pushed, ReclaimOptions,
    Reclaimed, Sizes, Source, StoreSizes, Target, Verified, VerifyOptions,
};
use cairn_types::{InodeId, SnapshotId};

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
    /// Writes an archive's tree, without some files.
    fn pull(
        &self,
        archive: &Archive,
        target: &mut dyn Target,
        without: &BTreeSet<InodeId>,
        progress: &Progress,
    ) -> Result<Pulled, ArchiveError>;
    /// The files of an archive that cannot be read, and why.
    fn unreadable(
        &self,
        snapshot: SnapshotId,
        progress: &Progress,
    ) -> Result<BTreeMap<InodeId, Damage>, ArchiveError>;
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

/// The real one.
impl Repository for archive::Repository {
    fn own(&self, take_over: bool) -> Result<(), ArchiveError> {
        self.own(take_over)
    }

    fn push(
        &self,
        source: &dyn Source,
        description: Description,
        progress: &Progress,
    ) -> Result<Pushed, ArchiveError> {
        self.push(source, description, progress)
    }

    fn archives(&self) -> Result<Vec<Archive>, ArchiveError> {
        self.archives()
    }

    fn find(&self, reference: Option<&str>) -> Result<Archive, ArchiveError> {
        self.find(reference)
    }

    fn pull(
        &self,
        archive: &Archive,
        target: &mut dyn Target,
        without: &BTreeSet<InodeId>,
        progress: &Progress,
    ) -> Result<Pulled, ArchiveError> {
        self.pull(archive, target, without, progress)
    }

    fn unreadable(
        &self,
        snapshot: SnapshotId,
        progress: &Progress,
    ) -> Result<BTreeMap<InodeId, Damage>, ArchiveError> {
        self.unreadable_files(snapshot, progress)
    }

    fn identity(&self, archive: &Archive) -> Result<[u8; 32], ArchiveError> {
        self.identity(archive)
    }

    fn sizes(&self, snapshot: SnapshotId, progress: &Progress) -> Result<Sizes, ArchiveError> {
        self.sizes(snapshot, progress)
    }

    fn store_sizes(&self, progress: &Progress) -> Result<StoreSizes, ArchiveError> {
        self.store_sizes(progress)
    }

    fn verify(
        &self,
        options: &VerifyOptions,
        progress: &Progress,
        found: &mut dyn FnMut(Damage),
    ) -> Result<Verified, ArchiveError> {
        self.verify(options, progress, found)
    }

    fn delete(&self, snapshot: SnapshotId) -> Result<(), ArchiveError> {
        self.delete(snapshot)
    }

    fn reclaim(
        &self,
        options: &ReclaimOptions,
        progress: &Progress,
        verdict: &mut dyn FnMut(PackVerdict),
    ) -> Result<Reclaimed, ArchiveError> {
        self.reclaim(options, progress, verdict)
    }
}
