//! An API server, daemons, a clock that the test moves, and operators that come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use cairn_apiserver::server::Background;
use cairn_apiserver::{ApiServer, Controllers, Settings as ServerSettings, User};
use cairn_operator::assembly::{Handle, Operator, Parts};
use cairn_operator::daemons::Daemons;
use cairn_operator::plan::PlanSettings;
use cairn_operator::runtime::api::ApiClient;
use cairn_operator::runtime::lease::{Leadership, LeaseSettings};
use cairn_operator::runtime::metrics::Metrics;
use cairn_operator::runtime::tls::Kept;
use cairn_operator::runtime::tls::secrets::{Keeper, Signing};
use cairn_operator::settings::{Certificates, Settings, Workers};
use cairn_types::{Clock, Randomness, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::double::{Double, Interposed, Seen};
use super::real::Real;

pub const NAMESPACE: &str = "cairn-system";
pub const TEAM: &str = "team";
/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Saturday, 2026-11-21T00:00:00Z.
pub const MIDNIGHT: i64 = 1_795_219_200;

#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn new(seconds: i64) -> Arc<Self> {
        Arc::new(ManualClock(AtomicI64::new(seconds)))
    }

    pub fn seconds(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.0.load(Ordering::Relaxed), 0)
    }
}

impl cairn_apiserver::clock::Clock for ManualClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// Chance that is the same in every run.
#[derive(Debug, Default)]
pub struct Counting(AtomicU64);

impl Randomness for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let number = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        }
    }
}

pub struct Bench {
    pub server: ApiServer,
    /// The daemons, if they are played.
    pub double: Arc<Double>,
    /// The daemons, if they are real.
    pub real: Option<Real>,
    pub clock: Arc<ManualClock>,
    background: Option<Background>,
    changed: watch::Receiver<u64>,
    observer: JoinHandle<()>,
}

/// An operator that runs.
pub struct Running {
    pub handle: Handle,
    pub leadership: Leadership,
    pub metrics: Metrics,
    task: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Running {
    /// Ends it in order.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        tokio::time::timeout(PATIENCE, &mut self.task)
            .await
            .expect("it ends in order")
            .unwrap();
    }

    /// Ends it as a crash does.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// How an operator is started.
#[derive(Default)]
pub struct Start {
    /// Takes part in an election under this name.
    pub lease: Option<LeaseSettings>,
    /// Leads as this generation, without an election.
    pub generation: u64,
    /// Between the operator and the daemons.
    pub interposed: Option<Arc<dyn Interposed>>,
    /// The client of the API server, if it is not the plain one.
    pub client: Option<kube::Client>,
    /// Keeps the certificates also where daemons are played, who need none.
    pub keeps_certificates: bool,
}

impl Bench {
    /// A cluster with our kinds, the namespaces, and nodes, whose own controllers work at once.
    pub async fn new(nodes: &[&str]) -> Self {
        let mut bench = Self::without_controllers(nodes).await;
        bench.background = Some(bench.server.background());
        bench
    }

    /// The same; its controllers work when the test lets them (`ApiServer::settle`).
    pub async fn without_controllers(nodes: &[&str]) -> Self {
        let clock = ManualClock::new(MIDNIGHT);
        let server = Self::cluster(&clock, nodes);
        Self::assemble(server, Double::new(nodes, 100 << 30), None, clock)
    }

    /// A cluster with a real daemon on every node, and controllers that work at once.
    pub async fn real(nodes: &[&str]) -> Self {
        let clock = Real::clock();
        let server = Self::cluster(&clock, nodes);
        let real = Real::start(&server, nodes).await;
        let mut bench = Self::assemble(server, Double::new(&[], 0), Some(real), clock);
        bench.background = Some(bench.server.background());
        bench
    }

    fn assemble(server: ApiServer, double: Arc<Double>, real: Option<Real>, clock: Arc<ManualClock>) -> Self {
        let (sender, changed) = watch::channel(0);
        let observer = tokio::spawn(observe(Arc::clone(&double), sender));
        Bench {
            server,
            double,
            real,
            clock,
            background: None,
            changed,
            observer,
        }
    }

    /// An API server with our kinds, the roles that are shipped, the namespaces and the nodes.
    fn cluster(clock: &Arc<ManualClock>, nodes: &[&str]) -> ApiServer {
        let server = ApiServer::new(ServerSettings {
            clock: Arc::clone(clock) as Arc<dyn cairn_apiserver::clock::Clock>,
            log_limit: 100_000,
            // The operator may do what the roles that are shipped allow.
            rbac: true,
            controllers: Controllers::all(),
            ..ServerSettings::default()
        });
        for definition in cairn_crds::all() {
            server.load(&cairn_crds::manifests::text(&definition)).unwrap();
        }
        for namespace in [NAMESPACE, TEAM] {
            server
                .put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
                .unwrap();
        }
        for document in rights() {
            server.load(document).unwrap();
        }
        for node in nodes {
            server
                .put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": {"disk": node}}}))
                .unwrap();
        }
        server
    }

    fn settings(&self, instance: &str) -> Settings {
        let mut settings = settings(instance);
        if let Some(real) = &self.real {
            settings.plan.kubelet_directory = real.kubelet().display().to_string();
            // Where the clients of the tests are.
            settings.plan.export_clients.push("127.0.0.0/8".to_owned());
        }
        settings
    }

    /// Starts an operator that leads at once.
    pub fn start(&self) -> Running {
        self.start_with(Start {
            generation: 1,
            ..Start::default()
        })
    }

    pub fn start_with(&self, start: Start) -> Running {
        let client = start.client.unwrap_or_else(|| {
            let user = User::service_account(NAMESPACE, "cairn-operator");
            kube::Client::new(self.server.service(user), NAMESPACE)
        });
        let leadership = match start.lease {
            Some(_) => Leadership::none(),
            None => Leadership::alone(start.generation),
        };
        let instance = match &start.lease {
            Some(lease) => lease.identity.clone(),
            None => "operator-0".to_owned(),
        };
        let metrics = Metrics::default();
        let kept = Kept::default();
        let keeps = self.real.is_some() || start.keeps_certificates;
        let keeper = keeps.then(|| keeper(&client, &leadership, &metrics, &kept));
        let played = || {
            Arc::new(Seen {
                double: Arc::clone(&self.double),
                interposed: start.interposed.clone(),
            })
        };
        let (daemons, discovered): (Arc<dyn Daemons>, _) = match &self.real {
            None => (played(), None),
            Some(real) => {
                let (daemons, discovered) = real.daemons(&kept, &metrics, start.interposed.clone());
                (daemons, Some(discovered))
            }
        };
        let operator = Operator::new(Parts {
            client,
            daemons,
            discovered,
            keeper,
            leadership: leadership.clone(),
            lease: start.lease,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            randomness: Arc::new(Counting::default()),
            metrics: metrics.clone(),
            settings: self.settings(&instance),
        });
        let handle = operator.handle();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            operator
                .run(async {
                    let _ = stopped.await;
                })
                .await;
        });
        Running {
            handle,
            leadership,
            metrics,
            task,
            stop: Some(stop),
        }
    }

    /// Waits for what is to come; `what` says what, for the one who reads the failure.
    pub async fn until(&self, what: &str, holds: impl FnMut(&Bench) -> bool) {
        self.until_within(PATIENCE, what, holds).await;
    }

    /// The same, with more or less patience.
    pub async fn until_within(&self, patience: Duration, what: &str, mut holds: impl FnMut(&Bench) -> bool) {
        let mut changed = self.changed.clone();
        let waits = async {
            loop {
                changed.borrow_and_update();
                if holds(self) {
                    return;
                }
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(patience, waits).await.is_err() {
            let shown: Vec<Value> = ["Workspace", "Snapshot", "Restore", "StorageNode"]
                .iter()
                .flat_map(|kind| self.server.list(JVS, kind, None))
                .take(6)
                .collect();
            panic!(
                "{what} did not come about; there is {}",
                serde_json::to_string_pretty(&shown).unwrap()
            );
        }
    }

    pub fn apply(&self, object: Value) -> Value {
        self.server.put(object).unwrap()
    }

    pub fn workspace(&self, name: &str) -> Option<Value> {
        self.server.get(JVS, "Workspace", TEAM, name)
    }

    pub fn snapshot(&self, name: &str) -> Option<Value> {
        self.server.get(JVS, "Snapshot", TEAM, name)
    }

    pub fn restore(&self, name: &str) -> Option<Value> {
        self.server.get(JVS, "Restore", TEAM, name)
    }

    pub fn make_workspace(&self, name: &str, spec: Value) {
        self.apply(json!({"apiVersion": JVS, "kind": "Workspace",
            "metadata": {"name": name, "namespace": TEAM}, "spec": spec}));
    }

    pub fn make_snapshot(&self, name: &str, spec: Value) {
        self.apply(json!({"apiVersion": JVS, "kind": "Snapshot",
            "metadata": {"name": name, "namespace": TEAM}, "spec": spec}));
    }

    pub fn make_restore(&self, name: &str, spec: Value) {
        self.apply(json!({"apiVersion": JVS, "kind": "Restore",
            "metadata": {"name": name, "namespace": TEAM}, "spec": spec}));
    }

    pub fn delete(&self, kind: &str, name: &str) {
        assert!(
            self.server.delete(JVS, kind, TEAM, name).unwrap(),
            "there is no {name}"
        );
    }

    pub async fn ready(&self, kind: &str, name: &str) {
        self.until(&format!("{kind} {name} is Ready"), |bench| {
            let object = bench.server.get(JVS, kind, TEAM, name);
            object.is_some_and(|object| condition(&object, "Ready").0 == "True")
        })
        .await;
    }

    /// Waits for Ready with this reason.
    pub async fn reason(&self, kind: &str, name: &str, reason: &str) -> Value {
        self.until(&format!("{kind} {name} is {reason}"), |bench| {
            let object = bench.server.get(JVS, kind, TEAM, name);
            object.is_some_and(|object| condition(&object, "Ready").1 == reason)
        })
        .await;
        self.server.get(JVS, kind, TEAM, name).unwrap()
    }

    pub async fn gone(&self, kind: &str, name: &str) {
        self.until(&format!("{kind} {name} is gone"), |bench| {
            bench.server.get(JVS, kind, TEAM, name).is_none()
        })
        .await;
    }

    pub async fn end(mut self) {
        self.observer.abort();
        if let Some(background) = self.background.take() {
            background.stop().await;
        }
    }
}

pub const JVS: &str = "jvs.io/v1alpha1";

/// The roles that are shipped, and who has them.
pub fn rights() -> impl Iterator<Item = &'static str> {
    let documents = include_str!("../../../deploy/install.yaml").split("\n---");
    documents.filter(|document| {
        document.lines().any(|line| {
            matches!(
                line,
                "kind: Role" | "kind: ClusterRole" | "kind: RoleBinding" | "kind: ClusterRoleBinding"
            )
        })
    })
}

/// Who keeps the certificates of an operator.
pub fn keeper(client: &kube::Client, leadership: &Leadership, metrics: &Metrics, kept: &Kept) -> Keeper {
    let settings = settings("keeper");
    Keeper {
        api: ApiClient::new(
            client.clone(),
            leadership.clone(),
            metrics.clone(),
            "certificates",
        ),
        operator_names: vec![format!("cairn-operator.{}.svc", settings.namespace)],
        namespace: settings.namespace,
        daemon_names: vec![settings.server_name],
        kept: kept.clone(),
        signing: Signing::default(),
    }
}

/// Status, reason and message of a condition; empty if there is none.
pub fn condition(object: &Value, type_: &str) -> (String, String, String) {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    conditions
        .iter()
        .find(|condition| condition["type"] == type_)
        .map(|found| {
            (
                text(&found["status"]),
                text(&found["reason"]),
                text(&found["message"]),
            )
        })
        .unwrap_or_default()
}

pub fn settings(instance: &str) -> Settings {
    Settings {
        namespace: NAMESPACE.to_owned(),
        daemon_service: "cairnd".to_owned(),
        server_name: "cairnd.cairn-system.svc".to_owned(),
        cluster: "test".to_owned(),
        instance: instance.to_owned(),
        lease: None,
        metrics_address: ([127, 0, 0, 1], 0).into(),
        health_address: ([127, 0, 0, 1], 0).into(),
        certificates: Certificates::Own,
        workers: Workers::default(),
        ditto_image: Some("registry.example/cairnd:1".to_owned()),
        plan: PlanSettings::default(),
    }
}

/// Tells whenever anything changes, at the server or at the daemons.
async fn observe(double: Arc<Double>, sender: watch::Sender<u64>) {
    let mut calls = double.changes();
    loop {
        sender.send_modify(|number| *number += 1);
        tokio::select! {
            result = calls.changed() => if result.is_err() { return },
            // The server tells nobody without a watch: it is asked now and then.
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
}
