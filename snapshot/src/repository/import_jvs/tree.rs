//! Listing directories of a snapshot's tree, none of them by following a symbolic link.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::Dir;

use crate::directory::{RelativePath, Status, beneath};

/// The entries of the directory at `path`, by name. Memory grows with the directory.
pub(super) fn list(root: BorrowedFd<'_>, path: &RelativePath) -> io::Result<Vec<(RelativePath, Status)>> {
    let directory = beneath::open_directory(root, path)?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = path.join(name.to_bytes()).map_err(io::Error::other)?;
        entries.push((found, Status::of_name(&directory, name)?));
    }
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}
