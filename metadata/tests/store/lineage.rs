//! Lineages: their greatest depth, and broken ones.

use cairn_metadata::engine::{Batch, Durability, Engine};
use cairn_metadata::view::LINEAGE_DEPTH_MAX;
use cairn_metadata::{Lineage, MetadataError, Point, View};
use cairn_types::{BranchId, Epoch, ErrorKind, InodeId};

use crate::{assert_kind, change, create, details, dump, entry, fresh, inode, record, snapshot};

#[test]
fn a_lineage_that_is_too_deep_is_refused_before_it_is_made() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    for number in 0..u64::from(LINEAGE_DEPTH_MAX) - 1 {
        let taken = snapshot(&store, &mut volume, 2 * number);
        store
            .restore(&mut volume, &taken, details(2 * number + 1))
            .unwrap();
    }
    assert_eq!(volume.branch.depth, LINEAGE_DEPTH_MAX - 1);
    change(&store, &volume, |transaction| {
        transaction.put_entry(InodeId(1), &entry("deep", 3));
    });
    let last = snapshot(&store, &mut volume, 100_000);

    // The deepest lineage that is allowed is read, and goes on to work.
    let lineage = Lineage::at(&engine, last.point).unwrap();
    let view = View::new(&engine, &lineage);
    assert_eq!(view.inode(InodeId::ROOT).unwrap(), Some(inode(0)));
    assert_eq!(view.entries_after(InodeId(1), 0, 10).unwrap(), [entry("deep", 3)]);
    assert_eq!(view.inode(InodeId(5)).unwrap(), None);

    let before = (dump(&engine), volume.clone());
    for refused in [
        store.restore(&mut volume, &last, details(100_001)).err(),
        store.fork_volume(record("v"), &last).err(),
    ] {
        assert!(
            matches!(
                refused,
                Some(MetadataError::TooDeep {
                    depth: LINEAGE_DEPTH_MAX,
                    limit: LINEAGE_DEPTH_MAX
                })
            ),
            "{refused:?}"
        );
        assert_eq!(refused.unwrap().kind(), ErrorKind::Invalid);
    }
    assert_eq!(
        (dump(&engine), volume.clone()),
        before,
        "a refusal changes nothing"
    );

    // An early snapshot makes a short lineage again.
    let first = store.snapshots(volume.id).unwrap().remove(0);
    store.restore(&mut volume, &first, details(100_002)).unwrap();
    assert_eq!(volume.branch.depth, 1);
}

#[test]
fn a_branch_that_is_lost_is_an_error() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let taken = snapshot(&store, &mut volume, 1);
    store.restore(&mut volume, &taken, details(2)).unwrap();
    let mut batch = Batch::default();
    batch.delete([b"B".as_slice(), &1u64.to_be_bytes()].concat());
    engine.write(batch, Durability::Power).unwrap();
    assert_kind(Lineage::live(&engine, BranchId(2)), ErrorKind::Corrupt);
    assert_kind(Lineage::at(&engine, taken.point), ErrorKind::Corrupt);
    assert_kind(store.branch(BranchId(1)), ErrorKind::Corrupt);
    assert_kind(store.fork_volume(record("v"), &taken), ErrorKind::Corrupt);
    assert_kind(store.restore(&mut volume, &taken, details(3)), ErrorKind::Corrupt);
}

#[test]
fn a_branch_that_descends_from_itself_is_an_error() {
    let (engine, store) = fresh();
    let volume = create(&store, "w");
    // The record of branch 1, with itself as its parent.
    let value = [
        &[1u8][..],
        &volume.id.0.to_le_bytes(),
        &1u64.to_le_bytes(),
        &0u32.to_le_bytes(),
        &[1],
        &1u64.to_le_bytes(),
        &1u64.to_le_bytes(),
    ]
    .concat();
    let mut batch = Batch::default();
    batch.put([b"B".as_slice(), &1u64.to_be_bytes()].concat(), value);
    engine.write(batch, Durability::Power).unwrap();
    let point = Point {
        branch: BranchId(1),
        epoch: Epoch(1),
    };
    assert_eq!(store.branch(BranchId(1)).unwrap().parent, Some(point));
    assert_kind(Lineage::live(&engine, BranchId(1)), ErrorKind::Corrupt);
    assert_kind(Lineage::at(&engine, point), ErrorKind::Corrupt);
    assert_eq!(store.sweep_branches().unwrap(), 0, "the sweep comes to an end");
}
