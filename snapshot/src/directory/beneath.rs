//! Reaching files below a directory without ever leaving it: name by name, each relative to the directory before it, no link followed.
//!
//! A path that a workload changes meanwhile leads to an error, never to a place outside. Paths may be longer than `PATH_MAX`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use cairn_types::FileKind;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use super::path::RelativePath;
use super::status::Status;

/// What every descriptor is opened with.
pub(crate) const ALWAYS: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
/// A directory that is only passed through.
pub(crate) const THROUGH: OFlags = ALWAYS.union(OFlags::DIRECTORY).union(OFlags::PATH);
/// A directory whose entries are read or that is synced.
pub(crate) const LISTED: OFlags = ALWAYS.union(OFlags::DIRECTORY).union(OFlags::RDONLY);

/// The name as the kernel takes it. Errors: `InvalidInput` if it has a NUL, which no name of a [`RelativePath`] has.
pub(crate) fn c_name(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(io::Error::from)
}

/// Opens the directory at `path` below `root`, for reading its entries and as the anchor of other calls. Errors: openat(2); `ELOOP` or
/// `ENOTDIR` if something on the way is no directory.
pub fn open_directory(root: impl AsFd, path: &RelativePath) -> io::Result<OwnedFd> {
    open_beneath(root, path, LISTED)
}

/// Opens the entry at `path` as a mere name for it (`O_PATH`): nothing is opened for reading, and links are not followed. For status,
/// and for attributes by [`super::xattr`]. Errors: openat(2).
pub fn open_entry(root: impl AsFd, path: &RelativePath) -> io::Result<OwnedFd> {
    open_beneath(root, path, ALWAYS | OFlags::PATH)
}

/// Opens the regular file at `path` for reading. Links are not followed, and nothing but a regular file stays open. Errors: openat(2);
/// `InvalidInput` if it is no regular file.
pub fn open_file(root: impl AsFd, path: &RelativePath) -> io::Result<OwnedFd> {
    let (parent, name) = open_parent(root, path)?;
    Ok(open_regular(&parent, &c_name(&name)?)?.0)
}

/// Opens `path` with `flags` as its last name's; the root itself is opened as `.`.
pub(crate) fn open_beneath(root: impl AsFd, path: &RelativePath, flags: OFlags) -> io::Result<OwnedFd> {
    if path.is_root() {
        return Ok(openat(root, c".", flags, Mode::empty())?);
    }
    let (parent, name) = open_parent(root, path)?;
    Ok(openat(parent, c_name(&name)?, flags, Mode::empty())?)
}

/// The directory that `path` is in, and the last name of it. Errors: openat(2); `InvalidInput` for the root.
pub(crate) fn open_parent(root: impl AsFd, path: &RelativePath) -> io::Result<(OwnedFd, Vec<u8>)> {
    let mut names = path.as_bytes().split(|byte| *byte == b'/').peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        if names.peek().is_none() && !name.is_empty() {
            let parent = match at {
                Some(parent) => parent,
                None => openat(root, c".", THROUGH, Mode::empty())?,
            };
            return Ok((parent, name.to_vec()));
        }
        let name = c_name(name)?;
        let next = match &at {
            Some(directory) => openat(directory, &name, THROUGH, Mode::empty())?,
            None => openat(root.as_fd(), &name, THROUGH, Mode::empty())?,
        };
        at = Some(next);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the root of the tree is in no directory of it",
    ))
}

/// Opens the regular file `name` of `directory` for reading, without changing its time of access where that is allowed, and looks at it. A
/// fifo that takes its place is not waited for, and closed at once. Errors: openat(2); `InvalidInput` if it is no regular file.
pub(crate) fn open_regular(directory: impl AsFd, name: &CStr) -> io::Result<(OwnedFd, Status)> {
    let flags = ALWAYS | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open_quietly(directory, name, flags)?;
    let status = Status::of(&file)?;
    match status.attributes.kind {
        FileKind::Regular => Ok((file, status)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file (any more)",
        )),
    }
}

/// Opens without changing the time of access where that is allowed: to the owner and to root (open(2), `O_NOATIME`).
pub(crate) fn open_quietly(directory: impl AsFd, name: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match openat(directory.as_fd(), name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(directory, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// Removes the file at `path`, or the empty directory. What is not there is none. Errors: unlinkat(2).
pub fn remove(root: impl AsFd, path: &RelativePath, is_directory: bool) -> io::Result<()> {
    let flags = if is_directory {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    let removed =
        open_parent(root, path).and_then(|(parent, name)| Ok(unlinkat(parent, c_name(&name)?, flags)?));
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
