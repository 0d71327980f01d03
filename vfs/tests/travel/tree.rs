//! Trees as plain maps: as a reader streams them, and as the file system shows them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use cairn_types::{Extent, FileKind, InodeId, Node as Attributes, TreeCursor, TreeItem, TreeObject};
use cairn_vfs::filesystem::Entry;
use cairn_vfs::{FileSystem, SnapshotReader};

use crate::node::{Node, caller};

/// An inode with all that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inode {
    pub node: Attributes,
    pub entries: BTreeMap<Vec<u8>, (InodeId, FileKind)>,
    pub target: Option<Vec<u8>>,
    pub data: Vec<u8>,
}

pub type Tree = BTreeMap<InodeId, Inode>;

/// All objects, in batches of about `limit`; checks that they are in order.
pub fn stream(reader: &SnapshotReader, limit: usize) -> Vec<TreeItem> {
    let mut cursor = TreeCursor::new(InodeId(0), InodeId(u64::MAX));
    let mut items = Vec::new();
    loop {
        let before = items.len();
        reader.items(&mut cursor, limit, &mut items).unwrap();
        if items.len() == before {
            break;
        }
        assert!(items.len() <= before + limit);
    }
    for pair in items.windows(2) {
        let ordered = match (&pair[0].object, &pair[1].object) {
            _ if pair[0].inode != pair[1].inode => {
                pair[0].inode < pair[1].inode && matches!(pair[1].object, TreeObject::Node(_))
            }
            (TreeObject::Node(_), _) => true,
            (TreeObject::Entry { name: a, .. }, TreeObject::Entry { name: b, .. }) => a < b,
            (TreeObject::Extent { start: a, extent }, TreeObject::Extent { start: b, .. }) => {
                a + u64::from(extent.length()) <= *b
            }
            _ => false,
        };
        assert!(ordered, "{pair:?}");
    }
    items
}

/// What a reader streams, with the bytes.
pub fn read(reader: &SnapshotReader, limit: usize) -> Tree {
    let mut tree = Tree::new();
    for item in stream(reader, limit) {
        if let TreeObject::Node(node) = item.object {
            let size = if node.kind == FileKind::Regular {
                node.size
            } else {
                0
            };
            let inode = Inode {
                node,
                entries: BTreeMap::new(),
                target: None,
                data: vec![0; size as usize],
            };
            tree.insert(item.inode, inode);
            continue;
        }
        let inode = tree.get_mut(&item.inode).unwrap();
        match item.object {
            TreeObject::Node(_) => {}
            TreeObject::Entry {
                name,
                inode: to,
                kind,
            } => {
                inode.entries.insert(name.to_vec(), (to, kind));
            }
            TreeObject::Target(target) => inode.target = Some(target.to_vec()),
            TreeObject::Inline(data) => inode.data[..data.len()].copy_from_slice(&data),
            TreeObject::Extent { start, extent } => {
                let data = bytes_of(reader, &extent);
                inode.data[start as usize..][..data.len()].copy_from_slice(&data);
            }
        }
    }
    tree
}

pub fn bytes_of(reader: &SnapshotReader, extent: &Extent) -> Vec<u8> {
    let data = reader.read(extent).unwrap();
    assert_eq!(data.len(), extent.length() as usize);
    data.to_vec()
}

/// An object as the file system shows it at a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub inode: InodeId,
    pub generation: u32,
    pub attributes: Attributes,
    pub used: u64,
    pub target: Option<Vec<u8>>,
    pub data: Vec<u8>,
    /// Names of a directory in the order in which they are listed.
    pub listed: Vec<Vec<u8>>,
}

/// Everything in a workspace, by path.
pub fn show(node: &Node, workspace: &str) -> BTreeMap<Vec<u8>, Shown> {
    let mut shown = BTreeMap::new();
    let root = node.root(workspace);
    let mut waiting = vec![(Vec::new(), root, root)];
    while let Some((path, object, parent)) = waiting.pop() {
        let found = node.volumes.getattr(object).unwrap();
        let kind = found.kind;
        let mut names = Vec::new();
        if kind == FileKind::Directory {
            let mut visit = |entry: Entry<'_>| {
                if !matches!(entry.name, b"." | b"..") {
                    names.push(entry.name.to_vec());
                }
                ControlFlow::Continue(())
            };
            node.volumes
                .readdir(&caller(), object, 0, false, &mut visit)
                .unwrap();
            for name in &names {
                let entry = node.volumes.lookup(&caller(), object, name).unwrap();
                let path = [path.as_slice(), b"/", name].concat();
                waiting.push((path, entry.attributes.object, object));
            }
        }
        let symlink = kind == FileKind::Symlink;
        let target = symlink.then(|| node.volumes.readlink(&caller(), object).unwrap().0.to_vec());
        let data = match kind {
            FileKind::Regular => node.content(object),
            _ => Vec::new(),
        };
        let attributes = Attributes {
            kind,
            mode: found.mode as u16,
            links: found.links,
            uid: found.uid,
            gid: found.gid,
            size: found.size,
            device: found.device,
            accessed: found.accessed,
            modified: found.modified,
            changed: found.changed,
            generation: 0,
            data_version: 0,
            parent: match kind {
                FileKind::Directory => parent.inode,
                _ => InodeId(0),
            },
        };
        let entry = Shown {
            inode: object.inode,
            generation: object.generation,
            attributes,
            used: found.used,
            target,
            data,
            listed: names,
        };
        shown.insert(path, entry);
    }
    shown
}

/// Checks that a streamed tree is what the file system shows.
pub fn assert_same(tree: &Tree, shown: &BTreeMap<Vec<u8>, Shown>) {
    let mut paths = BTreeMap::new();
    let mut waiting = vec![(Vec::new(), InodeId::ROOT)];
    while let Some((path, inode)) = waiting.pop() {
        for (name, (to, kind)) in &tree[&inode].entries {
            assert_eq!(tree[to].node.kind, *kind);
            waiting.push(([path.as_slice(), b"/", name].concat(), *to));
        }
        paths.insert(path, inode);
    }
    assert!(paths.keys().eq(shown.keys()));
    for (path, inode) in paths {
        let (streamed, shown) = (&tree[&inode], &shown[&path]);
        assert_eq!(inode, shown.inode);
        assert_eq!(streamed.node.generation, shown.generation);
        let node = Attributes {
            generation: 0,
            data_version: 0,
            ..streamed.node
        };
        assert_eq!(node, shown.attributes, "{}", path.escape_ascii());
        assert_eq!(streamed.target, shown.target);
        assert!(streamed.data == shown.data, "data of {}", path.escape_ascii());
        let mut listed = shown.listed.clone();
        listed.sort();
        assert!(streamed.entries.keys().eq(listed.iter()));
    }
    let reachable: std::collections::BTreeSet<_> = shown.values().map(|shown| shown.inode).collect();
    assert!(tree.keys().eq(reachable.iter()), "what is streamed has a name");
}
