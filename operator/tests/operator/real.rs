//! Real daemons for the bench: `cairnd` processes with data directories of their own, asked over mutual TLS with the certificates that the operator issues, and found
//! by EndpointSlices as in a cluster.
//!
//! What a cluster does around them is played here: the kubelet, which writes the certificates into files, says whether a pod is ready and starts it again; kube-proxy,
//! for the NFS client of the tests. Everything listens on loopback and ends with the bench.

#[path = "real/data.rs"]
pub mod data;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cairn_api::proto;
use cairn_apiserver::{ApiServer, User};
use cairn_e2e::node::{Node, NodeSettings};
use cairn_operator::daemons::client::GrpcDaemons;
use cairn_operator::daemons::{Address, CallError, Daemons, Request, Response};
use cairn_operator::runtime::clock::SystemClock;
use cairn_operator::runtime::lease::Leadership;
use cairn_operator::runtime::metrics::Metrics;
use cairn_operator::runtime::tls::{Kept, Source};
use cairn_types::Clock;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{Bench, ManualClock, NAMESPACE, keeper};
use crate::double::Interposed;

/// What every node says that it has free, whatever the disk of this machine has: the samples want hundreds of gibibytes.
const ROOM: u64 = 1 << 40;
/// The name in the daemons' certificate.
const SERVER_NAME: &str = "cairnd.cairn-system.svc";
/// The daemons' Service.
const SERVICE: &str = "cairnd";

pub struct Real {
    directory: TempDir,
    machines: Mutex<BTreeMap<String, Machine>>,
    /// Daemons that are no node's, by their names towards the operator: where they really are.
    others: Arc<Mutex<BTreeMap<String, Address>>>,
}

struct Machine {
    node: Node,
}

/// Everything that the daemons hold.
#[derive(Debug, Default)]
pub struct Held {
    /// Workspaces by name, with their owners.
    pub workspaces: BTreeMap<String, Option<String>>,
    /// Snapshots that no restore has taken.
    pub snapshots: Vec<HeldSnapshot>,
    /// How many of each workspace restores have taken of what they replaced.
    pub safety: BTreeMap<String, usize>,
}

#[derive(Debug, Clone)]
pub struct HeldSnapshot {
    pub node: String,
    pub workspace: String,
    pub key: String,
    pub id: String,
}

impl Held {
    /// Every key under which a snapshot was taken, sorted.
    pub fn snapshot_keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.snapshots.iter().map(|it| it.key.clone()).collect();
        keys.sort();
        keys
    }

    /// Every owner of a workspace, sorted.
    pub fn workspace_keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.workspaces.values().flatten().cloned().collect();
        keys.sort();
        keys
    }
}

impl Real {
    /// The time of objects begins with the present hour: certificates are verified by the time of this machine.
    pub fn clock() -> Arc<ManualClock> {
        ManualClock::new(SystemClock.now().seconds() / 3600 * 3600)
    }

    /// Issues certificates as the operator does, and starts a daemon for every node.
    pub async fn start(server: &ApiServer, nodes: &[&str]) -> Self {
        let user = User::service_account(NAMESPACE, "cairn-operator");
        let client = kube::Client::new(server.service(user), NAMESPACE);
        let keeper = keeper(
            &client,
            &Leadership::alone(1),
            &Metrics::default(),
            &Kept::default(),
        );
        keeper.tick(SystemClock.now()).await.unwrap();
        let directory = tempfile::Builder::new()
            .prefix("cairn-operator.")
            .tempdir()
            .unwrap();
        std::fs::create_dir(directory.path().join("kubelet")).unwrap();
        let secret = server.get("v1", "Secret", NAMESPACE, "cairnd-tls").unwrap();
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            let bytes = STANDARD.decode(secret["data"][file].as_str().unwrap()).unwrap();
            std::fs::write(directory.path().join(file), bytes).unwrap();
        }
        let real = Real {
            directory,
            machines: Mutex::default(),
            others: Arc::default(),
        };
        for name in nodes {
            let machine = real.boot(name, 0).await;
            server.put(slice(name, &machine.node, true)).unwrap();
            real.machines.lock().insert((*name).to_owned(), machine);
        }
        real
    }

    async fn boot(&self, name: &str, nfs_port: u16) -> Machine {
        let plain = name.replace('/', "_");
        let mut settings = NodeSettings::new(self.directory.path().join(format!("data-{plain}")));
        settings.node_name = Some(name.to_owned());
        settings.nfs_port = nfs_port;
        // The disk may be fuller than the default allows, and what the tests write is small.
        settings.disk_reserve_bytes = Some(64 << 20);
        std::fs::create_dir_all(self.files(name)).unwrap();
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        settings.tables = format!(
            "[rpc.tcp]\nlisten = \"127.0.0.1:0\"\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
             control_clients = [\"cairn-operator.{NAMESPACE}.svc\"]\n\n[directories]\nroots = [{:?}, {:?}]\n",
            file("tls.crt"),
            file("tls.key"),
            file("ca.crt"),
            self.files(name).display().to_string(),
            self.kubelet().display().to_string(),
        );
        let node = Node::start(&settings).await.unwrap();
        Machine { node }
    }

    /// Where the kubelets of all nodes mount volumes.
    pub fn kubelet(&self) -> PathBuf {
        self.directory.path().join("kubelet")
    }

    /// A place on a node that its daemon may touch.
    pub fn files(&self, node: &str) -> PathBuf {
        self.directory
            .path()
            .join(format!("files-{}", node.replace('/', "_")))
    }

    /// The process of a node's daemon.
    pub fn process(&self, node: &str) -> u32 {
        self.machines.lock()[node].node.process_id()
    }

    /// Where a daemon serves NFS.
    pub fn nfs(&self, node: &str) -> SocketAddr {
        self.machines.lock()[node].node.nfs()
    }

    /// Ends a daemon at once, if that has not been done yet; the kubelet notices.
    pub fn kill(&self, server: &ApiServer, node: &str) {
        let mut machines = self.machines.lock();
        let machine = machines.get_mut(node).unwrap();
        machine.node.kill().unwrap();
        server.put(slice(node, &machine.node, false)).unwrap();
    }

    /// Starts it again, on its data and its NFS port, and at another address for RPC, as a pod that was replaced.
    pub async fn revive(&self, server: &ApiServer, node: &str) {
        let (before, port) = {
            let mut machines = self.machines.lock();
            let machine = machines.remove(node).unwrap();
            let port = machine.node.nfs().port();
            (machine, port)
        };
        drop(before);
        let machine = self.boot(node, port).await;
        server.put(slice(node, &machine.node, true)).unwrap();
        self.machines.lock().insert(node.to_owned(), machine);
    }

    /// Starts a daemon that is no node's: what the pod of a StatefulSet would run. The operator finds it when it looks for it at the pod's address.
    pub async fn start_other(&self, name: &str) {
        let machine = self.boot(name, 0).await;
        let at = machine.node.rpc_tcp().unwrap();
        let address = Address {
            ip: at.ip(),
            port: at.port(),
            is_ready: true,
        };
        self.others.lock().insert(name.to_owned(), address);
        self.machines.lock().insert(name.to_owned(), machine);
    }

    /// The daemons as one operator process reaches them.
    pub fn daemons(
        &self,
        kept: &Kept,
        metrics: &Metrics,
        interposed: Option<Arc<dyn Interposed>>,
    ) -> (Arc<dyn Daemons>, Arc<GrpcDaemons>) {
        let inner = Arc::new(GrpcDaemons::new(
            Source::Kept(kept.clone()),
            SERVER_NAME,
            metrics.clone(),
        ));
        let between = Between {
            inner: Arc::clone(&inner),
            interposed,
            others: Arc::clone(&self.others),
        };
        (Arc::new(between), inner)
    }

    /// Everything that the daemons hold, as they tell it on their sockets.
    pub async fn held(&self) -> Held {
        let sockets: Vec<(String, PathBuf)> = {
            let machines = self.machines.lock();
            let all = machines.iter();
            all.map(|(name, machine)| (name.clone(), machine.node.socket().to_owned()))
                .collect()
        };
        let mut held = Held::default();
        for (node, socket) in sockets {
            let mut client = cairn_api::Client::connect(&socket).await.unwrap();
            let listed = client.workspaces.list(proto::ListWorkspacesRequest {}).await;
            for workspace in listed.unwrap().into_inner().workspaces {
                held.workspaces.insert(workspace.name, None);
            }
            let request = proto::ListManagedWorkspacesRequest::default();
            let listed = client
                .control
                .list_workspaces(request)
                .await
                .unwrap()
                .into_inner();
            assert!(listed.next_page_token.is_empty(), "the test has grown");
            let mut here: Vec<String> = held.workspaces.keys().cloned().collect();
            for workspace in listed.workspaces {
                here.push(workspace.name.clone());
                held.workspaces.insert(workspace.name, Some(workspace.key));
            }
            here.sort();
            here.dedup();
            for workspace in here {
                let request = proto::ListManagedSnapshotsRequest {
                    workspace: workspace.clone(),
                    ..proto::ListManagedSnapshotsRequest::default()
                };
                // One of another node.
                let Ok(listed) = client.control.list_snapshots(request).await else {
                    continue;
                };
                let listed = listed.into_inner();
                assert!(listed.next_page_token.is_empty(), "the test has grown");
                let (safety, taken): (Vec<_>, Vec<_>) =
                    listed.snapshots.into_iter().partition(|snapshot| snapshot.safety);
                held.safety.insert(workspace.clone(), safety.len());
                let taken = taken.into_iter();
                held.snapshots.extend(taken.map(|snapshot| HeldSnapshot {
                    node: node.clone(),
                    workspace: workspace.clone(),
                    key: snapshot.key,
                    id: snapshot.id,
                }));
            }
        }
        held
    }
}

impl Bench {
    /// The real daemons.
    pub fn real_ones(&self) -> &Real {
        self.real.as_ref().expect("the daemons of this bench are real")
    }

    /// Everything that the daemons hold, whoever plays them.
    pub async fn held(&self) -> Held {
        match &self.real {
            Some(real) => real.held().await,
            None => self.double.held(),
        }
    }

    /// The daemon of a node is killed and started again.
    pub async fn replace_daemon(&self, node: &str) {
        let real = self.real_ones();
        real.kill(&self.server, node);
        real.revive(&self.server, node).await;
    }
}

/// What the cluster tells of a node's daemon.
fn slice(name: &str, node: &Node, is_ready: bool) -> Value {
    let at = node.rpc_tcp().unwrap();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{SERVICE}-{name}"), "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": SERVICE}},
        "addressType": "IPv4",
        "ports": [{"name": "rpc", "port": at.port(), "protocol": "TCP"}],
        "endpoints": [{"addresses": [at.ip().to_string()], "nodeName": name,
            "conditions": {"ready": is_ready, "serving": is_ready, "terminating": false}}],
    })
}

/// The real client of daemons, and what tests put between.
struct Between {
    inner: Arc<GrpcDaemons>,
    interposed: Option<Arc<dyn Interposed>>,
    others: Arc<Mutex<BTreeMap<String, Address>>>,
}

impl Daemons for Between {
    fn nodes(&self) -> Vec<(String, Address)> {
        self.inner.nodes()
    }

    fn address(&self, node: &str) -> Option<Address> {
        self.inner.address(node)
    }

    // Pods have addresses that lead nowhere here.
    fn locate(&self, daemon: &str, at: Option<(Address, String)>) {
        let real = self.others.lock().get(daemon).cloned();
        let at = at.and(real).map(|address| (address, SERVER_NAME.to_owned()));
        self.inner.locate(daemon, at);
    }

    fn send<'a>(&'a self, node: &'a str, request: Request) -> BoxFuture<'a, Result<Response, CallError>> {
        Box::pin(async move {
            if let Some(interposed) = &self.interposed {
                interposed.before(request.name()).await;
            }
            let result = self.inner.send(node, request).await;
            if let Some(interposed) = &self.interposed {
                interposed.after().await;
            }
            match result {
                Ok(Response::GetInfo(mut info)) => {
                    info.free_bytes = ROOM;
                    info.capacity_bytes = ROOM;
                    Ok(Response::GetInfo(info))
                }
                result => result,
            }
        })
    }
}
