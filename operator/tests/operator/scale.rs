//! A thousand Workspaces and ten thousand Snapshots.

use std::time::Instant;

use serde_json::json;

use super::bench::{Bench, JVS, TEAM, condition};

const WORKSPACES: usize = 1000;
const SNAPSHOTS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_workspaces_and_ten_thousand_snapshots_settle() {
    let bench = Bench::without_controllers(&["a", "b", "c", "d"]).await;
    for node in ["a", "b", "c", "d"] {
        bench.double.with(node, |node| node.free = 1 << 50);
    }
    for workspace in 0..WORKSPACES {
        bench.make_workspace(&format!("w{workspace}"), json!({"storage": "1Gi"}));
        for snapshot in 0..SNAPSHOTS {
            bench.make_snapshot(
                &format!("w{workspace}-s{snapshot}"),
                json!({"workspace": format!("w{workspace}")}),
            );
        }
    }
    let started = Instant::now();
    let operator = bench.start();
    let handle = operator.handle.clone();
    let total = (WORKSPACES * SNAPSHOTS) as u64;
    loop {
        let before = bench.double.calls("EnsureSnapshot");
        bench
            .until("the snapshots are taken", |bench| {
                let now = bench.double.calls("EnsureSnapshot");
                now >= total || now >= before + total / 20
            })
            .await;
        // The cluster's controllers bind the claims.
        bench.server.settle();
        if bench.double.calls("EnsureSnapshot") >= total {
            break;
        }
    }
    bench.until("nothing is to be done", |_| handle.is_idle()).await;
    bench
        .until("all are counted", |bench| {
            handle.is_idle()
                && bench.server.settle() == 0
                && bench
                    .server
                    .list(JVS, "Workspace", Some(TEAM))
                    .iter()
                    .all(|workspace| {
                        workspace["status"]["snapshotCount"] == SNAPSHOTS
                            && condition(workspace, "Ready").0 == "True"
                    })
        })
        .await;
    let took = started.elapsed();
    let writes = bench.server.counters().writes();
    assert_eq!(bench.double.snapshot_keys().len(), WORKSPACES * SNAPSHOTS);
    assert_eq!(bench.double.workspace_keys().len(), WORKSPACES);
    let spread: Vec<usize> = ["a", "b", "c", "d"]
        .iter()
        .map(|node| bench.double.with(node, |node| node.workspaces.len()))
        .collect();
    println!("settled in {took:?} with {writes} writes; workspaces by node {spread:?}");
    assert!(spread.iter().all(|count| *count > WORKSPACES / 8), "{spread:?}");

    // Looked at again, nothing is written.
    bench.server.reset_counters();
    handle.look_at_everything();
    bench.until("it has looked", |_| handle.is_idle()).await;
    assert_eq!(bench.server.counters().writes(), 0);
    operator.stop().await;
    bench.end().await;
}
