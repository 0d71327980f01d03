//! Why something with a repository fails.

use std::io;
use std::path::{Path, PathBuf};

use cairn_types::{ErrorKind, SnapshotId};

use super::document::{DocumentDamage, EncodeError};
use super::lease::LeaseError;

/// Why something with a repository failed.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The operating system refused or failed.
    #[error("{action} {} failed", path.display())]
    Io {
        /// What was being done: a verb with `-ing`.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no repository.
    #[error("{} is in no repository: `cairn init` makes one; name the control directory if it is elsewhere", path.display())]
    NoRepository {
        /// Where it was looked for, and above.
        path: PathBuf,
    },
    /// There is a repository already.
    #[error("{} is a repository already", path.display())]
    Exists {
        /// Its control directory.
        path: PathBuf,
    },
    /// Something is in the way of a new repository.
    #[error("{} is in the way: {what}", path.display())]
    Occupied {
        /// What is in the way.
        path: PathBuf,
        /// What is the matter with it.
        what: &'static str,
    },
    /// A repository would be inside another one.
    #[error("{} would be nested with the repository {}: a snapshot of the one would hold the other", path.display(), other.display())]
    Nested {
        /// The workspace.
        path: PathBuf,
        /// The other repository's workspace.
        other: PathBuf,
    },
    /// Workspace and control directory are inside each other.
    #[error("workspace {} and control directory {} are inside each other: choose a directory elsewhere", workspace.display(), control.display())]
    Overlap {
        /// The workspace.
        workspace: PathBuf,
        /// The control directory.
        control: PathBuf,
    },
    /// The control directory is a symbolic link.
    #[error("{} is a symbolic link; a control directory is a directory: name the one it leads to with --control", path.display())]
    SymlinkedControl {
        /// The link.
        path: PathBuf,
    },
    /// The workspace of a repository is not where it was.
    #[error("the workspace {} of the repository {} is not there", workspace.display(), control.display())]
    WorkspaceMissing {
        /// The workspace.
        workspace: PathBuf,
        /// The control directory.
        control: PathBuf,
    },
    /// A repository of the Go tools named JVS.
    #[error("{} is a repository of the Go tools (format 1): `cairn import-jvs` takes its snapshots over", path.display())]
    GoTools {
        /// Its control directory, or the locator file.
        path: PathBuf,
    },
    /// A repository, or a file of one, of a newer Cairn.
    #[error("{} has version {found}; this Cairn knows version {supported}: use a newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that is known.
        supported: u32,
    },
    /// A file is not what was written.
    #[error("{} is damaged: {what}; {remedy}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What a person can do.
        remedy: &'static str,
    },
    /// A value out of its bounds was to be written.
    #[error("this cannot be written: {0}")]
    Value(#[from] EncodeError),
    /// Nothing fits a reference.
    #[error("no snapshot is {reference}")]
    NotFound {
        /// What was asked for.
        reference: String,
    },
    /// Several snapshots fit a reference.
    #[error("{reference} fits {found} snapshots: give more digits")]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// How many fit.
        found: usize,
        /// The first ten of them.
        candidates: Vec<SnapshotId>,
    },
    /// A text is no reference.
    #[error("{reference:?} is no reference: give latest, latest~N, a tag, or at least four digits of an id")]
    Reference {
        /// What was given, at most its first 100 characters.
        reference: String,
    },
    /// There is a snapshot of this id already.
    #[error("snapshot {id} exists already")]
    SnapshotExists {
        /// The id.
        id: SnapshotId,
    },
    /// An idempotency key was used for another request.
    #[error(
        "the idempotency key was used for another request, which made snapshot {snapshot}: use a new key"
    )]
    KeyReused {
        /// What the other request made.
        snapshot: SnapshotId,
    },
    /// The lease cannot be had, or is lost.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

impl RepositoryError {
    /// A failure of the operating system.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        RepositoryError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// What is wrong with the document at `path`.
    pub(crate) fn document(path: PathBuf, damage: DocumentDamage, remedy: &'static str) -> Self {
        match damage {
            DocumentDamage::Newer { found } => RepositoryError::Newer {
                path,
                found,
                supported: super::layout::FORMAT_VERSION,
            },
            damage => RepositoryError::Damaged {
                path,
                what: damage.to_string(),
                remedy,
            },
        }
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            RepositoryError::Io { source, .. } => ErrorKind::of_io(source),
            RepositoryError::NoRepository { .. }
            | RepositoryError::WorkspaceMissing { .. }
            | RepositoryError::NotFound { .. } => ErrorKind::NotFound,
            RepositoryError::Exists { .. }
            | RepositoryError::Occupied { .. }
            | RepositoryError::Nested { .. }
            | RepositoryError::Overlap { .. }
            | RepositoryError::SnapshotExists { .. }
            | RepositoryError::KeyReused { .. } => ErrorKind::Conflict,
            RepositoryError::SymlinkedControl { .. }
            | RepositoryError::GoTools { .. }
            | RepositoryError::Newer { .. }
            | RepositoryError::Value(_)
            | RepositoryError::Ambiguous { .. }
            | RepositoryError::Reference { .. } => ErrorKind::Invalid,
            RepositoryError::Damaged { .. } => ErrorKind::Corrupt,
            RepositoryError::Lease(error) => error.kind(),
        }
    }
}
