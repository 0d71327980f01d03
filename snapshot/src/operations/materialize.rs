//! Writing a snapshot into a new directory: to look at it, to copy it elsewhere, to begin a repository of its own.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cairn_types::SnapshotId;
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, Stat, flock, fstat, fsync, mkdirat, openat, renameat,
    renameat_with, statat,
};
use rustix::io::Errno;

use super::OperationError;
use super::snapshots::{manifest, payload};
use crate::archive::{Phase, Progress};
use crate::directory::RelativePath;
use crate::directory::path::NAME_BYTES_MAX;
use crate::directory::place::Losses;
use crate::engine::remove_tree;
use crate::repository::reached::parent_of;
use crate::repository::{Reached, Repository, RepositoryError};

mod write;

use write::write;

/// How a directory that is not complete is called, behind its name.
const PARTIAL_SUFFIX: &str = ".cairn-partial";
/// How often somebody else may take such a directory for left over.
const ATTEMPTS_MAX: usize = 100;

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Materialized {
    /// Entries.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What could not be kept.
    pub losses: Losses,
    /// What a person should know besides: that nobody knew of this reader.
    pub warnings: Vec<String>,
}

/// Writes a snapshot, or what is at or below some of its paths, into the directory `target`, which does not exist; its parent does. Durable on return; after an error,
/// or a kill, there is no `target`: until it is complete it has another name, beside it.
///
/// # Errors
/// `Occupied`: it exists, or another process writes it; no such snapshot, no such path; its data cannot be read; the target cannot be written; `Cancelled`.
pub fn materialize(
    repository: &Repository,
    id: SnapshotId,
    paths: &[RelativePath],
    target: &Path,
    progress: &Progress,
) -> Result<Materialized, OperationError> {
    let (parent, name) = parent_of(target)?.ok_or_else(|| OperationError::Occupied {
        path: target.to_owned(),
    })?;
    let (partial, written) = materialize_beside(repository, id, paths, (&parent, name), progress)?;
    partial.publish()?;
    Ok(written)
}

/// The same, not in its place yet. The target is a name in a directory.
pub(super) fn materialize_beside(
    repository: &Repository,
    id: SnapshotId,
    paths: &[RelativePath],
    (parent, name): (&Reached, &OsStr),
    progress: &Progress,
) -> Result<(Partial, Materialized), OperationError> {
    progress.enter(Phase::Preparing);
    let reading = repository.read_lease("materialize", [id].into())?;
    let descriptor = repository.descriptor(id)?;
    let list = manifest(repository, &descriptor)?;
    for path in paths {
        if list.find(path)?.is_none() {
            return Err(OperationError::NoPath { path: path.clone() });
        }
    }
    let data = payload(repository, &descriptor)?;
    let partial = Partial::new(parent, name)?;
    let root = partial.root.try_clone().map_err(OperationError::staging)?;
    let counts = list.summary().counts;
    progress.expect(counts.files, counts.bytes);
    progress.enter(Phase::Transferring);
    let mut written = write(&list, &*data, paths, root, progress)?;
    written.warnings = super::unguarded(&reading);
    Ok((partial, written))
}

/// A directory that is being written, beside the place where it shall be. Nobody else takes it for left over while the value lives; removed when it
/// is dropped without having been published.
pub(super) struct Partial {
    parent: OwnedFd,
    /// What it shall be called.
    name: OsString,
    /// What it is called.
    beside: OsString,
    /// Where it is.
    pub path: PathBuf,
    /// What it shall be called, and where.
    pub target: PathBuf,
    /// Open, and locked by flock(2).
    pub root: OwnedFd,
    published: bool,
}

impl Partial {
    fn new(parent: &Reached, name: &OsStr) -> Result<Self, OperationError> {
        let (above, name) = (parent.path.as_path(), name.to_owned());
        let target = above.join(&name);
        let occupied = |path: &Path| OperationError::Occupied {
            path: path.to_owned(),
        };
        let shown = target.clone();
        let io = |action| {
            let shown = &shown;
            move |error: Errno| RepositoryError::io(action, shown, error.into())
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = parent.directory.try_clone().map_err(OperationError::staging)?;
        match statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Ok(_) => return Err(occupied(&target)),
            Err(error) => return Err(io("looking at")(error).into()),
        }
        let mut beside = OsString::from(".");
        beside.push(&name);
        beside.push(PARTIAL_SUFFIX);
        if beside.len() > NAME_BYTES_MAX {
            let hash = blake3::hash(name.as_bytes()).to_hex();
            beside = OsString::from(format!(".{}{PARTIAL_SUFFIX}", &hash[..32]));
        }
        let path = above.join(&beside);
        for _ in 0..ATTEMPTS_MAX {
            let made = match mkdirat(&parent, &beside, Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(io("making")(error).into()),
            };
            let root = match openat(&parent, &beside, flags | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(root) => root,
                // Somebody took it for left over.
                Err(Errno::NOENT) => continue,
                Err(_) if !made => return Err(occupied(&path)),
                Err(error) => return Err(io("opening")(error).into()),
            };
            match flock(&root, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                // A file system without locks: what was made just now is nobody else's.
                Err(_) if made => {}
                Err(_) => return Err(occupied(&path)),
            }
            let same = |found: Stat| {
                fstat(&root).is_ok_and(|own| (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino))
            };
            let ours = statat(&parent, &beside, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(same);
            if !ours {
                continue;
            }
            if made {
                return Ok(Partial {
                    parent,
                    name,
                    target,
                    beside,
                    path,
                    root,
                    published: false,
                });
            }
            // What a kill has left.
            remove_tree(parent.as_fd(), &beside, &path, 2, &Progress::new())?;
        }
        Err(occupied(&path))
    }

    /// Gives it its name, durably. Errors: `Occupied`; I/O. Then it is removed.
    pub fn publish(mut self) -> Result<(), OperationError> {
        let io = |error: Errno| RepositoryError::io("making", &self.target, error.into());
        let named = renameat_with(
            &self.parent,
            &self.beside,
            &self.parent,
            &self.name,
            RenameFlags::NOREPLACE,
        );
        let named = match named {
            // A file system without exclusive renames: of what is there, only an empty directory would be replaced.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                renameat(&self.parent, &self.beside, &self.parent, &self.name)
            }
            named => named,
        };
        match named {
            Ok(()) => self.published = true,
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {
                return Err(OperationError::Occupied {
                    path: self.target.clone(),
                });
            }
            Err(error) => return Err(io(error).into()),
        }
        match fsync(&self.parent) {
            Ok(()) | Err(Errno::INVAL | Errno::NOSYS) => Ok(()),
            Err(error) => Err(io(error).into()),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let removed = remove_tree(self.parent.as_fd(), &self.beside, &self.path, 2, &Progress::new());
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "what was written cannot be removed");
        }
    }
}
