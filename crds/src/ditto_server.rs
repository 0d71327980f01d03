//! DittoServer: an NFS server of its own in a namespace, with shares from its manifest, kept for those who come from DittoFS.
//!
//! The fields are those of the first DittoFS operator, and of its later versions what a Cairn daemon can honour. A field that is not here is
//! refused by `kubectl` before it is sent, which is more honest than to store and ignore it.

use k8s_openapi::api::core::v1::{
    LocalObjectReference, PodSecurityContext, ResourceRequirements, SecurityContext, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::{conditions, schema, validation};

mod shares;

pub use shares::{
    Backend, BackendType, Cache, CacheMemory, CacheType, Flusher, IdentityMapping, Prefetch,
    RootDirectoryAttributes, SecretKey, Share, SharesConfig,
};

/// What the server shall be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "dittofs.dittofs.com",
    version = "v1alpha1",
    kind = "DittoServer",
    plural = "dittoservers",
    singular = "dittoserver",
    shortname = "ditto",
    shortname = "dittofs",
    category = "storage",
    namespaced,
    status = "DittoServerStatus",
    derive = "PartialEq",
    doc = "An NFS server of its own with shares: a Cairn daemon in a StatefulSet, with its claims, Services and network policy.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.availableReplicas"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.nfsEndpoint"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "At-Risk",
        type_ = "integer",
        json_path = ".status.dataAtRiskBytes",
        priority = 1
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = validation::object_name("DittoServer")
)]
#[serde(rename_all = "camelCase")]
pub struct DittoServerSpec {
    /// Image of the daemon. Absent: the one that the operator is configured with. An image of DittoFS is not run: FieldsSupported says so,
    /// and the operator's is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,

    /// Secrets with which the image is pulled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// 1, or 0 to stop it. More would be servers that do not share their data.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    #[x_kube(validation = validation::holds(
        "self <= 1",
        "replicas above 1 would not share their data: give 1, or 0 to stop the server; for more servers make more DittoServers"
    ))]
    pub replicas: i32,

    /// How much room it gets.
    pub storage: DittoStorage,

    /// What it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<SharesConfig>,

    /// The Service that NFS clients use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceOptions>,

    /// TCP port of NFS and MOUNT.
    #[serde(default = "nfs_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub nfs_port: i32,

    /// Snapshots of shares at intervals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["share".to_owned()]))]
    pub snapshot_policies: Vec<SnapshotPolicy>,

    /// Prometheus metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsOptions>,

    /// What it logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<LoggingOptions>,

    /// Who can reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicyOptions>,

    /// Certificate by which operator and daemon know each other. NFS is not encrypted by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsOptions>,

    /// Requests and limits of the daemon's container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Security context of the daemon's container, instead of the operator's. Without the capabilities that it has by default the daemon
    /// cannot keep owners of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,

    /// Security context of the pod, instead of the operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<PodSecurityContext>,

    /// Service account of the pod: for workload identity at an object store. Its token is not mounted by the operator's own choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = validation::subdomain())]
    pub service_account_name: Option<String>,

    /// Labels of the nodes that it may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that do not keep it away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub tolerations: Vec<Toleration>,

    /// Longest time in seconds that the daemon gets to stop in order. Absent: its own bound and some more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 36, max = 3600))]
    pub termination_grace_period_seconds: Option<i64>,

    /// What happens to the claims when the DittoServer is deleted.
    #[serde(default)]
    pub deletion_policy: DittoDeletionPolicy,

    /// Nothing is changed any more; what runs goes on. `status` is kept up to date.
    #[serde(default)]
    pub paused: bool,
}

fn one() -> i32 {
    1
}

fn nfs_port() -> i32 {
    2049
}

impl Default for DittoServerSpec {
    /// What the API server makes of a `spec` with nothing but an empty size, which must be given.
    fn default() -> Self {
        DittoServerSpec {
            image: None,
            image_pull_secrets: Vec::new(),
            replicas: one(),
            storage: DittoStorage::default(),
            config: None,
            service: None,
            nfs_port: nfs_port(),
            snapshot_policies: Vec::new(),
            metrics: None,
            logging: None,
            network_policy: None,
            tls: None,
            resources: None,
            security_context: None,
            pod_security_context: None,
            service_account_name: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            termination_grace_period_seconds: None,
            deletion_policy: DittoDeletionPolicy::default(),
            paused: false,
        }
    }
}

/// How much room a server gets, and of which class.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = validation::immutable_field("storageClassName", "claims keep their class; make another DittoServer"),
    validation = validation::holds(
        "has(self.contentSize) == has(oldSelf.contentSize)",
        "contentSize cannot be added or removed later, the data would have to move: make another DittoServer"
    )
)]
pub struct DittoStorage {
    /// Size of the claim for metadata, and for everything if `contentSize` is absent. It can grow, if the class allows.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = validation::quantity(),
        validation = validation::grows("metadataSize", "claims only grow; keep the size")
    )]
    pub metadata_size: String,
    /// Size of the claim for contents of files. It can grow, if the class allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = validation::quantity(),
        validation = validation::grows("contentSize", "claims only grow; keep the size")
    )]
    pub content_size: Option<String>,
    /// Class of the claims. Absent: the cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = validation::subdomain())]
    pub storage_class_name: Option<String>,
}

/// A Service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceOptions {
    /// How it can be reached. NFS with AUTH_SYS trusts what clients say: think twice before it leaves the cluster.
    #[serde(rename = "type", default)]
    pub type_: ServiceType,
    /// Annotations, for load balancers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How a Service can be reached.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum ServiceType {
    /// From within the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// At a port of every node.
    NodePort,
    /// From outside.
    LoadBalancer,
}

impl ServiceType {
    /// The name in a Service.
    pub fn name(self) -> &'static str {
        match self {
            ServiceType::ClusterIp => "ClusterIP",
            ServiceType::NodePort => "NodePort",
            ServiceType::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Snapshots of one share at intervals.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotPolicy {
    /// Name of the share.
    #[schemars(length(min = 1, max = 63))]
    pub share: String,
    /// Time between two, such as `1h`.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::duration())]
    pub interval: String,
    /// Keeps the newest so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub keep_last: Option<i32>,
    /// Removes what is older.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::duration())]
    pub ttl: Option<String>,
    /// Whether it is followed.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What the notes of the snapshots begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub name_prefix: Option<String>,
}

fn yes() -> bool {
    true
}

/// Prometheus metrics.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MetricsOptions {
    /// Whether they can be read from outside of the pod.
    #[serde(default)]
    pub enabled: bool,
    /// TCP port of /metrics.
    #[serde(default = "metrics_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// A ServiceMonitor, if the cluster knows the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_monitor: Option<ServiceMonitorOptions>,
}

fn metrics_port() -> i32 {
    9090
}

impl Default for MetricsOptions {
    fn default() -> Self {
        MetricsOptions {
            enabled: false,
            port: metrics_port(),
            service_monitor: None,
        }
    }
}

/// A ServiceMonitor of the Prometheus operator.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMonitorOptions {
    /// Whether there is one.
    #[serde(default)]
    pub enabled: bool,
    /// Time between two readings, such as `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::duration())]
    pub interval: Option<String>,
    /// Labels by which Prometheus finds it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What the daemon logs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LoggingOptions {
    /// Least severe messages: error, warn, info, debug or trace. Absent: info.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(validation = validation::holds(
        "self.lowerAscii() in ['error', 'warn', 'info', 'debug', 'trace']",
        "give error, warn, info, debug or trace"
    ))]
    pub level: Option<String>,
    /// `text`, or `json` with one object per line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
}

/// Form of log messages.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = schema::enumeration)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// Who can reach the server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyOptions {
    /// Makes a NetworkPolicy that lets in the clients of the shares and who reads metrics, and nobody else.
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Default for NetworkPolicyOptions {
    fn default() -> Self {
        NetworkPolicyOptions { enabled: yes() }
    }
}

/// Where the certificate of the daemon comes from.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TlsOptions {
    /// Secret of this namespace with `tls.crt` for the name NAME.NAMESPACE.svc, `tls.key`, and as `ca.crt` the authority of the operator's certificate. Absent: the
    /// one that the operator keeps; if it keeps no authority of its own, NAME-tls.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = validation::subdomain())]
    pub secret_name: Option<String>,
}

/// What happens to the claims when a DittoServer is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum DittoDeletionPolicy {
    /// They stay; a DittoServer of the same name finds them again.
    #[default]
    Retain,
    /// They are removed, and all data with them.
    Delete,
}

/// What the server is now.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DittoServerStatus {
    /// In one word, for the eye; programs read `conditions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<DittoPhase>,
    /// The message of the condition that matters most now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32_768))]
    pub message: Option<String>,
    /// The `metadata.generation` that this status was decided from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Host and port for NFS clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub nfs_endpoint: Option<String>,
    /// Pods that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Pods that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// Pods that have been ready for long enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_replicas: Option<i32>,
    /// Hash of what a change of makes the pod restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub config_hash: Option<String>,
    /// Version of the daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// Bytes that no object store has: what is lost with the claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_at_risk_bytes: Option<i64>,
    /// What is served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub shares: Vec<ShareStatus>,
    /// What holds now, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::list")]
    pub conditions: Vec<Condition>,
}

/// A server's state in one word.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum DittoPhase {
    /// It is being made.
    Pending,
    /// It serves.
    Running,
    /// It cannot be made or cannot serve; the message tells why.
    Failed,
    /// `replicas` is 0.
    Stopped,
    /// It is being deleted.
    Deleting,
}

/// One share as it is served.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ShareStatus {
    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Path that clients mount.
    #[schemars(length(max = 256))]
    pub export_path: String,
    /// Whether it is served.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// The number of a mode that is given as octal text or as a number.
///
/// Returns `None` for text that is not octal, and for numbers that are no mode.
pub fn mode_bits(mode: &IntOrString) -> Option<u32> {
    match mode {
        IntOrString::Int(number) => u32::try_from(*number).ok().filter(|bits| *bits <= 0o7777),
        IntOrString::String(text) => validation::mode_bits(text),
    }
}
