//! The control directory as a place for files: reading within bounds, writing so that a reader sees the old file or the new one, whole,
//! also after a power cut. Knows names and bytes, not what they mean.
//!
//! Every access goes through the descriptor of the control directory, and follows no symbolic link: whoever can write into the workspace
//! may rename things there meanwhile. Files that are being written have names that begin with `.` and end with `.tmp`; lists leave them out.

use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_types::{Randomness, hexadecimal};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::document::{self, Document};
use super::error::RepositoryError;
use super::layout::{Area, DOCUMENT_BYTES_MAX, NAMES_MAX};

const TEMPORARY_SUFFIX: &str = ".tmp";
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An open control directory.
pub struct ControlDirectory {
    root: OwnedFd,
    path: PathBuf,
    randomness: Arc<dyn Randomness>,
}

/// Whether a file must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// It is durable on return.
    Durable,
    /// It may be gone, or be the former one, after a power cut.
    Volatile,
}

/// What became of a file that was to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It is there.
    Created,
    /// A file of this name was there already, and still is, as it was.
    Existed,
}

impl ControlDirectory {
    /// Opens the directory `path`. Errors: it is a symbolic link, no directory, or cannot be opened.
    pub fn open(path: &Path, randomness: Arc<dyn Randomness>) -> Result<Self, RepositoryError> {
        match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
            Ok(root) => Ok(ControlDirectory {
                root,
                path: path.to_owned(),
                randomness,
            }),
            Err(Errno::LOOP | Errno::NOTDIR) if path.is_symlink() => Err(RepositoryError::SymlinkedControl {
                path: path.to_owned(),
            }),
            Err(error) => Err(RepositoryError::io("opening", path, error.into())),
        }
    }

    /// Opens the directory at `path`, whose parent is open. Errors: it is a symbolic link, no directory, or cannot be opened.
    pub(super) fn open_in(
        parent: BorrowedFd<'_>,
        path: &Path,
        randomness: Arc<dyn Randomness>,
    ) -> Result<Self, RepositoryError> {
        let name = path.file_name().unwrap_or_default();
        match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
            Ok(root) => Ok(ControlDirectory::of(root, path, randomness)),
            Err(error) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
                match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                    Ok(FileType::Symlink) => Err(RepositoryError::SymlinkedControl {
                        path: path.to_owned(),
                    }),
                    _ => Err(RepositoryError::io("opening", path, error.into())),
                }
            }
        }
    }

    /// The open directory `root`, which is at `path`.
    pub fn of(root: OwnedFd, path: &Path, randomness: Arc<dyn Randomness>) -> Self {
        ControlDirectory {
            root,
            path: path.to_owned(),
            randomness,
        }
    }

    /// Where it was when it was opened: for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its descriptor.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Bytes for a name that nobody else chooses.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.randomness.fill(&mut bytes);
        bytes
    }

    /// The document in a file; nothing if there is none. Errors: damage, a newer version, I/O.
    pub fn load<T: Document>(&self, area: Area, name: &str) -> Result<Option<T>, RepositoryError> {
        let Some(bytes) = self.read(area, name, DOCUMENT_BYTES_MAX)? else {
            return Ok(None);
        };
        let value = document::decode(&bytes).map_err(|damage| {
            RepositoryError::document(self.path_of(area, name), damage, area.remedy(name))
        })?;
        Ok(Some(value))
    }

    /// Writes a document, durable on return, whether there was one or not. Errors: a value out of its bounds, I/O.
    pub fn store<T: Document>(&self, area: Area, name: &str, value: &T) -> Result<(), RepositoryError> {
        self.replace(area, name, &document::encode(value)?, Survival::Durable)
    }

    /// The path of a file, for messages.
    pub fn path_of(&self, area: Area, name: &str) -> PathBuf {
        match area {
            Area::Root => self.path.join(name),
            _ => self.path.join(area.name()).join(name),
        }
    }

    /// A descriptor of one of its directories. Errors: it is missing, no directory, or cannot be opened.
    pub fn area(&self, area: Area) -> Result<OwnedFd, RepositoryError> {
        rustix::fs::openat(&self.root, area.name(), DIRECTORY, Mode::empty())
            .map_err(|error| RepositoryError::io("opening", &self.path.join(area.name()), error.into()))
    }

    /// Makes its directories, as far as they are missing. Errors: I/O.
    pub fn make_areas(&self) -> Result<(), RepositoryError> {
        for area in Area::ALL {
            match rustix::fs::mkdirat(&self.root, area.name(), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => {
                    let path = self.path.join(area.name());
                    return Err(RepositoryError::io("making", &path, error.into()));
                }
            }
        }
        self.sync(Area::Root)
    }

    /// All bytes of a file; nothing if there is none. Errors: more than `bytes_max` bytes, no regular file, I/O.
    pub fn read(&self, area: Area, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>, RepositoryError> {
        let directory = self.area(area)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = || self.path_of(area, name);
        let file = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(RepositoryError::io("opening", &path(), error.into())),
        };
        let stat = rustix::fs::fstat(&file)
            .map_err(|error| RepositoryError::io("looking at", &path(), error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.damaged(area, name, "it is no regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        let limit = bytes_max as u64 + 1;
        let read = std::fs::File::from(file).take(limit).read_to_end(&mut bytes);
        read.map_err(|error| RepositoryError::io("reading", &path(), error))?;
        match bytes.len() <= bytes_max {
            true => Ok(Some(bytes)),
            false => Err(self.damaged(area, name, format!("it is longer than {bytes_max} bytes"))),
        }
    }

    /// Makes a file have these bytes, whether there was one or not. Errors: I/O; the file is then the old one or the new one.
    pub fn replace(
        &self,
        area: Area,
        name: &str,
        bytes: &[u8],
        survival: Survival,
    ) -> Result<(), RepositoryError> {
        let directory = self.area(area)?;
        let temporary = self.write_temporary(&directory, area, name, bytes, survival)?;
        if let Err(error) = rustix::fs::renameat(&directory, &temporary, &directory, name) {
            self.discard(&directory, &temporary);
            return Err(RepositoryError::io(
                "replacing",
                &self.path_of(area, name),
                error.into(),
            ));
        }
        self.sync_if(&directory, area, survival)
    }

    /// Makes a new file with these bytes. Errors: I/O. After an error of the last step (the sync of the directory) the
    /// file is there, and may be gone after a power cut.
    pub fn create(
        &self,
        area: Area,
        name: &str,
        bytes: &[u8],
        survival: Survival,
    ) -> Result<Creation, RepositoryError> {
        let directory = self.area(area)?;
        let temporary = self.write_temporary(&directory, area, name, bytes, survival)?;
        let mut outcome =
            rustix::fs::renameat_with(&directory, &temporary, &directory, name, RenameFlags::NOREPLACE);
        if matches!(outcome, Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) {
            // A file system without exclusive renames: a second name is as exclusive.
            outcome = rustix::fs::linkat(&directory, &temporary, &directory, name, AtFlags::empty());
            self.discard(&directory, &temporary);
        }
        match outcome {
            Ok(()) => {
                self.sync_if(&directory, area, survival)?;
                Ok(Creation::Created)
            }
            Err(Errno::EXIST) => {
                self.discard(&directory, &temporary);
                Ok(Creation::Existed)
            }
            Err(error) => {
                self.discard(&directory, &temporary);
                Err(RepositoryError::io(
                    "making",
                    &self.path_of(area, name),
                    error.into(),
                ))
            }
        }
    }

    /// Removes a file; durable on return. Says whether there was one. Errors: I/O.
    pub fn remove(&self, area: Area, name: &str) -> Result<bool, RepositoryError> {
        self.unlink(area, name, Survival::Durable)
    }

    /// Removes a file. Says whether there was one. Errors: I/O.
    pub fn unlink(&self, area: Area, name: &str, survival: Survival) -> Result<bool, RepositoryError> {
        let directory = self.area(area)?;
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) => {
                self.sync_if(&directory, area, survival)?;
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(RepositoryError::io(
                "removing",
                &self.path_of(area, name),
                error.into(),
            )),
        }
    }

    /// The names in a directory, sorted; without what is being written, and without names that are no UTF-8 (nothing of ours has such a
    /// name). Errors: I/O, more than [`NAMES_MAX`] names.
    pub fn list(&self, area: Area) -> Result<Vec<String>, RepositoryError> {
        let mut names = Vec::new();
        self.each_name(area, |name| {
            if !is_temporary(name) {
                names.push(name.to_owned());
            }
        })?;
        names.sort_unstable();
        Ok(names)
    }

    /// What in a directory is being written, or was when its writer ended. Errors: as of [`ControlDirectory::list`].
    pub fn unfinished(&self, area: Area) -> Result<Vec<String>, RepositoryError> {
        let mut names = Vec::new();
        self.each_name(area, |name| {
            if is_temporary(name) {
                names.push(name.to_owned());
            }
        })?;
        Ok(names)
    }

    /// Removes what was being written in a directory when its writer ended. Only where nobody but the holder of the lease writes. Gives how many.
    /// Errors: I/O.
    pub(super) fn remove_unfinished(&self, area: Area) -> Result<u64, RepositoryError> {
        let mut removed = 0;
        for name in self.unfinished(area)? {
            removed += u64::from(self.unlink(area, &name, Survival::Volatile)?);
        }
        Ok(removed)
    }

    fn each_name(&self, area: Area, mut visit: impl FnMut(&str)) -> Result<(), RepositoryError> {
        let failed =
            |error: Errno| RepositoryError::io("listing", &self.path.join(area.name()), error.into());
        let directory = self.area(area)?;
        let mut count = 0;
        for entry in rustix::fs::Dir::new(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(name) = own_name(entry.file_name()) else {
                continue;
            };
            count += 1;
            if count > NAMES_MAX {
                let error = io::Error::other(format!("more than {NAMES_MAX} names"));
                return Err(RepositoryError::io(
                    "listing",
                    &self.path.join(area.name()),
                    error,
                ));
            }
            visit(name);
        }
        Ok(())
    }

    /// Makes the names of a directory durable. Errors: I/O.
    pub fn sync(&self, area: Area) -> Result<(), RepositoryError> {
        let directory = self.area(area)?;
        self.sync_directory(&directory, area)
    }

    fn sync_if(&self, directory: &OwnedFd, area: Area, survival: Survival) -> Result<(), RepositoryError> {
        match survival {
            Survival::Durable => self.sync_directory(directory, area),
            Survival::Volatile => Ok(()),
        }
    }

    fn sync_directory(&self, directory: &OwnedFd, area: Area) -> Result<(), RepositoryError> {
        match rustix::fs::fsync(directory) {
            // Some file systems of user space have no sync of directories; their renames are durable by themselves.
            Ok(()) | Err(Errno::INVAL | Errno::NOSYS) => Ok(()),
            Err(error) => Err(RepositoryError::io(
                "syncing",
                &self.path.join(area.name()),
                error.into(),
            )),
        }
    }

    fn write_temporary(
        &self,
        directory: &OwnedFd,
        area: Area,
        name: &str,
        bytes: &[u8],
        survival: Survival,
    ) -> Result<String, RepositoryError> {
        let temporary = format!(".{}{TEMPORARY_SUFFIX}", hexadecimal::text(&self.random::<8>()));
        let failed = |error: io::Error| RepositoryError::io("writing", &self.path_of(area, name), error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, &temporary, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed(error.into()))?;
        let mut file = std::fs::File::from(file);
        let written = file.write_all(bytes).and_then(|()| match survival {
            Survival::Durable => file.sync_all(),
            Survival::Volatile => Ok(()),
        });
        match written {
            Ok(()) => Ok(temporary),
            Err(error) => {
                self.discard(directory, &temporary);
                Err(failed(error))
            }
        }
    }

    /// Removes what was being written. What cannot be removed stays unfinished, which harms nobody.
    fn discard(&self, directory: &OwnedFd, temporary: &str) {
        if let Err(error) = rustix::fs::unlinkat(directory, temporary, AtFlags::empty())
            && error != Errno::NOENT
        {
            let directory = self.path.display();
            tracing::warn!(%directory, temporary, %error, "an unfinished file cannot be removed");
        }
    }

    /// The error that a file is damaged.
    pub fn damaged(&self, area: Area, name: &str, what: String) -> RepositoryError {
        RepositoryError::Damaged {
            path: self.path_of(area, name),
            what,
            remedy: area.remedy(name),
        }
    }
}

fn own_name(name: &CStr) -> Option<&str> {
    let name = name.to_str().ok()?;
    (name != "." && name != "..").then_some(name)
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX)
}

impl std::fmt::Debug for ControlDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ControlDirectory({:?})", self.path)
    }
}
