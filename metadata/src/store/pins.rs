//! Branches that somebody reads: the sweep leaves them, and what they descend from, alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_types::{BranchId, SnapshotId, VolumeId};
use parking_lot::Mutex;

use super::Store;
use crate::error::MetadataError;
use crate::keyspace::snapshot::SnapshotRecord;

/// How many pins each branch has.
#[derive(Default)]
pub(super) struct Pins(Arc<Mutex<BTreeMap<BranchId, usize>>>);

impl Pins {
    pub fn branches(&self) -> Vec<BranchId> {
        self.0.lock().keys().copied().collect()
    }

    fn pin(&self, branch: BranchId) -> BranchPin {
        *self.0.lock().entry(branch).or_default() += 1;
        BranchPin {
            branch,
            pins: self.0.clone(),
        }
    }
}

/// Keeps a branch and its ancestors from the sweep until it is dropped, and with their extents the segments of the log.
pub struct BranchPin {
    branch: BranchId,
    pins: Arc<Mutex<BTreeMap<BranchId, usize>>>,
}

impl Drop for BranchPin {
    fn drop(&mut self) {
        let mut pins = self.pins.lock();
        if let Some(count) = pins.get_mut(&self.branch) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&self.branch);
            }
        }
    }
}

impl Store {
    /// The snapshot of that id, with the volume that has it, pinned: its state can be read as long as the pin is held, also
    /// when the volume is deleted. `None` if there is no such snapshot (any more).
    pub fn pin_snapshot(
        &self,
        id: SnapshotId,
    ) -> Result<Option<(VolumeId, SnapshotRecord, BranchPin)>, MetadataError> {
        // Under this lock volumes are deleted and branches swept: a snapshot that is there now is pinned before either.
        let _catalogue = self.catalogue.lock();
        let Some((volume, record)) = self.snapshot(id)? else {
            return Ok(None);
        };
        let pin = self.pins.pin(record.point.branch);
        Ok(Some((volume, record, pin)))
    }
}
