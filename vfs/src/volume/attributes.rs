//! GETATTR, SETATTR, READLINK: what an object is, and changing it.

use bytes::Bytes;
use cairn_metadata::InodeRecord;
use cairn_types::{ByteRange, FileKind, Timestamp};

use super::{INLINE_BYTES_MAX, INLINE_BYTES_USED, State, Volume, Work, log_failed, metadata_failed};
use crate::dirty::{DirtyFile, next_change, next_data_version};
use crate::filesystem::{
    Attributes, Caller, Change, FILE_BYTES_MAX, ObjectId, Record, SetAttributes, SetTime,
};
use crate::{Error, Pending, permission};

impl Volume {
    pub(crate) fn getattr_cached(&self, object: ObjectId) -> Option<Attributes> {
        let state = self.state.try_read()?;
        let record = self.load_inode_cached(&state, object.inode)?;
        (record.generation == object.generation).then(|| self.attributes(object.inode, &record))
    }

    pub(crate) fn getattr(&self, object: ObjectId) -> Result<Attributes, Error> {
        let state = self.state.read();
        let record = self.load(&state, object)?;
        Ok(self.attributes(object.inode, &record))
    }

    pub(crate) fn readlink(&self, object: ObjectId) -> Result<(Bytes, Attributes), Error> {
        let state = self.state.read();
        let record = self.load(&state, object)?;
        if record.kind != FileKind::Symlink {
            return Err(Error::WrongType);
        }
        let target = self
            .view(&state)
            .link_target(object.inode)
            .map_err(metadata_failed)?;
        let target = target.ok_or_else(|| Error::Io {
            what: format!("the target of symbolic link {} is missing", object.inode),
            kind: cairn_types::ErrorKind::Corrupt,
        })?;
        Ok((target, self.attributes(object.inode, &record)))
    }

    pub(crate) fn setattr(
        &self,
        caller: &Caller,
        object: ObjectId,
        set: SetAttributes,
        guard: Option<Timestamp>,
        reply: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.require_healthy()?;
        let _serial = self.write_lock(object.inode);
        // The metadata may only point at durable bytes and count durable records, and a flush comes with this change: sync
        // before the volume is locked. Nobody appends to this file meanwhile.
        let unsynced = {
            let state = self.state.read();
            let newest = state.dirty.get(&object.inode).map(|file| file.log_end);
            newest.is_some_and(|end| end > self.shared.log.durable())
        };
        if unsynced {
            self.shared.log.sync().map_err(log_failed)?;
        }
        let mut state = self.state.write();
        let before = self.load(&state, object)?;
        if guard.is_some_and(|guard| guard != before.changed) {
            return Err(Error::GuardFailed);
        }
        if set == SetAttributes::default() {
            // Nothing to set is no change: else whoever has a handle could move the time of the last one.
            return Ok(Pending::ready(self.change(object.inode, &before, &before)));
        }
        let now = self.shared.now();
        let after = self.after_setattr(caller, &before, &set, now)?;
        let commit = self.store_attributes(&mut state, object, &before, &after, reply)?;
        Ok(self.after_commit(self.change(object.inode, &before, &after), commit))
    }

    /// The attributes that `set` gives, if the caller may set them.
    pub(super) fn after_setattr(
        &self,
        caller: &Caller,
        before: &InodeRecord,
        set: &SetAttributes,
        now: Timestamp,
    ) -> Result<InodeRecord, Error> {
        let mut after = *before;
        let owner = caller.is_root() || caller.uid == before.uid;
        after.changed = next_change(before.changed, now);
        if let Some(uid) = set.uid {
            if uid != before.uid && !caller.is_root() || !owner {
                return Err(Error::NotPermitted);
            }
            after.uid = uid;
        }
        if let Some(gid) = set.gid {
            let free = caller.is_root() || owner && (gid == before.gid || caller.in_group(gid));
            if !free {
                return Err(Error::NotPermitted);
            }
            after.gid = gid;
        }
        let chowned = set.uid.is_some() || set.gid.is_some();
        if chowned && before.kind != FileKind::Directory && !caller.is_root() {
            after.mode = permission::without_set_id(after.mode);
        }
        if let Some(mode) = set.mode {
            if !owner {
                return Err(Error::NotPermitted);
            }
            after.mode = permission::mode_after_chmod(caller, after.gid, before.kind, (mode & 0o7777) as u16);
        }
        if let Some(size) = set.size {
            match before.kind {
                FileKind::Regular => {}
                FileKind::Directory => return Err(Error::IsDirectory),
                _ => return Err(Error::Invalid("only regular files have a size to set")),
            }
            permission::require_or_owner(caller, before, permission::WRITE)?;
            if size > FILE_BYTES_MAX {
                return Err(Error::FileTooLarge);
            }
            if size > before.size {
                self.require_space()?;
            }
            after.size = size;
            after.modified = after.changed;
            after.data_version = next_data_version(before.data_version, after.changed);
            if set.mode.is_none() {
                after.mode = permission::mode_after_write(caller, &after);
            }
        }
        for (time, value) in [
            (set.accessed, &mut after.accessed),
            (set.modified, &mut after.modified),
        ] {
            match time {
                None => {}
                Some(SetTime::Now) => {
                    if !owner {
                        permission::require(caller, before, permission::WRITE)?;
                    }
                    *value = after.changed;
                }
                Some(SetTime::To(time)) => {
                    if !owner {
                        return Err(Error::NotPermitted);
                    }
                    *value = time;
                }
            }
        }
        // The first change of attributes ends the exclusive create.
        after.verifier = None;
        Ok(after)
    }

    /// Stores attributes that were set, with the cut of the data that a smaller size means. The caller holds the file's
    /// write lock, and the log is durable as far as the file is concerned.
    pub(super) fn store_attributes(
        &self,
        state: &mut State,
        object: ObjectId,
        before: &InodeRecord,
        after: &InodeRecord,
        reply: Record<'_, Change>,
    ) -> Result<u64, Error> {
        let State {
            open, lineage, dirty, ..
        } = state;
        let inode = object.inode;
        let mut work = Work::new(self, lineage, open.branch.epoch);
        if before.kind != FileKind::Regular {
            work.put(dirty, inode, after);
        } else if after.size < before.size {
            self.shrink(&mut work, dirty.get(&inode), object, before, after)?;
        } else if let Some(file) = dirty.get(&inode) {
            work.flush(inode, file, None, |record| {
                *record = InodeRecord {
                    used: record.used,
                    ..*after
                };
            })?;
        } else {
            work.resized(before.size, after.size);
            work.put(dirty, inode, after);
        }
        work.require_capacity(open, dirty)?;
        work.record_reply(reply(&self.change(inode, before, after)));
        work.commit(open, dirty)
    }

    fn shrink(
        &self,
        work: &mut Work<'_>,
        file: Option<&DirtyFile>,
        object: ObjectId,
        before: &InodeRecord,
        after: &InodeRecord,
    ) -> Result<(), Error> {
        let inode = object.inode;
        let stored = file.map_or(*before, |file| file.stored);
        let gone = ByteRange::new(after.size, u64::MAX).unwrap_or(ByteRange::at(0, u64::MAX));
        let mut record = *after;
        if before.inline {
            let view = work.transaction.view();
            if let Some(data) = view.inline_data(inode).map_err(metadata_failed)?
                && data.len() as u64 > after.size
            {
                let keep = data.get(..after.size as usize).unwrap_or_default();
                work.transaction.put_inline_data(inode, keep);
            }
            record.used = Self::inline_used(after.size);
            work.resized(stored.size, record.size);
            work.put_whole(inode, &record);
            return Ok(());
        }
        // What only the log has goes into the metadata with this change, without what is cut off.
        let clean = DirtyFile::new(stored);
        record.inline = after.size == 0;
        work.flush(inode, file.unwrap_or(&clean), Some(gone), |flushed| {
            let used = if record.inline { 0 } else { flushed.used };
            *flushed = InodeRecord { used, ..record };
        })
    }

    /// Bytes of storage that inline data is said to use.
    pub(super) fn inline_used(size: u64) -> u64 {
        debug_assert!(INLINE_BYTES_USED as usize >= INLINE_BYTES_MAX);
        if size == 0 { 0 } else { INLINE_BYTES_USED }
    }
}
