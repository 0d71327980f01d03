//! Workspaces that have an owner: made, changed, adopted, released, deleted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cairn_metadata::store::LedgerEntry;
use cairn_metadata::{LedgerKind, LedgerPhase, LedgerRecord};
use cairn_types::{ExportPolicy, SnapshotId, SnapshotReference, VolumeId, WorkspaceName};
use cairn_vfs::control::{CapacityLimits, ControlError, NewWorkspace, Workspace};

use super::ledger::Detail;
use super::{Arguments, Control, Key, ManagedState, Refused};

/// Most labels of a workspace.
pub const LABELS_MAX: usize = 64;
/// Longest name and longest value of a label in bytes.
pub const LABEL_BYTES_MAX: usize = 253;

/// What holds a workspace's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A volume of the node.
    Volume,
    /// A directory of the machine.
    Directory {
        /// Its path.
        path: PathBuf,
        /// Where its snapshots are kept; empty: in it.
        control: PathBuf,
    },
}

/// What a workspace may hold; 0: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capacity {
    /// Bytes of its files.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl Capacity {
    /// As the volumes know it.
    fn limits(self) -> CapacityLimits {
        let limit = |number| (number != 0).then_some(number);
        CapacityLimits {
            bytes: limit(self.bytes),
            inodes: limit(self.inodes),
        }
    }

    fn of(limits: CapacityLimits) -> Self {
        Capacity {
            bytes: limits.bytes.unwrap_or(0),
            inodes: limits.inodes.unwrap_or(0),
        }
    }
}

/// A snapshot that a new workspace starts as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The workspace that has it.
    pub workspace: WorkspaceName,
    /// A reference to it.
    pub snapshot: SnapshotReference,
}

/// What workspace there shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRequest {
    /// Its owner.
    pub key: Key,
    /// Its name.
    pub name: WorkspaceName,
    /// What holds its data.
    pub backing: Backing,
    /// Owner of a new root directory.
    pub uid: u32,
    /// Group of a new root directory.
    pub gid: u32,
    /// Permission bits of a new root directory.
    pub mode: u32,
    /// What it may hold.
    pub capacity: Capacity,
    /// Who may mount it.
    pub export: ExportPolicy,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What it starts as.
    pub source: Option<Source>,
    /// Take over one of that name that is nobody's.
    pub adopt: bool,
}

/// A workspace that has, or had, an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagedWorkspace {
    /// Its owner.
    pub key: Key,
    /// Its name.
    pub name: String,
    /// Its volume.
    pub volume: VolumeId,
    /// How it is.
    pub state: ManagedState,
    /// What holds its data.
    pub backing: Backing,
    /// The workspace, if it is there.
    pub workspace: Option<Workspace>,
    /// What it may hold.
    pub capacity: Capacity,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The newest snapshot that was asked for; looked for only if one workspace is asked for.
    pub latest_snapshot: Option<SnapshotId>,
    /// Snapshots that it has; of a directory looked for only if one workspace is asked for.
    pub snapshots: u64,
    /// The repository, if it is a directory.
    pub repository: String,
    /// What keeps it from being used, for people.
    pub trouble: String,
}

/// What came of a request that something shall be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured<T> {
    /// As it is now.
    pub now: T,
    /// This request made it, or began it.
    pub created: bool,
    /// Fields of the request that this request changed.
    pub changed: Vec<&'static str>,
}

impl WorkspaceRequest {
    /// What cannot be changed.
    fn arguments(&self) -> Arguments {
        let arguments = Arguments::default()
            .text("name", self.name.as_str())
            .number("uid", self.uid.into(), 0)
            .number("gid", self.gid.into(), 0)
            .number(
                "mode",
                self.mode.into(),
                cairn_api::convert::ROOT_MODE_DEFAULT.into(),
            );
        let arguments = match &self.backing {
            Backing::Volume => arguments,
            Backing::Directory { path, control } => arguments.list(
                "backing",
                [path, control].map(|path| path.as_os_str().as_encoded_bytes().to_vec()),
            ),
        };
        match &self.source {
            None => arguments,
            Some(source) => arguments.list(
                "source",
                [source.workspace.to_string(), source.snapshot.to_string()],
            ),
        }
    }

    fn check(&self) -> Result<(), Refused> {
        let limit = |what, found: usize, limit: usize| match found <= limit {
            true => Ok(()),
            false => Err(Refused::Limit {
                what,
                found: found as u64,
                limit: limit as u64,
            }),
        };
        limit("number of labels", self.labels.len(), LABELS_MAX)?;
        for (name, value) in &self.labels {
            limit("label name in bytes", name.len(), LABEL_BYTES_MAX)?;
            limit("label value in bytes", value.len(), LABEL_BYTES_MAX)?;
        }
        match self.backing {
            Backing::Volume => Ok(()),
            Backing::Directory { .. } => Control::check_directory(self),
        }
    }

    pub(super) fn entry(&self, now: cairn_types::Timestamp, volume: VolumeId) -> LedgerEntry {
        let detail = Detail {
            workspace: self.name.to_string(),
            labels: self.labels.clone(),
            ..Detail::default()
        };
        LedgerEntry {
            key: self.key.as_str().to_owned(),
            record: LedgerRecord {
                kind: LedgerKind::Workspace,
                phase: LedgerPhase::Done,
                written: now,
                volume,
                snapshot: None,
                safety: None,
                arguments: self.arguments().stored(),
                detail: detail.stored(),
            },
        }
    }
}

impl Control {
    /// Makes that a workspace is there as described. Durable on return.
    ///
    /// # Errors
    /// `KeyConflict`, `KeyDeleted`, `LedgerFull`, `WorkspaceOwned`, `WorkspaceGone`, `Unsupported`, `Limit`, `Volumes`: a workspace of
    /// that name that is nobody's, no such source, no space.
    pub fn ensure_workspace(&self, request: &WorkspaceRequest) -> Result<Ensured<ManagedWorkspace>, Refused> {
        request.check()?;
        let _lock = self.ledger.lock(&[&request.key]);
        let known = self
            .ledger
            .known(&request.key, LedgerKind::Workspace, &request.arguments())?;
        if let Backing::Directory { .. } = request.backing {
            let created = known.is_none() && self.make_directory(request)?;
            let now = self.workspace(&request.key)?;
            if now.state != ManagedState::Ready {
                return Err(Refused::WorkspaceGone {
                    name: request.name.to_string(),
                    key: request.key.clone(),
                });
            }
            let changed = self.change_labels(request)?;
            return Ok(Ensured {
                now: self.workspace(&request.key)?,
                created,
                changed,
            });
        }
        let (created, mut changed, volume) = match known {
            Some(record) => (false, Vec::new(), record.volume),
            None => match self.make_workspace(request)? {
                (true, volume) => (true, Vec::new(), volume),
                (false, volume) => (false, vec!["adopt"], volume),
            },
        };
        let Some(workspace) = self.volumes.workspace_of(volume) else {
            return Err(Refused::WorkspaceGone {
                name: request.name.to_string(),
                key: request.key.clone(),
            });
        };
        changed.extend(self.change_workspace(request, &workspace)?);
        Ok(Ensured {
            now: self.workspace(&request.key)?,
            created,
            changed,
        })
    }

    /// Makes a workspace with its entry, or adopts one; says which.
    fn make_workspace(&self, request: &WorkspaceRequest) -> Result<(bool, VolumeId), Refused> {
        if let Some(owner) = self.ledger.directory(request.name.as_str()) {
            return Err(Refused::WorkspaceOwned {
                name: request.name.clone(),
                owner: Some(owner),
            });
        }
        let mut entries = [request.entry(self.clock.now(), VolumeId(0))];
        let made = match &request.source {
            None => self.volumes.create_workspace_recorded(
                NewWorkspace {
                    name: request.name.clone(),
                    policy: request.export.clone(),
                    uid: request.uid,
                    gid: request.gid,
                    mode: request.mode,
                },
                request.capacity.limits(),
                &mut entries,
            ),
            Some(source) => {
                self.volumes
                    .fork_recorded(&source.workspace, &source.snapshot, &request.name, &mut entries)
            }
        };
        match made {
            Ok(workspace) => {
                self.ledger.noted(&entries[0]);
                tracing::info!(workspace = %workspace.name, key = %request.key, "made a workspace for a controller");
                Ok((true, workspace.volume))
            }
            Err(ControlError::WorkspaceExists { name }) => self
                .adopt(request)?
                .map(|volume| (false, volume))
                .ok_or(Refused::Volumes(ControlError::WorkspaceExists { name })),
            Err(error) => Err(error.into()),
        }
    }

    /// `None` if the workspace is nobody's and may not be adopted.
    fn adopt(&self, request: &WorkspaceRequest) -> Result<Option<VolumeId>, Refused> {
        // Two that adopt at the same time: the second finds the first's entry.
        let _adoption = self.adoption.lock();
        let found = self.volumes.workspace(&request.name)?;
        if let Some(owner) = self.ledger.owner(found.volume) {
            return Err(Refused::WorkspaceOwned {
                name: request.name.clone(),
                owner: Some(owner),
            });
        }
        if !request.adopt {
            return Ok(None);
        }
        self.ledger.put(&request.entry(self.clock.now(), found.volume))?;
        tracing::info!(workspace = %request.name, key = %request.key, "a controller adopted a workspace");
        Ok(Some(found.volume))
    }

    /// Changes what can be changed; gives the fields that were.
    fn change_workspace(
        &self,
        request: &WorkspaceRequest,
        workspace: &Workspace,
    ) -> Result<Vec<&'static str>, Refused> {
        let mut changed = Vec::new();
        // First what may be refused.
        if workspace.limits != request.capacity.limits() {
            self.volumes
                .set_capacity(&workspace.name, request.capacity.limits())?;
            changed.push("capacity");
        }
        if *workspace.policy != request.export {
            self.volumes
                .set_export_policy(&workspace.name, request.export.clone())?;
            changed.push("export");
        }
        changed.extend(self.change_labels(request)?);
        if !changed.is_empty() {
            tracing::info!(workspace = %request.name, ?changed, "changed a workspace for a controller");
        }
        Ok(changed)
    }

    fn change_labels(&self, request: &WorkspaceRequest) -> Result<Vec<&'static str>, Refused> {
        if let Some(record) = self.ledger.get(&request.key)?
            && Detail::of(&record).labels != request.labels
        {
            let detail = Detail {
                labels: request.labels.clone(),
                ..Detail::of(&record)
            };
            self.ledger.put(&LedgerEntry {
                key: request.key.as_str().to_owned(),
                record: LedgerRecord {
                    detail: detail.stored(),
                    ..record
                },
            })?;
            return Ok(vec!["labels"]);
        }
        Ok(Vec::new())
    }

    /// The workspace of a key, with its newest snapshot.
    ///
    /// # Errors
    /// `NoWorkspaceKey`, `Volumes`.
    pub fn workspace(&self, key: &Key) -> Result<ManagedWorkspace, Refused> {
        let missing = || Refused::NoWorkspaceKey { key: key.clone() };
        let mut found = self.managed_workspace(key, true)?.ok_or_else(missing)?;
        if let Some(workspace) = &found.workspace {
            found.latest_snapshot = match self.volumes.resolve(&workspace.name, &SnapshotReference::Latest) {
                Ok(snapshot) => Some(snapshot.id),
                Err(ControlError::NoSnapshot { .. } | ControlError::NoWorkspace { .. }) => None,
                Err(error) => return Err(error.into()),
            };
        }
        Ok(found)
    }

    fn managed_workspace(
        &self,
        key: &Key,
        with_snapshots: bool,
    ) -> Result<Option<ManagedWorkspace>, Refused> {
        let record = self.ledger.get(key)?;
        let Some(record) = record.filter(|record| record.kind == LedgerKind::Workspace) else {
            return Ok(None);
        };
        if Self::is_of_directory(&record) {
            return self.managed_directory(key, &record, with_snapshots).map(Some);
        }
        let workspace = self.volumes.workspace_of(record.volume);
        let state = match (record.phase, &workspace) {
            (LedgerPhase::Deleted, _) => ManagedState::Deleted,
            (LedgerPhase::Deleting, _) => ManagedState::Deleting,
            (LedgerPhase::Intended, _) => ManagedState::Interrupted,
            (LedgerPhase::Done, Some(_)) => ManagedState::Ready,
            (LedgerPhase::Done, None) => ManagedState::Lost,
        };
        let detail = Detail::of(&record);
        Ok(Some(ManagedWorkspace {
            key: key.clone(),
            name: detail.workspace,
            volume: record.volume,
            state,
            backing: Backing::Volume,
            capacity: workspace
                .as_ref()
                .map_or_else(Capacity::default, |workspace| Capacity::of(workspace.limits)),
            labels: detail.labels,
            latest_snapshot: None,
            snapshots: workspace.as_ref().map_or(0, |workspace| workspace.snapshots),
            repository: String::new(),
            trouble: String::new(),
            workspace,
        }))
    }

    /// Workspaces that have an owner, by key, behind `after`, at most `limit`; and the key to go on with if there may be more.
    ///
    /// # Errors
    /// `Volumes`.
    pub fn workspaces(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<ManagedWorkspace>, Option<String>), Refused> {
        let keys = self.ledger.workspaces(after, limit);
        let next = (keys.len() == limit).then(|| keys.last().cloned()).flatten();
        let mut found = Vec::with_capacity(keys.len());
        for key in &keys {
            found.extend(self.managed_workspace(&Key::stored(key), false)?);
        }
        Ok((found, next))
    }

    /// Makes that the workspace of a key is gone. Says whether it was gone already. Durable on return.
    ///
    /// # Errors
    /// `KeyConflict` if the key is not of a workspace; `Volumes`: it has snapshots.
    pub fn delete_workspace(&self, key: &Key, with_snapshots: bool) -> Result<bool, Refused> {
        let _lock = self.ledger.lock(&[key]);
        let Some(record) = self.ledger.get(key)? else {
            self.ledger
                .bury_unknown(key, LedgerKind::Workspace, self.clock.now())?;
            return Ok(true);
        };
        if record.kind != LedgerKind::Workspace {
            return Err(Refused::KeyConflict {
                key: key.clone(),
                fields: vec!["key".to_owned()],
            });
        }
        if record.phase == LedgerPhase::Deleted {
            return Ok(true);
        }
        let mut entries = [LedgerEntry {
            key: key.as_str().to_owned(),
            record: LedgerRecord {
                phase: LedgerPhase::Deleted,
                written: self.clock.now(),
                ..record
            },
        }];
        if Self::is_of_directory(&entries[0].record) {
            let gone = self.drop_directory(&entries[0].record)?;
            self.ledger.put(&entries[0])?;
            tracing::info!(%key, already_gone = gone, "looking after a directory no more for a controller");
            return Ok(gone);
        }
        let volume = entries[0].record.volume;
        let gone = match self.volumes.workspace_of(volume) {
            None => true,
            Some(workspace) => {
                let only = Some(volume);
                let deleted = self.volumes.delete_workspace_recorded(
                    &workspace.name,
                    only,
                    with_snapshots,
                    &mut entries,
                );
                match deleted {
                    Ok(()) => false,
                    Err(ControlError::NoWorkspace { .. }) => true,
                    Err(error) => return Err(error.into()),
                }
            }
        };
        match gone {
            true => self.ledger.put(&entries[0])?,
            false => self.ledger.noted(&entries[0]),
        }
        tracing::info!(%key, with_snapshots, already_gone = gone, "deleted a workspace for a controller");
        Ok(gone)
    }

    /// Gives the ownership of a workspace up. Says whether there was none. Durable on return.
    ///
    /// # Errors
    /// `KeyConflict` if the key is not of a workspace; `Volumes`.
    pub fn release_workspace(&self, key: &Key) -> Result<bool, Refused> {
        let _lock = self.ledger.lock(&[key]);
        let Some(record) = self.ledger.get(key)? else {
            self.ledger
                .bury_unknown(key, LedgerKind::Workspace, self.clock.now())?;
            return Ok(true);
        };
        if record.kind != LedgerKind::Workspace {
            return Err(Refused::KeyConflict {
                key: key.clone(),
                fields: vec!["key".to_owned()],
            });
        }
        if record.phase == LedgerPhase::Deleted {
            return Ok(true);
        }
        // Remembered as deleted, lest a request that was sent before comes late and makes an empty one.
        self.ledger.put(&LedgerEntry {
            key: key.as_str().to_owned(),
            record: LedgerRecord {
                phase: LedgerPhase::Deleted,
                written: self.clock.now(),
                ..record
            },
        })?;
        tracing::info!(%key, "a controller released a workspace");
        Ok(false)
    }

    /// That a workspace belongs to this key, if one is asked for.
    pub(super) fn require_owner(&self, workspace: &Workspace, key: Option<&Key>) -> Result<(), Refused> {
        let Some(key) = key else { return Ok(()) };
        let owner = self.ledger.owner(workspace.volume);
        match owner.as_deref() == Some(key.as_str()) {
            true => Ok(()),
            false => Err(Refused::WorkspaceOwned {
                name: workspace.name.clone(),
                owner,
            }),
        }
    }
}
