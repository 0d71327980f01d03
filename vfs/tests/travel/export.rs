//! Reading snapshots: what a reader streams, what it pins, what it says has changed.

use std::collections::{BTreeMap, BTreeSet};

use cairn_types::{FileKind, InodeId, SnapshotId, SnapshotReference};
use cairn_vfs::FileSystem;
use cairn_vfs::control::{ControlError, Snapshot};
use cairn_vfs::filesystem::ObjectId;

use crate::node::{Chance, Node, caller, fill, name};
use crate::tree::{Tree, assert_same, read, show, stream};

#[test]
fn a_reader_streams_what_the_file_system_shows() {
    let node = Node::fresh(1);
    node.make_workspace("w");
    let root = fill(&node, "w", &Chance::new(1));
    let snapshot = node.snapshot("w");
    let shown = show(&node, "w");
    let reader = node.reader("w", &snapshot);
    assert_eq!(reader.snapshot(), snapshot);
    assert_eq!((reader.workspace(), reader.volume()), (&name("w"), root.volume));
    let tree = read(&reader, 4096);
    assert_same(&tree, &shown);
    assert_eq!(tree.len() as u64, snapshot.inodes);

    // What happens later does not show; what is left of removed files is in no tree.
    node.remove(root, "holes");
    node.write(node.find(root, "empty").unwrap(), 0, b"no more");
    let later = node.snapshot("w");
    assert_eq!(read(&reader, 1), tree);
    assert_eq!(read(&reader, 7), tree);
    let later = node.reader("w", &later);
    assert_same(&read(&later, 100), &show(&node, "w"));
    node.volumes.sweep().unwrap();
    assert_eq!(read(&reader, 1000), tree);
    let changed = later.changed_since(snapshot.id).unwrap();
    drop((reader, later));
    let node = node.power_cut(5);
    let reader = node.reader("w", &snapshot);
    assert_eq!(read(&reader, 1000), tree);
    let later = node.volumes.history(&name("w")).unwrap().remove(0);
    assert_eq!(
        node.reader("w", &later).changed_since(snapshot.id).unwrap(),
        changed
    );
    assert_eq!(changed.map(|inodes| inodes.len()), Some(3));
}

#[test]
fn a_reader_outlives_its_workspace() {
    let node = Node::fresh(2);
    node.make_workspace("w");
    let root = fill(&node, "w", &Chance::new(2));
    let snapshot = node.snapshot("w");
    let reader = node.reader("w", &snapshot);
    let tree = read(&reader, 4096);
    node.remove(root, "holes");
    let other = node.snapshot("w");

    node.volumes.delete_workspace(&name("w"), true).unwrap();
    // The log moves on, so that its segments could be freed.
    node.make_workspace("other");
    let file = node.create(node.root("other"), "file");
    for _ in 0..5 {
        node.write(file, 0, &Chance::new(9).bytes(1 << 20));
    }
    node.volumes.flush().unwrap();
    node.volumes.sweep().unwrap();
    assert_eq!(read(&reader, 4096), tree);
    assert_eq!(reader.changed_since(other.id).unwrap(), None, "it is gone");
    assert_eq!(reader.same_data(other.id, InodeId(4)).unwrap(), []);
    assert_eq!(reader.bases().unwrap(), []);
    let reference = SnapshotReference::parse(&snapshot.id.to_string()).unwrap();
    let gone = node.volumes.open_snapshot(&name("w"), &reference);
    assert!(matches!(gone.err().unwrap(), ControlError::NoWorkspace { .. }));

    let (objects, bytes) = (node.keys(b'H'), node.volumes.usage().unwrap().log_bytes);
    drop(reader);
    node.volumes.sweep().unwrap();
    assert!(
        node.keys(b'H') < 40 && objects > 1000,
        "{objects} before, {} after",
        node.keys(b'H')
    );
    assert_eq!(node.keys(b'h'), 0);
    assert!(node.volumes.usage().unwrap().log_bytes < bytes);
}

#[test]
fn the_nearest_snapshots_come_first() {
    let node = Node::fresh(3);
    node.make_workspace("w");
    let taken: Vec<Snapshot> = (0..4).map(|_| node.snapshot("w")).collect();
    let reference = SnapshotReference::parse(&taken[1].id.to_string()).unwrap();
    let safety = node.volumes.restore(&name("w"), &reference).unwrap().safety;
    let last = node.snapshot("w");
    let ids = |snapshots: &[&Snapshot]| {
        snapshots
            .iter()
            .map(|snapshot| snapshot.id)
            .collect::<Vec<SnapshotId>>()
    };
    let bases = node.reader("w", &last).bases().unwrap();
    let expected = [&last, &taken[1], &taken[0], &safety, &taken[3], &taken[2]];
    assert_eq!(bases, ids(&expected));
    let bases = node.reader("w", &taken[2]).bases().unwrap();
    assert_eq!(bases[..3], ids(&[&taken[2], &taken[1], &taken[0]]));

    let reference = SnapshotReference::parse(&last.id.to_string()).unwrap();
    node.volumes.fork(&name("w"), &reference, &name("fork")).unwrap();
    let forked = node.snapshot("fork");
    let bases = node.reader("fork", &forked).bases().unwrap();
    assert_eq!(bases, ids(&[&forked, &last, &taken[1], &taken[0]]));
    for _ in 0..300 {
        node.snapshot("w");
    }
    let newest = node.snapshot("w");
    let bases = node.reader("w", &newest).bases().unwrap();
    assert_eq!((bases.len(), bases[0]), (256, newest.id));
}

#[test]
fn nothing_is_said_to_be_unchanged_that_is_not() {
    for seed in 1..=25 {
        random_history(seed);
    }
}

/// Random changes, snapshots, restores and forks; then all pairs of states are compared in full with what is said of them.
fn random_history(seed: u64) {
    let chance = Chance::new(seed);
    let node = Node::fresh(seed);
    node.make_workspace("w0");
    let mut workspaces = 1;
    let mut taken: Vec<(String, Snapshot)> = Vec::new();
    for _ in 0..90 {
        let workspace = format!("w{}", chance.below(workspaces));
        match chance.below(24) {
            0..4 => taken.push((workspace.clone(), node.snapshot(&workspace))),
            4 if !taken.is_empty() => {
                let (workspace, snapshot) = &taken[chance.below(taken.len() as u64) as usize];
                let reference = SnapshotReference::parse(&snapshot.id.to_string()).unwrap();
                let restored = node.volumes.restore(&name(workspace), &reference).unwrap();
                taken.push((workspace.clone(), restored.safety));
            }
            5 if workspaces < 4 && !taken.is_empty() => {
                let (workspace, snapshot) = &taken[chance.below(taken.len() as u64) as usize];
                let reference = SnapshotReference::parse(&snapshot.id.to_string()).unwrap();
                let fork = name(&format!("w{workspaces}"));
                node.volumes.fork(&name(workspace), &reference, &fork).unwrap();
                workspaces += 1;
            }
            6 => node.volumes.flush().unwrap(),
            7 => node.volumes.sweep().unwrap(),
            _ => change(&node, node.root(&workspace), &chance),
        }
    }
    let states: Vec<(Snapshot, Tree, _)> = taken
        .iter()
        .map(|(workspace, snapshot)| {
            let reader = node.reader(workspace, snapshot);
            (snapshot.clone(), read(&reader, 50), reader)
        })
        .collect();
    for (one, before, _) in &states {
        for (other, after, reader) in &states {
            let changed = reader
                .changed_since(one.id)
                .unwrap()
                .expect("all are of one origin");
            let said: BTreeSet<InodeId> = changed.into_iter().collect();
            let all: BTreeSet<InodeId> = before.keys().chain(after.keys()).copied().collect();
            for inode in all {
                let same = before.get(&inode) == after.get(&inode);
                assert!(
                    same || said.contains(&inode),
                    "seed {seed}: {inode} from {} to {}",
                    one.id,
                    other.id
                );
                check_same_data(reader, one, before.get(&inode), after.get(&inode), inode);
            }
            if one.id == other.id {
                assert!(said.is_empty());
            }
        }
    }
}

fn check_same_data(
    reader: &cairn_vfs::SnapshotReader,
    base: &Snapshot,
    before: Option<&crate::tree::Inode>,
    after: Option<&crate::tree::Inode>,
    inode: InodeId,
) {
    let ranges = reader.same_data(base.id, inode).unwrap();
    let mut end = 0;
    for range in &ranges {
        assert!(range.start() >= end && !range.is_empty());
        end = range.end();
        let part = |of: Option<&crate::tree::Inode>| {
            of.unwrap().data[range.start() as usize..range.end() as usize].to_vec()
        };
        assert!(part(before) == part(after), "{range:?} of {inode}");
    }
    if let (Some(before), Some(after)) = (before, after)
        && before.node.kind == FileKind::Regular
        && before.node == after.node
    {
        let covered: u64 = ranges.iter().map(|range| range.length()).sum();
        assert_eq!(covered, after.node.size, "all of an unchanged file is the same");
    }
}

/// One change somewhere in a tree of two directories.
fn change(node: &Node, root: ObjectId, chance: &Chance) {
    let directory = match chance.below(3) {
        0 => root,
        number => {
            let directory = format!("d{number}");
            node.find(root, &directory)
                .unwrap_or_else(|| node.mkdir(root, &directory))
        }
    };
    let file = format!("f{}", chance.below(5));
    let Some(object) = node.find(directory, &file) else {
        if chance.below(6) == 0 {
            node.symlink(directory, &file, &[chance.next() as u8 | 1]);
        } else {
            node.create(directory, &file);
        }
        return;
    };
    let regular = node.volumes.getattr(object).unwrap().kind == FileKind::Regular;
    match chance.below(9) {
        0..4 if regular => {
            let offset = [0, 3, 4090, 65_536, 150_000][chance.below(5) as usize];
            let length = [1, 100, 5000, 70_000][chance.below(4) as usize];
            node.write(object, offset, &chance.bytes(length));
        }
        4 if regular => node.set_size(object, [0, 2, 4096, 60_000, 200_000][chance.below(5) as usize]),
        5 => node.remove(directory, &file),
        6 => {
            let to = format!("f{}", chance.below(5));
            node.rename((directory, &file), (root, &to));
        }
        7 => {
            let to = format!("f{}", chance.below(5));
            if node.find(root, &to).is_none() {
                node.link(object, root, &to);
            }
        }
        _ => {
            let set = cairn_vfs::filesystem::SetAttributes {
                mode: Some(0o600 + chance.below(8) as u32),
                ..Default::default()
            };
            node.set(object, set);
        }
    }
}

#[test]
fn an_unchanged_volume_costs_no_scan() {
    let node = Node::fresh(4);
    node.make_workspace("w");
    fill(&node, "w", &Chance::new(4));
    let first = node.snapshot("w");
    assert_eq!(node.keys(b'D'), 0, "nothing is older than the first epoch");
    let second = node.snapshot("w");
    let changed = node.reader("w", &second).changed_since(first.id).unwrap();
    assert_eq!(changed, Some(Vec::new()));
    let root = node.root("w");
    let small = node.find(root, "also small").unwrap();
    for _ in 0..3 {
        node.write(small, 0, b"once is enough");
    }
    assert_eq!(node.keys(b'D'), 1);
    let third = node.snapshot("w");
    let changed = node.reader("w", &third).changed_since(first.id).unwrap();
    assert_eq!(changed, Some(vec![small.inode]));
    let names: BTreeMap<_, _> = stream(&node.reader("w", &third), 10_000)
        .into_iter()
        .map(|item| (item.inode, ()))
        .collect();
    assert_eq!(names.len() as u64, third.inodes);
    assert!(node.volumes.lookup(&caller(), root, b"also small").is_ok());
}
