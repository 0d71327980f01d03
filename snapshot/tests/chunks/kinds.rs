//! Archives of volumes and of directories in one store: neither is taken for the other.

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::chunks::{ChunksError, ChunksPayload};
use cairn_types::ErrorKind;

use crate::ground::{Ground, assert_holds, fill};
use crate::harness::{self, Place, id, pull, push, reclaim, verify};
use crate::model::{ModelSource, Random, Tree};

#[test]
fn both_kinds_live_in_one_store() {
    let (place, ground) = (Place::new(), Ground::new());
    let random = &mut Random::new(21);
    fill(&ground, random, 50, 20_000);
    let tree = Tree::random(random, 40);
    let repository = place.open(1);
    push(&repository, &ModelSource::new(&tree), 1).unwrap();
    ground.capture(&repository, 2, None);
    let archives = repository.archives().unwrap();
    assert_eq!(archives.len(), 2);
    assert_eq!(archives[0].counts.files, 50);
    assert_eq!(repository.find(Some("tag-2")).unwrap(), archives[0]);
    assert_ne!(
        repository.identity(&archives[0]).unwrap(),
        repository.identity(&archives[1]).unwrap()
    );

    let error = pull(&repository, &archives[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error
            .to_string()
            .ends_with("of a volume: that one is of a plain directory"),
        "{error}"
    );
    let error = repository.unreadable_files(id(2), &Progress::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = ChunksPayload::open(&repository, id(1), &Progress::new())
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .ends_with("of a plain directory: that one is of a volume"),
        "{error}"
    );
    // Nor is one built upon the other.
    let mut source = ModelSource::new(&tree);
    source.bases = vec![(id(2), Some(Vec::new()), Tree::default())];
    let pushed = push(&repository, &source, 3).unwrap();
    assert_eq!(pushed.archive.base, None);
    ground.new_manifest(1, true);
    let manifest = ground.root.path().join("manifest-1");
    std::fs::copy(ground.root.path().join("manifest-2"), manifest).unwrap();
    assert!(!ground.capture(&repository, 4, Some(1)).based);

    assert_eq!(verify(&repository, true).1, []);
    let stored = repository.store_sizes(&Progress::new()).unwrap();
    assert_eq!((stored.archives, stored.reclaimable_stored_bytes), (4, 0));
    repository.delete(id(1)).unwrap();
    repository.delete(id(2)).unwrap();
    reclaim(&repository, 0);
    harness::assert_holds(&repository, 3, &tree);
    assert_holds(&repository, 4, &ground.things());
    repository.delete(id(3)).unwrap();
    repository.delete(id(4)).unwrap();
    reclaim(&repository, 0);
    assert_eq!(place.files(), ["fence"]);
}

#[test]
fn another_owner_is_refused() {
    let (place, ground) = (Place::new(), Ground::new());
    ground.write("file", b"data");
    let repository = place.open(1);
    ground.capture(&repository, 1, None);
    let other = place.open(2);
    let error = ground.try_capture(&other, 2, None).unwrap_err();
    assert!(matches!(error, ChunksError::Archive(_)), "{error:?}");
    // Reading is free.
    assert_holds(&other, 1, &ground.things());
    // A former owner does not publish any more.
    other.own(true).unwrap();
    assert!(ground.try_capture(&repository, 3, None).is_err());
    assert_eq!(other.archives().unwrap().len(), 1);
}
