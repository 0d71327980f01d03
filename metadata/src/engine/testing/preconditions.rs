//! Checks of conditional batches.

use bytes::Bytes;

use super::Subject;
use crate::engine::{Batch, Durability, Engine, EngineError, Precondition};

fn number(value: Option<Bytes>) -> u64 {
    value.map_or(0, |value| {
        u64::from_be_bytes(value[..].try_into().expect("8 bytes"))
    })
}

/// The key of the precondition that failed. No key is empty, so an empty answer says that none did.
fn failed_key(outcome: Result<(), EngineError>) -> Vec<u8> {
    match outcome {
        Err(EngineError::PreconditionFailed { key }) => key,
        Ok(()) => Vec::new(),
        Err(other) => other.to_string().into_bytes(),
    }
}

fn put_if(preconditions: Vec<Precondition>, key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch {
        preconditions,
        operations: Vec::new(),
    };
    batch.put(key.to_vec(), value.to_vec());
    batch
}

fn absent(key: &[u8]) -> Precondition {
    Precondition::Absent(key.to_vec())
}

fn equals(key: &[u8], value: &[u8]) -> Precondition {
    Precondition::Equals(key.to_vec(), value.to_vec())
}

pub(super) fn checks_absence(subject: &dyn Subject) {
    let engine = subject.open();
    engine
        .write(put_if(vec![absent(b"a")], b"a", b""), Durability::Process)
        .expect("it is absent");
    let refused = engine.write(put_if(vec![absent(b"a")], b"a", b"2"), Durability::Process);
    assert_eq!(failed_key(refused), b"a");
    assert_eq!(engine.get(b"a").expect("get"), Some(Bytes::new()));
    let mut batch = Batch::default();
    batch.delete(b"a".to_vec());
    engine.write(batch, Durability::Process).expect("a delete");
    engine
        .write(put_if(vec![absent(b"a")], b"a", b"3"), Durability::Power)
        .expect("it is absent again");
    assert_eq!(engine.get(b"a").expect("get"), Some(Bytes::from_static(b"3")));
}

pub(super) fn checks_values(subject: &dyn Subject) {
    let engine = subject.open();
    let refused = engine.write(put_if(vec![equals(b"a", b"")], b"a", b"1"), Durability::Process);
    assert_eq!(failed_key(refused), b"a", "no value is not an empty value");
    engine
        .write(put_if(Vec::new(), b"a", b"1"), Durability::Process)
        .expect("a write");
    for wrong in [&b""[..], b"2", b"11"] {
        let refused = engine.write(put_if(vec![equals(b"a", wrong)], b"a", b"x"), Durability::Power);
        assert_eq!(failed_key(refused), b"a");
    }
    engine
        .write(put_if(vec![equals(b"a", b"1")], b"a", b"2"), Durability::Process)
        .expect("it is equal");
    assert_eq!(engine.get(b"a").expect("get"), Some(Bytes::from_static(b"2")));
}

pub(super) fn refuses_as_a_whole(subject: &dyn Subject) {
    let engine = subject.open();
    engine
        .write(put_if(Vec::new(), b"a", b"1"), Durability::Process)
        .expect("a write");
    let mut batch = put_if(
        vec![equals(b"a", b"1"), absent(b"b"), equals(b"c", b"3")],
        b"d",
        b"4",
    );
    batch.put(b"a".to_vec(), b"x".to_vec());
    batch.delete_range(b"a".to_vec(), b"z".to_vec());
    assert_eq!(failed_key(engine.write(batch, Durability::Power)), b"c");
    let found = engine.scan(b"", b"z", 10).expect("scan");
    assert_eq!(found, [(Bytes::from_static(b"a"), Bytes::from_static(b"1"))]);
    // Preconditions are about the state before the batch, also where the batch changes it.
    engine
        .write(
            put_if(vec![absent(b"b"), equals(b"a", b"1")], b"b", b"2"),
            Durability::Process,
        )
        .expect("all preconditions hold");
    assert_eq!(engine.get(b"b").expect("get"), Some(Bytes::from_static(b"2")));
}

fn increment(engine: &dyn Engine, key: &[u8], durability: Durability) {
    loop {
        let old = engine.get(key).expect("get");
        let precondition = match &old {
            None => absent(key),
            Some(old) => equals(key, old),
        };
        let new = number(old) + 1;
        match engine.write(put_if(vec![precondition], key, &new.to_be_bytes()), durability) {
            Ok(()) => return,
            refused => assert_eq!(failed_key(refused), key),
        }
    }
}

pub(super) fn isolates(subject: &dyn Subject) {
    const THREADS: u64 = 4;
    const INCREMENTS: u64 = 250;
    let engine = subject.open();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let engine = &engine;
            scope.spawn(move || {
                for step in 0..INCREMENTS {
                    let rarely = step % 50 == thread;
                    let durability = if rarely {
                        Durability::Power
                    } else {
                        Durability::Process
                    };
                    increment(&**engine, b"counter", durability);
                }
            });
        }
    });
    assert_eq!(number(engine.get(b"counter").expect("get")), THREADS * INCREMENTS);
}

pub(super) fn lets_one_create(subject: &dyn Subject) {
    const THREADS: u8 = 4;
    const KEYS: u8 = 100;
    let engine = subject.open();
    let created: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let engine = &engine;
                scope.spawn(move || {
                    let mut created = 0;
                    for key in 0..KEYS {
                        let batch = put_if(vec![absent(&[key])], &[key], &[thread]);
                        match engine.write(batch, Durability::Process) {
                            Ok(()) => {
                                created += 1;
                                let found = engine.get(&[key]).expect("get");
                                assert_eq!(found.as_deref(), Some(&[thread][..]));
                            }
                            refused => assert_eq!(failed_key(refused), [key]),
                        }
                    }
                    created
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread"))
            .sum()
    });
    assert_eq!(created, u32::from(KEYS));
}
