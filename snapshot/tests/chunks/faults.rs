//! A capture, with every one of its requests failing in every way, and the process going on, or killed and started again, with what it had
//! on local disk or without: nothing published is lost, the capture done again succeeds, nothing is left over.

use std::collections::BTreeMap;
use std::path::Path;

use cairn_snapshot::archive::{ArchiveError, Repository};
use cairn_snapshot::engine::chunks::ChunksError;
use cairn_types::ErrorKind;

use crate::ground::{Ground, Things, assert_holds, fill};
use crate::harness::{id, reclaim, verify};
use crate::model::Random;
use crate::site::{How, Site, archived};

/// A capture, and the store that it goes to.
struct Scenario {
    name: &'static str,
    site: Site,
    ground: Ground,
    /// The snapshot that is captured, and the one before.
    number: u8,
    previous: Option<u8>,
    /// What all archives hold.
    trees: BTreeMap<u8, Things>,
}

impl Scenario {
    fn run(&self, site: &Site, cache: &str, attempts: u32) -> Result<(), ChunksError> {
        let repository = site.try_open(1, cache, attempts)?;
        // As after a kill: of a capture that nobody knows of nothing stays.
        match repository.delete(id(self.number)) {
            Ok(()) | Err(ArchiveError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let captured = self.ground.try_capture(&repository, self.number, self.previous)?;
        assert_eq!(captured.based, self.previous.is_some());
        Ok(())
    }

    /// Fails at every request in every way. Returns the number of requests that it has without faults.
    fn play(&self) -> u64 {
        let sound = self.site.fork();
        sound.store.script([], None);
        self.run(&sound, "cache", 1).unwrap();
        let requests = sound.store.log().len() as u64;
        self.assert_tidy(&sound, "cache", "without faults");
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
        let outcome = self.run(&site, "cache", attempts);
        site.store.script([], None);
        if let Err(error) = &outcome {
            assert!(how != How::Repeated, "{story}: {error:?}");
            assert_ne!(error.kind(), ErrorKind::Internal, "{story}: {error:?}");
        }
        let cache = match at % 2 {
            0 => "cache",
            _ => "empty",
        };
        let repository = site.try_open(1, cache, 1).unwrap();
        let there = archived(&repository);
        for number in self.trees.keys().filter(|number| **number != self.number) {
            assert!(there.contains(&id(*number)), "{story}: archive {number} is lost");
        }
        assert!(outcome.is_err() || there.contains(&id(self.number)), "{story}");
        self.assert_whole(&repository, &story);
        drop(repository);
        self.run(&site, cache, 1)
            .unwrap_or_else(|error| panic!("{story}, again: {error:?}"));
        self.assert_tidy(&site, cache, &story);
    }

    /// Everything in the store is sound, and each archive that is there holds its tree.
    fn assert_whole(&self, repository: &Repository, story: &str) {
        let (verified, damages) = verify(repository, true);
        assert!(damages.is_empty(), "{story}: {damages:?}");
        let there = archived(repository);
        assert_eq!(verified.archives_sound, there.len() as u64, "{story}");
        for (number, tree) in self
            .trees
            .iter()
            .filter(|(number, _)| there.contains(&id(**number)))
        {
            assert_holds(repository, *number, tree);
        }
    }

    /// All archives are there; without them nothing is left over.
    fn assert_tidy(&self, site: &Site, cache: &str, story: &str) {
        let repository = site.try_open(1, cache, 1).unwrap();
        assert_eq!(archived(&repository).len(), self.trees.len(), "{story}");
        reclaim(&repository, 0);
        self.assert_whole(&repository, story);
        for number in self.trees.keys() {
            repository.delete(id(*number)).unwrap();
        }
        reclaim(&repository, 0);
        let names = site.names();
        let others: Vec<_> = names.iter().filter(|name| *name != "keys").collect();
        assert_eq!(others, ["fence"], "{story}");
    }
}

fn changed(ground: &Ground, random: &mut Random) {
    fill(ground, random, 6, 20_000);
    let doomed = std::fs::read_dir(ground.work()).unwrap().next().unwrap().unwrap();
    std::fs::remove_dir_all::<&Path>(&doomed.path()).unwrap();
}

#[test]
fn a_first_capture() {
    let ground = Ground::new();
    fill(&ground, &mut Random::new(41), 22, 25_000);
    let trees = BTreeMap::from([(1, ground.things())]);
    let scenario = Scenario {
        name: "first capture",
        site: Site::new(),
        ground,
        number: 1,
        previous: None,
        trees,
    };
    let requests = scenario.play();
    assert!(requests > 8, "{requests}");
}

/// A second capture over a store that has the first.
fn second(site: Site, seed: u64) -> Scenario {
    let (ground, random) = (Ground::new(), &mut Random::new(seed));
    fill(&ground, random, 22, 25_000);
    let mut trees = BTreeMap::from([(1, ground.things())]);
    let repository = site.open();
    ground.capture(&repository, 1, None);
    drop(repository);
    changed(&ground, random);
    trees.insert(2, ground.things());
    Scenario {
        name: "capture with a base",
        site,
        ground,
        number: 2,
        previous: Some(1),
        trees,
    }
}

#[test]
fn a_capture_with_a_base() {
    let requests = second(Site::new(), 42).play();
    assert!(requests > 8, "{requests}");
}

#[test]
fn an_encrypted_capture_with_a_base() {
    let site = Site {
        key: Some(5),
        ..Site::new()
    };
    site.encrypt(1).unwrap();
    let requests = second(site, 43).play();
    assert!(requests > 8, "{requests}");
}
