//! Btrfs: snapshots of subvolumes, with the control directory in them or as a subvolume of its own.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use cairn_snapshot::directory::{Skip, WalkOptions};
use cairn_snapshot::engine::btrfs::Btrfs;
use cairn_snapshot::engine::{EngineError, EngineKind, choose};

use crate::filesystems::{self, Kind, Mounted};
use crate::forest;
use crate::site::{Workspace, later, path};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// A Btrfs with a workspace that is a subvolume.
fn workspace() -> Option<(Mounted, Workspace)> {
    let mounted = filesystems::mount(Kind::Btrfs, 512)?;
    let at = mounted.path().join("w");
    subvolume(&at);
    Some((mounted, Workspace::new(at)))
}

fn subvolume(path: &Path) {
    let made = Command::new("btrfs")
        .args(["-q", "subvolume", "create"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

fn fill(workspace: &Workspace) {
    let mut runner = TestRunner::deterministic();
    let plan = forest::forests(200, true)
        .new_tree(&mut runner)
        .unwrap()
        .current();
    let root = File::open(&workspace.path).unwrap();
    forest::build(&root, &plan, Kind::Btrfs.target_bytes_max());
}

#[test]
fn a_snapshot_has_everything_but_the_control_directory() {
    let Some((_mounted, workspace)) = workspace() else {
        return;
    };
    fill(&workspace);
    let there = workspace.entries();
    let choice = workspace
        .with_site(|site| choose(site, None, &workspace.tools))
        .unwrap();
    assert_eq!(
        (choice.used, choice.degraded.len()),
        (EngineKind::BtrfsSubvolume, 0)
    );
    let taken = workspace
        .take_by(EngineKind::BtrfsSubvolume, "1", None, later(), Workspace::walk())
        .unwrap();
    taken.expect(&there);
    assert_eq!((taken.captured.left_out, taken.captured.vanished), (1, 0));
    workspace.seal("1");
    let refused = fs::write(taken.path.join("new"), "data").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // The stamps are those of the workspace.
    fs::write(workspace.path.join("new"), "data").unwrap();
    let files = taken.manifest.summary().counts.files;
    let second = workspace
        .take_by(
            EngineKind::BtrfsSubvolume,
            "2",
            Some(&taken.manifest),
            later(),
            Workspace::walk(),
        )
        .unwrap();
    assert_eq!(second.captured.reused_files, files);
    second.expect(&workspace.entries());
    let copied = workspace
        .take_by(
            EngineKind::Copy,
            "3",
            Some(&second.manifest),
            later(),
            Workspace::walk(),
        )
        .unwrap();
    assert_eq!(copied.captured.reused_files, files + 1);
    for name in ["1", "2", "3"] {
        workspace.remove(name);
    }
}

#[test]
fn a_control_directory_can_be_a_subvolume() {
    let Some((_mounted, workspace)) = workspace() else {
        return;
    };
    fs::remove_dir_all(workspace.path.join(".jvs")).unwrap();
    let root = File::open(&workspace.path).unwrap();
    let control = workspace.path.join(".jvs");
    let tool = Btrfs::new(workspace.tools.btrfs.clone().unwrap());
    tool.create(root.as_fd(), OsStr::new(".jvs"), &control).unwrap();
    fs::create_dir(workspace.staging()).unwrap();
    fill(&workspace);
    let taken = workspace.take(EngineKind::BtrfsSubvolume, "taken").unwrap();
    taken.expect(&workspace.entries());
    // Moved into place as any directory is.
    fs::create_dir(control.join("snapshots")).unwrap();
    fs::rename(&taken.path, control.join("snapshots/id")).unwrap();
    let error = tool
        .create(root.as_fd(), OsStr::new(".jvs"), &control)
        .unwrap_err();
    assert!(matches!(error, EngineError::Tool { .. }), "{error}");
}

#[test]
fn what_is_ignored_goes_and_directories_keep_their_times() {
    let Some((_mounted, workspace)) = workspace() else {
        return;
    };
    for directory in 0..20 {
        let at = workspace.path.join(format!("{directory}/target/deep"));
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("object"), "data").unwrap();
        fs::write(workspace.path.join(format!("{directory}/source")), "data").unwrap();
    }
    let rule = |path: &cairn_snapshot::directory::RelativePath| {
        path.as_bytes() == b".jvs" || path.name() == b"target"
    };
    let walk = WalkOptions {
        skip: Some(std::sync::Arc::new(move |path, _| match rule(path) {
            true => Skip::LeaveOut,
            false => Skip::Keep,
        })),
        ..Workspace::walk()
    };
    let taken = workspace
        .take_by(EngineKind::BtrfsSubvolume, "taken", None, later(), walk)
        .unwrap();
    let mut there = workspace.entries();
    there.retain(|entry| !entry.path.as_bytes().windows(7).any(|part| part == b"/target"));
    taken.expect(&there);
    assert_eq!(taken.captured.left_out, 21);
}

#[test]
fn other_subvolumes_are_not_lost_in_silence() {
    let Some((_mounted, workspace)) = workspace() else {
        return;
    };
    subvolume(&workspace.path.join("inner"));
    fs::write(workspace.path.join("inner/file"), "data").unwrap();
    let error = workspace.take(EngineKind::BtrfsSubvolume, "taken").unwrap_err();
    assert!(
        matches!(&error, EngineError::Foreign { path: at } if *at == path("inner")),
        "{error}"
    );
    assert!(error.is_of_engine());
    workspace.remove("taken");
    let next = workspace.with_site(|site| {
        let choice = choose(site, None, &workspace.tools).unwrap();
        choice.degrade(&error, site, &workspace.tools).unwrap()
    });
    assert_eq!(next.used, EngineKind::ReflinkCopy);
    assert!(
        next.degraded[0]
            .reason
            .starts_with("inner is a file system or subvolume of its own")
    );
    let taken = workspace.take(next.used, "taken").unwrap();
    taken.expect(&workspace.entries());
    // Whoever wants one file system only gets that.
    let walk = WalkOptions {
        one_file_system: true,
        ..Workspace::walk()
    };
    let taken = workspace
        .take_by(EngineKind::BtrfsSubvolume, "one", None, later(), walk)
        .unwrap();
    assert_eq!(taken.captured.other_file_systems, 1);
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let Some((_mounted, workspace)) = workspace() else {
        return;
    };
    fs::create_dir(workspace.staging().join("taken")).unwrap();
    let error = workspace.take(EngineKind::BtrfsSubvolume, "taken").unwrap_err();
    assert!(matches!(error, EngineError::Exists { .. }), "{error}");
    assert_eq!(
        fs::read_dir(workspace.staging().join("taken")).unwrap().count(),
        0
    );
}
