//! What an administrator does with workspaces and snapshots: the nouns and the ways it can fail. The operations are on
//! [`crate::Volumes`].

use std::sync::Arc;

use cairn_types::{ErrorKind, ExportPolicy, SnapshotId, Tag, Timestamp, VolumeId, WorkspaceName};

/// A workspace on this node: a volume with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its name.
    pub name: WorkspaceName,
    /// Its volume.
    pub volume: VolumeId,
    /// When it was made.
    pub created: Timestamp,
    /// Who may mount it.
    pub policy: Arc<ExportPolicy>,
    /// The snapshot that it was forked from.
    pub forked_from: Option<SnapshotId>,
    /// Snapshots that it has.
    pub snapshots: u64,
    /// Inodes of the live tree, the root included.
    pub inodes: u64,
    /// Sum of the sizes of the live tree's regular files.
    pub bytes: u64,
}

/// What a new workspace shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorkspace {
    /// Its name.
    pub name: WorkspaceName,
    /// Who may mount it.
    pub policy: ExportPolicy,
    /// Owner of its root directory.
    pub uid: u32,
    /// Group of its root directory.
    pub gid: u32,
    /// Permission bits of its root directory.
    pub mode: u32,
}

/// Why a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotOrigin {
    /// Somebody asked for it.
    Requested,
    /// A restore saved what it was about to replace.
    Safety,
}

/// A snapshot of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its identity.
    pub id: SnapshotId,
    /// Why it was taken.
    pub origin: SnapshotOrigin,
    /// When it was taken.
    pub created: Timestamp,
    /// A person's words, at most [`Snapshot::NOTE_BYTES_MAX`].
    pub note: String,
    /// Labels.
    pub tags: Vec<Tag>,
    /// Inodes of the tree, the root included.
    pub inodes: u64,
    /// Sum of the sizes of its regular files.
    pub bytes: u64,
    /// The snapshot that the tree was at last equal to: the one before it, or the one restored from.
    pub parent: Option<SnapshotId>,
}

impl Snapshot {
    /// Longest note in bytes.
    pub const NOTE_BYTES_MAX: usize = 4096;
    /// Most tags of a snapshot.
    pub const TAGS_MAX: usize = 32;
}

/// What a new snapshot shall carry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewSnapshot {
    /// A person's words.
    pub note: String,
    /// Labels.
    pub tags: Vec<Tag>,
}

/// The outcome of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The snapshot that the workspace now equals.
    pub snapshot: Snapshot,
    /// The snapshot of what it was before.
    pub safety: Snapshot,
}

/// How an entry differs between two states of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Only in the second.
    Added,
    /// Only in the first.
    Removed,
    /// Other data, link target or device.
    Modified,
    /// Another type of object under the name.
    Retyped,
    /// The same data with other mode, owner, times or links.
    Attributes,
}

/// One entry that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How.
    pub kind: DifferenceKind,
    /// Its path from the root, without a leading `/`. Bytes, not text.
    pub path: Vec<u8>,
    /// Whether it is (or, for a removed one, was) a directory.
    pub directory: bool,
    /// Size before, for regular files.
    pub bytes_before: Option<u64>,
    /// Size after, for regular files.
    pub bytes_after: Option<u64>,
}

/// What the node holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Workspaces.
    pub workspaces: u64,
    /// Snapshots of all workspaces.
    pub snapshots: u64,
    /// Bytes of the metadata store on disk.
    pub metadata_bytes: u64,
    /// Bytes of the hot log's segments on disk.
    pub log_bytes: u64,
    /// Bytes of acknowledged unstable writes that no commit has asked for yet.
    pub unstable_bytes: u64,
    /// Bytes free on the data directory's file system.
    pub disk_free_bytes: u64,
    /// Below this many free bytes, changes that need room are refused.
    pub disk_reserve_bytes: u64,
}

/// Why an administrator's request failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No workspace has the name.
    #[error("no workspace named {name}")]
    NoWorkspace {
        /// The name.
        name: WorkspaceName,
    },
    /// A workspace has the name already.
    #[error("workspace {name} exists already")]
    WorkspaceExists {
        /// The name.
        name: WorkspaceName,
    },
    /// Nothing of the workspace fits the reference.
    #[error("workspace {workspace} has no snapshot {reference}")]
    NoSnapshot {
        /// The workspace.
        workspace: WorkspaceName,
        /// What was asked for.
        reference: String,
    },
    /// The id is of a snapshot of another workspace.
    #[error("snapshot {reference} belongs to workspace {owner}, not to {workspace}")]
    ForeignSnapshot {
        /// The workspace that was named.
        workspace: WorkspaceName,
        /// What was asked for.
        reference: String,
        /// The workspace that has it.
        owner: WorkspaceName,
    },
    /// Several snapshots fit the prefix.
    #[error("{reference} fits {} snapshots of workspace {workspace}", candidates.len())]
    AmbiguousSnapshot {
        /// The workspace.
        workspace: WorkspaceName,
        /// What was asked for.
        reference: String,
        /// What fits, at most ten.
        candidates: Vec<SnapshotId>,
    },
    /// The workspace has snapshots, which a deletion would take with it.
    #[error("workspace {name} has {snapshots} snapshots, which would be deleted with it")]
    HasSnapshots {
        /// The workspace.
        name: WorkspaceName,
        /// How many.
        snapshots: u64,
    },
    /// An argument beyond a limit.
    #[error("{what} of {found} is beyond the limit of {limit}")]
    LimitExceeded {
        /// What it is.
        what: &'static str,
        /// What was given.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The node is full.
    #[error("no space left in the data directory")]
    NoSpace,
    /// The stores failed.
    #[error("the stores failed: {what}")]
    Storage {
        /// What failed.
        what: String,
        /// What the caller can do.
        kind: ErrorKind,
    },
}

impl ControlError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ControlError::NoWorkspace { .. } | ControlError::NoSnapshot { .. } => ErrorKind::NotFound,
            ControlError::ForeignSnapshot { .. }
            | ControlError::AmbiguousSnapshot { .. }
            | ControlError::LimitExceeded { .. } => ErrorKind::Invalid,
            ControlError::WorkspaceExists { .. } | ControlError::HasSnapshots { .. } => ErrorKind::Conflict,
            ControlError::NoSpace => ErrorKind::NoSpace,
            ControlError::Storage { kind, .. } => *kind,
        }
    }
}
