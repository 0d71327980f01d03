//! Workspaces: made, used, grown, refused, given up, deleted.

use serde_json::json;

use super::bench::{Bench, JVS, MIDNIGHT, NAMESPACE, TEAM, condition};

#[tokio::test]
async fn a_workspace_becomes_a_claim_that_is_bound_to_an_nfs_volume() {
    let bench = Bench::new(&["a", "b"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({"storage": "20Gi", "mountOptions": ["nconnect=4"]}));
    bench.ready("Workspace", "data").await;

    let workspace = bench.workspace("data").unwrap();
    let status = &workspace["status"];
    let uid = workspace["metadata"]["uid"].as_str().unwrap();
    assert_eq!(status["claimName"], "data");
    assert_eq!(status["capacity"], "20Gi");
    assert_eq!(status["readyReplicas"], 1);
    assert_eq!(status["phase"], "Ready");
    assert_eq!(status["endpoint"]["path"], "/team.data");
    assert_eq!(status["observedGeneration"], workspace["metadata"]["generation"]);

    let claim = bench
        .server
        .get("v1", "PersistentVolumeClaim", TEAM, "data")
        .unwrap();
    assert_eq!(claim["status"]["phase"], "Bound");
    let volume = bench
        .server
        .get("v1", "PersistentVolume", "", &format!("cairn-{uid}"))
        .unwrap();
    assert_eq!(volume["spec"]["nfs"]["server"], status["endpoint"]["server"]);
    assert_eq!(volume["spec"]["nfs"]["path"], "/team.data");
    let options = volume["spec"]["mountOptions"].to_string();
    assert!(
        options.contains("vers=3") && options.contains("nconnect=4"),
        "{options}"
    );

    // The server of the volume is the stable address of the node's Service.
    let services = bench.server.list("v1", "Service", Some(NAMESPACE));
    let node = status["nodeName"].as_str().unwrap();
    assert_eq!(services.len(), 2);
    assert!(services.iter().any(|service| {
        service["spec"]["clusterIP"] == status["endpoint"]["server"]
            && service["metadata"]["name"]
                .as_str()
                .unwrap()
                .starts_with(&format!("cairn-node-{node}-"))
    }));
    assert_eq!(bench.double.workspace_keys(), [uid]);
    let request = bench
        .double
        .with(node, |node| node.workspaces["team.data"].request.clone());
    assert_eq!(request.capacity_bytes, 20 << 30);
    assert!(request.export.unwrap().allow.contains(&"10.0.0.0/8".to_owned()));
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_settled_cluster_is_left_alone() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench.ready("Snapshot", "s").await;
    bench
        .until("the snapshot is counted", |bench| {
            bench.workspace("data").unwrap()["status"]["snapshotCount"] == 1
        })
        .await;
    let handle = operator.handle.clone();
    // Once more, so that the node has told how many workspaces it has.
    handle.look_at_everything();
    bench
        .until("nothing is to be done", |bench| {
            let node = bench.server.get(JVS, "StorageNode", "", "a").unwrap();
            handle.is_idle() && node["status"]["workspaces"] == 1
        })
        .await;
    bench.server.reset_counters();
    let calls = bench.double.calls("EnsureSnapshot") + bench.double.calls("EnsureWorkspace");
    for _ in 0..5 {
        bench.clock.advance(20);
        handle.look_at_everything();
        bench.until("it has looked", |_| handle.is_idle()).await;
    }
    assert_eq!(
        bench.server.counters().writes(),
        0,
        "{:?}",
        bench.server.counters()
    );
    assert_eq!(
        bench.double.calls("EnsureSnapshot") + bench.double.calls("EnsureWorkspace"),
        calls
    );
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_workspace_grows_and_does_not_shrink() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({"storage": "10Gi"}));
    bench.ready("Workspace", "data").await;
    bench.make_workspace("data", json!({"storage": "30Gi"}));
    bench
        .until("it has grown", |bench| {
            bench.workspace("data").unwrap()["status"]["capacity"] == "30Gi"
        })
        .await;
    let uid = bench.workspace("data").unwrap()["metadata"]["uid"].clone();
    let volume = format!("cairn-{}", uid.as_str().unwrap());
    bench
        .until("the volume tells it", |bench| {
            let volume = bench.server.get("v1", "PersistentVolume", "", &volume).unwrap();
            volume["spec"]["capacity"]["storage"] == "30Gi"
        })
        .await;
    let claim = bench
        .server
        .get("v1", "PersistentVolumeClaim", TEAM, "data")
        .unwrap();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "10Gi");
    // The schema refuses what is smaller.
    let smaller = json!({"apiVersion": JVS, "kind": "Workspace",
        "metadata": {"name": "data", "namespace": TEAM}, "spec": {"storage": "1Gi"}});
    assert!(bench.server.put(smaller).is_err());
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn fields_that_cannot_be_honoured_are_named() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace(
        "data",
        json!({"juiceFsConfig": {"source": "redis://r:6379/1"},
            "autoSnapshot": {"enabled": true, "schedule": "@daily", "skipUnchanged": true}}),
    );
    bench.ready("Workspace", "data").await;
    let workspace = bench.workspace("data").unwrap();
    let (status, reason, message) = condition(&workspace, "FieldsSupported");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "UnsupportedField"));
    assert!(
        message.contains("juiceFsConfig") && message.contains("backing.pvc"),
        "{message}"
    );
    assert!(message.contains("skipUnchanged"), "{message}");
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_workspace_waits_for_a_node_that_can_have_it() {
    let bench = Bench::new(&["a", "b"]).await;
    bench.double.with("a", |node| node.free = 1 << 30);
    bench.double.with("b", |node| node.is_up = false);
    let operator = bench.start();
    bench.make_workspace("data", json!({"storage": "10Gi"}));
    bench
        .until("it is told why", |bench| {
            let (_, reason, message) = condition(&bench.workspace("data").unwrap(), "Ready");
            reason == "NoNodeFits"
                && message.contains("a has 1Gi free of the 10Gi")
                && message.contains("b does not answer")
        })
        .await;
    assert_eq!(bench.workspace("data").unwrap()["status"]["phase"], "Pending");
    bench.double.with("b", |node| node.is_up = true);
    operator.handle.look_at_everything();
    bench.ready("Workspace", "data").await;
    assert_eq!(bench.workspace("data").unwrap()["status"]["nodeName"], "b");
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn nodes_are_chosen_by_selector_and_not_when_cordoned() {
    let bench = Bench::new(&["a", "b", "c"]).await;
    let operator = bench.start();
    bench
        .until("the nodes are known", |bench| {
            bench.server.list(JVS, "StorageNode", None).len() == 3
        })
        .await;
    bench.make_workspace("there", json!({"placement": {"nodeSelector": {"disk": "c"}}}));
    bench.ready("Workspace", "there").await;
    assert_eq!(bench.workspace("there").unwrap()["status"]["nodeName"], "c");
    for node in ["a", "b"] {
        bench.server.edit(JVS, "StorageNode", "", node, |object| {
            object["spec"]["cordoned"] = json!(true);
        });
    }
    bench
        .until("the operator knows", |_| {
            let caches = operator.handle.caches();
            caches
                .nodes
                .all()
                .iter()
                .filter(|node| node.spec.cordoned)
                .count()
                == 2
        })
        .await;
    for name in ["x", "y", "z"] {
        bench.make_workspace(name, json!({}));
        bench.ready("Workspace", name).await;
        assert_eq!(bench.workspace(name).unwrap()["status"]["nodeName"], "c");
    }
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn deletion_keeps_the_data_unless_it_is_to_go() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("kept", json!({}));
    bench.make_workspace("dropped", json!({"deletionPolicy": "Delete"}));
    for name in ["kept", "dropped"] {
        bench.ready("Workspace", name).await;
        bench.make_snapshot(&format!("of-{name}"), json!({"workspace": name}));
        bench.ready("Snapshot", &format!("of-{name}")).await;
    }
    bench.delete("Workspace", "kept");
    bench.delete("Workspace", "dropped");
    bench.gone("Workspace", "kept").await;
    bench.gone("Workspace", "dropped").await;
    assert_eq!(bench.double.workspace_names(), ["team.kept"]);
    assert!(bench.double.workspace_keys().is_empty());
    assert_eq!(bench.double.snapshot_keys().len(), 1);
    assert!(bench.snapshot("of-kept").is_some());
    assert!(bench.snapshot("of-dropped").is_none());
    for kind in ["PersistentVolume", "PersistentVolumeClaim"] {
        assert!(bench.server.list("v1", kind, None).is_empty(), "{kind}");
    }
    // A Workspace of the same name finds the data again.
    bench.make_workspace("kept", json!({}));
    bench.ready("Workspace", "kept").await;
    assert_eq!(bench.double.workspace_names(), ["team.kept"]);
    // A snapshot of a workspace that was deleted can still go.
    bench.delete("Snapshot", "of-kept");
    bench.gone("Snapshot", "of-kept").await;
    assert!(bench.double.snapshot_keys().is_empty());
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn deletion_waits_for_a_node_that_is_away_and_abandoning_is_an_explicit_word() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({"deletionPolicy": "Delete"}));
    bench.ready("Workspace", "data").await;
    bench.double.with("a", |node| node.is_up = false);
    bench.delete("Workspace", "data");
    let workspace = bench.reason("Workspace", "data", "NodeAway").await;
    let (status, _, message) = condition(&workspace, "Ready");
    assert_eq!(status, "Unknown");
    assert!(message.contains("jvs.io/abandon=a"), "{message}");

    // A word about another node is none.
    let annotate = |node: &str| {
        bench.server.edit(JVS, "Workspace", TEAM, "data", |object| {
            object["metadata"]["annotations"]["jvs.io/abandon"] = json!(node);
        });
    };
    annotate("b");
    bench
        .until("the other node is named", |bench| {
            condition(&bench.workspace("data").unwrap(), "Ready")
                .2
                .contains("names b")
        })
        .await;
    annotate("a");
    bench.gone("Workspace", "data").await;
    assert_eq!(bench.double.workspace_names(), ["team.data"]);
    // When the node comes back, it is told.
    bench.double.with("a", |node| node.is_up = true);
    operator.handle.look_at_everything();
    bench
        .until("the stray is gone", |bench| {
            bench.double.workspace_names().is_empty()
        })
        .await;
    bench
        .until("nothing is remembered", |bench| {
            bench.server.list("v1", "ConfigMap", Some(NAMESPACE)).is_empty()
        })
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_node_that_is_away_takes_nothing_away() {
    let bench = Bench::new(&["a", "b"]).await;
    let operator = bench.start();
    bench.make_workspace("on-a", json!({"placement": {"nodeName": "a"}}));
    bench.make_workspace("on-b", json!({"placement": {"nodeName": "b"}}));
    bench.ready("Workspace", "on-a").await;
    bench.ready("Workspace", "on-b").await;
    bench.double.with("a", |node| node.is_up = false);
    operator.handle.look_at_everything();
    let away = bench.reason("Workspace", "on-a", "NodeAway").await;
    assert_eq!(condition(&away, "Ready").0, "Unknown");
    assert_eq!(condition(&away, "NodeReachable").0, "False");
    assert_eq!(away["status"]["nodeName"], "a");
    assert!(
        bench
            .server
            .get("v1", "PersistentVolumeClaim", TEAM, "on-a")
            .is_some()
    );
    // The other node is served as before.
    bench.make_snapshot("s", json!({"workspace": "on-b"}));
    bench.ready("Snapshot", "s").await;
    bench.double.with("a", |node| {
        node.is_up = true;
        node.instance += 1;
    });
    operator.handle.look_at_everything();
    bench.ready("Workspace", "on-a").await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn snapshots_are_taken_by_the_clock_and_removed_by_the_rules() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace(
        "data",
        json!({"autoSnapshot": {"enabled": true, "schedule": "0 * * * *", "template": "work", "maxSnapshots": 3},
            "retentionPolicy": {"keepMinSnapshots": 1, "keepMinAge": "1h"}}),
    );
    bench.ready("Workspace", "data").await;
    bench
        .until("the next time is told", |bench| {
            bench.workspace("data").unwrap()["status"]["nextSnapshotTime"] == "2026-11-21T01:00:00Z"
        })
        .await;
    for hour in 1..=6i64 {
        bench.clock.advance(3600);
        operator.handle.look_at_everything();
        let name = format!("data-{}", (MIDNIGHT + hour * 3600) / 60);
        bench.ready("Snapshot", &name).await;
        let snapshot = bench.snapshot(&name).unwrap();
        assert_eq!(snapshot["spec"]["template"], "work");
        // Looking again makes no second one.
        operator.handle.look_at_everything();
    }
    bench
        .until("only so many are left", |bench| {
            bench.server.list(JVS, "Snapshot", Some(TEAM)).len() == 3
        })
        .await;
    bench
        .until("the daemon has as many", |bench| {
            bench.double.snapshot_keys().len() == 3
        })
        .await;
    assert_eq!(bench.double.calls("DeleteSnapshot"), 3);
    bench
        .until("the status tells what stays", |bench| {
            let status = bench.workspace("data").unwrap()["status"].clone();
            status["retention"]["keepCount"] == 3
                && status["snapshotCount"] == 3
                && status["lastSnapshotTime"] == "2026-11-21T06:00:00Z"
        })
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_workspace_begins_with_a_snapshot_on_the_node_that_has_it() {
    let bench = Bench::new(&["a", "b", "c"]).await;
    let operator = bench.start();
    bench.make_workspace("copy", json!({"initialSnapshot": "s"}));
    bench.reason("Workspace", "copy", "InitialSnapshotNotFound").await;
    bench.make_workspace("data", json!({"placement": {"nodeName": "b"}}));
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench.ready("Workspace", "copy").await;
    let copy = bench.workspace("copy").unwrap();
    assert_eq!(copy["status"]["nodeName"], "b");
    let source = bench
        .double
        .with("b", |node| node.workspaces["team.copy"].request.source.clone())
        .unwrap();
    assert_eq!(source.workspace, "team.data");
    assert_eq!(
        source.snapshot,
        bench.snapshot("s").unwrap()["status"]["snapshotID"]
    );
    // The snapshot is not needed any more; the request stays the same.
    bench.delete("Snapshot", "s");
    bench.gone("Snapshot", "s").await;
    bench.server.edit(JVS, "Workspace", TEAM, "copy", |object| {
        object["spec"]["storage"] = json!("40Gi");
        object["metadata"]["generation"] = json!(2);
    });
    bench
        .until("it grows", |bench| {
            bench.workspace("copy").unwrap()["status"]["capacity"] == "40Gi"
        })
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_foreign_claim_of_the_name_is_not_taken_over() {
    let bench = Bench::new(&["a"]).await;
    let foreign = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": TEAM},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    bench.apply(foreign);
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    let workspace = bench.reason("Workspace", "data", "NameTaken").await;
    assert!(condition(&workspace, "Ready").2.contains("remove it"));
    let claim = bench
        .server
        .get("v1", "PersistentVolumeClaim", TEAM, "data")
        .unwrap();
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_paused_workspace_is_left_as_it_is() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({"storage": "10Gi"}));
    bench.ready("Workspace", "data").await;
    bench.make_workspace("data", json!({"storage": "20Gi", "paused": true}));
    bench
        .until("it is paused", |bench| {
            condition(&bench.workspace("data").unwrap(), "Progressing").1 == "Paused"
        })
        .await;
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench.reason("Snapshot", "s", "WorkspacePaused").await;
    let capacity = |bench: &Bench| {
        bench
            .double
            .with("a", |node| node.workspaces["team.data"].managed.capacity_bytes)
    };
    assert_eq!(capacity(&bench), 10 << 30);
    bench.make_workspace("data", json!({"storage": "20Gi"}));
    bench.ready("Snapshot", "s").await;
    assert_eq!(capacity(&bench), 20 << 30);
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn claims_and_directories_that_were_there_before_are_adopted() {
    let bench = Bench::new(&["a", "b"]).await;
    let operator = bench.start();
    bench.make_workspace("adopted", json!({"backing": {"pvc": {"claimName": "old"}}}));
    bench.reason("Workspace", "adopted", "ClaimNotFound").await;
    bench.apply(
        json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv-old"},
        "spec": {"accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"},
            "csi": {"driver": "csi.juicefs.com", "volumeHandle": "h"}}}),
    );
    bench.apply(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "old", "namespace": TEAM},
        "spec": {"accessModes": ["ReadWriteMany"], "volumeName": "pv-old",
            "resources": {"requests": {"storage": "1Gi"}}}}));
    operator.handle.look_at_everything();
    bench.reason("Workspace", "adopted", "ClaimNotMounted").await;
    bench.apply(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user", "namespace": TEAM},
        "spec": {"nodeName": "b", "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "old"}}]},
        "status": {"phase": "Running"}}),
    );
    operator.handle.look_at_everything();
    bench.ready("Workspace", "adopted").await;
    let pod = bench.server.get("v1", "Pod", TEAM, "user").unwrap();
    let request = bench
        .double
        .with("b", |node| node.workspaces["team.adopted"].request.clone());
    let expected = format!(
        "/var/lib/kubelet/pods/{}/volumes/kubernetes.io~csi/pv-old/mount",
        pod["metadata"]["uid"].as_str().unwrap()
    );
    let Some(cairn_api::proto::ensure_workspace_request::Backing::Directory(directory)) = request.backing
    else {
        panic!("it is no directory");
    };
    assert_eq!(String::from_utf8(directory.path).unwrap(), expected);
    assert_eq!(bench.workspace("adopted").unwrap()["status"]["claimName"], "old");

    bench.make_workspace(
        "path",
        json!({"backing": {"hostPath": {"path": "/srv/data"}}, "placement": {"nodeName": "a"}}),
    );
    bench.ready("Workspace", "path").await;
    // What was there before stays, whatever the policy says.
    bench.delete("Workspace", "adopted");
    bench.gone("Workspace", "adopted").await;
    assert!(
        bench
            .server
            .get("v1", "PersistentVolumeClaim", TEAM, "old")
            .is_some()
    );
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_node_without_room_is_told_and_heals() {
    let bench = Bench::new(&["a"]).await;
    bench
        .double
        .with("a", |node| node.faults.push_back(super::double::Fault::NoSpace));
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    let workspace = bench.reason("Workspace", "data", "NoSpace").await;
    assert!(condition(&workspace, "Ready").2.contains("free some space"));
    assert_eq!(workspace["status"]["phase"], "Failed");
    operator.handle.look_at_everything();
    bench.ready("Workspace", "data").await;
    operator.stop().await;
    bench.end().await;
}
