//! What only the engine in memory can do: lose power, and fail on request.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::engine::{Batch, Durability, Engine, EngineError, Pair};
use proptest::collection::vec;
use proptest::prop_oneof;
use proptest::strategy::{Just, Strategy};
use proptest::test_runner::{Config, TestRunner};

fn put(engine: &MemoryEngine, key: &[u8], value: &[u8], durability: Durability) -> Result<(), EngineError> {
    let mut batch = Batch::default();
    batch.put(key.to_vec(), value.to_vec());
    engine.write(batch, durability)
}

fn get(engine: &MemoryEngine, key: &[u8]) -> Option<Bytes> {
    engine.get(key).unwrap()
}

fn all(engine: &MemoryEngine) -> Vec<Pair> {
    engine.scan(&[], &[0xff], 1000).unwrap()
}

#[test]
fn a_power_cut_keeps_what_is_durable_and_nothing_else() {
    let engine = MemoryEngine::new();
    put(&engine, b"a", b"1", Durability::Process).unwrap();
    put(&engine, b"b", b"1", Durability::Power).unwrap();
    put(&engine, b"b", b"2", Durability::Process).unwrap();
    put(&engine, b"c", b"1", Durability::Process).unwrap();
    let mut batch = Batch::default();
    batch.delete_range(b"a".to_vec(), b"b".to_vec());
    engine.write(batch, Durability::Process).unwrap();

    let after = engine.power_cut();
    assert_eq!(
        get(&after, b"a").as_deref(),
        Some(&b"1"[..]),
        "a durable write covers earlier ones"
    );
    assert_eq!(get(&after, b"b").as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&after, b"c"), None);
    assert_eq!(
        get(&engine, b"b").as_deref(),
        Some(&b"2"[..]),
        "the engine itself goes on"
    );

    engine.sync().unwrap();
    assert_eq!(all(&engine.power_cut()), all(&engine));
    put(&after, b"d", b"1", Durability::Process).unwrap();
    assert_eq!(get(&engine, b"d"), None, "the two are separate");
}

#[test]
fn a_failed_sync_poisons() {
    let engine = MemoryEngine::new();
    put(&engine, b"a", b"1", Durability::Power).unwrap();
    engine.fail_sync_after(1);
    engine.sync().unwrap();
    put(&engine, b"b", b"1", Durability::Process).unwrap();
    let failed = put(&engine, b"c", b"1", Durability::Power);
    assert!(matches!(failed, Err(EngineError::Failed(_))), "{failed:?}");
    for durability in [Durability::Process, Durability::Power] {
        assert!(matches!(
            put(&engine, b"d", b"1", durability),
            Err(EngineError::Poisoned)
        ));
    }
    assert!(matches!(engine.sync(), Err(EngineError::Poisoned)));
    assert_eq!(get(&engine, b"c").as_deref(), Some(&b"1"[..]), "reads go on");

    let after = engine.power_cut();
    assert_eq!(
        all(&after),
        [(Bytes::from_static(b"a"), Bytes::from_static(b"1"))]
    );
    put(&after, b"d", b"1", Durability::Power).unwrap();

    engine.clone().power_cut().fail_next_sync();
    let failed = after.sync();
    assert!(failed.is_ok(), "faults do not pass to another engine: {failed:?}");
    after.fail_next_sync();
    assert!(matches!(after.sync(), Err(EngineError::Failed(_))));
}

#[test]
fn a_full_disk_refuses_one_write() {
    let engine = MemoryEngine::new();
    engine.fail_next_write();
    let refused = put(&engine, b"a", b"1", Durability::Power);
    assert!(matches!(refused, Err(EngineError::NoSpace(_))), "{refused:?}");
    assert_eq!(get(&engine, b"a"), None);
    put(&engine, b"a", b"2", Durability::Power).unwrap();
    assert_eq!(get(&engine.power_cut(), b"a").as_deref(), Some(&b"2"[..]));
}

/// Against the plain way to do it: a copy of the whole map at each moment of durability.
#[test]
fn power_cuts_agree_with_copies() {
    #[derive(Debug, Clone)]
    enum Step {
        Put(u8, u8, bool),
        DeleteRange(u8, u8),
        Sync,
    }
    let step = prop_oneof![
        8 => (0u8..12, 0u8..4, proptest::bool::weighted(0.1)).prop_map(|(k, v, d)| Step::Put(k, v, d)),
        2 => (0u8..12, 0u8..12).prop_map(|(from, to)| Step::DeleteRange(from, to)),
        1 => Just(Step::Sync),
    ];
    let mut runner = TestRunner::new(Config {
        cases: 500,
        ..Config::default()
    });
    runner
        .run(&vec(step, 0..60), |steps| {
            let engine = MemoryEngine::new();
            let mut durable = Vec::new();
            for step in steps {
                let synced = match step {
                    Step::Put(key, value, synced) => {
                        let durability = if synced {
                            Durability::Power
                        } else {
                            Durability::Process
                        };
                        put(&engine, &[key], &[value], durability).unwrap();
                        synced
                    }
                    Step::DeleteRange(from, to) => {
                        let mut batch = Batch::default();
                        batch.delete_range(vec![from], vec![to]);
                        engine.write(batch, Durability::Process).unwrap();
                        false
                    }
                    Step::Sync => {
                        engine.sync().unwrap();
                        true
                    }
                };
                if synced {
                    durable = all(&engine);
                }
                assert_eq!(all(&engine.power_cut()), durable);
            }
            Ok(())
        })
        .unwrap();
}
