//! A node in memory, and the operations of the tests on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_content::log::LogSettings;
use cairn_content::log::testing::MemoryStore;
use cairn_metadata::engine::Engine;
use cairn_metadata::engine::memory::MemoryEngine;
use cairn_types::{Clock, ExportPolicy, Randomness, SnapshotReference, Timestamp, WorkspaceName};
use cairn_vfs::control::{NewSnapshot, NewWorkspace, Snapshot};
use cairn_vfs::filesystem::{Caller, CreateMode, ObjectId, SetAttributes, SpecialFile, Stability};
use cairn_vfs::{Error, FileSystem, Pending, SnapshotReader, Volumes, VolumesParts, VolumesSettings};

/// A clock that moves a microsecond with every look, and by leaps when told to.
pub struct Ticks(pub AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        let ticks = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::new(
            1_700_000_000 + (ticks / 1_000_000) as i64,
            (ticks % 1_000_000) as u32 * 1000,
        )
    }
}

/// xorshift64*: enough chance for tests, and the same each time.
pub struct Chance(AtomicU64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1))
    }

    pub fn next(&self) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.store(x, Ordering::Relaxed);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&self, bound: u64) -> u64 {
        (self.next() >> 8) % bound
    }

    pub fn bytes(&self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

impl Randomness for Chance {
    fn fill(&self, buffer: &mut [u8]) {
        buffer
            .iter_mut()
            .for_each(|byte| *byte = (self.next() >> 20) as u8);
    }
}

pub struct Node {
    pub engine: Arc<MemoryEngine>,
    pub store: MemoryStore,
    clock: Arc<Ticks>,
    pub volumes: Arc<Volumes>,
}

pub fn name(text: &str) -> WorkspaceName {
    WorkspaceName::new(text).unwrap()
}

pub fn caller() -> Caller {
    Caller {
        uid: 0,
        gid: 0,
        groups: Arc::new([]),
    }
}

pub fn wait<T>(pending: Pending<T>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(pending.durable())
}

pub fn settings() -> VolumesSettings {
    VolumesSettings {
        log: LogSettings {
            segment_bytes: 2 << 20,
            payload_bytes_max: 64 << 10,
            ..LogSettings::default()
        },
        disk_reserve_bytes: 0,
        flush_interval: Duration::from_secs(3600),
        ..VolumesSettings::default()
    }
}

impl Node {
    pub fn open(engine: MemoryEngine, store: MemoryStore, seed: u64) -> Node {
        let engine = Arc::new(engine);
        let clock = Arc::new(Ticks(AtomicU64::new(seed * 10_000_000)));
        let parts = VolumesParts {
            engine: engine.clone(),
            segments: Arc::new(store.clone()),
            clock: clock.clone(),
            randomness: Arc::new(Chance::new(seed)),
        };
        let volumes = Volumes::open(parts, settings()).unwrap();
        Node {
            engine,
            store,
            clock,
            volumes,
        }
    }

    pub fn fresh(seed: u64) -> Node {
        Node::open(MemoryEngine::new(), MemoryStore::new(), seed)
    }

    /// What the disk has when the power goes now.
    pub fn power_cut(self, seed: u64) -> Node {
        let (engine, store) = (self.engine.power_cut(), self.store.power_cut(seed));
        Node::open(engine, store, seed)
    }

    /// The node after an orderly stop.
    pub fn reopen(self) -> Node {
        let (engine, store) = ((*self.engine).clone(), self.store.clone());
        let seed = self.clock.0.load(Ordering::Relaxed) / 10_000_000 + 1;
        drop(self);
        Node::open(engine, store, seed)
    }

    /// Moves the clock on.
    pub fn leap(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    pub fn make_workspace(&self, workspace: &str) {
        let new = NewWorkspace {
            name: name(workspace),
            policy: ExportPolicy::default(),
            uid: 0,
            gid: 0,
            mode: 0o755,
        };
        self.volumes.create_workspace(new).unwrap();
    }

    pub fn root(&self, workspace: &str) -> ObjectId {
        self.volumes
            .mount(format!("/{workspace}").as_bytes())
            .unwrap()
            .object
    }

    pub fn find(&self, directory: ObjectId, file: &str) -> Option<ObjectId> {
        let found = self.volumes.lookup(&caller(), directory, file.as_bytes());
        found.ok().map(|found| found.attributes.object)
    }

    pub fn create(&self, directory: ObjectId, file: &str) -> ObjectId {
        let mode = CreateMode::Guarded(SetAttributes::default());
        let made = self
            .volumes
            .create(&caller(), directory, file.as_bytes(), mode, &|_| None);
        wait(made.unwrap()).unwrap().attributes.object
    }

    pub fn mkdir(&self, directory: ObjectId, file: &str) -> ObjectId {
        let set = SetAttributes::default();
        let made = self
            .volumes
            .mkdir(&caller(), directory, file.as_bytes(), set, &|_| None);
        wait(made.unwrap()).unwrap().attributes.object
    }

    pub fn symlink(&self, directory: ObjectId, file: &str, target: &[u8]) -> ObjectId {
        let set = SetAttributes::default();
        let made = self
            .volumes
            .symlink(&caller(), directory, file.as_bytes(), target, set, &|_| None);
        wait(made.unwrap()).unwrap().attributes.object
    }

    pub fn mknod(&self, directory: ObjectId, file: &str, special: SpecialFile) -> ObjectId {
        let set = SetAttributes::default();
        let made = self
            .volumes
            .mknod(&caller(), directory, file.as_bytes(), special, set, &|_| None);
        wait(made.unwrap()).unwrap().attributes.object
    }

    pub fn link(&self, object: ObjectId, directory: ObjectId, file: &str) {
        let made = self
            .volumes
            .link(&caller(), object, directory, file.as_bytes(), &|_| None);
        wait(made.unwrap()).unwrap();
    }

    pub fn rename(&self, from: (ObjectId, &str), to: (ObjectId, &str)) {
        let (from, to) = ((from.0, from.1.as_bytes()), (to.0, to.1.as_bytes()));
        wait(self.volumes.rename(&caller(), from, to, &|_| None).unwrap()).unwrap();
    }

    pub fn remove(&self, directory: ObjectId, file: &str) {
        let removed = self
            .volumes
            .remove(&caller(), directory, file.as_bytes(), &|_| None);
        wait(removed.unwrap()).unwrap();
    }

    pub fn write(&self, object: ObjectId, offset: u64, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        let written = self
            .volumes
            .write(&caller(), object, offset, data, Stability::Unstable);
        wait(written.unwrap()).unwrap();
    }

    pub fn set(&self, object: ObjectId, set: SetAttributes) {
        wait(
            self.volumes
                .setattr(&caller(), object, set, None, &|_| None)
                .unwrap(),
        )
        .unwrap();
    }

    pub fn set_size(&self, object: ObjectId, size: u64) {
        let set = SetAttributes {
            size: Some(size),
            ..SetAttributes::default()
        };
        self.set(object, set);
    }

    pub fn content(&self, object: ObjectId) -> Vec<u8> {
        let size = self.volumes.getattr(object).unwrap().size;
        let mut content = Vec::new();
        while (content.len() as u64) < size {
            let read = self
                .volumes
                .read(&caller(), object, content.len() as u64, 1 << 20)
                .unwrap();
            read.pieces
                .iter()
                .for_each(|piece| content.extend_from_slice(piece));
        }
        content
    }

    pub fn snapshot(&self, workspace: &str) -> Snapshot {
        self.volumes
            .snapshot(&name(workspace), NewSnapshot::default())
            .unwrap()
    }

    pub fn reader(&self, workspace: &str, snapshot: &Snapshot) -> SnapshotReader {
        let reference = SnapshotReference::parse(&snapshot.id.to_string()).unwrap();
        self.volumes.open_snapshot(&name(workspace), &reference).unwrap()
    }

    /// How many keys there are of a family.
    pub fn keys(&self, family: u8) -> usize {
        self.engine.scan(&[family], &[family + 1], 65_536).unwrap().len()
    }
}

/// Fills a workspace with every kind of object. Tells the root.
pub fn fill(node: &Node, workspace: &str, chance: &Chance) -> ObjectId {
    let root = node.root(workspace);
    let directory = node.mkdir(root, "directory");
    let below = node.mkdir(directory, "below");
    let empty = node.create(root, "empty");
    let small = node.create(directory, "small");
    node.write(small, 0, b"a few bytes");
    node.link(small, root, "also small");
    node.link(small, below, "small, too");
    let large = node.create(below, "large");
    node.write(large, 0, &chance.bytes(700_000));
    node.write(large, 300_000, &chance.bytes(5000));
    node.link(large, directory, "large");
    let holes = node.create(root, "holes");
    node.write(holes, 10_000, &chance.bytes(3));
    node.write(holes, 1_000_000, &chance.bytes(70_000));
    node.set_size(holes, 5_000_000);
    let nothing = node.create(root, "nothing but zeros");
    node.set_size(nothing, 3 << 20);
    let begun = node.create(root, "small with zeros behind");
    node.write(begun, 5, b"x");
    node.set_size(begun, 100_000);
    node.symlink(root, "link", b"directory/small");
    node.symlink(below, "dangling", &[b'x'; 1024]);
    node.mknod(root, "fifo", SpecialFile::Fifo);
    node.mknod(root, "socket", SpecialFile::Socket);
    let device = cairn_types::DeviceNumber { major: 8, minor: 17 };
    node.mknod(directory, "disk", SpecialFile::BlockDevice(device));
    node.mknod(directory, "terminal", SpecialFile::CharacterDevice(device));
    node.create(root, std::str::from_utf8(&[b'n'; 255]).unwrap());
    // A directory whose parent has a higher number than itself.
    let late = node.mkdir(root, "late");
    node.rename((directory, "below"), (late, "moved"));
    let many = node.mkdir(late, "many");
    for number in 0..700 {
        let file = node.create(many, &format!("file {number}"));
        if number % 7 == 0 {
            node.write(file, 0, &chance.bytes(1 + number));
        }
    }
    let set = SetAttributes {
        mode: Some(0o4711),
        uid: Some(1000),
        gid: Some(100),
        ..SetAttributes::default()
    };
    node.set(empty, set);
    node.set(late, set);
    root
}
