//! What the sweep frees, and what it must not.

use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::store::OpenVolume;
use cairn_metadata::{ExtentRecord, Lineage, MetadataError, Store, View};
use cairn_types::{BranchId, ByteRange, ChunkId, ChunkSlice, Extent, InodeId, SegmentId};

use crate::{
    change, create, details, dump, entry, families, fork, fresh, inode, log_extent, open, snapshot,
    snapshot_id,
};

const FILE: InodeId = InodeId(9);

/// Fills a volume with objects of every kind, old versions and an orphan.
fn fill(store: &Store, volume: &mut OpenVolume, number: u64) {
    for round in 0..2 {
        change(store, volume, |transaction| {
            transaction.put_inode(InodeId(1), &inode(round));
            transaction.put_inode(FILE, &inode(round));
            transaction.put_entry(
                InodeId(1),
                &entry(&format!("e{number}-{round}"), 10 * number + round),
            );
            transaction.put_extent(FILE, &log_extent(0, 100 + round as u32, number));
            transaction.put_inline_data(InodeId(8), b"data");
            transaction.orphan(InodeId(100 + round));
        });
        snapshot(store, volume, 1000 * number + round);
    }
}

/// Everything that a view of a point shows of what [`fill`] wrote.
fn look(engine: &MemoryEngine, lineage: &Lineage) -> impl PartialEq + std::fmt::Debug + use<> {
    let view = View::new(engine, lineage);
    (
        view.inode(InodeId(1)).unwrap(),
        view.inode(FILE).unwrap(),
        view.entries_by_name(InodeId(1), b"", 100).unwrap(),
        view.entries_after(InodeId(1), 0, 100).unwrap(),
        view.extents(FILE, ByteRange::at(0, u64::MAX), 100).unwrap(),
        view.inline_data(InodeId(8)).unwrap(),
    )
}

#[test]
fn nothing_is_left_of_the_last_volume() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    fill(&store, &mut volume, 1);
    let target = store.snapshots(volume.id).unwrap().remove(0);
    store.restore(&mut volume, &target, details(7)).unwrap();
    fill(&store, &mut volume, 2);
    assert_eq!(store.sweep_branches().unwrap(), 0, "all is in use");
    for family in ['B', 'F', 'H', 'I', 'N', 'O', 'S', 'U', 'V', 'h'] {
        assert!(
            families(&engine).iter().any(|(found, _)| *found == family),
            "{family} is part of the test"
        );
    }
    store.delete_volume(&volume).unwrap();
    assert_eq!(store.sweep_branches().unwrap(), 2);
    assert_eq!(families(&engine), [('F', 2)], "the format and the id counters");
    assert_eq!(store.sweep_branches().unwrap(), 0);
    assert_eq!(store.segments_in_use(&mut |_| true).unwrap().unwrap().len(), 0);
}

#[test]
fn the_ancestors_of_a_fork_stay() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    fill(&store, &mut volume, 1);
    let first = store.snapshots(volume.id).unwrap().remove(0);
    // Branch 2: a later state, which nothing but the volume needs. Branch 3: the fork. Branch 4: the fork's fork.
    store.restore(&mut volume, &first, details(1)).unwrap();
    fill(&store, &mut volume, 2);
    let mut middle = fork(&store, "middle", &first);
    fill(&store, &mut middle, 3);
    let last = store.snapshots(middle.id).unwrap().remove(1);
    let leaf = fork(&store, "leaf", &last);
    let before = store.segments_in_use(&mut |_| true).unwrap().unwrap();
    assert_eq!(before.into_keys().collect::<Vec<_>>(), [1, 2, 3].map(SegmentId));

    let at_first = Lineage::at(&engine, first.point).unwrap();
    let leaf_lineage = Lineage::live(&engine, leaf.record.head).unwrap();
    let expected = (look(&engine, &at_first), look(&engine, &leaf_lineage));

    store.delete_volume(&volume).unwrap();
    assert_eq!(store.snapshot(first.id).unwrap(), None);
    assert_eq!(store.sweep_branches().unwrap(), 1);
    assert_lost(&store, BranchId(2));
    store.delete_volume(&middle).unwrap();
    assert_eq!(
        store.sweep_branches().unwrap(),
        0,
        "the leaf descends from branches 1 and 3"
    );
    assert_eq!((look(&engine, &at_first), look(&engine, &leaf_lineage)), expected);
    let after = store.segments_in_use(&mut |_| true).unwrap().unwrap();
    assert_eq!(after.into_keys().collect::<Vec<_>>(), [1, 3].map(SegmentId));
    assert_eq!(store.volumes().unwrap(), std::slice::from_ref(&leaf));

    store.delete_volume(&leaf).unwrap();
    assert_eq!(store.sweep_branches().unwrap(), 3);
    for branch in 1..=4 {
        assert_lost(&store, BranchId(branch));
    }
    assert_eq!(families(&engine), [('F', 2)]);
}

fn assert_lost(store: &Store, branch: BranchId) {
    let found = store.branch(branch);
    assert!(matches!(found, Err(MetadataError::Missing { .. })), "{found:?}");
}

#[test]
fn the_head_that_a_restore_left_stays_for_its_snapshots() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    fill(&store, &mut volume, 1);
    let target = store.snapshots(volume.id).unwrap().remove(0);
    let safety = store.restore(&mut volume, &target, details(7)).unwrap();
    let lineage = Lineage::at(&engine, safety.point).unwrap();
    let expected = look(&engine, &lineage);
    assert_eq!(store.sweep_branches().unwrap(), 0);
    assert_eq!(look(&engine, &lineage), expected);
}

#[test]
fn deleting_and_sweeping_leave_the_neighbours_alone() {
    let (engine, store) = fresh();
    let mut volumes: Vec<OpenVolume> = ["a", "b", "c"].map(|text| create(&store, text)).into();
    for (number, volume) in volumes.iter_mut().enumerate() {
        fill(&store, volume, number as u64 + 1);
    }
    let of = |branch: u64| -> Vec<_> {
        let id = branch.to_be_bytes();
        let mut pairs = dump(&engine);
        pairs.retain(|(key, _)| key.get(1..9) == Some(&id));
        pairs
    };
    let (before, after) = (of(1), of(3));
    store.delete_volume(&volumes[1]).unwrap();
    assert_eq!(store.snapshot(snapshot_id(2000)).unwrap(), None);
    assert_eq!(store.sweep_branches().unwrap(), 1);
    assert_eq!((of(1), of(2), of(3)), (before, Vec::new(), after));
    let left: Vec<_> = store
        .volumes()
        .unwrap()
        .into_iter()
        .map(|volume| volume.id)
        .collect();
    assert_eq!(left, [volumes[0].id, volumes[2].id]);
    assert!(store.snapshot(snapshot_id(1001)).unwrap().is_some());
    assert!(store.snapshot(snapshot_id(3001)).unwrap().is_some());
}

#[test]
fn a_sweep_that_is_cut_short_is_finished_by_the_next() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    for number in 1..=4 {
        fill(&store, &mut volume, number);
        let target = store.snapshots(volume.id).unwrap().pop().unwrap();
        store.restore(&mut volume, &target, details(number)).unwrap();
    }
    store.delete_volume(&volume).unwrap();
    // The second of five branches cannot be removed: those before it are gone, and their children are still there.
    engine.fail_write_after(1);
    assert!(store.sweep_branches().is_err());
    assert_lost(&store, BranchId(1));
    assert_eq!(store.sweep_branches().unwrap(), 4);
    assert_eq!(families(&engine), [('F', 2)]);
}

#[test]
fn a_sweep_undone_by_a_power_cut_is_done_again() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    fill(&store, &mut volume, 1);
    store.delete_volume(&volume).unwrap();
    assert_eq!(store.sweep_branches().unwrap(), 1);
    let cut = engine.power_cut();
    let store = open(&cut).unwrap();
    assert_eq!(store.volumes().unwrap(), []);
    assert_eq!(store.sweep_branches().unwrap(), 1);
    assert_eq!(families(&cut), [('F', 2)]);
}

#[test]
fn segments_are_in_use_by_every_version_of_every_branch() {
    let (_, store) = fresh();
    let mut volume = create(&store, "w");
    let used = |store: &Store| -> Vec<(u64, u64)> {
        let used = store.segments_in_use(&mut |_| true).unwrap().unwrap();
        used.into_iter()
            .map(|(segment, bytes)| (segment.0, bytes))
            .collect()
    };
    assert_eq!(used(&store), []);
    let chunk = ExtentRecord {
        start: 50_000,
        extent: Extent::Chunk(ChunkSlice {
            chunk: ChunkId([1; 32]),
            offset: 0,
            length: 10,
        }),
    };
    change(&store, &volume, |transaction| {
        transaction.put_extent(FILE, &log_extent(0, 5000, 1));
        transaction.put_extent(FILE, &log_extent(5000, 300, 2));
        transaction.put_extent(InodeId(8), &log_extent(0, 70, 2));
        transaction.put_extent(FILE, &chunk);
        // No extents, whatever their bytes are.
        transaction.put_inline_data(FILE, &[1; 60]);
        transaction.put_entry(InodeId(1), &entry("e", 3));
    });
    assert_eq!(used(&store), [(1, 5000), (2, 370)]);

    // In the same epoch a version is replaced; in a later one it goes to the history, and stays in use.
    change(&store, &volume, |transaction| {
        transaction.put_extent(FILE, &log_extent(0, 5000, 3));
    });
    assert_eq!(used(&store), [(2, 370), (3, 5000)]);
    let taken = snapshot(&store, &mut volume, 1);
    change(&store, &volume, |transaction| {
        transaction.put_extent(FILE, &log_extent(0, 5000, 4));
        transaction.remove_extent(FILE, &log_extent(5000, 300, 2));
    });
    assert_eq!(used(&store), [(2, 370), (3, 5000), (4, 5000)]);

    // A fork that removes says so in a version of no bytes.
    let copy = fork(&store, "copy", &taken);
    change(&store, &copy, |transaction| {
        transaction.remove_extent(FILE, &log_extent(0, 5000, 3));
        transaction.put_extent(FILE, &log_extent(0, 40, 5));
    });
    assert_eq!(used(&store), [(2, 370), (3, 5000), (4, 5000), (5, 40)]);

    store.delete_volume(&copy).unwrap();
    store.sweep_branches().unwrap();
    assert_eq!(used(&store), [(2, 370), (3, 5000), (4, 5000)]);
    store.delete_volume(&volume).unwrap();
    store.sweep_branches().unwrap();
    assert_eq!(used(&store), []);
}

#[test]
fn segments_are_counted_over_more_versions_than_are_read_at_once() {
    let (_, store) = fresh();
    let mut volume = create(&store, "w");
    for segment in 1..=3 {
        change(&store, &volume, |transaction| {
            for number in 0..1500 {
                transaction.put_extent(FILE, &log_extent(number * 10, 10, segment));
            }
        });
        snapshot(&store, &mut volume, segment);
    }
    let used = store.segments_in_use(&mut |_| true).unwrap().unwrap();
    let used: Vec<_> = used.into_iter().collect();
    assert_eq!(used, [1, 2, 3].map(|segment| (SegmentId(segment), 15_000)));
}

#[test]
fn orphans_wait_for_the_sweep_of_their_branch() {
    let (_, store) = fresh();
    let first = create(&store, "a");
    let second = create(&store, "b");
    change(&store, &first, |transaction| {
        for number in [30, 10, 20] {
            transaction.orphan(InodeId(number));
        }
    });
    change(&store, &second, |transaction| transaction.orphan(InodeId(15)));
    let orphans = |limit| store.orphans(first.record.head, limit).unwrap();
    assert_eq!(orphans(100), [10, 20, 30].map(InodeId));
    assert_eq!(orphans(2), [10, 20].map(InodeId));
    change(&store, &first, |transaction| {
        transaction.forget_orphan(InodeId(10))
    });
    assert_eq!(orphans(100), [20, 30].map(InodeId));
    assert_eq!(store.orphans(second.record.head, 100).unwrap(), [InodeId(15)]);
}
