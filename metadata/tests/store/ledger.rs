//! The ledger: what is written together with a change of the catalogue happens with it or not at all.

use std::collections::BTreeMap;

use cairn_metadata::store::LedgerEntry;
use cairn_metadata::{LedgerKind, LedgerPhase, LedgerRecord};
use cairn_types::{SnapshotId, Timestamp, VolumeId};

use super::{details, fresh, inode, open, record};

fn entry(key: &str, kind: LedgerKind) -> LedgerEntry {
    LedgerEntry {
        key: key.to_owned(),
        record: LedgerRecord {
            kind,
            phase: LedgerPhase::Done,
            written: Timestamp::new(1, 2),
            volume: VolumeId(0),
            snapshot: None,
            safety: None,
            arguments: vec![("name".to_owned(), [7; 16])],
            detail: b"x".to_vec(),
        },
    }
}

#[test]
fn entries_are_written_with_what_they_tell_of() {
    let (engine, store) = fresh();
    let mut made = [entry("w", LedgerKind::Workspace)];
    let mut volume = store
        .create_volume_recorded(record("a"), &inode(0), &mut made)
        .unwrap()
        .unwrap();
    assert_eq!(made[0].record.volume, volume.id);
    let mut taken = [entry("s", LedgerKind::Snapshot)];
    taken[0].record.snapshot = Some(SnapshotId([5; 16]));
    let snapshot = store
        .take_snapshot_recorded(&mut volume, details(5), &mut taken)
        .unwrap();
    let mut restored = [entry("r", LedgerKind::Restore)];
    store
        .restore_recorded(&mut volume, &snapshot, details(6), &mut restored)
        .unwrap();
    let mut forked = [entry("f", LedgerKind::Restore), entry("g", LedgerKind::Workspace)];
    let fork = store
        .fork_volume_recorded(record("b"), &snapshot, &mut forked)
        .unwrap()
        .unwrap();
    let mut gone = [entry("w", LedgerKind::Workspace)];
    gone[0].record.phase = LedgerPhase::Deleted;
    store.delete_volume_recorded(&volume, &mut gone).unwrap();

    let survivor = open(&engine.power_cut()).unwrap();
    let mut found = BTreeMap::new();
    survivor
        .ledger(&mut |key, record| {
            found.insert(key.to_owned(), (record.kind, record.phase, record.volume));
        })
        .unwrap();
    let done = LedgerPhase::Done;
    let expected = [
        ("f", (LedgerKind::Restore, done, fork.id)),
        ("g", (LedgerKind::Workspace, done, fork.id)),
        ("r", (LedgerKind::Restore, done, volume.id)),
        ("s", (LedgerKind::Snapshot, done, volume.id)),
        ("w", (LedgerKind::Workspace, LedgerPhase::Deleted, volume.id)),
    ];
    let expected: BTreeMap<_, _> = expected.map(|(key, what)| (key.to_owned(), what)).into();
    assert_eq!(found, expected);
    assert_eq!(survivor.ledger_record("s").unwrap().unwrap(), taken[0].record);
}

#[test]
fn a_change_that_does_not_happen_leaves_no_entry() {
    let (engine, store) = fresh();
    store.create_volume(record("a"), &inode(0)).unwrap().unwrap();
    let mut taken = [entry("w", LedgerKind::Workspace)];
    let again = store.create_volume_recorded(record("a"), &inode(0), &mut taken);
    assert!(again.unwrap().is_none());
    engine.fail_next_write();
    store
        .create_volume_recorded(record("b"), &inode(0), &mut taken)
        .unwrap_err();
    assert_eq!(store.ledger_record("w").unwrap(), None);
}

#[test]
fn entries_and_generations_are_durable_and_can_be_forgotten() {
    let (engine, store) = fresh();
    for key in ["a", "b", "c"] {
        store.put_ledger(&entry(key, LedgerKind::Snapshot)).unwrap();
    }
    store.forget_ledger(&["a".to_owned(), "c".to_owned()]).unwrap();
    store.put_generation("x", 3).unwrap();
    store.put_generation("x", 4).unwrap();
    store.put_generation("", 1).unwrap();
    let survivor = open(&engine.power_cut()).unwrap();
    let mut keys = Vec::new();
    survivor.ledger(&mut |key, _| keys.push(key.to_owned())).unwrap();
    assert_eq!(keys, ["b"]);
    assert_eq!(
        survivor.generations().unwrap(),
        [(String::new(), 1), ("x".to_owned(), 4)]
    );
}
