//! Names and ids, snapshots, restores and forks.

use std::collections::BTreeSet;

use cairn_metadata::engine::{Batch, Durability, Engine};
use cairn_metadata::store::SnapshotDetails;
use cairn_metadata::{BranchRecord, Lineage, Origin, Point, SnapshotRecord, Usage, View};
use cairn_types::{BranchId, Epoch, ErrorKind, InodeId, VolumeId};

use crate::{
    assert_kind, change, create, details, dump, fork, fresh, inode, name, open, record, snapshot, snapshot_id,
};

#[test]
fn a_new_volume_has_its_root() {
    let (engine, store) = fresh();
    let volume = create(&store, "w");
    assert_eq!((volume.id, volume.record.head), (VolumeId(1), BranchId(1)));
    let branch = BranchRecord {
        volume: VolumeId(1),
        epoch: Epoch::FIRST,
        depth: 0,
        parent: None,
    };
    assert_eq!(
        (volume.branch, store.branch(BranchId(1)).unwrap()),
        (branch, branch)
    );
    assert_eq!(volume.usage, Usage { inodes: 1, bytes: 0 });
    assert_eq!(store.volumes().unwrap(), std::slice::from_ref(&volume));
    let lineage = Lineage::live(&engine, volume.record.head).unwrap();
    let root = View::new(&engine, &lineage).inode(InodeId::ROOT).unwrap();
    assert_eq!(root, Some(inode(0)));
}

#[test]
fn a_name_is_given_once() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let taken = snapshot(&store, &mut volume, 1);
    let before = dump(&engine);
    assert_eq!(store.create_volume(record("w"), &inode(5)).unwrap(), None);
    assert_eq!(store.fork_volume(record("w"), &taken).unwrap(), None);
    assert_eq!(dump(&engine), before, "a refusal changes nothing");
    assert_eq!(store.volume_named(&name("w")).unwrap(), Some(volume.id));
    assert_eq!(store.volume_named(&name("v")).unwrap(), None);

    store.delete_volume(&volume).unwrap();
    assert_eq!(store.volume_named(&name("w")).unwrap(), None);
    let again = create(&store, "w");
    assert_eq!(
        (again.id, again.record.head),
        (VolumeId(2), BranchId(2)),
        "ids are not given again"
    );
}

#[test]
fn ids_go_on_after_the_store_was_closed() {
    let (engine, store) = fresh();
    let volume = create(&store, "a");
    store.delete_volume(&volume).unwrap();
    assert_eq!(store.sweep_branches().unwrap(), 1);
    drop(store);
    let store = open(&engine).unwrap();
    let volume = create(&store, "b");
    assert_eq!((volume.id, volume.record.head), (VolumeId(2), BranchId(2)));
}

#[test]
fn threads_get_different_ids_and_one_of_them_the_name() {
    let (_, store) = fresh();
    let created: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let names = (0..50).map(|number| format!("w{number}"));
                    names
                        .filter_map(|text| store.create_volume(record(&text), &inode(0)).unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let names: BTreeSet<_> = created.iter().map(|volume| volume.record.name.clone()).collect();
    let ids: BTreeSet<_> = created.iter().map(|volume| volume.id).collect();
    let heads: BTreeSet<_> = created.iter().map(|volume| volume.record.head).collect();
    assert_eq!(
        (created.len(), names.len(), ids.len(), heads.len()),
        (50, 50, 50, 50)
    );
    for volume in &created {
        assert_eq!(store.volume_named(&volume.record.name).unwrap(), Some(volume.id));
    }
}

#[test]
fn a_snapshot_says_what_it_was_given_and_ends_the_epoch() {
    let (_, store) = fresh();
    let mut volume = create(&store, "w");
    volume.usage = Usage { inodes: 4, bytes: 5 };
    change(&store, &volume, |transaction| transaction.put_usage(volume.usage));
    let first = snapshot(&store, &mut volume, 8);
    let expected = SnapshotRecord {
        id: snapshot_id(8),
        point: Point {
            branch: BranchId(1),
            epoch: Epoch(1),
        },
        origin: Origin::Requested,
        created: details(8).created,
        usage: Usage { inodes: 4, bytes: 5 },
        parent: None,
        note: "note 8".to_owned(),
        tags: details(8).tags,
        pins: Vec::new(),
        key: None,
    };
    assert_eq!(first, expected);
    let second = snapshot(&store, &mut volume, 3);
    assert_eq!(second.parent, Some(first.id));
    assert_eq!(second.point.epoch, Epoch(2));
    assert_eq!(volume.branch.epoch, Epoch(3));
    assert_eq!((volume.record.snapshots, volume.record.next_snapshot), (2, 3));
    assert_eq!(volume.record.last_snapshot, Some(second.id));
    assert_eq!(store.volumes().unwrap(), std::slice::from_ref(&volume));

    assert_eq!(
        store.snapshots(volume.id).unwrap(),
        [first.clone(), second.clone()],
        "oldest first"
    );
    assert_eq!(store.snapshot(first.id).unwrap(), Some((volume.id, first)));
    assert_eq!(store.snapshot(second.id).unwrap(), Some((volume.id, second)));
    assert_eq!(store.snapshot(snapshot_id(4)).unwrap(), None);
}

#[test]
fn the_end_of_an_epoch_is_a_point_without_a_snapshot() {
    let (_, store) = fresh();
    let mut volume = create(&store, "w");
    let (point, _pin) = store.end_epoch(&mut volume).unwrap();
    assert_eq!(
        point,
        Point {
            branch: BranchId(1),
            epoch: Epoch(1)
        }
    );
    assert_eq!(volume.branch.epoch, Epoch(2));
    assert_eq!(store.volumes().unwrap(), std::slice::from_ref(&volume));
    assert_eq!(store.snapshots(volume.id).unwrap(), []);
}

#[test]
fn long_lists_are_complete_and_in_order() {
    let (_, store) = fresh();
    let mut volume = create(&store, "w");
    let mut neighbour = create(&store, "v");
    let foreign = snapshot(&store, &mut neighbour, 5000);
    let taken: Vec<_> = (0..2100)
        .map(|number| snapshot(&store, &mut volume, number))
        .collect();
    assert_eq!(store.snapshots(volume.id).unwrap(), taken);
    assert_eq!(store.snapshots(neighbour.id).unwrap(), [foreign]);
}

#[test]
fn a_snapshot_whose_record_is_lost_is_an_error() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let taken = snapshot(&store, &mut volume, 1);
    let mut batch = Batch::default();
    batch.delete_range(b"S".to_vec(), b"T".to_vec());
    engine.write(batch, Durability::Power).unwrap();
    assert_kind(store.snapshot(taken.id), ErrorKind::Corrupt);
}

#[test]
fn a_restore_keeps_what_was_there_as_a_snapshot() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let first = snapshot(&store, &mut volume, 1);
    volume.usage = Usage { inodes: 2, bytes: 9 };
    volume.record.inodes_reserved = InodeId(500);
    change(&store, &volume, |transaction| {
        transaction.put_inode(InodeId(1), &inode(77));
        transaction.insert_inode(InodeId(499), &inode(78));
        transaction.put_usage(volume.usage);
        transaction.put_volume(volume.id, &volume.record);
    });
    let before = volume.clone();
    let safety = SnapshotDetails {
        origin: Origin::Safety,
        ..details(2)
    };
    let safety = store.restore(&mut volume, &first, safety).unwrap();
    assert_eq!(
        safety.point,
        Point {
            branch: BranchId(1),
            epoch: Epoch(2)
        }
    );
    assert_eq!((safety.origin, safety.usage), (Origin::Safety, before.usage));
    assert_eq!(safety.parent, Some(first.id));
    assert_eq!(store.branch(BranchId(1)).unwrap().epoch, Epoch(3));

    assert_eq!(volume.record.head, BranchId(2));
    let branch = BranchRecord {
        volume: volume.id,
        epoch: Epoch::FIRST,
        depth: 1,
        parent: Some(first.point),
    };
    assert_eq!(volume.branch, branch);
    assert_eq!(volume.usage, first.usage);
    assert_eq!(
        volume.record.last_snapshot,
        Some(first.id),
        "it is equal to that one now"
    );
    assert_eq!((volume.record.snapshots, volume.record.next_snapshot), (2, 3));
    assert_eq!(
        volume.record.inodes_reserved,
        InodeId(500),
        "inode numbers are not given again"
    );
    assert_eq!(store.volumes().unwrap(), std::slice::from_ref(&volume));

    let live = Lineage::live(&engine, volume.record.head).unwrap();
    let live = View::new(&engine, &live);
    assert_eq!(live.inode(InodeId(1)).unwrap(), Some(inode(0)));
    assert_eq!(live.inode(InodeId(499)).unwrap(), None);
    let saved = Lineage::at(&engine, safety.point).unwrap();
    let saved = View::new(&engine, &saved);
    assert_eq!(saved.inode(InodeId(1)).unwrap(), Some(inode(77)));
    assert_eq!(saved.inode(InodeId(499)).unwrap(), Some(inode(78)));

    let third = snapshot(&store, &mut volume, 3);
    assert_eq!(third.parent, Some(first.id));
    assert_eq!(
        third.point,
        Point {
            branch: BranchId(2),
            epoch: Epoch(1)
        }
    );
}

#[test]
fn a_fork_stands_on_its_own() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let taken = snapshot(&store, &mut volume, 1);
    let copy = fork(&store, "copy", &taken);
    assert_eq!((copy.id, copy.record.head), (VolumeId(2), BranchId(2)));
    let branch = BranchRecord {
        volume: copy.id,
        epoch: Epoch::FIRST,
        depth: 1,
        parent: Some(taken.point),
    };
    assert_eq!((copy.branch, copy.usage), (branch, taken.usage));
    assert_eq!(
        store.snapshots(copy.id).unwrap(),
        [],
        "snapshots stay with the original"
    );

    change(&store, &volume, |transaction| {
        transaction.put_inode(InodeId(1), &inode(10))
    });
    change(&store, &copy, |transaction| {
        transaction.put_inode(InodeId(1), &inode(20))
    });
    for (branch, size) in [(volume.record.head, 10), (copy.record.head, 20)] {
        let lineage = Lineage::live(&engine, branch).unwrap();
        let root = View::new(&engine, &lineage).inode(InodeId(1)).unwrap();
        assert_eq!(root, Some(inode(size)));
    }
    let lineage = Lineage::at(&engine, taken.point).unwrap();
    let root = View::new(&engine, &lineage).inode(InodeId(1)).unwrap();
    assert_eq!(root, Some(inode(0)));
}
