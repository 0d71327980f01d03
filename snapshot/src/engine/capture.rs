//! What every capture takes and tells, whatever the engine; and what of the last capture is still true.

use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use cairn_types::Timestamp;
use rustix::fs::{Mode, OFlags, fchmod, mkdirat, openat};

use super::btrfs::Btrfs;
use super::{EngineError, EngineKind, Tools, juicefs, trees};
use crate::archive::Progress;
use crate::directory::place::Way;
use crate::directory::{Attributes, Body, Found, Losses, Record, RelativePath, Stamp, Walk, WalkOptions};
use crate::manifest::{ManifestReader, ManifestWriter, Records};

/// A time stamp proves nothing if it is not older than this before the capture began: the clock of a file system moves in steps, of 10
/// ms at most (one tick of a kernel with 100 of them a second).
const RACY_NANOSECONDS: u32 = 10_000_000;
/// Most torn paths that are told; all are counted.
pub const TORN_PATHS_MAX: usize = 1000;

/// A new directory that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The directory that it will be in.
    pub parent: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a OsStr,
    /// Its path, absolute: for programs, and told in errors.
    pub path: &'a Path,
}

/// A capture that is to be made.
pub struct Capture<'a> {
    /// The root of the workspace, open for reading.
    pub source: BorrowedFd<'a>,
    /// Its path, absolute: for programs, and told in errors.
    pub source_path: &'a Path,
    /// What of the workspace is captured. The control directory must be left out by this if it is in the workspace.
    pub walk: WalkOptions,
    /// The manifest of the last capture of the same workspace. Of files that have not changed since, digests and extended attributes are taken
    /// from there. A manifest that cannot be read saves nothing, and does no harm.
    pub previous: Option<&'a ManifestReader>,
    /// The directory that is made. After an error a part of it is perhaps there, for the caller to remove.
    pub target: Target<'a>,
    /// Where all that is captured is described, in path order. After an error it is of no use.
    pub manifest: &'a mut ManifestWriter,
    /// When the capture began, by the clock of the file system's host: not later than the call. What changed after it, or shortly before it, gets no
    /// stamp in the manifest, so that the next capture looks at it again.
    pub racy_after: Timestamp,
    /// Threads that write, at least 1.
    pub threads: usize,
    /// How far it is, and whether it shall stop. Counts files and bytes of their sizes.
    pub progress: &'a Progress,
}

/// What a capture did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// What the file system of the snapshots does not keep. The manifest has it all the same.
    pub losses: Losses,
    /// Files that changed during each attempt to copy them, the first [`TORN_PATHS_MAX`]: what was copied is perhaps no state that they ever had.
    pub torn: Vec<RelativePath>,
    /// How many there were.
    pub torn_files: u64,
    /// Entries that vanished while the workspace was walked, and are not in the snapshot.
    pub vanished: u64,
    /// Entries left out because the options say so; what is below a directory is not counted.
    pub left_out: u64,
    /// Directories that another file system is mounted on, which was not entered.
    pub other_file_systems: u64,
    /// Files that have not changed since the previous manifest.
    pub reused_files: u64,
    /// Files that share their data with the workspace's.
    pub cloned_files: u64,
    /// Files whose data was copied.
    pub copied_files: u64,
    /// Bytes that were copied for them; holes do not count.
    pub copied_bytes: u64,
    /// The previous manifest could not be read to its end, and was used up to there.
    pub previous_damaged: bool,
}

/// Captures with one of the engines that make trees. [`EngineKind::Archive`] is refused: it captures by itself.
///
/// Errors: those of the engine. After one that [`EngineError::is_of_engine`], if no engine was asked for: remove what was made
/// ([`super::remove_snapshot`]), ask [`super::Choice::degrade`] for the next engine, and capture again with a new manifest.
pub fn capture(engine: EngineKind, tools: &Tools, capture: Capture<'_>) -> Result<Captured, EngineError> {
    let lacking = |reason: &str| EngineError::Unavailable {
        engine,
        reason: reason.to_owned(),
    };
    let is_whole = matches!(engine, EngineKind::BtrfsSubvolume | EngineKind::JuicefsClone);
    if is_whole && capture.walk.include.is_some() {
        return Err(lacking(
            "it captures whole workspaces, and only a part is asked for",
        ));
    }
    match engine {
        EngineKind::Copy => trees::capture_tree(Way::Copy, capture),
        EngineKind::ReflinkCopy => trees::capture_tree(Way::Clone, capture),
        EngineKind::BtrfsSubvolume => {
            let tool = tools
                .btrfs
                .clone()
                .ok_or_else(|| lacking("there is no program btrfs"))?;
            Btrfs::new(tool).capture(capture)
        }
        EngineKind::JuicefsClone => {
            let tool = tools
                .juicefs
                .as_deref()
                .ok_or_else(|| lacking("there is no program juicefs"))?;
            juicefs::capture(tool, capture)
        }
        EngineKind::Archive => Err(lacking("it makes no trees")),
    }
}

impl Target<'_> {
    /// Makes the directory, for its owner alone and without anything that its parent hands down. Errors: [`EngineError::Exists`],
    /// [`EngineError::Io`].
    pub(super) fn make(&self) -> Result<OwnedFd, EngineError> {
        let failed = |error: rustix::io::Errno| match error {
            rustix::io::Errno::EXIST => EngineError::Exists {
                path: self.path.to_owned(),
            },
            error => EngineError::io("make", self.path, error.into()),
        };
        mkdirat(self.parent, self.name, Mode::RWXU).map_err(failed)?;
        let made = self.open()?;
        // Not the group's bit of the parent either, which would go on to everything below.
        fchmod(&made, Mode::RWXU).map_err(failed)?;
        for name in [c"system.posix_acl_access", c"system.posix_acl_default"] {
            // A file system without such lists hands none down.
            if let Err(error) = rustix::fs::fremovexattr(&made, name)
                && !matches!(
                    error,
                    rustix::io::Errno::NODATA
                        | rustix::io::Errno::NOTSUP
                        | rustix::io::Errno::PERM
                        | rustix::io::Errno::ACCESS
                )
            {
                return Err(failed(error));
            }
        }
        Ok(made)
    }

    /// Opens the directory. Errors: [`EngineError::Io`].
    pub(super) fn open(&self) -> Result<OwnedFd, EngineError> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        openat(self.parent, self.name, flags, Mode::empty())
            .map_err(|error| EngineError::io("open", self.path, error.into()))
    }
}

impl Captured {
    pub(super) fn torn(&mut self, path: &RelativePath) {
        self.torn_files += 1;
        if self.torn.len() < TORN_PATHS_MAX {
            self.torn.push(path.clone());
        }
    }

    pub(super) fn walked(&mut self, walk: &Walk) {
        let counts = walk.counts();
        self.vanished += counts.vanished();
        self.left_out += counts.left_out();
        self.other_file_systems += counts.other_file_systems();
    }
}

/// Which stamps prove something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proof {
    racy_after: Timestamp,
    before: Timestamp,
}

impl Proof {
    pub(super) fn new(racy_after: Timestamp) -> Self {
        let before = match racy_after.nanoseconds().checked_sub(RACY_NANOSECONDS) {
            Some(nanoseconds) => Timestamp::new(racy_after.seconds(), nanoseconds),
            None => Timestamp::new(
                racy_after.seconds().saturating_sub(1),
                1_000_000_000 + racy_after.nanoseconds() - RACY_NANOSECONDS,
            ),
        };
        Proof { racy_after, before }
    }

    /// The stamp, if it proves something to the next capture.
    pub(super) fn keep(self, stamp: Stamp) -> Option<Stamp> {
        (stamp.changed < self.before).then_some(stamp)
    }

    /// Whether a file surely has not changed since the capture began.
    pub(super) fn is_settled(self, stamp: &Stamp) -> bool {
        stamp.changed < self.before
    }

    /// Whether a record still tells the truth of what was found.
    fn is_unchanged(self, record: &Record, found: &Attributes, stamp: &Stamp) -> bool {
        let known = &record.entry.attributes;
        record.stamp.as_ref() == Some(stamp)
            && stamp.changed < self.racy_after
            && known.kind == found.kind
            && known.size == found.size
            && known.modified == found.modified
            && !matches!(record.entry.body, Body::Link(_))
    }
}

/// The records of the last capture, read beside a walk.
pub(super) struct Previous<'a> {
    records: Option<std::iter::Peekable<Records<'a>>>,
    proof: Proof,
    damaged: bool,
}

impl<'a> Previous<'a> {
    pub(super) fn new(manifest: Option<&'a ManifestReader>, proof: Proof) -> Self {
        Previous {
            records: manifest.map(|manifest| manifest.records().peekable()),
            proof,
            damaged: false,
        }
    }

    /// The record of what was found, if it has not changed since. Asked in path order.
    /// `stamp` is the one that the workspace's file has.
    pub(super) fn unchanged(&mut self, found: &Found, stamp: &Stamp) -> Option<Record> {
        let record = self.at(&found.path)?;
        let still = self.proof.is_unchanged(&record, &found.attributes, stamp);
        still.then_some(record)
    }

    fn at(&mut self, path: &RelativePath) -> Option<Record> {
        loop {
            let records = self.records.as_mut()?;
            match records.peek()? {
                Ok(record) if record.entry.path < *path => {
                    records.next();
                }
                Ok(record) if record.entry.path == *path => return records.next()?.ok(),
                Ok(_) => return None,
                Err(error) => {
                    tracing::warn!(%error, "the manifest of the last snapshot cannot be read on: files are looked at as if they were new");
                    self.damaged = true;
                    self.records = None;
                    return None;
                }
            }
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged
    }
}

/// Names of files that have several: which name came first.
pub(super) type FirstNames<T> = std::collections::HashMap<(u64, u64), T>;

/// Whether what was found can be the file that was captured under another name: the number alone could be that of a new file, in the place of a
/// removed one. A file that was written meanwhile counts as two.
pub(super) fn is_same_file(captured: &Attributes, found: &Found) -> bool {
    let seen = &found.attributes;
    (captured.kind, captured.size, captured.modified) == (seen.kind, seen.size, seen.modified)
}

/// What tells one file from others.
pub(super) fn identity(found: &Found) -> (u64, u64) {
    (found.stamp.device, found.stamp.inode)
}
