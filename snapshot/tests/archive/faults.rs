//! Every operation, with every one of its requests failing in every way, and the process going on, or killed and started again,
//! with what it had on local disk or without: nothing published is lost, the operation done again succeeds, nothing is left over.

use cairn_content::sealing::KeysError;
use cairn_snapshot::archive::{ArchiveError, Progress, ReclaimOptions, Repository};
use cairn_types::ErrorKind;

use crate::harness::{description, id, push, reclaim};
use crate::model::{ModelSource, Random, Tree};
use crate::site::{How, Site, Trees, archived, assert_tidy, assert_whole, regular_files, small_tree};

type Run = dyn Fn(&Site, &str, u32) -> Result<(), ArchiveError>;

/// An operation, and the store that it is done to.
struct Scenario {
    name: &'static str,
    site: Site,
    /// The owner that does it.
    owner: u8,
    /// The trees of all archives that are there at any time.
    trees: Trees,
    /// Archives that are there before, and that the operation does not remove.
    kept: Vec<u8>,
    /// Archives that are there afterwards.
    left: Vec<u8>,
    run: Box<Run>,
}

impl Scenario {
    /// Fails at every request in every way. Returns the number of requests that it has without faults.
    fn play(&self) -> u64 {
        let sound = self.site.fork();
        sound.store.script([], None);
        (self.run)(&sound, "cache", 1).unwrap();
        let requests = sound.store.log().len() as u64;
        let repository = sound.try_open(self.owner, "cache", 1).unwrap();
        assert_tidy(&sound, &repository, &self.trees, &self.left, self.name);
        for how in How::ALL {
            for at in 1..=requests {
                self.fail(how, at);
            }
        }
        requests
    }

    fn fail(&self, how: How, at: u64) {
        let story = format!("{}, request {at}, {how:?}", self.name);
        let site = self.site.fork();
        how.script(&site.store, at);
        let attempts = how.attempts();
        let outcome = (self.run)(&site, "cache", attempts);
        site.store.script([], None);
        let mut must = self.kept.clone();
        match outcome {
            Ok(()) => must.clone_from(&self.left),
            Err(error) => {
                assert!(how != How::Repeated, "{story}: {error:?}");
                assert_ne!(error.kind(), ErrorKind::Internal, "{story}: {error:?}");
            }
        }
        let cache = match at % 2 {
            0 => "cache",
            _ => "empty",
        };
        match site.try_open(self.owner, cache, 1) {
            Ok(repository) => assert_whole(&repository, &self.trees, &must, &story),
            // It has no keys yet, and so nothing else.
            Err(ArchiveError::Keys(KeysError::NotEncrypted { .. })) if must.is_empty() => {
                assert_eq!(site.names(), ["fence"], "{story}");
            }
            Err(error) => panic!("{story}: {error:?}"),
        }
        (self.run)(&site, cache, 1).unwrap_or_else(|error| panic!("{story}, again: {error:?}"));
        let repository = site.try_open(self.owner, cache, 1).unwrap();
        assert_eq!(archived(&repository).len(), self.left.len(), "{story}");
        assert_whole(&repository, &self.trees, &self.left, &story);
        assert_tidy(&site, &repository, &self.trees, &self.left, &story);
    }
}

/// A store with two archives, of which the second is made from the first.
fn two_archives(seed: u64) -> (Site, Trees) {
    let (site, random) = (Site::new(), &mut Random::new(seed));
    let first = small_tree(random, 20, 25_000);
    let repository = site.open();
    push(&repository, &ModelSource::new(&first), 1).unwrap();
    let mut second = first.clone();
    let source = changed(&mut second, random, 1);
    push(&repository, &source, 2).unwrap();
    (site, Trees::from([(1, first), (2, second)]))
}

/// Changes a third of the files, and makes a source of it that knows a base.
fn changed(tree: &mut Tree, random: &mut Random, base: u8) -> ModelSource {
    let before = tree.clone();
    let files: Vec<_> = regular_files(tree).into_iter().step_by(3).collect();
    for inode in &files {
        tree.set_data(*inode, random.bytes(30_000), random);
    }
    let mut source = ModelSource::new(tree);
    source.bases = vec![(id(base), Some(files), before)];
    source
}

fn reclaim_all(repository: &Repository) -> Result<(), ArchiveError> {
    let options = ReclaimOptions {
        grace: std::time::Duration::ZERO,
        ..ReclaimOptions::default()
    };
    repository
        .reclaim(&options, &Progress::new(), &mut |_| {})
        .map(drop)
}

#[test]
fn a_first_push() {
    let tree = small_tree(&mut Random::new(101), 25, 30_000);
    let source = ModelSource::new(&tree);
    let scenario = Scenario {
        name: "first push",
        site: Site::new(),
        owner: 1,
        trees: Trees::from([(1, tree)]),
        kept: Vec::new(),
        left: vec![1],
        run: Box::new(move |site, cache, attempts| {
            let repository = site.try_open(1, cache, attempts)?;
            repository
                .push(&source, description(1), &Progress::new())
                .map(drop)
        }),
    };
    let requests = scenario.play();
    assert!(requests > 10, "{requests}");
}

#[test]
fn a_push_with_a_base() {
    let (site, mut trees) = two_archives(102);
    let mut third = trees[&2].clone();
    let source = changed(&mut third, &mut Random::new(103), 2);
    trees.insert(3, third);
    let scenario = Scenario {
        name: "push with a base",
        site,
        owner: 1,
        trees,
        kept: vec![1, 2],
        left: vec![1, 2, 3],
        run: Box::new(move |site, cache, attempts| {
            let repository = site.try_open(1, cache, attempts)?;
            repository
                .push(&source, description(3), &Progress::new())
                .map(drop)
        }),
    };
    let requests = scenario.play();
    assert!(requests > 10, "{requests}");
}

#[test]
fn a_delete() {
    let (site, trees) = two_archives(104);
    let scenario = Scenario {
        name: "delete",
        site,
        owner: 1,
        trees,
        kept: vec![2],
        left: vec![2],
        run: Box::new(
            |site, cache, attempts| match site.try_open(1, cache, attempts)?.delete(id(1)) {
                // It was gone when the answer was lost.
                Err(ArchiveError::NotFound { .. }) => Ok(()),
                outcome => outcome,
            },
        ),
    };
    scenario.play();
}

#[test]
fn reclaiming_with_dead_and_sparse_packs() {
    let (site, mut trees) = two_archives(105);
    let random = &mut Random::new(106);
    let repository = site.open();
    // Of the second archive's data a little stays, everywhere.
    let mut third = trees[&2].clone();
    for (number, inode) in regular_files(&third).into_iter().enumerate() {
        if number % 4 != 0 {
            third.set_data(inode, Vec::new(), random);
        }
    }
    push(&repository, &ModelSource::new(&third), 3).unwrap();
    let fourth = small_tree(random, 5, 20_000);
    push(&repository, &ModelSource::new(&fourth), 4).unwrap();
    repository.delete(id(1)).unwrap();
    repository.delete(id(2)).unwrap();
    drop(repository);
    let found = reclaim(&site.fork().open(), 0);
    assert!(found.rewritten_packs > 0 && found.removed_packs > 5, "{found:?}");
    trees = Trees::from([(3, third), (4, fourth)]);
    let scenario = Scenario {
        name: "reclaim",
        site,
        owner: 1,
        trees,
        kept: vec![3, 4],
        left: vec![3, 4],
        run: Box::new(|site, cache, attempts| reclaim_all(&site.try_open(1, cache, attempts)?)),
    };
    let requests = scenario.play();
    assert!(requests > 20, "{requests}");
}

#[test]
fn a_take_over() {
    let (site, trees) = two_archives(107);
    let repository = site.open();
    repository.delete(id(1)).unwrap();
    assert!(reclaim(&repository, 3600).condemned_packs > 0);
    drop(repository);
    assert!(site.names().contains(&"reclaim".to_owned()));
    let again = ModelSource::new(&trees[&1]);
    let scenario = Scenario {
        name: "take-over",
        site,
        owner: 2,
        trees,
        kept: vec![2],
        left: vec![1, 2],
        run: Box::new(move |site, cache, attempts| {
            let repository = site.try_open(2, cache, attempts)?;
            repository.own(true)?;
            repository
                .push(&again, description(1), &Progress::new())
                .map(drop)
        }),
    };
    scenario.play();
}

#[test]
fn an_encrypted_first_push() {
    let tree = small_tree(&mut Random::new(108), 12, 25_000);
    let source = ModelSource::new(&tree);
    let site = Site {
        key: Some(5),
        ..Site::new()
    };
    let scenario = Scenario {
        name: "encrypted first push",
        site,
        owner: 1,
        trees: Trees::from([(1, tree)]),
        kept: Vec::new(),
        left: vec![1],
        run: Box::new(move |site, cache, attempts| {
            site.encrypt(attempts)?;
            let repository = site.try_open(1, cache, attempts)?;
            repository
                .push(&source, description(1), &Progress::new())
                .map(drop)
        }),
    };
    let requests = scenario.play();
    assert!(requests > 10, "{requests}");
}
