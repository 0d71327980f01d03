//! The life of a Workspace with a snapshot and a restore, while the leader dies after the first call, the second, and so on; another one takes over each time.

use cairn_types::Clock;
use serde_json::json;

use super::open_workspace;
use crate::bench::{Bench, Start, TEAM};
use crate::crashes::{Fuse, fused};

/// Calls between one death and the next: with more than one, the runs together still die in each kind of step, before and after it is carried out.
const STRIDE: usize = 4;

/// Calls that nobody needs to count.
const MANY: i64 = 1 << 40;

/// What people do and see: made, filled, captured, changed, restored, removed. Nothing is left.
pub async fn life(bench: &Bench, name: &str) {
    let (snapshot, restore) = (format!("{name}-s"), format!("{name}-r"));
    bench.make_workspace(name, open_workspace(&json!({"deletionPolicy": "Delete"})));
    bench.ready("Workspace", name).await;
    bench.put(TEAM, name, "file", b"before").await;
    bench.make_snapshot(&snapshot, json!({"workspace": name}));
    bench.ready("Snapshot", &snapshot).await;
    bench.put(TEAM, name, "file", b"changed").await;
    bench.put(TEAM, name, "more", b"changed").await;
    bench.make_restore(
        &restore,
        json!({"workspace": name, "snapshot": snapshot, "mode": "Run", "into": {"inPlace": {}}}),
    );
    bench.reason("Restore", &restore, "Completed").await;
    bench
        .until("the claim is bound", |bench| {
            let claim = bench.server.get("v1", "PersistentVolumeClaim", TEAM, name);
            claim.is_some_and(|claim| claim["status"]["phase"] == "Bound")
        })
        .await;
    assert_eq!(
        bench.read(TEAM, name, "file").await.as_deref(),
        Some(&b"before"[..])
    );
    assert_eq!(bench.read(TEAM, name, "more").await, None);
    // It was done once; what is written afterwards stays.
    bench.put(TEAM, name, "file", b"after").await;
    let held = bench.held().await;
    let own = format!("{TEAM}.{name}");
    let uid = bench.snapshot(&snapshot).unwrap()["metadata"]["uid"].clone();
    let keys: Vec<&str> = held
        .snapshots
        .iter()
        .filter(|it| it.workspace == own)
        .map(|it| it.key.as_str())
        .collect();
    assert_eq!(keys, [format!("snapshot/{}", uid.as_str().unwrap())], "{held:?}");
    assert_eq!(held.safety[&own], 1, "{held:?}");
    bench.delete("Restore", &restore);
    bench.gone("Restore", &restore).await;
    assert_eq!(
        bench.read(TEAM, name, "file").await.as_deref(),
        Some(&b"after"[..])
    );
    bench.delete("Snapshot", &snapshot);
    bench.gone("Snapshot", &snapshot).await;
    bench.delete("Workspace", name);
    bench.gone("Workspace", name).await;
    let held = bench.held().await;
    assert!(
        !held.workspaces.contains_key(&own) && held.snapshots.iter().all(|it| it.workspace != own),
        "{held:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_may_die_in_any_step_of_a_life() {
    let bench = Bench::real(&["a"]).await;
    let fuse = Fuse::new(MANY);
    let operator = bench.start_with(fused(&bench, &fuse, 1));
    life(&bench, "whole").await;
    operator.stop().await;
    let calls = usize::try_from(MANY - fuse.left()).unwrap();
    let began = cairn_operator::runtime::clock::SystemClock.now();
    let mut generation = 1;
    for death in (0..calls).step_by(STRIDE) {
        generation += 2;
        let fuse = Fuse::new(i64::try_from(death).unwrap());
        let first = bench.start_with(fused(&bench, &fuse, generation));
        let name = format!("l{death}");
        let mut life = std::pin::pin!(life(&bench, &name));
        tokio::select! {
            () = &mut life => first.stop().await,
            () = fuse.blown.notified() => {
                first.kill().await;
                let second = bench.start_with(Start {
                    generation: generation + 1,
                    ..Start::default()
                });
                life.await;
                second.stop().await;
            }
        }
    }
    let seconds = cairn_operator::runtime::clock::SystemClock.now().seconds() - began.seconds();
    println!(
        "{calls} calls in a life, {} deaths, {seconds} s",
        calls.div_ceil(STRIDE)
    );
    bench.end().await;
}
