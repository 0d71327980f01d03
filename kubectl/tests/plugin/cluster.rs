//! A cluster with our kinds and roles, an operator, daemons that are doubles, and a kubeconfig for whoever calls the program.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cairn_apiserver::serve::Serving;
use cairn_apiserver::server::Background;
use cairn_apiserver::{ApiServer, Controllers, Settings as ServerSettings, User};
use cairn_operator::assembly::{Operator, Parts};
use cairn_operator::plan::PlanSettings;
use cairn_operator::runtime::clock::SystemClock;
use cairn_operator::runtime::lease::Leadership;
use cairn_operator::runtime::metrics::Metrics;
use cairn_operator::settings::{Certificates, Settings, Workers};
use cairn_types::Randomness;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::double::{Double, Seen};

pub const JVS: &str = "jvs.io/v1alpha1";
pub const TEAM: &str = "team";
const SYSTEM: &str = "cairn-system";
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Chance that is the same in every run.
#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl Randomness for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let number = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A cluster.
pub struct Cluster {
    pub server: ApiServer,
    pub double: Arc<Double>,
    pub home: tempfile::TempDir,
    serving: Serving,
    background: Background,
    operator: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Cluster {
    /// With an operator that works.
    pub async fn new() -> Self {
        let mut cluster = Self::without_operator().await;
        cluster.start();
        cluster
    }

    /// Nobody looks after anything.
    pub async fn without_operator() -> Self {
        let server = ApiServer::new(ServerSettings {
            controllers: Controllers::all(),
            ..ServerSettings::default()
        });
        for definition in cairn_crds::all() {
            server.load(&cairn_crds::manifests::text(&definition)).unwrap();
        }
        for namespace in [SYSTEM, TEAM] {
            server
                .put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))
                .unwrap();
        }
        for document in include_str!("../../../deploy/install.yaml").split("\n---") {
            let is_right = document.lines().any(|line| {
                matches!(
                    line,
                    "kind: Role" | "kind: ClusterRole" | "kind: RoleBinding" | "kind: ClusterRoleBinding"
                )
            });
            if is_right {
                server.load(document).unwrap();
            }
        }
        server
            .put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}))
            .unwrap();
        let serving = server.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
        serving.add_user("admin", User::admin());
        serving.add_user("reader", User::new("reader", &[]));
        server
            .put(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "reader", "namespace": TEAM},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cairn-view"},
                "subjects": [{"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}]}))
            .unwrap();
        let home = tempfile::tempdir().unwrap();
        for user in ["admin", "reader"] {
            serving
                .write_kubeconfig(&home.path().join(user), user, TEAM)
                .unwrap();
        }
        let background = server.background();
        Cluster {
            double: Double::new(&["a"], 100 << 30),
            server,
            home,
            serving,
            background,
            operator: None,
        }
    }

    fn start(&mut self) {
        let user = User::service_account(SYSTEM, "cairn-operator");
        let operator = Operator::new(Parts {
            client: kube::Client::new(self.server.service(user), SYSTEM),
            daemons: Arc::new(Seen {
                double: Arc::clone(&self.double),
                interposed: None,
            }),
            discovered: None,
            keeper: None,
            leadership: Leadership::alone(1),
            lease: None,
            clock: Arc::new(SystemClock),
            randomness: Arc::new(Counting::default()),
            metrics: Metrics::default(),
            settings: Settings {
                namespace: SYSTEM.to_owned(),
                daemon_service: "cairnd".to_owned(),
                server_name: "cairnd.cairn-system.svc".to_owned(),
                cluster: "test".to_owned(),
                instance: "operator-0".to_owned(),
                lease: None,
                metrics_address: ([127, 0, 0, 1], 0).into(),
                health_address: ([127, 0, 0, 1], 0).into(),
                certificates: Certificates::Own,
                workers: Workers::default(),
                ditto_image: None,
                plan: PlanSettings::default(),
            },
        });
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            operator
                .run(async {
                    let _ = stopped.await;
                })
                .await;
        });
        self.operator = Some((stop, task));
    }

    /// Ends everything in order.
    pub async fn end(mut self) {
        if let Some((stop, task)) = self.operator.take() {
            let _ = stop.send(());
            tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        }
        self.background.stop().await;
        self.serving.stop().await;
    }

    /// The program with these arguments, as this user. Only what is in `programs` of the home is found besides it.
    fn command(&self, user: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-cairn"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", self.programs())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join(user))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Where the program finds others.
    pub fn programs(&self) -> PathBuf {
        self.home.path().join("programs")
    }

    /// Runs it to its end.
    pub async fn run_as(&self, user: &str, arguments: &[&str]) -> Ran {
        ended(self.command(user, arguments).spawn().unwrap()).await
    }

    /// The same, as the administrator.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_as("admin", arguments).await
    }

    /// Begins to run it.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command("admin", arguments).spawn().unwrap()
    }

    pub fn apply(&self, kind: &str, name: &str, spec: Value) {
        self.server
            .put(json!({"apiVersion": JVS, "kind": kind, "metadata": {"name": name, "namespace": TEAM}, "spec": spec}))
            .unwrap();
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.server.get(JVS, kind, TEAM, name)
    }

    pub fn list(&self, kind: &str) -> Vec<Value> {
        self.server.list(JVS, kind, Some(TEAM))
    }

    /// Waits for what is to come.
    pub async fn until<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let waits = async {
            loop {
                if let Some(found) = found() {
                    return found;
                }
                // The server tells nobody without a watch: it is asked now and then.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waits)
            .await
            .unwrap_or_else(|_| panic!("{what} did not come about"))
    }

    /// A Workspace with a Snapshot, both ready.
    pub async fn furnish(&self) {
        self.apply("Workspace", "notes", json!({}));
        self.apply(
            "Snapshot",
            "before",
            json!({"workspace": "notes", "note": "before the upgrade", "tags": ["keep", "v1"]}),
        );
        self.until("both are ready", || {
            let is_ready =
                |object: Option<Value>| object.is_some_and(|object| condition(&object, "Ready").0 == "True");
            (is_ready(self.get("Workspace", "notes")) && is_ready(self.get("Snapshot", "before")))
                .then_some(())
        })
        .await;
    }
}

/// Waits for the end of a process, and not for ever.
pub async fn ended(child: Child) -> Ran {
    let process = Pid::from_child(&child);
    let mut output = tokio::task::spawn_blocking(move || child.wait_with_output());
    match tokio::time::timeout(PATIENCE, &mut output).await {
        Ok(output) => Ran::of(output.unwrap().unwrap()),
        Err(_) => {
            kill_process(process, Signal::KILL).unwrap();
            let ran = Ran::of(output.await.unwrap().unwrap());
            panic!("it does not end; out: {}\nerr: {}", ran.out, ran.err);
        }
    }
}

/// What a run has left.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It ended so; all that it said otherwise.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// Status and reason of a condition; empty if there is none.
pub fn condition(object: &Value, type_: &str) -> (String, String) {
    let all = object["status"]["conditions"].as_array().cloned();
    let all = all.unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = all.iter().find(|condition| condition["type"] == type_);
    found
        .map(|found| (text(&found["status"]), text(&found["reason"])))
        .unwrap_or_default()
}

/// Sends a signal to a process that runs.
pub fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Puts a program where the plugin finds it: a script of the shell.
pub fn install(programs: &Path, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(programs).unwrap();
    let path = programs.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
