//! What is appended is there when the file is opened again; what a kill leaves is cut off; golden bytes.

use std::fs;
use std::path::Path;

use super::{HEADER_BYTES, Opened, PackRecord, PacksFile, RECORD_BYTES};
use crate::pack::PackId;

const STORE: [u8; 32] = [7; 32];

fn open(path: &Path) -> Opened {
    PacksFile::open(path, STORE).unwrap()
}

fn append(file: &mut PacksFile, number: u32, end: &[u8]) -> PackRecord {
    let mut record = PackRecord {
        number,
        id: PackId([number as u8; 32]),
        bytes: 1000 + u64::from(number) + end.len() as u64,
        chunks: 5,
        offset: 0,
        end_bytes: 0,
        checksum: 0,
    };
    file.append(&mut record, end).unwrap();
    record
}

#[test]
fn packs_come_back_and_forgotten_ones_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("packs");
    let mut opened = open(&path);
    assert!(!opened.damaged && opened.packs.is_empty() && opened.next == 0);
    let records: Vec<_> = (0..5)
        .map(|number| append(&mut opened.file, number, &[number as u8; 40]))
        .collect();
    opened.file.forget(&[records[1], records[4]], true).unwrap();
    // The end of a pack is replaced by appending it again.
    let again = append(&mut opened.file, 2, &[22; 50]);
    let opened = open(&path);
    assert!(!opened.damaged);
    assert_eq!(opened.packs, [records[0], again, records[3]]);
    assert_eq!(opened.next, 5);
    assert_eq!(opened.file.read(&again).unwrap(), Some(vec![22; 50]));
    // Of another store nothing counts.
    let opened = PacksFile::open(&path, [8; 32]).unwrap();
    assert!(opened.damaged && opened.packs.is_empty());
}

#[test]
fn whatever_is_cut_or_changed_costs_no_more_than_what_follows_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("packs");
    let mut opened = open(&path);
    let records: Vec<_> = (0..4)
        .map(|number| append(&mut opened.file, number, &[number as u8; 40]))
        .collect();
    drop(opened);
    let good = fs::read(&path).unwrap();
    // A new file each time: some file systems sync one that is written over.
    let write = |bytes: &[u8]| {
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    };
    for at in 0..good.len() {
        write(&good[..at]);
        let mut opened = open(&path);
        let whole = at.saturating_sub(HEADER_BYTES) / (RECORD_BYTES + 40);
        assert_eq!(opened.packs, records[..whole], "cut at {at}");
        // And it goes on from there.
        append(&mut opened.file, 9, b"the next");
        let opened = open(&path);
        assert_eq!(
            (opened.packs.len(), opened.damaged),
            (whole + 1, false),
            "cut at {at}"
        );

        let mut bytes = good.clone();
        bytes[at] ^= 4;
        write(&bytes);
        let opened = open(&path);
        let readable = opened
            .packs
            .iter()
            .filter(|record| opened.file.read(record).unwrap().is_some())
            .count();
        let (record, within) = (
            at.saturating_sub(HEADER_BYTES) / (RECORD_BYTES + 40),
            at.saturating_sub(HEADER_BYTES) % (RECORD_BYTES + 40),
        );
        let expected = match at {
            _ if at < HEADER_BYTES => 0,
            // A damaged head ends the file, a damaged end is only itself.
            _ if within < RECORD_BYTES => record,
            _ => 3,
        };
        assert_eq!(readable, expected, "changed at {at}");
        assert!(opened.packs.iter().all(|found| records.contains(found)));
    }
}

#[test]
fn a_file_of_little_use_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("packs");
    let mut file = open(&path).file;
    let records: Vec<_> = (0..40)
        .map(|number| append(&mut file, number, &vec![number as u8; 40_000]))
        .collect();
    assert!(!file.is_wasteful());
    file.forget(&records[..30], false).unwrap();
    assert!(file.is_wasteful());
    let moved = file.rewrite(&records[30..]).unwrap();
    assert!(!file.is_wasteful());
    let opened = open(&path);
    assert_eq!(opened.packs, moved);
    for record in &moved {
        assert_eq!(
            file.read(record).unwrap(),
            Some(vec![record.number as u8; 40_000])
        );
    }
    assert_eq!(
        fs::metadata(&path).unwrap().len(),
        (HEADER_BYTES + 10 * (RECORD_BYTES + 40_000)) as u64
    );
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("packs");
    let mut opened = open(&path);
    let record = append(&mut opened.file, 3, b"an end");
    opened.file.forget(&[record], false).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), HEADER_BYTES + RECORD_BYTES + 6 + RECORD_BYTES);
    assert_eq!(&bytes[..8], b"CAIRNPKS");
    assert_eq!(bytes[8..12], [1, 0, 0, 0]);
    assert_eq!(bytes[12..44], STORE);
    let head = &bytes[HEADER_BYTES..HEADER_BYTES + RECORD_BYTES];
    assert_eq!(head[4..16], [1, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0]);
    assert_eq!(head[16..48], [3; 32]);
    assert_eq!(head[48..60], [0xf1, 3, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
    assert_eq!(head[60..], crate::checksum::crc32c(b"an end").to_le_bytes());
    assert_eq!(&bytes[HEADER_BYTES + RECORD_BYTES..][..6], b"an end");
    let head = &bytes[HEADER_BYTES + RECORD_BYTES + 6..];
    assert_eq!(head[4..16], [2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        blake3::hash(&bytes).to_hex().as_str(),
        "4286f6b6656b5071af775661e3aa9d0e9de489acdd8199deda071848f1a9ff44"
    );
}
