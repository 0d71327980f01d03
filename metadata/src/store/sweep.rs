//! What nothing refers to any more: finding it, and removing it a bounded step at a time.

use std::collections::{BTreeMap, BTreeSet};

use cairn_types::{BranchId, Extent, InodeId, SegmentId};

use super::Store;
use crate::engine::{Batch, Durability};
use crate::error::MetadataError;
use crate::keyspace::branch::{self, BranchRecord};
use crate::keyspace::codec::DecodeError;
use crate::keyspace::extent::ExtentRecord;
use crate::keyspace::import;
use crate::keyspace::note;
use crate::keyspace::snapshot::{self, SnapshotRecord};
use crate::keyspace::{HEAD_KEY_PREFIX, ObjectKind, Version, head_key, history_prefix, prefix_end};

/// Bytes that extents refer to, by segment of the hot log. Bytes that several versions refer to count several times: the
/// figure tells whether a segment is in use, not how well.
pub type SegmentUse = BTreeMap<SegmentId, u64>;

/// Offset of the object's kind in a head or history key: after family, branch and inode.
const KIND_OFFSET: usize = HEAD_KEY_PREFIX + 8;
/// Bytes of an epoch at the end of a history key.
const EPOCH_BYTES: usize = 8;

impl Store {
    /// At most `limit` removed inodes of a branch whose extents wait for the sweep.
    pub fn orphans(&self, id: BranchId, limit: usize) -> Result<Vec<InodeId>, MetadataError> {
        let from = branch::orphan_key(id, InodeId(0));
        let to = branch::orphan_key(id, InodeId(u64::MAX));
        let pairs = self.engine.scan(&from, &to, limit)?;
        pairs
            .iter()
            .map(|(key, _)| Ok(branch::decode_orphan_key(key)?.1))
            .collect()
    }

    /// Removes the branches that no volume, no snapshot, no import, no pin and no other branch refers to, with all their objects; tells
    /// how many. Volumes must not be made, forked or restored meanwhile, which the catalogue lock sees to.
    pub fn sweep_branches(&self) -> Result<usize, MetadataError> {
        let _catalogue = self.catalogue.lock();
        let mut branches = BTreeMap::new();
        self.each(b"B", &mut |key, value| {
            branches.insert(branch::decode_branch_key(key)?.0, BranchRecord::decode(value)?);
            Ok(())
        })?;
        let mut referred: Vec<BranchId> = self.volumes()?.iter().map(|volume| volume.record.head).collect();
        self.each(b"S", &mut |key, value| {
            snapshot::decode_snapshot_key(key)?;
            referred.push(SnapshotRecord::decode(value)?.point.branch);
            Ok(())
        })?;
        referred.extend(self.pins.branches());
        referred.extend(self.imports()?.iter().map(|(_, import)| import.branch));
        let mut live = BTreeSet::new();
        while let Some(id) = referred.pop() {
            if live.insert(id.0)
                && let Some(parent) = branches.get(&id.0).and_then(|record| record.parent)
            {
                referred.push(parent.branch);
            }
        }
        let dead: Vec<BranchId> = branches
            .keys()
            .filter(|id| !live.contains(id))
            .map(|id| BranchId(*id))
            .collect();
        for id in &dead {
            let mut batch = Batch::default();
            batch.delete_range(head_key(*id, &[]), prefix_end(&head_key(*id, &[])));
            batch.delete_range(history_prefix(*id, &[]), prefix_end(&history_prefix(*id, &[])));
            batch.delete_range(
                branch::orphan_key(*id, InodeId(0)),
                prefix_end(&branch::orphan_key(*id, InodeId(u64::MAX))),
            );
            let (notes_from, notes_to) = note::notes_range(*id);
            batch.delete_range(notes_from, notes_to);
            batch.delete_range(
                import::upward_key(*id, InodeId(0)),
                prefix_end(&import::upward_key(*id, InodeId(u64::MAX))),
            );
            batch.delete(branch::usage_key(*id));
            batch.delete(branch::branch_key(*id));
            self.engine.write(batch, Durability::Process)?;
        }
        Ok(dead.len())
    }

    /// Which segments of the hot log the extents of any version of any branch refer to. Reads all metadata.
    pub fn segments_in_use(&self) -> Result<SegmentUse, MetadataError> {
        let mut used = SegmentUse::new();
        for (family, epoch_bytes) in [(b"H", 0), (b"h", EPOCH_BYTES)] {
            self.each(family, &mut |key, value| {
                if key.get(KIND_OFFSET) != Some(&(ObjectKind::Extent as u8)) {
                    return Ok(());
                }
                let malformed = DecodeError {
                    what: "extent key",
                    offset: key.len(),
                };
                let end = key.len().checked_sub(epoch_bytes).ok_or(malformed)?;
                let body = key.get(HEAD_KEY_PREFIX..end).ok_or(malformed)?;
                if let Some(value) = Version::decode(value)?.value
                    && let Extent::Log(slice) = ExtentRecord::decode(body, value)?.extent
                {
                    *used.entry(slice.segment()).or_default() += u64::from(slice.length());
                }
                Ok(())
            })?;
        }
        Ok(used)
    }
}
