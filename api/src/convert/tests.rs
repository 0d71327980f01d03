//! Each check of the boundary, and the way out and back in.

use cairn_types::{ExportPolicy, SnapshotId, SnapshotReference, Squash, Timestamp};

use super::{
    export_policy, failure, policy_message, reference, requires, root_mode, snapshot_id, tags, timestamp,
    timestamp_message, workspace_name,
};
use crate::{ApiError, Reason, proto};

#[test]
fn bad_workspace_names_are_refused_with_reason_remedy_and_the_name() {
    let long = "a".repeat(129);
    for name in [
        "",
        "a/b",
        "..",
        "a..b",
        "-a",
        "a\u{7}b",
        "a\nb",
        "é",
        long.as_str(),
    ] {
        let error = workspace_name(name).unwrap_err();
        assert_eq!(error.reason, Reason::WorkspaceNameInvalid);
        assert_eq!(error.details["name"], name);
        assert!(!error.remedy.is_empty());
    }
    assert_eq!(
        workspace_name("team-a.model_7").unwrap().as_str(),
        "team-a.model_7"
    );
}

#[test]
fn references_are_checked() {
    assert_eq!(reference("latest").unwrap(), SnapshotReference::Latest);
    assert_eq!(reference("v1").unwrap().to_string(), "v1");
    for text in ["", "a/b", "../x", "a b"] {
        assert_eq!(reference(text).unwrap_err().reason, Reason::ReferenceInvalid);
    }
}

#[test]
fn the_first_bad_tag_is_named() {
    let error = tags(&["good".to_owned(), "latest".to_owned(), "-".to_owned()]).unwrap_err();
    assert_eq!(error.reason, Reason::TagInvalid);
    assert_eq!(error.details["tag"], "latest");
    assert_eq!(tags(&["a".to_owned(), "b".to_owned()]).unwrap().len(), 2);
}

#[test]
fn modes_have_a_default_and_a_bound() {
    assert_eq!(root_mode(None).unwrap(), 0o755);
    assert_eq!(root_mode(Some(0)).unwrap(), 0);
    assert_eq!(root_mode(Some(0o7777)).unwrap(), 0o7777);
    let error = root_mode(Some(0o10000)).unwrap_err();
    assert_eq!(
        (error.reason, error.details["mode"].as_str()),
        (Reason::ModeInvalid, "10000")
    );
}

#[test]
fn policies_round_trip() {
    for squash in [Squash::None, Squash::Root, Squash::All] {
        let policy = ExportPolicy {
            squash,
            anonymous_uid: 7,
            anonymous_gid: 8,
            allow: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            read_only: true,
            privileged_port: false,
        };
        assert_eq!(export_policy(Some(&policy_message(&policy))).unwrap(), policy);
    }
    assert_eq!(export_policy(None).unwrap(), ExportPolicy::default());
}

#[test]
fn bad_policies_name_the_field() {
    let good = policy_message(&ExportPolicy::default());
    let with_allow = |allow: Vec<String>| proto::ExportPolicy {
        allow,
        ..good.clone()
    };
    let cases = [
        (
            proto::ExportPolicy {
                squash: 0,
                ..good.clone()
            },
            "squash",
        ),
        (
            proto::ExportPolicy {
                squash: 99,
                ..good.clone()
            },
            "squash",
        ),
        (with_allow(vec!["10.0.0.1".to_owned()]), "allow"),
        (with_allow(vec!["10.0.0.1/8".to_owned()]), "allow"),
        (with_allow(vec!["everybody".to_owned()]), "allow"),
        (
            with_allow(vec!["10.0.0.0/8".to_owned(); ExportPolicy::ALLOW_MAX + 1]),
            "allow",
        ),
    ];
    for (message, field) in cases {
        let error = export_policy(Some(&message)).unwrap_err();
        assert_eq!(error.reason, Reason::ExportPolicyInvalid);
        assert_eq!(error.details["field"], field);
        assert!(!error.remedy.is_empty());
    }
}

#[test]
fn a_needed_feature_is_refused_by_name() {
    assert!(requires(&[]).is_ok());
    let error = requires(&["idempotency-key".to_owned()]).unwrap_err();
    assert_eq!(error.reason, Reason::FeatureUnsupported);
    assert_eq!(error.details["feature"], "idempotency-key");
}

#[test]
fn times_round_trip_and_bad_ones_are_refused() {
    for time in [
        Timestamp::new(0, 0),
        Timestamp::new(-1, 999_999_999),
        Timestamp::new(1 << 40, 1),
    ] {
        assert_eq!(timestamp(Some(&timestamp_message(time))).unwrap(), time);
    }
    assert!(timestamp(None).is_err());
    assert!(
        timestamp(Some(&prost_types::Timestamp {
            seconds: 0,
            nanos: -1
        }))
        .is_err()
    );
    assert!(
        timestamp(Some(&prost_types::Timestamp {
            seconds: 0,
            nanos: 1_000_000_000
        }))
        .is_err()
    );
}

#[test]
fn snapshot_ids_of_an_answer_are_checked() {
    let id = SnapshotId([9; 16]);
    assert_eq!(snapshot_id(&id.to_string()).unwrap(), id);
    assert_eq!(snapshot_id("nonsense").unwrap_err().reason, Reason::Unrecognized);
}

#[test]
fn failures_of_operations_are_those_of_requests() {
    let message = |reason: &str| proto::Failure {
        reason: reason.to_owned(),
        message: "full".to_owned(),
        remedy: "free some".to_owned(),
        details: [("store".to_owned(), "s3://b".to_owned())].into(),
    };
    let expected = ApiError::new(Reason::StoreFull, "full")
        .remedy("free some")
        .detail("store", "s3://b");
    assert_eq!(failure(&message("STORE_FULL")), expected);
    let unknown = failure(&message("FROM_THE_FUTURE"));
    assert_eq!(unknown.reason, Reason::Unrecognized);
    assert_eq!(unknown.details["reason"], "FROM_THE_FUTURE");
    assert_eq!(unknown.details["store"], "s3://b");
}
