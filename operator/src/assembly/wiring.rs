//! Who is looked at when something changes: the table of what depends on what. Listeners only add keys to queues.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cairn_crds::conditions::READY;
use cairn_crds::{Restore, Snapshot, StorageNode, Workspace};
use cairn_types::Clock;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::Queues;
use crate::children::{ditto, node_service};
use crate::daemons::client::GrpcDaemons;
use crate::daemons::{Daemons, Fleet, discovery, fleet};
use crate::plan::is_true;
use crate::plan::snapshot_worktree::MADE_BY;
use crate::reconcile::caches::{
    Caches, RESTORES_BY_SNAPSHOT, RESTORES_BY_UID, RESTORES_BY_WORKSPACE, SNAPSHOTS_BY_ID, SNAPSHOTS_BY_NODE,
    SNAPSHOTS_BY_UID, SNAPSHOTS_BY_WORKSPACE, WORKSPACES_BY_INITIAL, WORKSPACES_BY_NODE, within,
};
use crate::reconcile::ditto_server;
use crate::runtime::cache::{Change, Key, is_terminating};
use crate::runtime::lease::Leadership;

/// A Workspace is looked at this long after a change of its Snapshots, so that many changes are one look.
const SNAPSHOTS_SETTLE: Duration = Duration::from_secs(1);

/// What is connected.
pub(super) struct Connect {
    pub(super) queues: Arc<Queues>,
    pub(super) daemons: Arc<dyn Daemons>,
    pub(super) discovered: Option<Arc<GrpcDaemons>>,
    pub(super) daemon_service: String,
    pub(super) leadership: Leadership,
    pub(super) cluster: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) serves_dittos: bool,
    pub(super) fenced: fleet::Fenced,
}

/// Makes the caches and the fleet, which tell the queues.
pub(super) fn connect(connect: Connect) -> (Arc<Caches>, Arc<Fleet>) {
    let Connect {
        queues,
        daemons,
        discovered,
        daemon_service,
        ..
    } = connect;
    let caches = Arc::new_cyclic(|weak: &Weak<Caches>| {
        let mut caches = Caches::new();
        caches.serves_dittos = connect.serves_dittos;
        listen(&mut caches, weak, &queues);
        if let Some(discovered) = discovered {
            let (weak, queues) = (weak.clone(), Arc::clone(&queues));
            caches.slices.listen(move |change| {
                let is_daemons = [change.old, change.new]
                    .into_iter()
                    .flatten()
                    .any(|slice| discovery::is_of(slice, &daemon_service));
                let Some(caches) = weak.upgrade().filter(|_| is_daemons) else {
                    return;
                };
                for node in discovered.learn(&caches.slices, &daemon_service) {
                    queues.nodes.add(Key::cluster(node));
                }
            });
        }
        caches
    });
    let (weak, nodes) = (Arc::downgrade(&caches), Arc::clone(&queues));
    let fleet = Fleet::new(
        daemons,
        connect.leadership,
        connect.cluster,
        connect.clock,
        Box::new(move |node| {
            if let Some(caches) = weak.upgrade() {
                node_news(&caches, &nodes, node);
            }
        }),
        connect.fenced,
    );
    (caches, Arc::new(fleet))
}

/// Everything is looked at.
pub(super) fn add_all(caches: &Caches, queues: &Queues, fleet: &Fleet) {
    // Nodes first: Workspaces are placed on those that have answered.
    for (node, _) in fleet.nodes() {
        queues.nodes.add(Key::cluster(node));
    }
    for key in caches.nodes.keys() {
        queues.nodes.add(key);
    }
    for key in caches.workspaces.keys() {
        queues.workspaces.add(key);
    }
    for key in caches.snapshots.keys() {
        queues.snapshots.add(key);
    }
    for key in caches.restores.keys() {
        queues.restores.add(key);
    }
    for key in caches.dittos.keys() {
        queues.dittos.add(key);
    }
}

/// A daemon came or went, or is another process.
fn node_news(caches: &Caches, queues: &Queues, node: &str) {
    for key in caches.workspaces.filed_keys(WORKSPACES_BY_NODE, node) {
        queues.workspaces.add(key);
    }
    for snapshot in caches.snapshots.filed(SNAPSHOTS_BY_NODE, node) {
        if !is_ready(&snapshot) || is_terminating(snapshot.as_ref()) {
            queues.snapshots.add(Key::of(snapshot.as_ref()));
        }
    }
    for restore in caches.restores.all() {
        let status = restore.status.as_ref();
        let is_there = status.is_some_and(|status| status.node_name.as_deref() == Some(node));
        if is_there && status.is_some_and(|status| status.completed_at.is_none()) {
            queues.restores.add(Key::of(restore.as_ref()));
        }
    }
    add_unplaced(caches, queues);
    queues.nodes.add_after(Key::cluster(node), Duration::from_secs(1));
}

/// Workspaces that wait for a node.
fn add_unplaced(caches: &Caches, queues: &Queues) {
    for workspace in caches.workspaces.all() {
        let status = workspace.status.as_ref();
        if status.is_none_or(|status| status.node_name.is_none()) {
            queues.workspaces.add(Key::of(workspace.as_ref()));
        }
    }
}

fn is_ready(snapshot: &Snapshot) -> bool {
    let conditions = snapshot.status.as_ref().map(|status| &status.conditions[..]);
    is_true(conditions.unwrap_or_default(), READY)
}

/// Whether an object's own reconciler has to look at a change: not at its own words in the status, nor at the finalizer that it has added.
fn is_matter<K: Resource>(change: &Change<'_, K>) -> bool {
    let (Some(old), Some(new)) = (change.old, change.new) else {
        return true;
    };
    let (old, new) = (old.meta(), new.meta());
    let finalizers = |meta: &ObjectMeta| meta.finalizers.as_ref().map(Vec::len).unwrap_or(0);
    old.uid != new.uid
        || old.generation != new.generation
        || old.deletion_timestamp != new.deletion_timestamp
        || old.annotations != new.annotations
        || old.labels != new.labels
        || finalizers(new) < finalizers(old)
}

/// The DittoServer whose child has changed, by the label that names it.
fn owner_changed<K: ResourceExt>(queues: &Queues, change: &Change<'_, K>) {
    let object = change.new.or(change.old);
    if let Some(object) = object
        && let Some(server) = object.labels().get(ditto::SERVER)
    {
        let key = Key::new(object.namespace().unwrap_or_default(), server);
        queues.dittos.add_after(key, ditto_server::SETTLE);
    }
}

fn listen_to_dittos(caches: &mut Caches, queues: &Arc<Queues>) {
    let to = Arc::clone(queues);
    caches
        .dittos
        .listen(move |change| to.dittos.add(change.key.clone()));
    let to = Arc::clone(queues);
    caches.sets.listen(move |change| owner_changed(&to, change));
    let to = Arc::clone(queues);
    caches.configs.listen(move |change| owner_changed(&to, change));
    let to = Arc::clone(queues);
    caches
        .ditto_services
        .listen(move |change| owner_changed(&to, change));
    let to = Arc::clone(queues);
    caches.budgets.listen(move |change| owner_changed(&to, change));
    let to = Arc::clone(queues);
    caches.policies.listen(move |change| owner_changed(&to, change));
}

fn listen(caches: &mut Caches, weak: &Weak<Caches>, queues: &Arc<Queues>) {
    listen_to_dittos(caches, queues);
    let (of, to) = (weak.clone(), Arc::clone(queues));
    caches.workspaces.listen(move |change| {
        if is_matter(change) {
            to.workspaces.add(change.key.clone());
        }
        if let Some(caches) = of.upgrade() {
            workspace_changed(&caches, &to, change);
        }
    });
    let (of, to) = (weak.clone(), Arc::clone(queues));
    caches.snapshots.listen(move |change| {
        if is_matter(change) {
            to.snapshots.add(change.key.clone());
        }
        if let Some(caches) = of.upgrade() {
            snapshot_changed(&caches, &to, change);
        }
    });
    let to = Arc::clone(queues);
    caches.restores.listen(move |change: &Change<'_, Restore>| {
        if is_matter(change) {
            to.restores.add(change.key.clone());
        }
    });
    let (of, to) = (weak.clone(), Arc::clone(queues));
    caches.nodes.listen(move |change: &Change<'_, StorageNode>| {
        to.nodes.add(change.key.clone());
        let cordoned = |node: &Arc<StorageNode>| node.spec.cordoned;
        if change.old.map(cordoned) != change.new.map(cordoned)
            && let Some(caches) = of.upgrade()
        {
            add_unplaced(&caches, &to);
        }
    });
    let to = Arc::clone(queues);
    caches
        .claims
        .listen(move |change: &Change<'_, PersistentVolumeClaim>| {
            to.workspaces.add(change.key.clone());
            owner_changed(&to, change);
        });
    let to = Arc::clone(queues);
    caches
        .volumes
        .listen(move |change: &Change<'_, PersistentVolume>| {
            let volume = change.new.or(change.old);
            let claim = volume.and_then(|volume| volume.spec.as_ref()?.claim_ref.clone());
            if let Some(claim) = claim {
                let key = Key::new(
                    claim.namespace.unwrap_or_default(),
                    claim.name.unwrap_or_default(),
                );
                to.workspaces.add(key);
            }
        });
    let (of, to) = (weak.clone(), Arc::clone(queues));
    caches.services.listen(move |change: &Change<'_, Service>| {
        let ip = |service: &Arc<Service>| node_service::cluster_ip(service);
        if change.old.and_then(ip) == change.new.and_then(ip) && change.new.is_some() {
            return;
        }
        let Some(caches) = of.upgrade() else { return };
        let node = caches
            .nodes
            .keys()
            .into_iter()
            .find(|node| node_service::name(&node.name) == change.key.name);
        if let Some(node) = node {
            for key in caches.workspaces.filed_keys(WORKSPACES_BY_NODE, &node.name) {
                to.workspaces.add(key);
            }
            // One that somebody removed is made again.
            to.nodes.add(node);
        }
    });
}

/// What of a Workspace its Snapshots and Restores wait for.
fn workspace_facts(workspace: &Arc<Workspace>) -> (bool, bool, Option<String>, Option<String>, Option<bool>) {
    let status = workspace.status.as_ref();
    (
        is_terminating(workspace.as_ref()),
        workspace.spec.paused,
        status.and_then(|status| status.workspace_id.clone()),
        status.and_then(|status| status.node_name.clone()),
        status.map(|status| is_true(&status.conditions, READY)),
    )
}

fn workspace_changed(caches: &Caches, queues: &Queues, change: &Change<'_, Workspace>) {
    if change.old.map(workspace_facts) == change.new.map(workspace_facts) {
        return;
    }
    let Some(workspace) = change.new.or(change.old) else {
        return;
    };
    let own = within(workspace.as_ref(), &workspace.name_any());
    for snapshot in caches.snapshots.filed(SNAPSHOTS_BY_WORKSPACE, &own) {
        if !is_ready(&snapshot) {
            queues.snapshots.add(Key::of(snapshot.as_ref()));
        }
    }
    for key in caches.restores.filed_keys(RESTORES_BY_WORKSPACE, &own) {
        queues.restores.add(key);
    }
    // A snapshot that something began with is in use until that is gone.
    if change.new.is_none()
        && let Some(initial) = &workspace.spec.initial_snapshot
    {
        let namespace = workspace.namespace().unwrap_or_default();
        queues.snapshots.add(Key::new(namespace, initial));
        let id = within(workspace.as_ref(), initial);
        for key in caches.snapshots.filed_keys(SNAPSHOTS_BY_ID, &id) {
            queues.snapshots.add(key);
        }
    }
    if let Some(maker) = workspace.annotations().get(MADE_BY) {
        for key in caches.snapshots.filed_keys(SNAPSHOTS_BY_UID, maker) {
            queues.snapshots.add(key);
        }
        for key in caches.restores.filed_keys(RESTORES_BY_UID, maker) {
            queues.restores.add(key);
        }
    }
}

/// What of a Snapshot its Workspace, and those that begin with it, wait for.
fn snapshot_facts(snapshot: &Arc<Snapshot>) -> (bool, bool, Option<String>, String) {
    let status = snapshot.status.as_ref();
    (
        is_terminating(snapshot.as_ref()),
        is_ready(snapshot),
        status.and_then(|status| status.snapshot_id.clone()),
        format!("{:?}{:?}", snapshot.spec.tags, snapshot.spec.deletion_policy),
    )
}

fn snapshot_changed(caches: &Caches, queues: &Queues, change: &Change<'_, Snapshot>) {
    if change.old.map(snapshot_facts) == change.new.map(snapshot_facts) {
        return;
    }
    let Some(snapshot) = change.new.or(change.old) else {
        return;
    };
    let namespace = snapshot.namespace().unwrap_or_default();
    queues
        .workspaces
        .add_after(Key::new(namespace, &snapshot.spec.workspace), SNAPSHOTS_SETTLE);
    let id = snapshot
        .status
        .as_ref()
        .and_then(|status| status.snapshot_id.clone());
    for name in [Some(snapshot.name_any()), id].into_iter().flatten() {
        let name = within(snapshot.as_ref(), &name);
        for key in caches.workspaces.filed_keys(WORKSPACES_BY_INITIAL, &name) {
            queues.workspaces.add(key);
        }
        for key in caches.restores.filed_keys(RESTORES_BY_SNAPSHOT, &name) {
            queues.restores.add(key);
        }
    }
}
