//! Why a repository of the Go tools cannot be read.

use std::io;
use std::path::{Path, PathBuf};

use cairn_types::ErrorKind;

/// Why a repository of the Go tools, or a snapshot in it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
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
    #[error("{} is no repository of the Go tools: it has no .jvs directory with a format version", path.display())]
    NotARepository {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It is a repository of Cairn.
    #[error("{} is a repository of this program already: nothing has to be imported", path.display())]
    Ours {
        /// Its control directory.
        path: PathBuf,
    },
    /// It has a format that nobody here knows.
    #[error("{} has format version {found:?}; version 1 can be imported", path.display())]
    Version {
        /// Its control directory.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// It is a further workspace, and its repository is elsewhere.
    #[error("{} is a workspace of the repository {repository}: name that one", path.display())]
    Locator {
        /// The workspace.
        path: PathBuf,
        /// The repository, as the workspace says.
        repository: String,
    },
    /// A file cannot be understood.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A snapshot's files are not there.
    #[error("the files of the snapshot {} are missing", path.display())]
    TreeMissing {
        /// Where they should be.
        path: PathBuf,
    },
    /// There is too much of something.
    #[error("{} has more than {maximum} {what}", path.display())]
    TooMany {
        /// Where.
        path: PathBuf,
        /// Of what.
        what: &'static str,
        /// How many there may be.
        maximum: usize,
    },
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl ImportError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ImportError::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                // What is no gzip, or ends too early.
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    ErrorKind::Corrupt
                }
                _ => ErrorKind::Unavailable,
            },
            ImportError::NotARepository { .. } | ImportError::TreeMissing { .. } => ErrorKind::NotFound,
            ImportError::Ours { .. } | ImportError::Cancelled => ErrorKind::Conflict,
            ImportError::Version { .. } | ImportError::Locator { .. } | ImportError::TooMany { .. } => {
                ErrorKind::Invalid
            }
            ImportError::Damaged { .. } => ErrorKind::Corrupt,
        }
    }

    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        ImportError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
