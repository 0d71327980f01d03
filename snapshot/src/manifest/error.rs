//! What can go wrong with a manifest.

use std::io;

use cairn_types::ErrorKind;

use super::block::BlockDamage;
use crate::directory::RelativePath;

/// Why a manifest cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file system says no.
    #[error("a manifest cannot be {action}")]
    Io {
        /// What was tried: `read`, `written`, `compressed`.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file does not begin as a manifest does.
    #[error("this file is no manifest")]
    NotAManifest,
    /// A newer Cairn wrote it, or its version is damaged.
    #[error("the manifest has format version {found}; this program reads version {known}: use a newer one")]
    Version {
        /// What it says.
        found: u32,
        /// What is read here.
        known: u32,
    },
    /// It does not end as a manifest does: its end is lost, or something was added to it.
    #[error("the manifest is cut off, or was appended to: its {bytes} bytes do not end with a footer")]
    Truncated {
        /// Bytes of the file.
        bytes: u64,
    },
    /// Header, index or footer are not what was written.
    #[error("the manifest is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// A block is not what was written.
    #[error(
        "block {block} of the manifest, {bytes} bytes at {offset}, is damaged: entries from {first} on cannot be read"
    )]
    Block {
        /// Its number, from 0.
        block: usize,
        /// Where it begins in the file.
        offset: u64,
        /// Its stored bytes.
        bytes: u32,
        /// The path of its first entry.
        first: RelativePath,
        /// What is wrong.
        #[source]
        source: BlockDamage,
    },
    /// Entries came in another order than that of a walk, or without the directory that they are in.
    #[error("{path} cannot be listed after {before}: {what}")]
    Order {
        /// The entry before it.
        before: RelativePath,
        /// The entry.
        path: RelativePath,
        /// What is wrong.
        what: &'static str,
    },
    /// An entry has what its type cannot have.
    #[error("{path} cannot be listed: {what}")]
    Entry {
        /// The entry.
        path: RelativePath,
        /// What is wrong.
        what: &'static str,
    },
    /// The attributes and the path of an entry do not fit into a block.
    #[error(
        "{path} cannot be listed: its path and attributes take {bytes} bytes, {bytes_max} at most can be kept"
    )]
    EntryTooLarge {
        /// The entry.
        path: RelativePath,
        /// What they take.
        bytes: usize,
        /// What is kept.
        bytes_max: usize,
    },
    /// No entry was written, not even the root.
    #[error("a manifest lists the root at least")]
    Empty,
    /// The index has grown beyond what is read back.
    #[error("the manifest has too many entries: its index would take {bytes} bytes, {bytes_max} at most")]
    IndexTooLarge {
        /// What it would take.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
}

impl ManifestError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ManifestError::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Unavailable,
            },
            ManifestError::Version { .. } => ErrorKind::Invalid,
            ManifestError::NotAManifest
            | ManifestError::Truncated { .. }
            | ManifestError::Damaged { .. }
            | ManifestError::Block { .. } => ErrorKind::Corrupt,
            ManifestError::Order { .. } | ManifestError::Entry { .. } | ManifestError::Empty => {
                ErrorKind::Internal
            }
            ManifestError::EntryTooLarge { .. } | ManifestError::IndexTooLarge { .. } => ErrorKind::Invalid,
        }
    }
}

/// Turns an error of the file system into one of the manifest.
pub(super) fn io_error(action: &'static str) -> impl Fn(io::Error) -> ManifestError {
    move |source| ManifestError::Io { action, source }
}
