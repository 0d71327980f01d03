//! The catalogue: volumes, branches, snapshots, and what belongs to the store as a whole.
//!
//! Each change here is one batch. The caller excludes changes of the same volume from each other; changes that touch the
//! shared name space and id counters exclude each other here.

use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{
    BranchId, Epoch, InodeId, LogPosition, SnapshotId, Tag, Timestamp, VolumeId, WorkspaceName,
};
use parking_lot::Mutex;

use crate::engine::{Batch, Durability, Engine, Precondition};
use crate::error::MetadataError;
use crate::keyspace::branch::{self, BranchRecord, Point, Usage};
use crate::keyspace::cell::{self, NextIds};
use crate::keyspace::inode::InodeRecord;
use crate::keyspace::snapshot::{self, Origin, SnapshotRecord};
use crate::keyspace::volume::{self, VolumeRecord};
use crate::keyspace::{Version, head_key, prefix_end, reply};
use crate::transaction::Transaction;
use crate::view::{self, LINEAGE_DEPTH_MAX};

mod changes;
mod import;
mod ledger;
mod pins;
mod snapshots;
mod sweep;
mod upgrade;
mod usage;

pub use changes::CHANGED_INODES_MAX;
pub use import::{ImportBatch, NewImport};
pub use ledger::{LedgerEntries, LedgerEntry};
pub use pins::{PinUse, PointPin};
pub use snapshots::{Deletion, KeyState, KeyedRequest, SnapshotUser};
pub use sweep::{HistorySweep, SegmentUse, Step as SweepStep};

/// Entries fetched at once when the catalogue is listed.
const BATCH: usize = 1024;

/// The metadata of a node.
pub struct Store {
    engine: Arc<dyn Engine>,
    /// Held while ids are drawn or the name space changes.
    catalogue: Mutex<()>,
    /// Points that somebody reads.
    pins: pins::Pins,
    /// What the sweep has learned of branches.
    swept: sweep::Swept,
}

/// What is called with each key and value of a listing.
type VisitEntry<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), MetadataError>;

/// A volume as it stands: what its operations need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenVolume {
    /// Its id.
    pub id: VolumeId,
    /// The volume.
    pub record: VolumeRecord,
    /// Its head branch.
    pub branch: BranchRecord,
    /// What the live tree holds.
    pub usage: Usage,
}

/// What a snapshot shall carry besides the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotDetails {
    /// Its identity.
    pub id: SnapshotId,
    /// Why it is taken.
    pub origin: Origin,
    /// The time.
    pub created: Timestamp,
    /// A person's words.
    pub note: String,
    /// Labels.
    pub tags: Vec<Tag>,
}

impl Store {
    /// Opens the metadata in `engine`, and writes the format version into an empty one. An older format is brought up to date, in
    /// one batch that is durable on return.
    /// Errors: [`MetadataError::NewerFormat`]; [`MetadataError::Damaged`] or [`MetadataError::Missing`] if there is no telling
    /// the format.
    pub fn open(engine: Arc<dyn Engine>) -> Result<Store, MetadataError> {
        match engine.get(cell::FORMAT_KEY)? {
            Some(value) => {
                let found = cell::decode_format(&value)?;
                if found > cell::FORMAT_VERSION {
                    return Err(MetadataError::NewerFormat {
                        found,
                        supported: cell::FORMAT_VERSION,
                    });
                }
                if found < cell::FORMAT_VERSION {
                    upgrade::upgrade(&*engine, found)?;
                }
            }
            None if engine.scan(&[0], &[0xff], 1)?.is_empty() => {
                let mut batch = Batch::default();
                batch.put(
                    cell::FORMAT_KEY.to_vec(),
                    cell::FORMAT_VERSION.to_le_bytes().to_vec(),
                );
                engine.write(batch, Durability::Power)?;
            }
            None => {
                return Err(MetadataError::Missing {
                    what: "the format version".to_owned(),
                });
            }
        }
        Ok(Store {
            engine,
            catalogue: Mutex::new(()),
            pins: pins::Pins::default(),
            swept: sweep::Swept::default(),
        })
    }

    /// The engine beneath.
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// The engine beneath, shared.
    pub fn shared_engine(&self) -> Arc<dyn Engine> {
        self.engine.clone()
    }

    fn volume_records(&self) -> Result<Vec<(VolumeId, VolumeRecord)>, MetadataError> {
        let mut volumes = Vec::new();
        self.each(&[volume::VOLUMES], &mut |key, value| {
            volumes.push((volume::decode_volume_key(key)?, VolumeRecord::decode(value)?));
            Ok(())
        })?;
        Ok(volumes)
    }

    /// All volumes.
    pub fn volumes(&self) -> Result<Vec<OpenVolume>, MetadataError> {
        self.volume_records()?
            .into_iter()
            .map(|(id, record)| self.opened(id, record))
            .collect()
    }

    fn opened(&self, id: VolumeId, record: VolumeRecord) -> Result<OpenVolume, MetadataError> {
        let branch = self.branch(record.head)?;
        let usage = self.usage(record.head)?;
        Ok(OpenVolume {
            id,
            record,
            branch,
            usage,
        })
    }

    /// A branch.
    pub fn branch(&self, id: BranchId) -> Result<BranchRecord, MetadataError> {
        view::load_branch(&*self.engine, id)
    }

    fn usage(&self, id: BranchId) -> Result<Usage, MetadataError> {
        let value = self.engine.get(&branch::usage_key(id))?;
        let value = value.ok_or_else(|| MetadataError::Missing {
            what: format!("usage of branch {id}"),
        })?;
        Ok(Usage::decode(&value)?)
    }

    /// Makes an empty volume; `None` if the name is taken. Durable on return.
    pub fn create_volume(
        &self,
        record: VolumeRecord,
        root: &InodeRecord,
    ) -> Result<Option<OpenVolume>, MetadataError> {
        self.create_volume_recorded(record, root, &mut [])
    }

    /// As [`Store::create_volume`], with entries of the ledger in the same batch. `None`: they are not written either.
    pub fn create_volume_recorded(
        &self,
        record: VolumeRecord,
        root: &InodeRecord,
        entries: LedgerEntries<'_>,
    ) -> Result<Option<OpenVolume>, MetadataError> {
        let usage = Usage { inodes: 1, bytes: 0 };
        self.add_volume(record, None, usage, entries, &mut |branch, batch| {
            let version = Version {
                birth: Epoch::FIRST,
                value: Some(&root.encode()),
            }
            .encode();
            batch.put(head_key(branch, &InodeRecord::body(InodeId::ROOT)), version);
        })
    }

    /// Makes a volume that starts as a snapshot; `None` if the name is taken. Durable on return.
    /// Errors: [`MetadataError::TooDeep`], [`MetadataError::SnapshotGone`].
    pub fn fork_volume(
        &self,
        record: VolumeRecord,
        from: &SnapshotRecord,
    ) -> Result<Option<OpenVolume>, MetadataError> {
        self.fork_volume_recorded(record, from, &mut [])
    }

    /// As [`Store::fork_volume`], with entries of the ledger in the same batch. `None`: they are not written either.
    pub fn fork_volume_recorded(
        &self,
        record: VolumeRecord,
        from: &SnapshotRecord,
        entries: LedgerEntries<'_>,
    ) -> Result<Option<OpenVolume>, MetadataError> {
        self.add_volume(record, Some(from), from.usage, entries, &mut |_, _| {})
    }

    /// The depth of a branch that starts at a snapshot. The catalogue is locked, lest the snapshot be deleted, and the sweep take
    /// what can be seen there, before the new branch refers to it.
    fn child_depth(&self, from: &SnapshotRecord) -> Result<u32, MetadataError> {
        if self.snapshot(from.id)?.is_none() {
            return Err(MetadataError::SnapshotGone { id: from.id });
        }
        let depth = self.branch(from.point.branch)?.depth + 1;
        if depth >= LINEAGE_DEPTH_MAX {
            return Err(MetadataError::TooDeep {
                depth,
                limit: LINEAGE_DEPTH_MAX,
            });
        }
        Ok(depth)
    }

    fn add_volume(
        &self,
        mut record: VolumeRecord,
        parent: Option<&SnapshotRecord>,
        usage: Usage,
        entries: LedgerEntries<'_>,
        extra: &mut dyn FnMut(BranchId, &mut Batch),
    ) -> Result<Option<OpenVolume>, MetadataError> {
        let _catalogue = self.catalogue.lock();
        let name_key = volume::name_key(&record.name);
        if self.engine.get(&name_key)?.is_some() {
            return Ok(None);
        }
        let depth = parent.map_or(Ok(0), |from| self.child_depth(from))?;
        let mut ids = self.next_ids()?;
        let (id, head) = (VolumeId(ids.volume), BranchId(ids.branch));
        ids = NextIds {
            volume: ids.volume + 1,
            branch: ids.branch + 1,
        };
        record.head = head;
        let branch = BranchRecord {
            volume: id,
            epoch: Epoch::FIRST,
            depth,
            parent: parent.map(|from| from.point),
        };
        let mut batch = Batch::default();
        batch.preconditions.push(Precondition::Absent(name_key.clone()));
        batch.put(cell::NEXT_IDS_KEY.to_vec(), ids.encode());
        batch.put(name_key, id.0.to_le_bytes().to_vec());
        batch.put(volume::volume_key(id), record.encode());
        batch.put(branch::branch_key(head), branch.encode());
        batch.put(branch::usage_key(head), usage.encode());
        extra(head, &mut batch);
        ledger::record(entries, id, &mut batch);
        self.engine.write(batch, Durability::Power)?;
        Ok(Some(OpenVolume {
            id,
            record,
            branch,
            usage,
        }))
    }

    fn next_ids(&self) -> Result<NextIds, MetadataError> {
        match self.engine.get(cell::NEXT_IDS_KEY)? {
            Some(value) => Ok(NextIds::decode(&value)?),
            None => Ok(NextIds::FIRST),
        }
    }

    /// Takes a snapshot: records the current epoch of the volume's head and raises it. `volume` is brought up to date.
    /// Durable on return, with everything that was committed before.
    pub fn take_snapshot(
        &self,
        volume: &mut OpenVolume,
        details: SnapshotDetails,
    ) -> Result<SnapshotRecord, MetadataError> {
        self.take_snapshot_recorded(volume, details, &mut [])
    }

    /// As [`Store::take_snapshot`], with entries of the ledger in the same batch.
    pub fn take_snapshot_recorded(
        &self,
        volume: &mut OpenVolume,
        details: SnapshotDetails,
        entries: LedgerEntries<'_>,
    ) -> Result<SnapshotRecord, MetadataError> {
        let mut after = volume.clone();
        let mut batch = Batch::default();
        let snapshot = add_snapshot(&mut after, details, None, &mut batch);
        self.put_open(&after, &mut batch);
        ledger::record(entries, after.id, &mut batch);
        self.engine.write(batch, Durability::Power)?;
        *volume = after;
        Ok(snapshot)
    }

    /// Ends the epoch of the volume's head without a snapshot, so that its state can be read while it changes, as long as the
    /// pin is held. `volume` is brought up to date.
    pub fn end_epoch(&self, volume: &mut OpenVolume) -> Result<(Point, PointPin), MetadataError> {
        let mut after = volume.clone();
        let point = Point {
            branch: after.record.head,
            epoch: after.branch.epoch,
        };
        // Before the epoch ends: a sweep that finds it over finds it pinned.
        let pin = self.pins.pin(point, None, PinUse::Comparing);
        after.branch.epoch = after.branch.epoch.next();
        let mut batch = Batch::default();
        self.put_open(&after, &mut batch);
        self.engine.write(batch, Durability::Process)?;
        *volume = after;
        Ok((point, pin))
    }

    /// Makes the volume's live tree equal to `target`: first takes a snapshot of what it is, then gives the volume a new
    /// head that starts at `target`. One atomic change, durable on return. `volume` is brought up to date.
    /// Errors: [`MetadataError::TooDeep`], [`MetadataError::SnapshotGone`].
    pub fn restore(
        &self,
        volume: &mut OpenVolume,
        target: &SnapshotRecord,
        safety: SnapshotDetails,
    ) -> Result<SnapshotRecord, MetadataError> {
        self.restore_recorded(volume, target, safety, &mut [])
    }

    /// As [`Store::restore`], with entries of the ledger in the same batch.
    pub fn restore_recorded(
        &self,
        volume: &mut OpenVolume,
        target: &SnapshotRecord,
        safety: SnapshotDetails,
        entries: LedgerEntries<'_>,
    ) -> Result<SnapshotRecord, MetadataError> {
        let _catalogue = self.catalogue.lock();
        let depth = self.child_depth(target)?;
        let mut ids = self.next_ids()?;
        let head = BranchId(ids.branch);
        ids.branch += 1;
        let mut after = volume.clone();
        let mut batch = Batch::default();
        let safety = add_snapshot(&mut after, safety, None, &mut batch);
        batch.put(branch::branch_key(after.record.head), after.branch.encode());
        after.record.head = head;
        after.record.last_snapshot = Some(target.id);
        after.branch = BranchRecord {
            volume: after.id,
            epoch: Epoch::FIRST,
            depth,
            parent: Some(target.point),
        };
        after.usage = target.usage;
        batch.put(cell::NEXT_IDS_KEY.to_vec(), ids.encode());
        batch.put(branch::usage_key(head), after.usage.encode());
        self.put_open(&after, &mut batch);
        ledger::record(entries, after.id, &mut batch);
        self.engine.write(batch, Durability::Power)?;
        *volume = after;
        Ok(safety)
    }

    fn put_open(&self, volume: &OpenVolume, batch: &mut Batch) {
        batch.put(volume::volume_key(volume.id), volume.record.encode());
        batch.put(branch::branch_key(volume.record.head), volume.branch.encode());
    }

    /// Removes a volume and its snapshots. Branches that nothing refers to any more are left to the sweep. Durable on
    /// return.
    pub fn delete_volume(&self, volume: &OpenVolume) -> Result<(), MetadataError> {
        self.delete_volume_recorded(volume, &mut [])
    }

    /// As [`Store::delete_volume`], with entries of the ledger in the same batch.
    pub fn delete_volume_recorded(
        &self,
        volume: &OpenVolume,
        entries: LedgerEntries<'_>,
    ) -> Result<(), MetadataError> {
        let _catalogue = self.catalogue.lock();
        let mut batch = Batch::default();
        for snapshot in self.snapshots(volume.id)? {
            batch.delete(snapshot::id_key(snapshot.id));
        }
        let snapshots = snapshot::snapshots_prefix(volume.id);
        let end = prefix_end(&snapshots);
        batch.delete_range(snapshots, end);
        let keys = snapshot::request_key(volume.id, "");
        let end = prefix_end(&keys);
        batch.delete_range(keys, end);
        batch.delete(volume::name_key(&volume.record.name));
        batch.delete(volume::volume_key(volume.id));
        ledger::record(entries, volume.id, &mut batch);
        Ok(self.engine.write(batch, Durability::Power)?)
    }

    /// Stores what a volume is besides its tree: policy, limits. Durable on return. `volume` is brought up to date.
    pub fn set_volume(&self, volume: &mut OpenVolume, record: VolumeRecord) -> Result<(), MetadataError> {
        let mut batch = Batch::default();
        batch.put(volume::volume_key(volume.id), record.encode());
        self.engine.write(batch, Durability::Power)?;
        volume.record = record;
        Ok(())
    }

    /// The volume of that name.
    pub fn volume_named(&self, name: &WorkspaceName) -> Result<Option<VolumeId>, MetadataError> {
        let Some(value) = self.engine.get(&volume::name_key(name))? else {
            return Ok(None);
        };
        let malformed = crate::keyspace::codec::DecodeError {
            what: "volume name",
            offset: 0,
        };
        let id = value.as_ref().try_into().map_err(|_| malformed)?;
        Ok(Some(VolumeId(u64::from_le_bytes(id))))
    }

    /// The snapshots of a volume, oldest first.
    pub fn snapshots(&self, id: VolumeId) -> Result<Vec<SnapshotRecord>, MetadataError> {
        let mut snapshots = Vec::new();
        self.each(&snapshot::snapshots_prefix(id), &mut |_, value| {
            snapshots.push(SnapshotRecord::decode(value)?);
            Ok(())
        })?;
        Ok(snapshots)
    }

    /// The snapshot of that id, with the volume that has it.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Option<(VolumeId, SnapshotRecord)>, MetadataError> {
        let Some(place) = self.engine.get(&snapshot::id_key(id))? else {
            return Ok(None);
        };
        let (volume, sequence) = snapshot::decode_place(&place)?;
        let value = self.engine.get(&snapshot::snapshot_key(volume, sequence))?;
        let value = value.ok_or_else(|| MetadataError::Missing {
            what: format!("snapshot {id}"),
        })?;
        Ok(Some((volume, SnapshotRecord::decode(&value)?)))
    }

    /// Every record of the hot log that ends at or before this position is in the metadata.
    pub fn checkpoint(&self) -> Result<LogPosition, MetadataError> {
        match self.engine.get(cell::CHECKPOINT_KEY)? {
            Some(value) => Ok(cell::decode_checkpoint(&value)?),
            None => Ok(LogPosition(0)),
        }
    }

    /// Moves the checkpoint. It is ordered after all earlier commits: it never survives them.
    pub fn set_checkpoint(&self, position: LogPosition, durability: Durability) -> Result<(), MetadataError> {
        let mut batch = Batch::default();
        batch.put(cell::CHECKPOINT_KEY.to_vec(), position.0.to_le_bytes().to_vec());
        Ok(self.engine.write(batch, durability)?)
    }

    /// The newest replies recorded at or after `since`, at most `limit`, oldest first: the request's key and the body.
    pub fn replies(&self, since: u64, limit: usize) -> Result<Vec<([u8; 16], Bytes)>, MetadataError> {
        let from = reply::reply_range_start(since);
        let pairs = self.engine.scan_back(&from, &prefix_end(b"R"), limit)?;
        let mut replies = Vec::with_capacity(pairs.len());
        for (key, body) in pairs.into_iter().rev() {
            replies.push((reply::decode_reply_key(&key)?, body));
        }
        Ok(replies)
    }

    /// Forgets the replies recorded before `until`.
    pub fn forget_replies(&self, until: u64) -> Result<(), MetadataError> {
        let mut batch = Batch::default();
        batch.delete_range(reply::reply_range_start(0), reply::reply_range_start(until));
        Ok(self.engine.write(batch, Durability::Process)?)
    }

    /// Calls `visit` with every entry whose key starts with `prefix`, in order.
    fn each(&self, prefix: &[u8], visit: VisitEntry<'_>) -> Result<(), MetadataError> {
        let mut from = prefix.to_vec();
        let to = prefix_end(prefix);
        loop {
            let pairs = self.engine.scan(&from, &to, BATCH)?;
            for (key, value) in &pairs {
                visit(key, value)?;
            }
            match pairs.last() {
                Some((last, _)) if pairs.len() == BATCH => from = [last, [0].as_slice()].concat(),
                _ => return Ok(()),
            }
        }
    }
}

/// Adds a snapshot of the volume's live tree to `batch` and brings `volume` up to date.
fn add_snapshot(
    volume: &mut OpenVolume,
    details: SnapshotDetails,
    key: Option<String>,
    batch: &mut Batch,
) -> SnapshotRecord {
    let record = SnapshotRecord {
        id: details.id,
        point: Point {
            branch: volume.record.head,
            epoch: volume.branch.epoch,
        },
        origin: details.origin,
        created: details.created,
        usage: volume.usage,
        parent: volume.record.last_snapshot,
        note: details.note,
        tags: details.tags,
        pins: Vec::new(),
        key,
    };
    let sequence = volume.record.next_snapshot;
    batch.put(snapshot::snapshot_key(volume.id, sequence), record.encode());
    batch.put(
        snapshot::id_key(record.id),
        snapshot::encode_place(volume.id, sequence),
    );
    volume.branch.epoch = volume.branch.epoch.next();
    volume.record.next_snapshot += 1;
    volume.record.snapshots += 1;
    volume.record.last_snapshot = Some(record.id);
    record
}

impl Transaction<'_> {
    /// Sets the record of a volume, such as its reserved inode numbers, together with the other changes.
    pub fn put_volume(&mut self, id: VolumeId, record: &VolumeRecord) {
        self.batch().put(volume::volume_key(id), record.encode());
    }
}
