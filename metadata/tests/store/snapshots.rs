//! Single snapshots: deleting them, changing what is said of them, taking one once for a key.

use cairn_metadata::store::{Deletion, KeyState, KeyedRequest, PinUse, SnapshotUser};
use cairn_metadata::{MetadataError, PinRecord, SnapshotRecord};
use cairn_types::{InodeId, SnapshotId, Tag, Timestamp};

use crate::{assert_kind, change, create, details, dump, families, fresh, inode, open, snapshot};

fn now() -> Timestamp {
    Timestamp::new(1000, 0)
}

fn pin(number: u64, expires: Option<i64>) -> PinRecord {
    PinRecord {
        number,
        created: Timestamp::new(1, 0),
        expires: expires.map(|seconds| Timestamp::new(seconds, 0)),
        reason: "shipped".to_owned(),
    }
}

#[test]
fn a_deleted_snapshot_is_gone_at_once_and_for_ever() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let first = snapshot(&store, &mut volume, 1);
    let second = snapshot(&store, &mut volume, 2);
    assert_eq!(
        store.delete_snapshot(&mut volume, first.id, now()).unwrap(),
        Deletion::Deleted(first.clone())
    );
    let store = open(&engine.power_cut()).unwrap();
    assert_eq!(store.volumes().unwrap(), std::slice::from_ref(&volume));
    assert_eq!((volume.record.snapshots, volume.record.next_snapshot), (1, 3));
    assert_eq!(store.snapshots(volume.id).unwrap(), std::slice::from_ref(&second));
    assert_eq!(store.snapshot(first.id).unwrap(), None);
    let forked = store.fork_volume(crate::record("late"), &first);
    assert!(matches!(forked, Err(MetadataError::SnapshotGone { id }) if id == first.id));
    // Sequences are not given again.
    snapshot(&store, &mut volume, 3);
    let ids: Vec<SnapshotId> = store
        .snapshots(volume.id)
        .unwrap()
        .iter()
        .map(|found| found.id)
        .collect();
    assert_eq!(ids, [second.id, crate::snapshot_id(3)]);
}

#[test]
fn a_snapshot_in_use_stays_and_its_users_are_named() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let other = create(&store, "other");
    let taken = snapshot(&store, &mut volume, 1);
    let record = cairn_metadata::VolumeRecord {
        forked_from: Some(taken.id),
        ..crate::record("copy")
    };
    let copy = store.fork_volume(record, &taken).unwrap().unwrap();
    let (_, _, reader) = store.pin_snapshot(taken.id, PinUse::Reading).unwrap().unwrap();
    let pinned = store.change_snapshot(volume.id, taken.id, |record| {
        record.pins = vec![pin(1, Some(1000)), pin(2, Some(1001)), pin(3, None)];
        Ok::<(), ()>(())
    });
    assert!(pinned.unwrap().unwrap().is_ok());
    let before = (dump(&engine), volume.clone());
    let mut expected = vec![
        SnapshotUser::Pin(pin(2, Some(1001))),
        SnapshotUser::Pin(pin(3, None)),
        SnapshotUser::Fork(copy.record.name.clone()),
        SnapshotUser::Reader(PinUse::Reading),
    ];
    let mut refused = || store.delete_snapshot(&mut volume, taken.id, now()).unwrap();
    assert_eq!(refused(), Deletion::InUse(expected.clone()));
    drop(reader);
    expected.pop();
    assert_eq!(refused(), Deletion::InUse(expected.clone()));
    assert_eq!((dump(&engine), volume.clone()), before);

    store.delete_volume(&copy).unwrap();
    let unpinned = store.change_snapshot(volume.id, taken.id, |record| {
        record.pins.pop();
        Ok::<(), ()>(())
    });
    assert!(unpinned.unwrap().unwrap().is_ok());
    let mut other = other;
    assert_eq!(
        store.delete_snapshot(&mut other, taken.id, now()).unwrap(),
        Deletion::Absent,
        "it is of another volume"
    );
    let later = Timestamp::new(1001, 0);
    assert!(matches!(
        store.delete_snapshot(&mut volume, taken.id, later).unwrap(),
        Deletion::Deleted(_)
    ));
}

#[test]
fn only_what_people_say_can_be_changed() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let taken = snapshot(&store, &mut volume, 1);
    let tags = vec![Tag::new("good").unwrap()];
    let changed = store.change_snapshot(volume.id, taken.id, |record| {
        record.id = SnapshotId([9; 16]);
        record.usage.bytes = 77;
        record.note = "another".to_owned();
        record.tags = tags.clone();
        Ok::<(), ()>(())
    });
    let expected = SnapshotRecord {
        note: "another".to_owned(),
        tags,
        ..taken.clone()
    };
    assert_eq!(changed.unwrap(), Some(Ok(expected.clone())));
    let cut = open(&engine.power_cut()).unwrap();
    assert_eq!(cut.snapshots(volume.id).unwrap(), std::slice::from_ref(&expected));
    let refused = store.change_snapshot(volume.id, taken.id, |record| {
        record.note.clear();
        Err("no")
    });
    assert_eq!(refused.unwrap(), Some(Err("no")));
    assert_eq!(store.snapshots(volume.id).unwrap(), [expected]);
    let absent = store.change_snapshot(volume.id, SnapshotId([1; 16]), |_| Ok::<(), ()>(()));
    assert_eq!(absent.unwrap(), None);
}

#[test]
fn a_key_stands_for_one_request_as_long_as_its_snapshot() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let other = create(&store, "other");
    let request = |digest: u8| KeyedRequest {
        key: "nightly".to_owned(),
        digest: [digest; 16],
    };
    assert_eq!(
        store.snapshot_key_state(volume.id, &request(1)).unwrap(),
        KeyState::Unknown
    );

    // Both or neither.
    let before = dump(&engine);
    engine.fail_next_write();
    assert_kind(
        store.take_snapshot_for(&mut volume, details(1), request(1)),
        cairn_types::ErrorKind::NoSpace,
    );
    assert_eq!(dump(&engine), before);
    let taken = store
        .take_snapshot_for(&mut volume, details(1), request(1))
        .unwrap();
    assert_eq!(taken.key.as_deref(), Some("nightly"));

    let cut = open(&engine.power_cut()).unwrap();
    let state = |digest| cut.snapshot_key_state(volume.id, &request(digest)).unwrap();
    assert_eq!(state(1), KeyState::Done(Box::new(taken.clone())));
    assert_eq!(state(2), KeyState::Conflict(taken.id));
    assert_eq!(
        cut.snapshot_key_state(other.id, &request(1)).unwrap(),
        KeyState::Unknown
    );

    store.delete_snapshot(&mut volume, taken.id, now()).unwrap();
    assert_eq!(
        store.snapshot_key_state(volume.id, &request(2)).unwrap(),
        KeyState::Unknown
    );
    store
        .take_snapshot_for(&mut volume, details(2), request(2))
        .unwrap();
    store.delete_volume(&volume).unwrap();
    store.delete_volume(&other).unwrap();
    store.sweep_branches().unwrap();
    assert_eq!(families(&engine), [('F', 2)]);
}

/// A volume with a history of every kind, and the number of sweep steps that it takes to bring it to nothing.
fn worn(store: &cairn_metadata::Store) -> cairn_metadata::store::OpenVolume {
    let mut volume = create(store, "w");
    for number in 1..=6 {
        change(store, &volume, |transaction| {
            transaction.put_inode(InodeId(1), &inode(number));
            transaction.put_inode(InodeId(number + 1), &inode(number));
            transaction.remove_inode(InodeId(number));
            transaction.put_extent(InodeId(9), &crate::log_extent(0, 100, number));
        });
        let taken = snapshot(store, &mut volume, number);
        if number == 3 {
            store.restore(&mut volume, &taken, details(100)).unwrap();
        }
    }
    volume
}

#[test]
fn a_sweep_that_is_killed_at_any_write_is_taken_up_again() {
    let sweep = |store: &cairn_metadata::Store| -> Result<u64, MetadataError> {
        let mut removed = 0;
        let mut sweep = store.plan_history_sweep(true)?;
        while let Some(step) = sweep.step(store, 2)? {
            removed += step.removed;
            if let Some((branch, bodies)) = step.hiding {
                let lineage = cairn_metadata::Lineage::live(store.engine(), branch)?;
                removed += store.drop_hiding(&lineage, &bodies)?.0;
            }
        }
        Ok(removed)
    };
    let prepare = || {
        let (engine, store) = fresh();
        let mut volume = worn(&store);
        for taken in store.snapshots(volume.id).unwrap() {
            if taken.id != crate::snapshot_id(2) {
                store.delete_snapshot(&mut volume, taken.id, now()).unwrap();
            }
        }
        (engine, store, volume)
    };
    let (engine, store, _) = prepare();
    assert!(sweep(&store).unwrap() > 10);
    let (expected, left) = (dump(&engine), store.snapshots(cairn_types::VolumeId(1)).unwrap());
    assert_eq!(left.len(), 1);
    for writes in 0.. {
        let (engine, store, _) = prepare();
        engine.fail_write_after(writes);
        let finished = sweep(&store).is_ok();
        // The process ends here, or the power is cut: then what was removed since the last sync is there again.
        for engine in [engine.clone(), engine.power_cut()] {
            let store = open(&engine).unwrap();
            sweep(&store).unwrap();
            assert_eq!(dump(&engine), expected, "after {writes} writes");
        }
        if finished {
            assert!(writes > 5, "{writes}");
            break;
        }
    }
}

#[test]
fn what_nobody_can_see_is_not_kept_in_the_first_place() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let put = |store: &cairn_metadata::Store, volume: &cairn_metadata::store::OpenVolume, size| {
        let lineage = cairn_metadata::Lineage::live(store.engine(), volume.record.head).unwrap();
        let mut transaction = store.transaction(&lineage, volume.branch.epoch);
        transaction.put_inode(InodeId(1), &inode(size));
        transaction
            .commit(cairn_metadata::engine::Durability::Process)
            .unwrap();
    };
    let count = |wanted: char| {
        families(&engine)
            .into_iter()
            .find(|(family, _)| *family == wanted)
            .map_or(0, |(_, count)| count)
    };
    let (_, pin) = store.end_epoch(&mut volume).unwrap();
    put(&store, &volume, 1);
    assert_eq!((count('h'), count('D')), (1, 1), "the pin sees the old version");
    drop(pin);
    let mut sweep = store.plan_history_sweep(false).unwrap();
    assert_eq!(sweep.branches_left(), 1);
    while sweep.step(&store, 10).unwrap().is_some() {}
    assert_eq!((count('h'), count('D')), (0, 0));
    put(&store, &volume, 2);
    assert_eq!(
        (count('h'), count('D')),
        (0, 0),
        "nobody sees the end of the first epoch"
    );
    // A snapshot sees the end of the second.
    snapshot(&store, &mut volume, 1);
    put(&store, &volume, 3);
    assert_eq!((count('h'), count('D')), (1, 1));
}
