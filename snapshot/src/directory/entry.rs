//! What is told of one entry of a tree: everything that a snapshot promises to keep.

use cairn_content::pipeline::Run;
use cairn_types::{DeviceNumber, FileKind, Timestamp};

use super::path::RelativePath;

/// A name in a tree, and what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: RelativePath,
    /// What every kind of file has.
    pub attributes: Attributes,
    /// What only its kind has.
    pub body: Body,
}

/// What every kind of file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Type.
    pub kind: FileKind,
    /// All mode bits, `0..=0o7777`. Of a symbolic link 0o777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of data.
    pub modified: Timestamp,
    /// Bytes of a regular file; of a symbolic link: of its target; 0 for everything else.
    pub size: u64,
    /// Device of a character or block device; zeros for everything else.
    pub device: DeviceNumber,
    /// Extended attributes, by name. Access control lists are those named `system.posix_acl_access` and `system.posix_acl_default`
    /// (xattr(7), acl(5)).
    pub xattrs: Vec<Xattr>,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Its name with its namespace: 1 to 255 bytes without NUL.
    pub name: Vec<u8>,
    /// Its value: at most 64 KiB.
    pub value: Vec<u8>,
}

/// What only one kind of file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A directory, a fifo, a socket or a device: nothing.
    None,
    /// The target of a symbolic link, 1 to 4095 bytes.
    Symlink(Vec<u8>),
    /// Another name of the file at this path, which comes before it in the tree and is no `Link` itself. The attributes are those of that
    /// file. Symbolic links and special files can have several names as well.
    Link(RelativePath),
    /// A regular file.
    File(FileBody),
}

/// What is known of a regular file's data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileBody {
    /// The hash of its data; `None` if nobody has read it yet.
    pub digest: Option<Digest>,
    /// Where it has holes, ascending, each as large as can be: offset and length are multiples of 4096, but for the last length.
    pub holes: Vec<Hole>,
    /// The chunks of its data, if these are in an object store. Runs of zeros are holes or written zeros: `holes` tells.
    pub runs: Vec<Run>,
}

/// A run of bytes that takes up no room on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Offset of its first byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// The hash of a file's data: see [`super::digest`](crate::directory).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&cairn_types::hexadecimal::text(&self.0))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// How a file system told one state of a file from another. Two looks that find the same stamp, the same size and the same time of
/// modification found the same file with the same data and attributes, unless it changed within the resolution of the clock: a
/// stamp that is not older than the look itself proves nothing (the *racy* time stamps of git's index).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the file system's device.
    pub device: u64,
    /// Number of the inode.
    pub inode: u64,
    /// Last change of data or attributes (`st_ctime`).
    pub changed: Timestamp,
}

/// An entry as it was captured here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The entry.
    pub entry: Entry,
    /// What the file system knew it by; `None` where that proves nothing.
    pub stamp: Option<Stamp>,
}
