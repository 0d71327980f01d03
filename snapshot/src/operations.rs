//! What is done with a repository: saving, restoring, forking, comparing, verifying, removing; and what the next start does about
//! what was interrupted.
//!
//! - Whoever changes anything holds the lease, and first puts right what a kill has left ([`recover`]): so every operation finds a
//!   repository in which everything is either done or undone.
//! - A save becomes a snapshot when its descriptor is written; until then what it has made is residue. A snapshot ends when its
//!   descriptor is removed; what it has left is residue too. Residue is removed by whoever comes next.
//! - A restore makes everything that it needs beside the workspace, then takes steps in it. Before the first step it can be undone,
//!   after it it is finished.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cairn_content::objects::ObjectStoreUrlError;
use cairn_content::sealing::KeyFileError;
use cairn_types::{ErrorKind, SnapshotId, with_causes};

use crate::archive::ArchiveError;
use crate::directory::place::PlaceError;
use crate::directory::walk::WalkError;
use crate::directory::{IgnoreError, IgnoreRules, RelativePath};
use crate::engine::chunks::ChunksError;
use crate::engine::{EngineError, EngineKind};
use crate::manifest::ManifestError;
use crate::repository::import_jvs::ImportError;
use crate::repository::{AuditEntry, AuditEvent, Lease, LeaseError, Reader, Repository, RepositoryError};

pub mod collect;
pub mod differences;
pub mod doctor;
pub mod fork;
pub mod history;
pub mod import;
pub mod labels;
pub mod live;
pub mod materialize;
pub mod payload;
pub mod recover;
pub mod restore;
pub mod save;
pub mod snapshots;
pub mod status;
pub mod store;
pub mod verify;

/// What is not versioned. Errors: a pattern that is none.
pub fn ignore_rules(repository: &Repository) -> Result<Arc<IgnoreRules>, OperationError> {
    Ok(Arc::new(IgnoreRules::new(&repository.config()?.ignore)?))
}

/// Writes to the audit log. That it cannot be written stops nothing.
fn audit(
    repository: &Repository,
    lease: &Lease,
    event: AuditEvent,
    snapshot: Option<SnapshotId>,
    details: &[(&str, String)],
) {
    let details = details
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()));
    let entry = AuditEntry {
        event,
        snapshot,
        details: details.collect(),
    };
    if let Err(error) = repository.audit(lease, entry) {
        tracing::warn!(%error, ?event, "the audit log cannot be written");
    }
}

/// What a person should know of a reader that nobody else sees.
fn unguarded(reading: &Reader) -> Vec<String> {
    let why = reading.unguarded().map(|error| {
        format!(
            "nobody else sees that this is read, and what is removed meanwhile cannot be read to its end: {}",
            with_causes(error)
        )
    });
    why.into_iter().collect()
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// Somebody asked for it to stop.
    #[error("cancelled")]
    Cancelled,
    /// Something about the repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// An engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The list of a snapshot's entries cannot be read, or written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The workspace cannot be looked through.
    #[error("the workspace cannot be looked through")]
    Walk(#[from] WalkError),
    /// The archive engine failed.
    #[error(transparent)]
    Chunks(#[from] ChunksError),
    /// The object store of the archives fails, or is not as it should be.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The URL of the object store is none.
    #[error("the object store of the configuration cannot be used")]
    StoreUrl(#[from] ObjectStoreUrlError),
    /// The key of the object store cannot be read.
    #[error("the key file of the configuration cannot be used")]
    Key(#[from] KeyFileError),
    /// Object stores need somebody to make their requests.
    #[error("archives cannot be used here: no runtime was given for requests to their store")]
    NoRuntime,
    /// Compression was asked for, with an engine that has none.
    #[error(
        "compression was asked for, but the engine {} keeps data as it is: leave the engine out, or ask for archive",
        engine.text()
    )]
    Compression {
        /// The engine.
        engine: EngineKind,
    },
    /// A pattern of the configuration is none.
    #[error("what is left out cannot be told")]
    Ignore(#[from] IgnoreError),
    /// Something cannot be written.
    #[error("a tree cannot be written")]
    Place(#[from] PlaceError),
    /// A file of the workspace cannot be read.
    #[error("{path} cannot be read")]
    Workspace {
        /// The file.
        path: RelativePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The data of a file of a snapshot cannot be read.
    #[error("the snapshot's data of {path} cannot be read: `cairn verify` tells what else is damaged")]
    Payload {
        /// The file.
        path: RelativePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What a restore or a save makes on the way cannot be made.
    #[error("what is made on the way cannot be written")]
    Staging {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The list of a snapshot's entries contradicts itself.
    #[error("{path}: {what}")]
    Inconsistent {
        /// The entry.
        path: RelativePath,
        /// What is wrong.
        what: &'static str,
    },
    /// The manifest is not the one that the descriptor names.
    #[error("the list of entries of snapshot {id} is not the one that was written: `cairn verify` it")]
    ForeignManifest {
        /// The snapshot.
        id: SnapshotId,
    },
    /// A partial snapshot does not hold what is asked for.
    #[error("the snapshot is partial and holds nothing at {path}")]
    NotHeld {
        /// What was asked for.
        path: RelativePath,
    },
    /// More names of files with several names than are remembered.
    #[error("more than {limit} files have several names: save or restore parts by path")]
    TooManyLinks {
        /// How many are remembered.
        limit: usize,
    },
    /// The workspace has changes that no snapshot has, and the caller did not want them to be lost.
    #[error(
        "the workspace has {changes} changes that no snapshot has: save them, or let the restore do that, or say that they shall be lost (--discard)"
    )]
    Unsaved {
        /// How many.
        changes: u64,
    },
    /// The workspace does not allow everything that a restore has to do.
    #[error(
        "{refused} entries are not as in the snapshot, for the workspace does not allow it; put that right and restore again"
    )]
    Incomplete {
        /// How many.
        refused: u64,
        /// The snapshot of what was there before.
        safety: Option<SnapshotId>,
        /// The first.
        #[source]
        source: PlaceError,
    },
    /// The engine that keeps a snapshot is not there.
    #[error("snapshot {id} is kept by engine {engine}, which cannot be used here: {reason}")]
    NoEngine {
        /// The snapshot.
        id: SnapshotId,
        /// Its engine.
        engine: String,
        /// Why.
        reason: String,
    },
    /// A target that shall be new is there.
    #[error("{} is there already, and not empty", path.display())]
    Occupied {
        /// The target.
        path: PathBuf,
    },
    /// A repository of the Go tools cannot be read.
    #[error(transparent)]
    Import(ImportError),
    /// It has no workspace of this name.
    #[error("{} has no workspace {name:?}: it has {}", path.display(), known.join(", "))]
    NoWorkspace {
        /// The repository.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Snapshots that are taken over come before all others.
    #[error(
        "snapshot {id} was not imported: what is imported comes before all other snapshots, so begin with a new control directory"
    )]
    NotImported {
        /// A snapshot that was not.
        id: SnapshotId,
    },
    /// The control directory is that of another workspace.
    #[error("{} is the control directory of {}, and not of {}", control.display(), found.display(), workspace.display())]
    OtherWorkspace {
        /// The control directory.
        control: PathBuf,
        /// The workspace that it has.
        found: PathBuf,
        /// The workspace that it should have.
        workspace: PathBuf,
    },
    /// A file that was to be captured vanished while everything was looked at, or none of the paths exists.
    #[error("{path} is not in the workspace")]
    NoPath {
        /// What was asked for.
        path: RelativePath,
    },
}

impl OperationError {
    pub(crate) fn staging(source: io::Error) -> Self {
        OperationError::Staging { source }
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            OperationError::Cancelled => ErrorKind::Unavailable,
            OperationError::Repository(error) => error.kind(),
            OperationError::Engine(error) => error.kind(),
            OperationError::Manifest(error) => error.kind(),
            OperationError::Walk(error) => error.kind(),
            OperationError::Chunks(error) => error.kind(),
            OperationError::Archive(error) => error.kind(),
            OperationError::StoreUrl(_) | OperationError::Key(_) | OperationError::NoRuntime => {
                ErrorKind::Invalid
            }
            OperationError::Place(error) => error.kind(),
            OperationError::Workspace { source, .. } | OperationError::Staging { source } => {
                ErrorKind::of_io(source)
            }
            OperationError::Payload { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
                _ => ErrorKind::Corrupt,
            },
            OperationError::Inconsistent { .. } | OperationError::ForeignManifest { .. } => {
                ErrorKind::Corrupt
            }
            OperationError::TooManyLinks { .. }
            | OperationError::Ignore(_)
            | OperationError::Compression { .. } => ErrorKind::Invalid,
            OperationError::Incomplete { source, .. } => source.kind(),
            OperationError::Unsaved { .. } | OperationError::Occupied { .. } => ErrorKind::Conflict,
            OperationError::NoEngine { .. } => ErrorKind::Unavailable,
            OperationError::Import(error) => error.kind(),
            OperationError::NotImported { .. } | OperationError::OtherWorkspace { .. } => ErrorKind::Conflict,
            OperationError::NoPath { .. }
            | OperationError::NotHeld { .. }
            | OperationError::NoWorkspace { .. } => ErrorKind::NotFound,
        }
    }
}

impl From<LeaseError> for OperationError {
    fn from(error: LeaseError) -> Self {
        OperationError::Repository(error.into())
    }
}

impl From<ImportError> for OperationError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Cancelled => OperationError::Cancelled,
            error => OperationError::Import(error),
        }
    }
}
