//! The reference model: a few workspaces, each a [`Tree`], its snapshots whole copies of it. It is a [`FileSystem`] and a
//! [`Subject`] like the real one, so that the same code drives both, and it remembers every reason of its last refusal.
//!
//! - **Snapshot** copies the tree. **Restore** first takes a safety snapshot, then replaces the tree: objects made since
//!   are stale, objects removed since are back under their old handles. **Fork** copies a snapshot's tree into a new volume
//!   with the same inode numbers. A workspace is deleted with its snapshots; what was forked from them stays.
//! - A snapshot's parent is the snapshot of the workspace that the tree was last equal to: the one taken before it, or
//!   restored. The first one of a fork has none: the workspace says where it was forked.

pub mod control;
mod files;

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_types::{Clock, ExportPolicy, SnapshotId, Timestamp, VolumeId, WorkspaceName};
use cairn_vfs::control::{CapacityLimits, Snapshot, Workspace};
use cairn_vfs::filesystem::ReplyRecord;
use parking_lot::Mutex;

use crate::refusal::Reason;
use crate::subject::TestClock;
use crate::tree::Tree;

/// A snapshot and what it holds.
#[derive(Debug, Clone)]
pub struct Saved {
    pub snapshot: Snapshot,
    pub tree: Tree,
}

/// A workspace.
#[derive(Debug, Clone)]
pub struct Space {
    pub policy: Arc<ExportPolicy>,
    pub created: Timestamp,
    pub forked_from: Option<SnapshotId>,
    pub tree: Tree,
    /// Oldest first.
    pub snapshots: Vec<Saved>,
    /// What the tree may hold.
    pub limits: CapacityLimits,
    /// The snapshot that the tree was last equal to.
    pub head: Option<SnapshotId>,
}

impl Space {
    /// Whether the tree has grown beyond what it may hold.
    fn exceeds(&self, before: &Tree) -> bool {
        let over = |now: u64, before: u64, limit: Option<u64>| {
            now > before && limit.is_some_and(|limit| now > limit)
        };
        over(self.tree.bytes(), before.bytes(), self.limits.bytes)
            || over(
                self.tree.inodes.len() as u64,
                before.inodes.len() as u64,
                self.limits.inodes,
            )
    }

    fn describe(&self, name: &WorkspaceName) -> Workspace {
        Workspace {
            name: name.clone(),
            volume: self.tree.volume,
            created: self.created,
            policy: self.policy.clone(),
            forked_from: self.forked_from,
            snapshots: self.snapshots.len() as u64,
            inodes: self.tree.inodes.len() as u64,
            bytes: self.tree.bytes(),
            limits: self.limits,
        }
    }
}

/// Everything that the model knows.
#[derive(Debug, Default, Clone)]
pub struct State {
    pub spaces: BTreeMap<WorkspaceName, Space>,
    pub volumes: u64,
    pub snapshots: u64,
    pub replies: Vec<ReplyRecord>,
    /// Why the last refused operation on files was refused.
    pub reasons: Vec<Reason>,
    pub restarts: u64,
}

impl State {
    /// The workspace with this volume.
    pub fn space(&self, volume: VolumeId) -> Option<&Space> {
        self.spaces.values().find(|space| space.tree.volume == volume)
    }

    /// As [`State::space`], to be changed.
    pub fn space_mut(&mut self, volume: VolumeId) -> Option<&mut Space> {
        self.spaces.values_mut().find(|space| space.tree.volume == volume)
    }
}

/// The model. See the module's documentation.
pub struct Model {
    clock: Arc<TestClock>,
    state: Mutex<State>,
}

impl Model {
    /// A node without workspaces.
    pub fn new(clock: Arc<TestClock>) -> Self {
        Model {
            clock,
            state: Mutex::new(State::default()),
        }
    }

    /// Looks at the state.
    pub fn view<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    /// Changes the state behind the interface's back: to take over what a subject may legitimately have lost, and to
    /// build faulty models.
    pub fn tamper<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock())
    }

    /// The time that changes get now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
