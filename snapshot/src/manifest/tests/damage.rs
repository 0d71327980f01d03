//! Damaged manifests: told and named, whatever bit it is; never other records.

use std::fs::File;
use std::io::Write;

use cairn_types::ErrorKind;
use proptest::prelude::{Just, Strategy, any};
use proptest::{prop_assert, proptest};

use super::{bytes_of, everything, wide, write};
use crate::directory::Record;
use crate::manifest::{BlockDecoder, ManifestError, ManifestOptions, ManifestReader};

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Reads as much as can be read; the error if it is not everything.
fn read(bytes: &[u8]) -> (Vec<Record>, Option<ManifestError>) {
    let reader = match ManifestReader::open(file_of(bytes)) {
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

fn assert_told(bytes: &[u8], records: &[Record], what: &str) -> ManifestError {
    let (found, error) = read(bytes);
    assert!(records.starts_with(&found), "{what}: other records");
    let error = error.unwrap_or_else(|| panic!("{what}: not noticed"));
    assert!(
        matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid),
        "{what}: {error}"
    );
    error
}

#[test]
fn every_bit_that_is_flipped_is_told() {
    let records = everything();
    let bytes = bytes_of(&write(&records, ManifestOptions::default()).0);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert_told(&damaged, &records, &format!("bit {bit} of byte {at}"));
        }
    }
}

#[test]
fn every_truncation_is_told() {
    let records = everything();
    let bytes = bytes_of(&write(&records, ManifestOptions::default()).0);
    for length in 0..bytes.len() {
        let error = assert_told(&bytes[..length], &records, &format!("{length} bytes"));
        assert!(
            matches!(error, ManifestError::Truncated { .. }),
            "{length}: {error:?}"
        );
    }
    let error = assert_told(&[&bytes[..], b"x"].concat(), &records, "a byte more");
    assert!(matches!(error, ManifestError::Truncated { .. }));
}

#[test]
fn damage_in_a_block_names_it_and_keeps_what_is_before_it() {
    let records = wide(20_000);
    let bytes = bytes_of(&write(&records, ManifestOptions::default()).0);
    let at = bytes.len() / 2;
    let mut damaged = bytes.clone();
    damaged[at] ^= 0x10;
    let (found, error) = read(&damaged);
    assert!(found.len() > 1000 && records.starts_with(&found));
    let Some(ManifestError::Block {
        offset, bytes, first, ..
    }) = error
    else {
        panic!("{error:?}");
    };
    assert!((offset..offset + u64::from(bytes)).contains(&(at as u64)));
    assert_eq!(first, records[found.len()].entry.path);
    // The others can be read still.
    let reader = ManifestReader::open(file_of(&damaged)).unwrap();
    let last = records.last().unwrap();
    assert_eq!(reader.find(&last.entry.path).unwrap().as_ref(), Some(last));
}

#[test]
fn what_is_no_manifest_is_told_apart_from_a_damaged_one() {
    let (_, error) = read(&[b'x'; 4096]);
    assert!(matches!(error, Some(ManifestError::NotAManifest)));
    let mut newer = bytes_of(&write(&everything(), ManifestOptions::default()).0);
    newer[8] = 2;
    let (_, error) = read(&newer);
    assert!(matches!(
        error,
        Some(ManifestError::Version { found: 2, known: 1 })
    ));
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Invalid));
}

/// A block of real records with some bytes changed, removed, or put in.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let mut cutter = crate::manifest::BlockCutter::new(true);
    let tree = everything();
    tree.iter().for_each(|record| cutter.push(record).unwrap());
    cutter.finish().unwrap();
    let sound = cutter.complete().unwrap().bytes;
    let change = (any::<proptest::sample::Index>(), 0..3u8, any::<u8>());
    let changes = proptest::collection::vec(change, 1..4);
    (Just(sound), changes).prop_map(|(mut bytes, changes)| {
        for (at, how, byte) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, cases: 4000, ..Default::default() })]

    /// Whatever a block holds: no panic, no large allocation, and what comes out is a tree, which can be written again.
    #[test]
    fn the_decoder_stands_anything(bytes in proptest::prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600).boxed(),
        mangled().boxed(),
    ]) {
        let mut records = Vec::new();
        let damage = BlockDecoder::whole().decode(&bytes, &mut |record| records.push(record));
        prop_assert!(damage.is_err() || !records.is_empty() || bytes.is_empty());
        let mut cutter = crate::manifest::BlockCutter::new(true);
        for record in &records {
            prop_assert!(cutter.push(record).is_ok(), "{:?}", record);
        }
    }
}
