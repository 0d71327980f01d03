//! Deleting a Workspace: claim, volume, Snapshots if the data goes, then the daemon, then the finalizer. Nothing is given up while the node is away, but by an
//! explicit word: the annotation `jvs.io/abandon: <node>`.

use cairn_crds::conditions as types;
use cairn_crds::names;
use cairn_crds::snapshot::SnapshotDeletionPolicy;
use cairn_crds::workspace::WorkspaceDeletionPolicy;
use kube::ResourceExt;

use super::{DELETIONS_MAX, Directory, Done, Draft, Step, WorkspaceDecision};
use crate::plan::{Again, FailureKind};
use crate::runtime::cache;
use crate::runtime::conditions::Holds;

/// The next step of a deletion.
pub(super) fn decide(mut draft: Draft<'_>) -> WorkspaceDecision {
    let observed = draft.observed;
    let workspace = observed.workspace.as_ref();
    if !cache::has_finalizer(workspace, names::WORKSPACE_FINALIZER) || draft.is_done(Done::NoFinalizer) {
        return draft.finish();
    }
    draft
        .conditions
        .set(types::PROGRESSING, true, "Deleting", "it is being deleted");
    if matches!(observed.directory, Directory::None)
        && let Some(waits) = children(&mut draft)
    {
        return waits.decide(draft);
    }
    let Some(node) = draft.status.node_name.clone() else {
        // No daemon has ever heard of it.
        return draft.step(Step::RemoveFinalizer, false);
    };
    let deletes = workspace.spec.deletion_policy == WorkspaceDeletionPolicy::Delete;
    let abandoned = workspace.annotations().get(names::ABANDON).cloned();
    if abandoned.as_deref() == Some(node.as_str()) {
        if !draft.is_done(Done::Tombstone) {
            return draft.step(
                Step::Entomb {
                    node,
                    delete: deletes,
                },
                false,
            );
        }
        return draft.step(Step::RemoveFinalizer, false);
    }
    if deletes && let Some(waits) = snapshots(&mut draft) {
        return waits.decide(draft);
    }
    if draft.is_done(Done::Daemon) {
        return draft.step(Step::RemoveFinalizer, false);
    }
    let failure = draft.failure(Done::Daemon).cloned();
    let away = match &failure {
        Some(failure) if failure.kind == FailureKind::Away => Some(failure.message.clone()),
        _ => observed.node.as_ref().and_then(|node| node.away.clone()),
    };
    if let Some(why) = away {
        let mut message = format!(
            "{why}. The deletion waits until the daemon of node {node} has confirmed what becomes of the data; if the node never comes back, give the data up with: kubectl annotate -n {} workspace {} {}={node}",
            workspace.namespace().unwrap_or_default(),
            workspace.name_any(),
            names::ABANDON,
        );
        if let Some(other) = abandoned {
            message = format!(
                "the annotation {} names {other}, and the data is on node {node}; {message}",
                names::ABANDON
            );
        }
        draft
            .conditions
            .set(types::NODE_REACHABLE, false, "NodeAway", message.clone());
        draft
            .conditions
            .set(types::READY, Holds::Unknown, "NodeAway", message);
        draft.again = draft.again.or(Again::Seconds(60));
        return draft.finish();
    }
    if let Some(failure) = failure {
        draft
            .conditions
            .set(types::READY, false, &failure.reason, failure.message.clone());
        draft.again = draft.again.or(failure.again());
        return draft.finish();
    }
    let step = match deletes {
        true => Step::DeleteData,
        false => Step::Release,
    };
    draft
        .conditions
        .set(types::READY, false, "Deleting", "it is being deleted");
    draft.step(step, false)
}

enum Waits {
    /// For what this step does.
    Step(Step),
    /// For somebody else.
    Change,
}

impl Waits {
    fn decide(self, draft: Draft<'_>) -> WorkspaceDecision {
        match self {
            Waits::Step(step) => draft.step(step, false),
            Waits::Change => draft.finish(),
        }
    }
}

/// The claim, then the volume: what is still there of them.
fn children(draft: &mut Draft<'_>) -> Option<Waits> {
    let observed = draft.observed;
    let name = observed.workspace.name_any();
    if let Some(claim) = observed.claim.get() {
        if !cache::is_terminating(claim) && !draft.is_done(Done::ClaimGone) {
            return Some(Waits::Step(Step::DeleteClaim));
        }
        draft.conditions.set(
            types::READY,
            false,
            "ClaimInUse",
            format!(
                "the claim {name} is being deleted, which waits for the pods that use it: see kubectl describe pvc {name}, and stop them"
            ),
        );
        draft.again = draft.again.or(Again::Seconds(30));
        return Some(Waits::Change);
    }
    if let Some(volume) = observed.volume.get() {
        if !cache::is_terminating(volume) && !draft.is_done(Done::VolumeGone) {
            return Some(Waits::Step(Step::DeleteVolume));
        }
        draft.conditions.set(
            types::READY,
            false,
            "Deleting",
            "its PersistentVolume is being deleted",
        );
        draft.again = draft.again.or(Again::Seconds(30));
        return Some(Waits::Change);
    }
    None
}

/// With the data all snapshots go: first their resources.
fn snapshots(draft: &mut Draft<'_>) -> Option<Waits> {
    let snapshots = &draft.observed.snapshots;
    let kept = snapshots
        .iter()
        .find(|snapshot| snapshot.spec.deletion_policy == SnapshotDeletionPolicy::Retain);
    if let Some(kept) = kept {
        let message = format!(
            "deletionPolicy is Delete, and the Snapshot {} has deletionPolicy Retain: change one of the two, or delete that Snapshot",
            kept.name_any()
        );
        draft
            .conditions
            .set(types::READY, false, "SnapshotRetained", message);
        return Some(Waits::Change);
    }
    let there: Vec<String> = snapshots
        .iter()
        .filter(|snapshot| !cache::is_terminating(snapshot.as_ref()))
        .map(|snapshot| snapshot.name_any())
        .take(DELETIONS_MAX)
        .collect();
    if !there.is_empty() && !draft.is_done(Done::Snapshots) {
        return Some(Waits::Step(Step::DeleteSnapshots(there)));
    }
    if snapshots.is_empty() {
        return None;
    }
    draft.conditions.set(
        types::READY,
        false,
        "DeletingSnapshots",
        format!("{} Snapshots are being deleted first", snapshots.len()),
    );
    draft.again = draft.again.or(Again::Seconds(10));
    Some(Waits::Change)
}
