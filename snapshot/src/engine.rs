//! Engines: how the data of a snapshot of a plain directory is captured, kept, and removed again.
//!
//! - [`kind`]: their names; [`probe`]: which one can be used where; [`mod@capture`]: what all of them take and tell.
//! - [`trees`]: trees of files, copied or sharing blocks; [`btrfs`] and [`juicefs`]: trees that the file system makes.
//! - [`chunks`]: archives in an object store.
//! - [`remove`]: removing a tree, whatever is in it.
//!
//! A capture makes a directory with the paths of the workspace and describes it in a manifest. It names nothing, makes nothing durable and
//! takes no lock: who calls it does, and removes what a failed capture leaves.

use std::io;
use std::path::{Path, PathBuf};

use cairn_types::ErrorKind;

use crate::directory::{PlaceError, RelativePath, WalkError};
use crate::manifest::ManifestError;

pub mod btrfs;
pub mod capture;
pub mod chunks;
mod describe;
pub mod juicefs;
pub mod kind;
mod listing;
pub mod probe;
pub mod remove;
pub mod trees;

pub use capture::{Capture, Captured, Target, capture};
pub use kind::{Choice, Degradation, EngineKind, UnknownEngine};
pub use probe::{Site, choose};
pub use remove::{Removed, remove_snapshot, remove_tree, seal_snapshot};
pub use trees::capture_tree;

/// Programs that engines run. Found once: [`Tools::find`].
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// `juicefs`, for JuiceFS.
    pub juicefs: Option<PathBuf>,
    /// `btrfs`, for Btrfs.
    pub btrfs: Option<PathBuf>,
}

/// Why an engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Somebody asked for it to stop.
    #[error("cancelled")]
    Cancelled,
    /// The engine that was asked for cannot be used here.
    #[error("engine {engine} cannot be used: {reason}")]
    Unavailable {
        /// Which.
        engine: EngineKind,
        /// What it lacks, or how it failed.
        reason: String,
    },
    /// A call to the file system failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what: absolute, or below the root of the workspace or of the snapshot.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// The workspace cannot be walked.
    #[error("the workspace cannot be read as a whole")]
    Walk(#[from] WalkError),
    /// Something cannot be written.
    #[error("the snapshot cannot be written")]
    Place(#[from] PlaceError),
    /// The manifest cannot be written.
    #[error("the manifest of the snapshot cannot be written")]
    Manifest(#[from] ManifestError),
    /// What shall be made is there already.
    #[error("{} exists already", path.display())]
    Exists {
        /// What.
        path: PathBuf,
    },
    /// A program failed, or did not do what it said.
    #[error("{} failed on {}: {outcome}", tool.display(), path.display())]
    Tool {
        /// Which program.
        tool: PathBuf,
        /// What it worked on.
        path: PathBuf,
        /// What it said, or what is missing.
        outcome: String,
    },
    /// Something in the tree would not be in the snapshot.
    #[error("{path} is a file system or subvolume of its own, and would not be in the snapshot")]
    Foreign {
        /// What, below the root of the workspace.
        path: RelativePath,
    },
    /// Something is mounted in a tree that is to be removed.
    #[error("{} is a mount point: unmount it first", path.display())]
    MountPoint {
        /// What.
        path: PathBuf,
    },
}

impl EngineError {
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        EngineError::Io {
            what,
            path: path.as_ref().to_owned(),
            source,
        }
    }

    /// Whether another engine may succeed where this one failed.
    pub fn is_of_engine(&self) -> bool {
        matches!(
            self,
            EngineError::Unavailable { .. } | EngineError::Tool { .. } | EngineError::Foreign { .. }
        )
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            EngineError::Cancelled | EngineError::Tool { .. } => ErrorKind::Unavailable,
            EngineError::Unavailable { .. } => ErrorKind::Invalid,
            EngineError::Exists { .. } | EngineError::MountPoint { .. } | EngineError::Foreign { .. } => {
                ErrorKind::Conflict
            }
            EngineError::Io { source, .. } => ErrorKind::of_io(source),
            EngineError::Walk(error) => error.kind(),
            EngineError::Place(error) => error.kind(),
            EngineError::Manifest(error) => error.kind(),
        }
    }
}
