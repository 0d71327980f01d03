//! Trees: what is written is read, what is shared is shared, and what makes no sense is refused.

#![allow(clippy::panic, reason = "tests fail by panicking")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use cairn_content::chunking::chunk_id;
use cairn_content::pipeline::Run;
use cairn_types::{ChunkId, DeviceNumber, FileKind, InodeId, Node, Timestamp};
use proptest::prelude::{Strategy, any, prop};

use super::format::{read_leaf, read_references, write_references};
use super::{
    Key, NodeReference, NodeSink, NodeSource, Part, Record, TreeReadError, TreeRoot, TreeWriter, leaves,
    records, records_of,
};
use crate::archive::report::TreeCounts;

#[derive(Debug, thiserror::Error)]
#[error("chunk {0} is not there")]
struct Missing(ChunkId);

#[derive(Default)]
struct Chunks {
    chunks: RefCell<HashMap<ChunkId, Bytes>>,
    fetched: Cell<usize>,
    kept: Cell<usize>,
}

impl NodeSink for Chunks {
    type Error = std::convert::Infallible;

    fn identify(&self, bytes: &[u8]) -> ChunkId {
        chunk_id(bytes)
    }

    fn keep(&self, bytes: Vec<u8>) -> Result<(), Self::Error> {
        self.kept.set(self.kept.get() + 1);
        self.chunks.borrow_mut().insert(chunk_id(&bytes), bytes.into());
        Ok(())
    }
}

impl NodeSource for Chunks {
    type Error = Missing;

    fn fetch(&self, chunk: &ChunkId, length: u32) -> Result<Bytes, Missing> {
        self.fetched.set(self.fetched.get() + 1);
        let found = self.chunks.borrow().get(chunk).cloned().ok_or(Missing(*chunk))?;
        assert_eq!(found.len(), length as usize);
        Ok(found)
    }
}

fn node(number: u64) -> Node {
    let modified = Timestamp::new(1_700_000_000 + number as i64, number as u32 % 1000);
    let kind = match number % 5 {
        0 => FileKind::Directory,
        1 => FileKind::BlockDevice,
        _ => FileKind::Regular,
    };
    Node {
        kind,
        mode: (number % 0o7777) as u16,
        links: number as u32 % 9 + 1,
        uid: 1000,
        gid: u32::MAX,
        size: number * 1000,
        device: match kind {
            FileKind::BlockDevice => DeviceNumber { major: 8, minor: 300 },
            _ => DeviceNumber::default(),
        },
        accessed: if number.is_multiple_of(3) {
            modified
        } else {
            Timestamp::new(-5, 999_999_999)
        },
        modified,
        changed: Timestamp::new(7, 8),
        generation: 0xDEAD_BEEF,
        data_version: u64::MAX - number,
        parent: match kind {
            FileKind::Directory => InodeId(1),
            _ => InodeId(0),
        },
    }
}

/// Some records of an inode.
fn of_inode(number: u64) -> Vec<(Key, Record)> {
    let inode = InodeId(number);
    let mut found = vec![(Key::of(inode), Record::Node(node(number)))];
    let key = |part| Key { inode, part };
    match number % 5 {
        0 => {
            for name in 0..number % 40 {
                let entry = Record::Entry(InodeId(number + name + 1), FileKind::Fifo);
                found.push((key(Part::Entry(format!("name {name:03}").into_bytes())), entry));
            }
        }
        2 => found.push((key(Part::Target), Record::Target(b"somewhere/else".to_vec()))),
        _ => {
            for offset in 0..number % 7 {
                let runs = vec![
                    Run::Chunk(chunk_id(&number.to_le_bytes()), 4096),
                    Run::Zeros(77),
                    Run::Chunk(chunk_id(&offset.to_le_bytes()), 1),
                ];
                found.push((key(Part::Data(offset << 20)), Record::Data(runs)));
            }
        }
    }
    found
}

fn write(chunks: &Chunks, records: impl IntoIterator<Item = (Key, Record)>) -> TreeRoot {
    let mut writer = TreeWriter::new(chunks);
    for (key, record) in records {
        writer.push(&key, &record).unwrap();
    }
    writer.finish().unwrap().unwrap()
}

fn read(chunks: &Chunks, root: &TreeRoot) -> Vec<(Key, Record)> {
    let all = records(chunks, root, Key::of(InodeId(0)));
    all.collect::<Result<_, _>>().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let chunks = Chunks::default();
    for count in [1, 2, 50, 3_000, 60_000] {
        let written: Vec<_> = (1..=count).flat_map(of_inode).collect();
        let root = write(&chunks, written.clone());
        assert!(read(&chunks, &root) == written, "{count} inodes");
        assert_eq!(root.counts.inodes, count);
        let nodes = (1..=count)
            .map(node)
            .filter(|node| node.kind == FileKind::Regular);
        assert_eq!(root.counts.bytes, nodes.map(|node| node.size).sum::<u64>());
        assert_eq!(root.height > 0, count >= 3_000, "{}", root.height);
    }
    assert!(TreeWriter::new(&chunks).finish().unwrap().is_none());
}

#[test]
fn an_inode_is_found_with_few_fetches() {
    let chunks = Chunks::default();
    let root = write(&chunks, (1..=20_000).map(|number| number * 2).flat_map(of_inode));
    for number in [2, 4, 19_998, 20_002, 40_000] {
        chunks.fetched.set(0);
        assert_eq!(
            records_of(&chunks, &root, InodeId(number)).unwrap(),
            of_inode(number)
        );
        assert!(chunks.fetched.get() <= 5, "{}", chunks.fetched.get());
    }
    assert_eq!(records_of(&chunks, &root, InodeId(1)).unwrap(), []);
    assert_eq!(records_of(&chunks, &root, InodeId(40_001)).unwrap(), []);
}

#[test]
fn trees_that_differ_little_share_their_leaves() {
    let chunks = Chunks::default();
    let all: BTreeMap<Key, Record> = (1..=30_000).flat_map(of_inode).collect();
    write(&chunks, all.clone());
    let mut changed = all;
    changed.remove(&Key::of(InodeId(12_345)));
    let added = Key {
        inode: InodeId(20_000),
        part: Part::Entry(b"new".to_vec()),
    };
    changed.insert(added, Record::Entry(InodeId(3), FileKind::Regular));
    changed.insert(Key::of(InodeId(3)), Record::Node(node(99)));
    let before = chunks.chunks.borrow().len();
    let root = write(&chunks, changed.clone());
    // Three leaves, perhaps split otherwise, and what refers to them.
    let new = chunks.chunks.borrow().len() - before;
    assert!(new <= 12, "{new} new chunks");
    assert!(read(&chunks, &root).into_iter().eq(changed));
}

#[test]
fn leaves_are_taken_over_without_being_read() {
    let chunks = Chunks::default();
    let root = write(&chunks, (1..=30_000).flat_map(of_inode));
    let (fetched, kept) = (&chunks.fetched, &chunks.kept);
    fetched.set(0);
    let all: Vec<NodeReference> = leaves(&chunks, &root, Key::of(InodeId(0)), |_| true)
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(all.len() > 100 && fetched.get() < 10);
    kept.set(0);
    let mut writer = TreeWriter::new(&chunks);
    for leaf in all {
        assert!(writer.is_between_leaves());
        writer.reuse(leaf).unwrap();
    }
    assert_eq!(writer.finish().unwrap().unwrap(), root);
    assert!(kept.get() < 10);
    assert!(fetched.get() < 10);
}

#[test]
fn what_is_declined_is_passed_over() {
    let chunks = Chunks::default();
    let root = write(&chunks, (1..=30_000).flat_map(of_inode));
    let mut asked = 0;
    let found = leaves(&chunks, &root, Key::of(InodeId(0)), |_| {
        asked += 1;
        asked != 2
    });
    let found = found.map(Result::unwrap).count();
    assert_eq!(found, all_leaves(&chunks, &root) - first_leaves(&chunks, &root));
}

/// All leaves.
fn all_leaves(chunks: &Chunks, root: &TreeRoot) -> usize {
    leaves(chunks, root, Key::of(InodeId(0)), |_| true).count()
}

/// The leaves below the first reference of the root.
fn first_leaves(chunks: &Chunks, root: &TreeRoot) -> usize {
    let bytes = chunks.fetch(&root.chunk, root.length).unwrap();
    let first = read_references(&bytes).unwrap()[0].clone();
    let below = TreeRoot {
        chunk: first.chunk,
        length: first.length,
        height: root.height - 1,
        counts: first.counts,
    };
    all_leaves(chunks, &below)
}

#[test]
fn a_part_that_is_gone_is_told_and_the_rest_is_read() {
    let chunks = Chunks::default();
    let root = write(&chunks, (1..=30_000).flat_map(of_inode));
    let victim = leaves(&chunks, &root, Key::of(InodeId(15_000)), |_| true).next();
    let victim = victim.unwrap().unwrap();
    let lost = read_leaf(&chunks.chunks.borrow_mut().remove(&victim.chunk).unwrap()).unwrap();
    let (mut found, mut errors) = (0, 0);
    for record in records(&chunks, &root, Key::of(InodeId(0))) {
        match record {
            Ok(_) => found += 1,
            Err(error) => {
                errors += 1;
                let TreeReadError::Fetch(Missing(chunk)) = error else {
                    panic!("{error:?}");
                };
                assert_eq!(chunk, victim.chunk);
            }
        }
    }
    assert_eq!(errors, 1);
    assert_eq!(found + lost.len(), (1..=30_000).flat_map(of_inode).count());
}

#[test]
fn the_bytes_are_pinned() {
    // A leaf of one record of each kind, and a reference to it.
    let chunks = Chunks::default();
    let records: Vec<_> = [5, 11, 12, 13].into_iter().flat_map(of_inode).collect();
    let root = write(&chunks, records.clone());
    let leaf = chunks.fetch(&root.chunk, root.length).unwrap();
    assert_eq!(root.height, 0);
    assert_eq!(leaf[..2], [0xC1, 1]);
    let reference = NodeReference {
        first: records[0].0.clone(),
        chunk: root.chunk,
        length: root.length,
        counts: root.counts,
    };
    let references = write_references(std::slice::from_ref(&reference));
    assert_eq!(read_references(&references).unwrap(), [reference]);
    let golden = (chunk_id(&leaf).to_string(), chunk_id(&references).to_string());
    assert_eq!(
        (golden.0.as_str(), golden.1.as_str()),
        (
            "6c71a07f17a06f945c02fa9de4cde5dff305250b3ce8431fd067234ccfb35b47",
            "e8d93c9a157a113c6522bcfb5761211bd5f25827a38fa65ffb61b3ed5889e9aa"
        ),
        "{}",
        leaf.escape_ascii()
    );
}

#[test]
fn every_cut_and_every_change_is_an_error_or_another_tree() {
    let chunks = Chunks::default();
    let written: Vec<_> = [5, 6, 7, 8].into_iter().flat_map(of_inode).collect();
    let root = write(&chunks, written.clone());
    let leaf = chunks.fetch(&root.chunk, root.length).unwrap();
    for end in 0..leaf.len() {
        assert!(read_leaf(&leaf[..end]).map_or(true, |found| found.len() < written.len()));
    }
    for at in 0..leaf.len() * 8 {
        let mut changed = leaf.to_vec();
        changed[at / 8] ^= 1 << (at % 8);
        // Never a panic. That it is told is the identity's matter.
        let _ = read_leaf(&changed);
        let _ = read_references(&changed);
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), leaf: bool) {
        let mut whole = vec![if leaf { 0xC1 } else { 0xC2 }, 1];
        whole.extend_from_slice(&bytes);
        let _ = read_leaf(&whole);
        let _ = read_references(&whole);
    }

    #[test]
    fn any_records_come_back(records in prop::collection::btree_map(a_key(), a_seed(), 1..200)) {
        let chunks = Chunks::default();
        let records: Vec<_> = records
            .into_iter()
            .map(|(key, seed)| {
                let record = match &key.part {
                    Part::Node => Record::Node(node(seed % (1 << 40))),
                    Part::Entry(_) => Record::Entry(InodeId(seed.max(1)), FileKind::Socket),
                    Part::Target => Record::Target(seed.to_string().into_bytes()),
                    Part::Data(_) => Record::Data(vec![Run::Zeros(seed as u32 | 1)]),
                };
                (key, record)
            })
            .collect();
        let root = write(&chunks, records.clone());
        assert!(read(&chunks, &root) == records);
    }
}

fn a_seed() -> impl Strategy<Value = u64> {
    any::<u64>()
}

fn a_key() -> impl Strategy<Value = Key> {
    let part = proptest::prop_oneof![
        proptest::strategy::Just(Part::Node),
        prop::collection::vec(0x30u8..=0xFF, 1..255).prop_map(Part::Entry),
        proptest::strategy::Just(Part::Target),
        (0..u64::MAX / 2).prop_map(Part::Data),
    ];
    (1..u64::MAX, part).prop_map(|(inode, part)| Key {
        inode: InodeId(inode),
        part,
    })
}

#[test]
fn counts_add_up() {
    let counts = TreeCounts {
        inodes: 1,
        files: 2,
        directories: 3,
        bytes: u64::MAX,
    };
    assert_eq!(
        counts.plus(counts),
        TreeCounts {
            inodes: 2,
            files: 4,
            directories: 6,
            bytes: u64::MAX
        }
    );
}
