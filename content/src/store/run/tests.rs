//! Runs against a sorted list; their golden bytes; every kind of damage is found.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use cairn_types::ChunkId;
use proptest::prelude::{Strategy, any, prop, prop_assert_eq, proptest};

use super::{Entry, FOOTER_BYTES, PAGE_BYTES, PAGE_ENTRIES, Run, RunError, RunPack, merge, write_run};
use crate::pack::PackId;

fn chunk(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn sorted(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let entries: BTreeSet<Entry> = entries.into_iter().collect();
    entries.into_iter().collect()
}

fn sample(count: u64) -> Vec<Entry> {
    sorted((0..count).map(|number| Entry {
        id: chunk(number),
        pack: number as u32 / 100,
        chunk: number as u32 % 100,
    }))
}

fn write(path: &Path, entries: &[Entry]) -> Run {
    let packs: BTreeSet<u32> = entries.iter().map(|entry| entry.pack).collect();
    let packs = packs
        .into_iter()
        .map(|number| RunPack::new(number, &PackId([number as u8; 32])));
    write_run(path, entries.iter().copied().map(Ok), packs.collect()).unwrap()
}

fn find(run: &Run, id: &ChunkId) -> Vec<Entry> {
    let mut found = Vec::new();
    run.find(id, &mut found).unwrap();
    found
}

#[test]
fn every_entry_is_found_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run");
    for count in [
        0,
        1,
        2,
        PAGE_ENTRIES as u64 - 1,
        PAGE_ENTRIES as u64,
        PAGE_ENTRIES as u64 + 1,
        5000,
    ] {
        let entries = sample(count);
        let run = write(&path, &entries);
        assert_eq!(run.entries(), count);
        assert_eq!(run.packs().len() as u64, count.div_ceil(100));
        for entry in &entries {
            assert_eq!(find(&run, &entry.id), [*entry]);
        }
        for number in count..count + 300 {
            assert_eq!(find(&run, &chunk(number)), []);
        }
        assert_eq!(find(&run, &ChunkId([0; 32])), []);
        assert_eq!(find(&run, &ChunkId([255; 32])), []);
        let all: Vec<Entry> = run.iter().map(Result::unwrap).collect();
        assert_eq!(all, entries);
        let first_keys = run.memory();
        assert!(first_keys <= entries.len().div_ceil(PAGE_ENTRIES) * 8 + (run.packs().len() + 1) * 12);
    }
}

#[test]
fn copies_that_fill_many_pages_are_all_found() {
    let directory = tempfile::tempdir().unwrap();
    let copies: Vec<Entry> = (0..1000)
        .map(|number| Entry {
            id: chunk(7),
            pack: number / 10,
            chunk: number % 10,
        })
        .collect();
    // Others with the same first eight bytes, which decide about pages.
    let mut near = chunk(7);
    near.0[31] ^= 1;
    let near: Vec<Entry> = (0..150)
        .map(|chunk| Entry {
            id: near,
            pack: 500,
            chunk,
        })
        .collect();
    let all = sorted(
        sample(2000)
            .into_iter()
            .filter(|entry| entry.id != chunk(7))
            .chain(copies.clone())
            .chain(near.clone()),
    );
    let run = write(&directory.path().join("run"), &all);
    assert_eq!(find(&run, &chunk(7)), copies);
    assert_eq!(find(&run, &near[0].id), near);
    for number in (0..2000).filter(|number| *number != 7) {
        assert_eq!(find(&run, &chunk(number)).len(), 1);
    }
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run");
    let entries: Vec<Entry> = (0..3u8)
        .map(|number| Entry {
            id: ChunkId([number + 1; 32]),
            pack: 0x0102_0304 * u32::from(number),
            chunk: 9,
        })
        .collect();
    let packs = entries
        .iter()
        .map(|entry| RunPack::new(entry.pack, &PackId([0xaa; 32])));
    write_run(&path, entries.iter().copied().map(Ok), packs.collect()).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), PAGE_BYTES + 8 + 3 * 12 + FOOTER_BYTES);
    // The page's number and count, then 40 bytes an entry.
    assert_eq!(bytes[4..12], [0, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(bytes[12..44], [1; 32]);
    assert_eq!(bytes[44..52], [0, 0, 0, 0, 9, 0, 0, 0]);
    assert_eq!(bytes[52..84], [2; 32]);
    assert_eq!(bytes[84..92], [4, 3, 2, 1, 9, 0, 0, 0]);
    assert!(bytes[132..PAGE_BYTES].iter().all(|byte| *byte == 0));
    // First keys, packs, end.
    assert_eq!(bytes[PAGE_BYTES..PAGE_BYTES + 8], [1; 8]);
    assert_eq!(
        bytes[PAGE_BYTES + 8..PAGE_BYTES + 20],
        [0, 0, 0, 0, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa]
    );
    let footer = &bytes[PAGE_BYTES + 44..];
    assert_eq!(
        footer[4..32],
        [
            3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0
        ]
    );
    assert_eq!(&footer[32..], b"CAIRNRUN");
    // The whole, checksums included, does not change unnoticed.
    assert_eq!(
        blake3::hash(&bytes).to_hex().as_str(),
        "a24f0c8d588b1e3c6f16c0f24296fded17573c5ce2b09d34589cf27c7e964ed1"
    );
}

#[test]
fn every_changed_byte_and_every_cut_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run");
    let entries = sample(PAGE_ENTRIES as u64 + 10);
    write(&path, &entries);
    let good = fs::read(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let broken = || {
        let run = match Run::open(&path) {
            Err(RunError::Damaged(_)) => return true,
            opened => opened.unwrap(),
        };
        // One of each page.
        let mut found = Vec::new();
        let mut looked = [&entries[0], &entries[entries.len() - 1]].into_iter();
        looked.any(|entry| matches!(run.find(&entry.id, &mut found), Err(RunError::Damaged(_))))
    };
    assert!(!broken());
    for at in 0..good.len() {
        file.write_all_at(&[good[at] ^ 1 << (at % 8)], at as u64).unwrap();
        assert!(broken(), "byte {at}");
        file.write_all_at(&good[at..=at], at as u64).unwrap();
    }
    // Pages that changed places.
    file.write_all_at(&good[PAGE_BYTES..2 * PAGE_BYTES], 0).unwrap();
    file.write_all_at(&good[..PAGE_BYTES], PAGE_BYTES as u64).unwrap();
    assert!(broken());
    file.write_all_at(&good, 0).unwrap();
    assert!(!broken());
    for length in (0..good.len() as u64).rev().step_by(7) {
        file.set_len(length).unwrap();
        assert!(broken(), "cut at {length}");
    }
}

#[test]
fn an_error_among_the_entries_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run");
    let entries = sample(500)
        .into_iter()
        .map(Ok)
        .chain([Err(RunError::Damaged("on purpose"))]);
    write_run(&path, entries, Vec::new()).unwrap_err();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// Entries of few chunks, so that copies are frequent.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (0..200u64, 0..20u32, 0..4u32).prop_map(|(number, pack, at)| Entry {
        id: chunk(number),
        pack,
        chunk: at,
    });
    prop::collection::vec(entry, 0..600)
}

proptest! {
    #[test]
    fn runs_and_their_merges_agree_with_a_sorted_list(parts in prop::collection::vec(entries(), 1..5), probe in any::<u64>()) {
        let directory = tempfile::tempdir().unwrap();
        let runs: Vec<Run> = parts
            .iter()
            .enumerate()
            .map(|(number, part)| write(&directory.path().join(format!("run-{number}")), &sorted(part.iter().copied())))
            .collect();
        let model = sorted(parts.iter().flatten().copied());
        let sources = runs.iter().map(|run| Box::new(run.iter()) as Box<dyn Iterator<Item = _>>).collect();
        let merged: Vec<Entry> = merge(sources).map(Result::unwrap).collect();
        prop_assert_eq!(&merged, &model);
        let whole = write(&directory.path().join("whole"), &merged);
        for number in (0..200).chain([probe]) {
            let id = chunk(number);
            let expected: Vec<Entry> = model.iter().filter(|entry| entry.id == id).copied().collect();
            prop_assert_eq!(find(&whole, &id), expected);
        }
    }
}
