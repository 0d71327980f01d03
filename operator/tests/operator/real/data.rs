//! Data in Workspaces, by the way of a pod: the claim, its PersistentVolume, the Service whose address stands in it, the daemon behind that.

use std::net::SocketAddr;
use std::sync::Arc;

use cairn_e2e::client::attributes::Kind;
use cairn_e2e::client::procedures::{CreateMode, Stability};
use cairn_e2e::client::{Client, ClientSettings, Handle, SetAttributes};
use cairn_e2e::fixture::assert_same;
use cairn_e2e::tree::copy_in::copy_in;
use cairn_e2e::tree::{Tree, remote, split};
use nfs3_types::nfs3::nfsstat3;
use serde_json::Value;

use crate::bench::{Bench, NAMESPACE};

/// A PersistentVolume, as the kubelet of a pod finds it.
#[derive(Debug, Clone)]
pub struct Volume {
    /// Where its server's address leads to.
    pub at: SocketAddr,
    /// The server's address as it stands in the volume.
    pub server: String,
    /// The port of the mount options.
    pub port: u16,
    /// The exported path.
    pub path: String,
    /// The mount options.
    pub options: Vec<String>,
}

impl Volume {
    /// The volume of a claim, which must be bound.
    pub fn of(bench: &Bench, namespace: &str, claim: &str) -> Volume {
        let server = &bench.server;
        let claim = server
            .get("v1", "PersistentVolumeClaim", namespace, claim)
            .unwrap();
        assert_eq!(claim["status"]["phase"], "Bound", "{claim}");
        let name = claim["spec"]["volumeName"].as_str().unwrap();
        let volume = server.get("v1", "PersistentVolume", "", name).unwrap();
        assert_eq!(volume["status"]["phase"], "Bound", "{volume}");
        let options: Vec<String> = volume["spec"]["mountOptions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|option| option.as_str().unwrap().to_owned())
            .collect();
        let port = options.iter().find_map(|option| option.strip_prefix("port="));
        let port: u16 = port.expect("the options name the port").parse().unwrap();
        let address = volume["spec"]["nfs"]["server"].as_str().unwrap().to_owned();
        Volume {
            at: route(bench, &address, port),
            server: address,
            port,
            path: volume["spec"]["nfs"]["path"].as_str().unwrap().to_owned(),
            options,
        }
    }

    /// Mounts it in user space, from a port that is not privileged, as connections come that a node translates.
    pub async fn mount(&self) -> (Arc<Client>, Handle) {
        let client = Client::connect(self.at, ClientSettings::default()).await.unwrap();
        let root = client.mount(&self.path).await.unwrap();
        (client, root)
    }
}

/// What kube-proxy does: from the address of a Service to that of its endpoint.
fn route(bench: &Bench, address: &str, port: u16) -> SocketAddr {
    let services = bench.server.list("v1", "Service", Some(NAMESPACE));
    let service = services
        .iter()
        .find(|service| service["spec"]["clusterIP"] == address)
        .unwrap_or_else(|| panic!("no Service has the address {address}"));
    let ports = service["spec"]["ports"].as_array().unwrap();
    assert!(ports.iter().any(|one| one["port"] == port), "{service}");
    let slices = bench
        .server
        .list("discovery.k8s.io/v1", "EndpointSlice", Some(NAMESPACE));
    let name = &service["metadata"]["name"];
    let slice = slices
        .iter()
        .find(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == *name)
        .unwrap();
    let endpoint = &slice["endpoints"][0];
    assert_eq!(endpoint["conditions"]["ready"], true, "{slice}");
    let ip = endpoint["addresses"][0].as_str().unwrap();
    let port = slice["ports"][0]["port"].as_u64().unwrap();
    SocketAddr::new(ip.parse().unwrap(), u16::try_from(port).unwrap())
}

impl Bench {
    /// The volume of a Workspace's claim.
    pub fn volume(&self, namespace: &str, workspace: &str) -> Volume {
        Volume::of(self, namespace, workspace)
    }

    /// Copies a local tree into a Workspace; durable on return.
    pub async fn fill(&self, namespace: &str, workspace: &str, tree: &Tree) {
        let (client, root) = self.volume(namespace, workspace).mount().await;
        copy_in(tree, &client, &root, &|_| ()).await.unwrap();
    }

    /// What a Workspace holds, as a new client sees it.
    pub async fn tree(&self, namespace: &str, workspace: &str) -> Tree {
        let (client, root) = self.volume(namespace, workspace).mount().await;
        remote::list(&client, &root).await.unwrap()
    }

    /// Fails unless a Workspace holds exactly this, to the last byte.
    pub async fn assert_holds(&self, namespace: &str, workspace: &str, expected: &Tree, when: &str) {
        let found = self.tree(namespace, workspace).await;
        assert_same(expected, &found, when).await.unwrap();
    }
}

/// How often something is tried again that a daemon's end interrupted.
const ATTEMPTS_MAX: usize = 200;

impl Bench {
    /// Writes a small file into the root directory of a Workspace; durable on return, also if the daemon ends meanwhile.
    pub async fn put(&self, namespace: &str, workspace: &str, name: &str, bytes: &[u8]) {
        for _ in 0..ATTEMPTS_MAX {
            if self.try_put(namespace, workspace, name, bytes).await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{name} could not be written into {workspace}");
    }

    async fn try_put(
        &self,
        namespace: &str,
        workspace: &str,
        name: &str,
        bytes: &[u8],
    ) -> anyhow::Result<()> {
        let volume = self.volume(namespace, workspace);
        let client = Client::connect(volume.at, ClientSettings::default()).await?;
        let root = client.mount(&volume.path).await?;
        let how = CreateMode::Unchecked(SetAttributes {
            size: Some(0),
            mode: Some(0o644),
            ..SetAttributes::default()
        });
        let file = client.create(&root, name.as_bytes(), how).await?.handle;
        client.write(&file, 0, bytes, Stability::FILE_SYNC).await?;
        Ok(())
    }

    /// Reads a file of the root directory of a Workspace; nothing if there is none.
    pub async fn read(&self, namespace: &str, workspace: &str, name: &str) -> Option<Vec<u8>> {
        let (client, root) = self.volume(namespace, workspace).mount().await;
        match client.lookup(&root, name.as_bytes()).await {
            Ok(found) => Some(client.read_all(&found.handle).await.unwrap()),
            Err(error) => {
                assert_eq!(error.status(), Some(nfsstat3::NFS3ERR_NOENT), "{error}");
                None
            }
        }
    }
}

/// What was done to a tree.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ruined {
    /// Entries that are gone.
    pub removed: u64,
    /// Files that hold something else.
    pub changed: u64,
}

/// Removes every second regular file and overwrites the beginning of the others, as far as there is any.
pub async fn ruin(client: &Arc<Client>, root: &Handle) -> Ruined {
    let tree = remote::list(client, root).await.unwrap();
    let mut ruined = Ruined::default();
    let files = tree.nodes.iter().filter(|(_, node)| node.kind() == Kind::Regular);
    for (index, (path, node)) in files.enumerate() {
        if index % 2 == 0 {
            let (parent, name) = split(path).unwrap();
            let parent = tree.node(parent).unwrap().handle.clone().unwrap();
            client.remove(&parent, name).await.unwrap();
            ruined.removed += 1;
        } else if node.attributes.size > 0 {
            let handle = node.handle.clone().unwrap();
            // No byte of the samples is zero.
            client
                .write(&handle, 0, &[0], Stability::FILE_SYNC)
                .await
                .unwrap();
            ruined.changed += 1;
        }
    }
    assert!(ruined.removed > 0 && ruined.changed > 0, "{ruined:?}");
    ruined
}

/// The export that the tests' client may mount: it is on this machine, and may be root.
pub fn open_export() -> Value {
    serde_json::json!({"clients": ["127.0.0.0/8"], "squash": "none"})
}
