//! What is told of a repository as it is now, without changing it.

use cairn_snapshot::archive::Progress;
use cairn_snapshot::operations::restore::count_unsaved;
use cairn_snapshot::operations::verify::integrity;
use cairn_snapshot::repository::{LeaseRecord, Snapshot};
use cairn_types::SnapshotId;

use super::verification::Health;
use super::{Directories, DirectoriesError, Registered, SnapshotFacts};
use crate::assembly::with_causes;

/// How a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The snapshot that the workspace's content comes from.
    pub head: Option<SnapshotId>,
    /// The newest snapshot that somebody asked for.
    pub latest: Option<SnapshotId>,
    /// What is known of its snapshots.
    pub health: Health,
    /// The snapshot that is verified in the background now.
    pub verifying: Option<SnapshotId>,
    /// Who works in it.
    pub holder: Option<LeaseRecord>,
    /// Changes that no snapshot has, if that was asked for.
    pub changes: Option<u64>,
}

/// Snapshots of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Newest first.
    pub snapshots: Vec<SnapshotFacts>,
    /// There are older ones.
    pub more: bool,
    /// Those that cannot be read, and why.
    pub damaged: Vec<(SnapshotId, String)>,
}

impl Directories {
    /// How a repository is now. With `changes`, everything in the workspace is looked at.
    ///
    /// # Errors
    /// It is not there; it cannot be read; cancelled.
    pub fn status(
        &self,
        directory: &Registered,
        changes: bool,
        progress: &Progress,
    ) -> Result<Status, DirectoriesError> {
        let repository = self.open_for(directory, None)?;
        let state = repository.state()?;
        let listing = repository.list()?;
        let mut health = Health {
            snapshots: (listing.snapshots.len() + listing.damaged.len()) as u64,
            damaged: listing.damaged.iter().map(|(id, _)| *id).collect(),
            ..Health::default()
        };
        let known = self.verifier.health(directory.id).unwrap_or_default();
        for snapshot in &listing.snapshots {
            use cairn_snapshot::operations::verify::Integrity;
            let id = snapshot.descriptor.id;
            match integrity(&repository, &snapshot.descriptor) {
                Ok(Integrity::Verified(_)) if !known.damaged.contains(&id) => health.verified += 1,
                Ok(Integrity::Unverified) if !known.damaged.contains(&id) => health.unverified += 1,
                Ok(Integrity::Damaged(..) | Integrity::Verified(_) | Integrity::Unverified) => {
                    health.damaged.push(id);
                }
                Err(_) => health.unverified += 1,
            }
        }
        let changes = match changes {
            true => Some(count_unsaved(&repository, &[], progress)?),
            false => None,
        };
        Ok(Status {
            head: state.head,
            latest: state.newest,
            health,
            verifying: self.verifier.verifying(directory.id),
            holder: repository.lease_holder()?,
            changes,
        })
    }

    /// Snapshots of a repository, newest first: at most `limit` of those whose number is smaller than `before`; safety snapshots with `all`.
    ///
    /// # Errors
    /// It is not there; it cannot be read.
    pub fn history(
        &self,
        directory: &Registered,
        before: Option<u64>,
        limit: usize,
        all: bool,
    ) -> Result<History, DirectoriesError> {
        let repository = self.open_for(directory, None)?;
        let listing = repository.list()?;
        let is_wanted = |snapshot: &&Snapshot| {
            let descriptor = &snapshot.descriptor;
            before.is_none_or(|before| descriptor.sequence < before) && (all || descriptor.origin.is_latest())
        };
        let mut wanted = listing.snapshots.iter().rev().filter(is_wanted);
        let told = wanted.by_ref().take(limit).map(|snapshot| SnapshotFacts {
            descriptor: snapshot.descriptor.clone(),
            labels: snapshot.labels.clone(),
            integrity: integrity(&repository, &snapshot.descriptor).ok(),
        });
        Ok(History {
            snapshots: told.collect(),
            more: wanted.next().is_some(),
            damaged: listing
                .damaged
                .iter()
                .map(|(id, error)| (*id, with_causes(error)))
                .collect(),
        })
    }
}
