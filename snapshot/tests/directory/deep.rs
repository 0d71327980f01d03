//! Trees deeper than any path that a call takes, and wider than what is kept open.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use cairn_snapshot::directory::place::Way;
use cairn_snapshot::directory::{Losses, Walk, WalkOptions};
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use crate::replica;

/// More than `PATH_MAX` of names, and more levels than are kept open.
const LEVELS: usize = 600;
/// The directory in each.
const NAME: &str = "mmmmmmmmmm";

/// Removes what std cannot, for it keeps every level open.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = Command::new("rm").arg("-rf").arg("--").arg(self.0).status();
    }
}

#[test]
fn deep_trees_are_walked_and_written() {
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().join("from");
    let to = directory.path().join("to");
    let _removed = (Removed(&from), Removed(&to));
    std::fs::create_dir(&from).unwrap();
    std::fs::create_dir(&to).unwrap();
    let root = File::open(&from).unwrap();
    let mut at: OwnedFd = root.try_clone().unwrap().into();
    let file = |directory: &OwnedFd, name: &str| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        drop(openat(directory, name, flags, Mode::from_raw_mode(0o640)).unwrap());
    };
    for _ in 0..LEVELS {
        // On both sides of the directory, so that every level is come back to.
        file(&at, "a");
        file(&at, "z");
        mkdirat(&at, NAME, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, NAME, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    for threads in 0..2 {
        let walk = Walk::new(
            &root,
            WalkOptions {
                threads,
                ..WalkOptions::default()
            },
        )
        .unwrap();
        let found: Vec<_> = walk.map(Result::unwrap).collect();
        assert_eq!(found.len(), 3 * LEVELS + 1);
        assert!(found.is_sorted_by(|a, b| a.path < b.path));
        // Held by nobody but us, beyond what is kept open.
        for found in found
            .iter()
            .filter(|found| found.path.name() == b"z")
            .step_by(100)
        {
            found.open().unwrap();
        }
    }
    let entries = replica::entries(&root);
    let target = File::open(&to).unwrap();
    let (losses, _) = replica::write(&root, &entries, &target, Way::Copy).unwrap();
    assert_eq!(losses, Losses::default());
    assert_eq!(
        replica::differences(&entries, &replica::entries(&target)),
        Vec::<String>::new()
    );
}
