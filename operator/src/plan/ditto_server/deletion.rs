//! The end of a DittoServer: the daemon ends in order, then the claim goes if the deletion policy says so. Everything else goes with the object.

use cairn_crds::ditto_server::{DittoDeletionPolicy, DittoPhase};
use cairn_crds::{conditions as types, names};

use super::{DittoDecision, Done, Draft, LOOK_SECONDS, Step, holds};
use crate::plan::Again;
use crate::runtime::cache;

pub(super) fn decide(mut draft: Draft<'_>) -> DittoDecision {
    let observed = draft.observed;
    draft.status.phase = Some(DittoPhase::Deleting);
    if !cache::has_finalizer(observed.server.as_ref(), names::DITTO_FINALIZER) {
        return draft.finish();
    }
    if let Some((_, failure)) = observed.failure.clone() {
        draft.conditions.set(
            types::READY,
            holds(&failure),
            &failure.reason,
            failure.message.clone(),
        );
        draft.again = failure.again();
        return draft.finish();
    }
    draft
        .conditions
        .set(types::READY, false, "Deleting", "it is being deleted");
    if observed.server.spec.deletion_policy == DittoDeletionPolicy::Retain {
        return draft.step(Step::RemoveFinalizer);
    }
    // The claim is not removed below a daemon that still writes to it.
    if let Some(set) = observed.set.get() {
        if !cache::is_terminating(set) && !draft.is_done(&Done::Stopped) {
            return draft.step(Step::Stop);
        }
        draft.again = Again::Seconds(LOOK_SECONDS);
        return draft.finish();
    }
    if observed.pod.is_some() {
        draft.conditions.set(
            types::READY,
            false,
            "Deleting",
            "waits for the end of the pod before its claim is removed",
        );
        draft.again = Again::Seconds(LOOK_SECONDS);
        return draft.finish();
    }
    if observed
        .claim
        .get()
        .is_some_and(|claim| !cache::is_terminating(claim))
        && !draft.is_done(&Done::ClaimGone)
    {
        return draft.step(Step::DeleteClaim);
    }
    draft.step(Step::RemoveFinalizer)
}
