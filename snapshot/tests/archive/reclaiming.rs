//! What is freed, and what is not.

use std::sync::atomic::Ordering;

use cairn_content::objects::ObjectName;
use cairn_content::pack::{FrameReader, PackIndex};
use cairn_snapshot::archive::{PackAction, Progress, ReclaimOptions};

use crate::harness::{Place, assert_holds, id, push, reclaim, verify};
use crate::model::{ModelSource, Random, Tree};
use crate::site::{Site, Trees, assert_whole, regular_files, runtime};

#[test]
fn when_every_archive_is_gone_nothing_is_left_but_the_fence() {
    let place = Place::new();
    let random = &mut Random::new(11);
    let repository = place.open(1);
    for number in 1..4 {
        push(&repository, &ModelSource::new(&Tree::random(random, 100)), number).unwrap();
    }
    for number in 1..4 {
        repository.delete(id(number)).unwrap();
    }
    let reclaimed = reclaim(&repository, 0);
    assert!(
        reclaimed.removed_packs >= 3 && reclaimed.condemned_packs == 0,
        "{reclaimed:?}"
    );
    let left: Vec<_> = place
        .files()
        .into_iter()
        .filter(|file| !file.contains('#'))
        .collect();
    assert_eq!(left, ["fence"]);
}

#[test]
fn what_is_dead_waits_and_what_lives_stays() {
    let place = Place::new();
    let random = &mut Random::new(12);
    let (first, second) = (Tree::random(random, 150), Tree::random(random, 150));
    let repository = place.open(1);
    push(&repository, &ModelSource::new(&first), 1).unwrap();
    push(&repository, &ModelSource::new(&second), 2).unwrap();
    repository.delete(id(1)).unwrap();
    let before = place.packs();
    let mut verdicts = Vec::new();
    let dry = ReclaimOptions {
        dry_run: true,
        ..ReclaimOptions::default()
    };
    let told = repository.reclaim(&dry, &Progress::new(), &mut |verdict| verdicts.push(verdict));
    assert!(told.unwrap().condemned_packs > 0);
    assert_eq!(verdicts.len(), before.len());
    assert!(
        verdicts
            .iter()
            .any(|verdict| verdict.action == PackAction::Condemn && verdict.live_bytes == 0)
    );
    assert!(verdicts.iter().all(|verdict| before.contains(&verdict.object)));
    assert_eq!(place.packs(), before);

    let condemned = reclaim(&repository, 3600);
    assert!(condemned.condemned_packs > 0 && condemned.removed_packs == 0);
    assert!(before.iter().all(|pack| place.packs().contains(pack)));
    assert_eq!(reclaim(&repository, 3600).removed_packs, 0);
    // Another process goes on with what was written down.
    drop(repository);
    place.clock.0.fetch_add(3600, Ordering::Relaxed);
    let repository = place.open(1);
    let reclaimed = reclaim(&repository, 3600);
    assert_eq!(reclaimed.removed_packs, condemned.condemned_packs);
    assert_holds(&repository, 2, &second);
    assert_eq!(verify(&repository, true).1, []);
    assert!(!place.files().contains(&"reclaim".to_owned()));
}

#[test]
fn what_is_needed_again_is_taken_back() {
    let place = Place::new();
    let tree = Tree::random(&mut Random::new(13), 150);
    let repository = place.open(1);
    push(&repository, &ModelSource::new(&tree), 1).unwrap();
    let packs = place.packs().len();
    repository.delete(id(1)).unwrap();
    reclaim(&repository, 3600);
    // Its chunks are not known any more: they are stored again, in packs of the same names or others.
    push(&repository, &ModelSource::new(&tree), 2).unwrap();
    place.clock.0.fetch_add(7200, Ordering::Relaxed);
    reclaim(&repository, 3600);
    assert_holds(&repository, 2, &tree);
    place.clock.0.fetch_add(7200, Ordering::Relaxed);
    reclaim(&repository, 3600);
    assert_holds(&repository, 2, &tree);
    assert_eq!(verify(&repository, true).1, []);
    assert!(place.packs().len() <= packs + 1);
}

#[test]
fn sparse_packs_are_rewritten() {
    let place = Place::new();
    let random = &mut Random::new(14);
    let mut tree = Tree::random(random, 300);
    let repository = place.open(1);
    push(&repository, &ModelSource::new(&tree), 1).unwrap();
    let size = |place: &Place| -> u64 {
        let sizes = place
            .packs()
            .into_iter()
            .map(|pack| place.store().join(pack).metadata().unwrap().len());
        sizes.sum()
    };
    // Of everything a little stays.
    let mut left = 0;
    for inode in tree.0.keys().copied().collect::<Vec<_>>() {
        if tree.0[&inode].node.kind == cairn_types::FileKind::Regular {
            left += 1;
            if left % 10 != 0 {
                tree.set_data(inode, Vec::new(), random);
            }
        }
    }
    push(&repository, &ModelSource::new(&tree), 2).unwrap();
    repository.delete(id(1)).unwrap();
    let before = size(&place);
    let reclaimed = reclaim(&repository, 0);
    assert!(
        reclaimed.rewritten_packs > 0 && reclaimed.rewritten_bytes > 0,
        "{reclaimed:?}"
    );
    assert!(size(&place) < before / 3, "{} of {before}", size(&place));
    assert_holds(&repository, 2, &tree);
    assert_eq!(verify(&repository, true).1, []);
    assert_eq!(reclaim(&repository, 0).removed_packs, 0);
}

#[test]
fn pushes_go_on_beside() {
    let place = Place::new();
    let repository = place.open(1);
    let random = &mut Random::new(15);
    let trees: Vec<Tree> = (0..12).map(|_| Tree::random(random, 60)).collect();
    std::thread::scope(|scope| {
        let reclaiming = scope.spawn(|| {
            for _ in 0..10 {
                reclaim(&repository, 0);
            }
        });
        for (number, tree) in (1..).zip(&trees) {
            push(&repository, &ModelSource::new(tree), number).unwrap();
            if number % 3 == 0 {
                repository.delete(id(number)).unwrap();
            } else {
                assert_holds(&repository, number, tree);
            }
        }
        reclaiming.join().unwrap();
    });
    reclaim(&repository, 0);
    for (number, tree) in (1..).zip(&trees).filter(|(number, _)| number % 3 != 0) {
        assert_holds(&repository, number, tree);
    }
    assert_eq!(verify(&repository, true).1, []);
}

/// The chunks of all packs of a store.
fn chunks(site: &Site) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    for pack in site.names_of("packs/") {
        let name = ObjectName::new(pack).unwrap();
        let bytes = runtime().block_on(site.objects(1).get(&name)).unwrap();
        let index = PackIndex::of(&bytes).unwrap();
        let mut reader = FrameReader::new().unwrap();
        for frame in index.frames() {
            let start = frame.offset as usize;
            let decoded = reader
                .open(frame, &bytes[start..start + frame.stored as usize])
                .unwrap();
            for chunk in index.chunks_of(frame) {
                chunks.push(decoded.chunk(chunk).unwrap().to_vec());
            }
        }
    }
    chunks
}

#[test]
fn a_file_with_the_bytes_of_a_part_of_a_tree_hides_nothing() {
    let (site, random) = (Site::new(), &mut Random::new(16));
    let mut first = Tree::random(random, 6);
    for inode in regular_files(&first) {
        first.set_data(inode, random.bytes(1500), random);
    }
    let repository = site.open();
    push(&repository, &ModelSource::new(&first), 1).unwrap();
    // A newer archive, which is marked first, holds every chunk of it as a file.
    let mut second = Tree::random(random, 40);
    let files = regular_files(&second);
    let chunks = chunks(&site);
    assert!(chunks.len() > 1 && files.len() >= chunks.len());
    for inode in &files {
        second.set_data(*inode, random.bytes(50), random);
    }
    for (inode, chunk) in files.into_iter().zip(chunks) {
        assert!(chunk.len() <= 16 << 10);
        second.set_data(inode, chunk, random);
    }
    push(&repository, &ModelSource::new(&second), 2).unwrap();
    // Nothing but the first archive needs what it has beside.
    let mut third = second.clone();
    for inode in regular_files(&third) {
        let data = third.0[&inode].data.to_vec();
        // Data of the first archive's files goes; parts of its tree stay.
        if first.0.values().any(|object| *object.data == data) {
            third.set_data(inode, Vec::new(), random);
        }
    }
    push(&repository, &ModelSource::new(&third), 3).unwrap();
    repository.delete(id(2)).unwrap();
    reclaim(&repository, 0);
    reclaim(&repository, 0);
    let trees = Trees::from([(1, first), (3, third)]);
    assert_whole(&repository, &trees, &[1, 3], "hidden");
}
