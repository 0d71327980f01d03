//! What the next operation does about what a kill has left. Called by whoever has taken the lease, before anything else.
//!
//! - A restore that was interrupted is undone, or finished.
//! - A state that lacks published snapshots gets them.
//! - What belongs to no snapshot goes: captures in the staging area, trees and lists without a descriptor.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use cairn_types::SnapshotId;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use super::restore::{Resumed, resume};
use super::save::TREE;
use super::store::store;
use super::{OperationError, audit};
use crate::archive::{ArchiveError, Progress};
use crate::engine::{Tools, remove_snapshot};
use crate::repository::{
    Area, AuditEvent, Descriptor, Intent, Lease, OperationId, Repository, RepositoryError, State,
};

/// Something that was put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// A restore that was interrupted before it changed anything: the workspace is as it was.
    RestoreUndone(SnapshotId),
    /// A restore that was interrupted was finished; what was there in between is in the safety snapshot, if there was anything to save.
    RestoreFinished(SnapshotId, Option<SnapshotId>),
    /// A restore cannot be finished as a whole: what it had staged is gone, or the workspace does not allow it. Restore again. What was there
    /// in between is in the safety snapshot.
    RestoreLost(SnapshotId, Option<SnapshotId>),
    /// The state lacked snapshots that exist.
    StateCompleted,
    /// Captures, trees and lists that belong to no snapshot were removed: so many.
    ResidueRemoved(u64),
}

/// Puts right what was interrupted. Errors: a restore cannot be finished, for want of room for instance: then nothing else may be done, and
/// the next operation tries again; I/O.
pub fn recover(
    repository: &Repository,
    lease: &Lease,
    tools: &Tools,
    progress: &Progress,
) -> Result<Vec<Recovered>, OperationError> {
    let mut recovered = Vec::new();
    if complete_state(repository, lease)? {
        recovered.push(Recovered::StateCompleted);
    }
    let removed = remove_residue(repository, tools, progress)?;
    if removed > 0 {
        recovered.push(Recovered::ResidueRemoved(removed));
    }
    for file in repository.journal()? {
        let record = match file.record {
            Ok(record) => record,
            Err(error) => {
                // Nobody knows what it was about; the doctor tells of it.
                tracing::warn!(file = file.name, %error, "a record of the journal cannot be read");
                continue;
            }
        };
        match record.intent {
            Intent::Restore { plan, .. } => {
                let (snapshot, resumed) = resume(repository, lease, tools, &record, plan, progress)?;
                recovered.push(match resumed {
                    Resumed::Undone => Recovered::RestoreUndone(snapshot),
                    Resumed::Finished(safety) => Recovered::RestoreFinished(snapshot, safety),
                    Resumed::Lost(safety) => Recovered::RestoreLost(snapshot, safety),
                });
            }
            // Only archives are announced: theirs is complete without a descriptor.
            Intent::Save { snapshot, .. } => {
                remove_archives(repository, lease, record.operation, &[snapshot])?;
            }
            Intent::Collect { snapshots } => {
                remove_archives(repository, lease, record.operation, &snapshots)?;
            }
            // What it leaves belongs to no snapshot, and has been removed above.
            Intent::Fork { .. } => repository.finish(lease, record.operation)?,
        }
    }
    for what in &recovered {
        tracing::info!(?what, "put right what was interrupted");
        audit(
            repository,
            lease,
            AuditEvent::Recover,
            None,
            &[("what", format!("{what:?}"))],
        );
    }
    Ok(recovered)
}

/// Whether the state lacked something.
fn complete_state(repository: &Repository, lease: &Lease) -> Result<bool, RepositoryError> {
    let state = repository.state();
    let newest = match &state {
        Ok(state) => state.sequence,
        Err(RepositoryError::Damaged { .. }) => 0,
        Err(_) => return state.map(|_| false),
    };
    let mut missing: Vec<Descriptor> = Vec::new();
    for id in repository.snapshot_ids()? {
        // One that is damaged does not keep the others from being used.
        match repository.descriptor(id) {
            Ok(descriptor) if descriptor.sequence > newest => missing.push(descriptor),
            Ok(_) | Err(RepositoryError::Damaged { .. } | RepositoryError::Newer { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if missing.is_empty() && state.is_ok() {
        return Ok(false);
    }
    missing.sort_by_key(|descriptor| (descriptor.sequence, descriptor.created, descriptor.id));
    let state = match state {
        Ok(state) => missing
            .iter()
            .fold(state, |state, descriptor| state.after(descriptor)),
        Err(_) => State::rebuilt(&missing),
    };
    repository.set_state(lease, &state)?;
    Ok(true)
}

/// Removes what belongs to no snapshot.
fn remove_residue(
    repository: &Repository,
    tools: &Tools,
    progress: &Progress,
) -> Result<u64, OperationError> {
    let control = repository.control();
    let snapshots: BTreeSet<String> = repository
        .snapshot_ids()?
        .iter()
        .map(ToString::to_string)
        .collect();
    let read: BTreeSet<String> = repository
        .readers()?
        .snapshots
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut removed = 0;
    for area in [Area::Staging, Area::Snapshots, Area::Manifests] {
        let directory = control.area(area)?;
        for name in control.list(area)? {
            let id = name.strip_suffix(super::verify::VERIFIED_SUFFIX).unwrap_or(&name);
            if area != Area::Staging && snapshots.contains(id) {
                continue;
            }
            // Somebody reads it, or writes down what a verification finds.
            if area != Area::Staging && read.contains(name.split('.').next().unwrap_or(&name)) {
                continue;
            }
            if area == Area::Manifests {
                let gone = unlinkat(&directory, name.as_str(), AtFlags::empty());
                gone.map_err(|error| {
                    RepositoryError::io("removing", &control.path_of(area, &name), error.into())
                })?;
            } else {
                let path = control.path_of(area, &name);
                if area == Area::Staging {
                    remove_staged(tools, directory.as_fd(), &name, &path, progress)?;
                }
                remove_snapshot(tools, directory.as_fd(), name.as_ref(), &path, 2, progress)?;
            }
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes the tree of a capture, which may be a subvolume.
fn remove_staged(
    tools: &Tools,
    area: BorrowedFd<'_>,
    name: &str,
    path: &Path,
    progress: &Progress,
) -> Result<(), OperationError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(directory) = openat(area, name, flags, Mode::empty()) {
        remove_snapshot(
            tools,
            directory.as_fd(),
            TREE.as_ref(),
            &path.join(TREE),
            2,
            progress,
        )?;
    }
    Ok(())
}

/// Removes the archives of what are no snapshots, and then the record that announced them. A store that cannot be used now keeps nobody from
/// other work: the record stays.
fn remove_archives(
    repository: &Repository,
    lease: &Lease,
    operation: OperationId,
    snapshots: &[SnapshotId],
) -> Result<(), OperationError> {
    for snapshot in snapshots {
        let gone = matches!(
            repository.descriptor(*snapshot),
            Err(RepositoryError::NotFound { .. })
        );
        if gone
            && uses_store(repository)
            && let Err(error) = remove_archive(repository, *snapshot)
        {
            tracing::warn!(%snapshot, %error, "the archive of what is no snapshot cannot be removed now");
            return Ok(());
        }
    }
    Ok(repository.finish(lease, operation)?)
}

/// Whether there may be archives.
pub(super) fn uses_store(repository: &Repository) -> bool {
    let configured = repository.config().is_ok_and(|config| config.store.url.is_some());
    configured
        || repository
            .control()
            .list(Area::Store)
            .is_ok_and(|names| !names.is_empty())
}

/// Removes an archive, if there is one; what only it needed is reclaimed when snapshots are removed next.
pub(super) fn remove_archive(repository: &Repository, snapshot: SnapshotId) -> Result<bool, OperationError> {
    match store(repository)?.delete(snapshot) {
        Ok(()) => Ok(true),
        Err(ArchiveError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
