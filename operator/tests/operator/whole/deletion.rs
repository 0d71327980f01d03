//! What is deleted is gone from the nodes, what is to stay stays, and nothing else does either.

use serde_json::json;

use super::{open_workspace, sample};
use crate::bench::{Bench, TEAM};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_policies_leave_what_they_say_and_nothing_else() {
    let bench = Bench::real(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("kept", open_workspace(&json!({})));
    bench.make_workspace("dropped", open_workspace(&json!({"deletionPolicy": "Delete"})));
    let (_kept, tree) = sample(3);
    for name in ["kept", "dropped"] {
        bench.ready("Workspace", name).await;
        bench.fill(TEAM, name, &tree).await;
        bench.make_snapshot(&format!("of-{name}"), json!({"workspace": name}));
        bench.make_snapshot(
            &format!("retained-of-{name}"),
            json!({"workspace": name, "deletionPolicy": if name == "kept" { "Retain" } else { "Delete" }}),
        );
        bench.ready("Snapshot", &format!("of-{name}")).await;
        bench.ready("Snapshot", &format!("retained-of-{name}")).await;
    }
    bench.delete("Workspace", "dropped");
    bench.gone("Workspace", "dropped").await;
    bench.gone("Snapshot", "of-dropped").await;
    let retained = bench.snapshot("retained-of-kept").unwrap()["status"]["snapshotID"].clone();
    bench.delete("Snapshot", "retained-of-kept");
    bench.gone("Snapshot", "retained-of-kept").await;
    bench.delete("Workspace", "kept");
    bench.gone("Workspace", "kept").await;
    let held = bench.held().await;
    let names: Vec<&String> = held.workspaces.keys().collect();
    assert_eq!(names, ["team.kept"]);
    assert_eq!(held.workspaces["team.kept"], None, "nobody's");
    let ids: Vec<&str> = held.snapshots.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids.len(), 2, "{held:?}");
    assert!(ids.contains(&retained.as_str().unwrap()), "{held:?}");
    for kind in ["PersistentVolume", "PersistentVolumeClaim"] {
        assert!(bench.server.list("v1", kind, None).is_empty(), "{kind}");
    }

    // A Workspace of the same name finds its data again.
    bench.make_workspace("kept", open_workspace(&json!({"deletionPolicy": "Delete"})));
    bench.ready("Workspace", "kept").await;
    bench.assert_holds(TEAM, "kept", &tree, "the adoption").await;
    // With the policy Delete now everything goes, also what no resource names any more.
    bench.delete("Workspace", "kept");
    bench.gone("Workspace", "kept").await;
    bench.gone("Snapshot", "of-kept").await;
    let held = bench.held().await;
    assert!(
        held.workspaces.is_empty() && held.snapshots.is_empty(),
        "{held:?}"
    );
    operator.stop().await;
    bench.end().await;
}
