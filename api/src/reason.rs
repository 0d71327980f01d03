//! Why a request failed, for machines.
//!
//! A reason's text is part of the contract: it never changes its meaning and is never reused. A new failure gets a new
//! reason. The gRPC code follows from the reason:
//!
//! | reason | gRPC code | details |
//! | --- | --- | --- |
//! | `WORKSPACE_NAME_INVALID` | INVALID_ARGUMENT | `name` |
//! | `WORKSPACE_NOT_FOUND` | NOT_FOUND | `workspace` |
//! | `WORKSPACE_EXISTS` | ALREADY_EXISTS | `workspace` |
//! | `WORKSPACE_HAS_SNAPSHOTS` | FAILED_PRECONDITION | `workspace`, `snapshots` |
//! | `EXPORT_POLICY_INVALID` | INVALID_ARGUMENT | `field`, `value` |
//! | `MODE_INVALID` | INVALID_ARGUMENT | `mode` |
//! | `REFERENCE_INVALID` | INVALID_ARGUMENT | `reference` |
//! | `TAG_INVALID` | INVALID_ARGUMENT | `tag` |
//! | `SNAPSHOT_NOT_FOUND` | NOT_FOUND | `workspace`, `reference` |
//! | `SNAPSHOT_FOREIGN` | FAILED_PRECONDITION | `workspace`, `reference`, `owner` |
//! | `SNAPSHOT_AMBIGUOUS` | FAILED_PRECONDITION | `workspace`, `reference`, `candidates` |
//! | `SNAPSHOT_IN_USE` | FAILED_PRECONDITION | `workspace`, `snapshot`, `users` |
//! | `PIN_NOT_FOUND` | NOT_FOUND | `snapshot`, `pin` |
//! | `KEY_CONFLICT` | FAILED_PRECONDITION | `key`, `snapshot` or `fields` |
//! | `OVER_CAPACITY` | RESOURCE_EXHAUSTED | `workspace`, `resource`, `found`, `limit` |
//! | `LIMIT_EXCEEDED` | INVALID_ARGUMENT | `what`, `found`, `limit` |
//! | `FEATURE_UNSUPPORTED` | UNIMPLEMENTED | `feature` |
//! | `NO_SPACE` | RESOURCE_EXHAUSTED | |
//! | `STORAGE_CORRUPT` | DATA_LOSS | |
//! | `STORAGE_UNAVAILABLE` | UNAVAILABLE | |
//! | `STORAGE_FAILED` | INTERNAL | |
//! | `STORE_URL_INVALID` | INVALID_ARGUMENT | |
//! | `STORE_OPTION_INVALID` | INVALID_ARGUMENT | `store` |
//! | `STORE_UNREACHABLE` | UNAVAILABLE | `store`, `object` |
//! | `STORE_DENIED` | PERMISSION_DENIED | `store`, `object` |
//! | `STORE_NOT_FOUND` | NOT_FOUND | `store` |
//! | `STORE_FOREIGN` | FAILED_PRECONDITION | `store`, `owner`, `epoch` |
//! | `STORE_NEWER` | FAILED_PRECONDITION | `store`, `object`, `found` |
//! | `STORE_FULL` | RESOURCE_EXHAUSTED | `store`, `object` |
//! | `STORE_CONFLICT` | ABORTED | `store`, `object` |
//! | `STORE_DAMAGED` | DATA_LOSS | `store`, `object` |
//! | `STORE_KEY_MISSING` | FAILED_PRECONDITION | `store` |
//! | `STORE_KEY_WRONG` | FAILED_PRECONDITION | `store` |
//! | `STORE_KEY_UNEXPECTED` | FAILED_PRECONDITION | `store` |
//! | `ARCHIVE_NOT_FOUND` | NOT_FOUND | `store`, `reference` |
//! | `ARCHIVE_AMBIGUOUS` | FAILED_PRECONDITION | `store`, `reference`, `candidates` |
//! | `ARCHIVE_DAMAGED` | DATA_LOSS | `store`, `object` |
//! | `OPERATION_NOT_FOUND` | NOT_FOUND | `operation` |
//! | `OPERATION_AMBIGUOUS` | FAILED_PRECONDITION | `operation`, `candidates` |
//! | `OPERATIONS_TOO_MANY` | RESOURCE_EXHAUSTED | `running`, `limit` |
//! | `OPERATION_CONFLICT` | FAILED_PRECONDITION | `operation` or `store` |
//! | `NOT_A_REPOSITORY` | NOT_FOUND | `path` |
//! | `DIRECTORY_NOT_ALLOWED` | PERMISSION_DENIED | `path` |
//! | `DIRECTORY_NOT_REGISTERED` | NOT_FOUND | `repository` |
//! | `DIRECTORY_REGISTERED` | ALREADY_EXISTS | `repository`, `path` |
//! | `REPOSITORY_EXISTS` | ALREADY_EXISTS | `path` |
//! | `DIRECTORY_OCCUPIED` | FAILED_PRECONDITION | `path` |
//! | `REPOSITORY_NESTED` | FAILED_PRECONDITION | `path` |
//! | `REPOSITORY_OVERLAP` | INVALID_ARGUMENT | `path` |
//! | `WORKSPACE_MISSING` | FAILED_PRECONDITION | `path` |
//! | `REPOSITORY_FORMAT` | FAILED_PRECONDITION | `path` |
//! | `REPOSITORY_DAMAGED` | DATA_LOSS | |
//! | `REPOSITORY_BUSY` | UNAVAILABLE | `operation`, `holder` |
//! | `LEASE_LOST` | ABORTED | |
//! | `SNAPSHOT_EXISTS` | ALREADY_EXISTS | |
//! | `KEY_REUSED` | ALREADY_EXISTS | `snapshot` |
//! | `PLAN_NOT_FOUND` | NOT_FOUND | `plan` |
//! | `PLAN_STALE` | FAILED_PRECONDITION | `plan` |
//! | `SNAPSHOT_PROTECTED` | FAILED_PRECONDITION | `snapshot` |
//! | `ENGINE_UNAVAILABLE` | FAILED_PRECONDITION | |
//! | `ENGINE_UNKNOWN` | INVALID_ARGUMENT | |
//! | `UNSAVED_CHANGES` | FAILED_PRECONDITION | `changes` |
//! | `STORE_KEY` | FAILED_PRECONDITION | |
//! | `PATH_OUTSIDE` | INVALID_ARGUMENT | |
//! | `NOT_FOUND` | NOT_FOUND | |
//! | `CONFLICT` | FAILED_PRECONDITION | |
//! | `INVALID` | INVALID_ARGUMENT | |
//! | `ACCESS_DENIED` | PERMISSION_DENIED | |
//! | `FILE_SYSTEM` | UNAVAILABLE | |
//! | `INTERRUPTED` | ABORTED | `operation` |
//! | `CANCELLED` | CANCELLED | `operation` |
//! | `KEY_INVALID` | INVALID_ARGUMENT | `field`, `key` |
//! | `KEY_DELETED` | FAILED_PRECONDITION | `key` |
//! | `LEDGER_FULL` | RESOURCE_EXHAUSTED | `limit` |
//! | `FENCE_INVALID` | INVALID_ARGUMENT | `field` |
//! | `FENCED` | FAILED_PRECONDITION | `cluster`, `generation`, `greatest` |
//! | `INSTANCE_CHANGED` | ABORTED | `expected`, `instance` |
//! | `NODE_DRAINING` | UNAVAILABLE | |
//! | `OPERATION_RUNNING` | ABORTED | `operation` |
//! | `PEER_DENIED` | PERMISSION_DENIED | `service`, `names` |
//! | `WORKSPACE_OWNED` | ALREADY_EXISTS | `workspace`, `owner` |
//! | `WORKSPACE_GONE` | FAILED_PRECONDITION | `workspace`, `key` |
//! | `SNAPSHOT_GONE` | FAILED_PRECONDITION | `snapshot`, `key` |
//! | `RESTORE_NOT_FOUND` | NOT_FOUND | `key` |
//! | `BACKING_INVALID` | INVALID_ARGUMENT | `field` |
//! | `PAGE_INVALID` | INVALID_ARGUMENT | `page_token` |
//! | `SHUTTING_DOWN` | UNAVAILABLE | |
//! | `INTERNAL` | INTERNAL | |
//! | `DAEMON_UNREACHABLE` | UNAVAILABLE | `socket` |
//! | `UNRECOGNIZED` | UNKNOWN | |
//!
//! `DAEMON_UNREACHABLE` and `UNRECOGNIZED` are said by clients and never travel: the first for a connection that does not
//! come about or breaks, the second for an answer that this version of the client does not understand. `candidates` is a
//! list of identities with a comma between them, `users` a list of sentences with a semicolon between them.

use tonic::Code;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal, $code:ident;)*) => {
        /// Why a request failed. The module's documentation has the table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The text on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$variant => $text,)*
                }
            }

            /// The gRPC code that goes with it.
            pub fn code(self) -> Code {
                match self {
                    $(Reason::$variant => Code::$code,)*
                }
            }
        }
    };
}

reasons! {
    /// The text is no workspace name.
    WorkspaceNameInvalid = "WORKSPACE_NAME_INVALID", InvalidArgument;
    /// No workspace has the name.
    WorkspaceNotFound = "WORKSPACE_NOT_FOUND", NotFound;
    /// A workspace has the name already.
    WorkspaceExists = "WORKSPACE_EXISTS", AlreadyExists;
    /// The workspace has snapshots, which a deletion would take with it.
    WorkspaceHasSnapshots = "WORKSPACE_HAS_SNAPSHOTS", FailedPrecondition;
    /// A field of the export policy makes no sense.
    ExportPolicyInvalid = "EXPORT_POLICY_INVALID", InvalidArgument;
    /// The permission bits are more than 07777.
    ModeInvalid = "MODE_INVALID", InvalidArgument;
    /// The text cannot refer to a snapshot.
    ReferenceInvalid = "REFERENCE_INVALID", InvalidArgument;
    /// The text is no tag.
    TagInvalid = "TAG_INVALID", InvalidArgument;
    /// Nothing of the workspace fits the reference.
    SnapshotNotFound = "SNAPSHOT_NOT_FOUND", NotFound;
    /// The snapshot is of another workspace.
    SnapshotForeign = "SNAPSHOT_FOREIGN", FailedPrecondition;
    /// Several snapshots fit the prefix.
    SnapshotAmbiguous = "SNAPSHOT_AMBIGUOUS", FailedPrecondition;
    /// Somebody uses the snapshot.
    SnapshotInUse = "SNAPSHOT_IN_USE", FailedPrecondition;
    /// The snapshot has no pin of that number.
    PinNotFound = "PIN_NOT_FOUND", NotFound;
    /// The idempotency key was used for another request.
    KeyConflict = "KEY_CONFLICT", FailedPrecondition;
    /// The workspace would hold more than it may, or holds more.
    OverCapacity = "OVER_CAPACITY", ResourceExhausted;
    /// An argument is beyond a limit.
    LimitExceeded = "LIMIT_EXCEEDED", InvalidArgument;
    /// The request needs a feature that this server does not have.
    FeatureUnsupported = "FEATURE_UNSUPPORTED", Unimplemented;
    /// The node is full.
    NoSpace = "NO_SPACE", ResourceExhausted;
    /// Stored bytes are damaged.
    StorageCorrupt = "STORAGE_CORRUPT", DataLoss;
    /// The stores do not answer now.
    StorageUnavailable = "STORAGE_UNAVAILABLE", Unavailable;
    /// The stores failed.
    StorageFailed = "STORAGE_FAILED", Internal;
    /// The text is no URL of an object store.
    StoreUrlInvalid = "STORE_URL_INVALID", InvalidArgument;
    /// A setting of the store, or a request to it, can never be right.
    StoreOptionInvalid = "STORE_OPTION_INVALID", InvalidArgument;
    /// The object store does not answer.
    StoreUnreachable = "STORE_UNREACHABLE", Unavailable;
    /// The object store refuses the credentials.
    StoreDenied = "STORE_DENIED", PermissionDenied;
    /// The bucket or directory does not exist, or the object store is no store of Cairn's yet.
    StoreNotFound = "STORE_NOT_FOUND", NotFound;
    /// Another daemon owns the object store.
    StoreForeign = "STORE_FOREIGN", FailedPrecondition;
    /// A later version wrote the object store.
    StoreNewer = "STORE_NEWER", FailedPrecondition;
    /// The object store has no room.
    StoreFull = "STORE_FULL", ResourceExhausted;
    /// Somebody else changed the object store meanwhile.
    StoreConflict = "STORE_CONFLICT", Aborted;
    /// An object of the store is damaged.
    StoreDamaged = "STORE_DAMAGED", DataLoss;
    /// The object store is encrypted, and no key is configured.
    StoreKeyMissing = "STORE_KEY_MISSING", FailedPrecondition;
    /// The configured key is not one of the object store's.
    StoreKeyWrong = "STORE_KEY_WRONG", FailedPrecondition;
    /// A key is configured, and the object store is not encrypted.
    StoreKeyUnexpected = "STORE_KEY_UNEXPECTED", FailedPrecondition;
    /// Nothing in the object store fits the reference.
    ArchiveNotFound = "ARCHIVE_NOT_FOUND", NotFound;
    /// Several archives fit the reference.
    ArchiveAmbiguous = "ARCHIVE_AMBIGUOUS", FailedPrecondition;
    /// The archive is not what was written.
    ArchiveDamaged = "ARCHIVE_DAMAGED", DataLoss;
    /// No operation has the identity.
    OperationNotFound = "OPERATION_NOT_FOUND", NotFound;
    /// Several operations fit the prefix.
    OperationAmbiguous = "OPERATION_AMBIGUOUS", FailedPrecondition;
    /// As many operations run as may.
    OperationsTooMany = "OPERATIONS_TOO_MANY", ResourceExhausted;
    /// Another operation that runs excludes this one.
    OperationConflict = "OPERATION_CONFLICT", FailedPrecondition;
    /// The directory is in no repository.
    NotARepository = "NOT_A_REPOSITORY", NotFound;
    /// The daemon may not touch the directory.
    DirectoryNotAllowed = "DIRECTORY_NOT_ALLOWED", PermissionDenied;
    /// The daemon does not look after the directory.
    DirectoryNotRegistered = "DIRECTORY_NOT_REGISTERED", NotFound;
    /// The repository is registered, at another place.
    DirectoryRegistered = "DIRECTORY_REGISTERED", AlreadyExists;
    /// There is a repository already.
    RepositoryExists = "REPOSITORY_EXISTS", AlreadyExists;
    /// Something is in the way of a new directory or repository.
    DirectoryOccupied = "DIRECTORY_OCCUPIED", FailedPrecondition;
    /// A repository would be inside another one.
    RepositoryNested = "REPOSITORY_NESTED", FailedPrecondition;
    /// Workspace and control directory are inside each other.
    RepositoryOverlap = "REPOSITORY_OVERLAP", InvalidArgument;
    /// The directory of a repository is not there.
    WorkspaceMissing = "WORKSPACE_MISSING", FailedPrecondition;
    /// The repository has a format that this version does not know.
    RepositoryFormat = "REPOSITORY_FORMAT", FailedPrecondition;
    /// Something of the repository is damaged.
    RepositoryDamaged = "REPOSITORY_DAMAGED", DataLoss;
    /// Somebody else works in the repository.
    RepositoryBusy = "REPOSITORY_BUSY", Unavailable;
    /// Somebody else has taken over the repository meanwhile.
    LeaseLost = "LEASE_LOST", Aborted;
    /// A snapshot of this identity exists.
    SnapshotExists = "SNAPSHOT_EXISTS", AlreadyExists;
    /// The idempotency key was used for another request.
    KeyReused = "KEY_REUSED", AlreadyExists;
    /// There is no such plan.
    PlanNotFound = "PLAN_NOT_FOUND", NotFound;
    /// Something has changed since the plan was made.
    PlanStale = "PLAN_STALE", FailedPrecondition;
    /// The snapshot is pinned or needed.
    SnapshotProtected = "SNAPSHOT_PROTECTED", FailedPrecondition;
    /// The engine cannot be used there.
    EngineUnavailable = "ENGINE_UNAVAILABLE", FailedPrecondition;
    /// There is no such engine.
    EngineUnknown = "ENGINE_UNKNOWN", InvalidArgument;
    /// There are changes that no snapshot has.
    UnsavedChanges = "UNSAVED_CHANGES", FailedPrecondition;
    /// The key of a repository's object store cannot be used.
    StoreKey = "STORE_KEY", FailedPrecondition;
    /// The path is outside of the directory.
    PathOutside = "PATH_OUTSIDE", InvalidArgument;
    /// Something that was asked for is not there.
    NotFound = "NOT_FOUND", NotFound;
    /// Something is there already, or not as it must be.
    Conflict = "CONFLICT", FailedPrecondition;
    /// A value can never be right.
    Invalid = "INVALID", InvalidArgument;
    /// The operating system refuses access to a file.
    AccessDenied = "ACCESS_DENIED", PermissionDenied;
    /// A file system fails.
    FileSystem = "FILE_SYSTEM", Unavailable;
    /// The daemon was interrupted, and the work cannot be taken up again.
    Interrupted = "INTERRUPTED", Aborted;
    /// The work was asked to stop.
    Cancelled = "CANCELLED", Cancelled;
    /// The text is no key.
    KeyInvalid = "KEY_INVALID", InvalidArgument;
    /// What was made under the key has been deleted under it.
    KeyDeleted = "KEY_DELETED", FailedPrecondition;
    /// The ledger of keys is full.
    LedgerFull = "LEDGER_FULL", ResourceExhausted;
    /// A field of the fence makes no sense, or there is no fence.
    FenceInvalid = "FENCE_INVALID", InvalidArgument;
    /// Somebody with a greater generation has taken over.
    Fenced = "FENCED", FailedPrecondition;
    /// The request was meant for another instance of the daemon.
    InstanceChanged = "INSTANCE_CHANGED", Aborted;
    /// The node is drained.
    NodeDraining = "NODE_DRAINING", Unavailable;
    /// The work goes on: the same request again tells how far it is.
    OperationRunning = "OPERATION_RUNNING", Aborted;
    /// The client's certificate has no name that may use the service.
    PeerDenied = "PEER_DENIED", PermissionDenied;
    /// Another key owns the workspace.
    WorkspaceOwned = "WORKSPACE_OWNED", AlreadyExists;
    /// The workspace of the key was deleted without the key.
    WorkspaceGone = "WORKSPACE_GONE", FailedPrecondition;
    /// The snapshot of the key was deleted without the key.
    SnapshotGone = "SNAPSHOT_GONE", FailedPrecondition;
    /// Nothing is known of a restore under the key.
    RestoreNotFound = "RESTORE_NOT_FOUND", NotFound;
    /// What shall hold the data cannot.
    BackingInvalid = "BACKING_INVALID", InvalidArgument;
    /// The text is no place in a list.
    PageInvalid = "PAGE_INVALID", InvalidArgument;
    /// The daemon is stopping.
    ShuttingDown = "SHUTTING_DOWN", Unavailable;
    /// A fault of Cairn.
    Internal = "INTERNAL", Internal;
    /// No daemon answers. Never on the wire.
    DaemonUnreachable = "DAEMON_UNREACHABLE", Unavailable;
    /// An answer that this client does not understand. Never on the wire.
    Unrecognized = "UNRECOGNIZED", Unknown;
}

impl Reason {
    /// The reason with this text; `None` for one that a later version may have added.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    fn screaming(camel: &str) -> String {
        let mut text = String::new();
        for c in camel.chars() {
            if c.is_ascii_uppercase() && !text.is_empty() {
                text.push('_');
            }
            text.push(c.to_ascii_uppercase());
        }
        text
    }

    #[test]
    fn the_table_is_the_code() {
        let rows: Vec<(String, String)> = include_str!("reason.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `"))
            .map(|row| {
                let mut cells = row
                    .split('|')
                    .map(|cell| cell.trim().trim_matches('`').to_owned());
                (cells.next().unwrap(), cells.next().unwrap())
            })
            .collect();
        let code: Vec<(String, String)> = Reason::ALL
            .iter()
            .map(|reason| {
                (
                    reason.as_str().to_owned(),
                    screaming(&format!("{:?}", reason.code())),
                )
            })
            .collect();
        assert_eq!(rows, code);
    }

    #[test]
    fn texts_name_one_reason_each() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
            assert_eq!(reason.as_str(), screaming(&format!("{reason:?}")));
        }
        assert_eq!(Reason::parse("FROM_THE_FUTURE"), None);
    }
}
