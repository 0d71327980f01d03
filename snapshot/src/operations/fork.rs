//! Forking: a snapshot becomes a workspace of its own, with a repository of its own, whose first snapshot says where it comes from.
//!
//! All of it is made beside the place where it shall be, the first snapshot included; then it gets its name. So a directory of that name is a
//! complete fork. What a kill leaves is that other directory, and, if it is to be elsewhere, a control directory that is of this fork and whose
//! workspace is not there: the next attempt removes both.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cairn_types::SnapshotId;

use super::live::walk_options;
use super::materialize::{Materialized, materialize_beside};
use super::save::{SaveRequest, Saved, Saving, Source};
use super::{OperationError, audit};
use crate::archive::Progress;
use crate::engine::{Tools, remove_tree};
use crate::repository::reached::parent_of;
use crate::repository::{
    Area, AuditEvent, ControlDirectory, ControlMode, Descriptor, Origin, Reached, Repository, RepositoryId,
    RequestKey,
};

/// How long is waited for the lease of a repository that nobody else knows yet.
const WAIT: Duration = Duration::from_secs(60);

/// Where a fork goes, and of what it is.
#[derive(Debug, Clone, Copy)]
pub struct ForkRequest<'a> {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The directory that its workspace will be in, and the name there, which does not exist.
    pub workspace: (&'a Reached, &'a OsStr),
    /// The same of its control directory, which does not exist or is empty; nothing: `.jvs` in the workspace.
    pub control: Option<(&'a Reached, &'a OsStr)>,
    /// The key of its first snapshot.
    pub key: Option<RequestKey>,
}

/// A fork.
#[derive(Debug)]
pub struct Forked {
    /// Its repository.
    pub repository: RepositoryId,
    /// Its first snapshot.
    pub first: Box<Descriptor>,
    /// Where it is.
    pub workspace: PathBuf,
    /// Where its control directory is.
    pub control: PathBuf,
    /// What was written.
    pub written: Materialized,
}

/// Makes the directory `target`, which does not exist, a workspace that begins as a snapshot. Its control directory is in it, or at `control`.
/// Durable on return; after an error, or a kill, there is no `target`.
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
    let occupied = |path: &Path| OperationError::Occupied {
        path: path.to_owned(),
    };
    let (parent, name) = parent_of(target)?.ok_or_else(|| occupied(target))?;
    let control = match control {
        Some(control) => Some(parent_of(control)?.ok_or_else(|| occupied(control))?),
        None => None,
    };
    let request = ForkRequest {
        snapshot,
        workspace: (&parent, name),
        control: control.as_ref().map(|(parent, name)| (parent, *name)),
        key: None,
    };
    fork_reached(repository, tools, &request, progress)
}

/// The same in directories that are open: no path is resolved.
///
/// # Errors
/// As of [`fork`].
pub fn fork_reached(
    repository: &Repository,
    tools: &Tools,
    request: &ForkRequest<'_>,
    progress: &Progress,
) -> Result<Forked, OperationError> {
    let snapshot = request.snapshot;
    let (partial, written) = materialize_beside(repository, snapshot, &[], request.workspace, progress)?;
    let target = partial.target.clone();
    // Nobody else makes this fork now: the directory is locked.
    remove_left_over(repository, request, &target)?;
    let made = request.control.filter(|(parent, name)| {
        let found = rustix::fs::statat(&parent.directory, *name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        matches!(found, Err(rustix::io::Errno::NOENT))
    });
    let forking = Forking {
        of: repository,
        tools,
        request,
        progress,
    };
    let workspace = Reached {
        directory: partial.root.try_clone().map_err(OperationError::staging)?,
        path: partial.path.clone(),
    };
    let at = match request.control {
        Some(_) => target.clone(),
        None => partial.path.clone(),
    };
    let begun = forking.begin(workspace, at).and_then(|(forked, first)| {
        let control = match request.control {
            Some(_) => forked.control().path().to_owned(),
            None => target.join(forked.control().path().file_name().unwrap_or_default()),
        };
        let id = forked.identity().id;
        // Closed before it is moved.
        drop(forked);
        partial.publish()?;
        Ok((id, first, control))
    });
    let (id, first, control) = begun.inspect_err(|_| {
        // Somebody else's control directory is never removed.
        if let Some(made) = made {
            remove(made);
        }
    })?;
    Ok(Forked {
        repository: id,
        first,
        workspace: target,
        control,
        written,
    })
}

/// A fork that is being made.
struct Forking<'a> {
    of: &'a Repository,
    tools: &'a Tools,
    request: &'a ForkRequest<'a>,
    progress: &'a Progress,
}

impl Forking<'_> {
    /// Makes a directory, which will be at `at`, a repository, and takes its first snapshot.
    fn begin(
        &self,
        workspace: Reached,
        at: PathBuf,
    ) -> Result<(Repository, Box<Descriptor>), OperationError> {
        let snapshot = self.request.snapshot;
        let now_at = workspace.path.clone();
        let parts = self.of.parts().clone();
        let forked = Repository::init_reached_for(workspace, at, self.request.control, parts)?;
        let mut saving = SaveRequest::new(format!("fork of {snapshot}"));
        saving.key = self.request.key;
        saving.origin = Origin::ForkOf {
            repository: self.of.identity().id.to_string(),
            snapshot,
        };
        let lease = forked.lease("fork", WAIT, self.progress.cancel_flag())?;
        let source = Source {
            directory: forked.workspace(),
            path: &now_at,
            walk: walk_options(&forked, &[])?,
            past: None,
        };
        let saved = Saving::new(&forked, &lease, self.tools, self.progress).take(&saving, &source)?;
        let first = match saved {
            Saved::New(first) | Saved::Existing(first) => first,
            Saved::Unchanged(id) => Box::new(forked.descriptor(id)?),
        };
        audit(
            &forked,
            &lease,
            AuditEvent::Fork,
            Some(first.id),
            &[
                ("of", snapshot.to_string()),
                ("repository", self.of.identity().id.to_string()),
            ],
        );
        lease.release()?;
        Ok((forked, first))
    }
}

/// Removes a control directory that an interrupted fork of the same snapshot to the same place has left: its workspace is not there, and it has no
/// snapshot but the first one of that fork. Errors: it cannot be removed.
fn remove_left_over(of: &Repository, request: &ForkRequest<'_>, target: &Path) -> Result<(), OperationError> {
    let Some((parent, name)) = request.control else {
        return Ok(());
    };
    let path = parent.path.join(name);
    let opened = ControlDirectory::open_in(parent.directory.as_fd(), &path, of.parts().randomness.clone());
    // What is no repository is told by the init.
    let Ok(control) = opened else {
        return Ok(());
    };
    let is_of_target = match Repository::look(&control) {
        Ok((identity, workspace)) => identity.control != ControlMode::Inside && workspace == target,
        Err(_) => false,
    };
    if !is_of_target {
        return Ok(());
    }
    let this = Origin::ForkOf {
        repository: of.identity().id.to_string(),
        snapshot: request.snapshot,
    };
    for name in control.list(Area::Descriptors)? {
        let found = control.load::<Descriptor>(Area::Descriptors, &name);
        if !found.is_ok_and(|found| found.is_some_and(|found| found.origin == this)) {
            return Ok(());
        }
    }
    drop(control);
    tracing::info!(control = %path.display(), "what an interrupted fork has left is removed");
    remove_tree(parent.directory.as_fd(), name, &path, 2, &Progress::new())?;
    Ok(())
}

/// Removes a control directory that was made here. What fails is told in the log: the first error matters more.
fn remove((parent, name): (&Reached, &OsStr)) {
    let path = parent.path.join(name);
    if let Err(error) = remove_tree(parent.directory.as_fd(), name, &path, 2, &Progress::new())
        && rustix::fs::statat(&parent.directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
    {
        tracing::warn!(path = %path.display(), %error, "what was written cannot be removed");
    }
}
