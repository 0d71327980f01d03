//! What cannot be kept is told, what must not be there is removed, and a disk that is full is an error.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use cairn_snapshot::directory::place::{Before, LOSS_PATHS_MAX, Way};
use cairn_snapshot::directory::{
    Attributes, Losses, PlaceOptions, Placer, RelativePath, Walk, WalkError, WalkOptions, Xattr,
};
use cairn_types::{DeviceNumber, ErrorKind, FileKind, Timestamp};

use crate::filesystems::{self, Kind};
use crate::{forest, replica};

fn path(text: &str) -> RelativePath {
    RelativePath::new(text.as_bytes()).unwrap()
}

fn attributes(kind: FileKind, mode: u16) -> Attributes {
    Attributes {
        kind,
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        modified: Timestamp::new(1_000_000_000, 123_456_789),
        size: 0,
        device: DeviceNumber::default(),
        xattrs: Vec::new(),
    }
}

fn placer(root: &Path) -> Placer {
    let root: OwnedFd = File::open(root).unwrap().into();
    Placer::new(root, PlaceOptions::default()).unwrap()
}

/// Runs the test of that name again as a user without rights, if we are root. Returns whether the test is done by that.
fn done_as_nobody(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    // The program must be readable for that user.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let output = Command::new(&program)
        .args(["--exact", test, "--nocapture"])
        .env("TMPDIR", directory.path())
        .current_dir(directory.path())
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(told.contains("1 passed"), "{told}");
    true
}

#[test]
fn without_rights_what_is_lost_is_told() {
    if done_as_nobody("losing::without_rights_what_is_lost_is_told") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let placer = placer(directory.path());
    let foreign = |kind, mode| Attributes {
        uid: 12_345,
        ..attributes(kind, mode)
    };
    for number in 0..LOSS_PATHS_MAX + 2 {
        let name = path(&format!("f{number:02}"));
        let file = placer.file(&name).unwrap();
        placer
            .file_attributes(
                &name,
                file.as_fd(),
                &foreign(FileKind::Regular, 0o644),
                Before::New,
            )
            .unwrap();
    }
    let name = path("setuid");
    let file = placer.file(&name).unwrap();
    placer
        .file_attributes(
            &name,
            file.as_fd(),
            &foreign(FileKind::Regular, 0o4755),
            Before::New,
        )
        .unwrap();
    let name = path("trusted");
    let file = placer.file(&name).unwrap();
    let xattr = |name: &str| Xattr {
        name: name.into(),
        value: b"x".to_vec(),
    };
    let mut with_xattrs = attributes(FileKind::Regular, 0o400);
    with_xattrs.xattrs = vec![xattr("trusted.x"), xattr("user.x")];
    placer
        .file_attributes(&name, file.as_fd(), &with_xattrs, Before::New)
        .unwrap();
    // A second time, when it may not be written any more.
    with_xattrs.xattrs = vec![xattr("user.y")];
    placer.attributes(&name, &with_xattrs, Before::Old).unwrap();
    let mut device = attributes(FileKind::CharacterDevice, 0o600);
    device.device = DeviceNumber { major: 1, minor: 3 };
    assert!(!placer.special(&path("device"), &device).unwrap());

    let losses = placer.losses();
    assert_eq!(losses.owner.entries, LOSS_PATHS_MAX as u64 + 3);
    assert_eq!(losses.owner.paths.len(), LOSS_PATHS_MAX);
    assert_eq!(losses.owner.paths[0], path("f00"));
    assert_eq!(
        (losses.mode.entries, &losses.mode.paths[..]),
        (1, &[path("setuid")][..])
    );
    assert_eq!(
        (losses.xattrs.entries, &losses.xattrs.paths[..]),
        (1, &[path("trusted")][..])
    );
    assert_eq!(
        (losses.special.entries, &losses.special.paths[..]),
        (1, &[path("device")][..])
    );
    assert_eq!(losses.times.entries, 0);
    let mode = |name: &str| {
        fs::metadata(directory.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (mode("setuid"), mode("trusted"), mode("f00")),
        (0o755, 0o400, 0o644)
    );
    let found = replica::entries(&File::open(directory.path()).unwrap());
    let kept = found.iter().find(|entry| entry.path == name).unwrap();
    assert_eq!(kept.attributes.xattrs, vec![xattr("user.y")]);

    let mut twice = losses.clone();
    twice.merge(&losses);
    assert_eq!(
        (twice.owner.entries, twice.owner.paths.len()),
        (2 * losses.owner.entries, LOSS_PATHS_MAX)
    );
}

#[test]
fn a_directory_that_may_not_be_read_is_an_error_with_its_path() {
    if done_as_nobody("losing::a_directory_that_may_not_be_read_is_an_error_with_its_path") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "closed", "z"] {
        fs::create_dir(directory.path().join(name)).unwrap();
        fs::write(directory.path().join(name).join("f"), "").unwrap();
    }
    let closed = directory.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
    let root = File::open(directory.path()).unwrap();
    let found: Vec<_> = Walk::new(&root, WalkOptions::default()).unwrap().collect();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let told: Vec<String> = found
        .iter()
        .map(|found| match found {
            Ok(found) => found.path.to_string(),
            Err(error) => {
                assert!(matches!(error, WalkError::Directory { .. }));
                assert_eq!(error.kind(), ErrorKind::Denied);
                format!("!{}", error.path())
            }
        })
        .collect();
    assert_eq!(told, [".", "a", "a/f", "closed", "!closed", "z", "z/f"]);
}

#[test]
fn what_was_there_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let placer = placer(directory.path());
    let name = path("f");
    let file = placer.file(&name).unwrap();
    let xattr = |name: &str, value: &str| Xattr {
        name: name.into(),
        value: value.into(),
    };
    let mut first = attributes(FileKind::Regular, 0o640);
    let list = Xattr {
        name: b"system.posix_acl_access".to_vec(),
        value: forest::access_list(0o640),
    };
    first.xattrs = vec![list, xattr("user.a", "1"), xattr("user.b", "2")];
    placer
        .file_attributes(&name, file.as_fd(), &first, Before::New)
        .unwrap();
    let mut second = attributes(FileKind::Regular, 0o400);
    second.xattrs = vec![xattr("user.b", "3"), xattr("user.c", "4")];
    placer.attributes(&name, &second, Before::Old).unwrap();
    assert_eq!(placer.losses(), Losses::default());
    let found = replica::entries(&File::open(directory.path()).unwrap());
    assert_eq!(found[1].attributes, second);
}

#[test]
fn owners_are_left_alone_where_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let root: OwnedFd = File::open(directory.path()).unwrap().into();
    let placer = Placer::new(root, PlaceOptions { keep_own_owner: true }).unwrap();
    let name = path("f");
    let file = placer.file(&name).unwrap();
    let own = attributes(FileKind::Regular, 0o644);
    let foreign = Attributes {
        uid: 12_345,
        gid: 12_345,
        ..own.clone()
    };
    placer
        .file_attributes(&name, file.as_fd(), &foreign, Before::New)
        .unwrap();
    assert_eq!(placer.losses(), Losses::default());
    let found = replica::entries(&File::open(directory.path()).unwrap());
    assert_eq!(found[1].attributes, own);
}

#[test]
fn lists_of_the_root_are_not_inherited() {
    for mounted in filesystems::every() {
        let to = mounted.path().join("to");
        let from = mounted.path().join("from");
        fs::create_dir(&to).unwrap();
        fs::create_dir_all(from.join("d/e")).unwrap();
        fs::write(from.join("d/e/f"), "x").unwrap();
        fs::write(from.join("f"), "x").unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, from.join("fifo"), fifo, 0o640.into(), 0).unwrap();
        let list = forest::access_list(0o750);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&to, "system.posix_acl_default", &list, flags).unwrap();
        // Also the group of what is made would be that of the root.
        chown(&to, None, Some(77)).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o2755)).unwrap();
        let from = File::open(&from).unwrap();
        let entries = replica::entries(&from);
        let target = File::open(&to).unwrap();
        let (losses, _) = replica::write(&from, &entries[1..], &target, Way::Copy).unwrap();
        assert_eq!(losses, Losses::default());
        let copied = replica::entries(&target);
        assert_eq!(
            replica::differences(&entries[1..], &copied[1..]),
            Vec::<String>::new()
        );
    }
}

#[test]
fn times_that_a_file_system_cannot_keep_are_told() {
    // Until 2446 (ext4 with inodes of 256 bytes).
    let Some(mounted) = filesystems::mount(Kind::Ext4, 32) else {
        return;
    };
    let placer = placer(mounted.path());
    let name = path("f");
    let file = placer.file(&name).unwrap();
    let far = Attributes {
        modified: Timestamp::new(20_000_000_000, 0),
        ..attributes(FileKind::Regular, 0o600)
    };
    placer
        .file_attributes(&name, file.as_fd(), &far, Before::New)
        .unwrap();
    assert_eq!(placer.losses().times.paths, [name]);
    let name = path("g");
    let file = placer.file(&name).unwrap();
    placer
        .file_attributes(
            &name,
            file.as_fd(),
            &attributes(FileKind::Regular, 0o600),
            Before::New,
        )
        .unwrap();
    assert_eq!(placer.losses().times.entries, 1);
}

#[test]
fn an_attribute_that_does_not_fit_is_a_loss_and_a_full_disk_is_none() {
    let Some(mounted) = filesystems::mount(Kind::Ext4, 32) else {
        return;
    };
    let placer = placer(mounted.path());
    let name = path("f");
    let file = placer.file(&name).unwrap();
    let mut large = attributes(FileKind::Regular, 0o600);
    large.xattrs = vec![Xattr {
        name: b"user.large".to_vec(),
        value: vec![1; 60_000],
    }];
    placer
        .file_attributes(&name, file.as_fd(), &large, Before::New)
        .unwrap();
    assert_eq!(placer.losses().xattrs.paths, [name]);

    let mut source = tempfile::tempfile().unwrap();
    source.write_all(&vec![7; 40 << 20]).unwrap();
    let name = path("too large");
    let file = placer.file(&name).unwrap();
    let error = placer
        .data(&name, source.as_fd(), file.as_fd(), 40 << 20, &[], Way::Clone)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!(error.path, name);
}
