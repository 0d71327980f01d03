//! What the harness can test: a file system with the operations of an administrator, that can be stopped and started.
//! And the clock that both sides of a comparison read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_types::{Clock, SnapshotReference, Timestamp, WorkspaceName};
use cairn_vfs::FileSystem;
use cairn_vfs::control::{
    CapacityLimits, ControlError, Difference, NewSnapshot, NewWorkspace, Restored, Snapshot, Workspace,
};

/// How a subject's process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// In order: the subject is dropped.
    Drop,
    /// Killed: what the process had in memory is gone, what it had handed to the system stays.
    Kill,
    /// The power fails: only what was synced stays.
    PowerCut,
}

/// A system under test. The operations are those of `cairn_vfs::Volumes`.
pub trait Subject {
    fn files(&self) -> &dyn FileSystem;
    fn create_workspace(&self, new: NewWorkspace) -> Result<Workspace, ControlError>;
    fn workspaces(&self) -> Result<Vec<Workspace>, ControlError>;
    fn workspace(&self, name: &WorkspaceName) -> Result<Workspace, ControlError>;
    fn delete_workspace(&self, name: &WorkspaceName, with_snapshots: bool) -> Result<(), ControlError>;
    fn snapshot(&self, name: &WorkspaceName, new: NewSnapshot) -> Result<Snapshot, ControlError>;
    fn delete_snapshot(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
    ) -> Result<Snapshot, ControlError>;
    fn set_capacity(&self, name: &WorkspaceName, limits: CapacityLimits) -> Result<Workspace, ControlError>;
    fn history(&self, name: &WorkspaceName) -> Result<Vec<Snapshot>, ControlError>;
    fn resolve(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<Snapshot, ControlError>;
    fn diff(
        &self,
        name: &WorkspaceName,
        from: &SnapshotReference,
        to: Option<&SnapshotReference>,
    ) -> Result<Vec<Difference>, ControlError>;
    fn restore(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<Restored, ControlError>;
    fn fork(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
        new: &WorkspaceName,
    ) -> Result<Workspace, ControlError>;
    /// Stops the subject and starts it again; `false` if it has no such end, and then nothing happened.
    fn restart(&mut self, stop: Stop) -> bool;
}

/// A clock that stands still until the test moves it, so that a model and a subject read the same times however often
/// each of them looks.
#[derive(Debug)]
pub struct TestClock(AtomicU64);

impl TestClock {
    /// A clock that shows some moment in 2023.
    pub fn new() -> Arc<Self> {
        Arc::new(TestClock(AtomicU64::new(0)))
    }

    /// Lets a microsecond pass.
    pub fn tick(&self) {
        self.0.fetch_add(1_000, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let passed = self.0.load(Ordering::Relaxed);
        Timestamp::new(
            1_700_000_000 + (passed / 1_000_000_000) as i64,
            (passed % 1_000_000_000) as u32,
        )
    }
}
