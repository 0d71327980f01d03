//! What came of work on plain directories, and what is told of their snapshots.

use std::path::PathBuf;

use cairn_snapshot::directory::place::Losses;
use cairn_snapshot::directory::{Digest, RelativePath};
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::recover::Recovered;
use cairn_snapshot::operations::restore::RestoreTotals;
use cairn_snapshot::operations::verify::{Integrity, integrity};
use cairn_snapshot::repository::{Descriptor, Labels, Repository, RepositoryId};
use cairn_types::SnapshotId;

/// A snapshot with what people say of it, and how much of it is to be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// What it is.
    pub descriptor: Descriptor,
    /// What people say of it; what the descriptor says, if they cannot be read.
    pub labels: Labels,
    /// How much of it is to be believed; nothing if that cannot be told.
    pub integrity: Option<Integrity>,
}

impl SnapshotFacts {
    /// Those of a snapshot that was made just now.
    pub fn first(descriptor: Descriptor) -> Self {
        SnapshotFacts {
            labels: Labels::first(&descriptor),
            integrity: Some(Integrity::Unverified),
            descriptor,
        }
    }

    /// Those of a snapshot. Errors: there is none; its descriptor is damaged; I/O.
    pub fn of(repository: &Repository, id: SnapshotId) -> Result<Self, OperationError> {
        let descriptor = repository.descriptor(id)?;
        let labels = repository.labels(&descriptor);
        Ok(SnapshotFacts {
            labels: labels.unwrap_or_else(|_| Labels::first(&descriptor)),
            integrity: integrity(repository, &descriptor).ok(),
            descriptor,
        })
    }
}

/// What came of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of a save.
    Saved {
        /// What became of the request.
        how: SavedHow,
        /// The snapshot.
        snapshot: Box<SnapshotFacts>,
        /// What was put right before.
        recovered: Vec<Recovered>,
        /// Snapshots that retention removed afterwards.
        collected: Vec<SnapshotId>,
    },
    /// Of a restore.
    Restored {
        /// The snapshot.
        snapshot: Box<SnapshotFacts>,
        /// The snapshot of what was there before.
        safety: Option<Box<SnapshotFacts>>,
        /// In numbers; zeros if an interrupted restore was finished.
        totals: RestoreTotals,
        /// Directories that stay because something is in them that no snapshot holds.
        kept: Vec<RelativePath>,
        /// What could not be kept.
        losses: Losses,
        /// What was put right before.
        recovered: Vec<Recovered>,
    },
    /// Of reading snapshots.
    Verified(Vec<VerifiedSnapshot>),
    /// Of a fork.
    Forked {
        /// The new repository.
        repository: RepositoryId,
        /// Its first snapshot.
        first: Box<SnapshotFacts>,
        /// Where it is.
        workspace: PathBuf,
        /// Where its control directory is.
        control: PathBuf,
        /// Entries that were written.
        entries: u64,
        /// Bytes of files that were written.
        bytes: u64,
        /// What could not be kept; nothing if it was complete before an interruption.
        losses: Losses,
    },
    /// Of removing.
    Collected {
        /// The snapshots that are gone.
        removed: Vec<SnapshotId>,
        /// Those that stay because somebody reads them.
        read: Vec<SnapshotId>,
        /// Files and directories of their trees.
        entries: u64,
    },
}

/// What became of a request for a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedHow {
    /// It was made.
    New,
    /// A request with the same key has made it before.
    Existing,
    /// The newest snapshot holds it already.
    Unchanged,
}

/// What reading a snapshot found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSnapshot {
    /// The snapshot.
    pub id: SnapshotId,
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files whose digest nobody had known.
    pub first_read: u64,
    /// The hash of the whole tree, if everything is whole.
    pub tree_hash: Option<Digest>,
    /// Damaged files.
    pub damaged: u64,
    /// The first of them, and what is wrong.
    pub damage: Vec<(RelativePath, String)>,
    /// Why it cannot be read at all.
    pub error: Option<String>,
    /// It was read before an interruption, and not again.
    pub earlier: bool,
    /// What could not be done beside the reading.
    pub warnings: Vec<String>,
}

impl VerifiedSnapshot {
    /// One of which nothing is known yet.
    pub fn new(id: SnapshotId) -> Self {
        VerifiedSnapshot {
            id,
            files: 0,
            bytes: 0,
            first_read: 0,
            tree_hash: None,
            damaged: 0,
            damage: Vec::new(),
            error: None,
            earlier: false,
            warnings: Vec::new(),
        }
    }

    /// Damages: damaged files, or one if it cannot be read at all.
    pub fn damages(&self) -> u64 {
        self.damaged + u64::from(self.error.is_some())
    }
}
