//! A state as objects in the order of a tree, from the model and from a view, and the inodes in which two states differ.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cairn_metadata::{InodeRecord, View};
use cairn_types::{FileKind, InodeId, Node, TreeCursor, TreeItem, TreeObject};

use crate::tree::Tree;

fn node(record: &InodeRecord) -> Node {
    Node {
        kind: record.kind,
        mode: record.mode,
        links: record.links,
        uid: record.uid,
        gid: record.gid,
        size: record.size,
        device: record.device,
        accessed: record.accessed,
        modified: record.modified,
        changed: record.changed,
        generation: record.generation,
        data_version: record.data_version,
        parent: if record.kind == FileKind::Directory {
            record.parent
        } else {
            InodeId(0)
        },
    }
}

impl Tree {
    /// The objects of every inode that has attributes, in the order of a tree.
    fn objects(&self) -> BTreeMap<u64, Vec<TreeObject>> {
        let mut objects = BTreeMap::new();
        for (&inode, record) in &self.inodes {
            let mut of_inode = vec![TreeObject::Node(node(record))];
            for ((directory, name), entry) in &self.entries {
                if *directory == inode {
                    of_inode.push(TreeObject::Entry {
                        name: Bytes::copy_from_slice(name),
                        inode: entry.inode,
                        kind: entry.kind,
                    });
                }
            }
            for ((file, _), record) in &self.extents {
                if *file == inode {
                    of_inode.push(TreeObject::Extent {
                        start: record.start,
                        extent: record.extent.clone(),
                    });
                }
            }
            let copy = |bytes: &Vec<u8>| Bytes::copy_from_slice(bytes);
            of_inode.extend(self.inline.get(&inode).map(copy).map(TreeObject::Inline));
            of_inode.extend(self.links.get(&inode).map(copy).map(TreeObject::Target));
            objects.insert(inode, of_inode);
        }
        objects
    }

    /// The inodes of which anything is not the same in `other`.
    pub fn differing(&self, other: &Tree) -> BTreeSet<InodeId> {
        let (ours, theirs) = (self.objects(), other.objects());
        let all = ours.keys().chain(theirs.keys());
        all.filter(|inode| ours.get(inode) != theirs.get(inode))
            .map(|inode| InodeId(*inode))
            .collect()
    }

    /// Compares the objects that a view streams, in batches of several sizes and from every inode on.
    pub fn check_items(&self, view: &View<'_>, context: &str) {
        let objects = self.objects();
        let expected = |from: u64, to: u64| {
            let items = objects.range(from..to).flat_map(|(inode, objects)| {
                let item = |object: &TreeObject| TreeItem {
                    inode: InodeId(*inode),
                    object: object.clone(),
                };
                objects.iter().map(item).collect::<Vec<_>>()
            });
            items.collect::<Vec<_>>()
        };
        for (from, to, limit) in [
            (0, u64::MAX, 1000),
            (0, u64::MAX, 1),
            (1, 3, 2),
            (2, 40, 3),
            (5, 5, 1),
        ] {
            let mut cursor = TreeCursor::new(InodeId(from), InodeId(to));
            let mut found = Vec::new();
            loop {
                let before = found.len();
                view.tree_items(&mut cursor, limit, &mut found).unwrap();
                if found.len() == before {
                    break;
                }
            }
            assert_eq!(found, expected(from, to), "{from}..{to} by {limit} of {context}");
        }
    }
}
