//! Owners that race, that lose the store and get it back, and what runs beside reclaiming and removing: never wrong bytes, and never an
//! archive that refers to what is gone.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cairn_content::objects::FenceError;
use cairn_content::objects::testing::Fault;
use cairn_snapshot::archive::{
    Archive, ArchiveError, Progress, ReclaimOptions, Repository, Source, SourceError, Target, TargetError,
};
use cairn_types::{ByteRange, ErrorKind, Extent, FileKind, InodeId, Node, SnapshotId, TreeCursor, TreeItem};

use crate::harness::{assert_holds, assert_same, description, id, push, reclaim};
use crate::model::{ModelSource, ModelTarget, Random};
use crate::site::{Site, Trees, archived, assert_tidy, assert_whole, small_tree};

/// Longest that a test waits for a thread of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place where a thread waits until it is let on.
struct Gate {
    reached: SyncSender<()>,
    on: Mutex<Receiver<()>>,
}

/// Whoever waits for the thread, and lets it on by dropping the sender.
type Keeper = (Receiver<()>, SyncSender<()>);

fn gate() -> (Gate, Keeper) {
    let ((reached, hears), (lets, on)) = (sync_channel(1), sync_channel(1));
    let on = Mutex::new(on);
    (Gate { reached, on }, (hears, lets))
}

impl Gate {
    fn pass(&self) {
        self.reached.send(()).unwrap_or_default();
        // Ends when the keeper is dropped.
        self.on.lock().unwrap().recv().unwrap_or_default();
    }
}

/// A source that waits at a gate when everything was read.
struct Waiting {
    source: ModelSource,
    gate: Gate,
}

impl Source for Waiting {
    fn expected(&self) -> (u64, u64) {
        self.source.expected()
    }

    fn bases(&self) -> Result<Vec<SnapshotId>, SourceError> {
        self.source.bases()
    }

    fn changed_since(&self, base: SnapshotId) -> Result<Option<Vec<InodeId>>, SourceError> {
        self.source.changed_since(base)
    }

    fn items(
        &self,
        cursor: &mut TreeCursor,
        limit: usize,
        items: &mut Vec<TreeItem>,
    ) -> Result<(), SourceError> {
        let before = items.len();
        self.source.items(cursor, limit, items)?;
        if items.len() == before {
            self.gate.pass();
        }
        Ok(())
    }

    fn same_data(&self, base: SnapshotId, inode: InodeId) -> Result<Vec<ByteRange>, SourceError> {
        self.source.same_data(base, inode)
    }

    fn read(&self, extent: &Extent) -> Result<Bytes, SourceError> {
        self.source.read(extent)
    }
}

fn waiting(source: ModelSource) -> (Waiting, Keeper) {
    let (gate, keeper) = gate();
    (Waiting { source, gate }, keeper)
}

fn now() -> ReclaimOptions {
    ReclaimOptions {
        grace: Duration::ZERO,
        ..ReclaimOptions::default()
    }
}

#[test]
fn of_owners_that_race_one_wins_and_what_was_acknowledged_is_whole() {
    for round in 0..20 {
        let (site, random) = (Site::new(), &mut Random::new(300 + round));
        let trees: Trees = (1..5)
            .map(|number| (number, small_tree(random, 8, 15_000)))
            .collect();
        let repositories: Vec<Repository> = (1..5)
            .map(|owner| site.try_open(owner, &format!("cache-{owner}"), 1).unwrap())
            .collect();
        let take_over = round % 2 == 1;
        let outcomes: Vec<Result<(), ArchiveError>> = std::thread::scope(|scope| {
            let work = |(number, repository): (u8, &Repository)| {
                repository.own(take_over)?;
                push(repository, &ModelSource::new(&trees[&number]), number).map(drop)
            };
            let threads: Vec<_> = (1..5)
                .zip(&repositories)
                .map(|each| scope.spawn(move || work(each)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert!(if take_over { done >= 1 } else { done == 1 }, "{outcomes:?}");
        let mut must = Vec::new();
        for (number, outcome) in (1..5).zip(&outcomes) {
            match outcome {
                Ok(()) => must.push(number),
                Err(ArchiveError::Fence(FenceError::Owned { .. } | FenceError::Fenced { .. })) => {}
                Err(error) => panic!("round {round}: {error:?}"),
            }
        }
        let stranger = site.try_open(9, "stranger", 1).unwrap();
        assert_whole(&stranger, &trees, &must, "race");
        // One of them is the owner, and can tidy up.
        let owners: Vec<&Repository> = repositories
            .iter()
            .filter(|repository| repository.own(false).is_ok())
            .collect();
        assert_eq!(owners.len(), 1);
        let left: Vec<u8> = archived(&stranger).iter().map(|snapshot| snapshot.0[0]).collect();
        assert_tidy(&site, owners[0], &trees, &left, "race");
    }
}

#[test]
fn who_gets_the_store_back_does_not_rely_on_what_the_other_removed() {
    let site = Site::new();
    let tree = small_tree(&mut Random::new(330), 12, 20_000);
    let (first, second) = (site.open(), site.try_open(2, "other", 1).unwrap());
    push(&first, &ModelSource::new(&tree), 1).unwrap();
    second.own(true).unwrap();
    second.delete(id(1)).unwrap();
    reclaim(&second, 0);
    assert_eq!(site.names(), ["fence"]);
    assert!(push(&first, &ModelSource::new(&tree), 1).is_err());
    first.own(true).unwrap();
    push(&first, &ModelSource::new(&tree), 1).unwrap();
    let trees = Trees::from([(1, tree)]);
    assert_whole(&first, &trees, &[1], "back");
    assert_whole(&site.try_open(3, "new", 1).unwrap(), &trees, &[1], "back");
    // What the other condemned counts, and what we condemned before does not.
    assert_tidy(&site, &first, &trees, &[1], "back");
}

#[test]
fn a_push_that_lost_the_store_meanwhile_does_not_publish() {
    let site = Site::new();
    let tree = small_tree(&mut Random::new(331), 12, 20_000);
    let (first, second) = (site.open(), site.try_open(2, "other", 1).unwrap());
    let (source, (reached, lets)) = waiting(ModelSource::new(&tree));
    std::thread::scope(|scope| {
        let pushing = scope.spawn(|| first.push(&source, description(1), &Progress::new()));
        reached.recv_timeout(PATIENCE).unwrap();
        // All packs that are full are stored. The other owner has no use for them, and gives the store back.
        second.own(true).unwrap();
        reclaim(&second, 0);
        first.own(true).unwrap();
        drop(lets);
        let error = pushing.join().unwrap().unwrap_err();
        assert!(
            matches!(error, ArchiveError::Fence(FenceError::Fenced { .. })),
            "{error:?}"
        );
    });
    assert!(archived(&first).is_empty());
    push(&first, &ModelSource::new(&tree), 1).unwrap();
    let trees = Trees::from([(1, tree)]);
    assert_whole(&first, &trees, &[1], "lost meanwhile");
    assert_tidy(&site, &first, &trees, &[1], "lost meanwhile");
}

#[test]
fn a_fence_that_cannot_be_looked_at_for_a_moment_changes_nothing_for_pushes_that_run() {
    // At any of the requests that come while the push waits.
    for at in 1..12 {
        let site = Site::new();
        let tree = small_tree(&mut Random::new(332), 12, 20_000);
        let repository = site.open();
        push(&repository, &ModelSource::new(&tree), 1).unwrap();
        // It finds everything stored.
        let (source, (reached, lets)) = waiting(ModelSource::new(&tree));
        std::thread::scope(|scope| {
            let pushing = scope.spawn(|| repository.push(&source, description(2), &Progress::new()));
            reached.recv_timeout(PATIENCE).unwrap();
            repository.delete(id(1)).unwrap();
            reclaim(&repository, 0);
            site.store.script([(at, Fault::Status(503))], None);
            for _ in 0..3 {
                repository
                    .reclaim(&now(), &Progress::new(), &mut |_| {})
                    .map(drop)
                    .unwrap_or_default();
            }
            site.store.script([], None);
            drop(lets);
            pushing.join().unwrap().unwrap();
        });
        let trees = Trees::from([(2, tree)]);
        assert_whole(&repository, &trees, &[2], "fence");
        drop(repository);
        assert_tidy(&site, &site.open(), &trees, &[2], "fence");
    }
}

#[test]
fn reclaiming_beside_pushes_that_fail_or_are_cancelled() {
    let (site, random) = (Site::new(), &mut Random::new(333));
    let repository = Arc::new(site.open());
    let (mut trees, mut must) = (Trees::new(), Vec::new());
    let stop = Progress::new();
    std::thread::scope(|scope| {
        let reclaiming = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.is_cancelled() {
                reclaim(&repository, 0);
                rounds += 1;
            }
            rounds
        });
        let shared = small_tree(random, 10, 20_000);
        for number in 1..40 {
            let tree = match number % 3 {
                0 => shared.clone(),
                _ => small_tree(random, 10, 15_000),
            };
            trees.insert(number, tree.clone());
            match number % 4 {
                0 => {
                    let source = ModelSource::new(&tree);
                    *source.fails_after.lock().unwrap() = Some(random.below(2) as usize);
                    push(&repository, &source, number).unwrap_err();
                }
                1 => {
                    let (source, (reached, lets)) = waiting(ModelSource::new(&tree));
                    let progress = Progress::new();
                    let outcome = std::thread::scope(|scope| {
                        let pushing =
                            scope.spawn(|| repository.push(&source, description(number), &progress));
                        reached.recv_timeout(PATIENCE).unwrap();
                        progress.cancel();
                        drop(lets);
                        pushing.join().unwrap()
                    });
                    match outcome {
                        Ok(_) => must.push(number),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
                    }
                }
                _ => {
                    push(&repository, &ModelSource::new(&tree), number).unwrap();
                    must.push(number);
                    if number % 5 == 0 {
                        let gone = must.remove(random.below(must.len() as u64) as usize);
                        repository.delete(id(gone)).unwrap();
                    }
                }
            }
        }
        stop.cancel();
        assert!(reclaiming.join().unwrap() > 0);
    });
    assert_eq!(archived(&repository).len(), must.len());
    assert_whole(&repository, &trees, &must, "beside");
    let repository = Arc::into_inner(repository).unwrap();
    assert_tidy(&site, &repository, &trees, &must, "beside");
}

/// A target that waits at a gate before the data of so many.
struct WaitingTarget {
    target: ModelTarget,
    gate: Gate,
    left: usize,
}

impl Target for WaitingTarget {
    fn resume_after(&self) -> Option<InodeId> {
        None
    }

    fn node(&mut self, inode: InodeId, node: &Node) -> Result<(), TargetError> {
        self.target.node(inode, node)
    }

    fn entry(&mut self, name: &[u8], inode: InodeId, kind: FileKind) -> Result<(), TargetError> {
        self.target.entry(name, inode, kind)
    }

    fn link_target(&mut self, target: &[u8]) -> Result<(), TargetError> {
        self.target.link_target(target)
    }

    fn data(&mut self, offset: u64, data: &[u8]) -> Result<(), TargetError> {
        if self.left == 0 {
            self.gate.pass();
        }
        self.left = self.left.wrapping_sub(1);
        self.target.data(offset, data)
    }
}

#[test]
fn a_pull_of_what_is_removed_meanwhile_ends_with_an_error_or_the_right_tree() {
    let random = &mut Random::new(334);
    let (mut whole, mut failed) = (0, 0);
    for step in 0..12 {
        // Packs are stored again under the same and under other names while it reads.
        let site = Site::new();
        let tree = small_tree(random, 40, 100_000);
        let repository = site.open();
        push(&repository, &ModelSource::new(&tree), 1).unwrap();
        let archive: Archive = repository.find(None).unwrap();
        let reader = match step % 2 {
            0 => site.try_open(7, "reader", 1).unwrap(),
            _ => site.try_open(8, "other reader", 1).unwrap(),
        };
        let by = if step % 3 == 0 { &repository } else { &reader };
        let (gate, (reached, lets)) = gate();
        let mut target = WaitingTarget {
            target: ModelTarget::default(),
            gate,
            left: step * 5,
        };
        let outcome = std::thread::scope(|scope| {
            let pulling =
                scope.spawn(|| by.pull(&archive, &mut target, &Default::default(), &Progress::new()));
            reached.recv_timeout(PATIENCE).unwrap();
            repository.delete(id(1)).unwrap();
            reclaim(&repository, 0);
            assert_eq!(site.names(), ["fence"]);
            push(&repository, &ModelSource::new(&small_tree(random, 20, 30_000)), 2).unwrap();
            drop(lets);
            pulling.join().unwrap()
        });
        match outcome {
            Ok(_) => {
                whole += 1;
                assert_same(&target.target.tree, &tree);
            }
            Err(error) => {
                failed += 1;
                assert!(
                    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt),
                    "{error:?}"
                );
                // Of what has come no byte is wrong.
                for (inode, object) in &target.target.tree.0 {
                    let zeros = object.data.iter().zip(tree.0[inode].data.iter());
                    let wrong = zeros.filter(|(found, expected)| **found != 0 && found != expected);
                    assert_eq!(wrong.count(), 0, "inode {inode}");
                }
            }
        }
    }
    assert_eq!(whole + failed, 12);
}

#[test]
fn two_hundred_kills_of_pushes() {
    let (site, random) = (Site::new(), &mut Random::new(335));
    let (mut trees, mut tree) = (Trees::new(), small_tree(random, 12, 20_000));
    let mut kills = 0;
    while kills < 200 {
        let number = trees.len() as u8 + 1;
        let before = tree.clone();
        let files: Vec<InodeId> = crate::site::regular_files(&tree);
        let changed: Vec<InodeId> = files.into_iter().filter(|_| random.below(3) == 0).collect();
        for inode in &changed {
            tree.set_data(*inode, random.bytes(40_000), random);
        }
        let mut source = ModelSource::new(&tree);
        if number > 1 {
            source.bases = vec![(id(number - 1), Some(changed), before)];
        }
        loop {
            // Killed at a random request, or just after the last.
            let fault = match random.below(2) {
                0 => Fault::Torn,
                _ => Fault::LostAnswer,
            };
            site.store.cut_off(1 + random.below(20), fault);
            let repository = site.try_open(1, "cache", 1);
            let outcome = repository.and_then(|repository| push(&repository, &source, number));
            site.store.script([], None);
            match outcome {
                Ok(_) => break,
                Err(error) => assert_ne!(error.kind(), ErrorKind::Internal, "{error:?}"),
            }
            kills += 1;
            if random.below(10) == 0 {
                std::fs::remove_dir_all(site.cache("cache")).unwrap_or_default();
            }
            if random.below(10) == 0 {
                // Half of what a kill leaves is reclaimed, and that is killed too.
                site.store.cut_off(1 + random.below(40), Fault::LostAnswer);
                if let Ok(repository) = site.try_open(1, "cache", 1) {
                    repository
                        .reclaim(&now(), &Progress::new(), &mut |_| {})
                        .map(drop)
                        .unwrap_or_default();
                }
                site.store.script([], None);
            }
        }
        trees.insert(number, tree.clone());
    }
    let repository = site.open();
    let last = *trees.keys().next_back().unwrap();
    assert_holds(&repository, last, &trees[&last]);
    let must: Vec<u8> = trees.keys().copied().collect();
    assert!(must.len() > 10, "{must:?}");
    assert_whole(&repository, &trees, &must, "kills");
    assert_tidy(&site, &repository, &trees, &must, "kills");
}
