//! Workspaces that are directories: the same requests, carried out by [`crate::directories`].
//!
//! What takes long is an operation. A key is *intended* until its end is known, and that is looked for whenever somebody asks: a
//! snapshot is found by the key that stands in it; a restore by the operation, and after a restart by the audit log of the repository, in
//! which it is done on behalf of the key. Nothing is begun a second time while that finds something.

use std::sync::Arc;
use std::time::Duration;

use cairn_metadata::store::LedgerEntry;
use cairn_metadata::{LedgerKind, LedgerPhase, LedgerRecord};
use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::operations::verify::Integrity;
use cairn_snapshot::repository::{AuditEvent, Origin, RepositoryId};
use cairn_types::{ExportPolicy, SnapshotId, SnapshotReference, VolumeId, WorkspaceName, hexadecimal};

use super::ledger::Detail;
use super::restores::{ManagedRestore, Plan, RestoreRequest, RestoreTarget};
use super::snapshots::{Facts, ManagedSnapshot, SnapshotRequest, SnapshotsPage, Verified};
use super::workspaces::{Backing, Capacity, Ensured, ManagedWorkspace, WorkspaceRequest};
use super::{Control, Key, ManagedState, Refused, features};
use crate::directories::{
    Asker, Condition, DeleteRequest, Directories, DirectoriesError, DirectoryRef, Job, LabelsRequest,
    RegisterRequest, Registered, SaveRequest, SnapshotFacts, UnsavedChanges, VerifyRequest,
};
use crate::operations::{Operation, OperationId, Outcome, State};

/// How long a deletion is waited for before it is told that it goes on.
const DELETION_WAIT: Duration = Duration::from_secs(15);

/// A workspace that is a directory.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its owner.
    pub key: Key,
    /// The directory.
    pub directory: Arc<Registered>,
}

fn asker(key: &Key) -> Asker {
    Asker {
        actor: Some(key.as_str().to_owned()),
        ..Asker::default()
    }
}

fn repository_id(text: &str) -> Option<RepositoryId> {
    hexadecimal::parse(text).map(RepositoryId)
}

fn paths(bytes: &[Vec<u8>]) -> Result<Vec<RelativePath>, Refused> {
    let parse = |path: &Vec<u8>| {
        RelativePath::new(path).map_err(|error| Refused::BackingInvalid {
            field: "paths",
            what: format!("{} is no path in a workspace: {error}", path.escape_ascii()),
        })
    };
    bytes.iter().map(parse).collect()
}

fn facts(facts: &SnapshotFacts) -> Facts {
    let descriptor = &facts.descriptor;
    let pins = facts.labels.pins.iter();
    Facts {
        created: descriptor.created,
        note: facts.labels.note.clone(),
        tags: facts.labels.tags.iter().map(ToString::to_string).collect(),
        inodes: descriptor.counts.entries,
        bytes: descriptor.counts.bytes,
        tree_hash: descriptor.tree_hash.map(|hash| hash.to_string()),
        verified: match facts.integrity {
            Some(Integrity::Verified(_)) => Verified::Yes,
            Some(Integrity::Damaged(..)) => Verified::Damaged,
            Some(Integrity::Unverified) | None => Verified::No,
        },
        safety: matches!(descriptor.origin, Origin::Safety { .. }),
        pinned_until: pins.filter_map(|pin| pin.expires).max(),
    }
}

fn degraded(facts: &SnapshotFacts) -> Vec<String> {
    let engines = facts.descriptor.engine.degraded.iter();
    let engines = engines.map(|engine| format!("engine: not {}: {}", engine.from, engine.reason));
    let torn = (facts.descriptor.vanished > 0).then(|| {
        format!(
            "paths: {} entries vanished while they were captured",
            facts.descriptor.vanished
        )
    });
    engines.chain(torn).collect()
}

impl Control {
    fn directories(&self) -> Result<&Arc<Directories>, Refused> {
        self.directories
            .as_ref()
            .ok_or_else(|| Refused::unsupported(features::DIRECTORY, "this node looks after no directories"))
    }

    /// The directory of an entry, if it is still looked after.
    fn registered(&self, record: &LedgerRecord) -> Option<Arc<Registered>> {
        let id = repository_id(&Detail::of(record).repository)?;
        let directories = self.directories.as_ref()?;
        directories.find(&DirectoryRef::Repository(id)).ok()
    }

    /// The workspace of that name, if it is a directory that somebody owns.
    pub(super) fn place(&self, name: &WorkspaceName) -> Result<Option<Place>, Refused> {
        let Some(key) = self.ledger.directory(name.as_str()) else {
            return Ok(None);
        };
        let key = Key::stored(&key);
        let Some(record) = self.ledger.get(&key)? else {
            return Ok(None);
        };
        match self.registered(&record) {
            Some(directory) => Ok(Some(Place { key, directory })),
            None => Err(Refused::WorkspaceGone {
                name: name.to_string(),
                key,
            }),
        }
    }

    pub(super) fn require_place_owner(
        place: &Place,
        name: &WorkspaceName,
        key: Option<&Key>,
    ) -> Result<(), Refused> {
        match key.is_none_or(|key| *key == place.key) {
            true => Ok(()),
            false => Err(Refused::WorkspaceOwned {
                name: name.clone(),
                owner: Some(place.key.as_str().to_owned()),
            }),
        }
    }

    /// What a directory cannot be asked for.
    pub(super) fn check_directory(request: &WorkspaceRequest) -> Result<(), Refused> {
        let refuse = |feature: &str, what: &str| Err(Refused::unsupported(feature, what));
        if request.source.is_some() {
            return refuse(
                features::SOURCE,
                "a directory cannot start as a snapshot: restore into it afterwards",
            );
        }
        if request.capacity != Capacity::default() {
            return refuse(
                features::CAPACITY,
                "what a directory holds is limited by its file system, not by cairnd",
            );
        }
        if request.export != ExportPolicy::default() {
            return refuse(
                features::EXPORT_UPDATE,
                "a directory is versioned and not served: leave export out",
            );
        }
        Ok(())
    }

    /// Makes that a directory is looked after; gives whether this request has made it so.
    pub(super) fn make_directory(&self, request: &WorkspaceRequest) -> Result<bool, Refused> {
        let Backing::Directory { path, control } = &request.backing else {
            return Ok(false);
        };
        let _adoption = self.adoption.lock();
        if let Some(owner) = self.ledger.directory(request.name.as_str()) {
            return Err(Refused::WorkspaceOwned {
                name: request.name.clone(),
                owner: Some(owner),
            });
        }
        if self.volumes.workspace(&request.name).is_ok() {
            let exists = cairn_vfs::control::ControlError::WorkspaceExists {
                name: request.name.clone(),
            };
            return Err(exists.into());
        }
        let registering = self.directories()?.register(&RegisterRequest {
            workspace: Some(path.clone()),
            control: (!control.as_os_str().is_empty()).then(|| control.clone()),
            init: true,
        })?;
        let repository = registering.directory.id.to_string();
        if let Some(owner) = self.ledger.owner_of_repository(&repository) {
            return Err(Refused::WorkspaceOwned {
                name: request.name.clone(),
                owner: Some(owner),
            });
        }
        let mut entry = request.entry(self.clock.now(), VolumeId(0));
        entry.record.detail = Detail {
            repository,
            ..Detail::of(&entry.record)
        }
        .stored();
        self.ledger.put(&entry)?;
        tracing::info!(workspace = %request.name, key = %request.key, path = %path.display(), "looking after a directory for a controller");
        Ok(true)
    }

    /// A workspace that is a directory, as it is now.
    pub(super) fn managed_directory(
        &self,
        key: &Key,
        record: &LedgerRecord,
        with_snapshots: bool,
    ) -> Result<ManagedWorkspace, Refused> {
        let detail = Detail::of(record);
        let found = self.registered(record);
        let mut managed = ManagedWorkspace {
            key: key.clone(),
            name: detail.workspace,
            volume: VolumeId(0),
            repository: detail.repository,
            state: match (record.phase, &found) {
                (LedgerPhase::Deleted, _) => ManagedState::Deleted,
                (LedgerPhase::Deleting, _) => ManagedState::Deleting,
                (LedgerPhase::Intended, _) => ManagedState::Interrupted,
                (LedgerPhase::Done, Some(_)) => ManagedState::Ready,
                (LedgerPhase::Done, None) => ManagedState::Lost,
            },
            backing: Backing::Directory {
                path: found
                    .as_ref()
                    .map(|found| found.workspace.clone())
                    .unwrap_or_default(),
                control: found
                    .as_ref()
                    .map(|found| found.control.clone())
                    .unwrap_or_default(),
            },
            workspace: None,
            capacity: Capacity::default(),
            labels: detail.labels,
            latest_snapshot: None,
            trouble: String::new(),
            snapshots: 0,
        };
        let Some(found) = found.filter(|_| managed.state == ManagedState::Ready) else {
            return Ok(managed);
        };
        if with_snapshots {
            match self.directories()?.history(&found, None, usize::MAX, true) {
                Ok(history) => {
                    managed.snapshots = (history.snapshots.len() + history.damaged.len()) as u64;
                    let newest = history
                        .snapshots
                        .iter()
                        .find(|facts| facts.descriptor.origin.is_latest());
                    managed.latest_snapshot = newest.map(|facts| facts.descriptor.id);
                }
                // It is told as trouble.
                Err(error) => tracing::debug!(%key, %error, "a directory cannot be looked at"),
            }
        }
        if let Condition::Missing(what) | Condition::Unusable(what) = found.condition() {
            managed.trouble = what;
        }
        Ok(managed)
    }

    /// Looks after a directory no more. The directory and its snapshots stay.
    pub(super) fn drop_directory(&self, record: &LedgerRecord) -> Result<bool, Refused> {
        let Some(directory) = self.registered(record) else {
            return Ok(true);
        };
        match self
            .directories()?
            .unregister(&DirectoryRef::Repository(directory.id))
        {
            Ok(_) => Ok(false),
            Err(DirectoriesError::NotRegistered { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// A snapshot of a directory: found by its key, or begun.
    pub(super) fn ensure_directory_snapshot(
        &self,
        request: &SnapshotRequest,
        place: &Place,
        known: Option<LedgerRecord>,
    ) -> Result<Ensured<ManagedSnapshot>, Refused> {
        let created = known.is_none();
        let record = match known {
            Some(record) => record,
            None => {
                let job = self.save_job(request)?;
                let entry = request.entry(
                    self.clock.now(),
                    LedgerPhase::Intended,
                    Detail {
                        workspace: request.workspace.to_string(),
                        repository: place.directory.id.to_string(),
                        verify: request.verify,
                        ..Detail::default()
                    },
                );
                self.ledger.put(&entry)?;
                self.begin(&request.key, place, job)?;
                entry.record
            }
        };
        let mut now = self.managed_snapshot(&request.key, &record)?;
        if !created && matches!(now.state, ManagedState::Interrupted | ManagedState::Failed) {
            let job = self.save_job(request)?;
            self.begin(&request.key, place, job)?;
            now = self.managed_snapshot(&request.key, &record)?;
        }
        if now.state == ManagedState::Lost {
            return Err(Refused::SnapshotGone {
                snapshot: now.id.unwrap_or(SnapshotId([0; 16])),
                key: request.key.clone(),
            });
        }
        let changed = match (created, now.state) {
            (false, ManagedState::Ready) => self.relabel_directory(request, place, &now)?,
            _ => Vec::new(),
        };
        if !changed.is_empty() {
            now = self.snapshot(&request.key)?;
        }
        Ok(Ensured {
            now,
            created,
            changed,
        })
    }

    fn save_job(&self, request: &SnapshotRequest) -> Result<Job, Refused> {
        let engine = match request.engine.as_str() {
            "" | "auto" => None,
            engine => Some(engine.to_owned()),
        };
        Ok(Job::Save(SaveRequest {
            note: request.note.clone(),
            tags: request.tags.iter().cloned().collect(),
            template: (!request.template.is_empty()).then(|| request.template.clone()),
            engine,
            paths: paths(&request.paths)?,
            compression: match (request.compression.as_str(), request.compression_level) {
                ("", _) => None,
                (name, 0) => Some(name.to_owned()),
                (name, level) => Some(format!("{name}:{level}")),
            },
            key: Some(request.key.as_str().to_owned()),
            asker: asker(&request.key),
            ..SaveRequest::default()
        }))
    }

    /// Begins work for a key, or finds the operation that does the same.
    fn begin(&self, key: &Key, place: &Place, job: Job) -> Result<Arc<Operation>, Refused> {
        let (operation, _) = self.directories()?.start(&place.directory, job)?;
        self.attempts.lock().insert(key.clone(), operation.id);
        Ok(operation)
    }

    /// The last operation that worked for a key in this process.
    fn attempt(&self, key: &Key) -> Option<Arc<Operation>> {
        let id: Option<OperationId> = self.attempts.lock().get(key).copied();
        self.operations.find(&id?.to_string()).ok()
    }

    /// How work for a key is whose end is not in the ledger, by its operation.
    fn attempted(&self, key: &Key) -> (ManagedState, Option<Arc<Operation>>) {
        let Some(operation) = self.attempt(key) else {
            return (ManagedState::Interrupted, None);
        };
        let state = match operation.state() {
            // Succeeded, and not found: it is found the next time.
            State::Running | State::Succeeded(_) => ManagedState::Running,
            State::Failed(_) => ManagedState::Failed,
            State::Cancelled => ManagedState::Interrupted,
        };
        (state, Some(operation))
    }

    fn relabel_directory(
        &self,
        request: &SnapshotRequest,
        place: &Place,
        now: &ManagedSnapshot,
    ) -> Result<Vec<&'static str>, Refused> {
        let (Some(facts), Some(id)) = (&now.facts, now.id) else {
            return Ok(Vec::new());
        };
        let wanted: Vec<String> = request.tags.iter().map(ToString::to_string).collect();
        let mut changed = Vec::new();
        if facts.note != request.note && !request.note.is_empty() {
            changed.push("note");
        }
        let missing = request
            .tags
            .iter()
            .filter(|tag| !facts.tags.contains(&tag.to_string()));
        let add_tags: Vec<_> = missing.cloned().collect();
        let too_many = facts.tags.iter().filter(|tag| !wanted.contains(tag));
        // Tags of the template are the repository's.
        let remove_tags: Vec<_> = match request.template.is_empty() {
            true => too_many
                .filter_map(|tag| cairn_types::Tag::new(tag).ok())
                .collect(),
            false => Vec::new(),
        };
        if !add_tags.is_empty() || !remove_tags.is_empty() {
            changed.push("tags");
        }
        if !changed.is_empty() {
            let labels = LabelsRequest {
                note: changed.contains(&"note").then(|| request.note.clone()),
                add_tags,
                remove_tags,
                add_pin: None,
                remove_pins: Vec::new(),
                remove_all_pins: false,
                asker: asker(&request.key),
            };
            self.directories()?
                .set_labels(&place.directory, id, &labels, &Progress::new())?;
        }
        Ok(changed)
    }

    /// The snapshot of a key on a directory, as far as it has come. What has come to its end is written down.
    pub(super) fn managed_directory_snapshot(
        &self,
        key: &Key,
        record: &LedgerRecord,
    ) -> Result<ManagedSnapshot, Refused> {
        let detail = Detail::of(record);
        let mut managed = ManagedSnapshot {
            key: Some(key.as_str().to_owned()),
            id: record.snapshot,
            workspace: detail.workspace.clone(),
            state: match record.phase {
                LedgerPhase::Deleted => ManagedState::Deleted,
                LedgerPhase::Deleting => ManagedState::Deleting,
                LedgerPhase::Done | LedgerPhase::Intended => ManagedState::Lost,
            },
            engine: String::new(),
            facts: None,
            degraded: Vec::new(),
            operation: None,
        };
        if managed.state != ManagedState::Lost {
            return Ok(managed);
        }
        let Some(directory) = self.registered(record) else {
            return Ok(managed);
        };
        let directories = self.directories()?;
        let found = match record.snapshot {
            Some(id) => match directories.snapshot(&directory, &id.to_string()) {
                Ok(found) => Some(found),
                Err(error) if error.kind() == cairn_types::ErrorKind::NotFound => None,
                Err(error) => return Err(error.into()),
            },
            None => directories.snapshot_by_key(&directory, key.as_str())?,
        };
        let Some(found) = found else {
            if record.phase == LedgerPhase::Intended {
                (managed.state, managed.operation) = self.attempted(key);
            }
            return Ok(managed);
        };
        managed.id = Some(found.descriptor.id);
        managed.engine = found.descriptor.engine.used.clone();
        managed.degraded = degraded(&found);
        managed.facts = Some(facts(&found));
        managed.state = ManagedState::Ready;
        if record.phase == LedgerPhase::Done {
            return Ok(managed);
        }
        let unread = !matches!(
            found.integrity,
            Some(Integrity::Verified(_) | Integrity::Damaged(..))
        );
        if detail.verify && unread {
            let place = Place {
                key: key.clone(),
                directory,
            };
            let job = Job::Verify(VerifyRequest {
                snapshots: vec![found.descriptor.id],
                bytes_per_second: None,
            });
            // The save may be the last attempt, or a verification that has ended badly.
            let ended_badly = self
                .attempt(key)
                .filter(|operation| operation.request.kind == crate::operations::Kind::DirectoryVerify)
                .filter(|operation| matches!(operation.state(), State::Failed(_) | State::Cancelled));
            managed.operation = match ended_badly {
                Some(operation) => {
                    managed.state = ManagedState::Failed;
                    Some(operation)
                }
                None => {
                    managed.state = ManagedState::Running;
                    Some(self.begin(key, &place, job)?)
                }
            };
            return Ok(managed);
        }
        self.attempts.lock().remove(key);
        self.ledger.put(&LedgerEntry {
            key: key.as_str().to_owned(),
            record: LedgerRecord {
                phase: LedgerPhase::Done,
                written: self.clock.now(),
                snapshot: Some(found.descriptor.id),
                ..record.clone()
            },
        })?;
        Ok(managed)
    }

    /// The snapshots of a directory, oldest first.
    pub(super) fn directory_snapshots(
        &self,
        place: &Place,
        name: &WorkspaceName,
        after: Option<SnapshotId>,
        limit: usize,
    ) -> Result<SnapshotsPage, Refused> {
        let history = self
            .directories()?
            .history(&place.directory, None, usize::MAX, true)?;
        let mut all = history.snapshots;
        all.reverse();
        let start = match after {
            None => 0,
            Some(after) => {
                let at = all.iter().position(|found| found.descriptor.id == after);
                1 + at.ok_or_else(|| Refused::PageInvalid {
                    token: after.to_string(),
                })?
            }
        };
        let rest = all.len() - start;
        let snapshots: Vec<ManagedSnapshot> = all[start..]
            .iter()
            .take(limit)
            .map(|found| ManagedSnapshot {
                key: self.ledger.key_of(found.descriptor.id),
                id: Some(found.descriptor.id),
                workspace: name.to_string(),
                state: ManagedState::Ready,
                engine: found.descriptor.engine.used.clone(),
                facts: Some(facts(found)),
                degraded: degraded(found),
                operation: None,
            })
            .collect();
        let next = match rest > limit {
            true => snapshots.last().and_then(|last| last.id),
            false => None,
        };
        Ok(SnapshotsPage { snapshots, next })
    }

    /// Removes a snapshot of a directory, and waits a little for the end. Says whether it was gone already.
    pub(super) fn remove_directory_snapshot(
        &self,
        place: &Place,
        key: Option<&Key>,
        id: SnapshotId,
    ) -> Result<bool, Refused> {
        let directories = self.directories()?;
        match directories.snapshot(&place.directory, &id.to_string()) {
            Ok(_) => {}
            Err(error) if error.kind() == cairn_types::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        let job = Job::Delete(DeleteRequest {
            snapshot: id,
            asker: key.map(asker).unwrap_or_default(),
        });
        let (operation, _) = directories.start(&place.directory, job)?;
        self.wait_for(&operation)?;
        match operation.state() {
            State::Succeeded(_) => Ok(false),
            State::Failed(error) => Err(Refused::Operation { error }),
            State::Running | State::Cancelled => Err(Refused::StillRunning {
                operation: operation.id.to_string(),
            }),
        }
    }

    fn wait_for(&self, operation: &Operation) -> Result<(), Refused> {
        let runtime = tokio::runtime::Handle::try_current();
        let mut ended = operation.has_ended();
        if let Ok(runtime) = runtime {
            // An error of either kind means that it still runs, which the state tells.
            let _ = runtime.block_on(tokio::time::timeout(
                DELETION_WAIT,
                ended.wait_for(|ended| *ended),
            ));
        }
        Ok(())
    }

    /// Begins reading a snapshot of a directory.
    pub(super) fn verify_directory_snapshot(&self, place: &Place, id: SnapshotId) -> Result<String, Refused> {
        let job = Job::Verify(VerifyRequest {
            snapshots: vec![id],
            bytes_per_second: None,
        });
        let (operation, _) = self.directories()?.start(&place.directory, job)?;
        Ok(operation.id.to_string())
    }

    pub(super) fn plan_directory_restore(
        &self,
        place: &Place,
        snapshot: &SnapshotReference,
        only: &[Vec<u8>],
        progress: &Progress,
    ) -> Result<Plan, Refused> {
        let directories = self.directories()?;
        let id = directories.resolve(&place.directory, &snapshot.to_string())?;
        let request = crate::directories::RestoreRequest {
            snapshot: id,
            paths: paths(only)?,
            unsaved: UnsavedChanges::Save,
            asker: Asker::default(),
        };
        let (_, plan) = directories.plan_restore(&place.directory, &request, progress)?;
        Ok(Plan {
            snapshot: id,
            adds: plan.totals.added,
            changes: plan.totals.changed,
            deletes: plan.totals.removed,
            bytes: plan.totals.bytes,
        })
    }

    /// A restore of a directory: found, or begun.
    pub(super) fn ensure_directory_restore(
        &self,
        request: &RestoreRequest,
        place: &Place,
        known: Option<LedgerRecord>,
    ) -> Result<Ensured<ManagedRestore>, Refused> {
        if request.into != RestoreTarget::InPlace {
            return Err(Refused::unsupported(
                features::RESTORE_NEW_WORKSPACE,
                "a snapshot of a directory is restored into a new one with `cairn fork`, which asks where to",
            ));
        }
        let created = known.is_none();
        let record = match known {
            Some(record) => record,
            None => {
                let id = self
                    .directories()?
                    .resolve(&place.directory, &request.snapshot.to_string())?;
                let mut entry = request.entry(self.clock.now());
                entry.record.phase = LedgerPhase::Intended;
                entry.record.snapshot = Some(id);
                entry.record.detail = Detail {
                    repository: place.directory.id.to_string(),
                    ..Detail::of(&entry.record)
                }
                .stored();
                let job = self.restore_job(request, id)?;
                self.ledger.put(&entry)?;
                self.begin(&request.key, place, job)?;
                entry.record
            }
        };
        let mut now = self.managed_directory_restore(&request.key, &record)?;
        if !created
            && matches!(now.state, ManagedState::Interrupted | ManagedState::Failed)
            && let Some(id) = record.snapshot
        {
            let job = self.restore_job(request, id)?;
            self.begin(&request.key, place, job)?;
            now = self.managed_directory_restore(&request.key, &record)?;
        }
        Ok(Ensured {
            now,
            created,
            changed: Vec::new(),
        })
    }

    fn restore_job(&self, request: &RestoreRequest, id: SnapshotId) -> Result<Job, Refused> {
        Ok(Job::Restore(crate::directories::RestoreRequest {
            snapshot: id,
            paths: paths(&request.paths)?,
            unsaved: match request.without_safety {
                true => UnsavedChanges::Discard,
                false => UnsavedChanges::Save,
            },
            asker: asker(&request.key),
        }))
    }

    /// The restore of a key on a directory, as far as it has come. What has come to its end is written down.
    pub(super) fn managed_directory_restore(
        &self,
        key: &Key,
        record: &LedgerRecord,
    ) -> Result<ManagedRestore, Refused> {
        let mut managed = ManagedRestore::of(key, record);
        if record.phase != LedgerPhase::Intended {
            return Ok(managed);
        }
        let operation = self.attempt(key);
        let safety = match operation.as_ref().map(|operation| operation.state()) {
            Some(State::Running) => {
                managed.state = ManagedState::Running;
                managed.operation = operation;
                return Ok(managed);
            }
            Some(State::Succeeded(outcome)) => match *outcome {
                Outcome::Directory(outcome) => match *outcome {
                    crate::directories::Outcome::Restored { safety, .. } => {
                        Some(safety.map(|facts| facts.descriptor.id))
                    }
                    _ => None,
                },
                _ => None,
            },
            Some(State::Failed(_) | State::Cancelled) | None => self.audited(key, record)?.then_some(None),
        };
        let Some(safety) = safety else {
            (managed.state, managed.operation) = self.attempted(key);
            return Ok(managed);
        };
        let done = LedgerRecord {
            phase: LedgerPhase::Done,
            written: self.clock.now(),
            safety,
            ..record.clone()
        };
        self.attempts.lock().remove(key);
        self.ledger.put(&LedgerEntry {
            key: key.as_str().to_owned(),
            record: done.clone(),
        })?;
        Ok(ManagedRestore::of(key, &done))
    }

    /// Whether the repository says that the restore of this key was done.
    fn audited(&self, key: &Key, record: &LedgerRecord) -> Result<bool, Refused> {
        let Some(directory) = self.registered(record) else {
            return Ok(false);
        };
        let repository = self.directories()?.open_for(&directory, None)?;
        let mut done = false;
        let read = repository.read_audit(None, |entry| {
            done |= entry.event == AuditEvent::Restore
                && entry.actor == key.as_str()
                && entry.snapshot == record.snapshot;
        });
        read.map_err(DirectoriesError::from)?;
        Ok(done)
    }

    /// Whether an entry is about a directory.
    pub(super) fn is_of_directory(record: &LedgerRecord) -> bool {
        record.volume == VolumeId(0) && !Detail::of(record).repository.is_empty()
    }

    /// That a key is of this kind.
    pub(super) fn require_kind(key: &Key, record: &LedgerRecord, kind: LedgerKind) -> Result<(), Refused> {
        match record.kind == kind {
            true => Ok(()),
            false => Err(Refused::KeyConflict {
                key: key.clone(),
                fields: vec!["key".to_owned()],
            }),
        }
    }
}
