//! Why something with a plain directory cannot be done by the daemon.

use std::io;
use std::path::PathBuf;

use cairn_snapshot::directory::PathError;
use cairn_snapshot::engine::UnknownEngine;
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::collect::CollectError;
use cairn_snapshot::repository::{RepositoryError, RepositoryId};
use cairn_types::ErrorKind;

use crate::operations::{OperationId, StartError};

/// Why something with a plain directory failed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoriesError {
    /// The daemon may not touch it.
    #[error("{} may not be touched: {what}", path.display())]
    NotAllowed {
        /// What was asked for.
        path: PathBuf,
        /// Why not.
        what: &'static str,
        /// Below which directories it may touch something.
        roots: Vec<PathBuf>,
    },
    /// It looks after no such repository.
    #[error("no repository is registered for {asked}")]
    NotRegistered {
        /// The path or identity that was asked for.
        asked: String,
    },
    /// The repository is registered with other directories: one of the two is a copy.
    #[error("repository {repository} is registered already, at {}", path.display())]
    Registered {
        /// The repository.
        repository: RepositoryId,
        /// The workspace that it is registered with.
        path: PathBuf,
    },
    /// As many are registered as may.
    #[error("{limit} directories are registered, and no more may be")]
    TooMany {
        /// How many may.
        limit: usize,
    },
    /// Work on it waits or runs.
    #[error("operation {operation} works on {}", path.display())]
    InUse {
        /// The workspace.
        path: PathBuf,
        /// What works.
        operation: OperationId,
    },
    /// What is asked for can never be right.
    #[error("{what}")]
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// A number is out of its bounds.
    #[error("{what} is {found}: {limit}")]
    Limit {
        /// Which.
        what: &'static str,
        /// The number.
        found: u64,
        /// The bound.
        limit: String,
    },
    /// No snapshot has been made with a key.
    #[error("no snapshot has been made with the key {key:?}")]
    NoKey {
        /// The key.
        key: String,
    },
    /// There is no pin of this number.
    #[error("the snapshot has no pin {number}")]
    NoPin {
        /// The number.
        number: u64,
    },
    /// There is no such engine.
    #[error(transparent)]
    Engine(#[from] UnknownEngine),
    /// A path is none below the root of the directory.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something about a repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The work failed.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// Removing failed.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The work was not started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The daemon was interrupted in the work, which cannot be taken up again.
    #[error("the daemon was interrupted: {what}")]
    Interrupted {
        /// What is to be known.
        what: String,
    },
    /// What the daemon remembers cannot be written, or read.
    #[error("{} cannot be {action}", path.display())]
    Records {
        /// The file.
        path: PathBuf,
        /// What was tried, as a participle.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The daemon's own record of something is damaged.
    #[error("{} is damaged: {what}", path.display())]
    RecordDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl DirectoriesError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            DirectoriesError::NotAllowed { .. } => ErrorKind::Denied,
            DirectoriesError::NotRegistered { .. }
            | DirectoriesError::NoKey { .. }
            | DirectoriesError::NoPin { .. } => ErrorKind::NotFound,
            DirectoriesError::Registered { .. }
            | DirectoriesError::TooMany { .. }
            | DirectoriesError::InUse { .. } => ErrorKind::Conflict,
            DirectoriesError::Invalid { .. }
            | DirectoriesError::Limit { .. }
            | DirectoriesError::Engine(_)
            | DirectoriesError::Path(_) => ErrorKind::Invalid,
            DirectoriesError::Repository(error) => error.kind(),
            DirectoriesError::Operation(error) => error.kind(),
            DirectoriesError::Collect(error) => error.kind(),
            DirectoriesError::Start(_) | DirectoriesError::Interrupted { .. } => ErrorKind::Unavailable,
            DirectoriesError::Records { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
                _ => ErrorKind::Unavailable,
            },
            DirectoriesError::RecordDamaged { .. } => ErrorKind::Corrupt,
        }
    }

    /// Whether somebody asked for it to stop.
    pub fn is_cancelled(&self) -> bool {
        use cairn_snapshot::engine::EngineError;
        use cairn_snapshot::repository::LeaseError;
        let operation = match self {
            DirectoriesError::Operation(error)
            | DirectoriesError::Collect(CollectError::Operation(error)) => error,
            DirectoriesError::Repository(RepositoryError::Lease(LeaseError::Cancelled)) => return true,
            _ => return false,
        };
        matches!(
            operation,
            OperationError::Cancelled
                | OperationError::Engine(EngineError::Cancelled)
                | OperationError::Repository(RepositoryError::Lease(LeaseError::Cancelled))
        )
    }
}
