//! The index: made from packs alone, damaged in every file, and damaged packs in the store.

use std::fs;

use cairn_content::pack::PackError;
use cairn_content::store::{PackDamageCause, pack_name};
use cairn_types::ErrorKind;

use super::{Bench, data, id, pack, refresh, wanted};

#[test]
fn what_is_known_is_known_after_a_kill_at_any_moment() {
    let bench = Bench::memory();
    // Dropping the store writes nothing, so that it is as good as a kill.
    for first in 0..20 {
        let store = bench.open();
        store.store_pack(pack(first * 30..first * 30 + 30)).unwrap();
        for number in 0..600 {
            assert_eq!(store.contains(&id(number)).unwrap(), number < first * 30 + 30);
        }
    }
    let store = bench.open();
    assert!(
        store.index_size().runs >= 1 && store.index_size().runs < 8,
        "{:?}",
        store.index_size()
    );
    for number in 0..600 {
        let location = store.locate(&id(number)).unwrap().unwrap();
        assert_eq!(
            (location.chunk.id, location.chunk.length as usize),
            (id(number), data(number).len())
        );
        assert_eq!(store.pack_index(&location.pack).unwrap().chunks().len(), 30);
    }
}

#[test]
fn whatever_file_of_the_index_is_damaged_nothing_wrong_is_said() {
    let bench = Bench::memory();
    let store = bench.open();
    for first in 0..10 {
        store.store_pack(pack(first * 30..first * 30 + 30)).unwrap();
    }
    drop(store);
    let files: Vec<_> = fs::read_dir(bench.cache())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() >= 2);
    let good: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    let restore = || {
        for entry in fs::read_dir(bench.cache()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        files
            .iter()
            .zip(&good)
            .for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    };
    let check = |what: &str| {
        let store = bench.open();
        // Before a refresh less may be known, never more.
        assert!(
            (300..320).all(|number| !store.contains(&id(number)).unwrap()),
            "{what}"
        );
        for number in (0..300).filter(|number| store.contains(&id(*number)).unwrap()) {
            let (id, length) = wanted(number);
            assert_eq!(store.read(&id, length).unwrap(), data(number), "{what}");
        }
        let refreshed = refresh(&store);
        assert_eq!((refreshed.packs, refreshed.damaged), (10, 0), "{what}");
        assert!(
            (0..300).all(|number| store.contains(&id(number)).unwrap()),
            "{what}"
        );
    };
    for (path, bytes) in files.iter().zip(&good) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for part in 0..12 {
            let at = (bytes.len() - 1) * part / 11;
            restore();
            let mut changed = bytes.clone();
            changed[at] ^= 16;
            fs::write(path, changed).unwrap();
            check(&format!("{name} changed at {at}"));
            restore();
            fs::write(path, &bytes[..at]).unwrap();
            check(&format!("{name} cut at {at}"));
        }
        restore();
        fs::remove_file(path).unwrap();
        check(&format!("{name} removed"));
    }
    // Files of a later version, and of another store.
    restore();
    let packs = bench.cache().join("packs");
    let mut later = fs::read(&packs).unwrap();
    later[8] = 2;
    fs::write(&packs, later).unwrap();
    check("a later version");
    let other = Bench::file();
    restore();
    fs::rename(bench.cache(), other.cache()).unwrap();
    let store = other.open();
    assert_eq!(store.packs().len(), 0);
    assert!((0..300).all(|number| !store.contains(&id(number)).unwrap()));
}

#[test]
fn damaged_and_foreign_objects_are_named_and_stop_nothing() {
    let bench = Bench::file();
    let store = bench.open();
    let packs: Vec<_> = (0..6).map(|first| pack(first * 50..first * 50 + 50)).collect();
    for pack in &packs {
        store.store_pack(pack.clone()).unwrap();
    }
    drop(store);
    fs::remove_dir_all(bench.cache()).unwrap();
    // Cut; a bit of the index; a bit of the trailer; a bit of a frame, which nobody sees here; no pack; no pack's name.
    let write = |number: usize, bytes: &[u8]| fs::write(bench.pack_path(&packs[number]), bytes).unwrap();
    let flipped = |number: usize, from_end: usize| {
        let mut bytes = packs[number].bytes.to_vec();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        bytes
    };
    write(0, &packs[0].bytes[..packs[0].bytes.len() - 1]);
    write(1, &flipped(1, 100));
    write(2, &flipped(2, 32));
    write(3, &flipped(3, packs[3].bytes.len() - 40));
    write(4, b"short");
    fs::write(bench.directory.path().join("objects/packs/readme"), b"hello").unwrap();
    let store = bench.open();
    let refreshed = refresh(&store);
    assert_eq!((refreshed.packs, refreshed.added, refreshed.damaged), (2, 2, 5));
    let mut named: Vec<String> = refreshed
        .damages
        .iter()
        .map(|damage| damage.name.to_string())
        .collect();
    named.sort();
    let name = |number: usize| pack_name(&packs[number].id).unwrap().to_string();
    let mut expected = vec![name(0), name(1), name(2), name(4), "packs/readme".to_owned()];
    expected.sort();
    assert_eq!(named, expected);
    for damage in &refreshed.damages {
        match damage.name.as_str() {
            "packs/readme" => assert!(matches!(damage.cause, PackDamageCause::Foreign)),
            other if other == name(1) => {
                assert!(matches!(
                    damage.cause,
                    PackDamageCause::Pack(PackError::Index { .. })
                ));
            }
            _ => assert!(matches!(damage.cause, PackDamageCause::Pack(_)), "{damage:?}"),
        }
    }
    for number in 0..300 {
        assert_eq!(
            store.contains(&id(number)).unwrap(),
            (150..200).contains(&number) || number >= 250
        );
    }
    // Once stored again they are whole.
    for number in [0, 1, 2, 4] {
        store.store_pack(packs[number].clone()).unwrap();
    }
    let refreshed = refresh(&store);
    assert_eq!((refreshed.packs, refreshed.added, refreshed.damaged), (6, 0, 1));
    // The bit in the frame is found when the frame is read.
    let (id, length) = wanted(150);
    let error = store.read(&id, length).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&packs[3].id.to_string()), "{error}");
    assert!(error.to_string().contains("frame at 32"), "{error}");
    let (id, length) = wanted(190);
    assert_eq!(store.read(&id, length).unwrap(), data(190));
}

#[test]
fn packs_with_large_indexes_are_read_by_two_requests() {
    // 36 bytes a chunk: more than the first request asks for.
    let bench = Bench::memory();
    let store = bench.open();
    let large = pack(0..2500);
    store.store_pack(large.clone()).unwrap();
    drop(store);
    fs::remove_dir_all(bench.cache()).unwrap();
    let store = bench.open();
    assert_eq!(refresh(&store).added, 1);
    assert_eq!(*store.pack_index(&large.id).unwrap(), large.index);
    assert!((0..2500).all(|number| store.contains(&id(number)).unwrap()));
}

#[test]
fn a_chunk_is_missing_or_of_another_length_by_its_own_error() {
    let bench = Bench::memory();
    let store = bench.open();
    store.store_pack(pack(0..10)).unwrap();
    let missing = store.read(&id(11), 5).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(
        missing.to_string().starts_with("object store memory://"),
        "{missing}"
    );
    let (id, length) = wanted(3);
    assert_eq!(
        store.read(&id, length + 1).unwrap_err().kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(store.read(&id, length).unwrap(), data(3));
}
