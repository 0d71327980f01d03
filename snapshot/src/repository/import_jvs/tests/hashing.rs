//! The streamed hash against one that holds all lines in memory, and the order of snapshots.

use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use cairn_types::{Timestamp, hexadecimal};
use proptest::prelude::Strategy;
use proptest::{prop_assert_eq, prop_oneof, proptest};

use super::super::descriptor::JvsSnapshot;
use super::super::order::parents_first;
use super::super::payload::{Hashed, ReadyRule, hash};
use super::super::{Finding, JvsTree};
use super::id;
use crate::archive::Progress;

/// All lines, as the Go tools collect them.
fn lines(root: &Path, directory: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        let sha = |bytes: &[u8]| hexadecimal::text(digest(&SHA256, bytes).as_ref());
        if metadata.is_dir() {
            let own = path.file_name().unwrap().to_str().unwrap();
            out.push(format!("dir:{name}:mode={mode:04o}:{}", sha(own.as_bytes())));
            lines(root, &path, out);
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(&path).unwrap();
            out.push(format!(
                "symlink:{name}:mode={mode:04o}:{}",
                sha(target.to_str().unwrap().as_bytes())
            ));
        } else {
            let data = std::fs::read(&path).unwrap();
            out.push(format!(
                "file:{name}:mode={mode:04o},size={}:{}",
                data.len(),
                sha(&data)
            ));
        }
    }
}

/// Names whose order with separators around them is not that of the names.
fn name() -> impl Strategy<Value = String> {
    "[a:/.0!-]{1,4}"
        .prop_map(|name| name.replace('/', "mode=0644,size=0:"))
        .prop_filter("no name", |name| !matches!(name.as_str(), "." | ".."))
}

fn kind() -> impl Strategy<Value = u8> {
    prop_oneof![3 => proptest::strategy::Just(0u8), 2 => proptest::strategy::Just(1u8), 1 => proptest::strategy::Just(2u8)]
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, cases: 150, ..Default::default() })]

    #[test]
    fn the_streamed_hash_is_that_of_all_lines(entries in proptest::collection::vec((0..8usize, name(), kind()), 0..25)) {
        let root = tempfile::tempdir().unwrap();
        let mut directories = vec![root.path().to_owned()];
        for (parent, name, kind) in entries {
            let path = directories[parent % directories.len()].join(&name);
            match kind {
                _ if path.symlink_metadata().is_ok() => {}
                0 => std::fs::write(&path, &name).unwrap(),
                1 => {
                    std::fs::create_dir(&path).unwrap();
                    directories.push(path);
                }
                _ => std::os::unix::fs::symlink(&name, &path).unwrap(),
            }
        }
        let mut expected = Vec::new();
        lines(root.path(), root.path(), &mut expected);
        expected.sort_unstable();
        let text: String = expected.iter().map(|line| format!("{line}\n")).collect();
        let tree = JvsTree {
            directory: std::fs::File::open(root.path()).unwrap().into(),
            reserved: Vec::new(),
            compressed: Default::default(),
            faithful: true,
        };
        let found = hash(&tree, ReadyRule::AtTheRoot, root.path(), &Progress::new()).unwrap();
        let Hashed::Done { hash: found, .. } = found else { panic!("hashed") };
        let whole = digest(&SHA256, text.as_bytes());
        prop_assert_eq!(&found[..], whole.as_ref(), "{}", text);
    }
}

fn snapshot(number: u32, parent: Option<u32>) -> JvsSnapshot {
    let name = |number: u32| id(&format!("{number:013}-00000000"));
    JvsSnapshot {
        id: name(number),
        parent: parent.map(name),
        started_from: None,
        restored_from: None,
        restored_paths: Vec::new(),
        workspace: "main".to_owned(),
        created: Timestamp::new(0, 0),
        note: String::new(),
        tags: Vec::new(),
        engine: "copy".to_owned(),
        degraded: Vec::new(),
        partial_paths: Vec::new(),
        compression: None,
        payload_hash: [0; 32],
        checksum: String::new(),
        checksum_matches: true,
    }
}

#[test]
fn parents_come_first_whatever_the_clock_said() {
    let ordered = |list: &[(u32, Option<u32>)]| {
        let mut snapshots: Vec<_> = list
            .iter()
            .map(|(number, parent)| snapshot(*number, *parent))
            .collect();
        let mut findings = Vec::new();
        parents_first(&mut snapshots, &mut findings);
        let order: Vec<u32> = snapshots
            .iter()
            .map(|snapshot| snapshot.id.as_str()[..13].parse().unwrap())
            .collect();
        (order, findings)
    };
    let (order, findings) = ordered(&[(5, None), (3, Some(5)), (4, Some(3)), (1, None), (2, Some(1))]);
    assert_eq!((order, findings.len()), (vec![1, 2, 5, 3, 4], 0));
    let (order, findings) = ordered(&[(2, Some(9)), (1, Some(2))]);
    assert_eq!(order, [2, 1]);
    assert!(matches!(findings[..], [Finding::ParentMissing { .. }]));
    let (order, findings) = ordered(&[
        (1, Some(3)),
        (2, Some(1)),
        (3, Some(2)),
        (4, Some(3)),
        (5, Some(5)),
    ]);
    assert_eq!(order, [1, 2, 3, 4, 5]);
    let circles = findings
        .iter()
        .filter(|finding| matches!(finding, Finding::Circle(_)))
        .count();
    assert_eq!(circles, 2);
}
