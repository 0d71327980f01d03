//! The objects that `--json` prints. Stable: fields are added, never renamed or removed, and never change their meaning. Sizes are bytes; times are
//! RFC 3339, UTC. Every command's `--help` shows an example.

use cairn_crds::conditions::{READY, VERIFIED, find};
use cairn_crds::restore::RestoreMode;
use cairn_crds::{Restore, Snapshot, Workspace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde::Serialize;

fn time(time: Option<&Time>) -> Option<String> {
    time.map(|time| time.0.to_string())
}

/// Status, reason and message of Ready; `Unknown` if nobody has said anything.
fn ready(conditions: Option<&[Condition]>) -> (String, String, String) {
    match find(conditions.unwrap_or_default(), READY) {
        Some(ready) => (ready.status.clone(), ready.reason.clone(), ready.message.clone()),
        None => (
            "Unknown".to_owned(),
            "NotSeen".to_owned(),
            "no operator has looked at it yet".to_owned(),
        ),
    }
}

/// A workspace.
#[derive(Debug, Serialize)]
pub struct ShownWorkspace {
    pub namespace: String,
    pub name: String,
    pub ready: String,
    pub reason: String,
    pub message: String,
    pub node: Option<String>,
    pub claim: Option<String>,
    pub capacity: String,
    pub snapshots: i64,
    pub last_snapshot: Option<String>,
    pub next_snapshot: Option<String>,
    pub created: Option<String>,
}

impl From<&Workspace> for ShownWorkspace {
    fn from(workspace: &Workspace) -> Self {
        let status = workspace.status.clone().unwrap_or_default();
        let (ready, reason, message) = ready(Some(&status.conditions));
        ShownWorkspace {
            namespace: workspace.namespace().unwrap_or_default(),
            name: workspace.name_any(),
            ready,
            reason,
            message,
            node: status.node_name,
            claim: status.claim_name,
            capacity: status.capacity.unwrap_or_else(|| workspace.spec.storage.clone()),
            snapshots: i64::from(status.snapshot_count.unwrap_or(0)),
            last_snapshot: time(status.last_snapshot_time.as_ref()),
            next_snapshot: time(status.next_snapshot_time.as_ref()),
            created: time(workspace.metadata.creation_timestamp.as_ref()),
        }
    }
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub struct ShownSnapshot {
    pub namespace: String,
    pub name: String,
    pub workspace: String,
    pub id: Option<String>,
    pub ready: String,
    pub reason: String,
    pub message: String,
    pub created: Option<String>,
    pub bytes: Option<i64>,
    /// `True`, `False` (damaged) or `Unknown` (not read back).
    pub verified: String,
    pub engine: Option<String>,
    pub node: Option<String>,
    pub tags: Vec<String>,
    pub note: Option<String>,
}

/// The moment that a snapshot shows; until it is there, the one when it was asked for.
pub fn taken(snapshot: &Snapshot) -> Option<&Time> {
    let status = snapshot.status.as_ref();
    status
        .and_then(|status| status.created_at.as_ref())
        .or(snapshot.metadata.creation_timestamp.as_ref())
}

impl From<&Snapshot> for ShownSnapshot {
    fn from(snapshot: &Snapshot) -> Self {
        let status = snapshot.status.clone().unwrap_or_default();
        let (ready, reason, message) = ready(Some(&status.conditions));
        let verified = find(&status.conditions, VERIFIED).map(|verified| verified.status.clone());
        ShownSnapshot {
            namespace: snapshot.namespace().unwrap_or_default(),
            name: snapshot.name_any(),
            workspace: snapshot.spec.workspace.clone(),
            id: status.snapshot_id,
            ready,
            reason,
            message,
            created: time(taken(snapshot)),
            bytes: status.size,
            verified: verified.unwrap_or_else(|| "Unknown".to_owned()),
            engine: status.engine,
            node: status.node_name,
            tags: snapshot.spec.tags.clone(),
            note: snapshot.spec.note.clone(),
        }
    }
}

/// What a restore would do.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub adds: i64,
    pub changes: i64,
    pub deletes: i64,
    pub bytes: i64,
}

/// A restore.
#[derive(Debug, Serialize)]
pub struct ShownRestore {
    pub namespace: String,
    pub name: String,
    pub workspace: String,
    pub snapshot: String,
    pub mode: &'static str,
    pub ready: String,
    pub reason: String,
    pub message: String,
    /// null: a new workspace, or nobody could tell.
    pub plan: Option<Plan>,
    pub safety_snapshot: Option<String>,
    /// The new workspace.
    pub into: Option<String>,
}

impl From<&Restore> for ShownRestore {
    fn from(restore: &Restore) -> Self {
        let status = restore.status.clone().unwrap_or_default();
        let (ready, reason, message) = ready(Some(&status.conditions));
        let into = restore.spec.into.new_workspace.as_ref();
        ShownRestore {
            namespace: restore.namespace().unwrap_or_default(),
            name: restore.name_any(),
            workspace: restore.spec.workspace.clone(),
            snapshot: restore.spec.snapshot.clone(),
            mode: match restore.spec.mode {
                RestoreMode::Plan => "Plan",
                RestoreMode::Run => "Run",
            },
            ready,
            reason,
            message,
            plan: status.plan.map(|plan| Plan {
                adds: plan.adds,
                changes: plan.changes,
                deletes: plan.deletes,
                bytes: plan.bytes,
            }),
            safety_snapshot: status.safety_snapshot,
            into: into.map(|into| into.name.clone()),
        }
    }
}
