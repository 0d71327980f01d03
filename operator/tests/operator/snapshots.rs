//! Snapshots: taken once, told honestly, restored on creation, deleted.

use serde_json::json;

use super::bench::{Bench, TEAM, condition};
use super::double::Fault;

#[tokio::test]
async fn a_snapshot_waits_for_its_workspace_and_heals() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_snapshot(
        "s",
        json!({"workspace": "later", "note": "n", "tags": ["v1"], "template": "release"}),
    );
    let snapshot = bench.reason("Snapshot", "s", "WorkspaceNotFound").await;
    assert_eq!(snapshot["status"]["phase"], "Pending");
    bench.make_workspace("later", json!({}));
    bench.ready("Snapshot", "s").await;
    let snapshot = bench.snapshot("s").unwrap();
    let status = &snapshot["status"];
    assert_eq!(status["nodeName"], "a");
    assert_eq!(status["engine"], "volume");
    assert_eq!(status["size"], 1234);
    assert_eq!(status["integrityState"], "unverified");
    assert_eq!(status["snapshotID"].as_str().unwrap().len(), 32);
    let key = format!("snapshot/{}", snapshot["metadata"]["uid"].as_str().unwrap());
    let request = bench
        .double
        .with("a", |node| node.snapshots[&key].request.clone());
    assert_eq!(request.tags, ["v1", "release", "stable"]);
    assert_eq!(request.note, "n");
    assert_eq!(request.engine, "");
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_snapshot() {
    for fault in [Fault::Lost, Fault::ReplyLost, Fault::Restart] {
        let bench = Bench::new(&["a"]).await;
        let operator = bench.start();
        bench.make_workspace("data", json!({}));
        bench.ready("Workspace", "data").await;
        bench.double.with("a", |node| {
            node.faults = vec![fault; 3].into();
        });
        bench.make_snapshot("s", json!({"workspace": "data"}));
        for _ in 0..4 {
            operator.handle.look_at_everything();
        }
        bench.ready("Snapshot", "s").await;
        assert_eq!(bench.double.snapshot_keys().len(), 1, "{fault:?}");
        operator.stop().await;
        bench.end().await;
    }
}

#[tokio::test]
async fn progress_is_told_while_it_is_taken() {
    let bench = Bench::new(&["a"]).await;
    bench.double.with("a", |node| node.slowness = 2);
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench
        .until("it is told how far it is", |bench| {
            let status = bench.snapshot("s").unwrap()["status"].clone();
            status["phase"] == "InProgress"
                && status["progress"]["bytesDone"] == 500
                && status["operationID"] == "op-1"
        })
        .await;
    operator.handle.look_at_everything();
    bench.ready("Snapshot", "s").await;
    let status = bench.snapshot("s").unwrap()["status"].clone();
    assert!(status["progress"].is_null() && status["operationID"].is_null());
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn what_the_daemon_cannot_do_is_told_and_not_repeated() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.make_snapshot("part", json!({"workspace": "data", "partialPaths": ["models"]}));
    let snapshot = bench.reason("Snapshot", "part", "FeatureUnsupported").await;
    assert_eq!(snapshot["status"]["phase"], "Failed");
    assert!(condition(&snapshot, "Ready").2.contains("leave partialPaths out"));
    let handle = operator.handle.clone();
    bench.until("nothing is to be done", |_| handle.is_idle()).await;
    // Once, and perhaps once more when its Workspace has counted it; then nobody asks again.
    let calls = bench.double.calls("EnsureSnapshot");
    assert!((1..=2).contains(&calls), "{calls} calls");
    // Fields that mean nothing for a volume are named, and the snapshot is there.
    bench.make_snapshot(
        "all",
        json!({"workspace": "data", "engine": "copy", "compression": {"type": "gzip", "level": 6}}),
    );
    bench.ready("Snapshot", "all").await;
    let (status, _, message) = condition(&bench.snapshot("all").unwrap(), "FieldsSupported");
    assert_eq!(status, "False");
    assert!(
        message.contains("engine copy") && message.contains("compression"),
        "{message}"
    );
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_snapshot_is_read_back_when_that_is_asked_for() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.make_snapshot("s", json!({"workspace": "data", "verify": true}));
    bench
        .until("it is verified", |bench| {
            condition(&bench.snapshot("s").unwrap(), "Verified").0 == "True"
        })
        .await;
    assert_eq!(
        bench.snapshot("s").unwrap()["status"]["integrityState"],
        "verified"
    );
    bench.double.with("a", |node| {
        node.without.insert("verify");
    });
    bench.make_snapshot("t", json!({"workspace": "data", "verify": true}));
    bench.ready("Snapshot", "t").await;
    bench
        .until("it is told that it cannot be", |bench| {
            condition(&bench.snapshot("t").unwrap(), "Verified").1 == "FeatureUnsupported"
        })
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_snapshot_can_become_a_workspace_at_once() {
    let bench = Bench::new(&["a", "b"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({"storage": "12Gi"}));
    bench.make_workspace("taken", json!({}));
    bench.make_snapshot(
        "s",
        json!({"workspace": "data", "restoreOnCreate": true, "restoreWorktree": "experiment"}),
    );
    bench.ready("Workspace", "experiment").await;
    bench
        .until("the snapshot tells it", |bench| {
            bench.snapshot("s").unwrap()["status"]["restoreStatus"]["phase"] == "Completed"
        })
        .await;
    let made = bench.workspace("experiment").unwrap();
    assert_eq!(made["spec"]["storage"], "12Gi");
    assert_eq!(made["spec"]["initialSnapshot"], "s");
    assert_eq!(
        made["status"]["nodeName"],
        bench.workspace("data").unwrap()["status"]["nodeName"]
    );
    bench.make_snapshot(
        "t",
        json!({"workspace": "data", "restoreOnCreate": true, "restoreWorktree": "taken"}),
    );
    bench
        .until("the name is taken", |bench| {
            bench
                .snapshot("t")
                .is_some_and(|snapshot| condition(&snapshot, "Restored").1 == "NameTaken")
        })
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn deleting_a_snapshot_deletes_the_data_unless_it_is_to_stay() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.make_snapshot("gone", json!({"workspace": "data"}));
    bench.make_snapshot("stays", json!({"workspace": "data", "deletionPolicy": "Retain"}));
    bench.ready("Snapshot", "gone").await;
    bench.ready("Snapshot", "stays").await;
    bench
        .double
        .with("a", |node| node.faults.push_back(Fault::ReplyLost));
    bench.delete("Snapshot", "gone");
    bench.delete("Snapshot", "stays");
    operator.handle.look_at_everything();
    bench.gone("Snapshot", "gone").await;
    bench.gone("Snapshot", "stays").await;
    assert_eq!(bench.double.snapshot_keys().len(), 1);
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_snapshot_of_a_workspace_in_deletion_is_refused() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.ready("Workspace", "data").await;
    bench.double.with("a", |node| node.is_up = false);
    bench.delete("Workspace", "data");
    bench.reason("Workspace", "data", "NodeAway").await;
    bench.make_snapshot("s", json!({"workspace": "data"}));
    let snapshot = bench.reason("Snapshot", "s", "WorkspaceDeleting").await;
    assert_eq!(snapshot["metadata"]["namespace"], TEAM);
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn transitions_are_events_and_looking_again_is_none() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench.reason("Snapshot", "s", "WorkspaceNotFound").await;
    bench.make_workspace("data", json!({}));
    bench.ready("Snapshot", "s").await;
    let events = |bench: &Bench| {
        let all = bench.server.list("events.k8s.io/v1", "Event", Some(TEAM));
        let mut reasons: Vec<String> = all
            .iter()
            .filter(|event| event["regarding"]["kind"] == "Snapshot")
            .map(|event| event["reason"].as_str().unwrap().to_owned())
            .collect();
        reasons.sort();
        reasons
    };
    bench
        .until("the end is an event", |bench| {
            events(bench).contains(&"Ready".to_owned())
        })
        .await;
    let before = events(&bench);
    assert!(before.contains(&"WorkspaceNotFound".to_owned()), "{before:?}");
    let handle = operator.handle.clone();
    for _ in 0..3 {
        handle.look_at_everything();
        bench.until("it has looked", |_| handle.is_idle()).await;
    }
    assert_eq!(events(&bench), before);
    operator.stop().await;
    bench.end().await;
}
