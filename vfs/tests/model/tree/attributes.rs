//! Attributes and data of single objects.

use cairn_types::Timestamp;
use cairn_vfs::filesystem::{
    Attributes, Before, Caller, Change, FILE_BYTES_MAX, ObjectId, SetAttributes, SetTime, Stability, Written,
};

use super::{Body, Contents, EXECUTE, Inode, READ, Tree, WRITE, in_group};
use crate::refusal::{Checks, Reason, Refusal};

/// What a read gives: the bytes, whether the end was reached, the attributes.
pub type ReadOutcome = (Vec<u8>, bool, Attributes);

/// The answers to a data operation on what has no data.
fn no_data(inode: &Inode) -> &'static [Reason] {
    match &inode.body {
        Body::Regular(_) => &[],
        Body::Directory(_) => &[Reason::IsDirectory, Reason::WrongType, Reason::Invalid],
        Body::Symlink(_) | Body::Special(_) => &[Reason::WrongType, Reason::Invalid],
    }
}

impl Tree {
    /// Mode: owner; set-gid of a file is dropped if the caller is not in its group. Owner: uid 0, or no change by the owner. Group:
    /// the owner, to one of his groups. Size: regular files, with write permission; to the same size is a change too.
    /// Times: a given one the owner, the present one also with write permission. Nothing to set changes nothing.
    pub fn setattr(
        &mut self,
        caller: &Caller,
        object: ObjectId,
        set: SetAttributes,
        guard: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Change, Refusal> {
        let id = self.resolve(object)?;
        let inode = self.inode(id);
        let (root, owner) = (caller.uid == 0, inode.owned_by(caller));
        let writer = owner || inode.allows(caller, WRITE);
        let mut checks = Checks::default();
        checks.refuse_if(
            guard.is_some_and(|guard| guard != inode.changed),
            &[Reason::GuardFailed],
        );
        checks.refuse_if(set.mode.is_some() && !owner, &[Reason::NotPermitted]);
        if let Some(uid) = set.uid {
            checks.refuse_if(!(root || owner && uid == inode.uid), &[Reason::NotPermitted]);
        }
        if let Some(gid) = set.gid {
            let own = owner && (gid == inode.gid || in_group(caller, gid));
            checks.refuse_if(!root && !own, &[Reason::NotPermitted]);
        }
        if let Some(size) = set.size {
            checks.refuse_if(!matches!(inode.body, Body::Regular(_)), no_data(inode));
            checks.refuse_if(!writer, &[Reason::Access]);
            checks.refuse_if(size > FILE_BYTES_MAX, &[Reason::FileTooLarge]);
        }
        for time in [set.accessed, set.modified].into_iter().flatten() {
            match time {
                SetTime::To(_) => checks.refuse_if(!owner, &[Reason::NotPermitted]),
                SetTime::Now => checks.refuse_if(!writer, &[Reason::Access, Reason::NotPermitted]),
            }
        }
        checks.finish()?;

        let before = Before::from(&self.attributes(id));
        if set != SetAttributes::default() {
            self.inode_mut(id).apply(caller, set, now);
        }
        Ok(Change {
            before,
            after: self.attributes(id),
        })
    }

    pub fn read(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        count: u32,
    ) -> Result<ReadOutcome, Refusal> {
        let id = self.resolve(object)?;
        let inode = self.inode(id);
        let mut checks = Checks::default();
        let allowed = inode.owned_by(caller) || inode.allows(caller, READ) || inode.allows(caller, EXECUTE);
        checks.refuse_if(!allowed, &[Reason::Access]);
        checks.refuse_if(!matches!(inode.body, Body::Regular(_)), no_data(inode));
        checks.finish()?;
        let bytes = self.contents(id).read(offset, u64::from(count));
        let end = offset.saturating_add(bytes.len() as u64) >= inode.size();
        Ok((bytes, end, self.attributes(id)))
    }

    /// Writing no bytes changes nothing (XSH, `write`), whatever the offset.
    pub fn write(
        &mut self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        data: &[u8],
        stability: Stability,
        now: Timestamp,
    ) -> Result<Written, Refusal> {
        let mut checks = Checks::default();
        let end = offset.checked_add(data.len() as u64);
        checks.refuse_if(
            end.is_none_or(|end| end > FILE_BYTES_MAX),
            &[Reason::FileTooLarge],
        );
        match self.resolve(object).map(|id| self.inode(id)) {
            Err(_) => checks.refuse_if(true, &[Reason::Stale]),
            Ok(inode) => {
                let allowed = inode.owned_by(caller) || inode.allows(caller, WRITE);
                checks.refuse_if(!allowed, &[Reason::Access]);
                checks.refuse_if(!matches!(inode.body, Body::Regular(_)), no_data(inode));
            }
        }
        checks.finish()?;
        let id = self.resolve(object)?;
        let before = Before::from(&self.attributes(id));
        if !data.is_empty() {
            let inode = self.inode_mut(id);
            inode.contents_mut().write(offset, data);
            inode.strip_set_id(caller);
            inode.touch_data(now);
        }
        let change = Change {
            before,
            after: self.attributes(id),
        };
        Ok(Written {
            count: data.len() as u32,
            stability,
            change,
        })
    }

    /// Changes nothing that can be seen.
    pub fn commit(&self, object: ObjectId) -> Result<Change, Refusal> {
        let id = self.resolve(object)?;
        let attributes = self.attributes(id);
        Ok(Change {
            before: Before::from(&attributes),
            after: attributes,
        })
    }

    pub fn readlink(&self, object: ObjectId) -> Result<(Vec<u8>, Attributes), Refusal> {
        let id = self.resolve(object)?;
        match &self.inode(id).body {
            Body::Symlink(target) => Ok((target.clone(), self.attributes(id))),
            _ => Err(Refusal(vec![Reason::WrongType, Reason::Invalid])),
        }
    }

    /// The bytes of what is known to be a regular file.
    pub fn contents(&self, id: cairn_types::InodeId) -> &Contents {
        match &self.inode(id).body {
            Body::Regular(contents) => contents,
            _ => unreachable!("the caller has checked that the inode is a regular file"),
        }
    }
}

impl Inode {
    /// The bytes of what is known to be a regular file, to be changed.
    pub fn contents_mut(&mut self) -> &mut Contents {
        match &mut self.body {
            Body::Regular(contents) => contents,
            _ => unreachable!("the caller has checked that the inode is a regular file"),
        }
    }

    /// Sets attributes that the caller may set.
    pub fn apply(&mut self, caller: &Caller, set: SetAttributes, now: Timestamp) {
        if set.uid.is_some() || set.gid.is_some() {
            self.uid = set.uid.unwrap_or(self.uid);
            self.gid = set.gid.unwrap_or(self.gid);
            self.strip_set_id(caller);
        }
        if let Some(mode) = set.mode {
            self.mode = mode & 0o7777;
            if caller.uid != 0 && !in_group(caller, self.gid) && !self.is_directory() {
                self.mode &= !0o2000;
            }
        }
        self.touch(now);
        if let Some(size) = set.size {
            self.contents_mut().resize(size);
            self.strip_set_id(caller);
            self.modified = self.changed;
        }
        let stamp = self.changed;
        let resolve = |time: SetTime| match time {
            SetTime::Now => stamp,
            SetTime::To(time) => time,
        };
        self.accessed = set.accessed.map_or(self.accessed, resolve);
        self.modified = set.modified.map_or(self.modified, resolve);
    }
}
