//! The model as a file system.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{Timestamp, VolumeId, WorkspaceName};
use cairn_vfs::control::CapacityLimits;
use cairn_vfs::filesystem::{
    Attributes, Caller, Capacity, Change, CreateMode, Created, Entry, Export, FileSystem, Found, Linked,
    Listed, ObjectId, ReadData, Record, Renamed, ReplyRecord, SetAttributes, SpecialFile, Stability, Written,
};
use cairn_vfs::{Error, Pending};

use super::{Model, State};
use crate::execute::Recorded;
use crate::refusal::{Reason, Refusal};
use crate::tree::Tree;

impl Model {
    /// Remembers why an operation was refused, and says the first reason.
    fn answer<T>(state: &mut State, outcome: Result<T, Refusal>) -> Result<T, Error> {
        outcome.map_err(|Refusal(reasons)| {
            let error = reasons[0].error();
            state.reasons = reasons;
            error
        })
    }

    fn ask<T>(&self, object: ObjectId, ask: impl FnOnce(&Tree) -> Result<T, Refusal>) -> Result<T, Error> {
        let mut state = self.state.lock();
        let outcome = match state.space(object.volume) {
            Some(space) => ask(&space.tree),
            None => Err(Reason::Stale.into()),
        };
        Self::answer(&mut state, outcome)
    }

    /// A change, atomic with its record. Where nothing changes there is nothing to record.
    fn change<T: Recorded>(
        &self,
        object: ObjectId,
        record: Record<'_, T>,
        change: impl FnOnce(&mut Tree, Timestamp) -> Result<T, Refusal>,
    ) -> Result<Pending<T>, Error> {
        let now = self.now();
        let mut state = self.state.lock();
        let outcome = match state.space_mut(object.volume) {
            Some(space) => {
                let before = (space.limits != CapacityLimits::default()).then(|| space.tree.clone());
                let outcome = change(&mut space.tree, now);
                match before {
                    Some(before) if outcome.is_ok() && space.exceeds(&before) => {
                        space.tree = before;
                        Err(Reason::OverCapacity.into())
                    }
                    _ => outcome,
                }
            }
            None => Err(Reason::Stale.into()),
        };
        let value = Self::answer(&mut state, outcome)?;
        if !value.is_no_change() {
            state.replies.extend(record(&value));
        }
        Ok(Pending::ready(value))
    }

    /// Refuses an operation on two volumes, unless it is wrong anyway.
    fn same_volume(
        &self,
        caller: &Caller,
        volume: VolumeId,
        objects: [(ObjectId, Option<&[u8]>); 2],
    ) -> Result<(), Error> {
        if objects.iter().all(|(object, _)| object.volume == volume) {
            return Ok(());
        }
        let mut state = self.state.lock();
        let mut reasons = vec![Reason::CrossVolume];
        for (object, name) in objects {
            let checked = match (state.space(object.volume), name) {
                (None, _) => Err(Reason::Stale.into()),
                (Some(space), None) => space.tree.resolve(object).map(|_| ()),
                (Some(space), Some(name)) => {
                    let found = space
                        .tree
                        .search(caller, object, name, &[Reason::Invalid, Reason::Exists]);
                    found
                        .and_then(|directory| space.tree.entry(directory, name))
                        .map(|_| ())
                }
            };
            reasons.extend(checked.err().into_iter().flat_map(|refusal| refusal.0));
        }
        Self::answer(&mut state, Err(Refusal(reasons)))
    }

    fn export_of(name: &WorkspaceName, space: &super::Space) -> Export {
        Export {
            path: format!("/{name}"),
            volume: space.tree.volume,
            policy: Arc::clone(&space.policy),
        }
    }
}

impl FileSystem for Model {
    fn exports(&self) -> Vec<Export> {
        self.view(|state| {
            state
                .spaces
                .iter()
                .map(|(name, space)| Self::export_of(name, space))
                .collect()
        })
    }

    fn export(&self, volume: VolumeId) -> Option<Export> {
        self.exports().into_iter().find(|export| export.volume == volume)
    }

    fn mount(&self, path: &[u8]) -> Result<Attributes, Error> {
        let mut state = self.state.lock();
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let (name, below) = path.split_at(path.iter().position(|byte| *byte == b'/').unwrap_or(path.len()));
        let space = state
            .spaces
            .iter()
            .find(|(known, _)| known.as_str().as_bytes() == name);
        let outcome = match space {
            None => Err(Reason::NotFound.into()),
            Some((_, space)) => space.tree.walk(below).and_then(|id| {
                space.tree.directory(id)?;
                Ok(space.tree.attributes(id))
            }),
        };
        Self::answer(&mut state, outcome)
    }

    fn getattr_cached(&self, object: ObjectId) -> Option<Attributes> {
        self.getattr(object).ok()
    }

    fn getattr(&self, object: ObjectId) -> Result<Attributes, Error> {
        self.ask(object, |tree| Ok(tree.attributes(tree.resolve(object)?)))
    }

    fn setattr(
        &self,
        caller: &Caller,
        object: ObjectId,
        set: SetAttributes,
        guard: Option<Timestamp>,
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.change(object, record, |tree, now| {
            tree.setattr(caller, object, set, guard, now)
        })
    }

    fn lookup(&self, caller: &Caller, directory: ObjectId, name: &[u8]) -> Result<Found, Error> {
        self.ask(directory, |tree| tree.lookup(caller, directory, name))
    }

    fn lookup_cached(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
    ) -> Option<Result<Found, Error>> {
        Some(self.lookup(caller, directory, name))
    }

    fn readlink(&self, _caller: &Caller, object: ObjectId) -> Result<(Bytes, Attributes), Error> {
        self.ask(object, |tree| tree.readlink(object))
            .map(|(target, attributes)| (target.into(), attributes))
    }

    fn read(&self, caller: &Caller, object: ObjectId, offset: u64, count: u32) -> Result<ReadData, Error> {
        let (bytes, end_of_file, attributes) =
            self.ask(object, |tree| tree.read(caller, object, offset, count))?;
        Ok(ReadData {
            pieces: vec![bytes.into()],
            end_of_file,
            attributes,
        })
    }

    fn write(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        data: Bytes,
        stability: Stability,
    ) -> Result<Pending<Written>, Error> {
        self.change(object, &|_| None, |tree, now| {
            tree.write(caller, object, offset, &data, stability, now)
        })
    }

    fn commit(
        &self,
        _caller: &Caller,
        object: ObjectId,
        _offset: u64,
        _count: u32,
    ) -> Result<Pending<Change>, Error> {
        self.change(object, &|_| None, |tree, _| tree.commit(object))
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.view(|state| state.restarts.to_be_bytes())
    }

    fn create(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        mode: CreateMode,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.change(directory, record, |tree, now| {
            tree.create(caller, directory, name, mode, now)
        })
    }

    fn mkdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.change(directory, record, |tree, now| {
            tree.mkdir(caller, directory, name, set, now)
        })
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
        self.change(directory, record, |tree, now| {
            tree.symlink(caller, directory, name, target, set, now)
        })
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
        self.change(directory, record, |tree, now| {
            tree.mknod(caller, directory, name, special, set, now)
        })
    }

    fn remove(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.change(directory, record, |tree, now| {
            tree.remove(caller, directory, name, now)
        })
    }

    fn rmdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.change(directory, record, |tree, now| {
            tree.rmdir(caller, directory, name, now)
        })
    }

    fn rename(
        &self,
        caller: &Caller,
        from: (ObjectId, &[u8]),
        to: (ObjectId, &[u8]),
        record: Record<'_, Renamed>,
    ) -> Result<Pending<Renamed>, Error> {
        self.same_volume(
            caller,
            from.0.volume,
            [(from.0, Some(from.1)), (to.0, Some(to.1))],
        )?;
        self.change(from.0, record, |tree, now| tree.rename(caller, from, to, now))
    }

    fn link(
        &self,
        caller: &Caller,
        object: ObjectId,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Linked>,
    ) -> Result<Pending<Linked>, Error> {
        self.same_volume(caller, object.volume, [(object, None), (directory, Some(name))])?;
        self.change(object, record, |tree, now| {
            tree.link(caller, object, directory, name, now)
        })
    }

    fn readdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        cookie: u64,
        with_attributes: bool,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<Listed, Error> {
        let (rows, attributes) = self.ask(directory, |tree| tree.list(caller, directory))?;
        let mut end = true;
        for (name, at, entry) in rows.iter().filter(|(_, at, _)| *at > cookie) {
            let attributes = with_attributes.then_some(entry);
            let entry = Entry {
                name,
                inode: entry.object.inode,
                cookie: *at,
                attributes,
            };
            if visit(entry).is_break() {
                end = false;
                break;
            }
        }
        Ok(Listed {
            directory: attributes,
            end,
        })
    }

    fn capacity(&self, object: ObjectId) -> Result<Capacity, Error> {
        self.ask(object, |tree| {
            tree.resolve(object)?;
            let (bytes, inodes) = (1 << 40, 1 << 30);
            Ok(Capacity {
                bytes_total: bytes,
                bytes_free: bytes,
                bytes_available: bytes,
                inodes_total: inodes,
                inodes_free: inodes,
            })
        })
    }

    fn recorded_replies(&self, limit: usize) -> Result<Vec<ReplyRecord>, Error> {
        Ok(self.view(|state| state.replies[state.replies.len().saturating_sub(limit)..].to_vec()))
    }
}
