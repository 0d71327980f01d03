//! Manifests: the list of all entries of a snapshot, as one file that is written and read in path order, and searched by path.
//!
//! - [`write`]: a stream of records becomes a file. [`read`]: the file becomes the stream again, from the beginning or from a path.
//! - [`block`]: what is between: runs of records that are compressed, verified and shared with other manifests as wholes, in files
//!   and in object stores.
//! - [`tree_hash`]: the one number that says whether two trees are equal. [`changes`]: where they are not.
//!
//! Invariants, kept by who writes and checked by who reads, also of a file whose checksums are right: the first record is the root, a
//! directory; paths ascend; every entry's parent is a directory that came before it; an entry has what its type has and nothing else.
//! So nothing that comes out of here leads out of the tree that it is restored into.
//!
//! Nothing here holds all records in memory: one block does, and of the index about a ten-thousandth of the file's records.
//! This module reads no workspace and decides nothing about one. Whether a manifest belongs to a snapshot is told by the snapshot's descriptor, which
//! names [`ManifestSummary::file_hash`]. The bytes are drawn in `docs/formats/manifest.md`.

pub mod block;
pub mod changes;
mod check;
mod codec;
mod cut;
mod error;
mod format;
pub mod read;
pub mod tree_hash;
pub mod write;

use cairn_types::FileKind;

use crate::directory::{Body, Digest, Entry};

pub use block::{BLOCK_BYTES_MAX, BlockDamage, BlockDecoder};
pub use changes::{Change, ChangeError, ChangeTotals};
pub use cut::{Block, BlockCutter};
pub use error::ManifestError;
pub(crate) use read::Page;
pub use read::{ManifestReader, Records};
pub use tree_hash::TreeHasher;
pub use write::{ManifestOptions, ManifestWriter, WrittenBlocks};

/// What a manifest holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSummary {
    /// How many entries of what type.
    pub counts: EntryCounts,
    /// The hash of the whole tree: see [`TreeHasher`]. `None` if the data of some file has no digest.
    pub tree_hash: Option<Digest>,
    /// The BLAKE3 hash of the header, the index and the footer, and through the hashes in the index of all blocks: two
    /// manifests with the same one are the same file. It is checked when a manifest is opened, but for the blocks, which are checked as
    /// they are read.
    pub file_hash: Digest,
}

/// Entries of a tree by type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EntryCounts {
    /// All of them, the root too.
    pub entries: u64,
    /// Regular files, each once.
    pub files: u64,
    /// Directories, the root too.
    pub directories: u64,
    /// Symbolic links, each once.
    pub symlinks: u64,
    /// Fifos, sockets and devices, each once.
    pub special: u64,
    /// Further names of files of any type.
    pub links: u64,
    /// Bytes of the regular files.
    pub bytes: u64,
    /// Regular files whose data has no digest.
    pub unhashed: u64,
}

impl EntryCounts {
    /// Counts one entry more.
    pub fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        if matches!(entry.body, Body::Link(_)) {
            self.links += 1;
            return;
        }
        match entry.attributes.kind {
            FileKind::Regular => {
                self.files += 1;
                self.bytes = self.bytes.saturating_add(entry.attributes.size);
                let hashed = matches!(&entry.body, Body::File(file) if file.digest.is_some());
                self.unhashed += u64::from(!hashed);
            }
            FileKind::Directory => self.directories += 1,
            FileKind::Symlink => self.symlinks += 1,
            FileKind::BlockDevice | FileKind::CharacterDevice | FileKind::Fifo | FileKind::Socket => {
                self.special += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
