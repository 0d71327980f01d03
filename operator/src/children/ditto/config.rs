//! The ConfigMap of a DittoServer: the daemon's configuration, and the record of its shares.
//!
//! The configuration has only what the daemon reads at its start; a change of it restarts the daemon. Shares are not in it: they are made by RPC. The record
//! ([`Record`]) is the operator's memory of what each share was made with, which later requests must repeat.

use std::collections::{BTreeMap, BTreeSet};

use cairn_crds::DittoServer;
use cairn_crds::ditto_server::{Backend, BackendType, LogFormat};
use cairn_crds::validation::quantity_bytes;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::{DittoSettings, HTTP_PORT, NFS_PORT, RPC_PORT, child, config_name};

/// The key of the configuration.
pub const FILE: &str = "cairnd.toml";
/// The key of the record of shares.
pub const SHARES: &str = "shares.json";
/// Where the daemon keeps everything.
pub const DATA_DIRECTORY: &str = "/var/lib/cairn/data";
/// Where the certificate is mounted.
pub const TLS_DIRECTORY: &str = "/etc/cairn-tls";
/// Where credentials of object stores are mounted, each in a directory of the backend's name.
pub const STORES_DIRECTORY: &str = "/etc/cairn-stores";
/// The key of `secretRefs` whose Secret's key is a file in the form of AWS's shared credentials file.
pub const CREDENTIALS: &str = "credentials";
/// How long the daemon waits for running requests at its end, in seconds, unless `terminationGracePeriodSeconds` says otherwise.
pub const SHUTDOWN_SECONDS: i64 = 20;
/// Seconds of the grace period that are not the daemon's own bound: what comes before its signal, and the closing of its stores.
pub const GRACE_MARGIN_SECONDS: i64 = 16;
/// Bounds of the daemon's cache of metadata in bytes (`metadata.cache_bytes`).
const CACHE_BYTES: (u64, u64) = (1 << 20, 1 << 40);

/// What a share was made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The name of its workspace at the daemon.
    pub workspace: String,
    /// Owner of its root directory.
    pub uid: u32,
    /// Group of it.
    pub gid: u32,
    /// Mode of it.
    pub mode: u32,
}

/// Every share that was ever there, by name.
pub type Record = BTreeMap<String, Recorded>;

/// Backends that are buckets, each URL once, and what cannot be honoured of them.
pub fn stores(server: &DittoServer) -> (Vec<&Backend>, Vec<String>) {
    let mut refused = Vec::new();
    let mut urls = BTreeSet::new();
    let mut found: Vec<&Backend> = Vec::new();
    let backends = server.spec.config.as_ref().map(|config| &config.backends[..]);
    for backend in backends.unwrap_or_default() {
        if backend.type_ != BackendType::S3 {
            continue;
        }
        let name = &backend.name;
        if backend
            .config
            .values()
            .any(|value| value.contains(char::is_control))
        {
            refused.push(format!(
                "backend {name} has control characters in its config: it is not used"
            ));
            continue;
        }
        for key in backend.config.keys() {
            if !["bucket", "prefix", "region", "endpoint"].contains(&key.as_str()) {
                refused.push(format!(
                    "config.{key} of backend {name} is not used: there are bucket, prefix, region and endpoint"
                ));
            }
        }
        for key in backend.secret_refs.keys() {
            if !["access_key_id", "secret_access_key", CREDENTIALS].contains(&key.as_str()) {
                refused.push(format!(
                    "secretRefs.{key} of backend {name} is not used: there are access_key_id, secret_access_key and {CREDENTIALS}"
                ));
            }
        }
        if !urls.insert(url(backend)) {
            refused.push(format!(
                "backend {name} has the bucket and prefix of another: it is not used"
            ));
            continue;
        }
        let has_keys = |backend: &Backend| backend.secret_refs.contains_key("access_key_id");
        if has_keys(backend) && found.iter().any(|other| has_keys(other)) {
            refused.push(format!(
                "backend {name} has access keys of its own, and the daemon takes one pair only: name a Secret with a file in the form of AWS's \
                 shared credentials file as secretRefs.{CREDENTIALS}"
            ));
            continue;
        }
        found.push(backend);
    }
    (found, refused)
}

fn url(backend: &Backend) -> String {
    let part = |key: &str| backend.config.get(key).map(String::as_str).unwrap_or_default();
    match part("prefix").trim_matches('/') {
        "" => format!("s3://{}", part("bucket")),
        prefix => format!("s3://{}/{prefix}", part("bucket")),
    }
}

/// The daemon's own bound for its end in seconds.
pub fn shutdown_seconds(server: &DittoServer) -> i64 {
    match server.spec.termination_grace_period_seconds {
        Some(grace) => (grace - GRACE_MARGIN_SECONDS).clamp(1, 3600),
        None => SHUTDOWN_SECONDS,
    }
}

/// The daemon's configuration. What is not here is its default.
pub fn file(server: &DittoServer, settings: &DittoSettings) -> String {
    let spec = &server.spec;
    let logging = spec.logging.clone().unwrap_or_default();
    let level = logging.level.as_deref().unwrap_or("info").to_ascii_lowercase();
    let format = match logging.format.unwrap_or_default() {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let mut text = format!(
        "data_dir = {data}\n\n[nfs]\nlisten = \"[::]:{NFS_PORT}\"\n\n[rpc.tcp]\nlisten = \"[::]:{RPC_PORT}\"\n\
         certificate = \"{TLS_DIRECTORY}/tls.crt\"\nkey = \"{TLS_DIRECTORY}/tls.key\"\nclient_ca = \"{TLS_DIRECTORY}/ca.crt\"\n\
         control_clients = [{client}]\n\n[http]\nlisten = \"[::]:{HTTP_PORT}\"\n\n[limits]\nshutdown_seconds = {shutdown}\n\n\
         [log]\nformat = \"{format}\"\nlevel = {level}\n",
        data = quoted(DATA_DIRECTORY),
        client = quoted(&settings.client),
        shutdown = shutdown_seconds(server),
        level = quoted(&level),
    );
    let caches = spec.config.as_ref().map(|config| &config.caches[..]);
    let cache_bytes: u64 = caches
        .unwrap_or_default()
        .iter()
        .filter_map(|cache| quantity_bytes(cache.memory.as_ref()?.max_size.as_deref()?))
        .fold(0, u64::saturating_add);
    if cache_bytes > 0 {
        let bytes = cache_bytes.clamp(CACHE_BYTES.0, CACHE_BYTES.1);
        text.push_str(&format!("\n[metadata]\ncache_bytes = {bytes}\n"));
    }
    for backend in stores(server).0 {
        text.push_str(&format!("\n[[store]]\nurl = {}\n", quoted(&url(backend))));
        if let Some(endpoint) = backend.config.get("endpoint") {
            text.push_str(&format!("endpoint = {}\n", quoted(endpoint)));
            if endpoint.starts_with("http://") {
                text.push_str("allow_http = true\n");
            }
        }
        if let Some(region) = backend.config.get("region") {
            text.push_str(&format!("region = {}\n", quoted(region)));
        }
        if backend.secret_refs.contains_key(CREDENTIALS) {
            let path = format!("{STORES_DIRECTORY}/{}/{CREDENTIALS}", backend.name);
            text.push_str(&format!("credentials_file = {}\n", quoted(&path)));
        }
    }
    text
}

/// A TOML basic string. Control characters are refused before ([`stores`]).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What a restart is needed for.
pub fn hash(file: &str) -> String {
    cairn_types::hexadecimal::text(&blake3::hash(file.as_bytes()).as_bytes()[..8])
}

/// The record in a ConfigMap. One that cannot be read counts as empty: the daemon then refuses requests that differ, and says in what.
pub fn record(config: &ConfigMap) -> Record {
    let text = config.data.as_ref().and_then(|data| data.get(SHARES));
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// The ConfigMap.
pub fn config_map(server: &DittoServer, file: String, record: &Record) -> ConfigMap {
    let shares = serde_json::to_string(record).unwrap_or_default();
    ConfigMap {
        metadata: child(server, config_name(&server.name_any())),
        data: Some([(FILE.to_owned(), file), (SHARES.to_owned(), shares)].into()),
        ..ConfigMap::default()
    }
}
