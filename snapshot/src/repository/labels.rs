//! What people say of a snapshot after the fact: tags, note and pins. Descriptors never change; this file replaces what they say.

use std::collections::BTreeSet;

use cairn_types::{SnapshotId, Tag, Timestamp};
use serde::{Deserialize, Serialize};

use super::descriptor::{Descriptor, check_note, check_tags};
use super::document::Document;
use super::error::RepositoryError;
use super::layout::{Area, document_name};
use super::lease::Lease;
use super::{Repository, text};

/// Most pins of one snapshot.
pub const PINS_MAX: usize = 64;
/// Longest reason of a pin, in bytes.
pub const REASON_BYTES_MAX: usize = 4096;

/// `labels/ID.json`. Without it, a snapshot has the note and the tags of its descriptor, and no pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// The snapshot.
    #[serde(with = "text")]
    pub snapshot: SnapshotId,
    /// How often they were changed; 0: never.
    pub revision: u64,
    /// A person's words; at most [`NOTE_BYTES_MAX`](super::descriptor::NOTE_BYTES_MAX).
    pub note: String,
    /// Tags; at most [`TAGS_MAX`](super::descriptor::TAGS_MAX).
    #[serde(with = "text::list")]
    pub tags: BTreeSet<Tag>,
    /// What keeps the snapshot; at most [`PINS_MAX`], by ascending number.
    pub pins: Vec<Pin>,
}

/// What keeps a snapshot from being removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Its number: no two pins of a snapshot ever have the same while both exist.
    pub number: u64,
    /// Why, for people; at most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
    /// Who set it.
    pub actor: String,
    /// When.
    #[serde(with = "text")]
    pub created: Timestamp,
    /// From when on it keeps nothing; nothing: until somebody removes it.
    #[serde(with = "text::option")]
    pub expires: Option<Timestamp>,
}

impl Pin {
    /// Whether it keeps its snapshot at `now`.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Labels {
    /// What a snapshot has before anybody changes it.
    pub fn first(descriptor: &Descriptor) -> Labels {
        Labels {
            snapshot: descriptor.id,
            revision: 0,
            note: descriptor.note.clone(),
            tags: descriptor.tags.clone(),
            pins: Vec::new(),
        }
    }

    /// Adds a pin and gives its number.
    pub fn pin(&mut self, reason: &str, actor: &str, now: Timestamp, expires: Option<Timestamp>) -> u64 {
        let number = self.pins.last().map_or(0, |pin| pin.number).saturating_add(1);
        self.pins.push(Pin {
            number,
            reason: reason.to_owned(),
            actor: actor.to_owned(),
            created: now,
            expires,
        });
        number
    }

    /// Removes a pin. Says whether there was one of this number.
    pub fn unpin(&mut self, number: u64) -> bool {
        let before = self.pins.len();
        self.pins.retain(|pin| pin.number != number);
        self.pins.len() < before
    }
}

impl Document for Labels {
    const KIND: &'static str = "labels";

    fn check(&self) -> Result<(), String> {
        check_note(&self.note)?;
        check_tags(&self.tags)?;
        if self.pins.len() > PINS_MAX {
            return Err(format!("{} pins, at most {PINS_MAX}", self.pins.len()));
        }
        let too_long = |pin: &Pin| pin.reason.len().max(pin.actor.len()) > REASON_BYTES_MAX;
        if self.pins.iter().any(too_long) {
            return Err(format!(
                "reason or actor of a pin has more than {REASON_BYTES_MAX} bytes"
            ));
        }
        match self.pins.windows(2).all(|pair| pair[0].number < pair[1].number) {
            true => Ok(()),
            false => Err("pins are not in the order of their numbers".to_owned()),
        }
    }
}

/// A snapshot with what people say of it.
#[derive(Debug)]
pub struct Snapshot {
    /// What it is.
    pub descriptor: Descriptor,
    /// What people say of it. If their file is damaged, what the descriptor says.
    pub labels: Labels,
    /// Why the file of the labels cannot be used: then nobody knows its pins, and it must not be removed.
    pub labels_error: Option<RepositoryError>,
}

/// All snapshots of a repository.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those whose descriptors can be read, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// The others, and why.
    pub damaged: Vec<(SnapshotId, RepositoryError)>,
}

impl Repository {
    /// What people say of a snapshot. Errors: the file is damaged, I/O.
    pub fn labels(&self, descriptor: &Descriptor) -> Result<Labels, RepositoryError> {
        let name = document_name(&descriptor.id);
        match self.control().load::<Labels>(Area::Labels, &name)? {
            None => Ok(Labels::first(descriptor)),
            Some(labels) if labels.snapshot == descriptor.id => Ok(labels),
            Some(labels) => {
                let what = format!("it has the labels of snapshot {}", labels.snapshot);
                Err(self.control().damaged(Area::Labels, &name, what))
            }
        }
    }

    /// Changes what people say of a snapshot; durable on return, and then given. Damaged labels are made anew from the descriptor, without pins.
    /// Errors: there is no such snapshot; the change is out of bounds; the lease is lost; I/O.
    pub fn change_labels(
        &self,
        lease: &Lease,
        id: SnapshotId,
        change: impl FnOnce(&mut Labels),
    ) -> Result<Labels, RepositoryError> {
        let descriptor = self.descriptor(id)?;
        let mut labels = match self.labels(&descriptor) {
            Ok(labels) => labels,
            Err(RepositoryError::Damaged { .. }) => Labels::first(&descriptor),
            Err(error) => return Err(error),
        };
        change(&mut labels);
        labels.snapshot = id;
        labels.revision = labels.revision.saturating_add(1);
        let bytes = super::document::encode(&labels)?;
        self.control().replace_if(
            Area::Labels,
            &document_name(&id),
            &bytes,
            super::Survival::Durable,
            || Ok(lease.check()?),
        )?;
        Ok(labels)
    }

    /// Removes the labels of a snapshot that is gone. Errors: the lease is lost, I/O.
    pub fn remove_labels(&self, lease: &Lease, id: SnapshotId) -> Result<(), RepositoryError> {
        lease.check()?;
        self.control().remove(Area::Labels, &document_name(&id))?;
        Ok(())
    }

    /// All snapshots. Damaged ones do not keep the others from being listed. Errors: the directory cannot be listed, I/O.
    pub fn list(&self) -> Result<Listing, RepositoryError> {
        let mut listing = Listing::default();
        // Most snapshots have no labels of their own: one listing tells of all which do.
        let labelled: BTreeSet<String> = self.control().list(Area::Labels)?.into_iter().collect();
        for id in self.snapshot_ids()? {
            let descriptor = match self.descriptor(id) {
                Ok(descriptor) => descriptor,
                // Removed since the directory was listed.
                Err(RepositoryError::NotFound { .. }) => continue,
                Err(error) => {
                    listing.damaged.push((id, error));
                    continue;
                }
            };
            let labels = match labelled.contains(&document_name(&id)) {
                true => self.labels(&descriptor),
                false => Ok(Labels::first(&descriptor)),
            };
            let (labels, labels_error) = match labels {
                Ok(labels) => (labels, None),
                Err(error) => (Labels::first(&descriptor), Some(error)),
            };
            listing.snapshots.push(Snapshot {
                descriptor,
                labels,
                labels_error,
            });
        }
        let key = |snapshot: &Snapshot| {
            let descriptor = &snapshot.descriptor;
            (descriptor.sequence, descriptor.created, descriptor.id)
        };
        listing.snapshots.sort_by_key(key);
        Ok(listing)
    }
}
