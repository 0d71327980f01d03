//! `spec.config` of a DittoServer: shares, where their data goes, and caches.
//!
//! Every reference from a share to a backend or cache is checked by the schema. What a Cairn daemon does not have (caches with a size of
//! their own, several metadata stores) is taken and reported by the condition FieldsSupported.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::{schema, validation};

/// Shares, backends and caches.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = validation::holds(
        "!has(self.shares) || self.shares.all(share, !has(share.metadataStore) || (has(self.backends) && self.backends.exists(backend, backend.name == share.metadataStore)))",
        "a share names a metadataStore that is not among config.backends: add the backend, or correct the name"
    ),
    validation = validation::holds(
        "!has(self.shares) || self.shares.all(share, !has(share.contentStore) || (has(self.backends) && self.backends.exists(backend, backend.name == share.contentStore)))",
        "a share names a contentStore that is not among config.backends: add the backend, or correct the name"
    ),
    validation = validation::holds(
        "!has(self.shares) || self.shares.all(share, !has(share.cache) || (has(self.caches) && self.caches.exists(cache, cache.name == share.cache)))",
        "a share names a cache that is not among config.caches: add the cache, or correct the name"
    )
)]
pub struct SharesConfig {
    /// What is served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(
        validation = validation::holds(
            "self.all(one, self.exists_one(other, other.exportPath == one.exportPath))",
            "two shares have the same exportPath: give each its own"
        ),
        merge_strategy = ListMerge::Map(vec!["name".to_owned()])
    )]
    pub shares: Vec<Share>,
    /// Where data goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub backends: Vec<Backend>,
    /// Caches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub caches: Vec<Cache>,
}

/// A directory tree that NFS clients mount.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = validation::label())]
    pub name: String,
    /// Path that clients mount.
    #[serde(default = "export")]
    #[schemars(length(min = 2, max = 256))]
    #[x_kube(validation = validation::absolute_path())]
    pub export_path: String,
    /// Backend of its metadata, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub metadata_store: Option<String>,
    /// Backend of its contents, by name. With one of type s3 its snapshots are pushed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub content_store: Option<String>,
    /// Cache, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub cache: Option<String>,
    /// Nobody can change anything.
    #[serde(default)]
    pub read_only: bool,
    /// Networks and addresses that may mount it. Absent: what the operator is configured with (`--export-clients`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = validation::networks(), merge_strategy = ListMerge::Set)]
    pub allowed_clients: Vec<String>,
    /// Networks and addresses that may not, also if `allowedClients` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = validation::networks(), merge_strategy = ListMerge::Set)]
    pub denied_clients: Vec<String>,
    /// Clients must say who they are (AUTH_SYS). Cairn never serves others.
    #[serde(default)]
    pub require_auth: bool,
    /// How they may say it. Cairn has AUTH_SYS only: `unix`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 32)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_auth_methods: Vec<String>,
    /// Which users are replaced by the anonymous one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_mapping: Option<IdentityMapping>,
    /// Owner and mode of the root directory of a new share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_directory_attributes: Option<RootDirectoryAttributes>,
    /// Whether the list of who has mounted it is shown to `dumpAllowedClients` only. Cairn shows it to nobody.
    #[serde(default)]
    pub dump_restricted: bool,
    /// Who is shown the list of who has mounted it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = validation::networks(), merge_strategy = ListMerge::Set)]
    pub dump_allowed_clients: Vec<String>,
}

fn export() -> String {
    "/export".to_owned()
}

/// Which users are replaced by the anonymous one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct IdentityMapping {
    /// All.
    #[serde(default)]
    pub map_all_to_anonymous: bool,
    /// Root.
    #[serde(default)]
    pub map_privileged_to_anonymous: bool,
    /// User id of the anonymous one.
    #[serde(rename = "anonymousUID", default = "nobody")]
    #[schemars(range(min = 0, max = 4_294_967_294_i64))]
    pub anonymous_uid: i64,
    /// Group id of the anonymous one.
    #[serde(rename = "anonymousGID", default = "nobody")]
    #[schemars(range(min = 0, max = 4_294_967_294_i64))]
    pub anonymous_gid: i64,
}

fn nobody() -> i64 {
    65_534
}

impl Default for IdentityMapping {
    fn default() -> Self {
        IdentityMapping {
            map_all_to_anonymous: false,
            map_privileged_to_anonymous: false,
            anonymous_uid: nobody(),
            anonymous_gid: nobody(),
        }
    }
}

/// Owner and mode of a root directory.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RootDirectoryAttributes {
    /// Mode: octal text such as `"0755"`, or a number. YAML reads `0755` without quotes as the number 493, which is the same mode.
    // No rule: the cost of a rule on a value of two types cannot be bounded.
    #[serde(default = "mode_0755")]
    #[schemars(extend("maxLength" = 5, "pattern" = "^0?[0-7]{3,4}$", "minimum" = 0, "maximum" = 4095))]
    pub mode: IntOrString,
    /// Owner.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4_294_967_294_i64))]
    pub uid: i64,
    /// Group.
    #[serde(default)]
    #[schemars(range(min = 0, max = 4_294_967_294_i64))]
    pub gid: i64,
}

fn mode_0755() -> IntOrString {
    IntOrString::String("0755".to_owned())
}

impl Default for RootDirectoryAttributes {
    fn default() -> Self {
        RootDirectoryAttributes {
            mode: mode_0755(),
            uid: 0,
            gid: 0,
        }
    }
}

/// Where data goes.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = validation::holds(
    "self.type != 's3' || (has(self.config) && 'bucket' in self.config)",
    "a backend of type s3 needs config.bucket: name the bucket"
))]
pub struct Backend {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = validation::label())]
    pub name: String,
    /// What it is.
    #[serde(rename = "type", default)]
    pub type_: BackendType,
    /// Its settings. For s3: `bucket`, `prefix`, `region`, `endpoint`. Secrets do not belong here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Settings that Secrets of this namespace hold. For s3: `access_key_id`, `secret_access_key`. Absent: the identity of the service
    /// account.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_refs: BTreeMap<String, SecretKey>,
}

/// A key of a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What a backend is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = schema::enumeration)]
pub enum BackendType {
    /// A bucket.
    S3,
    /// The content claim.
    #[default]
    Local,
    /// The metadata claim.
    Badger,
    /// Memory. Cairn keeps nothing in memory only: it is the metadata claim.
    Memory,
}

/// A cache. A Cairn daemon has its own caches, so that only the sum of `memory.maxSize` is used.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = validation::label())]
    pub name: String,
    /// What it is.
    #[serde(rename = "type", default)]
    pub type_: CacheType,
    /// How large it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<CacheMemory>,
    /// Reading ahead. Not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefetch: Option<Prefetch>,
    /// Writing back. Not used: what is acknowledged is durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flusher: Option<Flusher>,
}

/// How large a cache is.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CacheMemory {
    /// Such as `1Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::quantity())]
    pub max_size: Option<String>,
}

/// What a cache is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = schema::enumeration)]
pub enum CacheType {
    /// Memory.
    #[default]
    Memory,
}

/// Reading ahead.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Prefetch {
    /// Whether.
    #[serde(default)]
    pub enabled: bool,
    /// Of files of at most this size, such as `100Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::quantity())]
    pub max_file_size: Option<String>,
    /// How much at once, such as `512Ki`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::quantity())]
    pub chunk_size: Option<String>,
}

/// Writing back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Flusher {
    /// How often, such as `10s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::duration())]
    pub interval: Option<String>,
    /// Longest wait for one, such as `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = validation::duration())]
    pub flush_timeout: Option<String>,
    /// How many at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<i32>,
}
