//! Limits of what a workspace may hold: exact, checked before anything is acknowledged, and there after a power cut.

use std::sync::atomic::{AtomicU64, Ordering};

use cairn_types::ExportPolicy;
use cairn_vfs::control::{CapacityLimits, CapacityResource, ControlError, NewSnapshot};
use cairn_vfs::{Error, FileSystem, Volumes};

use crate::{Node, name, new_workspace, reference};

fn limits(bytes: Option<u64>, inodes: Option<u64>) -> CapacityLimits {
    CapacityLimits { bytes, inodes }
}

fn set(volumes: &Volumes, limits: CapacityLimits) -> Result<(), ControlError> {
    volumes.set_capacity(&name("w"), limits).map(drop)
}

fn assert_full<T>(outcome: Result<T, Error>) {
    match outcome {
        Err(Error::OverCapacity) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was accepted"),
    }
}

#[test]
fn the_last_byte_fits_and_no_more() {
    let node = Node::fresh();
    set(&node.volumes, limits(Some(100_000), None)).unwrap();
    let small = node.create("small").unwrap();
    let large = node.create("large").unwrap();
    node.write(small, 0, 1000).unwrap();
    node.write(large, 0, 99_000).unwrap();
    assert_eq!(node.usage(), (3, 100_000));
    // In the metadata, in the log, by truncation, and from small to large.
    assert_full(node.write(small, 1000, 1));
    assert_full(node.write(large, 99_000, 1));
    assert_full(node.set_size(large, 99_001));
    assert_full(node.write(small, 900, 8000));
    // What grows nothing goes on: over old bytes, and what was read is still there.
    node.write(large, 50_000, 49_000).unwrap();
    node.volumes.flush().unwrap();
    assert_full(node.write(large, 98_999, 2));
    assert_eq!(node.usage(), (3, 100_000));

    node.set_size(large, 90_000).unwrap();
    node.write(small, 900, 8000).unwrap();
    assert_eq!(node.usage(), (3, 98_900));
    node.remove("large");
    node.write(small, 0, 100_000).unwrap();
    assert_full(node.write(small, 0, 100_001));
    node.check();

    let found = node.volumes.capacity(node.root("w")).unwrap();
    assert_eq!((found.bytes_total, found.bytes_available), (100_000, 0));
}

#[test]
fn inodes_are_limited_too() {
    let node = Node::fresh();
    set(&node.volumes, limits(None, Some(3))).unwrap();
    let file = node.create("a").unwrap();
    node.create("b").unwrap();
    assert_full(node.create("c"));
    node.write(file, 0, 1 << 20).unwrap();
    let found = node.volumes.capacity(node.root("w")).unwrap();
    assert_eq!((found.inodes_total, found.inodes_free), (3, 0));
    node.remove("b");
    node.create("c").unwrap();
    assert_full(node.create("d"));
    // What was refused took no number, and nothing is lost at a restart.
    let node = node.power_cut(1);
    assert_eq!(node.usage().0, 3);
    assert_full(node.create("d"));
    node.check();
}

#[test]
fn a_limit_below_what_is_there_is_refused_with_both_numbers() {
    let node = Node::fresh();
    let file = node.create("file").unwrap();
    node.write(file, 0, 5000).unwrap();
    let refused = set(&node.volumes, limits(Some(4999), None)).unwrap_err();
    assert!(
        matches!(
            refused,
            ControlError::OverCapacity {
                resource: CapacityResource::Bytes,
                found: 5000,
                limit: 4999,
                ..
            }
        ),
        "{refused:?}"
    );
    let refused = set(&node.volumes, limits(None, Some(1))).unwrap_err();
    assert!(
        matches!(
            refused,
            ControlError::OverCapacity {
                resource: CapacityResource::Inodes,
                found: 2,
                limit: 1,
                ..
            }
        ),
        "{refused:?}"
    );
    assert_eq!(
        node.volumes.workspace(&name("w")).unwrap().limits,
        CapacityLimits::default()
    );
    set(&node.volumes, limits(Some(5000), Some(2))).unwrap();
    // Durable on return, and lifted again.
    let node = node.power_cut(1);
    assert_eq!(
        node.volumes.workspace(&name("w")).unwrap().limits,
        limits(Some(5000), Some(2))
    );
    set(&node.volumes, CapacityLimits::default()).unwrap();
    node.create("more").unwrap();
}

#[test]
fn what_only_the_log_has_counts_after_a_power_cut() {
    for flushed in [false, true] {
        let node = Node::fresh();
        set(&node.volumes, limits(Some(300_000), None)).unwrap();
        let file = node.create("file").unwrap();
        node.write(file, 0, 200_000).unwrap();
        if flushed {
            node.volumes.flush().unwrap();
        }
        node.write(file, 200_000, 100_000).unwrap();
        let committed = node.volumes.commit(&crate::caller(), file, 0, 0).unwrap();
        crate::wait(committed);
        let node = node.power_cut(3);
        assert_eq!(node.usage(), (2, 300_000), "flushed: {flushed}");
        assert_full(node.write(file, 300_000, 1));
        // What was refused is not in the log: another cut brings nothing of it.
        let node = node.power_cut(4);
        assert_eq!(node.usage(), (2, 300_000));
        node.check();
    }
}

#[test]
fn writers_at_once_get_exactly_what_there_is() {
    const WRITERS: u64 = 4;
    const BLOCK: u64 = 10_000;
    const BLOCKS: u64 = 37;
    let node = Node::fresh();
    set(&node.volumes, limits(Some(BLOCK * BLOCKS + BLOCK / 2), None)).unwrap();
    let files: Vec<_> = (0..WRITERS)
        .map(|number| node.create(&format!("f{number}")).unwrap())
        .collect();
    let accepted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| {
                let mut offset = 0;
                // Another writer's promise may be in the way until it is counted: a few refusals in a row mean that it is full.
                let mut refusals = 0;
                while refusals < 50 {
                    match node.write(*file, offset, BLOCK as usize) {
                        Ok(_) => {
                            accepted.fetch_add(1, Ordering::Relaxed);
                            offset += BLOCK;
                            refusals = 0;
                        }
                        Err(Error::OverCapacity) => refusals += 1,
                        Err(other) => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    assert_eq!(accepted.into_inner(), BLOCKS);
    assert_eq!(node.usage(), (1 + WRITERS, BLOCK * BLOCKS));
    node.check();
}

#[test]
fn restores_and_forks_beyond_the_limit_change_nothing() {
    let node = Node::fresh();
    let file = node.create("file").unwrap();
    node.write(file, 0, 50_000).unwrap();
    let large = node.snapshot();
    node.set_size(file, 10).unwrap();
    set(&node.volumes, limits(Some(20_000), None)).unwrap();
    let history = node.volumes.history(&name("w")).unwrap();
    let refused = node.volumes.restore(&name("w"), &reference(&large));
    let is_refused = |error: &ControlError| {
        matches!(
            error,
            ControlError::OverCapacity {
                found: 50_000,
                limit: 20_000,
                ..
            }
        )
    };
    assert!(refused.as_ref().is_err_and(is_refused), "{refused:?}");
    let refused = node.volumes.fork(&name("w"), &reference(&large), &name("copy"));
    assert!(refused.as_ref().is_err_and(is_refused), "{refused:?}");
    assert_eq!(node.volumes.history(&name("w")).unwrap(), history);
    assert_eq!(node.volumes.workspaces().unwrap().len(), 1);
    assert_eq!(node.usage(), (2, 10));

    set(&node.volumes, limits(Some(50_000), None)).unwrap();
    node.volumes.restore(&name("w"), &reference(&large)).unwrap();
    let copy = node.volumes.fork(&name("w"), &reference(&large), &name("copy"));
    assert_eq!(copy.unwrap().limits, limits(Some(50_000), None));
    assert_full(node.write(file, 50_000, 1));
}

#[test]
fn settings_hold_at_once_and_survive() {
    let node = Node::fresh();
    let limited = node
        .volumes
        .create_limited_workspace(new_workspace("limited"), limits(Some(7), Some(1)))
        .unwrap();
    assert_eq!(limited.limits, limits(Some(7), Some(1)));
    let refused = node
        .volumes
        .create_limited_workspace(new_workspace("none"), limits(None, Some(0)));
    assert!(
        matches!(refused, Err(ControlError::OverCapacity { .. })),
        "{refused:?}"
    );
    let policy = ExportPolicy {
        read_only: true,
        ..ExportPolicy::default()
    };
    node.volumes
        .set_export_policy(&name("w"), policy.clone())
        .unwrap();
    let volume = node.volumes.workspace(&name("w")).unwrap().volume;
    assert_eq!(*node.volumes.export(volume).unwrap().policy, policy);
    node.snapshot();
    let node = node.power_cut(1);
    assert_eq!(*node.volumes.export(volume).unwrap().policy, policy);
}

#[test]
fn a_request_with_a_key_is_carried_out_once() {
    let node = Node::fresh();
    let new = |note: &str| NewSnapshot {
        note: note.to_owned(),
        tags: Vec::new(),
    };
    let once = |node: &Node, note: &str| node.volumes.snapshot_once(&name("w"), new(note), "nightly");
    let (taken, is_new) = once(&node, "a").unwrap();
    assert!(is_new);
    let node = node.power_cut(1);
    assert_eq!(once(&node, "a").unwrap(), (taken.clone(), false));
    let refused = once(&node, "b").unwrap_err();
    assert!(
        matches!(&refused, ControlError::KeyConflict { snapshot, .. } if *snapshot == taken.id),
        "{refused:?}"
    );
    assert_eq!(node.volumes.history(&name("w")).unwrap().len(), 1);
    node.volumes
        .delete_snapshot(&name("w"), &reference(&taken))
        .unwrap();
    assert!(once(&node, "b").unwrap().1);
}
