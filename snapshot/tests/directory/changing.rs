//! Trees that a workload changes while they are walked, read and written: nothing outside is ever reached, and nothing waits for ever.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::place::{Before, OPEN_DIRECTORIES_MAX};
use cairn_snapshot::directory::read::{ATTEMPTS, read_steadily, summarize};
use cairn_snapshot::directory::walk::OPEN_HANDLES_MAX;
use cairn_snapshot::directory::{
    Body, PlaceOptions, Placer, RelativePath, Skip, TreeError, TreeOptions, Walk, WalkOptions, read_tree,
};
use cairn_types::{ErrorKind, FileKind};
use rustix::fs::inotify;

use crate::replica;

fn path(text: &str) -> RelativePath {
    RelativePath::new(text.as_bytes()).unwrap()
}

/// A tree `tree` with a directory `d` in it, and a directory `outside` with a secret.
fn places() -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("tree/d")).unwrap();
    fs::write(base.path().join("tree/d/a"), "inside").unwrap();
    fs::write(base.path().join("tree/d/secret"), "inside").unwrap();
    fs::create_dir(base.path().join("outside")).unwrap();
    fs::write(base.path().join("outside/secret"), "outside").unwrap();
    base
}

/// Puts a link to the directory outside where the directory `d` is.
fn swap(base: &Path) {
    fs::rename(base.join("tree/d"), base.join("moved")).unwrap();
    symlink(base.join("outside"), base.join("tree/d")).unwrap();
}

/// Walks while `act` is called once, when `at` is looked at.
fn walk_acting(base: &Path, at: &str, act: impl Fn(&Path) + Send + Sync + 'static) -> Walk {
    let root = File::open(base.join("tree")).unwrap();
    let (at, base) = (path(at), base.to_path_buf());
    let acted = AtomicBool::new(false);
    let skip = move |path: &RelativePath, _: FileKind| {
        if *path == at && !acted.swap(true, Ordering::Relaxed) {
            act(&base);
        }
        Skip::Keep
    };
    Walk::new(
        &root,
        WalkOptions {
            skip: Some(Arc::new(skip)),
            ..WalkOptions::default()
        },
    )
    .unwrap()
}

#[test]
fn a_directory_swapped_for_a_link_before_it_is_entered_is_a_link() {
    let base = places();
    let found: Vec<_> = walk_acting(base.path(), "d", swap).map(Result::unwrap).collect();
    let kinds: Vec<_> = found
        .iter()
        .map(|found| (found.path.to_string(), found.kind()))
        .collect();
    assert_eq!(
        kinds,
        [(".".into(), FileKind::Directory), ("d".into(), FileKind::Symlink)]
    );
}

#[test]
fn a_directory_swapped_for_a_link_while_it_is_walked_stays_itself() {
    let base = places();
    let mut read = 0;
    for found in walk_acting(base.path(), "d/a", swap) {
        let found = found.unwrap();
        if found.kind() == FileKind::Regular {
            let mut text = String::new();
            File::from(found.open().unwrap())
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "inside");
            read += 1;
        }
    }
    assert_eq!(read, 2);
}

#[test]
fn entries_held_for_long_do_not_follow_a_link_either() {
    let base = places();
    // More directories than are kept open, all before `d`.
    for number in 0..OPEN_HANDLES_MAX + 10 {
        fs::create_dir(base.path().join(format!("tree/b{number}"))).unwrap();
        fs::write(base.path().join(format!("tree/b{number}/f")), "inside").unwrap();
    }
    let root = File::open(base.path().join("tree")).unwrap();
    let all: Vec<_> = Walk::new(&root, WalkOptions::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let files: Vec<_> = all
        .iter()
        .filter(|found| found.kind() == FileKind::Regular)
        .collect();
    for file in &files {
        file.open().unwrap();
        file.xattrs().unwrap();
    }
    swap(base.path());
    let (secrets, others): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| file.path.as_bytes().starts_with(b"d/"));
    others.iter().for_each(|file| drop(file.open().unwrap()));
    for secret in secrets {
        assert!(secret.open().is_err(), "another directory stands there");
        assert!(secret.xattrs().is_err());
    }
}

#[test]
fn what_vanishes_is_left_out_and_counted() {
    let base = places();
    let walk = walk_acting(base.path(), "d/a", |base| {
        fs::remove_file(base.join("tree/d/a")).unwrap()
    });
    let counts = walk.counts();
    let paths: Vec<_> = walk.map(|found| found.unwrap().path.to_string()).collect();
    assert_eq!(paths, [".", "d", "d/secret"]);
    assert_eq!(counts.vanished(), 1);

    let base = places();
    let walk = walk_acting(base.path(), "d", |base| {
        fs::remove_dir_all(base.join("tree/d")).unwrap()
    });
    let counts = walk.counts();
    assert_eq!(walk.map(Result::unwrap).count(), 1);
    assert_eq!(counts.vanished(), 1);
}

#[test]
fn a_file_that_another_took_the_place_of_is_not_opened() {
    let base = places();
    let root = File::open(base.path().join("tree")).unwrap();
    let found: Vec<_> = Walk::new(&root, WalkOptions::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let file = found.iter().find(|found| found.path == path("d/a")).unwrap();
    let name = base.path().join("tree/d/a");
    // Kept, so that its inode is not used again.
    fs::rename(&name, base.path().join("kept")).unwrap();
    fs::write(&name, "inside").unwrap();
    assert_eq!(file.open().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    fs::remove_file(&name).unwrap();
    symlink("../../outside/secret", &name).unwrap();
    assert_eq!(file.open().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    fs::remove_file(&name).unwrap();
    // A fifo without a writer: who waited for one would wait for ever.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &name,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    assert_eq!(file.open().unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn entries_are_never_written_through_a_link() {
    let base = places();
    let root: OwnedFd = File::open(base.path().join("tree")).unwrap().into();
    let placer = Placer::new(root, PlaceOptions::default()).unwrap();
    swap(base.path());
    let attempts = |placer: &Placer| {
        assert!(placer.file(&path("d/new")).is_err());
        assert!(placer.directory(&path("d/new")).is_err());
        assert!(placer.symlink(&path("d/new"), b"x").is_err());
        assert!(placer.link(&path("linked"), &path("d/secret")).is_err());
        assert!(placer.directory(&path("d")).is_err());
    };
    attempts(&placer);
    // The link itself gets attributes of a link, and not those of the directory.
    let directory = fs::metadata(base.path().join("outside")).unwrap();
    let mut attributes = replica::entries(&File::open(base.path().join("moved")).unwrap())[0]
        .attributes
        .clone();
    attributes.mode = 0o700;
    let error = placer
        .attributes(&path("d"), &attributes, Before::Old)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(placer.finish_directory(&path("d"), &attributes).is_err());
    let after = fs::metadata(base.path().join("outside")).unwrap();
    assert_eq!(directory.permissions(), after.permissions());

    // A directory that was made, is kept open no more, and was swapped.
    placer.directory(&path("e")).unwrap();
    for number in 0..=OPEN_DIRECTORIES_MAX {
        placer.directory(&path(&format!("many{number}"))).unwrap();
    }
    fs::remove_dir(base.path().join("tree/e")).unwrap();
    symlink("../outside", base.path().join("tree/e")).unwrap();
    assert!(placer.file(&path("e/new")).is_err());
    let outside: Vec<_> = fs::read_dir(base.path().join("outside")).unwrap().collect();
    assert_eq!(outside.len(), 1);
}

#[test]
fn nothing_is_written_over_what_is_there() {
    let base = places();
    let root: OwnedFd = File::open(base.path().join("tree")).unwrap().into();
    let placer = Placer::new(root, PlaceOptions::default()).unwrap();
    let there = path("d/a");
    for error in [
        placer.file(&there).map(drop).unwrap_err(),
        placer.directory(&there).unwrap_err(),
        placer.symlink(&there, b"x").unwrap_err(),
        placer.link(&there, &path("d/secret")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(error.path, there);
    }
    assert_eq!(fs::read(base.path().join("tree/d/a")).unwrap(), b"inside");
}

/// Whatever is changed at whatever moment.
#[test]
fn a_tree_that_changes_all_the_time_is_read_without_leaving_it() {
    let base = places();
    let root = File::open(base.path().join("tree")).unwrap();
    // A file is empty between being made and being written.
    let states = [b"inside".as_slice(), b""].map(|data| *blake3::hash(data).as_bytes());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (d, moved) = (base.path().join("tree/d"), base.path().join("moved"));
            while !ended.load(Ordering::Relaxed) {
                swap(base.path());
                fs::remove_file(&d).unwrap();
                fs::write(&d, "inside").unwrap();
                fs::remove_file(&d).unwrap();
                fs::rename(&moved, &d).unwrap();
            }
        });
        let mut seen = std::collections::BTreeSet::new();
        let mut failures = Vec::new();
        for round in 0..500 {
            let walk = WalkOptions {
                threads: round % 2,
                ..WalkOptions::default()
            };
            let progress = Progress::new();
            let tree = read_tree(&root, TreeOptions { walk, digests: true }, &progress).unwrap();
            for record in tree {
                // Nothing panics here: the other thread would not end.
                let entry = match record {
                    Ok(record) => record.entry,
                    Err(error) => {
                        failures.push(format!("{error:?}"));
                        continue;
                    }
                };
                let right = match &entry.body {
                    Body::File(body) => body.digest.is_none_or(|digest| states.contains(&digest.0)),
                    Body::Symlink(_) => entry.path == path("d"),
                    _ => entry.attributes.kind == FileKind::Directory,
                };
                if !right {
                    failures.push(format!("{entry:?}"));
                }
                seen.insert(entry.path);
            }
        }
        ended.store(true, Ordering::Relaxed);
        failures.truncate(5);
        assert_eq!(failures, Vec::<String>::new());
        assert!(seen.contains(&path("d")));
    });
}

/// Events of that kind of files in a directory that wait to be read.
fn names_of_events(queue: &OwnedFd) -> Vec<String> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(queue, &mut buffer);
    let mut names = Vec::new();
    while let Ok(event) = reader.next() {
        names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    names
}

#[test]
fn fifos_sockets_and_devices_are_never_opened() {
    let base = places();
    let tree = base.path().join("tree/d");
    for (name, kind) in [
        ("fifo", rustix::fs::FileType::Fifo),
        ("socket", rustix::fs::FileType::Socket),
    ] {
        rustix::fs::mknodat(rustix::fs::CWD, tree.join(name), kind, 0o600.into(), 0).unwrap();
    }
    let queue = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&queue, &tree, inotify::WatchFlags::OPEN).unwrap();
    let root = File::open(base.path().join("tree")).unwrap();
    let entries = replica::entries(&root);
    assert_eq!(entries.len(), 6);
    let mut opened = names_of_events(&queue);
    opened.dedup();
    assert_eq!(
        opened,
        ["a", "secret"],
        "the files are, so that this would be noticed"
    );
}

#[test]
fn a_file_that_keeps_changing_is_torn() {
    let mut file = tempfile::tempfile().unwrap();
    let mut writer = file.try_clone().unwrap();
    file.write_all(b"0").unwrap();
    let mut calls = 0;
    let steady = read_steadily(&file, |state| -> std::io::Result<u64> {
        calls += 1;
        writer.write_all(b"more")?;
        Ok(state.size)
    })
    .unwrap();
    assert!(steady.torn);
    assert_eq!((calls, steady.value), (ATTEMPTS, 9));

    let mut calls = 0;
    let steady = read_steadily(&file, |_| -> std::io::Result<()> {
        calls += 1;
        if calls == 1 {
            writer.write_all(b"more")
        } else {
            Ok(())
        }
    })
    .unwrap();
    assert!(!steady.torn);
    assert_eq!((calls, steady.state.size), (2, 17));

    // A hash of a state that there was.
    let mut first = true;
    let steady = summarize(&file, |_| -> std::io::Result<()> {
        if std::mem::take(&mut first) {
            writer.set_len(5)
        } else {
            Ok(())
        }
    })
    .unwrap();
    assert!(!steady.torn);
    assert_eq!(steady.value.digest.0, *blake3::hash(b"0more").as_bytes());
    // A failure to read is no torn file.
    let failed = read_steadily(file.as_fd(), |_| -> std::io::Result<()> {
        Err(std::io::ErrorKind::Other.into())
    });
    assert!(failed.is_err());
}

#[test]
fn reading_a_tree_can_be_cancelled() {
    let base = places();
    let root = File::open(base.path().join("tree")).unwrap();
    let progress = Progress::new();
    let options = TreeOptions {
        digests: true,
        ..TreeOptions::default()
    };
    let mut tree = read_tree(&root, options, &progress).unwrap();
    assert!(tree.next().unwrap().is_ok());
    progress.cancel();
    assert!(matches!(tree.next(), Some(Err(TreeError::Cancelled))));
    assert!(tree.next().is_none());
}
