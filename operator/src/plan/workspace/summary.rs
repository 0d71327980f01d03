//! Ready, Progressing, Degraded, phase and message: what the other conditions come to.

use cairn_crds::conditions as types;
use cairn_crds::workspace::WorkspacePhase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Directory, Draft};
use crate::runtime::cache;
use crate::runtime::conditions::Holds;

/// Sums up. The first of the conditions that a Workspace needs and that does not hold gives Ready its reason and message.
pub fn summarize(draft: &mut Draft<'_>) {
    if cache::is_terminating(draft.observed.workspace.as_ref()) {
        draft.status.phase = Some(WorkspacePhase::Terminating);
        draft.status.ready_replicas = Some(0);
        finish_message(draft);
        return;
    }
    let is_volume = matches!(draft.observed.directory, Directory::None);
    let mut needed = vec![types::PLACED, types::NODE_REACHABLE, types::PROVISIONED];
    if is_volume {
        needed.extend([types::EXPORTED, types::CLAIM_BOUND]);
    }
    let generation = draft.status.observed_generation;
    let current =
        |condition: &&Condition| condition.observed_generation == generation || condition.status == "True";
    let conditions = &draft.conditions;
    let missing = needed.iter().find(|type_| {
        conditions
            .get(type_)
            .filter(current)
            .is_none_or(|condition| condition.status != "True")
    });
    let verdict = match missing {
        None => {
            let message = match (is_volume, &draft.status.claim_name) {
                (true, Some(claim)) => format!("pods can mount the claim {claim}"),
                (_, Some(claim)) => format!("the claim {claim} can be snapshotted"),
                (_, None) => "the directory can be snapshotted".to_owned(),
            };
            (Holds::True, "Ready".to_owned(), message)
        }
        Some(type_) => match conditions.get(type_).filter(current) {
            // What a node says that does not answer is not known; the data is there.
            Some(condition) if *type_ == types::NODE_REACHABLE => (
                Holds::Unknown,
                condition.reason.clone(),
                condition.message.clone(),
            ),
            Some(condition) if condition.status == "False" => {
                (Holds::False, condition.reason.clone(), condition.message.clone())
            }
            Some(condition) => (
                Holds::Unknown,
                condition.reason.clone(),
                condition.message.clone(),
            ),
            None => (
                Holds::Unknown,
                "Pending".to_owned(),
                "it is being made".to_owned(),
            ),
        },
    };
    let was_ready = draft.status.workspace_id.is_some();
    let (holds, reason, message) = verdict;
    draft.conditions.set(types::READY, holds, &reason, message);
    draft.status.ready_replicas = Some(match holds {
        Holds::True => draft.observed.workspace.spec.replicas,
        Holds::False | Holds::Unknown => 0,
    });
    progress(draft, holds, &reason);
    degraded(draft);
    let is_node_away = draft
        .conditions
        .get(types::NODE_REACHABLE)
        .is_some_and(|condition| condition.status == "False");
    draft.status.phase = Some(match (holds, draft.status.node_name.is_some()) {
        (Holds::True, _) => WorkspacePhase::Ready,
        (Holds::Unknown, true) if was_ready && !is_node_away => WorkspacePhase::Updating,
        (Holds::Unknown, true) if !is_node_away => WorkspacePhase::Creating,
        (Holds::Unknown, _) => WorkspacePhase::Pending,
        (Holds::False, false) => WorkspacePhase::Pending,
        (Holds::False, true) => WorkspacePhase::Failed,
    });
    finish_message(draft);
}

fn progress(draft: &mut Draft<'_>, ready: Holds, reason: &str) {
    let is_away = reason == "NodeAway";
    match ready {
        Holds::True => draft
            .conditions
            .set(types::PROGRESSING, false, "Done", "everything is as asked for"),
        Holds::Unknown if !is_away => draft.conditions.set(
            types::PROGRESSING,
            true,
            "Making",
            "it is being made what it shall be",
        ),
        Holds::Unknown | Holds::False => draft.conditions.set(
            types::PROGRESSING,
            false,
            "Blocked",
            "something is in the way: see Ready",
        ),
    }
}

/// It works, but not all that was asked for.
fn degraded(draft: &mut Draft<'_>) {
    let blemish = [types::SNAPSHOTS_SCHEDULED, types::NODE_REACHABLE]
        .iter()
        .filter_map(|type_| draft.conditions.get(type_))
        .find(|condition| condition.status == "False")
        .map(|condition| (condition.reason.clone(), condition.message.clone()));
    match blemish {
        Some((reason, message)) => draft.conditions.set(types::DEGRADED, true, &reason, message),
        None => draft
            .conditions
            .set(types::DEGRADED, false, "AsExpected", "nothing is amiss"),
    }
}

fn finish_message(draft: &mut Draft<'_>) {
    draft.status.message = draft
        .conditions
        .get(types::READY)
        .map(|condition| condition.message.clone());
}
