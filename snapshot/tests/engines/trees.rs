//! Copying and cloning: every kind of entry, unchanged files, files that change, cancellation.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::place::Way;
use cairn_snapshot::directory::{Body, Digest, Losses, Skip, WalkOptions};
use cairn_snapshot::engine::{Capture, EngineError, EngineKind, Target, capture_tree, remove_tree};
use cairn_snapshot::manifest::{ManifestOptions, ManifestReader, ManifestWriter};
use cairn_types::Timestamp;
use proptest::test_runner::{Config, TestRunner};

use crate::filesystems::{self, Kind};
use crate::forest;
use crate::site::{Taken, Workspace, later, now, path};

#[test]
fn random_trees_are_captured_as_they_are_on_every_file_system() {
    for mounted in filesystems::every() {
        let kind = mounted.kind;
        let workspace = Workspace::new(mounted.path().join("w"));
        // Where the snapshots go, everything is handed down that can be.
        fs::set_permissions(workspace.staging(), Permissions::from_mode(0o2777)).unwrap();
        let mut runner = TestRunner::new(Config {
            cases: 16,
            ..Config::default()
        });
        let result = runner.run(&forest::forests(60, true), |plan| {
            let root = File::open(&workspace.path).unwrap();
            forest::build(&root, &plan, kind.target_bytes_max());
            let there = workspace.entries();
            for engine in [EngineKind::Copy, EngineKind::ReflinkCopy] {
                let taken = workspace.take(engine, "taken").unwrap();
                taken.expect(&there);
                assert_eq!(taken.captured.losses, Losses::default());
                assert_eq!((taken.captured.torn_files, taken.captured.vanished), (0, 0));
                let cloned = engine == EngineKind::ReflinkCopy && kind.has_reflink();
                assert_eq!(
                    taken.captured.cloned_files == 0,
                    !cloned || data_files(&taken) == 0
                );
                workspace.remove("taken");
            }
            empty(&workspace);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

fn data_files(taken: &Taken) -> usize {
    let has_data = |body: &Body, size| matches!(body, Body::File(_)) && size > 0;
    let records = taken.records();
    records
        .iter()
        .filter(|record| has_data(&record.entry.body, record.entry.attributes.size))
        .count()
}

/// Removes everything but the control directory.
fn empty(workspace: &Workspace) {
    let root = File::open(&workspace.path).unwrap();
    for entry in fs::read_dir(&workspace.path).unwrap() {
        let name = entry.unwrap().file_name();
        if name != ".jvs" {
            remove_tree(
                root.as_fd(),
                &name,
                &workspace.path.join(&name),
                2,
                &Progress::new(),
            )
            .unwrap();
        }
    }
}

#[test]
fn a_thousand_directories_come_in_order() {
    let place = tempfile::tempdir().unwrap();
    let workspace = Workspace::new(place.path().join("w"));
    for directory in 0..300 {
        let at = workspace
            .path
            .join(format!("{}/{}/{directory}", directory % 7, directory % 3));
        fs::create_dir_all(&at).unwrap();
        for file in 0..20 {
            fs::write(at.join(format!("{file}")), format!("{directory} {file}")).unwrap();
        }
        // Names of files in directories far apart.
        fs::hard_link(at.join("3"), workspace.path.join(format!("zz-{directory}"))).unwrap();
    }
    let there = workspace.entries();
    for engine in [EngineKind::Copy, EngineKind::ReflinkCopy] {
        let taken = workspace.take(engine, "taken").unwrap();
        taken.expect(&there);
        workspace.remove("taken");
    }
}

#[test]
fn what_has_not_changed_is_taken_from_the_last_manifest() {
    let place = tempfile::tempdir().unwrap();
    let workspace = Workspace::new(place.path().join("w"));
    for name in ["same", "data", "mode", "gone"] {
        fs::write(workspace.path.join(name), name).unwrap();
    }
    let first = workspace
        .take_by(EngineKind::Copy, "1", None, later(), Workspace::walk())
        .unwrap();
    assert_eq!(first.captured.reused_files, 0);
    assert!(first.records().iter().all(|record| record.stamp.is_some()));
    let first = hashed(&first);
    File::options()
        .write(true)
        .open(workspace.path.join("data"))
        .unwrap()
        .write_at(b"D", 0)
        .unwrap();
    fs::set_permissions(workspace.path.join("mode"), Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(workspace.path.join("gone")).unwrap();
    let second = workspace
        .take_by(EngineKind::Copy, "2", Some(&first), later(), Workspace::walk())
        .unwrap();
    assert_eq!(second.captured.reused_files, 1);
    for record in second.records() {
        let Body::File(body) = &record.entry.body else {
            continue;
        };
        let is_same = record.entry.path == path("same");
        assert_eq!(
            body.digest,
            is_same.then_some(Digest([7; 32])),
            "{}",
            record.entry.path
        );
    }
    second.expect_listed(&workspace.entries());
    // A manifest whose stamps are all younger than the capture proves nothing.
    let racy = Timestamp::new(1, 0);
    let third = workspace
        .take_by(EngineKind::Copy, "3", Some(&first), racy, Workspace::walk())
        .unwrap();
    assert_eq!(third.captured.reused_files, 0);
    assert!(third.records().iter().all(|record| record.stamp.is_none()));
}

/// The manifest as it is after somebody has hashed all files; not their data, but that is not looked at here.
fn hashed(taken: &Taken) -> ManifestReader {
    let file = tempfile::tempfile().unwrap();
    let mut writer = ManifestWriter::create(file.try_clone().unwrap(), ManifestOptions::default()).unwrap();
    for mut record in taken.records() {
        if let Body::File(body) = &mut record.entry.body {
            body.digest = Some(Digest([7; 32]));
        }
        writer.push(&record).unwrap();
    }
    writer.finish().unwrap();
    ManifestReader::open(file).unwrap()
}

#[test]
fn a_damaged_manifest_only_saves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let workspace = Workspace::new(place.path().join("w"));
    for number in 0..2000 {
        fs::write(workspace.path.join(format!("file {number}")), "data").unwrap();
    }
    let first = workspace
        .take_by(EngineKind::Copy, "1", None, later(), Workspace::walk())
        .unwrap();
    let file = tempfile::tempfile().unwrap();
    let mut writer = ManifestWriter::create(file.try_clone().unwrap(), ManifestOptions::default()).unwrap();
    for record in first.records() {
        writer.push(&record).unwrap();
    }
    writer.finish().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 300).unwrap();
    file.write_all_at(&[!byte[0]], 300).unwrap();
    let damaged = ManifestReader::open(file).unwrap();
    let second = workspace
        .take_by(EngineKind::Copy, "2", Some(&damaged), later(), Workspace::walk())
        .unwrap();
    assert!(second.captured.previous_damaged);
    assert_eq!(second.captured.reused_files, 0);
    second.expect(&workspace.entries());
}

#[test]
fn a_file_that_never_rests_is_told_torn() {
    let place = tempfile::tempdir().unwrap();
    let workspace = Workspace::new(place.path().join("w"));
    fs::write(workspace.path.join("quiet"), "quiet").unwrap();
    let busy = workspace.path.join("busy");
    fs::write(&busy, vec![1; 32 << 20]).unwrap();
    let stop = AtomicBool::new(false);
    let taken = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options().write(true).open(&busy).unwrap();
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                file.write_all_at(&number.to_le_bytes(), number % (8 << 20))
                    .unwrap();
            }
        });
        // The other thread may have to wait for a processor during a whole attempt: then nothing is torn.
        let taken = (0..20).find_map(|round| {
            let taken = workspace.take(EngineKind::Copy, &format!("{round}")).unwrap();
            (taken.captured.torn_files > 0).then_some(taken)
        });
        stop.store(true, Ordering::Relaxed);
        taken.unwrap()
    });
    assert_eq!(taken.captured.torn, [path("busy")]);
    let records = taken.records();
    let torn = records
        .iter()
        .find(|record| record.entry.path == path("busy"))
        .unwrap();
    assert_eq!(torn.stamp, None);
    assert_eq!(
        torn.entry.attributes.size,
        fs::metadata(taken.path.join("busy")).unwrap().size()
    );
    assert_eq!(fs::read(taken.path.join("quiet")).unwrap(), b"quiet");
}

#[test]
fn a_tree_that_comes_and_goes_is_captured_all_the_same() {
    let place = tempfile::tempdir().unwrap();
    let workspace = Workspace::new(place.path().join("w"));
    for number in 0..500 {
        fs::write(workspace.path.join(format!("kept {number}")), "kept").unwrap();
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number = (number + 1) % 50;
                let file = workspace.path.join(format!("file {number}"));
                let other = workspace.path.join(format!("also {number}"));
                let directory = workspace.path.join(format!("directory {number}"));
                fs::write(&file, "data").unwrap();
                fs::hard_link(&file, &other).unwrap();
                fs::create_dir(&directory).unwrap();
                fs::write(directory.join("x"), "data").unwrap();
                fs::remove_file(&file).unwrap();
                fs::remove_dir_all(&directory).unwrap();
                fs::remove_file(&other).unwrap();
            }
        });
        for round in 0..30 {
            let name = format!("{round}");
            let taken = workspace.take(EngineKind::Copy, &name).unwrap();
            // Whatever was there: the manifest tells what is in the tree.
            taken.expect_listed(&taken.entries());
            let kept = taken
                .records()
                .iter()
                .filter(|record| record.entry.path.as_bytes().starts_with(b"kept"))
                .count();
            assert_eq!(kept, 500);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_is_cancelled_leaves_what_can_be_removed() {
    let place = tempfile::tempdir().unwrap();
    let workspace = Workspace::new(place.path().join("w"));
    for directory in 10..50 {
        let at = workspace.path.join(format!("{directory}"));
        fs::create_dir(&at).unwrap();
        for number in 0..100 {
            fs::write(at.join(format!("{number}")), "data").unwrap();
        }
    }
    let (source, staging) = (
        File::open(&workspace.path).unwrap(),
        File::open(workspace.staging()).unwrap(),
    );
    let mut manifest =
        ManifestWriter::create(tempfile::tempfile().unwrap(), ManifestOptions::default()).unwrap();
    let progress = std::sync::Arc::new(Progress::new());
    let cancelling = std::sync::Arc::clone(&progress);
    // In the middle, by the walk itself.
    let walk = WalkOptions {
        skip: Some(std::sync::Arc::new(move |path, _| {
            if path.as_bytes() == b"40" {
                cancelling.cancel();
            }
            match path.as_bytes() == b".jvs" {
                true => Skip::LeaveOut,
                false => Skip::Keep,
            }
        })),
        ..WalkOptions::default()
    };
    let at = workspace.staging().join("taken");
    let target = Target {
        parent: staging.as_fd(),
        name: OsStr::new("taken"),
        path: &at,
    };
    let outcome = capture_tree(
        Way::Copy,
        Capture {
            source: source.as_fd(),
            source_path: &workspace.path,
            walk,
            previous: None,
            target,
            manifest: &mut manifest,
            racy_after: now(),
            threads: 2,
            progress: &progress,
        },
    );
    assert!(matches!(outcome, Err(EngineError::Cancelled)));
    let left = fs::read_dir(&at).unwrap().count();
    assert!((2..=31).contains(&left), "{left} directories");
    workspace.remove("taken");
    let again = workspace.take(EngineKind::Copy, "taken").unwrap();
    again.expect(&workspace.entries());
    let error = workspace.take(EngineKind::Copy, "taken").unwrap_err();
    assert!(matches!(error, EngineError::Exists { .. }), "{error}");
}

#[test]
fn a_part_of_a_workspace_is_captured_with_the_way_to_it() {
    let place = tempfile::tempdir().unwrap();
    let workspace = Workspace::new(place.path().join("w"));
    fs::create_dir_all(workspace.path.join("a/b/c")).unwrap();
    fs::write(workspace.path.join("a/b/c/wanted"), "data").unwrap();
    fs::write(workspace.path.join("a/other"), "data").unwrap();
    let walk = WalkOptions {
        include: Some(vec![path("a/b/c")]),
        ..Workspace::walk()
    };
    let taken = workspace
        .take_by(EngineKind::Copy, "taken", None, now(), walk)
        .unwrap();
    let paths: Vec<_> = taken
        .records()
        .iter()
        .map(|record| record.entry.path.to_string())
        .collect();
    assert_eq!(paths, [".", "a", "a/b", "a/b/c", "a/b/c/wanted"]);
    let mut there = workspace.entries();
    there.retain(|entry| paths.contains(&entry.path.to_string()));
    taken.expect(&there);
}

#[test]
fn another_file_system_gets_copies() {
    let (Some(source), Some(other)) = (
        filesystems::mount(Kind::Ext4, 64),
        filesystems::mount(Kind::Tmpfs, 8),
    ) else {
        return;
    };
    let file = source.path().join("file");
    fs::write(&file, "data").unwrap();
    fs::hard_link(&file, source.path().join("link")).unwrap();
    let staging = tempfile::tempdir_in(other.path()).unwrap();
    let (from, to) = (
        File::open(source.path()).unwrap(),
        File::open(staging.path()).unwrap(),
    );
    let mut manifest =
        ManifestWriter::create(tempfile::tempfile().unwrap(), ManifestOptions::default()).unwrap();
    let at = staging.path().join("taken");
    let captured = capture_tree(
        Way::Clone,
        Capture {
            source: from.as_fd(),
            source_path: source.path(),
            walk: WalkOptions::default(),
            previous: None,
            target: Target {
                parent: to.as_fd(),
                name: OsStr::new("taken"),
                path: &at,
            },
            manifest: &mut manifest,
            racy_after: now(),
            threads: 1,
            progress: &Progress::new(),
        },
    )
    .unwrap();
    // No blocks are shared between file systems: it was copied.
    assert_eq!(
        (
            captured.cloned_files,
            captured.copied_files,
            captured.copied_bytes
        ),
        (0, 1, 4)
    );
    assert_eq!(fs::metadata(at.join("link")).unwrap().nlink(), 2);
}
