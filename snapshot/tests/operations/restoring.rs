//! What is restored is what was saved, whatever the workspace has become.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::RelativePath;
use cairn_snapshot::engine::EngineKind;
use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::fork::fork;
use cairn_snapshot::operations::materialize::materialize;
use cairn_snapshot::operations::restore::{Unsaved, plan};
use cairn_snapshot::operations::save::SaveRequest;
use cairn_snapshot::operations::verify::{VerifyRequest, verify};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::TestRunner;

use crate::filesystems;
use crate::forest;
use crate::place::{Place, assert_same, entries, request};

/// Empties a directory, but for what is Cairn's.
fn empty(workspace: &Path) {
    for entry in fs::read_dir(workspace).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() == ".jvs" {
            continue;
        }
        match entry.file_type().unwrap().is_dir() {
            true => fs::remove_dir_all(entry.path()).unwrap(),
            false => fs::remove_file(entry.path()).unwrap(),
        }
    }
}

#[test]
fn random_trees_come_back_on_every_file_system() {
    for mounted in filesystems::every() {
        let kind = mounted.kind;
        let engine = match kind.has_reflink() {
            true => EngineKind::ReflinkCopy,
            false => EngineKind::Copy,
        };
        let mut runner = TestRunner::new(ProptestConfig {
            cases: 6,
            max_shrink_iters: 60,
            ..ProptestConfig::default()
        });
        let base = mounted.path().join("trees");
        let plans = (forest::forests(30, true), forest::forests(30, true));
        let inside = std::cell::Cell::new(false);
        let result = runner.run(&plans, |(first, second)| {
            inside.set(!inside.get());
            let _ = fs::remove_dir_all(&base);
            fs::create_dir_all(base.join("workspace")).unwrap();
            let place = Place::new(&base, inside.get());
            let root = File::open(&place.workspace).unwrap();
            forest::build(&root, &first, kind.target_bytes_max());
            let (a, a_saved) = (place.entries(), place.save_with(engine));
            empty(&place.workspace);
            forest::build(&root, &second, kind.target_bytes_max());
            let (b, b_saved) = (place.entries(), place.save_with(EngineKind::Copy));
            let archived = place.save_with(EngineKind::Archive);
            let inode = fs::metadata(&place.workspace).unwrap().ino();
            for (expected, saved) in [(&a, &a_saved), (&b, &archived), (&a, &a_saved), (&b, &b_saved)] {
                let restored = place.restore(saved.id, &[], Unsaved::Refuse).unwrap();
                assert_same(expected, &place.entries());
                assert_eq!(restored.kept, []);
                let again = plan(
                    &place.repository,
                    &request(saved.id, &[], Unsaved::Refuse),
                    &Progress::new(),
                );
                let again = again.unwrap();
                assert_eq!((again.changes, again.unsaved), (vec![], 0));
            }
            assert_eq!(fs::metadata(&place.workspace).unwrap().ino(), inode);
            let copy = base.join("copy");
            for saved in [&b_saved, &archived] {
                materialize(&place.repository, saved.id, &[], &copy, &Progress::new()).unwrap();
                assert_same(&b, &entries(&copy));
                fs::remove_dir_all(&copy).unwrap();
            }
            let found = verify(
                &place.repository,
                archived.id,
                VerifyRequest::default(),
                &Progress::new(),
            )
            .unwrap();
            assert_eq!((found.damaged, found.first_read), (0, 0));
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

struct Fixture {
    _directory: tempfile::TempDir,
    place: Place,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let workspace = directory.path().join("workspace");
    fs::create_dir_all(workspace.join("src/deep")).unwrap();
    fs::write(workspace.join("src/deep/main"), "one").unwrap();
    fs::write(workspace.join("src/other"), "other").unwrap();
    fs::hard_link(workspace.join("src/other"), workspace.join("twin")).unwrap();
    symlink("nowhere", workspace.join("link")).unwrap();
    fs::write(workspace.join("data"), vec![7; 100_000]).unwrap();
    Fixture {
        place: Place::new(directory.path(), true),
        _directory: directory,
    }
}

fn read(place: &Place, path: &str) -> String {
    fs::read_to_string(place.workspace.join(path)).unwrap()
}

#[test]
fn what_no_snapshot_has_is_saved_before_it_is_replaced() {
    let Fixture { place, .. } = &fixture();
    let first = place.save();
    fs::write(place.workspace.join("src/deep/main"), "two").unwrap();
    fs::write(place.workspace.join("new"), "new").unwrap();
    let unsaved = place.entries();
    match place.restore(first.id, &[], Unsaved::Refuse) {
        // The file, the new one, and the root, whose time has changed.
        Err(OperationError::Unsaved { changes: 3 }) => {}
        other => panic!("{other:?}"),
    }
    assert_same(&unsaved, &place.entries());
    let restored = place.restore(first.id, &[], Unsaved::Save).unwrap();
    assert_eq!(read(place, "src/deep/main"), "one");
    assert!(!place.workspace.join("new").exists());
    let safety = restored.safety.unwrap();
    let again = place.restore(safety, &[], Unsaved::Save).unwrap();
    assert_eq!(again.safety, None);
    assert_same(&unsaved, &place.entries());
    // Thrown away, because somebody says so.
    fs::write(place.workspace.join("new"), "lost").unwrap();
    let restored = place.restore(first.id, &[], Unsaved::Discard).unwrap();
    assert_eq!(restored.safety, None);
}

#[test]
fn paths_are_restored_alone() {
    let Fixture { place, .. } = &fixture();
    let first = place.save();
    fs::write(place.workspace.join("src/deep/main"), "two").unwrap();
    fs::write(place.workspace.join("src/other"), "changed").unwrap();
    fs::remove_file(place.workspace.join("data")).unwrap();
    place.restore(first.id, &["src/deep"], Unsaved::Save).unwrap();
    assert_eq!(read(place, "src/deep/main"), "one");
    assert_eq!(read(place, "src/other"), "changed");
    assert!(!place.workspace.join("data").exists());
    // A name of a file whose first name is not asked for becomes a file of its own.
    place.restore(first.id, &["twin"], Unsaved::Save).unwrap();
    assert_eq!(
        (read(place, "twin"), read(place, "src/other")),
        ("other".into(), "changed".into())
    );
    // A path whose directory has gone.
    fs::remove_dir_all(place.workspace.join("src")).unwrap();
    place
        .restore(first.id, &["src/deep/main"], Unsaved::Save)
        .unwrap();
    assert_eq!(read(place, "src/deep/main"), "one");
    assert!(!place.workspace.join("src/other").exists());
}

#[test]
fn a_partial_snapshot_holds_and_restores_its_paths_only() {
    let Fixture { place, .. } = &fixture();
    let mut request = SaveRequest::new(String::new());
    request.paths = vec![
        RelativePath::new(b"src").unwrap(),
        RelativePath::new(b"src/deep").unwrap(),
    ];
    let saved = place.try_save(&request).unwrap();
    assert_eq!(saved.paths.unwrap().paths, [RelativePath::new(b"src").unwrap()]);
    fs::write(place.workspace.join("src/deep/main"), "two").unwrap();
    fs::write(place.workspace.join("data"), "kept").unwrap();
    place.restore(saved.id, &[], Unsaved::Save).unwrap();
    assert_eq!(
        (read(place, "src/deep/main"), read(place, "data")),
        ("one".into(), "kept".into())
    );
    assert!(matches!(
        place.restore(saved.id, &["data"], Unsaved::Save),
        Err(OperationError::NotHeld { .. })
    ));
    request.paths = vec![RelativePath::new(b"src/none").unwrap()];
    assert!(matches!(
        place.try_save(&request),
        Err(OperationError::NoPath { .. })
    ));
}

#[test]
fn kinds_change_and_change_back() {
    let Fixture { place, .. } = &fixture();
    let first = place.save();
    let before = place.entries();
    fs::remove_dir_all(place.workspace.join("src")).unwrap();
    fs::write(place.workspace.join("src"), "a file now").unwrap();
    fs::remove_file(place.workspace.join("link")).unwrap();
    fs::create_dir_all(place.workspace.join("link/a/b")).unwrap();
    fs::write(place.workspace.join("link/a/b/c"), "").unwrap();
    let second = place.save();
    let after = place.entries();
    place.restore(first.id, &[], Unsaved::Refuse).unwrap();
    assert_same(&before, &place.entries());
    place.restore(second.id, &[], Unsaved::Refuse).unwrap();
    assert_same(&after, &place.entries());
}

#[test]
fn what_is_ignored_stays() {
    let Fixture { place, .. } = &fixture();
    fs::write(place.workspace.join(".jvsignore"), "*.tmp\n/cache/\n").unwrap();
    let first = place.save();
    fs::create_dir(place.workspace.join("cache")).unwrap();
    fs::write(place.workspace.join("cache/entry"), "c").unwrap();
    fs::create_dir(place.workspace.join("added")).unwrap();
    fs::write(place.workspace.join("added/x.tmp"), "t").unwrap();
    fs::write(place.workspace.join("added/y"), "y").unwrap();
    let restored = place.restore(first.id, &[], Unsaved::Save).unwrap();
    assert_eq!(read(place, "cache/entry"), "c");
    assert_eq!(read(place, "added/x.tmp"), "t");
    assert!(!place.workspace.join("added/y").exists());
    assert_eq!(restored.kept, [RelativePath::new(b"added").unwrap()]);
}

#[test]
fn attributes_alone_are_put_back_in_place() {
    let Fixture { place, .. } = &fixture();
    let first = place.save();
    let data = place.workspace.join("data");
    let inode = fs::metadata(&data).unwrap().ino();
    let before = place.entries();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o4711)).unwrap();
    let restored = place.restore(first.id, &[], Unsaved::Save).unwrap();
    assert_eq!((restored.totals.changed, restored.totals.bytes), (1, 0));
    assert_same(&before, &place.entries());
    assert_eq!(fs::metadata(&data).unwrap().ino(), inode);
}

#[test]
fn a_request_that_changes_nothing_makes_no_snapshot() {
    let Fixture { place, .. } = &fixture();
    let first = place.save();
    let mut request = SaveRequest::new(String::new());
    request.skip_unchanged = true;
    let saved = cairn_snapshot::operations::save::save(
        &place.repository,
        &cairn_snapshot::engine::Tools::default(),
        &request,
        &Progress::new(),
    );
    match saved.unwrap().0 {
        cairn_snapshot::operations::save::Saved::Unchanged(id) => assert_eq!(id, first.id),
        other => panic!("{other:?}"),
    }
    fs::write(place.workspace.join("data"), "changed").unwrap();
    place.try_save(&request).unwrap();
}

#[test]
fn all_names_of_a_changed_file_come_back() {
    let Fixture { place, .. } = &fixture();
    let first = place.save();
    let before = place.entries();
    // In place: both names see it.
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(place.workspace.join("twin"))
        .unwrap();
    std::io::Write::write_all(&mut file, b" and more").unwrap();
    place.restore(first.id, &[], Unsaved::Save).unwrap();
    assert_same(&before, &place.entries());
}

#[test]
fn what_is_ignored_now_is_not_overwritten() {
    let Fixture { place, .. } = &fixture();
    fs::write(place.workspace.join("a.log"), "old").unwrap();
    let first = place.save();
    fs::write(place.workspace.join(".jvsignore"), "*.log\n").unwrap();
    fs::write(place.workspace.join("a.log"), "newer, and in no snapshot").unwrap();
    place.save();
    place.restore(first.id, &[], Unsaved::Save).unwrap();
    assert_eq!(read(place, "a.log"), "newer, and in no snapshot");
}

#[test]
fn what_the_workspace_does_not_allow_is_told_and_blocks_nothing() {
    let Fixture { place, .. } = &fixture();
    fs::write(place.workspace.join("build"), "a file").unwrap();
    let first = place.save();
    fs::remove_file(place.workspace.join("build")).unwrap();
    fs::write(place.workspace.join(".jvsignore"), "build/\n").unwrap();
    fs::create_dir(place.workspace.join("build")).unwrap();
    fs::write(place.workspace.join("build/output"), "ignored").unwrap();
    fs::write(place.workspace.join("data"), "changed").unwrap();
    let restored = place.restore(first.id, &[], Unsaved::Save);
    assert!(
        restored.is_ok() || matches!(restored, Err(OperationError::Incomplete { .. })),
        "{restored:?}"
    );
    assert_eq!(read(place, "build/output"), "ignored");
    assert_eq!(fs::metadata(place.workspace.join("data")).unwrap().len(), 100_000);
    place.save();
}

#[test]
fn a_target_that_cannot_be_written_whole_is_removed_and_others_are_not() {
    let Fixture { place, _directory } = &fixture();
    let first = place.save();
    fs::remove_file(
        place
            .control
            .join("snapshots")
            .join(first.id.to_string())
            .join("data"),
    )
    .unwrap();
    let target = _directory.path().join("target");
    let failed = materialize(&place.repository, first.id, &[], &target, &Progress::new());
    assert!(
        matches!(failed, Err(OperationError::Payload { .. })),
        "{failed:?}"
    );
    assert!(!target.exists());
    let second = place.save();
    let control = _directory.path().join("somebody's");
    fs::create_dir(&control).unwrap();
    fs::write(control.join("precious"), "p").unwrap();
    let tools = cairn_snapshot::engine::Tools::default();
    let forked = fork(
        &place.repository,
        &tools,
        second.id,
        &target,
        Some(&control),
        &Progress::new(),
    );
    assert!(forked.is_err());
    assert!(control.join("precious").exists() && !target.exists());
}
