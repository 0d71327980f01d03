//! Epochs against a naive model: whatever is changed, snapshot, restored, forked, deleted and swept, every live tree and every
//! snapshot shows what a plain copy taken at the time shows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cairn_metadata::engine::Durability;
use cairn_metadata::engine::memory::MemoryEngine;
use proptest::arbitrary::any;
use proptest::collection::vec;
use proptest::prop_oneof;
use proptest::strategy::{Just, Strategy};
use proptest::test_runner::{Config, TestRunner};

mod concurrent;
mod minimal;
mod travel;
mod tree;
mod world;

use tree::{Change, INODES, NAMES, SLOTS};
use world::{Place, Step, World};

/// Steps between two comparisons of everything.
const STEPS_UNCHECKED_MAX: usize = 8;

fn change() -> impl Strategy<Value = Change> {
    let inode = || 1..=INODES;
    let name = || 0..NAMES.len();
    let stamp = || 1u64..1000;
    prop_oneof![
        2 => (inode(), stamp()).prop_map(|(inode, stamp)| Change::PutInode { inode, stamp }),
        1 => inode().prop_map(|inode| Change::RemoveInode { inode }),
        1 => stamp().prop_map(|stamp| Change::InsertLate { stamp }),
        1 => (any::<usize>(), stamp()).prop_map(|(which, stamp)| Change::PutLate { which, stamp }),
        1 => any::<usize>().prop_map(|which| Change::RemoveLate { which }),
        4 => (inode(), name(), 1u64..9).prop_map(|(directory, name, to)| Change::PutEntry { directory, name, to }),
        3 => (inode(), name()).prop_map(|(directory, name)| Change::RemoveEntry { directory, name }),
        1 => ((inode(), name()), (inode(), name())).prop_map(|(from, to)| Change::Rename { from, to }),
        1 => (inode(), any::<u8>()).prop_map(|(inode, fill)| Change::PutInline { inode, fill }),
        1 => inode().prop_map(|inode| Change::RemoveInline { inode }),
        4 => (inode(), 0..SLOTS, 1..4u64, stamp())
            .prop_map(|(inode, slot, slots, stamp)| Change::Write { inode, slot, slots, stamp }),
        1 => (inode(), 0..SLOTS).prop_map(|(inode, slot)| Change::Truncate { inode, slot }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<usize>;
    let durability = prop_oneof![9 => Just(Durability::Process), 1 => Just(Durability::Power)];
    prop_oneof![
        12 => (which(), vec(change(), 1..7), durability)
            .prop_map(|(volume, changes, durability)| Step::Change { volume, changes, durability }),
        5 => which().prop_map(Step::Snapshot),
        2 => which().prop_map(Step::EndEpoch),
        3 => (which(), which()).prop_map(|(volume, snapshot)| Step::Restore(volume, snapshot)),
        3 => (which(), which()).prop_map(|(volume, snapshot)| Step::Fork(volume, snapshot)),
        1 => which().prop_map(Step::Delete),
        3 => (which(), which()).prop_map(|(volume, snapshot)| Step::DeleteSnapshot(volume, snapshot)),
        1 => which().prop_map(Step::Release),
        1 => Just(Step::Sweep),
        2 => (0..40usize).prop_map(Step::SweepOn),
        1 => Just(Step::Reopen),
        1 => Just(Step::PowerCut),
    ]
}

fn run(place: Place, steps: &[Step]) {
    let mut world = World::new(place);
    let mut unchecked = 0;
    for step in steps {
        let everything = world.step(step);
        unchecked += 1;
        if everything || unchecked == STEPS_UNCHECKED_MAX {
            world.check();
            unchecked = 0;
        } else {
            world.check_live();
        }
    }
    world.check();
    minimal::check_bare(world);
}

#[test]
fn all_states_are_as_the_model_says() {
    let mut runner = TestRunner::new(Config {
        cases: 96,
        ..Config::default()
    });
    runner
        .run(&vec(step(), 1..90), |steps| {
            run(Place::Memory(MemoryEngine::new()), &steps);
            Ok(())
        })
        .unwrap();
}

#[test]
fn all_states_are_as_the_model_says_on_disk() {
    let mut runner = TestRunner::new(Config {
        cases: 6,
        ..Config::default()
    });
    runner
        .run(&vec(step(), 20..60), |steps| {
            run(Place::disk(), &steps);
            Ok(())
        })
        .unwrap();
}
