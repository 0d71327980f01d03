//! Every manifest of `deploy/samples`, with what it needs around it: applied, ready, used, deleted, and what is left then.

use cairn_e2e::client::attributes::SetAttributes;
use cairn_e2e::client::procedures::{CreateMode, Stability};
use cairn_e2e::client::{Client, ClientSettings};
use serde_json::{Value, json};

use super::ready;
use crate::bench::{Bench, JVS, condition};

const DITTO: &str = "dittofs.dittofs.com/v1alpha1";
const DEFAULT: &str = "default";
/// The user of the sample pod.
const POD_USER: u32 = 1000;

macro_rules! samples {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../../../../deploy/samples/", $name, ".yaml")))),*]
    };
}

fn object(bench: &Bench, kind: &str, name: &str) -> Value {
    bench.server.get(JVS, kind, DEFAULT, name).unwrap_or_default()
}

async fn until_ready(bench: &Bench, api: &str, kind: &str, names: &[&str]) {
    for name in names {
        bench
            .until(&format!("{kind} {name} is Ready"), |bench| {
                let object = bench.server.get(api, kind, DEFAULT, name).unwrap_or_default();
                ready(&object).0 == "True"
            })
            .await;
    }
}

/// A claim of some class that a pod has mounted on a node, whose volume is a directory there.
fn claimed(bench: &Bench, name: &str, node: &str) {
    let path = bench.real_ones().files(node).join(name);
    std::fs::create_dir_all(path.join("models/v1")).unwrap();
    std::fs::write(path.join("models/v1/weights"), b"first").unwrap();
    std::fs::write(path.join("README.md"), b"read me").unwrap();
    bench.apply(
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("pv-{name}")},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "local": {"path": path.display().to_string()},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}}),
    );
    bench.apply(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": DEFAULT},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": format!("pv-{name}"),
            "resources": {"requests": {"storage": "1Gi"}}}}));
    bench.apply(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("user-of-{name}"), "namespace": DEFAULT},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]},
        "status": {"phase": "Running"}}),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_of_workspaces_works_with_real_daemons() {
    let bench = Bench::real(&["node-1", "node-2"]).await;
    bench.server.edit("v1", "Node", "", "node-2", |node| {
        node["metadata"]["labels"]["disk"] = json!("fast");
    });
    claimed(&bench, "database-files", "node-1");
    let scratch = bench.real_ones().files("node-1").join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    std::fs::write(scratch.join("file"), b"bytes").unwrap();
    let operator = bench.start();
    for (file, text) in samples![
        "jvs-readme",
        "jvs-workspace",
        "jvs-snapshot",
        "jvs-snapshot-restore",
        "cairn-workspaces",
        "pod"
    ] {
        // The only thing that is changed: tests touch nothing outside of their own directories.
        let text = text.replace("/srv/scratch", &scratch.display().to_string());
        assert!(bench.server.load(&text).unwrap() > 0, "{file}");
    }
    let workspaces = [
        "ml-workspace",
        "example-workspace",
        "notes",
        "models",
        "database-files",
        "scratch",
        "test-branch",
    ];
    until_ready(&bench, JVS, "Workspace", &workspaces).await;
    let snapshots = [
        "pre-deployment",
        "example-snapshot",
        "example-snapshot-with-restore",
    ];
    until_ready(&bench, JVS, "Snapshot", &snapshots).await;
    assert_eq!(
        object(&bench, "Workspace", "models")["status"]["nodeName"],
        "node-2"
    );
    assert_eq!(
        condition(&object(&bench, "Workspace", "ml-workspace"), "FieldsSupported").0,
        "False"
    );

    // The pod of the samples writes as the user that it is.
    let volume = bench.volume(DEFAULT, "notes");
    let settings = ClientSettings {
        uid: POD_USER,
        gid: POD_USER,
        ..ClientSettings::default()
    };
    let client = Client::connect(volume.at, settings).await.unwrap();
    let root = client.mount(&volume.path).await.unwrap();
    let how = CreateMode::Guarded(SetAttributes::default());
    let log = client.create(&root, b"log", how).await.unwrap().handle;
    client
        .write(&log, 0, b"today\n", Stability::FILE_SYNC)
        .await
        .unwrap();

    // Restores, of snapshots that people have taken before.
    for (name, of) in [
        ("before-migration", "models"),
        ("files-before-migration", "database-files"),
    ] {
        bench.apply(json!({"apiVersion": JVS, "kind": "Snapshot",
            "metadata": {"name": name, "namespace": DEFAULT}, "spec": {"workspace": of}}));
    }
    until_ready(
        &bench,
        JVS,
        "Snapshot",
        &["before-migration", "files-before-migration"],
    )
    .await;
    let files = bench.real_ones().files("node-1").join("database-files");
    std::fs::remove_dir_all(files.join("models/v1")).unwrap();
    std::fs::write(files.join("README.md"), b"changed").unwrap();
    let [(_, restores)] = samples!["cairn-restores"];
    bench.server.load(restores).unwrap();
    bench
        .until("the restore is planned", |bench| {
            ready(&object(bench, "Restore", "undo-migration")).1 == "Planned"
        })
        .await;
    until_ready(&bench, JVS, "Restore", &["bring-back-v1", "look-back"]).await;
    until_ready(&bench, JVS, "Workspace", &["models-before"]).await;
    assert_eq!(std::fs::read(files.join("models/v1/weights")).unwrap(), b"first");
    assert_eq!(std::fs::read(files.join("README.md")).unwrap(), b"read me");

    // What other workspaces began with is not deleted before them, and says so.
    bench
        .server
        .delete(JVS, "Snapshot", DEFAULT, "example-snapshot-with-restore")
        .unwrap();
    bench
        .until("it is told why it stays", |bench| {
            let (_, reason, message) = ready(&object(bench, "Snapshot", "example-snapshot-with-restore"));
            reason == "SnapshotInUse" && message.contains("default.test-branch")
        })
        .await;
    for name in ["test-branch", "models-before"] {
        bench.server.edit(JVS, "Workspace", DEFAULT, name, |workspace| {
            workspace["spec"]["deletionPolicy"] = json!("Delete");
        });
    }
    let all = |bench: &Bench| -> Vec<Value> {
        let kinds = ["Restore", "Snapshot", "Workspace"];
        kinds
            .iter()
            .flat_map(|kind| bench.server.list(JVS, kind, None))
            .collect()
    };
    for object in all(&bench) {
        let kind = object["kind"].as_str().unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        bench.server.delete(JVS, kind, DEFAULT, name).unwrap();
    }
    // The sample pod goes with its claim.
    bench.server.delete("v1", "Pod", DEFAULT, "writer").unwrap();
    bench.until("all are gone", |bench| all(bench).is_empty()).await;
    let held = bench.held().await;
    let names: Vec<&str> = held.workspaces.keys().map(String::as_str).collect();
    let kept = [
        "default.example-workspace",
        "default.ml-workspace",
        "default.models",
        "default.notes",
    ];
    assert_eq!(
        names, kept,
        "the data of volumes stays by default, and nothing else"
    );
    assert!(
        held.workspace_keys().is_empty() && held.snapshots.is_empty(),
        "{held:?}"
    );
    assert_eq!(std::fs::read(scratch.join("file")).unwrap(), b"bytes");
    let claims = bench.server.list("v1", "PersistentVolumeClaim", None);
    assert_eq!(claims.len(), 1, "the one that was there before");
    operator.stop().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_of_ditto_servers_works_with_real_daemons() {
    let bench = Bench::real(&["node-1"]).await;
    let names = ["my-dittofs", "dittoserver-sample", "dittoserver-aws-s3"];
    for name in names {
        bench.real_ones().start_other(&format!("{DEFAULT}/{name}")).await;
    }
    bench.apply(json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "standard",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "example.com/none", "reclaimPolicy": "Retain"}));
    bench.apply(json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "s3-credentials", "namespace": DEFAULT},
        "stringData": {"access-key": "a", "secret-key": "s"}}));
    let operator = bench.start();
    for (file, text) in samples!["dittofs-readme", "dittofs-share", "dittofs-s3"] {
        assert!(bench.server.load(text).unwrap() > 0, "{file}");
    }
    until_ready(&bench, DITTO, "DittoServer", &names).await;
    for (name, path) in [("dittoserver-sample", "/export"), ("dittoserver-aws-s3", "/s3")] {
        bench
            .until("its share is served", |bench| {
                let object = bench.server.get(DITTO, "DittoServer", DEFAULT, name).unwrap();
                object["status"]["shares"][0]["ready"] == true
            })
            .await;
        let at = bench.real_ones().nfs(&format!("{DEFAULT}/{name}"));
        let client = Client::connect(at, ClientSettings::default()).await.unwrap();
        let object = bench.server.get(DITTO, "DittoServer", DEFAULT, name).unwrap();
        let root = client.mount(path).await;
        let root = root.unwrap_or_else(|error| panic!("{error}: {}", object["status"]));
        let how = CreateMode::Guarded(SetAttributes::default());
        let file = client.create(&root, b"file", how).await.unwrap().handle;
        client
            .write(&file, 0, b"bytes", Stability::FILE_SYNC)
            .await
            .unwrap();
        assert_eq!(client.read_all(&file).await.unwrap(), b"bytes");
    }
    for name in names {
        assert!(bench.server.delete(DITTO, "DittoServer", DEFAULT, name).unwrap());
    }
    bench
        .until("they are gone", |bench| {
            bench.server.list(DITTO, "DittoServer", None).is_empty()
                && bench.server.list("apps/v1", "StatefulSet", None).is_empty()
        })
        .await;
    // Their claims stay.
    assert_eq!(bench.server.list("v1", "PersistentVolumeClaim", None).len(), 3);
    operator.stop().await;
    bench.end().await;
}
