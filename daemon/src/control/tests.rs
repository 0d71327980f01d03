//! Fences, the life of keys, and what is finished at the start, on volumes whose metadata is in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use cairn_content::log::{DirectoryStore, LogSettings};
use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::store::LedgerEntry;
use cairn_metadata::{LedgerKind, LedgerPhase};
use cairn_types::{Clock, ExportPolicy, SnapshotReference, Timestamp, WorkspaceName};
use cairn_vfs::control::{LabelChanges, NewPin};
use cairn_vfs::{Volumes, VolumesParts, VolumesSettings};
use tempfile::TempDir;

use super::{
    Backing, CLUSTERS_MAX, Capacity, Control, ControlParts, Draining, Fence, Key, ManagedState, Refused,
    SnapshotRequest, SnapshotWhich, TOMBSTONE_SECONDS, WorkspaceRequest,
};
use crate::operations::Operations;
use crate::system::SystemRandomness;

/// A clock that stands still until it is set.
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.0.load(Ordering::SeqCst), 0)
    }
}

struct Bench {
    clock: Arc<Hands>,
    engine: MemoryEngine,
    segments: TempDir,
}

impl Bench {
    fn new() -> Self {
        Bench {
            clock: Arc::new(Hands(AtomicI64::new(1_000_000))),
            engine: MemoryEngine::new(),
            segments: tempfile::tempdir().unwrap(),
        }
    }

    /// The control of a process that starts now; the one before must be gone.
    fn start(&self) -> (Control, Arc<Volumes>) {
        let parts = VolumesParts {
            engine: Arc::new(self.engine.clone()),
            segments: Arc::new(DirectoryStore::open(self.segments.path()).unwrap()),
            clock: self.clock.clone(),
            randomness: Arc::new(SystemRandomness),
        };
        let settings = VolumesSettings {
            log: LogSettings {
                segment_bytes: 8 << 20,
                ..LogSettings::default()
            },
            disk_reserve_bytes: 0,
            ..VolumesSettings::default()
        };
        let volumes = Volumes::open(parts, settings).unwrap();
        let control = Control::open(ControlParts {
            volumes: Arc::clone(&volumes),
            directories: None,
            operations: Operations::new(self.clock.clone(), Arc::new(SystemRandomness)),
            clock: self.clock.clone(),
            instance: "this".to_owned(),
            draining: Arc::new(Draining::default()),
        });
        (control.unwrap(), volumes)
    }

    fn pass(&self, seconds: i64) {
        self.clock.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

fn key(text: &str) -> Key {
    Key::parse("key", text).unwrap()
}

fn name(text: &str) -> WorkspaceName {
    WorkspaceName::new(text).unwrap()
}

fn workspace(of: &str, called: &str) -> WorkspaceRequest {
    WorkspaceRequest {
        key: key(of),
        name: name(called),
        backing: Backing::Volume,
        uid: 0,
        gid: 0,
        mode: 0o755,
        capacity: Capacity::default(),
        export: ExportPolicy::default(),
        labels: Default::default(),
        source: None,
        adopt: false,
    }
}

fn snapshot(of: &str, in_workspace: &str) -> SnapshotRequest {
    SnapshotRequest {
        key: key(of),
        workspace: name(in_workspace),
        owner: None,
        note: String::new(),
        tags: Vec::new(),
        engine: String::new(),
        template: String::new(),
        paths: Vec::new(),
        compression: String::new(),
        compression_level: 0,
        verify: false,
    }
}

fn fence(cluster: &str, generation: u64) -> Fence {
    Fence {
        cluster: cluster.to_owned(),
        generation,
        instance: String::new(),
    }
}

#[test]
fn keys_of_deleted_things_are_forgotten_after_their_time_and_no_others() {
    let bench = Bench::new();
    let (control, _volumes) = bench.start();
    for (of, called) in [("w1", "a"), ("w2", "b")] {
        control.ensure_workspace(&workspace(of, called)).unwrap();
    }
    control.ensure_snapshot(&snapshot("s1", "a")).unwrap();
    control.ensure_snapshot(&snapshot("s2", "b")).unwrap();
    control.delete_workspace(&key("w1"), true).unwrap();
    assert!(!control.upkeep().unwrap());
    // The snapshot went with its workspace.
    let gone = control.ensure_snapshot(&snapshot("s1", "a")).unwrap_err();
    assert!(matches!(gone, Refused::KeyDeleted { .. }), "{gone}");
    bench.pass(TOMBSTONE_SECONDS);
    control.upkeep().unwrap();
    assert_eq!(control.ledger().len(), 4);
    bench.pass(1);
    control.upkeep().unwrap();
    assert_eq!(control.ledger().len(), 2);
    // Whatever is there is remembered for ever.
    bench.pass(100 * TOMBSTONE_SECONDS);
    control.upkeep().unwrap();
    assert!(!control.ensure_workspace(&workspace("w2", "b")).unwrap().created);
    assert!(!control.ensure_snapshot(&snapshot("s2", "b")).unwrap().created);
    // And after so long, a key may even be used again.
    assert!(control.ensure_workspace(&workspace("w1", "a")).unwrap().created);
}

#[test]
fn what_was_given_up_before_it_was_asked_for_is_not_made_by_a_late_request() {
    let bench = Bench::new();
    let (control, volumes) = bench.start();
    control.ensure_workspace(&workspace("w", "a")).unwrap();
    assert!(control.delete_snapshot(&SnapshotWhich::Key(key("s"))).unwrap());
    assert!(control.delete_workspace(&key("v"), true).unwrap());
    assert!(control.release_workspace(&key("u")).unwrap());
    drop(control);
    drop(volumes);
    let (control, volumes) = bench.start();
    for late in [
        control.ensure_snapshot(&snapshot("s", "a")).unwrap_err(),
        control.ensure_workspace(&workspace("v", "b")).unwrap_err(),
        control.ensure_workspace(&workspace("u", "c")).unwrap_err(),
    ] {
        assert!(matches!(late, Refused::KeyDeleted { .. }), "{late}");
    }
    assert!(volumes.history(&name("a")).unwrap().is_empty());
    // That, too, is forgotten in the end.
    bench.pass(TOMBSTONE_SECONDS + 1);
    control.upkeep().unwrap();
    assert_eq!(control.ledger().len(), 1);
}

#[test]
fn deletions_that_were_written_down_are_finished_at_the_start() {
    let bench = Bench::new();
    let (control, volumes) = bench.start();
    control.ensure_workspace(&workspace("w", "a")).unwrap();
    let free = control
        .ensure_snapshot(&snapshot("free", "a"))
        .unwrap()
        .now
        .id
        .unwrap();
    let pinned = control
        .ensure_snapshot(&snapshot("pinned", "a"))
        .unwrap()
        .now
        .id
        .unwrap();
    let changes = LabelChanges {
        pin: Some(NewPin {
            reason: String::new(),
            expires: None,
        }),
        ..LabelChanges::default()
    };
    let reference = SnapshotReference::parse(&pinned.to_string()).unwrap();
    volumes.set_labels(&name("a"), &reference, changes).unwrap();
    for of in ["free", "pinned"] {
        let mut record = volumes.ledger_record(of).unwrap().unwrap();
        record.phase = LedgerPhase::Deleting;
        let entry = LedgerEntry {
            key: of.to_owned(),
            record,
        };
        volumes.put_ledger(&entry).unwrap();
    }
    drop(control);
    drop(volumes);
    let (control, volumes) = bench.start();
    assert_eq!(
        control.snapshot(&key("free")).unwrap().state,
        ManagedState::Deleted
    );
    assert!(volumes.snapshot_of(free).unwrap().is_none());
    // What has got a user meanwhile stays.
    assert_eq!(
        control.snapshot(&key("pinned")).unwrap().state,
        ManagedState::Ready
    );
    assert!(volumes.snapshot_of(pinned).unwrap().is_some());
    let refused = control
        .delete_snapshot(&SnapshotWhich::Key(key("pinned")))
        .unwrap_err();
    assert!(matches!(refused, Refused::Volumes(_)), "{refused}");
    assert_eq!(
        control.snapshot(&key("pinned")).unwrap().state,
        ManagedState::Ready
    );
}

#[test]
fn a_generation_holds_before_its_request_has_an_effect() {
    let bench = Bench::new();
    let (control, volumes) = bench.start();
    let broken = control.led(&fence("c", 3), |_| {
        // What the request finds in the store.
        assert_eq!(volumes.generations().unwrap(), [("c".to_owned(), 3)]);
        Err::<(), _>(Refused::Draining)
    });
    assert!(broken.is_err());
    let fenced = control.led(&fence("c", 2), |_| -> Result<(), Refused> {
        panic!("it is fenced off")
    });
    assert!(matches!(fenced, Err(Refused::Fenced { greatest: 3, .. })));
    bench.engine.fail_next_write();
    let failed = control.led(&fence("c", 4), |_| -> Result<(), Refused> {
        panic!("it is not durable")
    });
    assert!(matches!(failed, Err(Refused::Volumes(_))));
}

#[test]
fn a_greater_generation_waits_for_requests_of_smaller_ones() {
    let bench = Bench::new();
    let (control, _volumes) = bench.start();
    let control = Arc::new(control);
    let (entered, enter) = std::sync::mpsc::sync_channel(1);
    let (leave, left) = std::sync::mpsc::sync_channel::<()>(1);
    let old = Arc::clone(&control);
    let running = std::thread::spawn(move || {
        old.led(&fence("c", 1), |control| {
            entered.send(()).unwrap();
            left.recv().unwrap();
            control.ensure_workspace(&workspace("old", "old"))
        })
    });
    enter.recv().unwrap();
    let new = Arc::clone(&control);
    let taking_over =
        std::thread::spawn(move || new.led(&fence("c", 2), |control| control.workspace(&key("old"))));
    leave.send(()).unwrap();
    running.join().unwrap().unwrap();
    // It has seen everything that was done before it.
    assert_eq!(taking_over.join().unwrap().unwrap().state, ManagedState::Ready);
}

#[test]
fn clusters_are_bounded() {
    let bench = Bench::new();
    let (control, _volumes) = bench.start();
    for number in 0..CLUSTERS_MAX {
        control.led(&fence(&format!("c{number}"), 1), |_| Ok(())).unwrap();
    }
    let more = control.led(&fence("more", 1), |_| Ok(()));
    assert!(matches!(more, Err(Refused::TooManyClusters { .. })));
    control.led(&fence("c0", 2), |_| Ok(())).unwrap();
}

#[test]
fn concurrent_requests_of_one_key_do_it_once() {
    let bench = Bench::new();
    let (control, volumes) = bench.start();
    control.ensure_workspace(&workspace("w", "a")).unwrap();
    let created: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| control.ensure_snapshot(&snapshot("s", "a")).unwrap().created))
            .collect();
        threads
            .into_iter()
            .map(|thread| usize::from(thread.join().unwrap()))
            .sum()
    });
    assert_eq!((created, volumes.history(&name("a")).unwrap().len()), (1, 1));
    let record = volumes.ledger_record("s").unwrap().unwrap();
    assert_eq!(
        (record.kind, record.phase),
        (LedgerKind::Snapshot, LedgerPhase::Done)
    );
}
