//! Many appenders, readers and syncers at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_types::LogPosition;
use parking_lot::Mutex;

use super::super::Appended;
use super::super::testing::MemoryStore;
use super::super::{DirectoryStore, Log, LogError, LogParts, ReplayStart};
use super::{SMALL, bytes, open};

const APPENDERS: usize = 4;

/// Appends from several threads, some of which sync. Returns what was appended, and the highest position that a sync
/// had returned.
fn run(log: &Log, appends: usize) -> (BTreeMap<u64, (Appended, Vec<u8>)>, LogPosition) {
    let appended = Mutex::new(BTreeMap::new());
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..APPENDERS {
            let (appended, acknowledged) = (&appended, &acknowledged);
            scope.spawn(move || {
                for number in 0..appends {
                    let payload = bytes(
                        1 + (number * 977 + thread * 3331) % (16 << 10),
                        number * 4 + thread,
                    );
                    let record = match log.append(&[thread as u8], &[&payload]) {
                        Ok(record) => record,
                        Err(LogError::Poisoned { .. } | LogError::Io { .. }) => return,
                        Err(error) => panic!("{error:?}"),
                    };
                    assert_eq!(log.read(&record.slice).unwrap(), payload);
                    let end = record.end;
                    appended.lock().insert(record.sequence, (record, payload));
                    if number % 3 == 0 {
                        match log.sync() {
                            Ok(durable) => {
                                assert!(durable >= end);
                                acknowledged.fetch_max(durable.0, Ordering::SeqCst);
                            }
                            Err(LogError::Poisoned { .. }) => return,
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                }
            });
        }
    });
    (appended.into_inner(), LogPosition(acknowledged.into_inner()))
}

#[test]
fn numbers_follow_positions_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let parts = || LogParts {
        store: Arc::new(DirectoryStore::open(directory.path()).unwrap()),
        settings: SMALL,
        new_identity: [1; 16],
    };
    let log =
        Log::open::<std::convert::Infallible>(parts(), ReplayStart::default(), &mut |_| Ok(())).unwrap();
    let (appended, _) = run(&log, 60);
    assert_eq!(appended.len(), APPENDERS * 60);
    assert!(appended.keys().copied().eq(1..=appended.len() as u64));
    assert!(
        appended
            .values()
            .zip(appended.values().skip(1))
            .all(|(a, b)| a.0.end <= b.0.start)
    );
    drop(log);
    let mut replayed = 0;
    Log::open::<std::convert::Infallible>(parts(), ReplayStart::default(), &mut |record| {
        let (expected, payload) = &appended[&record.sequence];
        assert_eq!((&record.slice, record.payload), (&expected.slice, &payload[..]));
        replayed += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(replayed, appended.len());
}

#[test]
fn a_power_cut_among_threads_keeps_what_was_acknowledged() {
    for round in 0..40 {
        let store = MemoryStore::new();
        let (log, _) = open(&store, ReplayStart::default()).unwrap();
        store.stop_after(Some(20 + round * 7));
        let (appended, acknowledged) = run(&log, 60);
        drop(log);
        let start = ReplayStart {
            known_durable: acknowledged,
            ..ReplayStart::default()
        };
        let (_, seen) = open(&store.power_cut(round), start).unwrap();
        assert!(seen.iter().map(|s| s.sequence).eq(1..=seen.len() as u64));
        assert!(seen.last().map_or(LogPosition(0), |s| s.end) >= acknowledged);
        for record in seen {
            // The writer of a record may not have lived to see its append return.
            if let Some((expected, payload)) = appended.get(&record.sequence) {
                assert_eq!((&record.slice, &record.payload), (&expected.slice, payload));
            }
        }
    }
}
