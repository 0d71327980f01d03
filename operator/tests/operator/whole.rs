//! The operator and real daemons together, with data: what people apply, what pods write, what is there afterwards.

mod deaths;
mod deletion;
mod directories;
mod leaders;
mod samples;
mod schedules;
mod volumes;

use cairn_e2e::sample;
use cairn_e2e::tree::Tree;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bench::{Bench, Running, TEAM, condition};
use super::real::data::open_export;

/// Files of a sample tree.
const FILES: usize = 40;

/// A Workspace that the tests' client may mount; `more` is added to its specification.
fn open_workspace(more: &Value) -> Value {
    let mut spec = json!({"storage": "1Gi", "export": open_export()});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

/// A local tree whose every bit follows from the seed.
fn sample(seed: u64) -> (TempDir, Tree) {
    let directory = tempfile::tempdir().unwrap();
    let tree = sample::many(directory.path(), seed, FILES).unwrap();
    (directory, tree)
}

/// A Workspace `data` that holds a sample, and its tree.
async fn filled(bench: &Bench, more: &Value) -> (TempDir, Tree) {
    bench.make_workspace("data", open_workspace(more));
    bench.ready("Workspace", "data").await;
    let (directory, tree) = sample(1);
    bench.fill(TEAM, "data", &tree).await;
    (directory, tree)
}

/// Waits until a Snapshot is there and its `restoreOnCreate` is done.
async fn restored_on_create(bench: &Bench, snapshot: &str) {
    bench
        .until("what begins with the snapshot is there", |bench| {
            let snapshot = bench.snapshot(snapshot).unwrap_or_default();
            snapshot["status"]["restoreStatus"]["phase"] == "Completed"
        })
        .await;
}

/// Waits until the operator has nothing to do.
async fn idle(bench: &Bench, operator: &Running) {
    let handle = operator.handle.clone();
    bench.until("nothing is to be done", |_| handle.is_idle()).await;
}

/// What `Ready` says of an object, for the one who reads a failure.
fn ready(object: &Value) -> (String, String, String) {
    condition(object, "Ready")
}
