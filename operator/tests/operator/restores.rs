//! Restores: planned, run once, into the workspace or a new one.

use serde_json::json;

use super::bench::{Bench, condition};
use super::double::Fault;

async fn prepared() -> (Bench, super::bench::Running) {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench.ready("Snapshot", "s").await;
    (bench, operator)
}

#[tokio::test]
async fn a_restore_is_planned_and_then_run() {
    let (bench, operator) = prepared().await;
    bench.make_restore(
        "back",
        json!({"workspace": "data", "snapshot": "s", "into": {"inPlace": {}}}),
    );
    bench.reason("Restore", "back", "Planned").await;
    let plan = bench.restore("back").unwrap()["status"]["plan"].clone();
    assert_eq!(plan, json!({"adds": 3, "changes": 2, "deletes": 1, "bytes": 42}));
    assert_eq!(bench.double.calls("EnsureRestore"), 0);
    bench
        .double
        .with("a", |node| node.faults.push_back(Fault::ReplyLost));
    bench.make_restore(
        "back",
        json!({"workspace": "data", "snapshot": "s", "into": {"inPlace": {}}, "mode": "Run"}),
    );
    bench
        .until("the daemon was asked", |bench| {
            bench.double.calls("EnsureRestore") > 0
        })
        .await;
    operator.handle.look_at_everything();
    bench.reason("Restore", "back", "Completed").await;
    let restore = bench.restore("back").unwrap();
    assert!(restore["status"]["safetySnapshot"].is_string());
    assert_eq!(restore["status"]["phase"], "Completed");
    let history = restore["status"]["history"].to_string();
    assert!(
        history.contains("Planned") && history.contains("Completed"),
        "{history}"
    );
    // It is done once, whatever is looked at again.
    let calls = bench.double.calls("EnsureRestore");
    let handle = operator.handle.clone();
    handle.look_at_everything();
    bench.until("it has looked", |_| handle.is_idle()).await;
    assert_eq!(bench.double.calls("EnsureRestore"), calls);
    bench.delete("Restore", "back");
    bench.gone("Restore", "back").await;
    assert!(bench.double.with("a", |node| node.restores.is_empty()));
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_restore_can_make_a_new_workspace() {
    let (bench, operator) = prepared().await;
    let spec = json!({"workspace": "data", "snapshot": "s", "mode": "Run",
        "into": {"newWorkspace": {"name": "copy"}}});
    bench.make_restore("fork", spec.clone());
    bench.reason("Restore", "fork", "Completed").await;
    bench.ready("Workspace", "copy").await;
    bench.make_restore("again", spec);
    bench.reason("Restore", "again", "NameTaken").await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn what_is_in_the_way_of_a_restore_is_told() {
    let (bench, operator) = prepared().await;
    let into = json!({"inPlace": {}});
    bench.make_restore("a", json!({"workspace": "none", "snapshot": "s", "into": into}));
    bench.make_restore(
        "b",
        json!({"workspace": "data", "snapshot": "none", "into": into}),
    );
    bench.make_workspace("other", json!({}));
    bench.ready("Workspace", "other").await;
    bench.make_restore("c", json!({"workspace": "other", "snapshot": "s", "into": into}));
    bench.reason("Restore", "a", "WorkspaceNotFound").await;
    bench.reason("Restore", "b", "SnapshotNotFound").await;
    let foreign = bench.reason("Restore", "c", "SnapshotForeign").await;
    assert!(condition(&foreign, "Ready").2.contains("data"));
    // It heals when the snapshot appears.
    bench.make_snapshot("none", json!({"workspace": "data"}));
    bench.reason("Restore", "b", "Planned").await;
    operator.stop().await;
    bench.end().await;
}
