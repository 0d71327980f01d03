//! The children of a DittoServer: names and labels that they share, and one file for each kind.
//!
//! All of them are owned by the DittoServer and go with it. The claim of its StatefulSet is the exception: it is made by the StatefulSet's controller, nobody
//! owns it, and it goes only when the deletion policy says so.

pub mod config;
pub mod disruption;
pub mod monitor;
pub mod network_policy;
pub mod services;
pub mod stateful_set;

use std::collections::BTreeMap;

use cairn_crds::{DittoServer, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::ResourceExt;

use crate::runtime::cache::Key;
use crate::runtime::tls::servers::SERVERS;

/// Label of a DittoServer's children, its pod and its claim: the DittoServer's name.
pub const SERVER: &str = "dittofs.dittofs.com/server";
/// Annotation of the pod: a hash of the configuration that the daemon only reads when it starts.
pub const CONFIG_HASH: &str = "dittofs.dittofs.com/config-hash";

/// Port of NFS and MOUNT in the pod, of every server: the Service has the one that people choose, so that choosing another restarts nothing.
pub const NFS_PORT: u16 = 12_049;
/// Port of RPC in the pod.
pub const RPC_PORT: u16 = 12_443;
/// Port of probes and metrics in the pod.
pub const HTTP_PORT: u16 = 12_080;
/// The daemon's user and group: it needs neither root nor capabilities, because owners of files are metadata of its own.
pub const USER: i64 = 65_532;

/// What the children of every DittoServer take from the operator's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DittoSettings {
    /// The daemon's image.
    pub image: String,
    /// The operator's namespace, from where the daemons are asked.
    pub namespace: String,
    /// The name in the operator's certificate, the only one that may use a server's RPC.
    pub client: String,
    /// Networks that may mount shares that name none.
    pub clients: Vec<String>,
    /// Whether the operator keeps the certificates of the servers, with its own authority.
    pub signs: bool,
}

/// The name of a DittoServer's daemon towards the operator. It has a `/`, which no node's name has.
pub fn daemon(server: &DittoServer) -> String {
    format!("{}/{}", server.namespace().unwrap_or_default(), server.name_any())
}

/// The name that the certificate of a DittoServer's daemon must have.
pub fn host(server: &DittoServer) -> String {
    format!(
        "{}.{}.svc",
        server.name_any(),
        server.namespace().unwrap_or_default()
    )
}

/// The Secret with the certificate of a DittoServer's daemon (`tls.crt`, `tls.key` and `ca.crt`): the one that it names, the one of its namespace that the operator
/// keeps, or `NAME-tls`.
pub fn certificate(server: &DittoServer, settings: &DittoSettings) -> String {
    let named = server.spec.tls.as_ref().and_then(|tls| tls.secret_name.clone());
    match named {
        Some(named) => named,
        None if settings.signs => SERVERS.to_owned(),
        None => format!("{}-tls", server.name_any()),
    }
}

/// Whether the operator keeps that Secret.
pub fn keeps_certificate(server: &DittoServer, settings: &DittoSettings) -> bool {
    let tls = server.spec.tls.as_ref();
    settings.signs && tls.is_none_or(|tls| tls.secret_name.is_none())
}

/// Everything that is mounted into the pod and must be there before it starts, in words.
pub fn mounted(server: &DittoServer, settings: &DittoSettings) -> Vec<String> {
    let stores = config::stores(server).0;
    let credentials = stores
        .iter()
        .filter_map(|backend| backend.secret_refs.get(config::CREDENTIALS))
        .map(|secret| format!("the Secret {} with the key {}", secret.name, secret.key));
    [
        format!("the claim {}", claim_name(&server.name_any())),
        format!("the Secret {}", certificate(server, settings)),
    ]
    .into_iter()
    .chain(credentials)
    .collect()
}

/// The name of the configuration's ConfigMap.
pub fn config_name(name: &str) -> String {
    format!("{name}-config")
}

/// The name of the StatefulSet's Service.
pub fn headless_name(name: &str) -> String {
    format!("{name}-headless")
}

/// The name of the Service of metrics.
pub fn metrics_name(name: &str) -> String {
    format!("{name}-metrics")
}

/// The name of the claim that holds everything.
pub fn claim_name(name: &str) -> String {
    format!("{}-{name}-0", stateful_set::VOLUME)
}

/// The labels by which Services and policies find the pod. They can never change: a StatefulSet's selector is immutable.
pub fn selector(name: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "cairnd"),
        ("app.kubernetes.io/component", "ditto-server"),
        (names::MANAGED_BY, names::MANAGER),
        (SERVER, name),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn match_labels(name: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selector(name)),
        ..LabelSelector::default()
    }
}

/// The metadata of a child of this name.
fn child(server: &DittoServer, name: String) -> ObjectMeta {
    let key = Key::new(server.namespace().unwrap_or_default(), name);
    let mut metadata = crate::runtime::api::metadata(&key, &[]);
    metadata.labels = Some(selector(&server.name_any()));
    metadata.owner_references = super::controlled_by(server).map(|owner| vec![owner]);
    metadata
}
