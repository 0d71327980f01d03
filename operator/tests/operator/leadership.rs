//! Two operators and one lease.

use std::time::Duration;

use cairn_operator::runtime::lease::LeaseSettings;
use serde_json::{Value, json};

use super::bench::{Bench, NAMESPACE, Running, Start};

fn lease(identity: &str) -> LeaseSettings {
    LeaseSettings {
        duration: Duration::from_secs(1),
        renew_deadline: Duration::from_millis(600),
        retry: Duration::from_millis(100),
        ..LeaseSettings::new(NAMESPACE, "cairn-operator", identity)
    }
}

fn start(bench: &Bench, identity: &str) -> Running {
    bench.start_with(Start {
        lease: Some(lease(identity)),
        ..Start::default()
    })
}

fn spec(bench: &Bench) -> Value {
    bench
        .server
        .get("coordination.k8s.io/v1", "Lease", NAMESPACE, "cairn-operator")
        .map(|lease| lease["spec"].clone())
        .unwrap_or_default()
}

#[tokio::test]
async fn only_one_works_and_the_other_takes_over() {
    let bench = Bench::new(&["a"]).await;
    let first = start(&bench, "first");
    bench
        .until("the first leads", |_| first.leadership.is_held())
        .await;
    let second = start(&bench, "second");
    bench.make_workspace("data", json!({}));
    bench.ready("Workspace", "data").await;
    assert!(!second.leadership.is_held());
    assert_eq!(spec(&bench)["holderIdentity"], "first");
    let generation = first.leadership.generation();

    // In order: the lease is given back, nobody waits for its end.
    first.stop().await;
    bench
        .until("the second leads", |_| second.leadership.is_held())
        .await;
    assert!(second.leadership.generation() > generation);
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench.ready("Snapshot", "s").await;
    assert_eq!(
        bench.double.with("a", |node| node.greatest),
        second.leadership.generation()
    );

    // As a crash does: the lease ends by itself.
    let generation = second.leadership.generation();
    second.kill().await;
    let third = start(&bench, "third");
    bench
        .until("the third leads", |_| third.leadership.is_held())
        .await;
    assert!(third.leadership.generation() > generation);
    bench.make_snapshot("t", json!({"workspace": "data"}));
    bench.ready("Snapshot", "t").await;
    third.stop().await;
    assert_eq!(spec(&bench)["holderIdentity"], "");
    bench.end().await;
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_another_begins() {
    let bench = Bench::new(&["a"]).await;
    let first = start(&bench, "first");
    bench
        .until("the first leads", |_| first.leadership.is_held())
        .await;
    let matcher = cairn_apiserver::Matcher::resource("leases");
    bench
        .server
        .fault(matcher, cairn_apiserver::Fault::ErrorBefore(503), 0, None);
    bench.until("it stops", |_| !first.leadership.is_held()).await;
    // Nothing is written meanwhile.
    bench.make_workspace("data", json!({}));
    bench.server.clear_faults();
    bench
        .until("it leads again", |_| first.leadership.is_held())
        .await;
    bench.ready("Workspace", "data").await;
    first.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn a_lease_that_somebody_deleted_does_not_lock_the_operator_out() {
    let bench = Bench::new(&["a"]).await;
    bench.double.with("a", |node| node.greatest = 41);
    let operator = start(&bench, "first");
    bench.make_workspace("data", json!({}));
    bench.ready("Workspace", "data").await;
    assert_eq!(operator.leadership.generation(), 42);
    assert_eq!(spec(&bench)["leaseTransitions"], 42);
    operator.stop().await;
    bench.end().await;
}

#[tokio::test]
async fn what_a_deposed_leader_still_sends_is_refused() {
    let bench = Bench::new(&["a"]).await;
    let old = bench.start_with(Start {
        generation: 3,
        ..Start::default()
    });
    bench.make_workspace("data", json!({}));
    bench.ready("Workspace", "data").await;
    bench.double.with("a", |node| node.greatest = 4);
    bench.make_snapshot("s", json!({"workspace": "data"}));
    let handle = old.handle.clone();
    bench
        .until("it has tried", |bench| {
            bench.snapshot("s").unwrap()["status"]["nodeName"] == "a" && handle.is_idle()
        })
        .await;
    assert!(bench.double.snapshot_keys().is_empty());
    old.stop().await;
    let new = bench.start_with(Start {
        generation: 4,
        ..Start::default()
    });
    bench.ready("Snapshot", "s").await;
    new.stop().await;
    bench.end().await;
}
