//! What a power cut may take: everything that was waited for must be there after it, and nothing that never was.
//!
//! The node runs on the in-memory engine and the in-memory segment store, both of which keep, when cut, exactly what was
//! durable (the segment store also any part of what was not).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_content::log::LogSettings;
use cairn_content::log::testing::MemoryStore;
use cairn_metadata::engine::memory::MemoryEngine;
use cairn_types::{Clock, ExportPolicy, Randomness, SnapshotReference, Timestamp, WorkspaceName};
use cairn_vfs::control::{NewSnapshot, NewWorkspace};
use cairn_vfs::filesystem::{Caller, CreateMode, ObjectId, SetAttributes, Stability};
use cairn_vfs::{Error, FileSystem, Pending, Volumes, VolumesParts, VolumesSettings};

/// A clock that moves a microsecond with every look.
struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        let ticks = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::new(1_700_000_000, 0).max(Timestamp::new(
            1_700_000_000 + (ticks / 1_000_000) as i64,
            (ticks % 1_000_000) as u32 * 1000,
        ))
    }
}

/// xorshift64*: enough chance for tests, and the same each time.
struct Chance(AtomicU64);

impl Chance {
    fn next(&self) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.store(x, Ordering::Relaxed);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }
}

impl Randomness for Chance {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.iter_mut().for_each(|byte| *byte = self.next() as u8);
    }
}

struct Node {
    engine: Arc<MemoryEngine>,
    store: MemoryStore,
    volumes: Arc<Volumes>,
}

impl Node {
    fn open(engine: MemoryEngine, store: MemoryStore, seed: u64) -> Node {
        let engine = Arc::new(engine);
        let settings = VolumesSettings {
            log: LogSettings {
                segment_bytes: 8 << 20,
                ..LogSettings::default()
            },
            disk_reserve_bytes: 0,
            flush_interval: Duration::from_secs(3600),
            ..VolumesSettings::default()
        };
        let parts = VolumesParts {
            engine: engine.clone(),
            segments: Arc::new(store.clone()),
            clock: Arc::new(Ticks(AtomicU64::new(seed.wrapping_mul(1_000_000) % (1 << 40)))),
            randomness: Arc::new(Chance(AtomicU64::new(seed | 1))),
        };
        let volumes = Volumes::open(parts, settings).unwrap();
        Node {
            engine,
            store,
            volumes,
        }
    }

    fn fresh(seed: u64) -> Node {
        let node = Node::open(MemoryEngine::new(), MemoryStore::new(), seed);
        let new = NewWorkspace {
            name: name("w"),
            policy: ExportPolicy::default(),
            uid: 0,
            gid: 0,
            mode: 0o755,
        };
        node.volumes.create_workspace(new).unwrap();
        node
    }

    /// What the disk has when the power goes now.
    fn power_cut(self, seed: u64) -> Node {
        let (engine, store) = (self.engine.power_cut(), self.store.power_cut(seed));
        Node::open(engine, store, seed)
    }

    fn root(&self) -> ObjectId {
        self.volumes.mount(b"/w").unwrap().object
    }

    fn find(&self, file: &str) -> Result<ObjectId, Error> {
        let found = self.volumes.lookup(&caller(), self.root(), file.as_bytes())?;
        Ok(found.attributes.object)
    }

    fn content(&self, object: ObjectId) -> Vec<u8> {
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
}

fn name(text: &str) -> WorkspaceName {
    WorkspaceName::new(text).unwrap()
}

fn caller() -> Caller {
    Caller {
        uid: 0,
        gid: 0,
        groups: Arc::new([]),
    }
}

fn wait<T>(pending: Pending<T>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(pending.durable())
}

fn create(node: &Node, file: &str) -> ObjectId {
    let mode = CreateMode::Guarded(SetAttributes::default());
    let pending = node
        .volumes
        .create(&caller(), node.root(), file.as_bytes(), mode, &|_| None)
        .unwrap();
    wait(pending).unwrap().attributes.object
}

fn write(node: &Node, object: ObjectId, offset: u64, data: &[u8], stability: Stability) {
    let data = Bytes::copy_from_slice(data);
    let length = data.len();
    let written = wait(
        node.volumes
            .write(&caller(), object, offset, data, stability)
            .unwrap(),
    )
    .unwrap();
    assert_eq!(written.count as usize, length);
    assert!(written.stability >= stability);
}

fn set_size(node: &Node, object: ObjectId, size: u64) {
    let set = SetAttributes {
        size: Some(size),
        ..SetAttributes::default()
    };
    wait(
        node.volumes
            .setattr(&caller(), object, set, None, &|_| None)
            .unwrap(),
    )
    .unwrap();
}

#[test]
fn a_workspace_comes_back_as_it_was_at_the_snapshot() {
    let node = Node::fresh(1);
    let small = create(&node, "small");
    let large = create(&node, "large");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
    write(&node, small, 0, b"hello", Stability::File);
    write(&node, large, 0, &bytes, Stability::Unstable);
    let snapshot = node.volumes.snapshot(&name("w"), NewSnapshot::default()).unwrap();
    assert_eq!((snapshot.inodes, snapshot.bytes), (3, 3_000_005));

    write(&node, small, 3, b"p!", Stability::File);
    write(&node, large, 1_000_000, &[0; 70_000], Stability::Unstable);
    set_size(&node, large, 2_000_000);
    wait(
        node.volumes
            .remove(&caller(), node.root(), b"small", &|_| None)
            .unwrap(),
    )
    .unwrap();
    create(&node, "new");

    let latest = SnapshotReference::Latest;
    let mut differences = Vec::new();
    let mut keep = |difference: cairn_vfs::control::Difference| {
        differences.push((String::from_utf8(difference.path).unwrap(), difference.kind));
        std::ops::ControlFlow::Continue(())
    };
    node.volumes.diff(&name("w"), &latest, None, &mut keep).unwrap();
    use cairn_vfs::control::DifferenceKind::{Added, Modified, Removed};
    let expected = [("large", Modified), ("new", Added), ("small", Removed)];
    assert_eq!(differences, expected.map(|(path, kind)| (path.to_owned(), kind)));

    let restored = node.volumes.restore(&name("w"), &latest).unwrap();
    assert_eq!(restored.snapshot.id, snapshot.id);
    assert_eq!(
        node.find("small").unwrap(),
        small,
        "handles of what is back stay good"
    );
    assert_eq!(node.content(small), b"hello");
    assert_eq!(node.content(large), bytes);
    assert!(matches!(node.find("new"), Err(Error::NotFound)));

    // The safety snapshot leads back, and a fork lives a life of its own.
    let safety = SnapshotReference::parse(&restored.safety.id.to_string()).unwrap();
    node.volumes.fork(&name("w"), &safety, &name("fork")).unwrap();
    let fork = node.volumes.mount(b"/fork").unwrap().object;
    let found = node.volumes.lookup(&caller(), fork, b"large").unwrap().attributes;
    assert_eq!(found.size, 2_000_000);
    write(&node, found.object, 0, b"other", Stability::File);
    assert_eq!(node.content(found.object)[..5], *b"other");
    assert_eq!(node.content(found.object)[1_000_000..1_070_000], [0; 70_000]);
    assert_eq!(node.content(large), bytes);
}

#[test]
fn segments_that_nothing_refers_to_are_freed() {
    let node = Node::fresh(2);
    for round in 0..4u8 {
        let file = create(&node, "f");
        write(&node, file, 0, &vec![round; 10 << 20], Stability::File);
        wait(
            node.volumes
                .remove(&caller(), node.root(), b"f", &|_| None)
                .unwrap(),
        )
        .unwrap();
    }
    let kept = create(&node, "kept");
    write(&node, kept, 0, &[7; 20_000], Stability::File);
    let before = node.volumes.usage().unwrap().log_bytes;
    node.volumes.flush().unwrap();
    node.volumes.sweep().unwrap();
    let after = node.volumes.usage().unwrap().log_bytes;
    assert!(
        before >= 40 << 20 && after <= 16 << 20,
        "{before} bytes before the sweep, {after} after it"
    );
    assert_eq!(node.content(kept), [7; 20_000]);
    let node = node.power_cut(3);
    assert_eq!(node.content(node.find("kept").unwrap()), [7; 20_000]);
}

/// What a byte may be after a power cut: what was last durable, or anything written since. The last one is what readers
/// see before it.
type Possible = Vec<u8>;

#[derive(Default, Clone)]
struct File {
    bytes: Vec<Possible>,
    /// The size that is durable: bytes beyond it may be missing.
    durable_size: usize,
}

impl File {
    fn write(&mut self, offset: usize, data: &[u8], stable: bool) {
        if self.bytes.len() < offset + data.len() {
            self.bytes.resize(offset + data.len(), vec![0]);
        }
        for (possible, byte) in self.bytes[offset..].iter_mut().zip(data) {
            possible.push(*byte);
        }
        if stable {
            self.settle();
        }
    }

    fn settle(&mut self) {
        for possible in &mut self.bytes {
            *possible = vec![*possible.last().unwrap()];
        }
        self.durable_size = self.bytes.len();
    }

    fn set_size(&mut self, size: usize) {
        self.settle();
        self.bytes.resize(size, vec![0]);
        self.durable_size = size;
    }

    fn seen(&self) -> Vec<u8> {
        self.bytes
            .iter()
            .map(|possible| *possible.last().unwrap())
            .collect()
    }

    fn check(&self, content: &[u8], context: &str) {
        assert!(
            content.len() >= self.durable_size && content.len() <= self.bytes.len(),
            "{context}: {} bytes, of {} durable and {} written",
            content.len(),
            self.durable_size,
            self.bytes.len()
        );
        for (at, byte) in content.iter().enumerate() {
            // A byte that never came back in a file that another write has lengthened is a hole.
            let possible = self.bytes[at].contains(byte) || at >= self.durable_size && *byte == 0;
            assert!(
                possible,
                "{context}: byte {at} is {byte}, possible are {:?}",
                self.bytes[at]
            );
        }
    }
}

#[test]
fn power_cuts_take_only_what_nobody_waited_for() {
    let seeds = std::env::var("CAIRN_POWER_CUT_SEEDS").map_or(40, |seeds| seeds.parse().unwrap());
    for seed in 1..=seeds {
        let chance = Chance(AtomicU64::new(0x9e37_79b9_7f4a_7c15 ^ (seed << 20)));
        let mut node = Node::fresh(seed);
        let mut files: BTreeMap<String, File> = BTreeMap::new();
        let mut snapshots: Vec<(String, BTreeMap<String, Vec<u8>>)> = Vec::new();
        for round in 0..6 {
            for step in 0..25 {
                let context = format!("seed {seed}, round {round}, step {step}");
                one_step(&node, &chance, &mut files, &mut snapshots);
                for (file, expected) in &files {
                    let object = node
                        .find(file)
                        .unwrap_or_else(|error| panic!("{context}: {file}: {error}"));
                    assert_eq!(node.content(object), expected.seen(), "{context}: {file}");
                }
            }
            node = node.power_cut(chance.next());
            check_and_adopt(&node, &mut files, &format!("seed {seed}, after round {round}"));
            check_snapshots(
                &node,
                &snapshots,
                &format!("seed {seed}, snapshots after round {round}"),
            );
        }
    }
}

fn one_step(
    node: &Node,
    chance: &Chance,
    files: &mut BTreeMap<String, File>,
    snapshots: &mut Vec<(String, BTreeMap<String, Vec<u8>>)>,
) {
    let file = format!("f{}", chance.below(4));
    let known = files.contains_key(&file);
    match chance.below(20) {
        0..10 => {
            let object = if known {
                node.find(&file).unwrap()
            } else {
                create(node, &file)
            };
            let entry = files.entry(file).or_default();
            let offset = [0, 1, 4000, 4096, 20_000][chance.below(5) as usize] + chance.below(50);
            let length = [1, 10, 100, 4096, 9000][chance.below(5) as usize];
            let data: Vec<u8> = (0..length).map(|_| chance.next() as u8 | 1).collect();
            let stability = if chance.below(3) == 0 {
                Stability::File
            } else {
                Stability::Unstable
            };
            write(node, object, offset, &data, stability);
            entry.write(offset as usize, &data, stability == Stability::File);
        }
        10..12 if known => {
            let object = node.find(&file).unwrap();
            wait(node.volumes.commit(&caller(), object, 0, 0).unwrap()).unwrap();
            files.get_mut(&file).unwrap().settle();
        }
        12..14 if known => {
            let size = [0, 10, 4096, 5000, 30_000][chance.below(5) as usize];
            set_size(node, node.find(&file).unwrap(), size);
            files.get_mut(&file).unwrap().set_size(size as usize);
        }
        14 if known => {
            wait(
                node.volumes
                    .remove(&caller(), node.root(), file.as_bytes(), &|_| None)
                    .unwrap(),
            )
            .unwrap();
            files.remove(&file);
        }
        15 if known => {
            let to = format!("f{}", chance.below(4));
            let (from, target) = ((node.root(), file.as_bytes()), (node.root(), to.as_bytes()));
            wait(node.volumes.rename(&caller(), from, target, &|_| None).unwrap()).unwrap();
            let moved = files.remove(&file).unwrap();
            files.insert(to, moved);
        }
        16 => {
            let taken = node.volumes.snapshot(&name("w"), NewSnapshot::default()).unwrap();
            files.values_mut().for_each(File::settle);
            let state = files
                .iter()
                .map(|(file, content)| (file.clone(), content.seen()))
                .collect();
            snapshots.push((taken.id.to_string(), state));
        }
        17 => node.volumes.flush().unwrap(),
        18 => node.volumes.sweep().unwrap(),
        19 if !snapshots.is_empty() => {
            let (id, state) = snapshots[chance.below(snapshots.len() as u64) as usize].clone();
            node.volumes
                .restore(&name("w"), &SnapshotReference::parse(&id).unwrap())
                .unwrap();
            files.clear();
            for (file, content) in state {
                let mut restored = File::default();
                restored.write(0, &content, true);
                files.insert(file, restored);
            }
        }
        _ => {}
    }
}

/// Checks what is there after a power cut, and goes on from it.
fn check_and_adopt(node: &Node, files: &mut BTreeMap<String, File>, context: &str) {
    let mut found = Vec::new();
    let mut visit = |entry: cairn_vfs::filesystem::Entry<'_>| {
        if !matches!(entry.name, b"." | b"..") {
            found.push(String::from_utf8(entry.name.to_vec()).unwrap());
        }
        std::ops::ControlFlow::Continue(())
    };
    node.volumes
        .readdir(&caller(), node.root(), 0, false, &mut visit)
        .unwrap();
    found.sort();
    assert_eq!(found, files.keys().cloned().collect::<Vec<_>>(), "{context}");
    for (file, expected) in files {
        let content = node.content(node.find(file).unwrap());
        expected.check(&content, &format!("{context}: {file}"));
        *expected = File::default();
        expected.write(0, &content, true);
    }
}

fn check_snapshots(node: &Node, snapshots: &[(String, BTreeMap<String, Vec<u8>>)], context: &str) {
    for (index, (id, state)) in snapshots.iter().enumerate().rev().take(2) {
        let fork = name(&format!("fork-{index}"));
        node.volumes
            .fork(&name("w"), &SnapshotReference::parse(id).unwrap(), &fork)
            .unwrap();
        let root = node.volumes.mount(format!("/{fork}").as_bytes()).unwrap().object;
        for (file, expected) in state {
            let found = node.volumes.lookup(&caller(), root, file.as_bytes()).unwrap();
            assert_eq!(
                node.content(found.attributes.object),
                *expected,
                "{context}: {file} of {id}"
            );
        }
        node.volumes.delete_workspace(&fork, true).unwrap();
    }
}
