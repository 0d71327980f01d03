//! Controllers' requests on plain directories: the same keys, with operations for what takes long.

use std::path::Path;

use cairn_api::{ApiError, Client, Reason, proto};
use proto::ManagedState;
use rustix::process::Signal;

use super::controllers::{connect, fence};
use super::harness::{Daemon, cairnd, directory};

fn start(root: &Path) -> Daemon {
    let data = root.join("data");
    let config = root.join("cairnd.toml");
    let text = format!("[directories]\nroots = ['{}']\n", root.join("allowed").display());
    std::fs::create_dir_all(root.join("allowed/w")).unwrap();
    std::fs::write(&config, text).unwrap();
    Daemon::start_with(&data, cairnd(&data).arg("--config").arg(&config))
}

fn workspace(root: &Path, key: &str, name: &str) -> proto::EnsureWorkspaceRequest {
    use std::os::unix::ffi::OsStrExt;
    proto::EnsureWorkspaceRequest {
        fence: fence(1),
        key: key.to_owned(),
        name: name.to_owned(),
        backing: Some(proto::ensure_workspace_request::Backing::Directory(
            proto::DirectoryBacking {
                path: root.join("allowed/w").as_os_str().as_bytes().to_vec(),
                control_directory: Vec::new(),
            },
        )),
        ..proto::EnsureWorkspaceRequest::default()
    }
}

fn snapshot(key: &str, name: &str) -> proto::EnsureSnapshotRequest {
    proto::EnsureSnapshotRequest {
        fence: fence(1),
        key: key.to_owned(),
        workspace: name.to_owned(),
        engine: "copy".to_owned(),
        verify: true,
        ..proto::EnsureSnapshotRequest::default()
    }
}

fn restore(key: &str, name: &str, snapshot: &str) -> proto::EnsureRestoreRequest {
    proto::EnsureRestoreRequest {
        fence: fence(1),
        key: key.to_owned(),
        workspace: name.to_owned(),
        snapshot: snapshot.to_owned(),
        ..proto::EnsureRestoreRequest::default()
    }
}

/// Watches an operation to its end.
async fn watched(client: &mut Client, operation: &str) {
    let request = proto::WatchOperationRequest {
        id: operation.to_owned(),
    };
    let mut updates = client.operations.watch(request).await.unwrap().into_inner();
    while updates.message().await.unwrap().is_some() {}
}

/// The snapshot of a key when it is not worked on any more.
async fn settled(client: &mut Client, request: &proto::EnsureSnapshotRequest) -> proto::ManagedSnapshot {
    loop {
        let now = client.control.ensure_snapshot(request.clone()).await.unwrap();
        let now = now.into_inner().snapshot.unwrap();
        if now.state() != ManagedState::Running {
            return now;
        }
        watched(client, &now.operation).await;
    }
}

async fn restored(client: &mut Client, request: &proto::EnsureRestoreRequest) -> proto::ManagedRestore {
    loop {
        let now = client.control.ensure_restore(request.clone()).await.unwrap();
        let now = now.into_inner().restore.unwrap();
        if now.state() != ManagedState::Running {
            return now;
        }
        watched(client, &now.operation).await;
    }
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, tonic::Status>) -> Reason {
    ApiError::from_status(&outcome.unwrap_err()).reason
}

#[tokio::test]
async fn a_directory_is_saved_restored_and_left_as_it_is() {
    let root = directory();
    let daemon = start(root.path());
    let mut client = connect(&daemon.data).await;
    let file = root.path().join("allowed/w/file");
    std::fs::write(&file, "one").unwrap();

    let made = client
        .control
        .ensure_workspace(workspace(root.path(), "w", "ns.d"))
        .await
        .unwrap()
        .into_inner();
    assert!(made.created);
    let made = made.workspace.unwrap();
    assert_eq!(
        (made.state(), made.export_port, made.trouble.as_str()),
        (ManagedState::Ready, 0, "")
    );
    let again = client
        .control
        .ensure_workspace(workspace(root.path(), "w", "ns.d"))
        .await
        .unwrap()
        .into_inner();
    assert!(!again.created && again.changed.is_empty());
    for (key, name, expected) in [
        ("w2", "ns.d", Reason::WorkspaceOwned),
        ("w2", "ns.other", Reason::WorkspaceOwned),
    ] {
        assert_eq!(
            reason(
                client
                    .control
                    .ensure_workspace(workspace(root.path(), key, name))
                    .await
            ),
            expected
        );
    }
    let mut outside = workspace(root.path(), "w3", "ns.x");
    outside.backing = Some(proto::ensure_workspace_request::Backing::Directory(
        proto::DirectoryBacking {
            path: b"/".to_vec(),
            control_directory: Vec::new(),
        },
    ));
    assert_eq!(
        reason(client.control.ensure_workspace(outside).await),
        Reason::DirectoryNotAllowed
    );

    let first = settled(&mut client, &snapshot("s/1", "ns.d")).await;
    assert_eq!(
        (first.state(), first.engine.as_str()),
        (ManagedState::Ready, "copy")
    );
    assert_eq!(first.verification(), proto::Verification::Verified);
    assert_eq!(settled(&mut client, &snapshot("s/1", "ns.d")).await.id, first.id);

    std::fs::write(&file, "two").unwrap();
    let plan = proto::PlanRestoreRequest {
        workspace: "ns.d".to_owned(),
        snapshot: first.id.clone(),
        paths: Vec::new(),
    };
    let plan = client.control.plan_restore(plan).await.unwrap().into_inner();
    assert_eq!((plan.adds, plan.changes, plan.deletes), (0, 1, 0));
    let done = restored(&mut client, &restore("r/1", "ns.d", &first.id)).await;
    assert_eq!(done.state(), ManagedState::Ready);
    assert!(done.safety.is_some());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
    // Done is done: what is written later stays.
    std::fs::write(&file, "three").unwrap();
    let again = restored(&mut client, &restore("r/1", "ns.d", &first.id)).await;
    assert_eq!(again.safety, done.safety);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "three");

    let listed = proto::ListManagedSnapshotsRequest {
        workspace: "ns.d".to_owned(),
        ..proto::ListManagedSnapshotsRequest::default()
    };
    let listed = client
        .control
        .list_snapshots(listed)
        .await
        .unwrap()
        .into_inner()
        .snapshots;
    let keys: Vec<(&str, bool)> = listed.iter().map(|s| (s.key.as_str(), s.safety)).collect();
    assert_eq!(keys, [("s/1", false), ("", true)]);
    let delete = proto::DeleteManagedSnapshotRequest {
        fence: fence(1),
        which: Some(proto::delete_managed_snapshot_request::Which::Key(
            "s/1".to_owned(),
        )),
    };
    // What the workspace comes from is kept until it has been saved again.
    assert_eq!(
        reason(client.control.delete_snapshot(delete.clone()).await),
        Reason::SnapshotProtected
    );
    assert_eq!(
        settled(&mut client, &snapshot("s/1", "ns.d")).await.state(),
        ManagedState::Ready
    );
    settled(&mut client, &snapshot("s/2", "ns.d")).await;
    for already_gone in [false, true] {
        let gone = client
            .control
            .delete_snapshot(delete.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(gone.already_gone, already_gone);
    }
    let release = proto::DeleteManagedWorkspaceRequest {
        fence: fence(1),
        key: "w".to_owned(),
        with_snapshots: true,
    };
    client.control.delete_workspace(release).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "three");
    assert_eq!(
        reason(client.control.ensure_snapshot(snapshot("s/3", "ns.d")).await),
        Reason::WorkspaceNotFound
    );
}

#[tokio::test]
async fn one_snapshot_of_a_directory_for_a_key_across_kills() {
    let root = directory();
    for number in 0..300 {
        let path = root.path().join(format!("allowed/w/{}", number % 10));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(number.to_string()), vec![7; 20_000]).unwrap();
    }
    let mut ids = Vec::new();
    for round in 0..6u8 {
        let daemon = start(root.path());
        let mut client = connect(&daemon.data).await;
        client
            .control
            .ensure_workspace(workspace(root.path(), "w", "d"))
            .await
            .unwrap();
        let request = snapshot(&format!("s/{round}"), "d");
        let begun = client
            .control
            .ensure_snapshot(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(begun.created);
        daemon.signal(Signal::KILL);
        daemon.ended();
        let daemon = start(root.path());
        let mut client = connect(&daemon.data).await;
        let now = settled(&mut client, &request).await;
        assert_eq!(now.state(), ManagedState::Ready, "{now:?}");
        ids.push(now.id);
        let restoring = restore(&format!("r/{round}"), "d", &ids[0]);
        let begun = client
            .control
            .ensure_restore(restoring.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(begun.created);
        daemon.signal(Signal::KILL);
        daemon.ended();
        let daemon = start(root.path());
        let mut client = connect(&daemon.data).await;
        assert_eq!(
            restored(&mut client, &restoring).await.state(),
            ManagedState::Ready
        );
        daemon.stop();
    }
    let daemon = start(root.path());
    let mut client = connect(&daemon.data).await;
    let listed = proto::ListManagedSnapshotsRequest {
        workspace: "d".to_owned(),
        ..proto::ListManagedSnapshotsRequest::default()
    };
    let listed = client
        .control
        .list_snapshots(listed)
        .await
        .unwrap()
        .into_inner()
        .snapshots;
    let found: Vec<&String> = listed.iter().filter(|s| !s.safety).map(|s| &s.id).collect();
    assert_eq!(found, ids.iter().collect::<Vec<_>>());
}
