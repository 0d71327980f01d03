//! What controllers on other machines want of this node, carried out: keyed requests that say what there shall be, exactly once
//! each, led by whoever has the greatest generation.
//!
//! [`Ledger`] knows what was asked for under which key and what came of it; [`Fences`] who may lead; [`Draining`] whether anything new
//! is taken on. `workspaces`, `snapshots` and `restores` compare what is wanted with what there is. No protocol is known here:
//! `rpc::control` is the edge.
//!
//! Invariants:
//! - A change of the metadata and the entry that tells of it are one batch: after a crash both are there or neither.
//! - A deletion is written down before it is begun and after it is finished; what a crash leaves between is finished at start.
//! - Requests with the same key exclude each other. A request is carried out while nobody can raise the generation of its cluster, so
//!   that after a greater one was acknowledged no smaller one has an effect.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cairn_api::ApiError;
use cairn_types::{Clock, SnapshotId, WorkspaceName};
use cairn_vfs::Volumes;
use cairn_vfs::control::ControlError;
use parking_lot::Mutex;

use crate::directories::{Directories, DirectoriesError};
use crate::operations::{OperationId, Operations};

mod directory;
mod draining;
mod fence;
mod keys;
mod ledger;
mod restores;
mod snapshots;
mod workspaces;

pub use draining::{Drained, Draining};
pub use fence::{CLUSTER_BYTES_MAX, CLUSTERS_MAX, Fence, Fences};
pub use keys::{Arguments, KEY_BYTES_MAX, Key};
pub use ledger::{Detail, LEDGER_ENTRIES_MAX, Ledger, TOMBSTONE_SECONDS};
pub use restores::{ManagedRestore, Plan, RestoreRequest, RestoreTarget};
pub use snapshots::{
    Facts, ManagedSnapshot, SnapshotRequest, SnapshotWhich, SnapshotsPage, VOLUME_ENGINE, Verified,
};
pub use workspaces::{Backing, Capacity, Ensured, ManagedWorkspace, Source, WorkspaceRequest};

/// What can be asked of this version beyond what every version has, by the names in `FEATURE_UNSUPPORTED`.
pub mod features {
    /// Workspaces that are volumes.
    pub const VOLUME: &str = "volume";
    /// Workspaces that are directories.
    pub const DIRECTORY: &str = "directory";
    /// Export policies of existing workspaces are changed.
    pub const EXPORT_UPDATE: &str = "export-update";
    /// Capacities of workspaces.
    pub const CAPACITY: &str = "capacity";
    /// New workspaces that start as a snapshot.
    pub const SOURCE: &str = "source-snapshot";
    /// Single snapshots are deleted.
    pub const SNAPSHOT_DELETE: &str = "snapshot-delete";
    /// Notes and tags of existing snapshots are changed.
    pub const SNAPSHOT_LABELS: &str = "snapshot-labels";
    /// Snapshots of some paths.
    pub const SNAPSHOT_PATHS: &str = "snapshot-paths";
    /// Snapshots by templates.
    pub const SNAPSHOT_TEMPLATES: &str = "snapshot-templates";
    /// Snapshots are read and compared.
    pub const VERIFY: &str = "verify";
    /// Restores in place.
    pub const RESTORE_IN_PLACE: &str = "restore-in-place";
    /// Restores into new workspaces.
    pub const RESTORE_NEW_WORKSPACE: &str = "restore-new-workspace";
    /// Restores of some paths.
    pub const RESTORE_PATHS: &str = "restore-paths";
    /// Restores without a safety snapshot.
    pub const RESTORE_WITHOUT_SAFETY: &str = "restore-without-safety";
    /// Drain and Resume.
    pub const DRAIN: &str = "drain";

    /// Those that this version has.
    pub const SUPPORTED: &[&str] = &[
        VOLUME,
        DIRECTORY,
        EXPORT_UPDATE,
        CAPACITY,
        SNAPSHOT_LABELS,
        SNAPSHOT_PATHS,
        SNAPSHOT_TEMPLATES,
        SNAPSHOT_DELETE,
        VERIFY,
        RESTORE_PATHS,
        RESTORE_WITHOUT_SAFETY,
        SOURCE,
        RESTORE_IN_PLACE,
        RESTORE_NEW_WORKSPACE,
        DRAIN,
    ];
}

/// How something under a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManagedState {
    /// An operation works on it.
    Running,
    /// It did not come about.
    Failed,
    /// It is there; a restore is done.
    Ready,
    /// It did not come about before the daemon ended.
    Interrupted,
    /// It is being deleted.
    Deleting,
    /// It was deleted.
    Deleted,
    /// It was there, and somebody removed it without the key.
    Lost,
}

/// Why a request is not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The text is no key.
    #[error("{field} is no key: {key:?}")]
    KeyInvalid {
        /// The field of the request.
        field: &'static str,
        /// What was given, perhaps cut.
        key: String,
    },
    /// Something else was asked for under the key before.
    #[error("under the key {key} something else was asked for before: it differs in {}", fields.join(", "))]
    KeyConflict {
        /// The key.
        key: Key,
        /// Fields of the request that differ.
        fields: Vec<String>,
    },
    /// What was made under the key has been deleted under it.
    #[error("what was made under the key {key} has been deleted, and a key is used once")]
    KeyDeleted {
        /// The key.
        key: Key,
    },
    /// There is no room for another key.
    #[error("the ledger has {limit} keys, and no more may be")]
    LedgerFull {
        /// How many may be.
        limit: usize,
    },
    /// A part of the fence makes no sense.
    #[error("the fence has no proper {field}")]
    FenceInvalid {
        /// Which part.
        field: &'static str,
    },
    /// Somebody with a greater generation has taken over.
    #[error("generation {generation} of {cluster} is over: generation {greatest} has taken over")]
    Fenced {
        /// The cluster.
        cluster: String,
        /// The request's generation.
        generation: u64,
        /// The greatest seen.
        greatest: u64,
    },
    /// As many clusters are known as may be.
    #[error("generations of {limit} clusters are kept, and no more may be")]
    TooManyClusters {
        /// How many may be.
        limit: usize,
    },
    /// The request was meant for another process.
    #[error("the request is meant for instance {expected}, and this is {instance}")]
    InstanceChanged {
        /// The instance that was meant.
        expected: String,
        /// This one.
        instance: String,
    },
    /// The node is drained.
    #[error("the node is drained and takes nothing new on")]
    Draining,
    /// Another key owns the workspace, or none does and one was asked for.
    #[error("workspace {name} belongs to {}", owner.as_deref().unwrap_or("nobody"))]
    WorkspaceOwned {
        /// The workspace.
        name: WorkspaceName,
        /// Its owner.
        owner: Option<String>,
    },
    /// The workspace of the key was deleted without the key.
    #[error("workspace {name}, which {key} owns, was deleted by somebody else")]
    WorkspaceGone {
        /// The workspace.
        name: String,
        /// Its owner.
        key: Key,
    },
    /// The snapshot of the key was deleted without the key.
    #[error("snapshot {snapshot}, which was taken for {key}, was deleted by somebody else")]
    SnapshotGone {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Its key.
        key: Key,
    },
    /// Nothing is known of a workspace under the key.
    #[error("no workspace belongs to {key}")]
    NoWorkspaceKey {
        /// The key.
        key: Key,
    },
    /// Nothing is known of a snapshot under the key.
    #[error("no snapshot was taken for {key}")]
    NoSnapshotKey {
        /// The key.
        key: Key,
    },
    /// Nothing is known of a restore under the key.
    #[error("no restore was asked for under {key}")]
    NoRestoreKey {
        /// The key.
        key: Key,
    },
    /// The text is no place in a list, or what stood there is gone.
    #[error("{token:?} is no place in this list, or what stood there is gone")]
    PageInvalid {
        /// What was given.
        token: String,
    },
    /// This version does not have it.
    #[error("{what}")]
    Unsupported {
        /// The feature.
        feature: String,
        /// What was asked for, for people.
        what: String,
    },
    /// What shall hold the data cannot.
    #[error("{what}")]
    BackingInvalid {
        /// The field.
        field: &'static str,
        /// Why.
        what: String,
    },
    /// An argument is beyond a limit.
    #[error("{what} of {found} is beyond the limit of {limit}")]
    Limit {
        /// What it is.
        what: &'static str,
        /// What was given.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Work on it goes on, and it is to be asked for again.
    #[error("operation {operation} is not done yet")]
    StillRunning {
        /// The operation.
        operation: String,
    },
    /// The operation that was waited for failed.
    #[error("{error}")]
    Operation {
        /// Why.
        error: Box<ApiError>,
    },
    /// The plain directories refused.
    #[error("{0}")]
    Directories(#[source] Box<DirectoriesError>),
    /// The volumes refused.
    #[error(transparent)]
    Volumes(#[from] ControlError),
}

impl From<DirectoriesError> for Refused {
    fn from(error: DirectoriesError) -> Self {
        Refused::Directories(Box::new(error))
    }
}

impl Refused {
    pub(crate) fn unsupported(feature: &str, what: impl Into<String>) -> Self {
        Refused::Unsupported {
            feature: feature.to_owned(),
            what: what.into(),
        }
    }
}

/// What the work for controllers is done with.
pub struct ControlParts {
    /// The volumes.
    pub volumes: Arc<Volumes>,
    /// The plain directories; `None`: there are none to be had.
    pub directories: Option<Arc<Directories>>,
    /// Long work.
    pub operations: Arc<Operations>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Names this process.
    pub instance: String,
    /// Whether the node is drained.
    pub draining: Arc<Draining>,
}

/// What the node does for controllers.
pub struct Control {
    volumes: Arc<Volumes>,
    directories: Option<Arc<Directories>>,
    operations: Arc<Operations>,
    /// The last operation that worked for a key whose end is not in the ledger.
    attempts: Mutex<HashMap<Key, OperationId>>,
    clock: Arc<dyn Clock>,
    ledger: Ledger,
    fences: Fences,
    draining: Arc<Draining>,
    /// Held while a workspace that is nobody's gets an owner.
    adoption: Mutex<()>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}

impl Control {
    /// Reads the ledger and finishes what a crash has left. Reads from disk.
    ///
    /// # Errors
    /// [`Refused::Volumes`] if the stores fail.
    pub fn open(parts: ControlParts) -> Result<Self, Refused> {
        let ControlParts {
            volumes,
            directories,
            operations,
            clock,
            instance,
            draining,
        } = parts;
        let ledger = Ledger::open(Arc::clone(&volumes))?;
        let fences = Fences::open(Arc::clone(&volumes), instance)?;
        let control = Control {
            volumes,
            directories,
            operations,
            attempts: Mutex::new(HashMap::new()),
            clock,
            ledger,
            fences,
            draining,
            adoption: Mutex::new(()),
        };
        control.finish_deletions()?;
        Ok(control)
    }

    /// Carries out a request that changes something, unless it is fenced off or the node is drained.
    ///
    /// # Errors
    /// `FenceInvalid`, `Fenced`, `TooManyClusters`, `InstanceChanged`, `Draining`, `Volumes`; and those of `request`.
    pub fn led<T>(
        &self,
        fence: &Fence,
        request: impl FnOnce(&Control) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let _gate = self.fences.enter(fence)?;
        if self.draining.is_wanted() {
            return Err(Refused::Draining);
        }
        request(self)
    }

    /// The same for what is allowed on a drained node too: draining and resuming.
    ///
    /// # Errors
    /// As [`Control::led`], without `Draining`.
    pub fn led_while_drained<T>(
        &self,
        fence: &Fence,
        request: impl FnOnce(&Control) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let _gate = self.fences.enter(fence)?;
        request(self)
    }

    /// Whether the node is drained, and how far.
    pub fn draining(&self) -> &Arc<Draining> {
        &self.draining
    }

    /// What was asked for under which key.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Forgets keys whose time is over, and says of those whose workspace is gone that they are deleted. To be called now and then;
    /// does a bounded amount of work, and says whether there is more.
    ///
    /// # Errors
    /// [`Refused::Volumes`] if the stores fail.
    pub fn upkeep(&self) -> Result<bool, Refused> {
        self.ledger.expire(self.clock.now())
    }

    /// Carries deletions to their end that were written down and not finished.
    fn finish_deletions(&self) -> Result<(), Refused> {
        for key in self.ledger.deleting() {
            if self.finish_deletion(&key)? {
                tracing::info!(%key, "finished a deletion that was interrupted");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
