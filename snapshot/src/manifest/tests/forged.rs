//! Manifests whose checksums are all right and which are wrong nevertheless: nothing that is no tree comes out of them.

use std::fs::File;
use std::io::Write;

use cairn_content::checksum::crc32c;
use cairn_content::codec::Encoding;
use cairn_types::ErrorKind;

use super::wide;
use crate::directory::{Record, RelativePath};
use crate::manifest::format::{self, HEADER_BYTES, IndexEntry};
use crate::manifest::{Block, BlockCutter, EntryCounts, ManifestError, ManifestReader};

/// A file of these blocks and what is said of them.
fn forge(blocks: &[Block], counts: &EntryCounts) -> File {
    let header = format::header(true);
    let (mut bytes, mut index) = (header.to_vec(), Vec::new());
    let mut before = RelativePath::root();
    for block in blocks {
        let entry = IndexEntry {
            first: block.first.clone(),
            continues: block.continues,
            offset: bytes.len() as u64,
            stored: block.bytes.len() as u32,
            length: block.bytes.len() as u32,
            entries: block.entries,
            encoding: Encoding::Raw,
            checksum: crc32c(&block.bytes),
            hash: *blake3::hash(&block.bytes).as_bytes(),
        };
        format::put_index_entry(&mut index, &entry, &before);
        before = entry.first;
        bytes.extend_from_slice(&block.bytes);
    }
    let (footer, _) = format::footer(&header, bytes.len() as u64, &index, counts, None);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[bytes, index, footer.to_vec()].concat()).unwrap();
    file
}

/// Everything that comes out before the error.
fn read(file: File) -> (Vec<Record>, Option<ManifestError>) {
    let reader = match ManifestReader::open(file) {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut found = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) => found.push(record),
            Err(error) => return (found, Some(error)),
        }
    }
    (found, reader.check().err())
}

#[test]
fn blocks_that_are_not_where_they_belong_are_told() {
    let records = wide(10_000);
    let mut cutter = BlockCutter::new(true);
    let mut counts = EntryCounts::default();
    for record in &records {
        cutter.push(record).unwrap();
        counts.add(&record.entry);
    }
    cutter.finish().unwrap();
    let blocks: Vec<Block> = std::iter::from_fn(|| cutter.complete()).collect();
    assert!(blocks.len() > 5);
    // With a digest for every file there is a tree hash; here it is not said, which is the only thing that is wrong.
    let (found, error) = read(forge(&blocks, &counts));
    assert_eq!(found, records);
    assert!(matches!(error, Some(ManifestError::Damaged { .. })), "{error:?}");
    type Spoil = fn(&mut Vec<Block>);
    let spoils: &[(&str, Spoil)] = &[
        ("swapped", |blocks| blocks.swap(2, 3)),
        ("twice", |blocks| blocks.insert(2, blocks[2].clone())),
        ("without the first", |blocks| drop(blocks.remove(0))),
        ("none", Vec::clear),
        ("another first path", |blocks| {
            blocks[2].first = blocks[2].first.join(b"0").unwrap()
        }),
        ("other bytes", |blocks| blocks[2].bytes = blocks[3].bytes.clone()),
        ("another count", |blocks| blocks[2].entries += 1),
        ("a continuation", |blocks| blocks[2].continues = true),
        ("bytes behind", |blocks| blocks[2].bytes.push(0)),
        ("empty", |blocks| blocks[2].bytes.clear()),
    ];
    for (what, spoil) in spoils {
        let mut spoilt = blocks.clone();
        spoil(&mut spoilt);
        let (found, error) = read(forge(&spoilt, &counts));
        assert!(records.starts_with(&found), "{what}");
        assert!(found.len() < records.len(), "{what}");
        assert_eq!(
            error.map(|error| error.kind()),
            Some(ErrorKind::Corrupt),
            "{what}"
        );
    }
    // A block that is left out is no other tree's order, but its entries are missed.
    let mut fewer = blocks.clone();
    fewer.remove(3);
    assert_eq!(
        read(forge(&fewer, &counts)).1.map(|error| error.kind()),
        Some(ErrorKind::Corrupt)
    );
}

#[test]
fn announced_lengths_are_not_believed() {
    let header = format::header(true);
    let (sound, _) = format::footer(&header, HEADER_BYTES as u64, &[], &EntryCounts::default(), None);
    for (field, value) in [(0usize, u64::MAX), (0, 31), (8, u64::MAX), (8, 1 << 40), (8, 1)] {
        let mut footer = sound;
        footer[field..field + 8].copy_from_slice(&value.to_le_bytes());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[&header[..], &footer[..]].concat()).unwrap();
        let error = ManifestReader::open(file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{field} {value}");
    }
}
