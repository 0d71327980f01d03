//! Captures by Btrfs: a snapshot of the workspace's subvolume, and a manifest of what is in it.
//!
//! The snapshot is of one moment, and what is walked is the snapshot: nothing is torn and nothing vanishes. What is to be left out, the control directory among
//! it if it is in the workspace, is in the snapshot as well: it is removed from there. So the snapshot is writable until [`seal_snapshot`](crate::engine::seal_snapshot). A control
//! directory that is a subvolume of its own ([`Btrfs::create`]) is only an empty directory there, which costs nothing.

use std::os::fd::AsFd;

use cairn_types::FileKind;

use super::{ABSENT_SUBVOLUME_INODE, Btrfs};
use crate::directory::{Stamp, Status, Walk};
use crate::engine::EngineError;
use crate::engine::capture::{Capture, Captured, Previous, Proof};
use crate::engine::listing::{LeftOut, Listing};

impl Btrfs {
    /// Captures the workspace, which must be the root of a subvolume, as a snapshot of it, and describes it. Other subvolumes in
    /// it are not in the snapshot: that is an error unless the walk shall not enter other file systems.
    ///
    /// Errors: [`EngineError::Tool`], [`EngineError::Foreign`], [`EngineError::Walk`], [`EngineError::Io`], [`EngineError::Manifest`],
    /// [`EngineError::Cancelled`].
    pub fn capture(&self, capture: Capture<'_>) -> Result<Captured, EngineError> {
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
        let device = Status::of(source)
            .map_err(|error| EngineError::io("look at", source_path, error))?
            .stamp
            .device;
        self.snapshot(source, target.parent, target.name, target.path)?;
        let root = target.open()?;
        let (watched, left_out) = LeftOut::watch(&walk);
        let mut listing = Listing::new(manifest, Previous::new(previous, proof), proof, progress);
        let mut walked = Walk::new(&root, watched)?;
        for found in &mut walked {
            let found = found?;
            left_out.remove(root.as_fd(), target.path, progress)?;
            let absent = found.kind() == FileKind::Directory && found.stamp.inode == ABSENT_SUBVOLUME_INODE;
            if absent && !walk.one_file_system {
                return Err(EngineError::Foreign { path: found.path });
            }
            // The same file has the same number there, and another device.
            let stamp = Stamp {
                device,
                ..found.stamp
            };
            listing.captured.cloned_files += u64::from(found.kind() == FileKind::Regular);
            listing.add(&found, Some(stamp))?;
        }
        left_out.remove(root.as_fd(), target.path, progress)?;
        let mut captured = listing.finish();
        captured.walked(&walked);
        Ok(captured)
    }
}
