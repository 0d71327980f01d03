//! Trees of any attributes: what comes out is what went in, with stamps and without, whole and from any place.

use std::collections::BTreeMap;

use cairn_content::pipeline::Run;
use cairn_types::{ChunkId, DeviceNumber, FileKind, Timestamp};
use proptest::prelude::{Strategy, any};
use proptest::{collection, option, prop_assert_eq, prop_oneof, proptest};

use super::{all, write};
use crate::directory::{Attributes, Body, Digest, Entry, FileBody, Hole, Record, RelativePath, Stamp, Xattr};
use crate::manifest::{ManifestOptions, ManifestReader};

/// Numbers near each other and near the bounds.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        -3..3i64,
        1_790_000_000..1_790_000_003i64,
        proptest::strategy::Just(i64::MAX),
        proptest::strategy::Just(i64::MIN),
        any::<i64>(),
    ]
}

fn time() -> impl Strategy<Value = Timestamp> {
    (number(), prop_oneof![0..3u32, 999_999_997..1_000_000_000u32])
        .prop_map(|(seconds, nanoseconds)| Timestamp::new(seconds, nanoseconds))
}

fn kind() -> impl Strategy<Value = FileKind> {
    proptest::sample::select(vec![
        FileKind::Regular,
        FileKind::Regular,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::BlockDevice,
        FileKind::CharacterDevice,
        FileKind::Fifo,
        FileKind::Socket,
    ])
}

/// Everything but the path, the body and what the type forbids.
fn attributes() -> impl Strategy<Value = Attributes> {
    let xattrs = collection::btree_map("[a-z]{1,9}", collection::vec(any::<u8>(), 0..20), 0..3);
    let owner = (prop_oneof![0..3u32, any::<u32>()], 0..2u32);
    (
        kind(),
        0..=0o7777u16,
        owner,
        time(),
        (any::<u32>(), any::<u32>()),
        xattrs,
    )
        .prop_map(
            |(kind, mode, (uid, gid), modified, (major, minor), xattrs)| Attributes {
                kind,
                mode,
                uid,
                gid,
                modified,
                size: 0,
                device: match kind {
                    FileKind::BlockDevice | FileKind::CharacterDevice => DeviceNumber { major, minor },
                    _ => DeviceNumber::default(),
                },
                xattrs: xattrs
                    .into_iter()
                    .map(|(name, value)| Xattr {
                        name: name.into_bytes(),
                        value,
                    })
                    .collect(),
            },
        )
}

/// Data of so many bytes, in runs, and holes with something between them.
fn file() -> impl Strategy<Value = (FileBody, u64)> {
    let run = (any::<[u8; 32]>(), 1..=u32::MAX, any::<bool>()).prop_map(|(id, length, zeros)| match zeros {
        true => Run::Zeros(length),
        false => Run::Chunk(ChunkId(id), length),
    });
    let holes = collection::vec((1..100u64, 1..100u64), 0..3);
    (
        option::of(any::<[u8; 32]>()),
        collection::vec(run, 0..4),
        holes,
        any::<u16>(),
    )
        .prop_map(|(digest, runs, gaps, size)| {
            let mut size = u64::from(size);
            if !runs.is_empty() {
                size = runs.iter().map(|run| u64::from(run.length())).sum();
            }
            let (mut holes, mut end) = (Vec::new(), 0);
            for (gap, length) in gaps {
                let offset = end + gap * 4096;
                let length = (length * 4096).min(size.saturating_sub(offset));
                if length == 0 {
                    break;
                }
                holes.push(Hole { offset, length });
                end = offset + length;
            }
            let digest = digest.map(Digest);
            (FileBody { digest, holes, runs }, size)
        })
}

fn stamp() -> impl Strategy<Value = Option<Stamp>> {
    let number = || prop_oneof![0..3u64, any::<u64>()];
    option::of((number(), number(), time())).prop_map(|stamp| {
        stamp.map(|(device, inode, changed)| Stamp {
            device,
            inode,
            changed,
        })
    })
}

fn tree() -> impl Strategy<Value = Vec<Record>> {
    let name = collection::vec(prop_oneof![b'a'..b'd', any::<u8>()], 1..6);
    let entry = (
        any::<proptest::sample::Index>(),
        name,
        attributes(),
        file(),
        stamp(),
        option::weighted(0.2, any::<proptest::sample::Index>()),
    );
    collection::vec(entry, 0..40).prop_map(|entries| {
        let mut directories = vec![RelativePath::root()];
        let mut tree = BTreeMap::new();
        tree.insert(RelativePath::root(), super::record("", FileKind::Directory));
        for (parent, name, mut attributes, (file, size), stamp, link) in entries {
            let parent = &directories[parent.index(directories.len())];
            let Ok(path) = parent.join(&name) else { continue };
            if tree.contains_key(&path) {
                continue;
            }
            let body = match attributes.kind {
                FileKind::Regular => {
                    attributes.size = size;
                    Body::File(file)
                }
                FileKind::Symlink => {
                    attributes.size = name.len() as u64;
                    Body::Symlink(name)
                }
                FileKind::Directory => {
                    directories.push(path.clone());
                    Body::None
                }
                _ => Body::None,
            };
            let others: Vec<&RelativePath> = tree
                .keys()
                .filter(|other| **other < path && !other.is_root())
                .collect();
            let body = match link {
                Some(link) if !others.is_empty() && attributes.kind != FileKind::Directory => {
                    Body::Link(others[link.index(others.len())].clone())
                }
                _ => body,
            };
            let entry = Entry {
                path: path.clone(),
                attributes,
                body,
            };
            tree.insert(path, Record { entry, stamp });
        }
        tree.into_values().collect()
    })
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, cases: 600, ..Default::default() })]

    #[test]
    fn any_tree_comes_back_as_it_was(mut records in tree(), at in any::<proptest::sample::Index>()) {
        let reader = ManifestReader::open(write(&records, ManifestOptions::default()).0).unwrap();
        prop_assert_eq!(&all(&reader), &records);
        prop_assert_eq!(reader.check().is_ok(), true);
        let at = at.index(records.len());
        let from = records[at].entry.path.clone();
        let rest: Vec<_> = reader.records_from(&from).map(Result::unwrap).collect();
        prop_assert_eq!(&rest[..], &records[at..]);
        let within: Vec<_> = reader.records_within(&from).map(Result::unwrap).collect();
        let expected: Vec<_> = records.iter().filter(|record| record.entry.path.is_within(&from)).cloned().collect();
        prop_assert_eq!(within, expected);
        let options = ManifestOptions { stamps: false, ..ManifestOptions::default() };
        let (file, summary) = write(&records, options);
        prop_assert_eq!(&summary.tree_hash, &reader.summary().tree_hash);
        records.iter_mut().for_each(|record| record.stamp = None);
        prop_assert_eq!(all(&ManifestReader::open(file).unwrap()), records);
    }
}
