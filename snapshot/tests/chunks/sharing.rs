//! What is stored once, and freed when nobody needs it.

use std::fs;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::engine::chunks::ChunksError;

use crate::ground::{Ground, assert_holds, fill, odd_things};
use crate::harness::{Place, id, reclaim};
use crate::model::Random;

#[test]
fn an_unchanged_directory_stores_a_root_and_reads_nothing() {
    let (place, ground) = (Place::new(), Ground::new());
    odd_things(&ground);
    fill(&ground, &mut Random::new(11), 400, 20_000);
    let repository = place.open(1);
    let first = ground.capture(&repository, 1, None);
    let before = place.files();
    let second = ground.capture(&repository, 2, Some(1));
    assert!(second.based);
    assert_eq!((second.pushed.files_read, second.pushed.bytes_read), (0, 0));
    assert_eq!((second.pushed.packs, second.pushed.bytes_stored), (0, 0));
    assert_eq!(second.reused_files, first.manifest.counts.files);
    assert_eq!(second.manifest.tree_hash, first.manifest.tree_hash);
    let added: Vec<_> = place
        .files()
        .into_iter()
        .filter(|name| !before.contains(name))
        .collect();
    assert_eq!(added, [format!("archives/{}", id(2))]);
    assert_eq!(second.pushed.archive.base, Some(id(1)));
    let sizes = repository.sizes(id(2), &Progress::new()).unwrap();
    assert_eq!((sizes.unique_bytes, sizes.reclaimable_stored_bytes), (0, 0));
    assert!(sizes.shared_bytes > 0 && sizes.logical_bytes == first.manifest.counts.bytes);
    assert_holds(&repository, 2, &ground.things());
}

#[test]
fn a_change_stores_about_what_has_changed() {
    let (place, ground) = (Place::new(), Ground::new());
    let random = &mut Random::new(12);
    fill(&ground, random, 1000, 30_000);
    let repository = place.open(1);
    let first = ground.capture(&repository, 1, None);
    // Of the thousand ten, side by side in their directory or not.
    for number in 0..10 {
        ground.write(
            &format!("d{}/changed {number}", number % 7),
            &random.bytes(30_000),
        );
    }
    let second = ground.capture(&repository, 2, Some(1));
    assert_eq!(second.pushed.files_read, 10);
    let (all, more) = (first.pushed.bytes_stored, second.pushed.bytes_stored);
    assert!(second.pushed.bytes_new < 310_000 + 200_000, "{second:?}");
    assert!(more < all * 4 / 100, "{more} of {all}");
    // A file that only has another name, or another time, or is there twice, is not stored again.
    fs::rename(ground.path("d1/changed 1"), ground.path("d2/renamed")).unwrap();
    fs::copy(ground.path("d2/renamed"), ground.path("d3/copy")).unwrap();
    let third = ground.capture(&repository, 3, Some(2));
    assert_eq!(third.pushed.files_read, 2);
    assert_eq!(third.pushed.bytes_new, 0, "{third:?}");
}

#[test]
fn a_base_that_is_gone_is_not_built_upon() {
    let (place, ground) = (Place::new(), Ground::new());
    fill(&ground, &mut Random::new(13), 50, 20_000);
    let repository = place.open(1);
    ground.capture(&repository, 1, None);
    repository.delete(id(1)).unwrap();
    reclaim(&repository, 0);
    assert_eq!(place.packs(), Vec::<String>::new());
    let second = ground.capture(&repository, 2, Some(1));
    assert!(!second.based && second.reused_files == 0, "{second:?}");
    assert_holds(&repository, 2, &ground.things());
    // Nor is one whose manifest is of another snapshot.
    ground.write("d1/other", b"other");
    ground.capture(&repository, 3, Some(2));
    fs::copy(
        ground.root.path().join("manifest-3"),
        ground.root.path().join("manifest-2"),
    )
    .unwrap();
    let fourth = ground.capture(&repository, 4, Some(2));
    assert!(!fourth.based, "{fourth:?}");
    assert_holds(&repository, 4, &ground.things());
}

#[test]
fn what_is_deleted_is_freed_and_nothing_else() {
    let (place, ground) = (Place::new(), Ground::new());
    let random = &mut Random::new(14);
    odd_things(&ground);
    fill(&ground, random, 150, 30_000);
    let repository = place.open(1);
    let mut trees = Vec::new();
    for number in 1..=4 {
        let previous = (number > 1).then(|| number - 1);
        ground.capture(&repository, number, previous);
        trees.push(ground.things());
        fs::remove_dir_all(ground.path(&format!("d{number}"))).unwrap();
        fill(&ground, random, 30, 40_000);
    }
    for deleted in [2, 1, 4] {
        repository.delete(id(deleted)).unwrap();
        reclaim(&repository, 0);
        for number in repository.archives().unwrap() {
            let number = number.description.snapshot.0[0];
            assert_holds(&repository, number, &trees[usize::from(number) - 1]);
        }
    }
    repository.delete(id(3)).unwrap();
    reclaim(&repository, 0);
    assert_eq!(place.files(), ["fence"]);
}

#[test]
fn a_snapshot_is_archived_once() {
    let (place, ground) = (Place::new(), Ground::new());
    ground.write("file", b"data");
    let repository = place.open(1);
    ground.capture(&repository, 1, None);
    let error = ground.try_capture(&repository, 1, None).unwrap_err();
    assert!(matches!(error, ChunksError::Exists { .. }), "{error:?}");
    repository.delete(id(1)).unwrap();
    ground.capture(&repository, 1, None);
}
