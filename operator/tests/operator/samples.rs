//! The manifests that people of the older operators have, unchanged.

use serde_json::Value;

use super::bench::{Bench, JVS, condition};

const SAMPLES: [(&str, &str); 4] = [
    (
        "jvs-readme",
        include_str!("../../../deploy/samples/jvs-readme.yaml"),
    ),
    (
        "jvs-workspace",
        include_str!("../../../deploy/samples/jvs-workspace.yaml"),
    ),
    (
        "jvs-snapshot",
        include_str!("../../../deploy/samples/jvs-snapshot.yaml"),
    ),
    (
        "jvs-snapshot-restore",
        include_str!("../../../deploy/samples/jvs-snapshot-restore.yaml"),
    ),
];

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

#[tokio::test]
async fn the_samples_apply_work_and_go() {
    let bench = Bench::new(&["a", "b"]).await;
    let operator = bench.start();
    for (file, text) in SAMPLES {
        assert!(bench.server.load(text).unwrap() > 0, "{file}");
    }
    let all = |bench: &Bench| {
        let mut all = bench.server.list(JVS, "Workspace", None);
        all.extend(bench.server.list(JVS, "Snapshot", None));
        all
    };
    bench
        .until("every sample is Ready", |bench| {
            all(bench)
                .iter()
                .all(|object| condition(object, "Ready").0 == "True")
        })
        .await;
    bench
        .until("what was to be restored is", |bench| {
            let snapshots = bench.server.list(JVS, "Snapshot", None);
            snapshots
                .iter()
                .filter(|snapshot| snapshot["spec"]["restoreOnCreate"] == true)
                .all(|snapshot| snapshot["status"]["restoreStatus"]["phase"] == "Completed")
        })
        .await;
    // What cannot be honoured is named.
    let readme = bench
        .server
        .get(JVS, "Workspace", "default", "ml-workspace")
        .unwrap();
    assert_eq!(condition(&readme, "FieldsSupported").0, "False");
    assert!(readme["status"]["nextSnapshotTime"].is_string());
    for object in all(&bench) {
        let kind = object["kind"].as_str().unwrap();
        let namespace = object["metadata"]["namespace"].as_str().unwrap();
        bench.server.delete(JVS, kind, namespace, name(&object)).unwrap();
    }
    bench.until("all are gone", |bench| all(bench).is_empty()).await;
    // By default the data of Workspaces stays, and nothing else.
    assert!(bench.double.workspace_keys().is_empty() && bench.double.snapshot_keys().is_empty());
    assert!(!bench.double.workspace_names().is_empty());
    for kind in ["PersistentVolume", "PersistentVolumeClaim"] {
        assert!(bench.server.list("v1", kind, None).is_empty(), "{kind}");
    }
    operator.stop().await;
    bench.end().await;
}
