//! The requests of the kernel (linux/fuse.h), answered from a tree.
//!
//! Nothing changes, so the kernel may keep everything that it is told: entries, missing names, attributes, data, listings. Files and directories are
//! not opened here; where the kernel allows it, it does not even ask. Whatever would write is refused (EROFS), also if somebody remounts the file
//! system for writing.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cairn_types::{DeviceNumber, FileKind, InodeId, Timestamp};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents,
    PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use crate::errno::errno;
use crate::tree::{Attributes, Detail, Listed, Seek, Taken, Tree, TreeError};

/// How long the kernel may keep what it is told: nothing ever changes.
const KEEP: Duration = Duration::from_secs(365 * 24 * 3600);
/// Most bytes of one read. The kernel never asks for more, having been told so.
const READ_BYTES_MAX: u32 = 1 << 20;
/// Inodes whose failures are remembered, so that each is logged once.
const REPORTED_MAX: usize = 4096;
/// Block size that is told, in bytes.
const BLOCK_BYTES: u32 = 4096;
/// The unit of the numbers of blocks of an inode, in bytes (stat(2)).
const ALLOCATION_UNIT: u64 = 512;
/// Longest name, in bytes.
const NAME_BYTES_MAX: u32 = 255;
/// Where listings begin: `.` and `..` come before the entries of the tree.
const DOTS: u64 = 2;
/// lseek(2).
const SEEK_DATA: i32 = 3;
/// lseek(2).
const SEEK_HOLE: i32 = 4;

/// Takes an entry: its name, inode, type, the offset of what comes after it, and its attributes if they were asked for.
type Give<'a> = &'a mut dyn FnMut(&[u8], InodeId, FileKind, u64, Option<Attributes>) -> Taken;

/// A tree as the kernel asks for it.
pub(crate) struct ReadOnly<T> {
    tree: Arc<T>,
    /// Whether the kernel lives without opening files, and directories.
    unopened: (bool, bool),
    reported: Mutex<HashSet<u64>>,
    /// Called at the end, once.
    ended: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl<T: Tree> ReadOnly<T> {
    pub fn new(tree: Arc<T>, ended: Box<dyn FnOnce() + Send + Sync>) -> Self {
        ReadOnly {
            tree,
            unopened: (false, false),
            reported: Mutex::default(),
            ended: Some(ended),
        }
    }

    /// The errno of an error. What a person must look at is logged, of every inode once.
    fn failed(&self, inode: INodeNo, error: &TreeError) -> Errno {
        if let TreeError::Failed { source, .. } = error {
            let mut reported = self.reported.lock();
            if reported.len() >= REPORTED_MAX {
                reported.clear();
            }
            if reported.insert(inode.0) {
                drop(reported);
                let mut cause = source.to_string();
                let mut below = source.source();
                while let Some(error) = below {
                    cause.push_str(": ");
                    cause.push_str(&error.to_string());
                    below = error.source();
                }
                tracing::error!("{error}: {cause}");
            }
        }
        errno(error)
    }

    fn attributes_of(&self, inode: INodeNo) -> Result<FileAttr, Errno> {
        match self.tree.attributes(InodeId(inode.0)) {
            Ok(attributes) => Ok(attributes_as_told(InodeId(inode.0), &attributes)),
            Err(error) => Err(self.failed(inode, &error)),
        }
    }

    /// Hands out `.`, `..` and the entries of a directory from an offset on. The offset of an entry is that of what comes after it.
    fn entries(
        &self,
        directory: INodeNo,
        offset: u64,
        detail: Detail,
        give: Give<'_>,
    ) -> Result<(), TreeError> {
        let inode = InodeId(directory.0);
        let mut offset = offset;
        while offset < DOTS {
            let (name, of) = match offset {
                0 => (&b"."[..], inode),
                _ => (&b".."[..], self.tree.parent(inode)?),
            };
            let attributes = match detail {
                Detail::Names => None,
                Detail::Attributes => Some(self.tree.attributes(of)?),
            };
            offset += 1;
            if give(name, of, FileKind::Directory, offset, attributes) == Taken::Full {
                return Ok(());
            }
        }
        let mut take = |listed: &Listed<'_>| {
            let next = listed.cookie.saturating_add(DOTS);
            give(listed.name, listed.inode, listed.kind, next, listed.attributes)
        };
        self.tree.list(inode, offset - DOTS, detail, &mut take)
    }
}

/// A time as the kernel's client wants it; one that no time of this machine is, is the beginning of 1970.
fn time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds().unsigned_abs());
    let whole = match time.seconds() < 0 {
        true => UNIX_EPOCH.checked_sub(seconds),
        false => UNIX_EPOCH.checked_add(seconds),
    };
    let fraction = Duration::from_nanos(u64::from(time.nanoseconds()));
    whole
        .and_then(|whole| whole.checked_add(fraction))
        .unwrap_or(UNIX_EPOCH)
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::CharacterDevice => FileType::CharDevice,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
    }
}

/// A device's number in the 32 bits of the protocol (`new_encode_dev` of the kernel): 12 bits of major number, 20 of minor.
fn device(device: DeviceNumber) -> u32 {
    let (major, minor) = (device.major & 0xfff, device.minor & 0xf_ffff);
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}

fn attributes_as_told(inode: InodeId, attributes: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(inode.0),
        size: attributes.size,
        blocks: attributes.allocated_bytes.div_ceil(ALLOCATION_UNIT),
        atime: time(attributes.accessed),
        mtime: time(attributes.modified),
        ctime: time(attributes.changed),
        crtime: UNIX_EPOCH,
        kind: file_type(attributes.kind),
        perm: attributes.mode,
        nlink: attributes.links,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: device(attributes.device),
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// What the kernel keeps of a name that does not exist.
fn missing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// Answers a request for bytes of which the caller first asks how many they are.
fn sized(bytes: &[u8], size: u32, reply: ReplyXattr) {
    match u32::try_from(bytes.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(bytes),
        Ok(_) | Err(_) => reply.error(Errno::ERANGE),
    }
}

impl<T: Tree> Filesystem for ReadOnly<T> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let offered = config.capabilities();
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            // Access control lists of the tree count, as they did where it was captured.
            InitFlags::FUSE_POSIX_ACL,
        ] {
            if let Err(unsupported) = config.add_capabilities(wanted) {
                tracing::debug!(?unsupported, "the kernel lacks something that would be used");
            }
        }
        self.unopened = (
            offered.contains(InitFlags::FUSE_NO_OPEN_SUPPORT),
            offered.contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT),
        );
        // Bounds reads as well.
        if let Err(nearest) = config.set_max_write(READ_BYTES_MAX) {
            tracing::debug!(nearest, "the size of requests stays as it is");
        }
        Ok(())
    }

    fn destroy(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended();
        }
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.tree.find(InodeId(parent.0), name.as_bytes()) {
            Ok(Some((inode, attributes))) => {
                reply.entry(&KEEP, &attributes_as_told(inode, &attributes), Generation(0));
            }
            Ok(None) => reply.entry(&KEEP, &missing(), Generation(0)),
            Err(error) => reply.error(self.failed(parent, &error)),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes_of(ino) {
            Ok(attributes) => reply.attr(&KEEP, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.tree.read_link(InodeId(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(self.failed(ino, &error)),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match (flags.acc_mode(), self.unopened.0) {
            (OpenAccMode::O_WRONLY | OpenAccMode::O_RDWR, _) => reply.error(Errno::EROFS),
            // No more files are opened: the kernel does it alone, and keeps what it has read of them.
            (OpenAccMode::O_RDONLY, true) => reply.error(Errno::ENOSYS),
            (OpenAccMode::O_RDONLY, false) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; size.min(READ_BYTES_MAX) as usize];
        match self.tree.read(InodeId(ino.0), offset, &mut buffer) {
            Ok(read) => reply.data(buffer.get(..read).unwrap_or_default()),
            Err(error) => reply.error(self.failed(ino, &error)),
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.unopened.1 {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR,
            ),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut given = 0_u64;
        let listed = self.entries(
            ino,
            offset,
            Detail::Names,
            &mut |name, inode, kind, next, _| match reply.add(
                INodeNo(inode.0),
                next,
                file_type(kind),
                OsStr::from_bytes(name),
            ) {
                true => Taken::Full,
                false => {
                    given += 1;
                    Taken::More
                }
            },
        );
        match listed {
            // What was given is sound; the next request meets the error again.
            Err(error) if given == 0 => reply.error(self.failed(ino, &error)),
            Ok(()) | Err(_) => reply.ok(),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mut given = 0_u64;
        let mut give = |name: &[u8], inode: InodeId, _, next, attributes: Option<Attributes>| {
            let Some(attributes) = attributes else {
                return Taken::Full;
            };
            let told = attributes_as_told(inode, &attributes);
            let name = OsStr::from_bytes(name);
            match reply.add(INodeNo(inode.0), next, name, &KEEP, &told, Generation(0)) {
                true => Taken::Full,
                false => {
                    given += 1;
                    Taken::More
                }
            }
        };
        let listed = self.entries(ino, offset, Detail::Attributes, &mut give);
        match listed {
            Err(error) if given == 0 => reply.error(self.failed(ino, &error)),
            Ok(()) | Err(_) => reply.ok(),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let totals = self.tree.totals();
        let blocks = totals.bytes.div_ceil(u64::from(BLOCK_BYTES));
        reply.statfs(
            blocks,
            0,
            0,
            totals.inodes,
            0,
            BLOCK_BYTES,
            NAME_BYTES_MAX,
            BLOCK_BYTES,
        );
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let mut found = None;
        let looked = self.tree.xattrs(InodeId(ino.0), &mut |has, value| {
            if has == name.as_bytes() {
                found = Some(value.to_vec());
            }
            found.is_none()
        });
        match (looked, found) {
            (Err(error), _) => reply.error(self.failed(ino, &error)),
            (Ok(()), Some(value)) => sized(&value, size, reply),
            (Ok(()), None) => reply.error(Errno::ENODATA),
        }
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let mut names = Vec::new();
        let looked = self.tree.xattrs(InodeId(ino.0), &mut |name, _| {
            names.extend_from_slice(name);
            names.push(0);
            true
        });
        match looked {
            Ok(()) => sized(&names, size, reply),
            Err(error) => reply.error(self.failed(ino, &error)),
        }
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let what = match whence {
            SEEK_DATA => Seek::Data,
            SEEK_HOLE => Seek::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        match self.tree.seek(InodeId(ino.0), offset, what) {
            Ok(found) => match found.and_then(|found| i64::try_from(found).ok()) {
                Some(found) => reply.offset(found),
                None => reply.error(Errno::ENXIO),
            },
            Err(error) => reply.error(self.failed(ino, &error)),
        }
    }

    // The kernel takes these for done once it is told that nobody here has heard of them.

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _: &Request, _: INodeNo, _: fuser::AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    // Nothing is ever written.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use cairn_types::{DeviceNumber, Timestamp};

    use super::{device, time};

    #[test]
    fn times_before_1970_count_forward() {
        assert_eq!(time(Timestamp::new(5, 7)), UNIX_EPOCH + Duration::new(5, 7));
        assert_eq!(
            time(Timestamp::new(-2, 800_000_000)),
            UNIX_EPOCH - Duration::new(1, 200_000_000)
        );
        // As far as a time can be, and no panic.
        time(Timestamp::new(i64::MIN, 1));
        time(Timestamp::new(i64::MAX, 999_999_999));
    }

    #[test]
    fn devices_are_packed_as_the_kernel_unpacks_them() {
        for (major, minor) in [(1, 3), (8, 255), (8, 256), (4095, 0xf_ffff), (259, 70_000)] {
            let packed = device(DeviceNumber { major, minor });
            // new_decode_dev of linux/kdev_t.h.
            let unpacked = (
                (packed & 0xf_ff00) >> 8,
                (packed & 0xff) | ((packed >> 12) & 0xf_ff00),
            );
            assert_eq!(unpacked, (major, minor));
        }
    }
}
