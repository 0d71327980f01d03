//! The edge between the failures of the stores and those of the contract: one exhaustive match.

use cairn_api::{ApiError, Reason};
use cairn_types::ErrorKind;
use cairn_vfs::control::ControlError;
use tokio::task::JoinError;

use crate::operations::{FindError, StartError};

/// What a client is told about a failed operation. Faults that a person must look at are logged here, once.
pub fn api_error(error: ControlError) -> ApiError {
    let message = error.to_string();
    match error {
        ControlError::NoWorkspace { name } => ApiError::new(Reason::WorkspaceNotFound, message)
            .remedy("`cairn workspace list` shows the workspaces of this node")
            .detail("workspace", name),
        ControlError::WorkspaceExists { name } => ApiError::new(Reason::WorkspaceExists, message)
            .remedy("choose another name, or delete that workspace first")
            .detail("workspace", name),
        ControlError::NoSnapshot { workspace, reference } => ApiError::new(Reason::SnapshotNotFound, message)
            .remedy(format!("`cairn history {workspace}` shows its snapshots"))
            .detail("workspace", workspace)
            .detail("reference", reference),
        ControlError::ForeignSnapshot {
            workspace,
            reference,
            owner,
        } => ApiError::new(Reason::SnapshotForeign, message)
            .remedy(format!(
                "name workspace {owner}, or a snapshot of `cairn history {workspace}`"
            ))
            .detail("workspace", workspace)
            .detail("reference", reference)
            .detail("owner", owner),
        ControlError::AmbiguousSnapshot {
            workspace,
            reference,
            candidates,
        } => {
            let candidates: Vec<String> = candidates.iter().map(ToString::to_string).collect();
            ApiError::new(Reason::SnapshotAmbiguous, message)
                .remedy("give more digits of the id")
                .detail("workspace", workspace)
                .detail("reference", reference)
                .detail("candidates", candidates.join(","))
        }
        ControlError::HasSnapshots { name, snapshots } => {
            ApiError::new(Reason::WorkspaceHasSnapshots, message)
                .remedy("delete it together with its snapshots, which cannot be undone: --with-snapshots")
                .detail("workspace", name)
                .detail("snapshots", snapshots)
        }
        ControlError::SnapshotInUse { workspace, id, users } => {
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            ApiError::new(Reason::SnapshotInUse, message)
                .remedy(format!(
                    "delete the workspaces that were forked from it, remove its pins (`cairn unpin {workspace}@{id} --all`), \
                     or wait until it is read no more"
                ))
                .detail("workspace", workspace)
                .detail("snapshot", id)
                .detail("users", users.join("; "))
        }
        ControlError::NoPin { id, number } => ApiError::new(Reason::PinNotFound, message)
            .remedy("`cairn history --json` shows the pins of every snapshot")
            .detail("snapshot", id)
            .detail("pin", number),
        ControlError::KeyConflict { key, snapshot } => ApiError::new(Reason::KeyConflict, message)
            .remedy("use another key for another snapshot, or the same note and tags for the same")
            .detail("key", key)
            .detail("snapshot", snapshot),
        ControlError::OverCapacity {
            workspace,
            resource,
            found,
            limit,
        } => ApiError::new(Reason::OverCapacity, message)
            .remedy(format!(
                "raise the limit (`cairn workspace limit {workspace}`), or remove files first"
            ))
            .detail("workspace", workspace)
            .detail("resource", resource)
            .detail("found", found)
            .detail("limit", limit),
        ControlError::LimitExceeded { what, found, limit } => ApiError::new(Reason::LimitExceeded, message)
            .remedy("give less")
            .detail("what", what)
            .detail("found", found)
            .detail("limit", limit),
        ControlError::NoSpace => ApiError::new(Reason::NoSpace, message).remedy(NO_SPACE),
        ControlError::Storage { kind, .. } => storage(kind, message),
    }
}

const NO_SPACE: &str = "free space on the data directory's file system, or delete workspaces that are not needed; \
                        `cairn status` shows what is free and what is reserved";

pub(super) fn storage(kind: ErrorKind, message: String) -> ApiError {
    tracing::error!(error = %message, ?kind, "a request failed in the stores");
    match kind {
        ErrorKind::NoSpace => ApiError::new(Reason::NoSpace, message).remedy(NO_SPACE),
        ErrorKind::Corrupt => ApiError::new(Reason::StorageCorrupt, message)
            .remedy("keep the data directory as it is, read the log of cairnd, and restore from a backup"),
        ErrorKind::Unavailable => ApiError::new(Reason::StorageUnavailable, message).remedy(
            "read the log of cairnd; if a write or a sync failed, repair the disk and restart cairnd",
        ),
        ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Denied
        | ErrorKind::Internal => ApiError::new(Reason::StorageFailed, message)
            .remedy("read the log of cairnd and report the fault"),
    }
}

/// What a client is told about an operation that was not started.
pub fn start_error(error: &StartError) -> ApiError {
    let message = error.to_string();
    match error {
        StartError::TooMany { running, limit } => ApiError::new(Reason::OperationsTooMany, message)
            .remedy("wait until one has ended, or cancel one: `cairn operation list` shows them")
            .detail("running", running)
            .detail("limit", limit),
        StartError::Excluded { running, .. } => ApiError::new(Reason::OperationConflict, message)
            .remedy(format!(
                "wait for it (`cairn operation watch {running}`) or cancel it (`cairn operation cancel {running}`)"
            ))
            .detail("operation", running),
        StartError::Stopping => ApiError::new(Reason::ShuttingDown, message)
            .remedy("start it again, then repeat the command"),
        StartError::Thread(_) => {
            tracing::error!(error = %message, "an operation was not started");
            ApiError::new(Reason::Internal, message)
                .remedy("look at the limits of the process (ulimit -u) and of its cgroup, then repeat the command")
        }
    }
}

/// What a client is told about an operation that was not found.
pub fn find_error(error: FindError) -> ApiError {
    let message = error.to_string();
    match error {
        FindError::NotFound { text } => ApiError::new(Reason::OperationNotFound, message)
            .remedy("`cairn operation list` shows those that there are")
            .detail("operation", text),
        FindError::Ambiguous { text, candidates } => {
            let candidates: Vec<String> = candidates.iter().map(ToString::to_string).collect();
            ApiError::new(Reason::OperationAmbiguous, message)
                .remedy("give more digits of the id")
                .detail("operation", text)
                .detail("candidates", candidates.join(","))
        }
    }
}

/// What a client is told about an operation that broke off: a fault of Cairn.
pub fn broken_task(failed: &JoinError) -> ApiError {
    tracing::error!(error = %failed, "a request broke off: please report this");
    ApiError::new(Reason::Internal, "the request broke off inside cairnd")
        .remedy("read the log of cairnd and report the fault; look whether the request took effect")
}

#[cfg(test)]
mod tests {
    use cairn_api::Reason;
    use cairn_types::{ErrorKind, SnapshotId, WorkspaceName};
    use cairn_vfs::control::{CapacityResource, ControlError, SnapshotUser};

    use super::api_error;

    #[test]
    fn every_failure_has_reason_details_and_remedy() {
        let w = || WorkspaceName::new("w").unwrap();
        let reference = || "abcd".to_owned();
        let storage = |kind| ControlError::Storage {
            what: "sync".to_owned(),
            kind,
        };
        let cases: Vec<(ControlError, Reason, &[&str])> = vec![
            (
                ControlError::NoWorkspace { name: w() },
                Reason::WorkspaceNotFound,
                &["workspace"],
            ),
            (
                ControlError::WorkspaceExists { name: w() },
                Reason::WorkspaceExists,
                &["workspace"],
            ),
            (
                ControlError::NoSnapshot {
                    workspace: w(),
                    reference: reference(),
                },
                Reason::SnapshotNotFound,
                &["reference", "workspace"],
            ),
            (
                ControlError::ForeignSnapshot {
                    workspace: w(),
                    reference: reference(),
                    owner: w(),
                },
                Reason::SnapshotForeign,
                &["owner", "reference", "workspace"],
            ),
            (
                ControlError::AmbiguousSnapshot {
                    workspace: w(),
                    reference: reference(),
                    candidates: vec![SnapshotId([0xab; 16]), SnapshotId([0xac; 16])],
                },
                Reason::SnapshotAmbiguous,
                &["candidates", "reference", "workspace"],
            ),
            (
                ControlError::HasSnapshots {
                    name: w(),
                    snapshots: 3,
                },
                Reason::WorkspaceHasSnapshots,
                &["snapshots", "workspace"],
            ),
            (
                ControlError::SnapshotInUse {
                    workspace: w(),
                    id: SnapshotId([0xab; 16]),
                    users: vec![SnapshotUser::Reading],
                },
                Reason::SnapshotInUse,
                &["snapshot", "users", "workspace"],
            ),
            (
                ControlError::NoPin {
                    id: SnapshotId([0xab; 16]),
                    number: 2,
                },
                Reason::PinNotFound,
                &["pin", "snapshot"],
            ),
            (
                ControlError::KeyConflict {
                    key: "k".to_owned(),
                    snapshot: SnapshotId([0xab; 16]),
                },
                Reason::KeyConflict,
                &["key", "snapshot"],
            ),
            (
                ControlError::OverCapacity {
                    workspace: w(),
                    resource: CapacityResource::Bytes,
                    found: 2,
                    limit: 1,
                },
                Reason::OverCapacity,
                &["found", "limit", "resource", "workspace"],
            ),
            (
                ControlError::LimitExceeded {
                    what: "note",
                    found: 2,
                    limit: 1,
                },
                Reason::LimitExceeded,
                &["found", "limit", "what"],
            ),
            (ControlError::NoSpace, Reason::NoSpace, &[]),
            (storage(ErrorKind::Corrupt), Reason::StorageCorrupt, &[]),
            (storage(ErrorKind::Unavailable), Reason::StorageUnavailable, &[]),
            (storage(ErrorKind::NoSpace), Reason::NoSpace, &[]),
            (storage(ErrorKind::Internal), Reason::StorageFailed, &[]),
        ];
        for (error, reason, details) in cases {
            let message = error.to_string();
            let told = api_error(error);
            assert_eq!((told.reason, told.message), (reason, message));
            assert_eq!(
                told.details.keys().map(String::as_str).collect::<Vec<_>>(),
                details
            );
            assert!(!told.remedy.is_empty(), "{reason:?}");
        }
    }

    #[test]
    fn candidates_are_full_ids() {
        let told = api_error(ControlError::AmbiguousSnapshot {
            workspace: WorkspaceName::new("w").unwrap(),
            reference: "abab".to_owned(),
            candidates: vec![SnapshotId([0xab; 16]), SnapshotId([0xac; 16])],
        });
        assert_eq!(
            told.details["candidates"],
            format!("{},{}", "ab".repeat(16), "ac".repeat(16))
        );
    }
}
