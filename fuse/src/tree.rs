//! What a tree tells of itself so that it can be mounted.
//!
//! A tree never changes. Its inodes have numbers that mean the same as long as it is mounted; the root directory is [`InodeId::ROOT`].
//! Several names may have one inode, but only one has a directory.

use std::error::Error;

use cairn_types::{DeviceNumber, ErrorKind, FileKind, InodeId, Timestamp};

/// A tree that never changes. All methods may block, and are called from many threads at once.
///
/// # Errors
/// Of every method: [`TreeError::Inode`] for a number that no inode has; [`TreeError::Failed`].
pub trait Tree: Send + Sync + 'static {
    /// The inode of the entry `name` of a directory, and its attributes; nothing if there is none. Errors: [`TreeError::NotADirectory`].
    fn find(&self, directory: InodeId, name: &[u8]) -> Result<Option<(InodeId, Attributes)>, TreeError>;

    /// The attributes of an inode.
    fn attributes(&self, inode: InodeId) -> Result<Attributes, TreeError>;

    /// The directory that a directory is in; of the root itself. Errors: [`TreeError::NotADirectory`].
    fn parent(&self, directory: InodeId) -> Result<InodeId, TreeError>;

    /// Hands out the entries of a directory, but `.` and `..`, that come after the one with this cookie, until there are no more or
    /// `take` wants no more; 0: from the first on. An entry that was not wanted any more comes again next time. Errors: [`TreeError::NotADirectory`],
    /// [`TreeError::Cookie`].
    fn list(
        &self,
        directory: InodeId,
        after: u64,
        detail: Detail,
        take: &mut dyn FnMut(&Listed<'_>) -> Taken,
    ) -> Result<(), TreeError>;

    /// The target of a symbolic link. Errors: [`TreeError::NotALink`].
    fn read_link(&self, inode: InodeId) -> Result<Vec<u8>, TreeError>;

    /// The extended attributes of an inode, names with their namespaces: `take` gets them one by one, until it returns false.
    fn xattrs(&self, inode: InodeId, take: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), TreeError>;

    /// Reads bytes of a regular file from `offset` on into `buffer`, and says how many: fewer than fit only at the end of the file. Errors:
    /// [`TreeError::NotAFile`].
    fn read(&self, inode: InodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, TreeError>;

    /// Where in a regular file data, or a hole, begins at `offset` or behind it (lseek(2)); the end of the file is a hole. Nothing if there is none, as
    /// for an `offset` at the end of the file or behind it. Errors: [`TreeError::NotAFile`].
    fn seek(&self, inode: InodeId, offset: u64, what: Seek) -> Result<Option<u64>, TreeError>;

    /// What is in it altogether.
    fn totals(&self) -> Totals;
}

/// What every inode has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Type.
    pub kind: FileKind,
    /// Permission bits, `0..=0o7777`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names; 1 of a directory whose subdirectories nobody has counted.
    pub links: u32,
    /// Bytes of a regular file; of a symbolic link: of its target.
    pub size: u64,
    /// Bytes of a regular file that are in no hole.
    pub allocated_bytes: u64,
    /// Last change of data.
    pub modified: Timestamp,
    /// Last access; the last change of data where it is not known.
    pub accessed: Timestamp,
    /// Last change of data or attributes; the last change of data where it is not known.
    pub changed: Timestamp,
    /// Device of a character or block device; zeros for everything else.
    pub device: DeviceNumber,
}

/// What is wanted of the entries of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Names, numbers and types.
    Names,
    /// Attributes too.
    Attributes,
}

/// An entry of a directory.
#[derive(Debug)]
pub struct Listed<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its inode.
    pub inode: InodeId,
    /// Its type.
    pub kind: FileKind,
    /// Names the entry in its directory, as long as the tree is mounted: above 0, below 2^62.
    pub cookie: u64,
    /// The attributes, if they were asked for.
    pub attributes: Option<Attributes>,
}

/// Whether somebody who is handed entries wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was taken; more are wanted.
    More,
    /// It was not taken, and no more are wanted.
    Full,
}

/// What is sought in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// Data.
    Data,
    /// A hole, or the end.
    Hole,
}

/// What is in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Inodes, about.
    pub inodes: u64,
    /// Bytes of the regular files.
    pub bytes: u64,
}

/// Why a tree does not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// No inode has this number.
    #[error("there is no inode {0}")]
    Inode(InodeId),
    /// It is no directory.
    #[error("it is no directory")]
    NotADirectory,
    /// It is no symbolic link.
    #[error("it is no symbolic link")]
    NotALink,
    /// It is no regular file.
    #[error("it is no regular file")]
    NotAFile,
    /// No entry of the directory has this cookie.
    #[error("no entry of the directory has this cookie")]
    Cookie,
    /// Something that belongs to the tree cannot be had, or is damaged.
    #[error("{what}")]
    Failed {
        /// What the caller could do.
        kind: ErrorKind,
        /// What cannot be had, with the name of the tree and the path.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl TreeError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            TreeError::Inode(_) => ErrorKind::NotFound,
            TreeError::NotADirectory | TreeError::NotALink | TreeError::NotAFile | TreeError::Cookie => {
                ErrorKind::Invalid
            }
            TreeError::Failed { kind, .. } => *kind,
        }
    }
}
