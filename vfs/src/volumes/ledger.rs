//! The ledger of keyed requests, for whoever keeps it: entries as they are stored, and what the volumes know of what they tell of.
//! Entries that belong to a change are written by that change (`*_recorded`), in its batch.

use cairn_metadata::LedgerRecord;
use cairn_metadata::store::LedgerEntry;
use cairn_types::{SnapshotId, VolumeId, WorkspaceName};

use super::Volumes;
use super::control::{failed, snapshot};
use crate::control::{ControlError, Snapshot, Workspace};

impl Volumes {
    /// All entries of the ledger, by key. Errors: [`ControlError::Storage`].
    pub fn ledger(&self, visit: &mut dyn FnMut(&str, LedgerRecord)) -> Result<(), ControlError> {
        self.shared.store.ledger(visit).map_err(failed)
    }

    /// What the ledger knows of a key. Errors: [`ControlError::Storage`].
    pub fn ledger_record(&self, key: &str) -> Result<Option<LedgerRecord>, ControlError> {
        self.shared.store.ledger_record(key).map_err(failed)
    }

    /// Writes an entry of the ledger. Durable on return. Errors: `NoSpace`, `Storage`.
    pub fn put_ledger(&self, entry: &LedgerEntry) -> Result<(), ControlError> {
        self.shared.store.put_ledger(entry).map_err(failed)
    }

    /// Removes entries of the ledger. Durable on return. Errors: `NoSpace`, `Storage`.
    pub fn forget_ledger(&self, keys: &[String]) -> Result<(), ControlError> {
        self.shared.store.forget_ledger(keys).map_err(failed)
    }

    /// The greatest generation seen of each cluster. Errors: [`ControlError::Storage`].
    pub fn generations(&self) -> Result<Vec<(String, u64)>, ControlError> {
        self.shared.store.generations().map_err(failed)
    }

    /// Stores the greatest generation seen of a cluster. Durable on return. Errors: `NoSpace`, `Storage`.
    pub fn put_generation(&self, cluster: &str, generation: u64) -> Result<(), ControlError> {
        self.shared
            .store
            .put_generation(cluster, generation)
            .map_err(failed)
    }

    /// The workspace that a volume is, if there still is one.
    pub fn workspace_of(&self, volume: VolumeId) -> Option<Workspace> {
        let volume = self.volume(volume).ok()?;
        let deleted = volume.state.read().deleted;
        (!deleted).then(|| self.describe(&volume))
    }

    /// A snapshot by its identity, with the name of its workspace. Errors: [`ControlError::Storage`].
    pub fn snapshot_of(&self, id: SnapshotId) -> Result<Option<(WorkspaceName, Snapshot)>, ControlError> {
        let Some((volume, record)) = self.shared.store.snapshot(id).map_err(failed)? else {
            return Ok(None);
        };
        Ok(self
            .workspace_of(volume)
            .map(|workspace| (workspace.name, snapshot(record))))
    }
}
