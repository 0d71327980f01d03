//! What changed between two points, told from the change notes of the epochs between them, and which snapshots are near.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use cairn_types::{BranchId, Epoch, InodeId, SnapshotId, VolumeId};

use super::Store;
use crate::error::MetadataError;
use crate::keyspace::branch::Point;
use crate::keyspace::note;
use crate::keyspace::snapshot::SnapshotRecord;
use crate::view::Lineage;

/// Most inodes that [`Store::changed_between`] names.
pub const CHANGED_INODES_MAX: usize = 4_000_000;

/// Notes read at once.
const NOTES_BATCH: usize = 8192;

impl Store {
    /// The inodes that may differ between two points, ascending, each once: those noted after the last point that both
    /// descend from. `None` if that cannot be told: there is no such point, the notes do not reach back to it, or there are more
    /// than [`CHANGED_INODES_MAX`]. Costs the two lineages and the notes, whatever the number of objects.
    pub fn changed_between(&self, one: Point, other: Point) -> Result<Option<Vec<InodeId>>, MetadataError> {
        let one = Lineage::at(self.engine(), one)?;
        let other = Lineage::at(self.engine(), other)?;
        let others: BTreeMap<BranchId, (usize, Epoch)> = other
            .points()
            .enumerate()
            .map(|(depth, point)| (point.branch, (depth, point.epoch)))
            .collect();
        let common = one.points().enumerate().find_map(|(depth, point)| {
            let (other_depth, other_epoch) = others.get(&point.branch)?;
            Some((depth, *other_depth, point.epoch.min(*other_epoch)))
        });
        let Some((depth, other_depth, parted)) = common else {
            return Ok(None);
        };
        let mut changed = Changed::default();
        for (lineage, depth) in [(&one, depth), (&other, other_depth)] {
            for (level, point) in lineage.points().take(depth + 1).enumerate() {
                let after = if level == depth { parted } else { Epoch(0) };
                if !self.collect_notes(point, after, &mut changed)? {
                    return Ok(None);
                }
            }
        }
        Ok(changed.finish())
    }

    /// The snapshots that a snapshot of `volume` is most likely to differ little from, at most `limit`: first those that it
    /// descends from, nearest first, itself included and those of the volumes that it was forked from; then the volume's others,
    /// newest first.
    pub fn near_snapshots(
        &self,
        volume: VolumeId,
        record: &SnapshotRecord,
        limit: usize,
    ) -> Result<Vec<SnapshotId>, MetadataError> {
        let lineage = Lineage::at(self.engine(), record.point)?;
        let mut levels = BTreeMap::new();
        let mut owners = BTreeSet::from([volume]);
        for (depth, point) in lineage.points().enumerate() {
            levels.insert(point.branch, (depth, point.epoch));
            owners.insert(self.branch(point.branch)?.volume);
        }
        let mut found = Vec::new();
        for owner in owners {
            for (number, snapshot) in self.snapshots(owner)?.into_iter().enumerate() {
                let level = levels.get(&snapshot.point.branch);
                match level.filter(|(_, epoch)| snapshot.point.epoch <= *epoch) {
                    Some((depth, _)) => found.push(((*depth, Reverse(snapshot.point.epoch.0)), snapshot.id)),
                    None if owner == volume => {
                        found.push(((usize::MAX, Reverse(number as u64)), snapshot.id))
                    }
                    None => {}
                }
            }
        }
        found.sort_unstable();
        found.truncate(limit);
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }

    /// Collects what is noted of the point's branch in the epochs after `after` up to the point; `false` if not all is noted, or
    /// there is too much.
    fn collect_notes(
        &self,
        point: Point,
        after: Epoch,
        changed: &mut Changed,
    ) -> Result<bool, MetadataError> {
        if point.epoch <= after {
            return Ok(true);
        }
        if let Some(bound) = self.engine().get(&note::bound_key(point.branch))?
            && note::decode_bound(&bound)? > after
        {
            return Ok(false);
        }
        let mut from = note::note_key(point.branch, after.next(), InodeId(0));
        let to = match point.epoch.0.checked_add(1) {
            Some(end) => note::note_key(point.branch, Epoch(end), InodeId(0)),
            None => note::notes_range(point.branch).1,
        };
        loop {
            let pairs = self.engine().scan(&from, &to, NOTES_BATCH)?;
            for (key, _) in &pairs {
                changed.inodes.push(note::decode_note_key(key)?);
            }
            if !changed.fits() {
                return Ok(false);
            }
            match pairs.last() {
                Some((last, _)) if pairs.len() == NOTES_BATCH => from = [last, [0].as_slice()].concat(),
                _ => return Ok(true),
            }
        }
    }
}

/// Inodes as they are found: not in order, and perhaps several times.
#[derive(Default)]
struct Changed {
    inodes: Vec<InodeId>,
}

impl Changed {
    fn settle(&mut self) {
        self.inodes.sort_unstable();
        self.inodes.dedup();
    }

    /// Whether there are not too many.
    fn fits(&mut self) -> bool {
        if self.inodes.len() <= 2 * CHANGED_INODES_MAX {
            return true;
        }
        self.settle();
        self.inodes.len() <= CHANGED_INODES_MAX
    }

    fn finish(mut self) -> Option<Vec<InodeId>> {
        self.settle();
        (self.inodes.len() <= CHANGED_INODES_MAX).then_some(self.inodes)
    }
}
