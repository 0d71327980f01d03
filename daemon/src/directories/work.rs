//! The work itself, by the same library as without a daemon. What was interrupted and is taken up again is told from what begins:
//!
//! - A save has a key, the client's or its own: if its snapshot exists, that is the outcome.
//! - A restore whose steps had begun is finished by the recovery that comes before anything else. One that had not begun is done now, and loses
//!   nothing that was written since: a safety snapshot is taken even if it was not asked for.
//! - Verifying passes over what was read since it was accepted.
//! - A fork is complete when it can be seen; what was written of one that is not is removed, and it begins anew.
//! - A removal that is done is done. A plan that was carried out in part is stale, which is told as interrupted.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::beneath::open_entry;
use cairn_snapshot::directory::place::Losses;
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::collect::{self, CollectError};
use cairn_snapshot::operations::fork;
use cairn_snapshot::operations::recover::{Recovered, recover};
use cairn_snapshot::operations::restore;
use cairn_snapshot::operations::save::{self, Saved};
use cairn_snapshot::operations::snapshots::manifest;
use cairn_snapshot::operations::{OperationError, verify};
use cairn_snapshot::repository::config::Compression;
use cairn_snapshot::repository::idempotency::save_description;
use cairn_snapshot::repository::reached::control_in;
use cairn_snapshot::repository::templates::{Filled, Moment};
use cairn_snapshot::repository::{self, ControlDirectory, Origin, Repository, RepositoryError, RequestKey};
use cairn_types::{ErrorKind, SnapshotId, Timestamp};

use super::DirectoriesError;
use super::outcome::{Outcome, SavedHow, SnapshotFacts, VerifiedSnapshot};
use super::requests::{
    CollectRequest, DeleteRequest, ForkRequest, Job, RestoreRequest, SaveRequest, UnsavedChanges,
    VerifyRequest,
};
use super::roots::Roots;
use crate::assembly::with_causes;
use crate::operations::{Operation, OperationIdentity};

/// Damaged files that one outcome tells.
pub const DAMAGE_TOLD_MAX: usize = 1000;
/// Snapshots that one verification reads, at most.
pub const VERIFIED_MAX: usize = 100_000;
/// How often a plan of retention that has become stale meanwhile is made again.
const PLANS_MAX: u32 = 3;

/// What work is done with.
#[derive(Debug, Clone, Copy)]
pub struct Bench<'a> {
    /// Where something may be touched.
    pub roots: &'a Roots,
    /// Programs of engines.
    pub tools: &'a Tools,
    /// How far the work is.
    pub progress: &'a Progress,
    /// The operation.
    pub identity: OperationIdentity,
}

impl<'a> Bench<'a> {
    /// The one for an operation.
    pub fn of(operation: &'a Operation, roots: &'a Roots, tools: &'a Tools) -> Self {
        Bench {
            roots,
            tools,
            progress: operation.progress(),
            identity: OperationIdentity {
                id: operation.id,
                started: operation.started,
                resumed: operation.resumed,
            },
        }
    }
}

/// Does a piece of work. Errors: those of the library; `Interrupted`.
pub fn run(repository: &Repository, job: &Job, bench: Bench<'_>) -> Result<Outcome, DirectoriesError> {
    match job {
        Job::Save(request) => save(repository, request, bench),
        Job::Restore(request) => restore(repository, request, bench),
        Job::Verify(request) => verify(repository, request, bench),
        Job::Fork(request) => fork(repository, request, bench),
        Job::Collect(request) => collect(repository, request, bench),
        Job::Delete(request) => delete(repository, request, bench),
    }
}

/// The save that the library makes of a request. Errors: no such template or engine; a key that is none.
pub fn prepare(
    repository: &Repository,
    request: &SaveRequest,
    identity: OperationIdentity,
) -> Result<save::SaveRequest, DirectoriesError> {
    let config = repository.config()?;
    let filled = match &request.template {
        Some(name) => Some(fill(repository, &config, name, identity.started)?),
        None => None,
    };
    let mut saving = save::SaveRequest::new(request.note.clone());
    saving.tags.clone_from(&request.tags);
    saving.paths.clone_from(&request.paths);
    saving.template.clone_from(&request.template);
    let description = save_description(
        &request.note,
        &request.tags,
        request.template.as_deref(),
        &request.paths,
    );
    let key = match &request.key {
        Some(key) => key.clone(),
        // Its own: taken up again, it finds what it has made.
        None => format!("cairnd/operation/{}", identity.id),
    };
    saving.key = Some(RequestKey::new(&key, &description)?);
    let mut wished = request.engine.clone();
    if let Some(filled) = filled {
        if saving.note.is_empty() {
            saving.note = filled.note;
        }
        saving.tags.extend(filled.tags);
        if request.paths.is_empty() {
            saving.paths = filled.paths;
        }
        wished = wished.or(filled.engine);
    }
    let word = wished.or_else(|| request.engine_default.clone());
    saving.engine = EngineKind::requested(word.as_deref().unwrap_or_default())?;
    saving.compression = request.compression.as_deref().map(compression).transpose()?;
    saving.skip_unchanged = request.skip_unchanged;
    saving.wait = request.asker.wait();
    if let Some(schedule) = &request.schedule {
        saving.origin = Origin::Scheduled {
            name: schedule.name.clone(),
        };
    }
    Ok(saving)
}

/// How data is compressed, by the words of the configuration. Errors: they say nothing.
pub fn compression(words: &str) -> Result<Compression, DirectoriesError> {
    words.parse().map_err(|error| DirectoriesError::Invalid {
        what: format!("{words:?} is no compression: {error}"),
    })
}

/// A template with its placeholders filled, for the moment `now`.
fn fill(
    repository: &Repository,
    config: &repository::Config,
    name: &str,
    now: Timestamp,
) -> Result<Filled, DirectoriesError> {
    let template = config.template(name).ok_or_else(|| DirectoriesError::Invalid {
        what: format!(
            "there is no template {name:?}: choose one of {}",
            config.template_names().join(", ")
        ),
    })?;
    let parts = repository.parts();
    let moment = Moment {
        now,
        zone: config.retention.time_zone.0.clone(),
        user: parts.actor.clone(),
        hostname: parts.host.name.clone(),
        arch: std::env::consts::ARCH,
    };
    template.fill(&moment).map_err(|what| DirectoriesError::Invalid {
        what: format!("template {name}: {what}"),
    })
}

fn save(
    repository: &Repository,
    request: &SaveRequest,
    bench: Bench<'_>,
) -> Result<Outcome, DirectoriesError> {
    let saving = prepare(repository, request, bench.identity)?;
    let (saved, recovered) = save::save(repository, bench.tools, &saving, bench.progress)?;
    let (how, id) = match &saved {
        Saved::New(descriptor) => (SavedHow::New, descriptor.id),
        Saved::Existing(descriptor) => match bench.identity.resumed {
            // It is its own.
            true => (SavedHow::New, descriptor.id),
            false => (SavedHow::Existing, descriptor.id),
        },
        Saved::Unchanged(id) => (SavedHow::Unchanged, *id),
    };
    let collected = match request.collect {
        true => collect_now(repository, request, bench)?,
        false => Vec::new(),
    };
    Ok(Outcome::Saved {
        how,
        snapshot: Box::new(SnapshotFacts::of(repository, id)?),
        recovered,
        collected,
    })
}

/// Removes what retention does not keep. The plan may be stale by the time that it is carried out; then there is another one.
fn collect_now(
    repository: &Repository,
    request: &SaveRequest,
    bench: Bench<'_>,
) -> Result<Vec<SnapshotId>, DirectoriesError> {
    let wait = request.asker.wait();
    let mut left = PLANS_MAX;
    loop {
        let plan = collect::plan(repository, bench.tools, wait, bench.progress)?;
        if plan.removed().next().is_none() {
            return Ok(Vec::new());
        }
        left -= 1;
        match collect::run(repository, bench.tools, plan.id, wait, bench.progress) {
            Ok(collected) => return Ok(collected.removed),
            Err(CollectError::Stale { .. }) if left > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a restore would do. Errors: those of the library; a path that is neither in the snapshot nor in the directory.
pub fn plan_restore(
    repository: &Repository,
    request: &RestoreRequest,
    progress: &Progress,
) -> Result<restore::RestorePlan, DirectoriesError> {
    Ok(restore::plan(
        repository,
        &checked(repository, request)?,
        progress,
    )?)
}

/// The restore of a request. A path that is neither in the snapshot nor in the directory is a mistake.
fn checked(
    repository: &Repository,
    request: &RestoreRequest,
) -> Result<restore::RestoreRequest, DirectoriesError> {
    if !request.paths.is_empty() {
        let descriptor = repository.descriptor(request.snapshot)?;
        let list = manifest(repository, &descriptor)?;
        for path in &request.paths {
            if list.find(path).map_err(OperationError::from)?.is_none()
                && open_entry(repository.workspace(), path).is_err()
            {
                return Err(OperationError::NoPath { path: path.clone() }.into());
            }
        }
    }
    Ok(restore::RestoreRequest {
        snapshot: request.snapshot,
        paths: request.paths.clone(),
        unsaved: request.unsaved.into(),
        wait: request.asker.wait(),
    })
}

fn restore(
    repository: &Repository,
    request: &RestoreRequest,
    bench: Bench<'_>,
) -> Result<Outcome, DirectoriesError> {
    let facts = |id| SnapshotFacts::of(repository, id).map(Box::new);
    let mut earlier = Vec::new();
    let mut restoring = checked(repository, request)?;
    if bench.identity.resumed {
        let lease = repository
            .lease("restore", request.asker.wait(), bench.progress.cancel_flag())
            .map_err(OperationError::from)?;
        earlier = recover(repository, &lease, bench.tools, bench.progress)?;
        lease.release().map_err(OperationError::from)?;
        let finished = earlier.iter().find_map(|what| match what {
            Recovered::RestoreFinished(id, safety) if *id == request.snapshot => Some(*safety),
            _ => None,
        });
        if let Some(safety) = finished {
            return Ok(Outcome::Restored {
                snapshot: facts(request.snapshot)?,
                safety: safety.map(facts).transpose()?,
                totals: restore::RestoreTotals::default(),
                kept: Vec::new(),
                losses: Default::default(),
                recovered: earlier,
            });
        }
        if request.unsaved == UnsavedChanges::Discard {
            restoring.unsaved = restore::Unsaved::Save;
        }
    }
    let restored = restore::restore(repository, bench.tools, &restoring, bench.progress)?;
    let mut recovered = earlier;
    recovered.extend(restored.recovered);
    Ok(Outcome::Restored {
        snapshot: facts(request.snapshot)?,
        safety: restored.safety.map(facts).transpose()?,
        totals: restored.totals,
        kept: restored.kept,
        losses: restored.losses,
        recovered,
    })
}

fn verify(
    repository: &Repository,
    request: &VerifyRequest,
    bench: Bench<'_>,
) -> Result<Outcome, DirectoriesError> {
    let ids = match request.snapshots.is_empty() {
        false => request.snapshots.clone(),
        true => {
            let listing = repository.list()?;
            let readable = listing
                .snapshots
                .iter()
                .rev()
                .map(|snapshot| snapshot.descriptor.id);
            readable
                .chain(listing.damaged.iter().map(|(id, _)| *id))
                .take(VERIFIED_MAX)
                .collect()
        }
    };
    let mut room = DAMAGE_TOLD_MAX;
    let mut told = Vec::new();
    for id in ids {
        let earlier = match bench.identity.resumed {
            true => verified_since(repository, id, bench.identity.started),
            false => None,
        };
        told.push(match earlier {
            Some(earlier) => earlier,
            None => verify_one(
                repository,
                id,
                request.bytes_per_second,
                &mut room,
                bench.progress,
            )?,
        });
    }
    Ok(Outcome::Verified(told))
}

/// What was found of a snapshot since a time, if it was read since then.
fn verified_since(repository: &Repository, id: SnapshotId, since: Timestamp) -> Option<VerifiedSnapshot> {
    let found = repository.verification(id).ok().flatten()?;
    if found.verified < since {
        return None;
    }
    let (damaged, tree_hash) = match found.outcome {
        repository::Outcome::Sound => (0, found.tree_hash),
        repository::Outcome::Damaged { count, .. } => (count, None),
    };
    Some(VerifiedSnapshot {
        damaged,
        tree_hash,
        earlier: true,
        ..VerifiedSnapshot::new(id)
    })
}

/// Reads one snapshot. That it is damaged beyond reading is told like other damage: it says nothing of the next one.
pub fn verify_one(
    repository: &Repository,
    id: SnapshotId,
    bytes_per_second: Option<u64>,
    room: &mut usize,
    progress: &Progress,
) -> Result<VerifiedSnapshot, DirectoriesError> {
    let request = verify::VerifyRequest { bytes_per_second };
    match verify::verify(repository, id, request, progress) {
        Ok(found) => {
            let damage: Vec<_> = found
                .damage
                .into_iter()
                .take(*room)
                .map(|damage| (damage.path, damage.what))
                .collect();
            *room -= damage.len();
            Ok(VerifiedSnapshot {
                id,
                files: found.files,
                bytes: found.bytes,
                first_read: found.first_read,
                tree_hash: found.tree_hash,
                damaged: found.damaged,
                damage,
                error: None,
                earlier: false,
                warnings: found.warnings,
            })
        }
        Err(error) if is_damage(&error) => Ok(VerifiedSnapshot {
            error: Some(with_causes(&error)),
            ..VerifiedSnapshot::new(id)
        }),
        Err(error) => Err(error.into()),
    }
}

/// Whether a snapshot is damaged, or parts of it are missing.
fn is_damage(error: &OperationError) -> bool {
    match error {
        // A list or a tree that is missing, of a snapshot that exists.
        OperationError::Repository(RepositoryError::Io { .. }) => error.kind() == ErrorKind::NotFound,
        _ => error.kind() == ErrorKind::Corrupt,
    }
}

fn fork(
    repository: &Repository,
    request: &ForkRequest,
    bench: Bench<'_>,
) -> Result<Outcome, DirectoriesError> {
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let target = path(&request.workspace);
    // Nothing is resolved by path: whoever renames what is above does not lead us elsewhere.
    let (parent, name) = bench.roots.reach_parent(&target)?;
    let control = request.control.as_deref().map(path);
    let control = match &control {
        Some(control) => Some(bench.roots.reach_parent(control)?),
        None => None,
    };
    let key = RequestKey::new(
        &format!("cairnd/operation/{}", bench.identity.id),
        request.snapshot.to_string().as_bytes(),
    )?;
    if bench.identity.resumed
        && let Some(done) = forked_before(repository, request, &key, bench)
    {
        return Ok(done);
    }
    let forking = fork::ForkRequest {
        snapshot: request.snapshot,
        workspace: (&parent, name),
        control: control.as_ref().map(|(parent, name)| (parent, *name)),
        key: Some(key),
    };
    let forked = match fork::fork_reached(repository, bench.tools, &forking, bench.progress) {
        // Not by this fork, which is complete when it can be seen.
        Err(OperationError::Occupied { .. }) if bench.identity.resumed => {
            return Err(DirectoriesError::Interrupted {
                what: format!(
                    "something else is at {} now: remove it, then fork again",
                    target.display()
                ),
            });
        }
        forked => forked?,
    };
    Ok(Outcome::Forked {
        repository: forked.repository,
        first: Box::new(SnapshotFacts::first(*forked.first)),
        workspace: forked.workspace,
        control: forked.control,
        entries: forked.written.entries,
        bytes: forked.written.bytes,
        losses: forked.written.losses,
    })
}

/// What came of a fork that was complete when the daemon was interrupted; nothing if it was not.
fn forked_before(
    repository: &Repository,
    request: &ForkRequest,
    key: &RequestKey,
    bench: Bench<'_>,
) -> Option<Outcome> {
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let parts = repository.parts().clone();
    let workspace = bench.roots.reach(&path(&request.workspace)).ok()?;
    let control = match &request.control {
        Some(control) => {
            let reached = bench.roots.reach(&path(control)).ok()?;
            ControlDirectory::of(reached.directory, &reached.path, parts.randomness.clone())
        }
        None => control_in(&workspace, parts.randomness.clone()).ok()?,
    };
    let forked = Repository::open_reached(control, workspace, parts).ok()?;
    let first = forked.known_request(key).ok()??;
    let first = SnapshotFacts::of(&forked, first).ok()?;
    let counts = &first.descriptor.counts;
    Some(Outcome::Forked {
        repository: forked.identity().id,
        workspace: forked.workspace_path().to_owned(),
        control: forked.control().path().to_owned(),
        entries: counts.entries,
        bytes: counts.bytes,
        losses: Losses::default(),
        first: Box::new(first),
    })
}

fn collect(
    repository: &Repository,
    request: &CollectRequest,
    bench: Bench<'_>,
) -> Result<Outcome, DirectoriesError> {
    let wait = request.asker.wait();
    match collect::run(repository, bench.tools, request.plan, wait, bench.progress) {
        Ok(collected) => Ok(removed(collected)),
        // The plan was carried out, wholly or in part.
        Err(CollectError::NoPlan { .. } | CollectError::Stale { .. }) if bench.identity.resumed => {
            Err(DirectoriesError::Interrupted {
                what: "snapshots of the plan may have been removed; make a new plan for the rest".to_owned(),
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn delete(
    repository: &Repository,
    request: &DeleteRequest,
    bench: Bench<'_>,
) -> Result<Outcome, DirectoriesError> {
    let wait = request.asker.wait();
    match collect::delete(repository, bench.tools, request.snapshot, wait, bench.progress) {
        Ok(collected) => Ok(removed(collected)),
        // It existed when the work was accepted.
        Err(CollectError::Operation(OperationError::Repository(RepositoryError::NotFound { .. })))
            if bench.identity.resumed =>
        {
            Ok(Outcome::Collected {
                removed: vec![request.snapshot],
                read: Vec::new(),
                entries: 0,
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn removed(collected: collect::Collected) -> Outcome {
    Outcome::Collected {
        removed: collected.removed,
        read: collected.read,
        entries: collected.entries,
    }
}
