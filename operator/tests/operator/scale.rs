//! A thousand Workspaces and ten thousand Snapshots.

use std::time::{Duration, Instant};

use serde_json::json;

use super::bench::{Bench, JVS, TEAM, condition};

const WORKSPACES: usize = 1000;
const SNAPSHOTS: usize = 10;
/// All of it takes less than a minute where nothing else runs; this is for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(1200);

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
    bench
        .until_within(PATIENCE, "the snapshots are taken", |bench| {
            bench.double.calls("EnsureSnapshot") >= total
        })
        .await;
    let taken = started.elapsed();
    // The cluster's controllers bind the claims.
    bench.server.settle();
    bench
        .until_within(PATIENCE, "all are counted", |bench| {
            handle.is_idle()
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
    assert_eq!(bench.double.calls("EnsureSnapshot"), total);
    assert_eq!(bench.double.workspace_keys().len(), WORKSPACES);
    let spread: Vec<usize> = ["a", "b", "c", "d"]
        .iter()
        .map(|node| bench.double.with(node, |node| node.workspaces.len()))
        .collect();
    println!(
        "taken after {taken:?}, settled after {took:?} with {writes} writes; workspaces by node {spread:?}"
    );
    assert!(spread.iter().all(|count| *count > WORKSPACES / 8), "{spread:?}");

    // Looked at again, nothing is written but what nodes tell of themselves.
    handle.look_at_everything();
    bench
        .until_within(PATIENCE, "it has looked", |_| handle.is_idle())
        .await;
    bench.server.reset_counters();
    handle.look_at_everything();
    bench
        .until_within(PATIENCE, "it has looked again", |_| handle.is_idle())
        .await;
    assert_eq!(bench.server.counters().writes(), 0);
    operator.stop().await;
    bench.end().await;
}
