//! The page of metrics and the page that tells of them.

use std::collections::BTreeSet;

use serde_json::json;

use super::bench::Bench;

#[tokio::test]
async fn every_metric_is_told_of_and_no_other() {
    let bench = Bench::new(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace(
        "data",
        json!({"autoSnapshot": {"enabled": true, "schedule": "@hourly"}}),
    );
    bench.make_snapshot("s", json!({"workspace": "data"}));
    bench.ready("Snapshot", "s").await;
    bench
        .until("the snapshot is counted", |bench| {
            bench.workspace("data").unwrap()["status"]["snapshotCount"] == 1
        })
        .await;
    let page = operator.metrics.page().unwrap();
    let strip = |name: &str| name.strip_prefix("cairn_operator_").unwrap().to_owned();
    let there: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, type_)| match type_ {
            "counter" => format!("{}_total", strip(name)),
            "info" => format!("{}_info", strip(name)),
            _ => strip(name),
        })
        .collect();
    let told: BTreeSet<String> = include_str!("../../../docs/operations/operator.md")
        .lines()
        .skip_while(|line| !line.starts_with("## Metrics"))
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert!(
        there.is_subset(&told),
        "not told of: {:?}",
        there.difference(&told)
    );
    // What has not happened yet stands on no page: it is registered.
    let source = include_str!("../../src/runtime/metrics.rs");
    for name in told.difference(&there) {
        let bare = name.strip_suffix("_total").unwrap_or(name);
        assert!(source.contains(&format!("\"{bare}\"")), "{name} does not exist");
    }
    for line in [
        "cairn_operator_leader 1",
        "cairn_operator_objects{kind=\"Workspace\",ready=\"True\"} 1",
        "cairn_operator_schedule_lag_seconds{namespace=\"team\",workspace=\"data\"} 0",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    operator.stop().await;
    bench.end().await;
}
