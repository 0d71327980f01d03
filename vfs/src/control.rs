//! What an administrator does with workspaces and snapshots: the nouns and the ways it can fail. The operations are on
//! [`crate::Volumes`].

use std::sync::Arc;

pub use cairn_metadata::CapacityLimits;
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
    /// What the live tree may hold.
    pub limits: CapacityLimits,
}

/// Something of which a workspace may hold a limited amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CapacityResource {
    /// Bytes: the sum of the sizes of its regular files.
    Bytes,
    /// Inodes, the root included.
    Inodes,
}

impl std::fmt::Display for CapacityResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CapacityResource::Bytes => "bytes",
            CapacityResource::Inodes => "inodes",
        })
    }
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
    /// The snapshot that the tree was at last equal to: the one before it, or the one restored from. It may have been deleted.
    pub parent: Option<SnapshotId>,
    /// What people want it kept for, by ascending number; also those that have expired.
    pub pins: Vec<SnapshotPin>,
}

/// Somebody's word that a snapshot is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPin {
    /// Its number: no two pins of a snapshot have the same while both exist.
    pub number: u64,
    /// When it was set.
    pub created: Timestamp,
    /// From when on it keeps nothing; `None`: until somebody removes it.
    pub expires: Option<Timestamp>,
    /// Why, for people, at most [`Snapshot::REASON_BYTES_MAX`].
    pub reason: String,
}

/// A pin that shall be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPin {
    /// Why, for people, at most [`Snapshot::REASON_BYTES_MAX`].
    pub reason: String,
    /// From when on it keeps nothing; `None`: until somebody removes it.
    pub expires: Option<Timestamp>,
}

/// Changes of what people say of a snapshot. The default changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelChanges {
    /// Another note, at most [`Snapshot::NOTE_BYTES_MAX`].
    pub note: Option<String>,
    /// Tags that it gets.
    pub add_tags: Vec<Tag>,
    /// Tags that it loses, before it gets others.
    pub remove_tags: Vec<Tag>,
    /// A pin that it gets.
    pub pin: Option<NewPin>,
    /// Numbers of pins that it loses.
    pub unpin: Vec<u64>,
    /// It loses all pins.
    pub unpin_all: bool,
}

/// A snapshot whose labels were changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// The snapshot as it is now.
    pub snapshot: Snapshot,
    /// Number of the pin that was set.
    pub pin: Option<u64>,
    /// Numbers of the pins that were removed.
    pub unpinned: Vec<u64>,
}

/// What keeps a snapshot from being deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotUser {
    /// A workspace that was forked from it.
    Fork(WorkspaceName),
    /// A pin that holds.
    Pin(SnapshotPin),
    /// Somebody reads it: it is being pushed, or is the base of a push.
    Reading,
    /// It is being compared.
    Comparing,
}

impl std::fmt::Display for SnapshotUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SnapshotUser::Fork(name) => write!(f, "workspace {name} was forked from it"),
            SnapshotUser::Pin(pin) if pin.reason.is_empty() => write!(f, "pin {} keeps it", pin.number),
            SnapshotUser::Pin(pin) => write!(f, "pin {} keeps it ({})", pin.number, pin.reason),
            SnapshotUser::Reading => f.write_str("it is being pushed"),
            SnapshotUser::Comparing => f.write_str("it is being compared"),
        }
    }
}

fn listed(users: &[SnapshotUser]) -> String {
    let texts: Vec<String> = users.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

impl Snapshot {
    /// Longest reason of a pin in bytes.
    pub const REASON_BYTES_MAX: usize = 4096;
    /// Most pins of a snapshot.
    pub const PINS_MAX: usize = 64;
    /// Longest idempotency key in bytes.
    pub const KEY_BYTES_MAX: usize = 256;
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
    /// What the sweep has freed since the daemon was started.
    pub swept: Swept,
}

/// What the sweep has done since the daemon was started, and what it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Branches that the sweep under way has still to look at; 0 if none is under way.
    pub branches_left: u64,
    /// Versions and other keys of metadata that were looked at.
    pub versions_scanned: u64,
    /// Of these, how many were removed.
    pub versions_removed: u64,
    /// Bytes of keys and values that were removed.
    pub metadata_bytes: u64,
    /// Segments of the log that were freed.
    pub segments: u64,
    /// Bytes of these segments.
    pub log_bytes: u64,
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
    /// The snapshot is in use.
    #[error("snapshot {id} of workspace {workspace} is in use: {}", listed(users))]
    SnapshotInUse {
        /// The workspace.
        workspace: WorkspaceName,
        /// The snapshot.
        id: SnapshotId,
        /// By whom; not empty.
        users: Vec<SnapshotUser>,
    },
    /// The snapshot has no such pin.
    #[error("snapshot {id} has no pin {number}")]
    NoPin {
        /// The snapshot.
        id: SnapshotId,
        /// The number.
        number: u64,
    },
    /// The key stands for another request.
    #[error("the key {key:?} was used for another request, which took snapshot {snapshot}")]
    KeyConflict {
        /// The key.
        key: String,
        /// The snapshot of that request.
        snapshot: SnapshotId,
    },
    /// It would hold more than it may. Also of a limit that is below what it holds.
    #[error("workspace {workspace} may hold {limit} {resource}, and this would be {found}")]
    OverCapacity {
        /// The workspace.
        workspace: WorkspaceName,
        /// Of what.
        resource: CapacityResource,
        /// How much it would hold, or holds.
        found: u64,
        /// How much it may.
        limit: u64,
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
            ControlError::NoWorkspace { .. }
            | ControlError::NoSnapshot { .. }
            | ControlError::NoPin { .. } => ErrorKind::NotFound,
            ControlError::ForeignSnapshot { .. }
            | ControlError::AmbiguousSnapshot { .. }
            | ControlError::LimitExceeded { .. } => ErrorKind::Invalid,
            ControlError::WorkspaceExists { .. }
            | ControlError::HasSnapshots { .. }
            | ControlError::SnapshotInUse { .. }
            | ControlError::KeyConflict { .. } => ErrorKind::Conflict,
            ControlError::NoSpace | ControlError::OverCapacity { .. } => ErrorKind::NoSpace,
            ControlError::Storage { kind, .. } => *kind,
        }
    }
}
