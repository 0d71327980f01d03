//! What a tree of files consists of, object by object, in the one order in which trees are read, archived and written.
//!
//! The order of a tree is: inodes ascending; of one inode its [`TreeObject::Node`] first, then its entries by name (bytewise),
//! or its target, or its data by offset. The root directory is [`InodeId::ROOT`]. Inode numbers are the tree's own; two inodes that
//! entries of the same number refer to are one file with several links.

use bytes::Bytes;

use crate::{DeviceNumber, Extent, FileKind, InodeId, Timestamp};

/// The attributes of an inode that travel with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Type.
    pub kind: FileKind,
    /// Permission bits, `0..=0o7777`.
    pub mode: u16,
    /// Hard links; for a directory 2 and its subdirectories.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes. Of a symbolic link: of its target.
    pub size: u64,
    /// Device of a special file.
    pub device: DeviceNumber,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of data.
    pub modified: Timestamp,
    /// Last change of data or attributes.
    pub changed: Timestamp,
    /// Tells objects that had the same number apart; 0 where the tree's source has none.
    pub generation: u32,
    /// Changes with the data; 0 where the tree's source has none.
    pub data_version: u64,
    /// The directory that holds this directory; the root's is itself. 0 for everything else.
    pub parent: InodeId,
}

/// One object of an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeObject {
    /// Its attributes: the first object of every inode.
    Node(Node),
    /// An entry of a directory.
    Entry {
        /// The name: 1 to 255 bytes, neither `/` nor NUL.
        name: Bytes,
        /// What it names.
        inode: InodeId,
        /// The type of that.
        kind: FileKind,
    },
    /// The target of a symbolic link.
    Target(Bytes),
    /// The data of a small file, or its beginning: the rest up to the size is zeros.
    Inline(Bytes),
    /// Data of a file, where it lies now. What no extent covers is zeros.
    Extent {
        /// Offset of its first byte in the file.
        start: u64,
        /// Where the bytes are.
        extent: Extent,
    },
}

/// An object with the inode that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeItem {
    /// The inode.
    pub inode: InodeId,
    /// The object.
    pub object: TreeObject,
}

/// A place in the order of a tree, within a range of inodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeCursor {
    /// The next inode.
    pub inode: InodeId,
    /// The end of the range, which is not in it.
    pub end: InodeId,
    /// Where to go on within the inode, in the source's own terms; empty: at its beginning.
    pub within: Vec<u8>,
}

impl TreeCursor {
    /// The beginning of the inodes `from..to`.
    pub fn new(from: InodeId, to: InodeId) -> Self {
        TreeCursor {
            inode: from,
            end: to,
            within: Vec::new(),
        }
    }
}
