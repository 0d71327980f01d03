//! Types of conditions, and the schema of a list of them. How conditions are set and merged is the operator's.
//!
//! A condition is a `metav1.Condition` (Kubernetes API conventions, "Typical status properties"). The list is a map by type, so that two
//! writers never replace each other's conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::generate::SchemaGenerator;
use schemars::{Schema, json_schema};

/// Everything that `spec` asks for is there and works. What `kubectl wait` waits for.
pub const READY: &str = "Ready";
/// The operator works towards what `spec` asks for.
pub const PROGRESSING: &str = "Progressing";
/// It works, but less well than it should; reason and message tell how.
pub const DEGRADED: &str = "Degraded";
/// A node has been chosen (Workspace).
pub const PLACED: &str = "Placed";
/// The node's daemon has the workspace (Workspace).
pub const PROVISIONED: &str = "Provisioned";
/// NFS clients can mount the workspace (Workspace).
pub const EXPORTED: &str = "Exported";
/// The claim that pods name is bound (Workspace, DittoServer).
pub const CLAIM_BOUND: &str = "ClaimBound";
/// The schedule is understood and runs (Workspace).
pub const SNAPSHOTS_SCHEDULED: &str = "SnapshotsScheduled";
/// The daemon of the node answers (Workspace, Snapshot, Restore).
pub const NODE_REACHABLE: &str = "NodeReachable";
/// Every field of `spec` can be honoured; the message names those that cannot.
pub const FIELDS_SUPPORTED: &str = "FieldsSupported";
/// The snapshot's data has been read back and compared with its checksums (Snapshot).
pub const VERIFIED: &str = "Verified";
/// What `restoreOnCreate` asks for has been done (Snapshot).
pub const RESTORED: &str = "Restored";
/// What a restore would do stands in `status.plan` (Restore).
pub const PLANNED: &str = "Planned";
/// The file system of the node's daemon is nearly full (StorageNode).
pub const DISK_PRESSURE: &str = "DiskPressure";
/// The daemon's version is not one that this operator works with (StorageNode).
pub const VERSION_SKEW: &str = "VersionSkew";
/// At least one server answers (DittoServer).
pub const AVAILABLE: &str = "Available";
/// The configuration is valid, and the Secrets and classes that it names are there (DittoServer).
pub const CONFIG_READY: &str = "ConfigReady";

/// Most conditions of one object.
pub const CONDITIONS_MAX: usize = 32;
/// Longest `message` in characters (`metav1.Condition`).
pub const MESSAGE_CHARACTERS_MAX: usize = 32_768;
/// Longest `reason` in characters (`metav1.Condition`).
pub const REASON_CHARACTERS_MAX: usize = 1024;

/// The schema of a list of conditions, with the bounds and patterns of `metav1.Condition`.
pub fn list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "What holds of the object now, and why. Read Ready first.",
        "maxItems": CONDITIONS_MAX,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When status changed last.",
                },
                "message": {
                    "type": "string",
                    "maxLength": MESSAGE_CHARACTERS_MAX,
                    "description": "For people: what is the matter, and what to do about it.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The metadata.generation that the condition was decided from.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": REASON_CHARACTERS_MAX,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "For programs: one word in CamelCase.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether it holds.",
                },
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
                    "description": "Which aspect.",
                },
            },
        },
    })
}

/// The condition of a type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}
