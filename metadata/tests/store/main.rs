//! The catalogue: opening, names and ids, snapshots, restores and forks, what the sweep frees, and what a failure leaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::engine::{Durability, Engine, Pair};
use cairn_metadata::store::{OpenVolume, SnapshotDetails};
use cairn_metadata::{
    CapacityLimits, DirentRecord, ExtentRecord, InodeRecord, Lineage, MetadataError, Origin, SnapshotRecord,
    Store, Transaction, VolumeRecord,
};
use cairn_types::{
    BranchId, DeviceNumber, ErrorKind, ExportPolicy, Extent, FileKind, InodeId, LogSlice, SegmentId,
    SnapshotId, Tag, Timestamp, WorkspaceName,
};

mod catalogue;
mod durability;
mod ledger;
mod lineage;
mod opening;
mod replies;
mod snapshots;
mod sweeping;

fn open(engine: &MemoryEngine) -> Result<Store, MetadataError> {
    Store::open(Arc::new(engine.clone()))
}

fn fresh() -> (MemoryEngine, Store) {
    let engine = MemoryEngine::new();
    let store = open(&engine).unwrap();
    (engine, store)
}

fn name(text: &str) -> WorkspaceName {
    WorkspaceName::new(text).unwrap()
}

fn record(text: &str) -> VolumeRecord {
    VolumeRecord {
        name: name(text),
        head: BranchId(0),
        inodes_reserved: InodeId(2),
        next_snapshot: 1,
        snapshots: 0,
        created: Timestamp::new(7, 0),
        last_snapshot: None,
        forked_from: None,
        policy: ExportPolicy::default(),
        limits: CapacityLimits::default(),
    }
}

fn inode(size: u64) -> InodeRecord {
    InodeRecord {
        kind: FileKind::Directory,
        mode: 0o755,
        links: 2,
        uid: 0,
        gid: 0,
        generation: 1,
        size,
        device: DeviceNumber::default(),
        accessed: Timestamp::default(),
        modified: Timestamp::default(),
        changed: Timestamp::default(),
        data_version: 1,
        log_sequence: 0,
        used: 0,
        parent: InodeId::ROOT,
        next_cookie: 3,
        entries: 0,
        inline: false,
        verifier: None,
    }
}

fn create(store: &Store, text: &str) -> OpenVolume {
    store.create_volume(record(text), &inode(0)).unwrap().unwrap()
}

fn fork(store: &Store, text: &str, from: &SnapshotRecord) -> OpenVolume {
    store.fork_volume(record(text), from).unwrap().unwrap()
}

fn details(number: u64) -> SnapshotDetails {
    SnapshotDetails {
        id: snapshot_id(number),
        origin: Origin::Requested,
        created: Timestamp::new(number as i64, 1),
        note: format!("note {number}"),
        tags: vec![Tag::new("tag").unwrap()],
    }
}

fn snapshot_id(number: u64) -> SnapshotId {
    SnapshotId((u128::from(number) << 64 | 5).to_be_bytes())
}

fn snapshot(store: &Store, volume: &mut OpenVolume, number: u64) -> SnapshotRecord {
    store.take_snapshot(volume, details(number)).unwrap()
}

/// Changes the live tree of a volume.
fn change(store: &Store, volume: &OpenVolume, change: impl FnOnce(&mut Transaction<'_>)) {
    let lineage = Lineage::live(store.engine(), volume.record.head).unwrap();
    let mut transaction = Transaction::new(store.engine(), &lineage, volume.branch.epoch);
    change(&mut transaction);
    transaction.commit(Durability::Process).unwrap();
}

fn log_extent(start: u64, length: u32, segment: u64) -> ExtentRecord {
    let checksums = (0..length.div_ceil(4096)).collect();
    let slice = LogSlice::new(SegmentId(segment), 64, length, 0, length, checksums).unwrap();
    ExtentRecord {
        start,
        extent: Extent::Log(slice),
    }
}

fn entry(text: &str, cookie: u64) -> DirentRecord {
    DirentRecord {
        name: text.as_bytes().to_vec(),
        inode: InodeId(9),
        kind: FileKind::Regular,
        cookie,
    }
}

/// Everything that is stored.
fn dump(engine: &dyn Engine) -> Vec<Pair> {
    engine.scan(&[0], &[0xff], 10_000).unwrap()
}

/// How many keys of each family there are.
fn families(engine: &dyn Engine) -> Vec<(char, usize)> {
    let mut families: Vec<(char, usize)> = Vec::new();
    for (key, _) in dump(engine) {
        let family = char::from(key[0]);
        match families.last_mut() {
            Some((last, count)) if *last == family => *count += 1,
            _ => families.push((family, 1)),
        }
    }
    families
}

#[track_caller]
fn assert_kind<T: std::fmt::Debug>(result: Result<T, MetadataError>, kind: ErrorKind) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error:?}");
}
