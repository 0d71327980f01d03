//! Snapshot: the tree of a Workspace at one moment. The object is the snapshot: deleting it deletes the data, unless its policy says otherwise.
//!
//! What decides the data never changes after creation; notes, tags and policies may.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::workspace::{Engine, Template};
use crate::{conditions, schema, validation};

/// What a snapshot is taken of, and how.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "jvs.io",
    version = "v1alpha1",
    kind = "Snapshot",
    plural = "snapshots",
    singular = "snapshot",
    shortname = "jvssnap",
    category = "storage",
    namespaced,
    status = "SnapshotStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The tree of a Workspace at one moment, kept and unchangeable.",
    selectable = ".spec.workspace",
    selectable = ".status.nodeName",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "SnapshotID", type_ = "string", json_path = ".status.snapshotID"),
    printcolumn(
        name = "Verified",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Verified\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.size", priority = 1),
    printcolumn(name = "Engine", type_ = "string", json_path = ".status.engine", priority = 1),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeName", priority = 1),
    printcolumn(name = "Note", type_ = "string", json_path = ".spec.note", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = validation::immutable_field("sourceSnapshot", "delete this Snapshot and make another"),
    validation = validation::immutable_field("partialPaths", "delete this Snapshot and make another"),
    validation = validation::immutable_field("engine", "delete this Snapshot and make another"),
    validation = validation::immutable_field("template", "delete this Snapshot and make another"),
    validation = validation::immutable_field("compression", "delete this Snapshot and make another"),
    validation = validation::immutable_field("restoreWorktree", "use a Restore"),
    validation = validation::holds(
        "!has(self.restoreWorktree) || self.restoreOnCreate",
        "restoreWorktree names the Workspace that restoreOnCreate makes: set restoreOnCreate, or remove restoreWorktree"
    ),
    validation = validation::holds(
        "!has(self.restoreWorktree) || self.restoreWorktree != self.workspace",
        "restoreWorktree is the workspace itself: give the name of a new one; a Restore with into.inPlace restores in place"
    )
)]
pub struct SnapshotSpec {
    /// Workspace of this namespace that it is taken of. It may be made later than the Snapshot.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = validation::label(),
        validation = validation::immutable("workspace", "delete this Snapshot and make another")
    )]
    pub workspace: String,

    /// Id or name of the snapshot that this one comes after, kept for the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub source_snapshot: Option<String>,

    /// What people want to know about it later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub note: Option<String>,

    /// Words by which it is found, and which retention can keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = validation::tags(), merge_strategy = ListMerge::Set)]
    pub tags: Vec<String>,

    /// Takes only these paths, each relative to the workspace's root. Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 4096)))]
    #[x_kube(validation = validation::relative_paths(), merge_strategy = ListMerge::Atomic)]
    pub partial_paths: Vec<String>,

    /// How the data is kept. Absent: the Workspace's `defaultEngine`. `status.engine` tells which one was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,

    /// Adds the template's note, if there is none, and its tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,

    /// How the data is compressed, where the engine compresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,

    /// Makes a new Workspace from the snapshot as soon as it is there. To restore an existing Snapshot, or in place, use a Restore.
    #[serde(default)]
    #[x_kube(validation = validation::immutable("restoreOnCreate", "use a Restore"))]
    pub restore_on_create: bool,

    /// Name of that Workspace. Absent: the name of the Snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = validation::label())]
    pub restore_worktree: Option<String>,

    /// Reads the data back and compares it with its checksums. Can be asked for later.
    #[serde(default)]
    pub verify: bool,

    /// What happens to the data when the Snapshot is deleted.
    #[serde(default)]
    pub deletion_policy: SnapshotDeletionPolicy,
}

/// How data is compressed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = validation::holds(
        "!has(self.level) || self.type != 'none'",
        "level needs type gzip or zstd: give one of them, or remove level"
    ),
    validation = validation::holds(
        "!has(self.level) || self.type != 'gzip' || self.level <= 9",
        "gzip has levels 0 to 9: give one of them, or type zstd"
    )
)]
pub struct Compression {
    /// The method.
    #[serde(rename = "type", default)]
    pub type_: CompressionType,
    /// How hard it tries: 0 to 9 with gzip, 0 to 22 with zstd. Absent: what the daemon is configured with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 22))]
    pub level: Option<i32>,
}

/// A method of compression.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = schema::enumeration)]
pub enum CompressionType {
    /// zlib's.
    Gzip,
    /// Zstandard.
    #[default]
    Zstd,
    /// None.
    None,
}

impl CompressionType {
    /// The name as it is written in manifests and in requests to a daemon.
    pub fn name(self) -> &'static str {
        match self {
            CompressionType::Gzip => "gzip",
            CompressionType::Zstd => "zstd",
            CompressionType::None => "none",
        }
    }
}

/// What happens to the data when a Snapshot is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum SnapshotDeletionPolicy {
    /// It is removed.
    #[default]
    Delete,
    /// It stays in the workspace's history, where `cairn history` shows it.
    Retain,
}

/// What a snapshot is now.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotStatus {
    /// In one word, for the eye; programs read `conditions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<SnapshotPhase>,
    /// The message of the condition that matters most now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32_768))]
    pub message: Option<String>,
    /// The `metadata.generation` that this status was decided from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Its id at the daemon, by which every command of `cairn` finds it.
    #[serde(rename = "snapshotID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub snapshot_id: Option<String>,
    /// The moment that it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Time>,
    /// When it was whole and durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Logical bytes of all files in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub size: Option<i64>,
    /// Whether the data has been read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integrity_state: Option<IntegrityState>,
    /// Checksum of the record that makes the data a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub descriptor_checksum: Option<String>,
    /// Hash of everything that the snapshot promises of the tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub tree_hash: Option<String>,
    /// Node that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
    /// Engine that was really used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub engine: Option<String>,
    /// What could not be done as it was asked for, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub degraded: Vec<String>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Operation of the daemon that takes it; `cairn operation show` tells more.
    #[serde(rename = "operationID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub operation_id: Option<String>,
    /// What became of `restoreOnCreate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_status: Option<RestoreOnCreateStatus>,
    /// What holds now, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::list")]
    pub conditions: Vec<Condition>,
}

/// A snapshot's state in one word.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum SnapshotPhase {
    /// It waits, for its Workspace or its node.
    Pending,
    /// It is being taken.
    InProgress,
    /// It is there.
    Ready,
    /// It cannot be taken; the message tells why.
    Failed,
    /// It is being removed.
    Expiring,
}

/// Whether a snapshot's data has been read back.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = schema::enumeration)]
pub enum IntegrityState {
    /// Not yet.
    Unverified,
    /// It is what was written.
    Verified,
    /// It is not.
    Damaged,
}

/// How far long work is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Files that are done.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub files_done: i64,
    /// Bytes that are done.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub bytes_done: i64,
    /// Bytes in all, as far as they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub bytes_total: Option<i64>,
}

/// What became of `restoreOnCreate`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RestoreOnCreateStatus {
    /// The new Workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub worktree_name: Option<String>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<RestoreOnCreatePhase>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// How far `restoreOnCreate` is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum RestoreOnCreatePhase {
    /// It has not begun.
    Pending,
    /// The Workspace is being made.
    InProgress,
    /// The Workspace is there.
    Completed,
    /// It cannot be made; the condition Restored tells why.
    Failed,
}
