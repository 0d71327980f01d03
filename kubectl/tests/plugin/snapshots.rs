//! Listing, and taking snapshots.

use rustix::process::Signal;
use serde_json::json;

use super::cluster::{Cluster, JVS, TEAM, ended, signal};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workspaces_and_snapshots_are_listed() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    let listed = cluster.run(&["list"]).await.ended(0);
    assert!(listed.out.starts_with("NAME    READY   NODE"), "{}", listed.out);
    assert!(
        listed.out.contains("\nnotes   True    a      10Gi"),
        "{}",
        listed.out
    );
    let everywhere = cluster.run(&["list", "-A"]).await.ended(0);
    assert!(
        everywhere.out.contains("\nteam        notes"),
        "{}",
        everywhere.out
    );
    let elsewhere = cluster.run(&["list", "-n", "default"]).await.ended(0);
    assert!(elsewhere.out.contains("no workspace in namespace default"));

    let listed = cluster.run(&["list", "notes"]).await.ended(0);
    assert!(
        listed.out.contains("\nbefore   True    1.2 KiB   no")
            && listed.out.contains("keep,v1   before the upgrade"),
        "{}",
        listed.out
    );
    let json = cluster.run(&["list", "notes", "--json"]).await.ended(0).json();
    let snapshot = &json["snapshots"][0];
    assert_eq!(json["workspace"], "notes");
    assert_eq!(snapshot["bytes"], 1234);
    assert_eq!(snapshot["tags"], json!(["keep", "v1"]));
    assert_eq!(snapshot["verified"], "Unknown");
    assert!(snapshot["id"].is_string() && snapshot["created"].is_string());
    let json = cluster.run(&["list", "--json"]).await.ended(0).json();
    assert_eq!(json["workspaces"][0]["name"], "notes");
    assert_eq!(json["workspaces"][0]["ready"], "True");
    let missing = cluster.run(&["list", "none"]).await.ended(3);
    assert!(missing.err.contains("none"), "{}", missing.err);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_object_that_cannot_be_read_hides_no_other() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    cluster.apply("Workspace", "broken", json!({}));
    cluster.server.edit(JVS, "Workspace", TEAM, "broken", |object| {
        object["spec"]["storage"] = json!({"not": "a size"});
    });
    let listed = cluster.run(&["list"]).await.ended(0);
    assert!(listed.out.contains("notes") && listed.err.contains("team/broken cannot be read"));
    let json = cluster.run(&["list", "--json"]).await.ended(0).json();
    assert_eq!(json["unreadable"][0]["name"], "broken");
    // It can be explained all the same.
    cluster.run(&["explain", "broken"]).await.ended(0);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_taken_and_waited_for() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    cluster.double.with("a", |node| node.slowness = 1);
    let taken = cluster
        .run(&[
            "snapshot",
            "notes",
            "--name",
            "now",
            "-m",
            "a note",
            "--tag",
            "x",
            "--template",
            "release",
            "--wait",
        ])
        .await
        .ended(0);
    assert!(
        taken
            .out
            .starts_with("Snapshot now of workspace notes is there, 1.2 KiB\n"),
        "{}",
        taken.out
    );
    let snapshot = cluster.get("Snapshot", "now").unwrap();
    assert_eq!(snapshot["spec"]["note"], "a note");
    assert_eq!(snapshot["spec"]["template"], "release");
    // The same again is refused: nothing is taken twice under one name.
    let again = cluster
        .run(&["snapshot", "notes", "--name", "now"])
        .await
        .ended(4);
    assert!(again.err.contains("already exists"), "{}", again.err);
    // Without a name each is another one.
    for _ in 0..2 {
        let json = cluster
            .run(&["snapshot", "notes", "--json"])
            .await
            .ended(0)
            .json();
        assert_eq!(json["snapshot"]["workspace"], "notes");
    }
    assert_eq!(cluster.list("Snapshot").len(), 4);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_by_a_refusal_a_time_or_a_signal() {
    let cluster = Cluster::without_operator().await;
    cluster.apply("Workspace", "notes", json!({}));
    let late = cluster
        .run(&["snapshot", "notes", "--name", "s", "--wait", "--timeout", "1s"])
        .await
        .ended(24);
    assert!(
        late.err.contains("no operator has looked at it yet") && late.err.contains("explain snapshot/s"),
        "{}",
        late.err
    );
    // What was made stays, and says so.
    assert!(cluster.get("Snapshot", "s").is_some());
    let child = cluster.spawn(&["snapshot", "notes", "--name", "t", "--wait"]);
    cluster.until("it is made", || cluster.get("Snapshot", "t")).await;
    signal(&child, Signal::INT);
    let ran = ended(child).await.ended(13);
    assert!(ran.err.contains("Snapshot t goes on being taken"), "{}", ran.err);
    cluster.end().await;
}
