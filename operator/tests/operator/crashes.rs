//! The operator dies between any two calls, to the API server or to a daemon, before or after the call is carried out. Afterwards another one finds everything as it
//! should be: one workspace per Workspace, one snapshot per Snapshot, nothing left of what was deleted.
//!
//! With doubles, answers are lost and daemons restart besides; real daemons are killed in the middle of calls.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use cairn_apiserver::{ApiService, User};
use futures_util::future::BoxFuture;
use kube::client::Body;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::bench::{Bench, JVS, NAMESPACE, Start, TEAM, condition};
use super::double::{Fault, Interposed};

/// Crashes of one run with doubles.
const CRASHES: u64 = 100;
/// Runs, each with other numbers: 500 crashes in all.
const RUNS: u64 = 5;
/// Crashes with real daemons.
const REAL_CRASHES: u64 = 60;
/// Real daemons that are killed meanwhile, at least.
const KILLS_MIN: u64 = 10;
/// Latest moment of a kill after the call was sent, in microseconds.
const KILL_MICROSECONDS: u64 = 4000;

/// Counts calls down; at zero nothing goes on any more.
#[derive(Debug, Default)]
pub struct Fuse {
    left: AtomicI64,
    pub blown: Notify,
    fate: Mutex<Fate>,
    struck: Notify,
}

#[derive(Debug, Default)]
struct Fate {
    doom: Option<Doom>,
    /// The daemon that is being killed, and who does it.
    strike: Option<(String, JoinHandle<()>)>,
}

/// A daemon that will be killed.
#[derive(Debug)]
pub struct Doom {
    pub node: String,
    pub process: u32,
    /// Only while it is asked this; nothing: whatever.
    pub method: Option<&'static str>,
    /// Such calls, to any daemon, that are still answered.
    pub calls: u64,
    /// After the call is sent.
    pub delay: Duration,
}

impl Fuse {
    pub fn new(calls: i64) -> Arc<Self> {
        Arc::new(Fuse {
            left: AtomicI64::new(calls),
            ..Fuse::default()
        })
    }

    /// Calls that there were beyond those that were allowed count below zero.
    pub fn left(&self) -> i64 {
        self.left.load(Ordering::SeqCst)
    }

    /// A daemon is killed while it is asked something.
    pub fn doom(&self, doom: Doom) {
        self.fate.lock().doom = Some(doom);
    }

    /// Returns when the daemon is about to be killed.
    pub async fn struck(&self) {
        self.struck.notified().await;
    }

    /// The node whose daemon was killed, if one was; it is dead on return.
    pub fn victim(&self) -> Option<String> {
        let strike = {
            let mut fate = self.fate.lock();
            fate.doom = None;
            fate.strike.take()
        };
        let (node, strike) = strike?;
        strike.join().unwrap();
        Some(node)
    }

    fn tick(&self, call: &'static str) {
        let mut fate = self.fate.lock();
        let is_meant = |doom: &Doom| doom.method.is_none_or(|method| method == call);
        if !fate.doom.as_ref().is_some_and(is_meant) {
            return;
        }
        if let Some(doom) = fate.doom.as_mut().filter(|doom| doom.calls > 0) {
            doom.calls -= 1;
            return;
        }
        let Some(doom) = fate.doom.take() else { return };
        let strike = std::thread::spawn(move || {
            // The moment is drawn: this is no waiting for anything.
            std::thread::park_timeout(doom.delay);
            let process = Pid::from_raw(i32::try_from(doom.process).unwrap()).unwrap();
            kill_process(process, Signal::KILL).unwrap();
        });
        fate.strike = Some((doom.node, strike));
        self.struck.notify_one();
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
    fn before(&self, call: &'static str) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.burn().await;
            self.tick(call);
        })
    }

    fn after(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.burn())
    }
}

/// How an operator is started whose calls burn the fuse.
pub fn fused(bench: &Bench, fuse: &Arc<Fuse>, generation: u64) -> Start {
    let user = User::service_account(NAMESPACE, "cairn-operator");
    let service = Fused {
        inner: bench.server.service(user),
        fuse: Arc::clone(fuse),
    };
    Start {
        generation,
        interposed: Some(Arc::clone(fuse) as Arc<dyn Interposed>),
        client: Some(kube::Client::new(service, NAMESPACE)),
        ..Start::default()
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

/// One thing that people do, or that goes wrong. Answers the daemon that is to be killed, if a real one is.
fn act(bench: &Bench, dice: &mut Dice, number: u64) -> Option<Doom> {
    let workspaces = bench.server.list(JVS, "Workspace", Some(TEAM));
    let snapshots = bench.server.list(JVS, "Snapshot", Some(TEAM));
    match dice.roll(10) {
        0..=1 if workspaces.len() < 6 => {
            let policy = ["Delete", "Retain"][dice.roll(2) as usize];
            let spec = json!({"deletionPolicy": policy, "storage": "1Gi"});
            bench.make_workspace(&format!("w{number}"), spec);
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
            let Some(real) = &bench.real else {
                bench.double.with(node, |node| node.faults.push_back(fault));
                return None;
            };
            return Some(Doom {
                node: node.to_owned(),
                process: real.process(node),
                method: None,
                calls: dice.roll(8),
                delay: Duration::from_micros(dice.roll(KILL_MICROSECONDS)),
            });
        }
    }
    None
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

fn is_terminating(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Nothing is waited for any more, and what there is fits together.
fn is_settled(bench: &Bench) -> bool {
    let workspaces = bench.server.list(JVS, "Workspace", Some(TEAM));
    let snapshots = bench.server.list(JVS, "Snapshot", Some(TEAM));
    let ready = |object: &Value| condition(object, "Ready");
    // What another workspace began with is kept, and says so.
    let is_in_use = |snapshot: &Value| ready(snapshot).1 == "SnapshotInUse";
    let made = workspaces.iter().all(|workspace| {
        let (status, reason, _) = ready(workspace);
        match is_terminating(workspace) {
            false => status == "True" || reason.starts_with("InitialSnapshot"),
            true => {
                reason == "DeletingSnapshots"
                    && snapshots.iter().any(|snapshot| {
                        snapshot["spec"]["workspace"] == name(workspace) && is_in_use(snapshot)
                    })
            }
        }
    });
    let taken = snapshots.iter().all(|snapshot| {
        if is_terminating(snapshot) {
            return is_in_use(snapshot);
        }
        let (status, reason, _) = ready(snapshot);
        let of = snapshot["spec"]["workspace"].as_str().unwrap();
        let workspace = workspaces.iter().find(|workspace| name(workspace) == of);
        match reason.as_str() {
            _ if status == "True" => true,
            "WorkspaceNotFound" => workspace.is_none(),
            "WorkspaceNotReady" => workspace.is_some_and(|workspace| ready(workspace).0 != "True"),
            "WorkspaceDeleting" => workspace.is_some_and(is_terminating),
            _ => false,
        }
    });
    made && taken
}

/// Compares what the daemons hold with what the resources say. Nothing may run meanwhile.
async fn check(bench: &Bench, seed: u64) {
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    let status = |object: &Value, field: &str| object["status"][field].as_str().map(str::to_owned);
    let held = bench.held().await;
    let snapshots = bench.server.list(JVS, "Snapshot", Some(TEAM));
    let expected: BTreeSet<String> = snapshots
        .iter()
        .filter(|snapshot| status(snapshot, "snapshotID").is_some())
        .map(|snapshot| format!("snapshot/{}", uid(snapshot)))
        .collect();
    let there = held.snapshot_keys();
    let once: BTreeSet<String> = there.iter().cloned().collect();
    assert_eq!(there.len(), once.len(), "seed {seed}: a snapshot was taken twice");
    assert_eq!(
        once, expected,
        "seed {seed}: snapshots of daemons and of resources differ; the resources are {snapshots:#?}"
    );
    // And where its status says.
    for snapshot in &snapshots {
        if let (Some(id), Some(node)) = (status(snapshot, "snapshotID"), status(snapshot, "nodeName")) {
            let key = format!("snapshot/{}", uid(snapshot));
            let found = held.snapshots.iter().find(|it| it.key == key).unwrap();
            assert_eq!((&found.node, &found.id), (&node, &id), "seed {seed}");
        }
    }
    let workspaces = bench.server.list(JVS, "Workspace", Some(TEAM));
    let provisioned = workspaces
        .iter()
        .filter(|workspace| status(workspace, "workspaceID").is_some());
    let mut expected: Vec<String> = provisioned.clone().map(uid).collect();
    expected.sort();
    assert_eq!(held.workspace_keys(), expected, "seed {seed}");
    let served = provisioned.filter(|workspace| !is_terminating(workspace)).count();
    let volumes = bench.server.list("v1", "PersistentVolume", None).len();
    assert_eq!(volumes, served, "seed {seed}: volumes");
    let claims = bench.server.list("v1", "PersistentVolumeClaim", None).len();
    assert_eq!(claims, served, "seed {seed}: claims");
}

/// So many crashes, and a last operator that finds everything. Answers how many daemons were killed meanwhile.
async fn run(bench: Bench, seed: u64, crashes: u64) -> u64 {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut blown, mut crash, mut kills) = (0, 0, 0);
    while blown < crashes {
        crash += 1;
        assert!(crash < crashes * 10, "seed {seed}: too little happens");
        let fuse = Fuse::new(i64::try_from(dice.roll(40)).unwrap());
        for action in 0..1 + dice.roll(2) {
            if let Some(doom) = act(&bench, &mut dice, crash * 10 + action) {
                fuse.doom(doom);
            }
        }
        let operator = bench.start_with(fused(&bench, &fuse, crash));
        let handle = operator.handle.clone();
        loop {
            let is_over = |bench: &Bench| handle.is_idle() && is_settled(bench);
            tokio::select! {
                () = fuse.blown.notified() => {
                    blown += 1;
                    break;
                }
                () = fuse.struck() => {
                    let victim = fuse.victim().unwrap();
                    bench.replace_daemon(&victim).await;
                    kills += 1;
                }
                () = bench.until("the fuse blows, or all is done", is_over) => break,
            }
        }
        operator.kill().await;
        if let Some(victim) = fuse.victim() {
            bench.replace_daemon(&victim).await;
            kills += 1;
        }
    }
    if bench.real.is_none() {
        for node in ["a", "b"] {
            bench.double.with(node, |node| node.faults.clear());
        }
    }
    let operator = bench.start_with(Start {
        generation: crash + 1,
        ..Start::default()
    });
    let handle = operator.handle.clone();
    // What earlier operators wrote may look settled before this one has looked at anything.
    bench
        .until("everything settles, and nothing is to be done", |bench| {
            handle.is_idle() && is_settled(bench)
        })
        .await;
    operator.stop().await;
    check(&bench, seed).await;
    bench.end().await;
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_crashes_lose_nothing_and_make_nothing_twice() {
    for seed in 1..=RUNS {
        run(Bench::new(&["a", "b"]).await, seed, CRASHES).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_of_the_operator_and_kills_of_real_daemons_lose_nothing_and_make_nothing_twice() {
    let kills = run(Bench::real(&["a", "b"]).await, RUNS + 1, REAL_CRASHES).await;
    assert!(kills >= KILLS_MIN, "only {kills} daemons were killed");
}
