//! Health, readiness and metrics of a real daemon.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::harness::{Daemon, cairnd, directory};

#[test]
fn a_serving_daemon_is_healthy_ready_and_counts() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    assert_eq!(daemon.get("/healthz"), (200, "ok\n".to_owned()));
    let (code, body) = daemon.get("/readyz");
    let readiness: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &readiness["ready"]), (200, &Value::Bool(true)), "{body}");
    let names: Vec<&str> = readiness["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["stores_open", "stores_healthy", "disk_space", "serving"]);
    assert_eq!(daemon.get("/nonsense").0, 404);
    assert_eq!(daemon.cairn(&["workspace", "create", "w"]).code, 0);
    let (code, page) = daemon.get("/metrics");
    assert_eq!(code, 200);
    assert!(page.contains("\ncairn_workspaces 1\n"), "{page}");
    assert!(page.contains("\ncairn_ready 1\n"), "{page}");
    assert!(page.ends_with("# EOF\n"));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_real_page_has_exactly_the_documented_metrics() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let (_, page) = daemon.get("/metrics");
    let found: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, "info") => format!("{name}_info"),
            (name, _) => name.to_owned(),
        })
        .collect();
    let documented: BTreeSet<String> = include_str!("../../../docs/operations/configuration.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `cairn_"))
        .map(|row| format!("cairn_{}", row.split('`').next().unwrap()))
        .collect();
    assert_eq!(found, documented);
}

#[test]
fn a_full_disk_makes_the_daemon_unready_and_changes_fail_cleanly() {
    let directory = directory();
    let (config, data) = (directory.path().join("c.toml"), directory.path().join("data"));
    fs::write(&config, "limits.disk_reserve_bytes = '1024TiB'\n").unwrap();
    let daemon = Daemon::start_with(&data, cairnd(&data).arg("--config").arg(&config));
    let (code, body) = daemon.get("/readyz");
    assert_eq!(code, 503, "{body}");
    let readiness: Value = serde_json::from_str(&body).unwrap();
    let failing: Vec<&str> = readiness["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|condition| condition["holds"] == false)
        .map(|condition| condition["name"].as_str().unwrap())
        .collect();
    assert_eq!(failing, ["disk_space"]);
    assert_eq!(daemon.get("/healthz").0, 200);
    let refused = daemon.cairn(&["workspace", "create", "w", "--json"]);
    assert_eq!(
        (refused.code, refused.error()["reason"].as_str()),
        (7, Some("NO_SPACE")),
        "{refused:?}"
    );
    assert_eq!(
        daemon.json(&["workspace", "list"])["workspaces"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert_eq!(daemon.json(&["status"])["ready"], false);
    assert_eq!(daemon.stop(), 0);
}
