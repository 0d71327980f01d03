//! What is done for a Snapshot, one step at a time, and what its status says.
//!
//! 1. The finalizer.
//! 2. The node of its Workspace, written into the status before a daemon hears of it, so that all repetitions ask the same daemon.
//! 3. The daemon takes it under a key that follows from the object's uid: however often it is asked, it is taken once.
//! 4. What else was asked for: verifying, and a new Workspace that begins with it.
//!
//! What was taken is not asked for again, unless note or tags have changed.

pub mod deletion;
mod request;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::conditions as types;
use cairn_crds::names;
use cairn_crds::snapshot::{
    IntegrityState, Progress, RestoreOnCreatePhase, RestoreOnCreateStatus, SnapshotPhase,
};
use cairn_crds::{Snapshot, SnapshotStatus, Workspace};
use cairn_types::Timestamp;
use kube::ResourceExt;

use super::snapshot_worktree as worktree;
use super::{Again, Decision, Failure, FailureKind, NodeView, POLL_SECONDS, is_true, proto_time, signed};
use crate::runtime::cache;
use crate::runtime::clock::time;
use crate::runtime::conditions::{Conditions, Holds};

/// What is known when a step is decided.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The Snapshot.
    pub snapshot: Arc<Snapshot>,
    /// The time.
    pub now: Timestamp,
    /// The Workspace that it names.
    pub workspace: Option<Arc<Workspace>>,
    /// The node that has it, or the Workspace.
    pub node: Option<NodeView>,
    /// What the daemon said in this pass.
    pub managed: Option<Arc<proto::ManagedSnapshot>>,
    /// The Workspace of the name that `restoreOnCreate` makes.
    pub worktree: Option<Arc<Workspace>>,
    /// What this pass has done already.
    pub done: BTreeSet<Done>,
    /// The step that this pass could not take, and why.
    pub failure: Option<(Done, Failure)>,
}

/// A step, as one that is done or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Done {
    /// [`Step::AddFinalizer`]
    Finalizer,
    /// [`Step::RecordStatus`]
    Status,
    /// [`Step::Look`]
    Look,
    /// [`Step::Ensure`]
    Ensure,
    /// [`Step::Verify`]
    Verify,
    /// [`Step::CreateWorktree`]
    Worktree,
    /// [`Step::Delete`]
    Daemon,
    /// [`Step::Entomb`]
    Tombstone,
    /// [`Step::RemoveFinalizer`]
    NoFinalizer,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Add the finalizer.
    AddFinalizer,
    /// Write the status, and go on.
    RecordStatus,
    /// See whether the daemon has it already: its Workspace is gone, and nobody knows whether it was taken before.
    Look,
    /// Ask the daemon for the snapshot.
    Ensure(Box<proto::EnsureSnapshotRequest>),
    /// Have it read back.
    Verify,
    /// Make the Workspace that begins with it, if there is none of the name.
    CreateWorktree(Box<Workspace>),
    /// The daemon removes it.
    Delete,
    /// Note that the daemon of this node is to remove it if it ever comes back.
    Entomb {
        /// The node.
        node: String,
    },
    /// Remove the finalizer.
    RemoveFinalizer,
}

impl Step {
    /// The step as one that is done or not.
    pub fn done(&self) -> Done {
        match self {
            Step::AddFinalizer => Done::Finalizer,
            Step::RecordStatus => Done::Status,
            Step::Look => Done::Look,
            Step::Ensure(_) => Done::Ensure,
            Step::Verify => Done::Verify,
            Step::CreateWorktree(_) => Done::Worktree,
            Step::Delete => Done::Daemon,
            Step::Entomb { .. } => Done::Tombstone,
            Step::RemoveFinalizer => Done::NoFinalizer,
        }
    }
}

/// A decision about a Snapshot.
pub type SnapshotDecision = Decision<SnapshotStatus, Step>;

pub(super) struct Draft<'a> {
    pub(super) observed: &'a Observed,
    pub(super) status: SnapshotStatus,
    pub(super) conditions: Conditions,
    pub(super) again: Again,
}

/// Decides the next step.
pub fn decide(observed: &Observed) -> SnapshotDecision {
    let snapshot = observed.snapshot.as_ref();
    let old = snapshot.status.clone().unwrap_or_default();
    let generation = cache::generation(snapshot);
    let is_settled = old.observed_generation == Some(generation)
        && old.snapshot_id.is_some()
        && is_true(&old.conditions, types::READY);
    let mut draft = Draft {
        observed,
        conditions: Conditions::new(&old.conditions, generation, observed.now),
        status: old,
        again: Again::OnChange,
    };
    draft.status.observed_generation = Some(generation);
    if cache::is_terminating(snapshot) {
        return deletion::decide(draft);
    }
    if !cache::has_finalizer(snapshot, names::SNAPSHOT_FINALIZER) && !observed.done.contains(&Done::Finalizer)
    {
        return draft.step(Step::AddFinalizer, false);
    }
    if !is_settled || observed.managed.is_some() {
        match take(&mut draft) {
            Ok(None) => {}
            Ok(Some((step, record_first))) => return draft.step(step, record_first),
            Err(Waiting) => return draft.finish(),
        }
    }
    match afterwards(&mut draft) {
        // Who begins with the snapshot looks for its id.
        Some(step @ Step::CreateWorktree(_)) => draft.step(step, true),
        Some(step) => draft.step(step, false),
        None => draft.finish(),
    }
}

/// Nothing more can be done now; the conditions say why.
pub(super) struct Waiting;

impl Draft<'_> {
    pub(super) fn failure(&self, done: Done) -> Option<&Failure> {
        let failure = self.observed.failure.as_ref();
        failure
            .filter(|(step, _)| *step == done)
            .map(|(_, failure)| failure)
    }

    pub(super) fn is_done(&self, done: Done) -> bool {
        self.observed.done.contains(&done)
    }

    pub(super) fn step(self, step: Step, record_first: bool) -> SnapshotDecision {
        let mut decision = self.finish();
        decision.record_first = record_first;
        decision.step = Some(step);
        decision
    }

    pub(super) fn finish(mut self) -> SnapshotDecision {
        self.status.message = self
            .conditions
            .get(types::READY)
            .map(|condition| condition.message.clone());
        self.status.conditions = self.conditions.finish();
        Decision {
            status: self.status,
            step: None,
            record_first: false,
            again: self.again,
        }
    }

    fn wait(&mut self, holds: Holds, phase: SnapshotPhase, reason: &str, message: impl Into<String>) {
        self.conditions.set(types::READY, holds, reason, message);
        self.status.phase = Some(phase);
        self.conditions.set(
            types::PROGRESSING,
            false,
            "Waiting",
            "it waits for something: see Ready",
        );
    }
}

/// The id that another operator has written, if that is all there is. Ours are hexadecimal digits, and stand beside the node that has the data. To take it now would
/// show another moment than the one that it was made for.
fn claimed_only(draft: &Draft<'_>) -> Option<String> {
    let claimed = draft.status.snapshot_id.clone()?;
    let is_ours = cairn_types::SnapshotId::parse(&claimed).is_some();
    (!is_ours && draft.status.node_name.is_none()).then_some(claimed)
}

/// Has it taken.
fn take(draft: &mut Draft<'_>) -> Result<Option<(Step, bool)>, Waiting> {
    let observed = draft.observed;
    let snapshot = observed.snapshot.as_ref();
    let name = &snapshot.spec.workspace;
    if let Some(claimed) = claimed_only(draft) {
        // Said, because what others have written stays until it is said anew.
        draft.status.integrity_state = Some(IntegrityState::Unverified);
        draft.wait(
            Holds::False,
            SnapshotPhase::Failed,
            "NeverTaken",
            format!(
                "the operator that was here before wrote the id {claimed} without capturing anything, and no daemon has it: delete this Snapshot and make another"
            ),
        );
        return Err(Waiting);
    }
    let is_going = observed.workspace.as_deref().is_none_or(cache::is_terminating);
    if is_going && draft.status.snapshot_id.is_none() && draft.status.node_name.is_some() {
        if let Some(failure) = draft.failure(Done::Look).cloned() {
            draft.wait(
                Holds::Unknown,
                SnapshotPhase::Pending,
                &failure.reason,
                failure.message.clone(),
            );
            draft.again = draft.again.or(failure.again());
            return Err(Waiting);
        }
        match observed.managed.as_deref() {
            Some(managed) if managed.state == i32::from(proto::ManagedState::Ready) => {
                there(draft, managed, observed.workspace.as_deref());
                return Ok(None);
            }
            None if !draft.is_done(Done::Look) => return Ok(Some((Step::Look, false))),
            Some(_) | None => {}
        }
    }
    let Some(workspace) = observed.workspace.as_deref() else {
        // What is there does not need its Workspace.
        if draft.status.snapshot_id.is_none() {
            draft.wait(
                Holds::False,
                SnapshotPhase::Pending,
                "WorkspaceNotFound",
                format!(
                    "there is no Workspace {name} in the namespace {}: make it, and the snapshot is taken; or delete this Snapshot",
                    snapshot.namespace().unwrap_or_default()
                ),
            );
            return Err(Waiting);
        }
        return Ok(None);
    };
    if draft.status.snapshot_id.is_none() && observed.managed.is_none() {
        if cache::is_terminating(workspace) {
            draft.wait(
                Holds::False,
                SnapshotPhase::Failed,
                "WorkspaceDeleting",
                format!("the Workspace {name} is being deleted: take a snapshot of another one"),
            );
            return Err(Waiting);
        }
        if workspace.spec.paused {
            draft.wait(
                Holds::False,
                SnapshotPhase::Pending,
                "WorkspacePaused",
                format!("the Workspace {name} is paused: remove spec.paused from it"),
            );
            return Err(Waiting);
        }
    }
    let status = workspace.status.as_ref();
    let is_provisioned = status.is_some_and(|status| status.workspace_id.is_some());
    let node = draft
        .status
        .node_name
        .clone()
        .or_else(|| status.and_then(|status| status.node_name.clone()));
    let Some(node) = node.filter(|_| is_provisioned) else {
        let why = status
            .and_then(|status| status.message.clone())
            .unwrap_or_else(|| "it is being made".to_owned());
        draft.wait(
            Holds::Unknown,
            SnapshotPhase::Pending,
            "WorkspaceNotReady",
            format!("the Workspace {name} is not there yet: {why}"),
        );
        return Err(Waiting);
    };
    if draft.status.node_name.is_none() {
        draft.status.node_name = Some(node);
        draft.status.phase = Some(SnapshotPhase::Pending);
        draft
            .conditions
            .set(types::READY, Holds::Unknown, "Pending", "it is about to be taken");
        draft
            .conditions
            .set(types::PROGRESSING, true, "Taking", "it is being taken");
        return Ok(Some((Step::RecordStatus, true)));
    }
    let failure = draft.failure(Done::Ensure).cloned();
    let away = match &failure {
        Some(failure) if failure.kind == FailureKind::Away => Some(failure.message.clone()),
        _ => observed.node.as_ref().and_then(|node| node.away.clone()),
    };
    if let Some(why) = away {
        draft
            .conditions
            .set(types::NODE_REACHABLE, false, "NodeAway", why.clone());
        draft.wait(Holds::Unknown, SnapshotPhase::Pending, "NodeAway", why);
        draft.again = draft.again.or(Again::Seconds(60));
        return Err(Waiting);
    }
    draft.conditions.set(
        types::NODE_REACHABLE,
        true,
        "Answers",
        format!("the daemon of node {node} answers"),
    );
    if let Some(failure) = failure {
        let phase = match failure.kind {
            FailureKind::Refused => SnapshotPhase::Failed,
            FailureKind::Away | FailureKind::Again => SnapshotPhase::Pending,
        };
        draft.wait(Holds::False, phase, &failure.reason, failure.message.clone());
        draft.again = draft.again.or(failure.again());
        return Err(Waiting);
    }
    let Some(managed) = observed.managed.as_deref() else {
        let request = request::request(snapshot, workspace);
        return Ok(Some((Step::Ensure(Box::new(request)), false)));
    };
    taken(draft, managed, workspace)
}

/// What the daemon said of it.
fn taken(
    draft: &mut Draft<'_>,
    managed: &proto::ManagedSnapshot,
    workspace: &Workspace,
) -> Result<Option<(Step, bool)>, Waiting> {
    let failure = || {
        let failure = managed.failure.clone().unwrap_or_default();
        let reason = crate::daemons::error::camel(&failure.reason);
        let message = match failure.remedy.as_str() {
            "" => failure.message.clone(),
            remedy => format!("{}; {remedy}", failure.message),
        };
        (reason, message)
    };
    draft.status.operation_id = (!managed.operation.is_empty()).then(|| managed.operation.clone());
    draft.status.progress = managed.progress.as_ref().map(|progress| Progress {
        files_done: signed(progress.files),
        bytes_done: signed(progress.bytes),
        bytes_total: (progress.bytes_total > 0).then(|| signed(progress.bytes_total)),
    });
    match proto::ManagedState::try_from(managed.state) {
        Ok(proto::ManagedState::Ready) => {
            there(draft, managed, Some(workspace));
            Ok(None)
        }
        Ok(proto::ManagedState::Running) => {
            draft.status.phase = Some(SnapshotPhase::InProgress);
            draft
                .conditions
                .set(types::READY, Holds::Unknown, "Taking", "it is being taken");
            draft.conditions.set(
                types::PROGRESSING,
                true,
                "Taking",
                format!("operation {} takes it", managed.operation),
            );
            draft.again = draft.again.or(Again::Seconds(POLL_SECONDS));
            Err(Waiting)
        }
        // The same request goes on, or tries again.
        Ok(proto::ManagedState::Interrupted) => {
            draft.wait(
                Holds::Unknown,
                SnapshotPhase::InProgress,
                "Interrupted",
                "the daemon ended before it was taken; it is asked again",
            );
            draft.again = Again::BackOff;
            Err(Waiting)
        }
        Ok(proto::ManagedState::Failed) => {
            let (reason, message) = failure();
            draft.wait(Holds::False, SnapshotPhase::Failed, &reason, message);
            draft.again = draft.again.or(Again::Seconds(super::REFUSED_SECONDS));
            Err(Waiting)
        }
        Ok(proto::ManagedState::Lost | proto::ManagedState::Deleted | proto::ManagedState::Deleting) => {
            draft.wait(
                Holds::False,
                SnapshotPhase::Failed,
                "Gone",
                "somebody removed its data on the node, and it is not taken again under this name: delete this Snapshot",
            );
            Err(Waiting)
        }
        Ok(proto::ManagedState::Unspecified) | Err(_) => {
            draft.wait(
                Holds::Unknown,
                SnapshotPhase::Pending,
                "NodeNewer",
                "the daemon says something that this operator does not understand: update the operator",
            );
            draft.again = draft.again.or(Again::Seconds(super::REFUSED_SECONDS));
            Err(Waiting)
        }
    }
}

/// It is there.
fn there(draft: &mut Draft<'_>, managed: &proto::ManagedSnapshot, workspace: Option<&Workspace>) {
    let now = time(draft.observed.now);
    let status = &mut draft.status;
    status.phase = Some(SnapshotPhase::Ready);
    status.snapshot_id = Some(managed.id.clone());
    status.created_at = managed
        .created
        .as_ref()
        .map(|created| time(proto_time(created)))
        .or_else(|| Some(now.clone()));
    status.completed_at = status.completed_at.clone().or(Some(now));
    status.size = Some(signed(managed.bytes));
    status.engine = (!managed.engine.is_empty()).then(|| managed.engine.clone());
    status.tree_hash = (!managed.tree_hash.is_empty()).then(|| managed.tree_hash.clone());
    status.progress = None;
    status.operation_id = None;
    status.degraded = request::degraded(&draft.observed.snapshot, workspace, managed);
    let (state, holds, reason, message) = match proto::Verification::try_from(managed.verification) {
        Ok(proto::Verification::Verified) => (
            IntegrityState::Verified,
            Holds::True,
            "Verified",
            "everything was read back and is as it was written",
        ),
        Ok(proto::Verification::Damaged) => (
            IntegrityState::Damaged,
            Holds::False,
            "Damaged",
            "something is not as it was written: restore from another snapshot, and see the daemon's log",
        ),
        _ => (
            IntegrityState::Unverified,
            Holds::Unknown,
            "NotVerified",
            "it has not been read back; set spec.verify to have it read",
        ),
    };
    status.integrity_state = Some(state);
    draft.conditions.set(types::VERIFIED, holds, reason, message);
    let is_damaged = state == IntegrityState::Damaged;
    match is_damaged {
        true => draft.conditions.set(
            types::READY,
            false,
            "Damaged",
            "its data is damaged: see Verified",
        ),
        false => draft.conditions.set(
            types::READY,
            true,
            "Ready",
            format!("snapshot {} is there", managed.id),
        ),
    }
    draft
        .conditions
        .set(types::PROGRESSING, false, "Done", "it has been taken");
    let told = draft.status.degraded.join("; ");
    match told.is_empty() {
        true => draft
            .conditions
            .set(types::DEGRADED, false, "AsAsked", "it is as it was asked for"),
        false => draft.conditions.set(types::DEGRADED, true, "NotAsAsked", told),
    }
    let unsupported = workspace
        .map(|workspace| request::unsupported(&draft.observed.snapshot, workspace))
        .unwrap_or_default();
    match unsupported.is_empty() {
        true => draft.conditions.set(
            types::FIELDS_SUPPORTED,
            true,
            "AllSupported",
            "every field is honoured",
        ),
        false => draft.conditions.set(
            types::FIELDS_SUPPORTED,
            false,
            "UnsupportedField",
            unsupported.join("; "),
        ),
    }
}

/// What is done with a snapshot that is there.
fn afterwards(draft: &mut Draft<'_>) -> Option<Step> {
    draft.status.snapshot_id.as_ref()?;
    if draft.observed.snapshot.spec.verify
        && draft.status.integrity_state == Some(IntegrityState::Unverified)
        && let Some(step) = verify(draft)
    {
        return Some(step);
    }
    if draft.observed.snapshot.spec.restore_on_create {
        return restore_on_create(draft);
    }
    None
}

fn verify(draft: &mut Draft<'_>) -> Option<Step> {
    let is_away = draft
        .observed
        .node
        .as_ref()
        .is_some_and(|node| node.away.is_some());
    if let Some(failure) = draft.failure(Done::Verify).cloned() {
        draft.conditions.set(
            types::VERIFIED,
            Holds::Unknown,
            &failure.reason,
            failure.message.clone(),
        );
        // A daemon that cannot verify such snapshots is not asked again.
        if failure.kind != FailureKind::Refused {
            draft.again = draft.again.or(failure.again());
        }
        return None;
    }
    let refused = draft
        .conditions
        .get(types::VERIFIED)
        .is_some_and(|condition| condition.reason == "FeatureUnsupported");
    if is_away || refused {
        return None;
    }
    if draft.status.operation_id.is_some() || draft.is_done(Done::Verify) {
        draft.conditions.set(
            types::VERIFIED,
            Holds::Unknown,
            "Verifying",
            "it is being read back",
        );
        draft.again = draft.again.or(Again::Seconds(POLL_SECONDS));
        // The answer says whether it has been read: as long as not, it is asked for.
        return match draft.observed.managed {
            Some(_) => None,
            None => draft.observed.workspace.as_deref().map(|workspace| {
                Step::Ensure(Box::new(request::request(&draft.observed.snapshot, workspace)))
            }),
        };
    }
    Some(Step::Verify)
}

/// The Workspace that `restoreOnCreate` makes.
fn restore_on_create(draft: &mut Draft<'_>) -> Option<Step> {
    let observed = draft.observed;
    let snapshot = observed.snapshot.as_ref();
    let name = snapshot
        .spec
        .restore_worktree
        .clone()
        .unwrap_or_else(|| snapshot.name_any());
    let old = draft.status.restore_status.clone().unwrap_or_default();
    if old.phase == Some(RestoreOnCreatePhase::Completed) {
        return None;
    }
    let now = time(observed.now);
    let mut status = RestoreOnCreateStatus {
        worktree_name: Some(name.clone()),
        phase: Some(RestoreOnCreatePhase::InProgress),
        started_at: old.started_at.or(Some(now.clone())),
        completed_at: None,
    };
    let step = match (&observed.worktree, &observed.workspace) {
        (Some(made), _) if worktree::is_made_from(made, cache::uid(snapshot)) => {
            let conditions = made
                .status
                .as_ref()
                .map(|status| status.conditions.as_slice())
                .unwrap_or_default();
            match cairn_crds::conditions::find(conditions, types::READY) {
                Some(ready) if ready.status == "True" => {
                    status.phase = Some(RestoreOnCreatePhase::Completed);
                    status.completed_at = Some(now);
                    let message = format!("the Workspace {name} begins with it");
                    draft.conditions.set(types::RESTORED, true, "Restored", message);
                }
                Some(ready) if ready.status == "False" => {
                    let message = format!("the Workspace {name} cannot be made: {}", ready.message);
                    let reason = ready.reason.clone();
                    draft.conditions.set(types::RESTORED, false, &reason, message);
                }
                _ => draft.conditions.set(
                    types::RESTORED,
                    Holds::Unknown,
                    "Making",
                    format!("the Workspace {name} is being made"),
                ),
            }
            None
        }
        (Some(_), _) => {
            status.phase = Some(RestoreOnCreatePhase::Failed);
            draft.conditions.set(
                types::RESTORED,
                false,
                "NameTaken",
                format!(
                    "there is a Workspace {name} already, and it was not made from this Snapshot: delete it, or make a Restore with another name in into.newWorkspace"
                ),
            );
            None
        }
        (None, Some(workspace)) if !draft.is_done(Done::Worktree) => {
            draft.conditions.set(
                types::RESTORED,
                Holds::Unknown,
                "Making",
                format!("the Workspace {name} is being made"),
            );
            Some(Step::CreateWorktree(Box::new(worktree::worktree(
                workspace,
                &snapshot.name_any(),
                &name,
                cache::uid(snapshot),
            ))))
        }
        (None, _) => None,
    };
    draft.status.restore_status = Some(status);
    step
}
