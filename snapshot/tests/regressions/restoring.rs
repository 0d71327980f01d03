//! What a restore does to the workspace, and to who is in it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use cairn_snapshot::operations::OperationError;
use cairn_snapshot::operations::restore::Unsaved;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mknodat};

use crate::filesystems::{Kind, mount};
use crate::place::{Place, assert_same};
use crate::site::Site;

#[test]
fn a_restored_part_is_no_change() {
    let site = Site::new();
    site.write("sub/deep/a", "one");
    site.write("other/b", "one");
    let first = site.place.save().id;
    site.write("sub/deep/a", "two");
    site.write("other/b", "two");
    let second = site.place.save().id;
    site.place
        .restore(first, &["sub/deep/a"], Unsaved::Refuse)
        .unwrap();
    site.place.restore(first, &["other"], Unsaved::Refuse).unwrap();
    // Parts of parts: the last one counts.
    site.place.restore(second, &["other/b"], Unsaved::Refuse).unwrap();
    let restored = site.place.restore(second, &[], Unsaved::Save).unwrap();
    assert_eq!(restored.safety, None);
    assert_eq!(
        (site.read("sub/deep/a"), site.read("other/b")),
        ("two".into(), "two".into())
    );
    // What somebody did to a part, or beside it, is one.
    for name in ["sub/deep/a", "sub/deep/new", "sub/new"] {
        site.place
            .restore(first, &["sub/deep/a"], Unsaved::Discard)
            .unwrap();
        site.write(name, "by somebody");
        let restored = site.place.restore(second, &[], Unsaved::Save).unwrap();
        assert!(restored.safety.is_some(), "{name}");
    }
    site.place
        .restore(first, &["sub/deep/a"], Unsaved::Discard)
        .unwrap();
    fs::set_permissions(
        site.path("sub"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    assert!(matches!(
        site.place.restore(second, &[], Unsaved::Refuse),
        Err(OperationError::Unsaved { changes: 1 })
    ));
}

#[test]
fn who_is_in_the_workspace_stays_in_it() {
    let site = Site::new();
    site.write("a", "one");
    site.write("d/b", "one");
    let first = site.place.save().id;
    site.write("a", "two");
    site.place.save();
    let root = fs::metadata(&site.place.workspace).unwrap().ino();
    let directory = fs::metadata(site.path("d")).unwrap().ino();
    let mut inside = Command::new("sh")
        .args(["-c", "read line; cat a"])
        .current_dir(&site.place.workspace)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    site.place.restore(first, &[], Unsaved::Refuse).unwrap();
    drop(inside.stdin.take());
    assert_eq!(inside.wait_with_output().unwrap().stdout, b"one");
    assert_eq!(fs::metadata(&site.place.workspace).unwrap().ino(), root);
    assert_eq!(fs::metadata(site.path("d")).unwrap().ino(), directory);
}

#[test]
fn a_workspace_that_is_a_mount_point_is_restored() {
    for kind in [Kind::Ext4, Kind::Tmpfs] {
        let Some(mounted) = mount(kind, 32) else { return };
        let elsewhere = tempfile::tempdir().unwrap();
        let workspace = mounted.path().to_owned();
        for control in [None, Some(elsewhere.path().join("control"))] {
            let parts = crate::place::parts();
            let repository =
                cairn_snapshot::repository::Repository::init(&workspace, control.as_deref(), parts).unwrap();
            let place = Place {
                control: control.unwrap_or_else(|| workspace.join(".jvs")),
                workspace: workspace.clone(),
                repository,
            };
            fs::create_dir(workspace.join("d")).unwrap();
            fs::write(workspace.join("d/a"), "one").unwrap();
            let (first, before) = (place.save().id, place.entries());
            fs::remove_dir_all(workspace.join("d")).unwrap();
            fs::write(workspace.join("b"), "two").unwrap();
            place.restore(first, &[], Unsaved::Save).unwrap();
            assert_same(&before, &place.entries());
            fs::remove_dir_all(workspace.join("d")).unwrap();
            if place.control.starts_with(&workspace) {
                fs::remove_dir_all(&place.control).unwrap();
            }
        }
    }
}

#[test]
fn nothing_is_left_beside_the_workspace() {
    let site = Site::new();
    site.write("a", "one");
    let first = site.place.save().id;
    site.write("a", "two");
    site.place.restore(first, &[], Unsaved::Save).unwrap();
    let names = fs::read_dir(site.directory.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["control", "workspace"]);
    assert_eq!(fs::read_dir(&site.place.workspace).unwrap().count(), 1);
}

#[test]
fn an_old_state_can_be_saved() {
    let site = Site::new();
    site.write("a", "one");
    let first = site.place.save();
    site.write("a", "two");
    let second = site.place.save();
    site.place.restore(first.id, &[], Unsaved::Refuse).unwrap();
    site.write("a", "three");
    let third = site.place.save();
    assert_eq!(
        (third.parent, third.restored_from),
        (Some(second.id), Some(first.id))
    );
    assert_eq!(site.place.repository.snapshot_ids().unwrap().len(), 3);
}

/// Mounts something on a path; unmounted when it is dropped.
struct Mount(std::path::PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Makes a path unchangeable (chattr(1)), until it is dropped; nothing where that is not possible.
struct Immutable(std::path::PathBuf);

impl Immutable {
    fn new(path: std::path::PathBuf) -> Option<Self> {
        let set = Command::new("chattr")
            .arg("+i")
            .arg(&path)
            .stderr(Stdio::null())
            .status();
        set.is_ok_and(|status| status.success())
            .then_some(Immutable(path))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn refused_steps_are_told_and_the_others_are_taken() {
    let Some(mounted) = mount(Kind::Ext4, 64) else {
        return;
    };
    let workspace = mounted.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    let write = |name: &str, text: &str| {
        let path = workspace.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for name in ["a", "fixed", "held/b", "sealed/c", "sealed/gone", "z"] {
        write(name, "one");
    }
    let place = Place::new(mounted.path(), false);
    let first = place.save().id;
    for name in ["a", "fixed", "sealed/c", "z"] {
        write(name, "two");
    }
    fs::remove_file(workspace.join("sealed/gone")).unwrap();
    write("surplus/d", "two");
    // A mount point where a directory is to go, unchangeable files and directories, a directory with what is ignored where a file is to be.
    fs::remove_dir_all(workspace.join("held")).unwrap();
    fs::create_dir(workspace.join("later")).unwrap();
    let on = workspace.join("later");
    let bound = Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(&on)
        .status();
    assert!(bound.unwrap().success());
    let _mount = Mount(on);
    let fixed = Immutable::new(workspace.join("fixed"));
    let sealed = Immutable::new(workspace.join("sealed"));
    assert!(fixed.is_some() && sealed.is_some(), "ext4 has unchangeable files");
    let refused = match place.restore(first, &[], Unsaved::Save) {
        Err(OperationError::Incomplete {
            refused,
            safety: Some(_),
            ..
        }) => refused,
        other => panic!("{other:?}"),
    };
    assert!(refused >= 3, "{refused} steps were refused");
    let read = |name: &str| fs::read_to_string(workspace.join(name)).unwrap();
    assert_eq!(
        (read("a"), read("z"), read("held/b")),
        ("one".into(), "one".into(), "one".into())
    );
    assert_eq!((read("fixed"), read("sealed/c")), ("two".into(), "two".into()));
    assert!(!workspace.join("surplus").exists() && workspace.join("later").is_dir());
    // It blocks nothing, and when it is put right the same restore does the rest.
    place.save();
    drop((fixed, sealed));
    let restored = place.restore(first, &[], Unsaved::Save).unwrap();
    assert_eq!(
        (read("fixed"), read("sealed/c"), read("sealed/gone")),
        ("one".into(), "one".into(), "one".into())
    );
    assert!(restored.safety.is_none(), "it was saved before");
}

/// Somebody who opens a directory of the workspace, and what is made there by others meanwhile, is no matter for the next restore.
#[test]
fn what_appears_in_the_way_is_moved_aside_and_not_lost() {
    let site = Site::new();
    site.write("config", "a file");
    let first = site.place.save().id;
    fs::remove_file(site.path("config")).unwrap();
    site.write(".jvsignore", "*.log\n");
    site.write("config/keep.log", "ignored, and dear to somebody");
    let kind = rustix::fs::FileType::Fifo;
    mknodat(
        CWD,
        site.path("config/fifo.log"),
        kind,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .unwrap();
    let held = rustix::fs::open(site.path("config"), OFlags::PATH, Mode::empty()).unwrap();
    let restored = site.place.restore(first, &[], Unsaved::Save).unwrap();
    assert_eq!(site.read("config"), "a file");
    assert_eq!(restored.kept.len(), 1);
    let aside = site.path(restored.kept[0].to_string().as_str());
    assert!(aside.join("keep.log").exists() && aside.join("fifo.log").symlink_metadata().is_ok());
    rustix::fs::statat(&held, "keep.log", AtFlags::empty()).unwrap();
}
