//! The model behind a layer that does one thing wrong.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use cairn_types::{InodeId, SnapshotReference, Timestamp, VolumeId, WorkspaceName};
use cairn_vfs::control::{
    CapacityLimits, ControlError, Difference, NewSnapshot, NewWorkspace, Restored, Snapshot, Workspace,
};
use cairn_vfs::filesystem::{
    Attributes, Before, Caller, Capacity, Change, CreateMode, Created, Entry, Export, FileSystem, Found,
    Linked, Listed, ObjectId, ReadData, Record, Renamed, ReplyRecord, SetAttributes, SpecialFile, Stability,
    Written,
};
use cairn_vfs::{Error, Pending};
use parking_lot::Mutex;

use super::Fault;
use crate::execute::caller as known_caller;
use crate::model::{Model, State};
use crate::subject::{Stop, Subject};
use crate::tree::{Body, Inode};

/// A model with a fault.
pub struct Faulty {
    model: Model,
    fault: Fault,
    /// Bytes that were cut off, by inode.
    tails: Mutex<BTreeMap<InodeId, Vec<u8>>>,
    /// The last committed file, as it was before its last write.
    committed: Mutex<Option<(ObjectId, Inode)>>,
    written: Mutex<Option<(ObjectId, Inode)>>,
}

fn inode(state: &State, object: ObjectId) -> Option<&Inode> {
    state.space(object.volume)?.tree.inodes.get(&object.inode)
}

fn inode_mut(state: &mut State, object: ObjectId) -> Option<&mut Inode> {
    state.space_mut(object.volume)?.tree.inodes.get_mut(&object.inode)
}

impl Faulty {
    /// `model` with `fault`.
    pub fn new(model: Model, fault: Fault) -> Self {
        Faulty {
            model,
            fault,
            tails: Mutex::default(),
            committed: Mutex::default(),
            written: Mutex::default(),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn object_at(&self, directory: ObjectId, name: &[u8]) -> Option<(ObjectId, Inode)> {
        let found = self.model.lookup(&known_caller(0), directory, name).ok()?;
        let object = found.attributes.object;
        self.model
            .view(|state| Some((object, inode(state, object)?.clone())))
    }

    /// Whom the model believes to be calling, when it is to check nothing.
    fn believed(&self, fault: Fault, caller: &Caller) -> Caller {
        if self.is(fault) {
            known_caller(0)
        } else {
            caller.clone()
        }
    }
}

impl FileSystem for Faulty {
    fn exports(&self) -> Vec<Export> {
        self.model.exports()
    }

    fn export(&self, volume: VolumeId) -> Option<Export> {
        self.model.export(volume)
    }

    fn mount(&self, path: &[u8]) -> Result<Attributes, Error> {
        self.model.mount(path)
    }

    fn getattr_cached(&self, object: ObjectId) -> Option<Attributes> {
        self.model.getattr_cached(object)
    }

    fn getattr(&self, object: ObjectId) -> Result<Attributes, Error> {
        self.model.getattr(object)
    }

    fn setattr(
        &self,
        caller: &Caller,
        object: ObjectId,
        set: SetAttributes,
        guard: Option<Timestamp>,
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        let earlier = self.model.view(|state| inode(state, object).cloned());
        let by = if set.mode.is_some() {
            self.believed(Fault::ChmodByAnybody, caller)
        } else {
            caller.clone()
        };
        let forget = |change: &Change| {
            record(change).filter(|_| !(self.is(Fault::ReplyForgotten) && set.mode.is_some()))
        };
        let change = self
            .model
            .setattr(&by, object, set, guard, &forget)?
            .without_durability();
        if let (true, Some(size), Some(Body::Regular(earlier))) = (
            self.is(Fault::TruncateKeepsTail),
            set.size,
            earlier.map(|inode| inode.body),
        ) {
            let mut tails = self.tails.lock();
            if size < earlier.size {
                tails.insert(object.inode, earlier.written.to_vec());
            } else if let Some(tail) = tails.remove(&object.inode) {
                let end = tail.len().min(size as usize);
                let start = (earlier.size as usize).min(end);
                self.model.tamper(|state| {
                    let inode = inode_mut(state, object)?;
                    inode.contents_mut().write(start as u64, &tail[start..end]);
                    Some(())
                });
            }
        }
        if self.is(Fault::ForkSharesModes) && set.mode.is_some() {
            self.model.tamper(|state| {
                let fork = state.space(object.volume)?.forked_from?;
                let has = |saved: &crate::model::Saved| saved.snapshot.id == fork;
                let parent = state
                    .spaces
                    .values_mut()
                    .find(|space| space.snapshots.iter().any(has))?;
                parent.tree.inodes.get_mut(&object.inode)?.mode = change.after.mode;
                Some(())
            });
        }
        Ok(Pending::ready(change))
    }

    fn lookup(&self, caller: &Caller, directory: ObjectId, name: &[u8]) -> Result<Found, Error> {
        self.model.lookup(caller, directory, name)
    }

    fn lookup_cached(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
    ) -> Option<Result<Found, Error>> {
        self.model.lookup_cached(caller, directory, name)
    }

    fn readlink(&self, caller: &Caller, object: ObjectId) -> Result<(Bytes, Attributes), Error> {
        self.model.readlink(caller, object)
    }

    fn read(&self, caller: &Caller, object: ObjectId, offset: u64, count: u32) -> Result<ReadData, Error> {
        self.model.read(caller, object, offset, count)
    }

    fn write(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        data: Bytes,
        stability: Stability,
    ) -> Result<Pending<Written>, Error> {
        let earlier = self.model.view(|state| inode(state, object).cloned());
        let written = self
            .model
            .write(caller, object, offset, data.clone(), stability)?
            .without_durability();
        let Some(earlier) = earlier else {
            return Ok(Pending::ready(written));
        };
        self.model.tamper(|state| {
            if self.is(Fault::HoleHasBytes) && !data.is_empty() && offset > earlier.size() {
                inode_mut(state, object)?
                    .contents_mut()
                    .write(offset - 1, &[0xaa]);
            }
            if self.is(Fault::WriteKeepsSetId) {
                inode_mut(state, object)?.mode |= earlier.mode & 0o4000;
            }
            if self.is(Fault::SnapshotSharesBytes) {
                let saved = state.space_mut(object.volume)?.snapshots.last_mut()?;
                let shared = saved.tree.inodes.get_mut(&object.inode)?.contents_mut();
                let room = shared.size.saturating_sub(offset).min(data.len() as u64);
                shared.write(offset, &data[..room as usize]);
            }
            Some(())
        });
        *self.written.lock() = Some((object, earlier));
        let mut written = written;
        written.change.after = self.model.getattr(object)?;
        Ok(Pending::ready(written))
    }

    fn commit(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        count: u32,
    ) -> Result<Pending<Change>, Error> {
        let mut written = self.written.lock();
        if written.as_ref().is_some_and(|(of, _)| *of == object) {
            *self.committed.lock() = written.take();
        }
        self.model.commit(caller, object, offset, count)
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.model.write_verifier()
    }

    fn create(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        mode: CreateMode,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        if !self.is(Fault::BeforeIsAfter) {
            return self.model.create(caller, directory, name, mode, record);
        }
        let confuse = |mut created: Created| {
            created.directory.before = Before::from(&created.directory.after);
            created
        };
        let confused = |created: &Created| record(&confuse(*created));
        let created = self
            .model
            .create(caller, directory, name, mode, &confused)?
            .without_durability();
        Ok(Pending::ready(confuse(created)))
    }

    fn mkdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.model.mkdir(caller, directory, name, set, record)
    }

    fn symlink(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        target: &[u8],
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.model.symlink(caller, directory, name, target, set, record)
    }

    fn mknod(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        special: SpecialFile,
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.model.mknod(caller, directory, name, special, set, record)
    }

    fn remove(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        let removed = self.object_at(directory, name);
        let sticky = self
            .model
            .getattr(directory)
            .is_ok_and(|attributes| attributes.mode & 0o1000 != 0);
        let by = if sticky {
            self.believed(Fault::StickyIgnored, caller)
        } else {
            caller.clone()
        };
        let pending = self.model.remove(&by, directory, name, record)?;
        if let (true, Some((object, earlier))) = (self.is(Fault::UnlinkKeepsChanged), removed) {
            self.model.tamper(|state| {
                inode_mut(state, object)?.changed = earlier.changed;
                Some(())
            });
        }
        Ok(pending)
    }

    fn rmdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.model.rmdir(caller, directory, name, record)
    }

    fn rename(
        &self,
        caller: &Caller,
        from: (ObjectId, &[u8]),
        to: (ObjectId, &[u8]),
        record: Record<'_, Renamed>,
    ) -> Result<Pending<Renamed>, Error> {
        let (moved, replaced) = (self.object_at(from.0, from.1), self.object_at(to.0, to.1));
        let pending = self.model.rename(caller, from, to, record)?;
        let Some((moved, moved_inode)) = moved else {
            return Ok(pending);
        };
        self.model.tamper(|state| {
            if let (true, Some((replaced, earlier))) = (self.is(Fault::RenameKeepsLinks), replaced)
                && replaced != moved
            {
                inode_mut(state, replaced)?.links = earlier.links;
            }
            if self.is(Fault::MoveKeepsParentLinks) && moved_inode.is_directory() && from.0 != to.0 {
                inode_mut(state, from.0)?.links += 1;
            }
            Some(())
        });
        Ok(pending)
    }

    fn link(
        &self,
        caller: &Caller,
        object: ObjectId,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Linked>,
    ) -> Result<Pending<Linked>, Error> {
        self.model.link(caller, object, directory, name, record)
    }

    fn readdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        cookie: u64,
        with_attributes: bool,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<Listed, Error> {
        if !self.is(Fault::CookiesArePositions) {
            return self
                .model
                .readdir(caller, directory, cookie, with_attributes, visit);
        }
        let mut position = 0;
        self.model
            .readdir(caller, directory, 0, with_attributes, &mut |entry| {
                position += 1;
                if position <= cookie {
                    return ControlFlow::Continue(());
                }
                visit(Entry {
                    cookie: position,
                    ..entry
                })
            })
    }

    fn capacity(&self, object: ObjectId) -> Result<Capacity, Error> {
        self.model.capacity(object)
    }

    fn recorded_replies(&self, limit: usize) -> Result<Vec<ReplyRecord>, Error> {
        self.model.recorded_replies(limit)
    }
}

impl Subject for Faulty {
    fn files(&self) -> &dyn FileSystem {
        self
    }

    fn create_workspace(&self, new: NewWorkspace) -> Result<Workspace, ControlError> {
        self.model.create_workspace(new)
    }

    fn workspaces(&self) -> Result<Vec<Workspace>, ControlError> {
        self.model.workspaces()
    }

    fn workspace(&self, name: &WorkspaceName) -> Result<Workspace, ControlError> {
        self.model.workspace(name)
    }

    fn delete_workspace(&self, name: &WorkspaceName, with_snapshots: bool) -> Result<(), ControlError> {
        self.model.delete_workspace(name, with_snapshots)
    }

    fn snapshot(&self, name: &WorkspaceName, new: NewSnapshot) -> Result<Snapshot, ControlError> {
        self.model.snapshot(name, new)
    }

    fn delete_snapshot(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
    ) -> Result<Snapshot, ControlError> {
        self.model.delete_snapshot(name, reference)
    }

    fn set_capacity(&self, name: &WorkspaceName, limits: CapacityLimits) -> Result<Workspace, ControlError> {
        self.model.set_capacity(name, limits)
    }

    fn history(&self, name: &WorkspaceName) -> Result<Vec<Snapshot>, ControlError> {
        self.model.history(name)
    }

    fn resolve(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<Snapshot, ControlError> {
        self.model.resolve(name, reference)
    }

    fn diff(
        &self,
        name: &WorkspaceName,
        from: &SnapshotReference,
        to: Option<&SnapshotReference>,
    ) -> Result<Vec<Difference>, ControlError> {
        self.model.diff(name, from, to)
    }

    fn restore(&self, name: &WorkspaceName, reference: &SnapshotReference) -> Result<Restored, ControlError> {
        let earlier = self
            .model
            .view(|state| state.spaces.get(name).map(|space| space.tree.clone()));
        let restored = self.model.restore(name, reference)?;
        self.model.tamper(|state| {
            let tree = &mut state.spaces.get_mut(name)?.tree;
            let earlier = earlier?;
            if self.is(Fault::RestoreKeepsNewNames) {
                for (entry_name, entry) in &earlier.directory(InodeId::ROOT).ok()?.entries {
                    let kept = earlier.inode(entry.inode);
                    let new = !tree.inodes.contains_key(&entry.inode);
                    if new && matches!(kept.body, Body::Regular(_)) {
                        tree.inodes.insert(entry.inode, kept.clone());
                        tree.entries_mut(InodeId::ROOT)
                            .entries
                            .insert(entry_name.clone(), *entry);
                    }
                }
            }
            if self.is(Fault::InodesReused) {
                tree.next_inode = tree.inodes.keys().last()?.0 + 1;
            }
            Some(())
        });
        Ok(restored)
    }

    fn fork(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
        new: &WorkspaceName,
    ) -> Result<Workspace, ControlError> {
        self.model.fork(name, reference, new)
    }

    fn restart(&mut self, stop: Stop) -> bool {
        if self.is(Fault::StopLosesCommitted)
            && let Some((object, earlier)) = self.committed.get_mut().take()
        {
            self.model.tamper(|state| {
                *inode_mut(state, object)? = earlier;
                Some(())
            });
        }
        self.model.restart(stop)
    }
}
