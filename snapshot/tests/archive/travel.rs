//! Pushes and pulls.

use std::sync::Arc;

use cairn_content::objects::FenceError;
use cairn_content::sealing::KeyEncryptionKey;
use cairn_snapshot::archive::{ArchiveError, Progress, rotate_key, sealing_of};
use cairn_types::ErrorKind;

use crate::harness::{Chance, Place, assert_holds, assert_same, description, id, pull, push, verify};
use crate::model::{ModelSource, ModelTarget, Random, Tree};

#[test]
fn what_is_pushed_comes_back() {
    let place = Place::new();
    let random = &mut Random::new(1);
    let tree = Tree::random(random, 400);
    let repository = place.open(1);
    let pushed = push(&repository, &ModelSource::new(&tree), 1).unwrap();
    assert!(!pushed.already_there && pushed.bytes_stored > 0 && pushed.packs > 1);
    assert_eq!(pushed.archive.counts.bytes, tree.bytes());
    assert_eq!(pushed.archive.counts.inodes, tree.0.len() as u64);
    assert_holds(&repository, 1, &tree);
    let (verified, damages) = verify(&repository, true);
    assert_eq!((verified.archives_sound, damages), (1, Vec::new()));
    // Somebody who has nothing but the store.
    drop(repository);
    assert_holds(&place.open(2), 1, &tree);
    // Once more: nothing is done.
    let again = push(&place.open(1), &ModelSource::new(&tree), 1).unwrap();
    assert!(again.already_there && again.packs == 0);
    assert_eq!(again.archive, pushed.archive);
}

#[test]
fn a_tree_of_nothing_but_a_root_travels() {
    let place = Place::new();
    let tree = Tree::random(&mut Random::new(2), 0);
    let repository = place.open(1);
    push(&repository, &ModelSource::new(&tree), 1).unwrap();
    assert_holds(&repository, 1, &tree);
    let nothing = ModelSource::new(&Tree::default());
    assert!(matches!(
        push(&repository, &nothing, 2),
        Err(ArchiveError::Order { .. })
    ));
}

#[test]
fn only_what_changed_is_read() {
    for seed in 0..12 {
        let place = Place::new();
        let random = &mut Random::new(seed);
        let mut tree = Tree::random(random, 300);
        let repository = place.open(1);
        let mut source = ModelSource::new(&tree);
        push(&repository, &source, 1).unwrap();
        for number in 2..6 {
            let (before, disk) = (tree.clone(), source.disk.clone());
            let count = random.below(20);
            let changed = tree.change(random, count);
            *disk.read_bytes.lock().unwrap() = 0;
            source = ModelSource::new(&tree);
            source.disk = disk;
            source.bases = vec![
                (id(99), Some(Vec::new()), Tree::default()),
                (id(number - 1), Some(changed.clone()), before),
            ];
            let pushed = push(&repository, &source, number).unwrap();
            assert_eq!(pushed.archive.base, Some(id(number - 1)));
            assert!(pushed.files_read <= changed.len() as u64);
            assert_eq!(pushed.archive.counts.inodes, tree.0.len() as u64, "seed {seed}");
            assert_eq!(pushed.archive.counts.bytes, tree.bytes(), "seed {seed}");
            assert_holds(&repository, number, &tree);
        }
        let (verified, damages) = verify(&repository, true);
        assert_eq!((verified.archives_sound, damages), (5, Vec::new()));
    }
}

#[test]
fn of_a_large_file_only_the_parts_that_changed_are_read() {
    let place = Place::new();
    let random = &mut Random::new(3);
    let mut tree = Tree::random(random, 50);
    let file = *tree
        .0
        .iter()
        .find(|(_, object)| object.node.kind == cairn_types::FileKind::Regular)
        .unwrap()
        .0;
    let mut data = random.bytes(20 << 20);
    tree.set_data(file, data.clone(), random);
    let repository = place.open(1);
    let mut source = ModelSource::new(&tree);
    push(&repository, &source, 1).unwrap();
    let before = tree.clone();
    data[7_000_000..7_000_100].fill(1);
    data.truncate(19_000_001);
    tree.set_data(file, data, random);
    let disk = source.disk.clone();
    *disk.read_bytes.lock().unwrap() = 0;
    source = ModelSource::new(&tree);
    source.disk = disk.clone();
    source.bases = vec![(id(1), Some(vec![file]), before)];
    let pushed = push(&repository, &source, 2).unwrap();
    assert!(pushed.bytes_read < 2 << 20, "{}", pushed.bytes_read);
    assert_eq!(*disk.read_bytes.lock().unwrap(), pushed.bytes_read);
    assert_holds(&repository, 2, &tree);
}

#[test]
fn a_push_of_what_has_not_changed_stores_a_root() {
    let place = Place::new();
    let tree = Tree::random(&mut Random::new(4), 300);
    push(&place.open(1), &ModelSource::new(&tree), 1).unwrap();
    let packs = place.packs();
    let mut source = ModelSource::new(&tree);
    source.bases = vec![(id(1), Some(Vec::new()), tree.clone())];
    let repository = place.open(1);
    let pushed = push(&repository, &source, 2).unwrap();
    assert_eq!((pushed.files_read, pushed.packs, pushed.bytes_stored), (0, 0, 0));
    assert_eq!(place.packs(), packs);
    assert_holds(&repository, 2, &tree);
    // Without a base all is read, and nothing is stored but a root.
    let pushed = push(&repository, &ModelSource::new(&tree), 3).unwrap();
    assert!(pushed.files_read > 0 && pushed.bytes_new == 0);
    assert_eq!(place.packs(), packs);
}

#[test]
fn a_push_that_fails_leaves_nothing_to_be_seen_and_is_taken_up() {
    let place = Place::new();
    let random = &mut Random::new(5);
    let mut tree = Tree::random(random, 50);
    for inode in tree.0.keys().copied().collect::<Vec<_>>() {
        if tree.0[&inode].node.kind == cairn_types::FileKind::Regular {
            tree.set_data(inode, random.bytes(300_000), random);
        }
    }
    let source = ModelSource::new(&tree);
    let repository = place.open(1);
    let cancelled = Progress::new();
    cancelled.cancel();
    let error = repository.push(&source, description(1), &cancelled).unwrap_err();
    assert!(
        matches!(error, ArchiveError::Cancelled | ArchiveError::Store(_)),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Conflict);
    *source.fails_after.lock().unwrap() = Some(1);
    let error = push(&repository, &source, 1).unwrap_err();
    assert!(matches!(error, ArchiveError::Source(_)), "{error:?}");
    assert!(matches!(
        repository.find(None),
        Err(ArchiveError::NotFound { .. })
    ));
    *source.fails_after.lock().unwrap() = None;
    push(&repository, &source, 1).unwrap();
    assert_holds(&repository, 1, &tree);
}

#[test]
fn a_pull_goes_on_where_it_ended() {
    let place = Place::new();
    let tree = Tree::random(&mut Random::new(6), 200);
    let repository = place.open(1);
    push(&repository, &ModelSource::new(&tree), 1).unwrap();
    let archive = repository.find(Some("tag-1")).unwrap();
    let mut target = ModelTarget::default();
    let (mut rounds, mut step) = (0, 3);
    loop {
        target.fails_after = Some(step);
        let outcome = repository.pull(&archive, &mut target, &Default::default(), &Progress::new());
        match outcome {
            Ok(pulled) => {
                assert!(pulled.resumed);
                break;
            }
            Err(error) => assert!(matches!(error, ArchiveError::Target(_)), "{error:?}"),
        }
        target.start_again();
        rounds += 1;
        step += 13;
    }
    assert!(rounds > 5);
    assert_same(&target.tree, &tree);
}

#[test]
fn references_are_resolved() {
    let place = Place::new();
    let tree = Tree::random(&mut Random::new(7), 3);
    let repository = place.open(1);
    for number in [0x11, 0x12, 0x33] {
        push(&repository, &ModelSource::new(&tree), number).unwrap();
    }
    let found = |text: Option<&str>| repository.find(text).map(|archive| archive.description.snapshot);
    assert_eq!(found(None).unwrap(), id(0x33));
    assert_eq!(found(Some("latest")).unwrap(), id(0x33));
    assert_eq!(found(Some("1212")).unwrap(), id(0x12));
    assert_eq!(found(Some("tag-17")).unwrap(), id(0x11));
    assert_eq!(found(Some(&id(0x11).to_string())).unwrap(), id(0x11));
    for unknown in ["331", "4444", "tag-99", &id(9).to_string()] {
        let error = found(Some(unknown)).unwrap_err();
        assert!(error.to_string().contains(unknown), "{error}");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    repository.delete(id(0x33)).unwrap();
    assert_eq!(found(None).unwrap(), id(0x12));
    assert_eq!(
        repository.delete(id(0x33)).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn a_store_has_one_owner_and_may_be_taken_over() {
    let place = Place::new();
    let tree = Tree::random(&mut Random::new(8), 20);
    let (first, second) = (place.open(1), place.open(2));
    push(&first, &ModelSource::new(&tree), 1).unwrap();
    let error = push(&second, &ModelSource::new(&tree), 2).unwrap_err();
    assert!(
        matches!(error, ArchiveError::Fence(FenceError::Owned { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains("node-1:/data"), "{error}");
    // Reading is for everybody.
    assert_holds(&second, 1, &tree);
    second.own(true).unwrap();
    push(&second, &ModelSource::new(&tree), 2).unwrap();
    let error = push(&first, &ModelSource::new(&tree), 3).unwrap_err();
    assert!(matches!(error, ArchiveError::Fence(_)), "{error:?}");
    assert!(first.delete(id(1)).is_err());
    let (archive, _) = (second.find(None).unwrap(), ());
    assert_same(&pull(&first, &archive).unwrap().0, &tree);
}

#[test]
fn an_encrypted_store_tells_nothing_and_gives_everything_to_who_has_the_key() {
    let place = Place::encrypted();
    let random = &mut Random::new(9);
    let mut tree = Tree::random(random, 200);
    let repository = place.open(1);
    push(&repository, &ModelSource::new(&tree), 1).unwrap();
    let before = tree.clone();
    let changed = tree.change(random, 30);
    let mut source = ModelSource::new(&tree);
    source.bases = vec![(id(1), Some(changed), before.clone())];
    push(&repository, &source, 2).unwrap();
    assert_holds(&repository, 1, &before);
    drop(repository);
    let stranger = place.open(3);
    assert_holds(&stranger, 2, &tree);
    assert_eq!(verify(&stranger, true).1, []);
    for file in place
        .files()
        .iter()
        .filter(|file| file.starts_with("archives/") || file.starts_with("packs/"))
    {
        let bytes = std::fs::read(place.store().join(file)).unwrap();
        for clear in [&b"text that comes"[..], b"tag-1", b"\"workspace\"", b"../there"] {
            assert!(
                !bytes.windows(clear.len()).any(|window| window == clear),
                "{file}"
            );
        }
    }
}

#[test]
fn a_key_may_be_missing_wrong_or_exchanged() {
    let place = Place::encrypted();
    let tree = Tree::random(&mut Random::new(10), 20);
    push(&place.open(1), &ModelSource::new(&tree), 1).unwrap();
    let (objects, handle) = (place.objects(), &place.runtime.handle().clone());
    let open = |key: Option<&KeyEncryptionKey>| sealing_of(&objects, handle, key, Arc::new(Chance));
    let (old, new) = (
        KeyEncryptionKey::new([5; 32].into()),
        KeyEncryptionKey::new([6; 32].into()),
    );
    for key in [None, Some(&new)] {
        let error = open(key).unwrap_err();
        assert!(matches!(error, ArchiveError::Keys(_)), "{error:?}");
        assert!(error.to_string().contains(objects.url().as_str()), "{error}");
    }
    let error = rotate_key(
        &objects,
        handle,
        &new,
        &KeyEncryptionKey::new([7; 32].into()),
        &Chance,
    )
    .unwrap_err();
    assert!(matches!(error, ArchiveError::Keys(_)), "{error:?}");
    rotate_key(&objects, handle, &old, &new, &Chance).unwrap();
    assert!(open(Some(&old)).is_err());
    let place = Place {
        key: Some(new),
        ..place
    };
    assert_holds(&place.open(1), 1, &tree);
    // A plain store does not take a key, nor become encrypted once it has archives.
    let plain = Place::new();
    push(&plain.open(1), &ModelSource::new(&tree), 1).unwrap();
    let objects = plain.objects();
    assert!(sealing_of(&objects, handle, Some(&old), Arc::new(Chance)).is_err());
}
