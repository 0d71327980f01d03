//! What an API server does to its clients on a bad day: conflicts, expired watches, errors before and after the work is done.

use std::time::Duration;

use cairn_apiserver::{Fault, Matcher};
use serde_json::json;

use super::bench::{Bench, JVS, TEAM};

#[tokio::test]
async fn failed_writes_are_repeated_and_nothing_is_made_twice() {
    for fault in [
        Fault::ErrorBefore(500),
        Fault::ErrorAfter(500),
        Fault::DropBefore,
        Fault::DropAfter,
    ] {
        let bench = Bench::new(&["a"]).await;
        let operator = bench.start();
        bench
            .until("the node is known", |bench| {
                bench.server.get(JVS, "StorageNode", "", "a").is_some()
            })
            .await;
        // Every second write of anything, for a while.
        for skip in 0..6 {
            bench
                .server
                .fault(Matcher::writes(), fault.clone(), skip, Some(1));
        }
        bench.make_workspace("data", json!({}));
        bench.make_snapshot("s", json!({"workspace": "data"}));
        bench.ready("Snapshot", "s").await;
        bench.ready("Workspace", "data").await;
        assert_eq!(bench.double.snapshot_keys().len(), 1, "{fault:?}");
        assert_eq!(bench.server.list("v1", "PersistentVolume", None).len(), 1);
        operator.stop().await;
        bench.end().await;
    }
}

#[tokio::test]
async fn watches_that_expire_or_break_are_begun_again() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("one", json!({}));
    bench.ready("Workspace", "one").await;
    bench.server.compact();
    bench.server.expire_watches();
    bench.make_workspace("two", json!({}));
    bench.ready("Workspace", "two").await;
    bench.server.disconnect_watches();
    // What was deleted while nobody watched is noticed, too.
    bench.delete("Workspace", "one");
    bench.make_workspace("three", json!({}));
    bench.ready("Workspace", "three").await;
    bench.gone("Workspace", "one").await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn an_api_server_that_is_away_is_waited_for() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.ready("Workspace", "data").await;
    bench
        .server
        .fault(Matcher::default(), Fault::DropBefore, 0, Some(20));
    bench.server.disconnect_watches();
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench.ready("Snapshot", "s").await;
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn others_may_write_the_same_objects() {
    let bench = Bench::new(&["a"]).await;
    bench
        .server
        .fault(Matcher::writes(), Fault::Delay(Duration::from_millis(5)), 0, None);
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    for number in 0..40 {
        bench.server.edit(JVS, "Workspace", TEAM, "data", |object| {
            object["metadata"]["labels"]["n"] = json!(number.to_string());
        });
        tokio::task::yield_now().await;
    }
    bench.ready("Workspace", "data").await;
    assert_eq!(bench.workspace("data").unwrap()["metadata"]["labels"]["n"], "39");
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn one_object_that_cannot_be_read_stops_nobody() {
    let bench = Bench::new(&["a"]).await;
    bench.make_workspace("broken", json!({}));
    bench.server.edit(JVS, "Workspace", TEAM, "broken", |object| {
        object["spec"]["storage"] = json!({"not": "a size"});
    });
    let operator = bench.start();
    bench.make_workspace("data", json!({}));
    bench.ready("Workspace", "data").await;
    assert_eq!(operator.handle.caches().workspaces.invalid().len(), 1);
    let page = operator.metrics.page().unwrap();
    assert!(
        page.contains("cairn_operator_objects_invalid{kind=\"Workspace\"} 1"),
        "{page}"
    );
    operator.stop().await;
    bench.end().await;
}
