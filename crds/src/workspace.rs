//! Workspace: a directory tree with snapshots that pods mount.
//!
//! All fields of the kind of the same name of the Go tools are here by their names, also both spellings of the JuiceFS block. The field that
//! says where the data is (`backing`) never changes after creation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::{conditions, schema, validation};

/// What a workspace shall be.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "jvs.io",
    version = "v1alpha1",
    kind = "Workspace",
    plural = "workspaces",
    singular = "workspace",
    shortname = "jvs",
    category = "storage",
    namespaced,
    status = "WorkspaceStatus",
    derive = "PartialEq",
    doc = "A directory tree with snapshots that pods mount through the claim of the same name.",
    selectable = ".status.nodeName",
    selectable = ".spec.deletionPolicy",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeName"),
    printcolumn(name = "Capacity", type_ = "string", json_path = ".status.capacity"),
    printcolumn(name = "Snapshots", type_ = "integer", json_path = ".status.snapshotCount"),
    printcolumn(name = "Last", type_ = "date", json_path = ".status.lastSnapshotTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Claim",
        type_ = "string",
        json_path = ".status.claimName",
        priority = 1
    ),
    printcolumn(
        name = "Server",
        type_ = "string",
        json_path = ".status.endpoint.server",
        priority = 1
    ),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    validation = validation::object_name("Workspace")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = validation::holds(
        "!(has(self.juiceFsConfig) && has(self.juicefsConfig))",
        "juiceFsConfig and juicefsConfig are two spellings of one block: give juiceFsConfig only"
    ),
    validation = validation::holds(
        "!has(oldSelf.placement) || !has(oldSelf.placement.nodeName) || (has(self.placement) && has(self.placement.nodeName) && self.placement.nodeName == oldSelf.placement.nodeName)",
        "placement.nodeName cannot be changed, the data lies on that node: take a Snapshot, and make a new Workspace from it with initialSnapshot"
    ),
    validation = validation::holds(
        "!has(self.backing.hostPath) || (has(self.placement) && has(self.placement.nodeName))",
        "a directory of a node needs placement.nodeName: name the node that has it"
    ),
    validation = validation::immutable_field("initialSnapshot", "it counts when the Workspace is made; use a Restore"),
    validation = validation::immutable_field("storageClassName", "make a new Workspace with the other class"),
    validation = validation::immutable_field("rootDirectory", "it counts when the Workspace is made; use chown and chmod in a pod")
)]
pub struct WorkspaceSpec {
    /// Pods that are expected to mount the workspace at once. One daemon serves any number of them, so nothing depends on it;
    /// `status.readyReplicas` is this number while the workspace is served, and 0 otherwise.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: i32,

    /// Storage class that the claim and its volume carry. With `backing.pvc` it must be that of the claim. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = validation::subdomain())]
    pub storage_class_name: Option<String>,

    /// How much the workspace may hold, such as `10Gi`. Writes beyond it fail with "quota exceeded". It can grow at any time.
    #[serde(default = "ten_gibibytes")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = validation::quantity(),
        validation = validation::grows("storage", "keep the size, or make a smaller Workspace and copy what is needed")
    )]
    pub storage: String,

    /// The JuiceFS file system that `backing.pvc` is of. With another backing it is not used, and FieldsSupported says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub juice_fs_config: Option<JuiceFsConfig>,

    /// The same as `juiceFsConfig`; the spelling of the Go types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub juicefs_config: Option<JuiceFsConfig>,

    /// Engine of snapshots that name none. Workspaces with `backing.volume` take all snapshots within the volume, at a cost that does not
    /// depend on their size, whatever stands here.
    #[serde(default)]
    pub default_engine: Engine,

    /// Which snapshots are kept. Absent: all. What would go and why stands in `status.retention` before it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<RetentionPolicy>,

    /// Snapshots by the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_snapshot: Option<AutoSnapshot>,

    /// Options with which nodes mount the workspace, one per item, instead of the operator's own of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    #[x_kube(validation = validation::mount_options(), merge_strategy = ListMerge::Set)]
    pub mount_options: Vec<String>,

    /// Snapshot with which the workspace begins: the name of a Snapshot of this namespace, or the id of a snapshot. It cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub initial_snapshot: Option<String>,

    /// Where the data is. It cannot be changed.
    #[serde(default)]
    pub backing: Backing,

    /// On which node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,

    /// Who may mount it, and as whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,

    /// Owner and mode of the root directory of a new volume. Absent: root, 0755.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_directory: Option<RootDirectory>,

    /// What happens to data and snapshots when the Workspace is deleted.
    #[serde(default)]
    pub deletion_policy: WorkspaceDeletionPolicy,

    /// Nothing is changed any more and no snapshots are taken; what is served goes on. `status` is kept up to date.
    #[serde(default)]
    pub paused: bool,
}

fn one() -> i32 {
    1
}

fn ten_gibibytes() -> String {
    "10Gi".to_owned()
}

impl Default for WorkspaceSpec {
    /// What the API server makes of an empty `spec`.
    fn default() -> Self {
        WorkspaceSpec {
            replicas: one(),
            storage_class_name: None,
            storage: ten_gibibytes(),
            juice_fs_config: None,
            juicefs_config: None,
            default_engine: Engine::default(),
            retention_policy: None,
            auto_snapshot: None,
            mount_options: Vec::new(),
            initial_snapshot: None,
            backing: Backing::default(),
            placement: None,
            export: None,
            root_directory: None,
            deletion_policy: WorkspaceDeletionPolicy::default(),
            paused: false,
        }
    }
}

impl WorkspaceSpec {
    /// The JuiceFS block, whichever way it is spelled.
    pub fn juicefs(&self) -> Option<&JuiceFsConfig> {
        self.juice_fs_config.as_ref().or(self.juicefs_config.as_ref())
    }
}

/// A JuiceFS file system.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct JuiceFsConfig {
    /// URL of its metadata engine, such as `redis://redis.storage:6379/1`.
    #[schemars(length(min = 1, max = 2048))]
    pub source: String,
    /// Directory for the metadata engine's own files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub meta_dir: Option<String>,
    /// Directory of the client's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub cache_dir: Option<String>,
    /// Secret of this namespace with what the URL leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets_ref: Option<SecretsReference>,
}

/// A Secret, and which of its keys stands for what.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretsReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// From the name of a setting, such as `source`, to the key of the Secret that holds it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, String>,
}

/// How the data of a snapshot is kept.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "kebab-case")]
#[schemars(transform = schema::enumeration)]
pub enum Engine {
    /// By what the directory's file system does best.
    Auto,
    /// By `juicefs clone`.
    JuicefsClone,
    /// By reflinks (XFS, Btrfs and others).
    ReflinkCopy,
    /// By a full copy.
    #[default]
    Copy,
    /// By a Btrfs subvolume.
    BtrfsSubvolume,
    /// Deduplicated and compressed.
    Archive,
}

impl Engine {
    /// The name as it is written in manifests and in requests to a daemon.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Auto => "auto",
            Engine::JuicefsClone => "juicefs-clone",
            Engine::ReflinkCopy => "reflink-copy",
            Engine::Copy => "copy",
            Engine::BtrfsSubvolume => "btrfs-subvolume",
            Engine::Archive => "archive",
        }
    }
}

/// Which snapshots are kept. `keepMinSnapshots`, `keepMinAge` and `keepTags` protect; `maxSnapshots` and `maxBytes` remove the oldest of
/// what is not protected; the other rules keep, and what none of them keeps goes. Without any of the other rules everything stays, up to the
/// maxima.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = validation::holds(
    "!has(self.maxSnapshots) || self.maxSnapshots >= self.keepMinSnapshots",
    "maxSnapshots is less than keepMinSnapshots: raise the one or lower the other"
))]
pub struct RetentionPolicy {
    /// So many of the newest always stay.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 100_000))]
    pub keep_min_snapshots: i32,
    /// What is younger always stays.
    #[serde(default = "a_day")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::duration())]
    pub keep_min_age: String,
    /// What carries one of these tags always stays; `*` stands for any text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = validation::tag_patterns(), merge_strategy = ListMerge::Set)]
    pub keep_tags: Vec<String>,
    /// Keeps the newest so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub keep_last: Option<i32>,
    /// Keeps the newest of each of the last so many hours that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub keep_hourly: Option<i32>,
    /// Keeps the newest of each of the last so many days that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub keep_daily: Option<i32>,
    /// Keeps the newest of each of the last so many ISO weeks that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub keep_weekly: Option<i32>,
    /// Keeps the newest of each of the last so many months that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub keep_monthly: Option<i32>,
    /// Keeps the newest of each of the last so many years that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub keep_yearly: Option<i32>,
    /// Keeps everything that is not older than this before the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::duration())]
    pub keep_within: Option<String>,
    /// Most snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_snapshots: Option<i32>,
    /// Most bytes of all snapshots together, such as `100Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::quantity())]
    pub max_bytes: Option<String>,
}

fn ten() -> i32 {
    10
}

fn a_day() -> String {
    "24h".to_owned()
}

impl Default for RetentionPolicy {
    /// What the API server makes of an empty block.
    fn default() -> Self {
        RetentionPolicy {
            keep_min_snapshots: ten(),
            keep_min_age: a_day(),
            keep_tags: Vec::new(),
            keep_last: None,
            keep_hourly: None,
            keep_daily: None,
            keep_weekly: None,
            keep_monthly: None,
            keep_yearly: None,
            keep_within: None,
            max_snapshots: None,
            max_bytes: None,
        }
    }
}

/// Snapshots by the clock. They are Snapshots named after the Workspace and the minute they were due.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = validation::holds(
    "!self.enabled || has(self.schedule)",
    "autoSnapshot.enabled needs autoSnapshot.schedule: give one, such as '0 3 * * *', or set enabled to false"
))]
pub struct AutoSnapshot {
    /// Whether snapshots are taken.
    #[serde(default)]
    pub enabled: bool,
    /// When: five fields of crontab(5), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = validation::cron())]
    pub schedule: Option<String>,
    /// Template of their notes and tags. Absent: `checkpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Most snapshots of this schedule; the oldest go first, protected ones (`retentionPolicy`) never.
    #[serde(default = "thirty")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_snapshots: i32,
    /// Time zone of `schedule`. Absent: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = validation::time_zone())]
    pub time_zone: Option<String>,
    /// Each snapshot is taken up to this much later, so that not all of a cluster are taken at once; always as much for one Workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::duration())]
    pub jitter: Option<String>,
    /// No snapshot when nothing has changed since the last one.
    #[serde(default)]
    pub skip_unchanged: bool,
    /// A time that was missed (the operator or the node was away) is made up for until so much later; after that it is left out.
    /// Absent: until the next one is due. Of several missed times the last one is made up for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::duration())]
    pub starting_deadline: Option<String>,
}

fn thirty() -> i32 {
    30
}

impl Default for AutoSnapshot {
    /// What the API server makes of an empty block.
    fn default() -> Self {
        AutoSnapshot {
            enabled: false,
            schedule: None,
            template: None,
            max_snapshots: thirty(),
            time_zone: None,
            jitter: None,
            skip_unchanged: false,
            starting_deadline: None,
        }
    }
}

/// A template: each gives a note and tags.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "kebab-case")]
#[schemars(transform = schema::enumeration)]
pub enum Template {
    /// Before an experiment; tags experiment, checkpoint.
    PreExperiment,
    /// Before a deployment; tags pre-deploy, release.
    PreDeploy,
    /// Tag checkpoint.
    Checkpoint,
    /// Work in progress; tag wip.
    Work,
    /// Tags release, stable.
    Release,
    /// Tag archive.
    Archive,
}

impl Template {
    /// The name as it is written in manifests and in requests to a daemon.
    pub fn name(self) -> &'static str {
        match self {
            Template::PreExperiment => "pre-experiment",
            Template::PreDeploy => "pre-deploy",
            Template::Checkpoint => "checkpoint",
            Template::Work => "work",
            Template::Release => "release",
            Template::Archive => "archive",
        }
    }
}

/// Where the data is: exactly one of the fields.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = validation::exactly_one(&["volume", "pvc", "hostPath"]),
    validation = validation::immutable("backing", "make a new Workspace with the other backing, and copy the data or begin it with initialSnapshot")
)]
pub struct Backing {
    /// In a volume of the node's daemon, which pods mount over NFS. Snapshots, restores and forks cost nothing that depends on size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeBacking>,
    /// In an existing claim of this namespace, of any storage class, JuiceFS among them. Pods go on mounting that claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pvc: Option<ClaimBacking>,
    /// In a directory of a node. Pods mount it as they do now. The node's daemon must be configured to allow the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<HostPathBacking>,
}

impl Default for Backing {
    /// A volume.
    fn default() -> Self {
        Backing {
            volume: Some(VolumeBacking {}),
            pvc: None,
            host_path: None,
        }
    }
}

/// A volume of the node's daemon. There is nothing to say about it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeBacking {}

/// An existing claim.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimBacking {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = validation::subdomain())]
    pub claim_name: String,
}

/// A directory of a node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HostPathBacking {
    /// Its absolute path.
    #[schemars(length(min = 2, max = 4096))]
    #[x_kube(validation = validation::absolute_path())]
    pub path: String,
}

/// On which node the data is. The node is chosen once.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// This one. It cannot be changed once it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = validation::subdomain())]
    pub node_name: Option<String>,
    /// One with these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Which of those that fit.
    #[serde(default)]
    pub policy: PlacementPolicy,
}

/// Which of the nodes that fit.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum PlacementPolicy {
    /// The one with the most free space.
    #[default]
    MostFree,
    /// The one with the least free space that is enough.
    Pack,
    /// The one with the fewest workspaces.
    Spread,
}

/// Who may mount a workspace, and as whom.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// Networks and addresses that may mount it. Kubelets mount from the addresses of their nodes. Absent: what the operator is configured
    /// with (`--export-clients`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = validation::networks(), merge_strategy = ListMerge::Set)]
    pub clients: Vec<String>,
    /// Which users of a pod are replaced by nobody.
    #[serde(default)]
    pub squash: Squash,
    /// Nobody can change anything.
    #[serde(default)]
    pub read_only: bool,
}

/// Which identities are replaced by nobody (exports(5), "User ID Mapping").
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = schema::enumeration)]
pub enum Squash {
    /// None.
    #[default]
    None,
    /// Root.
    Root,
    /// All.
    All,
}

/// Owner and mode of a root directory.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RootDirectory {
    /// Owner.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4_294_967_294_i64))]
    pub uid: i64,
    /// Group.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4_294_967_294_i64))]
    pub gid: i64,
    /// Octal mode as text, such as `"2775"`.
    #[serde(default = "mode_0755")]
    #[schemars(length(min = 3, max = 5))]
    #[x_kube(validation = validation::mode())]
    pub mode: String,
}

fn mode_0755() -> String {
    "0755".to_owned()
}

impl Default for RootDirectory {
    fn default() -> Self {
        RootDirectory {
            uid: 0,
            gid: 0,
            mode: mode_0755(),
        }
    }
}

/// What happens to the data when a Workspace is deleted.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum WorkspaceDeletionPolicy {
    /// It stays on its node, with its snapshots; the claim and its volume go.
    #[default]
    Retain,
    /// It is removed, with all its snapshots. Claims and directories that were there before (`backing.pvc`, `backing.hostPath`) stay; their
    /// snapshots go.
    Delete,
}

/// What a workspace is now.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceStatus {
    /// In one word, for the eye; programs read `conditions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<WorkspacePhase>,
    /// The message of the condition that matters most now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32_768))]
    pub message: Option<String>,
    /// The `metadata.generation` that this status was decided from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Node that has the data. Chosen once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
    /// Where NFS clients mount it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Claim that pods name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub claim_name: Option<String>,
    /// PersistentVolume that the claim is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub volume_name: Option<String>,
    /// Its id at the daemon.
    #[serde(rename = "workspaceID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub workspace_id: Option<String>,
    /// How much it may hold now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub capacity: Option<String>,
    /// Id of the newest snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub current_snapshot: Option<String>,
    /// Snapshots that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_count: Option<i32>,
    /// `spec.replicas` while it is served, otherwise 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// When the newest snapshot was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_snapshot_time: Option<Time>,
    /// When the schedule asks for the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_snapshot_time: Option<Time>,
    /// What retention decides, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
    /// What holds now, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions::list")]
    pub conditions: Vec<Condition>,
}

/// A workspace's state in one word.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[schemars(transform = schema::enumeration)]
pub enum WorkspacePhase {
    /// Nothing has been made yet.
    Pending,
    /// It is being made.
    Creating,
    /// It is served.
    Ready,
    /// A change of `spec` is being made.
    Updating,
    /// It cannot be made or served; the message tells why.
    Failed,
    /// It is being deleted.
    Terminating,
}

/// Where NFS clients mount a workspace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Address of the server: a cluster IP that stays.
    #[schemars(length(max = 253))]
    pub server: String,
    /// Path of the export.
    #[schemars(length(max = 4096))]
    pub path: String,
    /// TCP port of NFS and MOUNT.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
}

/// Most entries of [`RetentionStatus::keep`] and of [`RetentionStatus::prune`]: the newest stand there.
pub const RETENTION_ENTRIES_MAX: usize = 128;

/// What retention decides.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RetentionStatus {
    /// Snapshots that stay; the newest 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub keep: Vec<RetentionEntry>,
    /// Snapshots that go; the newest 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub prune: Vec<RetentionEntry>,
    /// How many stay in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_count: Option<i32>,
    /// How many go in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune_count: Option<i32>,
}

/// What retention decides of one snapshot.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RetentionEntry {
    /// Name of the Snapshot.
    #[schemars(length(max = 253))]
    pub snapshot: String,
    /// Which rules keep it, or that none does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub reasons: Vec<String>,
}
