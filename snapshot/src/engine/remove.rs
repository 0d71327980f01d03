//! Removing a tree: everything in it, however deep, read-only directories included, and nothing outside of it.
//!
//! Works below descriptors only and follows no symbolic link. It does not go into what is mounted in the tree. Several threads share one
//! stack of directories; a directory goes when the last one in it has gone. Open descriptors are bounded: what lies deeper than
//! [`DEPTH_MAX`] is moved to the top of the tree first.
//!
//! In memory are the names of directories that wait: for each open directory those in it.

use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, chmodat, fchmod, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::btrfs::Btrfs;
use super::probe::same_mount;
use super::{EngineError, Tools};
use crate::archive::Progress;

/// Levels below the top that are held open at once, for each thread.
const DEPTH_MAX: usize = 48;
/// Most threads: with [`DEPTH_MAX`], this bounds the open descriptors.
const THREADS_MAX: usize = 8;
/// How often a directory is read that is not empty after all in it was removed: somebody puts things there.
const READINGS_MAX: u32 = 64;
/// Bytes of names that are read at once.
const NAMES_BYTES: usize = 32 * 1024;

/// What has been removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Directories, the top included.
    pub directories: u64,
    /// Everything else.
    pub files: u64,
}

/// Removes the tree `name` of the directory `parent`; `path` is told in errors. A name that is no directory is removed as well. That
/// nothing has the name is no error. Not durable when it returns.
///
/// Errors: [`EngineError::MountPoint`], and nothing that is mounted is touched; [`EngineError::Cancelled`]; [`EngineError::Io`]. A
/// part of the tree is gone then.
pub fn remove_tree(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    threads: usize,
    progress: &Progress,
) -> Result<Removed, EngineError> {
    let failed = |error: std::io::Error| EngineError::io("remove", path, error);
    let name = CString::new(name.as_bytes()).map_err(|error| failed(error.into()))?;
    let base = Arc::new(Directory {
        fd: parent.try_clone_to_owned().map_err(failed)?,
        above: None,
        name: CString::default(),
        depth: 0,
        readings: 0,
        left: AtomicU64::new(0),
    });
    let removal = Removal {
        progress,
        path,
        waiting: Mutex::new(Waiting::default()),
        changed: Condvar::new(),
        directories: AtomicU64::new(0),
        files: AtomicU64::new(0),
        moved: AtomicU64::new(0),
    };
    match unlinkat(parent, &name, AtFlags::empty()) {
        Ok(()) => {
            return Ok(Removed {
                directories: 0,
                files: 1,
            });
        }
        Err(Errno::NOENT) => return Ok(Removed::default()),
        // Linux answers the first for directories, POSIX the second; both have other reasons too, which come up again.
        Err(Errno::ISDIR | Errno::PERM | Errno::ACCESS | Errno::BUSY) => {}
        Err(error) => return Err(failed(error.into())),
    }
    removal.push(Task {
        above: base,
        name,
        readings: 0,
    });
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, THREADS_MAX) {
            scope.spawn(|| removal.work());
        }
        removal.work();
    });
    match removal.waiting.into_inner().failure {
        Some(error) => Err(error),
        None => Ok(Removed {
            directories: removal.directories.into_inner(),
            files: removal.files.into_inner(),
        }),
    }
}

/// Makes the tree of a snapshot unchangeable where the file system can: a Btrfs subvolume, if there is the tool. To be called once the tree has
/// its final name: the file system does not let an unchangeable subvolume be moved to another directory. Everything else
/// stays as it is. May be repeated. Errors: [`EngineError::Tool`], [`EngineError::Io`].
pub fn seal_snapshot(
    tools: &Tools,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
) -> Result<(), EngineError> {
    match (&tools.btrfs, is_subvolume(parent, name, path)?) {
        (Some(tool), true) => Btrfs::new(tool.clone()).set_read_only(parent, name, true, path),
        (None, _) | (Some(_), false) => Ok(()),
    }
}

fn is_subvolume(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<bool, EngineError> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::PATH;
    match openat(parent, name, flags, Mode::empty()) {
        Ok(fd) => Btrfs::is_subvolume(fd.as_fd()).map_err(|error| EngineError::io("look at", path, error)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(EngineError::io("look at", path, error.into())),
    }
}

/// Removes a snapshot's tree, whatever engine made it: a Btrfs subvolume by the tool if there is one, everything else, and what the tool
/// may not delete, as [`remove_tree`] does. Not durable when it returns.
///
/// Errors: those of [`remove_tree`]; [`EngineError::Tool`] if a subvolume is read-only and cannot be changed.
pub fn remove_snapshot(
    tools: &Tools,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    threads: usize,
    progress: &Progress,
) -> Result<Removed, EngineError> {
    if is_subvolume(parent, name, path)?
        && let Some(tool) = &tools.btrfs
    {
        let tool = Btrfs::new(tool.clone());
        match tool.delete(parent, name, path) {
            Ok(()) => {
                return Ok(Removed {
                    directories: 1,
                    files: 0,
                });
            }
            // Those who are not root may delete what is in it, and then itself, if it is theirs.
            Err(error) => tracing::debug!(%error, "a subvolume is removed file by file"),
        }
        tool.set_read_only(parent, name, false, path)?;
    }
    remove_tree(parent, name, path, threads, progress)
}

/// An open directory that is being emptied.
struct Directory {
    fd: OwnedFd,
    /// The directory that it is in; `None` for the one that holds the whole tree, which stays.
    above: Option<Arc<Directory>>,
    name: CString,
    depth: usize,
    readings: u32,
    /// Directories in it that are not gone, and one more while it is read.
    left: AtomicU64,
}

/// A directory that waits to be emptied.
struct Task {
    above: Arc<Directory>,
    name: CString,
    /// How often it has been read.
    readings: u32,
}

#[derive(Default)]
struct Waiting {
    stack: Vec<Task>,
    done: bool,
    failure: Option<EngineError>,
}

struct Removal<'a> {
    progress: &'a Progress,
    path: &'a Path,
    /// The only lock; nothing is called while it is held.
    waiting: Mutex<Waiting>,
    changed: Condvar,
    directories: AtomicU64,
    files: AtomicU64,
    moved: AtomicU64,
}

impl Removal<'_> {
    fn work(&self) {
        while let Some(task) = self.next() {
            if let Err(error) = self.empty(task) {
                let mut waiting = self.waiting.lock();
                waiting.failure.get_or_insert(error);
                waiting.done = true;
                self.changed.notify_all();
                return;
            }
        }
    }

    /// The next directory; nothing when all is done, or failed.
    fn next(&self) -> Option<Task> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.done {
                return None;
            }
            match waiting.stack.pop() {
                Some(task) => return Some(task),
                None => self.changed.wait(&mut waiting),
            }
        }
    }

    fn push(&self, task: Task) {
        task.above.left.fetch_add(1, Ordering::AcqRel);
        self.waiting.lock().stack.push(task);
        self.changed.notify_one();
    }

    fn empty(&self, task: Task) -> Result<(), EngineError> {
        let Task {
            above,
            name,
            readings,
        } = task;
        let fd = match self.open(&above, &name) {
            // Somebody else removed it.
            Err(Errno::NOENT) => return self.release(above),
            opened => opened.map_err(|error| self.failed("open", &above, &name, error))?,
        };
        match same_mount(&above.fd, &fd) {
            Ok(true) => {}
            Ok(false) => {
                return Err(EngineError::MountPoint {
                    path: self.path_of(&above, &name),
                });
            }
            Err(error) => return Err(EngineError::io("look at", self.path_of(&above, &name), error)),
        }
        let depth = above.depth + 1;
        let readings = readings + 1;
        let directory = Arc::new(Directory {
            fd,
            above: Some(above),
            name,
            depth,
            readings,
            left: AtomicU64::new(1),
        });
        self.read(&directory)?;
        self.release(directory)
    }

    fn open(&self, above: &Directory, name: &CStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&above.fd, name, flags | OFlags::RDONLY, Mode::empty()) {
            Err(Errno::ACCESS) => {
                let closed = openat(&above.fd, name, flags | OFlags::PATH, Mode::empty())?;
                chmodat(
                    CWD,
                    format!("/proc/self/fd/{}", closed.as_raw_fd()),
                    Mode::RWXU,
                    AtFlags::empty(),
                )?;
                openat(&closed, c".", flags | OFlags::RDONLY, Mode::empty())
            }
            opened => opened,
        }
    }

    /// Removes all files of a directory and lets the directories in it wait.
    fn read(&self, directory: &Arc<Directory>) -> Result<(), EngineError> {
        let mut buffer = [MaybeUninit::uninit(); NAMES_BYTES];
        let mut names = RawDir::new(&directory.fd, &mut buffer);
        let mut files = 0;
        while let Some(entry) = names.next() {
            let entry = entry.map_err(|error| self.failed("read", directory, c"", error))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.progress.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let is_directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => self.is_directory(directory, name)?,
                _ => false,
            };
            if is_directory {
                self.descend(directory, name)?;
            } else {
                self.writable(directory, || unlinkat(&directory.fd, name, AtFlags::empty()))
                    .map_err(|error| self.failed("remove", directory, name, error))?;
                files += 1;
            }
        }
        self.files.fetch_add(files, Ordering::Relaxed);
        self.progress.add(files, 0);
        Ok(())
    }

    fn is_directory(&self, directory: &Directory, name: &CStr) -> Result<bool, EngineError> {
        let stat = rustix::fs::statat(&directory.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed("look at", directory, name, error))?;
        Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
    }

    /// Lets a directory in this one wait; moves it to the top if it lies too deep.
    fn descend(&self, directory: &Arc<Directory>, name: &CStr) -> Result<(), EngineError> {
        if directory.depth < DEPTH_MAX {
            self.push(Task {
                above: Arc::clone(directory),
                name: name.to_owned(),
                readings: 0,
            });
            return Ok(());
        }
        let mut top = directory;
        while let (Some(above), true) = (&top.above, top.depth > 1) {
            top = above;
        }
        loop {
            let number = self.moved.fetch_add(1, Ordering::Relaxed);
            let moved = CString::new(format!(".removing-{number}")).unwrap_or_default();
            let rename = || renameat(&directory.fd, name, &top.fd, &moved);
            let outcome =
                self.writable(directory, || self.writable(top, rename))
                    .or_else(|error| match error {
                        // Moving a directory writes its entry "..".
                        Errno::ACCESS => self.open_writable(directory, name).and_then(|()| rename()),
                        error => Err(error),
                    });
            match outcome {
                Ok(()) => {
                    self.push(Task {
                        above: Arc::clone(top),
                        name: moved,
                        readings: 0,
                    });
                    return Ok(());
                }
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(Errno::XDEV | Errno::BUSY) => {
                    return Err(EngineError::MountPoint {
                        path: self.path_of(directory, name),
                    });
                }
                Err(error) => return Err(self.failed("move", directory, name, error)),
            }
        }
    }

    fn open_writable(&self, directory: &Directory, name: &CStr) -> Result<(), Errno> {
        let fd = self.open(directory, name)?;
        fchmod(fd, Mode::RWXU)
    }

    /// Does something in a directory; makes it writable if that is missing.
    fn writable(&self, directory: &Directory, act: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
        match act() {
            Err(Errno::ACCESS) if directory.above.is_some() => {
                fchmod(&directory.fd, Mode::RWXU)?;
                act()
            }
            outcome => outcome,
        }
    }

    /// One thing less keeps a directory; removes it, and those above, when nothing does.
    fn release(&self, directory: Arc<Directory>) -> Result<(), EngineError> {
        let mut directory = directory;
        loop {
            if directory.left.fetch_sub(1, Ordering::AcqRel) != 1 {
                return Ok(());
            }
            let Some(above) = directory.above.clone() else {
                self.waiting.lock().done = true;
                self.changed.notify_all();
                return Ok(());
            };
            let remove = || unlinkat(&above.fd, &directory.name, AtFlags::REMOVEDIR);
            match self.writable(&above, remove) {
                Ok(()) => {
                    self.directories.fetch_add(1, Ordering::Relaxed);
                }
                Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) if directory.readings < READINGS_MAX => {
                    let name = directory.name.clone();
                    let readings = directory.readings;
                    self.waiting.lock().stack.push(Task {
                        above,
                        name,
                        readings,
                    });
                    self.changed.notify_one();
                    return Ok(());
                }
                Err(error) => return Err(self.failed("remove", &above, &directory.name, error)),
            }
            directory = above;
        }
    }

    fn failed(&self, what: &'static str, above: &Directory, name: &CStr, error: Errno) -> EngineError {
        let path = self.path_of(above, name);
        match error {
            Errno::BUSY => EngineError::MountPoint { path },
            error => EngineError::io(what, path, error.into()),
        }
    }

    /// Where something is, as far as it was not moved.
    fn path_of(&self, above: &Directory, name: &CStr) -> PathBuf {
        let mut names = vec![name.to_bytes()];
        let mut level = Some(above);
        while let Some(directory) = level {
            names.push(directory.name.to_bytes());
            level = directory.above.as_deref();
        }
        // The outermost two are the holding directory, which has no name here, and the top.
        names.pop();
        names.pop();
        let mut path = self.path.to_owned();
        path.extend(
            names
                .iter()
                .rev()
                .filter(|name| !name.is_empty())
                .map(|name| OsStr::from_bytes(name)),
        );
        path
    }
}

#[cfg(test)]
mod tests;
