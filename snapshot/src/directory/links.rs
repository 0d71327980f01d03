//! Hard links: which entries of a walk are names of one file.
//!
//! Holds one entry for each file with several names of which not all were met: for a tree that has them all, nothing in the end.

use std::collections::HashMap;

use cairn_types::FileKind;

use super::entry::Stamp;
use super::path::RelativePath;
use super::walk::Found;

/// The files of a tree that have several names, by device and inode.
#[derive(Debug, Default)]
pub struct LinkTable {
    first: HashMap<(u64, u64), Names>,
}

#[derive(Debug)]
struct Names {
    first: RelativePath,
    /// Names that are still to come, if all are in the tree.
    left: u64,
}

impl LinkTable {
    /// No file yet.
    pub fn new() -> Self {
        LinkTable::default()
    }

    /// Takes note of an entry, in path order. Returns the first name of its file if this is another one.
    pub fn meet(&mut self, found: &Found) -> Option<RelativePath> {
        self.meet_name(&found.path, found.kind(), &found.stamp, found.links)
    }

    /// The same for an entry by its parts; `links` is `st_nlink`.
    pub fn meet_name(
        &mut self,
        path: &RelativePath,
        kind: FileKind,
        stamp: &Stamp,
        links: u64,
    ) -> Option<RelativePath> {
        if links < 2 || kind == FileKind::Directory {
            return None;
        }
        let key = (stamp.device, stamp.inode);
        let Some(names) = self.first.get_mut(&key) else {
            self.first.insert(
                key,
                Names {
                    first: path.clone(),
                    left: links - 1,
                },
            );
            return None;
        };
        names.left -= 1;
        if names.left == 0 {
            return self.first.remove(&key).map(|names| names.first);
        }
        Some(names.first.clone())
    }

    /// The file's first name was not taken after all (it vanished, or could not be read): the next name is the first.
    pub fn forget(&mut self, stamp: &Stamp) {
        self.first.remove(&(stamp.device, stamp.inode));
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{FileKind, Timestamp};

    use super::LinkTable;
    use crate::directory::{RelativePath, Stamp};

    #[test]
    fn later_names_are_links_to_the_first() {
        let path = |text: &str| RelativePath::new(text.as_bytes()).unwrap();
        let stamp = |inode| Stamp {
            device: 1,
            inode,
            changed: Timestamp::default(),
        };
        let mut table = LinkTable::new();
        let mut meet =
            |text, inode, links| table.meet_name(&path(text), FileKind::Regular, &stamp(inode), links);
        assert_eq!(meet("a", 7, 3), None);
        assert_eq!(meet("b", 8, 1), None);
        assert_eq!(meet("c", 7, 3), Some(path("a")));
        assert_eq!(meet("d", 7, 3), Some(path("a")));
        // All its names were met: this inode number is that of a new file.
        assert_eq!(meet("e", 7, 2), None);
        assert!(
            table
                .meet_name(&path("x"), FileKind::Directory, &stamp(9), 5)
                .is_none()
        );
    }
}
