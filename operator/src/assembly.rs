//! Puts the operator together and takes it apart in order.
//!
//! Caches are filled in every process; only the one that holds the lease works. On the way out: nothing new is begun, what was begun is brought to its end, the lease
//! is given back, the watches end. When the lease is lost, work is broken off at once, and the process stands by again.

pub mod wiring;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_types::{Clock, Randomness};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::children::ditto::{self, DittoSettings};
use crate::daemons::client::GrpcDaemons;
use crate::daemons::{Daemons, Fleet};
use crate::reconcile::caches::Caches;
use crate::reconcile::ditto_server::DittoServerReconciler;
use crate::reconcile::restore::RestoreReconciler;
use crate::reconcile::snapshot::SnapshotReconciler;
use crate::reconcile::storage_node::StorageNodeReconciler;
use crate::reconcile::workspace::WorkspaceReconciler;
use crate::reconcile::{Context, ContextParts};
use crate::runtime::api::Kind;
use crate::runtime::cache::{Cache, Key};
use crate::runtime::clock::random;
use crate::runtime::controller::{Controller, Reconciler};
use crate::runtime::health::Check;
use crate::runtime::lease::{Elector, Leadership, LeaseSettings, LeaseState};
use crate::runtime::metrics::Metrics;
use crate::runtime::queue::Queue;
use crate::runtime::tls::secrets::Keeper;
use crate::settings::Settings;
use crate::statistics::Statistics;

/// How long what was begun may take when the process is asked to stop; then it is broken off.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(20);
/// Every object is looked at once in this time, whether something changed or not.
pub const RESYNC_EVERY: Duration = Duration::from_secs(600);
/// How often the leader looks after the certificates, and others read them.
pub const CERTIFICATES_EVERY: Duration = Duration::from_secs(60);
/// How often those who do not lead read the certificates, and what failed is tried again.
pub const CERTIFICATES_SOON: Duration = Duration::from_secs(5);
/// How long a new leader waits for the certificates that it keeps itself: without them every daemon would look as if it were away, and be left alone for a
/// while.
pub const CERTIFICATES_WAIT_MAX: Duration = Duration::from_secs(15);

/// The queues of all kinds.
#[derive(Debug, Default)]
pub struct Queues {
    /// Workspaces.
    pub workspaces: Arc<Queue<Key>>,
    /// Snapshots.
    pub snapshots: Arc<Queue<Key>>,
    /// Restores.
    pub restores: Arc<Queue<Key>>,
    /// Nodes, by name.
    pub nodes: Arc<Queue<Key>>,
    /// DittoServers.
    pub dittos: Arc<Queue<Key>>,
    /// Terms that have begun, each by looking at everything.
    terms: AtomicU64,
}

impl Queues {
    /// Each with its kind.
    pub fn all(&self) -> [(&'static str, &Arc<Queue<Key>>); 5] {
        [
            ("Workspace", &self.workspaces),
            ("Snapshot", &self.snapshots),
            ("Restore", &self.restores),
            ("StorageNode", &self.nodes),
            ("DittoServer", &self.dittos),
        ]
    }

    /// How many keys workers were given in all, unless a key is being worked on or waits for a worker.
    fn idle_since(&self) -> Option<u64> {
        let mut begun = 0;
        for (_, queue) in self.all() {
            // First the number: a key that is taken behind it is either seen in work, or counted the next time.
            begun += queue.begun();
            let depth = queue.depth();
            if depth.ready + depth.running > 0 {
                return None;
            }
        }
        Some(begun)
    }
}

/// What an operator is made of.
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// The daemons.
    pub daemons: Arc<dyn Daemons>,
    /// The same, if they are found by EndpointSlices.
    pub discovered: Option<Arc<GrpcDaemons>>,
    /// Keeps certificates, if the operator does.
    pub keeper: Option<Keeper>,
    /// Who may write.
    pub leadership: Leadership,
    /// How the lease is held; nothing: `leadership` says who leads.
    pub lease: Option<LeaseSettings>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub randomness: Arc<dyn Randomness>,
    /// Numbers.
    pub metrics: Metrics,
    /// Settings.
    pub settings: Settings,
}

/// An operator.
pub struct Operator {
    client: Client,
    context: Arc<Context>,
    caches: Arc<Caches>,
    queues: Arc<Queues>,
    fleet: Arc<Fleet>,
    elector: Option<Arc<Elector>>,
    keeper: Option<Keeper>,
    leadership: Leadership,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    metrics: Metrics,
    settings: Settings,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// A hand on an operator that runs.
#[derive(Debug, Clone)]
pub struct Handle {
    caches: Arc<Caches>,
    queues: Arc<Queues>,
    fleet: Arc<Fleet>,
}

impl Handle {
    /// Looks at every object now.
    pub fn look_at_everything(&self) {
        wiring::add_all(&self.caches, &self.queues, &self.fleet);
    }

    /// What the operator knows of the API server.
    pub fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }

    /// Whether everything has been looked at, nobody works and nothing waits for a worker: at one moment within the call, in all queues together.
    pub fn is_idle(&self) -> bool {
        if self.queues.terms.load(Ordering::SeqCst) == 0 {
            return false;
        }
        // The queues are looked at one after the other, and work on a key of one adds keys to another. That nobody was given a key between two
        // such looks means that all were idle between them.
        let before = self.queues.idle_since();
        before.is_some() && self.queues.idle_since() == before
    }
}

impl Operator {
    /// Puts the parts together. Nothing runs yet.
    pub fn new(parts: Parts) -> Self {
        let queues = Arc::new(Queues::default());
        let elector = parts.lease.map(|lease| {
            Arc::new(Elector::new(
                parts.client.clone(),
                lease,
                Arc::clone(&parts.clock),
                parts.leadership.clone(),
            ))
        });
        let raises = elector.clone();
        let (caches, fleet) = wiring::connect(wiring::Connect {
            queues: Arc::clone(&queues),
            daemons: Arc::clone(&parts.daemons),
            discovered: parts.discovered,
            daemon_service: parts.settings.daemon_service.clone(),
            leadership: parts.leadership.clone(),
            cluster: parts.settings.cluster.clone(),
            clock: Arc::clone(&parts.clock),
            serves_dittos: parts.settings.ditto_image.is_some(),
            fenced: Box::new(move |greatest| {
                if let Some(elector) = &raises {
                    elector.raise(greatest);
                }
            }),
        });
        parts.metrics.collect(Statistics {
            caches: Arc::clone(&caches),
            queues: Arc::clone(&queues),
            leadership: parts.leadership.clone(),
            clock: Arc::clone(&parts.clock),
        });
        let context = Context::new(
            ContextParts {
                client: parts.client.clone(),
                leadership: parts.leadership.clone(),
                metrics: parts.metrics.clone(),
                caches: Arc::clone(&caches),
                fleet: Arc::clone(&fleet),
                instance: parts.settings.instance.clone(),
                namespace: parts.settings.namespace.clone(),
                plan: parts.settings.plan.clone(),
            },
            Arc::clone(&parts.clock),
            Arc::clone(&parts.randomness),
        );
        Operator {
            client: parts.client,
            context: Arc::new(context),
            caches,
            queues,
            fleet,
            elector,
            keeper: parts.keeper,
            leadership: parts.leadership,
            clock: parts.clock,
            randomness: parts.randomness,
            metrics: parts.metrics,
            settings: parts.settings,
        }
    }

    /// A hand on it.
    pub fn handle(&self) -> Handle {
        Handle {
            caches: Arc::clone(&self.caches),
            queues: Arc::clone(&self.queues),
            fleet: Arc::clone(&self.fleet),
        }
    }

    /// What must hold for it to be ready.
    pub fn checks(&self) -> Vec<Check> {
        let caches = Arc::clone(&self.caches);
        let mut checks: Vec<Check> = vec![Box::new(move || {
            let missing = caches.missing();
            let result = match missing.is_empty() {
                true => Ok(()),
                false => Err(format!("not listed yet: {}", missing.join(", "))),
            };
            ("caches".to_owned(), result)
        })];
        if let Some(elector) = &self.elector {
            let state = elector.state();
            checks.push(Box::new(move || {
                let result = match &*state.borrow() {
                    LeaseState::Unknown => Err("the lease has not been read yet".to_owned()),
                    LeaseState::Standby { .. } | LeaseState::Leading { .. } => Ok(()),
                };
                ("lease".to_owned(), result)
            }));
        }
        checks
    }

    /// Works until `shutdown` ends; then ends in order. Dropping the future breaks everything off at once, as a crash would.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let mut background = JoinSet::new();
        self.watch(&mut background);
        if let Some(elector) = &self.elector {
            let elector = Arc::clone(elector);
            background.spawn(async move { elector.run().await });
        }
        if let Some(keeper) = self.keeper.clone() {
            let (leadership, clock) = (self.leadership.clone(), Arc::clone(&self.clock));
            background.spawn(certificates(keeper, leadership, clock));
        }
        let (tell, stop) = watch::channel(false);
        {
            let mut work = std::pin::pin!(self.work(stop));
            tokio::select! {
                () = &mut work => {}
                () = shutdown => {
                    tell.send_replace(true);
                    work.await;
                }
            }
        }
        if let Some(elector) = &self.elector {
            elector.release().await;
        }
        background.shutdown().await;
    }

    /// Works in every term that is ours, until it is told to stop.
    async fn work(&self, stop: watch::Receiver<bool>) {
        while !self.lead_once(stop.clone()).await {
            // What was to be done is in the objects, and another leader's now.
            for (_, queue) in self.queues.all() {
                queue.clear();
            }
        }
    }

    /// Waits until we lead and everything has been listed; then works until the lease is lost (false), or until it is told to stop (true).
    async fn lead_once(&self, mut stop: watch::Receiver<bool>) -> bool {
        let mut stopped = std::pin::pin!(async move {
            // An error is a sender that is gone: nobody wants us to go on.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        tokio::select! {
            () = &mut stopped => return true,
            () = self.caches.wait_until_synced() => {}
        }
        tokio::select! {
            () = &mut stopped => return true,
            leads = self.wait_for(true) => if !leads { return true },
        }
        tokio::select! {
            () = &mut stopped => return true,
            () = self.wait_for_certificates() => {}
        }
        let mut workers = JoinSet::new();
        self.spawn(&mut workers);
        wiring::add_all(&self.caches, &self.queues, &self.fleet);
        self.queues.terms.fetch_add(1, Ordering::SeqCst);
        let is_stopping = tokio::select! {
            () = &mut stopped => true,
            _ = self.wait_for(false) => false,
            () = self.resync() => false,
        };
        if is_stopping {
            for (_, queue) in self.queues.all() {
                queue.close();
            }
            let ended = async { while workers.join_next().await.is_some() {} };
            if tokio::time::timeout(DRAIN_TIME_MAX, ended).await.is_err() {
                tracing::warn!(
                    limit = DRAIN_TIME_MAX.as_secs(),
                    "what was begun did not end in time and is broken off"
                );
            }
        }
        // Broken off at once: somebody else may lead.
        workers.shutdown().await;
        is_stopping
    }

    /// Returns when there are certificates for calls to daemons, or when they are long in coming: then conditions tell what is wrong.
    async fn wait_for_certificates(&self) {
        let Some(keeper) = &self.keeper else { return };
        if tokio::time::timeout(CERTIFICATES_WAIT_MAX, keeper.kept.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                seconds = CERTIFICATES_WAIT_MAX.as_secs(),
                "there are no certificates yet: no daemon can be asked"
            );
        }
    }

    /// Returns when we lead, or do not. False: it will never be.
    async fn wait_for(&self, leading: bool) -> bool {
        match &self.elector {
            Some(elector) => {
                let mut state = elector.state();
                let wanted = |state: &LeaseState| matches!(state, LeaseState::Leading { .. }) == leading;
                state.wait_for(wanted).await.is_ok()
            }
            None if self.leadership.is_held() == leading => true,
            None => std::future::pending().await,
        }
    }

    fn spawn(&self, workers: &mut JoinSet<()>) {
        let (context, queues) = (&self.context, &self.queues);
        let count = self.settings.workers;
        let workspace = WorkspaceReconciler::new(Arc::clone(context));
        self.spawn_one(workers, workspace, &queues.workspaces, count.workspaces);
        let snapshot = SnapshotReconciler::new(Arc::clone(context));
        self.spawn_one(workers, snapshot, &queues.snapshots, count.snapshots);
        let restore = RestoreReconciler::new(Arc::clone(context));
        self.spawn_one(workers, restore, &queues.restores, count.restores);
        let node = StorageNodeReconciler::new(Arc::clone(context));
        self.spawn_one(workers, node, &queues.nodes, count.nodes);
        if let Some(image) = &self.settings.ditto_image {
            let settings = DittoSettings {
                image: image.clone(),
                namespace: self.settings.namespace.clone(),
                client: format!("cairn-operator.{}.svc", self.settings.namespace),
                clients: self.settings.plan.export_clients.clone(),
                signs: self.keeper.is_some(),
            };
            let signing = self.keeper.as_ref().map(|keeper| keeper.signing.clone());
            let ditto = DittoServerReconciler::new(Arc::clone(context), settings, signing);
            self.spawn_one(workers, ditto, &queues.dittos, count.dittos);
        }
    }

    fn spawn_one<R: Reconciler>(
        &self,
        workers: &mut JoinSet<()>,
        reconciler: R,
        queue: &Arc<Queue<Key>>,
        count: usize,
    ) {
        let controller = Controller {
            reconciler: Arc::new(reconciler),
            queue: Arc::clone(queue),
            workers: count,
            randomness: Arc::clone(&self.randomness),
            metrics: self.metrics.clone(),
        };
        workers.spawn(controller.run());
    }

    /// Looks at everything once in a while, spread over time. Never returns.
    async fn resync(&self) {
        loop {
            tokio::time::sleep(RESYNC_EVERY).await;
            let spread = |queue: &Queue<Key>, keys: Vec<Key>| {
                for key in keys {
                    let at = random(self.randomness.as_ref()) % RESYNC_EVERY.as_secs();
                    queue.add_after(key, Duration::from_secs(at));
                }
            };
            spread(&self.queues.workspaces, self.caches.workspaces.keys());
            spread(&self.queues.snapshots, self.caches.snapshots.keys());
            spread(&self.queues.restores, self.caches.restores.keys());
            spread(&self.queues.dittos, self.caches.dittos.keys());
        }
    }

    fn watch(&self, tasks: &mut JoinSet<()>) {
        let all = watcher::Config::default;
        let ours = || {
            all().labels(&format!(
                "{}={}",
                cairn_crds::names::MANAGED_BY,
                cairn_crds::names::MANAGER
            ))
        };
        let namespace = &self.settings.namespace;
        let of = |caches: &Arc<Caches>| Arc::clone(caches);
        self.watch_one(
            tasks,
            Api::all(self.client.clone()),
            all(),
            of(&self.caches),
            |caches| &caches.workspaces,
        );
        self.watch_one(
            tasks,
            Api::all(self.client.clone()),
            all(),
            of(&self.caches),
            |caches| &caches.snapshots,
        );
        self.watch_one(
            tasks,
            Api::all(self.client.clone()),
            all(),
            of(&self.caches),
            |caches| &caches.restores,
        );
        self.watch_one(
            tasks,
            Api::all(self.client.clone()),
            all(),
            of(&self.caches),
            |caches| &caches.nodes,
        );
        self.watch_one(
            tasks,
            Api::all(self.client.clone()),
            ours(),
            of(&self.caches),
            |caches| &caches.volumes,
        );
        self.watch_one(
            tasks,
            Api::all(self.client.clone()),
            ours(),
            of(&self.caches),
            |caches| &caches.claims,
        );
        let services = Api::namespaced(self.client.clone(), namespace);
        self.watch_one(tasks, services, all(), of(&self.caches), |caches| {
            &caches.services
        });
        let slices: Api<DeserializeGuard<EndpointSlice>> = Api::namespaced(self.client.clone(), namespace);
        self.watch_one(tasks, slices, all(), of(&self.caches), |caches| &caches.slices);
        if self.settings.ditto_image.is_some() {
            self.watch_dittos(tasks);
        }
    }

    /// DittoServers and their children.
    fn watch_dittos(&self, tasks: &mut JoinSet<()>) {
        let children = || watcher::Config::default().labels(ditto::SERVER);
        let client = || self.client.clone();
        let of = || Arc::clone(&self.caches);
        let servers = watcher::Config::default();
        self.watch_one(tasks, Api::all(client()), servers, of(), |caches| &caches.dittos);
        self.watch_one(tasks, Api::all(client()), children(), of(), |caches| &caches.sets);
        self.watch_one(tasks, Api::all(client()), children(), of(), |caches| {
            &caches.configs
        });
        self.watch_one(tasks, Api::all(client()), children(), of(), |caches| {
            &caches.ditto_services
        });
        self.watch_one(tasks, Api::all(client()), children(), of(), |caches| {
            &caches.budgets
        });
        self.watch_one(tasks, Api::all(client()), children(), of(), |caches| {
            &caches.policies
        });
    }

    fn watch_one<K: Kind>(
        &self,
        tasks: &mut JoinSet<()>,
        api: Api<DeserializeGuard<K>>,
        config: watcher::Config,
        caches: Arc<Caches>,
        of: fn(&Caches) -> &Cache<K>,
    ) {
        let metrics = self.metrics.clone();
        tasks.spawn(async move { of(&caches).run(api, config, &metrics).await });
    }
}

/// Keeps the certificates up to date while we lead, and reads them while we do not.
async fn certificates(keeper: Keeper, leadership: Leadership, clock: Arc<dyn Clock>) {
    loop {
        let result = match leadership.is_held() {
            true => keeper.tick(clock.now()).await,
            false => keeper.read().await.map(drop),
        };
        let wait = match result {
            Ok(()) => CERTIFICATES_EVERY,
            Err(error) => {
                tracing::warn!(
                    error = error.chain(),
                    "the certificates were not brought up to date"
                );
                CERTIFICATES_SOON
            }
        };
        // Who has just begun to lead does not wait long.
        let wait = match leadership.is_held() {
            true => wait,
            false => wait.min(CERTIFICATES_SOON),
        };
        tokio::time::sleep(wait).await;
    }
}
