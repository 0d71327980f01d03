//! What was given up on a node that did not answer: kept in a ConfigMap per node of the operator's namespace until the daemon comes back, which is then told. So
//! what somebody abandoned does not come back as a stray.

use std::collections::BTreeMap;

use cairn_api::proto;
use cairn_crds::names;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::Context;
use crate::children::label;
use crate::plan::{restore_key, snapshot_key};
use crate::runtime::api::metadata;
use crate::runtime::cache::Key;
use crate::runtime::error::ReconcileError;

/// Most entries of one node: a ConfigMap holds 1 MiB.
pub const ENTRIES_MAX: usize = 5000;

/// What a daemon is told when it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burial {
    /// Remove the workspace of a key, with its snapshots.
    DeleteWorkspace,
    /// Nobody owns the workspace of a key.
    ReleaseWorkspace,
    /// Remove the snapshot of a key.
    DeleteSnapshot,
    /// Forget the restore of a key.
    ForgetRestore,
}

impl Burial {
    const ALL: [Burial; 4] = [
        Burial::DeleteWorkspace,
        Burial::ReleaseWorkspace,
        Burial::DeleteSnapshot,
        Burial::ForgetRestore,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Burial::DeleteWorkspace => "delete-workspace",
            Burial::ReleaseWorkspace => "release-workspace",
            Burial::DeleteSnapshot => "delete-snapshot",
            Burial::ForgetRestore => "forget-restore",
        }
    }
}

fn key(context: &Context, node: &str) -> Key {
    Key::new(&context.namespace, label("cairn-abandoned-", node))
}

/// Notes what the daemon of `node` is to be told about the object with this uid. Durable on return. Errors: the API server refuses or does not answer; there are
/// too many.
pub async fn entomb(context: &Context, node: &str, uid: &str, burial: Burial) -> Result<(), ReconcileError> {
    let key = key(context, node);
    context.given_up.lock().insert(node.to_owned());
    let found: Option<ConfigMap> = context.nodes.get(&key).await?;
    let Some(found) = found else {
        let mut map = ConfigMap {
            metadata: metadata(&key, &[(names::MANAGED_BY, names::MANAGER)]),
            data: Some(BTreeMap::from([(uid.to_owned(), burial.as_str().to_owned())])),
            ..ConfigMap::default()
        };
        map.metadata.annotations = Some(BTreeMap::from([("jvs.io/node".to_owned(), node.to_owned())]));
        return match context.nodes.create(None, &map).await? {
            Some(_) => Ok(()),
            None => merge(context, &key, uid, burial).await,
        };
    };
    let entries = found.data.as_ref().map(BTreeMap::len).unwrap_or(0);
    if entries >= ENTRIES_MAX {
        return Err(ReconcileError::Internal {
            what: format!("{entries} things were given up on node {node}, at most {ENTRIES_MAX}"),
            source: format!(
                "if the node never comes back, delete the ConfigMap {key}: then nothing that was given up there is remembered"
            )
            .into(),
        });
    }
    merge(context, &key, uid, burial).await
}

async fn merge(context: &Context, key: &Key, uid: &str, burial: Burial) -> Result<(), ReconcileError> {
    let patch = json!({ "data": { uid: burial.as_str() } });
    context
        .nodes
        .merge::<ConfigMap>(None, key, &patch)
        .await
        .map(drop)
}

/// Tells a daemon that is back everything that was given up on its node. Errors: the API server or the daemon does not answer; what was told before that is not
/// told again.
pub async fn bury(context: &Context, node: &str) -> Result<(), ReconcileError> {
    let key = key(context, node);
    let Some(found) = context.nodes.get::<ConfigMap>(&key).await? else {
        return Ok(());
    };
    for (uid, burial) in found.data.clone().unwrap_or_default() {
        let fleet = &context.fleet;
        match Burial::ALL.into_iter().find(|known| known.as_str() == burial) {
            Some(Burial::DeleteWorkspace) => {
                let request = proto::DeleteManagedWorkspaceRequest {
                    key: uid.clone(),
                    with_snapshots: true,
                    ..Default::default()
                };
                fleet.call(node, request).await?;
            }
            Some(Burial::ReleaseWorkspace) => {
                let request = proto::ReleaseWorkspaceRequest {
                    key: uid.clone(),
                    ..Default::default()
                };
                fleet.call(node, request).await?;
            }
            Some(Burial::DeleteSnapshot) => {
                let which = proto::delete_managed_snapshot_request::Which::Key(snapshot_key(&uid));
                let request = proto::DeleteManagedSnapshotRequest {
                    which: Some(which),
                    ..Default::default()
                };
                fleet.call(node, request).await?;
            }
            Some(Burial::ForgetRestore) => {
                let request = proto::ForgetRestoreRequest {
                    key: restore_key(&uid),
                    ..Default::default()
                };
                fleet.call(node, request).await?;
            }
            None => tracing::warn!(node, uid, burial, "an entry that nobody understands is dropped"),
        }
        tracing::info!(node, uid, burial, "the daemon was told what had been given up");
        let patch = json!({ "data": { uid.as_str(): null } });
        context.nodes.merge::<ConfigMap>(None, &key, &patch).await?;
    }
    context.nodes.delete(&found).await
}
