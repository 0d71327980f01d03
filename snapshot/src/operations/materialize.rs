//! Writing a snapshot into a new directory: to look at it, to copy it elsewhere, to begin a repository of its own.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cairn_types::{FileKind, SnapshotId};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat, syncfs};

use super::OperationError;
use super::payload::Payload;
use super::snapshots::{manifest, payload};
use crate::archive::{Phase, Progress};
use crate::directory::place::{Before, Losses, PlaceError, PlaceOptions, Placer};
use crate::directory::{Body, Entry, RelativePath};
use crate::engine::remove_tree;
use crate::manifest::{ManifestError, ManifestReader};
use crate::repository::{Repository, RepositoryError};

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Materialized {
    /// Entries.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// What could not be kept.
    pub losses: Losses,
}

/// Writes a snapshot, or what is at or below some of its paths, into the directory `target`, which does not exist; its parent does. Durable on return; after an error
/// there is no `target`.
///
/// # Errors
/// `Occupied`; no such snapshot, no such path; its data cannot be read; the target cannot be written; `Cancelled`.
pub fn materialize(
    repository: &Repository,
    id: SnapshotId,
    paths: &[RelativePath],
    target: &Path,
    progress: &Progress,
) -> Result<Materialized, OperationError> {
    progress.enter(Phase::Preparing);
    let _reading = repository.read_lease("materialize", [id].into())?;
    let descriptor = repository.descriptor(id)?;
    let list = manifest(repository, &descriptor)?;
    for path in paths {
        if list.find(path)?.is_none() {
            return Err(OperationError::NoPath { path: path.clone() });
        }
    }
    let data = payload(repository, &descriptor)?;
    let io = |action| move |error: rustix::io::Errno| RepositoryError::io(action, target, error.into());
    match mkdirat(CWD, target, Mode::RWXU) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => {
            return Err(OperationError::Occupied {
                path: target.to_owned(),
            });
        }
        Err(error) => return Err(io("making")(error).into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, target, flags, Mode::empty()).map_err(io("opening"))?;
    let counts = list.summary().counts;
    progress.expect(counts.files, counts.bytes);
    progress.enter(Phase::Transferring);
    let written = write(&list, &*data, paths, root, progress);
    if written.is_err() {
        remove_new(target);
    }
    written
}

/// Removes a directory that was made here. What fails is told in the log: the first error matters more.
pub(super) fn remove_new(target: &Path) {
    let (Some(name), parent) = (target.file_name(), target.parent()) else {
        return;
    };
    let parent = parent
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let removed = openat(CWD, parent, flags, Mode::empty())
        .map_err(|error| error.to_string())
        .and_then(|parent| {
            let removed = remove_tree(parent.as_fd(), name, target, 2, &Progress::new());
            removed.map(drop).map_err(|error| error.to_string())
        });
    if let Err(error) = removed {
        tracing::warn!(path = %target.display(), error, "what was written cannot be removed");
    }
}

fn write(
    list: &ManifestReader,
    data: &dyn Payload,
    paths: &[RelativePath],
    root: OwnedFd,
    progress: &Progress,
) -> Result<Materialized, OperationError> {
    let sync = root.try_clone().map_err(OperationError::staging)?;
    let placer = Placer::new(root, PlaceOptions::default()).map_err(OperationError::staging)?;
    let mut done = Materialized::default();
    let wanted = |path: &RelativePath| super::live::in_scope(path, paths, true);
    for record in list.records() {
        if progress.is_cancelled() {
            return Err(OperationError::Cancelled);
        }
        let entry = record?.entry;
        if !wanted(&entry.path) {
            continue;
        }
        done.entries += 1;
        let linked = match &entry.body {
            Body::Link(to) if wanted(to) => {
                placer.link(&entry.path, to)?;
                continue;
            }
            // The name that came first is not wanted: this one gets a file of its own.
            Body::Link(to) => list.find(to)?.map(|first| Entry {
                path: first.entry.path,
                ..first.entry
            }),
            _ => None,
        };
        place(&placer, data, &entry.path, linked.as_ref().unwrap_or(&entry))?;
        if entry.attributes.kind == FileKind::Regular {
            done.bytes += entry.attributes.size;
            progress.add(1, entry.attributes.size);
        }
    }
    let directories = list.records().filter_map(|record| match record {
        Ok(record) if record.entry.attributes.kind == FileKind::Directory && wanted(&record.entry.path) => {
            Some(Ok((record.entry.path, record.entry.attributes)))
        }
        Ok(_) => None,
        Err(error) => Some(Err(Finish::from(error))),
    });
    placer.finish_directories(directories).map_err(|error| error.0)?;
    progress.enter(Phase::Finishing);
    syncfs(&sync).map_err(|error| OperationError::staging(error.into()))?;
    done.losses = placer.losses();
    Ok(done)
}

/// Either of the two errors that finishing directories meets.
struct Finish(OperationError);

impl From<ManifestError> for Finish {
    fn from(error: ManifestError) -> Self {
        Finish(error.into())
    }
}

impl From<PlaceError> for Finish {
    fn from(error: PlaceError) -> Self {
        Finish(error.into())
    }
}

/// Makes what `entry` is at `path`.
fn place(
    placer: &Placer,
    data: &dyn Payload,
    path: &RelativePath,
    entry: &Entry,
) -> Result<(), OperationError> {
    let attributes = &entry.attributes;
    match &entry.body {
        Body::File(_) => {
            let to = placer.file(path)?;
            data.write(entry, to.as_fd())?;
            placer.file_attributes(path, to.as_fd(), attributes, Before::New)?;
        }
        Body::Symlink(target) => {
            placer.symlink(path, target)?;
            placer.attributes(path, attributes, Before::New)?;
        }
        Body::None if attributes.kind == FileKind::Directory => {
            if !path.is_root() {
                placer.directory(path)?;
            }
        }
        Body::None | Body::Link(_) => {
            if placer.special(path, attributes)? {
                placer.attributes(path, attributes, Before::New)?;
            }
        }
    }
    Ok(())
}
