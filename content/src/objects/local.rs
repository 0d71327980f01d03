//! What a `file://` store needs beyond what its client does: replacing a file if nobody else has, and removing what
//! interrupted writes left.
//!
//! The client writes `name#N`, syncs it, renames (or links) it to `name` and syncs the directory; it was told to
//! (`with_fsync`). Files `name#N` are unfinished and never listed. `name#0` is never one of them: it is the lock that
//! replacing takes (flock(2), so it is free when its holder dies), and it stays.
//!
//! Removal is not synced: after a power cut a removed object may be back, which reclaim must expect anyway.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_types::Timestamp;
use rustix::fs::{FlockOperation, flock};

use crate::write_behind;

/// How many unfinished files of one name are stepped over before a write gives up.
const UNFINISHED_MAX: u32 = 10_000;

/// What became of a replacement.
pub(super) enum Replaced {
    /// The new bytes are there, durably.
    Done,
    /// The file is not what was expected, or is not there.
    Changed,
    /// Somebody else is replacing it just now.
    Busy,
}

/// Replaces the file at `path` by `new` if its bytes are `expected`. Durable on return.
pub(super) fn replace(path: &Path, expected: &[u8], new: &Bytes) -> io::Result<Replaced> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(with_suffix(path, 0));
    let lock = match lock {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Replaced::Changed),
        lock => lock?,
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Replaced::Busy),
        locked => locked?,
    }
    // From here on `lock` is held until it is dropped.
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Replaced::Changed),
        found if found.as_ref().is_ok_and(|found| found != expected) => return Ok(Replaced::Changed),
        found => found?,
    };
    let (mut file, unfinished) = unfinished_file(path)?;
    let written = file
        .write_all(new)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, path));
    if let Err(error) = written {
        // If this fails too, cleaning finds the file.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    sync_directory(path.parent().unwrap_or(path))?;
    Ok(Replaced::Done)
}

/// Advises that a large object, which was synced when it was written, will not be read soon.
pub(super) fn leave(path: &Path) {
    if let Ok(file) = File::open(path)
        && let Ok(metadata) = file.metadata()
    {
        write_behind::leave(&file, 0..metadata.len());
    }
}

fn unfinished_file(path: &Path) -> io::Result<(File, PathBuf)> {
    for number in 1..=UNFINISHED_MAX {
        let unfinished = with_suffix(path, number);
        match OpenOptions::new().write(true).create_new(true).open(&unfinished) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            opened => return Ok((opened?, unfinished)),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

fn with_suffix(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!("#{number}"));
    name.into()
}

/// Makes `directory` in a parent that exists. Durable on return.
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(directory.parent().unwrap_or(directory)),
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes unfinished files below `root` that were last written before `before`; says how many.
pub(super) fn clean(root: &Path, before: Timestamp) -> io::Result<u64> {
    let mut removed = 0;
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            // The entry's own type: a symbolic link is not followed.
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() && is_unfinished(&entry.file_name().to_string_lossy()) {
                let metadata = match entry.metadata() {
                    // Its writer has just finished.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    metadata => metadata?,
                };
                if modified(&metadata) >= before {
                    continue;
                }
                match fs::remove_file(entry.path()) {
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    done => done?,
                }
                removed += 1;
            }
        }
    }
    Ok(removed)
}

fn modified(metadata: &fs::Metadata) -> Timestamp {
    use std::os::unix::fs::MetadataExt;
    Timestamp::new(
        metadata.mtime(),
        u32::try_from(metadata.mtime_nsec()).unwrap_or(0),
    )
}

/// Whether a file name is that of an unfinished write: a name that objects can have, `#`, and a number that is not 0.
fn is_unfinished(name: &str) -> bool {
    let Some((object, number)) = name.split_once('#') else {
        return false;
    };
    super::ObjectName::new(object).is_ok()
        && number != "0"
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_unfinished;

    #[test]
    fn only_unfinished_files_are_taken_for_such() {
        assert!(is_unfinished("fence#1") && is_unfinished("ab12.pack#37"));
        for other in [
            "fence",
            "fence#0",
            "fence#",
            "fence#1a",
            "a b#1",
            "#1",
            "fence#1#2",
        ] {
            assert!(!is_unfinished(other), "{other}");
        }
    }
}
