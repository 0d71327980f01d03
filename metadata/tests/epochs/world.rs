//! A store and, beside it, the naive model of all its volumes; both do the same steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::engine::rocks::{RocksEngine, RocksSettings};
use cairn_metadata::engine::{Durability, Engine};
use cairn_metadata::store::{Deletion, HistorySweep, OpenVolume, PointPin, SnapshotDetails, SnapshotUser};
use cairn_metadata::{
    CapacityLimits, Lineage, MetadataError, Origin, Point, SnapshotRecord, Store, Usage, View, VolumeRecord,
};
use cairn_types::{BranchId, Epoch, ExportPolicy, InodeId, SnapshotId, Timestamp, VolumeId, WorkspaceName};
use tempfile::TempDir;

use crate::minimal;
use crate::tree::{Change, FIRST_LATE, Tree};

/// Most volumes at once.
const VOLUMES_MAX: usize = 3;
/// Most branches that a branch descends from here.
const DEPTH_MAX: u32 = 7;

/// What happens. Choices are taken modulo what there is.
#[derive(Debug, Clone)]
pub enum Step {
    Change {
        volume: usize,
        changes: Vec<Change>,
        durability: Durability,
    },
    Snapshot(usize),
    EndEpoch(usize),
    /// The volume, and which of its snapshots.
    Restore(usize, usize),
    Fork(usize, usize),
    Delete(usize),
    /// The volume, and which of its snapshots.
    DeleteSnapshot(usize, usize),
    /// Lets go of the ended epochs of a volume that are pinned.
    Release(usize),
    Sweep,
    /// So many steps of a sweep that goes on beside everything else.
    SweepOn(usize),
    Reopen,
    /// Only the engine in memory has one; another is closed and opened.
    PowerCut,
}

/// Where the store is.
pub enum Place {
    Memory(MemoryEngine),
    Disk(TempDir),
}

impl Place {
    /// On disk, with buffers of the smallest size, so that some of the data reaches table files.
    pub fn disk() -> Self {
        Place::Disk(tempfile::tempdir().unwrap())
    }

    pub fn open(&self) -> Arc<dyn Engine> {
        match self {
            Place::Memory(engine) => Arc::new(engine.clone()),
            Place::Disk(directory) => {
                let settings = RocksSettings {
                    write_buffer_bytes: 64 << 10,
                    write_buffers: 2,
                    ..RocksSettings::default()
                };
                Arc::new(RocksEngine::open(directory.path(), settings).unwrap())
            }
        }
    }
}

fn record(number: u64) -> VolumeRecord {
    VolumeRecord {
        name: WorkspaceName::new(&format!("w{number}")).unwrap(),
        head: BranchId(0),
        inodes_reserved: InodeId(FIRST_LATE),
        next_snapshot: 1,
        snapshots: 0,
        created: Timestamp::new(number as i64, 0),
        last_snapshot: None,
        forked_from: None,
        policy: ExportPolicy::default(),
        limits: CapacityLimits::default(),
    }
}

fn details(number: u64) -> SnapshotDetails {
    SnapshotDetails {
        id: SnapshotId((u128::from(number) << 64 | 0xabcd).to_be_bytes()),
        origin: Origin::Requested,
        created: Timestamp::new(number as i64, 0),
        note: format!("{number}"),
        tags: Vec::new(),
    }
}

/// A new volume without a model.
pub fn plain_volume(store: &Store, number: u64) -> OpenVolume {
    let root = crate::tree::record(7);
    store.create_volume(record(number), &root).unwrap().unwrap()
}

/// A snapshot without a model.
pub fn plain_snapshot(store: &Store, volume: &mut OpenVolume, number: u64) -> SnapshotRecord {
    store.take_snapshot(volume, details(number)).unwrap()
}

/// A fork without a model.
pub fn plain_fork(store: &Store, from: &SnapshotRecord, number: u64) -> OpenVolume {
    store.fork_volume(record(number), from).unwrap().unwrap()
}

/// A pin that can be part of a model.
#[derive(Clone)]
struct Pinned(#[allow(dead_code, reason = "held, not read")] Arc<PointPin>);

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pinned")
    }
}

/// A volume as it should be.
#[derive(Debug, Clone)]
struct Volume {
    open: OpenVolume,
    live: Tree,
    snapshots: Vec<(SnapshotRecord, Tree)>,
    /// Ends of epochs that no snapshot keeps, pinned.
    points: Vec<(Point, Tree, Pinned)>,
    /// The next inode number: never taken back, and handed on to forks.
    fresh: u64,
}

/// What a store should hold.
#[derive(Debug, Clone, Default)]
struct Model {
    volumes: Vec<Volume>,
    /// The parent of every branch that was not swept.
    branches: BTreeMap<u64, Option<u64>>,
}

/// A store with its model.
pub struct World {
    place: Place,
    store: Option<Store>,
    model: Model,
    /// The model at the last moment of durability.
    durable: Model,
    /// Numbers for names and ids.
    next: u64,
    /// A sweep that is under way.
    sweep: Option<HistorySweep>,
}

impl World {
    pub fn new(place: Place) -> Self {
        let store = Store::open(place.open()).unwrap();
        let mut world = World {
            place,
            store: Some(store),
            model: Model::default(),
            durable: Model::default(),
            next: 1,
            sweep: None,
        };
        world.create();
        world
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn volume_record(&mut self, fresh: u64, forked_from: Option<SnapshotId>) -> VolumeRecord {
        VolumeRecord {
            inodes_reserved: InodeId(fresh),
            forked_from,
            ..record(self.number())
        }
    }

    fn details(&mut self, origin: Origin) -> SnapshotDetails {
        let number = self.number();
        SnapshotDetails {
            origin,
            ..details(number)
        }
    }

    fn create(&mut self) {
        let record = self.volume_record(FIRST_LATE, None);
        let root = crate::tree::record(7);
        let open = self.store().create_volume(record, &root).unwrap().unwrap();
        self.admit(open, Tree::with_root(root), FIRST_LATE);
    }

    fn admit(&mut self, open: OpenVolume, live: Tree, fresh: u64) {
        self.model.note_branch(&open);
        self.model.volumes.push(Volume {
            open,
            live,
            snapshots: Vec::new(),
            points: Vec::new(),
            fresh,
        });
        self.durable = self.model.clone();
    }

    /// Deletes all volumes but the first and all its snapshots, sweeps, and tells what is stored.
    pub fn strip(mut self) -> (Store, Option<OpenVolume>) {
        while self.delete(1 % self.model.volumes.len()) {}
        self.step(&Step::Release(0));
        while !self.model.volumes[0].snapshots.is_empty() {
            assert!(self.delete_snapshot(0, 0));
        }
        self.sweep();
        self.check();
        let open = self.model.volumes.pop().map(|volume| volume.open);
        (self.store.take().unwrap(), open)
    }

    /// Does a step; tells whether it may have changed what anybody but the volume's live tree shows.
    pub fn step(&mut self, step: &Step) -> bool {
        let count = self.model.volumes.len();
        match step {
            Step::Change {
                volume,
                changes,
                durability,
            } => {
                self.change(volume % count, changes, *durability);
                false
            }
            Step::Snapshot(volume) => {
                let details = self.details(Origin::Requested);
                let store = self.store.as_ref().unwrap();
                let volume = &mut self.model.volumes[volume % count];
                let record = store.take_snapshot(&mut volume.open, details).unwrap();
                volume.snapshots.push((record, volume.live.clone()));
                self.durable = self.model.clone();
                false
            }
            Step::EndEpoch(volume) => {
                let store = self.store.as_ref().unwrap();
                let volume = &mut self.model.volumes[volume % count];
                let (point, pin) = store.end_epoch(&mut volume.open).unwrap();
                let pin = Pinned(Arc::new(pin));
                volume.points.push((point, volume.live.clone(), pin));
                false
            }
            Step::Restore(volume, snapshot) => self.restore(volume % count, *snapshot),
            Step::Fork(volume, snapshot) => self.fork(volume % count, *snapshot),
            Step::Delete(volume) => self.delete(volume % count),
            Step::DeleteSnapshot(volume, snapshot) => self.delete_snapshot(volume % count, *snapshot),
            Step::Release(volume) => {
                let id = self.model.volumes[volume % count].open.id;
                self.model.volumes[volume % count].points.clear();
                let durable = self.durable.volumes.iter_mut();
                durable
                    .filter(|volume| volume.open.id == id)
                    .for_each(|volume| volume.points.clear());
                false
            }
            Step::Sweep => {
                self.sweep();
                true
            }
            Step::SweepOn(steps) => {
                self.sweep_on(*steps);
                true
            }
            Step::Reopen => {
                self.reopen();
                true
            }
            Step::PowerCut => {
                if let Place::Memory(engine) = &mut self.place {
                    *engine = engine.power_cut();
                    self.model = self.durable.clone();
                }
                self.reopen();
                true
            }
        }
    }

    fn change(&mut self, volume: usize, changes: &[Change], durability: Durability) {
        let store = self.store.as_ref().unwrap();
        let engine = store.engine();
        let volume = &mut self.model.volumes[volume];
        let lineage = Lineage::live(engine, volume.open.record.head).unwrap();
        let mut transaction = store.transaction(&lineage, volume.open.branch.epoch);
        for change in changes {
            volume.live.change(&mut transaction, change, &mut volume.fresh);
        }
        volume.open.usage = Usage {
            inodes: volume.open.usage.inodes + 1,
            bytes: volume.fresh,
        };
        transaction.put_usage(volume.open.usage);
        volume.open.record.inodes_reserved = InodeId(volume.fresh);
        transaction.put_volume(volume.open.id, &volume.open.record);
        transaction.commit(durability).unwrap();
        if durability == Durability::Power {
            self.durable = self.model.clone();
        }
    }

    /// A snapshot of the volume, unless it has none or too long a lineage.
    fn choose(&self, volume: usize, snapshot: usize) -> Option<(SnapshotRecord, Tree)> {
        let snapshots = &self.model.volumes[volume].snapshots;
        // Half of the choices are the newest one, so that lineages grow.
        let index = (snapshot % (2 * snapshots.len().max(1))).min(snapshots.len().checked_sub(1)?);
        let (record, tree) = &snapshots[index];
        let depth = self.store().branch(record.point.branch).unwrap().depth;
        (depth < DEPTH_MAX).then(|| (record.clone(), tree.clone()))
    }

    fn restore(&mut self, volume: usize, snapshot: usize) -> bool {
        let Some((target, tree)) = self.choose(volume, snapshot) else {
            return false;
        };
        let details = self.details(Origin::Safety);
        let store = self.store.as_ref().unwrap();
        let volume = &mut self.model.volumes[volume];
        let before = volume.open.clone();
        let safety = store.restore(&mut volume.open, &target, details).unwrap();
        assert_eq!(safety.point.branch, before.record.head);
        assert_eq!(safety.usage, before.usage);
        assert_eq!(volume.open.usage, target.usage);
        assert_eq!(volume.open.branch.parent, Some(target.point));
        volume.snapshots.push((safety, volume.live.clone()));
        volume.live = tree;
        let open = volume.open.clone();
        self.model.note_branch(&open);
        self.durable = self.model.clone();
        true
    }

    fn fork(&mut self, volume: usize, snapshot: usize) -> bool {
        if self.model.volumes.len() == VOLUMES_MAX {
            return false;
        }
        let Some((from, tree)) = self.choose(volume, snapshot) else {
            return false;
        };
        let fresh = self.model.volumes[volume].fresh;
        let record = self.volume_record(fresh, Some(from.id));
        let open = self.store().fork_volume(record, &from).unwrap().unwrap();
        assert_eq!(open.usage, from.usage);
        self.admit(open, tree, fresh);
        true
    }

    fn delete(&mut self, volume: usize) -> bool {
        if self.model.volumes.len() == 1 {
            return false;
        }
        let volume = self.model.volumes.remove(volume);
        let store = self.store();
        store.delete_volume(&volume.open).unwrap();
        assert_eq!(store.volume_named(&volume.open.record.name).unwrap(), None);
        for (record, _) in &volume.snapshots {
            assert_eq!(store.snapshot(record.id).unwrap(), None);
        }
        assert_eq!(store.snapshots(volume.open.id).unwrap(), []);
        self.durable = self.model.clone();
        true
    }

    fn delete_snapshot(&mut self, volume: usize, snapshot: usize) -> bool {
        let snapshots = &self.model.volumes[volume].snapshots;
        if snapshots.is_empty() {
            return false;
        }
        let index = snapshot % snapshots.len();
        let record = snapshots[index].0.clone();
        let mut forks: Vec<SnapshotUser> = Vec::new();
        for other in &self.model.volumes {
            if other.open.record.forked_from == Some(record.id) {
                forks.push(SnapshotUser::Fork(other.open.record.name.clone()));
            }
        }
        let store = self.store.as_ref().unwrap();
        let open = &mut self.model.volumes[volume].open;
        let now = Timestamp::default();
        let outcome = store.delete_snapshot(open, record.id, now).unwrap();
        if !forks.is_empty() {
            assert_eq!(outcome, Deletion::InUse(forks));
            return false;
        }
        assert_eq!(outcome, Deletion::Deleted(record.clone()));
        assert_eq!(store.snapshot(record.id).unwrap(), None);
        assert_eq!(
            store.delete_snapshot(open, record.id, now).unwrap(),
            Deletion::Absent
        );
        let refused = store.restore(open, &record, details(0));
        assert!(
            matches!(refused, Err(MetadataError::SnapshotGone { .. })),
            "{refused:?}"
        );
        self.model.volumes[volume].snapshots.remove(index);
        self.durable = self.model.clone();
        true
    }

    /// Goes on with the sweep that is under way, or begins one.
    fn sweep_on(&mut self, steps: usize) {
        let store = self.store.as_ref().unwrap();
        let mut sweep = match self.sweep.take() {
            Some(sweep) => sweep,
            None => store.plan_history_sweep(steps.is_multiple_of(2)).unwrap(),
        };
        for _ in 0..steps {
            let Some(step) = sweep.step(store, 1 + steps % 7).unwrap() else {
                return;
            };
            if let Some((branch, bodies)) = step.hiding {
                // The branch may have been left since the plan was made.
                if self
                    .model
                    .volumes
                    .iter()
                    .any(|volume| volume.open.record.head == branch)
                {
                    let lineage = Lineage::live(store.engine(), branch).unwrap();
                    store.drop_hiding(&lineage, &bodies).unwrap();
                }
            }
        }
        self.sweep = Some(sweep);
    }

    /// Sweeps all there is to sweep, and checks that nothing is left which nobody can see.
    fn sweep_history(&mut self) {
        self.sweep = Some(self.store().plan_history_sweep(true).unwrap());
        while self.sweep.is_some() {
            self.sweep_on(5);
        }
        let store = self.store.as_ref().unwrap();
        let mut states: Vec<(BranchId, Option<Epoch>)> = Vec::new();
        for volume in &self.model.volumes {
            states.push((volume.open.record.head, None));
            let snapshots = volume.snapshots.iter().map(|(record, _)| record.point);
            let points = snapshots.chain(volume.points.iter().map(|(point, ..)| *point));
            states.extend(points.map(|point| (point.branch, Some(point.epoch))));
        }
        minimal::check(store, &states);
        // Nothing has become invisible since.
        let mut again = store.plan_history_sweep(false).unwrap();
        assert_eq!(again.branches_left(), 0);
        assert_eq!(again.step(store, 100).unwrap(), None);
    }

    fn sweep(&mut self) {
        let live = self.model.live_branches();
        let dead: Vec<u64> = self
            .model
            .branches
            .keys()
            .copied()
            .filter(|id| !live.contains(id))
            .collect();
        let store = self.store.as_ref().unwrap();
        assert_eq!(store.sweep_branches().unwrap(), dead.len());
        for id in &dead {
            let found = store.branch(BranchId(*id));
            assert!(matches!(found, Err(MetadataError::Missing { .. })), "{found:?}");
            self.model.branches.remove(id);
        }
        assert_eq!(store.sweep_branches().unwrap(), 0, "nothing is left to sweep");
        self.sweep_history();
    }

    fn reopen(&mut self) {
        // Pins and sweeps go with the process.
        self.sweep = None;
        for volume in self.model.volumes.iter_mut().chain(&mut self.durable.volumes) {
            volume.points.clear();
        }
        // The store on disk can be open once only.
        self.store = None;
        self.store = Some(Store::open(self.place.open()).unwrap());
    }

    /// Compares the live tree of every volume.
    pub fn check_live(&self) {
        let engine = self.store().engine();
        for volume in &self.model.volumes {
            let lineage = Lineage::live(engine, volume.open.record.head).unwrap();
            let context = format!("the live tree of volume {}", volume.open.id);
            volume
                .live
                .check(&View::new(engine, &lineage), volume.fresh, &context);
        }
    }

    /// Compares everything: the catalogue, and every state of every volume.
    pub fn check(&self) {
        self.check_live();
        self.check_catalogue();
        for volume in &self.model.volumes {
            let snapshots = volume
                .snapshots
                .iter()
                .map(|(record, tree)| (record.point, tree, "snapshot"));
            let points = volume
                .points
                .iter()
                .map(|(point, tree, _)| (*point, tree, "epoch"));
            for (point, tree, what) in snapshots.chain(points) {
                let engine = self.store().engine();
                let lineage = Lineage::at(engine, point).unwrap();
                let context = format!("{what} at {point:?} of volume {}", volume.open.id);
                tree.check(&View::new(engine, &lineage), volume.fresh, &context);
                tree.check_items(&View::new(engine, &lineage), &context);
            }
        }
        self.check_changes();
    }

    /// Compares what is said to have changed with what differs, between many pairs of states.
    fn check_changes(&self) {
        let mut states: Vec<(Point, &Tree, usize)> = Vec::new();
        for (number, volume) in self.model.volumes.iter().enumerate() {
            let snapshots = volume.snapshots.iter();
            states.extend(snapshots.map(|(record, tree)| (record.point, tree, number)));
            let points = volume.points.iter();
            states.extend(points.map(|(point, tree, _)| (*point, tree, number)));
        }
        for (index, (one, before, volume)) in states.iter().enumerate() {
            for other in [index, index + 1, index * 5 + 2] {
                let (other, after, other_volume) = &states[other % states.len()];
                let changed = self.store().changed_between(*one, *other).unwrap();
                let context = format!("{one:?} and {other:?}");
                let Some(changed) = changed else {
                    assert_ne!(volume, other_volume, "{context} have a common ancestor");
                    continue;
                };
                assert!(changed.is_sorted_by(|a, b| a < b), "{context}: {changed:?}");
                for inode in before.differing(after) {
                    assert!(changed.contains(&inode), "{inode} of {context}: {changed:?}");
                }
                if one == other {
                    assert_eq!(changed, [], "{context}");
                }
            }
        }
    }

    fn check_catalogue(&self) {
        let store = self.store();
        let opens: BTreeMap<VolumeId, OpenVolume> = self
            .model
            .volumes
            .iter()
            .map(|volume| (volume.open.id, volume.open.clone()))
            .collect();
        let found = store.volumes().unwrap();
        assert!(found.iter().eq(opens.values()), "{found:?}");
        for volume in &self.model.volumes {
            let name = &volume.open.record.name;
            assert_eq!(store.volume_named(name).unwrap(), Some(volume.open.id));
            let records: Vec<SnapshotRecord> = volume
                .snapshots
                .iter()
                .map(|(record, _)| record.clone())
                .collect();
            assert_eq!(store.snapshots(volume.open.id).unwrap(), records);
            for record in records {
                let found = store.snapshot(record.id).unwrap();
                assert_eq!(found, Some((volume.open.id, record)));
            }
        }
    }
}

impl Model {
    fn note_branch(&mut self, open: &OpenVolume) {
        let parent = open.branch.parent.map(|point| point.branch.0);
        self.branches.insert(open.record.head.0, parent);
    }

    /// The branches that a volume or a snapshot needs.
    fn live_branches(&self) -> BTreeSet<u64> {
        let mut live = BTreeSet::new();
        for volume in &self.volumes {
            let snapshots = volume.snapshots.iter().map(|(record, _)| record.point.branch.0);
            let points = volume.points.iter().map(|(point, ..)| point.branch.0);
            for mut id in snapshots.chain(points).chain([volume.open.record.head.0]) {
                while live.insert(id)
                    && let Some(parent) = self.branches[&id]
                {
                    id = parent;
                }
            }
        }
        live
    }
}
