//! Checks of batches: order, limits, atomicity, durability.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Subject;
use crate::engine::{
    Batch, Durability, Engine, EngineError, KEY_BYTES_MAX, Operation, Precondition, VALUE_BYTES_MAX,
};

fn write(engine: &dyn Engine, operations: Vec<Operation>) -> Result<(), EngineError> {
    engine.write(
        Batch {
            preconditions: Vec::new(),
            operations,
        },
        Durability::Process,
    )
}

fn put(key: &[u8], value: &[u8]) -> Operation {
    Operation::Put(key.to_vec(), value.to_vec())
}

fn delete(key: &[u8]) -> Operation {
    Operation::Delete(key.to_vec())
}

fn delete_range(from: &[u8], to: &[u8]) -> Operation {
    Operation::DeleteRange(from.to_vec(), to.to_vec())
}

fn contents(engine: &dyn Engine) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = engine
        .scan(b"", &[0xff; KEY_BYTES_MAX + 1], 10_000)
        .expect("scan");
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect()
}

pub(super) fn applies_in_order(subject: &dyn Subject) {
    let engine = subject.open();
    write(
        &*engine,
        vec![
            put(b"twice", b"1"),
            put(b"twice", b"2"),
            put(b"gone", b"1"),
            delete(b"gone"),
            delete(b"back"),
            put(b"back", b"1"),
            put(b"range1", b"1"),
            delete_range(b"range", b"rangf"),
            put(b"range2", b"2"),
            delete(b"never"),
        ],
    )
    .expect("a write");
    let expected = [(&b"back"[..], &b"1"[..]), (b"range2", b"2"), (b"twice", b"2")];
    let expected: Vec<_> = expected.map(|(key, value)| (key.to_vec(), value.to_vec())).into();
    assert_eq!(contents(&*engine), expected);
    // The same again, now that the keys exist.
    write(
        &*engine,
        vec![
            delete(b"twice"),
            put(b"back", b"2"),
            delete(b"back"),
            delete(b"back"),
        ],
    )
    .expect("a write");
    assert_eq!(contents(&*engine), vec![(b"range2".to_vec(), b"2".to_vec())]);
}

pub(super) fn deletes_exactly_a_range(subject: &dyn Subject) {
    let keys: [&[u8]; 7] = [b"\0", b"a", b"a\0", b"b", b"b\xff", b"c", &[0xff; KEY_BYTES_MAX]];
    let bounds: [&[u8]; 7] = [
        b"",
        b"\0",
        b"a",
        b"a\0",
        b"b\xff",
        b"c",
        &[0xff; KEY_BYTES_MAX + 1],
    ];
    let engine = subject.open();
    for from in bounds {
        for to in bounds {
            write(&*engine, keys.iter().map(|key| put(key, b"")).collect()).expect("a write");
            write(&*engine, vec![delete_range(from, to)]).expect("a range in any order");
            let expected: Vec<Vec<u8>> = keys
                .iter()
                .filter(|key| !(from <= **key && **key < to))
                .map(|key| key.to_vec())
                .collect();
            let found: Vec<Vec<u8>> = contents(&*engine).into_iter().map(|(key, _)| key).collect();
            assert_eq!(found, expected, "after deleting {from:?}..{to:?}");
            for key in keys {
                let present = engine.get(key).expect("get").is_some();
                assert_eq!(present, expected.iter().any(|expected| expected == key));
            }
        }
    }
}

pub(super) fn accepts_an_empty_batch(subject: &dyn Subject) {
    let engine = subject.open();
    assert!(Batch::default().is_empty());
    write(&*engine, Vec::new()).expect("an empty batch");
    engine
        .write(Batch::default(), Durability::Power)
        .expect("an empty batch");
    engine.sync().expect("a sync");
    assert!(contents(&*engine).is_empty());
    let preconditions = vec![Precondition::Equals(b"a".to_vec(), b"1".to_vec())];
    let refused = engine.write(
        Batch {
            preconditions,
            operations: Vec::new(),
        },
        Durability::Process,
    );
    assert!(
        matches!(refused, Err(EngineError::PreconditionFailed { .. })),
        "it is checked all the same"
    );
}

pub(super) fn takes_large_batches(subject: &dyn Subject) {
    const ENTRIES: u32 = 50_000;
    let engine = subject.open();
    let value = [0xa5; 300];
    write(
        &*engine,
        (0..ENTRIES)
            .map(|number| put(&number.to_be_bytes(), &value))
            .collect(),
    )
    .expect("15 MB of small values");
    let large = vec![0x5a; VALUE_BYTES_MAX];
    write(&*engine, vec![put(b"large", &large)]).expect("the longest value");
    drop(engine);
    let engine = subject.open();
    let found = engine
        .scan(&0u32.to_be_bytes(), &ENTRIES.to_be_bytes(), 65_000)
        .expect("scan");
    assert_eq!(found.len(), ENTRIES as usize);
    assert!(found.iter().all(|(_, found)| **found == value));
    let found = engine
        .get(b"large")
        .expect("get")
        .expect("the longest value is there");
    assert!(found == large);
    write(&*engine, vec![delete_range(b"", b"\xff")]).expect("deleting all");
    assert!(contents(&*engine).is_empty());
}

pub(super) fn refuses_beyond_limits(subject: &dyn Subject) {
    let engine = subject.open();
    let longest = vec![b'k'; KEY_BYTES_MAX];
    write(&*engine, vec![put(&longest, b"1")]).expect("the longest key");
    let long = vec![b'k'; KEY_BYTES_MAX + 1];
    let longer = vec![b'k'; KEY_BYTES_MAX + 2];
    let large = vec![0; VALUE_BYTES_MAX + 1];
    let refused = [
        put(&long, b""),
        put(b"large", &large),
        delete(&long),
        delete_range(b"a", &longer),
        delete_range(&longer, b"z"),
    ];
    for operation in refused {
        let outcome = write(&*engine, vec![put(b"first", b""), operation]);
        assert!(
            matches!(outcome, Err(EngineError::TooLarge { .. })),
            "{outcome:?}"
        );
    }
    for operation in [put(b"", b""), delete(b"")] {
        let outcome = write(&*engine, vec![put(b"first", b""), operation]);
        assert!(matches!(outcome, Err(EngineError::EmptyKey)), "{outcome:?}");
    }
    for precondition in [
        Precondition::Absent(long.clone()),
        Precondition::Equals(b"k".to_vec(), large),
    ] {
        let batch = Batch {
            preconditions: vec![precondition],
            operations: vec![put(b"first", b"")],
        };
        let outcome = engine.write(batch, Durability::Process);
        assert!(
            matches!(outcome, Err(EngineError::TooLarge { .. })),
            "{outcome:?}"
        );
    }
    assert_eq!(contents(&*engine), vec![(longest, b"1".to_vec())]);
}

pub(super) fn keeps_everything(subject: &dyn Subject) {
    for round in 0..4u8 {
        let engine = subject.open();
        let expected: Vec<_> = (0..round)
            .flat_map(|round| (0..3).map(move |part| (vec![round, part], vec![round])))
            .collect();
        assert_eq!(contents(&*engine), expected, "in round {round}");
        write(&*engine, vec![put(&[round, 0], &[round]), put(b"\xfe", b"")]).expect("a write");
        let mut batch = Batch::default();
        batch.put(vec![round, 1], vec![round]);
        engine.write(batch, Durability::Power).expect("a durable write");
        write(&*engine, vec![put(&[round, 2], &[round]), delete(b"\xfe")]).expect("a write");
        if round % 2 == 0 {
            engine.sync().expect("a sync");
        }
    }
}

/// Writers set two keys far apart to the same value, each writer its own pair, and readers must never see them differ.
pub(super) fn shows_batches_whole(subject: &dyn Subject) {
    const WRITERS: u8 = 3;
    const WRITES: u32 = 300;
    let engine = subject.open();
    let running = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let engine = &engine;
                scope.spawn(move || {
                    for number in 0..WRITES {
                        let value = number.to_be_bytes();
                        let operations = vec![put(&[0, writer], &value), put(&[0xff, writer], &value)];
                        write(&**engine, operations).expect("a write");
                    }
                })
            })
            .collect();
        let (engine, running) = (&engine, &running);
        let reader = scope.spawn(move || {
            let mut reads = 0;
            while reads == 0 || running.load(Ordering::Acquire) {
                let found = engine.scan(&[0], &[0xff, 0xff], 100).expect("scan");
                for writer in 0..WRITERS {
                    let value = |first: u8| {
                        found
                            .iter()
                            .find(|(key, _)| **key == [first, writer])
                            .map(|(_, value)| value)
                    };
                    assert_eq!(value(0), value(0xff), "the pair of writer {writer}");
                }
                reads += 1;
            }
        });
        for writer in writers {
            writer.join().expect("a writer");
        }
        running.store(false, Ordering::Release);
        reader.join().expect("the reader");
    });
    let last = (WRITES - 1).to_be_bytes().to_vec();
    assert!(contents(&*engine).into_iter().all(|(_, value)| value == last));
}
