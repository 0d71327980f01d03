//! Snapshots by the clock, and what the rules leave of them, with what they hold.

use serde_json::json;

use super::open_workspace;
use crate::bench::{Bench, JVS, TEAM};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_by_the_clock_hold_what_was_there_and_the_rules_remove_the_oldest() {
    let bench = Bench::real(&["a"]).await;
    let operator = bench.start();
    bench.make_workspace(
        "data",
        open_workspace(&json!({
            "autoSnapshot": {"enabled": true, "schedule": "0 * * * *", "template": "work", "maxSnapshots": 3},
            "retentionPolicy": {"keepMinSnapshots": 1, "keepMinAge": "1h"}})),
    );
    bench.ready("Workspace", "data").await;
    let begin = bench.clock.seconds();
    for hour in 1..=6i64 {
        bench
            .put(TEAM, "data", "hour", format!("hour {hour}").as_bytes())
            .await;
        bench.clock.advance(3600);
        operator.handle.look_at_everything();
        bench
            .ready("Snapshot", &format!("data-{}", (begin + hour * 3600) / 60))
            .await;
    }
    bench
        .until("only so many are left", |bench| {
            bench.server.list(JVS, "Snapshot", Some(TEAM)).len() == 3
        })
        .await;
    super::idle(&bench, &operator).await;
    let held = bench.held().await;
    let mut ids: Vec<String> = held
        .snapshots
        .iter()
        .map(|snapshot| snapshot.id.clone())
        .collect();
    let mut told: Vec<String> = Vec::new();
    for hour in 4..=6i64 {
        let name = format!("data-{}", (begin + hour * 3600) / 60);
        let snapshot = bench.snapshot(&name).unwrap();
        assert_eq!(snapshot["spec"]["template"], "work");
        told.push(snapshot["status"]["snapshotID"].as_str().unwrap().to_owned());
        let opened = format!("at-{hour}");
        bench.make_workspace(&opened, open_workspace(&json!({"initialSnapshot": name})));
        bench.ready("Workspace", &opened).await;
        let found = bench.read(TEAM, &opened, "hour").await.unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), format!("hour {hour}"));
    }
    ids.sort();
    told.sort();
    assert_eq!(ids, told, "the daemon has these and no others");
    operator.stop().await;
    bench.end().await;
}
