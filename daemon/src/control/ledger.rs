//! What was asked for under which key, and what came of it.
//!
//! The entries are in the metadata; here is an index of them in memory, about 300 bytes for each of at most
//! [`LEDGER_ENTRIES_MAX`]. Whoever changes anything under a key holds its lock ([`Ledger::lock`]) and tells the index what was written.
//!
//! What is forgotten: keys that were deleted, [`TOMBSTONE_SECONDS`] afterwards; keys of snapshots and restores of a workspace that
//! is gone are deleted with it, by [`Ledger::expire`]. Nothing else is, ever.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use cairn_metadata::store::LedgerEntry;
use cairn_metadata::{LedgerKind, LedgerPhase, LedgerRecord};
use cairn_types::{SnapshotId, Timestamp, VolumeId};
use cairn_vfs::Volumes;
use parking_lot::{Mutex, MutexGuard, RwLock};
use serde::{Deserialize, Serialize};

use super::{Arguments, Key, Refused};

/// Most keys.
pub const LEDGER_ENTRIES_MAX: usize = 1 << 18;
/// How long deleted keys are remembered: thirty days.
pub const TOMBSTONE_SECONDS: i64 = 30 * 24 * 3600;
/// Keys that one call of [`Ledger::expire`] changes.
const EXPIRED_MAX: usize = 1024;
/// What must agree of a request for a workspace that a restore has made.
const RESTORED_FIELDS: [&str; 3] = ["key", "name", "backing"];
/// Locks of keys. Two keys may share one, which only makes one wait for the other.
const STRIPES: usize = 64;

/// What an entry holds besides what the metadata knows: JSON, whose unknown names are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// The workspace's name.
    pub workspace: String,
    /// Labels of a workspace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The repository of a workspace that is a directory: 32 hexadecimal digits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// A snapshot is to be read before it is done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub verify: bool,
    /// What of the request could not be done as asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// A restore made the workspace: nobody asked for it field by field.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// The new workspace of a restore.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub new_workspace: String,
}

impl Detail {
    /// As it is stored.
    pub fn stored(&self) -> Vec<u8> {
        // Maps with text keys and lists of text cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// As it was stored. What cannot be read is empty: it tells nothing that decides anything.
    pub fn of(record: &LedgerRecord) -> Self {
        serde_json::from_slice(&record.detail).unwrap_or_default()
    }
}

/// The part of an entry that is kept in memory.
#[derive(Debug, Clone, Copy)]
struct Brief {
    kind: LedgerKind,
    phase: LedgerPhase,
    written: Timestamp,
    volume: VolumeId,
    snapshot: Option<SnapshotId>,
}

#[derive(Default)]
struct Index {
    entries: BTreeMap<String, Brief>,
    workspaces: BTreeSet<String>,
    owners: HashMap<VolumeId, String>,
    snapshots: HashMap<SnapshotId, String>,
    /// Of workspaces that are directories: owners by name, and by repository.
    directories: HashMap<String, String>,
    repositories: HashMap<String, String>,
}

/// The ledger.
pub struct Ledger {
    volumes: Arc<Volumes>,
    index: RwLock<Index>,
    stripes: [Mutex<()>; STRIPES],
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("entries", &self.len())
            .finish_non_exhaustive()
    }
}

/// Held while something under a key, or two, is decided and changed.
#[derive(Debug)]
#[must_use]
pub struct KeyLock<'a>(#[allow(dead_code, reason = "held for its drop")] Vec<MutexGuard<'a, ()>>);

fn brief(record: &LedgerRecord) -> Brief {
    Brief {
        kind: record.kind,
        phase: record.phase,
        written: record.written,
        volume: record.volume,
        snapshot: record.snapshot,
    }
}

impl Index {
    fn note(&mut self, key: &str, record: &LedgerRecord) {
        self.drop_secondary(key);
        let live = matches!(record.phase, LedgerPhase::Done | LedgerPhase::Deleting);
        match record.kind {
            LedgerKind::Workspace => {
                if live {
                    self.workspaces.insert(key.to_owned());
                    let detail = Detail::of(record);
                    if detail.repository.is_empty() {
                        self.owners.insert(record.volume, key.to_owned());
                    } else {
                        self.directories.insert(detail.workspace, key.to_owned());
                        self.repositories.insert(detail.repository, key.to_owned());
                    }
                }
            }
            LedgerKind::Snapshot => {
                if let (true, Some(snapshot)) = (live, record.snapshot) {
                    self.snapshots.insert(snapshot, key.to_owned());
                }
            }
            LedgerKind::Restore => {}
        }
        self.entries.insert(key.to_owned(), brief(record));
    }

    fn forget(&mut self, key: &str) {
        self.drop_secondary(key);
        self.entries.remove(key);
    }

    fn drop_secondary(&mut self, key: &str) {
        let Some(known) = self.entries.get(key) else {
            return;
        };
        match known.kind {
            LedgerKind::Workspace => {
                self.workspaces.remove(key);
                if self.owners.get(&known.volume).is_some_and(|owner| owner == key) {
                    self.owners.remove(&known.volume);
                }
                if known.volume == VolumeId(0) {
                    self.directories.retain(|_, owner| owner != key);
                    self.repositories.retain(|_, owner| owner != key);
                }
            }
            LedgerKind::Snapshot => {
                if let Some(snapshot) = known.snapshot {
                    self.snapshots.remove(&snapshot);
                }
            }
            LedgerKind::Restore => {}
        }
    }
}

impl Ledger {
    /// The ledger that the volumes keep.
    ///
    /// # Errors
    /// [`Refused::Volumes`].
    pub fn open(volumes: Arc<Volumes>) -> Result<Self, Refused> {
        let mut index = Index::default();
        volumes.ledger(&mut |key, record| index.note(key, &record))?;
        Ok(Ledger {
            volumes,
            index: RwLock::new(index),
            stripes: std::array::from_fn(|_| Mutex::new(())),
        })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.index.read().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Excludes others from these keys. Nobody may hold the lock of a key when asking for another one.
    pub fn lock(&self, keys: &[&Key]) -> KeyLock<'_> {
        let stripe = |key: &&Key| usize::from(blake3::hash(key.as_str().as_bytes()).as_bytes()[0]) % STRIPES;
        let stripes: BTreeSet<usize> = keys.iter().map(stripe).collect();
        // Always in ascending order: no two can wait for each other.
        KeyLock(stripes.into_iter().map(|at| self.stripes[at].lock()).collect())
    }

    /// What is known of a key.
    ///
    /// # Errors
    /// [`Refused::Volumes`].
    pub fn get(&self, key: &Key) -> Result<Option<LedgerRecord>, Refused> {
        Ok(self.volumes.ledger_record(key.as_str())?)
    }

    /// What is known of a key for which the same must have been asked as now; `None` if nothing is.
    ///
    /// # Errors
    /// `KeyConflict`, `KeyDeleted`, `LedgerFull`, `Volumes`.
    pub fn known(
        &self,
        key: &Key,
        kind: LedgerKind,
        arguments: &Arguments,
    ) -> Result<Option<LedgerRecord>, Refused> {
        let Some(record) = self.get(key)? else {
            if self.len() >= LEDGER_ENTRIES_MAX {
                return Err(Refused::LedgerFull {
                    limit: LEDGER_ENTRIES_MAX,
                });
            }
            return Ok(None);
        };
        if record.kind == kind && matches!(record.phase, LedgerPhase::Deleting | LedgerPhase::Deleted) {
            // Whatever is asked for: a key is used once. One that was given up before anything was made under it has no arguments.
            return Err(Refused::KeyDeleted { key: key.clone() });
        }
        let mut fields = match record.kind == kind {
            true => arguments.differing(&record.arguments),
            false => vec!["key".to_owned()],
        };
        if Detail::of(&record).restored {
            fields.retain(|field| RESTORED_FIELDS.contains(&field.as_str()));
        }
        if !fields.is_empty() {
            return Err(Refused::KeyConflict {
                key: key.clone(),
                fields,
            });
        }
        Ok(Some(record))
    }

    /// Remembers that a key under which nothing was ever made was given up, lest a request for it that was sent before comes late. Durable on return.
    /// In a ledger that is full nothing new is made under any key, so that nothing needs to be remembered.
    ///
    /// # Errors
    /// [`Refused::Volumes`].
    pub(super) fn bury_unknown(&self, key: &Key, kind: LedgerKind, now: Timestamp) -> Result<(), Refused> {
        if self.len() >= LEDGER_ENTRIES_MAX {
            return Ok(());
        }
        self.put(&LedgerEntry {
            key: key.as_str().to_owned(),
            record: LedgerRecord {
                kind,
                phase: LedgerPhase::Deleted,
                written: now,
                volume: VolumeId(0),
                snapshot: None,
                safety: None,
                arguments: Vec::new(),
                detail: Detail::default().stored(),
            },
        })
    }

    /// Writes an entry. Durable on return.
    ///
    /// # Errors
    /// [`Refused::Volumes`].
    pub fn put(&self, entry: &LedgerEntry) -> Result<(), Refused> {
        self.volumes.put_ledger(entry)?;
        self.noted(entry);
        Ok(())
    }

    /// Takes note of an entry that was written together with a change.
    pub fn noted(&self, entry: &LedgerEntry) {
        self.index.write().note(&entry.key, &entry.record);
    }

    /// Forgets a key. Durable on return.
    ///
    /// # Errors
    /// [`Refused::Volumes`].
    pub fn forget(&self, key: &Key) -> Result<(), Refused> {
        self.volumes.forget_ledger(&[key.as_str().to_owned()])?;
        self.index.write().forget(key.as_str());
        Ok(())
    }

    /// The key that owns a volume.
    pub fn owner(&self, volume: VolumeId) -> Option<String> {
        self.index.read().owners.get(&volume).cloned()
    }

    /// The key that owns the workspace of that name that is a directory.
    pub fn directory(&self, name: &str) -> Option<String> {
        self.index.read().directories.get(name).cloned()
    }

    /// The key that owns a directory, by its repository.
    pub fn owner_of_repository(&self, repository: &str) -> Option<String> {
        self.index.read().repositories.get(repository).cloned()
    }

    /// The key that a snapshot was taken for.
    pub fn key_of(&self, snapshot: SnapshotId) -> Option<String> {
        self.index.read().snapshots.get(&snapshot).cloned()
    }

    /// Keys of workspaces behind `after`, in order, at most `limit`.
    pub fn workspaces(&self, after: &str, limit: usize) -> Vec<String> {
        let index = self.index.read();
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        index
            .workspaces
            .range::<str, _>(behind)
            .take(limit)
            .cloned()
            .collect()
    }

    /// Keys whose deletion was begun and not finished.
    pub(super) fn deleting(&self) -> Vec<Key> {
        let index = self.index.read();
        let deleting = index
            .entries
            .iter()
            .filter(|(_, brief)| brief.phase == LedgerPhase::Deleting);
        deleting.map(|(key, _)| Key::stored(key)).collect()
    }

    /// Says of up to some thousand keys of snapshots and restores whose workspace is gone that they are deleted, and forgets
    /// those whose deletion is long ago. Says whether there may be more.
    ///
    /// # Errors
    /// [`Refused::Volumes`].
    pub fn expire(&self, now: Timestamp) -> Result<bool, Refused> {
        let (mut over, mut orphaned) = (Vec::new(), Vec::new());
        {
            let index = self.index.read();
            for (key, brief) in &index.entries {
                if over.len() + orphaned.len() >= EXPIRED_MAX {
                    break;
                }
                match brief.phase {
                    LedgerPhase::Deleted => {
                        if now.seconds().saturating_sub(brief.written.seconds()) > TOMBSTONE_SECONDS {
                            over.push(key.clone());
                        }
                    }
                    LedgerPhase::Done | LedgerPhase::Intended => {
                        let gone = brief.kind != LedgerKind::Workspace
                            && brief.volume != VolumeId(0)
                            && self.volumes.workspace_of(brief.volume).is_none();
                        if gone {
                            orphaned.push(key.clone());
                        }
                    }
                    LedgerPhase::Deleting => {}
                }
            }
        }
        let more = over.len() + orphaned.len() >= EXPIRED_MAX;
        for key in orphaned {
            let key = Key::stored(&key);
            let _lock = self.lock(&[&key]);
            if let Some(record) = self.get(&key)?
                && matches!(record.phase, LedgerPhase::Done | LedgerPhase::Intended)
            {
                self.put(&LedgerEntry {
                    key: key.as_str().to_owned(),
                    record: LedgerRecord {
                        phase: LedgerPhase::Deleted,
                        written: now,
                        ..record
                    },
                })?;
            }
        }
        if !over.is_empty() {
            // Nothing is ever done under a deleted key, so that no lock is needed.
            self.volumes.forget_ledger(&over)?;
            let mut index = self.index.write();
            over.iter().for_each(|key| index.forget(key));
        }
        Ok(more)
    }
}
