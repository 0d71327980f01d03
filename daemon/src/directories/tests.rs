//! Plain directories, without a daemon around them: by a clock that the tests turn, with real repositories.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_api::Reason;
use cairn_snapshot::engine::Tools;
use cairn_snapshot::repository::{Host, LeaseTimes, Origin, Parts, RepositoryId, SystemTicks};
use cairn_types::{Clock, SnapshotId, Timestamp};
use parking_lot::Mutex;

use super::records::{JobRecord, Records};
use super::{
    Asker, CollectRequest, Condition, DeleteRequest, Directories, DirectoriesError, DirectoriesParts,
    DirectoryRef, ForkRequest, Job, LabelsRequest, Outcome, RegisterRequest, Registered, RestoreRequest,
    SaveRequest, SavedHow, UnsavedChanges, VerificationSettings, VerifyRequest,
};
use crate::operations::{Operation, OperationId, Operations, State};
use crate::system::SystemRandomness;

mod later;

/// Longest wait of a test that would otherwise hang.
const PATIENCE: Duration = Duration::from_secs(120);
const BEGIN: i64 = 1_795_269_789;

/// A clock that goes by hand.
#[derive(Debug)]
struct HandClock(Mutex<i64>);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::new(*self.0.lock(), 0)
    }
}

type Task = Box<dyn FnOnce() + Send>;

/// A place for directories and for what is remembered of them.
struct Site {
    place: tempfile::TempDir,
    clock: Arc<HandClock>,
    /// Looks that do not run before the test says so, if it wants that.
    held: Arc<Mutex<Option<Vec<Task>>>>,
    verification: VerificationSettings,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("root")).unwrap();
        Site {
            place,
            clock: Arc::new(HandClock(Mutex::new(BEGIN))),
            held: Arc::new(Mutex::new(None)),
            verification: VerificationSettings {
                bytes_per_second: None,
                again_after: None,
            },
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    fn root(&self) -> PathBuf {
        self.place.path().canonicalize().unwrap().join("root")
    }

    /// A directory with something in it.
    fn workspace(&self, name: &str) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a"), "one").unwrap();
        path
    }

    fn open(&self) -> Arc<Directories> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let held = Arc::clone(&self.held);
        let randomness = Arc::new(SystemRandomness);
        Directories::open(DirectoriesParts {
            records: self.place.path().join("directories"),
            roots: vec![self.root()],
            jobs_max: 4,
            verification: self.verification,
            parts: Parts {
                clock: Arc::clone(&clock),
                randomness: randomness.clone(),
                ticks: Arc::new(SystemTicks::new()),
                host: Host::detect().unwrap(),
                actor: "daemon".to_owned(),
                lease_times: LeaseTimes::default(),
                runtime: Some(self.runtime.handle().clone()),
            },
            tools: Tools::default(),
            operations: Operations::new(clock, randomness),
            spawner: Box::new(move |look| {
                if let Some(held) = &mut *held.lock() {
                    held.push(look);
                    return;
                }
                look();
            }),
        })
        .unwrap()
    }

    fn advance(&self, seconds: i64) -> Timestamp {
        *self.clock.0.lock() += seconds;
        self.clock.now()
    }

    /// Waits for the end of an operation.
    fn wait(&self, operation: &Operation) -> State {
        let mut has_ended = operation.has_ended();
        let ended = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, has_ended.wait_for(|ended| *ended))
                .await
                .map(|ended| ended.is_ok())
        });
        assert_eq!(ended, Ok(true), "it takes too long: {:?}", operation.request);
        operation.state()
    }

    fn done(&self, operation: &Operation) -> Outcome {
        match self.wait(operation) {
            State::Succeeded(outcome) => match *outcome {
                crate::operations::Outcome::Directory(outcome) => *outcome,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn run(&self, directories: &Arc<Directories>, of: &Arc<Registered>, job: Job) -> Outcome {
        let (operation, _) = directories.start(of, job).unwrap();
        self.done(&operation)
    }

    fn failed(&self, directories: &Arc<Directories>, of: &Arc<Registered>, job: Job) -> Reason {
        let (operation, _) = directories.start(of, job).unwrap();
        match self.wait(&operation) {
            State::Failed(error) => error.reason,
            other => panic!("{other:?}"),
        }
    }

    fn save(
        &self,
        directories: &Arc<Directories>,
        of: &Arc<Registered>,
        key: Option<&str>,
    ) -> (SavedHow, SnapshotId) {
        let request = SaveRequest {
            key: key.map(str::to_owned),
            ..SaveRequest::default()
        };
        match self.run(directories, of, Job::Save(request)) {
            Outcome::Saved { how, snapshot, .. } => (how, snapshot.descriptor.id),
            other => panic!("{other:?}"),
        }
    }
}

fn register(directories: &Directories, workspace: &Path) -> Arc<Registered> {
    let request = RegisterRequest {
        workspace: Some(workspace.to_owned()),
        control: None,
        init: true,
    };
    directories.register(&request).unwrap().directory
}

fn ids(directories: &Directories, of: &Registered) -> Vec<SnapshotId> {
    let history = directories.history(of, None, 1000, true).unwrap();
    history
        .snapshots
        .iter()
        .map(|facts| facts.descriptor.id)
        .collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn registrations_survive_and_a_directory_that_is_away_is_told() {
    let site = Site::new();
    let workspace = site.workspace("w");
    let directories = site.open();
    let plain = RegisterRequest {
        workspace: Some(workspace.clone()),
        ..RegisterRequest::default()
    };
    let error = directories.register(&plain).unwrap_err();
    assert_eq!(
        crate::rpc::directory_errors::api_error(&error).reason,
        Reason::NotARepository
    );
    let first = directories
        .register(&RegisterRequest {
            init: true,
            ..plain.clone()
        })
        .unwrap();
    assert!(first.registered && first.initialized);
    let second = directories.register(&plain).unwrap();
    assert!(!second.registered && !second.initialized);
    assert_eq!(second.directory.id, first.directory.id);
    // A repository elsewhere, found by its control directory alone.
    let other = site.workspace("o");
    let control = site.root().join("control");
    let request = RegisterRequest {
        workspace: Some(other.clone()),
        control: Some(control.clone()),
        init: true,
    };
    assert!(directories.register(&request).unwrap().initialized);
    let by_control = RegisterRequest {
        control: Some(control),
        ..RegisterRequest::default()
    };
    assert!(!directories.register(&by_control).unwrap().registered);
    drop(directories);

    fs::rename(&workspace, site.root().join("moved")).unwrap();
    let directories = site.open();
    directories.resume().unwrap();
    let names: Vec<_> = directories.list().iter().map(|of| of.workspace.clone()).collect();
    assert_eq!(names, [other, workspace.clone()]);
    let below = DirectoryRef::Path(workspace.join("deep/down"));
    let missing = directories.find(&below).unwrap();
    assert_eq!(missing.id, first.directory.id);
    assert_eq!(
        site.failed(&directories, &missing, Job::Save(SaveRequest::default())),
        Reason::WorkspaceMissing
    );
    assert!(
        matches!(missing.condition(), Condition::Missing(_)),
        "{:?}",
        missing.condition()
    );
    // It comes back, and is used again without anybody saying so.
    fs::rename(site.root().join("moved"), &workspace).unwrap();
    site.save(&directories, &missing, None);
    assert_eq!(missing.condition(), Condition::Ready);
    // What was moved for good is registered with its new place; a copy is refused.
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(&workspace)
        .arg(site.root().join("copy"))
        .status();
    assert!(status.unwrap().success());
    let copy = RegisterRequest {
        workspace: Some(site.root().join("copy")),
        ..RegisterRequest::default()
    };
    assert!(matches!(
        directories.register(&copy),
        Err(DirectoriesError::Registered { .. })
    ));
    fs::remove_dir_all(&workspace).unwrap();
    assert!(directories.register(&copy).unwrap().registered);
    let at = DirectoryRef::Path(site.root().join("copy"));
    assert_eq!(directories.unregister(&at).unwrap().id, first.directory.id);
    assert!(matches!(
        directories.find(&at),
        Err(DirectoriesError::NotRegistered { .. })
    ));
    drop(directories);
    assert_eq!(site.open().list().len(), 1);
}

#[test]
fn nothing_outside_of_the_roots_is_touched() {
    let site = Site::new();
    let outside = site.place.path().canonicalize().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, site.root().join("link")).unwrap();
    let workspace = site.workspace("w");
    let directories = site.open();
    let refused = |workspace: &Path, control: Option<PathBuf>| {
        let request = RegisterRequest {
            workspace: Some(workspace.to_owned()),
            control,
            init: true,
        };
        let error = directories.register(&request).unwrap_err();
        assert!(matches!(error, DirectoriesError::NotAllowed { .. }), "{error:?}");
    };
    refused(&outside, None);
    refused(&site.root().join("link"), None);
    refused(&workspace, Some(outside.join("control")));
    refused(&workspace, Some(site.root().join("link/control")));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // What was a directory when it was registered, and is a link now.
    let of = register(&directories, &workspace);
    site.save(&directories, &of, None);
    fs::rename(&workspace, outside.join("w")).unwrap();
    std::os::unix::fs::symlink(outside.join("w"), &workspace).unwrap();
    assert_eq!(
        site.failed(&directories, &of, Job::Save(SaveRequest::default())),
        Reason::DirectoryNotAllowed
    );
    // A fork goes nowhere else either.
    fs::remove_file(&workspace).unwrap();
    fs::rename(outside.join("w"), &workspace).unwrap();
    let fork = ForkRequest {
        snapshot: directories.resolve(&of, "latest").unwrap(),
        workspace: outside.join("fork").into_os_string().into_encoded_bytes(),
        control: None,
        asker: Asker::default(),
    };
    assert!(directories.check_fork(&fork).is_err());
    assert_eq!(
        site.failed(&directories, &of, Job::Fork(fork)),
        Reason::DirectoryNotAllowed
    );
}

#[test]
fn every_kind_of_work_does_what_it_says() {
    let site = Site::new();
    let workspace = site.workspace("w");
    let directories = site.open();
    let of = register(&directories, &workspace);
    let (how, first) = site.save(&directories, &of, Some("k"));
    assert_eq!(how, SavedHow::New);
    assert_eq!(
        site.save(&directories, &of, Some("k")),
        (SavedHow::Existing, first)
    );
    let by_key = directories.snapshot_by_key(&of, "k").unwrap().unwrap();
    assert_eq!(by_key.descriptor.id, first);
    assert_eq!(directories.snapshot_by_key(&of, "other").unwrap(), None);
    let reused = SaveRequest {
        key: Some("k".to_owned()),
        note: "something else".to_owned(),
        ..SaveRequest::default()
    };
    assert_eq!(
        site.failed(&directories, &of, Job::Save(reused)),
        Reason::KeyReused
    );

    fs::write(workspace.join("a"), "two, longer").unwrap();
    let restore = RestoreRequest {
        snapshot: first,
        paths: Vec::new(),
        unsaved: UnsavedChanges::Refuse,
        asker: Asker::default(),
    };
    let (_, plan) = directories
        .plan_restore(&of, &restore, &cairn_snapshot::archive::Progress::new())
        .unwrap();
    assert_eq!((plan.totals.changed, plan.unsaved), (1, 1));
    assert_eq!(
        site.failed(&directories, &of, Job::Restore(restore.clone())),
        Reason::UnsavedChanges
    );
    let restore = RestoreRequest {
        unsaved: UnsavedChanges::Save,
        ..restore
    };
    let Outcome::Restored { safety, totals, .. } = site.run(&directories, &of, Job::Restore(restore)) else {
        panic!("no restore");
    };
    let safety = safety.unwrap().descriptor.id;
    assert_eq!((read(workspace.join("a")), totals.changed), ("one".to_owned(), 1));

    let Outcome::Verified(found) = site.run(&directories, &of, Job::Verify(VerifyRequest::default())) else {
        panic!("nothing verified");
    };
    assert_eq!(found.iter().map(|found| found.damages()).sum::<u64>(), 0);
    assert_eq!(found.len(), 2);
    let status = directories
        .status(&of, true, &cairn_snapshot::archive::Progress::new())
        .unwrap();
    assert_eq!(
        (status.health.verified, status.changes, status.head),
        (2, Some(0), Some(first))
    );

    let labels = LabelsRequest {
        note: Some("said later".to_owned()),
        add_pin: Some(("keep".to_owned(), None)),
        ..LabelsRequest::default()
    };
    let progress = cairn_snapshot::archive::Progress::new();
    let labelled = directories.set_labels(&of, safety, &labels, &progress).unwrap();
    assert_eq!(
        (labelled.snapshot.labels.note.as_str(), labelled.pin),
        ("said later", Some(1))
    );
    let delete = |snapshot| {
        Job::Delete(DeleteRequest {
            snapshot,
            asker: Asker::default(),
        })
    };
    assert_eq!(
        site.failed(&directories, &of, delete(safety)),
        Reason::SnapshotProtected
    );
    let unpin = LabelsRequest {
        remove_pins: vec![1],
        ..LabelsRequest::default()
    };
    let labelled = directories.set_labels(&of, safety, &unpin, &progress).unwrap();
    assert_eq!((labelled.removed_pins, labelled.pin), (vec![1], None));
    assert!(matches!(
        directories.set_labels(&of, safety, &unpin, &progress),
        Err(DirectoriesError::NoPin { number: 1 })
    ));
    let Outcome::Collected { removed, .. } = site.run(&directories, &of, delete(safety)) else {
        panic!("nothing removed");
    };
    assert_eq!((removed, ids(&directories, &of)), (vec![safety], vec![first]));

    let target = site.root().join("fork");
    let fork = ForkRequest {
        snapshot: first,
        workspace: target.clone().into_os_string().into_encoded_bytes(),
        control: None,
        asker: Asker::default(),
    };
    let Outcome::Forked { repository, .. } = site.run(&directories, &of, Job::Fork(fork.clone())) else {
        panic!("no fork");
    };
    assert_eq!(read(target.join("a")), "one");
    let forked = directories.find(&DirectoryRef::Path(target.clone())).unwrap();
    assert_eq!(forked.id, repository);
    let origin = directories.snapshot(&forked, "latest").unwrap().descriptor.origin;
    assert!(matches!(origin, Origin::ForkOf { snapshot, .. } if snapshot == first));
    assert_eq!(
        site.failed(&directories, &of, Job::Fork(fork)),
        Reason::DirectoryOccupied
    );

    // Retention: what a plan says, and a plan that is stale.
    fs::write(of.control.join("config.toml"), "[retention]\nkeep_last = 1").unwrap();
    fs::write(workspace.join("a"), "three").unwrap();
    site.advance(10);
    let (_, second) = site.save(&directories, &of, None);
    let plan = directories
        .plan_collect(&of, &Asker::default(), &progress)
        .unwrap();
    assert_eq!(plan.removed().collect::<Vec<_>>(), [first]);
    let collect = |plan| {
        Job::Collect(CollectRequest {
            plan,
            asker: Asker::default(),
        })
    };
    site.run(&directories, &of, collect(plan.id));
    assert_eq!(ids(&directories, &of), [second]);
    assert_eq!(
        site.failed(&directories, &of, collect(plan.id)),
        Reason::PlanNotFound
    );
    assert_eq!(directories.records.all::<JobRecord>().unwrap(), []);
}

#[test]
fn eight_saves_at_once_are_eight_snapshots() {
    let site = Site::new();
    let workspace = site.workspace("w");
    let directories = site.open();
    let of = register(&directories, &workspace);
    let begun: Vec<_> = (0..8)
        .map(|_| directories.start(&of, Job::Save(SaveRequest::default())).unwrap())
        .collect();
    assert!(begun.iter().all(|(_, new)| *new));
    let made: std::collections::BTreeSet<SnapshotId> = begun
        .iter()
        .map(|(operation, _)| match site.done(operation) {
            Outcome::Saved { snapshot, .. } => snapshot.descriptor.id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((made.len(), ids(&directories, &of).len()), (8, 8));
    // With one key they are one.
    let keyed = || {
        Job::Save(SaveRequest {
            key: Some("k".to_owned()),
            ..SaveRequest::default()
        })
    };
    let begun: Vec<_> = (0..8)
        .map(|_| directories.start(&of, keyed()).unwrap().0)
        .collect();
    begun.iter().for_each(|operation| drop(site.done(operation)));
    assert_eq!(ids(&directories, &of).len(), 9);
    assert_eq!(directories.operations_of(of.id), []);
}

#[test]
fn what_waits_for_its_turn_can_be_cancelled() {
    let site = Site::new();
    let directories = site.open();
    let of = register(&directories, &site.workspace("w"));
    let turn = directories
        .turns
        .take(Some(of.id), &cairn_snapshot::archive::Progress::new())
        .unwrap();
    let (operation, _) = directories.start(&of, Job::Save(SaveRequest::default())).unwrap();
    while !operation.is_waiting() {
        std::thread::yield_now();
    }
    assert!(matches!(
        directories.unregister(&DirectoryRef::Repository(of.id)),
        Err(DirectoriesError::InUse { .. })
    ));
    operation.progress().cancel();
    assert_eq!(site.wait(&operation), State::Cancelled);
    drop(turn);
    assert_eq!(directories.records.all::<JobRecord>().unwrap(), []);
    assert_eq!(ids(&directories, &of), []);
}

#[test]
fn a_stop_puts_work_off_until_the_next_start() {
    let site = Site::new();
    let directories = site.open();
    let of = register(&directories, &site.workspace("w"));
    let turn = directories
        .turns
        .take(Some(of.id), &cairn_snapshot::archive::Progress::new())
        .unwrap();
    let (operation, _) = directories.start(&of, Job::Save(SaveRequest::default())).unwrap();
    assert_eq!(directories.operations.stop(PATIENCE), 0);
    directories.stop();
    match operation.state() {
        State::Failed(error) => assert_eq!(error.reason, Reason::ShuttingDown),
        other => panic!("{other:?}"),
    }
    drop(turn);
    let directories = site.open();
    directories.resume().unwrap();
    let again = directories.operations.find(&operation.id.to_string()).unwrap();
    assert!(again.resumed);
    assert!(matches!(
        site.done(&again),
        Outcome::Saved {
            how: SavedHow::New,
            ..
        }
    ));
    assert_eq!(ids(&directories, &of).len(), 1);
    assert_eq!(directories.records.all::<JobRecord>().unwrap(), []);
}

/// Writes work down as if the process had been killed in it.
fn interrupted(site: &Site, repository: RepositoryId, job: Job) -> OperationId {
    let id = OperationId::random(&SystemRandomness);
    let records = Records::open(&site.place.path().join("directories")).unwrap();
    records
        .store(&JobRecord {
            operation: id.to_string(),
            repository,
            accepted: site.clock.now(),
            job,
        })
        .unwrap();
    id
}

#[test]
fn interrupted_work_is_taken_up_again() {
    let site = Site::new();
    let workspace = site.workspace("w");
    let directories = site.open();
    let of = register(&directories, &workspace);
    let (_, first) = site.save(&directories, &of, None);
    site.advance(5);
    let (_, second) = site.save(&directories, &of, None);
    fs::write(workspace.join("a"), "unsaved").unwrap();
    drop(directories);

    let took_up = |job: Job| {
        let id = interrupted(&site, of.id, job);
        let directories = site.open();
        directories.resume().unwrap();
        let operation = directories.operations.find(&id.to_string()).unwrap();
        let state = site.wait(&operation);
        assert_eq!(directories.records.all::<JobRecord>().unwrap(), [], "{state:?}");
        (directories, operation)
    };
    // A save, before it did anything and after it had made its snapshot: one snapshot either way.
    let (directories, operation) = took_up(Job::Save(SaveRequest::default()));
    let Outcome::Saved { how, snapshot, .. } = site.done(&operation) else {
        panic!("no save");
    };
    assert_eq!((how, ids(&directories, &of).len()), (SavedHow::New, 3));
    let record = JobRecord {
        operation: operation.id.to_string(),
        repository: of.id,
        accepted: operation.started,
        job: Job::Save(SaveRequest::default()),
    };
    directories.records.store(&record).unwrap();
    drop(directories);
    let directories = site.open();
    directories.resume().unwrap();
    let again = directories.operations.find(&operation.id.to_string()).unwrap();
    let Outcome::Saved {
        how, snapshot: same, ..
    } = site.done(&again)
    else {
        panic!("no save");
    };
    assert_eq!((how, same.descriptor.id), (SavedHow::New, snapshot.descriptor.id));
    assert_eq!(ids(&directories, &of).len(), 3);
    drop(directories);

    // A restore that had not begun loses nothing that was written since, whatever it was told.
    fs::write(workspace.join("a"), "written since then").unwrap();
    let (directories, operation) = took_up(Job::Restore(RestoreRequest {
        snapshot: first,
        paths: Vec::new(),
        unsaved: UnsavedChanges::Discard,
        asker: Asker::default(),
    }));
    let Outcome::Restored { safety: Some(_), .. } = site.done(&operation) else {
        panic!("no safety snapshot");
    };
    assert_eq!(read(workspace.join("a")), "one");
    drop(directories);

    // Verifying goes on behind what was read.
    let directories = site.open();
    site.advance(5);
    let one = VerifyRequest {
        snapshots: vec![first],
        bytes_per_second: None,
    };
    site.run(&directories, &of, Job::Verify(one));
    drop(directories);
    let both = VerifyRequest {
        snapshots: vec![first, second],
        bytes_per_second: None,
    };
    let (directories, operation) = took_up(Job::Verify(both));
    let Outcome::Verified(found) = site.done(&operation) else {
        panic!("nothing verified");
    };
    assert_eq!(
        found.iter().map(|found| found.earlier).collect::<Vec<_>>(),
        [true, false]
    );
    drop(directories);

    // Removing what is gone is done; what cannot be taken up again is told.
    let (directories, operation) = took_up(Job::Delete(DeleteRequest {
        snapshot: SnapshotId([9; 16]),
        asker: Asker::default(),
    }));
    assert!(matches!(site.done(&operation), Outcome::Collected { .. }));
    drop(directories);
    let reason = |operation: &Operation| match operation.state() {
        State::Failed(error) => error.reason,
        other => panic!("{other:?}"),
    };
    let plan = cairn_snapshot::repository::OperationId([5; 16]);
    let (directories, operation) = took_up(Job::Collect(CollectRequest {
        plan,
        asker: Asker::default(),
    }));
    assert_eq!(reason(&operation), Reason::Interrupted);
    directories.unregister(&DirectoryRef::Repository(of.id)).unwrap();
    drop(directories);
    let (_, operation) = took_up(Job::Save(SaveRequest::default()));
    assert_eq!(reason(&operation), Reason::Interrupted);
}

#[test]
fn a_fork_that_was_interrupted_begins_anew_and_one_that_was_complete_is_done() {
    let site = Site::new();
    let workspace = site.workspace("w");
    let directories = site.open();
    let of = register(&directories, &workspace);
    let (_, first) = site.save(&directories, &of, None);
    drop(directories);
    let bytes = |path: PathBuf| path.into_os_string().into_encoded_bytes();
    let job = |control: Option<&str>| {
        Job::Fork(ForkRequest {
            snapshot: first,
            workspace: bytes(site.root().join("new")),
            control: control.map(|name| bytes(site.root().join(name))),
            asker: Asker::default(),
        })
    };
    let took_up = |job: Job| {
        let id = interrupted(&site, of.id, job);
        let directories = site.open();
        directories.resume().unwrap();
        let operation = directories.operations.find(&id.to_string()).unwrap();
        site.wait(&operation);
        (directories, operation)
    };
    let forked = |operation: &Operation| match site.done(operation) {
        Outcome::Forked {
            repository, first, ..
        } => (repository, first.descriptor.id),
        other => panic!("{other:?}"),
    };
    let names = || {
        let listed = fs::read_dir(site.root()).unwrap();
        let mut names: Vec<_> = listed.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    // What a kill leaves, as it is called then.
    let partial = site.root().join(".new.cairn-partial");
    fs::create_dir_all(partial.join(".jvs/descriptors")).unwrap();
    fs::write(partial.join("a"), "half").unwrap();
    let (directories, operation) = took_up(job(None));
    let (repository, snapshot) = forked(&operation);
    assert_eq!(
        (names(), read(site.root().join("new/a"))),
        (vec!["new".into(), "w".into()], "one".to_owned())
    );
    // The daemon looks after it, and its end was not written down: it is done, once.
    let record = JobRecord {
        operation: operation.id.to_string(),
        repository: of.id,
        accepted: operation.started,
        job: job(None),
    };
    directories.records.store(&record).unwrap();
    drop(directories);
    let directories = site.open();
    directories.resume().unwrap();
    let again = directories.operations.find(&operation.id.to_string()).unwrap();
    assert_eq!(forked(&again), (repository, snapshot));
    let found = directories
        .find(&DirectoryRef::Path(site.root().join("new")))
        .unwrap();
    assert_eq!(
        (found.id, ids(&directories, &found)),
        (repository, vec![snapshot])
    );
    directories
        .unregister(&DirectoryRef::Repository(repository))
        .unwrap();
    drop(directories);
    // Another fork does not take that one for its own.
    let (directories, operation) = took_up(job(None));
    match operation.state() {
        State::Failed(error) => assert_eq!(error.reason, Reason::Interrupted),
        other => panic!("{other:?}"),
    }
    drop(directories);

    // With its control directory elsewhere, killed before it had its name.
    fs::remove_dir_all(site.root().join("new")).unwrap();
    let (directories, operation) = took_up(job(Some("control")));
    let (repository, _) = forked(&operation);
    directories
        .unregister(&DirectoryRef::Repository(repository))
        .unwrap();
    drop(directories);
    fs::rename(site.root().join("new"), &partial).unwrap();
    let (directories, operation) = took_up(job(Some("control")));
    let (later, snapshot) = forked(&operation);
    assert_ne!(later, repository);
    let all: Vec<std::ffi::OsString> = vec!["control".into(), "new".into(), "w".into()];
    assert_eq!(names(), all);
    let found = directories
        .find(&DirectoryRef::Path(site.root().join("new")))
        .unwrap();
    assert_eq!((found.id, ids(&directories, &found)), (later, vec![snapshot]));
    site.save(&directories, &found, None);
    directories.unregister(&DirectoryRef::Repository(later)).unwrap();
    drop(directories);
    // One that somebody has worked in since is never removed.
    fs::rename(site.root().join("new"), &partial).unwrap();
    let (_, operation) = took_up(job(Some("control")));
    assert!(matches!(operation.state(), State::Failed(_)));
    assert!(site.root().join("control/format_version").exists());
}
