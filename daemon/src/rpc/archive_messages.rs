//! Archives and operations as messages. Nothing here can fail.

use cairn_api::convert::timestamp_message;
use cairn_api::{ApiError, proto};
use cairn_snapshot::archive::{
    Archive, Damage, PackAction, PackVerdict, Phase, ProgressNow, Pushed, Reclaimed, Sizes, StoreSizes,
    Verified,
};

use crate::operations::{Finding, Kind, Operation, Outcome, State};

pub(super) fn archive(archive: &Archive) -> proto::Archive {
    let description = &archive.description;
    proto::Archive {
        snapshot: description.snapshot.to_string(),
        workspace: description.workspace.clone(),
        created: Some(timestamp_message(description.created)),
        archived: Some(timestamp_message(archive.archived)),
        note: description.note.clone(),
        tags: description.tags.clone(),
        inodes: archive.counts.inodes,
        files: archive.counts.files,
        directories: archive.counts.directories,
        bytes: archive.counts.bytes,
        added_bytes: archive.added_bytes,
        base: archive.base.map(|id| id.to_string()),
    }
}

pub(super) fn sizes(sizes: &Sizes) -> proto::ArchiveSizes {
    proto::ArchiveSizes {
        logical_bytes: sizes.logical_bytes,
        referred_bytes: sizes.referred_bytes,
        unique_bytes: sizes.unique_bytes,
        shared_bytes: sizes.shared_bytes,
        reclaimable_stored_bytes: sizes.reclaimable_stored_bytes,
    }
}

pub(super) fn store_sizes(sizes: &StoreSizes) -> proto::StoreSizes {
    proto::StoreSizes {
        archives: sizes.archives,
        packs: sizes.packs,
        stored_bytes: sizes.stored_bytes,
        live_bytes: sizes.live_bytes,
        reclaimable_stored_bytes: sizes.reclaimable_stored_bytes,
    }
}

pub(super) fn operation(operation: &Operation) -> proto::Operation {
    let kind = match operation.request.kind {
        Kind::Push => proto::OperationKind::Push,
        Kind::Pull => proto::OperationKind::Pull,
        Kind::Verify => proto::OperationKind::Verify,
        Kind::Reclaim => proto::OperationKind::Reclaim,
        Kind::DirectorySave => proto::OperationKind::DirectorySave,
        Kind::DirectoryRestore => proto::OperationKind::DirectoryRestore,
        Kind::DirectoryVerify => proto::OperationKind::DirectoryVerify,
        Kind::DirectoryFork => proto::OperationKind::DirectoryFork,
        Kind::DirectoryCollect => proto::OperationKind::DirectoryCollect,
        Kind::DirectoryDelete => proto::OperationKind::DirectoryDelete,
    };
    let found = operation.state();
    let (state, result, failure) = match &found {
        State::Running => (proto::OperationState::Running, None, None),
        State::Succeeded(outcome) => (proto::OperationState::Succeeded, Some(result(outcome)), None),
        State::Failed(error) => (proto::OperationState::Failed, None, Some(failure(error))),
        State::Cancelled => (proto::OperationState::Cancelled, None, None),
    };
    // A state that is not running has an end; one that came between the two looks is told with the next update.
    let ended = match found {
        State::Running => None,
        State::Succeeded(_) | State::Failed(_) | State::Cancelled => operation.ended(),
    };
    let elapsed = u64::try_from(operation.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut progress = progress(operation.progress().now(), elapsed);
    if state == proto::OperationState::Running && operation.is_waiting() {
        progress.phase = proto::OperationPhase::Waiting.into();
    }
    proto::Operation {
        id: operation.id.to_string(),
        kind: kind.into(),
        workspace: operation.request.workspace.clone(),
        reference: operation.request.reference.clone(),
        store: operation.request.store.clone(),
        state: state.into(),
        started: Some(timestamp_message(operation.started)),
        ended: ended.map(timestamp_message),
        progress: Some(progress),
        result,
        failure,
        cancel_requested: operation.progress().is_cancelled(),
        resumed: operation.resumed,
        repository: operation.request.repository.clone(),
    }
}

fn progress(now: ProgressNow, elapsed_milliseconds: u64) -> proto::Progress {
    let phase = match now.phase {
        Phase::Preparing => proto::OperationPhase::Preparing,
        Phase::Transferring => proto::OperationPhase::Transferring,
        Phase::Marking => proto::OperationPhase::Marking,
        Phase::Verifying => proto::OperationPhase::Verifying,
        Phase::Removing => proto::OperationPhase::Removing,
        Phase::Finishing => proto::OperationPhase::Finishing,
    };
    proto::Progress {
        phase: phase.into(),
        files: now.files,
        files_total: now.files_total,
        bytes: now.bytes,
        bytes_total: now.bytes_total,
        transferred_bytes: now.transferred_bytes,
        elapsed_milliseconds,
    }
}

fn failure(error: &ApiError) -> proto::Failure {
    proto::Failure {
        reason: error.reason.as_str().to_owned(),
        message: error.message.clone(),
        remedy: error.remedy.clone(),
        details: error.details.clone().into_iter().collect(),
    }
}

fn result(outcome: &Outcome) -> proto::operation::Result {
    match outcome {
        Outcome::Pushed(pushed) => proto::operation::Result::Pushed(push_result(pushed)),
        Outcome::Pulled {
            pulled,
            snapshot,
            safety,
            left_out,
        } => proto::operation::Result::Pulled(proto::PullResult {
            archive: Some(archive(&pulled.archive)),
            files: pulled.files,
            bytes: pulled.bytes,
            resumed: pulled.resumed,
            snapshot: snapshot.to_string(),
            safety: safety.map(|id| id.to_string()),
            left_out: *left_out,
        }),
        Outcome::Verified(verified) => proto::operation::Result::Verified(verify_result(verified)),
        Outcome::Reclaimed { dry_run, reclaimed } => {
            proto::operation::Result::Reclaimed(reclaim_result(*dry_run, reclaimed))
        }
        Outcome::Directory(outcome) => super::directory_messages::outcome(outcome),
    }
}

fn push_result(pushed: &Pushed) -> proto::PushResult {
    proto::PushResult {
        archive: Some(archive(&pushed.archive)),
        already_there: pushed.already_there,
        files_read: pushed.files_read,
        bytes_read: pushed.bytes_read,
        bytes_new: pushed.bytes_new,
        bytes_stored: pushed.bytes_stored,
        packs: pushed.packs,
    }
}

fn verify_result(verified: &Verified) -> proto::VerifyResult {
    proto::VerifyResult {
        archives: verified.archives,
        archives_sound: verified.archives_sound,
        packs: verified.packs,
        bytes_read: verified.bytes_read,
        damages: verified.damages,
    }
}

fn reclaim_result(dry_run: bool, reclaimed: &Reclaimed) -> proto::ReclaimResult {
    proto::ReclaimResult {
        dry_run,
        packs: reclaimed.packs,
        removed_packs: reclaimed.removed_packs,
        removed_bytes: reclaimed.removed_bytes,
        condemned_packs: reclaimed.condemned_packs,
        condemned_bytes: reclaimed.condemned_bytes,
        rewritten_packs: reclaimed.rewritten_packs,
        rewritten_bytes: reclaimed.rewritten_bytes,
    }
}

pub(super) fn finding(finding: &Finding) -> proto::Finding {
    let finding = match finding {
        Finding::Damage(found) => proto::finding::Finding::Damage(damage(found)),
        Finding::Verdict(found) => proto::finding::Finding::Verdict(verdict(found)),
    };
    proto::Finding {
        finding: Some(finding),
    }
}

fn damage(damage: &Damage) -> proto::Damage {
    proto::Damage {
        archive: damage.archive.map(|id| id.to_string()),
        path: damage.path.clone(),
        range_start: damage.range.map(|(start, _)| start),
        range_bytes: damage.range.map(|(_, bytes)| bytes),
        object: damage.object.clone(),
        offset: damage.offset,
        what: damage.what.clone(),
    }
}

fn verdict(verdict: &PackVerdict) -> proto::PackVerdict {
    let action = match verdict.action {
        PackAction::Keep => proto::PackAction::Keep,
        PackAction::Condemn => proto::PackAction::Condemn,
        PackAction::Reinstate => proto::PackAction::Reinstate,
        PackAction::Wait => proto::PackAction::Wait,
        PackAction::Rewrite => proto::PackAction::Rewrite,
        PackAction::Remove => proto::PackAction::Remove,
    };
    proto::PackVerdict {
        object: verdict.object.clone(),
        action: action.into(),
        stored_bytes: verdict.stored_bytes,
        live_bytes: verdict.live_bytes,
    }
}
