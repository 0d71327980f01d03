//! Setting the attributes of what is there: owner, extended attributes, mode, access control lists, times, in this order.
//!
//! A change of owner drops bits of the mode and capabilities, so it comes first. A file that even its owner may not write takes no
//! attributes of the user's namespace, so these come before the mode. A change of mode changes access control lists, so these come
//! after it. Times come last.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use cairn_types::FileKind;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::{Loss, PlaceError, Placer, error};
use crate::directory::beneath::{ALWAYS, c_name};
use crate::directory::entry::{Attributes, Xattr};
use crate::directory::path::RelativePath;
use crate::directory::status::Status;
use crate::directory::xattr;

/// The name of the list that a directory gives to what is made in it (acl(5)).
pub(super) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// Attributes that the system makes by itself, and that nobody misses: not removed when others replace them.
const OF_THE_SYSTEM: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// What an entry had before its attributes are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It was made by this [`Placer`]: extended attributes are only added.
    New,
    /// It was there: extended attributes that are not among those to be set are removed.
    Old,
}

/// Something whose attributes are set: a file open for reading or writing, or what was opened with `O_PATH`.
#[derive(Clone, Copy)]
enum Target<'a> {
    Open(BorrowedFd<'a>),
    Entry(BorrowedFd<'a>),
}

impl Placer {
    /// Sets the attributes of a file that is open for reading or writing; `path` is for what is told. Errors: fchown(2), fchmod(2), fsetxattr(2),
    /// futimens(3) but for what is a loss.
    pub fn file_attributes(
        &self,
        path: &RelativePath,
        file: BorrowedFd<'_>,
        attributes: &Attributes,
        before: Before,
    ) -> Result<(), PlaceError> {
        self.set(path, Target::Open(file), attributes, before)
    }

    /// Sets the attributes of the entry at `path`, of a symbolic link itself. Nothing is opened for reading. Errors: as for [`Placer::file_attributes`]; of kind
    /// `Conflict` if something of another kind is there.
    pub fn attributes(
        &self,
        path: &RelativePath,
        attributes: &Attributes,
        before: Before,
    ) -> Result<(), PlaceError> {
        let failed = |source| error(path, "set the attributes", source);
        let entry = match path.is_root() {
            true => self.root.try_clone(),
            false => self.parent(path).and_then(|(parent, name)| {
                let flags = ALWAYS | rustix::fs::OFlags::PATH;
                Ok(rustix::fs::openat(parent, &c_name(name)?, flags, Mode::empty())?)
            }),
        };
        let entry = entry.map_err(failed)?;
        let status = Status::of(&entry).map_err(failed)?;
        if status.attributes.kind != attributes.kind {
            let source = io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something of another kind has taken its place",
            );
            return Err(failed(source));
        }
        self.set(path, Target::Entry(entry.as_fd()), attributes, before)
    }

    /// Sets the attributes of a directory that was made, once everything in it is written. Errors: as for [`Placer::file_attributes`].
    pub fn finish_directory(&self, path: &RelativePath, attributes: &Attributes) -> Result<(), PlaceError> {
        let failed = |source| error(path, "set the attributes", source);
        let directory = self.opened(path).map_err(failed)?;
        self.set(path, Target::Open(directory.as_fd()), attributes, Before::New)?;
        self.directories.lock().forget(path);
        Ok(())
    }

    /// The same for many directories, given in path order: what is below a directory is finished before it.
    /// Holds the attributes of the directories on the way to one. Errors: the first; those of `directories`, as they are.
    pub fn finish_directories<E: From<PlaceError>>(
        &self,
        directories: impl IntoIterator<Item = Result<(RelativePath, Attributes), E>>,
    ) -> Result<(), E> {
        let mut open: Vec<(RelativePath, Attributes)> = Vec::new();
        for directory in directories {
            let (path, attributes) = directory?;
            while let Some((above, of_above)) = open.pop_if(|(above, _)| !path.is_within(above)) {
                self.finish_directory(&above, &of_above)?;
            }
            open.push((path, attributes));
        }
        while let Some((path, attributes)) = open.pop() {
            self.finish_directory(&path, &attributes)?;
        }
        Ok(())
    }

    /// Removes what a new entry inherited from the root.
    pub(super) fn drop_inherited(
        &self,
        path: &RelativePath,
        made: BorrowedFd<'_>,
        remove: fn(BorrowedFd<'_>, &CStr) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut gone = true;
        for name in [c"system.posix_acl_access", c"system.posix_acl_default"] {
            gone &= remove(made, name)?;
        }
        if !gone {
            self.lost(Loss::Xattrs, path);
        }
        Ok(())
    }

    fn lost(&self, loss: Loss, path: &RelativePath) {
        self.losses.lock().add(loss, path);
    }

    fn set(
        &self,
        path: &RelativePath,
        target: Target<'_>,
        attributes: &Attributes,
        before: Before,
    ) -> Result<(), PlaceError> {
        let owned = match self.options.keep_own_owner {
            true => true,
            false => self
                .set_owner(path, target, attributes)
                .map_err(|e| error(path, "set the owner", e))?,
        };
        let failed = |source| error(path, "set the extended attributes", source);
        let mut lost = self
            .set_xattrs(path, target, attributes, before)
            .map_err(failed)?;
        if attributes.kind != FileKind::Symlink {
            self.set_mode(path, target, attributes, owned)
                .map_err(|e| error(path, "set the mode", e))?;
        }
        for list in attributes.xattrs.iter().filter(|xattr| is_acl(xattr)) {
            lost |= !set_xattr(target, list).map_err(failed)?;
        }
        if lost {
            self.lost(Loss::Xattrs, path);
        }
        self.set_times(path, target, attributes)
            .map_err(|e| error(path, "set the times", e))
    }

    /// Returns whether the owner is as it shall be.
    fn set_owner(
        &self,
        path: &RelativePath,
        target: Target<'_>,
        attributes: &Attributes,
    ) -> io::Result<bool> {
        // A look costs a tenth of a change that changes nothing.
        let now = target.status()?.attributes;
        if (now.uid, now.gid) == (attributes.uid, attributes.gid) {
            return Ok(true);
        }
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        let own = |uid: Option<Uid>| match target {
            Target::Open(file) => rustix::fs::fchown(file, uid, Some(gid)),
            Target::Entry(entry) => rustix::fs::chownat(entry, c"", uid, Some(gid), AtFlags::EMPTY_PATH),
        };
        match own(Some(uid)) {
            Ok(()) => return Ok(true),
            Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        self.lost(Loss::Owner, path);
        // The group alone may be allowed.
        match own(None) {
            Ok(()) | Err(Errno::PERM | Errno::NOTSUP | Errno::INVAL) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn set_mode(
        &self,
        path: &RelativePath,
        target: Target<'_>,
        attributes: &Attributes,
        owned: bool,
    ) -> io::Result<()> {
        let mut wanted = attributes.mode & 0o7777;
        if !owned && wanted & 0o6000 != 0 && attributes.kind == FileKind::Regular {
            // Nobody shall run with the rights of somebody who never gave them.
            wanted &= !0o6000;
            self.lost(Loss::Mode, path);
        }
        let mode = Mode::from_raw_mode(u32::from(wanted));
        let set = match target {
            Target::Open(file) => rustix::fs::fchmod(file, mode),
            Target::Entry(entry) => rustix::fs::chmod(&xattr::proc_path(entry, None)?, mode),
        };
        match set {
            Ok(()) => {}
            Err(Errno::PERM | Errno::NOTSUP) => {
                self.lost(Loss::Mode, path);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        // Without the right to, the bit is dropped in silence (chmod(2)).
        if !self.is_root && wanted & 0o2000 != 0 && target.status()?.attributes.mode != wanted {
            self.lost(Loss::Mode, path);
        }
        Ok(())
    }

    /// Sets all but the access control lists, and removes what shall not be there. Returns whether something is lost.
    fn set_xattrs(
        &self,
        path: &RelativePath,
        target: Target<'_>,
        attributes: &Attributes,
        before: Before,
    ) -> io::Result<bool> {
        let mut lost = false;
        let there = match before {
            Before::New => Vec::new(),
            Before::Old => target.xattrs()?,
        };
        if before == Before::Old
            && !self.is_root
            && there != attributes.xattrs
            && matches!(attributes.kind, FileKind::Regular | FileKind::Directory)
        {
            // Without the right to write, the owner may not set attributes either; the mode is set right behind.
            let open = Attributes {
                mode: attributes.mode & 0o700 | 0o600,
                ..attributes.clone()
            };
            self.set_mode(path, target, &open, true)?;
        }
        for old in &there {
            let kept = attributes.xattrs.iter().any(|new| new.name == old.name);
            if !kept && !OF_THE_SYSTEM.contains(&&*old.name) {
                lost |= !target.remove(&c_name(&old.name)?)?;
            }
        }
        for new in attributes.xattrs.iter().filter(|xattr| !is_acl(xattr)) {
            if !there.contains(new) {
                lost |= !set_xattr(target, new)?;
            }
        }
        Ok(lost)
    }

    fn set_times(&self, path: &RelativePath, target: Target<'_>, attributes: &Attributes) -> io::Result<()> {
        let modified = attributes.modified;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: modified.seconds(),
                tv_nsec: i64::from(modified.nanoseconds()),
            },
        };
        let set = match target {
            Target::Open(file) => rustix::fs::futimens(file, &times),
            Target::Entry(entry) => {
                rustix::fs::utimensat(CWD, &xattr::proc_path(entry, None)?, &times, AtFlags::empty())
            }
        };
        match set {
            Ok(()) => {}
            Err(Errno::PERM | Errno::INVAL | Errno::NOTSUP) => {
                self.lost(Loss::Times, path);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        // File systems round, and bring times that they cannot keep into their range, in silence.
        let is_near = (0..1 << 31).contains(&modified.seconds());
        let is_whole = modified.nanoseconds() == 0;
        if is_near && (is_whole || self.exact_times.load(Ordering::Relaxed)) {
            return Ok(());
        }
        if target.status()?.attributes.modified != modified {
            self.lost(Loss::Times, path);
        } else if !modified.nanoseconds().is_multiple_of(100) {
            self.exact_times.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Target<'_> {
    fn status(self) -> io::Result<Status> {
        match self {
            Target::Open(fd) | Target::Entry(fd) => Status::of(fd),
        }
    }

    fn xattrs(self) -> io::Result<Vec<Xattr>> {
        match self {
            Target::Open(file) => xattr::of_file(file),
            Target::Entry(entry) => xattr::of_entry(entry),
        }
    }

    /// Returns whether it is gone.
    fn remove(self, name: &CStr) -> io::Result<bool> {
        let removed = match self {
            Target::Open(file) => rustix::fs::fremovexattr(file, name).map_err(io::Error::from),
            Target::Entry(entry) => xattr::remove_entry(entry, name),
        };
        match removed.map_err(|error| (Errno::from_io_error(&error), error)) {
            Ok(()) | Err((Some(Errno::NODATA), _)) => Ok(true),
            Err((Some(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL), _)) => Ok(false),
            Err((_, error)) => Err(error),
        }
    }
}

/// Removes an attribute of an open file. Returns whether it is gone.
pub(super) fn drop_of_file(file: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    // Nothing but a directory has a default list; others say so in several ways.
    let is_there = xattr::of_file(file)?
        .iter()
        .any(|old| old.name == name.to_bytes());
    if is_there {
        Target::Open(file).remove(name)
    } else {
        Ok(true)
    }
}

/// The same for what was opened with `O_PATH`.
pub(super) fn drop_of_entry(entry: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    let is_there = xattr::of_entry(entry)?
        .iter()
        .any(|old| old.name == name.to_bytes());
    if is_there {
        Target::Entry(entry).remove(name)
    } else {
        Ok(true)
    }
}

fn is_acl(xattr: &Xattr) -> bool {
    xattr.name == ACCESS_ACL || xattr.name == DEFAULT_ACL
}

/// Returns whether it is set: false if the file system or the caller's rights do not let it.
fn set_xattr(target: Target<'_>, attribute: &Xattr) -> io::Result<bool> {
    let name = c_name(&attribute.name)?;
    let (fd, set) = match target {
        Target::Open(file) => (
            file,
            xattr::set_file(file, &name, &attribute.value).map_err(io::Error::from),
        ),
        Target::Entry(entry) => (entry, xattr::set_entry(entry, &name, &attribute.value)),
    };
    match set.map_err(|error| (Errno::from_io_error(&error), error)) {
        Ok(()) => Ok(true),
        Err((Some(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL | Errno::RANGE), _)) => {
            Ok(false)
        }
        Err((Some(Errno::TOOBIG), _)) => Ok(false),
        // Also what a file system says that has no room for this one in its inode or block, with the disk half empty.
        Err((Some(Errno::NOSPC), error)) => match has_room(fd) {
            true => Ok(false),
            false => Err(error),
        },
        Err((_, error)) => Err(error),
    }
}

fn has_room(file: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatvfs(file).is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) > 1 << 20)
}
