//! DittoServers against the API server, whose stand-ins run the pods.

use cairn_apiserver::Controllers;
use cairn_operator::assembly::Handle;
use cairn_operator::daemons::Address;
use cairn_types::Clock;
use serde_json::{Value, json};

use super::bench::{Bench, Running, Start, TEAM, condition};
use super::double::Node;

const DITTO: &str = "dittofs.dittofs.com/v1alpha1";

fn server(bench: &Bench) -> Value {
    named(bench, "my")
}

fn named(bench: &Bench, name: &str) -> Value {
    bench
        .server
        .get(DITTO, "DittoServer", TEAM, name)
        .unwrap_or_default()
}

fn make(bench: &Bench, name: &str, spec: Value) {
    bench.apply(
        json!({"apiVersion": DITTO, "kind": "DittoServer", "metadata": {"name": name, "namespace": TEAM},
        "spec": spec}),
    );
}

/// A server with one share, of a class.
fn simple() -> Value {
    json!({"storage": {"metadataSize": "10Gi", "storageClassName": "standard"},
        "config": {"shares": [{"name": "export", "exportPath": "/export"}]}})
}

fn apply(bench: &Bench, change: impl FnOnce(&mut Value)) {
    let mut object = server(bench);
    change(&mut object["spec"]);
    bench.apply(object);
}

fn child(bench: &Bench, api: &str, kind: &str, name: &str) -> Value {
    bench.server.get(api, kind, TEAM, name).unwrap_or_default()
}

fn template(bench: &Bench) -> Value {
    child(bench, "apps/v1", "StatefulSet", "my")["spec"]["template"].clone()
}

/// A cluster with a class, and daemons that answer for DittoServers of these names.
async fn prepared(names: &[&str]) -> Bench {
    let bench = Bench::new(&["a"]).await;
    bench.apply(json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "standard"}, "provisioner": "example.com/none", "reclaimPolicy": "Retain",
        "allowVolumeExpansion": true}));
    for (number, name) in (9u8..).zip(names) {
        let daemon = Node {
            address: Some(Address {
                ip: [10, 244, 0, number].into(),
                port: 12443,
                is_ready: true,
            }),
            is_up: true,
            instance: 1,
            free: 1 << 30,
            ..Node::default()
        };
        bench.double.nodes.lock().insert(format!("{TEAM}/{name}"), daemon);
    }
    bench
}

async fn until_ready(bench: &Bench, name: &str) {
    bench
        .until("the DittoServer is Ready and its shares are served", |bench| {
            let object = named(bench, name);
            let shares = object["status"]["shares"].as_array().cloned().unwrap_or_default();
            condition(&object, "Ready").0 == "True" && shares.iter().all(|share| share["ready"] == true)
        })
        .await;
}

async fn until_reason(bench: &Bench, type_: &str, reason: &str) -> String {
    bench
        .until(&format!("{type_} is {reason}"), |bench| {
            condition(&server(bench), type_).1 == reason
        })
        .await;
    condition(&server(bench), type_).2
}

/// An operator that keeps certificates with an authority of its own.
fn signer(bench: &Bench) -> Running {
    bench.start_with(Start {
        generation: 1,
        keeps_certificates: true,
        ..Start::default()
    })
}

#[tokio::test]
async fn it_is_made_changed_without_a_restart_and_its_claim_outlives_it() {
    let bench = prepared(&["my"]).await;
    let operator = bench.start();
    make(&bench, "my", simple());
    until_ready(&bench, "my").await;
    assert_eq!(bench.double.workspace_names(), ["export"]);
    let service = child(&bench, "v1", "Service", "my");
    let endpoint = format!("{}:2049", service["spec"]["clusterIP"].as_str().unwrap());
    assert_eq!(server(&bench)["status"]["nfsEndpoint"], endpoint);
    assert_eq!(server(&bench)["status"]["availableReplicas"], 1);
    let before = template(&bench);
    let uid = bench.server.get("v1", "Pod", TEAM, "my-0").unwrap()["metadata"]["uid"].clone();

    apply(&bench, |spec| {
        spec["service"] = json!({"type": "ClusterIP", "annotations": {"example.com/pool": "b"}});
        spec["nfsPort"] = json!(12049);
        spec["metrics"] = json!({"enabled": true, "port": 9999});
        spec["config"]["shares"] = json!([
            {"name": "export", "exportPath": "/export", "readOnly": true, "allowedClients": ["192.168.7.0/24"]},
            {"name": "more", "exportPath": "/more"},
        ]);
    });
    bench
        .until("everything has changed", |bench| {
            let service = child(bench, "v1", "Service", "my");
            let metrics = child(bench, "v1", "Service", "my-metrics");
            service["metadata"]["annotations"]["example.com/pool"] == "b"
                && metrics["spec"]["ports"][0]["port"] == 9999
                && bench.double.workspace_names() == ["export", "more"]
                && server(bench)["status"]["nfsEndpoint"]
                    .as_str()
                    .unwrap_or_default()
                    .ends_with(":12049")
        })
        .await;
    until_ready(&bench, "my").await;
    let request = |name: &str| {
        let node = format!("{TEAM}/my");
        bench
            .double
            .with(&node, |node| node.workspaces[name].request.clone())
    };
    let export = request("export").export.unwrap();
    assert!(export.read_only);
    assert_eq!(export.allow, ["192.168.7.0/24"]);
    // The policy has the networks of the shares, and there is one for each port.
    let policy = child(&bench, "networking.k8s.io/v1", "NetworkPolicy", "my");
    let ingress = policy["spec"]["ingress"].to_string();
    assert!(
        ingress.contains("192.168.7.0/24") && ingress.contains("12443"),
        "{ingress}"
    );
    assert!(
        policy["spec"]["ingress"]
            .as_array()
            .unwrap()
            .iter()
            .all(|rule| { !rule["from"].as_array().unwrap().is_empty() })
    );
    // A share that is withdrawn lets nobody in, and keeps its data.
    apply(&bench, |spec| {
        spec["config"]["shares"].as_array_mut().unwrap().remove(1);
        spec["metrics"] = json!({"enabled": false});
        spec["networkPolicy"] = json!({"enabled": false});
    });
    bench
        .until(
            "the share lets nobody in, and what is not wanted is gone",
            |bench| {
                let node = format!("{TEAM}/my");
                let allow = bench.double.with(&node, |node| {
                    node.workspaces["more"].request.export.clone().unwrap().allow
                });
                allow.is_empty()
                    && child(bench, "v1", "Service", "my-metrics").is_null()
                    && child(bench, "networking.k8s.io/v1", "NetworkPolicy", "my").is_null()
            },
        )
        .await;
    assert_eq!(template(&bench), before);
    let pod = bench.server.get("v1", "Pod", TEAM, "my-0").unwrap();
    assert_eq!(pod["metadata"]["uid"], uid);

    assert!(bench.server.delete(DITTO, "DittoServer", TEAM, "my").unwrap());
    bench
        .until("it is gone with its StatefulSet", |bench| {
            server(bench).is_null() && child(bench, "apps/v1", "StatefulSet", "my").is_null()
        })
        .await;
    let claims = bench.server.list("v1", "PersistentVolumeClaim", Some(TEAM));
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0]["metadata"]["name"], "data-my-0");
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_policy_of_deletion_takes_the_claim_with_it() {
    let bench = prepared(&["my"]).await;
    let operator = bench.start();
    let mut spec = simple();
    spec["deletionPolicy"] = json!("Delete");
    make(&bench, "my", spec);
    until_ready(&bench, "my").await;
    assert!(bench.server.delete(DITTO, "DittoServer", TEAM, "my").unwrap());
    let handle = operator.handle.clone();
    bench
        .until("everything is gone", |bench| {
            // Nothing tells of the end of a pod: it is looked for.
            handle.look_at_everything();
            server(bench).is_null()
                && bench
                    .server
                    .list("v1", "PersistentVolumeClaim", Some(TEAM))
                    .is_empty()
                && bench.server.list("v1", "Service", Some(TEAM)).is_empty()
                && bench.server.list("v1", "ConfigMap", Some(TEAM)).is_empty()
        })
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn claims_grow_without_a_restart_and_templates_stay() {
    let bench = prepared(&["my"]).await;
    let operator = bench.start();
    make(&bench, "my", simple());
    until_ready(&bench, "my").await;
    let before = template(&bench);
    apply(&bench, |spec| spec["storage"]["metadataSize"] = json!("20Gi"));
    bench
        .until("the claim asks for more", |bench| {
            let claim = child(bench, "v1", "PersistentVolumeClaim", "data-my-0");
            claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
        })
        .await;
    let set = child(&bench, "apps/v1", "StatefulSet", "my");
    let claims = &set["spec"]["volumeClaimTemplates"][0]["spec"];
    assert_eq!(claims["resources"]["requests"]["storage"], "10Gi");
    assert_eq!(template(&bench), before);
    // The schema refuses less; whoever gets round it is told.
    bench.server.edit(DITTO, "DittoServer", TEAM, "my", |object| {
        object["spec"]["storage"]["metadataSize"] = json!("5Gi");
        object["metadata"]["generation"] = json!(99);
    });
    let message = until_reason(&bench, "ConfigReady", "ShrinkRefused").await;
    assert!(message.contains("at least 20Gi"), "{message}");
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn more_than_one_server_is_refused_and_nothing_is_changed() {
    let bench = prepared(&["my"]).await;
    let operator = bench.start();
    make(&bench, "my", simple());
    until_ready(&bench, "my").await;
    let before = child(&bench, "apps/v1", "StatefulSet", "my");
    bench.server.edit(DITTO, "DittoServer", TEAM, "my", |object| {
        object["spec"]["replicas"] = json!(3);
        object["spec"]["image"] = json!("registry.example/cairnd:2");
        object["metadata"]["generation"] = json!(99);
    });
    let message = until_reason(&bench, "Ready", "ReplicasUnsupported").await;
    assert!(message.contains("make more DittoServers"), "{message}");
    assert_eq!(child(&bench, "apps/v1", "StatefulSet", "my"), before);
    operator.stop().await;
    bench.end().await;
}

/// What is asked of the API server while a server cannot become ready.
async fn is_no_hot_loop(bench: &Bench, handle: &Handle) {
    // Once, so that what was under way is over.
    handle.look_at_everything();
    bench.until("it waits", |_| handle.is_idle()).await;
    bench.server.reset_counters();
    for _ in 0..10 {
        handle.look_at_everything();
        bench.until("it has looked", |_| handle.is_idle()).await;
    }
    assert_eq!(
        bench.server.counters().writes(),
        0,
        "{:?}",
        bench.server.counters()
    );
}

#[tokio::test]
async fn a_pod_that_cannot_start_is_told_with_what_to_look_at() {
    let bench = prepared(&["my"]).await;
    let operator = bench.start();
    let mut spec = simple();
    spec["config"]["backends"] = json!([{"name": "s3", "type": "s3", "config": {"bucket": "b"},
        "secretRefs": {"credentials": {"name": "aws", "key": "file"}}}]);
    make(&bench, "my", spec);
    until_ready(&bench, "my").await;
    // The kubelet is the test from here on.
    bench.server.set_controllers(Controllers::default());
    let broken = |status: Value| {
        bench
            .server
            .edit("v1", "Pod", TEAM, "my-0", |pod| pod["status"] = status);
        bench.server.edit("apps/v1", "StatefulSet", TEAM, "my", |set| {
            set["status"]["readyReplicas"] = json!(0);
            set["status"]["availableReplicas"] = json!(0);
        });
        operator.handle.look_at_everything();
    };
    let waiting = |reason: &str, message: &str| {
        json!({"phase": "Pending", "containerStatuses": [{"name": "cairnd", "image": "x", "imageID": "", "ready": false,
            "restartCount": 4, "state": {"waiting": {"reason": reason, "message": message}}}]})
    };
    broken(waiting("ImagePullBackOff", "Back-off pulling image"));
    let message = until_reason(&bench, "Degraded", "ImagePullBackOff").await;
    assert!(message.contains("spec.image"), "{message}");
    assert_eq!(condition(&server(&bench), "Ready").0, "False");
    assert_eq!(server(&bench)["status"]["phase"], "Failed");
    is_no_hot_loop(&bench, &operator.handle).await;
    broken(waiting("CreateContainerConfigError", "secret \"keys\" not found"));
    let message = until_reason(&bench, "ConfigReady", "SecretMissing").await;
    assert!(message.contains("secretRefs"), "{message}");
    is_no_hot_loop(&bench, &operator.handle).await;
    broken(waiting("CrashLoopBackOff", "back-off 40s"));
    let message = until_reason(&bench, "Degraded", "CrashLoopBackOff").await;
    assert!(message.contains("--previous"), "{message}");
    // A Secret that is mounted: the kubelet says only that there is no sandbox.
    let since = jiff::Timestamp::from_second(bench.clock.now().seconds())
        .unwrap()
        .to_string();
    let mut unmounted = waiting("ContainerCreating", "");
    unmounted["conditions"] = json!([
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": since},
        {"type": "PodReadyToStartContainers", "status": "False", "lastTransitionTime": since},
    ]);
    broken(unmounted);
    bench
        .until("that is not told at once", |bench| {
            condition(&server(bench), "Degraded").0 == "False"
        })
        .await;
    bench.clock.advance(61);
    operator.handle.look_at_everything();
    let message = until_reason(&bench, "ConfigReady", "VolumesNotMounted").await;
    for name in [
        "the claim data-my-0",
        "the Secret my-tls",
        "the Secret aws with the key file",
    ] {
        assert!(message.contains(name), "{message}");
    }
    is_no_hot_loop(&bench, &operator.handle).await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_class_that_is_not_there_is_told_and_heals() {
    let bench = prepared(&["my"]).await;
    let operator = bench.start();
    let mut spec = simple();
    spec["storage"]["storageClassName"] = json!("fast");
    make(&bench, "my", spec);
    let message = until_reason(&bench, "ClaimBound", "StorageClassMissing").await;
    assert!(message.contains("kubectl get storageclass"), "{message}");
    is_no_hot_loop(&bench, &operator.handle).await;
    bench.apply(json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "fast"}, "provisioner": "example.com/none"}));
    until_ready(&bench, "my").await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_load_balancer_is_waited_for() {
    let bench = prepared(&["my"]).await;
    let operator = bench.start();
    let mut spec = simple();
    spec["service"] = json!({"type": "LoadBalancer"});
    make(&bench, "my", spec);
    until_reason(&bench, "Ready", "NoAddress").await;
    bench.server.edit("v1", "Service", TEAM, "my", |service| {
        service["status"] = json!({"loadBalancer": {"ingress": [{"hostname": "nfs.example.com"}]}});
    });
    until_ready(&bench, "my").await;
    assert_eq!(server(&bench)["status"]["nfsEndpoint"], "nfs.example.com:2049");
    operator.stop().await;
    bench.end().await;
}

/// The definition of ServiceMonitors, as much as is needed of it.
fn monitors() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"plural": "servicemonitors", "singular": "servicemonitor", "kind": "ServiceMonitor", "listKind": "ServiceMonitorList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}})
}

#[tokio::test]
async fn a_service_monitor_is_made_only_where_the_cluster_knows_the_kind() {
    let bench = prepared(&["my"]).await;
    let operator = bench.start();
    let mut spec = simple();
    spec["metrics"] = json!({"enabled": true, "serviceMonitor": {"enabled": true, "interval": "30s", "labels": {"release": "p"}}});
    make(&bench, "my", spec);
    until_ready(&bench, "my").await;
    bench.apply(monitors());
    // What the cluster knows is asked again after a while.
    bench.clock.advance(601);
    operator.handle.look_at_everything();
    let monitor = |bench: &Bench| child(bench, "monitoring.coreos.com/v1", "ServiceMonitor", "my");
    bench
        .until("there is one", |bench| !monitor(bench).is_null())
        .await;
    assert_eq!(monitor(&bench)["metadata"]["labels"]["release"], "p");
    assert_eq!(monitor(&bench)["spec"]["endpoints"][0]["interval"], "30s");
    apply(&bench, |spec| {
        spec["metrics"]["serviceMonitor"]["enabled"] = json!(false)
    });
    bench.until("it is gone", |bench| monitor(bench).is_null()).await;
    operator.stop().await;
    bench.end().await;
}

fn certificate(bench: &Bench) -> Value {
    child(bench, "v1", "Secret", "cairn-ditto-tls")
}

#[tokio::test]
async fn the_operator_keeps_one_certificate_for_a_namespace_that_goes_with_its_last_server() {
    let bench = prepared(&["my", "other"]).await;
    let operator = signer(&bench);
    make(&bench, "my", simple());
    until_ready(&bench, "my").await;
    let first = certificate(&bench);
    assert_eq!(first["type"], "kubernetes.io/tls");
    for key in ["tls.crt", "tls.key", "ca.crt"] {
        assert!(first["data"][key].is_string(), "{key}");
    }
    let volumes = template(&bench)["spec"]["volumes"].to_string();
    assert!(
        volumes.contains("\"secretName\":\"cairn-ditto-tls\""),
        "{volumes}"
    );
    let before = template(&bench);
    make(&bench, "other", simple());
    until_ready(&bench, "other").await;
    let owners = |bench: &Bench| {
        let owners = certificate(bench)["metadata"]["ownerReferences"].clone();
        owners.as_array().map(Vec::len).unwrap_or(0)
    };
    bench
        .until("it belongs to both", |bench| owners(bench) == 2)
        .await;
    // The same certificate: nobody reads it again.
    assert_eq!(certificate(&bench)["data"], first["data"]);
    // It is replaced in time, and nothing restarts for that.
    bench.clock.advance(61 * 86_400);
    operator.handle.look_at_everything();
    bench
        .until("it is replaced", |bench| {
            certificate(bench)["data"]["tls.crt"] != first["data"]["tls.crt"]
        })
        .await;
    assert_eq!(certificate(&bench)["data"]["ca.crt"], first["data"]["ca.crt"]);
    assert_eq!(template(&bench), before);
    // No other Secret of the namespace has been touched: the role allows none.
    assert_eq!(bench.server.list("v1", "Secret", Some(TEAM)).len(), 1);
    for (name, left) in [("my", 1), ("other", 0)] {
        assert!(bench.server.delete(DITTO, "DittoServer", TEAM, name).unwrap());
        bench
            .until("the server is gone", |bench| named(bench, name).is_null())
            .await;
        bench
            .until("the certificate belongs to those that are left", |bench| {
                owners(bench) == left
            })
            .await;
    }
    bench
        .until("the certificate is gone", |bench| certificate(bench).is_null())
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn without_the_right_to_keep_certificates_that_is_told() {
    let bench = prepared(&["my"]).await;
    let role = ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding");
    let name = "cairn-operator-ditto-certificates";
    let binding = bench.server.get(role.0, role.1, "", name).unwrap();
    assert!(bench.server.delete(role.0, role.1, "", name).unwrap());
    let operator = signer(&bench);
    make(&bench, "my", simple());
    let message = until_reason(&bench, "ConfigReady", "CertificateNotKept").await;
    assert!(
        message.contains(name) && message.contains("spec.tls.secretName"),
        "{message}"
    );
    is_no_hot_loop(&bench, &operator.handle).await;
    let mut again = binding;
    for key in ["resourceVersion", "uid", "creationTimestamp", "managedFields"] {
        again["metadata"].as_object_mut().unwrap().remove(key);
    }
    bench.apply(again);
    operator.handle.look_at_everything();
    bench
        .until("it heals", |bench| !certificate(bench).is_null())
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn servers_are_counted_among_the_objects() {
    let bench = prepared(&["my"]).await;
    let operator = bench.start();
    make(&bench, "my", simple());
    until_ready(&bench, "my").await;
    bench
        .until("it is counted", |_| {
            let page = operator.metrics.page().unwrap();
            page.contains("cairn_operator_objects{kind=\"DittoServer\",ready=\"True\"} 1")
        })
        .await;
    operator.stop().await;
    bench.end().await;
}
