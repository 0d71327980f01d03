//! What controllers ask for: each thing once, under its key, led by whoever leads, across restarts.

use std::path::Path;

use cairn_api::{ApiError, Client, Reason, proto};
use proto::ManagedState;
use rustix::process::Signal;

use super::harness::{Daemon, directory};

/// The fence of the tests, with this generation.
pub fn fence(generation: u64) -> Option<proto::Fence> {
    Some(proto::Fence {
        cluster: "test".to_owned(),
        generation,
        instance: String::new(),
    })
}

/// A connection over the Unix socket.
pub async fn connect(data: &Path) -> Client {
    Client::connect(&data.join("cairnd.sock")).await.unwrap()
}

fn volume(key: &str, name: &str) -> proto::EnsureWorkspaceRequest {
    proto::EnsureWorkspaceRequest {
        fence: fence(1),
        key: key.to_owned(),
        name: name.to_owned(),
        uid: 7,
        mode: Some(0o750),
        ..proto::EnsureWorkspaceRequest::default()
    }
}

fn snapshot(key: &str, workspace: &str) -> proto::EnsureSnapshotRequest {
    proto::EnsureSnapshotRequest {
        fence: fence(1),
        key: key.to_owned(),
        workspace: workspace.to_owned(),
        note: "n".to_owned(),
        ..proto::EnsureSnapshotRequest::default()
    }
}

fn restore(key: &str, workspace: &str, snapshot: &str) -> proto::EnsureRestoreRequest {
    proto::EnsureRestoreRequest {
        fence: fence(1),
        key: key.to_owned(),
        workspace: workspace.to_owned(),
        snapshot: snapshot.to_owned(),
        ..proto::EnsureRestoreRequest::default()
    }
}

fn reason<T: std::fmt::Debug>(outcome: Result<T, tonic::Status>) -> (Reason, ApiError) {
    let error = ApiError::from_status(&outcome.unwrap_err());
    assert!(!error.remedy.is_empty(), "{error:?}");
    (error.reason, error)
}

#[tokio::test]
async fn a_workspace_is_made_once_and_stays_its_owners() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await.control;
    let mut request = volume("uid-1", "ns.a");
    request.labels = [("team".to_owned(), "x".to_owned())].into();
    let first = control
        .ensure_workspace(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(first.created && first.changed.is_empty());
    let made = first.workspace.unwrap();
    assert_eq!((made.key.as_str(), made.name.as_str()), ("uid-1", "ns.a"));
    assert_eq!(
        (made.state(), made.export_path.as_str()),
        (ManagedState::Ready, "/ns.a")
    );
    assert_eq!((made.used_inodes, made.id.len()), (1, 32));

    let again = control
        .ensure_workspace(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(!again.created && again.changed.is_empty());
    assert_eq!(again.workspace.unwrap(), made);
    request.labels = [("team".to_owned(), "y".to_owned())].into();
    let changed = control
        .ensure_workspace(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (changed.created, changed.changed),
        (false, vec!["labels".to_owned()])
    );

    let mut other = request.clone();
    (other.uid, other.name) = (8, "ns.b".to_owned());
    let (found, error) = reason(control.ensure_workspace(other).await);
    assert_eq!(
        (found, error.details["fields"].as_str()),
        (Reason::KeyConflict, "name,uid")
    );
    let (found, error) = reason(control.ensure_workspace(volume("uid-2", "ns.a")).await);
    assert_eq!(
        (found, error.details["owner"].as_str()),
        (Reason::WorkspaceOwned, "uid-1")
    );

    // Across a kill, everything is as it was but the instance.
    let before = control
        .get_info(proto::GetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    daemon.signal(Signal::KILL);
    daemon.ended();
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await.control;
    let after = control
        .get_info(proto::GetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(after.identity, before.identity);
    assert_ne!(after.instance, before.instance);
    let again = control.ensure_workspace(request).await.unwrap().into_inner();
    assert!(!again.created && again.changed.is_empty());
    let again = again.workspace.unwrap();
    assert_eq!((again.id, &again.labels["team"]), (made.id, &"y".to_owned()));
    let stale = proto::Fence {
        instance: before.instance,
        ..fence(1).unwrap()
    };
    let mut meant = volume("uid-3", "ns.c");
    meant.fence = Some(stale);
    assert_eq!(
        reason(control.ensure_workspace(meant).await).0,
        Reason::InstanceChanged
    );
}

#[tokio::test]
async fn a_deleted_workspace_stays_deleted_and_a_released_one_can_be_adopted() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await.control;
    control.ensure_workspace(volume("uid-1", "a")).await.unwrap();
    let delete = |key: &str, with_snapshots| proto::DeleteManagedWorkspaceRequest {
        fence: fence(1),
        key: key.to_owned(),
        with_snapshots,
    };
    control.ensure_snapshot(snapshot("s", "a")).await.unwrap();
    let kept = reason(control.delete_workspace(delete("uid-1", false)).await).0;
    assert_eq!(kept, Reason::WorkspaceHasSnapshots);
    for already_gone in [false, true] {
        let deleted = control.delete_workspace(delete("uid-1", true)).await.unwrap();
        assert_eq!(deleted.into_inner().already_gone, already_gone);
    }
    let never = control.delete_workspace(delete("never", false)).await.unwrap();
    assert!(never.into_inner().already_gone);
    // A request for it that was sent before and comes late makes nothing.
    let late = reason(control.ensure_workspace(volume("never", "n")).await).0;
    assert_eq!(late, Reason::KeyDeleted);
    let which = proto::delete_managed_snapshot_request::Which::Key("s-never".to_owned());
    let gone = control.delete_snapshot(proto::DeleteManagedSnapshotRequest {
        fence: fence(1),
        which: Some(which),
    });
    assert!(gone.await.unwrap().into_inner().already_gone);
    let late = reason(control.ensure_snapshot(snapshot("s-never", "a")).await).0;
    assert_eq!(late, Reason::KeyDeleted);
    let late = reason(control.ensure_workspace(volume("uid-1", "a")).await).0;
    assert_eq!(late, Reason::KeyDeleted);
    let request = proto::GetManagedWorkspaceRequest {
        key: "uid-1".to_owned(),
    };
    let gone = control.get_workspace(request).await.unwrap().into_inner();
    assert_eq!(gone.workspace.unwrap().state(), ManagedState::Deleted);

    control.ensure_workspace(volume("uid-2", "a")).await.unwrap();
    let release = proto::ReleaseWorkspaceRequest {
        fence: fence(1),
        key: "uid-2".to_owned(),
    };
    control.release_workspace(release).await.unwrap();
    let mut adopt = volume("uid-3", "a");
    assert_eq!(
        reason(control.ensure_workspace(adopt.clone()).await).0,
        Reason::WorkspaceExists
    );
    adopt.adopt = true;
    let adopted = control
        .ensure_workspace(adopt.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (adopted.created, adopted.changed),
        (false, vec!["adopt".to_owned()])
    );
    adopt.adopt = false;
    let again = control.ensure_workspace(adopt).await.unwrap().into_inner();
    assert!(again.changed.is_empty());

    // Somebody deletes it behind its owner's back: it is told, and not made again.
    assert_eq!(daemon.cairn(&["workspace", "delete", "a", "--yes"]).code, 0);
    let request = proto::GetManagedWorkspaceRequest {
        key: "uid-3".to_owned(),
    };
    let lost = control.get_workspace(request).await.unwrap().into_inner();
    assert_eq!(lost.workspace.unwrap().state(), ManagedState::Lost);
    assert_eq!(
        reason(control.ensure_workspace(volume("uid-3", "a")).await).0,
        Reason::WorkspaceGone
    );
    let listed = control
        .list_workspaces(proto::ListManagedWorkspacesRequest::default())
        .await;
    let keys: Vec<String> = listed
        .unwrap()
        .into_inner()
        .workspaces
        .into_iter()
        .map(|w| w.key)
        .collect();
    assert_eq!(keys, ["uid-3"]);
}

#[tokio::test]
async fn a_snapshot_is_taken_once_for_a_key() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await.control;
    control.ensure_workspace(volume("w", "a")).await.unwrap();
    let mut request = snapshot("snapshot/1", "a");
    request.workspace_key = "w".to_owned();
    request.engine = "juicefs-clone".to_owned();
    request.tags = vec!["v1".to_owned()];
    let first = control
        .ensure_snapshot(request.clone())
        .await
        .unwrap()
        .into_inner();
    let taken = first.snapshot.unwrap();
    assert!(first.created);
    assert_eq!(
        (taken.state(), taken.engine.as_str()),
        (ManagedState::Ready, "volume")
    );
    assert!(taken.degraded[0].starts_with("engine: "), "{taken:?}");
    let again = control
        .ensure_snapshot(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(!again.created);
    assert_eq!(again.snapshot.unwrap(), taken);
    let mut other = request.clone();
    other.engine = "copy".to_owned();
    let (found, error) = reason(control.ensure_snapshot(other).await);
    assert_eq!(
        (found, error.details["fields"].as_str()),
        (Reason::KeyConflict, "engine")
    );
    let (found, error) = reason(control.ensure_workspace(volume("snapshot/1", "b")).await);
    assert_eq!(
        (found, error.details["fields"].as_str()),
        (Reason::KeyConflict, "key")
    );
    for (change, expected) in [
        (
            (|r: &mut proto::EnsureSnapshotRequest| r.workspace_key = "x".to_owned()) as fn(&mut _),
            Reason::WorkspaceOwned,
        ),
        (|r| r.workspace = "none".to_owned(), Reason::WorkspaceNotFound),
        (|r| r.paths = vec![b"p".to_vec()], Reason::FeatureUnsupported),
        (|r| r.template = "t".to_owned(), Reason::FeatureUnsupported),
        (|r| r.engine = "magic".to_owned(), Reason::FeatureUnsupported),
        (
            |r| r.requires = vec!["magic".to_owned()],
            Reason::FeatureUnsupported,
        ),
        (|r| r.tags = vec!["a b".to_owned()], Reason::TagInvalid),
        (|r| r.key = "a b".to_owned(), Reason::KeyInvalid),
        (|r| r.fence = None, Reason::FenceInvalid),
    ] {
        let mut bad = snapshot("snapshot/2", "a");
        change(&mut bad);
        assert_eq!(reason(control.ensure_snapshot(bad).await).0, expected);
    }
    // None of the refused ones left anything, and pages join up.
    control
        .ensure_snapshot(snapshot("snapshot/2", "a"))
        .await
        .unwrap();
    daemon.json(&["snapshot", "a"]);
    let mut request = proto::ListManagedSnapshotsRequest {
        workspace: "a".to_owned(),
        page_size: 2,
        page_token: String::new(),
    };
    let mut keys = Vec::new();
    loop {
        let page = control
            .list_snapshots(request.clone())
            .await
            .unwrap()
            .into_inner();
        keys.extend(page.snapshots.into_iter().map(|snapshot| snapshot.key));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(keys, ["snapshot/1", "snapshot/2", ""]);
    request.page_token = "ab".repeat(16);
    assert_eq!(
        reason(control.list_snapshots(request).await).0,
        Reason::PageInvalid
    );
}

#[tokio::test]
async fn a_restore_is_done_once_for_a_key() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await.control;
    control.ensure_workspace(volume("w", "a")).await.unwrap();
    let taken = control
        .ensure_snapshot(snapshot("s", "a"))
        .await
        .unwrap()
        .into_inner();
    let id = taken.snapshot.unwrap().id;
    let plan = control.plan_restore(proto::PlanRestoreRequest {
        workspace: "a".to_owned(),
        snapshot: "latest".to_owned(),
        paths: Vec::new(),
    });
    let plan = plan.await.unwrap().into_inner();
    assert_eq!(
        (plan.snapshot.as_str(), plan.adds, plan.changes, plan.deletes),
        (id.as_str(), 0, 0, 0)
    );
    let first = control
        .ensure_restore(restore("r", "a", &id))
        .await
        .unwrap()
        .into_inner();
    let done = first.restore.unwrap();
    assert!(first.created && done.safety.is_some());
    assert_eq!((done.state(), &done.snapshot), (ManagedState::Ready, &id));
    let again = control
        .ensure_restore(restore("r", "a", &id))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((again.created, again.restore.unwrap()), (false, done));

    let mut into = restore("r2", "a", &id);
    into.into = Some(proto::ensure_restore_request::Into::NewWorkspace(
        proto::IntoNewWorkspace {
            name: "b".to_owned(),
            key: "w2".to_owned(),
        },
    ));
    let made = control.ensure_restore(into.clone()).await.unwrap().into_inner();
    assert_eq!(made.restore.unwrap().new_workspace, "b");
    // The new workspace is its owner's, who finds it whatever else it asks for at a creation.
    let found = control
        .ensure_workspace(volume("w2", "b"))
        .await
        .unwrap()
        .into_inner();
    assert!(!found.created);
    assert_eq!(found.workspace.unwrap().forked_from, Some(id.clone()));
    into.key = "r3".to_owned();
    assert_eq!(reason(control.ensure_restore(into).await).0, Reason::KeyConflict);

    let forget = proto::ForgetRestoreRequest {
        fence: fence(1),
        key: "r".to_owned(),
    };
    control.forget_restore(forget).await.unwrap();
    assert_eq!(
        reason(control.ensure_restore(restore("r", "a", &id)).await).0,
        Reason::KeyDeleted
    );
    let mut some = restore("r4", "a", &id);
    some.paths = vec![b"x".to_vec()];
    assert_eq!(
        reason(control.ensure_restore(some).await).0,
        Reason::FeatureUnsupported
    );
    assert_eq!(
        reason(control.ensure_restore(restore("r5", "a", "0000")).await).0,
        Reason::SnapshotNotFound
    );
    let never = proto::GetRestoreByKeyRequest { key: "r5".to_owned() };
    assert_eq!(
        reason(control.get_restore_by_key(never).await).0,
        Reason::RestoreNotFound
    );
    let listed = daemon.json(&["history", "a"]);
    assert_eq!(
        listed["snapshots"].as_array().unwrap().len(),
        2,
        "one, and one safety"
    );
}

#[tokio::test]
async fn a_smaller_generation_is_fenced_off_for_ever() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await.control;
    let led = |generation, key: &str| {
        let mut request = volume(key, key);
        request.fence = fence(generation);
        request
    };
    control.ensure_workspace(led(5, "a")).await.unwrap();
    control.ensure_workspace(led(5, "b")).await.unwrap();
    let (found, error) = reason(control.ensure_workspace(led(4, "c")).await);
    assert_eq!((found, error.details["greatest"].as_str()), (Reason::Fenced, "5"));
    // A refused request counts too: the generation has been seen.
    let mut bad = led(9, "d");
    bad.key = "a".to_owned();
    assert_eq!(reason(control.ensure_workspace(bad).await).0, Reason::KeyConflict);
    daemon.signal(Signal::KILL);
    daemon.ended();
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await.control;
    assert_eq!(
        reason(control.ensure_workspace(led(8, "c")).await).0,
        Reason::Fenced
    );
    let mut elsewhere = led(1, "e");
    elsewhere.fence.as_mut().unwrap().cluster = "other".to_owned();
    control.ensure_workspace(elsewhere).await.unwrap();
    let listed = control
        .list_workspaces(proto::ListManagedWorkspacesRequest::default())
        .await;
    assert_eq!(listed.unwrap().into_inner().workspaces.len(), 3);
    let mut nameless = led(9, "f");
    nameless.fence.as_mut().unwrap().cluster = String::new();
    assert_eq!(
        reason(control.ensure_workspace(nameless).await).0,
        Reason::FenceInvalid
    );
}

#[tokio::test]
async fn a_drained_node_takes_nothing_new_on_until_it_is_resumed() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await.control;
    control.ensure_workspace(volume("w", "a")).await.unwrap();
    let connected = std::net::TcpStream::connect(daemon.nfs).unwrap();
    let drain = proto::DrainRequest { fence: fence(1) };
    let mut drained = control.drain(drain.clone()).await.unwrap().into_inner();
    // The idle connection is closed at once; whoever is slow is asked again.
    while !drained.safe_to_stop {
        drained = control.drain(drain.clone()).await.unwrap().into_inner();
    }
    assert_eq!((drained.nfs_connections, drained.unstable_bytes), (0, 0));
    let mut byte = [0];
    assert_eq!(
        std::io::Read::read(&mut &connected, &mut byte).unwrap(),
        0,
        "it is closed"
    );
    let (code, body) = daemon.get("/readyz");
    assert_eq!(code, 503);
    assert!(body.contains("drained"), "{body}");
    assert_eq!(daemon.get("/healthz").0, 200);
    assert_eq!(
        reason(control.ensure_snapshot(snapshot("s", "a")).await).0,
        Reason::NodeDraining
    );
    let info = control
        .get_info(proto::GetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(info.draining);
    // Clients that come now wait, and are served when the node is back.
    let waiting = std::net::TcpStream::connect(daemon.nfs).unwrap();
    control
        .resume(proto::ResumeRequest { fence: fence(1) })
        .await
        .unwrap();
    nfs_null(&waiting);
    assert_eq!(daemon.get("/readyz").0, 200);
    control.ensure_snapshot(snapshot("s", "a")).await.unwrap();
    assert_eq!(daemon.stop(), 0);
}

/// Calls the procedure that does nothing, and waits for its reply (RFC 5531 section 9, RFC 1813 section 3.3.0).
fn nfs_null(mut stream: &std::net::TcpStream) {
    use std::io::{Read, Write};
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    let words: [u32; 10] = [7, 0, 2, 100_003, 3, 0, 0, 0, 0, 0];
    let mut call = (0x8000_0000u32 | 40).to_be_bytes().to_vec();
    call.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    stream.write_all(&call).unwrap();
    let mut reply = [0; 28];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[4..8], 7u32.to_be_bytes());
}

#[tokio::test]
async fn capacity_and_export_of_a_workspace_are_changed_while_it_is_served() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await.control;
    let mut request = volume("w", "a");
    request.capacity_bytes = 1 << 30;
    let made = control
        .ensure_workspace(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(made.created && made.changed.is_empty());
    assert_eq!(made.workspace.unwrap().capacity_bytes, 1 << 30);
    request.capacity_bytes = 2 << 30;
    request.capacity_inodes = 100;
    request.export = Some(proto::ExportPolicy {
        squash: proto::Squash::All.into(),
        anonymous_uid: 1,
        anonymous_gid: 2,
        allow: vec!["10.0.0.0/8".to_owned()],
        read_only: true,
        privileged_port: false,
    });
    let changed = control
        .ensure_workspace(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(changed.changed, ["capacity", "export"]);
    let now = changed.workspace.unwrap();
    assert_eq!((now.capacity_bytes, now.capacity_inodes), (2 << 30, 100));
    assert_eq!(now.export, request.export);
    assert_eq!(
        daemon.json(&["workspace", "show", "a"])["policy"]["squash"],
        "all"
    );
    let again = control
        .ensure_workspace(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(again.changed.is_empty());
    let info = control
        .get_info(proto::GetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(info.committed_bytes, 2 << 30);
    // Everything at its default again: what is left out is asked for too.
    let bare = control
        .ensure_workspace(volume("w", "a"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(bare.changed, ["capacity", "export"]);
    assert_eq!(bare.workspace.unwrap().capacity_bytes, 0);
}

#[tokio::test]
async fn a_snapshot_is_relabelled_and_deleted_under_its_key() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let mut control = connect(&daemon.data).await.control;
    control.ensure_workspace(volume("w", "a")).await.unwrap();
    let mut request = snapshot("s", "a");
    request.tags = vec!["x".to_owned(), "y".to_owned()];
    let taken = control
        .ensure_snapshot(request.clone())
        .await
        .unwrap()
        .into_inner()
        .snapshot
        .unwrap();
    request.note = "other".to_owned();
    request.tags = vec!["y".to_owned(), "z".to_owned()];
    let changed = control
        .ensure_snapshot(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (changed.created, &changed.changed[..]),
        (false, &["note".to_owned(), "tags".to_owned()][..])
    );
    let now = changed.snapshot.unwrap();
    assert_eq!(
        (&now.id, &now.note, &now.tags),
        (&taken.id, &request.note, &request.tags)
    );
    let again = control
        .ensure_snapshot(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(again.changed.is_empty());

    let delete = |which| proto::DeleteManagedSnapshotRequest {
        fence: fence(1),
        which: Some(which),
    };
    use proto::delete_managed_snapshot_request::Which;
    assert_eq!(daemon.cairn(&["fork", "a", "latest", "b"]).code, 0);
    let in_use = reason(control.delete_snapshot(delete(Which::Key("s".to_owned()))).await).0;
    assert_eq!(in_use, Reason::SnapshotInUse);
    // It is not half deleted.
    let kept = control
        .ensure_snapshot(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(kept.snapshot.unwrap().state(), ManagedState::Ready);
    assert_eq!(daemon.cairn(&["workspace", "delete", "b", "--yes"]).code, 0);
    for already_gone in [false, true] {
        let gone = control
            .delete_snapshot(delete(Which::Key("s".to_owned())))
            .await
            .unwrap();
        assert_eq!(gone.into_inner().already_gone, already_gone);
    }
    assert_eq!(
        reason(control.ensure_snapshot(request).await).0,
        Reason::KeyDeleted
    );
    let found = control
        .get_snapshot_by_key(proto::GetSnapshotByKeyRequest { key: "s".to_owned() })
        .await;
    assert_eq!(
        found.unwrap().into_inner().snapshot.unwrap().state(),
        ManagedState::Deleted
    );

    let unkeyed = daemon.json(&["snapshot", "a"])["id"].as_str().unwrap().to_owned();
    let place = |id: &str| {
        Which::Place(proto::SnapshotPlace {
            workspace: "a".to_owned(),
            id: id.to_owned(),
        })
    };
    for already_gone in [false, true] {
        let gone = control.delete_snapshot(delete(place(&unkeyed))).await.unwrap();
        assert_eq!(gone.into_inner().already_gone, already_gone);
    }
    // By its place a snapshot with a key goes under its key.
    control.ensure_snapshot(snapshot("s2", "a")).await.unwrap();
    let id = daemon.json(&["history", "a"])["snapshots"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    control.delete_snapshot(delete(place(&id))).await.unwrap();
    assert_eq!(
        reason(control.ensure_snapshot(snapshot("s2", "a")).await).0,
        Reason::KeyDeleted
    );
}
