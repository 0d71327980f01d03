//! The two ends that an archive travels between, as far as this crate knows them: a tree that is read, and a tree that is
//! written. Volumes and directories are on the other side.

use bytes::Bytes;
use cairn_types::{ByteRange, Extent, FileKind, InodeId, Node, SnapshotId, TreeCursor, TreeItem};

/// Why a source cannot be read, in its own words.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// Why a target cannot be written, in its own words.
pub type TargetError = Box<dyn std::error::Error + Send + Sync>;

/// A tree that holds still and can be read.
pub trait Source: Send + Sync {
    /// Inodes of the tree, and the sum of the sizes of its regular files, for those who watch.
    fn expected(&self) -> (u64, u64);

    /// Snapshots that this tree may have been archived as before, or descends from, nearest first.
    fn bases(&self) -> Result<Vec<SnapshotId>, SourceError>;

    /// The inodes of which anything may differ from `base` (made, changed or removed), ascending, each once; `None` if that
    /// cannot be told, and everything may.
    fn changed_since(&self, base: SnapshotId) -> Result<Option<Vec<InodeId>>, SourceError>;

    /// Adds to `items` the next objects at `cursor`, in the order of a tree, about `limit` of them, and moves the cursor behind
    /// them. Nothing is added when there are no more before the cursor's end.
    fn items(
        &self,
        cursor: &mut TreeCursor,
        limit: usize,
        items: &mut Vec<TreeItem>,
    ) -> Result<(), SourceError>;

    /// The ranges of a file whose bytes are the same as in `base`, ascending, as far as that can be told without reading them;
    /// no range reaches beyond the file's size in either.
    fn same_data(&self, base: SnapshotId, inode: InodeId) -> Result<Vec<ByteRange>, SourceError>;

    /// The bytes of an extent, verified.
    fn read(&self, extent: &Extent) -> Result<Bytes, SourceError>;
}

/// A tree that is written, in the order of a tree.
///
/// What was written becomes visible, all at once, when the owner of the target says so, and not by these calls.
pub trait Target: Send {
    /// All objects of the inodes up to this one are there, durably, from an earlier attempt at the same archive.
    fn resume_after(&self) -> Option<InodeId>;

    /// An inode begins.
    fn node(&mut self, inode: InodeId, node: &Node) -> Result<(), TargetError>;

    /// An entry of the inode that began last, a directory.
    fn entry(&mut self, name: &[u8], inode: InodeId, kind: FileKind) -> Result<(), TargetError>;

    /// The target of the inode that began last, a symbolic link.
    fn link_target(&mut self, target: &[u8]) -> Result<(), TargetError>;

    /// Bytes of the inode that began last, a regular file; offsets ascend. What is not given is zeros.
    fn data(&mut self, offset: u64, data: &[u8]) -> Result<(), TargetError>;
}
