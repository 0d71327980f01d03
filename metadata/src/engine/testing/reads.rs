//! Checks of point reads and scans.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::Subject;
use crate::engine::{Batch, Durability, Engine, KEY_BYTES_MAX, Pair, SCAN_ENTRIES_MAX};

fn put_all(engine: &dyn Engine, pairs: &[(&[u8], &[u8])]) {
    let mut batch = Batch::default();
    for (key, value) in pairs {
        batch.put(key.to_vec(), value.to_vec());
    }
    engine
        .write(batch, Durability::Process)
        .expect("a write of valid keys");
}

fn keys(pairs: Vec<Pair>) -> Vec<Vec<u8>> {
    pairs.into_iter().map(|(key, _)| key.to_vec()).collect()
}

pub(super) fn returns_what_was_put(subject: &dyn Subject) {
    let engine = subject.open();
    put_all(&*engine, &[(b"a", b"1"), (b"b", b"")]);
    assert_eq!(engine.get(b"a").expect("get"), Some(Bytes::from_static(b"1")));
    assert_eq!(
        engine.get(b"b").expect("get"),
        Some(Bytes::new()),
        "an empty value is a value"
    );
    for missing in [&b""[..], b"A", b"aa", &[0xff; KEY_BYTES_MAX + 1]] {
        assert_eq!(engine.get(missing).expect("get"), None);
    }
    put_all(&*engine, &[(b"a", b"2")]);
    assert_eq!(engine.get(b"a").expect("get"), Some(Bytes::from_static(b"2")));
}

pub(super) fn keeps_any_bytes(subject: &dyn Subject) {
    let engine = subject.open();
    let mut expected: Vec<Vec<u8>> = vec![
        vec![0],
        vec![0, 0],
        vec![0, 0xff],
        vec![0, 0xff, 0xff],
        vec![1],
        vec![0x7f],
        vec![0x80],
        vec![0xfe, 0xff],
        vec![0xff],
        vec![0xff, 0],
        vec![0xff; KEY_BYTES_MAX],
        "käse".as_bytes().to_vec(),
        b"line\nfeed".to_vec(),
    ];
    for key in &expected {
        put_all(&*engine, &[(key, key)]);
    }
    for key in &expected {
        assert_eq!(engine.get(key).expect("get").as_deref(), Some(key.as_slice()));
    }
    expected.sort();
    let end = [0xff; KEY_BYTES_MAX + 1];
    let found = engine.scan(b"", &end, 100).expect("scan");
    assert!(found.iter().all(|(key, value)| key == value));
    assert_eq!(keys(found), expected, "keys sort as unsigned bytes");
}

pub(super) fn answers_many_in_order(subject: &dyn Subject) {
    let engine = subject.open();
    for number in 0..200u8 {
        put_all(&*engine, &[(&[number, 1], &[number])]);
    }
    // Unsorted, with a repetition and keys that are missing.
    let mut asked: Vec<Vec<u8>> = (0..=255u8).rev().map(|number| vec![number, 1]).collect();
    asked.push(vec![7, 1]);
    asked.push(vec![7]);
    let found = engine.get_many(&asked).expect("get_many");
    assert_eq!(found.len(), asked.len());
    for (key, value) in asked.iter().zip(found) {
        let expected = (key.len() == 2 && key[0] < 200).then(|| Bytes::copy_from_slice(&key[..1]));
        assert_eq!(value, expected, "of key {key:?}");
    }
    assert_eq!(
        engine.get_many(&[]).expect("get_many"),
        Vec::<Option<Bytes>>::new()
    );
}

pub(super) fn cached_answers_agree(subject: &dyn Subject) {
    let engine = subject.open();
    put_all(&*engine, &[(b"a", b"1"), (b"b", b"2"), (b"c", b"3")]);
    let mut batch = Batch::default();
    batch.delete(b"b".to_vec());
    engine.write(batch, Durability::Power).expect("a write");
    drop(engine);
    let engine = subject.open();
    for key in [b"a", b"b", b"c", b"d"] {
        let before = engine.get_cached(key).expect("get_cached");
        let stored = engine.get(key).expect("get");
        assert!(before.is_none_or(|before| before == stored));
        let after = engine.get_cached(key).expect("get_cached");
        assert_eq!(after, Some(stored), "what was just read is in memory");
    }
}

pub(super) fn scans_exactly_the_range(subject: &dyn Subject) {
    let engine = subject.open();
    put_all(
        &*engine,
        &[
            (b"a", b"1"),
            (b"b", b"2"),
            (b"b\0", b"3"),
            (b"bb", b"4"),
            (b"c", b"5"),
        ],
    );
    let all: [&[u8]; 5] = [b"a", b"b", b"b\0", b"bb", b"c"];
    let bounds: [&[u8]; 9] = [b"", b"a", b"a\xff", b"b", b"b\0", b"ba", b"c", b"c\0", b"d"];
    for from in bounds {
        for to in bounds {
            let mut expected: Vec<Vec<u8>> = all
                .iter()
                .filter(|key| from <= **key && **key < to)
                .map(|key| key.to_vec())
                .collect();
            let forward = engine.scan(from, to, 100).expect("scan");
            assert_eq!(keys(forward), expected, "scan of {from:?}..{to:?}");
            expected.reverse();
            let backward = engine.scan_back(from, to, 100).expect("scan_back");
            assert_eq!(keys(backward), expected, "scan_back of {from:?}..{to:?}");
        }
    }
    let pairs = engine.scan(b"b", b"bb", 100).expect("scan");
    let values: Vec<&[u8]> = pairs.iter().map(|(_, value)| value.as_ref()).collect();
    assert_eq!(values, [b"2", b"3"]);
}

pub(super) fn stops_at_the_limit(subject: &dyn Subject) {
    let engine = subject.open();
    let mut batch = Batch::default();
    let count = SCAN_ENTRIES_MAX + 10;
    for number in 0..count as u32 {
        batch.put(number.to_be_bytes().to_vec(), Vec::new());
    }
    engine.write(batch, Durability::Process).expect("a write");
    let end = [0xff; 4];
    for limit in [0, 1, 2, 4095, SCAN_ENTRIES_MAX] {
        let forward = engine.scan(b"", &end, limit).expect("scan");
        assert_eq!(forward.len(), limit);
        assert!(
            forward
                .iter()
                .zip(0u32..)
                .all(|((key, _), number)| **key == number.to_be_bytes())
        );
        let backward = engine.scan_back(b"", &end, limit).expect("scan_back");
        assert_eq!(backward.len(), limit);
        let numbers = (0..count as u32).rev();
        assert!(
            backward
                .iter()
                .zip(numbers)
                .all(|((key, _), number)| **key == number.to_be_bytes())
        );
    }
    assert_eq!(
        engine.scan(b"", &end, usize::MAX).expect("scan").len(),
        SCAN_ENTRIES_MAX
    );
    assert_eq!(
        engine.scan_back(b"", &end, usize::MAX).expect("scan_back").len(),
        SCAN_ENTRIES_MAX
    );
}

/// A writer moves a mark along a row of keys, in batches that delete it here and put it there, while readers scan: they
/// must always see exactly one.
pub(super) fn scans_as_of_one_moment(subject: &dyn Subject) {
    const ROW: u8 = 100;
    const STEPS: u32 = 2000;
    let engine = subject.open();
    put_all(&*engine, &[(&[0], b"mark")]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for backward in [false, true] {
            let (engine, done) = (&engine, &done);
            scope.spawn(move || {
                let mut scans = 0;
                while scans == 0 || !done.load(Ordering::Acquire) {
                    let found = if backward {
                        engine.scan_back(&[0], &[ROW], 10)
                    } else {
                        engine.scan(&[0], &[ROW], 10)
                    };
                    assert_eq!(found.expect("a scan").len(), 1, "marks in scan {scans}");
                    scans += 1;
                }
            });
        }
        let mut at = 0u8;
        for step in 0..STEPS {
            let next = (at + 1 + (step % 37) as u8) % ROW;
            let mut batch = Batch::default();
            batch.delete(vec![at]);
            batch.put(vec![next], b"mark".to_vec());
            engine.write(batch, Durability::Process).expect("a write");
            at = next;
        }
        done.store(true, Ordering::Release);
    });
}
