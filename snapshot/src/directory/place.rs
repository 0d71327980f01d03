//! Writing entries below a directory: made new, never over what is there, never through a link, never outside.
//!
//! - Directories are made for their owner alone and get their attributes at the end ([`Placer::finish_directory`]), so that what is in them can be written, and
//!   does not move their times.
//! - What a file system or the caller's rights do not let be kept is told in [`Losses`] and is no error. A disk that is full or broken is.
//! - Nothing is synced: that is one syncfs(2) of the caller.
//!
//! May be used by several threads at once; who writes what in which order is the caller's business, but for this: a directory is made before what is in it, and
//! finished after it.

mod attributes;
mod data;
mod directories;
mod losses;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cairn_types::{ErrorKind, FileKind};
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Errno;

pub use attributes::Before;
pub use data::{Copied, Way, clone_or_copy, write_at};
pub use directories::OPEN_DIRECTORIES_MAX;
pub use losses::{LOSS_PATHS_MAX, Loss, LossCount, Losses};

use self::directories::Directories;
use super::beneath::{ALWAYS, c_name};
use super::entry::{Attributes, Hole};
use super::path::RelativePath;

/// How entries are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlaceOptions {
    /// Owners are not set: everything belongs to who writes. Not counted as a loss.
    pub keep_own_owner: bool,
}

/// Why an entry was not written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot {action}")]
pub struct PlaceError {
    /// The entry.
    pub path: RelativePath,
    /// What was to be done, as an infinitive.
    pub action: &'static str,
    /// Why it was not.
    #[source]
    pub source: io::Error,
}

impl PlaceError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                ErrorKind::NoSpace
            }
            io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::TooManyLinks => ErrorKind::Conflict,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        }
    }
}

/// Writes entries below one directory.
#[derive(Debug)]
pub struct Placer {
    root: Arc<OwnedFd>,
    options: PlaceOptions,
    directories: Mutex<Directories>,
    losses: Mutex<Losses>,
    /// What is made inherits access control lists of the root, which have to be removed.
    inherits: bool,
    /// The file system keeps nanoseconds.
    exact_times: AtomicBool,
    /// Nobody has to ask whether bits of the mode were dropped.
    is_root: bool,
}

impl Placer {
    /// Writes below `root`, which is a directory opened for reading or with `O_PATH`. Errors: statx(2), flistxattr(2).
    pub fn new(root: OwnedFd, options: PlaceOptions) -> io::Result<Placer> {
        // A descriptor of its own that is no mere path: attributes are set through it.
        let root = openat(&root, c".", super::beneath::LISTED, Mode::empty())?;
        let inherits = super::xattr::of_file(&root)?
            .iter()
            .any(|attribute| attribute.name == attributes::DEFAULT_ACL);
        let root = Arc::new(root);
        Ok(Placer {
            directories: Mutex::new(Directories::new(root.clone())),
            root,
            options,
            losses: Mutex::default(),
            inherits,
            exact_times: AtomicBool::new(false),
            is_root: rustix::process::geteuid().is_root(),
        })
    }

    /// The directory below which entries are written.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What could not be kept so far.
    pub fn losses(&self) -> Losses {
        self.losses.lock().clone()
    }

    /// Makes a directory that only its owner may enter. Errors: mkdirat(2), `AlreadyExists` among them.
    pub fn directory(&self, path: &RelativePath) -> Result<(), PlaceError> {
        let failed = |source| error(path, "make the directory", source);
        let (parent, name) = self.parent(path).map_err(failed)?;
        let name = c_name(name).map_err(failed)?;
        mkdirat(&parent, &name, Mode::RWXU).map_err(|errno| failed(errno.into()))?;
        let made = openat(&parent, &name, super::beneath::LISTED, Mode::empty());
        let made = Arc::new(made.map_err(|errno| failed(errno.into()))?);
        if self.inherits {
            self.drop_inherited(path, made.as_fd(), attributes::drop_of_file)
                .map_err(failed)?;
        }
        self.directories.lock().keep(path.clone(), made);
        Ok(())
    }

    /// Makes a symbolic link. Its attributes are set by [`Placer::attributes`]. Errors: symlinkat(2), `AlreadyExists` among them.
    pub fn symlink(&self, path: &RelativePath, target: &[u8]) -> Result<(), PlaceError> {
        let failed = |source| error(path, "make the symbolic link", source);
        let (parent, name) = self.parent(path).map_err(failed)?;
        let target = c_name(target).map_err(failed)?;
        symlinkat(&target, parent, &c_name(name).map_err(failed)?).map_err(|errno| failed(errno.into()))
    }

    /// Makes a fifo, a socket, or a device, with mode 0600; its attributes are set by [`Placer::attributes`]. Returns whether it was made: if
    /// it may not be, that is a loss. Errors: mknodat(2), `AlreadyExists` among them; `InvalidInput` for another kind.
    pub fn special(&self, path: &RelativePath, attributes: &Attributes) -> Result<bool, PlaceError> {
        let failed = |source| error(path, "make the special file", source);
        let kind = match attributes.kind {
            FileKind::Fifo => FileType::Fifo,
            FileKind::Socket => FileType::Socket,
            FileKind::CharacterDevice => FileType::CharacterDevice,
            FileKind::BlockDevice => FileType::BlockDevice,
            FileKind::Regular | FileKind::Directory | FileKind::Symlink => {
                let source = io::Error::new(io::ErrorKind::InvalidInput, "it is no special file");
                return Err(failed(source));
            }
        };
        let (parent, name) = self.parent(path).map_err(failed)?;
        let name = c_name(name).map_err(failed)?;
        let device = makedev(attributes.device.major, attributes.device.minor);
        match mknodat(&parent, &name, kind, Mode::RUSR | Mode::WUSR, device) {
            Ok(()) => {
                if self.inherits {
                    let made = openat(&parent, &name, ALWAYS | OFlags::PATH, Mode::empty());
                    let made = made.map_err(|errno| failed(errno.into()))?;
                    self.drop_inherited(path, made.as_fd(), attributes::drop_of_entry)
                        .map_err(failed)?;
                }
                Ok(true)
            }
            Err(Errno::PERM | Errno::INVAL | Errno::NOTSUP | Errno::ACCESS) => {
                self.losses.lock().add(Loss::Special, path);
                Ok(false)
            }
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Makes another name of the file at `to`, which may be anything but a directory. Errors: linkat(2), `AlreadyExists` and
    /// `TooManyLinks` among them.
    pub fn link(&self, path: &RelativePath, to: &RelativePath) -> Result<(), PlaceError> {
        let failed = |source| error(path, "make the hard link", source);
        let (from_parent, from_name) = self.parent(to).map_err(failed)?;
        let (parent, name) = self.parent(path).map_err(failed)?;
        let from_name = c_name(from_name).map_err(failed)?;
        let name = c_name(name).map_err(failed)?;
        linkat(from_parent, &from_name, parent, &name, AtFlags::empty()).map_err(|errno| failed(errno.into()))
    }

    /// Makes an empty regular file with mode 0600, open for reading and writing. Errors: openat(2), `AlreadyExists` among them.
    pub fn file(&self, path: &RelativePath) -> Result<OwnedFd, PlaceError> {
        let failed = |source| error(path, "make the file", source);
        let (parent, name) = self.parent(path).map_err(failed)?;
        let name = c_name(name).map_err(failed)?;
        let flags = ALWAYS | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let made =
            openat(parent, &name, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| failed(errno.into()))?;
        if self.inherits {
            self.drop_inherited(path, made.as_fd(), attributes::drop_of_file)
                .map_err(failed)?;
        }
        Ok(made)
    }

    /// Makes the data of the empty file `to` that of `from`, which has `size` bytes and these holes: the same length, the same holes. Errors:
    /// FICLONE, copy_file_range(2), pread(2), pwrite(2), ftruncate(2).
    pub fn data(
        &self,
        path: &RelativePath,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        size: u64,
        holes: &[Hole],
        way: Way,
    ) -> Result<Copied, PlaceError> {
        clone_or_copy(from, to, size, holes, way).map_err(|source| error(path, "write the data", source))
    }

    /// The directory that `path` is in, and its name there.
    fn parent<'a>(&self, path: &'a RelativePath) -> io::Result<(Arc<OwnedFd>, &'a [u8])> {
        let parent = path
            .parent()
            .ok_or_else(|| io::Error::new(io::ErrorKind::AlreadyExists, "the root of the tree is there"))?;
        Ok((self.opened(&parent)?, path.name()))
    }

    /// The directory at `path`, open for reading.
    fn opened(&self, path: &RelativePath) -> io::Result<Arc<OwnedFd>> {
        let (mut at, rest) = self.directories.lock().nearest(path);
        let mut position = path.as_bytes().len() - rest;
        // Opened without the lock: another thread may open the same, which costs a little and harms nobody.
        while position < path.as_bytes().len() {
            let bytes = &path.as_bytes()[position..];
            let bytes = bytes.strip_prefix(b"/").unwrap_or(bytes);
            let name = bytes.split(|byte| *byte == b'/').next().unwrap_or_default();
            let next = openat(&at, &c_name(name)?, super::beneath::LISTED, Mode::empty())?;
            position = path.as_bytes().len() - bytes.len() + name.len();
            at = Arc::new(next);
            if let Ok(passed) = RelativePath::new(&path.as_bytes()[..position]) {
                self.directories.lock().keep(passed, at.clone());
            }
        }
        Ok(at)
    }
}

fn error(path: &RelativePath, action: &'static str, source: io::Error) -> PlaceError {
    PlaceError {
        path: path.clone(),
        action,
        source,
    }
}
