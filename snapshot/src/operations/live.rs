//! The workspace as it is now, beside a snapshot: what is the same, what differs, in path order, in the memory of one directory.
//!
//! **Same data** is told without reading where that can be: a file whose stamp, size and time of modification are those of a record
//! holds that record's data (see [`Stamp`](crate::directory::Stamp)). Otherwise a file of the same size is read and its digest
//! compared; if the snapshot does not know the digest of its own file, that is read too.
//!
//! Two names of one file in the workspace are the same as two names of one file in the snapshot if they are the same names.

use std::collections::HashMap;
use std::io;
use std::iter::Peekable;
use std::os::fd::OwnedFd;

use cairn_types::FileKind;

use super::OperationError;
use super::payload::Payload;
use crate::archive::Progress;
use crate::directory::beneath::open_entry;
use crate::directory::read::summarize;
use crate::directory::walk::{Found, Walk, WalkOptions};
use crate::directory::{Attributes, Body, Digest, FileBody, Record, RelativePath};
use crate::manifest::{ManifestReader, Records};
use crate::repository::Repository;

/// Most names of files with several names that are remembered at once.
const LINKS_MAX: usize = 4 << 20;

/// How the workspace of a repository is walked: without what is Cairn's, without other file systems, without what its rules leave out.
/// Errors: a rule that is none.
pub fn walk_options(repository: &Repository, scope: &[RelativePath]) -> Result<WalkOptions, OperationError> {
    Ok(WalkOptions {
        ignore: Some(super::ignore_rules(repository)?),
        include: (!scope.is_empty()).then(|| scope.to_vec()),
        one_file_system: true,
        threads: 1,
        ..WalkOptions::default()
    })
}

/// Whether a path is one of those that are asked for, below one, or, if `leading`, on the way to one.
pub fn in_scope(path: &RelativePath, scope: &[RelativePath], leading: bool) -> bool {
    scope.is_empty()
        || scope
            .iter()
            .any(|wanted| path.is_within(wanted) || (leading && wanted.is_within(path)))
}

/// How the workspace differs from a snapshot at one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Not at all.
    Same,
    /// Only the snapshot has it.
    Missing,
    /// Only the workspace has it.
    Surplus,
    /// The one has another kind of file than the other.
    Kind,
    /// The data of a file, or the target of a link.
    Data,
    /// What names share a file.
    Links,
    /// Nothing but attributes.
    Attributes,
}

/// One path of the workspace or of the snapshot.
pub struct Step {
    /// What the workspace has there.
    pub live: Option<Found>,
    /// What the snapshot has there.
    pub target: Option<Record>,
    /// How they differ.
    pub difference: Difference,
}

impl Step {
    /// The path.
    pub fn path(&self) -> &RelativePath {
        match (&self.live, &self.target) {
            (Some(found), _) => &found.path,
            (None, Some(record)) => &record.entry.path,
            (None, None) => unreachable!("a step has one side at least"),
        }
    }
}

impl Step {
    /// Whether it is a directory of both that differs in its time of change alone. Errors: its attributes cannot be read.
    pub fn is_time_of_directory(&self) -> Result<bool, OperationError> {
        let (Some(found), Some(record), Difference::Attributes) = (&self.live, &self.target, self.difference)
        else {
            return Ok(false);
        };
        let timed = Attributes {
            modified: found.attributes.modified,
            ..record.entry.attributes.clone()
        };
        Ok(found.kind() == FileKind::Directory && same_attributes(found, &timed)?)
    }
}

/// The records of a manifest that are within a scope, one ahead.
type Ahead<'a> = Peekable<Records<'a>>;

/// Compares the workspace with a snapshot.
pub struct Live<'a> {
    walk: Peekable<Walk>,
    target: Ahead<'a>,
    /// A snapshot whose records may know the files of the workspace.
    known: Option<Ahead<'a>>,
    payload: Option<&'a dyn Payload>,
    scope: Vec<RelativePath>,
    /// The first names of files with several names that were met in the workspace, and whether the snapshot has another file there.
    links: HashMap<(u64, u64), (RelativePath, bool)>,
    /// The device of the root.
    device: Option<u64>,
    /// Something of the workspace that no walk enters: what the snapshot has there, or below, is left alone.
    hidden: Option<RelativePath>,
    /// A directory that the workspace does not have: nothing below it can be there.
    absent: Option<RelativePath>,
    /// The root of the workspace.
    root: OwnedFd,
    progress: &'a Progress,
    /// Bytes of the workspace that were read.
    pub read_bytes: u64,
}

/// What the workspace is compared with, and what helps.
pub struct Beside<'a> {
    /// The snapshot.
    pub target: &'a ManifestReader,
    /// Another one, whose stamps may fit: that of the last save.
    pub known: Option<&'a ManifestReader>,
    /// The data of the snapshot, where it does not know all digests.
    pub payload: Option<&'a dyn Payload>,
    /// Paths that are compared, with what is below them; nothing: everything.
    pub scope: &'a [RelativePath],
}

impl<'a> Live<'a> {
    /// Begins. Errors: the workspace cannot be walked.
    pub fn new(
        repository: &Repository,
        beside: Beside<'a>,
        progress: &'a Progress,
    ) -> Result<Self, OperationError> {
        let options = walk_options(repository, beside.scope)?;
        Ok(Live {
            walk: Walk::new(repository.workspace(), options)?.peekable(),
            target: beside.target.records().peekable(),
            known: beside.known.map(|known| known.records().peekable()),
            payload: beside.payload,
            scope: beside.scope.to_vec(),
            links: HashMap::new(),
            device: None,
            hidden: None,
            absent: None,
            root: repository
                .workspace()
                .try_clone_to_owned()
                .map_err(OperationError::staging)?,
            progress,
            read_bytes: 0,
        })
    }

    fn step(&mut self) -> Result<Option<Step>, OperationError> {
        loop {
            if self.progress.is_cancelled() {
                return Err(OperationError::Cancelled);
            }
            if let Some(Err(_)) = self.walk.peek() {
                let failed = self.walk.next().and_then(Result::err);
                return failed.map_or(Ok(None), |error| Err(error.into()));
            }
            if let Some(Err(_)) = self.target.peek() {
                let failed = self.target.next().and_then(Result::err);
                return failed.map_or(Ok(None), |error| Err(error.into()));
            }
            let live = self
                .walk
                .peek()
                .and_then(|found| found.as_ref().ok())
                .map(|found| &found.path);
            let target = self
                .target
                .peek()
                .and_then(|record| record.as_ref().ok())
                .map(|record| &record.entry.path);
            let order = match (live, target) {
                (None, None) => return Ok(None),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(live), Some(target)) => live.cmp(target),
            };
            let live = match order.is_le() {
                true => self.walk.next().and_then(Result::ok),
                false => None,
            };
            let target = match order.is_ge() {
                true => self.target.next().and_then(Result::ok),
                false => None,
            };
            let difference = match (&live, &target) {
                (Some(found), None) => {
                    self.remember(found)?;
                    Difference::Surplus
                }
                (None, Some(record)) if !in_scope(&record.entry.path, &self.scope, true) => continue,
                (None, Some(record)) if self.is_hidden(record) => continue,
                (None, _) => Difference::Missing,
                (Some(found), Some(record)) => self.compare(found, record)?,
            };
            // Directories on the way to what is asked for are not asked for themselves.
            let step = Step {
                live,
                target,
                difference,
            };
            if difference != Difference::Missing && !in_scope(step.path(), &self.scope, false) {
                continue;
            }
            return Ok(Some(step));
        }
    }

    /// The first name of the file, if it has others and this is not the first.
    fn remember(&mut self, found: &Found) -> Result<Option<RelativePath>, OperationError> {
        if found.links < 2 || found.kind() == FileKind::Directory {
            return Ok(None);
        }
        let identity = (found.stamp.device, found.stamp.inode);
        if let Some((first, _)) = self.links.get(&identity) {
            return Ok(Some(first.clone()));
        }
        if self.links.len() >= LINKS_MAX {
            return Err(OperationError::TooManyLinks { limit: LINKS_MAX });
        }
        self.links.insert(identity, (found.path.clone(), false));
        Ok(None)
    }

    fn compare(&mut self, found: &Found, record: &Record) -> Result<Difference, OperationError> {
        let first = self.remember(found)?;
        let difference = self.compare_entry(found, record, first.as_ref())?;
        let replaced = matches!(
            difference,
            Difference::Kind | Difference::Data | Difference::Links
        );
        if let (None, true, Some((_, first_replaced))) = (
            first,
            replaced,
            self.links.get_mut(&(found.stamp.device, found.stamp.inode)),
        ) {
            *first_replaced = true;
        }
        Ok(difference)
    }

    /// Whether a record is of something that the workspace has, and no walk enters: what is ignored, or below a mount point.
    fn is_hidden(&mut self, record: &Record) -> bool {
        let path = &record.entry.path;
        if self.hidden.as_ref().is_some_and(|hidden| path.is_within(hidden)) {
            return true;
        }
        if self.absent.as_ref().is_some_and(|absent| path.is_within(absent)) {
            return false;
        }
        if open_entry(&self.root, path).is_ok() {
            self.hidden = Some(path.clone());
            return true;
        }
        if record.entry.attributes.kind == FileKind::Directory {
            self.absent = Some(path.clone());
        }
        false
    }

    fn compare_entry(
        &mut self,
        found: &Found,
        record: &Record,
        first: Option<&RelativePath>,
    ) -> Result<Difference, OperationError> {
        let entry = &record.entry;
        if found.kind() != entry.attributes.kind {
            return Ok(Difference::Kind);
        }
        if found.kind() == FileKind::Directory
            && found.stamp.device != *self.device.get_or_insert(found.stamp.device)
        {
            // Another file system: what is there is none of ours.
            self.hidden = Some(found.path.clone());
            return Ok(Difference::Same);
        }
        match (first, &entry.body) {
            // What the other name is, is what this one is, unless another file takes its place.
            (Some(first), Body::Link(to)) if first == to => {
                let identity = (found.stamp.device, found.stamp.inode);
                return Ok(match self.links.get(&identity) {
                    Some((_, true)) => Difference::Links,
                    _ => Difference::Same,
                });
            }
            (None, Body::Link(_)) | (Some(_), _) => return Ok(Difference::Links),
            _ => {}
        }
        if proves(record, found) {
            return Ok(Difference::Same);
        }
        let same_data = match &entry.body {
            Body::File(file) => {
                found.attributes.size == entry.attributes.size && self.same_data(found, record, file)?
            }
            Body::Symlink(target) => found.read_link().map_err(|error| unreadable(found, error))? == *target,
            Body::None => found.attributes.device == entry.attributes.device,
            Body::Link(_) => true,
        };
        if !same_data {
            return Ok(Difference::Data);
        }
        Ok(match same_attributes(found, &entry.attributes)? {
            true => Difference::Same,
            false => Difference::Attributes,
        })
    }

    /// Whether a file of the workspace, of the size of the snapshot's, holds the same data.
    fn same_data(&mut self, found: &Found, record: &Record, file: &FileBody) -> Result<bool, OperationError> {
        if found.attributes.size == 0 {
            return Ok(true);
        }
        let target = match (file.digest, self.payload) {
            (Some(digest), _) => digest,
            (None, Some(payload)) => payload.digest(&record.entry)?,
            // Nobody knows: then it is not the same.
            (None, None) => return Ok(false),
        };
        if let Some(known) = self.known_digest(found)? {
            return Ok(known == target);
        }
        let read = found
            .open()
            .and_then(|file| summarize::<io::Error>(&file, |_| Ok(())));
        let read = read.map_err(|error| unreadable(found, error))?;
        self.read_bytes += read.value.read_bytes;
        Ok(!read.torn && read.value.digest == target)
    }

    /// The digest of a file of the workspace, if the other snapshot knows it.
    fn known_digest(&mut self, found: &Found) -> Result<Option<Digest>, OperationError> {
        let Some(known) = &mut self.known else {
            return Ok(None);
        };
        while let Some(next) = known.peek() {
            match next {
                Ok(record) if record.entry.path < found.path => {
                    known.next();
                }
                Ok(record) => {
                    let digest = match &record.entry.body {
                        Body::File(file) if record.entry.path == found.path && proves(record, found) => {
                            file.digest
                        }
                        _ => None,
                    };
                    return Ok(digest);
                }
                // It only helps. Who needs it will say what is wrong with it.
                Err(_) => {
                    self.known = None;
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for Live<'_> {
    type Item = Result<Step, OperationError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

fn unreadable(found: &Found, source: io::Error) -> OperationError {
    OperationError::Workspace {
        path: found.path.clone(),
        source,
    }
}

/// Whether what was found is what was recorded, data and attributes.
fn proves(record: &Record, found: &Found) -> bool {
    record.stamp == Some(found.stamp)
        && record.entry.attributes.size == found.attributes.size
        && record.entry.attributes.modified == found.attributes.modified
}

/// Whether the attributes are the same; of directories and links the size does not count.
fn same_attributes(found: &Found, target: &Attributes) -> Result<bool, OperationError> {
    let live = &found.attributes;
    let same = live.mode == target.mode
        && (live.uid, live.gid) == (target.uid, target.gid)
        && live.modified == target.modified;
    if !same {
        return Ok(false);
    }
    let xattrs = found.xattrs().map_err(|error| unreadable(found, error))?;
    Ok(xattrs == target.xattrs)
}
