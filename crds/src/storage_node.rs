//! StorageNode: what one node's daemon is and has. The operator writes it from what the daemon answers; people write `cordoned`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::conditions;

/// What people decide about a node.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "jvs.io",
    version = "v1alpha1",
    kind = "StorageNode",
    plural = "storagenodes",
    singular = "storagenode",
    shortname = "sn",
    category = "storage",
    status = "StorageNodeStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "The daemon of one node: whether it answers, what it can do, and how much room it has. The operator keeps one per node that runs a daemon.",
    selectable = ".spec.cordoned",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Cordoned", type_ = "boolean", json_path = ".spec.cordoned"),
    printcolumn(name = "Free", type_ = "string", json_path = ".status.capacity.free"),
    printcolumn(name = "Total", type_ = "string", json_path = ".status.capacity.total"),
    printcolumn(name = "Workspaces", type_ = "integer", json_path = ".status.workspaces"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Address",
        type_ = "string",
        json_path = ".status.address",
        priority = 1
    ),
    printcolumn(
        name = "Seen",
        type_ = "date",
        json_path = ".status.lastHeartbeat",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct StorageNodeSpec {
    /// No new Workspaces are placed on the node. Those that are there go on.
    #[serde(default)]
    pub cordoned: bool,
}

/// What the node's daemon says of itself.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StorageNodeStatus {
    /// The `metadata.generation` that this status was decided from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Name of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
    /// Address and port at which the operator reaches the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub address: Option<String>,
    /// Identity of the daemon's process: another one after each start.
    #[serde(rename = "instanceUUID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub instance_uuid: Option<String>,
    /// Identity of the daemon's data directory: the same after each start.
    #[serde(rename = "nodeID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub node_id: Option<String>,
    /// Version of the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// Versions of the RPC service that it speaks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub api_versions: Vec<String>,
    /// What it can do beyond the first version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub features: Vec<String>,
    /// Engines of snapshots that work there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub engines: Vec<String>,
    /// Room of its data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<NodeCapacity>,
    /// Workspaces that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspaces: Option<i32>,
    /// When it answered last, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heartbeat: Option<Time>,
    /// What holds now, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::list")]
    pub conditions: Vec<Condition>,
}

/// Room of a data directory.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeCapacity {
    /// All of it, such as `931Gi`.
    #[schemars(length(max = 32))]
    pub total: String,
    /// What new data can use.
    #[schemars(length(max = 32))]
    pub free: String,
    /// Inodes that are free, where the file system counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inodes_free: Option<i64>,
}
