//! Removing trees: deep, closed, shared, mounted over.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat};

use super::{Removed, remove_tree};
use crate::archive::Progress;
use crate::engine::EngineError;

fn remove(parent: &Path, name: &str) -> Result<Removed, EngineError> {
    let fd = fs::File::open(parent).unwrap();
    remove_tree(
        fd.as_fd(),
        OsStr::new(name),
        &parent.join(name),
        2,
        &Progress::new(),
    )
}

#[test]
fn everything_goes_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let kept = place.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "data").unwrap();
    let tree = place.path().join("tree");
    for directory in 0..20 {
        let directory = tree.join(format!("{directory}/closed/empty"));
        fs::create_dir_all(&directory).unwrap();
        let closed = directory.parent().unwrap();
        for file in 0..50 {
            fs::write(closed.join(format!("{file}")), "data").unwrap();
        }
        symlink(&kept, closed.join("elsewhere")).unwrap();
        fs::hard_link(kept.join("file"), closed.join("shared")).unwrap();
        fs::set_permissions(closed, fs::Permissions::from_mode(0o0)).unwrap();
    }
    let removed = remove(place.path(), "tree").unwrap();
    assert_eq!(
        removed,
        Removed {
            directories: 61,
            files: 20 * 52
        }
    );
    assert!(!tree.exists());
    assert_eq!(fs::read(kept.join("file")).unwrap(), b"data");
    assert_eq!(remove(place.path(), "tree").unwrap(), Removed::default());
    assert_eq!(
        remove(&kept, "file").unwrap(),
        Removed {
            directories: 0,
            files: 1
        }
    );
}

#[test]
fn depth_costs_no_descriptors() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("tree")).unwrap();
    let mut level = fs::File::open(place.path().join("tree")).unwrap();
    for _ in 0..3000 {
        mkdirat(&level, c"a name of some length", Mode::RWXU).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        level = openat(&level, c"a name of some length", flags, Mode::empty())
            .unwrap()
            .into();
    }
    drop(level);
    assert_eq!(
        remove(place.path(), "tree").unwrap(),
        Removed {
            directories: 3001,
            files: 0
        }
    );
}

#[test]
fn a_mount_is_not_entered() {
    let place = tempfile::tempdir().unwrap();
    let inner = place.path().join("tree/inner");
    fs::create_dir_all(&inner).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "cairn"])
        .arg(&inner)
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "mounting needs root");
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    fs::write(inner.join("file"), "data").unwrap();
    let error = remove(place.path(), "tree").unwrap_err();
    let survived = fs::read(inner.join("file"));
    let unmounted = std::process::Command::new("umount").arg(&inner).status().unwrap();
    assert!(
        matches!(&error, EngineError::MountPoint { path } if *path == inner),
        "{error}"
    );
    assert_eq!(survived.unwrap(), b"data");
    assert!(unmounted.success());
    remove(place.path(), "tree").unwrap();
}

#[test]
fn it_stops_when_asked() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("tree")).unwrap();
    fs::write(place.path().join("tree/file"), "data").unwrap();
    let progress = Progress::new();
    progress.cancel();
    let fd = fs::File::open(place.path()).unwrap();
    let error = remove_tree(fd.as_fd(), OsStr::new("tree"), Path::new("tree"), 2, &progress).unwrap_err();
    assert!(matches!(error, EngineError::Cancelled));
    assert!(rustix::fs::statat(&fd, c"tree/file", AtFlags::empty()).is_ok());
}
