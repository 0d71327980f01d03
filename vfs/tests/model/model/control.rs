//! The model as a subject: what an administrator does.

use cairn_types::{SnapshotId, SnapshotReference, VolumeId, WorkspaceName};
use cairn_vfs::FileSystem;
use cairn_vfs::control::{
    CapacityLimits, CapacityResource, ControlError, Difference, NewSnapshot, NewWorkspace, Restored,
    Snapshot, SnapshotOrigin, SnapshotUser, Workspace,
};

use super::{Model, Saved, Space, State};
use crate::subject::{Stop, Subject};
use crate::tree::Tree;
use crate::tree::difference::Graded;

impl State {
    fn named(&self, name: &WorkspaceName) -> Result<&Space, ControlError> {
        self.spaces
            .get(name)
            .ok_or_else(|| ControlError::NoWorkspace { name: name.clone() })
    }

    fn vacant(&mut self, name: &WorkspaceName) -> Result<VolumeId, ControlError> {
        if self.spaces.contains_key(name) {
            return Err(ControlError::WorkspaceExists { name: name.clone() });
        }
        self.volumes += 1;
        Ok(VolumeId(self.volumes))
    }

    /// The newest snapshot that somebody asked for; the newest with a tag; the one whose id starts so.
    fn find(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<&Saved, ControlError> {
        let newest_first = || self.named(name).map(|space| space.snapshots.iter().rev());
        let tagged = |saved: &&Saved| match reference {
            SnapshotReference::Latest => saved.snapshot.origin == SnapshotOrigin::Requested,
            SnapshotReference::Name(tag) => saved.snapshot.tags.contains(tag),
        };
        if let Some(saved) = newest_first()?.find(tagged) {
            return Ok(saved);
        }
        let fits = |saved: &&Saved| reference.is_prefix_of(saved.snapshot.id);
        let fitting: Vec<&Saved> = newest_first()?.filter(fits).collect();
        match fitting[..] {
            [saved] => Ok(saved),
            [] => Err(self.missing(name, reference)),
            _ => Err(ControlError::AmbiguousSnapshot {
                workspace: name.clone(),
                reference: reference.to_string(),
                candidates: fitting.iter().take(10).map(|saved| saved.snapshot.id).collect(),
            }),
        }
    }

    fn missing(&self, workspace: &WorkspaceName, reference: &SnapshotReference) -> ControlError {
        let fits = |saved: &Saved| reference.is_prefix_of(saved.snapshot.id);
        let has = |space: &Space| space.snapshots.iter().any(fits);
        let (workspace, reference) = (workspace.clone(), reference.to_string());
        match self.spaces.iter().find(|(_, space)| has(space)) {
            Some((owner, _)) => ControlError::ForeignSnapshot {
                workspace,
                reference,
                owner: owner.clone(),
            },
            None => ControlError::NoSnapshot { workspace, reference },
        }
    }

    fn save(
        &mut self,
        name: &WorkspaceName,
        origin: SnapshotOrigin,
        new: NewSnapshot,
        created: cairn_types::Timestamp,
    ) -> Result<Snapshot, ControlError> {
        self.named(name)?;
        limit("note", new.note.len(), Snapshot::NOTE_BYTES_MAX)?;
        limit("tags", new.tags.len(), Snapshot::TAGS_MAX)?;
        self.snapshots += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.snapshots.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let space = self.spaces.get_mut(name).expect("it was there a moment ago");
        let snapshot = Snapshot {
            id: SnapshotId(id),
            origin,
            created,
            note: new.note,
            tags: new.tags,
            inodes: space.tree.inodes.len() as u64,
            bytes: space.tree.bytes(),
            parent: space.head,
            pins: Vec::new(),
        };
        space.snapshots.push(Saved {
            snapshot: snapshot.clone(),
            tree: space.tree.clone(),
        });
        space.head = Some(snapshot.id);
        Ok(snapshot)
    }
}

/// Refuses a tree that is more than a workspace may hold.
pub fn within(workspace: &WorkspaceName, tree: &Tree, limits: CapacityLimits) -> Result<(), ControlError> {
    for (resource, found, limit) in [
        (CapacityResource::Bytes, tree.bytes(), limits.bytes),
        (CapacityResource::Inodes, tree.inodes.len() as u64, limits.inodes),
    ] {
        if let Some(limit) = limit.filter(|limit| found > *limit) {
            return Err(ControlError::OverCapacity {
                workspace: workspace.clone(),
                resource,
                found,
                limit,
            });
        }
    }
    Ok(())
}

fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), ControlError> {
    if found <= limit {
        return Ok(());
    }
    Err(ControlError::LimitExceeded {
        what,
        found: found as u64,
        limit: limit as u64,
    })
}

impl Model {
    /// The differences with the latitude that an implementation has.
    pub fn graded_diff(
        &self,
        name: &WorkspaceName,
        from: &SnapshotReference,
        to: Option<&SnapshotReference>,
    ) -> Result<Vec<Graded>, ControlError> {
        self.view(|state| {
            let from = &state.find(name, from)?.tree;
            let to: &Tree = match to {
                Some(reference) => &state.find(name, reference)?.tree,
                None => &state.named(name)?.tree,
            };
            Ok(from.differences(to))
        })
    }
}

impl Subject for Model {
    fn files(&self) -> &dyn FileSystem {
        self
    }

    fn create_workspace(&self, new: NewWorkspace) -> Result<Workspace, ControlError> {
        let now = self.now();
        self.tamper(|state| {
            let volume = state.vacant(&new.name)?;
            let space = Space {
                policy: new.policy.into(),
                created: now,
                forked_from: None,
                tree: Tree::new(volume, new.uid, new.gid, new.mode, now),
                snapshots: Vec::new(),
                limits: CapacityLimits::default(),
                head: None,
            };
            let workspace = space.describe(&new.name);
            state.spaces.insert(new.name, space);
            Ok(workspace)
        })
    }

    fn workspaces(&self) -> Result<Vec<Workspace>, ControlError> {
        Ok(self.view(|state| {
            state
                .spaces
                .iter()
                .map(|(name, space)| space.describe(name))
                .collect()
        }))
    }

    fn workspace(&self, name: &WorkspaceName) -> Result<Workspace, ControlError> {
        self.view(|state| Ok(state.named(name)?.describe(name)))
    }

    fn delete_workspace(&self, name: &WorkspaceName, with_snapshots: bool) -> Result<(), ControlError> {
        self.tamper(|state| {
            let snapshots = state.named(name)?.snapshots.len() as u64;
            if snapshots > 0 && !with_snapshots {
                return Err(ControlError::HasSnapshots {
                    name: name.clone(),
                    snapshots,
                });
            }
            state.spaces.remove(name);
            Ok(())
        })
    }

    fn snapshot(&self, name: &WorkspaceName, new: NewSnapshot) -> Result<Snapshot, ControlError> {
        let now = self.now();
        self.tamper(|state| state.save(name, SnapshotOrigin::Requested, new, now))
    }

    fn history(&self, name: &WorkspaceName) -> Result<Vec<Snapshot>, ControlError> {
        self.view(|state| {
            let saved = state.named(name)?.snapshots.iter().rev();
            Ok(saved.map(|saved| saved.snapshot.clone()).collect())
        })
    }

    fn resolve(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<Snapshot, ControlError> {
        self.view(|state| Ok(state.find(name, reference)?.snapshot.clone()))
    }

    fn delete_snapshot(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
    ) -> Result<Snapshot, ControlError> {
        self.tamper(|state| {
            let id = state.find(name, reference)?.snapshot.id;
            let forks: Vec<SnapshotUser> = state
                .spaces
                .iter()
                .filter(|(_, space)| space.forked_from == Some(id))
                .map(|(name, _)| SnapshotUser::Fork(name.clone()))
                .collect();
            if !forks.is_empty() {
                return Err(ControlError::SnapshotInUse {
                    workspace: name.clone(),
                    id,
                    users: forks,
                });
            }
            let space = state.spaces.get_mut(name).expect("its snapshot was found");
            let index = space.snapshots.iter().position(|saved| saved.snapshot.id == id);
            Ok(space.snapshots.remove(index.expect("it was found")).snapshot)
        })
    }

    fn set_capacity(&self, name: &WorkspaceName, limits: CapacityLimits) -> Result<Workspace, ControlError> {
        self.tamper(|state| {
            within(name, &state.named(name)?.tree, limits)?;
            let space = state.spaces.get_mut(name).expect("it was found");
            space.limits = limits;
            Ok(space.describe(name))
        })
    }

    fn diff(
        &self,
        name: &WorkspaceName,
        from: &SnapshotReference,
        to: Option<&SnapshotReference>,
    ) -> Result<Vec<Difference>, ControlError> {
        let differences = self.graded_diff(name, from, to)?;
        Ok(differences
            .into_iter()
            .map(|(difference, _)| difference)
            .collect())
    }

    fn restore(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<Restored, ControlError> {
        let now = self.now();
        self.tamper(|state| {
            let Saved { snapshot, tree } = state.find(name, reference)?.clone();
            within(name, &tree, state.named(name)?.limits)?;
            let safety = state.save(name, SnapshotOrigin::Safety, NewSnapshot::default(), now)?;
            let space = state.spaces.get_mut(name).expect("its snapshot was found");
            let next_inode = space.tree.next_inode;
            space.tree = Tree { next_inode, ..tree };
            space.head = Some(snapshot.id);
            Ok(Restored { snapshot, safety })
        })
    }

    fn fork(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
        new: &WorkspaceName,
    ) -> Result<Workspace, ControlError> {
        let now = self.now();
        self.tamper(|state| {
            let Saved { snapshot, tree } = state.find(name, reference)?.clone();
            let Space { policy, limits, .. } = state.named(name)?.clone();
            within(name, &tree, limits)?;
            let volume = state.vacant(new)?;
            let space = Space {
                policy,
                created: now,
                forked_from: Some(snapshot.id),
                tree: Tree { volume, ..tree },
                snapshots: Vec::new(),
                limits,
                head: None,
            };
            let workspace = space.describe(new);
            state.spaces.insert(new.clone(), space);
            Ok(workspace)
        })
    }

    /// The model loses nothing.
    fn restart(&mut self, _stop: Stop) -> bool {
        self.tamper(|state| state.restarts += 1);
        true
    }
}
