//! The tree of one volume, and the rules that all operations share.
//!
//! Nothing here is clever: inodes are a map, a directory is a map, a state is saved by cloning it. The rules:
//!
//! - **Objects.** An inode number is never given out twice in a volume, not even after a restore. An object whose last
//!   name is gone is stale: there is no open file in this interface that could keep it.
//! - **Permission.** Exactly one class of mode bits counts: the owner's, else the group's (primary or supplementary), else
//!   the others'. uid 0 passes every check. The owner of a regular file may always read and write it, and who may execute
//!   it may read it (RFC 1813 section 4.4). Any use of a name in a directory needs search permission there; making or
//!   removing a name needs write permission too; in a sticky directory only the owner of the object or of the directory
//!   may remove or rename (XBD 4.5, `S_ISVTX`). Listing needs read permission.
//! - **Times.** A change takes one time from the clock. `changed` always grows: if the clock has not moved since the last
//!   change, it is the old value plus a nanosecond. Reading never changes `accessed`. Making an object sets all three
//!   times; a directory whose entries change gets `modified` and `changed`; an object whose names change gets `changed`.
//! - **Set-id bits.** When somebody other than uid 0 changes the data or the owner of a regular file, set-uid goes, and
//!   set-gid goes if the group may execute (without that it is no privilege; System V used it for mandatory locks).
//! - **Links.** A directory has two links and one for each directory in it.
//! - **Names.** 1 to 255 bytes without `/` and NUL; `.` and `..` can be looked up and never made or removed.

mod attributes;
pub mod difference;
mod entries;

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_types::{DeviceNumber, FileKind, FileName, FileNameError, InodeId, Timestamp, VolumeId};
use cairn_vfs::filesystem::{Attributes, Caller, ObjectId, SpecialFile};

use crate::refusal::{Checks, Reason, Refusal};

/// Permission to read.
pub const READ: u32 = 4;
/// Permission to write, or to change entries.
pub const WRITE: u32 = 2;
/// Permission to execute, or to search.
pub const EXECUTE: u32 = 1;

/// Cookies of `.` and `..` come before this one.
pub const FIRST_COOKIE: u64 = 3;

/// A file's bytes: `written`, then zeros up to `size`. So that a file of 2^63-1 bytes fits in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    pub written: Arc<Vec<u8>>,
    pub size: u64,
}

impl Contents {
    /// Up to `count` bytes from `offset` on.
    pub fn read(&self, offset: u64, count: u64) -> Vec<u8> {
        let count = count.min(self.size.saturating_sub(offset));
        let written = self.written.len() as u64;
        let (start, end) = (offset.min(written), (offset + count).min(written));
        let mut bytes = self.written[start as usize..end as usize].to_vec();
        bytes.resize(count as usize, 0);
        bytes
    }

    /// Puts `data` at `offset`.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let (start, end) = (offset as usize, offset as usize + data.len());
        let written = Arc::make_mut(&mut self.written);
        if written.len() < end {
            written.resize(end, 0);
        }
        written[start..end].copy_from_slice(data);
        self.size = self.size.max(end as u64);
    }

    /// Cuts, or extends with zeros.
    pub fn resize(&mut self, size: u64) {
        if size < self.written.len() as u64 {
            Arc::make_mut(&mut self.written).truncate(size as usize);
        }
        self.size = size;
    }

    /// Whether the bytes are the same, wherever `written` ends.
    pub fn same_bytes(&self, other: &Contents) -> bool {
        let common = self.written.len().min(other.written.len());
        self.size == other.size
            && self.written[..common] == other.written[..common]
            && self.written[common..]
                .iter()
                .chain(&other.written[common..])
                .all(|byte| *byte == 0)
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub inode: InodeId,
    pub cookie: u64,
}

/// A directory's entries, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    pub parent: InodeId,
    pub entries: BTreeMap<Vec<u8>, Entry>,
    pub next_cookie: u64,
}

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Regular(Contents),
    Directory(Directory),
    Symlink(Vec<u8>),
    Special(SpecialFile),
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub body: Body,
    /// Of the exclusive create that made it.
    pub verifier: Option<[u8; 8]>,
}

impl Inode {
    pub fn kind(&self) -> FileKind {
        match &self.body {
            Body::Regular(_) => FileKind::Regular,
            Body::Directory(_) => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
            Body::Special(SpecialFile::Fifo) => FileKind::Fifo,
            Body::Special(SpecialFile::Socket) => FileKind::Socket,
            Body::Special(SpecialFile::BlockDevice(_)) => FileKind::BlockDevice,
            Body::Special(SpecialFile::CharacterDevice(_)) => FileKind::CharacterDevice,
        }
    }

    /// Size in bytes; a directory's is for each implementation to choose, and 0 here.
    pub fn size(&self) -> u64 {
        match &self.body {
            Body::Regular(contents) => contents.size,
            Body::Symlink(target) => target.len() as u64,
            Body::Directory(_) | Body::Special(_) => 0,
        }
    }

    pub fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory(_))
    }

    /// Whether the mode bits give `caller` all of `wanted`.
    pub fn allows(&self, caller: &Caller, wanted: u32) -> bool {
        let bits = if caller.uid == 0 {
            READ | WRITE | EXECUTE
        } else if caller.uid == self.uid {
            self.mode >> 6
        } else if in_group(caller, self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        bits & wanted == wanted
    }

    /// Whether `caller` is its owner or uid 0.
    pub fn owned_by(&self, caller: &Caller) -> bool {
        caller.uid == 0 || caller.uid == self.uid
    }

    /// Marks a change of attributes or names at `now`.
    pub fn touch(&mut self, now: Timestamp) {
        self.changed = now.max(self.changed.successor());
    }

    /// Marks a change of data or entries at `now`.
    pub fn touch_data(&mut self, now: Timestamp) {
        self.touch(now);
        self.modified = self.changed;
    }

    /// Takes the set-id bits away, as a change of data or owner by `caller` does.
    pub fn strip_set_id(&mut self, caller: &Caller) {
        if caller.uid != 0 && matches!(self.body, Body::Regular(_)) {
            self.mode &= !0o4000;
            if self.mode & 0o010 != 0 {
                self.mode &= !0o2000;
            }
        }
    }
}

/// Whether `gid` is one of the caller's groups.
pub fn in_group(caller: &Caller, gid: u32) -> bool {
    caller.gid == gid || caller.groups.contains(&gid)
}

/// A state of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    pub volume: VolumeId,
    pub inodes: BTreeMap<InodeId, Inode>,
    pub next_inode: u64,
}

impl Tree {
    /// A volume with nothing but its root directory.
    pub fn new(volume: VolumeId, uid: u32, gid: u32, mode: u32, now: Timestamp) -> Self {
        let body = Body::Directory(Directory {
            parent: InodeId::ROOT,
            entries: BTreeMap::new(),
            next_cookie: FIRST_COOKIE,
        });
        let root = Inode {
            mode,
            uid,
            gid,
            links: 2,
            accessed: now,
            modified: now,
            changed: now,
            body,
            verifier: None,
        };
        Tree {
            volume,
            inodes: BTreeMap::from([(InodeId::ROOT, root)]),
            next_inode: InodeId::ROOT.0 + 1,
        }
    }

    /// The handle of an inode.
    pub fn object(&self, inode: InodeId) -> ObjectId {
        ObjectId {
            volume: self.volume,
            inode,
            generation: 0,
        }
    }

    /// The inode that a handle names.
    pub fn resolve(&self, object: ObjectId) -> Result<InodeId, Refusal> {
        if object.volume == self.volume && self.inodes.contains_key(&object.inode) {
            Ok(object.inode)
        } else {
            Err(Reason::Stale.into())
        }
    }

    /// An inode that is known to exist.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[&id]
    }

    /// As [`Tree::inode`], to be changed.
    pub fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        self.inodes
            .get_mut(&id)
            .expect("the caller resolved the inode in this tree")
    }

    /// The attributes of an inode that is known to exist.
    pub fn attributes(&self, id: InodeId) -> Attributes {
        let inode = self.inode(id);
        let device = match inode.body {
            Body::Special(SpecialFile::BlockDevice(device) | SpecialFile::CharacterDevice(device)) => device,
            _ => DeviceNumber::default(),
        };
        Attributes {
            object: self.object(id),
            kind: inode.kind(),
            mode: inode.mode,
            links: inode.links,
            uid: inode.uid,
            gid: inode.gid,
            size: inode.size(),
            used: 0,
            device,
            accessed: inode.accessed,
            modified: inode.modified,
            changed: inode.changed,
        }
    }

    /// The entries of a directory.
    pub fn directory(&self, id: InodeId) -> Result<&Directory, Refusal> {
        match &self.inode(id).body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Reason::NotDirectory.into()),
        }
    }

    /// The entries of what is known to be a directory, to be changed.
    pub fn entries_mut(&mut self, id: InodeId) -> &mut Directory {
        match &mut self.inode_mut(id).body {
            Body::Directory(directory) => directory,
            _ => unreachable!("the caller has checked that the inode is a directory"),
        }
    }

    /// Resolves a directory in which `caller` wants to use `name`, which must be a name that an entry can have.
    /// `dots` are the answers to `.` and `..`.
    pub fn search(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        dots: &[Reason],
    ) -> Result<InodeId, Refusal> {
        let mut checks = Checks::default();
        match FileName::new(name) {
            Ok(_) => {}
            Err(FileNameError::Empty) => checks.refuse_if(true, &[Reason::Invalid, Reason::NotFound]),
            Err(FileNameError::TooLong { .. }) => checks.refuse_if(true, &[Reason::NameTooLong]),
            Err(FileNameError::ForbiddenByte) => checks.refuse_if(true, &[Reason::Invalid, Reason::Access]),
            Err(FileNameError::DotOrDotDot) => checks.refuse_if(true, dots),
        }
        match self.resolve(directory) {
            Err(_) => checks.refuse_if(true, &[Reason::Stale]),
            Ok(id) => {
                checks.refuse_if(self.directory(id).is_err(), &[Reason::NotDirectory]);
                let searchable = self.inode(id).allows(caller, EXECUTE);
                let writable = self.inode(id).allows(caller, WRITE);
                let dot = matches!(name, b"." | b"..");
                checks.refuse_if(!searchable || dot && !writable, &[Reason::Access]);
            }
        }
        checks.finish()?;
        self.resolve(directory)
    }

    /// The inode that an entry names.
    pub fn entry(&self, directory: InodeId, name: &[u8]) -> Result<InodeId, Refusal> {
        match self.directory(directory)?.entries.get(name) {
            Some(entry) => Ok(entry.inode),
            None => Err(Reason::NotFound.into()),
        }
    }

    /// Whether `descendant` is `ancestor` or lies below it.
    pub fn is_below(&self, descendant: InodeId, ancestor: InodeId) -> bool {
        let mut at = descendant;
        loop {
            if at == ancestor {
                return true;
            }
            match &self.inode(at).body {
                Body::Directory(directory) if at != InodeId::ROOT => at = directory.parent,
                _ => return false,
            }
        }
    }

    /// Sum of the sizes of the regular files.
    pub fn bytes(&self) -> u64 {
        let regular = |inode: &Inode| match &inode.body {
            Body::Regular(contents) => contents.size,
            _ => 0,
        };
        self.inodes.values().map(regular).fold(0, u64::saturating_add)
    }

    /// The inode at a path from the root, if there is one.
    pub fn walk(&self, path: &[u8]) -> Result<InodeId, Refusal> {
        let components = path
            .split(|byte| *byte == b'/')
            .filter(|component| !component.is_empty());
        let mut at = InodeId::ROOT;
        for component in components {
            at = self.entry(at, component)?;
        }
        Ok(at)
    }
}
