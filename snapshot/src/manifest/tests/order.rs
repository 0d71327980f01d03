//! What is no tree is refused when it is written, and when it is read although every checksum is right.

use cairn_content::pipeline::Run;
use cairn_types::{DeviceNumber, FileKind};

use super::{everything, file_body, path, record};
use crate::directory::{Body, Hole, Record, Xattr};
use crate::manifest::{BlockCutter, EntryCounts, ManifestError, TreeHasher};

fn push_all(records: &[Record]) -> Result<(), ManifestError> {
    let mut cutter = BlockCutter::new(true);
    records.iter().try_for_each(|record| cutter.push(record))
}

fn tree(entries: &[(&str, FileKind)]) -> Vec<Record> {
    entries.iter().map(|(path, kind)| record(path, *kind)).collect()
}

#[test]
fn entries_come_in_the_order_of_a_walk_behind_their_directories() {
    use FileKind::{Directory as D, Regular as F};
    push_all(&tree(&[
        ("", D),
        ("a", D),
        ("a/b", D),
        ("a/b/c", F),
        ("a/b.c", F),
        ("a b", F),
        ("b", D),
    ]))
    .unwrap();
    for (wrong, last) in [
        (&[("a", D)][..], "a"),
        (&[("", D), ("a/b", F)], "a/b"),
        (&[("", D), ("", D)], "."),
        (&[("", D), ("a", F), ("a/b", F)], "a/b"),
        (&[("", D), ("b", D), ("a", D)], "a"),
        (&[("", D), ("a", D), ("a", D)], "a"),
        (&[("", D), ("a", D), ("a/b", F), ("a/b/c", F)], "a/b/c"),
        (&[("", D), ("a", D), ("a/b", D), ("a/bc/d", F)], "a/bc/d"),
        (&[("", D), ("a", D), ("a/b/c", F)], "a/b/c"),
        (&[("", D), ("a", D), ("ab/c", F)], "ab/c"),
        (&[("", D), ("ab", D), ("ab/c", F), ("a", D)], "a"),
        (&[("", D), ("a", D), ("a.b", F), ("a/c", F)], "a/c"),
    ] {
        let error = push_all(&tree(wrong)).unwrap_err();
        let ManifestError::Order { path, .. } = &error else {
            panic!("{wrong:?}: {error:?}")
        };
        assert_eq!(path.to_string(), last, "{wrong:?}");
    }
    assert!(matches!(
        BlockCutter::new(true).finish(),
        Err(ManifestError::Empty)
    ));
}

/// Changes a sound record into one that cannot be.
type Spoil = fn(&mut Record);

#[test]
fn entries_have_what_their_type_has() {
    let file: &[Spoil] = &[
        |record| record.entry.attributes.mode = 0o10000,
        |record| record.entry.attributes.device = DeviceNumber { major: 1, minor: 0 },
        |record| record.entry.body = Body::None,
        |record| record.entry.body = Body::Symlink(b"x".to_vec()),
        |record| record.entry.body = Body::Link(path("file")),
        |record| record.entry.body = Body::Link(path("z")),
        |record| record.entry.body = Body::Link(path("")),
        |record| file_body(record).runs = vec![Run::Zeros(1)],
        |record| holes(record, &[(0, 4096), (4096, 4096)]),
        |record| holes(record, &[(8192, 4096), (0, 4096)]),
        |record| holes(record, &[(1, 4096)]),
        |record| holes(record, &[(0, 4097)]),
        |record| holes(record, &[(0, 0)]),
        |record| holes(record, &[(1 << 20, 4096)]),
        |record| holes(record, &[(u64::MAX - 4095, 4096)]),
        |record| xattrs(record, &["b", "a"]),
        |record| xattrs(record, &["a", "a"]),
        |record| xattrs(record, &[""]),
        |record| xattrs(record, &["a\0"]),
        |record| record.entry.attributes.kind = FileKind::Directory,
    ];
    let symlink: &[Spoil] = &[
        |record| record.entry.body = Body::None,
        |record| record.entry.body = Body::Symlink(Vec::new()),
        |record| record.entry.body = Body::Symlink(b"nul\0".to_vec()),
        |record| record.entry.body = Body::Symlink(vec![b'x'; 4096]),
        |record| record.entry.attributes.size = 3,
    ];
    let directory: &[Spoil] = &[
        |record| record.entry.attributes.size = 4096,
        |record| record.entry.body = Body::Link(path("a")),
    ];
    for (kind, spoils) in [
        (FileKind::Regular, file),
        (FileKind::Symlink, symlink),
        (FileKind::Directory, directory),
    ] {
        for (at, spoil) in spoils.iter().enumerate() {
            let mut records = vec![record("", FileKind::Directory), record("file", kind)];
            records[1].entry.attributes.size = if kind == FileKind::Regular {
                1 << 20
            } else {
                records[1].entry.attributes.size
            };
            push_all(&records).unwrap();
            spoil(&mut records[1]);
            let error = push_all(&records).unwrap_err();
            assert!(
                matches!(error, ManifestError::Entry { .. }),
                "{kind:?} {at}: {error:?}"
            );
        }
    }
}

fn holes(record: &mut Record, list: &[(u64, u64)]) {
    let hole = |&(offset, length)| Hole { offset, length };
    file_body(record).holes = list.iter().map(hole).collect();
}

fn xattrs(record: &mut Record, names: &[&str]) {
    let xattr = |name: &&str| Xattr {
        name: name.as_bytes().to_vec(),
        value: vec![1],
    };
    record.entry.attributes.xattrs = names.iter().map(xattr).collect();
}

#[test]
fn the_tree_hash_covers_everything_but_stamps_and_chunks() {
    let hash = |records: &[Record]| {
        let mut hasher = TreeHasher::new();
        records.iter().for_each(|record| hasher.push(&record.entry));
        hasher.finish()
    };
    let mut sound = everything();
    let unread = sound.pop().unwrap();
    let whole = hash(&sound).unwrap();
    assert_eq!(hash(&[sound.clone(), vec![unread]].concat()), None);
    let mut same = sound.clone();
    for record in &mut same {
        record.stamp = None;
        if let Body::File(file) = &mut record.entry.body {
            file.runs.clear();
        }
    }
    assert_eq!(hash(&same), Some(whole));
    let changes: &[(usize, Spoil)] = &[
        (1, |record| record.entry.path = path("dew")),
        (1, |record| record.entry.attributes.kind = FileKind::Fifo),
        (1, |record| record.entry.attributes.mode = 0o700),
        (1, |record| record.entry.attributes.uid += 1),
        (1, |record| record.entry.attributes.gid += 1),
        (1, |record| {
            record.entry.attributes.modified = record.entry.attributes.modified.successor()
        }),
        (2, |record| record.entry.attributes.device.minor += 1),
        (7, |record| record.entry.attributes.size += 4096),
        (7, |record| file_body(record).digest.as_mut().unwrap().0[31] ^= 1),
        (7, |record| file_body(record).holes.truncate(1)),
        (0, |record| record.entry.attributes.xattrs.truncate(1)),
        (0, |record| record.entry.attributes.xattrs[1].value.push(0)),
        (10, |record| record.entry.body = Body::Link(path("dev/x/sparse"))),
        (11, |record| record.entry.body = Body::Symlink(b"wax".to_vec())),
    ];
    for (number, (at, change)) in changes.iter().enumerate() {
        let mut changed = sound.clone();
        change(&mut changed[*at]);
        assert_ne!(hash(&changed), Some(whole), "change {number}");
    }
    assert_ne!(hash(&sound[..12]), Some(whole));
}

#[test]
fn counts_count_names_once() {
    let mut counts = EntryCounts::default();
    everything().iter().for_each(|record| counts.add(&record.entry));
    let total = counts.files + counts.directories + counts.symlinks + counts.special + counts.links;
    assert_eq!(counts.entries, total);
    assert_eq!(
        counts.bytes,
        (1 << 40) + 5 + 4_000_100_000 + everything()[13].entry.attributes.size
    );
}
