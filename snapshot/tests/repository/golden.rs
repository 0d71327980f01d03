//! The bytes of every document, pinned by files. Who changes them changes the format: raise its version, and keep what reads the old ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cairn_snapshot::directory::{Digest, RelativePath};
use cairn_snapshot::repository::document::{Document, DocumentDamage, decode, encode};
use cairn_snapshot::repository::idempotency::KeyRecord;
use cairn_snapshot::repository::{
    AuditAnchor, AuditEntry, AuditEvent, ControlMode, DegradedEngine, Descriptor, Host, Identity, Intent,
    JournalRecord, Labels, LeaseRecord, Loss, OperationId, Origin, Outcome, PartSource, Paths, Phase, Pin,
    ReaderRecord, Repository, RepositoryId, State, Torn, Verification,
};
use cairn_types::{SnapshotId, Tag, Timestamp};

use crate::harness::{descriptor, lease, parts, temporary};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/repository")
        .join(name)
}

/// Compares bytes with a file; writes the file if `CAIRN_WRITE_FIXTURES` is set.
fn same(name: &str, bytes: &[u8]) {
    if std::env::var_os("CAIRN_WRITE_FIXTURES").is_some() {
        std::fs::write(fixture(name), bytes).unwrap();
    }
    let expected = std::fs::read(fixture(name)).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(bytes), text(&expected), "{name}");
}

fn pinned<T: Document + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let bytes = encode(value).unwrap();
    same(name, &bytes);
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(value), "{name}");
    each_field_is_checked::<T>(name, &bytes);
}

/// Every field of the body, replaced by a value that it cannot have under a checksum that fits, is an error.
fn each_field_is_checked<T: Document + std::fmt::Debug>(name: &str, bytes: &[u8]) {
    let document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let fields: Vec<String> = document["body"].as_object().unwrap().keys().cloned().collect();
    let sealed = |body: &serde_json::Value| {
        let body = body.to_string();
        let (title, hash) = (document["cairn"].as_str().unwrap(), blake3::hash(body.as_bytes()));
        format!("{{\"cairn\":\"{title}\",\"checksum\":\"{hash}\",\"body\":{body}}}\n")
    };
    assert!(
        decode::<T>(sealed(&document["body"]).as_bytes()).is_ok(),
        "{name}"
    );
    for field in fields {
        let mut body = document["body"].clone();
        body[&field] = serde_json::json!({"nonsense": []});
        let error = decode::<T>(sealed(&body).as_bytes()).unwrap_err();
        assert!(
            matches!(error, DocumentDamage::Body { .. }),
            "{name} {field}: {error}"
        );
    }
    let mut body = document["body"].clone();
    body["a field of the future"] = true.into();
    let error = decode::<T>(sealed(&body).as_bytes()).unwrap_err();
    assert!(
        error.to_string().contains("a field of the future"),
        "{name}: {error}"
    );
}

fn time() -> Timestamp {
    Timestamp::new(1_795_269_789, 5)
}

fn path(bytes: &[u8]) -> RelativePath {
    RelativePath::new(bytes).unwrap()
}

fn host() -> Host {
    Host {
        name: "node-1".to_owned(),
        boot: "6f0e1d2c-0000-4000-8000-000000000001".to_owned(),
        namespaces: "pid:[4026531836] time:[4026531834]".to_owned(),
        pid: 4711,
        started: 123_456,
    }
}

/// A descriptor with something in every field.
fn full_descriptor() -> Descriptor {
    let mut full = descriptor(SnapshotId([0x1f; 16]), 7);
    full.fence = 12;
    full.parent = Some(SnapshotId([2; 16]));
    (full.created, full.capture_begun, full.capture_ended) =
        (time(), Timestamp::new(-1, 999_999_999), time());
    full.note = "before \"the\" \u{fc}pgrade\n100%".to_owned();
    full.tags = ["release", "v1.0"].map(|tag| Tag::new(tag).unwrap()).into();
    full.template = Some("release".to_owned());
    full.engine.requested = Some("btrfs-subvolume".to_owned());
    full.engine.degraded.push(DegradedEngine {
        from: "reflink-copy".to_owned(),
        reason: "the file system has no reflinks".to_owned(),
    });
    full.paths = Some(Paths {
        paths: vec![path(b"data/\xff%"), path("gr\u{fc}n".as_bytes())],
    });
    let loss = Loss {
        count: 3,
        paths: vec![path(b"a\nb")],
    };
    full.losses.owner = loss.clone();
    full.losses.special = loss;
    full.torn = Torn {
        count: 1,
        paths: vec![path(b"log")],
    };
    full.vanished = 2;
    full.origin = Origin::Safety {
        restoring: SnapshotId([3; 16]),
    };
    full.restored_from = Some(SnapshotId([4; 16]));
    full.key = Some(Digest([9; 32]));
    full.host = host();
    full
}

#[test]
fn descriptors_and_states() {
    pinned("descriptor.json", &full_descriptor());
    for (name, origin) in [
        ("requested", Origin::Requested),
        (
            "scheduled",
            Origin::Scheduled {
                name: "nightly".to_owned(),
            },
        ),
        (
            "imported",
            Origin::Imported {
                line: "new".to_owned(),
                id: "1795219200000-00112233".to_owned(),
            },
        ),
        (
            "fork",
            Origin::ForkOf {
                repository: RepositoryId([5; 16]).to_string(),
                snapshot: SnapshotId([6; 16]),
            },
        ),
    ] {
        let plain = Descriptor {
            origin,
            ..descriptor(SnapshotId([0x2f; 16]), 8)
        };
        pinned(&format!("descriptor-{name}.json"), &plain);
    }
    let identity = |control| Identity {
        id: RepositoryId([0x3f; 16]),
        created: time(),
        control,
    };
    pinned("repository-inside.json", &identity(ControlMode::Inside));
    let workspace = b"/srv/\xff workspace".to_vec();
    pinned(
        "repository-outside.json",
        &identity(ControlMode::Outside { workspace }),
    );
    let state = State {
        fence: 12,
        sequence: 7,
        last: Some(SnapshotId([1; 16])),
        newest: Some(SnapshotId([2; 16])),
        head: None,
        parts: vec![PartSource {
            path: path(b"src"),
            snapshot: SnapshotId([3; 16]),
        }],
        audit: Some(AuditAnchor {
            sequence: 9,
            hash: Digest([4; 32]),
        }),
    };
    pinned("state.json", &state);
}

#[test]
fn what_stands_beside_snapshots() {
    let labels = Labels {
        snapshot: SnapshotId([1; 16]),
        revision: 3,
        note: "new".to_owned(),
        tags: [Tag::new("stable").unwrap()].into(),
        pins: vec![Pin {
            number: 2,
            reason: "audit".to_owned(),
            actor: "ada".to_owned(),
            created: time(),
            expires: Some(Timestamp::new(1_795_356_189, 0)),
        }],
    };
    pinned("labels.json", &labels);
    let faults = vec!["data/a: other data".to_owned()];
    let verification = Verification {
        snapshot: SnapshotId([1; 16]),
        verified: time(),
        tree_hash: None,
        outcome: Outcome::Damaged { count: 1, faults },
    };
    pinned("verification.json", &verification);
    let key = KeyRecord {
        key: Digest([1; 32]),
        request: Digest([2; 32]),
        snapshot: SnapshotId([3; 16]),
        created: time(),
    };
    pinned("key.json", &key);
}

#[test]
fn what_is_under_way() {
    let record = LeaseRecord {
        token: 12,
        nonce: "00".repeat(16),
        holder: host(),
        operation: "save".to_owned(),
        acquired: time(),
        renewals: 4,
        released: false,
    };
    pinned("lease.json", &record);
    let reader = ReaderRecord {
        reader: host(),
        operation: "view".to_owned(),
        snapshots: BTreeSet::from([SnapshotId([1; 16]), SnapshotId([2; 16])]),
        begun: time(),
    };
    pinned("reader.json", &reader);
    let snapshot = SnapshotId([1; 16]);
    let intents = [
        (
            "save",
            Intent::Save {
                snapshot,
                engine: "copy".to_owned(),
                key: Some(Digest([2; 32])),
            },
        ),
        (
            "restore",
            Intent::Restore {
                plan: OperationId([3; 16]),
                target: snapshot,
                safety: Some(SnapshotId([4; 16])),
                staging: path(b".jvs-restore-1"),
                paths: Some(Paths {
                    paths: vec![path(b"src")],
                }),
            },
        ),
        (
            "fork",
            Intent::Fork {
                snapshot,
                target: b"/srv/\xfe".to_vec(),
            },
        ),
        (
            "collect",
            Intent::Collect {
                snapshots: vec![snapshot],
            },
        ),
    ];
    let phases = [
        Phase::Staging,
        Phase::Swapping,
        Phase::Publishing,
        Phase::Removing,
    ];
    for ((name, intent), phase) in intents.into_iter().zip(phases) {
        let record = JournalRecord {
            operation: OperationId([5; 16]),
            fence: 12,
            host: host(),
            begun: time(),
            phase,
            intent,
        };
        pinned(&format!("journal-{name}.json"), &record);
    }
}

#[test]
fn the_audit_log() {
    let (_keep, workspace) = temporary();
    let mut fixed = parts();
    fixed.host = host();
    let repository = Repository::init(&workspace, None, fixed).unwrap();
    let held = lease(&repository, std::time::Duration::ZERO);
    for (event, snapshot) in [
        (AuditEvent::Init, None),
        (AuditEvent::Save, Some(SnapshotId([1; 16]))),
    ] {
        let details = BTreeMap::from([("note".to_owned(), "\u{fc}\n".to_owned())]);
        repository
            .audit(
                &held,
                AuditEntry {
                    event,
                    snapshot,
                    details,
                },
            )
            .unwrap();
    }
    same(
        "audit-log",
        &std::fs::read(workspace.join(".jvs/audit/log")).unwrap(),
    );
    assert_eq!(
        std::fs::read(workspace.join(".jvs/format_version")).unwrap(),
        b"2\n"
    );
}

#[test]
fn what_is_empty_is_told_from_what_is_missing() {
    assert_eq!(decode::<State>(b""), Err(DocumentDamage::Form));
    assert!(decode::<State>(&encode(&State::default()).unwrap()).is_ok());
}
