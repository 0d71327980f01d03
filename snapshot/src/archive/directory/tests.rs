//! The index of blocks: its bytes, its damage; manifests written and read in memory; what two that differ little have in common.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::Bytes;
use cairn_content::chunking::chunk_id;
use cairn_content::pipeline::Run;
use cairn_types::{ChunkId, DeviceNumber, FileKind, Timestamp};

use super::format::{index_header, put_block, read_index};
use super::{BlockReference, BlockWriter, DirectoryRoot, IndexPart, groups, read_group, records};
use crate::archive::tree::{NodeSink, NodeSource};
use crate::directory::{Attributes, Body, Digest, Entry, FileBody, Record, RelativePath, Stamp};
use crate::manifest::EntryCounts;

#[derive(Default)]
struct Chunks(RefCell<BTreeMap<ChunkId, Vec<u8>>>);

#[derive(Debug, thiserror::Error)]
#[error("no chunk {0}")]
struct Missing(ChunkId);

impl NodeSink for Chunks {
    type Error = Infallible;

    fn identify(&self, bytes: &[u8]) -> ChunkId {
        chunk_id(bytes)
    }

    fn keep(&self, bytes: Vec<u8>) -> Result<(), Infallible> {
        self.0.borrow_mut().insert(chunk_id(&bytes), bytes);
        Ok(())
    }
}

impl NodeSource for Chunks {
    type Error = Missing;

    fn fetch(&self, chunk: &ChunkId, length: u32) -> Result<Bytes, Missing> {
        let found = self.0.borrow().get(chunk).cloned().ok_or(Missing(*chunk))?;
        assert_eq!(found.len(), length as usize);
        Ok(found.into())
    }
}

fn path(text: &str) -> RelativePath {
    RelativePath::new(text.as_bytes()).unwrap()
}

fn block(first: &str, continues: bool, entries: u32, byte: u8) -> BlockReference {
    BlockReference {
        first: path(first),
        continues,
        entries,
        chunk: ChunkId([byte; 32]),
        length: 300 + u32::from(byte),
    }
}

fn index_of(blocks: &[BlockReference]) -> Vec<u8> {
    let mut bytes = index_header();
    let mut last = RelativePath::root();
    for block in blocks {
        put_block(&mut bytes, &last, block);
        last = block.first.clone();
    }
    bytes
}

#[test]
fn an_index_is_pinned_and_comes_back() {
    let blocks = [
        block("", false, 5, 1),
        block("src/long", false, 1, 2),
        block("src/long", true, 0, 3),
        block("src/main", false, 200, 4),
    ];
    let bytes = index_of(&blocks);
    let expected = [
        &[0xd2, 1][..],
        &[0, 0, 5 << 1],
        &[1; 32],
        &[0xad, 0x02],
        &[0, 8],
        b"src/long",
        &[1 << 1],
        &[2; 32],
        &[0xae, 0x02],
        &[8, 0, 1],
        &[3; 32],
        &[0xaf, 0x02],
        &[4, 4],
        b"main",
        &[0x90, 0x03],
        &[4; 32],
        &[0xb0, 0x02],
    ];
    assert_eq!(bytes, expected.concat());
    assert_eq!(read_index(&bytes).unwrap(), blocks);
}

#[test]
fn what_is_no_index_is_refused() {
    let blocks = [block("", false, 5, 1), block("a/b", false, 9, 2)];
    let bytes = index_of(&blocks);
    for end in 0..bytes.len() {
        // A whole block less is an index, too; whose chunk it is says its identity.
        let cut = read_index(&bytes[..end]);
        assert!(cut.is_err() || cut.unwrap() == blocks[..1], "{end}");
    }
    assert!(read_index(&[0xd2, 2, 0, 0, 2]).is_err());
    for wrong in [
        vec![block("b", false, 1, 1), block("a", false, 1, 2)],
        vec![block("a", false, 1, 1), block("a", false, 1, 2)],
        vec![block("a", false, 0, 1)],
        vec![BlockReference {
            length: 0,
            ..block("a", false, 1, 1)
        }],
        vec![BlockReference {
            length: u32::MAX,
            ..block("a", false, 1, 1)
        }],
    ] {
        assert!(read_index(&index_of(&wrong)).is_err(), "{wrong:?}");
    }
    // What shares more than there is, and what leads out of the tree.
    for wrong in [
        &[1, 0][..],
        &[0, 2, b'.', b'.'],
        &[0, 0xff, 0xff, 0xff, 0xff, 0x0f],
    ] {
        assert!(read_index(&[&[0xd2, 1], wrong, &[2; 36]].concat()).is_err());
    }
}

fn record(name: &str, body: Body, size: u64) -> Record {
    let kind = match body {
        Body::File(_) => FileKind::Regular,
        _ => FileKind::Directory,
    };
    Record {
        entry: Entry {
            path: path(name),
            attributes: Attributes {
                kind,
                mode: 0o644,
                uid: 1,
                gid: 2,
                modified: Timestamp::new(1_795_000_000, 7),
                size,
                device: DeviceNumber::default(),
                xattrs: Vec::new(),
            },
            body,
        },
        stamp: Some(Stamp {
            device: 1,
            inode: 2,
            changed: Timestamp::new(1, 1),
        }),
    }
}

fn file(name: &str, seed: u64, runs: u32) -> Record {
    let chunk = |number: u32| {
        let id = chunk_id(format!("{seed} {number}").as_bytes());
        Run::Chunk(id, 4000)
    };
    let runs: Vec<Run> = (0..runs).map(chunk).collect();
    let digest = match runs[..] {
        [Run::Chunk(id, _)] => Digest(id.0),
        _ => Digest([9; 32]),
    };
    let size = 4000 * runs.len() as u64;
    let body = Body::File(FileBody {
        digest: Some(digest),
        holes: Vec::new(),
        runs,
    });
    record(name, body, size)
}

/// A tree of many files, with one whose list of chunks is too long for a block in the middle.
fn tree(changed: u64) -> Vec<Record> {
    let mut records = vec![record("", Body::None, 0)];
    for number in 0..6000 {
        let name = format!("f{number:05}");
        records.push(match number {
            3000 => file(&name, 1_000_000, 20_000),
            _ if number == changed => file(&name, 1_000_001, 3),
            _ => file(&name, number, 1),
        });
    }
    records
}

fn write(chunks: &Chunks, tree: &[Record], plain: bool) -> DirectoryRoot {
    let mut writer = BlockWriter::new(chunks, plain);
    let mut counts = EntryCounts::default();
    for record in tree {
        counts.add(&record.entry);
        assert!(writer.push(record.clone()).is_ok());
    }
    let Ok((index, blocks)) = writer.finish() else {
        panic!("the manifest is in order");
    };
    DirectoryRoot {
        index,
        blocks,
        counts,
        tree_hash: None,
    }
}

#[test]
fn manifests_come_back_and_share_their_blocks() {
    let chunks = Chunks::default();
    let before = tree(u64::MAX);
    let root = write(&chunks, &before, true);
    let without_stamps = |tree: &[Record]| -> Vec<Record> {
        let plain = tree.iter().cloned();
        plain
            .map(|record| Record {
                stamp: None,
                ..record
            })
            .collect()
    };
    let read = |root: &DirectoryRoot, from: &str, plain: bool| -> Vec<Record> {
        records(&chunks, root, path(from), plain)
            .map(|record| record.unwrap())
            .collect()
    };
    assert!(read(&root, "", true) == without_stamps(&before));
    for from in ["f00001", "f02999", "f03000", "f03001", "f0599", "g"] {
        let begin = before.partition_point(|record| record.entry.path < path(from));
        assert!(
            read(&root, from, true) == without_stamps(&before[begin..]),
            "{from}"
        );
    }
    let all: Vec<Vec<BlockReference>> = groups(&chunks, &root, |_| {})
        .map(|group| group.unwrap())
        .collect();
    assert_eq!(all.iter().map(Vec::len).sum::<usize>() as u64, root.blocks);
    assert!(all.iter().any(|group| group.len() > 2) && all.len() > 5);
    // Another process names chunks with a key: nothing is left out of its blocks, and nothing put back.
    let keyed = write(&chunks, &before, false);
    assert!(read(&keyed, "", false) == without_stamps(&before));

    let kept = chunks.0.borrow().len();
    let after = tree(4321);
    let changed = write(&chunks, &after, true);
    assert!(read(&changed, "", true) == without_stamps(&after));
    // One block, and one part of the index.
    assert_eq!(chunks.0.borrow().len() - kept, 2);
}

#[test]
fn a_block_that_is_another_one_is_told() {
    let chunks = Chunks::default();
    let root = write(&chunks, &tree(u64::MAX), true);
    let all: Vec<Vec<BlockReference>> = groups(&chunks, &root, |_| {})
        .map(|group| group.unwrap())
        .collect();
    let first = &all[0];
    assert!(read_group(&chunks, first, true).is_ok());
    let wrong = |change: &dyn Fn(&mut BlockReference)| {
        let mut group = first.clone();
        change(&mut group[0]);
        assert!(read_group(&chunks, &group, true).is_err());
    };
    wrong(&|block| block.entries += 1);
    wrong(&|block| block.first = path("a"));
    wrong(&|block| block.continues = true);
    wrong(&|block| block.chunk = ChunkId([0; 32]));
    // A long list of chunks that does not end.
    let long = all.iter().find(|group| group.len() > 1).unwrap();
    assert!(read_group(&chunks, &long[..long.len() - 1], true).is_err());
    assert!(read_group(&chunks, &long[1..], true).is_err());
    // A part of the index that is lost hides what is in it, and nothing behind it.
    let mut parts = root.clone();
    let lost = IndexPart {
        chunk: ChunkId([7; 32]),
        length: 1,
    };
    parts.index.insert(0, lost);
    let mut found = groups(&chunks, &parts, |_| {});
    assert!(found.next().unwrap().is_err());
    assert_eq!(found.count(), all.len());
}

#[test]
fn no_bytes_make_a_reader_panic() {
    let blocks: Vec<BlockReference> = (0..40)
        .map(|number: u8| block(&format!("a/{number:03}"), number % 5 == 4, 3, number))
        .collect();
    let sound = index_of(&blocks);
    let mut state = 7u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize
    };
    let mut read = 0;
    for _ in 0..20_000 {
        let mut bytes = sound.clone();
        for _ in 0..=random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes.truncate(bytes.len() - random() % 3 * random() % 40);
        if let Ok(blocks) = read_index(&bytes) {
            read += 1;
            // Whatever is believed is in order.
            assert!(blocks.is_sorted_by(|a, b| a.first < b.first || (b.continues && a.first == b.first)));
        }
    }
    assert!(read > 100, "{read}");
}
