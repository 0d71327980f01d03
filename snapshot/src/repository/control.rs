//! The control directory as a place for files: reading within bounds, writing so that a reader sees the old file or the new one, whole,
//! also after a power cut. Knows names and bytes, not what they mean.
//!
//! Every access goes through the descriptor of the control directory, and follows no symbolic link: whoever can write into the workspace
//! may rename things there meanwhile. Files that are being written have names that begin with `.` and end with `.tmp`; lists leave them out.
//!
//! **A full disk.** A file of [`RESERVE_BYTES`] keeps room for what has to be written to get room. Who frees something, or finishes what must
//! not stay half done, [may spend it](ControlDirectory::spending): then it goes at the first write that finds no room, and is made
//! again when there is room.

use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cairn_types::{ErrorKind, Randomness, hexadecimal};
use rustix::fs::{Access, AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, StatVfs};
use rustix::io::Errno;

use super::document::{self, Document};
use super::error::RepositoryError;
use super::layout::{Area, DOCUMENT_BYTES_MAX, NAMES_MAX, RESERVE_FILE};

const TEMPORARY_SUFFIX: &str = ".tmp";
/// Bytes that are kept for the time when there is no room: a lease, a record of the journal and a state, many times over.
pub const RESERVE_BYTES: u64 = 1 << 20;
/// The reserve is made if so many times its bytes are free.
const RESERVE_SHARE: u64 = 4;
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An open control directory.
pub struct ControlDirectory {
    root: OwnedFd,
    path: PathBuf,
    randomness: Arc<dyn Randomness>,
    /// How many may spend the reserve now.
    spenders: AtomicUsize,
}

/// While it lives, the reserve may be spent. Made again, if there is room then, when it is dropped.
#[derive(Debug)]
pub struct Spending<'a>(&'a ControlDirectory);

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        self.0.spenders.fetch_sub(1, Ordering::Relaxed);
        self.0.keep_reserve();
    }
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
            Ok(root) => Ok(ControlDirectory::of(root, path, randomness)),
            Err(Errno::LOOP | Errno::NOTDIR) if path.is_symlink() => Err(RepositoryError::SymlinkedControl {
                path: path.to_owned(),
            }),
            Err(error) => Err(RepositoryError::io("opening", path, error.into())),
        }
    }

    /// Opens the directory at `path`, whose parent is open. Errors: it is a symbolic link, no directory, or cannot be opened.
    pub(crate) fn open_in(
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
            spenders: AtomicUsize::new(0),
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

    /// Lets the reserve be spent while the value lives: for what frees room, and what must not stay half done.
    pub fn spending(&self) -> Spending<'_> {
        self.spenders.fetch_add(1, Ordering::Relaxed);
        Spending(self)
    }

    /// Frees the reserve, if it may be spent and is there. Says whether something was freed.
    pub fn spend_reserve(&self) -> bool {
        if self.spenders.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let spent = rustix::fs::unlinkat(&self.root, RESERVE_FILE, AtFlags::empty()).is_ok();
        if spent {
            tracing::warn!(control = %self.path.display(), "no room is left: the reserve is spent");
        }
        spent
    }

    /// Whether something larger than a few documents can be written here.
    pub fn has_room(&self) -> bool {
        let writable =
            rustix::fs::accessat(&self.root, Area::Cache.name(), Access::WRITE_OK, AtFlags::empty());
        writable.is_ok() && self.free_bytes().is_some_and(|free| free >= RESERVE_BYTES)
    }

    /// What the file system has free for us; nothing if it does not tell.
    fn free_bytes(&self) -> Option<u64> {
        let found: StatVfs = rustix::fs::fstatvfs(&self.root).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Makes the reserve, if it is missing and there is room. Without it everything works but what is done on a full disk.
    pub fn keep_reserve(&self) {
        let spent = self.spenders.load(Ordering::Relaxed) > 0;
        if spent || rustix::fs::accessat(&self.root, RESERVE_FILE, Access::EXISTS, AtFlags::empty()).is_ok() {
            return;
        }
        let has_room = self
            .free_bytes()
            .is_some_and(|free| free >= RESERVE_BYTES * RESERVE_SHARE);
        if has_room && let Err(error) = self.make_reserve() {
            tracing::debug!(%error, "there is no reserve for a full disk");
        }
    }

    fn make_reserve(&self) -> io::Result<()> {
        let temporary = format!(".{}{TEMPORARY_SUFFIX}", hexadecimal::text(&self.random::<8>()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.root, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let made = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                // Bytes that no file system takes for a hole or can compress.
                let mut filling = vec![0; usize::try_from(RESERVE_BYTES).map_err(io::Error::other)?];
                self.randomness.fill(&mut filling);
                std::fs::File::from(file).write_all(&filling)
            }
            outcome => Ok(outcome?),
        };
        let named = made.and_then(|()| {
            Ok(rustix::fs::renameat(
                &self.root,
                &temporary,
                &self.root,
                RESERVE_FILE,
            )?)
        });
        if named.is_err() {
            self.discard(&self.root, &temporary);
        }
        named
    }

    /// Makes a file have these bytes, whether there was one or not. Errors: I/O; the file is then the old one or the new one.
    pub fn replace(
        &self,
        area: Area,
        name: &str,
        bytes: &[u8],
        survival: Survival,
    ) -> Result<(), RepositoryError> {
        self.replace_if(area, name, bytes, survival, || Ok(()))
    }

    /// The same, if `check` allows it right before the new file takes its place: nothing that may take long is between the two. Errors: those of
    /// `check`, and the file is the old one; I/O.
    pub fn replace_if(
        &self,
        area: Area,
        name: &str,
        bytes: &[u8],
        survival: Survival,
        check: impl Fn() -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let directory = self.area(area)?;
        self.with_reserve(|| {
            let temporary = self.write_temporary(&directory, area, name, bytes, survival)?;
            let placed = check().and_then(|()| {
                rustix::fs::renameat(&directory, &temporary, &directory, name).map_err(|error| {
                    RepositoryError::io("replacing", &self.path_of(area, name), error.into())
                })
            });
            if placed.is_err() {
                self.discard(&directory, &temporary);
            }
            placed
        })?;
        self.sync_if(&directory, area, survival)
    }

    /// Writes over a file that is there, where it is, which takes no room. A reader may see a mixture of both. Errors: there is no such file; I/O.
    pub(super) fn overwrite(&self, area: Area, name: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
        let failed = |error: io::Error| RepositoryError::io("writing over", &self.path_of(area, name), error);
        let directory = self.area(area)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, name, flags, Mode::empty())
            .map_err(|error| failed(error.into()))?;
        let file = std::fs::File::from(file);
        let written = std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0);
        written
            .and_then(|()| file.set_len(bytes.len() as u64))
            .map_err(failed)
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
        self.create_if(area, name, bytes, survival, || Ok(()))
    }

    /// The same, if `check` allows it right before the file gets its name. Errors: those of `check`, and there is no such file; I/O.
    pub fn create_if(
        &self,
        area: Area,
        name: &str,
        bytes: &[u8],
        survival: Survival,
        check: impl Fn() -> Result<(), RepositoryError>,
    ) -> Result<Creation, RepositoryError> {
        let directory = self.area(area)?;
        let creation = self.with_reserve(|| {
            let temporary = self.write_temporary(&directory, area, name, bytes, survival)?;
            let named = check().and_then(|()| self.name_new(&directory, &temporary, area, name));
            if !matches!(named, Ok(Creation::Created)) {
                self.discard(&directory, &temporary);
            }
            named
        })?;
        if creation == Creation::Created {
            self.sync_if(&directory, area, survival)?;
        }
        Ok(creation)
    }

    /// Gives a file its name unless another one has it.
    fn name_new(
        &self,
        directory: &OwnedFd,
        temporary: &str,
        area: Area,
        name: &str,
    ) -> Result<Creation, RepositoryError> {
        let mut outcome =
            rustix::fs::renameat_with(directory, temporary, directory, name, RenameFlags::NOREPLACE);
        if matches!(outcome, Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) {
            // A file system without exclusive renames: a second name is as exclusive.
            outcome = rustix::fs::linkat(directory, temporary, directory, name, AtFlags::empty());
            self.discard(directory, temporary);
        }
        match outcome {
            Ok(()) => Ok(Creation::Created),
            Err(Errno::EXIST) => Ok(Creation::Existed),
            Err(error) => Err(RepositoryError::io(
                "making",
                &self.path_of(area, name),
                error.into(),
            )),
        }
    }

    /// Tries once more with the reserve, if there was no room and it may be spent.
    fn with_reserve<T>(
        &self,
        attempt: impl Fn() -> Result<T, RepositoryError>,
    ) -> Result<T, RepositoryError> {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::NoSpace && self.spend_reserve() => attempt(),
            outcome => outcome,
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

    /// The time of modification of a file, by the clock of its file system; nothing if there is none. Errors: I/O.
    pub(super) fn modified(&self, area: Area, name: &str) -> Result<Option<Duration>, RepositoryError> {
        let directory = self.area(area)?;
        match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Before 1970: 0.
            Ok(stat) => Ok(Some(Duration::from_secs(
                u64::try_from(stat.st_mtime).unwrap_or(0),
            ))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(RepositoryError::io(
                "looking at",
                &self.path_of(area, name),
                error.into(),
            )),
        }
    }

    /// The kind of the document in a file, as it says itself; nothing if it does not begin as one, or cannot be read.
    pub fn kind_of(&self, area: Area, name: &str) -> Option<String> {
        let directory = self.area(area).ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&directory, name, flags, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        let read = std::fs::File::from(file)
            .take(document::TITLE_END_MAX)
            .read_to_end(&mut bytes);
        read.ok()?;
        document::kind_of(&bytes).map(str::to_owned)
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
