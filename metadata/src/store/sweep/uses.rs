//! Who can see what of which branch, and what the sweep remembers of that.

use std::collections::BTreeMap;

use cairn_types::{BranchId, Epoch};
use parking_lot::RwLock;

use super::{Branches, Epochs};
use crate::error::MetadataError;
use crate::keyspace::branch::{self, BranchRecord, Point};
use crate::keyspace::snapshot::{self, SnapshotRecord};
use crate::store::Store;
use crate::transaction::{Transaction, Unseen};
use crate::view::Lineage;

/// At which epochs a branch is seen, and by whom.
#[derive(Debug)]
pub(super) struct BranchUse {
    pub record: BranchRecord,
    /// It is the head of a volume, or an import is building it.
    pub live: bool,
    /// Points that snapshots and pins see.
    pub direct: Epochs,
    /// Branches that start at a point of this one.
    pub children: BTreeMap<Epoch, Vec<BranchId>>,
}

impl BranchUse {
    /// Every point that somebody sees.
    pub fn points(&self) -> Epochs {
        self.direct.iter().chain(self.children.keys()).copied().collect()
    }
}

/// What the sweep has learned of branches since the store was opened. Nothing of it must survive: without it, a sweep looks at
/// everything again.
#[derive(Default)]
pub(in crate::store) struct Swept(RwLock<Branches<SweptBranch>>);

/// A branch as it was when the sweep planned to look at it, or had looked.
#[derive(Debug, Clone, Default)]
struct SweptBranch {
    unseen: Unseen,
    /// Set when a pass over the branch is complete: the points, the current epoch, and whether it was live.
    passed: Option<(Epochs, Epoch, bool)>,
}

impl Swept {
    /// What nobody will ever see of a live branch.
    fn unseen(&self, id: BranchId) -> Unseen {
        self.0
            .read()
            .get(&id)
            .map_or(Unseen::default(), |swept| swept.unseen)
    }

    /// Forgets branches that are gone, and notes what nobody sees of the live ones. Tells which branches need a pass.
    pub(super) fn plan(&self, branches: &Branches<BranchUse>) -> Vec<BranchId> {
        let mut swept = self.0.write();
        swept.retain(|id, _| branches.contains_key(id));
        let mut wanted = Vec::new();
        for (id, now) in branches {
            let points = now.points();
            let known = swept.entry(*id).or_default();
            if now.live {
                known.unseen = Unseen {
                    after: points.last().copied().unwrap_or(Epoch(0)),
                    through: Epoch(now.record.epoch.0 - 1),
                };
            }
            if known
                .passed
                .as_ref()
                .is_none_or(|passed| is_due(passed, now, &points))
            {
                wanted.push(*id);
            }
        }
        wanted
    }

    /// Notes that a pass over the branch is complete.
    pub(super) fn passed(&self, id: BranchId, seen: &BranchUse) {
        let passed = (seen.points(), seen.record.epoch, seen.live);
        self.0.write().entry(id).or_default().passed = Some(passed);
    }
}

/// Whether versions may have become invisible since a pass: a point is gone, an epoch has ended and nobody sees its end, or the branch
/// is not live any more. New points make nothing invisible.
fn is_due((points, epoch, live): &(Epochs, Epoch, bool), now: &BranchUse, seen: &Epochs) -> bool {
    let ended = epoch.0..now.record.epoch.0;
    !points.is_subset(seen)
        || (ended.end - ended.start) != seen.range(Epoch(ended.start)..Epoch(ended.end)).count() as u64
        || *live != now.live
}

impl Store {
    /// A transaction on the live state of the lineage's branch in its current epoch, which keeps no version that nobody can see.
    pub fn transaction<'a>(&'a self, lineage: &'a Lineage, epoch: Epoch) -> Transaction<'a> {
        Transaction::new(self.engine(), lineage, epoch).without(self.swept.unseen(lineage.branch()))
    }

    /// The branches that somebody needs, and the others. The catalogue must be locked. Snapshots may be taken and epochs ended
    /// meanwhile: they are of epochs that were not over when their branch was read, or they are seen.
    pub(super) fn branch_uses(&self) -> Result<(Branches<BranchUse>, Vec<BranchId>), MetadataError> {
        // Before snapshots and pins: what ends later is not over here.
        let mut branches = Branches::new();
        self.each(b"B", &mut |key, value| {
            let unused = BranchUse {
                record: BranchRecord::decode(value)?,
                live: false,
                direct: Epochs::new(),
                children: BTreeMap::new(),
            };
            branches.insert(branch::decode_branch_key(key)?, unused);
            Ok(())
        })?;
        let heads = self.volumes()?.into_iter().map(|volume| volume.record.head);
        let imports = self.imports()?.into_iter().map(|(_, import)| import.branch);
        let mut referred: Vec<BranchId> = heads.chain(imports).collect();
        for id in &referred {
            if let Some(live) = branches.get_mut(id) {
                live.live = true;
            }
        }
        let mut points: Vec<Point> = Vec::new();
        self.each(b"S", &mut |key, value| {
            snapshot::decode_snapshot_key(key)?;
            points.push(SnapshotRecord::decode(value)?.point);
            Ok(())
        })?;
        points.append(&mut self.pins.points());
        for point in points {
            referred.push(point.branch);
            if let Some(seen) = branches.get_mut(&point.branch) {
                seen.direct.insert(point.epoch);
            }
        }
        let mut needed = std::collections::BTreeSet::new();
        while let Some(id) = referred.pop() {
            if needed.insert(id) {
                // Where something is missing nothing is swept.
                let found = branches.get(&id).ok_or_else(|| MetadataError::Missing {
                    what: format!("branch {id}"),
                })?;
                referred.extend(found.record.parent.map(|parent| parent.branch));
            }
        }
        let dead: Vec<BranchId> = branches
            .keys()
            .copied()
            .filter(|id| !needed.contains(id))
            .collect();
        branches.retain(|id, _| needed.contains(id));
        let starts: Vec<(BranchId, Point)> = branches
            .iter()
            .filter_map(|(id, found)| Some((*id, found.record.parent?)))
            .collect();
        for (child, start) in starts {
            if let Some(parent) = branches.get_mut(&start.branch) {
                parent.children.entry(start.epoch).or_default().push(child);
            }
        }
        Ok((branches, dead))
    }
}
