//! Who may do what: mode bits, ownership, set-id bits (POSIX.1-2017 section 4.5, chmod(2), chown(2), open(2)).

use cairn_metadata::InodeRecord;
use cairn_types::FileKind;

use crate::Error;
use crate::filesystem::Caller;

/// Execute, or search of a directory.
pub(crate) const EXECUTE: u16 = 1;
/// Write.
pub(crate) const WRITE: u16 = 2;
/// Read.
pub(crate) const READ: u16 = 4;

const SET_UID: u16 = 0o4000;
const SET_GID: u16 = 0o2000;
const STICKY: u16 = 0o1000;
const GROUP_EXECUTE: u16 = 0o010;

impl Caller {
    /// Whether the caller may do everything.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether the group is the caller's own or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// Whether the caller has all of `wanted`, bits of [`READ`], [`WRITE`] and [`EXECUTE`].
pub(crate) fn allows(caller: &Caller, inode: &InodeRecord, wanted: u16) -> bool {
    if caller.is_root() {
        // Root may read and write everything, and run what anybody may run.
        return wanted & EXECUTE == 0 || inode.kind == FileKind::Directory || inode.mode & 0o111 != 0;
    }
    let class = if caller.uid == inode.uid {
        inode.mode >> 6
    } else if caller.in_group(inode.gid) {
        inode.mode >> 3
    } else {
        inode.mode
    };
    class & wanted == wanted
}

pub(crate) fn require(caller: &Caller, inode: &InodeRecord, wanted: u16) -> Result<(), Error> {
    if allows(caller, inode, wanted) {
        Ok(())
    } else {
        Err(Error::Access)
    }
}

/// As [`require`], but the owner always passes: an NFS server does not see that a file was opened before its mode was
/// changed (RFC 1813 section 4.4).
pub(crate) fn require_or_owner(caller: &Caller, inode: &InodeRecord, wanted: u16) -> Result<(), Error> {
    if caller.uid == inode.uid {
        Ok(())
    } else {
        require(caller, inode, wanted)
    }
}

/// Whether an entry for `inode` may be taken out of `directory`, as far as the sticky bit has a say.
pub(crate) fn require_sticky(
    caller: &Caller,
    directory: &InodeRecord,
    inode: &InodeRecord,
) -> Result<(), Error> {
    let free = directory.mode & STICKY == 0
        || caller.is_root()
        || caller.uid == directory.uid
        || caller.uid == inode.uid;
    if free { Ok(()) } else { Err(Error::NotPermitted) }
}

/// The mode after a write by the caller: a file that another's data has gone into must not lend its owner's rights.
pub(crate) fn mode_after_write(caller: &Caller, inode: &InodeRecord) -> u16 {
    if caller.is_root() {
        inode.mode
    } else {
        without_set_id(inode.mode)
    }
}

/// A file's mode without set-uid, and without set-gid where that lends rights (not where it marks mandatory locking).
pub(crate) fn without_set_id(mode: u16) -> u16 {
    let mode = mode & !SET_UID;
    if mode & GROUP_EXECUTE != 0 {
        mode & !SET_GID
    } else {
        mode
    }
}

/// The mode that a chmod by the caller gives: set-gid is dropped if the caller is not in the group.
pub(crate) fn mode_after_chmod(caller: &Caller, gid: u32, kind: FileKind, wanted: u16) -> u16 {
    let keeps = caller.is_root() || kind == FileKind::Directory || caller.in_group(gid);
    if keeps { wanted } else { wanted & !SET_GID }
}

/// Group, and set-gid bit to add, of an object made in `directory`.
pub(crate) fn inherited_group(directory: &InodeRecord, caller: &Caller, kind: FileKind) -> (u32, u16) {
    if directory.mode & SET_GID == 0 {
        (caller.gid, 0)
    } else {
        (
            directory.gid,
            if kind == FileKind::Directory { SET_GID } else { 0 },
        )
    }
}
