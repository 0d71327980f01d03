//! Damaged and missing objects: told, located, isolated, never returned.

use std::collections::BTreeSet;

use cairn_snapshot::archive::{ArchiveError, Progress};
use cairn_types::ErrorKind;

use crate::harness::{Place, assert_holds, id, pull, push, verify};
use crate::model::{ModelSource, ModelTarget, Random, Tree};

#[test]
fn every_pack_that_is_changed_cut_or_gone_is_told() {
    let place = Place::new();
    let random = &mut Random::new(21);
    let tree = Tree::random(random, 40);
    push(&place.open(1), &ModelSource::new(&tree), 1).unwrap();
    for pack in place.packs() {
        let path = place.store().join(&pack);
        let sound = std::fs::read(&path).unwrap();
        let mut kinds: Vec<(String, Option<Vec<u8>>)> = vec![("gone".to_owned(), None)];
        for at in [0, 40, sound.len() / 2, sound.len() - 40, sound.len() - 1] {
            let mut changed = sound.clone();
            changed[at] ^= 1 << random.below(8);
            kinds.push((format!("changed at {at}"), Some(changed)));
        }
        kinds.push(("cut".to_owned(), Some(sound[..sound.len() / 2].to_vec())));
        kinds.push(("empty".to_owned(), Some(Vec::new())));
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
                let names_it = damages
                    .iter()
                    .any(|damage| damage.object == pack || bytes.is_none());
                assert!(names_it, "{what}: {damages:?}");
                let archive = repository.find(None).unwrap();
                match pull(&repository, &archive) {
                    Ok((found, _)) => assert!(found == tree, "{what}: {pack}"),
                    Err(error) => assert_ne!(error.kind(), ErrorKind::Internal, "{what}: {error:?}"),
                }
                drop(repository);
                std::fs::remove_dir_all(place.root.path().join("cache-3")).unwrap_or_default();
            }
            std::fs::write(&path, &sound).unwrap();
        }
    }
    let repository = place.open(1);
    assert_eq!(verify(&repository, true).1, []);
    assert_holds(&repository, 1, &tree);
}

#[test]
fn damage_is_located_and_everything_else_comes_back() {
    let place = Place::new();
    let random = &mut Random::new(22);
    let mut tree = Tree::random(random, 80);
    for inode in tree.0.keys().copied().collect::<Vec<_>>() {
        if tree.0[&inode].node.kind == cairn_types::FileKind::Regular {
            tree.set_data(inode, random.bytes(40_000), random);
        }
    }
    let repository = place.open(1);
    push(&repository, &ModelSource::new(&tree), 1).unwrap();
    drop(repository);
    let (pack, size) = place
        .packs()
        .into_iter()
        .map(|pack| (pack.clone(), place.store().join(&pack).metadata().unwrap().len()))
        .max_by_key(|(_, size)| *size)
        .unwrap();
    let path = place.store().join(&pack);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[size as usize / 2] ^= 4;
    std::fs::write(&path, bytes).unwrap();

    let repository = place.open(1);
    let (verified, damages) = verify(&repository, true);
    assert_eq!(verified.archives_sound, 0);
    assert!(!damages.is_empty() && damages.len() < 40, "{}", damages.len());
    for damage in &damages {
        assert_eq!((damage.archive, &damage.object), (Some(id(1)), &pack));
        assert!(damage.offset.is_some_and(|offset| offset <= size / 2));
        assert!(damage.range.is_some());
        let known = tree
            .0
            .keys()
            .any(|inode| tree.path_of(*inode).contains(damage.path.as_ref().unwrap()));
        assert!(known, "{damage:?}");
    }
    let archive = repository.find(None).unwrap();
    let error = pull(&repository, &archive).unwrap_err();
    assert!(matches!(error, ArchiveError::Unreadable(_)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    // Without what is damaged.
    let files = repository.unreadable_files(id(1), &Progress::new()).unwrap();
    let without: BTreeSet<_> = files.keys().copied().collect();
    let paths: BTreeSet<_> = damages.iter().filter_map(|damage| damage.path.clone()).collect();
    assert_eq!(without.len(), paths.len());
    let mut target = ModelTarget::default();
    repository
        .pull(&archive, &mut target, &without, &Progress::new())
        .unwrap();
    let mut expected = tree.clone();
    expected.0.retain(|inode, _| !without.contains(inode));
    for object in expected.0.values_mut() {
        object.entries.retain(|_, (child, _)| !without.contains(child));
    }
    crate::harness::assert_same(&target.tree, &expected);
}

#[test]
fn a_damaged_root_is_told_and_does_not_hide_the_others() {
    let place = Place::new();
    let tree = Tree::random(&mut Random::new(23), 10);
    let repository = place.open(1);
    push(&repository, &ModelSource::new(&tree), 1).unwrap();
    push(&repository, &ModelSource::new(&tree), 2).unwrap();
    let path = place.store().join(format!("archives/{}", id(1)));
    let sound = std::fs::read(&path).unwrap();
    for bit in (0..sound.len() * 8).step_by(97) {
        let mut changed = sound.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, changed).unwrap();
        let error = repository.find(Some(&id(1).to_string())).unwrap_err();
        assert!(error.to_string().contains(&id(1).to_string()), "{error}");
        assert_eq!(repository.archives().unwrap().len(), 1);
    }
    let (verified, damages) = verify(&repository, false);
    assert_eq!((verified.archives, verified.archives_sound), (2, 1));
    assert_eq!(damages[0].archive, Some(id(1)));
    // What a root that cannot be read needs is not known, so nothing is freed.
    let outcome = repository.reclaim(&Default::default(), &Progress::new(), &mut |_| {});
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::write(&path, b"cairn archive 9 0\n{}\n").unwrap();
    let error = repository.find(Some(&id(1).to_string())).unwrap_err();
    assert!(
        matches!(error, ArchiveError::NewerVersion { found: 9, .. }),
        "{error:?}"
    );
    assert_holds(&repository, 2, &tree);
}

#[test]
fn what_is_in_memory_does_not_hide_what_is_damaged_in_the_store() {
    let place = Place::new();
    let tree = Tree::random(&mut Random::new(24), 60);
    let repository = place.open(1);
    push(&repository, &ModelSource::new(&tree), 1).unwrap();
    for pack in place.packs() {
        // Parts of the tree and data were read, and are kept.
        assert_holds(&repository, 1, &tree);
        let path = place.store().join(&pack);
        let sound = std::fs::read(&path).unwrap();
        let mut changed = sound.clone();
        changed[sound.len() / 2] ^= 1;
        std::fs::write(&path, changed).unwrap();
        let (verified, damages) = verify(&repository, true);
        assert_eq!(verified.archives_sound, 0, "{pack}");
        assert!(
            damages
                .iter()
                .any(|damage| damage.object == pack && damage.archive == Some(id(1))),
            "{pack}: {damages:?}"
        );
        std::fs::write(&path, sound).unwrap();
    }
    assert_eq!(verify(&repository, true).1, []);
}
