//! Restore: makes a Workspace, or paths of it, equal to one of its snapshots, or a new Workspace from it.
//!
//! A Restore is one request, done once: what it asks for never changes, but it can be planned first and run later.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::snapshot::Progress;
use crate::{conditions, schema, validation};

/// What is restored, and where to.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "jvs.io",
    version = "v1alpha1",
    kind = "Restore",
    plural = "restores",
    singular = "restore",
    shortname = "jvsrestore",
    category = "storage",
    namespaced,
    status = "RestoreStatus",
    derive = "PartialEq",
    doc = "One restore of a snapshot: into its Workspace, as a whole or single paths, or into a new Workspace. With mode Plan it only tells what it would do.",
    selectable = ".spec.workspace",
    selectable = ".spec.snapshot",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace"),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".spec.snapshot"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Adds", type_ = "integer", json_path = ".status.plan.adds"),
    printcolumn(name = "Changes", type_ = "integer", json_path = ".status.plan.changes"),
    printcolumn(name = "Deletes", type_ = "integer", json_path = ".status.plan.deletes"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Safety",
        type_ = "string",
        json_path = ".status.safetySnapshot",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = validation::immutable_field("paths", "make another Restore"),
    validation = validation::holds(
        "!has(self.into.newWorkspace) || self.into.newWorkspace.name != self.workspace",
        "into.newWorkspace is the workspace itself: give the name of a new one, or use into.inPlace"
    )
)]
pub struct RestoreSpec {
    /// The snapshot: the name of a Snapshot of this namespace, or the id of a snapshot of the workspace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = validation::immutable("snapshot", "make another Restore"))]
    pub snapshot: String,

    /// Workspace of this namespace that the snapshot is of.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = validation::label(),
        validation = validation::immutable("workspace", "make another Restore")
    )]
    pub workspace: String,

    /// Where to. It cannot be changed.
    pub into: RestoreTarget,

    /// Restores only these paths, each relative to the workspace's root. Absent: all. It cannot be changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = validation::relative_paths(), merge_strategy = ListMerge::Atomic)]
    pub paths: Vec<String>,

    /// Whether it only tells what would be done (`status.plan`), or does it. A plan can be made a run, once.
    #[serde(default)]
    #[x_kube(validation = validation::holds(
        "self == oldSelf || self == 'Run'",
        "a run cannot become a plan again: make another Restore"
    ))]
    pub mode: RestoreMode,

    /// Takes a snapshot of what is about to be replaced (`status.safetySnapshot`).
    #[serde(default = "yes")]
    #[x_kube(validation = validation::immutable("safetySnapshot", "make another Restore"))]
    pub safety_snapshot: bool,
}

fn yes() -> bool {
    true
}

/// Where a restore goes: exactly one of the fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = validation::exactly_one(&["inPlace", "newWorkspace"]),
    validation = validation::immutable("into", "make another Restore")
)]
pub struct RestoreTarget {
    /// Into the workspace itself, while it is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_place: Option<InPlace>,
    /// Into a new Workspace, on the same node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_workspace: Option<NewWorkspace>,
}

/// Into the workspace itself. There is nothing to say about it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct InPlace {}

/// A Workspace that does not exist yet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NewWorkspace {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = validation::label())]
    pub name: String,
}

/// Whether a Restore tells or does.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum RestoreMode {
    /// It tells what would be done.
    #[default]
    Plan,
    /// It does it.
    Run,
}

/// What a restore has done.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// In one word, for the eye; programs read `conditions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestorePhase>,
    /// The message of the condition that matters most now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32_768))]
    pub message: Option<String>,
    /// The `metadata.generation` that this status was decided from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Id of the snapshot.
    #[serde(rename = "snapshotID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub snapshot_id: Option<String>,
    /// Node on which it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
    /// What would be done, or was about to be done when it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<RestorePlan>,
    /// Id of the snapshot of what was replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub safety_snapshot: Option<String>,
    /// Workspace that has been restored or made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub workspace: Option<String>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Operation of the daemon that does it; `cairn operation show` tells more.
    #[serde(rename = "operationID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub operation_id: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// What happened, oldest first; the newest 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub history: Vec<RestoreStep>,
    /// What holds now, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::list")]
    pub conditions: Vec<Condition>,
}

/// A restore's state in one word.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum RestorePhase {
    /// It waits, for its Snapshot, its Workspace or its node.
    Pending,
    /// What it would do stands in `status.plan`.
    Planned,
    /// It is being done.
    InProgress,
    /// It is done.
    Completed,
    /// It cannot be done; the message tells why.
    Failed,
}

/// What a restore would do.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RestorePlan {
    /// Entries that would be made.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub adds: i64,
    /// Entries that would be changed.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub changes: i64,
    /// Entries that would be removed.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub deletes: i64,
    /// Bytes that would be written.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub bytes: i64,
}

/// Something that happened to a restore.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStep {
    /// When.
    pub time: Time,
    /// What, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// What, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}
