//! Power cuts between any two operations, also in the middle of recovering from the last one. The oracle: what a sync
//! acknowledged is there, in order and unchanged; of the rest a prefix may be; nothing else ever appears.

use cairn_types::{LogPosition, SegmentId};

use super::super::testing::MemoryStore;
use super::super::{Log, LogError, OpenError, ReplayStart};
use super::{Seen, bytes, open};

/// A small generator of pseudo-random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What the outside world knows about a log.
#[derive(Default)]
struct Oracle {
    /// Every record that may be there, in order.
    records: Vec<Seen>,
    /// Everything that ends at or before this must be there.
    acknowledged: LogPosition,
    /// Replay starts here; what comes before may have been removed.
    applied: LogPosition,
    removed: Vec<SegmentId>,
}

impl Oracle {
    fn start(&self, random: &mut Random) -> ReplayStart {
        // A caller need not know that what it was told is durable: the log itself must not lose it.
        let knows = random.below(2) == 0;
        let known_durable = if knows { self.acknowledged } else { LogPosition(0) };
        ReplayStart {
            from: self.applied,
            known_durable,
            expected_identity: knows.then_some([7; 16]),
        }
    }

    /// Appends, syncs, checkpoints and removes segments until done or until the machine stops.
    fn work(&mut self, log: &Log, steps: u64, random: &mut Random) {
        for _ in 0..steps {
            let outcome = match random.below(10) {
                0..7 => {
                    let length = [1, 100, 4096, 9000, 16 << 10][random.below(5) as usize];
                    let payload = bytes(length as usize, random.below(1 << 40) as usize);
                    let context = bytes(random.below(129) as usize, length as usize);
                    log.append(&context, &[&payload]).map(|record| {
                        let (slice, end, sequence) = (record.slice, record.end, record.sequence);
                        self.records.push(Seen {
                            context,
                            payload,
                            slice,
                            end,
                            sequence,
                        });
                    })
                }
                7..9 => log.sync().map(|durable| {
                    assert_eq!(durable, log.end());
                    self.acknowledged = durable;
                }),
                _ => {
                    self.applied = self.acknowledged;
                    let dead = log.segments().into_iter().filter(|info| info.end <= self.applied);
                    dead.map(|info| log.remove_segment(info.id).map(|()| self.removed.push(info.id)))
                        .find(|removed| !matches!(removed, Ok(()) | Err(LogError::SegmentInUse { .. })))
                        .unwrap_or(Ok(()))
                }
            };
            match outcome {
                Ok(()) => {}
                Err(LogError::Poisoned { .. } | LogError::Io { .. }) => return,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    /// Compares what was replayed with what may be there, and takes it for the state from now on.
    fn check(&mut self, log: &Log, seen: &[Seen]) {
        let skipped = self
            .records
            .iter()
            .take_while(|record| record.end <= self.applied)
            .count();
        let expected = &self.records[skipped..];
        // The machine may have stopped before the last append returned: then it may be there.
        assert!(seen.len() <= expected.len() + 1);
        let common = seen.len().min(expected.len());
        assert_eq!(seen[..common], expected[..common]);
        let end = seen.last().map_or(self.applied, |record| record.end);
        assert!(end >= self.acknowledged, "{end:?} {:?}", self.acknowledged);
        assert_eq!((log.end(), log.durable()), (end, end));
        self.records.truncate(skipped + common);
        self.records.extend_from_slice(&seen[common..]);
        self.acknowledged = end;
        for record in &self.records {
            if !self.removed.contains(&record.slice.segment()) {
                assert_eq!(log.read(&record.slice).unwrap(), record.payload);
            }
        }
    }
}

/// Opens with the power cut again in the middle of it, then for good.
fn reopen(mut store: MemoryStore, oracle: &Oracle, random: &mut Random) -> (MemoryStore, Log, Vec<Seen>) {
    while random.below(3) == 0 {
        store.stop_after(Some(random.below(12)));
        match open(&store, oracle.start(random)) {
            Ok(_) | Err(OpenError::Log(LogError::Io { .. })) => {}
            Err(error) => panic!("{error:?}"),
        }
        store.stop_after(None);
        store = store.power_cut(random.below(1 << 40));
    }
    let (log, seen) = open(&store, oracle.start(random)).unwrap();
    (store, log, seen)
}

#[test]
fn what_was_acknowledged_survives_any_sequence_of_power_cuts() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut oracle = Oracle::default();
        let mut store = MemoryStore::new();
        for _ in 0..6 {
            let (opened, log, seen) = reopen(store, &oracle, &mut random);
            oracle.check(&log, &seen);
            opened.stop_after(Some(random.below(60)));
            let steps = random.below(50);
            oracle.work(&log, steps, &mut random);
            drop(log);
            // The process alone may end, too: then the cache stays as it is, and so does what is not synced.
            opened.stop_after(None);
            store = match random.below(3) {
                0 => opened,
                _ => opened.power_cut(random.below(1 << 40)),
            };
        }
    }
}

#[test]
fn a_power_cut_after_each_single_operation_loses_nothing() {
    let total = {
        let store = MemoryStore::new();
        let (log, _) = open(&store, ReplayStart::default()).unwrap();
        Oracle::default().work(&log, 60, &mut Random(99));
        store.operations()
    };
    assert!(total > 60);
    for stop in 0..=total {
        for seed in 0..4 {
            let store = MemoryStore::new();
            let mut oracle = Oracle::default();
            let (log, _) = open(&store, ReplayStart::default()).unwrap();
            store.stop_after(Some(stop));
            oracle.work(&log, 60, &mut Random(99));
            drop(log);
            let (_, log, seen) = reopen(store.power_cut(seed), &oracle, &mut Random(seed));
            oracle.check(&log, &seen);
        }
    }
}
