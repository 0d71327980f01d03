//! Restores that have a key: planned, done once, forgotten.

use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_metadata::store::LedgerEntry;
use cairn_metadata::{LedgerKind, LedgerPhase, LedgerRecord};
use cairn_snapshot::archive::Progress;
use cairn_types::{SnapshotId, SnapshotReference, Timestamp, VolumeId, WorkspaceName};
use cairn_vfs::control::{ControlError, DifferenceKind};

use super::ledger::Detail;
use super::workspaces::Ensured;
use super::{Arguments, Control, Key, ManagedState, Refused, features};
use crate::operations::Operation;

/// Where a restore goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreTarget {
    /// Into the workspace that the snapshot is of.
    InPlace,
    /// Into a new one.
    New {
        /// Its name.
        name: WorkspaceName,
        /// Its owner.
        owner: Option<Key>,
    },
}

/// What restore there shall have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    /// Its key.
    pub key: Key,
    /// The workspace that has the snapshot.
    pub workspace: WorkspaceName,
    /// Who must own the workspace.
    pub owner: Option<Key>,
    /// A reference to the snapshot.
    pub snapshot: SnapshotReference,
    /// Paths; none: all.
    pub paths: Vec<Vec<u8>>,
    /// Where to.
    pub into: RestoreTarget,
    /// Do without a snapshot of what is replaced.
    pub without_safety: bool,
}

/// A restore that was asked for.
#[derive(Debug, Clone)]
pub struct ManagedRestore {
    /// Its key.
    pub key: Key,
    /// The workspace that has the snapshot, by name.
    pub workspace: String,
    /// The snapshot.
    pub snapshot: Option<SnapshotId>,
    /// The new workspace, by name, or empty.
    pub new_workspace: String,
    /// How it is.
    pub state: ManagedState,
    /// The snapshot of what was there before.
    pub safety: Option<SnapshotId>,
    /// When it was done, or asked for.
    pub ended: Timestamp,
    /// The operation that works on it, or did last.
    pub operation: Option<Arc<Operation>>,
}

impl ManagedRestore {
    /// As the ledger knows it.
    pub(super) fn of(key: &Key, record: &LedgerRecord) -> Self {
        let detail = Detail::of(record);
        ManagedRestore {
            key: key.clone(),
            workspace: detail.workspace,
            snapshot: record.snapshot,
            new_workspace: detail.new_workspace,
            state: match record.phase {
                LedgerPhase::Done => ManagedState::Ready,
                LedgerPhase::Intended => ManagedState::Interrupted,
                LedgerPhase::Deleting => ManagedState::Deleting,
                LedgerPhase::Deleted => ManagedState::Deleted,
            },
            safety: record.safety,
            ended: record.written,
            operation: None,
        }
    }
}

/// What a restore would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Entries that would come back.
    pub adds: u64,
    /// Entries that would change.
    pub changes: u64,
    /// Entries that would go.
    pub deletes: u64,
    /// Bytes of files that would come back or change.
    pub bytes: u64,
}

impl RestoreRequest {
    fn arguments(&self) -> Arguments {
        let arguments = Arguments::default()
            .text("workspace", self.workspace.as_str())
            .text("snapshot", &self.snapshot.to_string())
            .list("paths", &self.paths)
            .number("without_safety", self.without_safety.into(), 0);
        match &self.into {
            RestoreTarget::InPlace => arguments,
            RestoreTarget::New { name, owner } => {
                let owner = owner.as_ref().map_or("", Key::as_str);
                arguments.list("new_workspace", [name.as_str(), owner])
            }
        }
    }

    fn check_volume(&self) -> Result<(), Refused> {
        no_paths(&self.paths)?;
        if self.without_safety && self.into == RestoreTarget::InPlace {
            return Err(Refused::unsupported(
                features::RESTORE_WITHOUT_SAFETY,
                "a restore of a volume always takes a safety snapshot, which copies nothing",
            ));
        }
        Ok(())
    }

    pub(super) fn entry(&self, now: Timestamp) -> LedgerEntry {
        let new_workspace = match &self.into {
            RestoreTarget::InPlace => String::new(),
            RestoreTarget::New { name, .. } => name.to_string(),
        };
        let detail = Detail {
            workspace: self.workspace.to_string(),
            new_workspace,
            ..Detail::default()
        };
        LedgerEntry {
            key: self.key.as_str().to_owned(),
            record: LedgerRecord {
                kind: LedgerKind::Restore,
                phase: LedgerPhase::Done,
                written: now,
                volume: VolumeId(0),
                snapshot: None,
                safety: None,
                arguments: self.arguments().stored(),
                detail: detail.stored(),
            },
        }
    }
}

fn no_paths(paths: &[Vec<u8>]) -> Result<(), Refused> {
    match paths.is_empty() {
        true => Ok(()),
        false => Err(Refused::unsupported(
            features::RESTORE_PATHS,
            "a volume is restored as a whole: leave paths out, or restore into a new workspace and copy from there",
        )),
    }
}

impl Control {
    /// What a restore in place would change, unless `progress` is cancelled meanwhile.
    ///
    /// # Errors
    /// `Unsupported`, `Volumes`: no such workspace or snapshot.
    pub fn plan_restore(
        &self,
        workspace: &WorkspaceName,
        snapshot: &SnapshotReference,
        paths: &[Vec<u8>],
        progress: &Progress,
    ) -> Result<Plan, Refused> {
        if let Some(place) = self.place(workspace)? {
            return self.plan_directory_restore(&place, snapshot, paths, progress);
        }
        no_paths(paths)?;
        let resolved = self.volumes.resolve(workspace, snapshot)?;
        let by_id = reference(resolved.id);
        let mut plan = Plan {
            snapshot: resolved.id,
            adds: 0,
            changes: 0,
            deletes: 0,
            bytes: 0,
        };
        // From the snapshot to the live tree: what the live tree lacks would come back.
        self.volumes.diff(workspace, &by_id, None, &mut |difference| {
            match difference.kind {
                DifferenceKind::Removed => plan.adds += 1,
                DifferenceKind::Added => plan.deletes += 1,
                DifferenceKind::Modified | DifferenceKind::Retyped | DifferenceKind::Attributes => {
                    plan.changes += 1;
                }
            }
            if difference.kind != DifferenceKind::Attributes {
                plan.bytes = plan.bytes.saturating_add(difference.bytes_before.unwrap_or(0));
            }
            match progress.is_cancelled() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        Ok(plan)
    }

    /// Makes that a restore has been done under a key. Durable on return.
    ///
    /// # Errors
    /// `KeyConflict`, `KeyDeleted`, `LedgerFull`, `WorkspaceOwned`, `Unsupported`, `Volumes`: no such workspace or snapshot, a workspace
    /// of the new name, no space.
    pub fn ensure_restore(&self, request: &RestoreRequest) -> Result<Ensured<ManagedRestore>, Refused> {
        let second = match &request.into {
            RestoreTarget::InPlace => None,
            RestoreTarget::New { owner, .. } => owner.as_ref(),
        };
        let keys: Vec<&Key> = std::iter::once(&request.key).chain(second).collect();
        let _lock = self.ledger.lock(&keys);
        let known = self
            .ledger
            .known(&request.key, LedgerKind::Restore, &request.arguments())?;
        if let Some(place) = self.place(&request.workspace)? {
            Self::require_place_owner(&place, &request.workspace, request.owner.as_ref())?;
            return self.ensure_directory_restore(request, &place, known);
        }
        let created = known.is_none();
        if created {
            request.check_volume()?;
            let workspace = self.volumes.workspace(&request.workspace)?;
            self.require_owner(&workspace, request.owner.as_ref())?;
            self.restore_now(request)?;
        }
        Ok(Ensured {
            now: self.restore(&request.key)?,
            created,
            changed: Vec::new(),
        })
    }

    fn restore_now(&self, request: &RestoreRequest) -> Result<(), Refused> {
        let mut entries = vec![request.entry(self.clock.now())];
        match &request.into {
            RestoreTarget::InPlace => {
                let restored =
                    self.volumes
                        .restore_recorded(&request.workspace, &request.snapshot, &mut entries)?;
                tracing::info!(
                    workspace = %request.workspace, snapshot = %restored.snapshot.id, safety = %restored.safety.id,
                    key = %request.key, "restored a workspace for a controller"
                );
            }
            RestoreTarget::New { name, owner } => {
                if let Some(owner) = owner {
                    entries.extend(self.new_owner(request, name, owner)?);
                }
                let forked =
                    self.volumes
                        .fork_recorded(&request.workspace, &request.snapshot, name, &mut entries);
                let forked = forked.map_err(|error| self.taken(name, error))?;
                tracing::info!(
                    workspace = %request.workspace, new = %forked.name, key = %request.key,
                    "restored into a new workspace for a controller"
                );
            }
        }
        for entry in &entries {
            self.ledger.noted(entry);
        }
        Ok(())
    }

    /// The entry of the workspace that a restore makes.
    fn new_owner(
        &self,
        request: &RestoreRequest,
        name: &WorkspaceName,
        owner: &Key,
    ) -> Result<Option<LedgerEntry>, Refused> {
        if let Some(known) = self.ledger.get(owner)? {
            // An owner has one workspace.
            return Err(match known.phase {
                LedgerPhase::Deleted | LedgerPhase::Deleting => Refused::KeyDeleted { key: owner.clone() },
                LedgerPhase::Done | LedgerPhase::Intended => Refused::KeyConflict {
                    key: owner.clone(),
                    fields: vec!["new_workspace".to_owned()],
                },
            });
        }
        let arguments = Arguments::default().text("name", name.as_str());
        let detail = Detail {
            workspace: name.to_string(),
            restored: true,
            ..Detail::default()
        };
        Ok(Some(LedgerEntry {
            key: owner.as_str().to_owned(),
            record: LedgerRecord {
                kind: LedgerKind::Workspace,
                arguments: arguments.stored(),
                detail: detail.stored(),
                ..request.entry(self.clock.now()).record
            },
        }))
    }

    /// A name that is taken is told with its owner.
    fn taken(&self, name: &WorkspaceName, error: ControlError) -> Refused {
        if let ControlError::WorkspaceExists { .. } = &error
            && let Ok(found) = self.volumes.workspace(name)
            && let Some(owner) = self.ledger.owner(found.volume)
        {
            return Refused::WorkspaceOwned {
                name: name.clone(),
                owner: Some(owner),
            };
        }
        error.into()
    }

    /// The restore of a key.
    ///
    /// # Errors
    /// `NoRestoreKey`, `Volumes`.
    pub fn restore(&self, key: &Key) -> Result<ManagedRestore, Refused> {
        let record = self.ledger.get(key)?;
        let Some(record) = record.filter(|record| record.kind == LedgerKind::Restore) else {
            return Err(Refused::NoRestoreKey { key: key.clone() });
        };
        if Self::is_of_directory(&record) {
            return self.managed_directory_restore(key, &record);
        }
        Ok(ManagedRestore::of(key, &record))
    }

    /// Says that nobody will ask for a restore again. Says whether that was so already. Durable on return.
    ///
    /// # Errors
    /// `KeyConflict` if the key is not of a restore; `Volumes`.
    pub fn forget_restore(&self, key: &Key) -> Result<bool, Refused> {
        let _lock = self.ledger.lock(&[key]);
        let Some(record) = self.ledger.get(key)? else {
            self.ledger
                .bury_unknown(key, LedgerKind::Restore, self.clock.now())?;
            return Ok(true);
        };
        if record.kind != LedgerKind::Restore {
            return Err(Refused::KeyConflict {
                key: key.clone(),
                fields: vec!["key".to_owned()],
            });
        }
        if record.phase == LedgerPhase::Deleted {
            return Ok(true);
        }
        // A request that was sent before and comes late must not restore again.
        self.bury(key, record)?;
        Ok(false)
    }
}

/// The reference that means this snapshot and no other.
pub(super) fn reference(id: SnapshotId) -> SnapshotReference {
    SnapshotReference::parse(&id.to_string()).expect("an identity of 32 hexadecimal digits is a reference")
}
