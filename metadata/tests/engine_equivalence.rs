//! The two engines against each other: generated batches and reads must have the same outcome on both.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::engine::rocks::{RocksEngine, RocksSettings};
use cairn_metadata::engine::{Batch, Durability, Engine, EngineError, Operation, Precondition};
use proptest::collection::vec;
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::strategy::{Just, Strategy};
use proptest::test_runner::{Config, TestRunner};

/// What happens to both engines.
#[derive(Debug, Clone)]
enum Step {
    Write(Batch, Durability),
    Sync,
    Get(Vec<u8>),
    GetMany(Vec<Vec<u8>>),
    Scan(Vec<u8>, Vec<u8>, usize),
    ScanBack(Vec<u8>, Vec<u8>, usize),
    /// Closes and opens the store on disk.
    Reopen,
}

/// Keys of few letters, so that they meet. The empty one is among them: batches refuse it.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(select(vec![0x00u8, b'a', b'b', 0xff]), 0..5)
}

/// Values of few kinds, so that preconditions hold now and then; some fill a write buffer soon.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => vec(select(vec![1u8, 2]), 0..2),
        1 => (1usize..20_000).prop_map(|length| vec![3; length]),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (key(), value()).prop_map(|(key, value)| Operation::Put(key, value)),
        2 => key().prop_map(Operation::Delete),
        1 => (key(), key()).prop_map(|(from, to)| Operation::DeleteRange(from, to)),
    ]
}

fn precondition() -> impl Strategy<Value = Precondition> {
    prop_oneof![
        key().prop_map(Precondition::Absent),
        (key(), vec(select(vec![1u8, 2]), 0..2)).prop_map(|(key, value)| Precondition::Equals(key, value)),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    let preconditions = prop_oneof![3 => Just(Vec::new()), 1 => vec(precondition(), 1..3)];
    (preconditions, vec(operation(), 0..8)).prop_map(|(preconditions, operations)| Batch {
        preconditions,
        operations,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => batch().prop_map(|batch| Step::Write(batch, Durability::Process)),
        2 => batch().prop_map(|batch| Step::Write(batch, Durability::Power)),
        1 => Just(Step::Sync),
        4 => key().prop_map(Step::Get),
        2 => vec(key(), 0..6).prop_map(Step::GetMany),
        4 => (key(), key(), 0usize..20).prop_map(|(from, to, limit)| Step::Scan(from, to, limit)),
        4 => (key(), key(), 0usize..20).prop_map(|(from, to, limit)| Step::ScanBack(from, to, limit)),
        1 => Just(Step::Reopen),
    ]
}

/// An outcome in a form that can be compared: the text of an error stands for the error.
fn outcome<T>(result: Result<T, EngineError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// Buffers of the smallest size, so that generated writes reach table files.
fn open(directory: &std::path::Path) -> RocksEngine {
    let settings = RocksSettings {
        write_buffer_bytes: 64 << 10,
        write_buffers: 2,
        ..RocksSettings::default()
    };
    RocksEngine::open(directory, settings).unwrap()
}

fn run(steps: Vec<Step>) {
    let directory = tempfile::tempdir().unwrap();
    let memory = MemoryEngine::new();
    let mut rocks = open(directory.path());
    for step in &steps {
        match step {
            Step::Write(batch, durability) => assert_eq!(
                outcome(memory.write(batch.clone(), *durability)),
                outcome(rocks.write(batch.clone(), *durability)),
                "{step:?}"
            ),
            Step::Sync => assert_eq!(outcome(memory.sync()), outcome(rocks.sync())),
            Step::Get(key) => {
                let expected = outcome(memory.get(key));
                let cached = outcome(rocks.get_cached(key));
                assert_eq!(expected, outcome(rocks.get(key)), "{step:?}");
                if let Ok(Some(cached)) = cached {
                    assert_eq!(expected, Ok(cached), "{step:?} in memory");
                }
            }
            Step::GetMany(keys) => {
                assert_eq!(
                    outcome(memory.get_many(keys)),
                    outcome(rocks.get_many(keys)),
                    "{step:?}"
                );
            }
            Step::Scan(from, to, limit) => assert_eq!(
                outcome(memory.scan(from, to, *limit)),
                outcome(rocks.scan(from, to, *limit)),
                "{step:?}"
            ),
            Step::ScanBack(from, to, limit) => assert_eq!(
                outcome(memory.scan_back(from, to, *limit)),
                outcome(rocks.scan_back(from, to, *limit)),
                "{step:?}"
            ),
            Step::Reopen => {
                drop(rocks);
                rocks = open(directory.path());
            }
        }
    }
    let all = |engine: &dyn Engine| outcome(engine.scan(&[], &[0xff; 8], 10_000));
    assert_eq!(all(&memory), all(&rocks));
}

#[test]
fn engines_agree() {
    let mut runner = TestRunner::new(Config {
        cases: 48,
        ..Config::default()
    });
    runner
        .run(&vec(step(), 1..80), |steps| {
            run(steps);
            Ok(())
        })
        .unwrap();
}
