//! What is told of a repository as it is now, without changing it.

use std::ops::ControlFlow;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::engine::EngineKind;
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::differences::{self, EntryDifference, Told};
use cairn_snapshot::operations::history::{HistoryRequest, history};
use cairn_snapshot::operations::restore::count_unsaved;
use cairn_snapshot::operations::status::{self as of_workspace, status};
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

/// How a workspace is, as a person asks for it.
#[derive(Debug)]
pub struct Inspected {
    /// All of it.
    pub status: of_workspace::Status,
    /// The newest snapshot.
    pub newest: Option<SnapshotFacts>,
    /// The one that the content comes from.
    pub head: Option<SnapshotFacts>,
}

/// Snapshots of a repository.
#[derive(Debug)]
pub struct History {
    /// Newest first.
    pub snapshots: Vec<SnapshotFacts>,
    /// Of each, the nearest of the others that its content comes from.
    pub from: Vec<Option<SnapshotId>>,
    /// There are older ones.
    pub more: bool,
    /// Snapshots that can be read.
    pub total: usize,
    /// Safety snapshots that nobody asked for.
    pub hidden: usize,
    /// Those that cannot be read, and why.
    pub damaged: Vec<(SnapshotId, String)>,
    /// Where the workspace's content comes from.
    pub head: Option<SnapshotId>,
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
        let request = HistoryRequest {
            before,
            limit: Some(limit),
            all,
            ..HistoryRequest::default()
        };
        self.search(directory, &request, &Progress::new())
    }

    /// Snapshots of a repository that somebody looks for.
    ///
    /// # Errors
    /// It is not there; it cannot be read; cancelled.
    pub fn search(
        &self,
        directory: &Registered,
        request: &HistoryRequest,
        progress: &Progress,
    ) -> Result<History, DirectoriesError> {
        let repository = self.open_for(directory, None)?;
        let found = history(&repository, request, progress)?;
        let facts = found.snapshots.into_iter().map(|snapshot| SnapshotFacts {
            integrity: integrity(&repository, &snapshot.descriptor).ok(),
            descriptor: snapshot.descriptor,
            labels: snapshot.labels,
        });
        let damaged = found.damaged.iter();
        Ok(History {
            snapshots: facts.collect(),
            from: found.from,
            more: found.more,
            total: found.total,
            hidden: found.hidden,
            damaged: damaged.map(|(id, error)| (*id, with_causes(error))).collect(),
            head: found.head,
        })
    }

    /// How a workspace is, as a person asks for it. Gives also what is known of the two snapshots in it. `engine` is the one that a save would be asked for.
    ///
    /// # Errors
    /// It is not there; it cannot be read; there is no such engine; cancelled.
    pub fn inspect(
        &self,
        directory: &Registered,
        engine: Option<&str>,
        progress: &Progress,
    ) -> Result<Inspected, DirectoriesError> {
        let repository = self.open_for(directory, None)?;
        let config = repository.config()?;
        let word = engine.or_else(|| config.engine()).unwrap_or_default();
        let wished = EngineKind::requested(word)?;
        let status = status(&repository, &self.tools, wished, progress)?;
        let facts = |snapshot: &Snapshot| SnapshotFacts {
            integrity: integrity(&repository, &snapshot.descriptor).ok(),
            descriptor: snapshot.descriptor.clone(),
            labels: snapshot.labels.clone(),
        };
        Ok(Inspected {
            newest: status.newest.as_ref().map(facts),
            head: status.head().map(facts),
            status,
        })
    }

    /// Hands out what differs between a snapshot and the workspace, or another snapshot, in path order, until `visit` says that nobody wants more. Without a
    /// first snapshot it is the latest.
    ///
    /// # Errors
    /// No such snapshot or path; it cannot be read; cancelled.
    pub fn diff(
        &self,
        directory: &Registered,
        (from, to): (Option<&str>, Option<&str>),
        paths: &[RelativePath],
        progress: &Progress,
        mut visit: impl FnMut(EntryDifference) -> ControlFlow<()>,
    ) -> Result<(), DirectoriesError> {
        let repository = self.open_for(directory, None)?;
        let from = repository.resolve(from.unwrap_or("latest"))?;
        let to = match to {
            Some(to) => Some(repository.resolve(to)?),
            None => None,
        };
        let told = |told: Told| match told {
            Told::DirectoryTime(_) => Ok(()),
            Told::Difference(difference) => match visit(difference) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(OperationError::Cancelled),
            },
        };
        match to {
            Some(to) => differences::between(&repository, (from, to), paths, progress, told)?,
            None => differences::live(&repository, from, paths, progress, told)?,
        }
        Ok(())
    }
}
