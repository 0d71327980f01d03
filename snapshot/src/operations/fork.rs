//! Forking: a snapshot becomes a workspace of its own, with a repository of its own, whose first snapshot says where it comes from.

use std::path::Path;

use cairn_types::SnapshotId;

use super::materialize::{Materialized, materialize, remove_new};
use super::save::{SaveRequest, Saving};
use super::{OperationError, audit};
use crate::archive::Progress;
use crate::engine::Tools;
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
/// Durable on return; after an error there is no `target`.
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
    // Somebody else's control directory is never removed.
    let made = control.filter(|control| control.symlink_metadata().is_err());
    let written = materialize(repository, snapshot, &[], target, progress)?;
    begin(repository, tools, snapshot, target, control, progress, written).inspect_err(|_| {
        remove_new(target);
        if let Some(made) = made {
            remove_new(made);
        }
    })
}

fn begin(
    repository: &Repository,
    tools: &Tools,
    snapshot: SnapshotId,
    target: &Path,
    control: Option<&Path>,
    progress: &Progress,
    written: Materialized,
) -> Result<Forked, OperationError> {
    let forked = Repository::init(target, control, repository.parts().clone())?;
    let mut saving = SaveRequest::new(format!("fork of {snapshot}"));
    saving.origin = Origin::ForkOf {
        repository: repository.identity().id.to_string(),
        snapshot,
    };
    let lease = forked.lease("fork", saving.wait, progress.cancel_flag())?;
    let saved = Saving::new(&forked, &lease, tools, progress).run(&saving)?;
    let first = saved.made().unwrap_or(snapshot);
    audit(
        &forked,
        &lease,
        AuditEvent::Fork,
        Some(first),
        &[
            ("of", snapshot.to_string()),
            ("repository", repository.identity().id.to_string()),
        ],
    );
    lease.release()?;
    Ok(Forked {
        repository: forked,
        first,
        written,
    })
}
