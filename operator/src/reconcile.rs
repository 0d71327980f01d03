//! Reconcilers: they gather what there is, ask the plan for a step, take it, and ask again. They decide nothing.
//!
//! Everything that a step needs is in [`Context`]. A reconciler may be broken off between any two calls: what it was about to do follows from what there is.

pub mod caches;
pub mod directory;
pub mod ditto_server;
pub mod restore;
pub mod snapshot;
pub mod storage_node;
pub mod tombstones;
pub mod workspace;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cairn_types::{Clock, Randomness, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::children::node_service;
use crate::daemons::Fleet;
use crate::plan::{Again, NodeView, PlanSettings};
use crate::runtime::api::{ApiClient, Kind};
use crate::runtime::cache::{Cache, Key};
use crate::runtime::controller::Next;
use crate::runtime::error::ReconcileError;
use crate::runtime::events::Recorder;
use crate::runtime::lease::Leadership;
use crate::runtime::metrics::Metrics;

pub use caches::Caches;

/// Most steps of one pass.
pub const STEPS_MAX: usize = 24;

/// What all reconcilers share.
pub struct Context {
    /// Writes for Workspaces.
    pub workspaces: ApiClient,
    /// Writes for Snapshots.
    pub snapshots: ApiClient,
    /// Writes for Restores.
    pub restores: ApiClient,
    /// Writes for StorageNodes.
    pub nodes: ApiClient,
    /// Writes for DittoServers.
    pub dittos: ApiClient,
    /// What the API server has.
    pub caches: Arc<Caches>,
    /// The daemons.
    pub fleet: Arc<Fleet>,
    /// Tells events.
    pub recorder: Recorder,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub randomness: Arc<dyn Randomness>,
    /// The operator's namespace.
    pub namespace: String,
    /// What decisions take from the settings.
    pub plan: PlanSettings,
    /// Nodes are chosen one after the other, so that each choice sees those before.
    pub placing: Semaphore,
    /// Nodes on which this process has given something up that their daemons have not been told. At most as many as there are nodes.
    pub given_up: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// What a context is made of.
pub struct ContextParts {
    /// The API server.
    pub client: Client,
    /// Who may write.
    pub leadership: Leadership,
    /// Told what is written.
    pub metrics: Metrics,
    /// What the API server has.
    pub caches: Arc<Caches>,
    /// The daemons.
    pub fleet: Arc<Fleet>,
    /// The name of this process in events.
    pub instance: String,
    /// The operator's namespace.
    pub namespace: String,
    /// What decisions take from the settings.
    pub plan: PlanSettings,
}

impl std::fmt::Debug for ContextParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContextParts")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Puts the parts together.
    pub fn new(parts: ContextParts, clock: Arc<dyn Clock>, randomness: Arc<dyn Randomness>) -> Self {
        let api = |purpose: &str| {
            ApiClient::new(
                parts.client.clone(),
                parts.leadership.clone(),
                parts.metrics.clone(),
                purpose,
            )
        };
        Context {
            workspaces: api("workspace"),
            snapshots: api("snapshot"),
            restores: api("restore"),
            nodes: api("storagenode"),
            dittos: api("dittoserver"),
            recorder: Recorder::new(api("events"), &parts.instance),
            caches: parts.caches,
            fleet: parts.fleet,
            clock,
            randomness,
            namespace: parts.namespace,
            plan: parts.plan,
            placing: Semaphore::new(1),
            given_up: Mutex::default(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A node, as decisions see it.
    pub fn node_view(&self, node: &str) -> NodeView {
        let state = self.fleet.state(node);
        let address = self.fleet.address(node);
        let away = match (&address, state.as_ref().and_then(|state| state.failure.as_ref())) {
            (None, _) => Some(format!(
                "node {node} has no daemon now: see whether the node runs (kubectl get node {node}) and its daemon does (kubectl get pods -o wide)"
            )),
            (Some(_), Some(failure)) => Some(failure.explain()),
            // What has not been asked yet is asked by the first call.
            (Some(_), None) => None,
        };
        let service = self
            .caches
            .services
            .get(&Key::new(&self.namespace, node_service::name(node)));
        let info = state.and_then(|state| state.info);
        NodeView {
            name: node.to_owned(),
            away,
            service_ip: service.as_deref().and_then(node_service::cluster_ip),
            features: info
                .map(|info| info.features.iter().cloned().collect())
                .unwrap_or_default(),
        }
    }

    /// Writes a status if it differs, and tells what changed. Answers whether it was written.
    pub(crate) async fn record<K: Kind, S: Serialize>(
        &self,
        api: &ApiClient,
        cache: &Cache<K>,
        object: &K,
        old: Option<&S>,
        new: &S,
        conditions: (&[Condition], &[Condition]),
    ) -> Result<bool, ReconcileError> {
        let written = api.write_status(cache, object, old, new).await?;
        if written.is_none() {
            return Ok(false);
        }
        self.recorder
            .conditions(object, conditions.0, conditions.1, self.now())
            .await;
        Ok(true)
    }
}

/// What a decision's wait is for the queue. Errors: what failed is to be tried with back-off, which the queue knows.
pub(crate) fn next(
    again: Again,
    failure: Option<ReconcileError>,
    kind: &'static str,
) -> Result<Next, ReconcileError> {
    match again {
        Again::OnChange => Ok(Next::OnChange),
        Again::Seconds(seconds) => Ok(Next::After(Duration::from_secs(seconds))),
        Again::BackOff => Err(failure.unwrap_or_else(|| ReconcileError::Internal {
            what: format!("{kind}: it is not done yet"),
            source: "the daemon was interrupted".into(),
        })),
    }
}

/// What came of a step, for the pass that took it.
pub(crate) enum Taken {
    /// It is done.
    Done,
    /// It did not work, and the plan says what that means.
    Failed(crate::plan::Failure, ReconcileError),
}

/// Sorts errors: what a condition can tell is told, everything else ends the pass.
pub(crate) fn taken(result: Result<(), ReconcileError>) -> Result<Taken, ReconcileError> {
    use crate::daemons::Outcome;
    use crate::plan::Failure;
    match result {
        Ok(()) => Ok(Taken::Done),
        Err(ReconcileError::Call(error)) if error.outcome == Outcome::Fenced => {
            Err(ReconcileError::Call(error))
        }
        Err(ReconcileError::Call(error)) => Ok(Taken::Failed(
            Failure::of_call(&error),
            ReconcileError::Call(error),
        )),
        Err(error) => match Failure::of_api(&error) {
            Some(failure) => Ok(Taken::Failed(failure, error)),
            None => Err(error),
        },
    }
}
