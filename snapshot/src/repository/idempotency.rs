//! Idempotency keys: a request that is repeated with the key of an earlier one gets that one's snapshot, and makes no second one.
//!
//! The record of a key is written before the descriptor of the snapshot that it names. A key whose snapshot does not exist was never
//! used up: the save ended before its commit, or the snapshot was removed since.
//!
//! Keys are forgotten: those that were never used up, or are no more, at the next removal of snapshots by retention; the others after
//! [`KEPT`]. Then the same request makes another snapshot.

use std::collections::BTreeSet;
use std::time::Duration;

use cairn_types::{SnapshotId, Tag, Timestamp};
use serde::{Deserialize, Serialize};

use super::document::{self, Document, EncodeError};
use super::error::RepositoryError;
use super::layout::{Area, document_name};
use super::lease::Lease;
use super::{Repository, Survival, readers, text};
use crate::directory::{Digest, RelativePath};

/// How long a request can be repeated, at least.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// A key that a client chose, as its hash: what the client wrote stays with the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestKey {
    /// BLAKE3 of the key.
    pub key: Digest,
    /// BLAKE3 of what was asked for, in a form that the caller chooses: the same key with another request is a mistake.
    pub request: Digest,
}

impl RequestKey {
    /// A key of 1 to [`KEY_BYTES_MAX`] bytes, for what `request` describes. Errors: the key is empty or too long.
    pub fn new(key: &str, request: &[u8]) -> Result<RequestKey, RepositoryError> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(RepositoryError::Value(EncodeError::Value {
                kind: KeyRecord::KIND,
                what: format!("a key of {} bytes: give 1 to {KEY_BYTES_MAX}", key.len()),
            }));
        }
        Ok(RequestKey {
            key: Digest(*blake3::hash(key.as_bytes()).as_bytes()),
            request: Digest(*blake3::hash(request).as_bytes()),
        })
    }
}

/// What is asked for with a key.
#[derive(Serialize)]
struct Asked<'a> {
    note: &'a str,
    tags: Vec<&'a str>,
    template: Option<&'a str>,
    paths: Vec<String>,
}

/// What a save asks for, before a template fills it with times, in a form that is the same in all versions and for all callers: the same key
/// with another request is noticed.
pub fn save_description(
    note: &str,
    tags: &BTreeSet<Tag>,
    template: Option<&str>,
    paths: &[RelativePath],
) -> Vec<u8> {
    let asked = Asked {
        note,
        tags: tags.iter().map(Tag::as_str).collect(),
        template,
        paths: paths.iter().map(|path| text::escape(path.as_bytes())).collect(),
    };
    // Texts always have a JSON form.
    serde_json::to_vec(&asked).unwrap_or_default()
}

/// `keys/HASH.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The hash of the key; also the name of the file.
    #[serde(with = "text")]
    pub key: Digest,
    /// The hash of what was asked for.
    #[serde(with = "text")]
    pub request: Digest,
    /// The snapshot that the request makes.
    #[serde(with = "text")]
    pub snapshot: SnapshotId,
    /// When.
    #[serde(with = "text")]
    pub created: Timestamp,
}

impl Document for KeyRecord {
    const KIND: &'static str = "key";
}

impl Repository {
    /// The snapshot that an earlier request with this key made; nothing if there is none. Errors: the key was used for another request
    /// ([`RepositoryError::KeyReused`]); damage; I/O.
    pub fn known_request(&self, key: &RequestKey) -> Result<Option<SnapshotId>, RepositoryError> {
        let name = document_name(&key.key);
        let Some(record) = self.control().load::<KeyRecord>(Area::Keys, &name)? else {
            return Ok(None);
        };
        if record.key != key.key {
            return Err(self
                .control()
                .damaged(Area::Keys, &name, "it is of another key".to_owned()));
        }
        match self.descriptor(record.snapshot) {
            Ok(_) if record.request != key.request => Err(RepositoryError::KeyReused {
                snapshot: record.snapshot,
            }),
            Ok(_) => Ok(Some(record.snapshot)),
            Err(RepositoryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The snapshot that a request with this key made, whatever it asked for; nothing if there is none. Errors: damage, I/O.
    pub fn snapshot_of_key(&self, key: &str) -> Result<Option<SnapshotId>, RepositoryError> {
        let hash = Digest(*blake3::hash(key.as_bytes()).as_bytes());
        let Some(record) = self
            .control()
            .load::<KeyRecord>(Area::Keys, &document_name(&hash))?
        else {
            return Ok(None);
        };
        match self.descriptor(record.snapshot) {
            Ok(_) => Ok(Some(record.snapshot)),
            Err(RepositoryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes down which snapshot a request is about to make: before its descriptor is published. Errors: the lease is lost, I/O.
    pub fn remember_request(
        &self,
        lease: &Lease,
        key: &RequestKey,
        snapshot: SnapshotId,
    ) -> Result<(), RepositoryError> {
        let record = KeyRecord {
            key: key.key,
            request: key.request,
            snapshot,
            created: self.parts().clock.now(),
        };
        let bytes = document::encode(&record)?;
        self.control().replace_if(
            Area::Keys,
            &document_name(&key.key),
            &bytes,
            Survival::Durable,
            || Ok(lease.check()?),
        )
    }

    /// Forgets keys that were used before `before`, and those whose snapshot does not exist. A key stays while either its record or its snapshot
    /// is not older than `before`; one whose record cannot be read stays until its file is as old, by the clock of the file system as `age` tells, and so
    /// does one whose snapshot cannot be read. Gives how many. Errors: the lease is lost, I/O.
    pub fn forget_requests(
        &self,
        lease: &Lease,
        before: Timestamp,
        age: Duration,
    ) -> Result<u64, RepositoryError> {
        let control = self.control();
        let mut removed = 0;
        for name in control.list(Area::Keys)? {
            let known = match control.load::<KeyRecord>(Area::Keys, &name) {
                Ok(None) => continue,
                Ok(Some(record)) => match self.descriptor(record.snapshot) {
                    Ok(descriptor) => Some(record.created.max(descriptor.created)),
                    // Nobody writes keys but the holder of the lease: it was never used up.
                    Err(RepositoryError::NotFound { .. }) => {
                        lease.check()?;
                        removed += u64::from(control.remove(Area::Keys, &name)?);
                        continue;
                    }
                    Err(RepositoryError::Damaged { .. } | RepositoryError::Newer { .. }) => None,
                    Err(error) => return Err(error),
                },
                Err(RepositoryError::Damaged { .. }) => None,
                Err(error) => return Err(error),
            };
            let is_old = match known {
                Some(used) => used < before,
                None => {
                    let now = readers::file_system_now(control)?;
                    let modified = control.modified(Area::Keys, &name)?;
                    modified.is_some_and(|modified| now.saturating_sub(modified) > age)
                }
            };
            if is_old {
                lease.check()?;
                removed += u64::from(control.remove(Area::Keys, &name)?);
            }
        }
        Ok(removed)
    }
}
