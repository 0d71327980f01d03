//! What retention has to know, gathered from a repository: the labels and origins of its snapshots, and what needs them. Where something
//! cannot be read, everything that it may need is protected.

use std::collections::BTreeSet;

use cairn_types::SnapshotId;

use super::super::journal::Intent;
use super::super::{
    Descriptor, JournalRecord, Listing, Origin, Readers, Repository, RepositoryError, Snapshot,
};
use super::{Facts, Protection};

impl Repository {
    /// The facts of all snapshots of a listing, in its order. To be called by who holds the lease, so that no operation begins meanwhile. `own` is
    /// the operation of the caller, which needs nothing; `bytes` says how many bytes of a snapshot count.
    ///
    /// Errors: the state is damaged (then nobody knows what the workspace's content comes from); I/O.
    pub fn retention_facts(
        &self,
        listing: &Listing,
        own: Option<&JournalRecord>,
        bytes: impl Fn(&Descriptor) -> u64,
    ) -> Result<Vec<Facts>, RepositoryError> {
        let state = self.state()?;
        let readers = self.readers()?;
        let newest: BTreeSet<SnapshotId> = [state.last, state.newest].into_iter().flatten().collect();
        let mut head: BTreeSet<SnapshotId> = state.parts.iter().map(|part| part.snapshot).collect();
        head.extend(state.head);
        let mut needed = BTreeSet::new();
        let mut is_all_needed = false;
        for file in self.journal()? {
            match file.record {
                Ok(record) if own.is_some_and(|own| own.operation == record.operation) => {}
                Ok(record) => needs(&record.intent, &mut needed),
                Err(_) => is_all_needed = true,
            }
        }
        let facts = |snapshot: &Snapshot| {
            let descriptor = &snapshot.descriptor;
            let is_read = is_read(&readers, descriptor.id);
            let reasons = [
                (Protection::Newest, newest.contains(&descriptor.id)),
                (Protection::Head, head.contains(&descriptor.id)),
                (Protection::Reader, is_read),
                (
                    Protection::Operation,
                    is_all_needed || needed.contains(&descriptor.id),
                ),
                (Protection::LabelsUnreadable, snapshot.labels_error.is_some()),
            ];
            Facts {
                id: descriptor.id,
                sequence: descriptor.sequence,
                created: descriptor.created,
                bytes: bytes(descriptor),
                tags: snapshot.labels.tags.clone(),
                pins: snapshot.labels.pins.iter().map(|pin| pin.expires).collect(),
                schedule: match &descriptor.origin {
                    Origin::Scheduled { name } => Some(name.clone()),
                    _ => None,
                },
                protections: reasons
                    .into_iter()
                    .filter(|(_, holds)| *holds)
                    .map(|(reason, _)| reason)
                    .collect(),
            }
        };
        Ok(listing.snapshots.iter().map(facts).collect())
    }
}

/// Whether somebody reads a snapshot, or may.
fn is_read(readers: &Readers, id: SnapshotId) -> bool {
    !readers.unknown.is_empty() || readers.snapshots.contains(&id)
}

/// The snapshots that an operation needs.
fn needs(intent: &Intent, needed: &mut BTreeSet<SnapshotId>) {
    match intent {
        Intent::Save { snapshot, .. } | Intent::Fork { snapshot, .. } => {
            needed.insert(*snapshot);
        }
        Intent::Restore { target, safety, .. } => {
            needed.insert(*target);
            needed.extend(safety);
        }
        // What it removes, it does not need.
        Intent::Collect { .. } => {}
    }
}
