//! Single snapshots after they were taken: deleting them, changing what people say of them; and taking one once for a key.
//!
//! The caller excludes changes of the same volume from each other, as for all operations of the store.

use cairn_types::{SnapshotId, Timestamp, VolumeId, WorkspaceName};

use super::pins::PinUse;
use super::{OpenVolume, SnapshotDetails, Store, add_snapshot};
use crate::engine::{Batch, Durability};
use crate::error::MetadataError;
use crate::keyspace::snapshot::{self, KeyRecord, PinRecord, SnapshotRecord};
use crate::keyspace::volume;

/// What keeps a snapshot from being deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotUser {
    /// A volume of this name was forked from it.
    Fork(WorkspaceName),
    /// Somebody's word that it is to be kept.
    Pin(PinRecord),
    /// It is being read.
    Reader(PinUse),
}

/// The outcome of [`Store::delete_snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletion {
    /// It is deleted; this is what it was.
    Deleted(SnapshotRecord),
    /// The volume has no such snapshot. Nothing was changed.
    Absent,
    /// It is in use by these. Nothing was changed.
    InUse(Vec<SnapshotUser>),
}

/// A request that must be carried out once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRequest {
    /// The caller's key; 1 to 256 bytes.
    pub key: String,
    /// Stands for all else that the request says.
    pub digest: [u8; 16],
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyState {
    /// No snapshot of the volume was taken for it, or that one was deleted.
    Unknown,
    /// This one was, for the same request.
    Done(Box<SnapshotRecord>),
    /// This one was, for another request.
    Conflict(SnapshotId),
}

impl Store {
    /// Deletes a snapshot: its record, its id, its key. What it alone showed is left to the sweep. The cost does not depend on the
    /// size of anything but the catalogue of volumes. Durable on return. `volume` is brought up to date. `now` decides which pins
    /// hold.
    pub fn delete_snapshot(
        &self,
        volume: &mut OpenVolume,
        id: SnapshotId,
        now: Timestamp,
    ) -> Result<Deletion, MetadataError> {
        // Under this lock snapshots are pinned, forked and restored: none of that begins in between.
        let _catalogue = self.catalogue.lock();
        let Some((sequence, record)) = self.own_snapshot(volume.id, id)? else {
            return Ok(Deletion::Absent);
        };
        let users = self.snapshot_users(&record, now)?;
        if !users.is_empty() {
            return Ok(Deletion::InUse(users));
        }
        let mut after = volume.clone();
        after.record.snapshots = after.record.snapshots.saturating_sub(1);
        let mut batch = Batch::default();
        batch.delete(snapshot::snapshot_key(volume.id, sequence));
        batch.delete(snapshot::id_key(id));
        if let Some(key) = &record.key {
            batch.delete(snapshot::request_key(volume.id, key));
        }
        batch.put(volume::volume_key(after.id), after.record.encode());
        self.engine.write(batch, Durability::Power)?;
        *volume = after;
        Ok(Deletion::Deleted(record))
    }

    /// Who keeps a snapshot from being deleted.
    fn snapshot_users(
        &self,
        record: &SnapshotRecord,
        now: Timestamp,
    ) -> Result<Vec<SnapshotUser>, MetadataError> {
        let pins = record.pins.iter().filter(|pin| pin.holds(now));
        let mut users: Vec<SnapshotUser> = pins.cloned().map(SnapshotUser::Pin).collect();
        for (_, other) in self.volume_records()? {
            if other.forked_from == Some(record.id) {
                users.push(SnapshotUser::Fork(other.name));
            }
        }
        users.extend(self.pins.uses(record.id).into_iter().map(SnapshotUser::Reader));
        Ok(users)
    }

    /// A snapshot of that volume, with its sequence.
    fn own_snapshot(
        &self,
        volume: VolumeId,
        id: SnapshotId,
    ) -> Result<Option<(u64, SnapshotRecord)>, MetadataError> {
        let Some(place) = self.engine.get(&snapshot::id_key(id))? else {
            return Ok(None);
        };
        let (owner, sequence) = snapshot::decode_place(&place)?;
        if owner != volume {
            return Ok(None);
        }
        Ok(Some((sequence, self.snapshot_at(volume, sequence)?)))
    }

    fn snapshot_at(&self, volume: VolumeId, sequence: u64) -> Result<SnapshotRecord, MetadataError> {
        let value = self.engine.get(&snapshot::snapshot_key(volume, sequence))?;
        let value = value.ok_or_else(|| MetadataError::Missing {
            what: format!("snapshot {sequence} of volume {volume}"),
        })?;
        Ok(SnapshotRecord::decode(&value)?)
    }

    /// Changes what people say of a snapshot: `change` may set note, tags and pins, and nothing else. Durable on return. `None` if
    /// the volume has no such snapshot.
    pub fn change_snapshot<E>(
        &self,
        volume: VolumeId,
        id: SnapshotId,
        change: impl FnOnce(&mut SnapshotRecord) -> Result<(), E>,
    ) -> Result<Option<Result<SnapshotRecord, E>>, MetadataError> {
        let _catalogue = self.catalogue.lock();
        let Some((sequence, before)) = self.own_snapshot(volume, id)? else {
            return Ok(None);
        };
        let mut changed = before.clone();
        if let Err(error) = change(&mut changed) {
            return Ok(Some(Err(error)));
        }
        let after = SnapshotRecord {
            note: changed.note,
            tags: changed.tags,
            pins: changed.pins,
            ..before
        };
        let mut batch = Batch::default();
        batch.put(snapshot::snapshot_key(volume, sequence), after.encode());
        self.engine.write(batch, Durability::Power)?;
        Ok(Some(Ok(after)))
    }

    /// What is known of the key of a request to take a snapshot.
    pub fn snapshot_key_state(
        &self,
        volume: VolumeId,
        request: &KeyedRequest,
    ) -> Result<KeyState, MetadataError> {
        let Some(value) = self.engine.get(&snapshot::request_key(volume, &request.key))? else {
            return Ok(KeyState::Unknown);
        };
        let found = KeyRecord::decode(&value)?;
        let record = self.snapshot_at(volume, found.sequence)?;
        Ok(match found.digest == request.digest {
            true => KeyState::Done(Box::new(record)),
            false => KeyState::Conflict(record.id),
        })
    }

    /// As [`Store::take_snapshot`], for a request whose key is unknown: snapshot and key are written in one batch.
    pub fn take_snapshot_for(
        &self,
        volume: &mut OpenVolume,
        details: SnapshotDetails,
        request: KeyedRequest,
    ) -> Result<SnapshotRecord, MetadataError> {
        let mut after = volume.clone();
        let mut batch = Batch::default();
        let sequence = after.record.next_snapshot;
        let record = KeyRecord {
            sequence,
            digest: request.digest,
        };
        batch.put(snapshot::request_key(volume.id, &request.key), record.encode());
        let snapshot = add_snapshot(&mut after, details, Some(request.key), &mut batch);
        self.put_open(&after, &mut batch);
        self.engine.write(batch, Durability::Power)?;
        *volume = after;
        Ok(snapshot)
    }
}
