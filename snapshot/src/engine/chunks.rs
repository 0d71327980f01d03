//! The engine `archive`: a snapshot of a plain directory is an archive in an object store ([`crate::archive`]), which shares every chunk with
//! all other archives there.
//!
//! - [`capture`](capture()): a walk is merged with the manifest of the snapshot before. What has not changed is neither opened nor read. What has
//!   is read ahead by a few threads, fed to the pipeline in path order, and described once the pipeline has said what became of it.
//! - [`ChunksPayload`]: the data of a snapshot again: all of it in order, or any part.
//!
//! Invariants: packs are durable before the root is written, and the local manifest is complete before that. Of a file that changes while it is
//! read the snapshot has one of its states, or says that the file is torn. A stamp that proves nothing is not kept.
//!
//! This module knows one directory and one store. Which snapshots there are, and what becomes of an archive without a snapshot that a kill
//! leaves, is for the repository to say.

mod capture;
mod driver;
mod load;
mod payload;
mod stream;

use cairn_types::{ErrorKind, SnapshotId};

pub use capture::{ChunksCapture, ChunksCaptured, Previous, READERS_MAX, TORN_TOLD_MAX, capture};
pub use payload::{ChunksPayload, FileContent, Files, PayloadRecords, Wanted, WantedError};

use crate::archive::ArchiveError;
use crate::directory::{RelativePath, WalkError};
use crate::manifest::ManifestError;

/// Why a capture failed, or data cannot be had again.
#[derive(Debug, thiserror::Error)]
pub enum ChunksError {
    /// Somebody asked for it to stop.
    #[error("cancelled")]
    Cancelled,
    /// The store, or what it holds.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Something of the directory cannot be looked at.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The manifest cannot be written, or that of the snapshot before not be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// An entry cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The entry.
        path: RelativePath,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store has an archive of the snapshot already.
    #[error("the store has an archive of snapshot {snapshot} already")]
    Exists {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// A file's data in the archive cannot be read.
    #[error("the data of {path} cannot be read from the archive")]
    Data {
        /// The file.
        path: RelativePath,
        /// Why.
        #[source]
        source: cairn_content::store::ChunkReadError,
    },
    /// The manifest does not say where all data of a file is: it is of a snapshot that this engine has not made.
    #[error("the manifest does not say where the data of {path} is in the store")]
    NoRuns {
        /// The file.
        path: RelativePath,
    },
    /// Who is to write the data cannot.
    #[error("the data of {path} cannot be written")]
    Write {
        /// The file.
        path: RelativePath,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is wanted cannot be told any more.
    #[error("what is wanted of the archive cannot be told")]
    Wanted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A thread cannot be started, or ended early.
    #[error("a thread of the capture cannot be started, or ended early")]
    Thread(#[source] std::io::Error),
    /// A setting out of its bounds.
    #[error("{what} is {found} and must be {minimum} to {maximum}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What it is.
        found: usize,
        /// The least.
        minimum: usize,
        /// The most.
        maximum: usize,
    },
}

impl ChunksError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        let of = |error: &std::io::Error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Unavailable,
        };
        match self {
            ChunksError::Cancelled | ChunksError::Exists { .. } => ErrorKind::Conflict,
            ChunksError::Archive(error) => error.kind(),
            ChunksError::Walk(error) => error.kind(),
            ChunksError::Manifest(error) => error.kind(),
            ChunksError::Read { source, .. } | ChunksError::Write { source, .. } => of(source),
            ChunksError::Data { source, .. } => source.kind(),
            ChunksError::NoRuns { .. } | ChunksError::Setting { .. } => ErrorKind::Invalid,
            ChunksError::Wanted(_) | ChunksError::Thread(_) => ErrorKind::Unavailable,
        }
    }
}
