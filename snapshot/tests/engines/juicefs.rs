//! JuiceFS: the real one, and programs in its place that refuse, fail and lie.
//!
//! The real one is looked for on `PATH`. Without it the tests that need it say so and are left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cairn_snapshot::directory::{Body, Skip, WalkOptions};
use cairn_snapshot::engine::{EngineError, EngineKind, Tools, choose};
use cairn_types::FileKind;

use crate::site::{Workspace, executable, later, path};

/// A program that clones as the real one does: refuses what exists, keeps everything but that files are one.
const BEHAVES: &str = r#"#!/bin/sh
[ "$1" = clone ] && [ "$4" = -p ] || exit 2
[ -e "$3" ] && { echo "$3 already exists" >&2; exit 1; }
exec cp -a --no-preserve=links "$2" "$3"
"#;
/// Says that all is well, and has left out the last file.
const LIES: &str = r#"#!/bin/sh
cp -a "$2" "$3"; rm -f "$3/deep/last"; [ ! -e "$3/deep" ] || touch -r "$2/deep" "$3/deep"
"#;
/// Has cut a file, and kept its times.
const CUTS: &str = r#"#!/bin/sh
cp -a "$2" "$3"; [ -e "$3/deep/last" ] || exit 0
truncate -s 1 "$3/deep/last"; touch -r "$2/deep/last" "$3/deep/last"
"#;
/// Has not kept the times.
const FORGETS: &str = "#!/bin/sh\ncp -r \"$2\" \"$3\"\n";
const FAILS: &str = "#!/bin/sh\necho 'no such function' >&2\nexit 3\n";

/// A workspace whose `juicefs` is a script.
fn workspace(place: &Path, script: &str) -> Workspace {
    let mut workspace = Workspace::new(place.join("w"));
    workspace.tools = Tools {
        juicefs: Some(place.join("juicefs")),
        btrfs: None,
    };
    executable(&place.join("juicefs"), script);
    let deep = workspace.path.join("top/deep");
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(workspace.path.join("empty")).unwrap();
    for name in ["first", "last"] {
        fs::write(deep.join(name), name).unwrap();
    }
    fs::hard_link(deep.join("first"), deep.join("second")).unwrap();
    std::os::unix::fs::symlink("nowhere", deep.join("symlink")).unwrap();
    fs::write(workspace.path.join("file at the top"), "data").unwrap();
    // Long before any capture.
    for at in ["top/deep", "top", "empty"] {
        let made = Command::new("touch")
            .args(["-d", "2001-02-03"])
            .arg(workspace.path.join(at))
            .status();
        assert!(made.unwrap().success());
    }
    workspace
}

fn take(workspace: &Workspace) -> Result<crate::site::Taken, EngineError> {
    workspace.take_by(
        EngineKind::JuicefsClone,
        "taken",
        None,
        later(),
        Workspace::walk(),
    )
}

#[test]
fn a_clone_is_held_against_the_workspace() {
    let place = tempfile::tempdir().unwrap();
    let workspace = workspace(place.path(), BEHAVES);
    let there = workspace.entries();
    let taken = take(&workspace).unwrap();
    taken.expect_listed(&there);
    assert_eq!(taken.captured.cloned_files, 4);
    let kept: Vec<_> = taken
        .entries()
        .into_iter()
        .map(|entry| (entry.path, entry.attributes))
        .collect();
    let asked: Vec<_> = there
        .into_iter()
        .map(|entry| (entry.path, entry.attributes))
        .collect();
    assert_eq!(kept, asked);
    assert!(taken.records().iter().all(|record| record.stamp.is_some()));
    let again = workspace
        .take_by(
            EngineKind::JuicefsClone,
            "again",
            Some(&taken.manifest),
            later(),
            Workspace::walk(),
        )
        .unwrap();
    assert_eq!(again.captured.reused_files, 3);
}

#[test]
fn what_is_ignored_is_not_kept() {
    let place = tempfile::tempdir().unwrap();
    let workspace = workspace(place.path(), BEHAVES);
    let walk = WalkOptions {
        skip: Some(std::sync::Arc::new(|path, _| {
            match path.as_bytes() == b".jvs" || path.name() == b"last" || path.name() == b"empty" {
                true => Skip::LeaveOut,
                false => Skip::Keep,
            }
        })),
        ..Workspace::walk()
    };
    let taken = workspace
        .take_by(EngineKind::JuicefsClone, "taken", None, later(), walk)
        .unwrap();
    let mut there = workspace.entries();
    there.retain(|entry| entry.path.name() != b"last" && entry.path.name() != b"empty");
    taken.expect_listed(&there);
    assert!(!taken.path.join("top/deep/last").exists() && !taken.path.join("empty").exists());
    let kept: Vec<_> = taken
        .entries()
        .into_iter()
        .map(|entry| (entry.path, entry.attributes))
        .collect();
    let asked: Vec<_> = there
        .into_iter()
        .map(|entry| (entry.path, entry.attributes))
        .collect();
    assert_eq!(kept, asked);
}

#[test]
fn programs_that_fail_or_lie_are_found_out() {
    for (script, word) in [
        (FAILS, "no such function"),
        (LIES, "top/deep/last is missing in the clone"),
        (CUTS, "top/deep/last has another size"),
        (FORGETS, "another time of modification"),
        ("#!/bin/sh\nexit 0\n", "is missing in the clone"),
        ("#!/nonexistent\n", "cannot be started"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let workspace = workspace(place.path(), script);
        let error = take(&workspace).unwrap_err();
        assert!(
            matches!(error, EngineError::Tool { .. }) && error.is_of_engine(),
            "{error}"
        );
        assert!(error.to_string().contains(word), "{error}");
        workspace.remove("taken");
    }
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let workspace = workspace(place.path(), BEHAVES);
    fs::create_dir(workspace.staging().join("taken")).unwrap();
    assert!(matches!(
        take(&workspace).unwrap_err(),
        EngineError::Exists { .. }
    ));
}

#[test]
fn what_changes_after_the_clone_is_no_lie() {
    let place = tempfile::tempdir().unwrap();
    // Somebody writes while the program runs, after it has copied.
    let busy = r#"#!/bin/sh
cp -a --no-preserve=links "$2" "$3" || exit 1
case "$2" in *top) ;; *) exit 0;; esac
echo longer than before > "$2/deep/last"; rm "$2/deep/symlink"; mkdir "$2/new"; mv "$2/deep/second" "$2/new/moved"
"#;
    let workspace = workspace(place.path(), busy);
    let taken = workspace.take(EngineKind::JuicefsClone, "taken").unwrap();
    let records = taken.records();
    let find = |name: &str| records.iter().find(|record| record.entry.path == path(name));
    let last = find("top/deep/last").unwrap();
    assert_eq!((last.entry.attributes.size, last.stamp), (4, None));
    assert!(
        matches!(&find("top/deep/symlink").unwrap().entry.body, Body::Symlink(target) if target == b"nowhere")
    );
    assert!(find("top/new").is_none() && find("top/new/moved").is_none());
    assert_eq!(
        find("top/deep/second").unwrap().entry.attributes.kind,
        FileKind::Regular
    );
}

/// A mounted JuiceFS, its metadata in a Badger database and its data in a directory.
struct Mounted {
    program: PathBuf,
    place: tempfile::TempDir,
}

impl Mounted {
    fn new() -> Option<Self> {
        // `make test` builds one in the cache.
        let cache = Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/cairn/juicefs");
        let path = std::env::var_os("PATH").unwrap();
        let paths = std::env::join_paths(std::env::split_paths(&path).chain([cache])).unwrap();
        let found = Tools::find(&paths, None).juicefs;
        let Some(program) = found.filter(|_| rustix::process::geteuid().is_root()) else {
            let told = "no program juicefs on PATH, or not root: nothing was tried with the real one";
            assert!(
                std::env::var_os("CI").is_none(),
                "{told}; `xtask/scripts/deps.sh tests` builds one"
            );
            eprintln!("SKIPPED: {told}");
            return None;
        };
        let place = tempfile::tempdir().unwrap();
        for directory in ["data", "mounted"] {
            fs::create_dir(place.path().join(directory)).unwrap();
        }
        let mounted = Mounted { program, place };
        let store = format!("{}/", mounted.place.path().join("data").display());
        mounted.run(&[
            "format",
            "--storage",
            "file",
            "--bucket",
            &store,
            "--no-update",
            &mounted.meta(),
            "test",
        ]);
        let point = mounted.place.path().join("mounted");
        let cache = mounted.place.path().join("cache").display().to_string();
        mounted.run(&[
            "mount",
            "-d",
            "--no-usage-report",
            "--cache-dir",
            &cache,
            "--log",
            &mounted.place.path().join("log").display().to_string(),
            &mounted.meta(),
            &point.display().to_string(),
        ]);
        Some(mounted)
    }

    fn meta(&self) -> String {
        format!("badger://{}", self.place.path().join("meta").display())
    }

    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "{arguments:?}");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.place.path().join("mounted"))
            .status();
    }
}

#[test]
fn the_real_one_clones() {
    let Some(mounted) = Mounted::new() else { return };
    let behaving = workspace(&mounted.place.path().join("mounted"), "#!/bin/sh\n");
    let workspace = Workspace {
        tools: Tools {
            juicefs: Some(mounted.program.clone()),
            btrfs: None,
        },
        ..behaving
    };
    let there = workspace.entries();
    let choice = workspace
        .with_site(|site| choose(site, None, &workspace.tools))
        .unwrap();
    assert_eq!(choice.used, EngineKind::JuicefsClone);
    let taken = take(&workspace).unwrap();
    taken.expect_listed(&there);
    assert_eq!(fs::read(taken.path.join("top/deep/last")).unwrap(), b"last");
    let data = |entries: Vec<cairn_snapshot::directory::Entry>| -> Vec<_> {
        entries
            .into_iter()
            .map(|entry| (entry.path, entry.attributes))
            .collect()
    };
    assert_eq!(data(taken.entries()), data(there));
    workspace.remove("taken");
}
