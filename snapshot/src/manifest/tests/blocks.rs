//! Blocks: where they end, what they share, and what becomes of entries that are too long for one.

use std::sync::Arc;

use cairn_content::pipeline::Run;
use cairn_types::{ChunkId, FileKind};

use super::{all, file_body, open, path, record, wide, write};
use crate::directory::{Body, FileBody, Hole, Record, Xattr};
use crate::manifest::{
    BLOCK_BYTES_MAX, Block, BlockCutter, BlockDamage, BlockDecoder, ManifestError, ManifestOptions,
    ManifestReader, ManifestWriter,
};

fn cut(records: &[Record], stamps: bool) -> Vec<Block> {
    let mut cutter = BlockCutter::new(stamps);
    let mut blocks = Vec::new();
    for record in records {
        cutter.push(record).unwrap();
        blocks.extend(std::iter::from_fn(|| cutter.complete()));
    }
    cutter.finish().unwrap();
    blocks.extend(std::iter::from_fn(|| cutter.complete()));
    blocks
}

fn decode(blocks: &[Block]) -> Vec<Record> {
    let mut decoder = BlockDecoder::whole();
    let mut records = Vec::new();
    for block in blocks {
        decoder
            .decode(&block.bytes, &mut |record| records.push(record))
            .unwrap();
    }
    decoder.finish().unwrap();
    records
}

/// A file of so many chunks and holes, with enough around it to be in the middle of a tree.
fn long_lists(chunks: u32, holes: u64) -> Vec<Record> {
    let mut file = record("long", FileKind::Regular);
    let body = FileBody {
        holes: (0..holes)
            .map(|at| Hole {
                offset: at * 8192,
                length: 4096,
            })
            .collect(),
        runs: (0..chunks)
            .map(|at| Run::Chunk(ChunkId(*blake3::hash(&at.to_le_bytes()).as_bytes()), 100_000))
            .collect(),
        digest: file_body(&mut file).digest,
    };
    file.entry.attributes.size = u64::from(chunks) * 100_000;
    file.entry.body = Body::File(body);
    vec![
        record("", FileKind::Directory),
        record("a", FileKind::Directory),
        record("a/file", FileKind::Regular),
        file,
        record("zero", FileKind::Regular),
    ]
}

#[test]
fn blocks_have_the_sizes_that_are_promised_and_depend_on_the_tree_alone() {
    let records = wide(50_000);
    let blocks = cut(&records, true);
    for block in &blocks[..blocks.len() - 1] {
        assert!(
            (16 << 10..(256 << 10) + 512).contains(&block.bytes.len()),
            "{}",
            block.bytes.len()
        );
    }
    let mean = blocks.iter().map(|block| block.bytes.len()).sum::<usize>() / blocks.len();
    assert!((32 << 10..96 << 10).contains(&mean), "{mean}");
    let mut moved = records.clone();
    moved.iter_mut().for_each(|record| record.stamp = None);
    assert_eq!(cut(&records, false), cut(&moved, false));
    assert_eq!(decode(&cut(&records, false)), moved);
    assert_eq!(decode(&blocks), records);
}

#[test]
fn what_has_not_changed_is_copied_from_the_manifest_before() {
    let mut records = wide(50_000);
    let before = Arc::new(open(&records));
    // One entry changes, one comes, one goes.
    records[10_000].entry.attributes.mode = 0o600;
    records.remove(30_000);
    let new = record("directory-00450/file-0045000.new", FileKind::Regular);
    let at = records.partition_point(|record| record.entry.path < new.entry.path);
    records.insert(at, new);
    let options = ManifestOptions {
        previous: Some(Arc::clone(&before)),
        ..ManifestOptions::default()
    };
    let file = tempfile::tempfile().unwrap();
    let mut writer = ManifestWriter::create(file.try_clone().unwrap(), options).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    let written = writer.written();
    let summary = writer.finish().unwrap();
    assert!(written.copied >= written.blocks - 8, "{written:?}");
    let reader = ManifestReader::open(file).unwrap();
    assert_eq!(all(&reader), records);
    // The same file as if nothing had been copied.
    assert_eq!(write(&records, ManifestOptions::default()).1, summary);
}

#[test]
fn a_previous_manifest_that_is_damaged_only_saves_nothing() {
    let records = wide(2_000);
    let (file, summary) = write(&records, ManifestOptions::default());
    let previous = Arc::new(ManifestReader::open(file.try_clone().unwrap()).unwrap());
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 64], 1000).unwrap();
    assert!(previous.check().is_err());
    let options = ManifestOptions {
        previous: Some(previous),
        ..ManifestOptions::default()
    };
    let (again, found) = write(&records, options);
    assert_eq!(found, summary);
    assert_eq!(all(&ManifestReader::open(again).unwrap()), records);
}

#[test]
fn lists_that_are_too_long_for_a_block_go_on_in_the_next_ones() {
    for (chunks, holes) in [(20_000, 0), (1, 100_000), (50_000, 50_000), (5_461, 5_461)] {
        let mut records = long_lists(chunks, holes);
        if chunks == 1 {
            let size = holes * 8192;
            records[3].entry.attributes.size = size;
            let runs = vec![Run::Zeros(u32::try_from(size).unwrap())];
            file_body(&mut records[3]).runs = runs;
        }
        let blocks = cut(&records, true);
        assert!(blocks.len() > 1);
        assert!(
            blocks.iter().all(|block| block.bytes.len() < 300 << 10),
            "{chunks} {holes}"
        );
        assert_eq!(decode(&blocks), records);
        let reader = open(&records);
        assert_eq!(all(&reader), records);
        reader.check().unwrap();
        for (at, record) in records.iter().enumerate() {
            assert_eq!(reader.find(&record.entry.path).unwrap().as_ref(), Some(record));
            let rest: Vec<_> = reader
                .records_from(&record.entry.path)
                .map(Result::unwrap)
                .collect();
            assert_eq!(rest, records[at..]);
        }
    }
}

#[test]
fn a_change_in_a_long_file_changes_few_of_its_blocks() {
    let records = long_lists(50_000, 0);
    let mut changed = records.clone();
    file_body(&mut changed[3]).runs[25_000] = Run::Chunk(ChunkId([1; 32]), 60_000);
    file_body(&mut changed[3])
        .runs
        .insert(25_001, Run::Chunk(ChunkId([2; 32]), 40_000));
    let (before, after) = (cut(&records, true), cut(&changed, true));
    let known = |block: &&Block| before.iter().any(|other| other.bytes == block.bytes);
    assert!(after.len() > 10);
    assert!(after.iter().filter(known).count() + 3 >= after.len());
}

#[test]
fn what_goes_on_must_have_begun_and_must_end() {
    let blocks = cut(&long_lists(20_000, 0), true);
    assert!(blocks.len() > 2 && blocks[1].continues);
    let mut missing_middle = BlockDecoder::whole();
    let mut ignore = |_| {};
    missing_middle.decode(&blocks[0].bytes, &mut ignore).unwrap();
    missing_middle.decode(&blocks[2].bytes, &mut ignore).unwrap();
    let mut rest = blocks[3..].iter();
    let wrong = rest.try_for_each(|block| missing_middle.decode(&block.bytes, &mut ignore));
    // The lists do not add up to the size.
    assert!(matches!(wrong, Err(BlockDamage::Entry { .. })), "{wrong:?}");
    let mut cut_off = BlockDecoder::whole();
    cut_off.decode(&blocks[0].bytes, &mut ignore).unwrap();
    assert_eq!(cut_off.finish(), Err(BlockDamage::Continuation));
    let mut no_head = BlockDecoder::whole();
    assert_eq!(
        no_head.decode(&blocks[1].bytes, &mut ignore),
        Err(BlockDamage::Continuation)
    );
    // Whoever begins in the middle passes over it.
    let mut middle = BlockDecoder::middle();
    let mut found = Vec::new();
    for block in &blocks[1..] {
        middle
            .decode(&block.bytes, &mut |record| found.push(record.entry.path))
            .unwrap();
    }
    assert_eq!(found, [path("zero")]);
}

#[test]
fn an_entry_that_no_block_can_hold_is_refused_and_nothing_is_lost() {
    let mut large = record("large", FileKind::Regular);
    large.entry.attributes.xattrs = (0..100)
        .map(|at| Xattr {
            name: format!("user.{at:03}").into_bytes(),
            value: vec![at; 60_000],
        })
        .collect();
    let mut fits = large.clone();
    fits.entry.attributes.xattrs.truncate(55);
    fits.entry.path = path("fits");
    let mut cutter = BlockCutter::new(true);
    cutter.push(&record("", FileKind::Directory)).unwrap();
    cutter.push(&fits).unwrap();
    let error = cutter.push(&large).unwrap_err();
    assert!(
        matches!(
            error,
            ManifestError::EntryTooLarge {
                bytes: 6_000_000..,
                ..
            }
        ),
        "{error:?}"
    );
    cutter.push(&record("last", FileKind::Regular)).unwrap();
    cutter.finish().unwrap();
    let blocks: Vec<_> = std::iter::from_fn(|| cutter.complete()).collect();
    assert!(blocks.iter().all(|block| block.bytes.len() <= BLOCK_BYTES_MAX));
    let names: Vec<_> = decode(&blocks)
        .into_iter()
        .map(|record| record.entry.path)
        .collect();
    assert_eq!(names, [path(""), path("fits"), path("last")]);
}
