//! Every case and every sample against a real API server, when `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver`.
//!
//! This is the last word on the rules: their cost, and what their expressions mean. Each case is a request of `kubectl`, as people make it.

use std::io::Write;
use std::process::{Command, Stdio};

use cairn_apiserver::real::{RealServer, assets_for};
use serde_json::Value;

use crate::cases::{every, root};

/// A real API server, and a kubeconfig for it.
struct Cluster {
    directory: tempfile::TempDir,
    _server: RealServer,
}

impl Cluster {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_api_server_judges_the_same() {
    let Some(assets) = assets_for("a_real_api_server_judges_the_same").unwrap() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(&assets, directory.path()).await.unwrap();
    std::fs::write(directory.path().join("kubeconfig"), server.kubeconfig("default")).unwrap();
    let cluster = Cluster {
        directory,
        _server: server,
    };
    tokio::task::spawn_blocking(move || judge(&cluster))
        .await
        .unwrap();
}

fn judge(cluster: &Cluster) {
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
