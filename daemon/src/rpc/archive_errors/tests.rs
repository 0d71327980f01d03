//! Each way that a store or an archive can fail has its reason, its details and a remedy.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::Reason;
use cairn_content::objects::{Context, FenceError, ObjectError, Operation};
use cairn_content::pipeline::PipelineError;
use cairn_content::store::{ChunkReadError, ChunkStoreError};
use cairn_snapshot::archive::ArchiveError;
use cairn_types::{ChunkId, ErrorKind, SnapshotId, WorkspaceName};
use cairn_vfs::control::ControlError;
use cairn_vfs::{ImportError, ImportFault};

use super::work_error;
use crate::archives::{EndError, WorkError};

const STORE: &str = "s3://b/p";

fn at() -> Box<Context> {
    Box::new(Context {
        store: STORE.to_owned(),
        object: "packs/ab/cd".to_owned(),
        operation: Operation::Get,
    })
}

fn source() -> Box<dyn std::error::Error + Send + Sync> {
    "answered 418".into()
}

fn end(kind: ErrorKind) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(EndError {
        kind,
        message: "it failed".to_owned(),
    })
}

fn cache(kind: std::io::ErrorKind) -> ArchiveError {
    ArchiveError::Store(ChunkStoreError::Cache {
        operation: "write",
        path: "/d/stores/x".into(),
        source: kind.into(),
    })
}

fn of_objects() -> Vec<(ArchiveError, Reason, &'static [&'static str])> {
    let object: &[&str] = &["object", "store"];
    let (at, source, timeout) = (at(), source(), Duration::from_secs(1));
    let errors = vec![
        (
            ObjectError::NotFound {
                at: at.clone(),
                source,
            },
            Reason::StoreDamaged,
        ),
        (
            ObjectError::Changed {
                at: at.clone(),
                source: self::source(),
            },
            Reason::StoreConflict,
        ),
        (
            ObjectError::Denied {
                at: at.clone(),
                source: self::source(),
            },
            Reason::StoreDenied,
        ),
        (
            ObjectError::NoSpace {
                at: at.clone(),
                source: self::source(),
            },
            Reason::StoreFull,
        ),
        (
            ObjectError::Timeout {
                at: at.clone(),
                attempts: 6,
                timeout,
            },
            Reason::StoreUnreachable,
        ),
        (
            ObjectError::Unavailable {
                at: at.clone(),
                attempts: 6,
                source: self::source(),
            },
            Reason::StoreUnreachable,
        ),
        (
            ObjectError::Short {
                at: at.clone(),
                expected: 2,
                found: 1,
            },
            Reason::StoreDamaged,
        ),
        (
            ObjectError::Invalid {
                at,
                reason: "no".to_owned(),
                source: None,
            },
            Reason::StoreOptionInvalid,
        ),
    ];
    errors
        .into_iter()
        .map(|(error, reason)| (error.into(), reason, object))
        .collect()
}

#[test]
fn every_failure_has_reason_details_and_remedy() {
    let mut cases = of_objects();
    let store: &[&str] = &["store"];
    let nobody = FenceError::Fenced {
        store: STORE.to_owned(),
        epoch: 3,
        found: None,
    };
    let newer = FenceError::Newer {
        store: STORE.to_owned(),
        found: 9,
    };
    let broken = FenceError::Damaged {
        store: STORE.to_owned(),
        reason: "cut off".to_owned(),
    };
    let no_bucket = ObjectError::NoBucket {
        at: at(),
        source: source(),
    };
    let full = ObjectError::NoSpace {
        at: at(),
        source: source(),
    };
    cases.extend([
        (ArchiveError::Cancelled, Reason::Cancelled, store),
        (ArchiveError::Objects(no_bucket), Reason::StoreNotFound, store),
        (nobody.into(), Reason::StoreForeign, &["epoch", "owner", "store"]),
        (newer.into(), Reason::StoreNewer, &["found", "object", "store"]),
        (broken.into(), Reason::StoreDamaged, &["object", "store"]),
        (
            ArchiveError::NotFound {
                store: STORE.to_owned(),
                reference: "v1".to_owned(),
            },
            Reason::ArchiveNotFound,
            &["reference", "store"],
        ),
        (
            ArchiveError::Ambiguous {
                store: STORE.to_owned(),
                reference: "abab".to_owned(),
                candidates: vec![SnapshotId([0xab; 16])],
            },
            Reason::ArchiveAmbiguous,
            &["candidates", "reference", "store"],
        ),
        (
            ArchiveError::Damaged {
                store: STORE.to_owned(),
                object: "archives/x".to_owned(),
                what: "cut off".to_owned(),
            },
            Reason::ArchiveDamaged,
            &["object", "store"],
        ),
        (
            ArchiveError::NewerVersion {
                store: STORE.to_owned(),
                object: "archives/x".to_owned(),
                found: 2,
                supported: 1,
            },
            Reason::StoreNewer,
            &["found", "object", "store"],
        ),
        (
            ArchiveError::Busy {
                snapshot: SnapshotId([1; 16]),
            },
            Reason::OperationConflict,
            store,
        ),
        (
            ArchiveError::Order {
                what: "no root".to_owned(),
            },
            Reason::Internal,
            store,
        ),
        (
            ArchiveError::Description {
                snapshot: SnapshotId([1; 16]),
                found: 2,
                limit: 1,
            },
            Reason::LimitExceeded,
            &["found", "limit", "what"],
        ),
        (
            ArchiveError::Option {
                what: "rate",
                found: 0,
                minimum: 1,
                maximum: 2,
            },
            Reason::LimitExceeded,
            &["found", "limit", "what"],
        ),
        (
            ArchiveError::Store(ChunkStoreError::Cancelled),
            Reason::Cancelled,
            store,
        ),
        (
            ArchiveError::Store(ChunkStoreError::TooManyPacks { maximum: 1 }),
            Reason::StoreFull,
            store,
        ),
        (cache(std::io::ErrorKind::StorageFull), Reason::NoSpace, &[]),
        (
            cache(std::io::ErrorKind::PermissionDenied),
            Reason::StorageFailed,
            &[],
        ),
        (
            ArchiveError::Read(ChunkReadError::Missing {
                store: STORE.to_owned(),
                id: ChunkId([2; 32]),
            }),
            Reason::ArchiveDamaged,
            &["object", "store"],
        ),
        (
            ArchiveError::Read(ChunkReadError::Stopped),
            Reason::ShuttingDown,
            &[],
        ),
        (
            ArchiveError::Pipeline(PipelineError::Panicked),
            Reason::Internal,
            store,
        ),
        (
            // The cause below the pipeline is what counts.
            ArchiveError::Pipeline(PipelineError::Store(Arc::new(ChunkStoreError::Objects(full)))),
            Reason::StoreFull,
            &["object", "store"],
        ),
        (
            ArchiveError::Target(end(ErrorKind::Invalid)),
            Reason::ArchiveDamaged,
            store,
        ),
        (
            ArchiveError::Target(end(ErrorKind::NoSpace)),
            Reason::NoSpace,
            &[],
        ),
        (
            ArchiveError::Source(end(ErrorKind::Corrupt)),
            Reason::StorageCorrupt,
            &[],
        ),
        (
            ArchiveError::Source("of unknown kind".into()),
            Reason::StorageFailed,
            &[],
        ),
    ]);
    for (error, reason, details) in cases {
        let told = work_error(error.into(), STORE);
        assert_eq!(told.reason, reason, "{told:?}");
        assert_eq!(
            told.details.keys().map(String::as_str).collect::<Vec<_>>(),
            details,
            "{told:?}"
        );
        assert!(!told.remedy.is_empty() && !told.message.is_empty(), "{told:?}");
        if details.contains(&"object") {
            assert!(told.message.contains(STORE), "{told:?}");
        }
    }
}

#[test]
fn failures_of_the_node_are_told_as_such() {
    let error = ControlError::NoWorkspace {
        name: WorkspaceName::new("w").unwrap(),
    };
    assert_eq!(
        work_error(WorkError::Control(error), STORE).reason,
        Reason::WorkspaceNotFound
    );
}

#[test]
fn failures_of_imports_tell_the_node_from_the_archive() {
    let name = || WorkspaceName::new("w").unwrap();
    let invalid = ImportError::Invalid {
        inode: cairn_types::InodeId(7),
        fault: ImportFault::Root,
    };
    let cases = [
        (invalid, Reason::ArchiveDamaged),
        (ImportError::Running { name: name() }, Reason::OperationConflict),
        (
            ControlError::WorkspaceExists { name: name() }.into(),
            Reason::WorkspaceExists,
        ),
        (ControlError::NoSpace.into(), Reason::NoSpace),
        (ImportError::None { name: name() }, Reason::Internal),
        (ImportError::Broken, Reason::Internal),
    ];
    for (error, reason) in cases {
        let told = work_error(WorkError::Import(error), STORE);
        assert_eq!(told.reason, reason, "{told:?}");
        assert!(!told.remedy.is_empty(), "{told:?}");
    }
}
