//! Which entries rules leave out, and which rule it was.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use cairn_snapshot::directory::ignore::{IgnoreError, IgnoreRules, Reason};
use cairn_snapshot::directory::preview::preview;
use cairn_snapshot::directory::{RelativePath, Walk, WalkError, WalkOptions};

fn path(text: &str) -> RelativePath {
    RelativePath::new(text.as_bytes()).unwrap()
}

fn make(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn options(patterns: &[&str]) -> WalkOptions {
    let rules = IgnoreRules::new(patterns).unwrap();
    WalkOptions {
        ignore: Some(Arc::new(rules)),
        ..WalkOptions::default()
    }
}

fn files(root: &Path, options: WalkOptions) -> Vec<String> {
    let root = File::open(root).unwrap();
    Walk::new(&root, options)
        .unwrap()
        .map(Result::unwrap)
        .filter(|found| found.kind() == cairn_types::FileKind::Regular)
        .map(|found| found.path.to_string())
        .collect()
}

const RULES: &str =
    "# comment\n*.o\n/build/\n!keep.o\ndoc/*.txt\n**/deep/x\n\\#odd\ntrailing \nspaced\\ \ncache\n";

fn tree(root: &Path, name: &str) {
    make(
        root,
        &[
            (name, RULES),
            ("a.o", ""),
            ("keep.o", ""),
            ("build/x", ""),
            ("sub/build/x", ""),
            ("sub/a.o", ""),
            (&format!("sub/{name}"), "!a.o\n*.c\n"),
            ("sub/x.c", ""),
            ("x.c", ""),
            ("doc/a.txt", ""),
            ("doc/sub/a.txt", ""),
            ("one/deep/x", ""),
            ("#odd", ""),
            ("trailing", ""),
            ("spaced ", ""),
            ("sub/cache/keep.o", ""),
            (&format!("sub/cache/{name}"), "!*\n"),
            ("cache.d/f", ""),
        ],
    );
}

#[test]
fn rules_leave_out_what_git_leaves_out() {
    let ours = tempfile::tempdir().unwrap();
    tree(ours.path(), ".jvsignore");
    let kept = files(ours.path(), options(&[]));
    let theirs = tempfile::tempdir().unwrap();
    tree(theirs.path(), ".gitignore");
    let git = |arguments: &[&str]| {
        Command::new("git")
            .arg("-C")
            .arg(theirs.path())
            .args(arguments)
            .output()
    };
    let listed = git(&["init", "-q"]).and_then(|_| {
        git(&[
            "-c",
            "core.quotePath=off",
            "ls-files",
            "-z",
            "--others",
            "--exclude-standard",
        ])
    });
    let expected = [
        ".jvsignore",
        "cache.d/f",
        "doc/sub/a.txt",
        "keep.o",
        "sub/.jvsignore",
        "sub/a.o",
        "sub/build/x",
        "x.c",
    ];
    assert_eq!(kept, expected);
    match listed {
        Ok(listed) if listed.status.success() => {
            let mut by_git: Vec<String> = listed
                .stdout
                .split(|byte| *byte == 0)
                .filter(|name| !name.is_empty())
                .map(|name| String::from_utf8_lossy(name).replace(".gitignore", ".jvsignore"))
                .collect();
            by_git.sort_unstable_by_key(|name| path(name));
            assert_eq!(kept, by_git);
        }
        _ => eprintln!("SKIPPED: no git to compare with"),
    }
}

#[test]
fn the_control_directory_and_restores_are_always_left_out_and_reasons_are_told() {
    let root = tempfile::tempdir().unwrap();
    make(
        root.path(),
        &[
            (".jvs/state", ""),
            (".jvs-restore-1/f", ""),
            ("sub/.jvs/state", ""),
            ("sub/.jvs-restore-1", ""),
            ("sub/.jvsignore", "\n*.tmp\n"),
            ("sub/a.tmp", ""),
            ("log", ""),
            ("secret", ""),
        ],
    );
    let rules = options(&["*.bak", "log"]);
    let skip = |path: &RelativePath, _| match path.name() {
        b"secret" => cairn_snapshot::directory::Skip::LeaveOut,
        _ => cairn_snapshot::directory::Skip::Keep,
    };
    let rules = WalkOptions {
        skip: Some(Arc::new(skip)),
        ..rules
    };
    let expected = ["sub/.jvs/state", "sub/.jvs-restore-1", "sub/.jvsignore"];
    assert_eq!(files(root.path(), rules.clone()), expected);
    let handle = File::open(root.path()).unwrap();
    let told: Vec<_> = preview(&handle, rules)
        .unwrap()
        .map(|left_out| {
            left_out
                .map(|left_out| (left_out.path.to_string(), left_out.reason))
                .unwrap()
        })
        .collect();
    let expected = [
        (".jvs", Reason::Control),
        (".jvs-restore-1", Reason::Restore),
        (
            "log",
            Reason::Configuration {
                line: 2,
                pattern: "log".into(),
            },
        ),
        ("secret", Reason::Rule),
        (
            "sub/a.tmp",
            Reason::File {
                file: path("sub/.jvsignore"),
                line: 2,
                pattern: "*.tmp".into(),
            },
        ),
    ];
    assert_eq!(told, expected.map(|(name, reason)| (name.to_owned(), reason)));
}

#[test]
fn rules_that_cannot_be_followed_are_errors() {
    assert!(matches!(
        IgnoreRules::new(&["a", "{b"]),
        Err(IgnoreError::Pattern { line: 2, .. })
    ));
    let failures = |root: &Path| -> Vec<WalkError> {
        let root = File::open(root).unwrap();
        Walk::new(&root, options(&[]))
            .unwrap()
            .filter_map(Result::err)
            .collect()
    };
    let root = tempfile::tempdir().unwrap();
    make(
        root.path(),
        &[("sub/.jvsignore", "ok\n\n{unclosed\n"), ("sub/f", "")],
    );
    let found = failures(root.path());
    assert_eq!(found.len(), 1);
    assert!(matches!(
        &found[0],
        WalkError::Ignore { path: file, source: IgnoreError::Pattern { line: 3, text, .. } }
            if *file == path("sub/.jvsignore") && text == "{unclosed"
    ));
    // A link could name any file, a fifo would let us wait.
    fs::remove_file(root.path().join("sub/.jvsignore")).unwrap();
    std::os::unix::fs::symlink("f", root.path().join("sub/.jvsignore")).unwrap();
    assert!(matches!(
        &failures(root.path())[..],
        [WalkError::Ignore {
            source: IgnoreError::Read(_),
            ..
        }]
    ));
    fs::remove_file(root.path().join("sub/.jvsignore")).unwrap();
    let rules: String = (0..5000).map(|number| format!("x{number}\n")).collect();
    make(root.path(), &[("sub/.jvsignore", &rules)]);
    assert!(matches!(
        &failures(root.path())[..],
        [WalkError::Ignore {
            source: IgnoreError::TooMany { .. },
            ..
        }]
    ));
}
