//! What the tests work with: clocks that the test sets, and repositories in directories that go away.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use cairn_snapshot::directory::Digest;
use cairn_snapshot::repository::{
    Counts, Descriptor, EngineUse, Host, Lease, LeaseTimes, Losses, ManifestFile, Origin, Parts, Repository,
    SystemTicks, Torn,
};
use cairn_types::{Clock, Randomness, SnapshotId, Timestamp};

/// A wall clock that the test sets.
#[derive(Debug)]
pub struct TestClock(pub AtomicI64);

impl TestClock {
    /// 2026-11-21T00:00:00Z.
    pub const START: i64 = 1_795_219_200;
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.0.load(Ordering::Relaxed), 0)
    }
}

/// The randomness of the machine.
pub struct TestRandomness;

impl Randomness for TestRandomness {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).unwrap();
    }
}

/// Times that let tests be quick, and leave a busy machine time enough.
pub const QUICK: LeaseTimes = LeaseTimes {
    renew_every: Duration::from_millis(100),
    expire_after: Duration::from_secs(15),
    poll_every: Duration::from_millis(5),
};

/// Parts with a clock that the test sets.
pub fn parts_with(clock: Arc<TestClock>) -> Parts {
    Parts {
        clock,
        randomness: Arc::new(TestRandomness),
        ticks: Arc::new(SystemTicks::new()),
        host: Host::detect().unwrap(),
        actor: "tester".to_owned(),
        lease_times: QUICK,
        runtime: None,
    }
}

/// Parts with a clock that stands.
pub fn parts() -> Parts {
    parts_with(Arc::new(TestClock(AtomicI64::new(TestClock::START))))
}

/// A directory that goes away, by its path without symbolic links.
pub fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    (directory, path)
}

/// A repository whose control directory is in its workspace.
pub struct Site {
    pub repository: Repository,
    pub path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Site {
        let (directory, path) = temporary();
        let repository = Repository::init(&path, None, parts()).unwrap();
        Site {
            repository,
            path,
            _directory: directory,
        }
    }

    pub fn control(&self) -> PathBuf {
        self.path.join(".jvs")
    }

    pub fn lease(&self) -> Lease {
        lease(&self.repository, Duration::from_secs(60))
    }

    /// Publishes a snapshot as a save does, and gives it.
    pub fn publish(&self, change: impl FnOnce(&mut Descriptor)) -> Descriptor {
        let lease = self.lease();
        let state = self.repository.state().unwrap();
        let mut descriptor = descriptor(self.repository.new_snapshot_id(), state.sequence + 1);
        descriptor.parent = state.last;
        descriptor.fence = lease.token();
        change(&mut descriptor);
        self.repository.publish(&lease, &descriptor).unwrap();
        self.repository
            .set_state(&lease, &state.after(&descriptor))
            .unwrap();
        lease.release().unwrap();
        descriptor
    }
}

/// The lease of a repository.
pub fn lease(repository: &Repository, wait: Duration) -> Lease {
    repository.lease("test", wait, &AtomicBool::new(false)).unwrap()
}

/// A descriptor with something in every field that need not be empty.
pub fn descriptor(id: SnapshotId, sequence: u64) -> Descriptor {
    let now = Timestamp::new(TestClock::START + sequence as i64, 0);
    Descriptor {
        id,
        sequence,
        fence: 1,
        parent: None,
        created: now,
        capture_begun: now,
        capture_ended: now,
        note: format!("number {sequence}"),
        tags: Default::default(),
        template: None,
        engine: EngineUse {
            requested: None,
            used: "copy".to_owned(),
            degraded: Vec::new(),
        },
        counts: Counts {
            entries: 3,
            files: 1,
            directories: 2,
            symlinks: 0,
            special: 0,
            links: 0,
            bytes: 1000,
            unhashed: 0,
        },
        paths: None,
        tree_hash: Some(Digest([7; 32])),
        manifest: ManifestFile {
            hash: Digest([8; 32]),
            length: 500,
        },
        losses: Losses::default(),
        torn: Torn::default(),
        vanished: 0,
        origin: Origin::Requested,
        restored_from: None,
        key: None,
        actor: "tester".to_owned(),
        host: Host {
            name: "node".to_owned(),
            boot: "boot".to_owned(),
            namespaces: "pid:[1]".to_owned(),
            pid: 1,
            started: 1,
        },
    }
}
