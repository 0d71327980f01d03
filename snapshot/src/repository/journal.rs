//! The journal: what is being done in a repository, and how far it is, so that after a kill it is finished or undone. Written before the
//! step that it announces; removed when all is done. What a phase means for recovery is decided by who does the operation.

use cairn_types::{SnapshotId, Timestamp, hexadecimal};
use serde::{Deserialize, Serialize};

use super::document::{self, Document};
use super::error::RepositoryError;
use super::host::Host;
use super::layout::{Area, document_name};
use super::lease::Lease;
use super::{Repository, Survival, text};
use crate::directory::{Digest, RelativePath};

/// Most snapshots of one collection, and most paths of one restore.
pub const ITEMS_MAX: usize = 100_000;

/// The identity of an operation, and of a plan: 16 random bytes, shown as 32 lowercase hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub [u8; 16]);

impl std::fmt::Display for OperationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        hexadecimal::write(&self.0, f)
    }
}

impl text::Text for OperationId {
    const WHAT: &'static str = "id of an operation: 32 lowercase hexadecimal digits";
    fn to_text(&self) -> Option<String> {
        Some(self.to_string())
    }
    fn from_text(text: &str) -> Option<Self> {
        hexadecimal::parse(text).map(OperationId)
    }
}

/// `journal/OPERATION.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalRecord {
    /// The operation.
    #[serde(with = "text")]
    pub operation: OperationId,
    /// The token of the lease under which it is done. A record with a lower token than that of the present lease is of an operation that was
    /// interrupted.
    pub fence: u64,
    /// Who does it.
    pub host: Host,
    /// When it began.
    #[serde(with = "text")]
    pub begun: Timestamp,
    /// How far it is.
    pub phase: Phase,
    /// What it does.
    pub intent: Intent,
}

/// A file of the journal.
#[derive(Debug)]
pub struct JournalFile {
    /// Its name.
    pub name: String,
    /// The record; or why it cannot be read.
    pub record: Result<JournalRecord, RepositoryError>,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Something may be in the staging area; nothing else has changed. After a kill: undone.
    Staging,
    /// All that is new is complete and durable where it was staged. Of a save: it is being put in place; the descriptor decides whether it
    /// is done.
    Publishing,
    /// Of a restore: the workspace is being changed. After a kill: finished.
    Swapping,
    /// What is not needed any more is being removed. After a kill: finished.
    Removing,
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Intent {
    /// A save.
    Save {
        /// The snapshot that it makes.
        #[serde(with = "text")]
        snapshot: SnapshotId,
        /// The engine.
        engine: String,
        /// The hash of the request's idempotency key.
        #[serde(with = "text::option")]
        key: Option<Digest>,
    },
    /// A restore.
    Restore {
        /// Its plan.
        #[serde(with = "text")]
        plan: OperationId,
        /// The snapshot that is restored.
        #[serde(with = "text")]
        target: SnapshotId,
        /// The snapshot of what is replaced; nothing if none was wanted.
        #[serde(with = "text::option")]
        safety: Option<SnapshotId>,
        /// The directory at the root of the workspace where what is new is staged.
        #[serde(with = "text")]
        staging: RelativePath,
        /// The paths that are restored; nothing: everything.
        paths: Option<super::Paths>,
    },
    /// A fork.
    Fork {
        /// The snapshot that is forked.
        #[serde(with = "text")]
        snapshot: SnapshotId,
        /// The absolute path of the new workspace.
        #[serde(with = "text")]
        target: Vec<u8>,
    },
    /// A removal of snapshots, and of what nothing needs then.
    Collect {
        /// The snapshots; at most [`ITEMS_MAX`].
        #[serde(with = "text::list")]
        snapshots: Vec<SnapshotId>,
    },
}

impl Document for JournalRecord {
    const KIND: &'static str = "journal";

    fn check(&self) -> Result<(), String> {
        self.host.check()?;
        let items = match &self.intent {
            Intent::Save { .. } | Intent::Fork { .. } => 0,
            Intent::Restore { paths, .. } => paths.as_ref().map_or(0, |paths| paths.paths.len()),
            Intent::Collect { snapshots } => snapshots.len(),
        };
        match items <= ITEMS_MAX {
            true => Ok(()),
            false => Err(format!("{items} snapshots or paths, at most {ITEMS_MAX}")),
        }
    }
}

impl Repository {
    /// A new id for an operation or a plan.
    pub fn new_operation_id(&self) -> OperationId {
        OperationId(self.control().random())
    }

    /// Writes down what is about to be done; durable on return. Errors: the lease is lost, out of bounds, I/O.
    pub fn begin(&self, lease: &Lease, intent: Intent) -> Result<JournalRecord, RepositoryError> {
        let record = JournalRecord {
            operation: self.new_operation_id(),
            fence: lease.token(),
            host: self.parts().host.clone(),
            begun: self.parts().clock.now(),
            phase: Phase::Staging,
            intent,
        };
        self.write_journal(lease, &record)?;
        Ok(record)
    }

    /// Writes down the record as it is now: after its phase or its intent changed, or when another holder of the lease goes on with it; durable on
    /// return. Errors: as of [`Repository::begin`].
    pub fn advance(&self, lease: &Lease, record: &mut JournalRecord) -> Result<(), RepositoryError> {
        record.fence = lease.token();
        self.write_journal(lease, record)
    }

    fn write_journal(&self, lease: &Lease, record: &JournalRecord) -> Result<(), RepositoryError> {
        let bytes = document::encode(record)?;
        self.control().replace_if(
            Area::Journal,
            &document_name(&record.operation),
            &bytes,
            Survival::Durable,
            || Ok(lease.check()?),
        )
    }

    /// Removes a record: the operation is done, or undone. Errors: the lease is lost, I/O.
    pub fn finish(&self, lease: &Lease, operation: OperationId) -> Result<(), RepositoryError> {
        lease.check()?;
        self.control().remove(Area::Journal, &document_name(&operation))?;
        Ok(())
    }

    /// What is being done, or was interrupted: by name of the file, in no order. Errors: the directory cannot be listed; of each record: damage.
    pub fn journal(&self) -> Result<Vec<JournalFile>, RepositoryError> {
        let mut records = Vec::new();
        for name in self.control().list(Area::Journal)? {
            // One that is gone is done since the directory was listed.
            if let Some(record) = self.control().load(Area::Journal, &name).transpose() {
                records.push(JournalFile { name, record });
            }
        }
        Ok(records)
    }
}
