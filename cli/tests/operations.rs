//! Long work as the real `cairn` shows it: a daemon of the test's own answers on a socket, and the test decides what it says.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use cairn_api::proto::archives_server::{Archives, ArchivesServer};
use cairn_api::proto::operations_server::{Operations, OperationsServer};
use cairn_api::{ApiError, ProtoTimestamp, Reason, proto};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

/// What the daemon of a test says when an operation is watched.
#[derive(Clone)]
enum Script {
    /// These updates, then the end of the answer.
    Updates(Vec<proto::OperationUpdate>),
    /// Runs until it is cancelled.
    UntilCancelled,
}

#[derive(Clone)]
struct FakeDaemon {
    script: Script,
    cancelled: Arc<watch::Sender<bool>>,
    requests: Arc<Mutex<Vec<String>>>,
}

fn operation(kind: proto::OperationKind, state: proto::OperationState) -> proto::Operation {
    let time = |seconds| Some(ProtoTimestamp { seconds, nanos: 0 });
    proto::Operation {
        id: "9f3e".repeat(8),
        kind: kind.into(),
        workspace: "w".to_owned(),
        reference: "a".repeat(32),
        store: "file:///s".to_owned(),
        state: state.into(),
        started: time(1_700_000_000),
        ended: (state != proto::OperationState::Running)
            .then(|| time(1_700_000_007))
            .flatten(),
        progress: Some(proto::Progress {
            phase: proto::OperationPhase::Transferring.into(),
            files: 1,
            ..proto::Progress::default()
        }),
        ..proto::Operation::default()
    }
}

fn archive() -> proto::Archive {
    let time = Some(ProtoTimestamp {
        seconds: 1_700_000_000,
        nanos: 0,
    });
    proto::Archive {
        snapshot: "a".repeat(32),
        workspace: "w".to_owned(),
        created: time,
        archived: time,
        ..proto::Archive::default()
    }
}

fn update(operation: proto::Operation) -> proto::OperationUpdate {
    proto::OperationUpdate {
        operation: Some(operation),
        ..proto::OperationUpdate::default()
    }
}

impl FakeDaemon {
    fn note<T: std::fmt::Debug>(&self, request: &T) {
        self.requests.lock().unwrap().push(format!("{request:?}"));
    }

    fn begun(&self, kind: proto::OperationKind) -> Option<proto::Operation> {
        Some(operation(kind, proto::OperationState::Running))
    }
}

fn not_called<T>() -> Result<Response<T>, Status> {
    Err(Status::internal("the test does not call this"))
}

#[tonic::async_trait]
impl Archives for FakeDaemon {
    async fn push(
        &self,
        request: Request<proto::PushRequest>,
    ) -> Result<Response<proto::PushResponse>, Status> {
        self.note(request.get_ref());
        let operation = self.begun(proto::OperationKind::Push);
        Ok(Response::new(proto::PushResponse { operation }))
    }

    async fn pull(
        &self,
        request: Request<proto::PullRequest>,
    ) -> Result<Response<proto::PullResponse>, Status> {
        self.note(request.get_ref());
        let operation = self.begun(proto::OperationKind::Pull);
        Ok(Response::new(proto::PullResponse { operation }))
    }

    async fn verify(
        &self,
        request: Request<proto::VerifyRequest>,
    ) -> Result<Response<proto::VerifyResponse>, Status> {
        self.note(request.get_ref());
        let operation = self.begun(proto::OperationKind::Verify);
        Ok(Response::new(proto::VerifyResponse { operation }))
    }

    async fn reclaim(
        &self,
        request: Request<proto::ReclaimRequest>,
    ) -> Result<Response<proto::ReclaimResponse>, Status> {
        self.note(request.get_ref());
        let operation = self.begun(proto::OperationKind::Reclaim);
        Ok(Response::new(proto::ReclaimResponse { operation }))
    }

    async fn list(
        &self,
        _request: Request<proto::ListArchivesRequest>,
    ) -> Result<Response<proto::ListArchivesResponse>, Status> {
        not_called()
    }

    async fn show(
        &self,
        request: Request<proto::ShowArchiveRequest>,
    ) -> Result<Response<proto::ShowArchiveResponse>, Status> {
        let reference = request.into_inner().reference.unwrap_or_default();
        // "latest" is the same as "aaaa" until it is deleted.
        let snapshot = match reference.as_str() {
            "latest" | "aaaa" => "a".repeat(32),
            other => other.repeat(8),
        };
        Ok(Response::new(proto::ShowArchiveResponse {
            archive: Some(proto::Archive {
                snapshot,
                ..archive()
            }),
            ..proto::ShowArchiveResponse::default()
        }))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteArchiveRequest>,
    ) -> Result<Response<proto::DeleteArchiveResponse>, Status> {
        let snapshot = request.into_inner().reference;
        self.note(&snapshot);
        let archive = Some(proto::Archive {
            snapshot,
            ..archive()
        });
        Ok(Response::new(proto::DeleteArchiveResponse { archive }))
    }

    async fn take_over(
        &self,
        _request: Request<proto::TakeOverRequest>,
    ) -> Result<Response<proto::TakeOverResponse>, Status> {
        not_called()
    }

    async fn init(
        &self,
        _request: Request<proto::InitStoreRequest>,
    ) -> Result<Response<proto::InitStoreResponse>, Status> {
        not_called()
    }

    async fn rotate_key(
        &self,
        _request: Request<proto::RotateKeyRequest>,
    ) -> Result<Response<proto::RotateKeyResponse>, Status> {
        not_called()
    }
}

#[tonic::async_trait]
impl Operations for FakeDaemon {
    type WatchStream = ReceiverStream<Result<proto::OperationUpdate, Status>>;

    async fn watch(
        &self,
        _request: Request<proto::WatchOperationRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let script = self.script.clone();
        let mut cancelled = self.cancelled.subscribe();
        self.note(&"watched");
        tokio::spawn(async move {
            match script {
                Script::Updates(updates) => {
                    for update in updates {
                        if sender.send(Ok(update)).await.is_err() {
                            return;
                        }
                    }
                }
                Script::UntilCancelled => {
                    let running = operation(proto::OperationKind::Push, proto::OperationState::Running);
                    let damage = proto::Finding {
                        finding: Some(proto::finding::Finding::Damage(proto::Damage::default())),
                    };
                    // A finding is printed at once, by which the test knows that the operation is followed.
                    let first = proto::OperationUpdate {
                        findings: vec![damage],
                        ..update(running)
                    };
                    if sender.send(Ok(first)).await.is_err() || cancelled.wait_for(|now| *now).await.is_err()
                    {
                        return;
                    }
                    let ended = operation(proto::OperationKind::Push, proto::OperationState::Cancelled);
                    // A client that has gone away misses it.
                    let _ = sender.send(Ok(update(ended))).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn cancel(
        &self,
        _request: Request<proto::CancelOperationRequest>,
    ) -> Result<Response<proto::CancelOperationResponse>, Status> {
        self.note(&"cancelled");
        self.cancelled.send_replace(true);
        let operation = self.begun(proto::OperationKind::Push);
        Ok(Response::new(proto::CancelOperationResponse { operation }))
    }

    async fn list(
        &self,
        _request: Request<proto::ListOperationsRequest>,
    ) -> Result<Response<proto::ListOperationsResponse>, Status> {
        let operations = vec![operation(
            proto::OperationKind::Push,
            proto::OperationState::Running,
        )];
        Ok(Response::new(proto::ListOperationsResponse { operations }))
    }

    async fn get(
        &self,
        request: Request<proto::GetOperationRequest>,
    ) -> Result<Response<proto::GetOperationResponse>, Status> {
        let id = request.into_inner().id;
        if !"9f3e".repeat(8).starts_with(&id) {
            return Err(ApiError::new(Reason::OperationNotFound, "none")
                .remedy("list them")
                .into());
        }
        let operation = self.begun(proto::OperationKind::Push);
        Ok(Response::new(proto::GetOperationResponse { operation }))
    }
}

/// A daemon that answers as long as it is there.
struct Serving {
    directory: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

fn serve(script: Script) -> Serving {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let daemon = FakeDaemon {
        script,
        cancelled: Arc::new(watch::Sender::new(false)),
        requests: Arc::clone(&requests),
    };
    let guard = runtime.enter();
    let listener = tokio::net::UnixListener::bind(directory.path().join("s")).unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(ArchivesServer::new(daemon.clone()))
        .add_service(OperationsServer::new(daemon))
        .serve_with_incoming(UnixListenerStream::new(listener));
    runtime.spawn(server);
    drop(guard);
    Serving {
        directory,
        requests,
        _runtime: runtime,
    }
}

impl Serving {
    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    fn cairn(&self, arguments: &[&str]) -> Output {
        command(&self.socket(), arguments).output().unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn command(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
    command
        .args(arguments)
        .env("CAIRN_SOCKET", socket)
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn objects(output: &Output) -> Vec<Value> {
    text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn pushed() -> proto::Operation {
    proto::Operation {
        result: Some(proto::operation::Result::Pushed(proto::PushResult {
            archive: Some(archive()),
            files_read: 2,
            bytes_read: 2048,
            bytes_new: 1024,
            bytes_stored: 512,
            packs: 1,
            already_there: false,
        })),
        ..operation(proto::OperationKind::Push, proto::OperationState::Succeeded)
    }
}

#[test]
fn a_push_is_followed_to_its_end() {
    let running = operation(proto::OperationKind::Push, proto::OperationState::Running);
    let daemon = serve(Script::Updates(vec![update(running), update(pushed())]));
    let output = daemon.cairn(&["push", "w@v1", "file:///s"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        text(&output.stdout),
        "pushed snapshot aaaaaaaaaaaa of workspace w to file:///s\n\
         read 2.0 KiB in 2 files, of which 1.0 KiB were new; stored 512 B in 1 packs\n"
    );
    // Nobody watches: no progress is drawn.
    assert_eq!(text(&output.stderr), "");
    assert!(daemon.requests()[0].contains("workspace: \"w\", reference: \"v1\", store: \"file:///s\""));

    let output = daemon.cairn(&["push", "w", "file:///s", "--json"]);
    let objects = objects(&output);
    assert_eq!(objects.len(), 1);
    assert_eq!(
        objects[0],
        json!({
            "id": "9f3e".repeat(8), "kind": "push", "workspace": "w", "reference": "a".repeat(32), "store": "file:///s",
            "state": "succeeded", "cancel_requested": false, "started": "2023-11-14T22:13:20Z",
            "ended": "2023-11-14T22:13:27Z",
            "progress": {"phase": "transferring", "files": 1, "files_total": 0, "bytes": 0, "bytes_total": 0,
                         "transferred_bytes": 0, "elapsed_milliseconds": 0},
            "result": {"archive": {"snapshot": "a".repeat(32), "workspace": "w", "created": "2023-11-14T22:13:20Z",
                         "archived": "2023-11-14T22:13:20Z", "note": "", "tags": [], "inodes": 0, "files": 0,
                         "directories": 0, "bytes": 0, "added_bytes": 0, "base": null},
                       "already_there": false, "files_read": 2, "bytes_read": 2048, "bytes_new": 1024,
                       "bytes_stored": 512, "packs": 1},
            "failure": null,
        })
    );
}

#[test]
fn a_detached_operation_is_not_followed() {
    let daemon = serve(Script::UntilCancelled);
    let output = daemon.cairn(&["push", "w", "file:///s", "--detach"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), format!("{}\n", "9f3e".repeat(8)))
    );
    let output = daemon.cairn(&[
        "archive",
        "reclaim",
        "file:///s",
        "--detach",
        "--grace",
        "7d",
        "--json",
    ]);
    assert_eq!(objects(&output)[0]["kind"], "reclaim");
    assert!(
        daemon.requests()[1].contains("seconds: 604800"),
        "{:?}",
        daemon.requests()
    );
    assert!(
        !daemon
            .requests()
            .iter()
            .any(|request| request.contains("watched"))
    );
}

#[test]
fn a_failed_operation_fails_the_command_as_a_request_would() {
    let failed = proto::Operation {
        failure: Some(proto::Failure {
            reason: "STORE_FOREIGN".to_owned(),
            message: "file:///s is owned by h:/d".to_owned(),
            remedy: "take it over".to_owned(),
            details: [("owner".to_owned(), "h:/d".to_owned())].into(),
        }),
        ..operation(proto::OperationKind::Push, proto::OperationState::Failed)
    };
    let daemon = serve(Script::Updates(vec![update(failed)]));
    let output = daemon.cairn(&["push", "w", "file:///s"]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(
        text(&output.stderr),
        "cairn: file:///s is owned by h:/d\n  take it over\n"
    );
    let output = daemon.cairn(&["push", "w", "file:///s", "--json"]);
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(told["error"]["reason"], "STORE_FOREIGN");
    assert_eq!(told["error"]["details"], json!({"owner": "h:/d"}));
    assert!(output.stdout.is_empty());
}

#[test]
fn damage_is_printed_as_it_is_found_and_has_its_own_exit_code() {
    let damage = |number: u64| proto::Finding {
        finding: Some(proto::finding::Finding::Damage(proto::Damage {
            archive: Some("b".repeat(32)),
            path: Some(b"dir/f\xff".to_vec()),
            range_start: Some(0),
            range_bytes: Some(10),
            object: "packs/ab/cd".to_owned(),
            offset: Some(number),
            what: "checksum".to_owned(),
        })),
    };
    let verified = proto::Operation {
        result: Some(proto::operation::Result::Verified(proto::VerifyResult {
            archives: 2,
            archives_sound: 1,
            packs: 3,
            bytes_read: 0,
            damages: 5,
        })),
        ..operation(proto::OperationKind::Verify, proto::OperationState::Succeeded)
    };
    let first = proto::OperationUpdate {
        findings: vec![damage(1), damage(2)],
        ..update(operation(
            proto::OperationKind::Verify,
            proto::OperationState::Running,
        ))
    };
    let last = proto::OperationUpdate {
        findings: vec![damage(3)],
        findings_skipped: 2,
        ..update(verified)
    };
    let daemon = serve(Script::Updates(vec![first, last]));
    let output = daemon.cairn(&[
        "archive",
        "verify",
        "file:///s",
        "v1",
        "--deep",
        "--limit-rate",
        "1MiB",
    ]);
    assert_eq!(output.status.code(), Some(10), "{output:?}");
    let stdout = text(&output.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{stdout}");
    assert_eq!(
        lines[2],
        "archive bbbbbbbbbbbb: dir/f\\xff bytes 0 to 10: packs/ab/cd at 3: checksum"
    );
    assert_eq!(lines[3], "1 of 2 archives are sound; looked at 3 packs, read 0 B");
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("2 findings are not shown") && stderr.contains("5 damages were found"),
        "{stderr}"
    );
    let request = &daemon.requests()[0];
    assert!(
        request.contains("deep: true") && request.contains("Some(1048576)"),
        "{request}"
    );

    let output = daemon.cairn(&["archive", "verify", "file:///s", "--json"]);
    assert_eq!(output.status.code(), Some(10));
    let objects = objects(&output);
    assert_eq!(objects.len(), 4);
    assert_eq!(objects[0]["damage"]["path_hex"], "6469722f66ff");
    assert_eq!(objects[3]["result"]["damages"], 5);
}

/// Runs a command until it has printed a line, and gives it.
fn until_it_follows(command: &mut Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.starts_with("no archive"), "{line}");
    (child, stdout)
}

fn interrupt(child: &Child) {
    rustix::process::kill_process(
        rustix::process::Pid::from_child(child),
        rustix::process::Signal::INT,
    )
    .unwrap();
}

#[test]
fn an_interrupt_cancels_and_says_how_to_go_on() {
    let daemon = serve(Script::UntilCancelled);
    let (child, _stdout) = until_it_follows(&mut command(&daemon.socket(), &["push", "w@v1", "file:///s"]));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(13), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("cancelled") && stderr.contains("to go on: cairn push w@v1 file:///s\n"),
        "{stderr}"
    );
    assert!(
        daemon
            .requests()
            .iter()
            .any(|request| request.contains("cancelled"))
    );
}

#[test]
fn an_interrupted_watch_leaves_the_operation_alone() {
    let daemon = serve(Script::UntilCancelled);
    let (child, _stdout) = until_it_follows(&mut command(&daemon.socket(), &["operation", "watch", "9f3e"]));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(13), "{output:?}");
    assert!(text(&output.stderr).contains("goes on"), "{output:?}");
    assert!(
        !daemon
            .requests()
            .iter()
            .any(|request| request.contains("cancelled"))
    );
    let unknown = daemon.cairn(&["operation", "watch", "0000"]);
    assert_eq!(unknown.status.code(), Some(3));
}

#[test]
fn an_answer_that_breaks_off_is_no_success() {
    let running = operation(proto::OperationKind::Pull, proto::OperationState::Running);
    let daemon = serve(Script::Updates(vec![update(running)]));
    let output = daemon.cairn(&["pull", "file:///s@v1", "new"]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("to go on: cairn pull file:///s@v1 new\n"),
        "{stderr}"
    );
    let request = &daemon.requests()[0];
    assert!(
        request.contains("store: \"file:///s\", reference: \"v1\", workspace: \"new\""),
        "{request}"
    );
}

#[test]
fn a_deletion_settles_what_is_meant_before_it_begins() {
    let daemon = serve(Script::UntilCancelled);
    let output = daemon.cairn(&[
        "archive",
        "delete",
        "file:///s",
        "latest",
        "aaaa",
        "bbbb",
        "--yes",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let deleted: Vec<Value> = objects(&output)[0]["deleted"]
        .as_array()
        .unwrap()
        .iter()
        .map(|archive| archive["snapshot"].clone())
        .collect();
    assert_eq!(deleted, [json!("a".repeat(32)), json!("b".repeat(32))]);
    assert_eq!(daemon.requests().len(), 2);
    let output = daemon.cairn(&["archive", "delete", "file:///s", "bbbb"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--yes"));
    let output = daemon.cairn(&["archive", "take-over", "file:///s"]);
    assert_eq!(output.status.code(), Some(2));
}
