//! What of the workspace no snapshot has: how it differs from the snapshots that its content comes from. Changes nothing.

use std::collections::BTreeMap;

use cairn_types::{ErrorKind, SnapshotId};

use crate::archive::Progress;
use crate::directory::RelativePath;
use crate::operations::OperationError;
use crate::operations::live::{Beside, Difference, Live, Step, in_scope, walk_options};
use crate::operations::snapshots::{manifest, payload};
use crate::repository::{Descriptor, PartSource, Repository, State};

/// Entries of the workspace that differ from the snapshots that they come from: head, or, of what was restored by path since, another one. All
/// entries if there is none, or none that can be read. That a directory has another time because something in it was restored is no difference.
pub fn count_unsaved(
    repository: &Repository,
    scope: &[RelativePath],
    progress: &Progress,
) -> Result<u64, OperationError> {
    let state = repository.state()?;
    if let Some(head) = state.head {
        match count_unsaved_of(repository, head, &state, scope, progress) {
            Ok(counted) => return Ok(counted),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Invalid
                ) =>
            {
                tracing::warn!(%error, "the snapshot that the workspace comes from cannot be read: all of it counts as unsaved");
            }
            Err(error) => return Err(error),
        }
    }
    let options = walk_options(repository, scope)?;
    let walk = crate::directory::walk::Walk::new(repository.workspace(), options)?;
    let mut found = 0;
    for entry in walk {
        found += u64::from(!entry?.path.is_root());
    }
    Ok(found)
}

fn count_unsaved_of(
    repository: &Repository,
    head: SnapshotId,
    state: &State,
    scope: &[RelativePath],
    progress: &Progress,
) -> Result<u64, OperationError> {
    // What a part comes from may have been removed: then head tells.
    let exists = |part: &&PartSource| repository.descriptor(part.snapshot).is_ok();
    let parts: Vec<&PartSource> = state.parts.iter().filter(exists).collect();
    // The part that was restored last counts.
    let source = |path: &RelativePath| {
        let part = parts.iter().rev().find(|part| path.is_within(&part.path));
        part.map_or(head, |part| part.snapshot)
    };
    let above_a_part = |path: &RelativePath| {
        parts
            .iter()
            .any(|part| part.path != *path && part.path.is_within(path))
    };
    let mut sources: BTreeMap<SnapshotId, Vec<RelativePath>> = BTreeMap::new();
    for part in parts.iter().filter(|part| part.snapshot != head) {
        let paths = sources.entry(part.snapshot).or_default();
        // What is asked for, as far as it is in the part, and the part, as far as that is asked for.
        match in_scope(&part.path, scope, false) {
            true => paths.push(part.path.clone()),
            false => paths.extend(scope.iter().filter(|path| path.is_within(&part.path)).cloned()),
        }
    }
    sources.retain(|_, paths| !paths.is_empty());
    let all = std::iter::once((head, scope.to_vec())).chain(sources);
    let mut changes = 0;
    for (from, paths) in all {
        let descriptor = repository.descriptor(from)?;
        changes += count_differences(repository, &descriptor, &paths, progress, |step| {
            let path = step.path();
            Ok(source(path) == from && !(above_a_part(path) && step.is_time_of_directory()?))
        })?;
    }
    Ok(changes)
}

/// Entries of the workspace that differ from a snapshot, of those that `counts` says count.
pub(super) fn count_differences(
    repository: &Repository,
    descriptor: &Descriptor,
    scope: &[RelativePath],
    progress: &Progress,
    counts: impl Fn(&Step) -> Result<bool, OperationError>,
) -> Result<u64, OperationError> {
    let target = manifest(repository, descriptor)?;
    let data = payload(repository, descriptor)?;
    let beside = Beside {
        target: &target,
        known: None,
        payload: Some(&*data),
        scope,
    };
    let mut changes = 0;
    for step in Live::new(repository, beside, progress)? {
        let step = step?;
        changes += u64::from(step.difference != Difference::Same && counts(&step)?);
    }
    Ok(changes)
}
