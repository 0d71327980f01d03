//! The walk: order, completeness, what is left out, what changes meanwhile.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use cairn_snapshot::directory::walk::WalkCounts;
use cairn_snapshot::directory::{RelativePath, Skip, Walk, WalkOptions};
use cairn_types::FileKind;

use crate::filesystems::{self, Kind};

fn path(text: &str) -> RelativePath {
    RelativePath::new(text.as_bytes()).unwrap()
}

fn walked(root: &std::path::Path, options: WalkOptions) -> (Vec<String>, Arc<WalkCounts>) {
    let root = fs::File::open(root).unwrap();
    let walk = Walk::new(&root, options).unwrap();
    let counts = walk.counts();
    let paths = walk.map(|found| found.unwrap().path.to_string()).collect();
    (paths, counts)
}

fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for directory in ["a", "a/b", "a.b", "empty"] {
        fs::create_dir(root.path().join(directory)).unwrap();
    }
    for file in ["a/b/f", "a/b.c", "a.b/g", "z", "a b", "new\nline"] {
        fs::write(root.path().join(file), file).unwrap();
    }
    symlink("nowhere", root.path().join("a/dangling")).unwrap();
    symlink("a", root.path().join("link")).unwrap();
    root
}

#[test]
fn every_entry_once_in_path_order() {
    let root = tree();
    let expected = [
        ".",
        "a",
        "a/b",
        "a/b/f",
        "a/b.c",
        "a/dangling",
        "a b",
        "a.b",
        "a.b/g",
        "empty",
        "link",
        "new\nline",
        "z",
    ];
    for threads in 0..3 {
        let (paths, counts) = walked(
            root.path(),
            WalkOptions {
                threads,
                ..WalkOptions::default()
            },
        );
        assert_eq!(paths, expected);
        assert_eq!((counts.vanished(), counts.left_out()), (0, 0));
    }
}

#[test]
fn what_is_left_out_and_what_is_included() {
    let root = tree();
    let skip: WalkOptions = WalkOptions {
        skip: Some(Arc::new(|path, kind| match (path.name(), kind) {
            (b"b", FileKind::Directory) | (b"z", FileKind::Regular) => Skip::LeaveOut,
            _ => Skip::Keep,
        })),
        ..WalkOptions::default()
    };
    let (paths, counts) = walked(root.path(), skip);
    assert_eq!(counts.left_out(), 2);
    assert!(
        !paths
            .iter()
            .any(|path| path.starts_with("a/b/") || path == "z" || path == "a/b")
    );
    assert!(paths.iter().any(|path| path == "a/b.c"));

    let include = Some(vec![path("a/b"), path("z"), path("missing/x")]);
    let (paths, _) = walked(
        root.path(),
        WalkOptions {
            include,
            ..WalkOptions::default()
        },
    );
    assert_eq!(paths, [".", "a", "a/b", "a/b/f", "z"]);
}

#[test]
fn found_entries_give_their_data_targets_and_nothing_else() {
    let root = tree();
    let handle = fs::File::open(root.path()).unwrap();
    for found in Walk::new(&handle, WalkOptions::default()).unwrap() {
        let found = found.unwrap();
        assert!(
            found
                .xattrs()
                .unwrap()
                .iter()
                .all(|xattr| xattr.name.starts_with(b"security."))
        );
        match found.kind() {
            FileKind::Regular => {
                let text = std::io::read_to_string(fs::File::from(found.open().unwrap())).unwrap();
                assert_eq!(text, found.path.to_string());
                assert!(found.read_link().is_err());
            }
            FileKind::Symlink => {
                assert!(found.open().is_err());
                let target = found.read_link().unwrap();
                assert_eq!(target.len() as u64, found.attributes.size);
                assert!(target == b"nowhere" || target == b"a");
            }
            _ => assert!(found.open().is_err() && found.directory().is_some()),
        }
    }
}

#[test]
fn other_file_systems_are_entered_or_not() {
    let Some(mounted) = filesystems::mount(Kind::Tmpfs, 1) else {
        return;
    };
    fs::write(mounted.path().join("elsewhere"), "").unwrap();
    // The mount point is below a directory of its own.
    let above = mounted.path().parent().unwrap();
    let walk = |one_file_system| {
        walked(
            above,
            WalkOptions {
                one_file_system,
                ..WalkOptions::default()
            },
        )
    };
    let (paths, counts) = walk(false);
    assert_eq!(paths, [".", "mounted", "mounted/elsewhere"]);
    assert_eq!(counts.other_file_systems(), 0);
    let (paths, counts) = walk(true);
    assert_eq!(paths, [".", "mounted"]);
    assert_eq!(counts.other_file_systems(), 1);
}

#[test]
fn a_walk_can_be_left_before_its_end() {
    let root = tempfile::tempdir().unwrap();
    // More than what waits for the caller.
    for number in 0..6000 {
        fs::write(root.path().join(format!("{number}")), "").unwrap();
    }
    let handle = fs::File::open(root.path()).unwrap();
    let mut walk = Walk::new(
        &handle,
        WalkOptions {
            threads: 1,
            ..WalkOptions::default()
        },
    )
    .unwrap();
    assert!(walk.next().unwrap().unwrap().path.is_root());
    // The thread is waited for: a thread that waits for us would be waited for without end.
    drop(walk);
    // The position in a directory is that of the walk: another starts at the beginning.
    let count = || Walk::new(&handle, WalkOptions::default()).unwrap().count();
    assert_eq!((count(), count()), (6001, 6001));
}
