//! `cairn diff` of a directory: a snapshot beside the directory as it is, or beside another snapshot.
//!
//! Directories in which nothing has changed but their time are not shown: every change in a directory does that to it. Data that nobody
//! has read yet is read where names, sizes and times cannot tell.

use std::ffi::OsString;
use std::path::PathBuf;

use cairn_api::proto;
use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::{Aspect, Aspects, Body, Difference, Entry, Record, RelativePath, compare};
use cairn_snapshot::manifest::changes::{
    between as changes_between, is_time_of_directory as is_only_time, resolve,
};
use cairn_snapshot::manifest::{Change, ManifestReader};
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::live::{Beside, Difference as LiveDifference, Live, Step, in_scope};
use cairn_snapshot::operations::payload::Payload;
use cairn_snapshot::operations::snapshots::{manifest, payload};
use cairn_snapshot::repository::Descriptor;
use cairn_types::{FileKind, SnapshotId};
use serde::Serialize;

use super::{Opened, open};
use crate::command::Session;
use crate::command::diff::{line, stat_text};
use crate::failure::Failure;
use crate::json::{self, DiffSummary};
use crate::watch::Watch;

#[derive(Serialize)]
struct Summary<'a> {
    summary: &'a DiffSummary,
}

/// What is asked for.
pub(in crate::command) struct Asked {
    pub from: Option<String>,
    pub to: Option<String>,
    pub stat: bool,
    pub paths: Vec<OsString>,
}

/// Something that differs.
pub(super) enum Told {
    /// An entry.
    Difference(proto::Difference),
    /// A directory, but only in its time.
    DirectoryTime(RelativePath),
}

pub(in crate::command) fn run(
    session: &mut Session,
    directory: Option<PathBuf>,
    asked: Asked,
) -> Result<(), Failure> {
    let opened = open(session, directory)?;
    let from = opened.resolve(asked.from.as_deref())?;
    let to = asked.to.map(|to| opened.resolve(Some(&to))).transpose()?;
    let paths = opened.paths(&asked.paths)?;
    // What is printed shows that something happens; a line is needed only where nothing is.
    let watch = Watch::start((asked.stat || session.output.is_json()).then_some("comparing"))?;
    let mut summary = DiffSummary::default();
    let stat = asked.stat;
    let visit = |told: Told| {
        let Told::Difference(difference) = told else {
            return Ok(());
        };
        summary.count(&difference);
        if !stat && session.output.is_json() {
            session
                .output
                .object(&json::Difference::of_directory(difference))?;
        } else if !stat {
            session.output.text(&line(&difference))?;
        }
        Ok(())
    };
    match to {
        Some(to) => between(&opened, (from, to), &paths, watch.progress(), visit)?,
        None => live(&opened, from, &paths, watch.progress(), visit)?,
    }
    drop(watch);
    if session.output.is_json() {
        session.output.object(&Summary { summary: &summary })?;
    } else if stat {
        session.output.text(&stat_text(&summary))?;
    }
    Ok(())
}

/// Compares a snapshot with the directory as it is.
pub(super) fn live(
    opened: &Opened,
    from: SnapshotId,
    paths: &[RelativePath],
    progress: &Progress,
    mut visit: impl FnMut(Told) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let repository = &opened.repository;
    let descriptor = repository.descriptor(from)?;
    let scope = opened.scope(&[&descriptor], paths)?;
    let target = manifest(repository, &descriptor)?;
    let data = payload(repository, &descriptor)?;
    // The list of the snapshot that the content comes from knows most files.
    let head = repository.state()?.head.filter(|head| *head != from);
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

fn told_live(step: &Step) -> Result<Option<Told>, Failure> {
    let kind = match step.difference {
        LiveDifference::Same => return Ok(None),
        LiveDifference::Missing => proto::DifferenceKind::Removed,
        LiveDifference::Surplus => proto::DifferenceKind::Added,
        LiveDifference::Kind => proto::DifferenceKind::Retyped,
        LiveDifference::Data => proto::DifferenceKind::Modified,
        LiveDifference::Links => proto::DifferenceKind::Attributes,
        LiveDifference::Attributes if is_time_of_directory(step)? => {
            return Ok(Some(Told::DirectoryTime(step.path().clone())));
        }
        LiveDifference::Attributes => proto::DifferenceKind::Attributes,
    };
    let live = step.live.as_ref().map(|found| &found.attributes);
    let target = step.target.as_ref().map(|record| &record.entry.attributes);
    let bytes = |of: Option<&cairn_snapshot::directory::Attributes>| {
        of.filter(|attributes| attributes.kind == FileKind::Regular)
            .map(|attributes| attributes.size)
    };
    let directory = live.or(target).is_some_and(|of| of.kind == FileKind::Directory);
    Ok(Some(difference(
        kind,
        step.path(),
        directory,
        (bytes(target), bytes(live)),
    )))
}

/// Whether it is a directory in which nothing differs but its time.
fn is_time_of_directory(step: &Step) -> Result<bool, Failure> {
    let (Some(found), Some(record)) = (&step.live, &step.target) else {
        return Ok(false);
    };
    let (live, target) = (&found.attributes, &record.entry.attributes);
    if live.kind != FileKind::Directory
        || (live.mode, live.uid, live.gid) != (target.mode, target.uid, target.gid)
    {
        return Ok(false);
    }
    let xattrs = found.xattrs().map_err(|source| OperationError::Workspace {
        path: found.path.clone(),
        source,
    })?;
    Ok(xattrs == target.xattrs)
}

fn difference(
    kind: proto::DifferenceKind,
    path: &RelativePath,
    directory: bool,
    (bytes_before, bytes_after): (Option<u64>, Option<u64>),
) -> Told {
    let path = match path.is_root() {
        true => b".",
        false => path.as_bytes(),
    };
    Told::Difference(proto::Difference {
        kind: kind.into(),
        path: path.to_vec(),
        directory,
        bytes_before,
        bytes_after,
    })
}

/// Compares two snapshots.
fn between(
    opened: &Opened,
    (from, to): (SnapshotId, SnapshotId),
    paths: &[RelativePath],
    progress: &Progress,
    mut visit: impl FnMut(Told) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let repository = &opened.repository;
    let before = Side::open(opened, repository.descriptor(from)?)?;
    let after = Side::open(opened, repository.descriptor(to)?)?;
    let scope = opened.scope(&[&before.descriptor, &after.descriptor], paths)?;
    for change in changes_between(&before.manifest, &after.manifest) {
        if progress.is_cancelled() {
            return Err(OperationError::Cancelled.into());
        }
        let change = change?;
        if !in_scope(change.path(), &scope, false) {
            continue;
        }
        if let Some(told) = told_change(&change, &before, &after)? {
            visit(told)?;
        }
    }
    Ok(())
}

/// A snapshot that is compared.
pub(super) struct Side<'a> {
    opened: &'a Opened,
    pub descriptor: Descriptor,
    pub manifest: std::sync::Arc<ManifestReader>,
    payload: std::cell::OnceCell<Box<dyn Payload + 'a>>,
}

impl<'a> Side<'a> {
    pub fn open(opened: &'a Opened, descriptor: Descriptor) -> Result<Self, Failure> {
        let manifest = manifest(&opened.repository, &descriptor)?;
        Ok(Side {
            opened,
            descriptor,
            manifest,
            payload: std::cell::OnceCell::new(),
        })
    }

    /// The digest of a file, read if nobody has read it yet.
    fn digest(&self, entry: &Entry) -> Result<cairn_snapshot::directory::Digest, Failure> {
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
                let opened = payload(&self.opened.repository, &self.descriptor)?;
                self.payload.get_or_init(|| opened)
            }
        };
        Ok(payload.digest(first.as_ref().unwrap_or(entry))?)
    }
}

/// In what two records differ for certain; what nobody knows is read. Where the holes of a file are is no difference to people.
fn certain(
    mut aspects: Aspects,
    (before, after): (&Record, &Record),
    sides: (&Side<'_>, &Side<'_>),
) -> Result<Aspects, Failure> {
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

fn told_change(change: &Change, before: &Side<'_>, after: &Side<'_>) -> Result<Option<Told>, Failure> {
    let bytes = |record: &Record| {
        let attributes = &record.entry.attributes;
        (attributes.kind == FileKind::Regular).then_some(attributes.size)
    };
    let is_directory = |record: &Record| record.entry.attributes.kind == FileKind::Directory;
    Ok(Some(match change {
        Difference::Added(record) => difference(
            proto::DifferenceKind::Added,
            change.path(),
            is_directory(record),
            (None, bytes(record)),
        ),
        Difference::Removed(record) => difference(
            proto::DifferenceKind::Removed,
            change.path(),
            is_directory(record),
            (bytes(record), None),
        ),
        Difference::Changed { .. } if is_only_time(change) => Told::DirectoryTime(change.path().clone()),
        Difference::Changed {
            before: old,
            after: new,
            aspects,
        } => {
            let aspects = certain(*aspects, (old, new), (before, after))?;
            let data = [Aspect::Data, Aspect::Size, Aspect::Target];
            let kind = match aspects {
                aspects if aspects.is_empty() => return Ok(None),
                aspects if aspects.contains(Aspect::Kind) => proto::DifferenceKind::Retyped,
                aspects if data.into_iter().any(|aspect| aspects.contains(aspect)) => {
                    proto::DifferenceKind::Modified
                }
                _ => proto::DifferenceKind::Attributes,
            };
            difference(kind, change.path(), is_directory(new), (bytes(old), bytes(new)))
        }
    }))
}

/// Whether something at a path, or below it, is not the same in two snapshots.
pub(super) fn differs(before: &Side<'_>, after: &Side<'_>, path: &RelativePath) -> Result<bool, Failure> {
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
