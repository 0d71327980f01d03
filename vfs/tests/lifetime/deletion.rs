//! Deleting single snapshots: what it frees, what it must not touch, what forbids it.

use std::ops::ControlFlow;

use cairn_types::Timestamp;
use cairn_vfs::control::{ControlError, LabelChanges, NewPin, Snapshot, SnapshotUser};
use cairn_vfs::{Error, FileSystem};

use crate::{Node, caller, name, reference};

const FILE_BYTES: u64 = 1_500_000;

/// Fills the file with a byte, and takes a snapshot of that.
fn fill(node: &Node, file: cairn_vfs::filesystem::ObjectId, fill: u8) -> Snapshot {
    for offset in (0..FILE_BYTES).step_by(500_000) {
        let data = vec![fill; 500_000].into();
        let stability = cairn_vfs::filesystem::Stability::Unstable;
        let written = node.volumes.write(&caller(), file, offset, data, stability);
        crate::wait(written.unwrap());
    }
    node.snapshot()
}

fn bytes_of(node: &Node, workspace: &str) -> Result<Vec<u8>, Error> {
    let found = node
        .volumes
        .lookup(&caller(), node.root(workspace), b"file")?
        .attributes
        .object;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < FILE_BYTES {
        let read = node.volumes.read(&caller(), found, bytes.len() as u64, 1 << 20)?;
        read.pieces
            .iter()
            .for_each(|piece| bytes.extend_from_slice(piece));
    }
    Ok(bytes)
}

fn delete(node: &Node, snapshot: &Snapshot) -> Result<Snapshot, ControlError> {
    node.volumes.delete_snapshot(&name("w"), &reference(snapshot))
}

fn users(refused: Result<Snapshot, ControlError>) -> Vec<SnapshotUser> {
    match refused {
        Err(ControlError::SnapshotInUse { users, .. }) => users,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_space_of_deleted_snapshots_comes_back_and_the_others_stay() {
    let node = Node::fresh();
    let file = node.create("file").unwrap();
    let snapshots: Vec<Snapshot> = (1..=5).map(|byte| fill(&node, file, byte)).collect();
    node.volumes.sweep().unwrap();
    let full = node.volumes.usage().unwrap();
    for index in [1, 3, 0] {
        let deleted = delete(&node, &snapshots[index]).unwrap();
        assert_eq!(deleted, snapshots[index]);
        assert!(matches!(
            delete(&node, &snapshots[index]),
            Err(ControlError::NoSnapshot { .. })
        ));
    }
    node.volumes.flush().unwrap();
    node.volumes.sweep().unwrap();
    let usage = node.volumes.usage().unwrap();
    assert_eq!(usage.snapshots, 2);
    let freed = full.log_bytes - usage.log_bytes;
    assert!(freed >= FILE_BYTES, "{freed} bytes of the log were freed");
    assert!(usage.swept.versions_removed > full.swept.versions_removed);
    assert_eq!(usage.swept.log_bytes, freed);
    assert_eq!(usage.swept.branches_left, 0);

    // The neighbours are whole, also after a power cut in which the sweep was not durable.
    for node in [node.power_cut(1), node] {
        for (index, copy) in [(2, "third"), (4, "fifth")] {
            let reference = reference(&snapshots[index]);
            node.volumes.fork(&name("w"), &reference, &name(copy)).unwrap();
            let bytes = bytes_of(&node, copy).unwrap();
            assert!(bytes.iter().all(|byte| usize::from(*byte) == index + 1), "{copy}");
        }
        assert!(bytes_of(&node, "w").unwrap().iter().all(|byte| *byte == 5));
        node.volumes.sweep().unwrap();
        node.check();
    }
}

#[test]
fn comparisons_with_the_live_tree_leave_nothing() {
    let node = Node::fresh();
    let file = node.create("file").unwrap();
    let first = fill(&node, file, 1);
    node.volumes.sweep().unwrap();
    let stored = |node: &Node| {
        use cairn_metadata::engine::Engine;
        node.engine.scan(b"h", b"i", 65_536).unwrap().len()
    };
    for round in 2..6 {
        node.volumes
            .diff(&name("w"), &reference(&first), None, &mut |_| {
                ControlFlow::Continue(())
            })
            .unwrap();
        let data = vec![round; FILE_BYTES as usize / 2].into();
        let stability = cairn_vfs::filesystem::Stability::Unstable;
        crate::wait(node.volumes.write(&caller(), file, 0, data, stability).unwrap());
        node.volumes.flush().unwrap();
    }
    node.volumes.sweep().unwrap();
    let kept = stored(&node);
    delete(&node, &first).unwrap();
    node.volumes.sweep().unwrap();
    assert_eq!(stored(&node), 0, "{kept} versions were kept for the snapshot");
    node.set_size(file, 10).unwrap();
    assert_eq!(stored(&node), 0, "nobody sees what was before");
}

#[test]
fn what_uses_a_snapshot_forbids_its_deletion_and_is_named() {
    let node = Node::fresh();
    let file = node.create("file").unwrap();
    let taken = fill(&node, file, 1);
    let of = reference(&taken);
    node.volumes.fork(&name("w"), &of, &name("copy")).unwrap();
    assert_eq!(users(delete(&node, &taken)), [SnapshotUser::Fork(name("copy"))]);
    node.volumes.delete_workspace(&name("copy"), false).unwrap();

    let reader = node.volumes.open_snapshot(&name("w"), &of).unwrap();
    assert_eq!(users(delete(&node, &taken)), [SnapshotUser::Reading]);
    drop(reader);

    let mut refused = Vec::new();
    node.create("another").unwrap();
    node.volumes
        .diff(&name("w"), &of, None, &mut |_| {
            refused = users(delete(&node, &taken));
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(refused, [SnapshotUser::Comparing]);

    let pin = |expires| LabelChanges {
        pin: Some(NewPin {
            reason: "shipped".to_owned(),
            expires,
        }),
        ..LabelChanges::default()
    };
    // The clock moves a second with every look.
    let past = Timestamp::new(1_700_000_000, 0);
    let first = node.volumes.set_labels(&name("w"), &of, pin(Some(past))).unwrap();
    let second = node.volumes.set_labels(&name("w"), &of, pin(None)).unwrap();
    assert_eq!((first.pin, second.pin), (Some(1), Some(2)));
    assert_eq!(
        users(delete(&node, &taken)),
        [SnapshotUser::Pin(second.snapshot.pins[1].clone())],
        "the first has expired"
    );
    let unpin = |numbers: &[u64]| LabelChanges {
        unpin: numbers.to_vec(),
        note: Some("changed".to_owned()),
        ..LabelChanges::default()
    };
    let refused = node.volumes.set_labels(&name("w"), &of, unpin(&[2, 9]));
    assert!(
        matches!(refused, Err(ControlError::NoPin { number: 9, .. })),
        "{refused:?}"
    );
    let unchanged = node.volumes.resolve(&name("w"), &of).unwrap();
    assert_eq!((unchanged.note.as_str(), unchanged.pins.len()), ("", 2));
    let unpinned = node.volumes.set_labels(&name("w"), &of, unpin(&[2])).unwrap();
    assert_eq!(
        (unpinned.unpinned, unpinned.snapshot.note.as_str()),
        (vec![2], "changed")
    );
    delete(&node, &taken).unwrap();
}

#[test]
fn a_snapshot_that_a_restore_went_back_to_can_go() {
    let node = Node::fresh();
    let file = node.create("file").unwrap();
    let first = fill(&node, file, 1);
    fill(&node, file, 2);
    node.volumes.restore(&name("w"), &reference(&first)).unwrap();
    for snapshot in node.volumes.history(&name("w")).unwrap() {
        delete(&node, &snapshot).unwrap();
    }
    node.volumes.sweep().unwrap();
    assert!(bytes_of(&node, "w").unwrap().iter().all(|byte| *byte == 1));
    let node = node.power_cut(1);
    assert!(bytes_of(&node, "w").unwrap().iter().all(|byte| *byte == 1));
    // Written anew, nothing of the old branch's data is seen any more.
    let used = node.volumes.usage().unwrap().log_bytes;
    let file = node.volumes.lookup(&caller(), node.root("w"), b"file").unwrap();
    let taken = fill(&node, file.attributes.object, 3);
    delete(&node, &taken).unwrap();
    node.volumes.flush().unwrap();
    node.volumes.sweep().unwrap();
    let after = node.volumes.usage().unwrap().log_bytes;
    assert!(after <= used + (1 << 20), "{used} bytes before, {after} after");
    assert!(bytes_of(&node, "w").unwrap().iter().all(|byte| *byte == 3));
}

#[test]
fn a_power_cut_at_any_time_of_a_sweep_costs_nothing() {
    for writes in 0..12 {
        let node = Node::fresh();
        let file = node.create("file").unwrap();
        let snapshots: Vec<Snapshot> = (1..=4).map(|byte| fill(&node, file, byte)).collect();
        node.volumes.sweep().unwrap();
        delete(&node, &snapshots[1]).unwrap();
        delete(&node, &snapshots[2]).unwrap();
        node.engine.fail_write_after(writes);
        // It fails in the middle, or has fewer writes.
        let _ = node.volumes.sweep();
        let node = node.power_cut(writes);
        node.volumes.sweep().unwrap();
        let copy = node
            .volumes
            .fork(&name("w"), &reference(&snapshots[0]), &name("copy"));
        assert_eq!(copy.unwrap().bytes, FILE_BYTES);
        assert!(bytes_of(&node, "copy").unwrap().iter().all(|byte| *byte == 1));
        assert!(bytes_of(&node, "w").unwrap().iter().all(|byte| *byte == 4));
        assert_eq!(node.volumes.history(&name("w")).unwrap().len(), 2);
    }
}
