//! What is wrong, and what to do.

use serde_json::json;

use super::cluster::{Cluster, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_well_is_said_to_be() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    let well = cluster.run(&["explain", "notes"]).await.ended(0);
    assert!(
        well.out.starts_with("Workspace notes: nothing is wrong"),
        "{}",
        well.out
    );
    let json = cluster
        .run(&["doctor", "snapshot/before", "--json"])
        .await
        .ended(0)
        .json();
    assert_eq!(json["healthy"], true, "{json}");
    cluster.run(&["explain", "snapshot/none"]).await.ended(3);
    cluster.run(&["explain", "pod/p"]).await.ended(2);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_away_is_named_with_what_waits_for_it() {
    let cluster = Cluster::new().await;
    cluster.furnish().await;
    cluster.double.with("a", |node| node.is_up = false);
    cluster.apply("Snapshot", "later", json!({"workspace": "notes"}));
    cluster
        .until("it is known to be away", || {
            let snapshot = cluster.get("Snapshot", "later")?;
            (condition(&snapshot, "NodeReachable").0 == "False").then_some(())
        })
        .await;
    let away = cluster.run(&["explain", "snapshot", "later"]).await.ended(0);
    assert!(
        away.out.starts_with("Snapshot later: something is wrong\n")
            && away.out.contains("kubectl get storagenode a -o wide"),
        "{}",
        away.out
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_operator_that_is_what_is_wrong() {
    let cluster = Cluster::without_operator().await;
    cluster.apply("Workspace", "notes", json!({}));
    let json = cluster.run(&["explain", "notes", "--json"]).await.ended(0).json();
    assert_eq!(json["healthy"], false);
    assert_eq!(json["findings"][0]["reason"], "NotSeen");
    cluster.end().await;
}
