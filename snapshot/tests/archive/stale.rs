//! Lists that are late or cut, and local caches that are gone, cut or of another time: nothing published is lost, and nothing wrong is
//! given.

use std::fs::OpenOptions;
use std::sync::atomic::Ordering;

use cairn_content::objects::testing::Fault;
use cairn_snapshot::archive::{ArchiveError, Progress, ReclaimOptions, Repository};
use cairn_types::ErrorKind;

use crate::harness::{assert_holds, assert_same, id, pull, push, reclaim};
use crate::model::{ModelSource, Random};
use crate::site::{Site, Trees, archived, assert_tidy, assert_whole, regular_files, small_tree};

fn try_reclaim(repository: &Repository) -> Result<(), ArchiveError> {
    let options = ReclaimOptions {
        grace: std::time::Duration::ZERO,
        ..ReclaimOptions::default()
    };
    repository
        .reclaim(&options, &Progress::new(), &mut |_| {})
        .map(drop)
}

/// Three archives; the packs that only the last needs, and its root.
fn three_archives(seed: u64) -> (Site, Trees, Vec<String>) {
    let (site, random) = (Site::new(), &mut Random::new(seed));
    let repository = site.open();
    let (mut trees, mut before) = (Trees::new(), Vec::new());
    for number in 1..4 {
        before = site.names();
        let tree = small_tree(random, 12, 25_000);
        push(&repository, &ModelSource::new(&tree), number).unwrap();
        trees.insert(number, tree);
    }
    let newest = site.names().into_iter().filter(|name| !before.contains(name));
    (site, trees, newest.collect())
}

#[test]
fn lists_that_lack_the_newest_lose_nothing() {
    let (site, trees, newest) = three_archives(201);
    let packs: Vec<String> = newest
        .iter()
        .filter(|name| name.starts_with("packs/"))
        .cloned()
        .collect();
    assert!(packs.len() > 2);
    // Every single pack, all of them, the root, everything.
    let mut hidden: Vec<Vec<String>> = packs.iter().map(|pack| vec![pack.clone()]).collect();
    hidden.extend([packs.clone(), newest.clone()]);
    for hidden in hidden {
        for cache in ["cache", "empty"] {
            let site = site.fork();
            site.store.stale(&hidden, &[]);
            let repository = site.try_open(1, cache, 1).unwrap();
            let archive = repository.find(Some(&id(3).to_string())).unwrap();
            match pull(&repository, &archive) {
                Ok((tree, _)) => assert_same(&tree, &trees[&3]),
                Err(error) => {
                    assert_eq!(cache, "empty", "{error:?}");
                    assert!(
                        matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt),
                        "{error:?}"
                    );
                }
            }
            // What is not listed is stored again, or known.
            push(&repository, &ModelSource::new(&trees[&3]), 4).unwrap();
            assert_holds(&repository, 4, &trees[&3]);
            repository.delete(id(4)).unwrap();
            // With a grace period longer than lists are late nothing is lost that such a list does not show.
            let options = ReclaimOptions {
                grace: std::time::Duration::from_secs(3600),
                ..ReclaimOptions::default()
            };
            let outcome = repository.reclaim(&options, &Progress::new(), &mut |_| {});
            assert!(outcome.is_ok() || cache == "empty", "{outcome:?}");
            site.store.stale(&[], &[]);
            drop(repository);
            site.clock.0.fetch_add(7200, Ordering::Relaxed);
            let repository = site.try_open(1, cache, 1).unwrap();
            reclaim(&repository, 3600);
            assert_whole(&repository, &trees, &[1, 2, 3], "late");
            assert_tidy(&site, &repository, &trees, &[1, 2, 3], "late");
        }
    }
}

#[test]
fn a_tree_whose_packs_are_not_listed_keeps_what_it_needs() {
    let (site, trees, newest) = three_archives(202);
    for pack in newest.iter().filter(|name| name.starts_with("packs/")) {
        let site = site.fork();
        site.store.stale(std::slice::from_ref(pack), &[]);
        // Without a grace period, by somebody who knows nothing but the list.
        let repository = site.try_open(1, "empty", 1).unwrap();
        if let Err(error) = try_reclaim(&repository) {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
        }
        site.store.stale(&[], &[]);
        assert_whole(&repository, &trees, &[1, 2, 3], pack);
    }
}

#[test]
fn what_this_process_has_published_is_found_whatever_lists_say() {
    let (site, mut trees, _) = three_archives(203);
    let repository = site.open();
    let tree = small_tree(&mut Random::new(204), 10, 20_000);
    push(&repository, &ModelSource::new(&tree), 9).unwrap();
    trees.insert(9, tree);
    site.store.stale(&[format!("archives/{}", id(9))], &[]);
    assert!(archived(&repository).contains(&id(9)));
    try_reclaim(&repository).unwrap();
    try_reclaim(&repository).unwrap();
    assert_whole(&repository, &trees, &[1, 2, 3, 9], "published");
    // Also if it has not heard that it was published.
    site.store.stale(&[], &[]);
    let tree = small_tree(&mut Random::new(205), 10, 20_000);
    let rehearsal = site.fork();
    let again = rehearsal.open();
    rehearsal.store.script([], None);
    push(&again, &ModelSource::new(&tree), 10).unwrap();
    let last = rehearsal.store.log().len() as u64;
    drop(again);
    drop(repository);
    let repository = site.open();
    site.store.script([(last, Fault::LostAnswer)], None);
    push(&repository, &ModelSource::new(&tree), 10).unwrap_err();
    site.store.script([], None);
    assert!(site.names().contains(&format!("archives/{}", id(10))));
    trees.insert(10, tree);
    site.store.stale(&[format!("archives/{}", id(10))], &[]);
    try_reclaim(&repository).unwrap();
    try_reclaim(&repository).unwrap();
    site.store.stale(&[], &[]);
    assert_whole(&repository, &trees, &[1, 2, 3, 9, 10], "not heard of");
}

#[test]
fn lists_that_show_what_is_gone_lead_to_nothing_wrong() {
    let (site, trees, newest) = three_archives(206);
    let all = site.store.contents();
    let gone: Vec<(String, u64)> = all
        .into_iter()
        .filter(|(name, _)| newest.contains(name))
        .collect();
    let repository = site.open();
    repository.delete(id(3)).unwrap();
    try_reclaim(&repository).unwrap();
    assert!(gone.iter().all(|(name, _)| !site.names().contains(name)));
    drop(repository);
    for cache in ["cache", "empty"] {
        let site = site.fork();
        site.store.stale(&[], &gone);
        let repository = site.try_open(1, cache, 1).unwrap();
        assert_whole(&repository, &trees, &[1, 2], "ghosts");
        assert!(!archived(&repository).contains(&id(3)));
        // Nothing that is gone is relied on.
        let tree = trees[&3].clone();
        push(&repository, &ModelSource::new(&tree), 4).unwrap();
        assert_holds(&repository, 4, &tree);
        try_reclaim(&repository).unwrap();
        site.store.stale(&[], &[]);
        let mut trees = trees.clone();
        trees.remove(&3);
        trees.insert(4, tree);
        assert_whole(&repository, &trees, &[1, 2, 4], "ghosts");
        assert_tidy(&site, &repository, &trees, &[1, 2, 4], "ghosts");
    }
}

/// What can become of a cache between two operations.
#[derive(Debug, Clone, Copy)]
enum Cache {
    Kept,
    Removed,
    /// Every file cut to a part of its length.
    Cut,
    /// Bytes of every file changed.
    Changed,
    /// As it was some operations ago.
    Old,
}

fn harm(site: &Site, cache: Cache, old: &Site, random: &mut Random) {
    let path = site.cache("cache");
    match cache {
        Cache::Kept => {}
        Cache::Removed => std::fs::remove_dir_all(&path).unwrap_or_default(),
        Cache::Old => {
            std::fs::remove_dir_all(&path).unwrap_or_default();
            let copy = old.fork();
            if copy.cache("cache").is_dir() {
                std::fs::rename(copy.cache("cache"), &path).unwrap();
            }
        }
        Cache::Cut | Cache::Changed => {
            for file in std::fs::read_dir(&path).unwrap() {
                let file = file.unwrap().path();
                let mut bytes = std::fs::read(&file).unwrap();
                let length = bytes.len() as u64;
                if let Cache::Cut = cache {
                    let file = OpenOptions::new().write(true).open(&file).unwrap();
                    file.set_len(random.below(length)).unwrap();
                } else if length > 0 {
                    for _ in 0..=random.below(4) {
                        bytes[random.below(length) as usize] ^= 1 << random.below(8);
                    }
                    std::fs::write(&file, bytes).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_cache_may_be_lost_or_damaged_between_any_two_operations() {
    let random = &mut Random::new(207);
    let ways = [
        Cache::Kept,
        Cache::Removed,
        Cache::Cut,
        Cache::Changed,
        Cache::Old,
    ];
    for round in 0..12 {
        let site = Site::new();
        let mut old = site.fork();
        let (mut trees, mut tree) = (Trees::new(), small_tree(random, 15, 20_000));
        for number in 1..9 {
            let way = ways[random.below(5) as usize];
            let story = format!("round {round}, operation {number}, {way:?}");
            if number > 1 {
                harm(&site, way, &old, random);
            }
            let repository = site.open();
            for inode in regular_files(&tree)
                .into_iter()
                .skip(random.below(4) as usize)
                .step_by(4)
            {
                tree.set_data(inode, random.bytes(15_000), random);
            }
            push(&repository, &ModelSource::new(&tree), number).unwrap();
            trees.insert(number, tree.clone());
            drop(repository);
            if random.below(2) == 0 {
                harm(&site, ways[random.below(5) as usize], &old, random);
                let repository = site.open();
                let gone = *trees.keys().next().unwrap();
                repository.delete(id(gone)).unwrap();
                trees.remove(&gone);
                try_reclaim(&repository).unwrap();
            }
            if random.below(3) == 0 {
                old = site.fork();
            }
            harm(&site, ways[random.below(5) as usize], &old, random);
            let must: Vec<u8> = trees.keys().copied().collect();
            assert_whole(&site.open(), &trees, &must, &story);
        }
        let must: Vec<u8> = trees.keys().copied().collect();
        assert_tidy(&site, &site.open(), &trees, &must, "caches");
    }
}

#[test]
fn a_cache_that_vanishes_under_a_running_process_is_an_error_or_no_matter() {
    let (site, trees, _) = three_archives(208);
    let repository = site.open();
    std::fs::remove_dir_all(site.cache("cache")).unwrap();
    let tree = small_tree(&mut Random::new(209), 15, 25_000);
    let pushed = push(&repository, &ModelSource::new(&tree), 4);
    if let Err(error) = &pushed {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
    drop(repository);
    let repository = site.open();
    assert_whole(&repository, &trees, &[1, 2, 3], "vanished");
    push(&repository, &ModelSource::new(&tree), 4).unwrap();
    assert_holds(&repository, 4, &tree);
}
