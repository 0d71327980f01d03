//! The doctor: looks at everything that a repository consists of, tells what is wrong and what to do, and, if asked to, puts right
//! what can be put right without losing anything.

use std::path::PathBuf;
use std::time::Duration;

use cairn_types::{SnapshotId, with_causes};

use super::recover::{Recovered, plans_of_none, recover_what_fits, remove_archive, residue, uses_store};
use super::restore::{forgotten_staging, remove_staging};
use super::snapshots::{manifest, payload};
use super::store::{remove_temporaries, store, temporaries};
use super::verify::{Integrity, integrity};
use super::{OperationError, audit};
use crate::archive::Progress;
use crate::engine::Tools;
use crate::repository::{Area, AuditEvent, Lease, Readers, Repository, RepositoryError};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do: it is told because somebody may wonder.
    Note,
    /// Something is left over, or unfinished: the next operation, or `--repair`, puts it right.
    Unfinished,
    /// Something is damaged.
    Damage,
}

/// Something that the doctor found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub path: PathBuf,
    /// What, and what to do about it.
    pub what: String,
}

/// What the doctor found and did.
#[derive(Debug, Default)]
pub struct Examination {
    /// What is wrong, after the repair if there was one.
    pub findings: Vec<Finding>,
    /// What was put right.
    pub repaired: Vec<Recovered>,
    /// Snapshots that were looked at.
    pub snapshots: u64,
}

impl Examination {
    /// Whether nothing is damaged or unfinished.
    pub fn is_healthy(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity == Severity::Note)
    }

    fn add(&mut self, severity: Severity, path: PathBuf, what: impl Into<String>) {
        self.findings.push(Finding {
            severity,
            path,
            what: what.into(),
        });
    }
}

/// Examines a repository; with `repair`, puts right what was interrupted, and what can be made again. Data of files is not read: that is
/// what verifying is for.
///
/// # Errors
/// A repair cannot have the lease, or fails; nothing can be listed. Everything else is a finding.
pub fn examine(
    repository: &Repository,
    tools: &Tools,
    repair: bool,
    progress: &Progress,
) -> Result<Examination, OperationError> {
    let mut found = Examination::default();
    if repair {
        let _spending = repository.control().spending();
        let lease = repository.lease("doctor", Duration::from_secs(60), progress.cancel_flag())?;
        found.repaired = recover_what_fits(repository, &lease, tools, progress)?;
        let removed = repair_rest(repository, &lease)?;
        if removed > 0 {
            found.repaired.push(Recovered::ResidueRemoved(removed));
        }
        audit(
            repository,
            &lease,
            AuditEvent::Doctor,
            None,
            &[("repaired", found.repaired.len().to_string())],
        );
        lease.release()?;
    }
    let held = repository.lease_holder()?;
    if let Some(holder) = &held {
        let what = format!(
            "{} of process {} on {} holds the lease",
            holder.operation, holder.holder.pid, holder.holder.name
        );
        found.add(Severity::Note, repository.control().path_of(Area::Lock, ""), what);
    }
    examine_state(repository, &mut found);
    examine_audit(repository, &mut found)?;
    examine_snapshots(repository, &mut found, progress)?;
    // What is under way is nobody's residue.
    if held.is_none() {
        examine_residue(repository, &mut found)?;
    }
    if let Err(error) = repository.config() {
        let path = repository.control().path_of(Area::Root, "config.toml");
        found.add(Severity::Damage, path, with_causes(&error));
    }
    Ok(found)
}

/// Removes what no other operation looks for: what interrupted puts have left, directories that restores staged in, archives without a
/// snapshot. Gives how many.
fn repair_rest(repository: &Repository, lease: &Lease) -> Result<u64, OperationError> {
    let mut removed = remove_temporaries(repository, lease)?;
    for name in forgotten_staging(repository)? {
        lease.check()?;
        remove_staging(repository, &name)?;
        removed += 1;
    }
    for id in archives_of_none(repository) {
        lease.check()?;
        removed += u64::from(remove_archive(repository, id)?);
    }
    Ok(removed)
}

/// Archives in the repository's own store that belong to no snapshot and to no operation. None if that cannot be told.
fn archives_of_none(repository: &Repository) -> Vec<SnapshotId> {
    let own = repository.config().is_ok_and(|config| config.store.url.is_none());
    if !own || !uses_store(repository) || repository.journal().map_or(true, |journal| !journal.is_empty()) {
        return Vec::new();
    }
    // Listed before the snapshots: an archive comes to be before its snapshot.
    let Ok(archives) = store(repository).and_then(|store| Ok(store.archives()?)) else {
        return Vec::new();
    };
    let archives = archives.iter().map(|archive| archive.description.snapshot);
    match repository.snapshot_ids() {
        Ok(ids) => archives.filter(|id| !ids.contains(id)).collect(),
        Err(_) => Vec::new(),
    }
}

fn examine_state(repository: &Repository, found: &mut Examination) {
    let path = repository.control().path_of(Area::Root, "state.json");
    let state = match repository.state() {
        Ok(state) => state,
        Err(error) => return found.add(Severity::Damage, path, with_causes(&error)),
    };
    if let Some(head) = state.head
        && matches!(repository.descriptor(head), Err(RepositoryError::NotFound { .. }))
    {
        let what = format!(
            "the workspace's content comes from snapshot {head}, which is gone: the next save takes its place"
        );
        found.add(Severity::Note, path, what);
    }
}

/// Looks through the whole audit log. Its damage stops nothing, so this is where it is told.
fn examine_audit(repository: &Repository, found: &mut Examination) -> Result<(), OperationError> {
    let anchor = repository.state().ok().and_then(|state| state.audit);
    let report = repository.read_audit(anchor, |_| {})?;
    for damage in report.damage.iter().filter(|damage| !damage.is_known) {
        let path = repository.control().path_of(Area::Audit, &damage.file);
        let place = match damage.line {
            0 => String::new(),
            line => format!("line {line}, at byte {}: ", damage.offset),
        };
        let (severity, rest) = match damage.is_torn {
            true => (
                Severity::Unfinished,
                "the next operation passes it over, and says so",
            ),
            false => (
                Severity::Damage,
                "everything else goes on; keep a copy if you need to know who did what",
            ),
        };
        found.add(severity, path, format!("{place}{}; {rest}", damage.what));
    }
    Ok(())
}

fn examine_snapshots(
    repository: &Repository,
    found: &mut Examination,
    progress: &Progress,
) -> Result<(), OperationError> {
    let control = repository.control();
    let sequence = repository.state().map_or(0, |state| state.sequence);
    for id in repository.snapshot_ids()? {
        if progress.is_cancelled() {
            return Err(OperationError::Cancelled);
        }
        found.snapshots += 1;
        let name = format!("{id}.json");
        let descriptor = match repository.descriptor(id) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                found.add(
                    Severity::Damage,
                    control.path_of(Area::Descriptors, &name),
                    with_causes(&error),
                );
                continue;
            }
        };
        if descriptor.sequence > sequence {
            let what = format!("snapshot {id} is not in the state: the next operation, or --repair, adds it");
            found.add(
                Severity::Unfinished,
                control.path_of(Area::Descriptors, &name),
                what,
            );
        }
        if let Err(error) = repository.labels(&descriptor) {
            found.add(
                Severity::Damage,
                control.path_of(Area::Labels, &name),
                with_causes(&error),
            );
        }
        if let Err(error) = manifest(repository, &descriptor) {
            found.add(
                Severity::Damage,
                control.path_of(Area::Manifests, &id.to_string()),
                with_causes(&error),
            );
        }
        if let Err(error) = payload(repository, &descriptor) {
            found.add(
                Severity::Damage,
                control.path_of(Area::Snapshots, &id.to_string()),
                with_causes(&error),
            );
        }
        match integrity(repository, &descriptor) {
            Ok(Integrity::Damaged(_, files)) => {
                let what = format!(
                    "{files} files of snapshot {id} were damaged when it was verified: restore them from another"
                );
                found.add(
                    Severity::Damage,
                    control.path_of(Area::Snapshots, &id.to_string()),
                    what,
                );
            }
            Ok(Integrity::Unverified | Integrity::Verified(_)) => {}
            Err(error) => found.add(
                Severity::Damage,
                control.path_of(Area::Verified, &name),
                with_causes(&error),
            ),
        }
    }
    Ok(())
}

fn examine_residue(repository: &Repository, found: &mut Examination) -> Result<(), OperationError> {
    let control = repository.control();
    let next = "the next operation, or --repair, removes it";
    let readers = repository.readers();
    for (area, name) in residue(repository)? {
        // Somebody writes down what a verification finds.
        let id = SnapshotId::parse(name.split('.').next().unwrap_or(&name));
        let is_read = |readers: &Readers| id.is_some_and(|id| readers.snapshots.contains(&id));
        if area == Area::Manifests && readers.as_ref().map_or(true, is_read) {
            continue;
        }
        let what = format!("it belongs to no snapshot: {next}");
        found.add(Severity::Unfinished, control.path_of(area, &name), what);
    }
    for name in readers.map(|readers| readers.ended).unwrap_or_default() {
        let what = format!("its reader has ended: {next}");
        found.add(Severity::Unfinished, control.path_of(Area::Readers, &name), what);
    }
    for name in plans_of_none(repository)? {
        let what = format!("its restore has ended: {next}");
        found.add(Severity::Unfinished, control.path_of(Area::Plans, &name), what);
    }
    for file in repository.journal()? {
        let path = control.path_of(Area::Journal, &file.name);
        match file.record {
            Ok(_) => found.add(
                Severity::Unfinished,
                path,
                "an operation was interrupted: the next one, or --repair, finishes or undoes it",
            ),
            Err(error) => found.add(Severity::Damage, path, with_causes(&error)),
        }
    }
    for area in Area::EVERY {
        for name in control.unfinished(area)? {
            // Where it cannot be told, somebody may be writing it.
            if repository.is_left_over(area, &name).unwrap_or(false) {
                let what = format!("half-written: {next}");
                found.add(Severity::Unfinished, control.path_of(area, &name), what);
            }
        }
    }
    for path in temporaries(repository)? {
        let what = "an interrupted put has left it: --repair, or the next removal of snapshots, removes it";
        found.add(Severity::Unfinished, path, what);
    }
    for name in forgotten_staging(repository)? {
        let path = repository.workspace_path().join(name.as_path());
        let what = "an interrupted restore has left it, and needs it no more: --repair removes it";
        found.add(Severity::Unfinished, path, what);
    }
    for id in archives_of_none(repository) {
        let path = control.path_of(Area::Store, &format!("archives/{id}"));
        let what = "an archive that belongs to no snapshot: --repair removes it";
        found.add(Severity::Unfinished, path, what);
    }
    Ok(())
}
