//! Workspaces and snapshots through the command line: what works, and each way to be wrong.

use std::collections::BTreeMap;

use cairn_api::{Client, proto};
use serde_json::json;

use super::harness::{Daemon, cairn, directory};

#[test]
fn a_workspace_lives_from_creation_to_deletion() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    let made = daemon.json(&[
        "workspace",
        "create",
        "model",
        "--uid",
        "7",
        "--mode",
        "2775",
        "--allow",
        "10.0.0.0/8",
        "--squash",
        "root",
        "--any-port",
        "--read-only",
    ]);
    assert_eq!(made["name"], "model");
    assert_eq!(
        made["policy"],
        json!({
            "squash": "root", "anonymous_uid": 65534, "anonymous_gid": 65534, "allow": ["10.0.0.0/8"],
            "read_only": true, "privileged_port": false,
        })
    );
    assert_eq!(daemon.json(&["workspace", "show", "model"]), made);
    assert_eq!(
        daemon.json(&["workspace", "list"]),
        json!({ "workspaces": [made] })
    );

    let first = daemon.json(&[
        "snapshot", "model", "--note", "one", "--tag", "v1", "--tag", "good",
    ]);
    assert_eq!(
        (&first["note"], &first["tags"]),
        (&json!("one"), &json!(["v1", "good"]))
    );
    let second = daemon.json(&["snapshot", "model"]);
    assert_eq!(second["parent"], first["id"]);
    assert_eq!(
        daemon.json(&["history", "model"]),
        json!({ "snapshots": [second, first] })
    );
    let table = daemon.cairn(&["history", "model"]).stdout;
    assert_eq!(table.lines().count(), 3, "{table}");

    let diff = daemon.json(&["diff", "model", "v1", "latest"]);
    assert_eq!(diff["summary"]["added"], 0);
    let restored = daemon.json(&["restore", "model", "v1"]);
    assert_eq!(restored["snapshot"]["id"], first["id"]);
    assert_eq!(restored["safety"]["origin"], "safety");
    let undo = daemon.cairn(&["restore", "model", "v1"]);
    assert!(undo.stdout.contains("to undo: cairn restore model "), "{undo:?}");

    let forked = daemon.json(&["fork", "model", "good", "experiment"]);
    assert_eq!(
        (&forked["name"], &forked["forked_from"]),
        (&json!("experiment"), &first["id"])
    );

    let mount = daemon.json(&["mount-command", "experiment", "/mnt/e"]);
    let port = daemon.nfs.port();
    assert_eq!(
        mount["command"],
        format!(
            "mount -t nfs -o vers=3,tcp,port={port},mountport={port},mountproto=tcp,nolock,hard 127.0.0.1:/experiment /mnt/e"
        )
    );

    assert_eq!(
        daemon.json(&["workspace", "delete", "experiment", "--yes"]),
        json!({ "deleted": "experiment" })
    );
    assert_eq!(
        daemon
            .cairn(&["workspace", "delete", "model", "--yes", "--with-snapshots"])
            .code,
        0
    );
    assert_eq!(daemon.json(&["workspace", "list"]), json!({ "workspaces": [] }));
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn status_tells_what_the_daemon_is() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    assert_eq!(daemon.cairn(&["workspace", "create", "w"]).code, 0);
    let status = daemon.json(&["status"]);
    assert_eq!(status["process_id"], daemon.process_id());
    assert_eq!(status["data_directory"], directory.path().to_str().unwrap());
    assert_eq!(status["ready"], true);
    assert_eq!(status["usage"]["workspaces"], 1);
    assert_eq!(status["usage"]["disk_reserve_bytes"], 256 << 20);
    assert_eq!(
        status["listeners"],
        json!([
            { "service": "nfs", "address": daemon.nfs.to_string() },
            { "service": "http", "address": daemon.http.to_string() },
            { "service": "rpc", "address": directory.path().join("cairnd.sock").to_str().unwrap() },
        ])
    );
}

#[test]
fn each_wrong_input_has_its_reason_and_code_and_changes_nothing() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    for name in ["a", "b"] {
        assert_eq!(daemon.cairn(&["workspace", "create", name]).code, 0);
    }
    let of_a = daemon.json(&["snapshot", "a", "--tag", "v1"])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    daemon.json(&["snapshot", "b"]);
    let before = daemon.state();
    let long = "n".repeat(129);
    let note = "n".repeat(4097);
    let create = |name| vec!["workspace", "create", name];
    let mut cases = vec![
        (create("a/b"), "WORKSPACE_NAME_INVALID", 5),
        (create(""), "WORKSPACE_NAME_INVALID", 5),
        (create(&long), "WORKSPACE_NAME_INVALID", 5),
        (create(".."), "WORKSPACE_NAME_INVALID", 5),
        (create("a..b"), "WORKSPACE_NAME_INVALID", 5),
        (create("a\u{7}b"), "WORKSPACE_NAME_INVALID", 5),
        (create("a\nb"), "WORKSPACE_NAME_INVALID", 5),
        (create("a"), "WORKSPACE_EXISTS", 4),
        (
            vec!["workspace", "create", "c", "--allow", "10.0.0.1/8"],
            "EXPORT_POLICY_INVALID",
            5,
        ),
        (vec!["workspace", "show", "c"], "WORKSPACE_NOT_FOUND", 3),
        (
            vec!["workspace", "delete", "c", "--yes"],
            "WORKSPACE_NOT_FOUND",
            3,
        ),
        (
            vec!["workspace", "delete", "a", "--yes"],
            "WORKSPACE_HAS_SNAPSHOTS",
            4,
        ),
        (vec!["workspace", "delete", "a", "--with-snapshots"], "USAGE", 2),
        (vec!["snapshot", "not a name"], "WORKSPACE_NAME_INVALID", 5),
        (vec!["snapshot", "c"], "WORKSPACE_NOT_FOUND", 3),
        (vec!["snapshot", "a", "--tag", "latest"], "TAG_INVALID", 5),
        (vec!["snapshot", "a", "--note", &note], "LIMIT_EXCEEDED", 5),
        (vec!["history", "c"], "WORKSPACE_NOT_FOUND", 3),
        (vec!["diff", "a", "a/b"], "REFERENCE_INVALID", 5),
        (vec!["diff", "a", "v1", "nonsense"], "SNAPSHOT_NOT_FOUND", 3),
        (vec!["diff", "a", "v2", "--stat"], "SNAPSHOT_NOT_FOUND", 3),
        (vec!["restore", "a", "v2"], "SNAPSHOT_NOT_FOUND", 3),
        (vec!["restore", "a", ""], "REFERENCE_INVALID", 5),
        (vec!["restore", "b", &of_a], "SNAPSHOT_FOREIGN", 5),
        (vec!["fork", "b", &of_a, "c"], "SNAPSHOT_FOREIGN", 5),
        (vec!["fork", "a", "v1", "b"], "WORKSPACE_EXISTS", 4),
        (vec!["fork", "a", "v1", "../c"], "WORKSPACE_NAME_INVALID", 5),
        (vec!["mount-command", "c"], "WORKSPACE_NOT_FOUND", 3),
    ];
    let tags: Vec<String> = (0..33).map(|index| format!("t{index}")).collect();
    let mut many_tags = vec!["snapshot", "a"];
    tags.iter()
        .for_each(|tag| many_tags.extend(["--tag", tag.as_str()]));
    cases.push((many_tags, "LIMIT_EXCEEDED", 5));
    for (arguments, reason, code) in cases {
        let ended = daemon.cairn(&[arguments.as_slice(), &["--json"]].concat());
        let error = ended.error();
        assert_eq!(
            (error["reason"].as_str(), ended.code),
            (Some(reason), code),
            "{arguments:?}: {ended:?}"
        );
        assert_eq!(error["exit_code"], code);
        assert!(
            !error["remedy"].as_str().unwrap().is_empty(),
            "{arguments:?}: {ended:?}"
        );
        assert_eq!(ended.stdout, "", "{arguments:?}");
        let plain = daemon.cairn(&arguments);
        assert_eq!(plain.code, code);
        assert!(
            plain.stderr.starts_with("cairn: ") && plain.stderr.lines().count() >= 2,
            "{plain:?}"
        );
    }
    assert_eq!(daemon.state(), before);
}

#[test]
fn an_ambiguous_prefix_lists_its_candidates() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    assert_eq!(daemon.cairn(&["workspace", "create", "w"]).code, 0);
    let (prefix, ids) = two_with_one_prefix(&directory.path().join("cairnd.sock"));
    let before = daemon.state();
    let ended = daemon.cairn(&["restore", "w", &prefix, "--json"]);
    let error = ended.error();
    assert_eq!(
        (error["reason"].as_str(), ended.code),
        (Some("SNAPSHOT_AMBIGUOUS"), 5),
        "{ended:?}"
    );
    let candidates = error["details"]["candidates"].as_str().unwrap();
    let plain = daemon.cairn(&["restore", "w", &prefix]);
    for id in &ids {
        assert!(
            candidates.split(',').any(|candidate| candidate == id),
            "{candidates}"
        );
        assert!(plain.stderr.lines().any(|line| line.trim() == id), "{plain:?}");
    }
    assert_eq!(daemon.state(), before);
    let whole = daemon.json(&["restore", "w", &ids[0]]);
    assert_eq!(whole["snapshot"]["id"].as_str(), Some(ids[0].as_str()));
}

/// Takes snapshots until the ids of two begin with the same four digits: about 320 of them.
#[tokio::main(flavor = "current_thread")]
async fn two_with_one_prefix(socket: &std::path::Path) -> (String, [String; 2]) {
    let mut client = Client::connect(socket).await.unwrap();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let request = proto::CreateSnapshotRequest {
            workspace: "w".to_owned(),
            ..Default::default()
        };
        let id = client
            .snapshots
            .create(request)
            .await
            .unwrap()
            .into_inner()
            .snapshot
            .unwrap()
            .id;
        let prefix = id[..4].to_owned();
        if let Some(other) = seen.insert(prefix.clone(), id.clone()) {
            return (prefix, [id, other]);
        }
    }
}

#[test]
fn a_request_that_needs_an_unknown_feature_is_refused() {
    let directory = directory();
    let daemon = Daemon::start(directory.path());
    assert_eq!(daemon.cairn(&["workspace", "create", "w"]).code, 0);
    let before = daemon.state();
    let error = needing_a_feature(&directory.path().join("cairnd.sock"));
    assert_eq!(error.reason, cairn_api::Reason::FeatureUnsupported);
    assert_eq!(error.details["feature"], "idempotency-key");
    assert_eq!(daemon.state(), before);
}

#[tokio::main(flavor = "current_thread")]
async fn needing_a_feature(socket: &std::path::Path) -> cairn_api::ApiError {
    let mut client = Client::connect(socket).await.unwrap();
    let request = proto::CreateSnapshotRequest {
        workspace: "w".to_owned(),
        requires: vec!["idempotency-key".to_owned()],
        ..Default::default()
    };
    cairn_api::ApiError::from_status(&client.snapshots.create(request).await.unwrap_err())
}

#[test]
fn without_a_daemon_the_socket_and_the_remedy_are_named() {
    let directory = directory();
    let socket = directory.path().join("cairnd.sock");
    let ended = cairn(&socket, &["status"]);
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(
        ended.stderr.contains(socket.to_str().unwrap()) && ended.stderr.contains("start the daemon"),
        "{ended:?}"
    );
}
