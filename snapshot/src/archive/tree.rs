//! The tree of an archive: a sorted map from keys to records, in the order of [`cairn_types::tree`], cut into leaves, and above
//! them levels of references, up to one root. Leaves and what is above them are chunks.
//!
//! Where a leaf ends depends on the keys in it and on nothing else, as far as sizes allow, so that trees that differ little share
//! most of their leaves. A new tree takes over, without looking into them, the leaves of an old one that hold nothing that has changed.
//!
//! The bytes are drawn in `docs/formats/archive.md`. This module knows neither packs nor object stores: it is handed something
//! that keeps chunks ([`NodeSink`]) and something that fetches them ([`NodeSource`]).

pub(super) mod codec;
mod format;
mod read;
#[cfg(test)]
mod tests;
mod write;

use cairn_content::pipeline::Run;
use cairn_types::{ChunkId, FileKind, InodeId, Node};

pub(crate) use format::HEIGHT_MAX;
pub use format::TreeDamage;
pub(crate) use read::read_references;
pub use read::{Leaves, NodeSource, Records, TreeReadError, leaves, read_leaf, records, records_of};
pub use write::{NodeSink, TreeWriter};

use super::report::TreeCounts;

/// Longest name of an entry in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest target of a symbolic link in bytes.
pub const TARGET_BYTES_MAX: usize = 4096;
/// Most runs of one data record.
pub const RUNS_MAX: usize = 128;

/// What a record is about. Keys sort as they do in the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The inode.
    pub inode: InodeId,
    /// What of the inode.
    pub part: Part,
}

/// What of an inode a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Its attributes.
    Node,
    /// The entry of this name.
    Entry(Vec<u8>),
    /// The target of a symbolic link.
    Target,
    /// Data from this offset on.
    Data(u64),
}

/// A record of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Attributes.
    Node(Node),
    /// What an entry names, and its type.
    Entry(InodeId, FileKind),
    /// The target of a symbolic link.
    Target(Vec<u8>),
    /// Runs of a file's bytes, side by side; none is of zeros at the beginning or the end. What no run covers is zeros.
    Data(Vec<Run>),
}

/// A reference to a leaf or to a part of the levels above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReference {
    /// The first key below it.
    pub first: Key,
    /// The chunk.
    pub chunk: ChunkId,
    /// Its bytes.
    pub length: u32,
    /// What is below it.
    pub counts: TreeCounts,
}

/// The root of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeRoot {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its bytes.
    pub length: u32,
    /// Levels above the leaves: 0 if the chunk is a leaf.
    pub height: u8,
    /// What is in the tree.
    pub counts: TreeCounts,
}

impl Key {
    /// The first key of an inode.
    pub fn of(inode: InodeId) -> Self {
        Key {
            inode,
            part: Part::Node,
        }
    }
}

impl Record {
    /// The chunks of a record of data that stands under this key, each with its offset in the file; none of other records.
    pub fn chunks(&self, key: &Key) -> impl Iterator<Item = (u64, ChunkId, u32)> {
        let (runs, mut next) = match (self, &key.part) {
            (Record::Data(runs), Part::Data(start)) => (runs.as_slice(), *start),
            _ => (&[][..], 0),
        };
        runs.iter().filter_map(move |run| {
            let at = next;
            next = at.saturating_add(u64::from(run.length()));
            match run {
                Run::Chunk(id, length) => Some((at, *id, *length)),
                Run::Zeros(_) => None,
            }
        })
    }
}

impl TreeCounts {
    /// Both together.
    pub(crate) fn plus(self, other: TreeCounts) -> TreeCounts {
        TreeCounts {
            inodes: self.inodes.saturating_add(other.inodes),
            files: self.files.saturating_add(other.files),
            directories: self.directories.saturating_add(other.directories),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// What an inode counts.
    pub(crate) fn of(node: &Node) -> TreeCounts {
        let regular = node.kind == FileKind::Regular;
        TreeCounts {
            inodes: 1,
            files: u64::from(regular),
            directories: u64::from(node.kind == FileKind::Directory),
            bytes: if regular { node.size } else { 0 },
        }
    }
}
