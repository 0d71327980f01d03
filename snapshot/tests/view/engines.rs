//! What is mounted is what was saved, whatever engine keeps it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use cairn_fuse::Unmounted;
use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::{Body, Entry};
use cairn_snapshot::engine::{EngineKind, Tools};
use cairn_snapshot::operations::save::{SaveRequest, Saved, save};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rustix::fs::{SeekFrom, seek};

use crate::filesystems::{self, Kind, Mounted};
use crate::forest;
use crate::place::{Place, assert_same};
use crate::shown::{Shown, can_mount};

/// A workspace with a tree of every kind of entry, and its repository.
fn planted(mounted: &Mounted, entries: usize) -> Place {
    let base = mounted.path().join("base");
    fs::create_dir(&base).unwrap();
    let workspace = base.join("workspace");
    match mounted.kind {
        Kind::Btrfs => {
            let made = Command::new("btrfs")
                .args(["-q", "subvolume", "create"])
                .arg(&workspace)
                .status();
            assert!(made.unwrap().success());
        }
        Kind::Tmpfs | Kind::Ext4 | Kind::Xfs => fs::create_dir(&workspace).unwrap(),
    }
    let mut runner = TestRunner::deterministic();
    let plan = forest::forests(entries, true)
        .new_tree(&mut runner)
        .unwrap()
        .current();
    let root = File::open(&workspace).unwrap();
    forest::build(&root, &plan, mounted.kind.target_bytes_max());
    // Names in many directories, one of them with a subtree between its entries.
    for number in 0..30 {
        let directory = workspace.join(format!("many/{number}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("file"), format!("{number}").repeat(number * 40)).unwrap();
    }
    fs::hard_link(
        workspace.join("many/3/file"),
        workspace.join("many/29/other name"),
    )
    .unwrap();
    Place::new(&base, false)
}

/// Every name has the inode number, and the number of names, that its file should have; every entry is found by `find`, not only listed.
fn check_numbers(expected: &[Entry], root: &Path) {
    let mut numbers = BTreeMap::new();
    let mut names: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in expected {
        let metadata = fs::symlink_metadata(root.join(OsStr::from_bytes(entry.path.as_bytes()))).unwrap();
        let number = match &entry.body {
            Body::Link(to) => numbers[to],
            _ => metadata.ino(),
        };
        assert_eq!(metadata.ino(), number, "{}", entry.path);
        numbers.insert(entry.path.clone(), number);
        *names.entry(number).or_default() += 1;
    }
    for entry in expected {
        let metadata = fs::symlink_metadata(root.join(OsStr::from_bytes(entry.path.as_bytes()))).unwrap();
        assert_eq!(metadata.nlink(), names[&metadata.ino()], "{}", entry.path);
    }
}

fn compare(mounted: &Mounted, engine: EngineKind) {
    let place = planted(mounted, 60);
    let expected = place.entries();
    let mut request = SaveRequest::new(String::new());
    request.engine = Some(engine);
    let tools = Tools::find(&std::env::var_os("PATH").unwrap(), None);
    let saved = save(&place.repository, &tools, &request, &Progress::new()).unwrap();
    let Saved::New(descriptor) = saved.0 else {
        panic!("{saved:?}");
    };
    assert_eq!(descriptor.engine.used, engine.text());
    // What comes later is not seen.
    fs::write(place.workspace.join("later"), "later").unwrap();
    let shown = Shown::of(&place, &descriptor);
    assert!(shown.view.is_leased());
    assert_same(&expected, &shown.entries());
    check_numbers(&expected, &shown.path());
    // Once more, out of what the kernel has kept.
    assert_same(&expected, &shown.entries());
    refuses_changes(&shown.path());
    assert_eq!(shown.end(), Unmounted::Clean);
}

fn refuses_changes(root: &Path) {
    let refused = |error: std::io::Error| assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    refused(fs::write(root.join("new"), "new").unwrap_err());
    refused(fs::create_dir(root.join("new")).unwrap_err());
    refused(fs::remove_dir_all(root.join("many/7")).unwrap_err());
    refused(fs::rename(root.join("many/7"), root.join("many/a")).unwrap_err());
    refused(fs::write(root.join("many/7/file"), "new").unwrap_err());
    // Nor if somebody makes the mount writable: then it is the tree itself that refuses.
    let remounted = Command::new("mount")
        .args(["-i", "-o", "remount,rw"])
        .arg(root)
        .status();
    if remounted.is_ok_and(|status| status.success()) {
        refused(fs::write(root.join("new"), "new").unwrap_err());
        refused(fs::create_dir(root.join("new")).unwrap_err());
        refused(fs::remove_file(root.join("many/7/file")).unwrap_err());
        refused(fs::hard_link(root.join("many/7/file"), root.join("new")).unwrap_err());
        refused(std::os::unix::fs::symlink("a", root.join("new")).unwrap_err());
        refused(fs::rename(root.join("many/7"), root.join("many/a")).unwrap_err());
        // The kernel opens files by itself; to write is what it asks about.
        let opened = File::options().write(true).open(root.join("many/7/file"));
        refused(opened.and_then(|file| file.write_at(b"new", 0)).unwrap_err());
        let permissions = fs::metadata(root).unwrap().permissions();
        refused(fs::set_permissions(root, permissions).unwrap_err());
    }
}

#[test]
fn copies_and_archives_are_shown_as_they_were_saved() {
    let (true, Some(mounted)) = (can_mount(), filesystems::mount(Kind::Tmpfs, 512)) else {
        return;
    };
    compare(&mounted, EngineKind::Copy);
    fs::remove_dir_all(mounted.path().join("base")).unwrap();
    compare(&mounted, EngineKind::Archive);
}

#[test]
fn clones_are_shown_as_they_were_saved() {
    if let (true, Some(mounted)) = (can_mount(), filesystems::mount(Kind::Xfs, 512)) {
        compare(&mounted, EngineKind::ReflinkCopy);
    }
}

#[test]
fn subvolumes_are_shown_as_they_were_saved() {
    if let (true, Some(mounted)) = (can_mount(), filesystems::mount(Kind::Btrfs, 512)) {
        compare(&mounted, EngineKind::BtrfsSubvolume);
    }
}

#[test]
fn files_are_read_anywhere_and_in_any_order() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let workspace = directory.path().join("workspace");
    fs::create_dir(&workspace).unwrap();
    let data = forest::bytes_at(3, 0, 9_000_001);
    let file = File::create(workspace.join("f")).unwrap();
    file.write_all_at(&data, 0).unwrap();
    // A hole between data and data, and one at the end.
    file.write_all_at(b"end", 20 << 20).unwrap();
    file.set_len(30 << 20).unwrap();
    fs::write(workspace.join("empty"), "").unwrap();
    let place = Place::new(directory.path(), false);
    for engine in [EngineKind::Copy, EngineKind::Archive] {
        let shown = Shown::of(&place, &place.save_with(engine));
        let file = File::open(shown.path().join("f")).unwrap();
        let mut state = 5_u64;
        for _ in 0..200 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let offset = (state >> 20) % (31 << 20);
            let mut found = vec![1; ((state >> 50) % 9000) as usize];
            let read = file.read_at(&mut found, offset).unwrap();
            let rest = (30_u64 << 20).saturating_sub(offset);
            assert_eq!(read as u64, rest.min(found.len() as u64));
            for (at, byte) in found[..read].iter().enumerate() {
                let at = offset as usize + at;
                let in_end = at.checked_sub(20 << 20).and_then(|at| b"end".get(at));
                assert_eq!(byte, data.get(at).or(in_end).unwrap_or(&0), "at {at}");
            }
        }
        assert_eq!(fs::read(shown.path().join("empty")).unwrap(), b"");
        // Holes are where they were, by lseek(2).
        let original = File::open(workspace.join("f")).unwrap();
        for offset in [
            0,
            4096,
            9_000_000,
            12 << 20,
            20 << 20,
            (20 << 20) + 9000,
            (30 << 20) - 1,
        ] {
            for at in [SeekFrom::Data(offset), SeekFrom::Hole(offset)] {
                assert_eq!(seek(&file, at).ok(), seek(&original, at).ok(), "{at:?}");
            }
        }
        let blocks = file.metadata().unwrap().blocks();
        assert!((9_000_001 / 512..12_000_000 / 512).contains(&blocks), "{blocks}");
        // It is in use: taken off all the same.
        assert_eq!(shown.end(), Unmounted::InUse);
    }
}
