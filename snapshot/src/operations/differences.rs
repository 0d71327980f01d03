//! What differs between a snapshot and the workspace as it is, or another snapshot, as people are told it.
//!
//! Directories in which nothing has changed but their time are told apart: every change in a directory does that to it. Data that nobody
//! has read yet is read where names, sizes and times cannot tell.

use std::cell::OnceCell;
use std::sync::Arc;

use cairn_types::{FileKind, SnapshotId};

use super::OperationError;
use super::live::{Beside, Difference as LiveDifference, Live, Step, in_scope};
use super::payload::Payload;
use super::snapshots::{manifest, payload};
use crate::archive::Progress;
use crate::directory::compare::CompareError;
use crate::directory::{
    Aspect, Aspects, Attributes, Body, Difference, Digest, Entry, Record, RelativePath, compare,
};
use crate::manifest::changes::{between as changes_between, is_time_of_directory, resolve};
use crate::manifest::{Change, ChangeError, ManifestReader};
use crate::repository::{Descriptor, Repository};

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// It has other data, another target or another device.
    Modified,
    /// It is of another type.
    Retyped,
    /// Its data is the same, and other properties are not.
    Attributes,
}

/// An entry that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryDifference {
    /// How.
    pub kind: DifferenceKind,
    /// Where it is.
    pub path: RelativePath,
    /// Whether it is, or was, a directory.
    pub directory: bool,
    /// Bytes before, of a regular file.
    pub bytes_before: Option<u64>,
    /// Bytes after, of a regular file.
    pub bytes_after: Option<u64>,
}

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// An entry.
    Difference(EntryDifference),
    /// A directory, but only in its time.
    DirectoryTime(RelativePath),
}

impl From<ChangeError> for OperationError {
    fn from(error: ChangeError) -> Self {
        match error {
            CompareError::Before(error) | CompareError::After(error) => error.into(),
            CompareError::Order { path } => OperationError::Inconsistent {
                path,
                what: "it does not come in path order",
            },
        }
    }
}

/// The paths that are compared or restored: those asked for, as far as partial snapshots hold them. Nothing: everything. Errors: `NoPath` of the first of
/// them if none of them is held.
pub fn scope(
    descriptors: &[&Descriptor],
    asked: &[RelativePath],
) -> Result<Vec<RelativePath>, OperationError> {
    let mut scope = asked.to_vec();
    for held in descriptors
        .iter()
        .filter_map(|descriptor| descriptor.paths.as_ref())
    {
        if scope.is_empty() {
            scope.clone_from(&held.paths);
            continue;
        }
        let within =
            |path: &&RelativePath, others: &[RelativePath]| others.iter().any(|other| path.is_within(other));
        let mut common: Vec<RelativePath> = scope
            .iter()
            .filter(|path| within(path, &held.paths))
            .cloned()
            .collect();
        common.extend(held.paths.iter().filter(|path| within(path, &scope)).cloned());
        common.sort();
        common.dedup();
        if common.is_empty() {
            let path = scope.swap_remove(0);
            return Err(OperationError::NoPath { path });
        }
        scope = common;
    }
    Ok(scope)
}

/// Compares a snapshot with the workspace as it is, in path order. `paths` are those that are compared; none: everything that the snapshot holds.
///
/// # Errors
/// No such snapshot; its list or its data cannot be read; the workspace cannot be read; `NoPath`; `Cancelled`; those of `visit`.
pub fn live<E: From<OperationError>>(
    repository: &Repository,
    from: SnapshotId,
    paths: &[RelativePath],
    progress: &Progress,
    mut visit: impl FnMut(Told) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error| E::from(OperationError::Repository(error));
    let descriptor = repository.descriptor(from).map_err(failed)?;
    let scope = scope(&[&descriptor], paths)?;
    let target = manifest(repository, &descriptor)?;
    let data = payload(repository, &descriptor)?;
    // The list of the snapshot that the content comes from knows most files.
    let head = repository
        .state()
        .map_err(failed)?
        .head
        .filter(|head| *head != from);
    let known = head.and_then(|head| manifest(repository, &repository.descriptor(head).ok()?).ok());
    let beside = Beside {
        target: &target,
        known: known.as_deref(),
        payload: Some(&*data),
        scope: &scope,
    };
    for step in Live::new(repository, beside, progress)? {
        if let Some(told) = told_live(&step?)? {
            visit(told)?;
        }
    }
    Ok(())
}

fn told_live(step: &Step) -> Result<Option<Told>, OperationError> {
    let kind = match step.difference {
        LiveDifference::Same => return Ok(None),
        LiveDifference::Missing => DifferenceKind::Removed,
        LiveDifference::Surplus => DifferenceKind::Added,
        LiveDifference::Kind => DifferenceKind::Retyped,
        LiveDifference::Data => DifferenceKind::Modified,
        LiveDifference::Attributes if step.is_time_of_directory()? => {
            return Ok(Some(Told::DirectoryTime(step.path().clone())));
        }
        LiveDifference::Links | LiveDifference::Attributes => DifferenceKind::Attributes,
    };
    let live = step.live.as_ref().map(|found| &found.attributes);
    let target = step.target.as_ref().map(|record| &record.entry.attributes);
    let bytes = |of: Option<&Attributes>| {
        of.filter(|attributes| attributes.kind == FileKind::Regular)
            .map(|attributes| attributes.size)
    };
    let directory = live.or(target).is_some_and(|of| of.kind == FileKind::Directory);
    Ok(Some(Told::Difference(EntryDifference {
        kind,
        path: step.path().clone(),
        directory,
        bytes_before: bytes(target),
        bytes_after: bytes(live),
    })))
}

/// Compares two snapshots, in path order, as [`live`].
///
/// # Errors
/// As of [`live`].
pub fn between<E: From<OperationError>>(
    repository: &Repository,
    (from, to): (SnapshotId, SnapshotId),
    paths: &[RelativePath],
    progress: &Progress,
    mut visit: impl FnMut(Told) -> Result<(), E>,
) -> Result<(), E> {
    let open = |id| Side::open(repository, repository.descriptor(id)?);
    let (before, after) = (open(from)?, open(to)?);
    let scope = scope(&[&before.descriptor, &after.descriptor], paths)?;
    for change in changes_between(&before.manifest, &after.manifest) {
        if progress.is_cancelled() {
            return Err(OperationError::Cancelled.into());
        }
        let change = change.map_err(OperationError::from)?;
        if !in_scope(change.path(), &scope, false) {
            continue;
        }
        if let Some(told) = told_change(&change, &before, &after)? {
            visit(told)?;
        }
    }
    Ok(())
}

/// A snapshot that is compared with another.
pub struct Side<'a> {
    repository: &'a Repository,
    /// What it is.
    pub descriptor: Descriptor,
    /// Its list.
    pub manifest: Arc<ManifestReader>,
    payload: OnceCell<Box<dyn Payload + 'a>>,
}

impl<'a> Side<'a> {
    /// Opens its list. Errors: it cannot be read.
    pub fn open(repository: &'a Repository, descriptor: Descriptor) -> Result<Self, OperationError> {
        let manifest = manifest(repository, &descriptor)?;
        Ok(Side {
            repository,
            descriptor,
            manifest,
            payload: OnceCell::new(),
        })
    }

    /// The digest of a file, read if nobody has read it yet.
    fn digest(&self, entry: &Entry) -> Result<Digest, OperationError> {
        if let Body::File(file) = &entry.body
            && let Some(digest) = file.digest
        {
            return Ok(digest);
        }
        // A further name of a file has the data of the first one.
        let first = match &entry.body {
            Body::Link(to) => self.manifest.find(to)?.map(|record| record.entry),
            Body::None | Body::Symlink(_) | Body::File(_) => None,
        };
        let payload = match self.payload.get() {
            Some(payload) => payload,
            None => {
                let opened = payload(self.repository, &self.descriptor)?;
                self.payload.get_or_init(|| opened)
            }
        };
        payload.digest(first.as_ref().unwrap_or(entry))
    }
}

/// In what two records differ for certain; what nobody knows is read. Where the holes of a file are is no difference to people.
fn certain(
    mut aspects: Aspects,
    (before, after): (&Record, &Record),
    sides: (&Side<'_>, &Side<'_>),
) -> Result<Aspects, OperationError> {
    let unread = aspects.contains(Aspect::Unread);
    aspects.remove(Aspect::Unread);
    aspects.remove(Aspect::Holes);
    if !unread || aspects.contains(Aspect::Kind) || aspects.contains(Aspect::Data) {
        return Ok(aspects);
    }
    let same = before.entry.attributes.size == after.entry.attributes.size
        && sides.0.digest(&before.entry)? == sides.1.digest(&after.entry)?;
    if !same {
        aspects.insert(Aspect::Data);
    }
    Ok(aspects)
}

fn told_change(change: &Change, before: &Side<'_>, after: &Side<'_>) -> Result<Option<Told>, OperationError> {
    let bytes = |record: &Record| {
        let attributes = &record.entry.attributes;
        (attributes.kind == FileKind::Regular).then_some(attributes.size)
    };
    let is_directory = |record: &Record| record.entry.attributes.kind == FileKind::Directory;
    let (kind, directory, bytes_before, bytes_after) = match change {
        Difference::Added(record) => (DifferenceKind::Added, is_directory(record), None, bytes(record)),
        Difference::Removed(record) => (DifferenceKind::Removed, is_directory(record), bytes(record), None),
        Difference::Changed { .. } if is_time_of_directory(change) => {
            return Ok(Some(Told::DirectoryTime(change.path().clone())));
        }
        Difference::Changed {
            before: old,
            after: new,
            aspects,
        } => {
            let aspects = certain(*aspects, (old, new), (before, after))?;
            let data = [Aspect::Data, Aspect::Size, Aspect::Target];
            let kind = match aspects {
                aspects if aspects.is_empty() => return Ok(None),
                aspects if aspects.contains(Aspect::Kind) => DifferenceKind::Retyped,
                aspects if data.into_iter().any(|aspect| aspects.contains(aspect)) => {
                    DifferenceKind::Modified
                }
                _ => DifferenceKind::Attributes,
            };
            (kind, is_directory(new), bytes(old), bytes(new))
        }
    };
    Ok(Some(Told::Difference(EntryDifference {
        kind,
        path: change.path().clone(),
        directory,
        bytes_before,
        bytes_after,
    })))
}

/// Whether something at a path, or below it, is not the same in two snapshots. Errors: as of [`between`].
pub fn differs(before: &Side<'_>, after: &Side<'_>, path: &RelativePath) -> Result<bool, OperationError> {
    let changes = compare(
        before.manifest.records_within(path),
        after.manifest.records_within(path),
    );
    for change in changes {
        let change = resolve(change?, Some(&before.manifest), Some(&after.manifest))?;
        if let Some(Told::Difference(_)) = told_change(&change, before, after)? {
            return Ok(true);
        }
    }
    Ok(false)
}
