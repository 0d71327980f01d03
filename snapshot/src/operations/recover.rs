//! What the next operation does about what a kill has left. Called by whoever has taken the lease, before anything else.
//!
//! - A state that lacks published snapshots gets them.
//! - What belongs to no snapshot and to no operation goes: captures in the staging area, trees, lists, labels and outcomes without a descriptor,
//!   half-written files, leases of readers that have ended, what a put into the store has left.
//! - A restore that was interrupted is undone, or finished. Where there is no room for that, what frees room goes on without it
//!   ([`recover_what_fits`]).
//!
//! The lease is looked at right before each removal: who was stopped, and goes on when another one works, must not take that one's work for residue.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use cairn_types::{ErrorKind, SnapshotId};
use rustix::fs::{Mode, OFlags, openat};

use super::restore::{RestoreWork, Resumed, resume};
use super::save::TREE;
use super::store::{remove_temporaries, store};
use super::{OperationError, audit};
use crate::archive::{ArchiveError, Progress};
use crate::engine::{Tools, remove_snapshot};
use crate::repository::document::Document;
use crate::repository::layout::document_name;
use crate::repository::{
    Area, AuditEvent, Intent, Lease, OperationId, Repository, RepositoryError, State, Survival,
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
    /// A restore that was interrupted waits, for there is no room to finish it: whatever needs none can be done meanwhile.
    RestoreWaits(SnapshotId),
    /// Captures, trees and lists that belong to no snapshot, and other leavings, were removed: so many.
    ResidueRemoved(u64),
}

/// What becomes of a restore that there is no room to finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoRoom {
    /// Nothing else may be done.
    Fails,
    /// It waits.
    Waits,
}

/// Puts right what was interrupted. Errors: a restore cannot be finished, for want of room for instance: then nothing else may be done, and
/// the next operation tries again; I/O.
pub fn recover(
    repository: &Repository,
    lease: &Lease,
    tools: &Tools,
    progress: &Progress,
) -> Result<Vec<Recovered>, OperationError> {
    put_right(repository, lease, tools, progress, NoRoom::Fails)
}

/// The same for who does not change the workspace: a restore that lacks room waits. The snapshots that it needs are protected by its record.
/// Errors: I/O.
pub(super) fn recover_what_fits(
    repository: &Repository,
    lease: &Lease,
    tools: &Tools,
    progress: &Progress,
) -> Result<Vec<Recovered>, OperationError> {
    put_right(repository, lease, tools, progress, NoRoom::Waits)
}

fn put_right(
    repository: &Repository,
    lease: &Lease,
    tools: &Tools,
    progress: &Progress,
    no_room: NoRoom,
) -> Result<Vec<Recovered>, OperationError> {
    let mut recovered = Vec::new();
    if complete_state(repository, lease)? {
        recovered.push(Recovered::StateCompleted);
    }
    let removed = remove_residue(repository, lease, tools, progress)?;
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
                // Steps have been taken: what is left of them must not fail for a few bytes.
                let _spending = repository.control().spending();
                let resumed = resume(repository, lease, tools, &record, plan, progress);
                let (snapshot, resumed) = match (resumed, &record.intent) {
                    (Err(error), Intent::Restore { target, .. })
                        if no_room == NoRoom::Waits && error.kind() == ErrorKind::NoSpace =>
                    {
                        tracing::warn!(%error, "an interrupted restore waits for room");
                        recovered.push(Recovered::RestoreWaits(*target));
                        continue;
                    }
                    (resumed, _) => resumed?,
                };
                recovered.push(match resumed {
                    Resumed::Undone => Recovered::RestoreUndone(snapshot),
                    Resumed::Finished(safety) => Recovered::RestoreFinished(snapshot, safety),
                    Resumed::Lost(safety) => Recovered::RestoreLost(snapshot, safety),
                });
            }
            // Only archives are announced: theirs is complete without a descriptor.
            Intent::Save { snapshot, .. } => {
                remove_temporaries(repository, lease)?;
                remove_archives(repository, lease, record.operation, &[snapshot])?;
            }
            Intent::Collect { snapshots } => {
                remove_temporaries(repository, lease)?;
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

/// Whether the state lacked something. Reads the descriptors that nobody has read before, and those that the state lacks.
fn complete_state(repository: &Repository, lease: &Lease) -> Result<bool, RepositoryError> {
    let state = repository.state();
    let newest = match &state {
        Ok(state) => Some(state.sequence),
        Err(RepositoryError::Damaged { .. }) => None,
        Err(_) => return state.map(|_| false),
    };
    let known = repository.sequences();
    let ids = repository.snapshot_ids()?;
    let (mut missing, mut fresh) = (Vec::new(), Vec::new());
    for id in &ids {
        let sequence = known.get(*id);
        if sequence.is_some() && sequence <= newest {
            continue;
        }
        // One that is damaged does not keep the others from being used.
        match repository.descriptor(*id) {
            Ok(descriptor) => {
                if sequence.is_none() {
                    fresh.push((*id, descriptor.sequence));
                }
                if Some(descriptor.sequence) > newest {
                    missing.push(descriptor);
                }
            }
            Err(RepositoryError::Damaged { .. } | RepositoryError::Newer { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let is_complete = missing.is_empty() && state.is_ok();
    if !is_complete {
        missing.sort_by_key(|descriptor| (descriptor.sequence, descriptor.created, descriptor.id));
        let state = match state {
            Ok(state) => missing
                .iter()
                .fold(state, |state, descriptor| state.after(descriptor)),
            Err(_) => State::rebuilt(&missing),
        };
        repository.set_state(lease, &state)?;
    }
    repository.remember_sequences(&fresh);
    repository.tidy_sequences(&known, &ids);
    Ok(!is_complete)
}

/// The id in the name of a file that belongs to a snapshot.
fn id_in(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Whether a name of an area belongs to a snapshot, by the name of that snapshot.
fn belongs(area: Area, name: &str, is_snapshot: impl Fn(&str) -> bool) -> bool {
    let id = match area {
        Area::Manifests => name.strip_suffix(super::verify::VERIFIED_SUFFIX).unwrap_or(name),
        Area::Labels | Area::Verified => name.strip_suffix(".json").unwrap_or(name),
        _ => name,
    };
    area != Area::Staging && is_snapshot(id)
}

/// What belongs to no snapshot, by area. To be called when nobody works in the repository, or by who holds the lease.
pub(super) fn residue(repository: &Repository) -> Result<Vec<(Area, String)>, RepositoryError> {
    let control = repository.control();
    let mut names = Vec::new();
    for area in [
        Area::Staging,
        Area::Snapshots,
        Area::Manifests,
        Area::Labels,
        Area::Verified,
    ] {
        names.extend(control.list(area)?.into_iter().map(|name| (area, name)));
    }
    // Listed later: what is published has come to be before, and what is removed is residue.
    let snapshots: HashSet<String> = repository
        .snapshot_ids()?
        .iter()
        .map(ToString::to_string)
        .collect();
    names.retain(|(area, name)| !belongs(*area, name, |id| snapshots.contains(id)));
    Ok(names)
}

/// The plans of restores that no record of the journal names.
pub(super) fn plans_of_none(repository: &Repository) -> Result<Vec<String>, RepositoryError> {
    let mut needed = HashSet::new();
    for file in repository.journal()? {
        match file.record.map(|record| record.intent) {
            Ok(Intent::Restore { plan, .. }) => drop(needed.insert(document_name(&plan))),
            Ok(_) => {}
            // Nobody knows what it needs.
            Err(_) => return Ok(Vec::new()),
        }
    }
    let control = repository.control();
    let mut plans = control.list(Area::Plans)?;
    plans.retain(|name| {
        !needed.contains(name) && control.kind_of(Area::Plans, name).as_deref() == Some(RestoreWork::KIND)
    });
    Ok(plans)
}

/// Removes what belongs to no snapshot, and to no operation. Gives how many.
fn remove_residue(
    repository: &Repository,
    lease: &Lease,
    tools: &Tools,
    progress: &Progress,
) -> Result<u64, OperationError> {
    let control = repository.control();
    let mut removed = repository.remove_unfinished(lease)?;
    let readers = repository.readers()?;
    repository.remove_ended_readers(lease, &readers)?;
    for plan in plans_of_none(repository)? {
        lease.check()?;
        removed += u64::from(control.remove(Area::Plans, &plan)?);
    }
    for (area, name) in residue(repository)? {
        // Somebody reads it, or writes down what a verification finds.
        let is_read = SnapshotId::parse(id_in(&name)).is_some_and(|id| readers.snapshots.contains(&id));
        if area != Area::Staging && (is_read || !readers.unknown.is_empty()) {
            continue;
        }
        lease.check()?;
        match area {
            Area::Staging | Area::Snapshots => {
                let (directory, path) = (control.area(area)?, control.path_of(area, &name));
                if area == Area::Staging {
                    remove_staged(tools, directory.as_fd(), &name, &path, progress)?;
                }
                remove_snapshot(tools, directory.as_fd(), name.as_ref(), &path, 2, progress)?;
            }
            _ => drop(control.unlink(area, &name, Survival::Volatile)?),
        }
        removed += 1;
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
