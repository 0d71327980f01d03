//! A snapshot as a tree to look at: whatever engine keeps it, and archives in object stores.
//!
//! Nothing is read before somebody looks, and nothing twice if it was just looked at. The memory that this takes is bounded by the caches
//! below, and does not grow with the tree; what is always held is the index of the manifest, about 100 bytes for every five hundred entries.
//!
//! - [`View`]: a snapshot that is open, with the lease of a reader, so that it is not removed. It is a [`cairn_fuse::Tree`].
//! - `directory`: trees of manifests. `pages`: the entries of a manifest by number and by path. `links`: how many names files have.
//! - `volume`: trees of volumes' archives.
//! - `data`: the bytes of files.
//! - `cache`: what is kept for a while.
//!
//! Invariants: bytes of an archive are verified before they are handed out. What is missing or damaged is an error that names the snapshot and the
//! path. Bytes of a tree that an engine keeps are handed out as they are, if there are as many as there should be: comparing them is the business of
//! [`crate::operations::verify`].

mod cache;
mod data;
mod directory;
mod links;
mod open;
mod pages;
mod volume;

use std::sync::Arc;

use cairn_fuse::{Attributes, Detail, Listed, Seek, Taken, Totals, Tree, TreeError};
use cairn_types::{InodeId, SnapshotId};

pub use open::{ArchivePlace, open_archive, open_in, open_snapshot};

use crate::archive::Archive;
use crate::repository::{Descriptor, Reader};
use directory::DirectoryTree;
use volume::VolumeTree;

/// Bytes of entries that are kept, about. A part of a manifest that is larger is kept as long as it is the one that was used last.
pub const ENTRIES_CACHE_BYTES: usize = 64 << 20;
/// Bytes of verified chunks that are kept. The object store keeps what it has fetched for these besides, in its own bounds.
pub const CHUNKS_CACHE_BYTES: usize = 32 << 20;
/// Files of a kept tree that are held open.
pub const FILES_OPEN_MAX: usize = 256;

/// What is looked at.
#[derive(Debug, Clone)]
pub enum Viewed {
    /// A snapshot of a plain directory, by its repository.
    Snapshot(Box<Descriptor>),
    /// An archive in an object store.
    Archive(Box<Archive>),
}

/// A snapshot that is open. The lease ends with the value.
pub struct View {
    tree: Arc<SnapshotTree>,
    lease: Option<Reader>,
    viewed: Viewed,
    /// What could not be kept of the promise that the snapshot stays, and why.
    unleased: Option<String>,
}

/// The tree of a snapshot.
pub struct SnapshotTree(Kind);

enum Kind {
    Directory(DirectoryTree),
    Volume(VolumeTree),
}

impl View {
    /// Its tree.
    pub fn tree(&self) -> Arc<SnapshotTree> {
        self.tree.clone()
    }

    /// What it is of.
    pub fn viewed(&self) -> &Viewed {
        &self.viewed
    }

    /// The snapshot.
    pub fn snapshot(&self) -> SnapshotId {
        match &self.viewed {
            Viewed::Snapshot(descriptor) => descriptor.id,
            Viewed::Archive(archive) => archive.description.snapshot,
        }
    }

    /// Whether a reader's lease keeps the snapshot from being removed.
    pub fn is_leased(&self) -> bool {
        self.lease.is_some()
    }

    /// Why none does, if one could.
    pub fn unleased(&self) -> Option<&str> {
        self.unleased.as_deref()
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({})", self.snapshot())
    }
}

/// Asks the one or the other.
macro_rules! either {
    ($self:ident, $tree:ident => $asked:expr) => {
        match &$self.0 {
            Kind::Directory($tree) => $asked,
            Kind::Volume($tree) => $asked,
        }
    };
}

impl Tree for SnapshotTree {
    fn find(&self, directory: InodeId, name: &[u8]) -> Result<Option<(InodeId, Attributes)>, TreeError> {
        either!(self, tree => tree.find(directory, name))
    }

    fn attributes(&self, inode: InodeId) -> Result<Attributes, TreeError> {
        either!(self, tree => tree.attributes(inode))
    }

    fn parent(&self, directory: InodeId) -> Result<InodeId, TreeError> {
        either!(self, tree => tree.parent(directory))
    }

    fn list(
        &self,
        directory: InodeId,
        after: u64,
        detail: Detail,
        take: &mut dyn FnMut(&Listed<'_>) -> Taken,
    ) -> Result<(), TreeError> {
        either!(self, tree => tree.list(directory, after, detail, take))
    }

    fn read_link(&self, inode: InodeId) -> Result<Vec<u8>, TreeError> {
        either!(self, tree => tree.read_link(inode))
    }

    fn xattrs(&self, inode: InodeId, take: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), TreeError> {
        either!(self, tree => tree.xattrs(inode, take))
    }

    fn read(&self, inode: InodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, TreeError> {
        either!(self, tree => tree.read(inode, offset, buffer))
    }

    fn seek(&self, inode: InodeId, offset: u64, what: Seek) -> Result<Option<u64>, TreeError> {
        either!(self, tree => tree.seek(inode, offset, what))
    }

    fn totals(&self) -> Totals {
        either!(self, tree => tree.totals())
    }
}
