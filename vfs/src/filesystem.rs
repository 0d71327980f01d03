//! The file system as protocol crates see it: objects, operations, outcomes.
//!
//! Every method is synchronous and may block on a disk for a read; none waits for a disk to make a change durable (see
//! [`Pending`]). The methods named `*_cached` never block: they answer from memory or say that they cannot.
//!
//! Who may call what is decided here, from the [`Caller`]; which clients may call at all is the protocol's business, by
//! the [`ExportPolicy`] of the volume.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{DeviceNumber, ExportPolicy, FileKind, InodeId, Timestamp, VolumeId};

use crate::{Error, Pending};

/// Names an object for as long as it lives, across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// The volume.
    pub volume: VolumeId,
    /// The inode. Never reused within the volume.
    pub inode: InodeId,
    /// Set when the inode was made; a different one means a different object.
    pub generation: u32,
}

/// On whose behalf a call is made, after squashing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Effective uid. 0 may do everything.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Arc<[u32]>,
}

/// The attributes of an object (RFC 1813 section 2.5, `fattr3`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// The object.
    pub object: ObjectId,
    /// Its type.
    pub kind: FileKind,
    /// Permission bits with set-uid, set-gid and sticky: `0..=0o7777`.
    pub mode: u32,
    /// Hard links.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Bytes of storage in use.
    pub used: u64,
    /// Device, for special files.
    pub device: DeviceNumber,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of the data.
    pub modified: Timestamp,
    /// Last change of data or attributes.
    pub changed: Timestamp,
}

/// The attributes before a change that let a client tell whether anybody else changed the object (`wcc_attr`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Size in bytes.
    pub size: u64,
    /// Last change of the data.
    pub modified: Timestamp,
    /// Last change of data or attributes.
    pub changed: Timestamp,
}

impl From<&Attributes> for Before {
    fn from(attributes: &Attributes) -> Self {
        Before {
            size: attributes.size,
            modified: attributes.modified,
            changed: attributes.changed,
        }
    }
}

/// An object's attributes immediately before and after a change, taken under the same lock (`wcc_data`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub before: Before,
    /// After.
    pub after: Attributes,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The server's current time. Allowed to whoever may write.
    Now,
    /// This time. Allowed to the owner.
    To(Timestamp),
}

/// Attributes to set; `None` leaves one as it is (`sattr3`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttributes {
    /// Permission bits; bits outside `0o7777` are ignored.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size: cut, or extended with a hole. Regular files only.
    pub size: Option<u64>,
    /// Access time.
    pub accessed: Option<SetTime>,
    /// Modification time.
    pub modified: Option<SetTime>,
}

/// How CREATE treats a name that exists (`createhow3`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateMode {
    /// Use the existing regular file, applying only a size that was asked for.
    Unchecked(SetAttributes),
    /// Fail with [`Error::Exists`].
    Guarded(SetAttributes),
    /// Succeed only if this very request made the file before: it carries the same verifier.
    Exclusive([u8; 8]),
}

/// What MKNOD makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialFile {
    /// A named pipe.
    Fifo,
    /// A Unix-domain socket.
    Socket,
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A character device.
    CharacterDevice(DeviceNumber),
}

/// The outcome of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The object found, with its attributes.
    pub attributes: Attributes,
    /// The directory that was searched.
    pub directory: Attributes,
}

/// The outcome of making an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// The object, new or (for [`CreateMode::Unchecked`] and a repeated exclusive create) existing.
    pub attributes: Attributes,
    /// The directory.
    pub directory: Change,
}

/// The outcome of a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renamed {
    /// The directory that the name left.
    pub from: Change,
    /// The directory that it came to.
    pub to: Change,
}

/// The outcome of a new hard link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linked {
    /// The object.
    pub attributes: Attributes,
    /// The directory with the new name.
    pub directory: Change,
}

/// The outcome of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadData {
    /// The bytes, in order, in as many pieces as they came in.
    pub pieces: Vec<Bytes>,
    /// Whether the last byte of the file was reached.
    pub end_of_file: bool,
    /// Attributes after the read.
    pub attributes: Attributes,
}

/// How durable written data must be on return, weakest first (`stable_how`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stability {
    /// May be lost until a commit.
    Unstable,
    /// The data and what is needed to read it back.
    Data,
    /// Data and all attributes.
    File,
}

/// The outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes written: all of them.
    pub count: u32,
    /// The durability that the data has, at least what was asked for.
    pub stability: Stability,
    /// The file.
    pub change: Change,
}

/// One entry of a listing. `.` has cookie 1 and `..` cookie 2; a cookie names the entry, not a position, and stays valid
/// whatever is created or removed meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The inode.
    pub inode: InodeId,
    /// To continue after this entry.
    pub cookie: u64,
    /// The attributes, if they were asked for.
    pub attributes: Option<&'a Attributes>,
}

/// The outcome of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The directory.
    pub directory: Attributes,
    /// Whether the last entry was visited.
    pub end: bool,
}

/// Capacity of the volume (`FSSTAT3resok`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes in all.
    pub bytes_total: u64,
    /// Bytes free.
    pub bytes_free: u64,
    /// Bytes free to ordinary users.
    pub bytes_available: u64,
    /// Inodes in all.
    pub inodes_total: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

/// A volume that clients may mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its path, `/` and the workspace's name.
    pub path: String,
    /// Its volume.
    pub volume: VolumeId,
    /// Who may use it.
    pub policy: Arc<ExportPolicy>,
}

/// The record of an answer, kept with the change itself, so that a retransmitted request is answered and not executed
/// again, even by a later process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyRecord {
    /// Identifies the request: a hash of client, transaction id, procedure, credential and arguments.
    pub key: [u8; 16],
    /// The answer, as the protocol wants it back. At most [`ReplyRecord::BODY_BYTES_MAX`].
    pub body: Bytes,
}

impl ReplyRecord {
    /// Largest body in bytes.
    pub const BODY_BYTES_MAX: usize = 1024;
}

/// Makes the [`ReplyRecord`] from the outcome of a change. It is called under the locks of the change, just before the
/// commit, so that the record and the change are one atomic write. It must not call the file system.
pub type Record<'a, T> = &'a dyn Fn(&T) -> Option<ReplyRecord>;

/// A file system with many volumes. See the module's documentation for what may block.
pub trait FileSystem: Send + Sync + 'static {
    /// All exports, sorted by path.
    fn exports(&self) -> Vec<Export>;

    /// The export of a volume; `None` if the volume is gone.
    fn export(&self, volume: VolumeId) -> Option<Export>;

    /// The directory that a mount of `path` gives, `path` being an export's path or a directory below one.
    /// Errors: `NotFound`, `NotDirectory`.
    fn mount(&self, path: &[u8]) -> Result<Attributes, Error>;

    /// The attributes, from memory or not at all: `None` means ask [`FileSystem::getattr`].
    fn getattr_cached(&self, object: ObjectId) -> Option<Attributes>;

    /// The attributes. Errors: `Stale`.
    fn getattr(&self, object: ObjectId) -> Result<Attributes, Error>;

    /// Sets attributes; with `guard`, only if the object's `changed` time is the guard.
    fn setattr(
        &self,
        caller: &Caller,
        object: ObjectId,
        set: SetAttributes,
        guard: Option<Timestamp>,
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error>;

    /// Finds `name` in `directory`; `.` and `..` are understood, `..` of the root is the root.
    fn lookup(&self, caller: &Caller, directory: ObjectId, name: &[u8]) -> Result<Found, Error>;

    /// As [`FileSystem::lookup`], from memory or not at all.
    fn lookup_cached(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
    ) -> Option<Result<Found, Error>>;

    /// The target of a symbolic link, with its attributes. Errors: `WrongType` if it is none.
    fn readlink(&self, caller: &Caller, object: ObjectId) -> Result<(Bytes, Attributes), Error>;

    /// Reads up to `count` bytes from `offset`. Reading at or beyond the end gives no bytes and `end_of_file`. The owner of
    /// a file may always read it, as an NFS server must allow (RFC 1813 section 4.4).
    fn read(&self, caller: &Caller, object: ObjectId, offset: u64, count: u32) -> Result<ReadData, Error>;

    /// As [`FileSystem::read`], from memory or not at all: `None` means ask that. A file system that cannot tell has
    /// nothing in memory.
    fn read_cached(
        &self,
        _caller: &Caller,
        _object: ObjectId,
        _offset: u64,
        _count: u32,
    ) -> Option<Result<ReadData, Error>> {
        None
    }

    /// Writes all of `data` at `offset`. The owner of a file may always write it.
    fn write(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        data: Bytes,
        stability: Stability,
    ) -> Result<Pending<Written>, Error>;

    /// Makes everything that was written to the object so far durable; `count` 0 means to the end.
    fn commit(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        count: u32,
    ) -> Result<Pending<Change>, Error>;

    /// Changes whenever unstable data may have been lost: per process, and after a failed sync.
    fn write_verifier(&self) -> [u8; 8];

    /// Makes a regular file.
    fn create(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        mode: CreateMode,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error>;

    /// Makes a directory.
    fn mkdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error>;

    /// Makes a symbolic link to `target`, 1 to 4,096 bytes without NUL.
    fn symlink(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        target: &[u8],
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error>;

    /// Makes a special file. Devices need uid 0.
    fn mknod(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        special: SpecialFile,
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error>;

    /// Removes a name that is no directory, and the object with its last name.
    fn remove(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error>;

    /// Removes an empty directory.
    fn rmdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error>;

    /// Renames, replacing what has the new name if POSIX allows it (rename(2)). If both names are links of one inode,
    /// nothing happens, successfully.
    fn rename(
        &self,
        caller: &Caller,
        from: (ObjectId, &[u8]),
        to: (ObjectId, &[u8]),
        record: Record<'_, Renamed>,
    ) -> Result<Pending<Renamed>, Error>;

    /// Gives `object`, which is no directory, another name.
    fn link(
        &self,
        caller: &Caller,
        object: ObjectId,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Linked>,
    ) -> Result<Pending<Linked>, Error>;

    /// Visits the entries after `cookie` (0: from the start, with `.` and `..` first) in the order of their cookies until
    /// `visit` breaks; an entry that `visit` broke on counts as not visited.
    fn readdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        cookie: u64,
        with_attributes: bool,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<Listed, Error>;

    /// Capacity of the volume that holds the object.
    fn capacity(&self, object: ObjectId) -> Result<Capacity, Error>;

    /// The replies recorded with changes of the last minutes, newest last, at most `limit`, to fill a reply cache at
    /// start.
    fn recorded_replies(&self, limit: usize) -> Result<Vec<ReplyRecord>, Error>;
}

/// Largest file size and offset: what a signed 64-bit `off_t` can say.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;
/// Most hard links of one inode.
pub const LINKS_MAX: u32 = 65_000;
/// Longest symbolic link target in bytes.
pub const SYMLINK_BYTES_MAX: usize = 4096;
