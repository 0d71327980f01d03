//! Hard links: which entries of a walk are names of one file.
//!
//! - Holds one entry for each file with several names of which not all were met: for a tree that has them all, nothing in the end.
//! - A file that is written between the looks at two of its names counts as two files, each with the data that it had: the number of
//!   an inode alone could be that of a new file, which has taken the place of a removed one.

use std::collections::HashMap;

use cairn_types::{FileKind, Timestamp};

use super::entry::{Attributes, Stamp};
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
    size: u64,
    modified: Timestamp,
}

impl LinkTable {
    /// No file yet.
    pub fn new() -> Self {
        LinkTable::default()
    }

    /// Takes note of an entry, in path order. Returns the first name of its file if this is another one.
    pub fn meet(&mut self, found: &Found) -> Option<RelativePath> {
        self.meet_name(&found.path, &found.attributes, &found.stamp, found.links)
    }

    /// The same for an entry by its parts; `links` is `st_nlink`.
    pub fn meet_name(
        &mut self,
        path: &RelativePath,
        attributes: &Attributes,
        stamp: &Stamp,
        links: u64,
    ) -> Option<RelativePath> {
        if links < 2 || attributes.kind == FileKind::Directory {
            return None;
        }
        let key = (stamp.device, stamp.inode);
        let (size, modified) = (attributes.size, attributes.modified);
        match self.first.get_mut(&key) {
            Some(names) if (names.size, names.modified) == (size, modified) => {
                names.left -= 1;
                match names.left {
                    0 => self.first.remove(&key).map(|names| names.first),
                    _ => Some(names.first.clone()),
                }
            }
            _ => {
                let names = Names {
                    first: path.clone(),
                    left: links - 1,
                    size,
                    modified,
                };
                self.first.insert(key, names);
                None
            }
        }
    }

    /// The file's first name was not taken after all (it vanished, or could not be read): the next name is the first.
    pub fn forget(&mut self, stamp: &Stamp) {
        self.first.remove(&(stamp.device, stamp.inode));
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{DeviceNumber, FileKind, Timestamp};

    use super::LinkTable;
    use crate::directory::{Attributes, RelativePath, Stamp};

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text.as_bytes()).unwrap()
    }

    fn meet(table: &mut LinkTable, text: &str, inode: u64, links: u64, size: u64) -> Option<RelativePath> {
        let kind = if text == "directory" {
            FileKind::Directory
        } else {
            FileKind::Regular
        };
        let attributes = Attributes {
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            modified: Timestamp::default(),
            size,
            device: DeviceNumber::default(),
            xattrs: Vec::new(),
        };
        let stamp = Stamp {
            device: 1,
            inode,
            changed: Timestamp::default(),
        };
        table.meet_name(&path(text), &attributes, &stamp, links)
    }

    #[test]
    fn later_names_are_links_to_the_first() {
        let table = &mut LinkTable::new();
        assert_eq!(meet(table, "a", 7, 3, 5), None);
        assert_eq!(meet(table, "b", 8, 1, 5), None);
        assert_eq!(meet(table, "c", 7, 3, 5), Some(path("a")));
        assert_eq!(meet(table, "d", 7, 3, 5), Some(path("a")));
        // All its names were met: this inode number is that of a new file.
        assert_eq!(meet(table, "e", 7, 2, 5), None);
        assert_eq!(meet(table, "directory", 9, 2, 0), None);
        assert_eq!(meet(table, "directory", 9, 2, 0), None);
    }

    #[test]
    fn an_inode_that_another_file_has_got_is_no_link() {
        let table = &mut LinkTable::new();
        assert_eq!(meet(table, "a", 7, 2, 5), None);
        assert_eq!(meet(table, "b", 7, 2, 6), None);
        assert_eq!(meet(table, "c", 7, 2, 6), Some(path("b")));
    }
}
