//! The objects of `--json`, letter by letter.

use cairn_api::{ProtoTimestamp, convert, proto};
use cairn_types::ExportPolicy;
use serde::Serialize;

use super::{DiffSummary, Difference, MountCommand, Snapshot, Status, Workspace, shell_word};

fn text(object: &impl Serialize) -> String {
    serde_json::to_string(object).unwrap()
}

fn created() -> Option<ProtoTimestamp> {
    Some(ProtoTimestamp {
        seconds: 1_700_000_000,
        nanos: 5_000_000,
    })
}

#[test]
fn a_workspace() {
    let workspace = proto::Workspace {
        name: "model".to_owned(),
        volume: 1,
        created: created(),
        policy: Some(convert::policy_message(&ExportPolicy::default())),
        forked_from: Some("ab".repeat(16)),
        snapshots: 2,
        inodes: 4,
        bytes: 4096,
        limits: Some(proto::CapacityLimits {
            bytes: Some(8192),
            inodes: None,
        }),
    };
    assert_eq!(
        text(&Workspace::try_from(workspace).unwrap()),
        format!(
            "{{\"name\":\"model\",\"volume\":1,\"created\":\"2023-11-14T22:13:20.005Z\",\"policy\":{{\"squash\":\"none\",\
             \"anonymous_uid\":65534,\"anonymous_gid\":65534,\"allow\":[\"127.0.0.0/8\",\"::1/128\"],\"read_only\":false,\
             \"privileged_port\":true}},\"forked_from\":\"{}\",\"snapshots\":2,\"inodes\":4,\"bytes\":4096,\
             \"limits\":{{\"bytes\":8192,\"inodes\":null}}}}",
            "ab".repeat(16)
        )
    );
}

#[test]
fn a_snapshot() {
    let snapshot = proto::Snapshot {
        id: "ab".repeat(16),
        origin: proto::SnapshotOrigin::Safety.into(),
        created: created(),
        note: "n".to_owned(),
        tags: vec!["t".to_owned()],
        inodes: 1,
        bytes: 2,
        parent: None,
        pins: vec![proto::Pin {
            number: 3,
            created: created(),
            expires: None,
            reason: "r".to_owned(),
        }],
    };
    assert_eq!(
        text(&Snapshot::try_from(snapshot).unwrap()),
        format!(
            "{{\"id\":\"{}\",\"origin\":\"safety\",\"created\":\"2023-11-14T22:13:20.005Z\",\"note\":\"n\",\"tags\":[\"t\"],\
             \"inodes\":1,\"bytes\":2,\"parent\":null,\"pins\":[{{\"number\":3,\"created\":\"2023-11-14T22:13:20.005Z\",\
             \"expires\":null,\"reason\":\"r\"}}]}}",
            "ab".repeat(16)
        )
    );
}

#[test]
fn differences_with_and_without_text() {
    let difference = |path: &[u8]| proto::Difference {
        kind: proto::DifferenceKind::Added.into(),
        path: path.to_vec(),
        directory: false,
        bytes_before: None,
        bytes_after: Some(7),
    };
    assert_eq!(
        text(&Difference::from(difference(b"a/b"))),
        "{\"kind\":\"added\",\"path\":\"a/b\",\"directory\":false,\"bytes_before\":null,\"bytes_after\":7}"
    );
    assert_eq!(
        text(&Difference::from(difference(b"a\xff"))),
        "{\"kind\":\"added\",\"path\":\"a\u{fffd}\",\"path_hex\":\"61ff\",\"directory\":false,\"bytes_before\":null,\
         \"bytes_after\":7}"
    );
    assert_eq!(
        text(&DiffSummary {
            added: 1,
            ..DiffSummary::default()
        }),
        "{\"added\":1,\"removed\":0,\"modified\":0,\"retyped\":0,\"attributes\":0,\"bytes_before\":0,\"bytes_after\":0}"
    );
}

#[test]
fn a_mount_command() {
    let info = proto::MountInfoResponse {
        file_system: "nfs".to_owned(),
        server: "127.0.0.1".to_owned(),
        port: 12049,
        export: "/model".to_owned(),
        options: vec!["vers=3".to_owned(), "hard".to_owned()],
    };
    assert_eq!(
        text(&MountCommand::new(info, "/mnt/my model".to_owned())),
        "{\"command\":\"mount -t nfs -o vers=3,hard 127.0.0.1:/model '/mnt/my model'\",\"file_system\":\"nfs\",\
         \"server\":\"127.0.0.1\",\"port\":12049,\"export\":\"/model\",\"options\":[\"vers=3\",\"hard\"],\
         \"mount_point\":\"/mnt/my model\"}"
    );
    assert_eq!(shell_word("it's"), "'it'\\''s'");
    assert_eq!(shell_word(""), "''");
    assert_eq!(shell_word("/mnt/w-1"), "/mnt/w-1");
}

#[test]
fn a_status() {
    let status = proto::StatusResponse {
        version: "0.1.0".to_owned(),
        process_id: 7,
        started: created(),
        uptime_seconds: 61,
        data_directory: b"/d".to_vec(),
        listeners: vec![proto::Listener {
            service: "nfs".to_owned(),
            address: "127.0.0.1:1".to_owned(),
        }],
        usage: Some(proto::Usage::default()),
        conditions: vec![proto::Condition {
            name: "serving".to_owned(),
            holds: true,
            message: "m".to_owned(),
        }],
    };
    assert_eq!(
        text(&Status::try_from(status).unwrap()),
        "{\"version\":\"0.1.0\",\"process_id\":7,\"started\":\"2023-11-14T22:13:20.005Z\",\"uptime_seconds\":61,\
         \"data_directory\":\"/d\",\"ready\":true,\"listeners\":[{\"service\":\"nfs\",\"address\":\"127.0.0.1:1\"}],\
         \"usage\":{\"workspaces\":0,\"snapshots\":0,\"metadata_bytes\":0,\"log_bytes\":0,\"unstable_bytes\":0,\
         \"disk_free_bytes\":0,\"disk_reserve_bytes\":0,\"swept\":{\"branches_left\":0,\"versions_scanned\":0,\
         \"versions_removed\":0,\"metadata_bytes\":0,\"segments\":0,\"log_bytes\":0}},\"conditions\":[{\"name\":\"serving\",\"holds\":true,\
         \"message\":\"m\"}]}"
    );
}

#[test]
fn an_answer_that_lacks_something_is_refused() {
    assert!(Workspace::try_from(proto::Workspace::default()).is_err());
    assert!(Snapshot::try_from(proto::Snapshot::default()).is_err());
}
