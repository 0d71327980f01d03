//! Points hold still while their branch changes: reads of a snapshot, and of a fork of it, show the state of the snapshot even
//! if the volume changes between any two reads of the engine beneath.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::engine::{Batch, Durability, Engine, EngineError, Pair};
use cairn_metadata::store::OpenVolume;
use cairn_metadata::{DirentRecord, ExtentRecord, Lineage, Store, Transaction, View};
use cairn_types::{BranchId, ByteRange, ChunkId, ChunkSlice, Epoch, Extent, FileKind, InodeId};
use parking_lot::Mutex;
use proptest::arbitrary::any;
use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};

use crate::world;

const DIRECTORY: InodeId = InodeId(1);
const FILE: InodeId = InodeId(2);
/// Entries and extents that come and go.
const NUMBERS: usize = 200;
/// Bytes of an extent.
const EXTENT: u64 = 100;

/// An engine whose content changes before every read.
struct Meddled {
    engine: MemoryEngine,
    meddler: Mutex<Meddler>,
}

impl Meddled {
    fn meddle(&self) {
        self.meddler.lock().change();
    }
}

impl Engine for Meddled {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.meddle();
        self.engine.get(key)
    }

    fn get_cached(&self, key: &[u8]) -> Result<Option<Option<Bytes>>, EngineError> {
        self.meddle();
        self.engine.get_cached(key)
    }

    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, EngineError> {
        self.meddle();
        self.engine.get_many(keys)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError> {
        self.meddle();
        self.engine.scan(from, to, limit)
    }

    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError> {
        self.meddle();
        self.engine.scan_back(from, to, limit)
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.engine.write(batch, durability)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.engine.sync()
    }

    fn disk_bytes(&self) -> u64 {
        self.engine.disk_bytes()
    }
}

/// Removes entries and extents of a volume, and makes them again.
struct Meddler {
    engine: MemoryEngine,
    branch: BranchId,
    epoch: Epoch,
    entries: BTreeMap<usize, DirentRecord>,
    extents: BTreeMap<usize, ExtentRecord>,
    next_cookie: u64,
    /// What to toggle next, and so on in a circle.
    schedule: Vec<Vec<usize>>,
    turn: usize,
}

impl Meddler {
    fn new(engine: &MemoryEngine, volume: &OpenVolume, schedule: Vec<Vec<usize>>) -> Self {
        Meddler {
            engine: engine.clone(),
            branch: volume.record.head,
            epoch: volume.branch.epoch,
            entries: BTreeMap::new(),
            extents: BTreeMap::new(),
            next_cookie: 3,
            schedule,
            turn: 0,
        }
    }

    fn change(&mut self) {
        let numbers = self
            .schedule
            .get(self.turn % self.schedule.len().max(1))
            .cloned()
            .unwrap_or_default();
        self.turn += 1;
        self.toggle(&numbers);
    }

    fn toggle(&mut self, numbers: &[usize]) {
        let lineage = Lineage::live(&self.engine, self.branch).unwrap();
        let mut transaction = Transaction::new(&self.engine, &lineage, self.epoch);
        for number in numbers {
            match self.entries.remove(number) {
                Some(entry) => transaction.remove_entry(DIRECTORY, &entry),
                None => {
                    let entry = DirentRecord {
                        name: format!("{number:03}").into_bytes(),
                        inode: InodeId(100 + self.turn as u64),
                        kind: FileKind::Regular,
                        cookie: self.next_cookie,
                    };
                    self.next_cookie += 1;
                    transaction.put_entry(DIRECTORY, &entry);
                    self.entries.insert(*number, entry);
                }
            }
            match self.extents.remove(number) {
                Some(extent) => transaction.remove_extent(FILE, &extent),
                None => {
                    let slice = ChunkSlice {
                        chunk: ChunkId([self.turn as u8; 32]),
                        offset: 0,
                        length: EXTENT as u32,
                    };
                    let extent = ExtentRecord {
                        start: *number as u64 * EXTENT,
                        extent: Extent::Chunk(slice),
                    };
                    transaction.put_extent(FILE, &extent);
                    self.extents.insert(*number, extent);
                }
            }
        }
        transaction.commit(Durability::Process).unwrap();
    }
}

/// Everything that a view shows, read in pieces of `limit`.
fn read(view: &View<'_>, limit: usize) -> (Vec<DirentRecord>, Vec<DirentRecord>, Vec<ExtentRecord>) {
    let mut by_name: Vec<DirentRecord> = Vec::new();
    loop {
        let after = by_name.last().map(|entry| entry.name.clone()).unwrap_or_default();
        let more = view.entries_by_name(DIRECTORY, &after, limit).unwrap();
        let last = more.len() < limit;
        by_name.extend(more);
        if last {
            break;
        }
    }
    let mut by_cookie: Vec<DirentRecord> = Vec::new();
    loop {
        let after = by_cookie.last().map_or(0, |entry| entry.cookie);
        let more = view.entries_after(DIRECTORY, after, limit).unwrap();
        let last = more.len() < limit;
        by_cookie.extend(more);
        if last {
            break;
        }
    }
    let mut extents: Vec<ExtentRecord> = Vec::new();
    loop {
        let after = extents.last().map_or(0, |extent| extent.range().end());
        let range = ByteRange::at(after, u64::MAX);
        let more = view.extents(FILE, range, limit).unwrap();
        let last = more.len() < limit;
        extents.extend(more);
        if last {
            break;
        }
    }
    (by_name, by_cookie, extents)
}

fn run(
    before: Vec<Vec<usize>>,
    after: &[Vec<usize>],
    schedule: Vec<Vec<usize>>,
    limit: usize,
    points_first: bool,
) {
    let engine = MemoryEngine::new();
    let store = Store::open(std::sync::Arc::new(engine.clone())).unwrap();
    let mut volume = world::plain_volume(&store, 1);
    let mut meddler = Meddler::new(&engine, &volume, schedule);
    for numbers in &before {
        meddler.toggle(numbers);
    }
    let by_name: Vec<DirentRecord> = meddler.entries.values().cloned().collect();
    let mut by_cookie = by_name.clone();
    by_cookie.sort_by_key(|entry| entry.cookie);
    let expected = (by_name, by_cookie, meddler.extents.values().cloned().collect());

    let snapshot = world::plain_snapshot(&store, &mut volume, 1);
    let fork = world::plain_fork(&store, &snapshot, 2);
    meddler.epoch = volume.branch.epoch;
    for numbers in after {
        meddler.toggle(numbers);
    }
    let meddled = Meddled {
        engine: engine.clone(),
        meddler: Mutex::new(meddler),
    };
    let snapshot = Lineage::at(&engine, snapshot.point).unwrap();
    let fork = Lineage::live(&engine, fork.record.head).unwrap();
    // Every change makes the live tree less like the snapshot, so one case has the points first, the other the scans.
    let points = |view: &View<'_>, what| {
        for number in 0..NUMBERS {
            let name = format!("{number:03}").into_bytes();
            let entry = expected.0.iter().find(|entry| entry.name == name);
            assert_eq!(view.entry(DIRECTORY, &name).unwrap().as_ref(), entry, "{what}");
        }
    };
    let scans = |view: &View<'_>, what| assert_eq!(read(view, limit), expected, "{what}");
    for (lineage, what) in [(&snapshot, "snapshot"), (&fork, "fork")] {
        let view = View::new(&meddled, lineage);
        if points_first {
            points(&view, what);
        }
        scans(&view, what);
        points(&view, what);
    }
}

#[test]
fn points_hold_still_while_their_branch_changes() {
    let numbers = |most| vec(0..NUMBERS, 0..most);
    let inputs = (
        vec(numbers(120), 0..3),
        vec(numbers(20), 0..4),
        vec(numbers(12), 1..20),
        1usize..200,
        any::<bool>(),
    );
    let mut runner = TestRunner::new(Config {
        cases: 128,
        ..Config::default()
    });
    runner
        .run(&inputs, |(before, after, schedule, limit, points_first)| {
            run(before, &after, schedule, limit, points_first);
            Ok(())
        })
        .unwrap();
}
