//! What is done for a Restore, one step at a time, and what its status says. A Restore is done once: what is done stays done, whatever happens to the Workspace
//! afterwards.
//!
//! In place: the plan is told first, also of a run; then the daemon restores under a key that follows from the object's uid. Into a new Workspace: that Workspace is
//! made, beginning with the snapshot, and the Restore is done when it is ready.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::conditions as types;
use cairn_crds::names;
use cairn_crds::restore::{RestoreMode, RestorePhase, RestorePlan, RestoreStep};
use cairn_crds::snapshot::Progress;
use cairn_crds::{Restore, RestoreStatus, Snapshot, Workspace};
use cairn_types::Timestamp;
use kube::ResourceExt;

use super::snapshot_worktree as worktree;
use super::{
    Again, Decision, Failure, FailureKind, NodeView, POLL_SECONDS, daemon_name, restore_key, signed,
};
use crate::runtime::cache;
use crate::runtime::clock::time;
use crate::runtime::conditions::{Conditions, Holds};

/// Most entries of `status.history`.
const HISTORY_MAX: usize = 32;

/// What is known when a step is decided.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The Restore.
    pub restore: Arc<Restore>,
    /// The time.
    pub now: Timestamp,
    /// The Workspace that it names.
    pub workspace: Option<Arc<Workspace>>,
    /// The Snapshot that it names, by name or by id.
    pub snapshot: Option<Arc<Snapshot>>,
    /// The Workspace of the name that it makes.
    pub target: Option<Arc<Workspace>>,
    /// The node of the Workspace.
    pub node: Option<NodeView>,
    /// The plan that the daemon told in this pass.
    pub plan: Option<proto::PlanRestoreResponse>,
    /// What the daemon said in this pass.
    pub managed: Option<Arc<proto::ManagedRestore>>,
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
    /// [`Step::Plan`]
    Plan,
    /// [`Step::Ensure`]
    Ensure,
    /// [`Step::CreateTarget`]
    Target,
    /// [`Step::Forget`]
    Forget,
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
    /// Ask the daemon what it would do.
    Plan(Box<proto::PlanRestoreRequest>),
    /// Ask the daemon to do it.
    Ensure(Box<proto::EnsureRestoreRequest>),
    /// Make the new Workspace, if there is none of the name.
    CreateTarget(Box<Workspace>),
    /// The daemon need not remember it any more.
    Forget,
    /// Note that the daemon of this node need not remember it if it ever comes back.
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
            Step::Plan(_) => Done::Plan,
            Step::Ensure(_) => Done::Ensure,
            Step::CreateTarget(_) => Done::Target,
            Step::Forget => Done::Forget,
            Step::Entomb { .. } => Done::Tombstone,
            Step::RemoveFinalizer => Done::NoFinalizer,
        }
    }
}

/// A decision about a Restore.
pub type RestoreDecision = Decision<RestoreStatus, Step>;

struct Draft<'a> {
    observed: &'a Observed,
    status: RestoreStatus,
    conditions: Conditions,
    again: Again,
}

/// Decides the next step.
pub fn decide(observed: &Observed) -> RestoreDecision {
    let restore = observed.restore.as_ref();
    let old = restore.status.clone().unwrap_or_default();
    let mut draft = Draft {
        observed,
        conditions: Conditions::new(&old.conditions, cache::generation(restore), observed.now),
        status: old,
        again: Again::OnChange,
    };
    draft.status.observed_generation = Some(cache::generation(restore));
    let is_over = matches!(
        draft.status.phase,
        Some(RestorePhase::Completed | RestorePhase::Failed)
    ) && draft.status.completed_at.is_some();
    if cache::is_terminating(restore) {
        return match forget(&mut draft) {
            Some(step) => draft.step(step, false),
            None => draft.finish(),
        };
    }
    if is_over {
        return draft.finish();
    }
    match next(&mut draft) {
        Some((step, record_first)) => draft.step(step, record_first),
        None => draft.finish(),
    }
}

impl Draft<'_> {
    fn failure(&self, done: Done) -> Option<&Failure> {
        let failure = self.observed.failure.as_ref();
        failure
            .filter(|(step, _)| *step == done)
            .map(|(_, failure)| failure)
    }

    fn is_done(&self, done: Done) -> bool {
        self.observed.done.contains(&done)
    }

    fn step(self, step: Step, record_first: bool) -> RestoreDecision {
        let mut decision = self.finish();
        decision.record_first = record_first;
        decision.step = Some(step);
        decision
    }

    fn finish(mut self) -> RestoreDecision {
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

    /// It waits, or it failed for now.
    fn wait(&mut self, holds: Holds, reason: &str, message: impl Into<String>) {
        self.conditions.set(types::READY, holds, reason, message);
        self.conditions.set(
            types::PROGRESSING,
            false,
            "Waiting",
            "it waits for something: see Ready",
        );
        if self.status.phase != Some(RestorePhase::InProgress) {
            self.status.phase = Some(RestorePhase::Pending);
        }
    }

    fn fail(&mut self, failure: &Failure) {
        let holds = match failure.kind {
            FailureKind::Away => Holds::Unknown,
            FailureKind::Again | FailureKind::Refused => Holds::False,
        };
        self.wait(holds, &failure.reason, failure.message.clone());
        self.again = self.again.or(failure.again());
    }

    fn tell(&mut self, reason: &str, message: String) {
        let time = time(self.observed.now);
        let history = &mut self.status.history;
        if history
            .last()
            .is_some_and(|last| last.reason == reason && last.message.as_deref() == Some(&message))
        {
            return;
        }
        history.push(RestoreStep {
            time,
            reason: reason.to_owned(),
            message: Some(message),
        });
        let surplus = history.len().saturating_sub(HISTORY_MAX);
        history.drain(..surplus);
    }
}

/// A restore that was begun stays begun; the daemon need not remember it when nobody can ask for it any more.
fn forget(draft: &mut Draft<'_>) -> Option<Step> {
    let observed = draft.observed;
    if !cache::has_finalizer(observed.restore.as_ref(), names::RESTORE_FINALIZER)
        || draft.is_done(Done::NoFinalizer)
    {
        return None;
    }
    let Some(node) = draft.status.node_name.clone() else {
        return Some(Step::RemoveFinalizer);
    };
    if draft.is_done(Done::Forget) || draft.is_done(Done::Tombstone) {
        return Some(Step::RemoveFinalizer);
    }
    let is_away = observed.node.as_ref().is_some_and(|node| node.away.is_some());
    match draft.failure(Done::Forget).cloned() {
        // Nothing of value is there: the node is told when it comes back.
        _ if is_away => Some(Step::Entomb { node }),
        Some(failure) if failure.kind == FailureKind::Away => Some(Step::Entomb { node }),
        Some(failure) => {
            draft.fail(&failure);
            None
        }
        None => Some(Step::Forget),
    }
}

fn next(draft: &mut Draft<'_>) -> Option<(Step, bool)> {
    let observed = draft.observed;
    let spec = &observed.restore.spec;
    let namespace = observed.restore.namespace().unwrap_or_default();
    let Some(workspace) = observed.workspace.as_deref() else {
        draft.wait(
            Holds::False,
            "WorkspaceNotFound",
            format!(
                "there is no Workspace {} in the namespace {namespace}: make it",
                spec.workspace
            ),
        );
        return None;
    };
    let status = workspace.status.as_ref();
    let made = status.filter(|status| status.workspace_id.is_some());
    let Some(node) = made.and_then(|status| status.node_name.clone()) else {
        let why = status
            .and_then(|status| status.message.clone())
            .unwrap_or_default();
        draft.wait(
            Holds::Unknown,
            "WorkspaceNotReady",
            format!("the Workspace {} is not there yet: {why}", spec.workspace),
        );
        return None;
    };
    if cache::is_terminating(workspace) {
        draft.wait(
            Holds::False,
            "WorkspaceDeleting",
            format!("the Workspace {} is being deleted", spec.workspace),
        );
        return None;
    }
    let reference = match reference(observed) {
        Ok(reference) => reference,
        Err((reason, message)) => {
            draft.wait(Holds::False, reason, message);
            return None;
        }
    };
    draft.status.snapshot_id.get_or_insert_with(|| reference.clone());
    if let Some(into) = &spec.into.new_workspace {
        if spec.mode == RestoreMode::Plan {
            planned_new(draft, &into.name);
            return None;
        }
        if !spec.paths.is_empty() {
            draft.wait(
                Holds::False,
                "PathsNotSupported",
                "paths cannot be restored into a new Workspace, which begins with the whole snapshot: remove paths, or restore in place",
            );
            return None;
        }
        return new_workspace(draft, workspace, &into.name);
    }
    draft.status.node_name = Some(node.clone());
    let away = match &observed.failure {
        Some((_, failure)) if failure.kind == FailureKind::Away => Some(failure.message.clone()),
        _ => observed.node.as_ref().and_then(|node| node.away.clone()),
    };
    if let Some(why) = away {
        draft
            .conditions
            .set(types::NODE_REACHABLE, false, "NodeAway", why.clone());
        draft.wait(Holds::Unknown, "NodeAway", why);
        draft.again = draft.again.or(Again::Seconds(60));
        return None;
    }
    draft.conditions.set(
        types::NODE_REACHABLE,
        true,
        "Answers",
        format!("the daemon of node {node} answers"),
    );
    in_place(draft, &namespace, &reference)
}

/// The id of the snapshot. Errors: why there is none yet.
fn reference(observed: &Observed) -> Result<String, (&'static str, String)> {
    let spec = &observed.restore.spec;
    let Some(snapshot) = observed.snapshot.as_deref() else {
        // An id of a snapshot that no resource tells of.
        return match cairn_types::SnapshotId::parse(&spec.snapshot) {
            Some(id) => Ok(id.to_string()),
            None => Err((
                "SnapshotNotFound",
                format!(
                    "there is no Snapshot {} in the namespace, and it is no id of one: see kubectl get snapshots.jvs.io",
                    spec.snapshot
                ),
            )),
        };
    };
    if snapshot.spec.workspace != spec.workspace {
        return Err((
            "SnapshotForeign",
            format!(
                "the Snapshot {} is of the Workspace {}, not of {}: name that Workspace",
                snapshot.name_any(),
                snapshot.spec.workspace,
                spec.workspace
            ),
        ));
    }
    let id = snapshot
        .status
        .as_ref()
        .and_then(|status| status.snapshot_id.clone());
    id.ok_or_else(|| {
        (
            "SnapshotNotReady",
            format!("the Snapshot {} has not been taken yet", snapshot.name_any()),
        )
    })
}

fn in_place(draft: &mut Draft<'_>, namespace: &str, reference: &str) -> Option<(Step, bool)> {
    let observed = draft.observed;
    let spec = &observed.restore.spec;
    let paths: Vec<Vec<u8>> = spec.paths.iter().map(|path| path.clone().into_bytes()).collect();
    if draft.status.plan.is_none() {
        if let Some(failure) = draft.failure(Done::Plan).cloned() {
            let can_run = spec.mode == RestoreMode::Run && failure.reason == "FeatureUnsupported";
            draft
                .conditions
                .set(types::PLANNED, false, &failure.reason, failure.message.clone());
            if !can_run {
                draft.fail(&failure);
                return None;
            }
        } else if let Some(plan) = &observed.plan {
            plan_told(draft, plan.clone());
        } else {
            let request = proto::PlanRestoreRequest {
                workspace: daemon_name(namespace, &spec.workspace),
                snapshot: reference.to_owned(),
                paths,
            };
            return Some((Step::Plan(Box::new(request)), false));
        }
    }
    if spec.mode == RestoreMode::Plan {
        draft.status.phase = Some(RestorePhase::Planned);
        draft.conditions.set(
            types::READY,
            true,
            "Planned",
            "nothing has been changed; set spec.mode to Run to do it",
        );
        draft
            .conditions
            .set(types::PROGRESSING, false, "Done", "the plan is there");
        return None;
    }
    if let Some(failure) = draft.failure(Done::Ensure).cloned() {
        draft.fail(&failure);
        return None;
    }
    if let Some(managed) = observed.managed.clone() {
        managed_restore(draft, &managed);
        return None;
    }
    if !cache::has_finalizer(observed.restore.as_ref(), names::RESTORE_FINALIZER)
        && !draft.is_done(Done::Finalizer)
    {
        return Some((Step::AddFinalizer, false));
    }
    if draft.status.started_at.is_none() {
        draft.status.started_at = Some(time(observed.now));
        draft.status.phase = Some(RestorePhase::InProgress);
        draft.status.workspace = Some(spec.workspace.clone());
        draft
            .conditions
            .set(types::READY, Holds::Unknown, "Restoring", "it is being restored");
        draft
            .conditions
            .set(types::PROGRESSING, true, "Restoring", "it is being restored");
        draft.tell("Started", format!("the restore of snapshot {reference} begins"));
        return Some((Step::RecordStatus, true));
    }
    let request = proto::EnsureRestoreRequest {
        key: restore_key(cache::uid(observed.restore.as_ref())),
        workspace: daemon_name(namespace, &spec.workspace),
        workspace_key: observed
            .workspace
            .as_deref()
            .map(|workspace| cache::uid(workspace).to_owned())
            .unwrap_or_default(),
        snapshot: draft
            .status
            .snapshot_id
            .clone()
            .unwrap_or_else(|| reference.to_owned()),
        paths,
        into: Some(proto::ensure_restore_request::Into::InPlace(proto::InPlace {})),
        without_safety: !spec.safety_snapshot,
        ..proto::EnsureRestoreRequest::default()
    };
    Some((Step::Ensure(Box::new(request)), false))
}

fn plan_told(draft: &mut Draft<'_>, plan: proto::PlanRestoreResponse) {
    draft.status.plan = Some(RestorePlan {
        adds: signed(plan.adds),
        changes: signed(plan.changes),
        deletes: signed(plan.deletes),
        bytes: signed(plan.bytes),
    });
    if !plan.snapshot.is_empty() {
        draft.status.snapshot_id = Some(plan.snapshot);
    }
    let message = format!(
        "{} entries come back, {} change, {} go; {} bytes",
        plan.adds, plan.changes, plan.deletes, plan.bytes
    );
    draft.tell("Planned", message.clone());
    draft.conditions.set(types::PLANNED, true, "Planned", message);
}

fn managed_restore(draft: &mut Draft<'_>, managed: &proto::ManagedRestore) {
    draft.status.operation_id = (!managed.operation.is_empty()).then(|| managed.operation.clone());
    draft.status.safety_snapshot = managed.safety.clone();
    draft.status.progress = managed.progress.as_ref().map(|progress| Progress {
        files_done: signed(progress.files),
        bytes_done: signed(progress.bytes),
        bytes_total: (progress.bytes_total > 0).then(|| signed(progress.bytes_total)),
    });
    match proto::ManagedState::try_from(managed.state) {
        Ok(proto::ManagedState::Ready) => {
            let message = match &managed.safety {
                Some(safety) => format!(
                    "the Workspace is as snapshot {}; what was there is snapshot {safety}",
                    managed.snapshot
                ),
                None => format!("the Workspace is as snapshot {}", managed.snapshot),
            };
            complete(draft, message);
        }
        Ok(proto::ManagedState::Running) => {
            draft.status.phase = Some(RestorePhase::InProgress);
            draft
                .conditions
                .set(types::READY, Holds::Unknown, "Restoring", "it is being restored");
            draft.conditions.set(
                types::PROGRESSING,
                true,
                "Restoring",
                format!("operation {} does it", managed.operation),
            );
            draft.again = draft.again.or(Again::Seconds(POLL_SECONDS));
        }
        Ok(proto::ManagedState::Failed) => {
            let failure = managed.failure.clone().unwrap_or_default();
            let reason = crate::daemons::error::camel(&failure.reason);
            let message = format!("{}; {}", failure.message, failure.remedy);
            draft.tell(&reason, message.clone());
            draft.wait(Holds::False, &reason, message);
            draft.again = draft.again.or(Again::Seconds(super::REFUSED_SECONDS));
        }
        // The same request goes on.
        Ok(_) | Err(_) => {
            draft.wait(
                Holds::Unknown,
                "Interrupted",
                "the daemon ended before it was done; it is asked again",
            );
            draft.again = Again::BackOff;
        }
    }
}

fn complete(draft: &mut Draft<'_>, message: String) {
    draft.status.phase = Some(RestorePhase::Completed);
    draft.status.completed_at = Some(time(draft.observed.now));
    draft.status.progress = None;
    draft.status.operation_id = None;
    draft.tell("Completed", message.clone());
    draft.conditions.set(types::READY, true, "Completed", message);
    draft
        .conditions
        .set(types::PROGRESSING, false, "Done", "it is done");
}

fn planned_new(draft: &mut Draft<'_>, name: &str) {
    draft.status.phase = Some(RestorePhase::Planned);
    let message = format!(
        "a Workspace {name} would be made that begins with the snapshot; nothing has been changed; set spec.mode to Run to do it"
    );
    draft
        .conditions
        .set(types::PLANNED, true, "Planned", message.clone());
    draft.conditions.set(types::READY, true, "Planned", message);
    draft
        .conditions
        .set(types::PROGRESSING, false, "Done", "the plan is there");
}

fn new_workspace(draft: &mut Draft<'_>, of: &Workspace, name: &str) -> Option<(Step, bool)> {
    let observed = draft.observed;
    let restore = observed.restore.as_ref();
    draft.status.workspace = Some(name.to_owned());
    draft.status.started_at.get_or_insert_with(|| time(observed.now));
    if let Some(made) = observed.target.as_deref() {
        if !worktree::is_made_from(made, cache::uid(restore)) {
            draft.wait(
                Holds::False,
                "NameTaken",
                format!(
                    "there is a Workspace {name} already, and it was not made by this Restore: delete it, or make a Restore with another name"
                ),
            );
            return None;
        }
        let status = made.status.as_ref();
        let conditions = status
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        match cairn_crds::conditions::find(conditions, types::READY) {
            Some(ready) if ready.status == "True" => {
                complete(draft, format!("the Workspace {name} begins with the snapshot"))
            }
            Some(ready) if ready.status == "False" => {
                let (reason, message) = (ready.reason.clone(), ready.message.clone());
                draft.wait(
                    Holds::False,
                    &reason,
                    format!("the Workspace {name} cannot be made: {message}"),
                );
            }
            _ => {
                draft.status.phase = Some(RestorePhase::InProgress);
                let message = format!("the Workspace {name} is being made");
                draft
                    .conditions
                    .set(types::READY, Holds::Unknown, "Making", message.clone());
                draft.conditions.set(types::PROGRESSING, true, "Making", message);
            }
        }
        return None;
    }
    if let Some(failure) = draft.failure(Done::Target).cloned() {
        draft.fail(&failure);
        return None;
    }
    if draft.is_done(Done::Target) {
        draft.again = draft.again.or(Again::Seconds(5));
        return None;
    }
    let Some(snapshot) = observed.snapshot.as_deref() else {
        draft.wait(
            Holds::False,
            "SnapshotNotFound",
            "a new Workspace begins with a Snapshot resource: name one, see kubectl get snapshots.jvs.io",
        );
        return None;
    };
    let made = worktree::worktree(of, &snapshot.name_any(), name, cache::uid(restore));
    draft.status.phase = Some(RestorePhase::InProgress);
    draft.tell(
        "Started",
        format!("the Workspace {name} is made from the snapshot"),
    );
    Some((Step::CreateTarget(Box::new(made)), false))
}
