//! Snapshots that have a key: taken once, listed, deleted.

use cairn_metadata::store::LedgerEntry;
use cairn_metadata::{LedgerKind, LedgerPhase, LedgerRecord};
use cairn_snapshot::engine::EngineKind;
use std::sync::Arc;

use cairn_types::{SnapshotId, SnapshotReference, Tag, Timestamp, VolumeId, WorkspaceName};
use cairn_vfs::control::{ControlError, LabelChanges, NewSnapshot, Snapshot, SnapshotOrigin};

use super::ledger::Detail;
use super::workspaces::Ensured;
use super::{Arguments, Control, Key, ManagedState, Refused, features};
use crate::operations::Operation;

/// The engine of the snapshots of volumes.
pub const VOLUME_ENGINE: &str = "volume";

/// What snapshot there shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Its key.
    pub key: Key,
    /// The workspace.
    pub workspace: WorkspaceName,
    /// Who must own the workspace.
    pub owner: Option<Key>,
    /// A person's words.
    pub note: String,
    /// Tags.
    pub tags: Vec<Tag>,
    /// The engine; empty: any.
    pub engine: String,
    /// The template; empty: none.
    pub template: String,
    /// Paths; none: all.
    pub paths: Vec<Vec<u8>>,
    /// The compression; empty: the workspace's.
    pub compression: String,
    /// Its level; 0: the default.
    pub compression_level: i32,
    /// Read it again and compare.
    pub verify: bool,
}

/// A snapshot that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotWhich {
    /// That of a key.
    Key(Key),
    /// One by its identity.
    Place {
        /// The workspace.
        workspace: WorkspaceName,
        /// The identity.
        id: SnapshotId,
    },
}

/// A snapshot that may have a key.
#[derive(Debug, Clone)]
pub struct ManagedSnapshot {
    /// Its key.
    pub key: Option<String>,
    /// Its identity.
    pub id: Option<SnapshotId>,
    /// The workspace, by name.
    pub workspace: String,
    /// How it is.
    pub state: ManagedState,
    /// The engine that was used.
    pub engine: String,
    /// What it is, if it is there.
    pub facts: Option<Facts>,
    /// What of the request could not be done as asked for.
    pub degraded: Vec<String>,
    /// The operation that works on it, or did last.
    pub operation: Option<Arc<Operation>>,
}

/// Whether a snapshot was read and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Not yet.
    No,
    /// Everything was as it was written.
    Yes,
    /// Something was not.
    Damaged,
}

/// What is told of a snapshot, whatever it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// When it was taken.
    pub created: Timestamp,
    /// A person's words.
    pub note: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Inodes of the tree; of a directory its entries.
    pub inodes: u64,
    /// Sum of the sizes of its regular files.
    pub bytes: u64,
    /// Hash of the tree.
    pub tree_hash: Option<String>,
    /// Whether it was read and compared.
    pub verified: Verified,
    /// A restore has taken it.
    pub safety: bool,
    /// Until when a pin keeps it.
    pub pinned_until: Option<Timestamp>,
}

impl From<&Snapshot> for Facts {
    fn from(snapshot: &Snapshot) -> Self {
        Facts {
            created: snapshot.created,
            note: snapshot.note.clone(),
            tags: snapshot.tags.iter().map(ToString::to_string).collect(),
            inodes: snapshot.inodes,
            bytes: snapshot.bytes,
            tree_hash: None,
            verified: Verified::No,
            safety: snapshot.origin == SnapshotOrigin::Safety,
            pinned_until: snapshot.pins.iter().filter_map(|pin| pin.expires).max(),
        }
    }
}

/// A part of the list of a workspace's snapshots.
#[derive(Debug, Clone)]
pub struct SnapshotsPage {
    /// Oldest first.
    pub snapshots: Vec<ManagedSnapshot>,
    /// The one to go on behind, if there are more.
    pub next: Option<SnapshotId>,
}

impl SnapshotRequest {
    fn arguments(&self) -> Arguments {
        Arguments::default()
            .text("workspace", self.workspace.as_str())
            .text("engine", &self.engine)
            .text("template", &self.template)
            .list("paths", &self.paths)
            .text("compression", &self.compression)
            .number("compression_level", self.compression_level.into(), 0)
            .number("verify", self.verify.into(), 0)
    }

    pub(super) fn entry(&self, now: Timestamp, phase: LedgerPhase, detail: Detail) -> LedgerEntry {
        LedgerEntry {
            key: self.key.as_str().to_owned(),
            record: LedgerRecord {
                kind: LedgerKind::Snapshot,
                phase,
                written: now,
                volume: VolumeId(0),
                snapshot: None,
                safety: None,
                arguments: self.arguments().stored(),
                detail: detail.stored(),
            },
        }
    }

    /// What of it a volume does not do as asked for, which does no harm.
    ///
    /// # Errors
    /// `Unsupported` for what would be something else without it.
    fn degraded_for_volume(&self) -> Result<Vec<String>, Refused> {
        if !self.paths.is_empty() {
            return Err(Refused::unsupported(
                features::SNAPSHOT_PATHS,
                "a snapshot of a volume is of all of it: leave paths out",
            ));
        }
        if !self.template.is_empty() {
            return Err(Refused::unsupported(
                features::SNAPSHOT_TEMPLATES,
                "a volume has no templates: leave template out",
            ));
        }
        let mut degraded = Vec::new();
        match self.engine.as_str() {
            "" | "auto" | VOLUME_ENGINE => {}
            known if EngineKind::ALL.iter().any(|engine| engine.text() == known) => degraded.push(format!(
                "engine: {known} was asked for; the workspace is a volume, whose snapshots share everything with it at once"
            )),
            other => {
                return Err(Refused::unsupported(
                    "engine",
                    format!("there is no engine {other:?}"),
                ));
            }
        }
        match self.compression.as_str() {
            "" | "none" => {}
            other => degraded.push(format!(
                "compression: {other} was asked for; a volume's snapshot copies nothing that could be compressed"
            )),
        }
        if self.verify {
            degraded.push(
                "verify: was asked for; a volume's snapshot copies nothing, and every block is compared with its checksum \
                 whenever it is read"
                    .to_owned(),
            );
        }
        Ok(degraded)
    }
}

impl Control {
    /// Makes that a snapshot has been taken under a key. Durable on return.
    ///
    /// # Errors
    /// `KeyConflict`, `KeyDeleted`, `LedgerFull`, `WorkspaceOwned`, `SnapshotGone`, `Unsupported`, `Volumes`: no such workspace, limits,
    /// no space.
    pub fn ensure_snapshot(&self, request: &SnapshotRequest) -> Result<Ensured<ManagedSnapshot>, Refused> {
        let _lock = self.ledger.lock(&[&request.key]);
        let known = self
            .ledger
            .known(&request.key, LedgerKind::Snapshot, &request.arguments())?;
        if let Some(place) = self.place(&request.workspace)? {
            Self::require_place_owner(&place, &request.workspace, request.owner.as_ref())?;
            return self.ensure_directory_snapshot(request, &place, known);
        }
        if let Some(record) = known {
            return self.known_snapshot(request, &record);
        }
        let degraded = request.degraded_for_volume()?;
        let workspace = self.volumes.workspace(&request.workspace)?;
        self.require_owner(&workspace, request.owner.as_ref())?;
        let detail = Detail {
            workspace: request.workspace.to_string(),
            degraded,
            ..Detail::default()
        };
        let mut entries = [request.entry(self.clock.now(), LedgerPhase::Done, detail)];
        let new = NewSnapshot {
            note: request.note.clone(),
            tags: request.tags.clone(),
        };
        let taken = self
            .volumes
            .snapshot_recorded(&request.workspace, new, &mut entries)?;
        self.ledger.noted(&entries[0]);
        tracing::info!(workspace = %request.workspace, snapshot = %taken.id, key = %request.key, "took a snapshot for a controller");
        Ok(Ensured {
            now: self.snapshot(&request.key)?,
            created: true,
            changed: Vec::new(),
        })
    }

    fn known_snapshot(
        &self,
        request: &SnapshotRequest,
        record: &LedgerRecord,
    ) -> Result<Ensured<ManagedSnapshot>, Refused> {
        let now = self.managed_snapshot(&request.key, record)?;
        let Some(facts) = &now.facts else {
            return Err(Refused::SnapshotGone {
                snapshot: record.snapshot.unwrap_or(SnapshotId([0; 16])),
                key: request.key.clone(),
            });
        };
        let tags: Vec<String> = request.tags.iter().map(ToString::to_string).collect();
        let mut changed = Vec::new();
        if facts.note != request.note {
            changed.push("note");
        }
        if facts.tags != tags {
            changed.push("tags");
        }
        let (Some(id), false) = (now.id, changed.is_empty()) else {
            return Ok(Ensured {
                now,
                created: false,
                changed,
            });
        };
        let old = facts.tags.iter().filter_map(|tag| Tag::new(tag).ok());
        let changes = LabelChanges {
            note: Some(request.note.clone()),
            add_tags: request.tags.clone(),
            remove_tags: old.collect(),
            ..LabelChanges::default()
        };
        self.volumes
            .set_labels(&request.workspace, &self.by_id(&request.workspace, id)?, changes)?;
        Ok(Ensured {
            now: self.snapshot(&request.key)?,
            created: false,
            changed,
        })
    }

    /// The snapshot of a key.
    ///
    /// # Errors
    /// `NoSnapshotKey`, `Volumes`.
    pub fn snapshot(&self, key: &Key) -> Result<ManagedSnapshot, Refused> {
        let record = self.ledger.get(key)?;
        match record.filter(|record| record.kind == LedgerKind::Snapshot) {
            Some(record) => self.managed_snapshot(key, &record),
            None => Err(Refused::NoSnapshotKey { key: key.clone() }),
        }
    }

    pub(super) fn managed_snapshot(
        &self,
        key: &Key,
        record: &LedgerRecord,
    ) -> Result<ManagedSnapshot, Refused> {
        if Self::is_of_directory(record) {
            return self.managed_directory_snapshot(key, record);
        }
        let found = match record.snapshot {
            Some(id) => self.volumes.snapshot_of(id)?,
            None => None,
        };
        let state = match (record.phase, &found) {
            (LedgerPhase::Deleted, _) => ManagedState::Deleted,
            (LedgerPhase::Deleting, _) => ManagedState::Deleting,
            (LedgerPhase::Intended, _) => ManagedState::Interrupted,
            (LedgerPhase::Done, Some(_)) => ManagedState::Ready,
            (LedgerPhase::Done, None) => ManagedState::Lost,
        };
        let detail = Detail::of(record);
        Ok(ManagedSnapshot {
            key: Some(key.as_str().to_owned()),
            id: record.snapshot,
            workspace: detail.workspace,
            state,
            engine: VOLUME_ENGINE.to_owned(),
            facts: found.map(|(_, snapshot)| Facts::from(&snapshot)),
            degraded: detail.degraded,
            operation: None,
        })
    }

    /// The snapshots of a workspace, oldest first, behind `after`, at most `limit`.
    ///
    /// # Errors
    /// `PageInvalid`, `Volumes`.
    pub fn snapshots(
        &self,
        workspace: &WorkspaceName,
        after: Option<SnapshotId>,
        limit: usize,
    ) -> Result<SnapshotsPage, Refused> {
        if let Some(place) = self.place(workspace)? {
            return self.directory_snapshots(&place, workspace, after, limit);
        }
        let mut history = self.volumes.history(workspace)?;
        history.reverse();
        let start = match after {
            None => 0,
            Some(after) => {
                let at = history.iter().position(|snapshot| snapshot.id == after);
                1 + at.ok_or_else(|| Refused::PageInvalid {
                    token: after.to_string(),
                })?
            }
        };
        let rest = history.len() - start;
        let snapshots: Vec<ManagedSnapshot> = history
            .into_iter()
            .skip(start)
            .take(limit)
            .map(|snapshot| ManagedSnapshot {
                key: self.ledger.key_of(snapshot.id),
                id: Some(snapshot.id),
                workspace: workspace.to_string(),
                state: ManagedState::Ready,
                engine: VOLUME_ENGINE.to_owned(),
                facts: Some(Facts::from(&snapshot)),
                degraded: Vec::new(),
                operation: None,
            })
            .collect();
        let next = match rest > limit {
            true => snapshots.last().and_then(|last| last.id),
            false => None,
        };
        Ok(SnapshotsPage { snapshots, next })
    }

    /// Makes that a snapshot is gone. Says whether it was gone already. Durable on return.
    ///
    /// # Errors
    /// `KeyConflict` if the key is not of a snapshot; `Unsupported`; `Volumes`: what keeps it.
    pub fn delete_snapshot(&self, which: &SnapshotWhich) -> Result<bool, Refused> {
        let key = match which {
            SnapshotWhich::Key(key) => Some(key.clone()),
            SnapshotWhich::Place { id, .. } => self.ledger.key_of(*id).map(|key| Key::stored(&key)),
        };
        let Some(key) = key else {
            let SnapshotWhich::Place { workspace, id } = which else {
                return Ok(true);
            };
            return match self.place(workspace)? {
                Some(place) => self.remove_directory_snapshot(&place, None, *id),
                None => self.remove_snapshot(workspace, *id),
            };
        };
        let _lock = self.ledger.lock(&[&key]);
        let Some(record) = self.ledger.get(&key)? else {
            self.ledger
                .bury_unknown(&key, LedgerKind::Snapshot, self.clock.now())?;
            return Ok(true);
        };
        Self::require_kind(&key, &record, LedgerKind::Snapshot)?;
        if record.phase == LedgerPhase::Deleted {
            return Ok(true);
        }
        if Self::is_of_directory(&record) {
            return self.delete_directory_snapshot(&key, record);
        }
        let found = match record.snapshot {
            Some(id) => self
                .volumes
                .snapshot_of(id)?
                .map(|(workspace, _)| (workspace, id)),
            None => None,
        };
        let gone = match found {
            None => true,
            Some((workspace, id)) => {
                self.set_phase(&key, &record, LedgerPhase::Deleting)?;
                match self.remove_snapshot(&workspace, id) {
                    Ok(gone) => gone,
                    Err(error) => {
                        self.set_phase(&key, &record, LedgerPhase::Done)?;
                        return Err(error);
                    }
                }
            }
        };
        self.bury(&key, record)?;
        tracing::info!(%key, already_gone = gone, "deleted a snapshot for a controller");
        Ok(gone)
    }

    fn delete_directory_snapshot(&self, key: &Key, record: LedgerRecord) -> Result<bool, Refused> {
        let name = WorkspaceName::new(&Detail::of(&record).workspace);
        let place = match name {
            Ok(name) => self.place(&name)?,
            Err(_) => None,
        };
        // Not known yet by the ledger, but perhaps by the repository.
        let id = match record.snapshot {
            Some(id) => Some(id),
            None => self.managed_snapshot(key, &record)?.id,
        };
        let record = LedgerRecord {
            snapshot: id,
            ..record
        };
        let gone = match (place, id) {
            (Some(place), Some(id)) => {
                self.set_phase(key, &record, LedgerPhase::Deleting)?;
                match self.remove_directory_snapshot(&place, Some(key), id) {
                    Ok(gone) => gone,
                    Err(error @ Refused::StillRunning { .. }) => return Err(error),
                    Err(error) => {
                        self.set_phase(key, &record, LedgerPhase::Done)?;
                        return Err(error);
                    }
                }
            }
            (None, _) | (_, None) => true,
        };
        self.bury(key, record)?;
        tracing::info!(%key, already_gone = gone, "deleted a snapshot of a directory for a controller");
        Ok(gone)
    }

    /// Begins reading a snapshot and comparing it; gives the operation.
    ///
    /// # Errors
    /// `NoSnapshotKey`, `SnapshotGone`, `Unsupported` for a volume; `Directories`.
    pub fn verify_snapshot(&self, which: &SnapshotWhich) -> Result<String, Refused> {
        let (workspace, id) = match which {
            SnapshotWhich::Place { workspace, id } => (workspace.to_string(), *id),
            SnapshotWhich::Key(key) => {
                let found = self.snapshot(key)?;
                let missing = || Refused::NoSnapshotKey { key: key.clone() };
                (found.workspace, found.id.ok_or_else(missing)?)
            }
        };
        let name = WorkspaceName::new(&workspace).map_err(|_| Refused::PageInvalid { token: workspace })?;
        match self.place(&name)? {
            Some(place) => self.verify_directory_snapshot(&place, id),
            None => Err(Refused::unsupported(
                features::VERIFY,
                "snapshots of volumes are not read to verify them: every block is compared with its checksum whenever it is read",
            )),
        }
    }

    /// Removes a snapshot of a volume. Says whether it was gone already.
    fn remove_snapshot(&self, workspace: &WorkspaceName, id: SnapshotId) -> Result<bool, Refused> {
        let reference = match self.by_id(workspace, id) {
            Ok(reference) => reference,
            Err(Refused::Volumes(
                ControlError::NoSnapshot { .. }
                | ControlError::NoWorkspace { .. }
                | ControlError::ForeignSnapshot { .. },
            )) => return Ok(true),
            Err(error) => return Err(error),
        };
        match self.volumes.delete_snapshot(workspace, &reference) {
            Ok(_) => Ok(false),
            Err(ControlError::NoSnapshot { .. } | ControlError::NoWorkspace { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The reference that means this snapshot. A tag may look like an identity, and would be meant first: then it is refused.
    fn by_id(&self, workspace: &WorkspaceName, id: SnapshotId) -> Result<SnapshotReference, Refused> {
        let reference = super::restores::reference(id);
        let found = self.volumes.resolve(workspace, &reference)?;
        match found.id == id {
            true => Ok(reference),
            false => Err(Refused::Volumes(ControlError::AmbiguousSnapshot {
                workspace: workspace.clone(),
                reference: reference.to_string(),
                candidates: vec![id, found.id],
            })),
        }
    }

    /// Carries a deletion to its end that was written down, if it is of a snapshot of a volume; says so. What must not be deleted any
    /// more stays. Deletions in directories are operations, which go on by themselves.
    pub(super) fn finish_deletion(&self, key: &Key) -> Result<bool, Refused> {
        let _lock = self.ledger.lock(&[key]);
        let record = self.ledger.get(key)?;
        let Some(record) = record.filter(|record| !Self::is_of_directory(record)) else {
            return Ok(false);
        };
        let found = match record.snapshot {
            Some(id) => self
                .volumes
                .snapshot_of(id)?
                .map(|(workspace, _)| (workspace, id)),
            None => None,
        };
        if let Some((workspace, id)) = found
            && let Err(error) = self.remove_snapshot(&workspace, id)
        {
            tracing::warn!(%key, %error, "a deletion that was interrupted is not possible any more");
            self.set_phase(key, &record, LedgerPhase::Done)?;
            return Ok(false);
        }
        self.bury(key, record)?;
        Ok(true)
    }

    fn set_phase(&self, key: &Key, record: &LedgerRecord, phase: LedgerPhase) -> Result<(), Refused> {
        self.ledger.put(&LedgerEntry {
            key: key.as_str().to_owned(),
            record: LedgerRecord {
                phase,
                ..record.clone()
            },
        })
    }

    /// Says that what a key stands for was deleted. Durable on return.
    pub(super) fn bury(&self, key: &Key, record: LedgerRecord) -> Result<(), Refused> {
        self.ledger.put(&LedgerEntry {
            key: key.as_str().to_owned(),
            record: LedgerRecord {
                phase: LedgerPhase::Deleted,
                written: self.clock.now(),
                ..record
            },
        })
    }
}
