//! Plain directories as messages. Nothing here can fail.

use std::os::unix::ffi::OsStrExt;

use cairn_api::convert::timestamp_message;
use cairn_api::proto;
use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::directory::place::{LossCount, Losses as PlaceLosses};
use cairn_snapshot::operations::collect::CollectPlan;
use cairn_snapshot::operations::live::Difference;
use cairn_snapshot::operations::recover::Recovered;
use cairn_snapshot::operations::restore::{RestorePlan, RestoreTotals};
use cairn_snapshot::operations::verify::Integrity;
use cairn_snapshot::repository::{LeaseRecord, Loss, Losses, Origin, Pin};
use cairn_types::SnapshotId;

use crate::directories::{
    Condition, Directories, History, Outcome, Registered, SavedHow, ScheduleView, SnapshotFacts, Status,
    VerifiedSnapshot,
};

pub(super) mod inspection;

/// Damaged snapshots that a status names.
const DAMAGED_TOLD_MAX: usize = 100;

fn bytes(path: &RelativePath) -> Vec<u8> {
    path.as_bytes().to_vec()
}

fn ids(ids: &[SnapshotId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

pub(super) fn snapshot(facts: &SnapshotFacts) -> proto::DirectorySnapshot {
    let SnapshotFacts {
        descriptor,
        labels,
        integrity,
    } = facts;
    let (origin, origin_of) = match &descriptor.origin {
        Origin::Requested => (proto::DirectoryOrigin::Requested, None),
        Origin::Safety { restoring } => (proto::DirectoryOrigin::Safety, Some(restoring.to_string())),
        Origin::Scheduled { name } => (proto::DirectoryOrigin::Scheduled, Some(name.clone())),
        Origin::Imported { id, .. } => (proto::DirectoryOrigin::Imported, Some(id.clone())),
        Origin::ForkOf { snapshot, .. } => (proto::DirectoryOrigin::Fork, Some(snapshot.to_string())),
    };
    let (integrity, verified) = match integrity {
        None => (proto::DirectoryIntegrity::Unspecified, None),
        Some(Integrity::Unverified) => (proto::DirectoryIntegrity::Unverified, None),
        Some(Integrity::Verified(time)) => (proto::DirectoryIntegrity::Verified, Some(*time)),
        Some(Integrity::Damaged(time, _)) => (proto::DirectoryIntegrity::Damaged, Some(*time)),
    };
    let engine = &descriptor.engine;
    let degraded = engine
        .degraded
        .iter()
        .map(|degraded| proto::DirectoryDegradation {
            from: degraded.from.clone(),
            reason: degraded.reason.clone(),
        });
    let counts = &descriptor.counts;
    proto::DirectorySnapshot {
        id: descriptor.id.to_string(),
        sequence: descriptor.sequence,
        created: Some(timestamp_message(descriptor.created)),
        origin: origin.into(),
        origin_of,
        note: labels.note.clone(),
        tags: labels.tags.iter().map(ToString::to_string).collect(),
        pins: labels.pins.iter().map(pin).collect(),
        template: descriptor.template.clone(),
        engine: Some(proto::DirectoryEngine {
            requested: engine.requested.clone(),
            used: engine.used.clone(),
            degraded: degraded.collect(),
        }),
        counts: Some(proto::DirectoryCounts {
            entries: counts.entries,
            files: counts.files,
            directories: counts.directories,
            symlinks: counts.symlinks,
            special: counts.special,
            bytes: counts.bytes,
        }),
        paths: descriptor.paths.as_ref().map(|paths| proto::DirectoryPaths {
            paths: paths.paths.iter().map(bytes).collect(),
        }),
        parent: descriptor.parent.map(|id| id.to_string()),
        restored_from: descriptor.restored_from.map(|id| id.to_string()),
        tree_hash: descriptor.tree_hash.map(|hash| hash.to_string()),
        losses: Some(described_losses(&descriptor.losses)),
        torn: Some(shown(descriptor.torn.count, &descriptor.torn.paths)),
        vanished: descriptor.vanished,
        actor: descriptor.actor.clone(),
        host: descriptor.host.name.clone(),
        integrity: integrity.into(),
        verified: verified.map(timestamp_message),
    }
}

fn pin(pin: &Pin) -> proto::DirectoryPin {
    proto::DirectoryPin {
        number: pin.number,
        reason: pin.reason.clone(),
        actor: pin.actor.clone(),
        created: Some(timestamp_message(pin.created)),
        expires: pin.expires.map(timestamp_message),
    }
}

fn shown(count: u64, paths: &[RelativePath]) -> proto::DirectoryShown {
    proto::DirectoryShown {
        count,
        paths: paths.iter().map(bytes).collect(),
    }
}

fn described_losses(losses: &Losses) -> proto::DirectoryLosses {
    let shown = |loss: &Loss| Some(shown(loss.count, &loss.paths));
    proto::DirectoryLosses {
        owner: shown(&losses.owner),
        mode: shown(&losses.mode),
        xattrs: shown(&losses.xattrs),
        special: shown(&losses.special),
        times: shown(&losses.times),
    }
}

fn place_losses(losses: &PlaceLosses) -> proto::DirectoryLosses {
    let shown = |loss: &LossCount| Some(shown(loss.entries, &loss.paths));
    proto::DirectoryLosses {
        owner: shown(&losses.owner),
        mode: shown(&losses.mode),
        xattrs: shown(&losses.xattrs),
        special: shown(&losses.special),
        times: shown(&losses.times),
    }
}

pub(super) fn recovered(recovered: &Recovered) -> proto::DirectoryRecovered {
    let restore = |what: proto::DirectoryRecovery, id: &SnapshotId, safety: &Option<SnapshotId>| {
        proto::DirectoryRecovered {
            what: what.into(),
            snapshot: Some(id.to_string()),
            safety: safety.map(|id| id.to_string()),
            removed: None,
        }
    };
    let other = |what: proto::DirectoryRecovery, removed| proto::DirectoryRecovered {
        what: what.into(),
        snapshot: None,
        safety: None,
        removed,
    };
    match recovered {
        Recovered::RestoreUndone(id) => restore(proto::DirectoryRecovery::RestoreUndone, id, &None),
        Recovered::RestoreFinished(id, safety) => {
            restore(proto::DirectoryRecovery::RestoreFinished, id, safety)
        }
        Recovered::RestoreLost(id, safety) => restore(proto::DirectoryRecovery::RestoreLost, id, safety),
        Recovered::RestoreWaits(id) => restore(proto::DirectoryRecovery::RestoreWaits, id, &None),
        Recovered::StateCompleted => other(proto::DirectoryRecovery::StateCompleted, None),
        Recovered::ResidueRemoved(removed) => other(proto::DirectoryRecovery::ResidueRemoved, Some(*removed)),
    }
}

fn totals(totals: &RestoreTotals) -> proto::DirectoryTotals {
    proto::DirectoryTotals {
        added: totals.added,
        changed: totals.changed,
        removed: totals.removed,
        bytes: totals.bytes,
    }
}

pub(super) fn outcome(outcome: &Outcome) -> proto::operation::Result {
    use proto::operation::Result as Message;
    match outcome {
        Outcome::Saved {
            how,
            snapshot: facts,
            recovered: before,
            collected,
        } => {
            let how = match how {
                SavedHow::New => proto::DirectorySaveOutcome::New,
                SavedHow::Existing => proto::DirectorySaveOutcome::Existing,
                SavedHow::Unchanged => proto::DirectorySaveOutcome::Unchanged,
            };
            Message::DirectorySaved(proto::DirectorySaveResult {
                outcome: how.into(),
                snapshot: Some(snapshot(facts)),
                recovered: before.iter().map(recovered).collect(),
                collected: ids(collected),
            })
        }
        Outcome::Restored {
            snapshot: facts,
            safety,
            totals: done,
            kept,
            losses,
            recovered: before,
        } => Message::DirectoryRestored(proto::DirectoryRestoreResult {
            snapshot: Some(snapshot(facts)),
            safety: safety.as_ref().map(|facts| snapshot(facts)),
            totals: Some(totals(done)),
            kept: kept.iter().map(bytes).collect(),
            losses: Some(place_losses(losses)),
            recovered: before.iter().map(recovered).collect(),
        }),
        Outcome::Verified(found) => Message::DirectoryVerified(proto::DirectoryVerifyResult {
            damaged: found.iter().map(VerifiedSnapshot::damages).sum(),
            verified: found.iter().map(verified).collect(),
        }),
        Outcome::Forked {
            repository,
            first,
            workspace,
            control,
            entries,
            bytes,
            losses,
        } => Message::DirectoryForked(proto::DirectoryForkResult {
            repository: repository.to_string(),
            first: first.descriptor.id.to_string(),
            workspace: workspace.as_os_str().as_bytes().to_vec(),
            snapshot: Some(snapshot(first)),
            control_directory: control.as_os_str().as_bytes().to_vec(),
            entries: *entries,
            bytes: *bytes,
            losses: Some(place_losses(losses)),
        }),
        Outcome::Collected {
            removed,
            read,
            entries,
        } => Message::DirectoryCollected(proto::DirectoryCollectResult {
            removed: ids(removed),
            read: ids(read),
            entries: *entries,
        }),
    }
}

fn verified(found: &VerifiedSnapshot) -> proto::DirectoryVerified {
    let damage = found.damage.iter().map(|(path, what)| proto::DirectoryDamage {
        path: bytes(path),
        what: what.clone(),
    });
    proto::DirectoryVerified {
        snapshot: found.id.to_string(),
        files: found.files,
        bytes: found.bytes,
        first_read: found.first_read,
        tree_hash: found.tree_hash.map(|hash| hash.to_string()),
        damaged: found.damaged,
        damage: damage.collect(),
        error: found.error.clone(),
        earlier: found.earlier,
        warnings: found.warnings.clone(),
    }
}

pub(super) fn directory(directories: &Directories, directory: &Registered) -> proto::RegisteredDirectory {
    let (condition, message) = match directory.condition() {
        Condition::Ready => (proto::DirectoryCondition::Ready, String::new()),
        Condition::Missing(message) => (proto::DirectoryCondition::Missing, message),
        Condition::Unusable(message) => (proto::DirectoryCondition::Unusable, message),
    };
    let operations = directories.operations_of(directory.id);
    proto::RegisteredDirectory {
        repository: directory.id.to_string(),
        workspace: directory.workspace.as_os_str().as_bytes().to_vec(),
        control_directory: directory.control.as_os_str().as_bytes().to_vec(),
        registered: Some(timestamp_message(directory.since)),
        condition: condition.into(),
        message,
        schedules: directories
            .schedules_of(directory.id)
            .iter()
            .map(schedule)
            .collect(),
        operations: operations.iter().map(ToString::to_string).collect(),
    }
}

fn schedule(view: &ScheduleView) -> proto::DirectorySchedule {
    let state = &view.state;
    proto::DirectorySchedule {
        name: view.name.clone(),
        suspended: view.suspended,
        last_due: state.last_due.map(timestamp_message),
        last_started: state.last_started.map(timestamp_message),
        next_due: view.next_due.map(timestamp_message),
        runs: state.runs,
        failures: state.failures,
        missed: state.missed,
        last_failure: state.last_failure.clone(),
        last_snapshot: state.last_snapshot.map(|id| id.to_string()),
    }
}

pub(super) fn status(status: &Status) -> proto::DirectoryStatus {
    let health = &status.health;
    proto::DirectoryStatus {
        head: status.head.map(|id| id.to_string()),
        latest: status.latest.map(|id| id.to_string()),
        snapshots: health.snapshots,
        unverified: health.unverified,
        verified: health.verified,
        damaged: health.damaged.len() as u64,
        damaged_snapshots: health
            .damaged
            .iter()
            .take(DAMAGED_TOLD_MAX)
            .map(ToString::to_string)
            .collect(),
        verifying: status.verifying.map(|id| id.to_string()),
        holder: status.holder.as_ref().map(holder),
        changes: status.changes,
    }
}

fn holder(record: &LeaseRecord) -> proto::DirectoryHolder {
    proto::DirectoryHolder {
        operation: record.operation.clone(),
        host: record.holder.name.clone(),
        process: record.holder.pid,
        since: Some(timestamp_message(record.acquired)),
    }
}

pub(super) fn restore_plan(facts: &SnapshotFacts, plan: &RestorePlan) -> proto::PlanRestoreDirectoryResponse {
    let change = |difference: Difference| match difference {
        Difference::Missing => proto::DirectoryChange::Add,
        Difference::Surplus => proto::DirectoryChange::Remove,
        Difference::Kind => proto::DirectoryChange::ReplaceKind,
        Difference::Data | Difference::Links => proto::DirectoryChange::ReplaceData,
        Difference::Same | Difference::Attributes => proto::DirectoryChange::Attributes,
    };
    let changes = plan
        .changes
        .iter()
        .map(|(path, difference)| proto::PlannedDirectoryChange {
            path: bytes(path),
            change: change(*difference).into(),
        });
    proto::PlanRestoreDirectoryResponse {
        snapshot: Some(snapshot(facts)),
        totals: Some(totals(&plan.totals)),
        unsaved: plan.unsaved,
        changes: changes.collect(),
    }
}

pub(super) fn collect_plan(plan: &CollectPlan) -> proto::PlanCollectDirectoryResponse {
    let verdicts = plan.verdicts.iter().map(|verdict| proto::DirectoryVerdict {
        snapshot: verdict.id.to_string(),
        keep: verdict.keep,
        reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
        bytes: plan.bytes.get(&verdict.id).copied(),
    });
    proto::PlanCollectDirectoryResponse {
        plan: plan.id.to_string(),
        created: Some(timestamp_message(plan.created)),
        verdicts: verdicts.collect(),
        over_count: plan.over.0,
        over_bytes: plan.over.1,
        damaged: ids(&plan.damaged),
    }
}

pub(super) fn history(history: &History) -> proto::DirectoryHistoryResponse {
    let damaged = history
        .damaged
        .iter()
        .map(|(id, error)| proto::DamagedDirectorySnapshot {
            snapshot: id.to_string(),
            error: error.clone(),
        });
    let nearest = |from: &Option<SnapshotId>| from.map(|id| id.to_string()).unwrap_or_default();
    proto::DirectoryHistoryResponse {
        snapshots: history.snapshots.iter().map(snapshot).collect(),
        more: history.more,
        damaged: damaged.collect(),
        from: history.from.iter().map(nearest).collect(),
        head: history.head.map(|id| id.to_string()),
        total: history.total as u64,
        hidden: history.hidden as u64,
    }
}
