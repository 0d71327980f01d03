//! Deleting a Snapshot: the daemon confirms that its data is gone, then the finalizer goes. While the node is away nothing is given up, but by the annotation
//! `jvs.io/abandon: <node>`.

use cairn_crds::conditions as types;
use cairn_crds::names;
use cairn_crds::snapshot::{SnapshotDeletionPolicy, SnapshotPhase};
use kube::ResourceExt;

use super::{Done, Draft, SnapshotDecision, Step};
use crate::plan::{Again, FailureKind};
use crate::runtime::cache;
use crate::runtime::conditions::Holds;

/// The next step of a deletion.
pub(super) fn decide(mut draft: Draft<'_>) -> SnapshotDecision {
    let observed = draft.observed;
    let snapshot = observed.snapshot.as_ref();
    if !cache::has_finalizer(snapshot, names::SNAPSHOT_FINALIZER) || draft.is_done(Done::NoFinalizer) {
        return draft.finish();
    }
    draft.status.phase = Some(SnapshotPhase::Expiring);
    // Without a node no daemon has ever heard of it.
    let Some(node) = draft.status.node_name.clone() else {
        return draft.step(Step::RemoveFinalizer, false);
    };
    if snapshot.spec.deletion_policy == SnapshotDeletionPolicy::Retain || draft.is_done(Done::Daemon) {
        return draft.step(Step::RemoveFinalizer, false);
    }
    let abandoned = snapshot.annotations().get(names::ABANDON);
    if abandoned.map(String::as_str) == Some(node.as_str()) {
        if !draft.is_done(Done::Tombstone) {
            return draft.step(Step::Entomb { node }, false);
        }
        return draft.step(Step::RemoveFinalizer, false);
    }
    let failure = draft.failure(Done::Daemon).cloned();
    let away = match &failure {
        Some(failure) if failure.kind == FailureKind::Away => Some(failure.message.clone()),
        _ => observed.node.as_ref().and_then(|node| node.away.clone()),
    };
    if let Some(why) = away {
        let message = format!(
            "{why}. The deletion waits until the daemon of node {node} has confirmed that the data is gone; if the node never comes back, give the data up with: kubectl annotate -n {} snapshot.jvs.io {} {}={node}",
            snapshot.namespace().unwrap_or_default(),
            snapshot.name_any(),
            names::ABANDON,
        );
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
    draft.step(Step::Delete, false)
}
