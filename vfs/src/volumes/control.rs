//! What administrators do with workspaces and snapshots.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cairn_metadata::keyspace::dirent::FIRST_COOKIE;
use cairn_metadata::store::{LedgerEntries, OpenVolume, PinUse, SnapshotDetails};
use cairn_metadata::{
    CapacityLimits, InodeRecord, Lineage, MetadataError, Origin, PinRecord, SnapshotRecord, VolumeRecord,
};
use cairn_types::{
    BranchId, DeviceNumber, ErrorKind, ExportPolicy, FileKind, InodeId, SnapshotId, SnapshotReference,
    VolumeId, WorkspaceName, with_causes,
};

use super::Volumes;
use crate::Error;
use crate::capacity::beyond;
use crate::control::{
    ControlError, Difference, NewSnapshot, NewWorkspace, Restored, Snapshot, SnapshotOrigin, SnapshotPin,
    Usage, Workspace,
};
use crate::volume::names::DIRECTORY_BYTES;
use crate::volume::{State, Volume, log_failed, metadata_failed};

/// Candidates that an ambiguous reference lists.
const CANDIDATES_MAX: usize = 10;

pub(super) fn failed(error: MetadataError) -> ControlError {
    match error.kind() {
        ErrorKind::NoSpace => ControlError::NoSpace,
        kind => ControlError::Storage {
            what: with_causes(&error),
            kind,
        },
    }
}

pub(super) fn stopped(error: Error) -> ControlError {
    match error {
        Error::NoSpace => ControlError::NoSpace,
        error => ControlError::Storage {
            kind: error.kind(),
            what: error.to_string(),
        },
    }
}

pub(super) fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), ControlError> {
    if found <= limit {
        return Ok(());
    }
    Err(ControlError::LimitExceeded {
        what,
        found: found as u64,
        limit: limit as u64,
    })
}

pub(super) fn snapshot(record: SnapshotRecord) -> Snapshot {
    Snapshot {
        id: record.id,
        origin: match record.origin {
            Origin::Requested => SnapshotOrigin::Requested,
            Origin::Safety => SnapshotOrigin::Safety,
        },
        created: record.created,
        note: record.note,
        tags: record.tags,
        inodes: record.usage.inodes,
        bytes: record.usage.bytes,
        parent: record.parent,
        pins: record.pins.into_iter().map(pin).collect(),
    }
}

pub(super) fn pin(record: PinRecord) -> SnapshotPin {
    SnapshotPin {
        number: record.number,
        created: record.created,
        expires: record.expires,
        reason: record.reason,
    }
}

/// Fails if a tree is more than a workspace may hold.
pub(super) fn require_capacity(
    workspace: &WorkspaceName,
    usage: cairn_metadata::Usage,
    limits: CapacityLimits,
) -> Result<(), ControlError> {
    match beyond(usage, limits) {
        None => Ok(()),
        Some((resource, found, limit)) => Err(ControlError::OverCapacity {
            workspace: workspace.clone(),
            resource,
            found,
            limit,
        }),
    }
}

impl Volumes {
    pub(super) fn named(&self, name: &WorkspaceName) -> Result<Arc<Volume>, ControlError> {
        let id = self.shared.store.volume_named(name).map_err(failed)?;
        let volume = id.and_then(|id| self.volume(id).ok());
        volume.ok_or_else(|| ControlError::NoWorkspace { name: name.clone() })
    }

    pub(super) fn describe(&self, volume: &Volume) -> Workspace {
        let usage = volume.usage();
        let state = volume.state.read();
        let record = &state.open.record;
        Workspace {
            name: record.name.clone(),
            volume: volume.id,
            created: record.created,
            policy: Arc::new(record.policy.clone()),
            forked_from: record.forked_from,
            snapshots: record.snapshots,
            inodes: usage.inodes,
            bytes: usage.bytes,
            limits: record.limits,
        }
    }

    pub(super) fn require_room(&self) -> Result<(), ControlError> {
        if self.has_room() {
            Ok(())
        } else {
            Err(ControlError::NoSpace)
        }
    }

    /// Makes an empty workspace that may hold any amount. Durable on return. Errors: `WorkspaceExists`, `LimitExceeded`, `NoSpace`.
    pub fn create_workspace(&self, new: NewWorkspace) -> Result<Workspace, ControlError> {
        self.create_workspace_recorded(new, CapacityLimits::default(), &mut [])
    }

    /// Makes an empty workspace. Durable on return. Errors: those of [`Volumes::create_workspace`]; `OverCapacity` if not even its root
    /// directory fits.
    pub fn create_limited_workspace(
        &self,
        new: NewWorkspace,
        limits: CapacityLimits,
    ) -> Result<Workspace, ControlError> {
        self.create_workspace_recorded(new, limits, &mut [])
    }

    /// As [`Volumes::create_limited_workspace`], with entries of the ledger in the same batch.
    pub fn create_workspace_recorded(
        &self,
        new: NewWorkspace,
        limits: CapacityLimits,
        entries: LedgerEntries<'_>,
    ) -> Result<Workspace, ControlError> {
        let root_only = cairn_metadata::Usage { inodes: 1, bytes: 0 };
        require_capacity(&new.name, root_only, limits)?;
        limit(
            "number of allowed networks",
            new.policy.allow.len(),
            ExportPolicy::ALLOW_MAX,
        )?;
        limit("mode of the root directory", new.mode as usize, 0o7777)?;
        self.require_room()?;
        let _administration = self.administration.lock();
        let now = self.shared.now();
        let root = InodeRecord {
            kind: FileKind::Directory,
            mode: new.mode as u16,
            links: 2,
            uid: new.uid,
            gid: new.gid,
            generation: u32::from_le_bytes(self.shared.random()),
            size: DIRECTORY_BYTES,
            device: DeviceNumber::default(),
            accessed: now,
            modified: now,
            changed: now,
            data_version: 1,
            log_sequence: 0,
            used: DIRECTORY_BYTES,
            parent: InodeId::ROOT,
            next_cookie: FIRST_COOKIE,
            entries: 0,
            inline: false,
            verifier: None,
        };
        let record = VolumeRecord {
            name: new.name.clone(),
            head: BranchId(0),
            inodes_reserved: InodeId(InodeId::ROOT.0 + 1),
            next_snapshot: 1,
            snapshots: 0,
            created: now,
            last_snapshot: None,
            forked_from: None,
            policy: new.policy,
            limits,
        };
        let store = &self.shared.store;
        let open = store
            .create_volume_recorded(record, &root, entries)
            .map_err(failed)?;
        self.admit(new.name, open)
    }

    pub(super) fn admit(
        &self,
        name: WorkspaceName,
        open: Option<OpenVolume>,
    ) -> Result<Workspace, ControlError> {
        let Some(open) = open else {
            return Err(ControlError::WorkspaceExists { name });
        };
        let volume = Arc::new(Volume::new(self.shared.clone(), open).map_err(failed)?);
        let workspace = self.describe(&volume);
        self.volumes.write().insert(volume.id, volume);
        Ok(workspace)
    }

    /// All workspaces, by name.
    pub fn workspaces(&self) -> Result<Vec<Workspace>, ControlError> {
        let mut workspaces: Vec<Workspace> = self.all().iter().map(|volume| self.describe(volume)).collect();
        workspaces.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(workspaces)
    }

    /// One workspace. Errors: `NoWorkspace`.
    pub fn workspace(&self, name: &WorkspaceName) -> Result<Workspace, ControlError> {
        Ok(self.describe(&*self.named(name)?))
    }

    /// Deletes a workspace, with its snapshots only if `with_snapshots`. Forks of it are not touched. Mounted clients get
    /// stale handles. Durable on return; the storage is freed in the background. Errors: `NoWorkspace`, `HasSnapshots`.
    pub fn delete_workspace(&self, name: &WorkspaceName, with_snapshots: bool) -> Result<(), ControlError> {
        self.delete_workspace_recorded(name, None, with_snapshots, &mut [])
    }

    /// As [`Volumes::delete_workspace`], with entries of the ledger in the same batch; if `only` is given, a workspace of that name
    /// that is another volume is not there.
    pub fn delete_workspace_recorded(
        &self,
        name: &WorkspaceName,
        only: Option<VolumeId>,
        with_snapshots: bool,
        entries: LedgerEntries<'_>,
    ) -> Result<(), ControlError> {
        let _administration = self.administration.lock();
        let volume = self.named(name)?;
        if only.is_some_and(|only| only != volume.id) {
            return Err(ControlError::NoWorkspace { name: name.clone() });
        }
        let mut state = volume.state.write();
        let snapshots = state.open.record.snapshots;
        if snapshots > 0 && !with_snapshots {
            return Err(ControlError::HasSnapshots {
                name: name.clone(),
                snapshots,
            });
        }
        let store = &self.shared.store;
        store
            .delete_volume_recorded(&state.open, entries)
            .map_err(failed)?;
        state.deleted = true;
        let forgotten = state.dirty.forget_all();
        self.shared
            .overlay_extents
            .fetch_sub(forgotten, Ordering::Relaxed);
        drop(state);
        self.volumes.write().remove(&volume.id);
        Ok(())
    }

    /// Takes a snapshot of everything acknowledged so far. Durable on return, with all data. The cost does not depend on the
    /// number of files or bytes, but on what has not been flushed yet. Errors: `NoWorkspace`, `LimitExceeded`, `NoSpace`.
    pub fn snapshot(&self, name: &WorkspaceName, new: NewSnapshot) -> Result<Snapshot, ControlError> {
        self.snapshot_recorded(name, new, &mut [])
    }

    /// As [`Volumes::snapshot`], with entries of the ledger in the same batch, which get the snapshot's id.
    pub fn snapshot_recorded(
        &self,
        name: &WorkspaceName,
        new: NewSnapshot,
        entries: LedgerEntries<'_>,
    ) -> Result<Snapshot, ControlError> {
        limit("note in bytes", new.note.len(), Snapshot::NOTE_BYTES_MAX)?;
        limit("number of tags", new.tags.len(), Snapshot::TAGS_MAX)?;
        self.require_room()?;
        let volume = self.named(name)?;
        let details = self.details(Origin::Requested, new);
        for entry in entries.iter_mut() {
            entry.record.snapshot = Some(details.id);
        }
        let mut state = self.quiesce(name, &volume)?;
        let record = self
            .shared
            .store
            .take_snapshot_recorded(&mut state.open, details, entries)
            .map_err(failed)?;
        Ok(snapshot(record))
    }

    pub(super) fn details(&self, origin: Origin, new: NewSnapshot) -> SnapshotDetails {
        let id = SnapshotId(self.shared.random());
        SnapshotDetails {
            id,
            origin,
            created: self.shared.now(),
            note: new.note,
            tags: new.tags,
        }
    }

    /// Locks the volume with everything that was acknowledged in the metadata, durably.
    pub(super) fn quiesce<'a>(
        &self,
        name: &WorkspaceName,
        volume: &'a Volume,
    ) -> Result<parking_lot::RwLockWriteGuard<'a, State>, ControlError> {
        // Most of the syncing happens before the volume is locked.
        if !volume.state.read().dirty.is_empty() {
            self.shared.log.sync().map_err(log_failed).map_err(stopped)?;
        }
        let mut state = volume.state.write();
        if state.deleted {
            return Err(ControlError::NoWorkspace { name: name.clone() });
        }
        volume.require_healthy().map_err(stopped)?;
        volume.flush_all(&mut state).map_err(stopped)?;
        Ok(state)
    }

    /// The snapshots of a workspace, newest first. Errors: `NoWorkspace`.
    pub fn history(&self, name: &WorkspaceName) -> Result<Vec<Snapshot>, ControlError> {
        let volume = self.named(name)?;
        let records = self.shared.store.snapshots(volume.id).map_err(failed)?;
        Ok(records.into_iter().rev().map(snapshot).collect())
    }

    /// The snapshot that a reference means. Errors: `NoWorkspace`, `NoSnapshot`, `ForeignSnapshot`, `AmbiguousSnapshot`.
    pub fn resolve(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
    ) -> Result<Snapshot, ControlError> {
        let volume = self.named(name)?;
        Ok(snapshot(self.find(name, &volume, reference)?))
    }

    pub(super) fn find(
        &self,
        name: &WorkspaceName,
        volume: &Volume,
        reference: &SnapshotReference,
    ) -> Result<SnapshotRecord, ControlError> {
        let mut records = self.shared.store.snapshots(volume.id).map_err(failed)?;
        let wanted = match reference {
            SnapshotReference::Latest => records
                .into_iter()
                .rfind(|record| record.origin == Origin::Requested),
            SnapshotReference::Name(tag) => {
                let tagged = records.iter().rposition(|record| record.tags.contains(tag));
                match tagged {
                    Some(index) => Some(records.swap_remove(index)),
                    None => {
                        let mut fitting: Vec<_> = records
                            .into_iter()
                            .filter(|record| reference.is_prefix_of(record.id))
                            .collect();
                        if fitting.len() > 1 {
                            let candidates = fitting
                                .iter()
                                .take(CANDIDATES_MAX)
                                .map(|record| record.id)
                                .collect();
                            return Err(ControlError::AmbiguousSnapshot {
                                workspace: name.clone(),
                                reference: reference.to_string(),
                                candidates,
                            });
                        }
                        fitting.pop()
                    }
                }
            }
        };
        match wanted {
            Some(record) => Ok(record),
            None => Err(self.not_found(name, reference)),
        }
    }

    /// Says that nothing fits, or that what fits belongs to another workspace.
    pub(super) fn not_found(&self, name: &WorkspaceName, reference: &SnapshotReference) -> ControlError {
        for volume in self.all() {
            let Ok(records) = self.shared.store.snapshots(volume.id) else {
                continue;
            };
            if records.iter().any(|record| reference.is_prefix_of(record.id)) {
                return ControlError::ForeignSnapshot {
                    workspace: name.clone(),
                    reference: reference.to_string(),
                    owner: volume.state.read().open.record.name.clone(),
                };
            }
        }
        ControlError::NoSnapshot {
            workspace: name.clone(),
            reference: reference.to_string(),
        }
    }

    /// Visits, in path order, what differs from one snapshot to another, or to the live tree (`to` is `None`), until
    /// `visit` breaks. The live tree is compared as of one moment. Errors: as [`Volumes::resolve`].
    pub fn diff(
        &self,
        name: &WorkspaceName,
        from: &SnapshotReference,
        to: Option<&SnapshotReference>,
        visit: &mut dyn FnMut(Difference) -> ControlFlow<()>,
    ) -> Result<(), ControlError> {
        let volume = self.named(name)?;
        let engine = self.shared.store.engine();
        // Pinned, so that neither is deleted or swept while it is read.
        let pinned = |reference: &SnapshotReference| {
            let found = self.find(name, &volume, reference)?;
            let pinned = self.shared.store.pin_snapshot(found.id, PinUse::Comparing);
            let (_, record, pin) = pinned
                .map_err(failed)?
                .ok_or_else(|| self.not_found(name, reference))?;
            Ok((record.point, pin))
        };
        let (from, _from_pin) = pinned(from)?;
        let from = Lineage::at(engine, from).map_err(failed)?;
        let (to, _to_pin) = match to {
            Some(to) => pinned(to)?,
            None => {
                // The live tree holds still as the state at the end of an epoch that no snapshot keeps.
                let mut state = self.quiesce(name, &volume)?;
                self.shared.store.end_epoch(&mut state.open).map_err(failed)?
            }
        };
        let to = Lineage::at(engine, to).map_err(failed)?;
        super::diff::diff(engine, &from, &to, visit)
            .map_err(metadata_failed)
            .map_err(stopped)
    }

    /// Makes the live tree equal to a snapshot, after a safety snapshot of what it was. Mounted clients carry on: handles of
    /// objects that both have stay good. Durable on return; the cost does not depend on the size.
    /// Errors: as [`Volumes::resolve`], `NoSpace`; `OverCapacity` if the snapshot is more than the workspace may hold.
    pub fn restore(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
    ) -> Result<Restored, ControlError> {
        self.restore_recorded(name, reference, &mut [])
    }

    /// As [`Volumes::restore`], with entries of the ledger in the same batch, which get the ids of both snapshots.
    pub fn restore_recorded(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
        entries: LedgerEntries<'_>,
    ) -> Result<Restored, ControlError> {
        self.require_room()?;
        let volume = self.named(name)?;
        let target = self.find(name, &volume, reference)?;
        let note = format!("before restoring {}", target.id);
        let details = self.details(
            Origin::Safety,
            NewSnapshot {
                note,
                tags: Vec::new(),
            },
        );
        let mut state = self.quiesce(name, &volume)?;
        let store = &self.shared.store;
        require_capacity(name, target.usage, state.open.record.limits)?;
        // A lineage that cannot be read must not become the head.
        Lineage::at(store.engine(), target.point).map_err(failed)?;
        for entry in entries.iter_mut() {
            entry.record.snapshot = Some(target.id);
            entry.record.safety = Some(details.id);
        }
        let safety = store
            .restore_recorded(&mut state.open, &target, details, entries)
            .map_err(|error| self.gone(name, reference, error))?;
        state.lineage = Lineage::live(store.engine(), state.open.record.head).map_err(failed)?;
        Ok(Restored {
            snapshot: snapshot(target),
            safety: snapshot(safety),
        })
    }

    /// A failure in which the snapshot may have been deleted since it was found.
    fn gone(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
        error: MetadataError,
    ) -> ControlError {
        match error {
            MetadataError::SnapshotGone { .. } => self.not_found(name, reference),
            error => failed(error),
        }
    }

    /// Makes a new workspace that starts as a snapshot of another and has the same export policy and limits. Durable on return; the
    /// cost does not depend on the size. Errors: as [`Volumes::resolve`], `WorkspaceExists`, `NoSpace`; `OverCapacity` if the snapshot is
    /// more than the workspace may hold.
    pub fn fork(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
        new: &WorkspaceName,
    ) -> Result<Workspace, ControlError> {
        self.fork_recorded(name, reference, new, &mut [])
    }

    /// As [`Volumes::fork`], with entries of the ledger in the same batch, which get the id of the snapshot.
    pub fn fork_recorded(
        &self,
        name: &WorkspaceName,
        reference: &SnapshotReference,
        new: &WorkspaceName,
        entries: LedgerEntries<'_>,
    ) -> Result<Workspace, ControlError> {
        self.require_room()?;
        let _administration = self.administration.lock();
        let volume = self.named(name)?;
        let from = self.find(name, &volume, reference)?;
        let VolumeRecord {
            policy,
            inodes_reserved,
            limits,
            ..
        } = volume.state.read().open.record.clone();
        require_capacity(name, from.usage, limits)?;
        let record = VolumeRecord {
            name: new.clone(),
            head: BranchId(0),
            inodes_reserved,
            next_snapshot: 1,
            snapshots: 0,
            created: self.shared.now(),
            last_snapshot: None,
            forked_from: Some(from.id),
            policy,
            limits,
        };
        for entry in entries.iter_mut() {
            entry.record.snapshot = Some(from.id);
        }
        let store = &self.shared.store;
        let open = store.fork_volume_recorded(record, &from, entries);
        let open = open.map_err(|error| self.gone(name, reference, error))?;
        self.admit(new.clone(), open)
    }

    /// Brings everything that was acknowledged, stable or not, into the metadata, durably. What comes meanwhile may or may not be
    /// among it. Errors: `NoSpace`, `Storage`.
    pub fn flush_durably(&self) -> Result<(), ControlError> {
        self.flush().map_err(stopped)?;
        let synced = self.shared.store.engine().sync();
        synced.map_err(|error| failed(error.into()))
    }

    /// What the node holds.
    pub fn usage(&self) -> Result<Usage, ControlError> {
        let volumes = self.all();
        Ok(Usage {
            workspaces: volumes.len() as u64,
            snapshots: volumes
                .iter()
                .map(|volume| volume.state.read().open.record.snapshots)
                .sum(),
            metadata_bytes: self.shared.store.engine().disk_bytes(),
            log_bytes: self.shared.log.disk_bytes(),
            unstable_bytes: self.shared.unstable_bytes.load(Ordering::Relaxed),
            disk_free_bytes: self.shared.space.free_bytes(),
            disk_reserve_bytes: self.shared.space.reserve_bytes(),
            swept: self.sweeping.figures(),
        })
    }
}
