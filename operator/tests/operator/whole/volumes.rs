//! Volumes: written over NFS as pods write, captured, broken, restored.

use serde_json::json;

use super::{filled, restored_on_create};
use crate::bench::{Bench, TEAM};
use crate::real::data::ruin;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_before_a_snapshot_is_there_after_the_restore() {
    let bench = Bench::real(&["a", "b"]).await;
    let operator = bench.start();
    let (_kept, tree) = filled(&bench, &json!({})).await;
    bench.make_snapshot(
        "s",
        json!({"workspace": "data", "tags": ["v1"], "restoreOnCreate": true, "restoreWorktree": "copy"}),
    );
    bench.ready("Snapshot", "s").await;
    let snapshot = bench.snapshot("s").unwrap();
    let totals = tree.totals();
    assert_eq!(snapshot["status"]["size"], totals.bytes);
    restored_on_create(&bench, "s").await;
    bench.ready("Workspace", "copy").await;
    bench
        .assert_holds(TEAM, "copy", &tree, "what began with it")
        .await;

    let (client, root) = bench.volume(TEAM, "data").mount().await;
    let ruined = ruin(&client, &root).await;
    // First what would be done, then it is done.
    let spec = json!({"workspace": "data", "snapshot": "s", "into": {"inPlace": {}}});
    bench.make_restore("back", spec.clone());
    bench.reason("Restore", "back", "Planned").await;
    let plan = bench.restore("back").unwrap()["status"]["plan"].clone();
    assert_eq!(plan["adds"], ruined.removed, "{plan}");
    assert_eq!(plan["deletes"], 0, "{plan}");
    assert!(plan["changes"].as_u64().unwrap() >= ruined.changed, "{plan}");
    let mut run = spec;
    run["mode"] = json!("Run");
    bench.make_restore("back", run);
    bench.reason("Restore", "back", "Completed").await;
    bench.assert_holds(TEAM, "data", &tree, "the restore").await;
    // The mount that was there goes on.
    client.getattr(&root).await.unwrap();

    // What was replaced is a snapshot, too, and what was ruined comes back from it.
    let safety = bench.restore("back").unwrap()["status"]["safetySnapshot"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(safety.len(), 32);
    let held = bench.held().await;
    assert_eq!(held.snapshots.len(), 1, "{held:?}");
    assert_eq!(held.snapshots[0].id, snapshot["status"]["snapshotID"]);
    // And the other workspace has not noticed anything.
    bench
        .assert_holds(TEAM, "copy", &tree, "the restore of another workspace")
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_into_a_new_workspace_leaves_the_old_one_alone() {
    let bench = Bench::real(&["a"]).await;
    let operator = bench.start();
    let (_kept, tree) = filled(&bench, &json!({})).await;
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench.ready("Snapshot", "s").await;
    let (client, root) = bench.volume(TEAM, "data").mount().await;
    ruin(&client, &root).await;
    let ruined = bench.tree(TEAM, "data").await;
    bench.make_restore(
        "fork",
        json!({"workspace": "data", "snapshot": "s", "mode": "Run",
            "into": {"newWorkspace": {"name": "before"}}}),
    );
    bench.reason("Restore", "fork", "Completed").await;
    bench.ready("Workspace", "before").await;
    bench
        .assert_holds(TEAM, "before", &tree, "the new workspace")
        .await;
    bench
        .assert_holds(TEAM, "data", &ruined, "the old workspace")
        .await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_mount_and_how_much_they_may_write_is_as_specified() {
    let bench = Bench::real(&["a"]).await;
    let operator = bench.start();
    let others = json!({"clients": ["10.0.0.0/8"]});
    bench.make_workspace("closed", json!({"storage": "1Gi", "export": others}));
    bench.ready("Workspace", "closed").await;
    let volume = bench.volume(TEAM, "closed");
    let port = format!("mountport={}", volume.port);
    assert!(volume.options.contains(&port), "{volume:?}");
    assert_ne!(
        volume.server,
        volume.at.ip().to_string(),
        "pods go by the Service"
    );
    let client = cairn_e2e::client::Client::connect(volume.at, Default::default())
        .await
        .unwrap();
    client.mount(&volume.path).await.unwrap_err();
    bench.make_workspace("closed", super::open_workspace(&json!({"storage": "1Gi"})));
    let opened = |bench: &Bench| {
        let workspace = bench.workspace("closed").unwrap();
        workspace["status"]["observedGeneration"] == workspace["metadata"]["generation"]
    };
    bench.until("the change has been seen", opened).await;
    super::idle(&bench, &operator).await;
    let root = client.mount(&volume.path).await.unwrap();
    // `df` of a pod shows what the Workspace asked for.
    let (total, _) = client.capacity(&root).await.unwrap();
    assert_eq!(total, 1 << 30);
    bench.make_workspace("closed", super::open_workspace(&json!({"storage": "2Gi"})));
    bench
        .until("it has grown", |bench| {
            bench.workspace("closed").unwrap()["status"]["capacity"] == "2Gi"
        })
        .await;
    assert_eq!(client.capacity(&root).await.unwrap().0, 2 << 30);
    operator.stop().await;
    bench.end().await;
}
