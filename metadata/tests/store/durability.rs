//! What survives a power cut, and what a write that fails leaves: of the commits that nobody waited for, the last ones may
//! vanish, in their order; of an operation, all or nothing.

use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::engine::{Durability, Pair};
use cairn_metadata::store::OpenVolume;
use cairn_metadata::{Lineage, MetadataError, SnapshotRecord, Store, Transaction};
use cairn_types::{ErrorKind, InodeId, LogPosition};
use proptest::collection::vec;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::{assert_kind, create, details, dump, entry, fresh, inode, open, record, snapshot};

/// A kind of commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commit {
    Change,
    DurableChange,
    EndEpoch,
    Snapshot,
    Restore,
    Create,
    Fork,
    Delete,
    Checkpoint,
    DurableCheckpoint,
    Forget,
    Sweep,
}

const COMMITS: [Commit; 12] = [
    Commit::Change,
    Commit::DurableChange,
    Commit::EndEpoch,
    Commit::Snapshot,
    Commit::Restore,
    Commit::Create,
    Commit::Fork,
    Commit::Delete,
    Commit::Checkpoint,
    Commit::DurableCheckpoint,
    Commit::Forget,
    Commit::Sweep,
];

impl Commit {
    /// Whether it is durable on return.
    fn is_durable(self) -> bool {
        match self {
            Commit::Change | Commit::EndEpoch | Commit::Checkpoint | Commit::Forget | Commit::Sweep => false,
            Commit::DurableChange
            | Commit::Snapshot
            | Commit::Restore
            | Commit::Create
            | Commit::Fork
            | Commit::Delete
            | Commit::DurableCheckpoint => true,
        }
    }
}

/// A store on which one commit after the other is made.
struct Run {
    engine: MemoryEngine,
    store: Store,
    volume: OpenVolume,
    snapshot: SnapshotRecord,
    other: OpenVolume,
    turn: u64,
}

impl Run {
    fn new() -> Self {
        let (engine, store) = fresh();
        let mut volume = create(&store, "w");
        let snapshot = snapshot(&store, &mut volume, 1);
        let other = create(&store, "other");
        Run {
            engine,
            store,
            volume,
            snapshot,
            other,
            turn: 10,
        }
    }

    fn change(&self, durability: Durability) -> Result<(), MetadataError> {
        let lineage = Lineage::live(&self.engine, self.volume.record.head).unwrap();
        let mut transaction = Transaction::new(&self.engine, &lineage, self.volume.branch.epoch);
        transaction.put_inode(InodeId(5), &inode(self.turn));
        transaction.put_entry(InodeId(1), &entry(&format!("e{}", self.turn), self.turn));
        transaction.record_reply(self.turn, &[1; 16], &vec![3; 5].into());
        transaction.commit(durability)
    }

    fn commit(&mut self, commit: Commit) -> Result<(), MetadataError> {
        self.turn += 1;
        let text = format!("w{}", self.turn);
        match commit {
            Commit::Change => self.change(Durability::Process),
            Commit::DurableChange => self.change(Durability::Power),
            Commit::EndEpoch => self.store.end_epoch(&mut self.volume).map(drop),
            Commit::Snapshot => self
                .store
                .take_snapshot(&mut self.volume, details(self.turn))
                .map(drop),
            Commit::Restore => self
                .store
                .restore(&mut self.volume, &self.snapshot, details(self.turn))
                .map(drop),
            Commit::Create => self.store.create_volume(record(&text), &inode(0)).map(drop),
            Commit::Fork => self.store.fork_volume(record(&text), &self.snapshot).map(drop),
            Commit::Delete => {
                self.store.delete_volume(&self.other)?;
                if let Some(other) = self.store.create_volume(record(&text), &inode(0))? {
                    self.other = other;
                }
                Ok(())
            }
            Commit::Checkpoint => self
                .store
                .set_checkpoint(LogPosition(self.turn), Durability::Process),
            Commit::DurableCheckpoint => self
                .store
                .set_checkpoint(LogPosition(self.turn), Durability::Power),
            Commit::Forget => self.store.forget_replies(self.turn.saturating_sub(3)),
            Commit::Sweep => self.store.sweep_branches().map(drop),
        }
    }
}

#[test]
fn a_power_cut_takes_only_the_last_commits_that_nobody_waited_for() {
    let mut runner = TestRunner::new(Config {
        cases: 128,
        ..Config::default()
    });
    runner
        .run(&vec(select(COMMITS.to_vec()), 1..30), |commits| {
            let mut run = Run::new();
            // The states after each commit since the last one that is durable.
            let mut states: Vec<Vec<Pair>> = vec![dump(&run.engine)];
            for commit in commits {
                run.commit(commit).unwrap();
                if commit.is_durable() {
                    states.clear();
                }
                states.push(dump(&run.engine));
                let cut = run.engine.power_cut();
                assert!(states.contains(&dump(&cut)), "after {commit:?}");
                assert!(open(&cut).unwrap().volumes().unwrap().len() >= 2);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_commit_without_space_changes_nothing() {
    for commit in COMMITS {
        let mut run = Run::new();
        // Something to sweep and to forget, for those that would otherwise write nothing.
        run.commit(Commit::Change).unwrap();
        run.turn += 10;
        run.store.delete_volume(&run.other).unwrap();
        run.other = create(&run.store, "another");
        let before = (dump(&run.engine), run.volume.clone());
        run.engine.fail_next_write();
        assert_kind(run.commit(commit), ErrorKind::NoSpace);
        assert_eq!((dump(&run.engine), run.volume.clone()), before, "{commit:?}");
        run.commit(commit).unwrap();
        assert_ne!(
            dump(&run.engine),
            before.0,
            "{commit:?} is done when there is space"
        );
        if commit != Commit::Sweep {
            run.commit(Commit::Sweep).unwrap();
        }
        let volumes = run.store.volumes().unwrap();
        assert!(volumes.contains(&run.volume), "{commit:?}");
    }
}

#[test]
fn a_durable_commit_whose_sync_fails_is_no_success() {
    for commit in COMMITS.into_iter().filter(|commit| commit.is_durable()) {
        let mut run = Run::new();
        let before = (dump(&run.engine), run.volume.clone());
        run.engine.fail_next_sync();
        assert!(run.commit(commit).is_err(), "{commit:?}");
        assert_eq!(run.volume, before.1, "{commit:?}");
        assert_eq!(dump(&run.engine.power_cut()), before.0, "{commit:?}");
        assert_kind(run.commit(Commit::Change), ErrorKind::Unavailable);
    }
}
