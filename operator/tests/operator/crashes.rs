//! The operator dies between any two calls, to the API server or to a daemon, before or after the call is carried out. Afterwards another one finds everything as it
//! should be: one workspace per Workspace, one snapshot per Snapshot, nothing left of what was deleted.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};

use cairn_apiserver::{ApiService, User};
use futures_util::future::BoxFuture;
use kube::client::Body;
use serde_json::json;
use tokio::sync::Notify;

use super::bench::{Bench, JVS, NAMESPACE, Start, TEAM};
use super::double::{Fault, Interposed};

/// Crashes of one run.
const CRASHES: u64 = 100;
/// Runs, each with other numbers: 500 crashes in all.
const RUNS: u64 = 5;

/// Counts calls down; at zero nothing goes on any more.
#[derive(Debug, Default)]
struct Fuse {
    left: AtomicI64,
    blown: Notify,
}

impl Fuse {
    fn new(calls: i64) -> Arc<Self> {
        Arc::new(Fuse {
            left: AtomicI64::new(calls),
            blown: Notify::new(),
        })
    }

    /// Returns, or never.
    async fn burn(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.blown.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

impl Interposed for Fuse {
    fn before(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.burn())
    }

    fn after(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.burn())
    }
}

/// The API server, behind a fuse. Watches and lists do not count: they change nothing.
#[derive(Clone)]
struct Fused {
    inner: ApiService,
    fuse: Arc<Fuse>,
}

type Answer = <ApiService as tower::Service<http::Request<Body>>>::Response;
type Failure = <ApiService as tower::Service<http::Request<Body>>>::Error;

impl tower::Service<http::Request<Body>> for Fused {
    type Response = Answer;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        tower::Service::<http::Request<Body>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let is_change = request.method() != http::Method::GET;
        let (mut inner, fuse) = (self.inner.clone(), Arc::clone(&self.fuse));
        Box::pin(async move {
            if is_change {
                fuse.burn().await;
            }
            let answer = inner.call(request).await;
            if is_change {
                fuse.burn().await;
            }
            answer
        })
    }
}

/// A small generator (xorshift64*), so that a run is known by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }
}

/// One thing that people do.
fn act(bench: &Bench, dice: &mut Dice, number: u64) {
    let workspaces = bench.server.list(JVS, "Workspace", Some(TEAM));
    let snapshots = bench.server.list(JVS, "Snapshot", Some(TEAM));
    let name = |object: &serde_json::Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    match dice.roll(10) {
        0..=1 if workspaces.len() < 6 => {
            let policy = ["Delete", "Retain"][dice.roll(2) as usize];
            bench.make_workspace(&format!("w{number}"), json!({"deletionPolicy": policy}));
        }
        2..=6 if !workspaces.is_empty() && snapshots.len() < 12 => {
            let of = name(&workspaces[dice.roll(workspaces.len() as u64) as usize]);
            let spec = match dice.roll(4) {
                0 => {
                    json!({"workspace": of, "restoreOnCreate": true, "restoreWorktree": format!("r{number}")})
                }
                _ => json!({"workspace": of}),
            };
            bench.make_snapshot(&format!("s{number}"), spec);
        }
        7 if !snapshots.is_empty() => {
            let which = name(&snapshots[dice.roll(snapshots.len() as u64) as usize]);
            bench.delete("Snapshot", &which);
        }
        8 if !workspaces.is_empty() => {
            let which = name(&workspaces[dice.roll(workspaces.len() as u64) as usize]);
            bench.delete("Workspace", &which);
        }
        _ => {
            let node = ["a", "b"][dice.roll(2) as usize];
            let fault = [Fault::ReplyLost, Fault::Restart, Fault::Lost][dice.roll(3) as usize];
            bench.double.with(node, |node| node.faults.push_back(fault));
        }
    }
}

/// Nothing is waited for any more, and what there is fits together.
fn is_settled(bench: &Bench) -> bool {
    let workspaces = bench.server.list(JVS, "Workspace", Some(TEAM));
    let snapshots = bench.server.list(JVS, "Snapshot", Some(TEAM));
    let ready = |object: &serde_json::Value| super::bench::condition(object, "Ready");
    let is_over = |object: &serde_json::Value| object["metadata"]["deletionTimestamp"].is_null();
    let made = workspaces.iter().all(|workspace| {
        is_over(workspace) && {
            let (status, reason, _) = ready(workspace);
            status == "True" || reason.starts_with("InitialSnapshot")
        }
    });
    let taken = snapshots.iter().all(|snapshot| {
        is_over(snapshot) && {
            let (status, reason, _) = ready(snapshot);
            status == "True" || matches!(reason.as_str(), "WorkspaceNotFound" | "WorkspaceNotReady")
        }
    });
    made && taken
}

fn check(bench: &Bench, seed: u64) {
    let uid = |object: &serde_json::Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    let status =
        |object: &serde_json::Value, field: &str| object["status"][field].as_str().map(str::to_owned);
    let snapshots = bench.server.list(JVS, "Snapshot", Some(TEAM));
    let expected: BTreeSet<String> = snapshots
        .iter()
        .filter(|snapshot| status(snapshot, "snapshotID").is_some())
        .map(|snapshot| format!("snapshot/{}", uid(snapshot)))
        .collect();
    let there = bench.double.snapshot_keys();
    let once: BTreeSet<String> = there.iter().cloned().collect();
    assert_eq!(there.len(), once.len(), "seed {seed}: a snapshot was taken twice");
    assert_eq!(
        once, expected,
        "seed {seed}: snapshots of daemons and of resources differ"
    );
    // And where its status says.
    for snapshot in &snapshots {
        if let (Some(id), Some(node)) = (status(snapshot, "snapshotID"), status(snapshot, "nodeName")) {
            let key = format!("snapshot/{}", uid(snapshot));
            let found = bench.double.with(&node, |node| {
                node.snapshots.get(&key).map(|it| it.managed.id.clone())
            });
            assert_eq!(found, Some(id), "seed {seed}");
        }
    }
    let workspaces = bench.server.list(JVS, "Workspace", Some(TEAM));
    let mut expected: Vec<String> = workspaces
        .iter()
        .filter(|workspace| status(workspace, "workspaceID").is_some())
        .map(uid)
        .collect();
    expected.sort();
    assert_eq!(bench.double.workspace_keys(), expected, "seed {seed}");
    let volumes = bench.server.list("v1", "PersistentVolume", None).len();
    assert_eq!(volumes, expected.len(), "seed {seed}: volumes");
    let claims = bench.server.list("v1", "PersistentVolumeClaim", None).len();
    assert_eq!(claims, expected.len(), "seed {seed}: claims");
}

async fn run(seed: u64) {
    let bench = Bench::new(&["a", "b"]).await;
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut blown, mut crash) = (0, 0);
    while blown < CRASHES {
        crash += 1;
        assert!(crash < CRASHES * 10, "seed {seed}: too little happens");
        for action in 0..1 + dice.roll(2) {
            act(&bench, &mut dice, crash * 10 + action);
        }
        let fuse = Fuse::new(i64::try_from(dice.roll(40)).unwrap());
        let user = User::service_account(NAMESPACE, "cairn-operator");
        let fused = Fused {
            inner: bench.server.service(user),
            fuse: Arc::clone(&fuse),
        };
        let operator = bench.start_with(Start {
            generation: crash,
            interposed: Some(Arc::clone(&fuse) as Arc<dyn Interposed>),
            client: Some(kube::Client::new(fused, NAMESPACE)),
            ..Start::default()
        });
        let handle = operator.handle.clone();
        let asked = bench.double.calls("GetInfo");
        let is_over =
            |bench: &Bench| bench.double.calls("GetInfo") > asked && handle.is_idle() && is_settled(bench);
        tokio::select! {
            () = fuse.blown.notified() => blown += 1,
            () = bench.until("the fuse blows, or all is done", is_over) => {}
        }
        operator.kill().await;
    }
    for node in ["a", "b"] {
        bench.double.with(node, |node| node.faults.clear());
    }
    let operator = bench.start_with(Start {
        generation: crash + 1,
        ..Start::default()
    });
    bench.until("everything settles", is_settled).await;
    let handle = operator.handle.clone();
    bench.until("nothing is to be done", |_| handle.is_idle()).await;
    check(&bench, seed);
    operator.stop().await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_crashes_lose_nothing_and_make_nothing_twice() {
    for seed in 1..=RUNS {
        run(seed).await;
    }
}
