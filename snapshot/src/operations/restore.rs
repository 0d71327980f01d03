//! Restoring: the workspace becomes equal to a snapshot, or some of its paths do.
//!
//! The root of the workspace stays what it is, so mounts and working directories stay good; nothing is renamed across file systems, so a
//! workspace that is itself a mount point is no exception.
//!
//! **Order.** What the workspace has and no snapshot does is saved first (a *safety snapshot*), unless the caller says that it may be lost.
//! Then everything that is missing is staged in a directory of the workspace that no walk enters, and synced. Until then the workspace
//! is as it was. Then the journal says that steps are taken, and they are; after a kill whoever comes next saves what the workspace is by
//! then, for somebody may have worked in it, and takes them again.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use cairn_types::{SnapshotId, Timestamp, hexadecimal};
use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, mkdirat, openat, syncfs, utimensat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::live::{Beside, Difference, Live};
use super::recover::{Recovered, recover};
use super::save::{SaveRequest, Saving};
use super::snapshots::{manifest, payload};
use super::{OperationError, audit};
use crate::archive::{Phase, Progress};
use crate::directory::place::Losses;
use crate::directory::{Digest, RelativePath, Status};
use crate::engine::{Tools, remove_tree};
use crate::manifest::ManifestReader;
use crate::repository::document::Document;
use crate::repository::layout::{RESTORE_PREFIX, document_name};
use crate::repository::{
    Area, AuditEvent, Intent, JournalRecord, Lease, OperationId, Origin, Paths, Phase as JournalPhase,
    Repository, RepositoryError, text,
};

mod stage;
mod steps;
mod swap;
mod unsaved;

use unsaved::count_differences;
pub use unsaved::count_unsaved;

/// Changes that a plan shows.
pub const PLANNED_SHOWN_MAX: usize = 10_000;

/// The directories at the root of the workspace in which restores stage, which no record of the journal names. To be called when nobody works in the
/// repository, or by who holds the lease. Errors: the workspace or the journal cannot be read.
pub(super) fn forgotten_staging(repository: &Repository) -> Result<Vec<RelativePath>, OperationError> {
    let failed = |errno: Errno| OperationError::staging(errno.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(repository.workspace(), c".", flags, Mode::empty()).map_err(failed)?;
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::new(root).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name.starts_with(RESTORE_PREFIX.as_bytes()) {
            found.extend(RelativePath::new(name));
        }
    }
    if found.is_empty() {
        return Ok(found);
    }
    for file in repository.journal()? {
        match file.record.map(|record| record.intent) {
            Ok(Intent::Restore { staging, .. }) => found.retain(|name| *name != staging),
            Ok(_) => {}
            // Nobody knows whose it is.
            Err(_) => return Ok(Vec::new()),
        }
    }
    Ok(found)
}

/// The name of what is staged under a number.
fn staged_name(number: u64) -> RelativePath {
    RelativePath::new(format!("{number:x}").as_bytes()).unwrap_or_default()
}

/// What becomes of changes that no snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsaved {
    /// They are saved in a safety snapshot.
    Save,
    /// They are lost.
    Discard,
    /// There must be none.
    Refuse,
}

/// What is to be restored.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Paths, with what is below them; nothing: everything that the snapshot holds.
    pub paths: Vec<RelativePath>,
    /// What becomes of changes that no snapshot has.
    pub unsaved: Unsaved,
    /// How long to wait for others.
    pub wait: Duration,
}

/// What a restore does to the workspace, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreTotals {
    /// Entries that are made.
    pub added: u64,
    /// Entries that are replaced, or get other attributes.
    pub changed: u64,
    /// Entries that go.
    pub removed: u64,
    /// Bytes of the files that are made.
    pub bytes: u64,
}

/// What a restore would do.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// In numbers.
    pub totals: RestoreTotals,
    /// The first [`PLANNED_SHOWN_MAX`] changes, in path order.
    pub changes: Vec<(RelativePath, Difference)>,
    /// Entries of the workspace that differ from the snapshot that it comes from.
    pub unsaved: u64,
}

/// What a restore has done.
#[derive(Debug, Clone)]
pub struct Restored {
    /// In numbers.
    pub totals: RestoreTotals,
    /// The snapshot of what was there before, if there was anything to save.
    pub safety: Option<SnapshotId>,
    /// Directories that stay because something is in them that no snapshot holds; those that were in the way have another name now.
    pub kept: Vec<RelativePath>,
    /// What could not be kept.
    pub losses: Losses,
    /// What was put right before.
    pub recovered: Vec<Recovered>,
}

/// `plans/ID.json`: what a restore that is under way works with. The journal says how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoreWork {
    /// The snapshot.
    #[serde(with = "text")]
    pub snapshot: SnapshotId,
    /// The paths that were asked for; nothing: everything.
    #[serde(with = "text::list")]
    pub paths: Vec<RelativePath>,
    /// The directory at the root of the workspace in which things are staged.
    #[serde(with = "text")]
    pub staging: RelativePath,
    /// When the root of the workspace was changed before: making and removing that directory changes it.
    #[serde(with = "text")]
    pub root_modified: Timestamp,
    /// The steps, once all is staged: those in the file `steps` of that directory.
    pub steps: Option<SealedSteps>,
}

/// The steps of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealedSteps {
    /// How many.
    pub steps: u64,
    /// The BLAKE3 hash of the file.
    #[serde(with = "text")]
    pub hash: Digest,
}

impl Document for RestoreWork {
    const KIND: &'static str = "restore-work";

    fn check(&self) -> Result<(), String> {
        let ours = self.staging.as_bytes().starts_with(RESTORE_PREFIX.as_bytes());
        match ours && self.staging.depth() == 1 {
            true => Ok(()),
            false => Err("staging is no directory of a restore".to_owned()),
        }
    }
}

/// The paths that a restore is about: those asked for, as far as the snapshot holds them.
fn scope(
    repository: &Repository,
    id: SnapshotId,
    asked: &[RelativePath],
) -> Result<Vec<RelativePath>, OperationError> {
    let held = repository.descriptor(id)?.paths.map(|paths| paths.paths);
    Ok(match (held, asked.is_empty()) {
        (None, _) => asked.to_vec(),
        (Some(held), true) => held,
        (Some(held), false) => {
            let below = |path: &RelativePath| held.iter().any(|held| path.is_within(held));
            let mut scope: Vec<RelativePath> = asked.iter().filter(|path| below(path)).cloned().collect();
            scope.extend(
                held.iter()
                    .filter(|held| asked.iter().any(|path| held.is_within(path)))
                    .cloned(),
            );
            scope.sort();
            scope.dedup();
            // No path would mean everything.
            if let (true, Some(path)) = (scope.is_empty(), asked.first()) {
                return Err(OperationError::NotHeld { path: path.clone() });
            }
            scope
        }
    })
}

/// The list of the entries of the snapshot that the workspace comes from, if there is one that can be read.
pub(super) fn head_manifest(repository: &Repository) -> Option<std::sync::Arc<ManifestReader>> {
    let head = repository.state().ok()?.head?;
    let descriptor = repository.descriptor(head).ok()?;
    manifest(repository, &descriptor).ok()
}

/// Tells what a restore would do, and changes nothing.
///
/// # Errors
/// No such snapshot; its list or its data cannot be read; the workspace cannot be read; `Cancelled`.
pub fn plan(
    repository: &Repository,
    request: &RestoreRequest,
    progress: &Progress,
) -> Result<RestorePlan, OperationError> {
    progress.enter(Phase::Preparing);
    let descriptor = repository.descriptor(request.snapshot)?;
    let (target, known) = (manifest(repository, &descriptor)?, head_manifest(repository));
    let data = payload(repository, &descriptor)?;
    let scope = scope(repository, request.snapshot, &request.paths)?;
    let unsaved = count_unsaved(repository, &scope, progress)?;
    let beside = Beside {
        target: &target,
        known: known.as_deref(),
        payload: Some(&*data),
        scope: &scope,
    };
    let mut plan = RestorePlan {
        totals: RestoreTotals::default(),
        changes: Vec::new(),
        unsaved,
    };
    for step in Live::new(repository, beside, progress)? {
        let step = step?;
        let size = step
            .target
            .as_ref()
            .map_or(0, |record| record.entry.attributes.size);
        let totals = &mut plan.totals;
        match step.difference {
            Difference::Same => continue,
            Difference::Missing => (totals.added, totals.bytes) = (totals.added + 1, totals.bytes + size),
            Difference::Surplus => totals.removed += 1,
            Difference::Attributes => totals.changed += 1,
            Difference::Kind | Difference::Data | Difference::Links => {
                (totals.changed, totals.bytes) = (totals.changed + 1, totals.bytes + size);
            }
        }
        if plan.changes.len() < PLANNED_SHOWN_MAX {
            plan.changes.push((step.path().clone(), step.difference));
        }
    }
    Ok(plan)
}

/// Restores. On return the workspace is what the snapshot says, durably.
///
/// # Errors
/// `Unsaved`; everything that a [plan](plan) or a save may meet. Before the workspace is touched everything is as it was. If steps fail, the
/// journal stays, and whoever takes the lease next goes on with the restore.
pub fn restore(
    repository: &Repository,
    tools: &Tools,
    request: &RestoreRequest,
    progress: &Progress,
) -> Result<Restored, OperationError> {
    let lease = repository.lease("restore", request.wait, progress.cancel_flag())?;
    let recovered = recover(repository, &lease, tools, progress)?;
    progress.enter(Phase::Preparing);
    let scope = scope(repository, request.snapshot, &request.paths)?;
    let safety = match request.unsaved {
        Unsaved::Discard => None,
        Unsaved::Save | Unsaved::Refuse => {
            let changes = count_unsaved(repository, &[], progress)?;
            match (changes, request.unsaved) {
                (0, _) => None,
                (changes, Unsaved::Refuse) => return Err(OperationError::Unsaved { changes }),
                _ => {
                    let mut saving = SaveRequest::new(format!("before the restore of {}", request.snapshot));
                    saving.origin = Origin::Safety {
                        restoring: request.snapshot,
                    };
                    Saving::new(repository, &lease, tools, progress)
                        .run(&saving)?
                        .made()
                }
            }
        }
    };
    let nonce: [u8; 8] = repository.control().random();
    let staging = format!("{RESTORE_PREFIX}{}", hexadecimal::text(&nonce));
    let plan = RestoreWork {
        snapshot: request.snapshot,
        paths: request.paths.clone(),
        staging: RelativePath::new(staging.as_bytes()).unwrap_or_default(),
        root_modified: root_modified(repository)?,
        steps: None,
    };
    let work = Work {
        repository,
        lease: &lease,
        scope,
    };
    let mut restored = work.run(plan, safety, progress)?;
    restored.safety = safety;
    restored.recovered = recovered;
    audit(
        repository,
        &lease,
        AuditEvent::Restore,
        Some(request.snapshot),
        &[
            ("added", restored.totals.added.to_string()),
            ("changed", restored.totals.changed.to_string()),
            ("removed", restored.totals.removed.to_string()),
            ("safety", safety.map(|id| id.to_string()).unwrap_or_default()),
        ],
    );
    lease.release()?;
    Ok(restored)
}

/// A restore under a lease.
struct Work<'a> {
    repository: &'a Repository,
    lease: &'a Lease,
    scope: Vec<RelativePath>,
}

/// What became of a restore that was interrupted.
pub(super) enum Resumed {
    /// The workspace was as before, and is so still.
    Undone,
    /// The workspace is what the snapshot says. What it was in between is in a safety snapshot, if there was anything to save.
    Finished(Option<SnapshotId>),
    /// It cannot be finished as a whole: what was to be put in place is gone, or the workspace does not allow it. What was there before this
    /// is in a safety snapshot.
    Lost(Option<SnapshotId>),
}

/// Does what there is to do about a restore that was interrupted.
pub(super) fn resume(
    repository: &Repository,
    lease: &Lease,
    tools: &Tools,
    record: &JournalRecord,
    plan: OperationId,
    progress: &Progress,
) -> Result<(SnapshotId, Resumed), OperationError> {
    let Intent::Restore { target, staging, .. } = &record.intent else {
        return Err(OperationError::Inconsistent {
            path: RelativePath::root(),
            what: "the journal's record is of no restore",
        });
    };
    let name = document_name(&plan);
    let work: Option<RestoreWork> = match repository.control().load(Area::Plans, &name) {
        Ok(work) => work,
        Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::Newer { .. })) => {
            tracing::warn!(%error, "what an interrupted restore worked with cannot be read");
            None
        }
        Err(error) => return Err(error.into()),
    };
    if record.phase == JournalPhase::Staging {
        remove_staging(repository, staging)?;
        if let Some(work) = work {
            set_root_modified(repository, work.root_modified)?;
        }
        forget(repository, lease, record.operation, plan)?;
        return Ok((*target, Resumed::Undone));
    }
    let Some((work, sealed)) = work.and_then(|work| work.steps.map(|sealed| (work, sealed))) else {
        let safety = save_interrupted(repository, lease, tools, *target, progress)?;
        remove_staging(repository, staging)?;
        forget(repository, lease, record.operation, plan)?;
        return Ok((*target, Resumed::Lost(safety)));
    };
    let again = Work {
        repository,
        lease,
        scope: scope(repository, work.snapshot, &work.paths)?,
    };
    if record.phase == JournalPhase::Removing {
        again.clean(&work, record.operation, plan)?;
        return Ok((*target, Resumed::Finished(None)));
    }
    let safety = save_interrupted(repository, lease, tools, *target, progress)?;
    let opened = open_staging(repository, &work.staging).and_then(|staging| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let list = openat(&staging, STEPS, flags, Mode::empty())?;
        let seal = steps::StepsSeal {
            steps: sealed.steps,
            hash: sealed.hash,
        };
        Ok((staging, steps::StepReader::open(File::from(list), &seal)?))
    });
    let (staging, list) = match opened {
        Ok(opened) => opened,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidData
            ) =>
        {
            remove_staging(repository, &work.staging)?;
            forget(repository, lease, record.operation, plan)?;
            return Ok((*target, Resumed::Lost(safety)));
        }
        Err(error) => return Err(OperationError::staging(error)),
    };
    let swapped = swap::Swapper::new(repository, staging.as_fd(), true)?.run(list, lease, progress)?;
    again.finish(&work, &mut record.clone(), plan)?;
    Ok((
        *target,
        match swapped.refused {
            0 => Resumed::Finished(safety),
            _ => Resumed::Lost(safety),
        },
    ))
}

/// Saves what the workspace is in the middle of a restore: somebody may have worked in it since.
fn save_interrupted(
    repository: &Repository,
    lease: &Lease,
    tools: &Tools,
    target: SnapshotId,
    progress: &Progress,
) -> Result<Option<SnapshotId>, OperationError> {
    // An attempt before this one may have saved the same.
    if let Ok(state) = repository.state()
        && let Some(last) = state.last
        && let Ok(descriptor) = repository.descriptor(last)
        && descriptor.origin == (Origin::Safety { restoring: target })
        && let Ok(0) = count_differences(repository, &descriptor, &[], progress, |_| Ok(true))
    {
        return Ok(Some(last));
    }
    let mut saving = SaveRequest::new(format!("before the interrupted restore of {target} went on"));
    saving.origin = Origin::Safety { restoring: target };
    Ok(Saving::new(repository, lease, tools, progress)
        .run(&saving)?
        .made())
}

/// Removes what says that a restore is under way.
fn forget(
    repository: &Repository,
    lease: &Lease,
    operation: OperationId,
    plan: OperationId,
) -> Result<(), RepositoryError> {
    repository.finish(lease, operation)?;
    repository.control().remove(Area::Plans, &document_name(&plan))?;
    Ok(())
}

/// Removes a directory in which things were staged.
pub(super) fn remove_staging(repository: &Repository, name: &RelativePath) -> Result<(), OperationError> {
    let path = repository.workspace_path().join(name.as_path());
    remove_tree(
        repository.workspace(),
        name.as_path().as_os_str(),
        &path,
        1,
        &Progress::new(),
    )?;
    Ok(())
}

fn root_modified(repository: &Repository) -> Result<Timestamp, OperationError> {
    let status = Status::of(repository.workspace()).map_err(OperationError::staging)?;
    Ok(status.attributes.modified)
}

fn set_root_modified(repository: &Repository, modified: Timestamp) -> Result<(), OperationError> {
    let omit = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    let times = Timestamps {
        last_access: omit,
        last_modification: Timespec {
            tv_sec: modified.seconds(),
            tv_nsec: modified.nanoseconds().into(),
        },
    };
    match utimensat(repository.workspace(), c".", &times, AtFlags::empty()) {
        Ok(()) => Ok(()),
        // The root is somebody else's: its time is what it is.
        Err(Errno::PERM | Errno::ACCESS | Errno::ROFS) => Ok(()),
        Err(errno) => Err(OperationError::staging(errno.into())),
    }
}

/// The file of the steps.
const STEPS: &CStr = c"steps";

fn open_staging(repository: &Repository, name: &RelativePath) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(
        repository.workspace(),
        name.as_path(),
        flags,
        Mode::empty(),
    )?)
}

impl Work<'_> {
    fn run(
        &self,
        mut work: RestoreWork,
        safety: Option<SnapshotId>,
        progress: &Progress,
    ) -> Result<Restored, OperationError> {
        let repository = self.repository;
        let plan = repository.new_operation_id();
        let name = document_name(&plan);
        self.lease.check()?;
        repository.control().store(Area::Plans, &name, &work)?;
        let mut record = repository.begin(
            self.lease,
            Intent::Restore {
                plan,
                target: work.snapshot,
                safety,
                staging: work.staging.clone(),
                paths: (!work.paths.is_empty()).then(|| Paths {
                    paths: work.paths.clone(),
                }),
            },
        )?;
        let (staged, staging) = match self.stage(&work, progress) {
            Ok(staged) => staged,
            Err(error) => return Err(self.give_up(&work, record.operation, plan, error)),
        };
        work.steps = Some(SealedSteps {
            steps: staged.seal.steps,
            hash: staged.seal.hash,
        });
        // From here on it must not fail for a few bytes.
        let _spending = repository.control().spending();
        let planned = self
            .lease
            .check()
            .map_err(RepositoryError::from)
            .and_then(|()| repository.control().store(Area::Plans, &name, &work));
        if let Err(error) = planned {
            return Err(self.give_up(&work, record.operation, plan, error.into()));
        }
        record.phase = JournalPhase::Swapping;
        // Whether it was written down is not known after an error: then the next operation decides, unless that is another's.
        if let Err(error) = repository.advance(self.lease, &mut record) {
            if matches!(error, RepositoryError::Lease(_)) {
                remove_staging(repository, &work.staging)?;
            }
            return Err(error.into());
        }
        progress.enter(Phase::Finishing);
        let swapper = swap::Swapper::new(repository, staging.as_fd(), false)?;
        let swapped = swapper.run(staged.steps, self.lease, progress)?;
        self.finish(&work, &mut record, plan)?;
        if let Some(first) = swapped.first_refused {
            return Err(OperationError::Incomplete {
                refused: swapped.refused,
                safety,
                source: first,
            });
        }
        let mut losses = staged.losses;
        losses.merge(&swapped.losses);
        Ok(Restored {
            totals: staged.totals,
            safety: None,
            kept: swapped.kept,
            losses,
            recovered: Vec::new(),
        })
    }

    /// Nothing in the workspace was changed: removes what was made. Gives the error that led to it.
    fn give_up(
        &self,
        work: &RestoreWork,
        operation: OperationId,
        plan: OperationId,
        error: OperationError,
    ) -> OperationError {
        let repository = self.repository;
        let undone = remove_staging(repository, &work.staging)
            .and_then(|()| set_root_modified(repository, work.root_modified))
            .and_then(|()| Ok(forget(repository, self.lease, operation, plan)?));
        if let Err(error) = undone {
            tracing::warn!(%error, "what a restore made on the way cannot be removed; the next operation does");
        }
        error
    }

    /// All steps are taken.
    fn finish(
        &self,
        work: &RestoreWork,
        record: &mut JournalRecord,
        plan: OperationId,
    ) -> Result<(), OperationError> {
        let repository = self.repository;
        sync(repository)?;
        let mut state = repository.state()?;
        match self.scope.is_empty() {
            true => state = state.restored(work.snapshot, None),
            false => {
                for path in &self.scope {
                    state = state.restored(work.snapshot, Some(path));
                }
            }
        }
        repository.set_state(self.lease, &state)?;
        // From here on a kill means that nothing is left to do but this.
        record.phase = JournalPhase::Removing;
        repository.advance(self.lease, record)?;
        self.clean(work, record.operation, plan)
    }

    /// Removes what the restore has worked with.
    fn clean(
        &self,
        work: &RestoreWork,
        operation: OperationId,
        plan: OperationId,
    ) -> Result<(), OperationError> {
        let repository = self.repository;
        remove_staging(repository, &work.staging)?;
        if self.scope.is_empty() {
            let descriptor = repository.descriptor(work.snapshot)?;
            if let Some(root) = manifest(repository, &descriptor)?.find(&RelativePath::root())? {
                set_root_modified(repository, root.entry.attributes.modified)?;
            }
        }
        forget(repository, self.lease, operation, plan)?;
        Ok(())
    }

    /// Stages everything; durable on return.
    fn stage(
        &self,
        work: &RestoreWork,
        progress: &Progress,
    ) -> Result<(stage::Staged, OwnedFd), OperationError> {
        let repository = self.repository;
        let descriptor = repository.descriptor(work.snapshot)?;
        let (target, known) = (manifest(repository, &descriptor)?, head_manifest(repository));
        let data = payload(repository, &descriptor)?;
        mkdirat(repository.workspace(), work.staging.as_path(), Mode::RWXU)
            .map_err(|errno| OperationError::staging(errno.into()))?;
        set_root_modified(repository, work.root_modified)?;
        let staging = open_staging(repository, &work.staging).map_err(OperationError::staging)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let list = openat(&staging, STEPS, flags, Mode::RUSR | Mode::WUSR);
        let list = File::from(list.map_err(|errno| OperationError::staging(errno.into()))?);
        progress.enter(Phase::Transferring);
        let own = staging.try_clone().map_err(OperationError::staging)?;
        let beside = Beside {
            target: &target,
            known: known.as_deref(),
            payload: Some(&*data),
            scope: &self.scope,
        };
        let live = Live::new(repository, beside, progress)?;
        let stager = stage::Stager::new(&target, &*data, &self.scope, progress, own, list)?;
        let staged = stager.run(live)?;
        sync(repository)?;
        Ok((staged, staging))
    }
}

/// Makes durable what was written to the file system of the workspace.
fn sync(repository: &Repository) -> Result<(), OperationError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let synced = openat(repository.workspace(), c".", flags, Mode::empty()).and_then(syncfs);
    synced.map_err(|errno| OperationError::staging(errno.into()))
}
