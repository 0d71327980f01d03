//! DittoServers against the API server, whose stand-ins run the pods.

use cairn_operator::daemons::Address;
use serde_json::{Value, json};

use super::bench::{Bench, TEAM, condition};
use super::double::Node;

const DITTO: &str = "dittofs.dittofs.com/v1alpha1";

fn server(bench: &Bench) -> Value {
    bench
        .server
        .get(DITTO, "DittoServer", TEAM, "my")
        .unwrap_or_default()
}

fn apply(bench: &Bench, change: impl FnOnce(&mut Value)) {
    let mut object = server(bench);
    change(&mut object["spec"]);
    bench.apply(object);
}

#[tokio::test]
async fn it_is_made_changed_without_a_restart_and_its_claim_outlives_it() {
    let bench = Bench::new(&["a"]).await;
    bench.apply(json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "standard"}, "provisioner": "example.com/none", "reclaimPolicy": "Retain"}));
    let daemon = Node {
        address: Some(Address {
            ip: [10, 244, 0, 9].into(),
            port: 12443,
            is_ready: true,
        }),
        is_up: true,
        instance: 1,
        free: 1 << 30,
        ..Node::default()
    };
    bench.double.nodes.lock().insert(format!("{TEAM}/my"), daemon);
    let operator = bench.start();
    bench.apply(
        json!({"apiVersion": DITTO, "kind": "DittoServer", "metadata": {"name": "my", "namespace": TEAM},
        "spec": {"storage": {"metadataSize": "10Gi", "storageClassName": "standard"},
            "config": {"shares": [{"name": "export", "exportPath": "/export"}]}}}),
    );
    bench
        .until("the DittoServer is Ready and its share is served", |bench| {
            let object = server(bench);
            condition(&object, "Ready").0 == "True" && object["status"]["shares"][0]["ready"] == true
        })
        .await;
    assert_eq!(bench.double.workspace_names(), ["export"]);
    let set = || bench.server.get("apps/v1", "StatefulSet", TEAM, "my").unwrap();
    let before = set()["spec"]["template"].clone();

    apply(&bench, |spec| {
        spec["service"] = json!({"type": "ClusterIP", "annotations": {"example.com/pool": "b"}});
    });
    bench
        .until("the Service has the annotation", |bench| {
            let service = bench.server.get("v1", "Service", TEAM, "my").unwrap();
            service["metadata"]["annotations"]["example.com/pool"] == "b"
        })
        .await;
    assert_eq!(set()["spec"]["template"], before);
    assert_eq!(bench.server.list(DITTO, "DittoServer", Some(TEAM)).len(), 1);

    assert!(bench.server.delete(DITTO, "DittoServer", TEAM, "my").unwrap());
    bench
        .until("it is gone with its StatefulSet", |bench| {
            server(bench).is_null() && bench.server.get("apps/v1", "StatefulSet", TEAM, "my").is_none()
        })
        .await;
    let claims = bench.server.list("v1", "PersistentVolumeClaim", Some(TEAM));
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0]["metadata"]["name"], "data-my-0");
    operator.stop().await;
    bench.end().await;
}
