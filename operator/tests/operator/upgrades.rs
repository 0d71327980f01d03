//! Clusters that come from other operators: objects that were made under their definitions are read under ours, looked after, and not rewritten.

use serde_json::{Value, json};

use super::bench::{Bench, JVS, TEAM, condition};

const DITTO: &str = "dittofs.dittofs.com/v1alpha1";
const FORMER: [&str; 2] = [
    include_str!("former/jvs.yaml"),
    include_str!("former/dittofs.yaml"),
];

/// A cluster with the former definitions.
async fn former() -> Bench {
    let bench = Bench::new(&["a"]).await;
    for definitions in FORMER {
        bench.server.load(definitions).unwrap();
    }
    bench
}

/// Ours take the place of the former ones; objects stay as they are stored.
fn upgrade(bench: &Bench) {
    let versions = |bench: &Bench| -> Vec<Value> {
        all(bench)
            .iter()
            .map(|object| object["metadata"]["resourceVersion"].clone())
            .collect()
    };
    let before = versions(bench);
    for definition in cairn_crds::all() {
        bench
            .server
            .load(&cairn_crds::manifests::text(&definition))
            .unwrap();
    }
    assert_eq!(versions(bench), before);
}

fn all(bench: &Bench) -> Vec<Value> {
    let mut all = bench.server.list(JVS, "Workspace", None);
    all.extend(bench.server.list(JVS, "Snapshot", None));
    all.extend(bench.server.list(DITTO, "DittoServer", None));
    all
}

/// An object with the status that the former operator has left.
fn left(bench: &Bench, api: &str, kind: &str, name: &str, finalizers: Value, parts: (Value, Value)) {
    let (spec, status) = parts;
    bench.apply(json!({"apiVersion": api, "kind": kind,
        "metadata": {"name": name, "namespace": TEAM, "finalizers": finalizers},
        "spec": spec, "status": status}));
}

/// What the former JVS operator says of everything.
fn old_ready() -> Value {
    json!([{"type": "Ready", "status": "True", "reason": "Reconciled", "message": "ok",
        "lastTransitionTime": "2026-02-25T00:00:00Z"}])
}

#[tokio::test]
async fn workspaces_of_the_former_operator_are_served_and_not_rewritten() {
    let bench = former().await;
    let finalizer = json!(["jvs.io/workspace-finalizer"]);
    let spec = json!({"replicas": 2, "storage": "20Gi", "defaultEngine": "juicefs-clone",
        "juiceFsConfig": {"source": "redis://r:6379/0", "secretsRef": {"name": "s", "keys": {"source": "URL"}}},
        "retentionPolicy": {"keepTags": ["release"]}, "autoSnapshot": {"enabled": false, "template": "checkpoint"}});
    let status = json!({"phase": "Ready", "message": "ok", "snapshotCount": -1, "conditions": old_ready()});
    left(&bench, JVS, "Workspace", "old", finalizer, (spec.clone(), status));
    left(
        &bench,
        JVS,
        "Workspace",
        "empty",
        json!([]),
        (json!({}), Value::Null),
    );
    let before = bench.workspace("old").unwrap();
    upgrade(&bench);
    let operator = bench.start();
    bench.ready("Workspace", "old").await;
    bench.ready("Workspace", "empty").await;
    let after = bench.workspace("old").unwrap();
    for key in ["uid", "generation", "creationTimestamp", "finalizers"] {
        assert_eq!(after["metadata"][key], before["metadata"][key], "{key}");
    }
    // What people wrote is what they wrote; what is new has its default.
    for (key, value) in spec.as_object().unwrap() {
        let now = &after["spec"][key];
        match value.as_object() {
            Some(block) => block
                .iter()
                .for_each(|(key, value)| assert_eq!(now[key], *value, "{key}")),
            None => assert_eq!(now, value, "{key}"),
        }
    }
    assert_eq!(after["spec"]["deletionPolicy"], "Retain");
    // The old words are gone; ours say from what they were decided.
    assert_eq!(condition(&after, "FieldsSupported").0, "False");
    let conditions = after["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .all(|it| it["observedGeneration"] == after["metadata"]["generation"])
    );
    assert_eq!(conditions.iter().filter(|it| it["type"] == "Ready").count(), 1);
    let owns_spec = |field: &Value| {
        field["manager"]
            .as_str()
            .unwrap_or_default()
            .starts_with("cairn-operator")
            && field["fieldsV1"]["f:spec"].is_object()
    };
    assert!(
        !after["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .iter()
            .any(owns_spec)
    );
    // Settled, nothing is written.
    let handle = operator.handle.clone();
    handle.look_at_everything();
    bench.until("it has looked", |_| handle.is_idle()).await;
    bench.server.reset_counters();
    handle.look_at_everything();
    bench.until("it has looked", |_| handle.is_idle()).await;
    assert_eq!(
        bench.server.counters().writes(),
        0,
        "{:?}",
        bench.server.counters()
    );
    // Its finalizer is ours: the deletion that never ended ends now.
    bench.delete("Workspace", "old");
    bench.gone("Workspace", "old").await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_snapshot_that_was_never_taken_is_not_believed() {
    let bench = former().await;
    left(
        &bench,
        JVS,
        "Workspace",
        "old",
        json!([]),
        (json!({}), Value::Null),
    );
    let status = json!({"phase": "Ready", "snapshotID": "snap-1771977600", "integrityState": "verified",
        "createdAt": "2026-02-25T00:00:00Z", "completedAt": "2026-02-25T00:00:02Z", "conditions": old_ready()});
    let finalizer = json!(["jvs.io/snapshot-finalizer"]);
    let spec = json!({"workspace": "old", "engine": "copy", "note": "before the deployment"});
    left(&bench, JVS, "Snapshot", "claimed", finalizer, (spec, status));
    // One that the former operator had not come to.
    left(
        &bench,
        JVS,
        "Snapshot",
        "asked",
        json!([]),
        (json!({"workspace": "old"}), Value::Null),
    );
    upgrade(&bench);
    let operator = bench.start();
    bench.ready("Snapshot", "asked").await;
    let claimed = bench.reason("Snapshot", "claimed", "NeverTaken").await;
    let (status, _, message) = condition(&claimed, "Ready");
    assert_eq!(status, "False");
    assert!(
        message.contains("snap-1771977600") && message.contains("make another"),
        "{message}"
    );
    assert_eq!(claimed["status"]["phase"], "Failed");
    assert_ne!(claimed["status"]["integrityState"], "verified");
    // Nothing was taken in its name, and it can be deleted.
    assert_eq!(bench.double.snapshot_keys().len(), 1);
    bench.delete("Snapshot", "claimed");
    bench.gone("Snapshot", "claimed").await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_left_as_it_is_and_stops_nobody() {
    let bench = former().await;
    let odd = json!({"defaultEngine": "rsync", "autoSnapshot": {"enabled": true, "schedule": "often", "template": "nightly"}});
    left(
        &bench,
        JVS,
        "Workspace",
        "odd",
        json!([]),
        (odd, json!({"phase": "Ready"})),
    );
    left(
        &bench,
        JVS,
        "Workspace",
        "old",
        json!([]),
        (json!({"storage": "a lot"}), Value::Null),
    );
    left(
        &bench,
        JVS,
        "Workspace",
        "well",
        json!([]),
        (json!({}), Value::Null),
    );
    upgrade(&bench);
    let before = bench.workspace("odd").unwrap();
    let operator = bench.start();
    bench.ready("Workspace", "well").await;
    // A size that is none can be read, and is told.
    let old = bench.reason("Workspace", "old", "InvalidField").await;
    assert!(condition(&old, "Ready").2.contains("a lot"));
    assert_eq!(operator.handle.caches().workspaces.invalid().len(), 1);
    assert_eq!(bench.workspace("odd").unwrap(), before);
    let page = operator.metrics.page().unwrap();
    assert!(
        page.contains("cairn_operator_objects_invalid{kind=\"Workspace\"} 1"),
        "{page}"
    );
    // Put right, it is served.
    bench.make_workspace("odd", json!({"defaultEngine": "copy"}));
    bench.ready("Workspace", "odd").await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn servers_of_the_former_operator_say_what_is_not_honoured() {
    let bench = former().await;
    let spec = json!({"image": "docker.io/marmos91c/dittofs:v0.20.0", "replicas": 1,
        "storage": {"metadataSize": "10Gi", "contentSize": "50Gi", "controlPlaneSize": "1Gi"},
        "database": {"type": "sqlite"}, "identity": {"type": "internal", "jwt": {"secretRef": {"name": "j"}}},
        "service": {"type": "ClusterIP"},
        "config": {"shares": [{"name": "export", "exportPath": "/export", "metadataStore": "m", "contentStore": "c"}],
            "backends": [{"name": "m", "type": "badger", "config": {"path": "/data/metadata"}},
                {"name": "c", "type": "local", "config": {"path": "/data/content"}}]}});
    let status = json!({"phase": "Running", "availableReplicas": 1, "nfsEndpoint": "old.team.svc.cluster.local:2049",
        "perconaClusterName": "p", "conditions": [{"type": "DatabaseReady", "status": "True", "reason": "Up",
            "message": "ok", "lastTransitionTime": "2026-02-25T00:00:00Z"}]});
    left(
        &bench,
        DITTO,
        "DittoServer",
        "old",
        json!([]),
        (spec.clone(), status),
    );
    let mut several = spec;
    several["replicas"] = json!(3);
    left(
        &bench,
        DITTO,
        "DittoServer",
        "several",
        json!([]),
        (several, Value::Null),
    );
    upgrade(&bench);
    let operator = bench.start();
    let server = |bench: &Bench, name: &str| bench.server.get(DITTO, "DittoServer", TEAM, name).unwrap();
    bench
        .until("both are judged", |bench| {
            condition(&server(bench, "several"), "Ready").1 == "ReplicasUnsupported"
                && condition(&server(bench, "old"), "FieldsSupported").0 == "False"
                && server(bench, "old")["status"]["nfsEndpoint"]
                    .as_str()
                    .unwrap_or_default()
                    .ends_with(":2049")
        })
        .await;
    let old = server(&bench, "old");
    assert_eq!(old["metadata"]["generation"], 1);
    assert!(condition(&old, "FieldsSupported").2.contains("DittoFS"));
    assert_ne!(old["status"]["nfsEndpoint"], "old.team.svc.cluster.local:2049");
    // Of a server that is refused nothing is made.
    assert!(
        bench
            .server
            .get("apps/v1", "StatefulSet", TEAM, "several")
            .is_none()
    );
    assert!(bench.server.get("apps/v1", "StatefulSet", TEAM, "old").is_some());
    operator.stop().await;
    bench.end().await;
}
