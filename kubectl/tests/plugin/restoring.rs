//! Restores: planned, agreed to, run; and what is left if they are not.

use super::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_changes_nothing_and_leaves_nothing() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    let planned = cluster
        .run(&["restore", "before", "--in-place", "--plan"])
        .await
        .ended(0);
    assert_eq!(
        planned.out,
        "workspace notes would become as snapshot before: 3 entries come back, 2 change, 1 go; 42 B are written\n\
         nothing was done\n"
    );
    assert!(cluster.list("Restore").is_empty());
    assert_eq!(cluster.double.calls("EnsureRestore"), 0);
    let json = cluster
        .run(&["restore", "before", "--in-place", "--plan", "--json"])
        .await
        .ended(0)
        .json();
    assert_eq!(json["done"], false);
    assert_eq!(json["restore"]["plan"]["adds"], 3);
    // Nobody can be asked here.
    let asked = cluster.run(&["restore", "before", "--in-place"]).await.ended(2);
    assert!(asked.err.contains("--yes"), "{}", asked.err);
    assert!(cluster.list("Restore").is_empty());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_in_place_is_done_once_and_can_be_undone() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    let done = cluster
        .run(&[
            "restore",
            "before",
            "--in-place",
            "--path",
            "a/b",
            "--yes",
            "--wait",
            "--json",
        ])
        .await
        .ended(0)
        .json();
    assert_eq!(done["done"], true);
    assert_eq!(done["restore"]["mode"], "Run");
    let safety = done["restore"]["safety_snapshot"].as_str().unwrap().to_owned();
    assert_eq!(cluster.double.calls("EnsureRestore"), 1);
    let restore = cluster.list("Restore").remove(0);
    assert_eq!(restore["spec"]["paths"][0], "a/b");
    // The undoing, by the id of the safety snapshot, which no Snapshot has.
    let undone = cluster
        .run(&[
            "restore",
            &safety,
            "--workspace",
            "notes",
            "--in-place",
            "--no-safety-snapshot",
            "--yes",
            "--wait",
        ])
        .await
        .ended(0);
    assert!(
        undone.out.contains("workspace notes is as snapshot"),
        "{}",
        undone.out
    );
    // By the id of a Snapshot, without the name.
    let id = cluster.get("Snapshot", "before").unwrap()["status"]["snapshotID"].clone();
    cluster
        .run(&["restore", id.as_str().unwrap(), "--in-place", "--plan"])
        .await
        .ended(0);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_workspace_begins_as_the_snapshot() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    let done = cluster
        .run(&["restore", "before", "--into", "copy", "--yes", "--wait"])
        .await
        .ended(0);
    assert!(done.out.contains("pods mount the claim copy"), "{}", done.out);
    let copy = cluster.get("Workspace", "copy").unwrap();
    assert_eq!(copy["spec"]["initialSnapshot"], "before");
    // The name is taken now.
    let taken = cluster
        .run(&["restore", "before", "--into", "copy", "--yes", "--wait"])
        .await
        .ended(25);
    assert!(
        taken.err.contains("there is a Workspace copy already"),
        "{}",
        taken.err
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_not_restored() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    let missing = cluster
        .run(&["restore", "none", "--in-place", "--yes"])
        .await
        .ended(3);
    assert!(
        missing.err.contains("there is no Snapshot none"),
        "{}",
        missing.err
    );
    cluster
        .run(&["restore", "before", "--workspace", "other", "--in-place", "--yes"])
        .await
        .ended(5);
    cluster.run(&["restore", "before", "--yes"]).await.ended(2);
    assert!(cluster.list("Restore").is_empty());
    cluster.end().await;
}
