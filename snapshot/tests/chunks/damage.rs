//! Damaged and missing objects: told with the path, isolated, never returned.

use std::collections::BTreeSet;

use cairn_snapshot::archive::{Progress, ReclaimOptions};
use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::engine::chunks::{ChunksError, ChunksPayload};
use cairn_types::ErrorKind;

use crate::ground::{Ground, assert_holds, fill, things_in};
use crate::harness::{Place, id, verify};
use crate::model::Random;

#[test]
fn every_pack_that_is_changed_cut_or_gone_is_told() {
    let (place, ground) = (Place::new(), Ground::new());
    let random = &mut Random::new(31);
    fill(&ground, random, 120, 30_000);
    let expected = ground.things();
    ground.capture(&place.open(1), 1, None);
    let paths: BTreeSet<Vec<u8>> = expected.keys().map(|path| path.as_bytes().to_vec()).collect();
    assert!(place.packs().len() > 3);
    let mut located = 0;
    for pack in place.packs() {
        let path = place.store().join(&pack);
        let sound = std::fs::read(&path).unwrap();
        let mut kinds: Vec<(String, Option<Vec<u8>>)> = vec![("gone".to_owned(), None)];
        for at in [40, sound.len() / 3, sound.len() - 40] {
            let mut changed = sound.clone();
            changed[at] ^= 1 << random.below(8);
            kinds.push((format!("changed at {at}"), Some(changed)));
        }
        kinds.push(("cut".to_owned(), Some(sound[..sound.len() / 2].to_vec())));
        for (what, bytes) in kinds {
            match &bytes {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            // With what is known from before, and with nothing known.
            for owner in [1, 3] {
                let repository = place.open(owner);
                let (verified, damages) = verify(&repository, true);
                assert!(verified.damages > 0 && !damages.is_empty(), "{what}: {pack}");
                for damage in &damages {
                    let known = damage.path.as_ref().is_none_or(|path| paths.contains(path));
                    assert!(known, "{what}: {damage:?}");
                    located += usize::from(damage.path.is_some() && damage.object == pack);
                }
                let payload = ChunksPayload::open(&repository, id(1), &Progress::new()).unwrap();
                match things_in(&payload) {
                    Ok(found) => assert!(found == expected, "{what}: {pack}"),
                    Err(error) => assert_ne!(error.kind(), ErrorKind::Internal, "{what}: {error:?}"),
                }
                drop(payload);
                drop(repository);
                std::fs::remove_dir_all(place.root.path().join("cache-3")).unwrap_or_default();
            }
            std::fs::write(&path, &sound).unwrap();
        }
    }
    assert!(located > 10, "{located}");
    let repository = place.open(1);
    assert_eq!(verify(&repository, true).1, []);
    assert_holds(&repository, 1, &expected);
}

/// The largest pack is one of data.
fn flip_data(place: &Place) -> String {
    let size = |pack: &String| place.store().join(pack).metadata().unwrap().len();
    let pack = place.packs().into_iter().max_by_key(size).unwrap();
    let path = place.store().join(&pack);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    pack
}

#[test]
fn files_that_are_not_damaged_come_back() {
    let (place, ground) = (Place::new(), Ground::new());
    fill(&ground, &mut Random::new(32), 100, 40_000);
    let expected = ground.things();
    ground.capture(&place.open(1), 1, None);
    let pack = flip_data(&place);
    let repository = place.open(1);
    let (verified, damages) = verify(&repository, true);
    assert_eq!(verified.archives_sound, 0);
    let mut damaged = BTreeSet::new();
    for damage in damages {
        assert_eq!((damage.archive, &damage.object), (Some(id(1)), &pack));
        assert!(damage.offset.is_some() && damage.range.is_some());
        damaged.insert(damage.path.unwrap());
    }
    assert!(!damaged.is_empty() && damaged.len() < 60, "{}", damaged.len());
    let payload = ChunksPayload::open(&repository, id(1), &Progress::new()).unwrap();
    let wanted: Vec<_> = payload
        .records(RelativePath::root())
        .map(|record| Ok(record.unwrap().entry))
        .collect();
    let mut files = payload.files(wanted.into_iter()).unwrap();
    let mut failed = BTreeSet::new();
    while let Some(file) = files.next_file().unwrap() {
        let path = file.entry.path.clone();
        let mut data = vec![0; file.entry.attributes.size as usize];
        let came = file.data(|at, bytes| {
            data[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
            Ok(())
        });
        match came {
            Ok(()) => assert!(data == expected[&path].data, "{path}"),
            Err(ChunksError::Data { path: told, source }) => {
                assert_eq!((told, source.kind()), (path.clone(), ErrorKind::Corrupt));
                failed.insert(path.as_bytes().to_vec());
            }
            Err(error) => panic!("{path}: {error:?}"),
        }
    }
    assert_eq!(failed, damaged);
}

#[test]
fn nothing_is_freed_while_a_manifest_cannot_be_read() {
    let (place, ground) = (Place::new(), Ground::new());
    fill(&ground, &mut Random::new(33), 60, 20_000);
    let repository = place.open(1);
    ground.capture(&repository, 1, None);
    let before = place.packs();
    ground.write("d1/more", b"more");
    ground.capture(&repository, 2, Some(1));
    // The packs of the second archive: its one chunk of data, and its blocks.
    let added: Vec<String> = place
        .packs()
        .into_iter()
        .filter(|pack| !before.contains(pack))
        .collect();
    repository.delete(id(1)).unwrap();
    drop(repository);
    let options = ReclaimOptions {
        grace: std::time::Duration::ZERO,
        ..ReclaimOptions::default()
    };
    let mut refused = 0;
    for pack in &added {
        let path = place.store().join(pack);
        let sound = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let repository = place.open(3);
        repository.own(true).unwrap();
        let there = place.packs();
        match repository.reclaim(&options, &Progress::new(), &mut |_| {}) {
            Err(error) => {
                refused += 1;
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
                assert_eq!(place.packs(), there);
            }
            // Data that is missing keeps nothing else alive.
            Ok(_) => assert!(added.len() > 1),
        }
        drop(repository);
        std::fs::remove_dir_all(place.root.path().join("cache-3")).unwrap();
        std::fs::write(&path, sound).unwrap();
    }
    assert_eq!(refused, 1);
    let repository = place.open(3);
    assert_holds(&repository, 2, &ground.things());
}
