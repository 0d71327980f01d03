//! What the file system keeps of a file is kept: each thing that the Go tools lost.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use cairn_snapshot::engine::EngineKind;
use cairn_snapshot::operations::restore::Unsaved;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, setxattr, utimensat,
};

use crate::site::{Site, comes_back, empty, work};

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root can make this");
        assert!(std::env::var("CI").is_err(), "the tests must run as root");
    }
    root
}

#[test]
fn modes_are_kept_whatever_the_umask() {
    let site = Site::new();
    for mode in [0o777, 0o4755, 0o2755, 0o1777, 0o6711, 0o000, 0o400] {
        let (file, directory) = (site.path(&format!("f{mode:o}")), site.path(&format!("d{mode:o}")));
        fs::write(&file, "x").unwrap();
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode | 0o700)).unwrap();
    }
    let before = site.place.entries();
    // In a process of its own: the umask is one for all threads.
    let masked = |order: &str| {
        let shell = ["sh", "-c", "umask 077; exec \"$@\"", "sh"];
        let status = work(&shell, &site.place.control, order)
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    };
    for engine in ["copy", "archive"] {
        masked(&format!("save {engine}"));
        let saved = site.place.repository.state().unwrap().last.unwrap();
        empty(&site.place.workspace);
        masked(&format!("restore {saved}"));
        crate::place::assert_same(&before, &site.place.entries());
    }
}

#[test]
fn times_of_directories_and_links_are_kept() {
    let site = Site::new();
    site.write("d/e/f", "x");
    symlink("d/e/f", site.path("link")).unwrap();
    for (number, name) in ["d/e/f", "d/e", "d", "link"].into_iter().enumerate() {
        let time = Timespec {
            tv_sec: 1_000_000_000 + number as i64,
            tv_nsec: 123_456_789,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, site.path(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    comes_back(&site);
    let link = fs::symlink_metadata(site.path("link")).unwrap();
    assert_eq!((link.mtime(), link.mtime_nsec()), (1_000_000_003, 123_456_789));
    let modified = fs::metadata(site.path("d/e")).unwrap().modified().unwrap();
    assert_eq!(
        modified.duration_since(UNIX_EPOCH).unwrap(),
        Duration::new(1_000_000_001, 123_456_789)
    );
}

#[test]
fn owners_are_kept() {
    if !is_root() {
        return;
    }
    let site = Site::new();
    site.write("d/f", "x");
    symlink("f", site.path("d/l")).unwrap();
    chown(site.path("d/f"), Some(1234), Some(4321)).unwrap();
    chown(site.path("d"), Some(77), Some(0)).unwrap();
    std::os::unix::fs::lchown(site.path("d/l"), Some(5), Some(6)).unwrap();
    comes_back(&site);
    let file = fs::metadata(site.path("d/f")).unwrap();
    assert_eq!((file.uid(), file.gid()), (1234, 4321));
}

#[test]
fn attributes_and_access_lists_are_kept() {
    let site = Site::new();
    site.write("f", "x");
    fs::create_dir(site.path("d")).unwrap();
    let set = |name: &str, attribute: &str, value: &[u8]| {
        setxattr(site.path(name), attribute, value, XattrFlags::empty())
    };
    set("f", "user.a", b"value").unwrap();
    set("d", "user.b", &[0, 255, 10]).unwrap();
    // Version 2: the owner rwx, user 1234 r, the group r, the mask r, others none; and the same for what is made in the directory.
    let entries: [(u16, u16, u32); 5] = [
        (1, 7, u32::MAX),
        (2, 4, 1234),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 0, u32::MAX),
    ];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    set("f", "system.posix_acl_access", &list).unwrap();
    set("d", "system.posix_acl_default", &list).unwrap();
    comes_back(&site);
    let mut found = [0u8; 256];
    let length = rustix::fs::getxattr(site.path("f"), "system.posix_acl_access", &mut found[..]).unwrap();
    assert_eq!(found[..length], list);
}

#[test]
fn holes_stay_holes() {
    let site = Site::new();
    let file = File::create(site.path("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    file.write_all_at(b"in the middle", 512 << 20).unwrap();
    drop(file);
    // What a file takes up is known when it is written.
    File::open(site.path("sparse")).unwrap().sync_all().unwrap();
    comes_back(&site);
    for engine in [EngineKind::Copy, EngineKind::Archive] {
        let saved = site.place.save_with(engine).id;
        let kept = site
            .place
            .control
            .join("snapshots")
            .join(saved.to_string())
            .join("sparse");
        if engine == EngineKind::Copy {
            assert!(fs::metadata(kept).unwrap().blocks() < 2048);
        }
        empty(&site.place.workspace);
        site.place.restore(saved, &[], Unsaved::Discard).unwrap();
        let back = fs::metadata(site.path("sparse")).unwrap();
        assert_eq!(back.len(), 1 << 30);
        assert!(back.blocks() < 2048, "{} blocks", back.blocks());
    }
}

#[test]
fn hard_links_stay_one_file() {
    let site = Site::new();
    site.write("a/first", "one file");
    fs::create_dir(site.path("b")).unwrap();
    fs::hard_link(site.path("a/first"), site.path("b/second")).unwrap();
    fs::hard_link(site.path("a/first"), site.path("third")).unwrap();
    comes_back(&site);
    let inode = |name| fs::metadata(site.path(name)).unwrap().ino();
    assert!(inode("a/first") == inode("b/second") && inode("b/second") == inode("third"));
    assert_eq!(fs::metadata(site.path("third")).unwrap().nlink(), 3);
}

#[test]
fn fifos_sockets_and_devices_are_not_opened() {
    let site = Site::new();
    let make =
        |name: &str, kind, device| mknodat(CWD, site.path(name), kind, Mode::RUSR | Mode::WUSR, device);
    make("fifo", FileType::Fifo, 0).unwrap();
    let _listening = std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap();
    if is_root() {
        // A tape: that it is there is unlikely, and opening it would fail.
        make("tape", FileType::CharacterDevice, rustix::fs::makedev(9, 250)).unwrap();
    }
    // Opened, a fifo without a writer would hold this up for ever.
    comes_back(&site);
}

#[test]
fn what_is_in_read_only_directories_is_kept() {
    let site = Site::new();
    site.write("outer/inner/file", "x");
    for name in ["outer/inner", "outer"] {
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o555)).unwrap();
    }
    if rustix::process::geteuid().is_root() {
        return comes_back(&site);
    }
    // Who is not root cannot empty the workspace before: something changes instead.
    let before = site.place.entries();
    let saved = site.place.save().id;
    fs::set_permissions(site.path("outer"), fs::Permissions::from_mode(0o755)).unwrap();
    site.place.restore(saved, &[], Unsaved::Discard).unwrap();
    crate::place::assert_same(&before, &site.place.entries());
}

#[test]
fn dangling_links_are_no_obstacle() {
    let site = Site::new();
    symlink("nowhere/at/all", site.path("dangling")).unwrap();
    symlink("loop", site.path("loop")).unwrap();
    symlink("/etc", site.path("elsewhere")).unwrap();
    symlink(
        std::ffi::OsStr::new(&"x".repeat(4095)),
        site.path("as long as can be"),
    )
    .unwrap();
    comes_back(&site);
    let name = CString::new("dangling").unwrap();
    assert_eq!(
        fs::read_link(site.path(name.to_str().unwrap())).unwrap().to_str(),
        Some("nowhere/at/all")
    );
}
