//! The snapshots of a repository, newest first, as people look for them; and which of them comes from which.

use std::collections::{HashMap, HashSet};

use cairn_types::{SnapshotId, Tag};

use super::OperationError;
use super::differences::{Side, differs};
use crate::archive::Progress;
use crate::directory::RelativePath;
use crate::repository::{Descriptor, Origin, Repository, RepositoryError, Snapshot};

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct HistoryRequest {
    /// A part of the note, whatever its case; nothing: any.
    pub grep: Option<String>,
    /// Tags that it has.
    pub tags: Vec<Tag>,
    /// Safety snapshots too.
    pub all: bool,
    /// Something at this path, or below it, is not as in the snapshot that it comes from.
    pub path: Option<RelativePath>,
    /// Its number is smaller.
    pub before: Option<u64>,
    /// Most that are told; nothing: all.
    pub limit: Option<usize>,
}

/// What was found.
#[derive(Debug)]
pub struct History {
    /// The snapshots, newest first.
    pub snapshots: Vec<Snapshot>,
    /// Of each, the nearest of the others that its content comes from.
    pub from: Vec<Option<SnapshotId>>,
    /// There are older ones that fit.
    pub more: bool,
    /// Snapshots of the repository that can be read.
    pub total: usize,
    /// Safety snapshots that are not told, for nobody asked for them.
    pub hidden: usize,
    /// Snapshots that cannot be read, and why.
    pub damaged: Vec<(SnapshotId, RepositoryError)>,
    /// Where the workspace's content comes from, if that can be told.
    pub head: Option<SnapshotId>,
}

impl HistoryRequest {
    fn fits(&self, snapshot: &Snapshot, grep: Option<&str>) -> bool {
        let labels = &snapshot.labels;
        (self.all || !is_safety(snapshot))
            && self
                .before
                .is_none_or(|before| snapshot.descriptor.sequence < before)
            && self.tags.iter().all(|tag| labels.tags.contains(tag))
            && grep.is_none_or(|text| labels.note.to_lowercase().contains(text))
    }
}

fn is_safety(snapshot: &Snapshot) -> bool {
    matches!(snapshot.descriptor.origin, Origin::Safety { .. })
}

/// Looks for snapshots.
///
/// # Errors
/// The repository cannot be read; with a path, the list or the data of a snapshot cannot be read; `Cancelled`.
pub fn history(
    repository: &Repository,
    request: &HistoryRequest,
    progress: &Progress,
) -> Result<History, OperationError> {
    // Everything can be listed without a state, but for where the content comes from.
    let head = repository.state().ok().and_then(|state| state.head);
    let listing = repository.list()?;
    let limit = request.limit.unwrap_or(usize::MAX);
    let grep = request.grep.as_ref().map(|text| text.to_lowercase());
    let ancestors = Ancestors::new(&listing.snapshots);
    let mut chosen = Vec::new();
    let mut more = false;
    for snapshot in listing.snapshots.iter().rev() {
        if progress.is_cancelled() {
            return Err(OperationError::Cancelled);
        }
        if !request.fits(snapshot, grep.as_deref()) {
            continue;
        }
        if chosen.len() >= limit {
            // With a path, perhaps none of them fits.
            more = true;
            break;
        }
        if let Some(path) = &request.path
            && !changes(repository, &ancestors, &snapshot.descriptor, path)?
        {
            continue;
        }
        chosen.push(&snapshot.descriptor);
    }
    let told: HashSet<SnapshotId> = chosen.iter().map(|descriptor| descriptor.id).collect();
    let from = chosen
        .iter()
        .map(|descriptor| {
            let from = ancestors.nearest(descriptor, |ancestor| told.contains(&ancestor.id));
            from.map(|descriptor| descriptor.id)
        })
        .collect();
    let hidden = match request.all {
        true => 0,
        false => listing
            .snapshots
            .iter()
            .filter(|snapshot| is_safety(snapshot))
            .count(),
    };
    let total = listing.snapshots.len();
    let mut snapshots = listing.snapshots;
    snapshots.retain(|snapshot| told.contains(&snapshot.descriptor.id));
    snapshots.reverse();
    Ok(History {
        snapshots,
        from,
        more,
        total,
        hidden,
        damaged: listing.damaged,
        head,
    })
}

/// Whether something at `path` is not as in the snapshot that a snapshot comes from.
fn changes(
    repository: &Repository,
    ancestors: &Ancestors,
    descriptor: &Descriptor,
    path: &RelativePath,
) -> Result<bool, OperationError> {
    let holds = |descriptor: &Descriptor| {
        let paths = descriptor.paths.as_ref();
        paths.is_none_or(|paths| paths.paths.iter().any(|held| path.is_within(held)))
    };
    if !holds(descriptor) {
        return Ok(false);
    }
    let after = Side::open(repository, descriptor.clone())?;
    match ancestors.nearest(descriptor, holds) {
        Some(before) => differs(&Side::open(repository, before.clone())?, &after, path),
        None => Ok(after.manifest.find(path)?.is_some()),
    }
}

/// Which snapshot comes from which.
struct Ancestors {
    descriptors: HashMap<SnapshotId, Descriptor>,
}

impl Ancestors {
    fn new(snapshots: &[Snapshot]) -> Self {
        let descriptors = snapshots.iter().map(|snapshot| &snapshot.descriptor);
        Ancestors {
            descriptors: descriptors
                .map(|descriptor| (descriptor.id, descriptor.clone()))
                .collect(),
        }
    }

    /// The nearest snapshot that the content of `of` comes from and that fits.
    fn nearest(&self, of: &Descriptor, fits: impl Fn(&Descriptor) -> bool) -> Option<&Descriptor> {
        let mut at = of;
        loop {
            let next = self.descriptors.get(&at.restored_from.or(at.parent)?)?;
            // What comes from itself is a forged file.
            if next.sequence >= at.sequence {
                return None;
            }
            if fits(next) {
                return Some(next);
            }
            at = next;
        }
    }
}
