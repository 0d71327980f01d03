//! The edge between what [`crate::control`] refuses and the contract: one exhaustive match.

use cairn_api::{ApiError, Reason};

use super::{directory_errors, errors};
use crate::control::Refused;

/// What a client is told about a request that was not carried out.
pub fn api_error(refused: Refused) -> ApiError {
    let message = refused.to_string();
    let error = |reason| ApiError::new(reason, message.clone());
    match refused {
        Refused::KeyInvalid { field, key } => error(Reason::KeyInvalid)
            .remedy("use 1 to 253 of A-Z a-z 0-9 . _ - / :")
            .detail("field", field)
            .detail("key", key),
        Refused::KeyConflict { key, fields } => error(Reason::KeyConflict)
            .remedy("use another key for another request; one key stands for one thing for ever")
            .detail("key", key)
            .detail("fields", fields.join(",")),
        Refused::KeyDeleted { key } => error(Reason::KeyDeleted)
            .remedy("use a new key to make something new")
            .detail("key", key),
        Refused::LedgerFull { limit } => error(Reason::LedgerFull)
            .remedy("delete workspaces and snapshots that are not needed, under their keys; keys are forgotten thirty days later")
            .detail("limit", limit),
        Refused::FenceInvalid { field } => error(Reason::FenceInvalid)
            .remedy("send a fence with a cluster of 1 to 128 of A-Z a-z 0-9 . _ - : and a generation")
            .detail("field", field),
        Refused::Fenced {
            cluster,
            generation,
            greatest,
        } => error(Reason::Fenced)
            .remedy("stop: another controller leads; acquire the lease again before anything else")
            .detail("cluster", cluster)
            .detail("generation", generation)
            .detail("greatest", greatest),
        Refused::TooManyClusters { limit } => error(Reason::LimitExceeded)
            .remedy("give all controllers of one cluster the same name of the cluster")
            .detail("what", "clusters")
            .detail("found", limit + 1)
            .detail("limit", limit),
        Refused::InstanceChanged { expected, instance } => error(Reason::InstanceChanged)
            .remedy("ask for the node's information again, then repeat the request")
            .detail("expected", expected)
            .detail("instance", instance),
        Refused::Draining => error(Reason::NodeDraining)
            .remedy("wait until the node has been restarted or resumed, then repeat the request"),
        Refused::WorkspaceOwned { name, owner } => error(Reason::WorkspaceOwned)
            .remedy("choose another name, or release the workspace under the key of its owner")
            .detail("workspace", name)
            .detail("owner", owner.unwrap_or_default()),
        Refused::WorkspaceGone { name, key } => error(Reason::WorkspaceGone)
            .remedy("restore it from an archive, or delete it under its key and ask for an empty one with a new key")
            .detail("workspace", name)
            .detail("key", key),
        Refused::SnapshotGone { snapshot, key } => error(Reason::SnapshotGone)
            .remedy("delete it under its key, and take a new one with a new key")
            .detail("snapshot", snapshot)
            .detail("key", key),
        Refused::NoWorkspaceKey { key } => error(Reason::WorkspaceNotFound)
            .remedy("ask for it to be made first, or see on which node it is")
            .detail("key", key),
        Refused::NoSnapshotKey { key } => error(Reason::SnapshotNotFound)
            .remedy("ask for it to be taken first, or see on which node its workspace is")
            .detail("key", key),
        Refused::NoRestoreKey { key } => error(Reason::RestoreNotFound)
            .remedy("ask for it first, or see on which node its workspace is")
            .detail("key", key),
        Refused::PageInvalid { token } => error(Reason::PageInvalid)
            .remedy("begin the list again")
            .detail("page_token", token),
        Refused::Unsupported { feature, what: _ } => error(Reason::FeatureUnsupported)
            .remedy("leave the field out, or use a cairnd that has the feature; its information lists them")
            .detail("feature", feature),
        Refused::BackingInvalid { field, what: _ } => error(Reason::BackingInvalid)
            .remedy("name a directory that the configuration of cairnd allows")
            .detail("field", field),
        Refused::Limit { what, found, limit } => error(Reason::LimitExceeded)
            .remedy("give less")
            .detail("what", what)
            .detail("found", found)
            .detail("limit", limit),
        Refused::StillRunning { operation } => error(Reason::OperationRunning)
            .remedy("repeat the request, or watch the operation")
            .detail("operation", operation),
        Refused::Operation { error } => *error,
        Refused::Directories(error) => directory_errors::api_error(&error),
        Refused::Volumes(error) => errors::api_error(error),
    }
}

#[cfg(test)]
mod tests {
    use cairn_api::Reason;
    use cairn_types::{SnapshotId, WorkspaceName};
    use cairn_vfs::control::ControlError;

    use super::api_error;
    use crate::control::{Key, Refused};

    #[test]
    fn every_refusal_has_reason_details_and_remedy() {
        let key = || Key::parse("key", "k").unwrap();
        let name = || WorkspaceName::new("w").unwrap();
        let text = String::new;
        let cases: Vec<(Refused, Reason, &[&str])> = vec![
            (
                Refused::KeyInvalid {
                    field: "key",
                    key: text(),
                },
                Reason::KeyInvalid,
                &["field", "key"],
            ),
            (
                Refused::KeyConflict {
                    key: key(),
                    fields: vec!["a".to_owned(), "b".to_owned()],
                },
                Reason::KeyConflict,
                &["fields", "key"],
            ),
            (Refused::KeyDeleted { key: key() }, Reason::KeyDeleted, &["key"]),
            (Refused::LedgerFull { limit: 1 }, Reason::LedgerFull, &["limit"]),
            (
                Refused::FenceInvalid { field: "cluster" },
                Reason::FenceInvalid,
                &["field"],
            ),
            (
                Refused::Fenced {
                    cluster: text(),
                    generation: 1,
                    greatest: 2,
                },
                Reason::Fenced,
                &["cluster", "generation", "greatest"],
            ),
            (
                Refused::TooManyClusters { limit: 64 },
                Reason::LimitExceeded,
                &["found", "limit", "what"],
            ),
            (
                Refused::InstanceChanged {
                    expected: text(),
                    instance: text(),
                },
                Reason::InstanceChanged,
                &["expected", "instance"],
            ),
            (Refused::Draining, Reason::NodeDraining, &[]),
            (
                Refused::WorkspaceOwned {
                    name: name(),
                    owner: None,
                },
                Reason::WorkspaceOwned,
                &["owner", "workspace"],
            ),
            (
                Refused::WorkspaceGone {
                    name: text(),
                    key: key(),
                },
                Reason::WorkspaceGone,
                &["key", "workspace"],
            ),
            (
                Refused::SnapshotGone {
                    snapshot: SnapshotId([0; 16]),
                    key: key(),
                },
                Reason::SnapshotGone,
                &["key", "snapshot"],
            ),
            (
                Refused::NoWorkspaceKey { key: key() },
                Reason::WorkspaceNotFound,
                &["key"],
            ),
            (
                Refused::NoSnapshotKey { key: key() },
                Reason::SnapshotNotFound,
                &["key"],
            ),
            (
                Refused::NoRestoreKey { key: key() },
                Reason::RestoreNotFound,
                &["key"],
            ),
            (
                Refused::PageInvalid { token: text() },
                Reason::PageInvalid,
                &["page_token"],
            ),
            (
                Refused::unsupported("f", "w"),
                Reason::FeatureUnsupported,
                &["feature"],
            ),
            (
                Refused::BackingInvalid {
                    field: "path",
                    what: text(),
                },
                Reason::BackingInvalid,
                &["field"],
            ),
            (
                Refused::Limit {
                    what: "w",
                    found: 2,
                    limit: 1,
                },
                Reason::LimitExceeded,
                &["found", "limit", "what"],
            ),
            (
                Refused::StillRunning { operation: text() },
                Reason::OperationRunning,
                &["operation"],
            ),
            (Refused::Volumes(ControlError::NoSpace), Reason::NoSpace, &[]),
        ];
        for (refused, reason, details) in cases {
            let message = refused.to_string();
            let told = api_error(refused);
            assert_eq!((told.reason, told.message), (reason, message));
            assert_eq!(
                told.details.keys().map(String::as_str).collect::<Vec<_>>(),
                details
            );
            assert!(!told.remedy.is_empty(), "{reason:?}");
        }
    }
}
