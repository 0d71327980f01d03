//! Archives of plain directories: the manifest, cut into blocks ([`crate::manifest::BlockCutter`]), each kept as a chunk, and an *index* of the
//! blocks, which is chunks too. The root names the parts of the index. Runs of the records name the chunks of the files.
//!
//! Where blocks and parts of the index end depends on the paths in them, as far as sizes allow, so that archives that differ little share
//! most of both.
//!
//! The bytes are drawn in `docs/formats/archive.md`. Stamps are not kept here: they mean something on one machine only.
//!
//! - `format`: the bytes of the index. - `write`: cutting, and keeping. - `read`: blocks and records again.
//! - `layout`: where in a file its runs are.
//! - `push`: what of the store is at work for a directory that is archived.

mod format;
mod layout;
mod push;
mod read;
#[cfg(test)]
mod tests;
mod write;

use cairn_types::ChunkId;

pub use layout::{is_whole, layout};
pub(crate) use push::{DirectoryPush, ReadSums};
pub use read::{DirectoryReadError, Groups, Records, groups, read_group, records};
pub use write::{BlockWriteError, BlockWriter};

use super::report::{Archive, TreeCounts};
use crate::directory::{Digest, RelativePath};
use crate::manifest::EntryCounts;

/// Where the manifest of a directory's archive begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryRoot {
    /// The index of the blocks, in order.
    pub index: Vec<IndexPart>,
    /// Blocks.
    pub blocks: u64,
    /// What is in the tree.
    pub counts: EntryCounts,
    /// The hash of the whole manifest, if the data of every file is known.
    pub tree_hash: Option<Digest>,
}

/// An archive of a plain directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryArchive {
    /// What is told of every archive.
    pub archive: Archive,
    /// What is in the tree.
    pub counts: EntryCounts,
    /// The hash of the whole manifest, if the data of every file is known.
    pub tree_hash: Option<Digest>,
}

/// A chunk of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexPart {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its bytes.
    pub length: u32,
}

/// A block of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockReference {
    /// The path of its first entry, or of the one that it goes on with.
    pub first: RelativePath,
    /// Whether it begins with more of an entry of the blocks before.
    pub continues: bool,
    /// Entries that begin in it.
    pub entries: u32,
    /// The chunk that it is.
    pub chunk: ChunkId,
    /// Its bytes.
    pub length: u32,
}

/// What entries count, as it is told of every archive.
pub(super) fn tree_counts(counts: &EntryCounts) -> TreeCounts {
    TreeCounts {
        inodes: counts.entries.saturating_sub(counts.links),
        files: counts.files,
        directories: counts.directories,
        bytes: counts.bytes,
    }
}
