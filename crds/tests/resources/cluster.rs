//! Every case and every sample against a real API server, when `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver`.
//!
//! This is the last word on the rules: their cost, and what their expressions mean. Each case is a request of `kubectl`, as people make it.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cases::{every, root};

/// Longest wait for the API server to be ready.
const START_MAX: Duration = Duration::from_secs(60);

/// An etcd and an API server on loopback; both are killed at the end.
struct Cluster {
    directory: tempfile::TempDir,
    processes: Vec<Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            // It may have ended by itself, which is as good.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A port that was free a moment ago.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl Cluster {
    fn start(assets: &Path) -> Cluster {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (client, peer, api) = (port(), port(), port());
        let key = Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(path("key"))
            .arg("2048")
            .output()
            .unwrap();
        assert!(
            key.status.success(),
            "openssl genrsa: {}",
            String::from_utf8_lossy(&key.stderr)
        );
        std::fs::write(path("tokens"), "token,admin,admin,system:masters\n").unwrap();
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("https://127.0.0.1:{api}"), "insecure-skip-tls-verify": true}}],
            "users": [{"name": "test", "user": {"token": "token"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        });
        std::fs::write(path("kubeconfig"), config.to_string()).unwrap();
        let log = |name: &str| Stdio::from(std::fs::File::create(path(name)).unwrap());
        let etcd = Command::new(assets.join("etcd"))
            .arg("--unsafe-no-fsync")
            .arg(format!("--data-dir={}", path("etcd").display()))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"))
            .arg(format!("--initial-cluster=default=http://127.0.0.1:{peer}"))
            .stdout(log("etcd.log"))
            .stderr(log("etcd.err"))
            .spawn()
            .unwrap();
        let server = Command::new(assets.join("kube-apiserver"))
            .arg(format!("--etcd-servers=http://127.0.0.1:{client}"))
            .arg(format!("--cert-dir={}", path("certificates").display()))
            .arg(format!("--secure-port={api}"))
            .args([
                "--bind-address=127.0.0.1",
                "--service-cluster-ip-range=10.96.0.0/16",
            ])
            .args([
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
            ])
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", path("key").display()))
            .arg(format!(
                "--service-account-signing-key-file={}",
                path("key").display()
            ))
            .arg(format!("--token-auth-file={}", path("tokens").display()))
            .stdout(log("api.log"))
            .stderr(log("api.err"))
            .spawn()
            .unwrap();
        let cluster = Cluster {
            directory,
            processes: vec![etcd, server],
        };
        let begun = Instant::now();
        while cluster.kubectl(&["get", "--raw", "/readyz"], None).is_err() {
            let log = std::fs::read_to_string(cluster.directory.path().join("api.err")).unwrap_or_default();
            assert!(
                begun.elapsed() < START_MAX,
                "the API server does not become ready: {log}"
            );
        }
        cluster
    }

    /// Runs kubectl with `input`; standard output, or standard error if it failed.
    fn kubectl(&self, arguments: &[&str], input: Option<&Value>) -> Result<String, String> {
        let mut process = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.directory.path().join("kubeconfig"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = process.stdin.take().unwrap();
        if let Some(input) = input {
            stdin.write_all(input.to_string().as_bytes()).unwrap();
        }
        drop(stdin);
        let output = process.wait_with_output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

/// The directory with the API server, unless there is none.
fn assets() -> Option<PathBuf> {
    let assets = PathBuf::from(std::env::var_os("KUBEBUILDER_ASSETS")?);
    assert!(
        assets.join("kube-apiserver").exists(),
        "{} has no kube-apiserver",
        assets.display()
    );
    Some(assets)
}

#[test]
fn a_real_api_server_judges_the_same() {
    let Some(assets) = assets() else {
        eprintln!("SKIPPED: KUBEBUILDER_ASSETS names no directory with etcd and kube-apiserver");
        return;
    };
    let cluster = Cluster::start(&assets);
    let directory = root().join("crds");
    for (definition, _) in every() {
        let file = directory.join(cairn_crds::manifests::file_name(&definition));
        let said = cluster
            .kubectl(&["apply", "--server-side", "-f", file.to_str().unwrap()], None)
            .unwrap();
        assert!(said.contains("serverside-applied"), "{said}");
        let name = definition.metadata.name.as_deref().unwrap();
        cluster
            .kubectl(
                &[
                    "wait",
                    "--for=condition=Established",
                    "--timeout=30s",
                    "crd",
                    name,
                ],
                None,
            )
            .unwrap();
    }
    let mut failures = Vec::new();
    for (definition, cases) in every() {
        for case in &cases {
            let object = case.object(&definition, &case.spec);
            let answer = match &case.old {
                None => cluster.kubectl(&["create", "--dry-run=server", "-f", "-"], Some(&object)),
                Some(old) => {
                    let old = case.object(&definition, old);
                    cluster.kubectl(&["create", "-f", "-"], Some(&old)).unwrap();
                    let answer = cluster.kubectl(&["replace", "--dry-run=server", "-f", "-"], Some(&object));
                    cluster.kubectl(&["delete", "-f", "-"], Some(&old)).unwrap();
                    answer
                }
            };
            let as_said = match (&case.refused, &answer) {
                (None, Ok(_)) => true,
                (Some(text), Err(message)) => message.contains(text),
                _ => false,
            };
            if !as_said {
                let kind = &definition.spec.names.kind;
                failures.push(format!("{kind}: {}: {:?}: {answer:?}", case.name, case.refused));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let samples = root().join("deploy/samples");
    let said = cluster.kubectl(
        &["apply", "--dry-run=server", "-f", samples.to_str().unwrap()],
        None,
    );
    assert!(said.is_ok(), "{said:?}");
}
