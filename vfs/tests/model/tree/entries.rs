//! Names: looking up, making, removing, renaming, linking, listing.

use cairn_types::{InodeId, Timestamp};
use cairn_vfs::filesystem::{
    Attributes, Before, Caller, Change, CreateMode, Created, FILE_BYTES_MAX, Found, LINKS_MAX, Linked,
    ObjectId, Renamed, SYMLINK_BYTES_MAX, SetAttributes, SetTime, SpecialFile,
};

use super::{Body, Contents, Directory, Entry, FIRST_COOKIE, Inode, READ, Tree, WRITE};
use crate::refusal::{Checks, Reason, Refusal};

/// The permission bits of an object that is made without any.
pub const MODE_DEFAULT: u32 = 0o644;

/// `.` and `..` exist already.
const MAKE_DOTS: &[Reason] = &[Reason::Exists, Reason::Invalid, Reason::IsDirectory];
/// RFC 1813 names several codes for removing `.` and `..` (sections 3.3.12 and 3.3.13); POSIX others.
const REMOVE_DOTS: &[Reason] = &[
    Reason::Invalid,
    Reason::NotEmpty,
    Reason::Exists,
    Reason::IsDirectory,
    Reason::NotPermitted,
];

/// One entry of a listing: name, cookie, attributes.
pub type Row = (Vec<u8>, u64, Attributes);

impl Tree {
    pub fn lookup(&self, caller: &Caller, directory: ObjectId, name: &[u8]) -> Result<Found, Refusal> {
        let id = self.resolve(directory)?;
        let found = match name {
            b"." | b".." => {
                let parent = self.directory(id)?.parent;
                let mut checks = Checks::default();
                checks.refuse_if(!self.inode(id).allows(caller, super::EXECUTE), &[Reason::Access]);
                checks.finish()?;
                if name == b"." { id } else { parent }
            }
            _ => self
                .search(caller, directory, name, &[])
                .and_then(|id| self.entry(id, name))?,
        };
        Ok(Found {
            attributes: self.attributes(found),
            directory: self.attributes(id),
        })
    }

    /// Resolves a directory in which `caller` may make `name`, which must not exist.
    fn vacancy(&self, caller: &Caller, directory: ObjectId, name: &[u8]) -> Result<InodeId, Refusal> {
        let id = self.search(caller, directory, name, MAKE_DOTS)?;
        let mut checks = Checks::default();
        checks.refuse_if(self.entry(id, name).is_ok(), &[Reason::Exists]);
        checks.refuse_if(!self.inode(id).allows(caller, WRITE), &[Reason::Access]);
        checks.finish()?;
        Ok(id)
    }

    /// Makes an object and its entry. Its group is the directory's if that has set-gid, else the caller's; a new directory
    /// then gets set-gid too.
    fn make(
        &mut self,
        caller: &Caller,
        directory: InodeId,
        name: &[u8],
        body: Body,
        set: SetAttributes,
        now: Timestamp,
    ) -> Created {
        let before = Before::from(&self.attributes(directory));
        let id = InodeId(self.next_inode);
        self.next_inode += 1;
        let parent = self.inode(directory);
        let inherits = parent.mode & 0o2000 != 0;
        let mut inode = Inode {
            mode: MODE_DEFAULT,
            uid: caller.uid,
            gid: if inherits { parent.gid } else { caller.gid },
            links: if matches!(body, Body::Directory(_)) { 2 } else { 1 },
            accessed: now,
            modified: now,
            changed: now,
            body,
            verifier: None,
        };
        // What the maker asks for belongs to the making: it is no change after it, and takes no set-id bits away.
        inode.uid = set.uid.unwrap_or(inode.uid);
        inode.gid = set.gid.unwrap_or(inode.gid);
        inode.apply(
            caller,
            SetAttributes {
                uid: None,
                gid: None,
                size: None,
                ..set
            },
            now,
        );
        inode.changed = now;
        for (time, asked) in [
            (&mut inode.accessed, set.accessed),
            (&mut inode.modified, set.modified),
        ] {
            if !matches!(asked, Some(SetTime::To(_))) {
                *time = now;
            }
        }
        if let (Some(size), Body::Regular(contents)) = (set.size, &mut inode.body) {
            contents.resize(size);
        }
        if inherits && inode.is_directory() {
            inode.mode |= 0o2000;
        }
        let is_directory = inode.is_directory();
        self.inodes.insert(id, inode);
        self.enter(directory, name, id);
        if is_directory {
            self.inode_mut(directory).links += 1;
        }
        self.inode_mut(directory).touch_data(now);
        let change = Change {
            before,
            after: self.attributes(directory),
        };
        Created {
            attributes: self.attributes(id),
            directory: change,
        }
    }

    /// Adds an entry under a cookie that the directory has not used yet.
    fn enter(&mut self, directory: InodeId, name: &[u8], inode: InodeId) {
        let entries = self.entries_mut(directory);
        let cookie = entries.next_cookie;
        entries.next_cookie += 1;
        entries.entries.insert(name.to_vec(), Entry { inode, cookie });
    }

    /// An unchecked create uses a regular file that exists and applies nothing but a size to it, which needs write
    /// permission on the file; an exclusive one only if the file's verifier is its own.
    pub fn create(
        &mut self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        mode: CreateMode,
        now: Timestamp,
    ) -> Result<Created, Refusal> {
        let dir = self.search(caller, directory, name, MAKE_DOTS)?;
        if let Ok(existing) = self.entry(dir, name) {
            let inode = self.inode(existing);
            let usable = match mode {
                CreateMode::Guarded(_) => return Err(Reason::Exists.into()),
                CreateMode::Exclusive(verifier) => inode.verifier == Some(verifier),
                CreateMode::Unchecked(_) => matches!(inode.body, Body::Regular(_)),
            };
            if !usable {
                let mut reasons = vec![Reason::Exists];
                if matches!(mode, CreateMode::Unchecked(_)) {
                    let kind = if inode.is_directory() {
                        Reason::IsDirectory
                    } else {
                        Reason::WrongType
                    };
                    reasons.extend([kind, Reason::Invalid]);
                }
                return Err(Refusal(reasons));
            }
            if let CreateMode::Unchecked(SetAttributes { size: Some(size), .. }) = mode {
                let size = SetAttributes {
                    size: Some(size),
                    ..SetAttributes::default()
                };
                self.setattr(caller, self.object(existing), size, None, now)?;
            }
            let attributes = self.attributes(dir);
            let change = Change {
                before: Before::from(&attributes),
                after: attributes,
            };
            return Ok(Created {
                attributes: self.attributes(existing),
                directory: change,
            });
        }
        let dir = self.vacancy(caller, directory, name)?;
        let (set, verifier) = match mode {
            CreateMode::Unchecked(set) | CreateMode::Guarded(set) => (set, None),
            CreateMode::Exclusive(verifier) => (SetAttributes::default(), Some(verifier)),
        };
        if set.size.is_some_and(|size| size > FILE_BYTES_MAX) {
            return Err(Reason::FileTooLarge.into());
        }
        let created = self.make(caller, dir, name, Body::Regular(Contents::default()), set, now);
        self.inode_mut(created.attributes.object.inode).verifier = verifier;
        Ok(created)
    }

    pub fn mkdir(
        &mut self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        set: SetAttributes,
        now: Timestamp,
    ) -> Result<Created, Refusal> {
        let parent = self.vacancy(caller, directory, name)?;
        if self.inode(parent).links >= LINKS_MAX {
            return Err(Reason::TooManyLinks.into());
        }
        let body = Directory {
            parent,
            entries: Default::default(),
            next_cookie: FIRST_COOKIE,
        };
        Ok(self.make(caller, parent, name, Body::Directory(body), set, now))
    }

    /// The target is 1 to 4,096 bytes without NUL.
    pub fn symlink(
        &mut self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        target: &[u8],
        set: SetAttributes,
        now: Timestamp,
    ) -> Result<Created, Refusal> {
        let mut checks = Checks::default();
        checks.refuse_if(target.is_empty(), &[Reason::Invalid, Reason::NotFound]);
        checks.refuse_if(
            target.len() > SYMLINK_BYTES_MAX,
            &[Reason::NameTooLong, Reason::Invalid],
        );
        checks.refuse_if(target.contains(&0), &[Reason::Invalid]);
        let id = match (self.vacancy(caller, directory, name), checks.finish()) {
            (Ok(id), Ok(())) => id,
            (Err(mut refusal), Err(more)) => {
                refusal.0.extend(more.0);
                return Err(refusal);
            }
            (Err(refusal), Ok(())) | (Ok(_), Err(refusal)) => return Err(refusal),
        };
        Ok(self.make(caller, id, name, Body::Symlink(target.to_vec()), set, now))
    }

    /// Devices are for uid 0.
    pub fn mknod(
        &mut self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        special: SpecialFile,
        set: SetAttributes,
        now: Timestamp,
    ) -> Result<Created, Refusal> {
        let device = matches!(
            special,
            SpecialFile::BlockDevice(_) | SpecialFile::CharacterDevice(_)
        );
        let forbidden = device && caller.uid != 0;
        match self.vacancy(caller, directory, name) {
            Ok(_) if forbidden => Err(Reason::NotPermitted.into()),
            Ok(id) => Ok(self.make(caller, id, name, Body::Special(special), set, now)),
            Err(mut refusal) => {
                refusal.0.extend(forbidden.then_some(Reason::NotPermitted));
                Err(refusal)
            }
        }
    }

    /// Checks whether `caller` may take `object`'s name out of `directory`.
    fn may_leave(&self, checks: &mut Checks, caller: &Caller, directory: InodeId, object: InodeId) {
        let (directory, object) = (self.inode(directory), self.inode(object));
        checks.refuse_if(!directory.allows(caller, WRITE), &[Reason::Access]);
        let sticky = directory.mode & 0o1000 != 0;
        let owner = directory.owned_by(caller) || object.owned_by(caller);
        checks.refuse_if(sticky && !owner, &[Reason::NotPermitted, Reason::Access]);
    }

    /// Takes one name of an object away, and the object with its last.
    fn unname(&mut self, id: InodeId, now: Timestamp) {
        let inode = self.inode_mut(id);
        if inode.is_directory() || inode.links == 1 {
            self.inodes.remove(&id);
        } else {
            inode.links -= 1;
            inode.touch(now);
        }
    }

    pub fn remove(
        &mut self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Change, Refusal> {
        let dir = self.search(caller, directory, name, REMOVE_DOTS)?;
        let object = self.entry(dir, name)?;
        let mut checks = Checks::default();
        checks.refuse_if(
            self.inode(object).is_directory(),
            &[Reason::IsDirectory, Reason::NotPermitted],
        );
        self.may_leave(&mut checks, caller, dir, object);
        checks.finish()?;
        let before = Before::from(&self.attributes(dir));
        self.entries_mut(dir).entries.remove(name);
        self.unname(object, now);
        self.inode_mut(dir).touch_data(now);
        Ok(Change {
            before,
            after: self.attributes(dir),
        })
    }

    pub fn rmdir(
        &mut self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Change, Refusal> {
        let dir = self.search(caller, directory, name, REMOVE_DOTS)?;
        let object = self.entry(dir, name)?;
        let mut checks = Checks::default();
        match self.directory(object) {
            Ok(directory) => {
                checks.refuse_if(!directory.entries.is_empty(), &[Reason::NotEmpty, Reason::Exists]);
            }
            Err(_) => checks.refuse_if(true, &[Reason::NotDirectory]),
        }
        self.may_leave(&mut checks, caller, dir, object);
        checks.finish()?;
        let before = Before::from(&self.attributes(dir));
        self.entries_mut(dir).entries.remove(name);
        self.unname(object, now);
        self.inode_mut(dir).links -= 1;
        self.inode_mut(dir).touch_data(now);
        Ok(Change {
            before,
            after: self.attributes(dir),
        })
    }

    /// A file replaces what is no directory, a directory an empty directory; two names of one inode stay as they are; a
    /// directory does not go below itself.
    pub fn rename(
        &mut self,
        caller: &Caller,
        from: (ObjectId, &[u8]),
        to: (ObjectId, &[u8]),
        now: Timestamp,
    ) -> Result<Renamed, Refusal> {
        let left = self.search(caller, from.0, from.1, REMOVE_DOTS);
        let right = self.search(caller, to.0, to.1, REMOVE_DOTS);
        let (from_dir, to_dir) = match (left, right) {
            (Ok(from), Ok(to)) => (from, to),
            (Err(mut refusal), Err(more)) => {
                refusal.0.extend(more.0);
                return Err(refusal);
            }
            // What is wrong with the source may be found first.
            (Ok(from_dir), Err(mut refusal)) => {
                refusal
                    .0
                    .extend(self.entry(from_dir, from.1).is_err().then_some(Reason::NotFound));
                return Err(refusal);
            }
            (Err(refusal), Ok(_)) => return Err(refusal),
        };
        let object = self.entry(from_dir, from.1)?;
        let replaced = self.entry(to_dir, to.1).ok();
        let before = (
            Before::from(&self.attributes(from_dir)),
            Before::from(&self.attributes(to_dir)),
        );
        if replaced != Some(object) {
            self.may_rename(caller, object, from_dir, to_dir, replaced)?;
            let is_directory = self.inode(object).is_directory();
            self.entries_mut(from_dir).entries.remove(from.1);
            if let Some(replaced) = replaced {
                self.entries_mut(to_dir).entries.remove(to.1);
                self.unname(replaced, now);
                self.inode_mut(to_dir).links -= u32::from(is_directory);
            }
            self.enter(to_dir, to.1, object);
            if is_directory {
                self.entries_mut(object).parent = to_dir;
                self.inode_mut(from_dir).links -= 1;
                self.inode_mut(to_dir).links += 1;
            }
            self.inode_mut(object).touch(now);
            self.inode_mut(from_dir).touch_data(now);
            if to_dir != from_dir {
                self.inode_mut(to_dir).touch_data(now);
            }
        }
        Ok(Renamed {
            from: Change {
                before: before.0,
                after: self.attributes(from_dir),
            },
            to: Change {
                before: before.1,
                after: self.attributes(to_dir),
            },
        })
    }

    fn may_rename(
        &self,
        caller: &Caller,
        object: InodeId,
        from: InodeId,
        to: InodeId,
        replaced: Option<InodeId>,
    ) -> Result<(), Refusal> {
        let is_directory = self.inode(object).is_directory();
        let mut checks = Checks::default();
        checks.refuse_if(is_directory && self.is_below(to, object), &[Reason::Invalid]);
        self.may_leave(&mut checks, caller, from, object);
        checks.refuse_if(!self.inode(to).allows(caller, WRITE), &[Reason::Access]);
        if let Some(replaced) = replaced {
            self.may_leave(&mut checks, caller, to, replaced);
            match (is_directory, self.directory(replaced)) {
                (true, Err(_)) => checks.refuse_if(true, &[Reason::NotDirectory, Reason::Exists]),
                (false, Ok(_)) => checks.refuse_if(true, &[Reason::IsDirectory, Reason::Exists]),
                (_, Ok(directory)) => {
                    checks.refuse_if(!directory.entries.is_empty(), &[Reason::NotEmpty, Reason::Exists]);
                }
                (false, Err(_)) => {}
            }
        }
        let full = self.inode(to).links >= LINKS_MAX;
        checks.refuse_if(
            is_directory && from != to && replaced.is_none() && full,
            &[Reason::TooManyLinks],
        );
        checks.finish()
    }

    pub fn link(
        &mut self,
        caller: &Caller,
        object: ObjectId,
        directory: ObjectId,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Linked, Refusal> {
        let id = self.resolve(object)?;
        let mut checks = Checks::default();
        let inode = self.inode(id);
        checks.refuse_if(
            inode.is_directory(),
            &[
                Reason::IsDirectory,
                Reason::NotPermitted,
                Reason::Invalid,
                Reason::WrongType,
            ],
        );
        checks.refuse_if(
            !inode.is_directory() && inode.links >= LINKS_MAX,
            &[Reason::TooManyLinks],
        );
        let dir = match (self.vacancy(caller, directory, name), checks.finish()) {
            (Ok(dir), Ok(())) => dir,
            (Err(mut refusal), Err(more)) => {
                refusal.0.extend(more.0);
                return Err(refusal);
            }
            (Err(refusal), Ok(())) | (Ok(_), Err(refusal)) => return Err(refusal),
        };
        let before = Before::from(&self.attributes(dir));
        self.enter(dir, name, id);
        let inode = self.inode_mut(id);
        inode.links += 1;
        inode.touch(now);
        self.inode_mut(dir).touch_data(now);
        let change = Change {
            before,
            after: self.attributes(dir),
        };
        Ok(Linked {
            attributes: self.attributes(id),
            directory: change,
        })
    }

    /// All entries in the order of their cookies, `.` and `..` first, and the directory's attributes.
    pub fn list(&self, caller: &Caller, directory: ObjectId) -> Result<(Vec<Row>, Attributes), Refusal> {
        let id = self.resolve(directory)?;
        let entries = self.directory(id)?;
        if !self.inode(id).allows(caller, READ) {
            return Err(Reason::Access.into());
        }
        let mut rows = vec![
            (b".".to_vec(), 1, self.attributes(id)),
            (b"..".to_vec(), 2, self.attributes(entries.parent)),
        ];
        let named =
            |(name, entry): (&Vec<u8>, &Entry)| (name.clone(), entry.cookie, self.attributes(entry.inode));
        rows.extend(entries.entries.iter().map(named));
        rows.sort_by_key(|(_, cookie, _)| *cookie);
        Ok((rows, self.attributes(id)))
    }
}
