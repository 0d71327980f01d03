//! Outcomes of verifications: when a snapshot was last read and compared with what was written down, and what was found. The latest one only.

use cairn_types::{SnapshotId, Timestamp};
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::error::RepositoryError;
use super::layout::{Area, document_name};
use super::{Repository, text};
use crate::directory::Digest;

/// Most faults that are written down; further ones are counted.
pub const FAULTS_MAX: usize = 100;
/// Longest description of a fault, in bytes.
pub const FAULT_BYTES_MAX: usize = 8192;

/// `verified/ID.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// The snapshot.
    #[serde(with = "text")]
    pub snapshot: SnapshotId,
    /// When it was verified.
    #[serde(with = "text")]
    pub verified: Timestamp,
    /// The hash of all entries, as it was found.
    #[serde(with = "text::option")]
    pub tree_hash: Option<Digest>,
    /// What was found.
    pub outcome: Outcome,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome {
    /// Everything is as it was written down.
    Sound,
    /// Something is not.
    Damaged {
        /// How many faults.
        count: u64,
        /// The first of them, for people; at most [`FAULTS_MAX`], each of at most [`FAULT_BYTES_MAX`] bytes.
        faults: Vec<String>,
    },
}

impl Document for Verification {
    const KIND: &'static str = "verification";

    fn check(&self) -> Result<(), String> {
        match &self.outcome {
            Outcome::Damaged { faults, .. }
                if faults.len() > FAULTS_MAX || faults.iter().any(|fault| fault.len() > FAULT_BYTES_MAX) =>
            {
                Err(format!(
                    "more than {FAULTS_MAX} faults, or one of more than {FAULT_BYTES_MAX} bytes"
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Repository {
    /// The last verification of a snapshot; nothing if there was none. Errors: damage, I/O.
    pub fn verification(&self, id: SnapshotId) -> Result<Option<Verification>, RepositoryError> {
        let name = document_name(&id);
        match self.control().load::<Verification>(Area::Verified, &name)? {
            Some(found) if found.snapshot != id => {
                let what = format!("it is of snapshot {}", found.snapshot);
                Err(self.control().damaged(Area::Verified, &name, what))
            }
            found => Ok(found),
        }
    }

    /// Writes down the outcome of a verification; durable on return. Needs no lease: the last one to write wins, and each is true. Errors: out of
    /// bounds, I/O.
    pub fn set_verification(&self, verification: &Verification) -> Result<(), RepositoryError> {
        self.control().store(
            Area::Verified,
            &document_name(&verification.snapshot),
            verification,
        )
    }

    /// Removes the outcome of a snapshot that is gone. Errors: I/O.
    pub fn remove_verification(&self, id: SnapshotId) -> Result<(), RepositoryError> {
        self.control().remove(Area::Verified, &document_name(&id))?;
        Ok(())
    }
}
