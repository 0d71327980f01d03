//! Changes between snapshots, against a comparison that holds everything in memory; names of one file; blocks that are not read.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use cairn_types::{FileKind, Timestamp};
use proptest::prelude::{Strategy, any};
use proptest::{prop_assert_eq, proptest};

use super::{file_body, open, path, record, wide, write};
use crate::directory::compare::{CompareError, Difference, aspects, compare};
use crate::directory::{Body, Digest, Record, RelativePath};
use crate::manifest::changes::{between, is_time_of_directory, resolve};
use crate::manifest::{Change, ChangeError, ChangeTotals, ManifestOptions, ManifestReader};

type Told = Vec<(String, String)>;

fn told(changes: impl Iterator<Item = Result<Change, ChangeError>>) -> Told {
    let text = |change: &Change| match change {
        Difference::Added(_) => "added".to_owned(),
        Difference::Removed(_) => "removed".to_owned(),
        Difference::Changed { aspects, .. } => aspects.to_string(),
    };
    changes
        .map(Result::unwrap)
        .map(|change| (change.path().to_string(), text(&change)))
        .collect()
}

/// The same of records, without manifests.
fn streamed(before: &[Record], after: &[Record]) -> Told {
    let (before, after) = (before.iter().cloned(), after.iter().cloned());
    let changes = compare(before.map(Ok), after.map(Ok));
    told(changes.map(|change| resolve(change?, None, None)))
}

fn one(path: &str, what: &str) -> Told {
    vec![(path.to_owned(), what.to_owned())]
}

/// A tree in which `names` are one file, and its other entries are what they are.
fn linked(names: &[&str], digest: u8) -> Vec<Record> {
    let mut records = vec![record("", FileKind::Directory)];
    let mut file = record("file", FileKind::Regular);
    file_body(&mut file).digest = Some(Digest([digest; 32]));
    for (at, name) in names.iter().enumerate() {
        let mut entry = file.clone();
        entry.entry.path = path(name);
        if at > 0 {
            entry.entry.body = Body::Link(path(names[0]));
        }
        records.push(entry);
    }
    records
}

#[test]
fn names_of_one_file_are_followed_when_the_first_one_goes() {
    let manifests = |before: &[&str], after: &[&str], digest| {
        let (before, after) = (open(&linked(before, 1)), open(&linked(after, digest)));
        told(between(&before, &after))
    };
    let pairs = |list: &[(&str, &str)]| -> Told {
        list.iter()
            .map(|(path, what)| ((*path).to_owned(), (*what).to_owned()))
            .collect()
    };
    assert_eq!(manifests(&["a", "b", "c"], &["a", "b", "c"], 1), []);
    assert_eq!(manifests(&["a", "b", "c"], &["a", "b", "c"], 2), one("a", "data"));
    let gone = manifests(&["a", "b", "c"], &["b", "c"], 1);
    assert_eq!(gone, pairs(&[("a", "removed"), ("b", "links"), ("c", "links")]));
    let gone_and_changed = manifests(&["a", "b", "c"], &["b", "c"], 2);
    assert_eq!(
        gone_and_changed,
        pairs(&[("a", "removed"), ("b", "data, links"), ("c", "data, links")])
    );
    let renamed = manifests(&["a", "b"], &["b", "z"], 1);
    assert_eq!(
        renamed,
        pairs(&[("a", "removed"), ("b", "links"), ("z", "added")])
    );
    // Without the manifests nobody knows what the first names hold.
    let blind = streamed(&linked(&["a", "b"], 1), &linked(&["b"], 1));
    assert_eq!(blind, pairs(&[("a", "removed"), ("b", "unread, links")]));
}

#[test]
fn totals_count_entries_and_bytes() {
    let (before, mut after) = (wide(300), wide(300));
    let sizes = |records: &[Record], at: usize| records[at].entry.attributes.size;
    let (changed, gone, touched) = (sizes(&before, 5), sizes(&before, 50), 7);
    after[5].entry.attributes.size = changed + 1000;
    after[touched].entry.attributes.mode = 0;
    after[0].entry.attributes.modified = Timestamp::new(5, 5);
    file_body(&mut after[9]).digest = None;
    after[9].stamp = None;
    after.remove(50);
    let new = record("zzz", FileKind::Regular);
    after.push(new.clone());
    let (mut totals, mut times) = (ChangeTotals::default(), 0);
    for change in between(&open(&before), &open(&after)) {
        let change = change.unwrap();
        totals.add(&change);
        times += u32::from(is_time_of_directory(&change));
    }
    let perhaps = sizes(&before, 9);
    let expected = ChangeTotals {
        added: 1,
        removed: 1,
        modified: 3,
        perhaps: 1,
        bytes_after: changed + 1000 + new.entry.attributes.size + perhaps,
        bytes_before: changed + gone + perhaps,
    };
    assert_eq!((totals, times), (expected, 1));
}

#[test]
fn an_error_of_either_side_ends_the_changes() {
    let records = wide(20_000);
    let (file, _) = write(&records, ManifestOptions::default());
    let damaged = ManifestReader::open(file.try_clone().unwrap()).unwrap();
    file.write_all_at(&[0xff; 64], file.metadata().unwrap().len() / 2)
        .unwrap();
    // Nothing is in common with a tree of which every entry differs.
    let mut other = records;
    other
        .iter_mut()
        .for_each(|record| record.entry.attributes.gid += 1);
    let other = open(&other);
    for (before, after) in [(&damaged, &other), (&other, &damaged)] {
        let mut changes = between(before, after);
        let error = changes.find_map(Result::err);
        assert!(matches!(
            error,
            Some(CompareError::Before(_) | CompareError::After(_))
        ));
        assert!(changes.next().is_none());
    }
}

/// Trees of a few names, flat, so that many of them are in both.
fn small_tree() -> impl Strategy<Value = Vec<Record>> {
    let entry = (0..40u8, 0..3u8, 0..2u8);
    proptest::collection::vec(entry, 0..30).prop_map(|entries| {
        let mut tree = BTreeMap::new();
        tree.insert(RelativePath::root(), record("", FileKind::Directory));
        for (name, kind, variant) in entries {
            let name = format!("{name}");
            let mut entry = match kind {
                0 => record(&name, FileKind::Regular),
                1 => record(&name, FileKind::Directory),
                _ => record(&name, FileKind::Symlink),
            };
            entry.entry.attributes.mode = 0o600 + u16::from(variant);
            tree.insert(entry.entry.path.clone(), entry);
        }
        tree.into_values().collect()
    })
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, cases: 300, ..Default::default() })]

    #[test]
    fn changes_are_what_a_comparison_in_memory_finds(before in small_tree(), after in small_tree()) {
        let map = |records: &[Record]| -> BTreeMap<RelativePath, Record> {
            records.iter().map(|record| (record.entry.path.clone(), record.clone())).collect()
        };
        let (old, new) = (map(&before), map(&after));
        let mut expected: BTreeMap<RelativePath, String> = BTreeMap::new();
        for (path, record) in &old {
            match new.get(path) {
                None => drop(expected.insert(path.clone(), "removed".to_owned())),
                Some(other) if other != record => {
                    expected.insert(path.clone(), aspects(record, other).to_string());
                }
                Some(_) => {}
            }
        }
        for path in new.keys().filter(|path| !old.contains_key(*path)) {
            expected.insert(path.clone(), "added".to_owned());
        }
        let expected: Told = expected.into_iter().map(|(path, what)| (path.to_string(), what)).collect();
        prop_assert_eq!(&streamed(&before, &after), &expected);
        prop_assert_eq!(&told(between(&open(&before), &open(&after))), &expected);
    }

    /// Passing over the blocks that both have changes nothing.
    #[test]
    fn common_blocks_are_passed_over(picks in proptest::collection::vec((any::<proptest::sample::Index>(), 0..3u8), 0..6)) {
        let before = wide(4000);
        let mut after = before.clone();
        for (at, how) in picks {
            let at = at.index(after.len() - 1) + 1;
            match how {
                0 => after[at].entry.attributes.mode ^= 1,
                1 => after[at].entry.attributes.uid += 1,
                _ if after[at].entry.attributes.kind == FileKind::Regular => drop(after.remove(at)),
                _ => {}
            }
        }
        prop_assert_eq!(told(between(&open(&before), &open(&after))), streamed(&before, &after));
    }
}
