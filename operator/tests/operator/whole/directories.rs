//! Workspaces that are directories of nodes: snapshots of what lies there, whatever put it there.

use std::path::Path;
use std::process::Command;

use cairn_e2e::sample;
use cairn_e2e::tree::compare::{Leniency, compare};
use cairn_e2e::tree::{Tree, local};
use serde_json::{Value, json};

use super::ready;
use crate::bench::{Bench, TEAM, condition};

const FILES: usize = 30;

/// Everything but what the daemon keeps there itself.
fn list(directory: &Path) -> Tree {
    local::list(directory, &|path| !path.starts_with(b".jvs")).unwrap()
}

/// Removes some files and changes others.
fn ruin(directory: &Path) {
    let tree = list(directory);
    for (index, (path, _)) in tree.regular_files().enumerate() {
        let place = local::place(directory, path);
        match index % 2 {
            0 => std::fs::remove_file(place).unwrap(),
            _ => std::fs::write(place, b"something else").unwrap(),
        }
    }
    std::fs::write(directory.join("new"), b"nobody wants this").unwrap();
}

/// Compares with a copy, but for the directory itself: what the daemon keeps in it has changed its time.
async fn assert_same_now(expected: &Path, directory: &Path, when: &str) {
    let leniency = Leniency {
        root: true,
        ..Leniency::default()
    };
    let found = compare(&list(expected), &list(directory), leniency)
        .await
        .unwrap();
    assert!(found.equal(), "{when}: {found}");
}

/// Fills a directory, and its copy with the same.
fn fill(directory: &Path, copy: &Path, seed: u64) {
    std::fs::create_dir_all(directory).unwrap();
    sample::many(directory, seed, FILES).unwrap();
    let status = Command::new("cp")
        .arg("-a")
        .arg(directory.join("."))
        .arg(copy)
        .status();
    assert!(status.unwrap().success());
}

async fn restored(bench: &Bench, name: &str, spec: Value) {
    bench.make_restore(name, spec);
    bench.reason("Restore", name, "Completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_a_node_is_captured_and_restored() {
    let bench = Bench::real(&["a", "b"]).await;
    let directory = bench.real_ones().files("b").join("data");
    let copy = tempfile::tempdir().unwrap();
    fill(&directory, copy.path(), 7);
    let operator = bench.start();
    bench.make_workspace(
        "path",
        json!({"backing": {"hostPath": {"path": directory.display().to_string()}},
            "placement": {"nodeName": "b"}, "defaultEngine": "copy"}),
    );
    bench.ready("Workspace", "path").await;
    bench.make_snapshot("s", json!({"workspace": "path", "verify": true, "tags": ["v1"]}));
    bench.ready("Snapshot", "s").await;
    bench
        .until("it has been read back", |bench| {
            condition(&bench.snapshot("s").unwrap(), "Verified").0 == "True"
        })
        .await;
    let status = bench.snapshot("s").unwrap()["status"].clone();
    assert_eq!(status["engine"], "copy", "{status}");
    assert_eq!(status["nodeName"], "b");
    assert_eq!(status["integrityState"], "verified");

    ruin(&directory);
    let spec = json!({"workspace": "path", "snapshot": "s", "mode": "Run", "into": {"inPlace": {}}});
    restored(&bench, "back", spec).await;
    assert_same_now(copy.path(), &directory, "the restore").await;
    assert!(bench.restore("back").unwrap()["status"]["safetySnapshot"].is_string());

    // Single paths: the others stay as they are.
    let first = "directory 0";
    std::fs::remove_dir_all(directory.join(first)).unwrap();
    std::fs::write(directory.join("new"), b"this stays").unwrap();
    let spec = json!({"workspace": "path", "snapshot": "s", "mode": "Run", "paths": [first],
        "into": {"inPlace": {}}});
    restored(&bench, "some", spec).await;
    assert_same_now(&copy.path().join(first), &directory.join(first), "the path").await;
    assert_eq!(std::fs::read(directory.join("new")).unwrap(), b"this stays");
    std::fs::remove_file(directory.join("new")).unwrap();

    // The snapshot goes, as soon as what came from it is in another one; the directory stays.
    bench.delete("Restore", "back");
    bench.delete("Restore", "some");
    bench.make_snapshot("t", json!({"workspace": "path"}));
    bench.ready("Snapshot", "t").await;
    bench.delete("Snapshot", "s");
    bench.gone("Snapshot", "s").await;
    bench.delete("Workspace", "path");
    bench.gone("Workspace", "path").await;
    assert_same_now(copy.path(), &directory, "the deletion of the Workspace").await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_any_class_is_captured_where_the_kubelet_mounts_it() {
    let bench = Bench::real(&["a", "b"]).await;
    let operator = bench.start();
    bench.apply(
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-old"},
        "spec": {"accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"},
            "csi": {"driver": "csi.example.com", "volumeHandle": "h"}}}),
    );
    bench.apply(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "old", "namespace": TEAM},
        "spec": {"accessModes": ["ReadWriteMany"], "volumeName": "pv-old",
            "resources": {"requests": {"storage": "1Gi"}}}}));
    bench.apply(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": TEAM},
        "spec": {"nodeName": "a", "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "old"}}]},
        "status": {"phase": "Running"}}),
    );
    let pod = bench.server.get("v1", "Pod", TEAM, "user").unwrap();
    let directory = bench.real_ones().kubelet().join(format!(
        "pods/{}/volumes/kubernetes.io~csi/pv-old/mount",
        pod["metadata"]["uid"].as_str().unwrap()
    ));
    let copy = tempfile::tempdir().unwrap();
    fill(&directory, copy.path(), 9);
    bench.make_workspace("adopted", json!({"backing": {"pvc": {"claimName": "old"}}}));
    bench.ready("Workspace", "adopted").await;
    assert_eq!(bench.workspace("adopted").unwrap()["status"]["nodeName"], "a");
    bench.make_snapshot("s", json!({"workspace": "adopted"}));
    bench.ready("Snapshot", "s").await;
    ruin(&directory);
    let spec = json!({"workspace": "adopted", "snapshot": "s", "mode": "Run", "into": {"inPlace": {}}});
    restored(&bench, "back", spec).await;
    assert_same_now(copy.path(), &directory, "the restore").await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_the_daemon_may_not_touch_is_refused() {
    let bench = Bench::real(&["a"]).await;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("file"), b"bytes").unwrap();
    let operator = bench.start();
    bench.make_workspace(
        "path",
        json!({"backing": {"hostPath": {"path": outside.path().display().to_string()}},
            "placement": {"nodeName": "a"}}),
    );
    bench
        .until("it is refused", |bench| {
            let workspace = bench.workspace("path").unwrap();
            condition(&workspace, "Provisioned").0 == "False" && workspace["status"]["phase"] == "Failed"
        })
        .await;
    let (_, reason, message) = ready(&bench.workspace("path").unwrap());
    assert!(message.contains("roots"), "{reason}: {message}");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    operator.stop().await;
    bench.end().await;
}
