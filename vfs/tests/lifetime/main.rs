//! What comes back when snapshots are deleted, and what a workspace may hold, also after a power cut.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod capacity;
mod deletion;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_content::log::LogSettings;
use cairn_content::log::testing::MemoryStore;
use cairn_metadata::engine::memory::MemoryEngine;
use cairn_types::{Clock, ExportPolicy, Randomness, SnapshotReference, Timestamp, WorkspaceName};
use cairn_vfs::control::{NewSnapshot, NewWorkspace, Snapshot};
use cairn_vfs::filesystem::{Caller, CreateMode, ObjectId, SetAttributes, Stability};
use cairn_vfs::{Error, FileSystem, Pending, Volumes, VolumesParts, VolumesSettings};

/// A clock that moves a second with every look.
struct Seconds(AtomicU64);

impl Clock for Seconds {
    fn now(&self) -> Timestamp {
        Timestamp::new(self.0.fetch_add(1, Ordering::Relaxed) as i64, 0)
    }
}

/// A counter: enough for ids that differ.
struct Counter(AtomicU64);

impl Randomness for Counter {
    fn fill(&self, buffer: &mut [u8]) {
        let next = self.0.fetch_add(1, Ordering::Relaxed);
        let mixed = next.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        buffer
            .iter_mut()
            .zip(mixed.iter().cycle())
            .for_each(|(to, from)| *to = *from);
    }
}

struct Node {
    engine: MemoryEngine,
    store: MemoryStore,
    volumes: Arc<Volumes>,
}

impl Node {
    fn open(engine: MemoryEngine, store: MemoryStore, seed: u64) -> Node {
        let settings = VolumesSettings {
            log: LogSettings {
                segment_bytes: 1 << 20,
                payload_bytes_max: 500_000,
                ..LogSettings::default()
            },
            disk_reserve_bytes: 0,
            flush_interval: Duration::from_secs(3600),
            sweep_interval: Duration::from_secs(3600),
            ..VolumesSettings::default()
        };
        let parts = VolumesParts {
            engine: Arc::new(engine.clone()),
            segments: Arc::new(store.clone()),
            clock: Arc::new(Seconds(AtomicU64::new(1_700_000_000 + 1_000_000 * seed))),
            randomness: Arc::new(Counter(AtomicU64::new(1 + (seed << 32)))),
        };
        Node {
            volumes: Volumes::open(parts, settings).unwrap(),
            engine,
            store,
        }
    }

    fn fresh() -> Node {
        let node = Node::open(MemoryEngine::new(), MemoryStore::new(), 0);
        node.volumes.create_workspace(new_workspace("w")).unwrap();
        node
    }

    /// What the disk has when the power goes now.
    fn power_cut(&self, seed: u64) -> Node {
        Node::open(self.engine.power_cut(), self.store.power_cut(seed), seed)
    }

    fn root(&self, workspace: &str) -> ObjectId {
        let path = format!("/{workspace}");
        self.volumes.mount(path.as_bytes()).unwrap().object
    }

    fn create(&self, file: &str) -> Result<ObjectId, Error> {
        let mode = CreateMode::Guarded(SetAttributes::default());
        let made = self
            .volumes
            .create(&caller(), self.root("w"), file.as_bytes(), mode, &|_| None)?;
        Ok(wait(made).attributes.object)
    }

    fn write(&self, object: ObjectId, offset: u64, length: usize) -> Result<(), Error> {
        let data = Bytes::from(vec![offset as u8 | 1; length]);
        let written = self
            .volumes
            .write(&caller(), object, offset, data, Stability::Unstable)?;
        assert_eq!(wait(written).count as usize, length);
        Ok(())
    }

    fn set_size(&self, object: ObjectId, size: u64) -> Result<(), Error> {
        let set = SetAttributes {
            size: Some(size),
            ..SetAttributes::default()
        };
        let changed = self.volumes.setattr(&caller(), object, set, None, &|_| None)?;
        wait(changed);
        Ok(())
    }

    fn remove(&self, file: &str) {
        let removed = self
            .volumes
            .remove(&caller(), self.root("w"), file.as_bytes(), &|_| None);
        wait(removed.unwrap());
    }

    fn snapshot(&self) -> Snapshot {
        self.volumes.snapshot(&name("w"), NewSnapshot::default()).unwrap()
    }

    /// Inodes and bytes.
    fn usage(&self) -> (u64, u64) {
        let workspace = self.volumes.workspace(&name("w")).unwrap();
        (workspace.inodes, workspace.bytes)
    }

    /// The figure is what is there.
    fn check(&self) {
        let usage = self.usage();
        let check = self.volumes.check_usage(&name("w")).unwrap();
        assert_eq!(check.recorded, check.counted);
        assert_eq!((check.counted.inodes, check.counted.bytes), usage);
    }
}

fn new_workspace(text: &str) -> NewWorkspace {
    NewWorkspace {
        name: name(text),
        policy: ExportPolicy::default(),
        uid: 0,
        gid: 0,
        mode: 0o755,
    }
}

fn name(text: &str) -> WorkspaceName {
    WorkspaceName::new(text).unwrap()
}

fn reference(snapshot: &Snapshot) -> SnapshotReference {
    SnapshotReference::parse(&snapshot.id.to_string()).unwrap()
}

fn caller() -> Caller {
    Caller {
        uid: 0,
        gid: 0,
        groups: Arc::new([]),
    }
}

fn wait<T>(pending: Pending<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(pending.durable()).unwrap()
}
