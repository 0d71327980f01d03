//! LOOKUP, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, LINK: names and the objects behind them.

use cairn_metadata::{DirentRecord, InodeRecord};
use cairn_types::{DeviceNumber, FileKind, InodeId, Timestamp};

use super::{State, Volume, Work, check_name, check_new_name, metadata_failed};
use crate::dirty::next_change;
use crate::filesystem::{
    Caller, Change, CreateMode, Created, FILE_BYTES_MAX, Found, LINKS_MAX, Linked, ObjectId, Record,
    SYMLINK_BYTES_MAX, SetAttributes, SetTime, SpecialFile,
};
use crate::permission::{self, EXECUTE, WRITE};
use crate::{Error, Pending, capacity};

/// The size that every directory says it has.
pub(crate) const DIRECTORY_BYTES: u64 = 4096;

/// An object about to be made.
struct NewObject<'a> {
    kind: FileKind,
    set: SetAttributes,
    device: DeviceNumber,
    verifier: Option<[u8; 8]>,
    target: Option<&'a [u8]>,
}

impl Volume {
    pub(crate) fn lookup(&self, caller: &Caller, directory: ObjectId, name: &[u8]) -> Result<Found, Error> {
        let state = self.state.read();
        let parent = self.load_directory(&state, directory)?;
        permission::require(caller, &parent, EXECUTE)?;
        let inode = match name {
            b"." => directory.inode,
            b".." => parent.parent,
            _ => {
                check_name(name)?;
                let entry = self
                    .view(&state)
                    .entry(directory.inode, name)
                    .map_err(metadata_failed)?;
                entry.ok_or(Error::NotFound)?.inode
            }
        };
        let record = self.load_inode(&state, inode)?.ok_or_else(|| dangling(inode))?;
        Ok(Found {
            attributes: self.attributes(inode, &record),
            directory: self.attributes(directory.inode, &parent),
        })
    }

    pub(crate) fn lookup_cached(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
    ) -> Option<Result<Found, Error>> {
        let state = self.state.try_read()?;
        let parent = self.load_inode_cached(&state, directory.inode)?;
        let usable = parent.kind == FileKind::Directory && parent.generation == directory.generation;
        if !usable || matches!(name, b"." | b"..") {
            return None;
        }
        let checked = permission::require(caller, &parent, EXECUTE).and_then(|()| check_name(name));
        if let Err(error) = checked {
            return Some(Err(error));
        }
        let Some(entry) = self.view(&state).entry_cached(directory.inode, name).ok()?? else {
            return Some(Err(Error::NotFound));
        };
        let record = self.load_inode_cached(&state, entry.inode)?;
        Some(Ok(Found {
            attributes: self.attributes(entry.inode, &record),
            directory: self.attributes(directory.inode, &parent),
        }))
    }

    pub(crate) fn create(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        mode: CreateMode,
        reply: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        let (set, verifier) = match mode {
            CreateMode::Unchecked(set) | CreateMode::Guarded(set) => (set, None),
            CreateMode::Exclusive(verifier) => (SetAttributes::default(), Some(verifier)),
        };
        let kind = FileKind::Regular;
        let new = NewObject {
            kind,
            set,
            device: DeviceNumber::default(),
            verifier,
            target: None,
        };
        if !matches!(mode, CreateMode::Unchecked(_)) {
            return self.make(caller, directory, name, new, verifier, reply);
        }
        // An existing file is used as it is, but for a size: that is another change, with locks of its own.
        loop {
            match self.use_existing(caller, directory, name, set, reply)? {
                Some(created) => return Ok(created),
                None => match self.make(caller, directory, name, new.again(), None, reply) {
                    Err(Error::Exists) => {}
                    outcome => return outcome,
                },
            }
        }
    }

    /// The outcome of an unchecked create whose name exists; `None` if it does not.
    fn use_existing(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        set: SetAttributes,
        reply: Record<'_, Created>,
    ) -> Result<Option<Pending<Created>>, Error> {
        check_new_name(name).map_err(|error| match error {
            Error::Exists => Error::IsDirectory,
            error => error,
        })?;
        let (found, parent) = {
            let state = self.state.read();
            let parent = self.load_directory(&state, directory)?;
            permission::require(caller, &parent, EXECUTE)?;
            let entry = self
                .view(&state)
                .entry(directory.inode, name)
                .map_err(metadata_failed)?;
            let Some(entry) = entry else { return Ok(None) };
            let record = self
                .load_inode(&state, entry.inode)?
                .ok_or_else(|| dangling(entry.inode))?;
            match record.kind {
                FileKind::Regular => {}
                FileKind::Directory => return Err(Error::IsDirectory),
                _ => return Err(Error::Exists),
            }
            (
                self.attributes(entry.inode, &record),
                self.change(directory.inode, &parent, &parent),
            )
        };
        let created = |attributes| Created {
            attributes,
            directory: parent,
        };
        // Also to the size it has: that marks the file as changed (open(2), O_TRUNC), and needs permission to write.
        let Some(size) = set.size else {
            return Ok(Some(Pending::ready(created(found))));
        };
        let set = SetAttributes {
            size: Some(size),
            ..SetAttributes::default()
        };
        let record = |change: &Change| reply(&created(change.after));
        match self.setattr(caller, found.object, set, None, &record) {
            Ok(pending) => Ok(Some(pending.map(|change| created(change.after)))),
            Err(Error::Stale) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn mkdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        set: SetAttributes,
        reply: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        let kind = FileKind::Directory;
        let new = NewObject {
            kind,
            set,
            device: DeviceNumber::default(),
            verifier: None,
            target: None,
        };
        self.make(caller, directory, name, new, None, reply)
    }

    pub(crate) fn symlink(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        target: &[u8],
        set: SetAttributes,
        reply: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        if target.is_empty() || target.contains(&0) {
            return Err(Error::Invalid("a link target must not be empty or contain NUL"));
        }
        if target.len() > SYMLINK_BYTES_MAX {
            return Err(Error::NameTooLong);
        }
        let kind = FileKind::Symlink;
        let device = DeviceNumber::default();
        let new = NewObject {
            kind,
            set,
            device,
            verifier: None,
            target: Some(target),
        };
        self.make(caller, directory, name, new, None, reply)
    }

    pub(crate) fn mknod(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        special: SpecialFile,
        set: SetAttributes,
        reply: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        let (kind, device) = match special {
            SpecialFile::Fifo => (FileKind::Fifo, DeviceNumber::default()),
            SpecialFile::Socket => (FileKind::Socket, DeviceNumber::default()),
            SpecialFile::BlockDevice(device) => (FileKind::BlockDevice, device),
            SpecialFile::CharacterDevice(device) => (FileKind::CharacterDevice, device),
        };
        let is_device = matches!(kind, FileKind::BlockDevice | FileKind::CharacterDevice);
        if is_device && !caller.is_root() {
            return Err(Error::NotPermitted);
        }
        self.make(
            caller,
            directory,
            name,
            NewObject {
                kind,
                set,
                device,
                verifier: None,
                target: None,
            },
            None,
            reply,
        )
    }

    fn make(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        new: NewObject<'_>,
        exclusive: Option<[u8; 8]>,
        reply: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.require_healthy()?;
        self.require_space()?;
        let mut state = self.state.write();
        let before = self.load_directory(&state, directory)?;
        permission::require(caller, &before, EXECUTE)?;
        check_new_name(name)?;
        if let Some(entry) = self
            .view(&state)
            .entry(directory.inode, name)
            .map_err(metadata_failed)?
        {
            let record = self
                .load_inode(&state, entry.inode)?
                .ok_or_else(|| dangling(entry.inode))?;
            let repeated = exclusive.is_some() && record.verifier == exclusive;
            if !repeated || record.kind != FileKind::Regular {
                return Err(Error::Exists);
            }
            let unchanged = self.change(directory.inode, &before, &before);
            let attributes = self.attributes(entry.inode, &record);
            // The first answer may not have been durable yet when it was lost.
            let commit = self.shared.commits.load(std::sync::atomic::Ordering::SeqCst);
            return Ok(self.after_commit(
                Created {
                    attributes,
                    directory: unchanged,
                },
                commit,
            ));
        }
        permission::require(caller, &before, WRITE)?;
        if new.kind == FileKind::Directory && before.links >= LINKS_MAX {
            return Err(Error::TooManyLinks);
        }
        let now = self.shared.now();
        let record = self.new_record(caller, directory.inode, &before, &new, now)?;
        // Before a number is drawn for it.
        capacity::require_inodes(&state.open, 1)?;
        let after = entry_added(&before, new.kind == FileKind::Directory, now);

        let State {
            open,
            lineage,
            dirty,
            next_inode,
            ..
        } = &mut *state;
        let mut work = Work::new(self, lineage, open.branch.epoch);
        let reserved = open.record.inodes_reserved;
        let inode = Self::draw_inode(open, next_inode, &mut work.transaction);
        work.insert(inode, &record);
        if let Some(target) = new.target {
            work.transaction.insert_link_target(inode, target);
        }
        let entry = DirentRecord {
            name: name.to_vec(),
            inode,
            kind: new.kind,
            cookie: before.next_cookie,
        };
        work.transaction.put_entry(directory.inode, &entry);
        work.put(dirty, directory.inode, &after);
        if let Err(error) = work.require_capacity(open, dirty) {
            open.record.inodes_reserved = reserved;
            return Err(error);
        }
        let created = Created {
            attributes: self.attributes(inode, &record),
            directory: self.change(directory.inode, &before, &after),
        };
        work.record_reply(reply(&created));
        let commit = match work.commit(open, dirty) {
            Ok(commit) => commit,
            Err(error) => {
                // What is not stored is not reserved: else numbers would come again after a restart.
                open.record.inodes_reserved = reserved;
                return Err(error);
            }
        };
        drop(state);
        Ok(self.after_commit(created, commit))
    }

    fn new_record(
        &self,
        caller: &Caller,
        directory: InodeId,
        parent: &InodeRecord,
        new: &NewObject<'_>,
        now: Timestamp,
    ) -> Result<InodeRecord, Error> {
        let (inherited, set_gid) = permission::inherited_group(parent, caller, new.kind);
        let default_mode = match new.kind {
            FileKind::Directory => 0o755,
            FileKind::Symlink => 0o777,
            _ => 0o644,
        };
        let foreign_owner = new.set.uid.is_some_and(|uid| uid != caller.uid);
        let foreign_group = new
            .set
            .gid
            .is_some_and(|gid| gid != inherited && !caller.in_group(gid));
        if (foreign_owner || foreign_group) && !caller.is_root() {
            return Err(Error::NotPermitted);
        }
        let gid = new.set.gid.unwrap_or(inherited);
        let wanted = (new.set.mode.unwrap_or(default_mode) & 0o7777) as u16 | set_gid;
        let size = match new.kind {
            FileKind::Regular => new.set.size.unwrap_or(0),
            FileKind::Directory => DIRECTORY_BYTES,
            FileKind::Symlink => new.target.map_or(0, |target| target.len() as u64),
            _ => 0,
        };
        if size > FILE_BYTES_MAX {
            return Err(Error::FileTooLarge);
        }
        let time = |set: Option<SetTime>| match set {
            Some(SetTime::To(time)) => time,
            Some(SetTime::Now) | None => now,
        };
        Ok(InodeRecord {
            kind: new.kind,
            mode: permission::mode_after_chmod(caller, gid, new.kind, wanted),
            links: if new.kind == FileKind::Directory { 2 } else { 1 },
            uid: new.set.uid.unwrap_or(caller.uid),
            gid,
            generation: u32::from_le_bytes(self.shared.random()),
            size,
            device: new.device,
            accessed: time(new.set.accessed),
            modified: time(new.set.modified),
            changed: now,
            data_version: 1,
            log_sequence: 0,
            used: match new.kind {
                FileKind::Directory | FileKind::Symlink => DIRECTORY_BYTES,
                _ => 0,
            },
            parent: if new.kind == FileKind::Directory {
                directory
            } else {
                InodeId(0)
            },
            next_cookie: cairn_metadata::keyspace::dirent::FIRST_COOKIE,
            entries: 0,
            inline: new.kind == FileKind::Regular,
            verifier: new.verifier,
        })
    }

    pub(crate) fn remove(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        reply: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.take_away(caller, directory, name, false, reply)
    }

    pub(crate) fn rmdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        reply: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        match name {
            b"." => Err(Error::Invalid("'.' cannot be removed")),
            b".." => Err(Error::NotEmpty),
            _ => self.take_away(caller, directory, name, true, reply),
        }
    }

    fn take_away(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        is_rmdir: bool,
        reply: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.require_healthy()?;
        let mut state = self.state.write();
        let before = self.load_directory(&state, directory)?;
        permission::require(caller, &before, EXECUTE)?;
        check_name(name).map_err(|error| match (error, name) {
            (Error::Invalid(_), b"." | b"..") => Error::IsDirectory,
            (error, _) => error,
        })?;
        let entry = self
            .view(&state)
            .entry(directory.inode, name)
            .map_err(metadata_failed)?;
        let entry = entry.ok_or(Error::NotFound)?;
        let record = self
            .load_inode(&state, entry.inode)?
            .ok_or_else(|| dangling(entry.inode))?;
        permission::require(caller, &before, WRITE)?;
        permission::require_sticky(caller, &before, &record)?;
        let is_directory = record.kind == FileKind::Directory;
        match (is_rmdir, is_directory) {
            (true, false) => return Err(Error::NotDirectory),
            (false, true) => return Err(Error::IsDirectory),
            (true, true) if record.entries > 0 => return Err(Error::NotEmpty),
            _ => {}
        }
        let now = self.shared.now();
        let after = entry_removed(&before, is_directory, now);
        let State {
            open, lineage, dirty, ..
        } = &mut *state;
        let mut work = Work::new(self, lineage, open.branch.epoch);
        work.transaction.remove_entry(directory.inode, &entry);
        work.put(dirty, directory.inode, &after);
        drop_link(&mut work, dirty, entry.inode, &record, now);
        let change = self.change(directory.inode, &before, &after);
        work.record_reply(reply(&change));
        let commit = work.commit(open, dirty)?;
        drop(state);
        Ok(self.after_commit(change, commit))
    }

    pub(crate) fn link(
        &self,
        caller: &Caller,
        object: ObjectId,
        directory: ObjectId,
        name: &[u8],
        reply: Record<'_, Linked>,
    ) -> Result<Pending<Linked>, Error> {
        self.require_healthy()?;
        self.require_space()?;
        let mut state = self.state.write();
        let record = self.load(&state, object)?;
        let before = self.load_directory(&state, directory)?;
        if record.kind == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        permission::require(caller, &before, EXECUTE)?;
        check_new_name(name)?;
        if self
            .view(&state)
            .entry(directory.inode, name)
            .map_err(metadata_failed)?
            .is_some()
        {
            return Err(Error::Exists);
        }
        permission::require(caller, &before, WRITE)?;
        if record.links >= LINKS_MAX {
            return Err(Error::TooManyLinks);
        }
        let now = self.shared.now();
        let mut linked = record;
        linked.links += 1;
        linked.changed = next_change(record.changed, now);
        let after = entry_added(&before, false, now);
        let State {
            open, lineage, dirty, ..
        } = &mut *state;
        let mut work = Work::new(self, lineage, open.branch.epoch);
        let entry = DirentRecord {
            name: name.to_vec(),
            inode: object.inode,
            kind: record.kind,
            cookie: before.next_cookie,
        };
        work.transaction.put_entry(directory.inode, &entry);
        work.put(dirty, directory.inode, &after);
        work.put(dirty, object.inode, &linked);
        let outcome = Linked {
            attributes: self.attributes(object.inode, &linked),
            directory: self.change(directory.inode, &before, &after),
        };
        work.record_reply(reply(&outcome));
        let commit = work.commit(open, dirty)?;
        drop(state);
        Ok(self.after_commit(outcome, commit))
    }
}

impl NewObject<'_> {
    fn again(&self) -> Self {
        NewObject {
            kind: self.kind,
            set: self.set,
            device: self.device,
            verifier: self.verifier,
            target: self.target,
        }
    }
}

/// An entry leads to an inode that is not there.
pub(super) fn dangling(inode: InodeId) -> Error {
    Error::Io {
        what: format!("inode {inode} has a name but no attributes"),
        kind: cairn_types::ErrorKind::Corrupt,
    }
}

/// A directory after it got an entry.
pub(super) fn entry_added(before: &InodeRecord, is_directory: bool, now: Timestamp) -> InodeRecord {
    let mut after = *before;
    after.next_cookie += 1;
    after.entries += 1;
    after.links += u32::from(is_directory);
    after.changed = next_change(before.changed, now);
    after.modified = after.changed;
    after
}

/// A directory after it lost an entry.
pub(super) fn entry_removed(before: &InodeRecord, is_directory: bool, now: Timestamp) -> InodeRecord {
    let mut after = *before;
    after.entries = before.entries.saturating_sub(1);
    after.links = before.links.saturating_sub(u32::from(is_directory));
    after.changed = next_change(before.changed, now);
    after.modified = after.changed;
    after
}

/// Takes one name from an inode, and the inode with its last name.
pub(super) fn drop_link(
    work: &mut Work<'_>,
    dirty: &crate::dirty::DirtyFiles,
    inode: InodeId,
    record: &InodeRecord,
    now: Timestamp,
) {
    if record.kind == FileKind::Directory || record.links <= 1 {
        work.remove(dirty, inode, record);
    } else {
        let mut after = *record;
        after.links -= 1;
        after.changed = next_change(record.changed, now);
        work.put(dirty, inode, &after);
    }
}
