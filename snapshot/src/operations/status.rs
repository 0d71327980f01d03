//! How a workspace is: where its content comes from, what has changed since, and what a save would do. Nothing is changed.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use cairn_types::{SnapshotId, with_causes};

use super::OperationError;
use super::differences::{DifferenceKind, EntryDifference, Told, live};
use crate::archive::Progress;
use crate::directory::RelativePath;
use crate::engine::{Choice, EngineError, EngineKind, Site, Tools, choose};
use crate::repository::{
    Area, Intent, LeaseRecord, PartSource, Repository, RepositoryError, Snapshot, State,
};

/// Changes that are told.
pub const CHANGES_TOLD_MAX: usize = 20;

/// How a workspace is.
#[derive(Debug)]
pub struct Status {
    /// What the state says.
    pub state: State,
    /// Snapshots that can be read.
    pub snapshots: usize,
    /// The others, and why.
    pub damaged: Vec<(SnapshotId, RepositoryError)>,
    /// The newest that is no safety snapshot, if it can be read.
    pub newest: Option<Snapshot>,
    /// Where the content comes from, if that is another one.
    other_head: Option<Snapshot>,
    /// What has changed since; nothing if nothing is saved yet.
    pub changes: Option<Changes>,
    /// What a save would use now, or why that cannot be told.
    pub engine: Result<Choice, String>,
    /// What was interrupted and is put right by the next operation.
    pub unfinished: Vec<Unfinished>,
    /// Who works in the repository.
    pub in_use: Option<LeaseRecord>,
}

impl Status {
    /// Where the content comes from, if it can be read.
    pub fn head(&self) -> Option<&Snapshot> {
        match self.state.head == self.state.newest {
            true => self.newest.as_ref(),
            false => self.other_head.as_ref(),
        }
    }
}

/// What has changed since the content was restored or saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries that are new.
    pub added: u64,
    /// Entries that are gone.
    pub removed: u64,
    /// Entries with other data.
    pub modified: u64,
    /// Entries of another type.
    pub retyped: u64,
    /// Entries with other properties.
    pub attributes: u64,
    /// Directories in which nothing differs but their time.
    pub directory_times: u64,
    /// The first [`CHANGES_TOLD_MAX`].
    pub first: Vec<EntryDifference>,
}

impl Changes {
    /// All but the times of directories.
    pub fn total(&self) -> u64 {
        self.added + self.removed + self.modified + self.retyped + self.attributes
    }

    fn add(&mut self, difference: EntryDifference) {
        *match difference.kind {
            DifferenceKind::Added => &mut self.added,
            DifferenceKind::Removed => &mut self.removed,
            DifferenceKind::Modified => &mut self.modified,
            DifferenceKind::Retyped => &mut self.retyped,
            DifferenceKind::Attributes => &mut self.attributes,
        } += 1;
        if self.first.len() < CHANGES_TOLD_MAX {
            self.first.push(difference);
        }
    }
}

/// Something that was interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfinished {
    /// A save.
    Save,
    /// A restore of this snapshot.
    Restore(SnapshotId),
    /// A fork.
    Fork,
    /// A removal of snapshots.
    Collect,
    /// Something of which the record is damaged, and how.
    Unreadable(String),
    /// So many captures are left in the staging area.
    Captures(u64),
}

/// How a workspace is. `wished` is the engine that is asked for besides the configuration's.
///
/// # Errors
/// The repository, the workspace or the snapshot that it comes from cannot be read; `Cancelled`.
pub fn status(
    repository: &Repository,
    tools: &Tools,
    wished: Option<EngineKind>,
    progress: &Progress,
) -> Result<Status, OperationError> {
    let state = repository.state()?;
    let mut listing = repository.list()?;
    let in_use = repository.lease_holder()?;
    let changes = match state.head {
        Some(head) => Some(changes(repository, &state, head, progress)?),
        None => None,
    };
    // Who works in the repository removes what is probed with.
    let (engine, unfinished) = match &in_use {
        None => (
            probe(repository, tools, wished).map_err(|error| with_causes(&error)),
            unfinished(repository)?,
        ),
        Some(_) => (
            Err("not looked for while somebody works in the repository".to_owned()),
            Vec::new(),
        ),
    };
    let snapshots = listing.snapshots.len();
    let mut find = |id: Option<SnapshotId>| {
        let at = listing
            .snapshots
            .iter()
            .position(|snapshot| Some(snapshot.descriptor.id) == id)?;
        Some(listing.snapshots.swap_remove(at))
    };
    let newest = find(state.newest);
    let other_head = match state.head == state.newest {
        true => None,
        false => find(state.head),
    };
    Ok(Status {
        state,
        snapshots,
        damaged: listing.damaged,
        newest,
        other_head,
        changes,
        engine,
        unfinished,
        in_use,
    })
}

/// The engine that a save would use now, if this one is wished for. Errors: the engine that is wished for cannot be used; I/O.
pub fn probe(
    repository: &Repository,
    tools: &Tools,
    wished: Option<EngineKind>,
) -> Result<Choice, EngineError> {
    let control = repository.control();
    let staging_path = control.path_of(Area::Staging, "");
    let staging = control.area(Area::Staging).map_err(|error| EngineError::Io {
        what: "open",
        path: staging_path.clone(),
        source: std::io::Error::other(error),
    })?;
    let site = Site {
        workspace: repository.workspace(),
        workspace_path: repository.workspace_path(),
        staging: staging.as_fd(),
        staging_path: &staging_path,
    };
    choose(&site, wished, tools)
}

/// Compares the workspace with what its content comes from: head, but for the parts that were restored from other snapshots since.
fn changes(
    repository: &Repository,
    state: &State,
    head: SnapshotId,
    progress: &Progress,
) -> Result<Changes, OperationError> {
    let mut changes = Changes::default();
    let exists = |part: &&PartSource| repository.descriptor(part.snapshot).is_ok();
    let parts: Vec<&PartSource> = state.parts.iter().filter(exists).collect();
    // The part that was restored last counts.
    let source = |path: &RelativePath| {
        let part = parts.iter().rev().find(|part| path.is_within(&part.path));
        part.map_or(head, |part| part.snapshot)
    };
    let mut sources: BTreeMap<SnapshotId, Vec<RelativePath>> = BTreeMap::new();
    for part in parts.iter().filter(|part| part.snapshot != head) {
        sources.entry(part.snapshot).or_default().push(part.path.clone());
    }
    let all = std::iter::once((head, Vec::new())).chain(sources);
    for (from, paths) in all {
        live(repository, from, &paths, progress, |told| {
            match told {
                Told::DirectoryTime(path) if source(&path) == from => changes.directory_times += 1,
                Told::Difference(difference) if source(&difference.path) == from => changes.add(difference),
                Told::DirectoryTime(_) | Told::Difference(_) => {}
            }
            Ok::<(), OperationError>(())
        })?;
    }
    Ok(changes)
}

/// What an interrupted operation has left, for the next one to put right. Nobody works in the repository.
fn unfinished(repository: &Repository) -> Result<Vec<Unfinished>, OperationError> {
    let journal = repository.journal()?;
    let mut unfinished: Vec<Unfinished> = journal
        .iter()
        .map(|file| match file.record.as_ref().map(|record| &record.intent) {
            Ok(Intent::Save { .. }) => Unfinished::Save,
            Ok(Intent::Restore { target, .. }) => Unfinished::Restore(*target),
            Ok(Intent::Fork { .. }) => Unfinished::Fork,
            Ok(Intent::Collect { .. }) => Unfinished::Collect,
            Err(error) => Unfinished::Unreadable(with_causes(error)),
        })
        .collect();
    let staged = repository.control().list(Area::Staging)?.len();
    if staged > 0 {
        unfinished.push(Unfinished::Captures(staged as u64));
    }
    Ok(unfinished)
}
