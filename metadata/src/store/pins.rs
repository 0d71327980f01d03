//! Points that somebody reads: the sweep leaves what can be seen at them alone, and the branches that they descend from.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_types::{SnapshotId, VolumeId};
use parking_lot::Mutex;

use super::Store;
use crate::error::MetadataError;
use crate::keyspace::branch::Point;
use crate::keyspace::snapshot::SnapshotRecord;

/// What somebody does with a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PinUse {
    /// Reads it as a whole, as a push does.
    Reading,
    /// Compares it with another one.
    Comparing,
}

/// What is pinned, by number of the pin.
#[derive(Default)]
pub(super) struct Pins(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    next: u64,
    held: BTreeMap<u64, Held>,
}

struct Held {
    point: Point,
    snapshot: Option<SnapshotId>,
    purpose: PinUse,
}

impl Pins {
    /// Every point that is pinned; one may come several times.
    pub fn points(&self) -> Vec<Point> {
        self.0.lock().held.values().map(|held| held.point).collect()
    }

    /// What is done with a snapshot now, each use once.
    pub fn uses(&self, id: SnapshotId) -> Vec<PinUse> {
        let inner = self.0.lock();
        let of_it = inner.held.values().filter(|held| held.snapshot == Some(id));
        let mut uses: Vec<PinUse> = of_it.map(|held| held.purpose).collect();
        uses.sort_unstable();
        uses.dedup();
        uses
    }

    pub fn pin(&self, point: Point, snapshot: Option<SnapshotId>, purpose: PinUse) -> PointPin {
        let mut inner = self.0.lock();
        let number = inner.next;
        inner.next += 1;
        let held = Held {
            point,
            snapshot,
            purpose,
        };
        inner.held.insert(number, held);
        PointPin {
            number,
            pins: self.0.clone(),
        }
    }
}

/// Keeps a point from the sweep until it is dropped: what can be seen there, its branch with all ancestors, and with the extents
/// the segments of the log.
pub struct PointPin {
    number: u64,
    pins: Arc<Mutex<Inner>>,
}

impl Drop for PointPin {
    fn drop(&mut self) {
        self.pins.lock().held.remove(&self.number);
    }
}

impl Store {
    /// The snapshot of that id, with the volume that has it, pinned: its state can be read as long as the pin is held, also
    /// when the volume is deleted. `None` if there is no such snapshot (any more).
    pub fn pin_snapshot(
        &self,
        id: SnapshotId,
        purpose: PinUse,
    ) -> Result<Option<(VolumeId, SnapshotRecord, PointPin)>, MetadataError> {
        // Under this lock snapshots and volumes are deleted and branches swept: a snapshot that is there now is pinned before any
        // of that.
        let _catalogue = self.catalogue.lock();
        let Some((volume, record)) = self.snapshot(id)? else {
            return Ok(None);
        };
        let pin = self.pins.pin(record.point, Some(id), purpose);
        Ok(Some((volume, record, pin)))
    }
}
