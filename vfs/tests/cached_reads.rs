//! Reads from memory: they happen, never differ from other reads, and end where a disk would be needed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_content::log::LogSettings;
use cairn_content::log::directory::DirectoryStore;
use cairn_metadata::engine::rocks::{RocksEngine, RocksSettings};
use cairn_types::{Clock, ExportPolicy, Randomness, Timestamp, WorkspaceName};
use cairn_vfs::control::{NewSnapshot, NewWorkspace};
use cairn_vfs::filesystem::{Caller, CreateMode, ObjectId, SetAttributes, Stability};
use cairn_vfs::{Error, FileSystem, Volumes, VolumesParts, VolumesSettings};

/// Moves a microsecond with every look.
struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        let ticks = self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::new(1_700_000_000, ticks as u32 * 1000)
    }
}

/// Counts: distinct is all that is asked for.
struct Distinct(AtomicU64);

impl Randomness for Distinct {
    fn fill(&self, buffer: &mut [u8]) {
        let next = self.0.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        buffer
            .iter_mut()
            .zip(next.iter().cycle())
            .for_each(|(to, from)| *to = *from);
    }
}

struct Node {
    directory: tempfile::TempDir,
    volumes: Arc<Volumes>,
    file: ObjectId,
}

const MIB: usize = 1 << 20;

fn root() -> Caller {
    Caller {
        uid: 0,
        gid: 0,
        groups: Arc::from([]),
    }
}

impl Node {
    fn new() -> Node {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("log")).unwrap();
        let settings = VolumesSettings {
            log: LogSettings {
                segment_bytes: 8 << 20,
                ..LogSettings::default()
            },
            disk_reserve_bytes: 0,
            // The test flushes by taking snapshots.
            flush_interval: Duration::from_secs(3600),
            ..VolumesSettings::default()
        };
        let parts = VolumesParts {
            engine: Arc::new(
                RocksEngine::open(directory.path().join("metadata"), RocksSettings::default()).unwrap(),
            ),
            segments: Arc::new(DirectoryStore::open(&directory.path().join("log")).unwrap()),
            clock: Arc::new(Ticks(AtomicU64::new(0))),
            randomness: Arc::new(Distinct(AtomicU64::new(1))),
        };
        let volumes = Volumes::open(parts, settings).unwrap();
        let new = NewWorkspace {
            name: WorkspaceName::new("w").unwrap(),
            policy: ExportPolicy::default(),
            uid: 0,
            gid: 0,
            mode: 0o755,
        };
        volumes.create_workspace(new).unwrap();
        let parent = volumes.mount(b"/w").unwrap().object;
        let mode = CreateMode::Unchecked(SetAttributes {
            mode: Some(0o600),
            ..SetAttributes::default()
        });
        let made = volumes.create(&root(), parent, b"file", mode, &|_| None).unwrap();
        let file = made.without_durability().attributes.object;
        Node {
            directory,
            volumes,
            file,
        }
    }

    fn write(&self, offset: usize, byte: u8, count: usize) {
        for start in (0..count).step_by(MIB) {
            let data = Bytes::from(vec![byte; (count - start).min(MIB)]);
            let at = (offset + start) as u64;
            let written = self
                .volumes
                .write(&root(), self.file, at, data, Stability::Unstable);
            written.unwrap().without_durability();
        }
    }

    fn settle(&self) {
        let name = WorkspaceName::new("w").unwrap();
        self.volumes.snapshot(&name, NewSnapshot::default()).unwrap();
    }

    /// What memory gives, checked against what a read gives.
    fn cached(&self, offset: usize, count: u32) -> Option<Vec<u8>> {
        let before = self.volumes.read_cached(&root(), self.file, offset as u64, count);
        let read = self
            .volumes
            .read(&root(), self.file, offset as u64, count)
            .unwrap();
        let before = before?.unwrap();
        assert_eq!(before.pieces.concat(), read.pieces.concat());
        assert_eq!(
            (before.end_of_file, before.attributes),
            (read.end_of_file, read.attributes)
        );
        Some(before.pieces.concat())
    }
}

#[test]
fn unsettled_writes_are_in_memory_and_settled_ones_after_the_first_read() {
    let node = Node::new();
    node.write(0, b'a', 2 * MIB);
    assert_eq!(node.cached(MIB - 5, 10).unwrap(), [b'a'; 10]);
    node.settle();
    assert_eq!(node.cached(MIB - 5, 10), None);
    assert_eq!(node.cached(MIB - 5, 10).unwrap(), [b'a'; 10]);
    // The neighbourhood has become known with it, as far as the window reaches.
    assert_eq!(node.cached(100, 10).unwrap(), [b'a'; 10]);
    assert_eq!(node.cached(2 * MIB - 3, 10).unwrap(), [b'a'; 3]);
    assert!(node.cached(5 * MIB, 10).unwrap().is_empty());
}

#[test]
fn a_change_makes_what_was_known_useless() {
    let node = Node::new();
    node.write(0, b'a', MIB);
    node.settle();
    assert_eq!(node.cached(0, 10), None);
    assert_eq!(node.cached(0, 10).unwrap(), [b'a'; 10]);
    node.write(5, b'b', 2);
    // Memory knows the write, but not what is around it.
    assert_eq!(node.cached(5, 2).unwrap(), [b'b'; 2]);
    assert_eq!(node.cached(0, 10), None);
    node.settle();
    assert_eq!(node.cached(0, 10), None);
    assert_eq!(node.cached(0, 10).unwrap(), b"aaaaabbaaa");
    let shorter = SetAttributes {
        size: Some(7),
        ..SetAttributes::default()
    };
    let cut = node.volumes.setattr(&root(), node.file, shorter, None, &|_| None);
    cut.unwrap().without_durability();
    node.cached(0, 10);
    assert_eq!(node.cached(0, 10).unwrap(), b"aaaaabb");
}

#[test]
fn a_window_with_many_extents_is_read_all_the_same() {
    let node = Node::new();
    node.write(0, b'a', 3 * MIB);
    for index in 0..400 {
        node.write(8192 * index, b'b', 4096);
    }
    node.settle();
    for _ in 0..2 {
        assert_eq!(node.cached(8192 * 7 - 1, 4098), None);
    }
    let found = node
        .volumes
        .read(&root(), node.file, 8192 * 7 - 1, 4098)
        .unwrap()
        .pieces
        .concat();
    assert_eq!(
        (found[0], found[1], found[4096], found[4097]),
        (b'a', b'b', b'b', b'a')
    );
}

#[test]
fn who_may_not_read_is_told_so_from_memory() {
    let node = Node::new();
    node.write(0, b'a', MIB);
    let stranger = Caller {
        uid: 7,
        gid: 7,
        groups: Arc::from([]),
    };
    let told = node.volumes.read_cached(&stranger, node.file, 0, 10);
    assert!(matches!(told, Some(Err(Error::Access))), "{told:?}");
}

#[test]
fn damage_is_left_to_the_read_that_can_tell() {
    let node = Node::new();
    node.write(0, b'a', MIB);
    node.settle();
    assert_eq!(node.cached(0, 10), None);
    assert!(node.cached(0, 10).is_some());
    for entry in std::fs::read_dir(node.directory.path().join("log")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        for byte in &mut bytes {
            if *byte == b'a' {
                *byte = b'x';
            }
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(node.volumes.read_cached(&root(), node.file, 0, 10).is_none());
    let told = node.volumes.read(&root(), node.file, 0, 10).unwrap_err();
    assert!(told.to_string().contains("checksum"), "{told}");
}
