//! A directory that changes while it is captured, a store that changes meanwhile, and captures of a part. What changes does so at a certain
//! point: the rule that says what is left out is asked of every entry in order, on the thread that captures.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Arc;
use std::time::Duration;

use cairn_snapshot::archive::{Progress, ReclaimOptions, Repository};
use cairn_snapshot::directory::{Body, RelativePath, Skip, WalkOptions};
use cairn_snapshot::engine::chunks::{ChunksCaptured, ChunksError};
use cairn_types::Timestamp;

use crate::ground::{Ground, assert_holds, fill, later};
use crate::harness::{Place, id, reclaim, verify};
use crate::model::Random;

/// Does something when the walk has come to `at`.
fn when_at(at: &'static str, act: impl Fn() + Send + Sync + 'static) -> WalkOptions {
    WalkOptions {
        skip: Some(Arc::new(move |path, _| {
            if path.as_bytes() == at.as_bytes() {
                act();
            }
            Skip::Keep
        })),
        ..WalkOptions::default()
    }
}

fn capture_with(ground: &Ground, repository: &Repository, number: u8, walk: WalkOptions) -> ChunksCaptured {
    ground
        .capture_with(repository, number, None, walk, later(), &Progress::new())
        .unwrap()
}

#[test]
fn what_vanishes_is_left_out() {
    let (place, ground) = (Place::new(), Ground::new());
    for name in ["a", "b", "c", "d", "e"] {
        ground.write(name, &[name.as_bytes()[0]; 5000]);
    }
    ground.write("long", &[1; 900_000]);
    let work = ground.work();
    let walk = when_at("z", move || {
        // Files that were found and not read yet: gone, another one, and what must not be opened.
        fs::remove_file(work.join("a")).unwrap();
        fs::write(work.join("new b"), b"another").unwrap();
        fs::rename(work.join("new b"), work.join("b")).unwrap();
        fs::remove_file(work.join("c")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, work.join("c"), fifo, 0o600.into(), 0).unwrap();
        fs::remove_file(work.join("d")).unwrap();
        symlink("/etc/passwd", work.join("d")).unwrap();
        fs::remove_file(work.join("long")).unwrap();
    });
    ground.write("z", b"last");
    let repository = place.open(1);
    let captured = capture_with(&ground, &repository, 1, walk);
    assert_eq!(captured.vanished, 5, "{captured:?}");
    let mut expected = ground.things();
    for gone in ["b", "c", "d"] {
        expected.remove(&RelativePath::new(gone.as_bytes()).unwrap());
    }
    // The directory was looked at before.
    let root = RelativePath::root();
    let found = ground.manifest(1).find(&root).unwrap().unwrap().entry.attributes;
    expected.get_mut(&root).unwrap().attributes = found;
    assert_holds(&repository, 1, &expected);
}

#[test]
fn another_name_becomes_the_file_if_the_first_vanishes() {
    for bytes in [5000, 900_000] {
        let (place, ground) = (Place::new(), Ground::new());
        ground.write("a", &Random::new(bytes).bytes(bytes as usize));
        fs::hard_link(ground.path("a"), ground.path("b")).unwrap();
        fs::hard_link(ground.path("a"), ground.path("c")).unwrap();
        ground.write("z", b"last");
        let first = ground.path("a");
        let walk = when_at("z", move || fs::remove_file(&first).unwrap());
        let repository = place.open(1);
        let captured = capture_with(&ground, &repository, 1, walk);
        assert_eq!((captured.vanished, captured.manifest.counts.links), (1, 1));
        let name = |text: &str| RelativePath::new(text.as_bytes()).unwrap();
        let manifest = ground.manifest(1);
        let last = manifest.find(&name("c")).unwrap().unwrap().entry.body;
        assert_eq!(last, Body::Link(name("b")));
        let mut expected = ground.things();
        let root = manifest.find(&RelativePath::root()).unwrap().unwrap();
        expected.get_mut(&RelativePath::root()).unwrap().attributes = root.entry.attributes;
        assert_holds(&repository, 1, &expected);
        // And a name that is gone later leaves the rest as it is.
        fs::remove_file(ground.path("b")).unwrap();
        let second = ground.capture(&repository, 2, Some(1));
        assert_eq!((second.manifest.counts.links, second.pushed.bytes_new), (0, 0));
        assert_holds(&repository, 2, &ground.things());
    }
}

#[test]
fn a_file_that_has_changed_since_it_was_found_is_as_it_is_read() {
    let (place, ground) = (Place::new(), Ground::new());
    ground.write("grows", &[1; 1000]);
    ground.write("grows long", &[1; 1000]);
    ground.write("shrinks", &[2; 400_000]);
    ground.write("z", b"last");
    let work = ground.work();
    let walk = when_at("z", move || {
        fs::write(work.join("grows"), [3; 3000]).unwrap();
        fs::write(work.join("grows long"), [4; 700_000]).unwrap();
        fs::write(work.join("shrinks"), [5; 10]).unwrap();
    });
    let repository = place.open(1);
    let captured = capture_with(&ground, &repository, 1, walk);
    assert_eq!((captured.torn_files, captured.vanished), (0, 0));
    assert_holds(&repository, 1, &ground.things());
    assert_eq!(ground.capture(&repository, 2, Some(1)).pushed.files_read, 0);
}

#[test]
fn a_stamp_that_proves_nothing_is_not_kept() {
    let (place, ground) = (Place::new(), Ground::new());
    ground.write("old", &[1; 5000]);
    ground.write("new", &[2; 5000]);
    let status = fs::metadata(ground.path("new")).unwrap();
    let repository = place.open(1);
    let at = |nanoseconds: i64| {
        let all = status.ctime() * 1_000_000_000 + status.ctime_nsec() + nanoseconds;
        Timestamp::new(
            all.div_euclid(1_000_000_000),
            all.rem_euclid(1_000_000_000) as u32,
        )
    };
    let capture = |number, previous, racy_after| {
        let walk = WalkOptions::default();
        ground
            .capture_with(&repository, number, previous, walk, racy_after, &Progress::new())
            .unwrap()
    };
    // As if the capture had begun five milliseconds later.
    capture(1, None, at(5_000_000));
    let stamp = |number: u8, name: &str| {
        let path = RelativePath::new(name.as_bytes()).unwrap();
        ground.manifest(number).find(&path).unwrap().unwrap().stamp
    };
    assert_eq!(stamp(1, "new"), None);
    let second = capture(2, Some(1), at(60_000_000_000));
    assert!(second.based && second.pushed.files_read >= 1, "{second:?}");
    assert!(stamp(2, "new").is_some() && stamp(2, "old").is_some());
    let third = capture(3, Some(2), at(60_000_000_000));
    assert_eq!(third.pushed.files_read, 0);
    // A file that is younger than the capture is read again, whatever its stamp was.
    assert_eq!(capture(4, Some(3), at(-3_000_000_000)).pushed.files_read, 2);
}

#[test]
fn parts_of_a_directory_and_what_is_left_out() {
    let (place, ground) = (Place::new(), Ground::new());
    fill(&ground, &mut Random::new(51), 60, 9_000);
    ground.write("d1/target/object", &[1; 9000]);
    let repository = place.open(1);
    let name = |text: &str| RelativePath::new(text.as_bytes()).unwrap();
    let walk = WalkOptions {
        skip: Some(Arc::new(|path, _| match path.name() {
            b"target" => Skip::LeaveOut,
            _ => Skip::Keep,
        })),
        include: Some(vec![name("d1"), name("d2/none"), name("d3")]),
        ..WalkOptions::default()
    };
    let captured = capture_with(&ground, &repository, 1, walk.clone());
    assert_eq!(captured.left_out, 1);
    let mut expected = ground.things();
    expected.retain(|path, _| {
        let (first, third) = (name("d1"), name("d3"));
        let wanted =
            path.is_within(&first) || path.is_within(&third) || path.is_root() || *path == name("d2");
        wanted && !path.is_within(&name("d1/target"))
    });
    assert_holds(&repository, 1, &expected);
    // The whole, from a part.
    let whole = ground.capture(&repository, 2, Some(1));
    assert_eq!(whole.reused_files, captured.manifest.counts.files);
    assert_holds(&repository, 2, &ground.things());
    let again = ground
        .capture_with(&repository, 3, Some(2), walk, later(), &Progress::new())
        .unwrap();
    assert_eq!(again.manifest.tree_hash, captured.manifest.tree_hash);
    assert_eq!(again.pushed.bytes_stored, 0, "{again:?}");
}

#[test]
fn a_base_that_is_deleted_and_reclaimed_meanwhile() {
    let (place, ground) = (Place::new(), Ground::new());
    fill(&ground, &mut Random::new(52), 80, 30_000);
    let repository = Arc::new(place.open(1));
    ground.capture(&repository, 1, None);
    ground.write("z", b"last");
    let reclaiming = repository.clone();
    let options = ReclaimOptions {
        grace: Duration::ZERO,
        ..ReclaimOptions::default()
    };
    let walk = when_at("z", move || {
        reclaiming.delete(id(1)).unwrap();
        let freed = reclaiming
            .reclaim(&options, &Progress::new(), &mut |_| {})
            .unwrap();
        assert!(freed.condemned_packs > 0 && freed.removed_packs == 0, "{freed:?}");
    });
    let captured = ground
        .capture_with(&repository, 2, Some(1), walk, later(), &Progress::new())
        .unwrap();
    assert!(captured.based && captured.reused_files == 80, "{captured:?}");
    assert_holds(&repository, 2, &ground.things());
    reclaim(&repository, 0);
    assert_eq!(verify(&repository, true).1, []);
    assert_holds(&repository, 2, &ground.things());
    repository.delete(id(2)).unwrap();
    reclaim(&repository, 0);
    assert_eq!(place.packs(), Vec::<String>::new());
}

#[test]
fn a_capture_that_is_cancelled_publishes_nothing() {
    let (place, ground) = (Place::new(), Ground::new());
    fill(&ground, &mut Random::new(53), 400, 20_000);
    ground.write("d9/long", &Random::new(54).bytes(6_000_000));
    let repository = place.open(1);
    for at in ["d3", "d9/long"] {
        let progress = Arc::new(Progress::new());
        let cancelled = progress.clone();
        let walk = when_at(at, move || cancelled.cancel());
        let outcome = ground.capture_with(&repository, 1, None, walk, later(), &progress);
        assert!(matches!(outcome, Err(ChunksError::Cancelled)), "{outcome:?}");
    }
    assert_eq!(repository.archives().unwrap(), []);
    ground.capture(&repository, 1, None);
    assert_holds(&repository, 1, &ground.things());
    repository.delete(id(1)).unwrap();
    reclaim(&repository, 0);
    assert_eq!(place.packs(), Vec::<String>::new());
}

#[test]
fn directories_are_told_from_other_archives() {
    let (place, ground) = (Place::new(), Ground::new());
    ground.write("file", b"data");
    let repository = place.open(1);
    let captured = ground.capture(&repository, 7, None);
    let found = repository.directories().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].archive, captured.pushed.archive);
    assert_eq!(
        (found[0].counts, found[0].tree_hash),
        (captured.manifest.counts, captured.manifest.tree_hash)
    );
}
