//! Importing trees: into new and existing workspaces, over stops and power cuts, beside sweeps, and from sources that lie.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_types::{
    DeviceNumber, ErrorKind, ExportPolicy, FileKind, InodeId, Node as Attributes, SnapshotId,
    SnapshotReference, Tag, Timestamp, TreeObject,
};
use cairn_vfs::control::{ControlError, Snapshot};
use cairn_vfs::{
    Error, FileSystem, Import, ImportError, ImportFault, ImportRequest, ImportedSnapshot, SnapshotReader,
};

use crate::node::{Chance, Node, fill, name};
use crate::tree::{Shown, assert_same, bytes_of, read, show, stream};

/// A call of an import.
#[derive(Debug, Clone)]
enum Call {
    Node(InodeId, Attributes),
    Entry(Vec<u8>, InodeId, FileKind),
    Target(Vec<u8>),
    Data(u64, Vec<u8>),
}

/// The calls that build what a reader streams.
fn calls(reader: &SnapshotReader) -> Vec<Call> {
    let call = |object| match object {
        TreeObject::Node(_) => unreachable!(),
        TreeObject::Entry { name, inode, kind } => Call::Entry(name.to_vec(), inode, kind),
        TreeObject::Target(target) => Call::Target(target.to_vec()),
        TreeObject::Inline(data) => Call::Data(0, data.to_vec()),
        TreeObject::Extent { start, extent } => Call::Data(start, bytes_of(reader, &extent)),
    };
    stream(reader, 4096)
        .into_iter()
        .map(|item| match item.object {
            TreeObject::Node(node) => Call::Node(item.inode, node),
            object => call(object),
        })
        .collect()
}

fn feed_one(import: &mut Import, call: &Call) -> Result<(), ImportError> {
    match call {
        Call::Node(inode, node) => import.node(*inode, node),
        Call::Entry(name, inode, kind) => import.entry(name, *inode, *kind),
        Call::Target(target) => import.link_target(target),
        Call::Data(offset, data) => import.data(*offset, data),
    }
}

/// Makes the calls behind what the import has already, at most `limit` of them. Tells how many were left out.
fn feed(import: &mut Import, calls: &[Call], limit: usize) -> Result<usize, ImportError> {
    let first = match import.resume_after() {
        None => 0,
        Some(after) => calls
            .iter()
            .position(|call| matches!(call, Call::Node(inode, _) if *inode > after))
            .unwrap_or(calls.len()),
    };
    for call in calls[first..].iter().take(limit) {
        feed_one(import, call)?;
    }
    Ok(first)
}

fn request(workspace: &str, same_origin: bool, into_existing: bool) -> ImportRequest {
    ImportRequest {
        workspace: name(workspace),
        identity: [7; 32],
        same_origin,
        into_existing,
    }
}

fn imported(number: u8) -> ImportedSnapshot {
    ImportedSnapshot {
        id: SnapshotId([number; 16]),
        created: Timestamp::new(1_600_000_000, 5),
        note: "from elsewhere".to_owned(),
        tags: vec![Tag::new("travelled").unwrap()],
    }
}

/// What must be the same in two workspaces.
fn essence(shown: BTreeMap<Vec<u8>, Shown>) -> BTreeMap<Vec<u8>, Shown> {
    let same = |shown: Shown| {
        let mut listed = shown.listed;
        listed.sort();
        Shown {
            generation: 0,
            used: 0,
            listed,
            ..shown
        }
    };
    shown
        .into_iter()
        .map(|(path, shown)| (path, same(shown)))
        .collect()
}

fn reference(snapshot: &Snapshot) -> SnapshotReference {
    SnapshotReference::parse(&snapshot.id.to_string()).unwrap()
}

#[test]
fn a_tree_arrives_as_it_left() {
    let from = Node::fresh(1);
    from.make_workspace("w");
    fill(&from, "w", &Chance::new(1));
    let left = from.snapshot("w");
    let shown = show(&from, "w");
    let calls = calls(&from.reader("w", &left));

    let to = Node::fresh(2);
    to.make_workspace("taken");
    let mut import = to.volumes.begin_import(request("new", false, false)).unwrap();
    assert_eq!(import.resume_after(), None);
    feed(&mut import, &calls, usize::MAX).unwrap();
    assert_eq!(to.volumes.workspaces().unwrap().len(), 1, "nobody sees it yet");
    assert!(to.volumes.mount(b"/new").is_err());
    let (workspace, snapshot) = import.finish_new(ExportPolicy::default(), imported(9)).unwrap();
    assert_eq!((workspace.inodes, workspace.bytes), (left.inodes, left.bytes));
    assert_eq!((snapshot.inodes, snapshot.bytes), (left.inodes, left.bytes));
    assert_eq!(
        (snapshot.id, snapshot.created),
        (SnapshotId([9; 16]), imported(9).created)
    );
    assert_eq!((workspace.snapshots, workspace.forked_from), (1, None));
    assert_eq!(to.keys(b'P') + to.keys(b'Q'), 0);
    let arrived = show(&to, "new");
    for (path, entry) in &arrived {
        assert!(
            entry.generation != shown[path].generation,
            "other objects have other handles"
        );
        let mut sorted = entry.listed.clone();
        sorted.sort();
        assert_eq!(sorted, entry.listed, "listed by name");
    }
    assert!(essence(arrived.clone()) == essence(shown.clone()));

    // It is a workspace as any other: durable, with a snapshot that the next is compared with.
    let to = to.power_cut(3);
    assert!(show(&to, "new") == arrived);
    let root = to.root("new");
    let made = to.create(root, "made here");
    assert!(made.inode > *shown.values().map(|shown| &shown.inode).max().unwrap());
    let small = to.find(root, "also small").unwrap();
    to.write(small, 3, &Chance::new(8).bytes(9000));
    let large = to.find(to.find(root, "directory").unwrap(), "large").unwrap();
    to.write(large, 100_000, b"a few bytes");
    let next = to.snapshot("new");
    let reader = to.reader("new", &next);
    assert_eq!(reader.bases().unwrap(), [next.id, snapshot.id]);
    let changed = reader.changed_since(snapshot.id).unwrap().unwrap();
    let mut expected = vec![root.inode, small.inode, large.inode, made.inode];
    expected.sort();
    assert_eq!(changed, expected);
    assert_same(&read(&reader, 100), &show(&to, "new"));
    to.volumes.restore(&name("new"), &reference(&snapshot)).unwrap();
    assert!(essence(show(&to, "new")) == essence(shown));
}

#[test]
fn a_workspace_becomes_what_arrives_and_its_clients_carry_on() {
    let node = Node::fresh(3);
    node.make_workspace("w");
    let root = fill(&node, "w", &Chance::new(3));
    let left = node.snapshot("w");
    let then = show(&node, "w");
    let calls = calls(&node.reader("w", &left));
    let (kept, gone) = (
        node.find(root, "holes").unwrap(),
        node.find(root, "fifo").unwrap(),
    );
    node.remove(root, "holes");
    node.write(node.find(root, "empty").unwrap(), 0, &[1; 50_000]);
    let newer = node.create(root, "newer");
    let before = show(&node, "w");

    // Of the same origin: the handles of what was there then are good again.
    let mut import = node.volumes.begin_import(request("w", true, true)).unwrap();
    feed(&mut import, &calls, usize::MAX).unwrap();
    assert!(show(&node, "w") == before);
    let mut details = imported(1);
    details.id = left.id;
    let restored = import.finish_into(details).unwrap();
    assert_ne!(restored.snapshot.id, left.id, "that one is known here");
    assert_eq!(restored.snapshot.parent, None);
    assert!(essence(show(&node, "w")) == essence(then.clone()));
    assert_eq!(node.volumes.mount(b"/w").unwrap().object, root);
    assert_eq!(node.content(kept), then[&b"/holes"[..]].data);
    assert!(matches!(node.volumes.getattr(newer), Err(Error::Stale)));
    let again = node.create(root, "newer");
    assert!(again.inode > newer.inode);
    node.volumes
        .restore(&name("w"), &reference(&restored.safety))
        .unwrap();
    assert!(essence(show(&node, "w")) == essence(before));
    assert!(node.volumes.getattr(newer).is_ok());

    // Of another origin: only the root's is.
    let mut import = node.volumes.begin_import(request("w", false, true)).unwrap();
    feed(&mut import, &calls, usize::MAX).unwrap();
    let restored = import.finish_into(imported(2)).unwrap();
    assert_eq!(restored.snapshot.id, SnapshotId([2; 16]));
    assert_eq!(node.volumes.getattr(root).unwrap().object, root);
    assert!(matches!(node.volumes.getattr(gone), Err(Error::Stale)));
    assert!(essence(show(&node, "w")) == essence(then.clone()));
    let node = node.power_cut(4);
    assert!(essence(show(&node, "w")) == essence(then));
    assert_eq!(node.volumes.getattr(root).unwrap().object, root);
}

fn attributes(kind: FileKind, links: u32, size: u64) -> Attributes {
    let time = Timestamp::new(1_650_000_000, 1);
    Attributes {
        kind,
        mode: 0o644,
        links,
        uid: 1,
        gid: 2,
        size,
        device: DeviceNumber::default(),
        accessed: time,
        modified: time,
        changed: time,
        generation: 5,
        data_version: 6,
        parent: InodeId(0),
    }
}

fn directory(parent: u64, links: u32) -> Attributes {
    Attributes {
        parent: InodeId(parent),
        ..attributes(FileKind::Directory, links, 4096)
    }
}

/// A tree of many files, some of which are large, in two directories.
fn many(files: u64, chance: &Chance) -> Vec<Call> {
    let mut calls = vec![Call::Node(InodeId(1), directory(1, 3))];
    calls.push(Call::Entry(b"below".to_vec(), InodeId(2), FileKind::Directory));
    for number in 0..files / 2 {
        let entry = format!("file {number:06}").into_bytes();
        calls.push(Call::Entry(entry, InodeId(10 + number), FileKind::Regular));
    }
    calls.push(Call::Node(InodeId(2), directory(1, 2)));
    for number in files / 2..files {
        let entry = format!("file {number:06}").into_bytes();
        calls.push(Call::Entry(entry, InodeId(10 + number), FileKind::Regular));
    }
    for number in 0..files {
        let size = match number % 97 {
            0 => 200_000,
            1 => 5000,
            rest => rest * 3,
        };
        calls.push(Call::Node(
            InodeId(10 + number),
            attributes(FileKind::Regular, 1, size),
        ));
        if size > 0 {
            calls.push(Call::Data(0, chance.bytes(size as usize)));
        }
    }
    calls
}

fn check_many(node: &Node, workspace: &str, calls: &[Call]) {
    let snapshot = node.volumes.history(&name(workspace)).unwrap().remove(0);
    let tree = read(&node.reader(workspace, &snapshot), 4096);
    let mut inode = InodeId(0);
    for call in calls {
        match call {
            Call::Node(number, node) => {
                inode = *number;
                assert_eq!(tree[&inode].node.size, node.size);
            }
            Call::Entry(name, to, kind) => assert_eq!(tree[&inode].entries[name], (*to, *kind)),
            Call::Data(offset, data) => {
                let found = &tree[&inode].data[*offset as usize..][..data.len()];
                assert!(found == data, "data of {inode}");
            }
            Call::Target(target) => assert_eq!(tree[&inode].target.as_ref(), Some(target)),
        }
    }
    let nodes = calls.iter().filter(|call| matches!(call, Call::Node(..)));
    assert_eq!(tree.len(), nodes.count());
}

#[test]
fn an_import_goes_on_where_it_was_stopped() {
    let chance = Chance::new(11);
    let calls = many(5000, &chance);
    for seed in 1..=6 {
        let mut node = Node::fresh(seed);
        node.make_workspace("other");
        let mut resumed = Vec::new();
        // Stops: the end of the process, and of the power.
        for round in 0..5 {
            let mut import = node.volumes.begin_import(request("new", false, false)).unwrap();
            resumed.push(import.resume_after());
            let limit = 1 + chance.below(calls.len() as u64 / 2) as usize;
            feed(&mut import, &calls, limit).unwrap();
            if round % 2 == 0 {
                // Something else makes durable what there is.
                node.make_workspace(&format!("other{round}"));
            }
            if chance.below(2) == 0 {
                node.volumes.flush().unwrap();
                node.volumes.sweep().unwrap();
            }
            drop(import);
            node = match chance.below(3) {
                0 => node,
                1 => node.power_cut(chance.next() % 1000),
                _ => node.reopen(),
            };
            assert!(node.volumes.mount(b"/new").is_err(), "nothing is visible");
            assert!(
                node.volumes
                    .workspaces()
                    .unwrap()
                    .iter()
                    .all(|found| found.name != name("new"))
            );
        }
        assert!(resumed.iter().any(Option::is_some), "{resumed:?}");
        let mut import = node.volumes.begin_import(request("new", false, false)).unwrap();
        feed(&mut import, &calls, usize::MAX).unwrap();
        import.finish_new(ExportPolicy::default(), imported(4)).unwrap();
        check_many(&node, "new", &calls);
        let node = node.power_cut(seed);
        check_many(&node, "new", &calls);
        node.volumes.flush().unwrap();
        node.volumes.sweep().unwrap();
        check_many(&node, "new", &calls);

        // Nothing is left behind.
        for workspace in node.volumes.workspaces().unwrap() {
            node.volumes.delete_workspace(&workspace.name, true).unwrap();
        }
        node.volumes.sweep().unwrap();
        for family in b"BDHNOPQSUVhI" {
            assert_eq!(node.keys(*family), 0, "family {}", char::from(*family));
        }
    }
}

#[test]
fn segments_of_an_import_are_not_freed_under_it() {
    let node = Arc::new(Node::fresh(21));
    node.make_workspace("w");
    let file = node.create(node.root("w"), "file");
    let chance = Chance::new(21);
    let size = 30 << 20;
    let data = chance.bytes(size);
    let stop = Arc::new(AtomicBool::new(false));
    let sweeper = std::thread::spawn({
        let (node, stop) = (node.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                node.volumes.flush().unwrap();
                node.volumes.sweep().unwrap();
            }
        }
    });
    let mut import = node.volumes.begin_import(request("new", false, false)).unwrap();
    import.node(InodeId(1), &directory(1, 2)).unwrap();
    import.entry(b"big", InodeId(2), FileKind::Regular).unwrap();
    import
        .node(InodeId(2), &attributes(FileKind::Regular, 1, size as u64 * 2))
        .unwrap();
    for (number, part) in data.chunks(100_000).enumerate() {
        // With holes between.
        import.data(number as u64 * 200_000, part).unwrap();
        if number % 20 == 0 {
            node.write(file, 0, &chance.bytes(300_000));
            node.volumes.flush().unwrap();
            node.volumes.sweep().unwrap();
        }
    }
    stop.store(true, Ordering::Relaxed);
    sweeper.join().unwrap();
    import.finish_new(ExportPolicy::default(), imported(5)).unwrap();
    node.volumes.sweep().unwrap();
    let found = node.content(node.find(node.root("new"), "big").unwrap());
    for (number, part) in data.chunks(100_000).enumerate() {
        let (start, end) = (number * 200_000, number * 200_000 + part.len());
        assert!(found[start..end] == *part, "part {number}");
        assert!(found[end..].iter().take(100_000).all(|byte| *byte == 0));
    }
    let usage = node
        .volumes
        .getattr(node.find(node.root("new"), "big").unwrap())
        .unwrap();
    assert_eq!(usage.used, size as u64, "holes take no room");
    // What was overwritten went meanwhile.
    assert!(node.volumes.usage().unwrap().log_bytes < 2 * size as u64);
    assert_eq!(node.content(file).len(), 300_000);
}

#[test]
fn a_failure_of_a_store_shows_nothing_and_loses_nothing() {
    let chance = Chance::new(31);
    let calls = many(3000, &chance);
    let node = Node::fresh(31);
    for writes in [0, 1, 2, 1] {
        let mut import = node.volumes.begin_import(request("new", false, false)).unwrap();
        node.engine.fail_write_after(writes);
        let failed = feed(&mut import, &calls, usize::MAX).map(|_| ()).and_then(|()| {
            import
                .finish_new(ExportPolicy::default(), imported(6))
                .map(|_| ())
        });
        let error = failed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
        assert!(node.volumes.workspaces().unwrap().is_empty());
    }
    let mut import = node.volumes.begin_import(request("new", false, false)).unwrap();
    assert!(import.resume_after().is_some());
    feed(&mut import, &calls, usize::MAX).unwrap();
    import.finish_new(ExportPolicy::default(), imported(6)).unwrap();
    check_many(&node, "new", &calls);
}

#[test]
fn unfinished_imports_are_listed_replaced_abandoned_and_forgotten() {
    let node = Node::fresh(41);
    let calls = many(3000, &Chance::new(41));
    let begin = |identity| {
        let identity = [identity; 32];
        node.volumes.begin_import(ImportRequest {
            identity,
            ..request("new", false, false)
        })
    };
    let mut import = begin(1).unwrap();
    feed(&mut import, &calls, 8000).unwrap();
    assert!(matches!(begin(1).err().unwrap(), ImportError::Running { .. }));
    let abandoned = node.volumes.abandon_import(&name("new"));
    assert!(matches!(abandoned, Err(ImportError::Running { .. })));
    assert!(node.volumes.imports().unwrap()[0].running);
    drop(import);
    let import = begin(1).unwrap();
    let last = import.resume_after().unwrap();
    drop(import);
    node.volumes.sweep().unwrap();
    let status = node.volumes.imports().unwrap().remove(0);
    assert_eq!(
        (status.workspace, status.identity, status.running),
        (name("new"), [1; 32], false)
    );
    assert!(status.inodes > 0 && status.inodes <= last.0);

    let mut import = begin(2).unwrap();
    assert_eq!(import.resume_after(), None, "something else begins anew");
    let objects = node.keys(b'H');
    node.volumes.sweep().unwrap();
    assert!(objects > 3000 && node.keys(b'H') == 0);
    feed(&mut import, &calls, 8000).unwrap();
    drop(import);
    node.volumes.abandon_import(&name("new")).unwrap();
    let none = node.volumes.abandon_import(&name("new"));
    assert!(matches!(none, Err(ImportError::None { .. })));
    node.volumes.sweep().unwrap();
    assert_eq!((node.keys(b'H'), node.keys(b'B'), node.keys(b'P')), (0, 0, 0));

    let mut import = begin(3).unwrap();
    feed(&mut import, &calls, 8000).unwrap();
    node.leap(8 * 24 * 3600);
    node.volumes.sweep().unwrap();
    assert_eq!(node.volumes.imports().unwrap().len(), 1, "somebody is at it");
    drop(import);
    node.volumes.sweep().unwrap();
    assert_eq!((node.keys(b'H'), node.keys(b'B'), node.keys(b'P')), (0, 0, 0));

    node.make_workspace("w");
    let exists = node
        .volumes
        .begin_import(request("w", false, false))
        .err()
        .unwrap();
    assert!(matches!(
        exists,
        ImportError::Control(ControlError::WorkspaceExists { .. })
    ));
    let missing = node
        .volumes
        .begin_import(request("x", false, true))
        .err()
        .unwrap();
    assert!(matches!(
        missing,
        ImportError::Control(ControlError::NoWorkspace { .. })
    ));
    let mut import = begin(4).unwrap();
    feed(&mut import, &calls, usize::MAX).unwrap();
    node.make_workspace("new");
    let exists = import
        .finish_new(ExportPolicy::default(), imported(1))
        .unwrap_err();
    assert!(matches!(
        exists,
        ImportError::Control(ControlError::WorkspaceExists { .. })
    ));
    assert_eq!(
        node.volumes.imports().unwrap().len(),
        1,
        "it can still be finished"
    );
}

/// Builds a tree and tells what was wrong with it.
fn fault_of(calls: &[Call]) -> ImportFault {
    let node = Node::fresh(51);
    let mut import = node.volumes.begin_import(request("new", true, false)).unwrap();
    let built = feed(&mut import, calls, usize::MAX);
    if built.is_err() {
        let again = import.node(InodeId(1 << 40), &attributes(FileKind::Fifo, 1, 0));
        assert!(matches!(again, Err(ImportError::Broken)));
        drop(import);
    } else {
        let outcome = import.finish_new(ExportPolicy::default(), imported(1));
        let Err(ImportError::Invalid { fault, .. }) = outcome else {
            panic!("{calls:?}: {outcome:?}");
        };
        assert_eq!(node.keys(b'P'), 0);
        return check_nothing(&node, fault);
    }
    match built {
        Err(ImportError::Invalid { fault, .. }) => check_nothing(&node, fault),
        other => panic!("{calls:?}: {other:?}"),
    }
}

fn check_nothing(node: &Node, fault: ImportFault) -> ImportFault {
    assert!(node.volumes.workspaces().unwrap().is_empty());
    assert!(node.volumes.imports().unwrap().is_empty(), "it is forgotten");
    node.volumes.sweep().unwrap();
    assert_eq!(node.keys(b'H') + node.keys(b'B') + node.keys(b'Q'), 0);
    fault
}

#[test]
fn trees_that_cannot_be_are_refused() {
    let root = |links| Call::Node(InodeId(1), directory(1, links));
    let file = |inode, links, size| Call::Node(InodeId(inode), attributes(FileKind::Regular, links, size));
    let entry = |name: &str, inode, kind| Call::Entry(name.as_bytes().to_vec(), InodeId(inode), kind);
    let regular = |name, inode| entry(name, inode, FileKind::Regular);
    let folder = |name, inode| entry(name, inode, FileKind::Directory);
    let cases = [
        (vec![], ImportFault::Root),
        (vec![file(1, 1, 0)], ImportFault::Root),
        (vec![Call::Node(InodeId(2), directory(1, 2))], ImportFault::Root),
        (
            vec![Call::Node(InodeId(0), directory(0, 2))],
            ImportFault::InodeNumber,
        ),
        (vec![root(2), file(u64::MAX, 1, 0)], ImportFault::InodeNumber),
        (vec![Call::Node(InodeId(1), directory(2, 2))], ImportFault::Parent),
        (
            vec![root(3), folder("a", 2), Call::Node(InodeId(2), directory(2, 2))],
            ImportFault::Parent,
        ),
        (
            vec![root(2), regular("a", 2), file(2, 1, 0), file(2, 1, 0)],
            ImportFault::InodeOrder { last: InodeId(2) },
        ),
        (vec![root(2), file(2, 0, 0)], ImportFault::Links),
        (vec![root(3), regular("a", 2), file(2, 1, 0)], ImportFault::Links),
        (
            vec![root(2), regular("b", 2), regular("a", 3)],
            ImportFault::EntryOrder,
        ),
        (
            vec![root(2), regular("a", 2), regular("a", 3)],
            ImportFault::EntryOrder,
        ),
        (vec![root(2), regular("a", 0)], ImportFault::InodeNumber),
        (vec![root(2), file(2, 1, u64::MAX)], ImportFault::Size),
        (
            vec![root(2), Call::Node(InodeId(2), attributes(FileKind::Fifo, 1, 1))],
            ImportFault::Size,
        ),
        (vec![root(2), Call::Data(0, vec![1])], ImportFault::WrongKind),
        (
            vec![root(2), file(2, 1, 0), regular("a", 3)],
            ImportFault::WrongKind,
        ),
        (
            vec![root(2), file(2, 1, 5), Call::Data(3, vec![1; 3])],
            ImportFault::DataRange,
        ),
        (
            vec![
                root(2),
                file(2, 1, 5),
                Call::Data(3, vec![1]),
                Call::Data(3, vec![1]),
            ],
            ImportFault::DataRange,
        ),
        (
            vec![root(2), file(2, 1, 5), Call::Data(u64::MAX, vec![1])],
            ImportFault::DataRange,
        ),
        // Names without inodes, inodes without names, other kinds, too few and too many names.
        (vec![root(2), regular("a", 2)], ImportFault::Names),
        (vec![root(2), file(2, 1, 0)], ImportFault::Names),
        (
            vec![root(2), entry("a", 2, FileKind::Fifo), file(2, 1, 0)],
            ImportFault::Names,
        ),
        (vec![root(2), regular("a", 2), file(2, 2, 0)], ImportFault::Names),
        (
            vec![root(2), regular("a", 2), regular("b", 2), file(2, 1, 0)],
            ImportFault::Names,
        ),
        (vec![root(3), folder("a", 1)], ImportFault::Names),
        (
            vec![
                root(4),
                folder("a", 2),
                folder("b", 2),
                Call::Node(InodeId(2), directory(1, 2)),
            ],
            ImportFault::Names,
        ),
        (
            vec![
                root(3),
                folder("a", 2),
                Call::Node(InodeId(2), directory(3, 3)),
                folder("b", 3),
                Call::Node(InodeId(3), directory(2, 2)),
            ],
            ImportFault::Names,
        ),
        (
            vec![
                root(2),
                Call::Node(InodeId(2), directory(3, 3)),
                folder("three", 3),
                Call::Node(InodeId(3), directory(2, 3)),
                folder("two", 2),
            ],
            ImportFault::Circle,
        ),
    ];
    for (calls, expected) in cases {
        assert_eq!(fault_of(&calls), expected, "{calls:?}");
    }
    for bad in ["", ".", "..", "a/b", "a\0"] {
        let fault = fault_of(&[root(2), regular(bad, 2)]);
        assert!(matches!(fault, ImportFault::Name { .. }), "{bad:?}: {fault:?}");
    }
    let link = |size| Call::Node(InodeId(2), attributes(FileKind::Symlink, 1, size));
    let named = entry("l", 2, FileKind::Symlink);
    let target = |bytes: &[u8]| Call::Target(bytes.to_vec());
    for calls in [
        vec![root(2), named.clone(), link(3)],
        vec![root(2), named.clone(), link(3), target(b"ab")],
        vec![root(2), named.clone(), link(3), target(b"a\0b")],
        vec![root(2), named, link(3), target(b"abc"), target(b"abc")],
    ] {
        assert_eq!(fault_of(&calls), ImportFault::Target, "{calls:?}");
    }
    let mode = Attributes {
        mode: 0o10_000,
        ..attributes(FileKind::Regular, 1, 0)
    };
    assert_eq!(
        fault_of(&[root(2), Call::Node(InodeId(2), mode)]),
        ImportFault::Mode
    );
    let huge = i64::MAX as u64;
    let fault = fault_of(&[
        root(2),
        regular("a", 2),
        regular("b", 3),
        file(2, 1, huge),
        file(3, 1, 1),
    ]);
    assert_eq!(fault, ImportFault::Size);
}
