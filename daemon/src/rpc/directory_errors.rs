//! The edge between failures of work on plain directories and those of the contract: one exhaustive match for each kind of failure. The reasons
//! are those that `cairn` has without a daemon, so that programs see the same.

use std::error::Error;
use std::path::Path;

use cairn_api::{ApiError, Reason};
use cairn_snapshot::archive::ArchiveError;
use cairn_snapshot::engine::EngineError;
use cairn_snapshot::engine::chunks::ChunksError;
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::collect::CollectError;
use cairn_snapshot::repository::import_jvs::ImportError;
use cairn_snapshot::repository::{LeaseError, RepositoryError};
use cairn_types::ErrorKind;

use super::errors;
use crate::assembly::with_causes;
use crate::directories::DirectoriesError;

/// What a client is told about something with a plain directory that failed.
pub fn api_error(error: &DirectoriesError) -> ApiError {
    let message = with_causes(error);
    match error {
        DirectoriesError::NotAllowed { path, roots, .. } => {
            let remedy = match roots.as_slice() {
                [] => "the daemon may touch no plain directories: name those below which it may by roots in [directories] of its \
                       configuration, then restart cairnd"
                    .to_owned(),
                roots => {
                    let shown: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
                    format!(
                        "choose a directory below {}, or add its root to roots in [directories] of cairnd's configuration, then \
                         restart cairnd",
                        shown.join(" or ")
                    )
                }
            };
            ApiError::new(Reason::DirectoryNotAllowed, message)
                .remedy(remedy)
                .detail("path", path.display())
        }
        DirectoriesError::NotRegistered { asked } => ApiError::new(Reason::DirectoryNotRegistered, message)
            .remedy("cairn directory register, with the directory; cairn directory list shows which are")
            .detail("repository", asked),
        DirectoriesError::Registered { repository, path } => {
            ApiError::new(Reason::DirectoryRegistered, message)
                .remedy("one is a copy of the other: make a fork instead, or unregister the other")
                .detail("repository", repository)
                .detail("path", path.display())
        }
        DirectoriesError::TooMany { limit } => ApiError::new(Reason::LimitExceeded, message)
            .remedy("unregister directories that are not needed: cairn directory list")
            .detail("what", "registered directories")
            .detail("found", limit)
            .detail("limit", limit),
        DirectoriesError::InUse { operation, .. } => ApiError::new(Reason::OperationConflict, message)
            .remedy("wait until it has ended, or cancel it: cairn operation watch, cairn operation cancel")
            .detail("operation", operation),
        DirectoriesError::Invalid { .. } => ApiError::new(Reason::Invalid, message),
        DirectoriesError::Limit { what, found, limit } => ApiError::new(Reason::LimitExceeded, message)
            .remedy(format!("give {limit}"))
            .detail("what", what)
            .detail("found", found)
            .detail("limit", limit),
        DirectoriesError::NoKey { .. } | DirectoriesError::NoPin { .. } => {
            ApiError::new(Reason::NotFound, message)
        }
        DirectoriesError::Engine(_) => ApiError::new(Reason::EngineUnknown, message),
        DirectoriesError::Path(_) => ApiError::new(Reason::PathOutside, message),
        DirectoriesError::Repository(error) => repository_error(error),
        DirectoriesError::Operation(error) => operation_error(error),
        DirectoriesError::Collect(error) => collect_error(error),
        DirectoriesError::Start(error) => errors::start_error(error),
        DirectoriesError::Interrupted { .. } => {
            ApiError::new(Reason::Interrupted, message).remedy("look at the directory, then ask for it again")
        }
        DirectoriesError::Records { .. } | DirectoriesError::RecordDamaged { .. } => {
            errors::storage(error.kind(), message)
        }
    }
}

/// An error with its reason, the remedy that goes with that, and its message with all causes.
fn told(reason: Reason, error: &dyn Error) -> ApiError {
    ApiError::new(reason, with_causes(error)).remedy(remedy(reason))
}

/// What a person can do, where the messages do not say it.
fn remedy(reason: Reason) -> &'static str {
    match reason {
        Reason::RepositoryBusy => "try again later, or wait longer",
        Reason::LeaseLost => "do it again",
        Reason::EngineUnavailable => "name no engine, to use the best one that there is",
        Reason::UnsavedChanges => "save them, or let the restore do that",
        Reason::StoreUnreachable => {
            "look at the URL in [store] of the repository's config.toml, and at the network; then do it again"
        }
        Reason::StoreDenied => "look at the credentials of cairnd's environment, and at what they allow",
        Reason::StoreKey => {
            "name the right file by key_file in [store] of the repository's config.toml; 64 hexadecimal digits, readable for the \
             daemon's user alone"
        }
        Reason::SnapshotNotFound => "to list all snapshots: cairn history --all",
        Reason::NoSpace => "free some space; what was begun is removed by the next operation",
        Reason::AccessDenied => "run cairnd as a user who may read and write there",
        Reason::Cancelled => "what was begun is removed by the next operation",
        Reason::NotARepository => "put it under version control: cairn init, or register it with --init",
        _ => "",
    }
}

fn of_kind(kind: ErrorKind) -> Reason {
    match kind {
        ErrorKind::Invalid => Reason::Invalid,
        ErrorKind::NotFound => Reason::NotFound,
        ErrorKind::Conflict => Reason::Conflict,
        ErrorKind::Denied => Reason::AccessDenied,
        ErrorKind::NoSpace => Reason::NoSpace,
        ErrorKind::Corrupt => Reason::RepositoryDamaged,
        ErrorKind::Unavailable => Reason::FileSystem,
        ErrorKind::Internal => Reason::Internal,
    }
}

/// The same kinds, of an object store.
fn of_store(kind: ErrorKind) -> Reason {
    match kind {
        ErrorKind::Denied => Reason::StoreDenied,
        ErrorKind::Unavailable => Reason::StoreUnreachable,
        ErrorKind::Corrupt => Reason::StoreDamaged,
        kind => of_kind(kind),
    }
}

fn at(error: ApiError, path: &Path) -> ApiError {
    error.detail("path", path.display())
}

fn repository_error(error: &RepositoryError) -> ApiError {
    match error {
        RepositoryError::Io { .. } => told(of_kind(error.kind()), error),
        RepositoryError::NoRepository { path } => at(told(Reason::NotARepository, error), path),
        RepositoryError::Exists { path } => at(told(Reason::RepositoryExists, error), path),
        RepositoryError::Occupied { path, .. } => at(told(Reason::DirectoryOccupied, error), path),
        RepositoryError::Nested { path, .. } => at(told(Reason::RepositoryNested, error), path),
        RepositoryError::Overlap { control, .. } => at(told(Reason::RepositoryOverlap, error), control),
        RepositoryError::WorkspaceMissing { workspace, .. } => {
            at(told(Reason::WorkspaceMissing, error), workspace)
        }
        RepositoryError::GoTools { path } | RepositoryError::Newer { path, .. } => {
            at(told(Reason::RepositoryFormat, error), path)
        }
        RepositoryError::Damaged { .. } => told(Reason::RepositoryDamaged, error),
        RepositoryError::SymlinkedControl { .. } | RepositoryError::Value(_) => told(Reason::Invalid, error),
        RepositoryError::NotFound { reference } => {
            told(Reason::SnapshotNotFound, error).detail("reference", reference)
        }
        RepositoryError::Ambiguous {
            reference,
            candidates,
            ..
        } => {
            let candidates: Vec<String> = candidates.iter().map(ToString::to_string).collect();
            told(Reason::SnapshotAmbiguous, error)
                .detail("reference", reference)
                .detail("candidates", candidates.join(","))
        }
        RepositoryError::Reference { reference } => {
            told(Reason::ReferenceInvalid, error).detail("reference", reference)
        }
        RepositoryError::SnapshotExists { .. } => told(Reason::SnapshotExists, error),
        RepositoryError::KeyReused { snapshot } => {
            told(Reason::KeyReused, error).detail("snapshot", snapshot)
        }
        RepositoryError::Lease(lease) => lease_error(lease, error),
    }
}

/// The failure of a lease; `whole` is what was handed out, whose message counts.
fn lease_error(lease: &LeaseError, whole: &dyn Error) -> ApiError {
    match lease {
        LeaseError::Held {
            operation, holder, ..
        } => told(Reason::RepositoryBusy, whole)
            .detail("operation", operation)
            .detail("holder", holder),
        LeaseError::Lost { .. } => told(Reason::LeaseLost, whole),
        LeaseError::Cancelled => told(Reason::Cancelled, whole),
        LeaseError::File(_) => told(of_kind(lease.kind()), whole),
        LeaseError::Thread(_) => told(Reason::FileSystem, whole),
    }
}

fn engine_reason(error: &EngineError) -> Reason {
    match error {
        EngineError::Cancelled => Reason::Cancelled,
        EngineError::Unavailable { .. } | EngineError::Tool { .. } => Reason::EngineUnavailable,
        EngineError::Io { .. }
        | EngineError::Walk(_)
        | EngineError::Place(_)
        | EngineError::Manifest(_)
        | EngineError::Exists { .. }
        | EngineError::Foreign { .. }
        | EngineError::MountPoint { .. } => of_kind(error.kind()),
    }
}

fn operation_error(error: &OperationError) -> ApiError {
    let reason = match error {
        OperationError::Repository(error) => return repository_error(error),
        OperationError::Unsaved { changes } => {
            return told(Reason::UnsavedChanges, error).detail("changes", changes);
        }
        OperationError::Occupied { path } => return at(told(Reason::DirectoryOccupied, error), path),
        OperationError::Cancelled => Reason::Cancelled,
        OperationError::Engine(engine) => engine_reason(engine),
        OperationError::NoEngine { .. } | OperationError::Compression { .. } => Reason::EngineUnavailable,
        OperationError::Chunks(error) => chunks_reason(error),
        OperationError::Archive(error) => archive_reason(error),
        OperationError::StoreUrl(_) => Reason::StoreUrlInvalid,
        OperationError::Key(_) => Reason::StoreKey,
        OperationError::NoRuntime => Reason::Internal,
        OperationError::Import(error) => import_reason(error),
        OperationError::NoWorkspace { .. } => Reason::NotFound,
        OperationError::NotImported { .. } | OperationError::OtherWorkspace { .. } => Reason::Conflict,
        OperationError::Manifest(_)
        | OperationError::Walk(_)
        | OperationError::Ignore(_)
        | OperationError::Place(_)
        | OperationError::Workspace { .. }
        | OperationError::Payload { .. }
        | OperationError::Staging { .. }
        | OperationError::Inconsistent { .. }
        | OperationError::ForeignManifest { .. }
        | OperationError::TooManyLinks { .. }
        | OperationError::NoPath { .. }
        | OperationError::NotHeld { .. }
        | OperationError::Incomplete { .. } => of_kind(error.kind()),
    };
    told(reason, error)
}

/// What is wrong with a repository of the Go tools.
fn import_reason(error: &ImportError) -> Reason {
    match error {
        ImportError::NotARepository { .. } => Reason::NotARepository,
        ImportError::Ours { .. } => Reason::RepositoryExists,
        ImportError::Version { .. } => Reason::RepositoryFormat,
        ImportError::Damaged { .. } => Reason::RepositoryDamaged,
        ImportError::Cancelled => Reason::Cancelled,
        ImportError::Io { .. }
        | ImportError::Locator { .. }
        | ImportError::TreeMissing { .. }
        | ImportError::TooMany { .. } => of_kind(error.kind()),
    }
}

/// What went wrong with the object store of archives.
fn archive_reason(error: &ArchiveError) -> Reason {
    match error {
        ArchiveError::Cancelled => Reason::Cancelled,
        ArchiveError::NewerVersion { .. } => Reason::RepositoryFormat,
        error => of_store(error.kind()),
    }
}

fn chunks_reason(error: &ChunksError) -> Reason {
    match error {
        ChunksError::Cancelled => Reason::Cancelled,
        ChunksError::Archive(error) => archive_reason(error),
        ChunksError::Data { .. } => of_store(error.kind()),
        error => of_kind(error.kind()),
    }
}

fn collect_error(error: &CollectError) -> ApiError {
    match error {
        CollectError::Operation(error) => operation_error(error),
        CollectError::NoPlan { plan } => told(Reason::PlanNotFound, error).detail("plan", plan),
        CollectError::Stale { plan, .. } => told(Reason::PlanStale, error).detail("plan", plan),
        CollectError::Protected { id, .. } => told(Reason::SnapshotProtected, error).detail("snapshot", id),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use cairn_api::Reason;
    use cairn_snapshot::operations::OperationError;
    use cairn_snapshot::operations::collect::CollectError;
    use cairn_snapshot::repository::{LeaseError, RepositoryError};
    use cairn_types::SnapshotId;

    use super::api_error;
    use crate::directories::DirectoriesError;

    #[test]
    fn a_daemon_without_roots_says_how_it_gets_one() {
        let error = |roots| {
            api_error(&DirectoriesError::NotAllowed {
                path: "/data".into(),
                what: "it is below none of the roots",
                roots,
            })
        };
        let none = error(Vec::new());
        assert_eq!(none.reason, Reason::DirectoryNotAllowed);
        assert!(none.remedy.contains("[directories]"), "{}", none.remedy);
        assert!(error(vec![PathBuf::from("/srv")]).remedy.contains("below /srv"));
    }

    #[test]
    fn reasons_are_those_of_the_cause() {
        let id = SnapshotId([7; 16]);
        let missing = RepositoryError::NotFound {
            reference: "v1".to_owned(),
        };
        let nested: DirectoriesError = CollectError::Operation(OperationError::Repository(missing)).into();
        let told = api_error(&nested);
        assert_eq!(
            (told.reason, told.details["reference"].as_str()),
            (Reason::SnapshotNotFound, "v1")
        );
        let lease: DirectoriesError = OperationError::from(LeaseError::Cancelled).into();
        assert_eq!(api_error(&lease).reason, Reason::Cancelled);
        assert!(lease.is_cancelled());
        let full: DirectoriesError =
            RepositoryError::io("writing", "/a".as_ref(), std::io::ErrorKind::StorageFull.into()).into();
        assert_eq!(api_error(&full).reason, Reason::NoSpace);
        let protected: DirectoriesError = CollectError::Protected { id, why: "pinned" }.into();
        let told = api_error(&protected);
        assert_eq!(
            (told.reason, told.details["snapshot"].clone()),
            (Reason::SnapshotProtected, id.to_string())
        );
        let reused: DirectoriesError = RepositoryError::KeyReused { snapshot: id }.into();
        assert_eq!(api_error(&reused).reason, Reason::KeyReused);
    }
}
