//! Taking over: snapshots of a repository of the Go tools become snapshots of ours, oldest first, with their times, notes, tags and pins.
//!
//! - The old repository is only read. Ours has its control directory elsewhere, and the same workspace.
//! - Every snapshot is verified by its own hash first. One that is not what was saved, or cannot be read, does not come over; one whose hash
//!   cannot tell does, with a warning in its note.
//! - A snapshot that came over is known by its origin: after a kill, the next call goes on behind it.
//! - What the tools had left out of a snapshot is not in it, and what they had not is: rules of `.jvsignore` do not count.

mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{FileKind, SnapshotId, Tag, with_causes};

use super::recover::{Recovered, recover};
use super::save::{Past, SaveRequest, Saved, Saving, Source};
use super::{OperationError, audit};
use crate::archive::Progress;
use crate::directory::ignore::CONTROL_NAME;
use crate::directory::{RelativePath, Skip, WalkOptions};
use crate::engine::{EngineKind, Tools};
use crate::repository::descriptor::{NOTE_BYTES_MAX, PATHS_MAX, TAGS_MAX};
use crate::repository::import_jvs::{
    ImportError, JvsLine, JvsRepository, JvsSnapshot, JvsSnapshotId, JvsTree, JvsWorkspace, Payload,
};
use crate::repository::labels::{PINS_MAX, REASON_BYTES_MAX};
use crate::repository::{AuditEvent, Lease, Origin, Parts, Repository, RepositoryError};

/// The workspace that a repository of the Go tools begins with.
const FIRST_WORKSPACE: &str = "main";
/// What a note begins its warnings with.
const WARNING: &str = "imported with a warning: ";

/// What shall be taken over.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// The snapshots of this workspace, and those that they come from; `None`: all.
    pub workspace: Option<String>,
    /// The engine; `None`: the best that can be used.
    pub engine: Option<EngineKind>,
    /// How long to wait for others.
    pub wait: Duration,
}

/// What came over, and what did not.
#[derive(Debug, Clone, Default)]
pub struct Imported {
    /// Snapshots that were taken over now, oldest first.
    pub taken: Vec<TakenOver>,
    /// How many had been taken over before.
    pub present: u64,
    /// Snapshots that did not come over.
    pub left: Vec<LeftBehind>,
    /// Pins that were set.
    pub pins: u64,
    /// The snapshot that the workspace's content comes from, if that was not known before.
    pub head: Option<SnapshotId>,
    /// What was put right before.
    pub recovered: Vec<Recovered>,
}

/// A snapshot that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// Its old identity.
    pub from: JvsSnapshotId,
    /// Its new one.
    pub id: SnapshotId,
    /// What a person should know of it; the note says it too.
    pub warnings: Vec<String>,
    /// Its files are those of this snapshot, which has the same hash: compression had spoiled its own.
    pub files_of: Option<JvsSnapshotId>,
}

/// A snapshot that did not come over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// Its identity.
    pub from: JvsSnapshotId,
    /// Why.
    pub why: String,
}

/// Opens the repository at `control` for what is taken over, or makes it. Its workspace is that of `name`, or the first one.
///
/// # Errors
/// `NoWorkspace`, `OtherWorkspace`; the control directory is in the old one; those of [`Repository::open`] and [`Repository::init`].
pub fn prepare(
    from: &JvsRepository,
    name: Option<&str>,
    control: &Path,
    parts: Parts,
) -> Result<Repository, OperationError> {
    let workspace = &chosen(from, name)?.directory;
    let workspace = workspace
        .canonicalize()
        .map_err(|error| RepositoryError::io("looking for", workspace, error))?;
    let parent = match control.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = parent
        .canonicalize()
        .map_err(|error| RepositoryError::io("looking for", parent, error))?;
    if parent.starts_with(from.control_path()) {
        return Err(RepositoryError::Occupied {
            path: from.control_path().to_owned(),
            what: "it is of the Go tools and stays as it is: name a control directory elsewhere",
        }
        .into());
    }
    let repository = match Repository::open(control, parts.clone()) {
        Ok(repository) => repository,
        Err(RepositoryError::NoRepository { .. }) => {
            Repository::init_beside_go_tools(&workspace, control, parts)?
        }
        Err(RepositoryError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Repository::init_beside_go_tools(&workspace, control, parts)?
        }
        Err(error) => return Err(error.into()),
    };
    match repository.workspace_path() == workspace {
        true => Ok(repository),
        false => Err(OperationError::OtherWorkspace {
            control: control.to_owned(),
            found: repository.workspace_path().to_owned(),
            workspace,
        }),
    }
}

/// The workspace that is asked for.
fn chosen<'f>(from: &'f JvsRepository, name: Option<&str>) -> Result<&'f JvsWorkspace, OperationError> {
    let wanted = name.unwrap_or(FIRST_WORKSPACE);
    let found = from
        .workspaces()
        .iter()
        .find(|workspace| workspace.name == wanted);
    found.ok_or_else(|| OperationError::NoWorkspace {
        path: from.path().to_owned(),
        name: wanted.to_owned(),
        known: from
            .workspaces()
            .iter()
            .map(|workspace| workspace.name.clone())
            .collect(),
    })
}

/// Takes snapshots over into a repository that has no others. Each is durable when the next one begins; after an error or a kill, another
/// call goes on.
///
/// # Errors
/// `NoWorkspace`; `NotImported`: there are snapshots that were made here; the lease; an engine that was asked for and cannot be used; the
/// repository cannot be written; `Cancelled`. That a snapshot cannot be read is none: it is left behind, and told.
pub fn import(
    from: &JvsRepository,
    into: &Repository,
    tools: &Tools,
    request: &ImportRequest,
    progress: &Progress,
) -> Result<Imported, OperationError> {
    let wanted = wanted(from, request.workspace.as_deref())?;
    let lease = into.lease("import", request.wait, progress.cancel_flag())?;
    let mut done = Imported {
        recovered: recover(into, &lease, tools, progress)?,
        ..Imported::default()
    };
    let known = known(from, into)?;
    let mut work = Work {
        from,
        into,
        lease: &lease,
        saving: Saving::new(into, &lease, tools, progress),
        request,
        progress,
        known,
    };
    for snapshot in from.snapshots().iter().filter(|one| wanted.contains(&one.id)) {
        if progress.is_cancelled() {
            return Err(OperationError::Cancelled);
        }
        if let Some(id) = work.known.get(&snapshot.id).copied() {
            done.present += 1;
            done.pins += work.pin(snapshot, id)?;
            continue;
        }
        match work.take(snapshot)? {
            Ok(taken) => {
                work.known.insert(snapshot.id.clone(), taken.id);
                done.pins += work.pin(snapshot, taken.id)?;
                done.taken.push(taken);
            }
            Err(why) => done.left.push(LeftBehind {
                from: snapshot.id.clone(),
                why,
            }),
        }
    }
    done.head = work.set_head()?;
    lease.release()?;
    Ok(done)
}

/// The snapshots that shall come over: all, or those of a workspace with all that they come from.
fn wanted(from: &JvsRepository, name: Option<&str>) -> Result<BTreeSet<JvsSnapshotId>, OperationError> {
    let mut wanted = BTreeSet::new();
    let Some(name) = name else {
        wanted.extend(from.snapshots().iter().map(|snapshot| snapshot.id.clone()));
        return Ok(wanted);
    };
    let workspace = chosen(from, Some(name))?;
    let by_id: BTreeMap<&JvsSnapshotId, &JvsSnapshot> =
        from.snapshots().iter().map(|one| (&one.id, one)).collect();
    let own = from.snapshots().iter().filter(|one| one.workspace == name);
    let mut pending: Vec<&JvsSnapshotId> = own.map(|one| &one.id).collect();
    let ends = [&workspace.head, &workspace.latest, &workspace.started_from];
    pending.extend(ends.into_iter().flatten());
    while let Some(id) = pending.pop() {
        let Some(snapshot) = by_id.get(id) else { continue };
        if wanted.insert(id.clone()) {
            let before = [&snapshot.parent, &snapshot.started_from, &snapshot.restored_from];
            pending.extend(before.into_iter().flatten());
        }
    }
    Ok(wanted)
}

/// What has come over before. Errors: there are others, or some that cannot be read.
fn known(
    from: &JvsRepository,
    into: &Repository,
) -> Result<BTreeMap<JvsSnapshotId, SnapshotId>, OperationError> {
    let listing = into.list()?;
    if let Some((_, error)) = listing.damaged.into_iter().next() {
        return Err(error.into());
    }
    let mut known = BTreeMap::new();
    for snapshot in listing.snapshots {
        let id = snapshot.descriptor.id;
        let old = match &snapshot.descriptor.origin {
            Origin::Imported { line, id } if *line == line_text(from.line()) => JvsSnapshotId::parse(id),
            _ => None,
        };
        known.insert(old.ok_or(OperationError::NotImported { id })?, id);
    }
    Ok(known)
}

fn line_text(line: JvsLine) -> &'static str {
    match line {
        JvsLine::Old => "old",
        JvsLine::New => "new",
    }
}

struct Work<'a> {
    from: &'a JvsRepository,
    into: &'a Repository,
    lease: &'a Lease,
    saving: Saving<'a>,
    request: &'a ImportRequest,
    progress: &'a Progress,
    known: BTreeMap<JvsSnapshotId, SnapshotId>,
}

/// The files that become a snapshot's.
struct Files<'a> {
    tree: JvsTree,
    of: &'a JvsSnapshot,
    warnings: Vec<String>,
}

impl Work<'_> {
    /// Takes a snapshot over. The inner error says why it cannot come; the outer one ends everything.
    fn take(&self, snapshot: &JvsSnapshot) -> Result<Result<TakenOver, String>, OperationError> {
        let paths = match partial_paths(snapshot) {
            Ok(paths) => paths,
            Err(why) => return Ok(Err(why)),
        };
        let Files {
            tree,
            of,
            mut warnings,
        } = match self.files(snapshot) {
            Ok(Ok(files)) => files,
            Ok(Err(why)) => return Ok(Err(why)),
            Err(ImportError::Cancelled) => return Err(OperationError::Cancelled),
            Err(error) => return Ok(Err(with_causes(&error))),
        };
        let tags = tags(snapshot, &mut warnings);
        let old = |id: &Option<JvsSnapshotId>| id.as_ref().and_then(|id| self.known.get(id).copied());
        let past = Past {
            created: snapshot.created,
            parent: old(&snapshot.parent).or_else(|| old(&snapshot.started_from)),
            restored_from: old(&snapshot.restored_from),
        };
        let walk = walk_of(&tree);
        let staging = match tree.compressed.is_empty() {
            true => None,
            false => Some(self.saving.stage()?),
        };
        let save = |directory: &OwnedFd, path: &Path, walk, warnings: &[String]| {
            let mut request = SaveRequest::new(note(&snapshot.note, warnings));
            request.tags.clone_from(&tags);
            request.engine = self.request.engine;
            request.paths.clone_from(&paths);
            request.origin = Origin::Imported {
                line: line_text(self.from.line()).to_owned(),
                id: snapshot.id.to_string(),
            };
            let source = Source {
                directory: directory.as_fd(),
                path,
                walk,
                past: Some(past),
            };
            self.saving.take(&request, &source)
        };
        let made = match &staging {
            None => save(&tree.directory, &self.from.tree_path(of), walk, &warnings),
            Some(staging) => {
                let path = staging.path.join(unpack::NAME);
                unpack::unpack(&tree, walk, staging.directory.as_fd(), self.progress).and_then(
                    |(plain, lost)| {
                        if lost > 0 {
                            warnings.push(format!("attributes of {lost} files could not be kept"));
                        }
                        save(&plain, &path, WalkOptions::default(), &warnings)
                    },
                )
            }
        };
        if let Some(staging) = &staging {
            self.saving.clean(staging);
        }
        let id = match made {
            Ok(Saved::New(descriptor)) => descriptor.id,
            Ok(Saved::Existing(descriptor)) => descriptor.id,
            Ok(Saved::Unchanged(id)) => id,
            // What it says it holds is not there; two files want to be one; a file ends too early.
            Err(
                error @ (OperationError::NoPath { .. }
                | OperationError::Payload { .. }
                | OperationError::Inconsistent { .. }),
            ) => return Ok(Err(with_causes(&error))),
            Err(error) => return Err(error),
        };
        let details = [("from", snapshot.id.to_string())];
        audit(self.into, self.lease, AuditEvent::Import, Some(id), &details);
        Ok(Ok(TakenOver {
            from: snapshot.id.clone(),
            id,
            warnings,
            files_of: (of.id != snapshot.id).then(|| of.id.clone()),
        }))
    }

    /// The files of a snapshot, verified, with what cannot be known of them. The inner error says why they are not what was saved.
    fn files<'s>(&'s self, snapshot: &'s JvsSnapshot) -> Result<Result<Files<'s>, String>, ImportError> {
        let verified = self.from.verify(snapshot, self.progress)?;
        let tree = self.from.tree(snapshot)?;
        let mut warnings = Vec::new();
        if !verified.descriptor {
            warnings.push(
                "the old descriptor is not what was written: note, tags and time may be wrong".to_owned(),
            );
        }
        if !verified.marker {
            warnings.push("the marker in the old tree is missing, or another one".to_owned());
        }
        match verified.payload {
            Payload::Matches => {}
            Payload::Differs { .. } => {
                return Ok(Err(
                    "its files are not those that were saved: their hash is another".to_owned(),
                ));
            }
            Payload::Unknowable { why } => {
                // Another snapshot of the same files tells what compression has lost, if it is whole itself.
                if !tree.faithful
                    && let Some(twin) = self.from.twin(snapshot)
                    && let Ok(whole) = self.from.verify(twin, self.progress)
                    && whole.payload == Payload::Matches
                {
                    return Ok(Ok(Files {
                        tree: self.from.tree(twin)?,
                        of: twin,
                        warnings,
                    }));
                }
                if !tree.faithful {
                    warnings.push(
                        "compression has lost modes, times and which files were symbolic links".to_owned(),
                    );
                }
                warnings.push(format!("the files cannot be verified: {why}"));
            }
        }
        Ok(Ok(Files {
            tree,
            of: snapshot,
            warnings,
        }))
    }

    /// Sets the pins of a snapshot that nobody has labelled since it came over. Gives how many.
    fn pin(&self, snapshot: &JvsSnapshot, id: SnapshotId) -> Result<u64, OperationError> {
        let pins = self.from.pins().iter().filter(|pin| pin.snapshot == snapshot.id);
        let pins: Vec<_> = pins.take(PINS_MAX).collect();
        let revision = self.into.labels(&self.into.descriptor(id)?)?.revision;
        if pins.is_empty() || revision > 0 {
            return Ok(0);
        }
        let parts = self.into.parts();
        let now = parts.clock.now();
        self.into.change_labels(self.lease, id, |labels| {
            for pin in &pins {
                let reason = cut(&pin.reason, REASON_BYTES_MAX);
                labels.pin(reason, &parts.actor, now, pin.expires);
            }
        })?;
        Ok(pins.len() as u64)
    }

    /// Notes which snapshot the workspace's content comes from, if nothing has been noted and it is the workspace of the old repository.
    fn set_head(&self) -> Result<Option<SnapshotId>, OperationError> {
        let workspace = chosen(self.from, self.request.workspace.as_deref())?;
        let state = self.into.state()?;
        let head = workspace.head.as_ref().and_then(|head| self.known.get(head));
        let same = workspace
            .directory
            .canonicalize()
            .is_ok_and(|directory| directory == self.into.workspace_path());
        match head {
            Some(head) if state.head.is_none() && same && workspace.path_sources.is_empty() => {
                let partial = self.into.descriptor(*head)?.paths.is_some();
                if partial {
                    return Ok(None);
                }
                self.into.set_state(self.lease, &state.restored(*head, None))?;
                Ok(Some(*head))
            }
            _ => Ok(None),
        }
    }
}

/// What of a tree is the user's.
fn walk_of(tree: &JvsTree) -> WalkOptions {
    let reserved = tree.reserved.clone();
    let skip = move |path: &RelativePath, _: FileKind| match reserved.contains(path)
        || path.as_bytes() == CONTROL_NAME.as_bytes()
    {
        true => Skip::LeaveOut,
        false => Skip::Keep,
    };
    WalkOptions {
        skip: Some(Arc::new(skip)),
        ..WalkOptions::default()
    }
}

/// The paths that a partial snapshot holds. The error says why nobody can tell.
fn partial_paths(snapshot: &JvsSnapshot) -> Result<Vec<RelativePath>, String> {
    if snapshot.partial_paths.len() > PATHS_MAX {
        return Err(format!("it is partial and has more than {PATHS_MAX} paths"));
    }
    let mut paths = Vec::new();
    for given in &snapshot.partial_paths {
        let plain = given.trim_start_matches("./").trim_end_matches('/');
        match RelativePath::new(plain.as_bytes()) {
            Ok(path) if !path.is_root() => paths.push(path),
            _ => return Err(format!("it is partial, and {given:?} is no path")),
        }
    }
    Ok(paths)
}

/// The tags that can be kept.
fn tags(snapshot: &JvsSnapshot, warnings: &mut Vec<String>) -> BTreeSet<Tag> {
    let mut tags = BTreeSet::new();
    let mut lost = Vec::new();
    for text in &snapshot.tags {
        match Tag::new(text) {
            Ok(tag) if tags.len() < TAGS_MAX => drop(tags.insert(tag)),
            _ => lost.push(format!("{:?}", cut(text, 64))),
        }
    }
    if !lost.is_empty() {
        lost.truncate(10);
        warnings.push(format!("tags that cannot be kept: {}", lost.join(", ")));
    }
    tags
}

/// A note with warnings behind it, cut to what a note may have.
fn note(text: &str, warnings: &[String]) -> String {
    let warnings: String = warnings
        .iter()
        .map(|warning| format!("\n{WARNING}{warning}"))
        .collect();
    let warnings = cut(&warnings, NOTE_BYTES_MAX / 2);
    let mut note = cut(text, NOTE_BYTES_MAX - warnings.len()).to_owned();
    note.push_str(warnings);
    note.trim_start_matches('\n').to_owned()
}

/// The first bytes of a text, whole characters of it.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

impl fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.from, self.why)
    }
}
