//! Exit codes: stable, one per thing that a caller can do something about. `cairn --help` has the table.

use std::process::ExitCode;

use cairn_api::Reason;

/// The exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done. A comparison that finds differences is done, too.
    Success = 0,
    /// The command line is wrong, or a confirmation is missing. (clap ends with the same code.)
    Usage = 2,
    /// The workspace, snapshot, archive, store or operation does not exist.
    NotFound = 3,
    /// It exists already, or its state forbids the operation.
    Conflict = 4,
    /// A name, reference or value that can never be right, or that fits several things.
    Invalid = 5,
    /// No daemon answers.
    Unreachable = 6,
    /// The node or the object store is full.
    NoSpace = 7,
    /// The stores failed or are damaged.
    Storage = 8,
    /// A fault of Cairn, or two versions that do not fit together.
    Internal = 9,
    /// An archive, an object store or a repository is damaged. Also if that is what verifying found.
    Damaged = 10,
    /// The object store does not answer.
    StoreUnreachable = 11,
    /// The object store refuses the credentials or the key.
    StoreDenied = 12,
    /// The operation was cancelled.
    Cancelled = 13,
    /// Somebody else works in the repository, and did so until the end of the wait.
    Busy = 14,
    /// The engine that was asked for, or that a snapshot needs, cannot be used here.
    EngineUnavailable = 15,
    /// There are changes that no snapshot has.
    Unsaved = 16,
    /// The directory is in no repository.
    NotARepository = 17,
    /// The repository has a format that this Cairn does not know.
    Format = 18,
    /// A path is outside the workspace.
    PathOutside = 19,
    /// The operating system refuses access to a file.
    Denied = 20,
    /// Nothing can be mounted on the mount point: it is no directory, or not empty, or has a dead mount on it.
    MountPoint = 21,
    /// There is no FUSE here.
    FuseUnavailable = 22,
    /// The program that mounts for users other than root is missing.
    FuseHelper = 23,
}

/// The table as `cairn --help` shows it.
pub const TABLE: &str = "\
Exit codes:
  0  done (also when a comparison finds differences)
  2  wrong command line, or a confirmation is missing
  3  no such workspace, directory, path, snapshot, archive, store or operation
  4  exists already, or its state forbids it; another daemon's store
  5  invalid or ambiguous name, reference or value
  6  no daemon answers
  7  no space left on the node or in the object store
  8  the stores of the node failed or are damaged; a file system failed
  9  a fault of Cairn, or versions that do not fit together
 10  an archive, an object store or a repository is damaged (also when verifying finds that)
 11  the object store does not answer
 12  the object store refuses the credentials or the key
 13  the operation was cancelled
 14  somebody else works in the repository of a directory
 15  an engine cannot be used here
 16  there are changes that no snapshot has
 17  the directory is in no repository
 18  the repository has another format: of a newer Cairn, or of the Go tools
 19  the path is outside the workspace
 20  the operating system refuses access to a file, or a mount
 21  the mount point is no directory, or not empty, or has a dead mount on it
 22  there is no FUSE here: /dev/fuse cannot be opened
 23  fusermount3 is missing, which mounts for users other than root";

impl Exit {
    /// What a failure with this reason ends with.
    pub fn of(reason: Reason) -> Self {
        match reason {
            Reason::WorkspaceNotFound
            | Reason::SnapshotNotFound
            | Reason::StoreNotFound
            | Reason::ArchiveNotFound
            | Reason::PinNotFound
            | Reason::OperationNotFound
            | Reason::DirectoryNotRegistered
            | Reason::WorkspaceMissing
            | Reason::PlanNotFound
            | Reason::SnapshotGone
            | Reason::WorkspaceGone
            | Reason::RestoreNotFound
            | Reason::NotFound => Exit::NotFound,
            Reason::WorkspaceExists
            | Reason::WorkspaceHasSnapshots
            | Reason::SnapshotInUse
            | Reason::KeyConflict
            | Reason::OverCapacity
            | Reason::StoreForeign
            | Reason::StoreConflict
            | Reason::OperationsTooMany
            | Reason::OperationConflict
            | Reason::DirectoryRegistered
            | Reason::RepositoryExists
            | Reason::DirectoryOccupied
            | Reason::RepositoryNested
            | Reason::RepositoryOverlap
            | Reason::SnapshotExists
            | Reason::KeyReused
            | Reason::PlanStale
            | Reason::SnapshotProtected
            | Reason::KeyDeleted
            | Reason::LedgerFull
            | Reason::Fenced
            | Reason::InstanceChanged
            | Reason::OperationRunning
            | Reason::WorkspaceOwned
            | Reason::Conflict => Exit::Conflict,
            Reason::WorkspaceNameInvalid
            | Reason::ExportPolicyInvalid
            | Reason::ModeInvalid
            | Reason::ReferenceInvalid
            | Reason::TagInvalid
            | Reason::SnapshotForeign
            | Reason::SnapshotAmbiguous
            | Reason::StoreUrlInvalid
            | Reason::StoreOptionInvalid
            | Reason::ArchiveAmbiguous
            | Reason::OperationAmbiguous
            | Reason::LimitExceeded
            | Reason::EngineUnknown
            | Reason::KeyInvalid
            | Reason::FenceInvalid
            | Reason::BackingInvalid
            | Reason::PageInvalid
            | Reason::Invalid => Exit::Invalid,
            Reason::DaemonUnreachable | Reason::ShuttingDown | Reason::NodeDraining => Exit::Unreachable,
            Reason::NoSpace | Reason::StoreFull => Exit::NoSpace,
            Reason::StoreDamaged | Reason::ArchiveDamaged | Reason::RepositoryDamaged => Exit::Damaged,
            Reason::NotARepository => Exit::NotARepository,
            Reason::DirectoryNotAllowed | Reason::AccessDenied | Reason::PeerDenied => Exit::Denied,
            Reason::RepositoryFormat => Exit::Format,
            Reason::RepositoryBusy | Reason::LeaseLost => Exit::Busy,
            Reason::EngineUnavailable => Exit::EngineUnavailable,
            Reason::UnsavedChanges => Exit::Unsaved,
            Reason::PathOutside => Exit::PathOutside,
            Reason::FileSystem => Exit::Storage,
            Reason::StoreUnreachable => Exit::StoreUnreachable,
            Reason::StoreDenied
            | Reason::StoreKeyMissing
            | Reason::StoreKeyWrong
            | Reason::StoreKeyUnexpected
            | Reason::StoreKey => Exit::StoreDenied,
            Reason::Cancelled | Reason::Interrupted => Exit::Cancelled,
            Reason::StorageCorrupt | Reason::StorageUnavailable | Reason::StorageFailed => Exit::Storage,
            Reason::FeatureUnsupported | Reason::StoreNewer | Reason::Internal | Reason::Unrecognized => {
                Exit::Internal
            }
        }
    }

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use cairn_api::Reason;

    use super::{Exit, TABLE};
    use crate::failure::DirectoryReason;

    #[test]
    fn the_table_has_every_code_that_can_come_out() {
        let mut codes: Vec<u8> = Reason::ALL
            .iter()
            .map(|reason| Exit::of(*reason).code())
            .chain(DirectoryReason::ALL.iter().map(|reason| reason.exit().code()))
            .collect();
        codes.extend([Exit::Success.code(), Exit::Usage.code()]);
        codes.sort_unstable();
        codes.dedup();
        let documented: Vec<u8> = TABLE
            .lines()
            .skip(1)
            .map(|line| line.trim_start().split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(documented, codes);
    }

    #[test]
    fn what_the_daemon_says_of_directories_ends_as_without_it() {
        // No daemon mounts anything.
        let views = [
            DirectoryReason::MountPoint,
            DirectoryReason::MountBusy,
            DirectoryReason::NotMounted,
            DirectoryReason::MountRefused,
            DirectoryReason::FuseUnavailable,
            DirectoryReason::FuseHelper,
        ];
        for reason in DirectoryReason::ALL
            .into_iter()
            .filter(|reason| !views.contains(reason))
        {
            let told = Reason::parse(reason.as_str());
            assert!(told.is_some(), "the daemon cannot say {}", reason.as_str());
            assert_eq!(told.map(Exit::of), Some(reason.exit()), "{}", reason.as_str());
        }
    }
}
