//! Why metadata could not be read or changed.

use cairn_types::{ErrorKind, SnapshotId};

use crate::engine::EngineError;
use crate::keyspace::codec::DecodeError;

/// An error of the metadata layer.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The engine failed.
    #[error("the metadata engine failed")]
    Engine(#[from] EngineError),
    /// A stored value is malformed.
    #[error("metadata is damaged")]
    Damaged(#[from] DecodeError),
    /// A record that another one refers to is missing.
    #[error("metadata is damaged: {what} is missing")]
    Missing {
        /// The record.
        what: String,
    },
    /// The data was written by a newer version.
    #[error("metadata format {found} is newer than {supported}, the newest that this version reads")]
    NewerFormat {
        /// The format found.
        found: u32,
        /// The newest format known.
        supported: u32,
    },
    /// The snapshot was deleted since it was looked up.
    #[error("snapshot {id} has been deleted")]
    SnapshotGone {
        /// The snapshot.
        id: SnapshotId,
    },
    /// A fork of a fork of a fork, too often.
    #[error(
        "the snapshot has {depth} generations of forks and restores behind it: at most {limit} are supported"
    )]
    TooDeep {
        /// Generations that the new branch would have.
        depth: u32,
        /// Generations allowed.
        limit: u32,
    },
}

impl MetadataError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            MetadataError::Engine(error) => error.kind(),
            MetadataError::Damaged(_) | MetadataError::Missing { .. } => ErrorKind::Corrupt,
            MetadataError::SnapshotGone { .. } => ErrorKind::NotFound,
            MetadataError::NewerFormat { .. } | MetadataError::TooDeep { .. } => ErrorKind::Invalid,
        }
    }
}
