//! A daemon that is killed at any moment while controllers repeat their requests: whatever was answered holds, and nothing is done
//! twice.
//!
//! The oracle is what was answered. A request without an answer may have been carried out or not; it is repeated until it is answered.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use cairn_api::proto::control_client::ControlClient;
use cairn_api::{ApiError, Client, Reason, proto};
use cairn_e2e::random::Random;
use proto::ManagedState;
use rustix::process::Signal;
use tonic::transport::Channel;

use super::controllers::fence;
use super::harness::{Daemon, directory};

/// Kills of the test.
const KILLS: usize = 220;
/// Longest life of a daemon after it is ready, in microseconds.
const LIFE_MICROSECONDS: u64 = 60_000;
/// Workspaces at once.
const WORKSPACES: u64 = 3;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// Asked for, not answered.
    Asked,
    /// There, with this identity.
    There(String),
    /// Its deletion was asked for, not answered; the identity that it had.
    Deleting(String),
    /// Deleted.
    Deleted,
}

#[derive(Default)]
struct Oracle {
    /// Workspaces by key, with their names.
    workspaces: BTreeMap<String, (String, Known)>,
    /// Snapshots by key, with their workspaces.
    snapshots: BTreeMap<String, (String, Known)>,
    /// Restores by key, with their workspaces; the identity is that of the safety snapshot.
    restores: BTreeMap<String, (String, Known)>,
    next: u64,
    answers: u64,
}

fn ensure_workspace(key: &str, name: &str) -> proto::EnsureWorkspaceRequest {
    proto::EnsureWorkspaceRequest {
        fence: fence(1),
        key: key.to_owned(),
        name: name.to_owned(),
        ..proto::EnsureWorkspaceRequest::default()
    }
}

fn ensure_snapshot(key: &str, workspace: &str) -> proto::EnsureSnapshotRequest {
    proto::EnsureSnapshotRequest {
        fence: fence(1),
        key: key.to_owned(),
        workspace: workspace.to_owned(),
        ..proto::EnsureSnapshotRequest::default()
    }
}

fn ensure_restore(key: &str, workspace: &str) -> proto::EnsureRestoreRequest {
    proto::EnsureRestoreRequest {
        fence: fence(1),
        key: key.to_owned(),
        workspace: workspace.to_owned(),
        snapshot: "latest".to_owned(),
        ..proto::EnsureRestoreRequest::default()
    }
}

/// The answer, or `None` if the daemon went away before it came. Every other failure fails the test.
fn answered<T>(outcome: Result<tonic::Response<T>, tonic::Status>, what: &str) -> Option<T> {
    match outcome {
        Ok(answer) => Some(answer.into_inner()),
        Err(status) => {
            let error = ApiError::from_status(&status);
            let broken = [
                Reason::DaemonUnreachable,
                Reason::Unrecognized,
                Reason::StorageUnavailable,
            ];
            assert!(broken.contains(&error.reason), "{what}: {error:?}");
            None
        }
    }
}

impl Oracle {
    /// One request, drawn at random; `None` if it was not answered.
    async fn step(&mut self, control: &mut ControlClient<Channel>, random: &mut Random) -> Option<()> {
        let there = |all: &BTreeMap<String, (String, Known)>| -> Vec<String> {
            let there = all
                .iter()
                .filter(|(_, (_, known))| matches!(known, Known::There(_)));
            there.map(|(key, _)| key.clone()).collect()
        };
        let workspaces = there(&self.workspaces);
        let pending = |all: &BTreeMap<String, (String, Known)>| -> Option<String> {
            all.iter()
                .find(|(_, (_, known))| matches!(known, Known::Asked | Known::Deleting(_)))
                .map(|(key, _)| key.clone())
        };
        // What was not answered is asked again first, as a controller does.
        if let Some(key) = pending(&self.workspaces) {
            return match self.workspaces[&key].1 {
                Known::Deleting(_) => self.delete_workspace(control, &key).await,
                Known::Asked | Known::There(_) | Known::Deleted => self.workspace(control, &key).await,
            };
        }
        if let Some(key) = pending(&self.snapshots) {
            return self.snapshot(control, &key).await;
        }
        if let Some(key) = pending(&self.restores) {
            return self.restore(control, &key).await;
        }
        self.next += 1;
        let number = self.next;
        match random.below(20) {
            _ if (workspaces.len() as u64) < WORKSPACES => {
                let key = format!("workspace/{number}");
                self.workspaces
                    .insert(key.clone(), (format!("w{number}"), Known::Asked));
                self.workspace(control, &key).await
            }
            0 => {
                let key = workspaces[random.below(workspaces.len() as u64) as usize].clone();
                self.delete_workspace(control, &key).await
            }
            1..8 => {
                let workspace = &workspaces[random.below(workspaces.len() as u64) as usize];
                let name = self.workspaces[workspace].0.clone();
                let key = format!("snapshot/{number}");
                self.snapshots.insert(key.clone(), (name, Known::Asked));
                self.snapshot(control, &key).await
            }
            8..11 => {
                let of = there(&self.snapshots);
                let Some(snapshot) = of.get(random.below(of.len().max(1) as u64) as usize) else {
                    return Some(());
                };
                let name = self.snapshots[snapshot].0.clone();
                let key = format!("restore/{number}");
                self.restores.insert(key.clone(), (name, Known::Asked));
                self.restore(control, &key).await
            }
            // A repetition of something that was answered long ago.
            11..15 => {
                let of = there(&self.snapshots);
                match of.get(random.below(of.len().max(1) as u64) as usize) {
                    Some(key) => self.snapshot(control, &key.clone()).await,
                    None => Some(()),
                }
            }
            15..17 => {
                let of = there(&self.restores);
                match of.get(random.below(of.len().max(1) as u64) as usize) {
                    Some(key) => self.restore(control, &key.clone()).await,
                    None => Some(()),
                }
            }
            _ => {
                let key = workspaces[random.below(workspaces.len() as u64) as usize].clone();
                self.workspace(control, &key).await
            }
        }
    }

    fn note(known: &mut Known, id: String, key: &str) {
        if let Known::There(before) = known {
            assert_eq!(*before, id, "{key} has become something else");
        }
        *known = Known::There(id);
    }

    async fn workspace(&mut self, control: &mut ControlClient<Channel>, key: &str) -> Option<()> {
        let (name, known) = self.workspaces.get_mut(key).unwrap();
        let outcome = control.ensure_workspace(ensure_workspace(key, name)).await;
        let answer = answered(outcome, key)?;
        assert!(
            !(answer.created && matches!(known, Known::There(_))),
            "{key} was made twice"
        );
        Self::note(known, answer.workspace.unwrap().id, key);
        self.answers += 1;
        Some(())
    }

    async fn delete_workspace(&mut self, control: &mut ControlClient<Channel>, key: &str) -> Option<()> {
        let (name, known) = self.workspaces.get_mut(key).unwrap();
        if let Known::There(id) = known {
            *known = Known::Deleting(id.clone());
        }
        let request = proto::DeleteManagedWorkspaceRequest {
            fence: fence(1),
            key: key.to_owned(),
            with_snapshots: true,
        };
        answered(control.delete_workspace(request).await, key)?;
        *known = Known::Deleted;
        // Its snapshots and restores go with it.
        let name = name.clone();
        self.snapshots.retain(|_, (workspace, _)| *workspace != name);
        self.restores.retain(|_, (workspace, _)| *workspace != name);
        self.answers += 1;
        Some(())
    }

    async fn snapshot(&mut self, control: &mut ControlClient<Channel>, key: &str) -> Option<()> {
        let (workspace, known) = self.snapshots.get_mut(key).unwrap();
        let outcome = control.ensure_snapshot(ensure_snapshot(key, workspace)).await;
        let answer = answered(outcome, key)?;
        assert!(
            !(answer.created && matches!(known, Known::There(_))),
            "{key} was taken twice"
        );
        Self::note(known, answer.snapshot.unwrap().id, key);
        self.answers += 1;
        Some(())
    }

    async fn restore(&mut self, control: &mut ControlClient<Channel>, key: &str) -> Option<()> {
        let (workspace, known) = self.restores.get_mut(key).unwrap();
        let outcome = control.ensure_restore(ensure_restore(key, workspace)).await;
        let answer = answered(outcome, key)?;
        assert!(
            !(answer.created && matches!(known, Known::There(_))),
            "{key} was done twice"
        );
        Self::note(known, answer.restore.unwrap().safety.unwrap(), key);
        self.answers += 1;
        Some(())
    }

    /// Compares everything that the daemon tells with what was answered.
    async fn check(&self, control: &mut ControlClient<Channel>) {
        for (key, (name, known)) in &self.workspaces {
            let request = proto::GetManagedWorkspaceRequest { key: key.clone() };
            let found = control.get_workspace(request).await;
            match known {
                Known::Asked => {}
                Known::There(id) => {
                    let found = found.unwrap().into_inner().workspace.unwrap();
                    assert_eq!((found.state(), &found.id), (ManagedState::Ready, id), "{key}");
                    self.check_snapshots(control, name).await;
                }
                Known::Deleting(_) => {
                    let found = found.unwrap().into_inner().workspace.unwrap();
                    let state = found.state();
                    assert!(
                        matches!(state, ManagedState::Ready | ManagedState::Deleted),
                        "{key}"
                    );
                }
                Known::Deleted => {
                    let found = found.unwrap().into_inner().workspace.unwrap();
                    assert_eq!(found.state(), ManagedState::Deleted, "{key}");
                }
            }
        }
    }

    /// Every snapshot of a workspace is of a key or of a restore, each of which has one.
    async fn check_snapshots(&self, control: &mut ControlClient<Channel>, workspace: &str) {
        let request = proto::ListManagedSnapshotsRequest {
            workspace: workspace.to_owned(),
            ..proto::ListManagedSnapshotsRequest::default()
        };
        let listed = control.list_snapshots(request).await.unwrap().into_inner();
        assert!(listed.next_page_token.is_empty(), "the test has grown");
        let (safety, requested): (Vec<_>, Vec<_>) =
            listed.snapshots.into_iter().partition(|snapshot| snapshot.safety);
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for snapshot in requested {
            let twice = found.insert(snapshot.key.clone(), snapshot.id);
            assert!(
                twice.is_none() && !snapshot.key.is_empty(),
                "{} twice",
                snapshot.key
            );
        }
        let of = |all: &BTreeMap<String, (String, Known)>| -> Vec<(String, Known)> {
            let of = all.iter().filter(|(_, (name, _))| name == workspace);
            of.map(|(key, (_, known))| (key.clone(), known.clone())).collect()
        };
        let mut unanswered = 0;
        for (key, known) in of(&self.snapshots) {
            let is = found.remove(&key);
            match known {
                Known::There(id) => assert_eq!(is, Some(id), "{key}"),
                Known::Asked | Known::Deleting(_) | Known::Deleted => {}
            }
        }
        assert!(found.is_empty(), "nobody asked for {found:?}");
        let mut safety: Vec<String> = safety.into_iter().map(|snapshot| snapshot.id).collect();
        for (key, known) in of(&self.restores) {
            match known {
                Known::There(id) => {
                    let at = safety.iter().position(|safety| *safety == id);
                    safety.remove(at.unwrap_or_else(|| panic!("{key} has lost its safety snapshot")));
                }
                Known::Asked | Known::Deleting(_) | Known::Deleted => unanswered += 1,
            }
        }
        assert!(safety.len() <= unanswered, "restores were done twice: {safety:?}");
    }
}

async fn connect(data: &Path) -> ControlClient<Channel> {
    Client::connect(&data.join("cairnd.sock")).await.unwrap().control
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_answered_holds_and_nothing_is_done_twice() {
    let directory = directory();
    let mut random = Random::new(20_261_121);
    let mut oracle = Oracle::default();
    let began = Instant::now();
    let mut starting = Duration::ZERO;
    for _ in 0..KILLS {
        let at = Instant::now();
        let daemon = Daemon::start(directory.path());
        starting += at.elapsed();
        let mut control = connect(&daemon.data).await;
        oracle.check(&mut control).await;
        let life = Duration::from_micros(random.below(LIFE_MICROSECONDS));
        let process = daemon.process_id();
        let killer = std::thread::spawn(move || {
            // The moment is drawn: this is no waiting for anything.
            std::thread::park_timeout(life);
            let process = rustix::process::Pid::from_raw(process as i32).unwrap();
            rustix::process::kill_process(process, Signal::KILL).unwrap();
        });
        while oracle.step(&mut control, &mut random).await.is_some() {}
        killer.join().unwrap();
        assert_eq!(daemon.ended(), -(Signal::KILL.as_raw()));
    }
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await;
    oracle.check(&mut control).await;
    println!(
        "{KILLS} kills in {:.1} s, {} answers, {:.0} ms for a start",
        began.elapsed().as_secs_f64(),
        oracle.answers,
        starting.as_secs_f64() * 1000.0 / KILLS as f64
    );
    assert!(
        oracle.answers > KILLS as u64,
        "the daemon was hardly ever asked anything"
    );
    assert_eq!(daemon.stop(), 0);
}
