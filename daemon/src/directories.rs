//! Plain directories under version control, by the daemon: what is asked for, schedules, and verification in the background. What is done is done
//! by `cairn-snapshot`, as without a daemon; here is who may be touched, what is remembered, and whose turn it is.
//!
//! [`Directories`] has one method for each thing that can be asked for; all of them may block. Those that take long answer with an operation
//! as soon as the work is written down:
//!
//! - [`roots`]: which directories may be touched, and how they are reached. [`registered`]: which are looked after.
//! - [`requests`] and [`outcome`]: what is asked for, and what came of it. [`work`] does it; [`turns`] says when.
//! - [`records`]: what survives the process. [`schedules`] and [`verification`]: what is done without anybody asking, driven by
//!   [`Directories::tick`].
//!
//! Invariants:
//! - Work that was accepted is done, fails, or is cancelled by somebody; a crash or a stop of the daemon only puts it off.
//! - A directory that hangs or is slow holds up nothing of the others.
//!
//! What is not done here: no protocol; the reasons that clients see are made in [`crate::rpc::directory_errors`].

pub mod error;
pub mod outcome;
pub mod records;
pub mod registered;
pub mod requests;
pub mod roots;
pub mod schedules;
mod status;
#[cfg(test)]
mod tests;
pub mod turns;
pub mod verification;
pub mod work;

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::Tools;
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::collect::{self, CollectPlan};
use cairn_snapshot::operations::labels::{LabelRequest, change_labels};
use cairn_snapshot::operations::recover::Recovered;
use cairn_snapshot::operations::restore::RestorePlan;
use cairn_snapshot::repository::{AuditEvent, Labels, Parts, Repository, RepositoryId};
use cairn_types::{SnapshotId, Timestamp};
use parking_lot::Mutex;

pub use error::DirectoriesError;
pub use outcome::{Outcome, SavedHow, SnapshotFacts, VerifiedSnapshot};
pub use registered::{Condition, DirectoryRef, Registered, Registering};
pub use requests::{
    Asker, CollectRequest, DeleteRequest, ForkRequest, Job, LabelsRequest, RegisterRequest, RestoreRequest,
    SaveRequest, Scheduled, UnsavedChanges, VerifyRequest,
};
pub use schedules::ScheduleView;
pub use status::{History, Inspected, Status};
pub use verification::{Health, VerificationSettings};

use crate::assembly::with_causes;
use crate::operations::{Operation, OperationId, OperationIdentity, Operations, Request};
use crate::rpc::directory_errors::api_error;
use records::{JobRecord, Records};
use registered::RegisteredSet;
use roots::Roots;
use schedules::Schedules;
use turns::Turns;
use verification::Verifier;
use work::Bench;

/// Runs something that may block, soon, elsewhere.
pub type Spawner = Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// What plain directories are looked after with.
pub struct DirectoriesParts {
    /// Where things are remembered.
    pub records: PathBuf,
    /// Below which directories something may be touched.
    pub roots: Vec<PathBuf>,
    /// How much work runs at once.
    pub jobs_max: usize,
    /// How snapshots are verified in the background.
    pub verification: VerificationSettings,
    /// What repositories work with. The actor is the daemon's user.
    pub parts: Parts,
    /// Programs of engines.
    pub tools: Tools,
    /// The daemon's operations.
    pub operations: Arc<Operations>,
    /// Where looks at directories run.
    pub spawner: Spawner,
}

/// The plain directories that the daemon looks after.
pub struct Directories {
    roots: Roots,
    parts: Parts,
    tools: Tools,
    operations: Arc<Operations>,
    records: Arc<Records>,
    registered: RegisteredSet,
    turns: Arc<Turns>,
    schedules: Schedules,
    verifier: Arc<Verifier>,
    spawner: Spawner,
    looks: Mutex<HashMap<RepositoryId, Look>>,
    working: Mutex<HashMap<OperationId, RepositoryId>>,
    ended: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    stopping: AtomicBool,
}

/// When a repository is looked at next, and whether it is now.
#[derive(Debug, Clone, Copy)]
struct Look {
    next: Timestamp,
    busy: bool,
}

/// Numbers for metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Operations that wait for their turn.
    pub waiting: usize,
    /// Operations that have it.
    pub running: usize,
    /// Operations that have ended since the start: by kind and the reason of their failure, empty if there was none.
    pub ended: BTreeMap<(&'static str, &'static str), u64>,
    /// Bytes that were read in the background since the start.
    pub verified_bytes: u64,
    /// Of each directory, by path.
    pub directories: Vec<DirectoryCounts>,
}

/// Numbers of a directory.
#[derive(Debug)]
pub struct DirectoryCounts {
    /// Which.
    pub directory: Arc<Registered>,
    /// Its snapshots, once they were looked at.
    pub health: Option<Health>,
    /// Its schedules.
    pub schedules: Vec<ScheduleView>,
}

impl std::fmt::Debug for Directories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directories").finish_non_exhaustive()
    }
}

impl Directories {
    /// Those that are remembered. Nothing is done before [`Directories::resume`] and [`Directories::tick`].
    ///
    /// # Errors
    /// What is remembered cannot be read.
    pub fn open(parts: DirectoriesParts) -> Result<Arc<Self>, DirectoriesError> {
        let records = Arc::new(Records::open(&parts.records)?);
        Ok(Arc::new(Directories {
            registered: RegisteredSet::load(Arc::clone(&records))?,
            roots: Roots::new(parts.roots),
            parts: parts.parts,
            tools: parts.tools,
            operations: parts.operations,
            turns: Turns::new(parts.jobs_max),
            schedules: Schedules::new(Arc::clone(&records)),
            verifier: Arc::new(Verifier::new(parts.verification)),
            spawner: parts.spawner,
            looks: Mutex::new(HashMap::new()),
            working: Mutex::new(HashMap::new()),
            ended: Mutex::new(BTreeMap::new()),
            stopping: AtomicBool::new(false),
            records,
        }))
    }

    /// Looks after a directory from now on.
    ///
    /// # Errors
    /// `NotAllowed`; `Registered`; `TooMany`; it is no repository and shall not become one; what an init may meet; I/O.
    pub fn register(&self, request: &RegisterRequest) -> Result<Registering, DirectoriesError> {
        self.registered.register(request, &self.roots, &self.parts)
    }

    /// Looks after a directory no more; it and its snapshots stay as they are.
    ///
    /// # Errors
    /// `NotRegistered`; `InUse`: work on it waits or runs; I/O.
    pub fn unregister(&self, asked: &DirectoryRef) -> Result<Arc<Registered>, DirectoriesError> {
        let directory = self.registered.find(asked)?;
        if let Some(operation) = self.operations_of(directory.id).first() {
            return Err(DirectoriesError::InUse {
                path: directory.workspace.clone(),
                operation: *operation,
            });
        }
        self.registered.unregister(&directory)?;
        self.schedules.forget(directory.id)?;
        self.verifier.forget(directory.id);
        self.looks.lock().remove(&directory.id);
        Ok(directory)
    }

    /// All that are looked after, by path.
    pub fn list(&self) -> Vec<Arc<Registered>> {
        self.registered.list()
    }

    /// The one that is asked for; by path, the nearest at or above it.
    ///
    /// # Errors
    /// `NotRegistered`.
    pub fn find(&self, asked: &DirectoryRef) -> Result<Arc<Registered>, DirectoriesError> {
        self.registered.find(asked)
    }

    /// Operations on a repository that wait or run.
    pub fn operations_of(&self, repository: RepositoryId) -> Vec<OperationId> {
        let working = self.working.lock();
        let of_it = working.iter().filter(|(_, of)| **of == repository);
        let mut found: Vec<OperationId> = of_it.map(|(id, _)| *id).collect();
        found.sort_unstable();
        found
    }

    /// The schedules of a repository, as they were seen last.
    pub fn schedules_of(&self, repository: RepositoryId) -> Vec<ScheduleView> {
        self.schedules.views(repository)
    }

    /// Starts work on a repository, once it is written down; or gives the operation that does the same already, and says so by the flag.
    ///
    /// # Errors
    /// `Start`: too much waits, or the daemon stops; `Records`: it cannot be written down. Nothing was started.
    pub fn start(
        self: &Arc<Self>,
        directory: &Arc<Registered>,
        job: Job,
    ) -> Result<(Arc<Operation>, bool), DirectoriesError> {
        let identity = self.operations.new_identity();
        self.records.store(&JobRecord {
            operation: identity.id.to_string(),
            repository: directory.id,
            accepted: identity.started,
            job: job.clone(),
        })?;
        let begun = self.begin(identity, directory, job);
        if !matches!(begun, Ok((_, true))) {
            self.forget_job(identity.id);
        }
        begun
    }

    fn begin(
        self: &Arc<Self>,
        identity: OperationIdentity,
        directory: &Arc<Registered>,
        job: Job,
    ) -> Result<(Arc<Operation>, bool), DirectoriesError> {
        let request = request_of(directory, &job, identity.id);
        let (this, of) = (Arc::clone(self), Arc::clone(directory));
        self.working.lock().insert(identity.id, directory.id);
        let started = self.operations.start_as(identity, request, move |operation| {
            let _ending = Ending {
                directories: &this,
                operation: operation.id,
                directory: &of,
                job: &job,
            };
            this.work(&of, &job, operation)
        });
        if !matches!(started, Ok((_, true))) {
            self.working.lock().remove(&identity.id);
        }
        Ok(started?)
    }

    /// Does a piece of work when it is its turn.
    fn work(
        &self,
        directory: &Arc<Registered>,
        job: &Job,
        operation: &Operation,
    ) -> Result<crate::operations::Outcome, cairn_api::ApiError> {
        operation.set_waiting(true);
        let turn = self
            .turns
            .take(job.changes().then_some(directory.id), operation.progress());
        operation.set_waiting(false);
        let done = match turn {
            None => Err(OperationError::Cancelled.into()),
            Some(_turn) => self.open_for(directory, job.actor()).and_then(|repository| {
                work::run(&repository, job, Bench::of(operation, &self.roots, &self.tools))
            }),
        };
        let is_cut_off = matches!(&done, Err(error) if error.is_cancelled())
            && self.operations.is_stopping()
            && !operation.is_cancelled();
        if is_cut_off {
            return Err(cairn_api::ApiError::new(
                cairn_api::Reason::ShuttingDown,
                "the daemon is stopping; the work goes on when it starts again",
            )
            .remedy("start cairnd again; the operation has the same identity then"));
        }
        self.forget_job(operation.id);
        if let (Ok(Outcome::Forked { workspace, .. }), Job::Fork(request)) = (&done, job) {
            self.adopt_fork(workspace.clone(), request);
        }
        self.has_ended(directory, job, &done);
        match done {
            Ok(outcome) => Ok(crate::operations::Outcome::Directory(Box::new(outcome))),
            Err(error) => Err(api_error(&error)),
        }
    }

    /// A fork is looked after as what it was forked from. That it cannot be is no failure of the fork.
    fn adopt_fork(&self, workspace: PathBuf, request: &ForkRequest) {
        let path = |bytes: &Vec<u8>| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        let registering = RegisterRequest {
            control: request.control.as_ref().map(path),
            workspace: Some(workspace),
            init: false,
        };
        if let Err(error) = self.register(&registering) {
            let error = with_causes(&error);
            tracing::warn!(error, "a fork cannot be looked after: register it");
        }
    }

    fn has_ended(&self, directory: &Registered, job: &Job, done: &Result<Outcome, DirectoriesError>) {
        let reason = match done {
            Ok(_) => "",
            Err(error) => api_error(error).reason.as_str(),
        };
        *self
            .ended
            .lock()
            .entry((job.kind().as_str(), reason))
            .or_default() += 1;
        self.verifier.changed(directory.id);
        if let Job::Save(SaveRequest {
            schedule: Some(schedule),
            ..
        }) = job
        {
            let outcome = match done {
                Ok(Outcome::Saved { snapshot, .. }) => Ok(snapshot.descriptor.id),
                Ok(_) => return,
                Err(error) => Err(with_causes(error)),
            };
            self.schedules.ended(directory.id, &schedule.name, outcome);
        }
    }

    /// The record of work that has ended goes. One that cannot be removed is done again after a restart, which finds that it is done.
    fn forget_job(&self, id: OperationId) {
        if let Err(error) = self.records.remove::<JobRecord>(&id.to_string()) {
            let error = with_causes(&error);
            tracing::error!(operation = %id, error, "the record of an operation cannot be removed");
        }
    }

    /// Cancels an operation. Work on a repository is not taken up again after a restart, whether it has noticed by then or not.
    pub fn cancel(&self, operation: &Operation) {
        operation.cancel();
        if operation.request.kind.is_of_directory() {
            self.forget_job(operation.id);
        }
    }

    /// Takes up the work that was accepted and has not ended, under the same identities. What is on a repository that is looked after no more
    /// is told as failed.
    ///
    /// # Errors
    /// The records cannot be listed.
    pub fn resume(self: &Arc<Self>) -> Result<(), DirectoriesError> {
        let mut jobs = self.records.all::<JobRecord>()?;
        jobs.sort_by_key(|record| record.accepted);
        for record in jobs {
            let Some(id) = OperationId::parse(&record.operation) else {
                continue;
            };
            let identity = OperationIdentity {
                id,
                started: record.accepted,
                resumed: true,
            };
            let kind = record.job.kind().as_str();
            let Some(directory) = self.registered.get(record.repository) else {
                let error = DirectoriesError::Interrupted {
                    what: format!("repository {} is not registered any more", record.repository),
                };
                let request = Request {
                    kind: record.job.kind(),
                    workspace: String::new(),
                    repository: record.repository.to_string(),
                    reference: record.job.reference(),
                    store: String::new(),
                    parameters: String::new(),
                };
                self.operations
                    .remember_failed(identity, request, api_error(&error));
                self.forget_job(id);
                continue;
            };
            if let Job::Save(SaveRequest {
                schedule: Some(schedule),
                ..
            }) = &record.job
            {
                self.schedules.set_running(directory.id, &schedule.name, true);
            }
            tracing::info!(operation = %id, kind, directory = %directory.workspace.display(), "an operation that was interrupted is taken up again");
            if let Err(error) = self.begin(identity, &directory, record.job.clone()) {
                // It stays written down: the next start tries again.
                let request = request_of(&directory, &record.job, id);
                tracing::warn!(operation = %id, kind, error = with_causes(&error), "an operation cannot be taken up again");
                self.operations
                    .remember_failed(identity, request, api_error(&error));
            }
        }
        Ok(())
    }

    /// Does what is due at `now`: looks at directories whose time has come, elsewhere. Cheap, and never waits for a directory.
    pub fn tick(self: &Arc<Self>, now: Timestamp) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        for directory in self.registered.list() {
            {
                let mut looks = self.looks.lock();
                let look = looks.entry(directory.id).or_insert(Look {
                    next: now,
                    busy: false,
                });
                let latest = now.seconds().saturating_add(schedules::LOOK_INTERVAL);
                // After a clock has gone back, the time of the next look may be far.
                let is_due = look.next <= now || look.next.seconds() > latest;
                if look.busy || !is_due {
                    continue;
                }
                look.busy = true;
            }
            let this = Arc::clone(self);
            (self.spawner)(Box::new(move || this.look(&directory, now)));
        }
    }

    fn look(self: &Arc<Self>, directory: &Arc<Registered>, now: Timestamp) {
        let later = Timestamp::new(now.seconds().saturating_add(schedules::LOOK_INTERVAL), 0);
        let next = match self.stopping.load(Ordering::Relaxed) {
            true => later,
            false => self.look_at(directory, now).unwrap_or_else(|error| {
                tracing::debug!(directory = %directory.workspace.display(), error = with_causes(&error), "a directory cannot be looked at");
                later
            }),
        };
        if let Some(look) = self.looks.lock().get_mut(&directory.id) {
            *look = Look { next, busy: false };
        }
    }

    fn look_at(
        self: &Arc<Self>,
        directory: &Arc<Registered>,
        now: Timestamp,
    ) -> Result<Timestamp, DirectoriesError> {
        let repository = self.open_for(directory, None)?;
        let config = repository.config()?;
        let next = self.schedules.look(directory.id, &config, now, |request| {
            self.start(directory, Job::Save(request)).map(drop)
        })?;
        self.verifier.look(repository, now)?;
        Ok(next)
    }

    /// What the metrics tell.
    pub fn counts(&self) -> Counts {
        let (waiting, running) = self.turns.count();
        let directories = self
            .registered
            .list()
            .into_iter()
            .map(|directory| DirectoryCounts {
                health: self.verifier.health(directory.id),
                schedules: self.schedules.views(directory.id),
                directory,
            });
        Counts {
            waiting,
            running,
            ended: self.ended.lock().clone(),
            verified_bytes: self.verifier.bytes_read(),
            directories: directories.collect(),
        }
    }

    /// Stops what is done without anybody asking, and waits until that has ended. Operations are stopped by who has them.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.verifier.stop();
    }

    /// Opens a repository, for work on behalf of somebody; nothing: of the daemon's user.
    ///
    /// # Errors
    /// It is not there; it cannot be used; it may not be touched any more.
    pub fn open_for(
        &self,
        directory: &Registered,
        actor: Option<&str>,
    ) -> Result<Repository, DirectoriesError> {
        let mut parts = self.parts.clone();
        if let Some(actor) = actor {
            parts.actor = actor.to_owned();
        }
        directory.open(&self.roots, parts)
    }

    /// The snapshot that a reference means.
    ///
    /// # Errors
    /// As of `open_for`; nothing or several fit; it is no reference.
    pub fn resolve(&self, directory: &Registered, reference: &str) -> Result<SnapshotId, DirectoriesError> {
        Ok(self.open_for(directory, None)?.resolve(reference)?)
    }

    /// The snapshot that a request with this key has made; nothing if there is none.
    ///
    /// # Errors
    /// As of `open_for`; damage; I/O.
    pub fn snapshot_by_key(
        &self,
        directory: &Registered,
        key: &str,
    ) -> Result<Option<SnapshotFacts>, DirectoriesError> {
        let repository = self.open_for(directory, None)?;
        Ok(match repository.snapshot_of_key(key)? {
            Some(id) => Some(SnapshotFacts::of(&repository, id)?),
            None => None,
        })
    }

    /// A snapshot.
    ///
    /// # Errors
    /// As of `resolve`; its descriptor is damaged.
    pub fn snapshot(
        &self,
        directory: &Registered,
        reference: &str,
    ) -> Result<SnapshotFacts, DirectoriesError> {
        let repository = self.open_for(directory, None)?;
        let id = repository.resolve(reference)?;
        Ok(SnapshotFacts::of(&repository, id)?)
    }

    /// What a restore would do. Changes nothing.
    ///
    /// # Errors
    /// No such snapshot or path; it cannot be read; the directory cannot be read; cancelled.
    pub fn plan_restore(
        &self,
        directory: &Registered,
        request: &RestoreRequest,
        progress: &Progress,
    ) -> Result<(SnapshotFacts, RestorePlan), DirectoriesError> {
        let repository = self.open_for(directory, None)?;
        let facts = SnapshotFacts::of(&repository, request.snapshot)?;
        Ok((facts, work::plan_restore(&repository, request, progress)?))
    }

    /// Whether a fork may be written where it is asked for.
    ///
    /// # Errors
    /// `NotAllowed`; the parent of a directory is not there.
    pub fn check_fork(&self, request: &ForkRequest) -> Result<(), DirectoriesError> {
        let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        self.roots.reach_parent(&path(&request.workspace))?;
        if let Some(control) = &request.control {
            self.roots.reach_parent(&path(control))?;
        }
        Ok(())
    }

    /// What retention would remove, written down as a plan.
    ///
    /// # Errors
    /// Somebody else works in the repository; it cannot be read; cancelled.
    pub fn plan_collect(
        &self,
        directory: &Registered,
        asker: &Asker,
        progress: &Progress,
    ) -> Result<CollectPlan, DirectoriesError> {
        let repository = self.open_for(directory, asker.actor.as_deref())?;
        Ok(collect::plan(&repository, &self.tools, asker.wait(), progress)?)
    }

    /// Changes what people say of a snapshot; durable on return.
    ///
    /// # Errors
    /// No such snapshot; no such pin; somebody else works in the repository; a bound; I/O.
    pub fn set_labels(
        &self,
        directory: &Registered,
        id: SnapshotId,
        request: &LabelsRequest,
        progress: &Progress,
    ) -> Result<Labelled, DirectoriesError> {
        let repository = self.open_for(directory, request.asker.actor.as_deref())?;
        let present = repository.labels(&repository.descriptor(id)?);
        for number in &request.remove_pins {
            let is_there = |labels: &Labels| labels.pins.iter().any(|pin| pin.number == *number);
            if !present.as_ref().is_ok_and(is_there) {
                return Err(DirectoriesError::NoPin { number: *number });
            }
        }
        let unpins = !request.remove_pins.is_empty() || request.remove_all_pins;
        let changing = LabelRequest {
            snapshot: id,
            event: match (request.add_pin.is_some(), unpins) {
                (true, _) => AuditEvent::Pin,
                (false, true) => AuditEvent::Unpin,
                (false, false) => AuditEvent::Label,
            },
            details: request.details(),
            wait: request.asker.wait(),
        };
        let now = self.parts.clock.now();
        let (mut number, mut removed) = (None, Vec::new());
        let change = |labels: &mut Labels| {
            if let Some(note) = &request.note {
                labels.note.clone_from(note);
            }
            for tag in &request.remove_tags {
                labels.tags.remove(tag);
            }
            labels.tags.extend(request.add_tags.iter().cloned());
            let goes = |number| request.remove_all_pins || request.remove_pins.contains(&number);
            removed = labels
                .pins
                .iter()
                .map(|pin| pin.number)
                .filter(|pin| goes(*pin))
                .collect();
            labels.pins.retain(|pin| !goes(pin.number));
            if let Some((reason, expires)) = &request.add_pin {
                number = Some(labels.pin(reason, &repository.parts().actor, now, *expires));
            }
        };
        let (_, recovered) = change_labels(&repository, &self.tools, &changing, change, progress)?;
        Ok(Labelled {
            snapshot: SnapshotFacts::of(&repository, id)?,
            pin: number,
            removed_pins: removed,
            recovered,
        })
    }
}

/// What came of a change of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// The snapshot, with its labels as they are now.
    pub snapshot: SnapshotFacts,
    /// The number of the new pin, if there is one.
    pub pin: Option<u64>,
    /// The numbers of the pins that are gone.
    pub removed_pins: Vec<u64>,
    /// What was put right before.
    pub recovered: Vec<Recovered>,
}

/// What has to be said when work has ended, however it has.
struct Ending<'a> {
    directories: &'a Directories,
    operation: OperationId,
    directory: &'a Registered,
    job: &'a Job,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Its record stays: the next start tries again.
            let what = "the work broke off inside cairnd".to_owned();
            let done = Err(DirectoriesError::Interrupted { what });
            self.directories.has_ended(self.directory, self.job, &done);
        }
        self.directories.working.lock().remove(&self.operation);
    }
}

/// The request for an operation, as it is told.
fn request_of(directory: &Registered, job: &Job, id: OperationId) -> Request {
    Request {
        kind: job.kind(),
        workspace: directory.workspace.to_string_lossy().into_owned(),
        repository: directory.id.to_string(),
        reference: job.reference(),
        store: String::new(),
        parameters: job.sameness(id),
    }
}
