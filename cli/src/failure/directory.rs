//! How commands on plain directories fail: every error of the library with the reason that programs see, its exit code, and what
//! a person can do. Messages are those of the library, with their causes.

use std::collections::BTreeMap;
use std::error::Error;

use cairn_fuse::MountError;
use cairn_snapshot::archive::ArchiveError;
use cairn_snapshot::directory::WalkError;
use cairn_snapshot::directory::compare::CompareError;
use cairn_snapshot::engine::EngineError;
use cairn_snapshot::engine::chunks::ChunksError;
use cairn_snapshot::manifest::{ChangeError, ManifestError};
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::collect::CollectError;
use cairn_snapshot::repository::import_jvs::ImportError;
use cairn_snapshot::repository::{LeaseError, RepositoryError};
use cairn_types::{ErrorKind, with_causes};

use crate::exit::Exit;
use crate::text;

/// Why a command on a directory failed, for programs. Stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryReason {
    NotARepository,
    RepositoryExists,
    DirectoryOccupied,
    RepositoryNested,
    RepositoryOverlap,
    WorkspaceMissing,
    RepositoryFormat,
    RepositoryDamaged,
    RepositoryBusy,
    LeaseLost,
    SnapshotNotFound,
    SnapshotAmbiguous,
    SnapshotExists,
    ReferenceInvalid,
    KeyReused,
    PlanNotFound,
    PlanStale,
    SnapshotProtected,
    EngineUnavailable,
    EngineUnknown,
    UnsavedChanges,
    StoreUnreachable,
    StoreDenied,
    StoreKey,
    StoreUrlInvalid,
    StoreDamaged,
    PathOutside,
    NotFound,
    Conflict,
    Invalid,
    NoSpace,
    AccessDenied,
    FileSystem,
    Cancelled,
    MountPoint,
    FuseUnavailable,
    FuseHelper,
    MountRefused,
    NotMounted,
    MountBusy,
    Internal,
}

impl DirectoryReason {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [DirectoryReason; 41] = [
        DirectoryReason::NotARepository,
        DirectoryReason::RepositoryExists,
        DirectoryReason::DirectoryOccupied,
        DirectoryReason::RepositoryNested,
        DirectoryReason::RepositoryOverlap,
        DirectoryReason::WorkspaceMissing,
        DirectoryReason::RepositoryFormat,
        DirectoryReason::RepositoryDamaged,
        DirectoryReason::RepositoryBusy,
        DirectoryReason::LeaseLost,
        DirectoryReason::SnapshotNotFound,
        DirectoryReason::SnapshotAmbiguous,
        DirectoryReason::SnapshotExists,
        DirectoryReason::ReferenceInvalid,
        DirectoryReason::KeyReused,
        DirectoryReason::PlanNotFound,
        DirectoryReason::PlanStale,
        DirectoryReason::SnapshotProtected,
        DirectoryReason::EngineUnavailable,
        DirectoryReason::EngineUnknown,
        DirectoryReason::UnsavedChanges,
        DirectoryReason::StoreUnreachable,
        DirectoryReason::StoreDenied,
        DirectoryReason::StoreKey,
        DirectoryReason::StoreUrlInvalid,
        DirectoryReason::StoreDamaged,
        DirectoryReason::PathOutside,
        DirectoryReason::NotFound,
        DirectoryReason::Conflict,
        DirectoryReason::Invalid,
        DirectoryReason::NoSpace,
        DirectoryReason::AccessDenied,
        DirectoryReason::FileSystem,
        DirectoryReason::Cancelled,
        DirectoryReason::MountPoint,
        DirectoryReason::FuseUnavailable,
        DirectoryReason::FuseHelper,
        DirectoryReason::MountRefused,
        DirectoryReason::NotMounted,
        DirectoryReason::MountBusy,
        DirectoryReason::Internal,
    ];

    /// The word that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            DirectoryReason::NotARepository => "NOT_A_REPOSITORY",
            DirectoryReason::RepositoryExists => "REPOSITORY_EXISTS",
            DirectoryReason::DirectoryOccupied => "DIRECTORY_OCCUPIED",
            DirectoryReason::RepositoryNested => "REPOSITORY_NESTED",
            DirectoryReason::RepositoryOverlap => "REPOSITORY_OVERLAP",
            DirectoryReason::WorkspaceMissing => "WORKSPACE_MISSING",
            DirectoryReason::RepositoryFormat => "REPOSITORY_FORMAT",
            DirectoryReason::RepositoryDamaged => "REPOSITORY_DAMAGED",
            DirectoryReason::RepositoryBusy => "REPOSITORY_BUSY",
            DirectoryReason::LeaseLost => "LEASE_LOST",
            DirectoryReason::SnapshotNotFound => "SNAPSHOT_NOT_FOUND",
            DirectoryReason::SnapshotAmbiguous => "SNAPSHOT_AMBIGUOUS",
            DirectoryReason::SnapshotExists => "SNAPSHOT_EXISTS",
            DirectoryReason::ReferenceInvalid => "REFERENCE_INVALID",
            DirectoryReason::KeyReused => "KEY_REUSED",
            DirectoryReason::PlanNotFound => "PLAN_NOT_FOUND",
            DirectoryReason::PlanStale => "PLAN_STALE",
            DirectoryReason::SnapshotProtected => "SNAPSHOT_PROTECTED",
            DirectoryReason::EngineUnavailable => "ENGINE_UNAVAILABLE",
            DirectoryReason::EngineUnknown => "ENGINE_UNKNOWN",
            DirectoryReason::UnsavedChanges => "UNSAVED_CHANGES",
            DirectoryReason::StoreUnreachable => "STORE_UNREACHABLE",
            DirectoryReason::StoreDenied => "STORE_DENIED",
            DirectoryReason::StoreKey => "STORE_KEY",
            DirectoryReason::StoreUrlInvalid => "STORE_URL_INVALID",
            DirectoryReason::StoreDamaged => "STORE_DAMAGED",
            DirectoryReason::PathOutside => "PATH_OUTSIDE",
            DirectoryReason::NotFound => "NOT_FOUND",
            DirectoryReason::Conflict => "CONFLICT",
            DirectoryReason::Invalid => "INVALID",
            DirectoryReason::NoSpace => "NO_SPACE",
            DirectoryReason::AccessDenied => "ACCESS_DENIED",
            DirectoryReason::FileSystem => "FILE_SYSTEM",
            DirectoryReason::Cancelled => "CANCELLED",
            DirectoryReason::MountPoint => "MOUNT_POINT_UNUSABLE",
            DirectoryReason::FuseUnavailable => "FUSE_UNAVAILABLE",
            DirectoryReason::FuseHelper => "FUSERMOUNT_MISSING",
            DirectoryReason::MountRefused => "MOUNT_REFUSED",
            DirectoryReason::NotMounted => "NOT_MOUNTED",
            DirectoryReason::MountBusy => "MOUNT_BUSY",
            DirectoryReason::Internal => "INTERNAL",
        }
    }

    /// What the process ends with.
    pub fn exit(self) -> Exit {
        match self {
            DirectoryReason::NotARepository => Exit::NotARepository,
            DirectoryReason::RepositoryExists
            | DirectoryReason::DirectoryOccupied
            | DirectoryReason::RepositoryNested
            | DirectoryReason::RepositoryOverlap
            | DirectoryReason::SnapshotExists
            | DirectoryReason::KeyReused
            | DirectoryReason::PlanStale
            | DirectoryReason::SnapshotProtected
            | DirectoryReason::Conflict => Exit::Conflict,
            DirectoryReason::WorkspaceMissing
            | DirectoryReason::SnapshotNotFound
            | DirectoryReason::PlanNotFound
            | DirectoryReason::NotFound => Exit::NotFound,
            DirectoryReason::RepositoryFormat => Exit::Format,
            DirectoryReason::RepositoryDamaged | DirectoryReason::StoreDamaged => Exit::Damaged,
            DirectoryReason::RepositoryBusy | DirectoryReason::LeaseLost => Exit::Busy,
            DirectoryReason::SnapshotAmbiguous
            | DirectoryReason::ReferenceInvalid
            | DirectoryReason::EngineUnknown
            | DirectoryReason::StoreUrlInvalid
            | DirectoryReason::Invalid => Exit::Invalid,
            DirectoryReason::EngineUnavailable => Exit::EngineUnavailable,
            DirectoryReason::UnsavedChanges => Exit::Unsaved,
            DirectoryReason::StoreUnreachable => Exit::StoreUnreachable,
            DirectoryReason::StoreDenied | DirectoryReason::StoreKey => Exit::StoreDenied,
            DirectoryReason::PathOutside => Exit::PathOutside,
            DirectoryReason::NoSpace => Exit::NoSpace,
            DirectoryReason::AccessDenied => Exit::Denied,
            DirectoryReason::FileSystem => Exit::Storage,
            DirectoryReason::Cancelled => Exit::Cancelled,
            DirectoryReason::MountPoint => Exit::MountPoint,
            DirectoryReason::FuseUnavailable => Exit::FuseUnavailable,
            DirectoryReason::FuseHelper => Exit::FuseHelper,
            DirectoryReason::MountRefused => Exit::Denied,
            DirectoryReason::NotMounted => Exit::NotFound,
            DirectoryReason::MountBusy => Exit::Conflict,
            DirectoryReason::Internal => Exit::Internal,
        }
    }

    /// What a person can do, where the messages do not say it.
    fn remedy(self) -> &'static str {
        match self {
            DirectoryReason::RepositoryBusy => "try again later, or wait longer: --wait SECONDS",
            DirectoryReason::LeaseLost => "do it again",
            DirectoryReason::EngineUnavailable => {
                "leave out --engine, and JVS_SNAPSHOT_ENGINE, to use the best one that there is"
            }
            DirectoryReason::UnsavedChanges => "to save them: cairn snapshot",
            DirectoryReason::StoreUnreachable => {
                "look at the URL in [store] of config.toml, and at the network; then do it again"
            }
            DirectoryReason::StoreDenied => "look at the credentials, and at what they allow",
            DirectoryReason::StoreKey => {
                "name the right file by key_file in [store] of config.toml; 64 hexadecimal digits, readable for you alone"
            }
            DirectoryReason::SnapshotNotFound => "to list all snapshots: cairn history --all",
            DirectoryReason::NoSpace => "free some space; what was begun is removed by the next command",
            DirectoryReason::AccessDenied => "do it as a user who may read and write there",
            DirectoryReason::Cancelled => "what was begun is removed by the next command",
            DirectoryReason::MountPoint => {
                "name an empty directory; a view whose process has ended is taken off by: cairn view --unmount MOUNT_POINT"
            }
            DirectoryReason::FuseUnavailable => {
                "as root: modprobe fuse; of a container: start it with --device /dev/fuse --cap-add SYS_ADMIN"
            }
            DirectoryReason::FuseHelper => "as root: apt install fuse3",
            DirectoryReason::MountRefused => {
                "--allow-other needs the line user_allow_other in /etc/fuse.conf, unless you are root"
            }
            DirectoryReason::MountBusy => "close what is open in it, or leave it with cd; then do it again",
            DirectoryReason::NotMounted
            | DirectoryReason::NotARepository
            | DirectoryReason::RepositoryExists
            | DirectoryReason::DirectoryOccupied
            | DirectoryReason::RepositoryNested
            | DirectoryReason::RepositoryOverlap
            | DirectoryReason::WorkspaceMissing
            | DirectoryReason::RepositoryFormat
            | DirectoryReason::RepositoryDamaged
            | DirectoryReason::SnapshotAmbiguous
            | DirectoryReason::SnapshotExists
            | DirectoryReason::ReferenceInvalid
            | DirectoryReason::KeyReused
            | DirectoryReason::PlanNotFound
            | DirectoryReason::PlanStale
            | DirectoryReason::SnapshotProtected
            | DirectoryReason::EngineUnknown
            | DirectoryReason::StoreUrlInvalid
            | DirectoryReason::StoreDamaged
            | DirectoryReason::PathOutside
            | DirectoryReason::NotFound
            | DirectoryReason::Conflict
            | DirectoryReason::Invalid
            | DirectoryReason::FileSystem
            | DirectoryReason::Internal => "",
        }
    }
}

/// Something about a plain directory went wrong.
#[derive(Debug)]
pub struct DirectoryFailure {
    /// Why, for programs.
    pub reason: DirectoryReason,
    /// Why, for people.
    pub message: String,
    /// What they can do; empty if the message says it.
    pub remedy: &'static str,
    /// Values in the message, by name.
    pub details: BTreeMap<String, String>,
}

impl DirectoryFailure {
    /// A failure that no error of the library tells.
    pub fn new(reason: DirectoryReason, message: String) -> Self {
        DirectoryFailure {
            reason,
            message,
            remedy: reason.remedy(),
            details: BTreeMap::new(),
        }
    }

    fn of(reason: DirectoryReason, error: &dyn Error) -> Self {
        DirectoryFailure::new(reason, chain(error))
    }

    fn detail(mut self, name: &str, value: impl ToString) -> Self {
        self.details.insert(name.to_owned(), value.to_string());
        self
    }
}

/// An error with its causes, in one line that plays no tricks with the terminal.
pub fn chain(error: &dyn Error) -> String {
    text::line(&with_causes(error))
}

fn of_kind(kind: ErrorKind) -> DirectoryReason {
    match kind {
        ErrorKind::Invalid => DirectoryReason::Invalid,
        ErrorKind::NotFound => DirectoryReason::NotFound,
        ErrorKind::Conflict => DirectoryReason::Conflict,
        ErrorKind::Denied => DirectoryReason::AccessDenied,
        ErrorKind::NoSpace => DirectoryReason::NoSpace,
        ErrorKind::Corrupt => DirectoryReason::RepositoryDamaged,
        ErrorKind::Unavailable => DirectoryReason::FileSystem,
        ErrorKind::Internal => DirectoryReason::Internal,
    }
}

impl From<MountError> for DirectoryFailure {
    fn from(error: MountError) -> Self {
        let reason = match &error {
            MountError::MountPoint { .. } => of_kind(error.kind()),
            MountError::NotADirectory { .. } | MountError::NotEmpty { .. } | MountError::Dead { .. } => {
                DirectoryReason::MountPoint
            }
            MountError::NoDevice(_) => DirectoryReason::FuseUnavailable,
            MountError::NoHelper => DirectoryReason::FuseHelper,
            MountError::Refused { .. } => DirectoryReason::MountRefused,
            MountError::NotMounted { .. } => DirectoryReason::NotMounted,
            MountError::Busy { .. } => DirectoryReason::MountBusy,
        };
        DirectoryFailure::of(reason, &error)
    }
}

impl From<RepositoryError> for DirectoryFailure {
    fn from(error: RepositoryError) -> Self {
        let reason = match &error {
            RepositoryError::Io { .. } => of_kind(error.kind()),
            RepositoryError::NoRepository { .. } => DirectoryReason::NotARepository,
            RepositoryError::Exists { .. } => DirectoryReason::RepositoryExists,
            RepositoryError::Occupied { .. } => DirectoryReason::DirectoryOccupied,
            RepositoryError::Nested { .. } => DirectoryReason::RepositoryNested,
            RepositoryError::Overlap { .. } => DirectoryReason::RepositoryOverlap,
            RepositoryError::WorkspaceMissing { .. } => DirectoryReason::WorkspaceMissing,
            RepositoryError::GoTools { .. } | RepositoryError::Newer { .. } => {
                DirectoryReason::RepositoryFormat
            }
            RepositoryError::Damaged { .. } => DirectoryReason::RepositoryDamaged,
            RepositoryError::SymlinkedControl { .. } | RepositoryError::Value(_) => DirectoryReason::Invalid,
            RepositoryError::NotFound { .. } => DirectoryReason::SnapshotNotFound,
            RepositoryError::Ambiguous { candidates, .. } => {
                let candidates: Vec<String> = candidates.iter().map(ToString::to_string).collect();
                return DirectoryFailure::of(DirectoryReason::SnapshotAmbiguous, &error)
                    .detail("candidates", candidates.join(","));
            }
            RepositoryError::Reference { .. } => DirectoryReason::ReferenceInvalid,
            RepositoryError::SnapshotExists { .. } => DirectoryReason::SnapshotExists,
            RepositoryError::KeyReused { snapshot } => {
                let snapshot = *snapshot;
                return DirectoryFailure::of(DirectoryReason::KeyReused, &error).detail("snapshot", snapshot);
            }
            RepositoryError::Lease(lease) => return of_lease(lease, &error),
        };
        DirectoryFailure::of(reason, &error)
    }
}

/// The failure of a lease; `told` is what was handed out, whose message counts.
fn of_lease(lease: &LeaseError, told: &dyn Error) -> DirectoryFailure {
    let reason = match lease {
        LeaseError::Held {
            operation, holder, ..
        } => {
            return DirectoryFailure::of(DirectoryReason::RepositoryBusy, told)
                .detail("operation", operation)
                .detail("holder", holder);
        }
        LeaseError::Lost { .. } => DirectoryReason::LeaseLost,
        LeaseError::Cancelled => DirectoryReason::Cancelled,
        LeaseError::File(_) => of_kind(lease.kind()),
        LeaseError::Thread(_) => DirectoryReason::FileSystem,
    };
    DirectoryFailure::of(reason, told)
}

impl From<LeaseError> for DirectoryFailure {
    fn from(error: LeaseError) -> Self {
        of_lease(&error, &error)
    }
}

fn of_engine(error: &EngineError) -> DirectoryReason {
    match error {
        EngineError::Cancelled => DirectoryReason::Cancelled,
        EngineError::Unavailable { .. } | EngineError::Tool { .. } => DirectoryReason::EngineUnavailable,
        EngineError::Io { .. }
        | EngineError::Walk(_)
        | EngineError::Place(_)
        | EngineError::Manifest(_)
        | EngineError::Exists { .. }
        | EngineError::Foreign { .. }
        | EngineError::MountPoint { .. } => of_kind(error.kind()),
    }
}

impl From<EngineError> for DirectoryFailure {
    fn from(error: EngineError) -> Self {
        DirectoryFailure::of(of_engine(&error), &error)
    }
}

impl From<OperationError> for DirectoryFailure {
    fn from(error: OperationError) -> Self {
        let reason = match &error {
            OperationError::Repository(_) => match error {
                OperationError::Repository(error) => return error.into(),
                other => return DirectoryFailure::of(DirectoryReason::Internal, &other),
            },
            OperationError::Cancelled => DirectoryReason::Cancelled,
            OperationError::Engine(engine) => of_engine(engine),
            OperationError::NoEngine { .. } | OperationError::Compression { .. } => {
                DirectoryReason::EngineUnavailable
            }
            OperationError::Unsaved { changes } => {
                let changes = *changes;
                return DirectoryFailure::of(DirectoryReason::UnsavedChanges, &error)
                    .detail("changes", changes);
            }
            OperationError::Occupied { .. } => DirectoryReason::DirectoryOccupied,
            OperationError::Chunks(error) => of_chunks(error),
            OperationError::Archive(error) => of_archive(error),
            OperationError::StoreUrl(_) => DirectoryReason::StoreUrlInvalid,
            OperationError::Key(_) => DirectoryReason::StoreKey,
            OperationError::NoRuntime => DirectoryReason::Internal,
            OperationError::Import(error) => of_import(error),
            OperationError::NoWorkspace { .. } => DirectoryReason::NotFound,
            OperationError::NotImported { .. } | OperationError::OtherWorkspace { .. } => {
                DirectoryReason::Conflict
            }
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
        DirectoryFailure::of(reason, &error)
    }
}

/// What is wrong with a repository of the Go tools.
fn of_import(error: &ImportError) -> DirectoryReason {
    match error {
        ImportError::NotARepository { .. } => DirectoryReason::NotARepository,
        ImportError::Ours { .. } => DirectoryReason::RepositoryExists,
        ImportError::Version { .. } => DirectoryReason::RepositoryFormat,
        ImportError::Damaged { .. } => DirectoryReason::RepositoryDamaged,
        ImportError::Cancelled => DirectoryReason::Cancelled,
        ImportError::Io { .. }
        | ImportError::Locator { .. }
        | ImportError::TreeMissing { .. }
        | ImportError::TooMany { .. } => of_kind(error.kind()),
    }
}

/// What went wrong with the object store of archives.
fn of_archive(error: &ArchiveError) -> DirectoryReason {
    match error {
        ArchiveError::Cancelled => DirectoryReason::Cancelled,
        ArchiveError::NewerVersion { .. } => DirectoryReason::RepositoryFormat,
        error => of_store(error.kind()),
    }
}

fn of_chunks(error: &ChunksError) -> DirectoryReason {
    match error {
        ChunksError::Cancelled => DirectoryReason::Cancelled,
        ChunksError::Archive(error) => of_archive(error),
        // Its snapshot exists: a chunk that is not found is lost.
        ChunksError::Data { .. } if error.kind() == ErrorKind::NotFound => DirectoryReason::StoreDamaged,
        ChunksError::Data { .. } => of_store(error.kind()),
        error => of_kind(error.kind()),
    }
}

/// The same kinds, of an object store.
fn of_store(kind: ErrorKind) -> DirectoryReason {
    match kind {
        ErrorKind::Denied => DirectoryReason::StoreDenied,
        ErrorKind::Unavailable => DirectoryReason::StoreUnreachable,
        ErrorKind::Corrupt => DirectoryReason::StoreDamaged,
        kind => of_kind(kind),
    }
}

impl From<CollectError> for DirectoryFailure {
    fn from(error: CollectError) -> Self {
        let reason = match error {
            CollectError::Operation(error) => return error.into(),
            CollectError::NoPlan { .. } => DirectoryReason::PlanNotFound,
            CollectError::Stale { .. } => DirectoryReason::PlanStale,
            CollectError::Protected { .. } => DirectoryReason::SnapshotProtected,
        };
        DirectoryFailure::of(reason, &error)
    }
}

impl From<WalkError> for DirectoryFailure {
    fn from(error: WalkError) -> Self {
        DirectoryFailure::of(of_kind(error.kind()), &error)
    }
}

impl From<ManifestError> for DirectoryFailure {
    fn from(error: ManifestError) -> Self {
        DirectoryFailure::of(of_kind(error.kind()), &error)
    }
}

impl From<ChangeError> for DirectoryFailure {
    fn from(error: ChangeError) -> Self {
        let reason = match &error {
            CompareError::Before(manifest) | CompareError::After(manifest) => of_kind(manifest.kind()),
            CompareError::Order { .. } => DirectoryReason::RepositoryDamaged,
        };
        DirectoryFailure::of(reason, &error)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use cairn_snapshot::operations::OperationError;
    use cairn_snapshot::repository::RepositoryError;
    use cairn_types::SnapshotId;

    use super::{DirectoryFailure, DirectoryReason};
    use crate::failure::Failure;

    #[test]
    fn reasons_are_words_of_their_own() {
        let mut words: Vec<&str> = DirectoryReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), DirectoryReason::ALL.len());
    }

    #[test]
    fn causes_are_told_in_one_line() {
        let error = RepositoryError::Io {
            action: "opening",
            path: PathBuf::from("/a\nb"),
            source: std::io::ErrorKind::PermissionDenied.into(),
        };
        let failure = DirectoryFailure::from(OperationError::Repository(error));
        assert_eq!(failure.reason, DirectoryReason::AccessDenied);
        assert_eq!(failure.message, "opening /a b failed: permission denied");
    }

    #[test]
    fn candidates_are_told() {
        let error = RepositoryError::Ambiguous {
            reference: "aaaa".to_owned(),
            found: 2,
            candidates: vec![SnapshotId([0xaa; 16])],
        };
        let text = Failure::from(error).text(false);
        assert!(text.contains(&format!("\n    {}\n", "aa".repeat(16))), "{text}");
    }
}
