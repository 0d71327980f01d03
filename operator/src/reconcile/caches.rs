//! What the reconcilers know of the API server, and by what they find it.

use cairn_crds::{DittoServer, Restore, Snapshot, StorageNode, Workspace, names};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;

use crate::runtime::cache::{Cache, IndexId};

/// Workspaces by the node that has them.
pub const WORKSPACES_BY_NODE: IndexId = IndexId(0);
/// Workspaces by the Snapshot that they begin with (`namespace/name or id`).
pub const WORKSPACES_BY_INITIAL: IndexId = IndexId(1);
/// Workspaces by the uid of what made them.
pub const WORKSPACES_BY_MAKER: IndexId = IndexId(2);
/// Snapshots by their Workspace (`namespace/name`).
pub const SNAPSHOTS_BY_WORKSPACE: IndexId = IndexId(0);
/// Snapshots by the node that has them.
pub const SNAPSHOTS_BY_NODE: IndexId = IndexId(1);
/// Snapshots by their id (`namespace/id`).
pub const SNAPSHOTS_BY_ID: IndexId = IndexId(2);
/// Snapshots by uid.
pub const SNAPSHOTS_BY_UID: IndexId = IndexId(3);
/// Restores by their Workspace (`namespace/name`).
pub const RESTORES_BY_WORKSPACE: IndexId = IndexId(0);
/// Restores by their Snapshot (`namespace/name or id`).
pub const RESTORES_BY_SNAPSHOT: IndexId = IndexId(1);
/// Restores by uid.
pub const RESTORES_BY_UID: IndexId = IndexId(2);
/// Volumes and claims by the uid of their Workspace.
pub const BY_WORKSPACE_UID: IndexId = IndexId(0);

/// The caches.
#[derive(Debug)]
pub struct Caches {
    /// Workspaces of all namespaces.
    pub workspaces: Cache<Workspace>,
    /// Snapshots of all namespaces.
    pub snapshots: Cache<Snapshot>,
    /// Restores of all namespaces.
    pub restores: Cache<Restore>,
    /// StorageNodes.
    pub nodes: Cache<StorageNode>,
    /// PersistentVolumes that are the operator's.
    pub volumes: Cache<PersistentVolume>,
    /// Claims that are the operator's.
    pub claims: Cache<PersistentVolumeClaim>,
    /// Services of the operator's namespace.
    pub services: Cache<Service>,
    /// EndpointSlices of the operator's namespace: its own, and those of the daemons.
    pub slices: Cache<EndpointSlice>,
    /// DittoServers of all namespaces. This and those below are only filled if DittoServers are served.
    pub dittos: Cache<DittoServer>,
    /// StatefulSets of DittoServers.
    pub sets: Cache<StatefulSet>,
    /// ConfigMaps of DittoServers.
    pub configs: Cache<ConfigMap>,
    /// Services of DittoServers.
    pub ditto_services: Cache<Service>,
    /// PodDisruptionBudgets of DittoServers.
    pub budgets: Cache<PodDisruptionBudget>,
    /// NetworkPolicies of DittoServers.
    pub policies: Cache<NetworkPolicy>,
    /// Whether DittoServers are served.
    pub serves_dittos: bool,
}

impl Caches {
    /// Empty caches.
    pub fn new() -> Self {
        Caches {
            workspaces: Cache::new(&[
                |workspace: &Workspace| {
                    let status = workspace.status.as_ref();
                    status
                        .and_then(|status| status.node_name.clone())
                        .into_iter()
                        .collect()
                },
                |workspace: &Workspace| {
                    let initial = workspace.spec.initial_snapshot.as_deref();
                    initial
                        .map(|initial| within(workspace, initial))
                        .into_iter()
                        .collect()
                },
                |workspace: &Workspace| {
                    let maker = workspace
                        .annotations()
                        .get(crate::plan::snapshot_worktree::MADE_BY);
                    maker.cloned().into_iter().collect()
                },
            ]),
            snapshots: Cache::new(&[
                |snapshot: &Snapshot| vec![within(snapshot, &snapshot.spec.workspace)],
                |snapshot: &Snapshot| {
                    let status = snapshot.status.as_ref();
                    status
                        .and_then(|status| status.node_name.clone())
                        .into_iter()
                        .collect()
                },
                |snapshot: &Snapshot| {
                    let status = snapshot.status.as_ref();
                    let id = status.and_then(|status| status.snapshot_id.as_deref());
                    id.map(|id| within(snapshot, id)).into_iter().collect()
                },
                |snapshot: &Snapshot| snapshot.uid().into_iter().collect(),
            ]),
            restores: Cache::new(&[
                |restore: &Restore| vec![within(restore, &restore.spec.workspace)],
                |restore: &Restore| vec![within(restore, &restore.spec.snapshot)],
                |restore: &Restore| restore.uid().into_iter().collect(),
            ]),
            nodes: Cache::new(&[]),
            volumes: Cache::new(&[|volume: &PersistentVolume| of_workspace(volume)]),
            claims: Cache::new(&[|claim: &PersistentVolumeClaim| of_workspace(claim)]),
            services: Cache::new(&[]),
            slices: Cache::new(&[]),
            dittos: Cache::new(&[]),
            sets: Cache::new(&[]),
            configs: Cache::new(&[]),
            ditto_services: Cache::new(&[]),
            budgets: Cache::new(&[]),
            policies: Cache::new(&[]),
            serves_dittos: false,
        }
    }

    /// Which caches have not been listed yet.
    pub fn missing(&self) -> Vec<&'static str> {
        [
            ("workspaces", self.workspaces.is_synced()),
            ("snapshots", self.snapshots.is_synced()),
            ("restores", self.restores.is_synced()),
            ("storagenodes", self.nodes.is_synced()),
            ("persistentvolumes", self.volumes.is_synced()),
            ("persistentvolumeclaims", self.claims.is_synced()),
            ("services", self.services.is_synced()),
            ("endpointslices", self.slices.is_synced()),
            ("dittoservers", self.dittos.is_synced() || !self.serves_dittos),
            ("statefulsets", self.sets.is_synced() || !self.serves_dittos),
            ("configmaps", self.configs.is_synced() || !self.serves_dittos),
            (
                "services of dittoservers",
                self.ditto_services.is_synced() || !self.serves_dittos,
            ),
            (
                "poddisruptionbudgets",
                self.budgets.is_synced() || !self.serves_dittos,
            ),
            (
                "networkpolicies",
                self.policies.is_synced() || !self.serves_dittos,
            ),
        ]
        .into_iter()
        .filter_map(|(name, synced)| (!synced).then_some(name))
        .collect()
    }

    /// Returns when everything has been listed once.
    pub async fn wait_until_synced(&self) {
        self.workspaces.wait_until_synced().await;
        self.snapshots.wait_until_synced().await;
        self.restores.wait_until_synced().await;
        self.nodes.wait_until_synced().await;
        self.volumes.wait_until_synced().await;
        self.claims.wait_until_synced().await;
        self.services.wait_until_synced().await;
        self.slices.wait_until_synced().await;
        if self.serves_dittos {
            self.dittos.wait_until_synced().await;
            self.sets.wait_until_synced().await;
            self.configs.wait_until_synced().await;
            self.ditto_services.wait_until_synced().await;
            self.budgets.wait_until_synced().await;
            self.policies.wait_until_synced().await;
        }
    }
}

impl Default for Caches {
    fn default() -> Self {
        Caches::new()
    }
}

/// A name in the namespace of an object.
pub fn within<K: ResourceExt>(object: &K, name: &str) -> String {
    format!("{}/{name}", object.namespace().unwrap_or_default())
}

fn of_workspace<K: ResourceExt>(object: &K) -> Vec<String> {
    object
        .labels()
        .get(names::WORKSPACE_UID)
        .cloned()
        .into_iter()
        .collect()
}
