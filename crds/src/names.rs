//! Names that the operator, the command line and people share: groups, finalizers, labels, annotations.

/// The group of Workspace, Snapshot, Restore and StorageNode.
pub const GROUP: &str = "jvs.io";
/// The group of DittoServer.
pub const DITTO_GROUP: &str = "dittofs.dittofs.com";
/// The served and stored version of all kinds.
pub const VERSION: &str = "v1alpha1";
/// `kubectl get storage` lists everything of this category.
pub const CATEGORY: &str = "storage";

/// Keeps a Workspace until its daemon has confirmed what the deletion policy asks for.
pub const WORKSPACE_FINALIZER: &str = "jvs.io/workspace-finalizer";
/// Keeps a Snapshot until its daemon has confirmed that the data is gone, or is to stay.
pub const SNAPSHOT_FINALIZER: &str = "jvs.io/snapshot-finalizer";
/// Keeps a Restore until no operation of it runs any more.
pub const RESTORE_FINALIZER: &str = "jvs.io/restore-finalizer";
/// Keeps a DittoServer until its claims are dealt with as the deletion policy says.
pub const DITTO_FINALIZER: &str = "dittofs.dittofs.com/finalizer";

/// Annotation of a Workspace or Snapshot in deletion: give up what lies on the node that it names, which never comes back.
pub const ABANDON: &str = "jvs.io/abandon";

/// Label of everything that the operator makes; its value is [`MANAGER`].
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`], and the beginning of the names of the operator's field managers.
pub const MANAGER: &str = "cairn-operator";
/// Label of a Workspace's children: its UID.
pub const WORKSPACE_UID: &str = "jvs.io/workspace-uid";
/// Label of Snapshots, so that they can be selected by their Workspace: its name.
pub const WORKSPACE: &str = "jvs.io/workspace";
/// Label of Snapshots that a schedule has made; its value is `true`.
pub const SCHEDULED: &str = "jvs.io/scheduled";
