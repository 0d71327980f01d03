//! Publishing snapshots, and the state that follows.

use cairn_snapshot::directory::{RelativePath, place};
use cairn_snapshot::repository::{Losses, Origin, Paths, RepositoryError, State};
use cairn_types::{ErrorKind, SnapshotId};

use crate::harness::Site;

#[test]
fn snapshots_exist_from_their_descriptor_on() {
    let site = Site::new();
    let first = site.publish(|_| {});
    let second = site.publish(|descriptor| descriptor.note = "\u{fc}\n\"%".to_owned());
    assert_eq!(second.parent, Some(first.id));
    let mut ids = vec![first.id, second.id];
    ids.sort();
    assert_eq!(site.repository.snapshot_ids().unwrap(), ids);
    assert_eq!(site.repository.descriptor(first.id).unwrap(), first);
    assert_eq!(site.repository.descriptor(second.id).unwrap(), second);
    let state = site.repository.state().unwrap();
    assert_eq!(
        (state.sequence, state.newest, state.head),
        (2, Some(second.id), Some(second.id))
    );

    let lease = site.lease();
    let error = site.repository.publish(&lease, &second).unwrap_err();
    assert!(matches!(error, RepositoryError::SnapshotExists { .. }), "{error}");
    assert!(site.repository.unpublish(&lease, first.id).unwrap());
    assert!(!site.repository.unpublish(&lease, first.id).unwrap());
    assert_eq!(
        site.repository.descriptor(first.id).unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn notes_may_have_64_kibibytes_and_no_more() {
    let site = Site::new();
    let long = site.publish(|descriptor| descriptor.note = "\u{1}".repeat(64 << 10));
    assert_eq!(site.repository.descriptor(long.id).unwrap().note.len(), 65_536);
    let lease = site.lease();
    let mut longer = long.clone();
    longer.id = SnapshotId([9; 16]);
    longer.note.push('x');
    let error = site.repository.publish(&lease, &longer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("note"), "{error}");
    drop(lease);
    site.publish(|_| {});
}

#[test]
fn latest_is_what_somebody_asked_for_and_head_what_is_in_the_workspace() {
    let site = Site::new();
    let first = site.publish(|_| {});
    let safety = site.publish(|descriptor| descriptor.origin = Origin::Safety { restoring: first.id });
    let state = site.repository.state().unwrap();
    assert_eq!((state.last, state.newest), (Some(safety.id), Some(first.id)));
    let paths = vec![
        RelativePath::new(b"a\xff").unwrap(),
        RelativePath::new(b"b").unwrap(),
    ];
    let part = site.publish(|descriptor| descriptor.paths = Some(Paths { paths }));
    assert_eq!(site.repository.descriptor(part.id).unwrap(), part);
    let state = site.repository.state().unwrap();
    assert_eq!((state.newest, state.head), (Some(part.id), Some(safety.id)));

    let path = |text: &str| RelativePath::new(text.as_bytes()).unwrap();
    let state = state
        .restored(first.id, Some(&path("x/y")))
        .restored(part.id, Some(&path("z")));
    let state = state.restored(safety.id, Some(&path("x")));
    let parts: Vec<String> = state.parts.iter().map(|part| part.path.to_string()).collect();
    assert_eq!(parts, ["z", "x"]);
    let whole = state.restored(first.id, None);
    assert_eq!(
        (whole.head, whole.parts.len(), whole.newest),
        (Some(first.id), 0, Some(part.id))
    );
}

#[test]
fn the_state_comes_back_from_the_descriptors() {
    let site = Site::new();
    let first = site.publish(|_| {});
    site.publish(|descriptor| descriptor.origin = Origin::Safety { restoring: first.id });
    let all: Vec<_> = site.repository.snapshot_ids().unwrap();
    let all: Vec<_> = all
        .into_iter()
        .map(|id| site.repository.descriptor(id).unwrap())
        .collect();
    let mut expected = site.repository.state().unwrap();
    let rebuilt = State::rebuilt(&all);
    expected.fence = rebuilt.fence;
    assert_eq!(rebuilt, expected);
    assert_eq!(State::rebuilt([]), State::default());
}

#[test]
fn a_stale_writer_never_replaces_the_state() {
    let site = Site::new();
    let lease = site.lease();
    let newer = State {
        sequence: 9,
        ..State::default()
    };
    site.repository.set_state(&lease, &newer).unwrap();
    lease.release().unwrap();
    // The files of leases are lost: tokens go on above what the state knows.
    let token = site.repository.state().unwrap().fence;
    for entry in std::fs::read_dir(site.control().join("lock")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let lease = site.lease();
    assert_eq!(lease.token(), token + 1);
    site.repository.set_state(&lease, &newer).unwrap();
}

#[test]
fn what_a_kill_left_half_written_is_no_file_and_goes() {
    let site = Site::new();
    let first = site.publish(|_| {});
    for area in ["descriptors", "labels", "journal", "keys", "."] {
        std::fs::write(site.control().join(area).join(".0123456789abcdef.tmp"), "half").unwrap();
    }
    // Somebody without the lease may be writing this one.
    let verified = site.control().join("verified/.0123456789abcdef.tmp");
    std::fs::write(&verified, "half").unwrap();
    assert_eq!(site.repository.snapshot_ids().unwrap(), [first.id]);
    let lease = site.lease();
    assert_eq!(site.repository.remove_unfinished(&lease).unwrap(), 5);
    assert_eq!(site.repository.remove_unfinished(&lease).unwrap(), 0);
    assert!(verified.exists());
    assert_eq!(site.repository.descriptor(first.id).unwrap(), first);
}

#[test]
fn losses_are_counted_and_some_are_shown() {
    let mut placed = place::Losses::default();
    let path = |text: &str| RelativePath::new(text.as_bytes()).unwrap();
    for number in 0..25 {
        placed.add(place::Loss::Owner, &path(&format!("f{number}")));
    }
    let deep = vec!["x".repeat(200); 30].join("/");
    placed.add(place::Loss::Xattrs, &path(&deep));
    let losses = Losses::from(&placed);
    assert_eq!((losses.owner.count, losses.owner.paths.len()), (25, 10));
    assert_eq!(
        (losses.xattrs.count, losses.xattrs.paths.len(), losses.mode.count),
        (1, 0, 0)
    );
}
