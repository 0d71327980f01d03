//! Removing snapshots: by retention, in a plan that is looked at first, or one that somebody names.
//!
//! A plan tells of every snapshot whether it is kept, and why. It is carried out only if the same would be decided now: otherwise it
//! is stale, and nothing goes. A snapshot ends with its descriptor; a kill afterwards leaves residue, which the next operation removes.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::Duration;

use cairn_types::{ErrorKind, SnapshotId, Timestamp, with_causes};
use rustix::fs::{AtFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::recover::{recover_what_fits, remove_archive, uses_store};
use super::store::{remove_temporaries, store};
use super::verify::VERIFIED_SUFFIX;
use super::{OperationError, audit};
use crate::archive::{Phase, Progress, ReclaimOptions};
use crate::engine::{EngineKind, Tools, remove_snapshot};
use crate::repository::document::Document;
use crate::repository::idempotency::KEPT;
use crate::repository::layout::document_name;
use crate::repository::retention::{Decision, Protection, Reason, Verdict, decide};
use crate::repository::{
    Area, AuditEvent, Intent, JournalRecord, Lease, Listing, OperationId, Repository, RepositoryError, text,
};

/// Most plans that are kept; older ones go when a new one is made.
pub const PLANS_MAX: usize = 16;

/// What would be removed, and why.
#[derive(Debug)]
pub struct CollectPlan {
    /// Its name, to carry it out.
    pub id: OperationId,
    /// When it was made.
    pub created: Timestamp,
    /// Of every snapshot, oldest first.
    pub verdicts: Vec<Verdict>,
    /// Bytes of the files of each snapshot that goes. What shares its data with others frees less.
    pub bytes: BTreeMap<SnapshotId, u64>,
    /// By how many snapshots and bytes those that are protected exceed the maxima.
    pub over: (u64, u64),
    /// Snapshots whose descriptors cannot be read: they are kept.
    pub damaged: Vec<SnapshotId>,
}

impl CollectPlan {
    /// The snapshots that go.
    pub fn removed(&self) -> impl Iterator<Item = SnapshotId> {
        self.verdicts
            .iter()
            .filter(|verdict| !verdict.keep)
            .map(|verdict| verdict.id)
    }
}

/// `plans/ID.json`: what a plan would remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPlan {
    #[serde(with = "text")]
    created: Timestamp,
    #[serde(with = "text::list")]
    removed: Vec<SnapshotId>,
    #[serde(with = "text::list")]
    kept: Vec<SnapshotId>,
}

impl Document for StoredPlan {
    const KIND: &'static str = "collect-plan";

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The snapshots.
    pub removed: Vec<SnapshotId>,
    /// Snapshots that stay because somebody reads them.
    pub read: Vec<SnapshotId>,
    /// Files and directories of their trees.
    pub entries: u64,
}

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// There is no such plan.
    #[error("there is no plan {plan}: `cairn gc plan` makes one")]
    NoPlan {
        /// What was asked for.
        plan: String,
    },
    /// Something has changed since the plan was made.
    #[error("plan {plan} is stale: {what}; make a new one")]
    Stale {
        /// The plan.
        plan: OperationId,
        /// What has changed.
        what: String,
    },
    /// The repository needs the snapshot, or somebody has pinned it.
    #[error("snapshot {id} cannot be removed: {why}")]
    Protected {
        /// The snapshot.
        id: SnapshotId,
        /// Why.
        why: &'static str,
    },
    /// Something else.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl CollectError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            CollectError::NoPlan { .. } => ErrorKind::NotFound,
            CollectError::Stale { .. } | CollectError::Protected { .. } => ErrorKind::Conflict,
            CollectError::Operation(error) => error.kind(),
        }
    }
}

impl From<RepositoryError> for CollectError {
    fn from(error: RepositoryError) -> Self {
        CollectError::Operation(error.into())
    }
}

fn decision(
    repository: &Repository,
    own: Option<&JournalRecord>,
) -> Result<(Listing, Decision), OperationError> {
    let listing = repository.list()?;
    let config = repository.config()?;
    let facts = repository.retention_facts(&listing, own, |descriptor| descriptor.counts.bytes)?;
    let now = repository.parts().clock.now();
    let decision = decide(&facts, &config.policy(), now, &config.retention.time_zone.0);
    Ok((listing, decision))
}

/// Decides by the policy of the configuration, and writes the plan down. Nothing is removed.
///
/// # Errors
/// The lease; the state or the configuration cannot be read; I/O.
pub fn plan(
    repository: &Repository,
    tools: &Tools,
    wait: Duration,
    progress: &Progress,
) -> Result<CollectPlan, OperationError> {
    let _spending = repository.control().spending();
    let lease = repository.lease("gc plan", wait, progress.cancel_flag())?;
    recover_what_fits(repository, &lease, tools, progress)?;
    let (listing, decision) = decision(repository, None)?;
    let sizes: BTreeMap<SnapshotId, u64> = listing
        .snapshots
        .iter()
        .map(|snapshot| (snapshot.descriptor.id, snapshot.descriptor.counts.bytes))
        .collect();
    let plan = CollectPlan {
        id: repository.new_operation_id(),
        created: repository.parts().clock.now(),
        bytes: decision
            .removed()
            .filter_map(|id| sizes.get(&id).map(|bytes| (id, *bytes)))
            .collect(),
        over: (decision.over_count, decision.over_bytes),
        damaged: listing.damaged.iter().map(|(id, _)| *id).collect(),
        verdicts: decision.verdicts,
    };
    let kept = plan
        .verdicts
        .iter()
        .filter(|verdict| verdict.keep)
        .map(|verdict| verdict.id);
    let stored = StoredPlan {
        created: plan.created,
        removed: plan.removed().collect(),
        kept: kept.collect(),
    };
    lease.check()?;
    repository
        .control()
        .store(Area::Plans, &document_name(&plan.id), &stored)?;
    prune_plans(repository, &lease, plan.id)?;
    lease.release()?;
    Ok(plan)
}

/// Removes all but the newest plans, and those that cannot be read. `kept` stays, whatever the clock says.
fn prune_plans(repository: &Repository, lease: &Lease, kept: OperationId) -> Result<(), OperationError> {
    let control = repository.control();
    let mut plans = Vec::new();
    for name in control.list(Area::Plans)? {
        if name == document_name(&kept)
            || control.kind_of(Area::Plans, &name).as_deref() != Some(StoredPlan::KIND)
        {
            continue;
        }
        let created = match control.load::<StoredPlan>(Area::Plans, &name) {
            Ok(Some(plan)) => Some(plan.created),
            Ok(None) => continue,
            Err(RepositoryError::Damaged { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        plans.push((created, name));
    }
    plans.sort();
    let surplus = (plans.len() + 1).saturating_sub(PLANS_MAX);
    let damaged = plans.iter().filter(|(created, _)| created.is_none()).count();
    for (_, name) in plans.into_iter().take(surplus.max(damaged)) {
        lease.check()?;
        control.remove(Area::Plans, &name)?;
    }
    Ok(())
}

/// Carries out a plan, if it is what would be decided now. Then the keys of old requests are forgotten, too
/// ([`Repository::forget_requests`]).
///
/// # Errors
/// `NoPlan`, `Stale`; those of [`plan`]; a tree cannot be removed: its snapshot is gone all the same, and the next operation goes on.
pub fn run(
    repository: &Repository,
    tools: &Tools,
    id: OperationId,
    wait: Duration,
    progress: &Progress,
) -> Result<Collected, CollectError> {
    let _spending = repository.control().spending();
    let lease = repository
        .lease("gc run", wait, progress.cancel_flag())
        .map_err(OperationError::from)?;
    recover_what_fits(repository, &lease, tools, progress)?;
    let name = document_name(&id);
    let stored: Option<StoredPlan> = repository.control().load(Area::Plans, &name)?;
    let stored = stored.ok_or_else(|| CollectError::NoPlan { plan: id.to_string() })?;
    let (_, decision) = decision(repository, None)?;
    let now: Vec<SnapshotId> = decision.removed().collect();
    let kept: Vec<SnapshotId> = decision
        .verdicts
        .iter()
        .filter(|verdict| verdict.keep)
        .map(|verdict| verdict.id)
        .collect();
    if now != stored.removed || kept != stored.kept {
        let what = format!(
            "it removes {} and keeps {} snapshots, and now {} would go and {} stay",
            stored.removed.len(),
            stored.kept.len(),
            now.len(),
            kept.len()
        );
        return Err(CollectError::Stale { plan: id, what });
    }
    let collected = remove(repository, tools, &lease, now, progress)?;
    forget_requests(repository, &lease)?;
    repository.control().remove(Area::Plans, &name)?;
    lease.release().map_err(OperationError::from)?;
    Ok(collected)
}

/// Forgets the keys of requests that nobody repeats any more. That they cannot be removed fails nothing: the snapshots are gone. Errors: the lease is
/// lost.
fn forget_requests(repository: &Repository, lease: &Lease) -> Result<(), OperationError> {
    let now = repository.parts().clock.now();
    // A span of days fits.
    let before = Timestamp::new(now.seconds().saturating_sub(KEPT.as_secs() as i64), 0);
    match repository.forget_requests(lease, before, KEPT) {
        Ok(0) => {}
        Ok(keys) => audit(
            repository,
            lease,
            AuditEvent::Collect,
            None,
            &[("keys", keys.to_string())],
        ),
        Err(error @ RepositoryError::Lease(_)) => return Err(error.into()),
        Err(error) => {
            tracing::warn!(
                error = with_causes(&error),
                "keys of old requests cannot be removed"
            );
        }
    }
    Ok(())
}

/// Removes one snapshot, whatever retention says of it; not one that is pinned, read, or where the workspace's content comes from.
///
/// # Errors
/// No such snapshot; `Protected`; those of [`run`].
pub fn delete(
    repository: &Repository,
    tools: &Tools,
    id: SnapshotId,
    wait: Duration,
    progress: &Progress,
) -> Result<Collected, CollectError> {
    let _spending = repository.control().spending();
    let lease = repository
        .lease("delete", wait, progress.cancel_flag())
        .map_err(OperationError::from)?;
    recover_what_fits(repository, &lease, tools, progress)?;
    let (listing, decision) = decision(repository, None)?;
    let damaged = listing.damaged.iter().any(|(damaged, _)| *damaged == id);
    let verdict = decision.verdicts.iter().find(|verdict| verdict.id == id);
    if !damaged {
        let verdict = verdict.ok_or_else(|| RepositoryError::NotFound {
            reference: id.to_string(),
        })?;
        let why = verdict.reasons.iter().find_map(|reason| match reason {
            Reason::Pinned(_) => Some("it is pinned: `cairn unpin` it first"),
            Reason::Protected(Protection::Head) => {
                Some("the workspace's content comes from it: save the workspace first, or restore another")
            }
            Reason::Protected(Protection::Reader) => Some("somebody reads it: wait until that has ended"),
            Reason::Protected(Protection::Operation) => {
                Some("an operation needs it: wait until that has ended")
            }
            Reason::Protected(Protection::LabelsUnreadable) => {
                Some("its labels cannot be read, and perhaps it is pinned: set them again with `cairn note`")
            }
            _ => None,
        });
        if let Some(why) = why {
            return Err(CollectError::Protected { id, why });
        }
    }
    let collected = remove(repository, tools, &lease, vec![id], progress)?;
    lease.release().map_err(OperationError::from)?;
    Ok(collected)
}

fn remove(
    repository: &Repository,
    tools: &Tools,
    lease: &Lease,
    ids: Vec<SnapshotId>,
    progress: &Progress,
) -> Result<Collected, OperationError> {
    progress.enter(Phase::Removing);
    progress.expect(ids.len() as u64, 0);
    let record = repository.begin(
        lease,
        Intent::Collect {
            snapshots: ids.clone(),
        },
    )?;
    let control = repository.control();
    let mut collected = Collected::default();
    let mut archives = false;
    for id in ids {
        if progress.is_cancelled() {
            break;
        }
        let descriptor = repository.descriptor(id);
        // Of one that cannot be read nobody knows.
        let is_archive = match &descriptor {
            Ok(descriptor) => descriptor.engine.used == EngineKind::Archive.text(),
            Err(_) => uses_store(repository),
        };
        if repository.readers()?.snapshots.contains(&id) {
            collected.read.push(id);
            continue;
        }
        repository.unpublish(lease, id)?;
        // Readers say so first, and look for the descriptor then.
        if let (true, Ok(descriptor)) = (repository.readers()?.snapshots.contains(&id), &descriptor) {
            repository.publish(lease, descriptor)?;
            collected.read.push(id);
            continue;
        }
        if is_archive {
            remove_archive(repository, id)?;
            archives = true;
        }
        repository.remove_labels(lease, id)?;
        repository.remove_verification(id)?;
        let lists = control.area(Area::Manifests)?;
        for name in [id.to_string(), format!("{id}{VERIFIED_SUFFIX}")] {
            match unlinkat(&lists, name.as_str(), AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => {
                    let path = control.path_of(Area::Manifests, &name);
                    return Err(RepositoryError::io("removing", &path, error.into()).into());
                }
            }
        }
        let trees = control.area(Area::Snapshots)?;
        let path = control.path_of(Area::Snapshots, &id.to_string());
        let name = id.to_string();
        let removed = remove_snapshot(tools, trees.as_fd(), name.as_ref(), &path, 2, &Progress::new())?;
        collected.entries += removed.files + removed.directories;
        collected.removed.push(id);
        progress.add(1, 0);
        audit(repository, lease, AuditEvent::Remove, Some(id), &[]);
    }
    if archives {
        remove_temporaries(repository, lease)?;
        reclaim(repository, progress)?;
    }
    repository.finish(lease, record.operation)?;
    Ok(collected)
}

/// Frees what no archive needs any more. Nobody else writes to the store while the lease is held. Packs that somebody may be reading are
/// condemned only, and removed when snapshots are removed next.
fn reclaim(repository: &Repository, progress: &Progress) -> Result<(), OperationError> {
    let readers = repository.readers()?;
    let alone = readers.snapshots.is_empty() && readers.unknown.is_empty();
    let (rounds, options) = match alone {
        // One condemns, one removes.
        true => (
            2,
            ReclaimOptions {
                grace: Duration::ZERO,
                ..ReclaimOptions::default()
            },
        ),
        false => (1, ReclaimOptions::default()),
    };
    for _ in 0..rounds {
        store(repository)?.reclaim(&options, progress, &mut |_| {})?;
    }
    Ok(())
}
