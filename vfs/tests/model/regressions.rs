//! Sequences that once failed, by what was wrong.

use cairn_vfs::filesystem::Stability;

use crate::harness::run;
use crate::operations::{How, Name, Operation, Pick, Reference, Target};
use crate::subject::{Stop, TestClock};
use crate::subjects::{Background, Disk, Home, Memory, Real};

const ROOT: Target = of(Pick::Directory(0));
const FILE: Target = of(Pick::File(0));
const A: Name = Name::Plain(0);
const B: Name = Name::Plain(1);

const fn of(pick: Pick) -> Target {
    Target { workspace: 0, pick }
}

fn create(caller: u8, mode: u32) -> Operation {
    let how = How::Guarded { size: None };
    Operation::Create {
        caller,
        directory: ROOT,
        name: A,
        how,
        mode,
    }
}

fn write(caller: u8, offset: u64, length: u32, stability: Stability) -> Operation {
    Operation::Write {
        caller,
        object: FILE,
        offset,
        length,
        seed: 1,
        stability,
    }
}

fn set_mode(mode: u32) -> Operation {
    Operation::SetMode {
        caller: 0,
        object: FILE,
        mode,
        guard: None,
    }
}

fn holds_on<H: Home>(home: H, operations: &[Operation]) {
    let clock = TestClock::new();
    let outcome = run(
        &mut Real::new(home, clock.clone(), Background::Never),
        &clock,
        operations,
    );
    if let Err(mismatch) = outcome {
        panic!("operation {}: {}", mismatch.step, mismatch.what);
    }
}

/// The sequence is as the model says, in memory and on disk.
fn holds(operations: &[Operation]) {
    holds_on(Memory::default(), operations);
    holds_on(Disk::new(), operations);
}

/// It used to move the time of the last change, and anybody could ask for it.
#[test]
fn setting_nothing_changes_nothing() {
    let nothing = |caller| Operation::SetOwner {
        caller,
        object: FILE,
        uid: None,
        gid: None,
    };
    holds(&[create(0, 0o600), nothing(2), nothing(0)]);
}

/// It used to change nothing, and to ask for no permission.
#[test]
fn truncating_at_creation_to_the_present_size_is_a_change() {
    let truncate = |caller| Operation::Create {
        caller,
        directory: ROOT,
        name: A,
        how: How::Unchecked { size: Some(0) },
        mode: 0o644,
    };
    holds(&[create(0, 0o644), truncate(1), truncate(0)]);
}

/// A set-gid bit that a write had taken away was back after a power cut, although the data was committed.
#[test]
fn set_id_bits_stay_gone_with_committed_data() {
    let commit = || Operation::Commit { object: FILE };
    for length in [65_536, 100] {
        holds(&[
            create(2, 0o777),
            set_mode(0o6777),
            write(1, 0, length, Stability::Unstable),
            write(1, 0, 65_536, Stability::Unstable),
            commit(),
            Operation::Restart { stop: Stop::PowerCut },
        ]);
    }
}

/// A committed write was dated after the rename that followed it, once the log was replayed.
#[test]
fn a_replayed_write_keeps_its_time() {
    for stop in [Stop::PowerCut, Stop::Kill] {
        holds(&[
            create(0, 0o644),
            write(0, 4095, 10, Stability::Unstable),
            Operation::Commit { object: FILE },
            Operation::Rename {
                caller: 0,
                from: (ROOT, A),
                to: (ROOT, B),
            },
            Operation::Restart { stop },
        ]);
    }
}

/// Not once wrong, and every kind of state at once: what the first failures were made of.
#[test]
fn a_fork_of_a_restored_workspace_keeps_its_bytes_over_stops() {
    for stop in [Stop::PowerCut, Stop::Kill, Stop::Drop] {
        holds(&[
            create(0, 0o666),
            write(1, 0, 65_537, Stability::Unstable),
            Operation::Snapshot {
                workspace: 0,
                tag: Some(0),
            },
            write(2, 4095, 4097, Stability::Unstable),
            Operation::SetSize {
                caller: 0,
                object: FILE,
                size: 5000,
            },
            Operation::Restart { stop },
            Operation::Snapshot {
                workspace: 0,
                tag: Some(1),
            },
            Operation::Restore {
                workspace: 0,
                reference: Reference::Tagged(0),
            },
            Operation::Fork {
                workspace: 0,
                reference: Reference::Tagged(1),
                new: 1,
            },
            write(0, 100_000, 10, Stability::File),
            Operation::Diff {
                workspace: 0,
                from: Reference::Tagged(1),
                to: None,
            },
            Operation::Restart { stop },
            Operation::Delete {
                workspace: 1,
                with_snapshots: true,
            },
            Operation::Restore {
                workspace: 0,
                reference: Reference::Tagged(1),
            },
        ]);
    }
}
