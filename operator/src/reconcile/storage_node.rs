//! Keeps a StorageNode, a Service and an EndpointSlice for every node that has a daemon, and tells a daemon that is back what was given up meanwhile.
//!
//! The Service of a node stays as long as a Workspace is there, whatever becomes of the daemon: its cluster IP stands in PersistentVolumes, which cannot be
//! changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cairn_crds::storage_node::StorageNodeSpec;
use cairn_crds::{StorageNode, names};
use kube::ResourceExt;
use parking_lot::Mutex;

use super::caches::WORKSPACES_BY_NODE;
use super::{Context, tombstones};
use crate::children::node_service;
use crate::daemons::CallError;
use crate::plan::storage_node::{Observed, status};
use crate::runtime::api::metadata;
use crate::runtime::apply::{self, Knows};
use crate::runtime::cache::{self, Key};
use crate::runtime::controller::{Next, Reconciler};
use crate::runtime::error::ReconcileError;

/// How often a daemon is asked who it is.
pub const ASK_EVERY: Duration = Duration::from_secs(30);

/// Reconciles nodes. The keys are names of nodes, whether they have a StorageNode yet or not.
#[derive(Debug)]
pub struct StorageNodeReconciler {
    context: Arc<Context>,
    /// By node: the process that was told what had been given up, without a break since. As many as there are nodes.
    told: Mutex<HashMap<String, String>>,
}

impl StorageNodeReconciler {
    /// Nobody has been told anything yet.
    pub fn new(context: Arc<Context>) -> Self {
        StorageNodeReconciler {
            context,
            told: Mutex::default(),
        }
    }

    async fn run(&self, key: &Key) -> Result<Next, ReconcileError> {
        let context = &self.context;
        let node = key.name.as_str();
        let address = context.fleet.address(node);
        let known = context.caches.nodes.get(key);
        if address.is_none() {
            self.told.lock().remove(node);
            context.fleet.forget(node);
            let Some(known) = known else {
                return self.sweep(node).await;
            };
            let gone = CallError::away(node, "GetInfo", "no endpoint of the daemons' Service is on it");
            self.write(&known, None, Err(&gone)).await?;
            self.lead_nowhere(node).await?;
            return Ok(Next::OnChange);
        }
        let answer = context.fleet.refresh(node).await;
        if answer.is_err() {
            self.told.lock().remove(node);
        }
        let known = match known {
            Some(known) => known,
            None => match self.create(node).await? {
                Some(made) => Arc::new(made),
                // Somebody made it meanwhile: the watch tells.
                None => return Ok(Next::After(Duration::from_secs(1))),
            },
        };
        self.write(&known, address.as_ref(), answer.as_deref()).await?;
        let info = match answer {
            Ok(info) => info,
            Err(_) => return Ok(Next::After(ASK_EVERY)),
        };
        let port = u16::try_from(info.nfs_port).unwrap_or(0);
        let ip = address.map(|address| address.ip);
        self.serve(node, port, ip).await?;
        // Taken first: what is given up meanwhile is told the next time.
        let is_given_up = context.given_up.lock().remove(node);
        if is_given_up || self.told.lock().get(node) != Some(&info.instance) {
            self.told.lock().remove(node);
            tombstones::bury(context, node).await?;
            self.told.lock().insert(node.to_owned(), info.instance.clone());
        }
        Ok(Next::After(ASK_EVERY))
    }

    async fn create(&self, node: &str) -> Result<Option<StorageNode>, ReconcileError> {
        let mut object = StorageNode::new(node, StorageNodeSpec::default());
        object.metadata = metadata(&Key::cluster(node), &[(names::MANAGED_BY, names::MANAGER)]);
        self.context
            .nodes
            .create(Some(&self.context.caches.nodes), &object)
            .await
    }

    async fn write(
        &self,
        known: &StorageNode,
        address: Option<&crate::daemons::Address>,
        answer: Result<&cairn_api::proto::GetInfoResponse, &CallError>,
    ) -> Result<(), ReconcileError> {
        let context = &self.context;
        let node = known.name_any();
        let old = known.status.as_ref();
        let new = status(&Observed {
            node: &node,
            old,
            generation: cache::generation(known),
            address,
            answer,
            now: context.now(),
        });
        let empty = Vec::new();
        let conditions = old.map(|status| &status.conditions).unwrap_or(&empty);
        context
            .record(
                &context.nodes,
                &context.caches.nodes,
                known,
                old,
                &new,
                (conditions, &new.conditions),
            )
            .await
            .map(drop)
    }

    /// The Service and where it leads.
    async fn serve(&self, node: &str, port: u16, ip: Option<std::net::IpAddr>) -> Result<(), ReconcileError> {
        let context = &self.context;
        if port == 0 {
            return Ok(());
        }
        let is_ours = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get(names::MANAGED_BY).map(String::as_str) == Some(names::MANAGER)
        };
        let service = node_service::service(&context.namespace, node, port);
        apply::ensure(
            &context.nodes,
            &context.caches.services,
            Knows::All,
            service,
            |found| is_ours(found.labels()),
        )
        .await?;
        let slice = node_service::endpoint_slice(&context.namespace, node, port, ip, true);
        apply::ensure(
            &context.nodes,
            &context.caches.slices,
            Knows::All,
            slice,
            |found| is_ours(found.labels()),
        )
        .await?;
        Ok(())
    }

    /// The node has no daemon now: clients wait instead of reaching a stranger at its old address.
    async fn lead_nowhere(&self, node: &str) -> Result<(), ReconcileError> {
        let context = &self.context;
        let key = Key::new(&context.namespace, node_service::name(node));
        let Some(slice) = context.caches.slices.get(&key) else {
            return Ok(());
        };
        if slice.endpoints.is_empty() {
            return Ok(());
        }
        let port = slice
            .ports
            .as_ref()
            .and_then(|ports| ports.first())
            .and_then(|port| u16::try_from(port.port?).ok())
            .unwrap_or(0);
        let mut empty = node_service::endpoint_slice(&context.namespace, node, port, None, false);
        empty.address_type.clone_from(&slice.address_type);
        apply::ensure(&context.nodes, &context.caches.slices, Knows::All, empty, |_| {
            true
        })
        .await?;
        Ok(())
    }

    /// A node that nobody knows any more: its Service goes when no Workspace is there.
    async fn sweep(&self, node: &str) -> Result<Next, ReconcileError> {
        let context = &self.context;
        let caches = &context.caches;
        if !caches.workspaces.filed_keys(WORKSPACES_BY_NODE, node).is_empty() {
            return Ok(Next::OnChange);
        }
        let key = Key::new(&context.namespace, node_service::name(node));
        if let Some(slice) = caches.slices.get(&key) {
            context.nodes.delete(slice.as_ref()).await?;
        }
        if let Some(service) = caches.services.get(&key) {
            context.nodes.delete(service.as_ref()).await?;
        }
        Ok(Next::OnChange)
    }
}

impl Reconciler for StorageNodeReconciler {
    fn kind(&self) -> &'static str {
        "StorageNode"
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, ReconcileError> {
        Box::pin(self.run(key)).await
    }
}
