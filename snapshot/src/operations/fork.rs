//! Forking: a snapshot becomes a workspace of its own, with a repository of its own, whose first snapshot says where it comes from.

use std::path::Path;

use cairn_types::SnapshotId;

use super::materialize::{Materialized, materialize_beside, remove_new};
use super::save::{SaveRequest, Saving};
use super::{OperationError, audit};
use crate::archive::Progress;
use crate::engine::Tools;
use crate::repository::layout::CONTROL_NAME;
use crate::repository::{AuditEvent, Origin, Repository};

/// A fork.
#[derive(Debug)]
pub struct Forked {
    /// Its repository.
    pub repository: Repository,
    /// Its first snapshot.
    pub first: SnapshotId,
    /// What was written.
    pub written: Materialized,
}

/// Makes the directory `target`, which does not exist, a workspace that begins as a snapshot. Its control directory is in it, or at `control`.
/// Durable on return; after an error there is no `target`. After a kill there is none either if the control directory is in it; else it may be
/// there, complete, and without a repository.
///
/// # Errors
/// Those of materializing, of init, and of a save.
pub fn fork(
    repository: &Repository,
    tools: &Tools,
    snapshot: SnapshotId,
    target: &Path,
    control: Option<&Path>,
    progress: &Progress,
) -> Result<Forked, OperationError> {
    let (partial, written) = materialize_beside(repository, snapshot, &[], target, progress)?;
    let forking = Forking {
        of: repository,
        tools,
        snapshot,
        progress,
    };
    let Some(control) = control else {
        let (_, first) = forking.begin(&partial.path, None)?;
        partial.publish()?;
        let forked = Repository::open(&target.join(CONTROL_NAME), repository.parts().clone())?;
        return Ok(Forked {
            repository: forked,
            first,
            written,
        });
    };
    // The control directory says where the workspace is: it must be there first. Somebody else's control directory is never removed.
    let made = control.symlink_metadata().is_err();
    partial.publish()?;
    let (forked, first) = forking.begin(target, Some(control)).inspect_err(|_| {
        remove_new(target);
        if made {
            remove_new(control);
        }
    })?;
    Ok(Forked {
        repository: forked,
        first,
        written,
    })
}

/// A fork that is being made.
struct Forking<'a> {
    of: &'a Repository,
    tools: &'a Tools,
    snapshot: SnapshotId,
    progress: &'a Progress,
}

impl Forking<'_> {
    /// Makes a directory a repository, and takes its first snapshot.
    fn begin(
        &self,
        workspace: &Path,
        control: Option<&Path>,
    ) -> Result<(Repository, SnapshotId), OperationError> {
        let snapshot = self.snapshot;
        let forked = Repository::init(workspace, control, self.of.parts().clone())?;
        let mut saving = SaveRequest::new(format!("fork of {snapshot}"));
        saving.origin = Origin::ForkOf {
            repository: self.of.identity().id.to_string(),
            snapshot,
        };
        let lease = forked.lease("fork", saving.wait, self.progress.cancel_flag())?;
        let saved = Saving::new(&forked, &lease, self.tools, self.progress).run(&saving)?;
        let first = saved.made().unwrap_or(snapshot);
        audit(
            &forked,
            &lease,
            AuditEvent::Fork,
            Some(first),
            &[
                ("of", snapshot.to_string()),
                ("repository", self.of.identity().id.to_string()),
            ],
        );
        lease.release()?;
        Ok((forked, first))
    }
}
