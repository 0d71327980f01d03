//! An entry that a walk has found, and the directory through which it is reached.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_types::FileKind;
use rustix::io::Errno;

use crate::directory::beneath::{LISTED, c_name, open_beneath, open_regular};
use crate::directory::entry::{Attributes, Stamp, Xattr};
use crate::directory::path::RelativePath;
use crate::directory::status::Status;
use crate::directory::xattr;

/// Most directories that the entries which callers hold keep open, for one walk. The directories of further entries are opened again
/// when they are needed.
pub const OPEN_HANDLES_MAX: usize = 256;

/// How many directories are kept open, for one walk.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

/// A directory of the tree: open, or opened again when it is needed, by its path and only if it still is the same directory.
#[derive(Debug)]
pub struct Handle {
    open: Option<(Arc<OwnedFd>, Arc<Budget>)>,
    root: Arc<OwnedFd>,
    path: RelativePath,
    identity: (u64, u64),
}

/// A descriptor of a [`Handle`].
#[derive(Debug)]
pub enum HandleFd<'a> {
    /// The one that it keeps open.
    Kept(BorrowedFd<'a>),
    /// One that was opened for this.
    Opened(OwnedFd),
}

impl AsFd for HandleFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            HandleFd::Kept(fd) => *fd,
            HandleFd::Opened(fd) => fd.as_fd(),
        }
    }
}

impl Handle {
    pub(super) fn new(
        fd: Option<Arc<OwnedFd>>,
        budget: &Arc<Budget>,
        root: Arc<OwnedFd>,
        path: RelativePath,
        identity: (u64, u64),
    ) -> Handle {
        let open = fd.and_then(|fd| {
            let room = budget.0.fetch_add(1, Ordering::Relaxed) < OPEN_HANDLES_MAX;
            if !room {
                budget.0.fetch_sub(1, Ordering::Relaxed);
            }
            room.then(|| (fd, budget.clone()))
        });
        Handle {
            open,
            root,
            path,
            identity,
        }
    }

    /// A descriptor of the directory, opened for reading. Errors: openat(2); `NotFound` if another directory has taken its place.
    pub fn descriptor(&self) -> io::Result<HandleFd<'_>> {
        if let Some((fd, _)) = &self.open {
            return Ok(HandleFd::Kept(fd.as_fd()));
        }
        let fd = open_beneath(&self.root, &self.path, LISTED)?;
        match Status::of(&fd)?.identity() == self.identity {
            true => Ok(HandleFd::Opened(fd)),
            false => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "another directory has taken its place since it was found",
            )),
        }
    }

    /// Where the directory was found.
    pub fn path(&self) -> &RelativePath {
        &self.path
    }

    pub(super) fn kept(&self) -> Option<Arc<OwnedFd>> {
        self.open.as_ref().map(|(fd, _)| fd.clone())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some((_, budget)) = self.open.take() {
            budget.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// An entry that a walk has found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub path: RelativePath,
    /// What every kind of file has. The extended attributes are left empty: [`Found::xattrs`].
    pub attributes: Attributes,
    /// What the file system knows it by.
    pub stamp: Stamp,
    /// Names that the file has (`st_nlink`).
    pub links: u64,
    /// Bytes that it takes up on disk.
    pub allocated_bytes: u64,
    /// The directory that it is in; nothing for the root.
    pub(super) parent: Option<Arc<Handle>>,
    /// Itself, if it is a directory that could be opened.
    pub(super) directory: Option<Arc<Handle>>,
}

impl Found {
    /// What it is.
    pub fn kind(&self) -> FileKind {
        self.attributes.kind
    }

    /// The directory that it is in, and its name there: for calls relative to it. Nothing for the root.
    pub fn parent(&self) -> Option<(&Arc<Handle>, &[u8])> {
        self.parent.as_ref().map(|parent| (parent, self.path.name()))
    }

    /// Itself, if it is a directory that could be opened.
    pub fn directory(&self) -> Option<&Arc<Handle>> {
        self.directory.as_ref()
    }

    /// Its extended attributes, by name; nothing if the file system has none. Nothing is opened for it. Errors: llistxattr(2),
    /// lgetxattr(2); of kind `NotFound` if the entry has vanished.
    pub fn xattrs(&self) -> io::Result<Vec<Xattr>> {
        if let Some(directory) = &self.directory {
            return xattr::of_file(directory.descriptor()?);
        }
        let (parent, name) = self.named()?;
        xattr::of_name(parent.descriptor()?, &name)
    }

    /// The target of a symbolic link. Errors: readlinkat(2); `InvalidInput` if it was no symbolic link when it was found; `NotFound` if it
    /// has vanished, or something else has taken its place since.
    pub fn read_link(&self) -> io::Result<Vec<u8>> {
        if self.kind() != FileKind::Symlink {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no symbolic link",
            ));
        }
        let (parent, name) = self.named()?;
        match rustix::fs::readlinkat(parent.descriptor()?, &name, Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(Errno::INVAL) => Err(replaced()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file for reading, without changing its time of access where that is allowed. Errors: openat(2); `InvalidInput`
    /// if it was no regular file when it was found; `NotFound` if it has vanished, or another file has taken its place since.
    pub fn open(&self) -> io::Result<OwnedFd> {
        if self.kind() != FileKind::Regular {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is no regular file",
            ));
        }
        let (parent, name) = self.named()?;
        let (file, status) = match open_regular(parent.descriptor()?, &name) {
            Ok(opened) => opened,
            // A link, a socket, or another kind.
            Err(error) if is_other_kind(&error) => return Err(replaced()),
            Err(error) => return Err(error),
        };
        match status.identity() == (self.stamp.device, self.stamp.inode) {
            true => Ok(file),
            false => Err(replaced()),
        }
    }

    fn named(&self) -> io::Result<(&Handle, CString)> {
        let (parent, name) = self.parent().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the root of the tree is a directory")
        })?;
        Ok((parent, c_name(name)?))
    }
}

fn replaced() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        "something else has taken its place since it was found",
    )
}

fn is_other_kind(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::LOOP | Errno::NXIO | Errno::NODEV)
        )
}
