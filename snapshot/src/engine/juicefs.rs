//! JuiceFS: directories cloned by the program `juicefs`, which copies metadata and no data.
//!
//! A clone is not of one moment, and the program is believed only after a look: a walk of what it made is held against a walk of the workspace
//! that comes after it. What differs must have changed since the capture began; else the clone is not what was asked for.
//!
//! The directories at the top of the workspace are cloned one by one, each to a name that does not exist yet (the program refuses
//! others), so that the control directory is no part of it. Files at the top are copied by copy_file_range(2), which JuiceFS does without
//! data as well. Several names of one file are several files in the clone; the manifest tells that they are one.

use std::cmp::Ordering;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use cairn_types::FileKind;
use parking_lot::Mutex;

use super::EngineError;
use super::btrfs::run_tool;
use super::capture::{Capture, Captured, Previous, Proof, Target};
use super::listing::{LeftOut, Listing};
use super::trees::copy_entry;
use crate::archive::Progress;
use crate::directory::place::{Loss, Way};
use crate::directory::{
    Found, Losses, PlaceOptions, Placer, RelativePath, Skip, Walk, WalkError, WalkOptions,
};

/// Captures by cloning with the program at `tool`.
///
/// Errors: [`EngineError::Tool`] if the program fails, or did not do what it says; [`EngineError::Exists`], [`EngineError::Walk`],
/// [`EngineError::Io`], [`EngineError::Place`], [`EngineError::Manifest`], [`EngineError::Cancelled`].
pub fn capture(tool: &Path, capture: Capture<'_>) -> Result<Captured, EngineError> {
    let Capture {
        source,
        source_path,
        walk,
        previous,
        target,
        manifest,
        racy_after,
        progress,
        ..
    } = capture;
    let proof = Proof::new(racy_after);
    let root = target.make()?;
    let written = |error| EngineError::io("write into", target.path, error);
    let placer = Placer::new(root.try_clone().map_err(written)?, PlaceOptions::default()).map_err(written)?;
    let (top, directories) = top_alone(&walk);
    for found in Walk::new(source, top)? {
        let found = found?;
        if !found.path.is_root() {
            copy_entry(&placer, Way::Clone, proof, progress, &found)?;
        }
    }
    for directory in std::mem::take(&mut *directories.lock()) {
        clone_directory(tool, source_path, &target, &directory, progress)?;
    }
    let (watched, left_out) = LeftOut::watch(&WalkOptions {
        include: None,
        threads: 0,
        ..walk.clone()
    });
    let mut comparison = Comparison {
        tool,
        target,
        proof,
        newcomer: None,
        losses: placer.losses(),
        listing: Listing::new(manifest, Previous::new(previous, proof), proof, progress),
    };
    let mut of_source = Walk::new(source, walk)?;
    let mut of_clone = Walk::new(&root, watched)?;
    let (mut theirs, mut ours) = (next(&mut of_source)?, next(&mut of_clone)?);
    loop {
        left_out.remove(root.as_fd(), target.path, progress)?;
        let order = match (&theirs, &ours) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(theirs), Some(ours)) => theirs.path.cmp(&ours.path),
        };
        match (order, &theirs, &ours) {
            (Ordering::Less, Some(found), _) => comparison.lacks(found)?,
            (Ordering::Equal, Some(found), Some(cloned)) => comparison.both(found, cloned)?,
            (_, _, Some(cloned)) => comparison.gone(cloned)?,
            (_, _, None) => {}
        }
        if order != Ordering::Greater {
            theirs = next(&mut of_source)?;
        }
        if order != Ordering::Less {
            ours = next(&mut of_clone)?;
        }
    }
    left_out.remove(root.as_fd(), target.path, progress)?;
    let Comparison { listing, losses, .. } = comparison;
    let mut captured = listing.finish();
    captured.walked(&of_source);
    let attributes = crate::directory::Status::of(source)
        .map_err(|error| EngineError::io("look at", source_path, error))?;
    placer.finish_directory(&RelativePath::root(), &attributes.attributes)?;
    captured.losses = losses;
    Ok(captured)
}

fn next(walk: &mut Walk) -> Result<Option<Found>, WalkError> {
    walk.next().transpose()
}

/// The options of a walk that finds the files at the top, and remembers the directories.
fn top_alone(walk: &WalkOptions) -> (WalkOptions, Arc<Mutex<Vec<RelativePath>>>) {
    let directories = Arc::new(Mutex::new(Vec::new()));
    let (rule, seen) = (walk.skip.clone(), Arc::clone(&directories));
    let skip = move |path: &RelativePath, kind: FileKind| {
        let kept = rule.as_ref().is_none_or(|rule| rule(path, kind) == Skip::Keep);
        if kept && kind == FileKind::Directory {
            seen.lock().push(path.clone());
            return Skip::LeaveOut;
        }
        if kept { Skip::Keep } else { Skip::LeaveOut }
    };
    (
        WalkOptions {
            skip: Some(Arc::new(skip)),
            threads: 0,
            ..walk.clone()
        },
        directories,
    )
}

fn clone_directory(
    tool: &Path,
    source: &Path,
    target: &Target<'_>,
    directory: &RelativePath,
    progress: &Progress,
) -> Result<(), EngineError> {
    if progress.is_cancelled() {
        return Err(EngineError::Cancelled);
    }
    let to = target.path.join(directory.as_path());
    let mut command = Command::new(tool);
    command
        .arg("clone")
        .arg(source.join(directory.as_path()))
        .arg(&to)
        .arg("-p");
    command.stdin(std::process::Stdio::null());
    run_tool(&mut command, tool, &to)
}

/// Holds the clone against the workspace, entry by entry.
struct Comparison<'a> {
    tool: &'a Path,
    target: Target<'a>,
    proof: Proof,
    /// A directory that is newer than the clone, with all in it.
    newcomer: Option<RelativePath>,
    losses: Losses,
    listing: Listing<'a>,
}

impl Comparison<'_> {
    /// The clone lacks what the workspace has.
    fn lacks(&mut self, found: &Found) -> Result<(), EngineError> {
        if self
            .newcomer
            .as_ref()
            .is_some_and(|directory| found.path.is_within(directory))
        {
            return Ok(());
        }
        if self.proof.is_settled(&found.stamp) {
            return Err(self.lied(&found.path, "is missing in the clone"));
        }
        if found.kind() == FileKind::Directory {
            self.newcomer = Some(found.path.clone());
        }
        Ok(())
    }

    /// The workspace lacks by now what the clone has.
    fn gone(&mut self, cloned: &Found) -> Result<(), EngineError> {
        self.count(cloned);
        self.listing.add(cloned, None)
    }

    fn both(&mut self, found: &Found, cloned: &Found) -> Result<(), EngineError> {
        self.count(cloned);
        let (asked, got) = (&found.attributes, &cloned.attributes);
        // The root is made here, and gets its attributes at the end.
        if found.path.is_root() {
            return self.listing.add(found, Some(found.stamp));
        }
        let sized = matches!(asked.kind, FileKind::Regular | FileKind::Symlink);
        let fault = if asked.kind != got.kind {
            Some("is of another kind in the clone")
        } else if sized && asked.size != got.size {
            Some("has another size in the clone")
        } else if asked.modified != got.modified {
            Some("has another time of modification in the clone")
        } else if asked.kind == FileKind::Symlink && found.read_link().ok() != cloned.read_link().ok() {
            Some("has another target in the clone")
        } else {
            None
        };
        match fault {
            None => {
                if (asked.uid, asked.gid) != (got.uid, got.gid) {
                    self.losses.add(Loss::Owner, &found.path);
                }
                if asked.mode != got.mode {
                    self.losses.add(Loss::Mode, &found.path);
                }
                self.listing.add(found, Some(found.stamp))
            }
            Some(what) if self.proof.is_settled(&found.stamp) => Err(self.lied(&found.path, what)),
            // It has changed since: what the snapshot has is what was cloned.
            Some(_) => self.listing.add(cloned, None),
        }
    }

    fn count(&mut self, cloned: &Found) {
        self.listing.captured.cloned_files += u64::from(cloned.kind() == FileKind::Regular);
    }

    fn lied(&self, path: &RelativePath, what: &str) -> EngineError {
        EngineError::Tool {
            tool: self.tool.to_owned(),
            path: self.target.path.to_owned(),
            outcome: format!("it reported success, but {path} {what}"),
        }
    }
}
