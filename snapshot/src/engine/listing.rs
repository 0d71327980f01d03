//! Describing a tree that the file system made as a whole: the records of what is there go into the manifest, what is to be left out
//! goes out of the tree.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use cairn_types::FileKind;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

use super::capture::{Captured, FirstNames, Previous, Proof, identity, is_same_file};
use super::describe::{describe, record};
use super::{EngineError, remove_tree};
use crate::archive::Progress;
use crate::directory::beneath::open_parent;
use crate::directory::walk::SkipRule;
use crate::directory::{Attributes, Body, Found, RelativePath, Skip, Stamp, Status, WalkOptions};
use crate::manifest::ManifestWriter;

/// What becomes a manifest.
pub(super) struct Listing<'a> {
    manifest: &'a mut ManifestWriter,
    previous: Previous<'a>,
    proof: Proof,
    progress: &'a Progress,
    first_names: FirstNames<(RelativePath, Attributes, Option<Stamp>)>,
    pub(super) captured: Captured,
}

impl<'a> Listing<'a> {
    pub(super) fn new(
        manifest: &'a mut ManifestWriter,
        previous: Previous<'a>,
        proof: Proof,
        progress: &'a Progress,
    ) -> Self {
        let (first_names, captured) = (FirstNames::new(), Captured::default());
        Listing {
            manifest,
            previous,
            proof,
            progress,
            first_names,
            captured,
        }
    }

    /// Describes what was found. `stamp` is what the workspace's file system knows the file by; nothing if that is not known. Errors:
    /// [`EngineError::Io`], [`EngineError::Manifest`], [`EngineError::Cancelled`].
    pub(super) fn add(&mut self, found: &Found, stamp: Option<Stamp>) -> Result<(), EngineError> {
        if self.progress.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let several = found.links > 1 && found.kind() != FileKind::Directory;
        if several
            && let Some((first, attributes, stamp)) = self.first_names.get(&identity(found))
            && is_same_file(attributes, found)
        {
            let link = record(
                found.path.clone(),
                attributes.clone(),
                Body::Link(first.clone()),
                *stamp,
            );
            return Ok(self.manifest.push(&link)?);
        }
        let unchanged = stamp.and_then(|stamp| self.previous.unchanged(found, &stamp));
        let is_file = found.kind() == FileKind::Regular;
        self.captured.reused_files += u64::from(is_file && unchanged.is_some());
        let described = match unchanged {
            Some(record) => record,
            None => {
                let described = describe(found, self.proof)
                    .map_err(|error| EngineError::io("read", found.path.as_path(), error))?;
                let Some(mut described) = described else {
                    self.captured.vanished += 1;
                    return Ok(());
                };
                described.stamp = stamp.and_then(|stamp| self.proof.keep(stamp));
                described
            }
        };
        if several {
            let known = (
                found.path.clone(),
                described.entry.attributes.clone(),
                described.stamp,
            );
            self.first_names.insert(identity(found), known);
        }
        if found.kind() != FileKind::Directory {
            self.progress.add(1, found.attributes.size);
        }
        Ok(self.manifest.push(&described)?)
    }

    pub(super) fn finish(mut self) -> Captured {
        self.captured.previous_damaged = self.previous.is_damaged();
        self.captured
    }
}

/// Walks a tree by a rule, and takes out of it what the rule leaves out.
pub(super) struct LeftOut(Arc<Mutex<Vec<RelativePath>>>);

impl LeftOut {
    /// The options of a walk that remembers what it leaves out.
    pub(super) fn watch(walk: &WalkOptions) -> (WalkOptions, LeftOut) {
        let left_out = Arc::new(Mutex::new(Vec::new()));
        let mut watched = walk.clone();
        if let Some(rule) = walk.skip.clone() {
            let seen = Arc::clone(&left_out);
            let watching: SkipRule = Arc::new(move |path, kind| {
                let skip = rule(path, kind);
                if skip == Skip::LeaveOut {
                    seen.lock().push(path.clone());
                }
                skip
            });
            watched.skip = Some(watching);
        }
        (watched, LeftOut(left_out))
    }

    /// Removes what was left out so far, and keeps the times of the directories that it was in. Errors: those of [`remove_tree`].
    pub(super) fn remove(
        &self,
        root: BorrowedFd<'_>,
        path: &Path,
        progress: &Progress,
    ) -> Result<(), EngineError> {
        // The lock is not held while files are removed: the walk would wait.
        let paths = std::mem::take(&mut *self.0.lock());
        for entry in paths {
            let failed = |error| EngineError::io("remove", path.join(entry.as_path()), error);
            let (parent, name) = open_parent(root, &entry).map_err(failed)?;
            let before = Status::of(&parent).map_err(failed)?;
            let quiet = Progress::new();
            if progress.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            let at = path.join(entry.as_path());
            remove_tree(
                std::os::fd::AsFd::as_fd(&parent),
                OsStr::from_bytes(&name),
                &at,
                1,
                &quiet,
            )?;
            let modified = before.attributes.modified;
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
            let name = format!("/proc/self/fd/{}", parent.as_raw_fd());
            utimensat(CWD, name, &times, AtFlags::empty()).map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }
}
