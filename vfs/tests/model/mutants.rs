//! The harness is only as good as what it catches. Each mutant is the model with one fault that real file systems have
//! had; the generated sequences must tell every one of them from the model.

mod faulty;

use std::collections::BTreeSet;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use self::faulty::Faulty;
use crate::harness::run;
use crate::model::Model;
use crate::operations::sequence;
use crate::subject::{Stop, TestClock};

/// What is wrong with a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A rename over a file with other links does not lower its link count.
    RenameKeepsLinks,
    /// A directory that moves to another parent leaves its link behind.
    MoveKeepsParentLinks,
    /// Cutting a file and extending it shows the old bytes again.
    TruncateKeepsTail,
    /// A write beyond the end leaves bytes in the hole.
    HoleHasBytes,
    /// Anybody may change a mode.
    ChmodByAnybody,
    /// A write keeps set-user-id.
    WriteKeepsSetId,
    /// Anybody may remove from a sticky directory.
    StickyIgnored,
    /// Removing one of two names leaves the object's `changed` time.
    UnlinkKeepsChanged,
    /// Attributes from before a change are those from after it.
    BeforeIsAfter,
    /// Cookies are positions: an entry that goes makes a listing skip another.
    CookiesArePositions,
    /// A write after a snapshot shows in the snapshot too.
    SnapshotSharesBytes,
    /// A restore keeps what was made in the root since.
    RestoreKeepsNewNames,
    /// What is done to a fork's modes is done to its parent.
    ForkSharesModes,
    /// A stop loses the last committed write.
    StopLosesCommitted,
    /// Inode numbers are used again after a restore.
    InodesReused,
    /// A change of a mode records no reply.
    ReplyForgotten,
}

const FAULTS: [Fault; 16] = [
    Fault::RenameKeepsLinks,
    Fault::MoveKeepsParentLinks,
    Fault::TruncateKeepsTail,
    Fault::HoleHasBytes,
    Fault::ChmodByAnybody,
    Fault::WriteKeepsSetId,
    Fault::StickyIgnored,
    Fault::UnlinkKeepsChanged,
    Fault::BeforeIsAfter,
    Fault::CookiesArePositions,
    Fault::SnapshotSharesBytes,
    Fault::RestoreKeepsNewNames,
    Fault::ForkSharesModes,
    Fault::StopLosesCommitted,
    Fault::InodesReused,
    Fault::ReplyForgotten,
];

/// Sequences that a mutant may survive before the harness counts as blind to its fault.
const SEQUENCES_MAX: u32 = 400;
const LENGTH: usize = 120;

#[test]
fn every_mutant_is_caught() {
    let strategy = sequence(LENGTH, &[Stop::Drop, Stop::Kill]);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut alive: BTreeSet<Fault> = FAULTS.into();
    for round in 1..=SEQUENCES_MAX {
        let operations = strategy
            .new_tree(&mut runner)
            .expect("the strategy rejects nothing")
            .current();
        alive.retain(|fault| {
            let clock = TestClock::new();
            let mut mutant = Faulty::new(Model::new(clock.clone()), *fault);
            let caught = run(&mut mutant, &clock, &operations).err();
            if let Some(mismatch) = &caught {
                println!(
                    "{fault:?}: sequence {round}, operation {}: {}",
                    mismatch.step, mismatch.what
                );
            }
            caught.is_none()
        });
        if alive.is_empty() {
            return;
        }
    }
    panic!("not caught in {SEQUENCES_MAX} sequences: {alive:?}");
}
