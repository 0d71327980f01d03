//! All volumes of a node: the file system that clients see and the operations that administrators ask for.

use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_types::{SnapshotReference, WorkspaceName};

use crate::control::{
    ControlError, Difference, NewSnapshot, NewWorkspace, Restored, Snapshot, Usage, Workspace,
};

/// All volumes of a node.
pub struct Volumes {}

impl Volumes {
    /// Makes an empty workspace. Durable on return.
    pub fn create_workspace(&self, new: NewWorkspace) -> Result<Workspace, ControlError>;
    /// All workspaces, by name.
    pub fn workspaces(&self) -> Result<Vec<Workspace>, ControlError>;
    /// One workspace.
    pub fn workspace(&self, name: &WorkspaceName) -> Result<Workspace, ControlError>;
    /// Deletes a workspace. With snapshots only if `with_snapshots`. Forks of it are not touched.
    pub fn delete_workspace(&self, name: &WorkspaceName, with_snapshots: bool) -> Result<(), ControlError>;
    /// Takes a snapshot of everything acknowledged so far. Durable on return; O(1) in files and bytes.
    pub fn snapshot(&self, name: &WorkspaceName, new: NewSnapshot) -> Result<Snapshot, ControlError>;
    /// The snapshots of a workspace, newest first.
    pub fn history(&self, name: &WorkspaceName) -> Result<Vec<Snapshot>, ControlError>;
    /// The snapshot that a reference means.
    pub fn resolve(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<Snapshot, ControlError>;
    /// Visits, in path order, what differs from one snapshot to another, or to the live tree (`to` is `None`).
    pub fn diff(
        &self,
        name: &WorkspaceName,
        from: &SnapshotReference,
        to: Option<&SnapshotReference>,
        visit: &mut dyn FnMut(Difference) -> ControlFlow<()>,
    ) -> Result<(), ControlError>;
    /// Makes the live tree equal to a snapshot, after a safety snapshot. Mounted clients carry on. O(1).
    pub fn restore(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<Restored, ControlError>;
    /// Makes a new workspace that starts as a snapshot of another. O(1).
    pub fn fork(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
        new: &WorkspaceName,
    ) -> Result<Workspace, ControlError>;
    /// What the node holds.
    pub fn usage(&self) -> Result<Usage, ControlError>;
}
