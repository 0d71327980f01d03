//! What is done for a Workspace, one step at a time, and what its status says.
//!
//! The order of the steps, each of which may be taken any number of times:
//!
//! 1. The finalizer, so that nothing is made that would be forgotten.
//! 2. The node. It stands in the status before a daemon hears of the Workspace, and is never chosen again.
//! 3. The daemon makes the workspace and its export; the volume and the claim make it mountable.
//! 4. Snapshots that are due; snapshots that retention removes, after the status has named them.
//!
//! Deletion goes back: claim, volume, then the daemon, then the finalizer ([`deletion`]).

pub mod deletion;
mod ensure;
mod snapshots;
mod summary;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_api::proto;
use cairn_crds::conditions as types;
use cairn_crds::names;
use cairn_crds::validation::quantity_bytes;
use cairn_crds::{Snapshot, Workspace, WorkspaceStatus};
use cairn_types::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::placement::{Candidate, choose};
use super::{Again, Child, Decision, Failure, FailureKind, NodeView, PlanSettings};
use crate::runtime::cache;
use crate::runtime::conditions::{Conditions, Holds};

/// Annotation of a Workspace that begins with a snapshot: workspace and id of that, with a `/` between them.
pub const ORIGIN: &str = "jvs.io/origin";
/// Most Snapshots that one pass removes.
pub const DELETIONS_MAX: usize = 32;

/// What is known when a step is decided.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The Workspace.
    pub workspace: Arc<Workspace>,
    /// The time.
    pub now: Timestamp,
    /// The operator's settings.
    pub settings: PlanSettings,
    /// All nodes; only needed while none is chosen.
    pub candidates: Vec<Candidate>,
    /// What it begins with.
    pub initial: Initial,
    /// Where its directory is, if it is not a volume.
    pub directory: Directory,
    /// The node that was chosen.
    pub node: Option<NodeView>,
    /// What the daemon says of it; nothing: it has not been asked for with these arguments.
    pub managed: Option<Arc<proto::ManagedWorkspace>>,
    /// Its volume.
    pub volume: Child<PersistentVolume>,
    /// Its claim.
    pub claim: Child<PersistentVolumeClaim>,
    /// All Snapshots that name it.
    pub snapshots: Vec<Arc<Snapshot>>,
    /// Names of Snapshots that something is being made from.
    pub needed: BTreeSet<String>,
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
    /// [`Step::RecordOrigin`]
    Origin,
    /// [`Step::Ensure`]
    Ensure,
    /// [`Step::ApplyVolume`]
    Volume,
    /// [`Step::ApplyClaim`]
    Claim,
    /// [`Step::CreateSnapshot`]
    Snapshot,
    /// [`Step::DeleteSnapshots`]
    Snapshots,
    /// [`Step::DeleteClaim`]
    ClaimGone,
    /// [`Step::DeleteVolume`]
    VolumeGone,
    /// [`Step::Release`] or [`Step::DeleteData`]
    Daemon,
    /// [`Step::Entomb`]
    Tombstone,
    /// [`Step::RemoveFinalizer`]
    NoFinalizer,
}

/// The snapshot that a Workspace begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Initial {
    /// It begins empty.
    None,
    /// The snapshot is not there yet, or not ready.
    Waiting {
        /// CamelCase.
        reason: &'static str,
        /// Why, and what to do.
        message: String,
    },
    /// It is there, or was when the Workspace was made from it.
    Found {
        /// The name of its workspace at the daemon.
        workspace: String,
        /// Its id.
        snapshot: String,
        /// The node that has it.
        node: String,
    },
}

/// The directory of a Workspace that is not a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directory {
    /// It is a volume.
    None,
    /// It cannot be found now.
    Waiting {
        /// CamelCase.
        reason: &'static str,
        /// Why, and what to do.
        message: String,
    },
    /// It is there.
    Found {
        /// The node that has it.
        node: String,
        /// Its path there.
        path: String,
    },
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Add the finalizer.
    AddFinalizer,
    /// Write the status, and go on.
    RecordStatus,
    /// Write into the annotation [`ORIGIN`] what it begins with, so that later requests say the same, whatever becomes of the Snapshot.
    RecordOrigin {
        /// The name of the workspace that has the snapshot, at the daemon.
        workspace: String,
        /// The id of the snapshot.
        snapshot: String,
    },
    /// Ask the daemon for the workspace.
    Ensure(Box<proto::EnsureWorkspaceRequest>),
    /// Keep the volume.
    ApplyVolume(Box<PersistentVolume>),
    /// Keep the claim.
    ApplyClaim(Box<PersistentVolumeClaim>),
    /// Make a Snapshot, if there is none of the name.
    CreateSnapshot(Box<Snapshot>),
    /// Remove these Snapshots.
    DeleteSnapshots(Vec<String>),
    /// Remove the claim.
    DeleteClaim,
    /// Remove the volume.
    DeleteVolume,
    /// The daemon keeps the data, and nobody owns it.
    Release,
    /// The daemon removes the data and all snapshots.
    DeleteData,
    /// Note that the daemon of this node is to remove (or else release) the data if it ever comes back.
    Entomb {
        /// The node.
        node: String,
        /// Remove, or else release.
        delete: bool,
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
            Step::RecordOrigin { .. } => Done::Origin,
            Step::Ensure(_) => Done::Ensure,
            Step::ApplyVolume(_) => Done::Volume,
            Step::ApplyClaim(_) => Done::Claim,
            Step::CreateSnapshot(_) => Done::Snapshot,
            Step::DeleteSnapshots(_) => Done::Snapshots,
            Step::DeleteClaim => Done::ClaimGone,
            Step::DeleteVolume => Done::VolumeGone,
            Step::Release | Step::DeleteData => Done::Daemon,
            Step::Entomb { .. } => Done::Tombstone,
            Step::RemoveFinalizer => Done::NoFinalizer,
        }
    }
}

/// A decision about a Workspace.
pub type WorkspaceDecision = Decision<WorkspaceStatus, Step>;

/// What a decision collects on its way.
pub(super) struct Draft<'a> {
    pub(super) observed: &'a Observed,
    pub(super) status: WorkspaceStatus,
    pub(super) conditions: Conditions,
    pub(super) again: Again,
}

/// Decides the next step.
pub fn decide(observed: &Observed) -> WorkspaceDecision {
    let workspace = &observed.workspace;
    let old = workspace.status.clone().unwrap_or_default();
    let mut draft = Draft {
        observed,
        conditions: Conditions::new(
            &old.conditions,
            cache::generation(workspace.as_ref()),
            observed.now,
        ),
        status: old,
        again: Again::OnChange,
    };
    draft.status.observed_generation = Some(cache::generation(workspace.as_ref()));
    if cache::is_terminating(workspace.as_ref()) {
        return deletion::decide(draft);
    }
    if !cache::has_finalizer(workspace.as_ref(), names::WORKSPACE_FINALIZER)
        && !workspace.spec.paused
        && !observed.done.contains(&Done::Finalizer)
    {
        return draft.step(Step::AddFinalizer, false);
    }
    snapshots::count(&mut draft);
    ensure::fields(&mut draft);
    if workspace.spec.paused {
        return paused(draft);
    }
    if draft.status.node_name.is_none() {
        return place(draft);
    }
    draft.conditions.set(
        types::PLACED,
        true,
        "Placed",
        format!("on node {}", draft.node_name()),
    );
    if let Some(step) = ensure::step(&mut draft) {
        return draft.step(step, false);
    }
    // Snapshots are made and removed by their own reconciler: also while the node is away.
    if let Some((step, record_first)) = snapshots::step(&mut draft) {
        return draft.step(step, record_first);
    }
    draft.finish()
}

impl Draft<'_> {
    pub(super) fn node_name(&self) -> String {
        self.status.node_name.clone().unwrap_or_default()
    }

    /// The failure of a step of this pass.
    pub(super) fn failure(&self, done: Done) -> Option<&Failure> {
        let failure = self.observed.failure.as_ref();
        failure
            .filter(|(step, _)| *step == done)
            .map(|(_, failure)| failure)
    }

    pub(super) fn is_done(&self, done: Done) -> bool {
        self.observed.done.contains(&done)
    }

    pub(super) fn step(self, step: Step, record_first: bool) -> WorkspaceDecision {
        let mut decision = self.finish();
        decision.record_first = record_first;
        decision.step = Some(step);
        decision
    }

    pub(super) fn finish(mut self) -> WorkspaceDecision {
        summary::summarize(&mut self);
        self.status.conditions = self.conditions.finish();
        Decision {
            status: self.status,
            step: None,
            record_first: false,
            again: self.again,
        }
    }

    /// Says that something went wrong with what `type_` is about.
    pub(super) fn fail(&mut self, type_: &str, failure: &Failure) {
        let holds = match failure.kind {
            FailureKind::Away => Holds::Unknown,
            FailureKind::Again | FailureKind::Refused => Holds::False,
        };
        self.conditions
            .set(type_, holds, &failure.reason, failure.message.clone());
        self.again = self.again.or(failure.again());
    }
}

/// Nothing is changed; what there is goes on.
fn paused(mut draft: Draft<'_>) -> WorkspaceDecision {
    draft.conditions.set(
        types::PROGRESSING,
        false,
        "Paused",
        "spec.paused is set: nothing is changed and no snapshots are taken; remove it to go on",
    );
    if draft.conditions.get(types::READY).is_none() {
        draft.conditions.set(
            types::READY,
            false,
            "Paused",
            "spec.paused was set before the Workspace was made: remove it",
        );
    }
    draft.status.next_snapshot_time = None;
    draft.status.phase = draft
        .status
        .phase
        .or(Some(cairn_crds::workspace::WorkspacePhase::Pending));
    draft.status.conditions = draft.conditions.finish();
    Decision {
        status: draft.status,
        step: None,
        record_first: false,
        again: Again::OnChange,
    }
}

fn place(mut draft: Draft<'_>) -> WorkspaceDecision {
    let observed = draft.observed;
    let spec = &observed.workspace.spec;
    let origin = match (&observed.initial, &observed.directory) {
        (Initial::Waiting { reason, message }, _) | (_, Directory::Waiting { reason, message }) => {
            draft
                .conditions
                .set(types::PLACED, false, reason, message.clone());
            draft.again = draft.again.or(Again::Seconds(30));
            return draft.finish();
        }
        (Initial::Found { node, .. }, _) | (_, Directory::Found { node, .. }) => Some(node.as_str()),
        (Initial::None, Directory::None) => None,
    };
    let bytes = match &observed.directory {
        Directory::None => quantity_bytes(&spec.storage).unwrap_or(0),
        _ => 0,
    };
    let uid = cache::uid(observed.workspace.as_ref());
    match choose(&observed.candidates, spec.placement.as_ref(), bytes, origin, uid) {
        Ok(node) => {
            draft
                .conditions
                .set(types::PLACED, true, "Placed", format!("on node {node}"));
            draft.status.node_name = Some(node);
            draft.step(Step::RecordStatus, true)
        }
        Err(none) => {
            draft
                .conditions
                .set(types::PLACED, false, none.reason, none.message);
            draft.again = draft.again.or(Again::Seconds(60));
            draft.finish()
        }
    }
}
