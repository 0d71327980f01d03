//! Single snapshots after they were taken: deleting them, and what people say of them; and taking one once for a key.

use cairn_metadata::store::{self, Deletion, KeyState, KeyedRequest, PinUse};
use cairn_metadata::{Origin, PinRecord, SnapshotRecord};
use cairn_types::{SnapshotReference, Timestamp, WorkspaceName};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

use super::Volumes;
use super::control::{failed, limit, pin, snapshot};
use crate::control::{ControlError, LabelChanges, Labelled, NewSnapshot, Snapshot, SnapshotUser};

/// Stands for note and tags of a request, in this order. Persisted beside the request's key.
fn digest(new: &NewSnapshot) -> [u8; 16] {
    let mut hasher = SipHasher24::new();
    let mut part = |text: &str| {
        hasher.write_u64(text.len() as u64);
        hasher.write(text.as_bytes());
    };
    part(&new.note);
    new.tags.iter().for_each(|tag| part(tag.as_str()));
    hasher.finish128().as_u128().to_le_bytes()
}

fn user(user: store::SnapshotUser) -> SnapshotUser {
    match user {
        store::SnapshotUser::Fork(name) => SnapshotUser::Fork(name),
        store::SnapshotUser::Pin(record) => SnapshotUser::Pin(pin(record)),
        store::SnapshotUser::Reader(PinUse::Reading) => SnapshotUser::Reading,
        store::SnapshotUser::Reader(PinUse::Comparing) => SnapshotUser::Comparing,
    }
}

/// What a change of labels does.
#[derive(Default)]
struct Done {
    pin: Option<u64>,
    unpinned: Vec<u64>,
}

/// Makes the changes. Nothing is changed that is stored if it fails.
fn apply(record: &mut SnapshotRecord, changes: LabelChanges, now: Timestamp) -> Result<Done, ControlError> {
    let mut done = Done::default();
    if let Some(note) = changes.note {
        limit("note in bytes", note.len(), Snapshot::NOTE_BYTES_MAX)?;
        record.note = note;
    }
    record.tags.retain(|tag| !changes.remove_tags.contains(tag));
    for tag in changes.add_tags {
        if !record.tags.contains(&tag) {
            record.tags.push(tag);
        }
    }
    limit("number of tags", record.tags.len(), Snapshot::TAGS_MAX)?;
    for number in changes.unpin {
        if !record.pins.iter().any(|pin| pin.number == number) {
            return Err(ControlError::NoPin {
                id: record.id,
                number,
            });
        }
        record.pins.retain(|pin| pin.number != number);
        done.unpinned.push(number);
    }
    if changes.unpin_all {
        done.unpinned.extend(record.pins.drain(..).map(|pin| pin.number));
    }
    if let Some(new) = changes.pin {
        limit(
            "reason of a pin in bytes",
            new.reason.len(),
            Snapshot::REASON_BYTES_MAX,
        )?;
        limit("number of pins", record.pins.len() + 1, Snapshot::PINS_MAX)?;
        let number = record.pins.last().map_or(0, |pin| pin.number).saturating_add(1);
        record.pins.push(PinRecord {
            number,
            created: now,
            expires: new.expires,
            reason: new.reason,
        });
        done.pin = Some(number);
    }
    Ok(done)
}

impl Volumes {
    /// Deletes a snapshot, and tells what it was. Durable on return; the cost does not depend on its size. What it alone showed is freed
    /// in the background; neighbours, forks and the live tree are not touched. Errors: as [`Volumes::resolve`]; `SnapshotInUse` if a
    /// workspace was forked from it, a pin holds, or it is being pushed or compared: all of them are named.
    pub fn delete_snapshot(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
    ) -> Result<Snapshot, ControlError> {
        let volume = self.named(name)?;
        let found = self.find(name, &volume, reference)?;
        let mut state = volume.state.write();
        if state.deleted {
            return Err(ControlError::NoWorkspace { name: name.clone() });
        }
        let now = self.shared.now();
        let deletion = self.shared.store.delete_snapshot(&mut state.open, found.id, now);
        drop(state);
        match deletion.map_err(failed)? {
            Deletion::Deleted(record) => Ok(snapshot(record)),
            Deletion::Absent => Err(self.not_found(name, reference)),
            Deletion::InUse(users) => Err(ControlError::SnapshotInUse {
                workspace: name.clone(),
                id: found.id,
                users: users.into_iter().map(user).collect(),
            }),
        }
    }

    /// Changes what people say of a snapshot. Durable on return. Errors: as [`Volumes::resolve`], `LimitExceeded`, `NoPin`; then nothing
    /// is changed.
    pub fn set_labels(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
        changes: LabelChanges,
    ) -> Result<Labelled, ControlError> {
        let volume = self.named(name)?;
        let found = self.find(name, &volume, reference)?;
        let now = self.shared.now();
        let mut done = Done::default();
        let changed = self.shared.store.change_snapshot(volume.id, found.id, |record| {
            done = apply(record, changes, now)?;
            Ok::<(), ControlError>(())
        });
        match changed.map_err(failed)? {
            None => Err(self.not_found(name, reference)),
            Some(Err(error)) => Err(error),
            Some(Ok(record)) => Ok(Labelled {
                snapshot: snapshot(record),
                pin: done.pin,
                unpinned: done.unpinned,
            }),
        }
    }

    /// As [`Volumes::snapshot`], once for `key`: a repeated call with the same note and tags gets the snapshot of the first one, as long as
    /// that is not deleted. Key and snapshot become durable together. Tells the snapshot, and whether it was taken by this call. Errors:
    /// those of [`Volumes::snapshot`]; `KeyConflict` if the key was used with another note or other tags.
    pub fn snapshot_once(
        &self,
        name: &WorkspaceName,
        new: NewSnapshot,
        key: &str,
    ) -> Result<(Snapshot, bool), ControlError> {
        limit("idempotency key in bytes", key.len(), Snapshot::KEY_BYTES_MAX)?;
        limit("note in bytes", new.note.len(), Snapshot::NOTE_BYTES_MAX)?;
        limit("number of tags", new.tags.len(), Snapshot::TAGS_MAX)?;
        let request = KeyedRequest {
            key: key.to_owned(),
            digest: digest(&new),
        };
        let volume = self.named(name)?;
        let store = &self.shared.store;
        let known = || match store.snapshot_key_state(volume.id, &request).map_err(failed)? {
            KeyState::Unknown => Ok(None),
            KeyState::Done(record) => Ok(Some(snapshot(*record))),
            KeyState::Conflict(snapshot) => Err(ControlError::KeyConflict {
                key: key.to_owned(),
                snapshot,
            }),
        };
        // A request that was carried out needs no room, and no lock of the volume that a deletion of the snapshot takes.
        {
            let _settled = volume.state.read();
            if let Some(done) = known()? {
                return Ok((done, false));
            }
        }
        self.require_room()?;
        let details = self.details(Origin::Requested, new);
        let mut state = self.quiesce(name, &volume)?;
        if let Some(done) = known()? {
            return Ok((done, false));
        }
        let record = store
            .take_snapshot_for(&mut state.open, details, request.clone())
            .map_err(failed)?;
        Ok((snapshot(record), true))
    }
}
