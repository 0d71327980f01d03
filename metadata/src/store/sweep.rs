//! What nothing refers to any more: finding it, and removing it a bounded step at a time.
//!
//! Whole branches go first ([`Store::sweep_branches`]), then single versions in those that stay ([`HistorySweep`]), and then it can
//! be told which segments of the log are in use.

use std::collections::{BTreeMap, BTreeSet};

use cairn_types::{BranchId, Extent, InodeId, SegmentId};

use super::Store;
use crate::engine::{Batch, Durability};
use crate::error::MetadataError;
use crate::keyspace::branch;
use crate::keyspace::codec::DecodeError;
use crate::keyspace::extent::ExtentRecord;
use crate::keyspace::import;
use crate::keyspace::note;
use crate::keyspace::{HEAD_KEY_PREFIX, ObjectKind, Version, head_key, history_prefix, prefix_end};

mod history;
mod notes;
mod uses;

pub use history::{HistorySweep, Step};
pub(super) use uses::Swept;

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
        let (_, dead) = self.branch_uses()?;
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

    /// Which segments of the hot log the extents of any version of any branch refer to. Reads all metadata. After each run of
    /// versions `pause` is told how many it were, and may take its time; if it says no, the answer is `None`.
    pub fn segments_in_use(
        &self,
        pause: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<SegmentUse>, MetadataError> {
        /// Versions between two pauses.
        const RUN: u64 = 4096;
        let mut used = SegmentUse::new();
        let mut seen = 0;
        for (family, epoch_bytes) in [(b'H', 0), (b'h', EPOCH_BYTES)] {
            let (mut from, to) = (vec![family], prefix_end(&[family]));
            loop {
                let pairs = self.engine.scan(&from, &to, RUN as usize)?;
                for (key, value) in &pairs {
                    count_extent(key, value, epoch_bytes, &mut used)?;
                }
                seen += pairs.len() as u64;
                if seen >= RUN {
                    if !pause(seen) {
                        return Ok(None);
                    }
                    seen = 0;
                }
                match pairs.last() {
                    Some((last, _)) if pairs.len() == RUN as usize => from = [last, [0].as_slice()].concat(),
                    _ => break,
                }
            }
        }
        Ok(Some(used))
    }
}

/// Adds the bytes of an extent to those of its segment; of another object, nothing.
fn count_extent(
    key: &[u8],
    value: &[u8],
    epoch_bytes: usize,
    used: &mut SegmentUse,
) -> Result<(), MetadataError> {
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
}

/// Branches by id.
type Branches<T> = BTreeMap<BranchId, T>;
/// Ends of epochs.
type Epochs = BTreeSet<cairn_types::Epoch>;
