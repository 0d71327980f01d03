//! Extended attributes of anything: read sorted, set, removed; of symbolic links and special files as well, which are never opened.
//!
//! What has no descriptor of its own is reached through `/proc/self/fd`: the kernel has no calls relative to a directory before
//! Linux 6.13. `/proc` must therefore be mounted.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::entry::Xattr;

/// Longest list of names, and longest value, in bytes (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const BYTES_MAX: usize = 64 << 10;

/// The names under which XFS shows access control lists to root a second time, in a form of its own.
const SECOND_NAMES: [&CStr; 2] = [c"trusted.SGI_ACL_FILE", c"trusted.SGI_ACL_DEFAULT"];

/// The extended attributes of an open file (not of one opened with `O_PATH`), by name. Nothing if its file system has none. Errors:
/// flistxattr(2), fgetxattr(2).
pub fn of_file(file: impl AsFd) -> io::Result<Vec<Xattr>> {
    let file = file.as_fd();
    collect(
        |buffer| rustix::fs::flistxattr(file, buffer),
        |name, buffer| rustix::fs::fgetxattr(file, name, buffer),
    )
}

/// The extended attributes of `name` in `directory`, of a symbolic link itself. Errors: llistxattr(2), lgetxattr(2).
pub fn of_name(directory: impl AsFd, name: &CStr) -> io::Result<Vec<Xattr>> {
    let path = proc_path(directory.as_fd(), Some(name))?;
    collect(
        |buffer| rustix::fs::llistxattr(&path, buffer),
        |attribute, buffer| rustix::fs::lgetxattr(&path, attribute, buffer),
    )
}

/// The extended attributes of what was opened with `O_PATH`. Errors: listxattr(2), getxattr(2).
pub fn of_entry(entry: impl AsFd) -> io::Result<Vec<Xattr>> {
    let path = proc_path(entry.as_fd(), None)?;
    collect(
        |buffer| rustix::fs::listxattr(&path, buffer),
        |attribute, buffer| rustix::fs::getxattr(&path, attribute, buffer),
    )
}

/// The name, good for as long as the descriptor is open, under which a descriptor, or a name in the directory that it is, can be given to calls that take paths.
pub(crate) fn proc_path(descriptor: BorrowedFd<'_>, name: Option<&CStr>) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
    }
    CString::new(path).map_err(io::Error::from)
}

fn collect(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<Xattr>> {
    // Most files have none, and the few names of most others fit.
    let mut small = [0_u8; 256];
    let names = match list(&mut small) {
        Ok(0) => return Ok(Vec::new()),
        Ok(length) => small[..length].to_vec(),
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(Errno::RANGE) => grown(&list)?,
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if name.is_empty() || SECOND_NAMES.contains(&name) {
            continue;
        }
        match read_value(|buffer| get(name, buffer)) {
            Ok(value) => found.push(Xattr {
                name: name.to_bytes().to_vec(),
                value,
            }),
            // Removed meanwhile, or listed by a file system that does not hand it out.
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn read_value(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0_u8; 256];
    match read(&mut small) {
        Ok(length) => Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => grown(&read),
        Err(error) => Err(error),
    }
}

/// Reads what did not fit, into as much as there can be.
fn grown(read: &impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; BYTES_MAX];
    let length = read(&mut buffer)?;
    buffer.truncate(length);
    buffer.shrink_to_fit();
    Ok(buffer)
}

/// Sets one attribute of an open file. Errors: fsetxattr(2).
pub(crate) fn set_file(file: impl AsFd, name: &CStr, value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
}

/// Sets one attribute of what was opened with `O_PATH`. Errors: setxattr(2).
pub(crate) fn set_entry(entry: impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    let path = proc_path(entry.as_fd(), None)?;
    Ok(rustix::fs::setxattr(&path, name, value, XattrFlags::empty())?)
}

/// Removes one attribute of what was opened with `O_PATH`. Errors: removexattr(2).
pub(crate) fn remove_entry(entry: impl AsFd, name: &CStr) -> io::Result<()> {
    let path = proc_path(entry.as_fd(), None)?;
    Ok(rustix::fs::removexattr(&path, name)?)
}
