//! Large trees: opened at once, listed in bounded memory, every listing complete wherever it goes on.

use std::collections::BTreeSet;
use std::fs::{self, File};

use cairn_fuse::{Detail, Taken, Tree, Unmounted};
use cairn_snapshot::archive::Progress;
use cairn_snapshot::directory::{Attributes, Body, Entry, FileBody, Record, RelativePath};
use cairn_snapshot::engine::EngineKind;
use cairn_snapshot::manifest::{ManifestOptions, ManifestWriter};
use cairn_snapshot::repository::{Descriptor, ManifestFile};
use cairn_snapshot::view::open_snapshot;
use cairn_types::{DeviceNumber, FileKind, InodeId, Timestamp};

use crate::place::Place;
use crate::shown::{Shown, can_mount};

/// Entries of the large tree: one directory with most of them as files, and 1,000 directories with one file each.
const FILES: u64 = 98_000;
const DIRECTORIES: u64 = 1_000;
/// Memory that a view of it may take beyond what was there before, in KiB.
const MEMORY_KIB_MAX: u64 = 192 << 10;

fn record(path: &str, kind: FileKind, size: u64) -> Record {
    let body = match kind {
        FileKind::Regular => Body::File(FileBody::default()),
        _ => Body::None,
    };
    let attributes = Attributes {
        kind,
        mode: 0o755,
        uid: 7,
        gid: 8,
        modified: Timestamp::new(1_700_000_000, 5),
        size,
        device: DeviceNumber::default(),
        xattrs: Vec::new(),
    };
    Record {
        entry: Entry {
            path: RelativePath::new(path.as_bytes()).unwrap(),
            attributes,
            body,
        },
        stamp: None,
    }
}

/// Gives a snapshot of an empty directory the list of a large one.
fn enlarged(place: &Place) -> Descriptor {
    let small = place.save_with(EngineKind::Copy);
    let path = place.control.join("manifests").join(small.id.to_string());
    let mut list = ManifestWriter::create(File::create(&path).unwrap(), ManifestOptions::default()).unwrap();
    let mut put = |path: &str, kind, size| list.push(&record(path, kind, size)).unwrap();
    put("", FileKind::Directory, 0);
    put("d", FileKind::Directory, 0);
    for number in 0..DIRECTORIES {
        put(&format!("d/{number:04}"), FileKind::Directory, 0);
        put(&format!("d/{number:04}/in"), FileKind::Regular, number);
    }
    put("f", FileKind::Directory, 0);
    for number in 0..FILES {
        put(&format!("f/{number:06}"), FileKind::Regular, number);
    }
    let summary = list.finish().unwrap();
    let descriptor = Descriptor {
        id: place.repository.new_snapshot_id(),
        sequence: small.sequence + 1,
        counts: summary.counts.into(),
        tree_hash: summary.tree_hash,
        manifest: ManifestFile {
            hash: summary.file_hash,
            length: fs::metadata(&path).unwrap().len(),
        },
        ..small.clone()
    };
    let rename = |area: &str| {
        let area = place.control.join(area);
        fs::rename(
            area.join(small.id.to_string()),
            area.join(descriptor.id.to_string()),
        )
        .unwrap();
    };
    rename("manifests");
    rename("snapshots");
    let lease = place
        .repository
        .lease("test", std::time::Duration::from_secs(5), &false.into())
        .unwrap();
    place.repository.publish(&lease, &descriptor).unwrap();
    descriptor
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_hundred_thousand_entries_are_listed_in_bounded_memory() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("workspace")).unwrap();
    let place = Place::new(directory.path(), false);
    let descriptor = enlarged(&place);
    let before = resident_kib();
    let shown = Shown::of(&place, &descriptor);
    // Without looking at what is in the tree: one part of the list was read at most.
    let names: Vec<_> = fs::read_dir(shown.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["d", "f"]);
    let mut found = 0;
    for entry in fs::read_dir(shown.path().join("f")).unwrap() {
        let entry = entry.unwrap();
        let number: u64 = entry.file_name().to_str().unwrap().parse().unwrap();
        // Listed in order, with attributes.
        assert_eq!((number, entry.metadata().unwrap().len()), (found, found));
        found += 1;
    }
    assert_eq!(found, FILES);
    let directories = fs::read_dir(shown.path().join("d")).unwrap();
    let mut seen = BTreeSet::new();
    for entry in directories {
        let entry = entry.unwrap();
        assert_eq!(fs::read_dir(entry.path()).unwrap().count(), 1);
        seen.insert(entry.file_name());
    }
    assert_eq!(seen.len() as u64, DIRECTORIES);
    let statistics = rustix::fs::statvfs(&*shown.path()).unwrap();
    assert_eq!(statistics.f_files, FILES + 2 * DIRECTORIES + 3);
    let taken = resident_kib().saturating_sub(before);
    assert!(taken < MEMORY_KIB_MAX, "{taken} KiB");
    assert_eq!(shown.end(), Unmounted::Clean);
}

#[test]
fn listings_go_on_behind_any_entry() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("workspace")).unwrap();
    let place = Place::new(directory.path(), false);
    let descriptor = enlarged(&place);
    let repository = std::sync::Arc::new(Place::open(&place.control));
    let view = open_snapshot(repository, descriptor.id, &Progress::new()).unwrap();
    let tree = view.tree();
    let (d, _) = tree.find(InodeId::ROOT, b"d").unwrap().unwrap();
    let list = |after| {
        let mut found = Vec::new();
        tree.list(d, after, Detail::Names, &mut |listed| {
            found.push((listed.cookie, listed.name.to_vec(), listed.inode));
            Taken::More
        })
        .unwrap();
        found
    };
    let all = list(0);
    assert_eq!(all.len() as u64, DIRECTORIES);
    for at in [0, 1, 255, 500, 998, 999] {
        assert_eq!(list(all[at].0), all[at + 1..]);
        let (inode, attributes) = tree.find(d, &all[at].1).unwrap().unwrap();
        assert_eq!((inode, attributes.kind), (all[at].2, FileKind::Directory));
        assert_eq!(tree.parent(inode).unwrap(), d);
    }
    // A cookie of another directory, or of nothing, is none.
    for wrong in [all[5].0 + 1, FILES + 2 * DIRECTORIES + 3, u64::MAX] {
        assert!(tree.list(d, wrong, Detail::Names, &mut |_| Taken::More).is_err());
    }
    assert!(tree.attributes(InodeId(0)).is_err() && tree.attributes(InodeId(u64::MAX)).is_err());
    assert!(tree.find(d, b"0000x").unwrap().is_none() && tree.find(d, &[b'x'; 300]).unwrap().is_none());
}
