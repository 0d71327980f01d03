//! What differs between two states of a volume.

use std::collections::BTreeMap;

use cairn_types::InodeId;
use cairn_vfs::control::{Difference, DifferenceKind};

use super::{Body, Inode, Tree};

/// What of two objects under one path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Degree {
    /// Nothing need be reported: only the time of the last access or of the last change of attributes differs, or the times
    /// and links of a directory, which follow from its entries.
    pub optional: bool,
    /// The data may be reported as modified although the bytes are equal: they were written again.
    pub rewritten: bool,
}

/// A difference and how certain it is.
pub type Graded = (Difference, Degree);

const CERTAIN: Degree = Degree {
    optional: false,
    rewritten: false,
};

impl Tree {
    /// Every path, the root's being empty, split into components, in order: a directory precedes what is in it.
    fn paths(&self) -> BTreeMap<Vec<Vec<u8>>, InodeId> {
        let mut paths = BTreeMap::from([(Vec::new(), InodeId::ROOT)]);
        let mut open = vec![(Vec::new(), InodeId::ROOT)];
        while let Some((path, directory)) = open.pop() {
            let Body::Directory(directory) = &self.inode(directory).body else {
                continue;
            };
            for (name, entry) in &directory.entries {
                let mut path = path.clone();
                path.push(name.clone());
                open.push((path.clone(), entry.inode));
                paths.insert(path, entry.inode);
            }
        }
        paths
    }

    /// What differs from this state to `after`, in path order. Everything below an added, removed or retyped directory is
    /// listed too.
    pub fn differences(&self, after: &Tree) -> Vec<Graded> {
        let (old, new) = (self.paths(), after.paths());
        let mut all: Vec<&Vec<Vec<u8>>> = old.keys().chain(new.keys()).collect();
        all.sort();
        all.dedup();
        let mut differences = Vec::new();
        for path in all {
            let before = old.get(path).map(|id| self.inode(*id));
            let now = new.get(path).map(|id| after.inode(*id));
            let graded = match (before, now) {
                (Some(before), Some(now)) => compare(before, now, old[path] == new[path]),
                (Some(_), None) => Some((DifferenceKind::Removed, CERTAIN)),
                (None, _) => Some((DifferenceKind::Added, CERTAIN)),
            };
            let bytes = |inode: Option<&Inode>| match inode.map(|inode| &inode.body) {
                Some(Body::Regular(contents)) => Some(contents.size),
                _ => None,
            };
            if let Some((kind, degree)) = graded {
                let difference = Difference {
                    kind,
                    path: path.join(&b'/'),
                    directory: now.or(before).is_some_and(Inode::is_directory),
                    bytes_before: bytes(before),
                    bytes_after: bytes(now),
                };
                differences.push((difference, degree));
            }
        }
        differences
    }
}

fn compare(before: &Inode, after: &Inode, same_object: bool) -> Option<(DifferenceKind, Degree)> {
    if before.kind() != after.kind() {
        return Some((DifferenceKind::Retyped, CERTAIN));
    }
    let same_data = match (&before.body, &after.body) {
        (Body::Regular(a), Body::Regular(b)) => a.same_bytes(b),
        (Body::Directory(_), Body::Directory(_)) => true,
        (a, b) => a == b,
    };
    if !same_data {
        return Some((DifferenceKind::Modified, CERTAIN));
    }
    let owner = |inode: &Inode| (inode.mode, inode.uid, inode.gid);
    let names = |inode: &Inode| (inode.modified, inode.links);
    let seen = owner(before) != owner(after);
    let certain = seen || !before.is_directory() && names(before) != names(after);
    let touched = before.accessed != after.accessed || before.changed != after.changed;
    let degree = Degree {
        optional: !certain,
        rewritten: !before.is_directory() && (!same_object || touched),
    };
    let reported = certain || touched || !same_object;
    reported.then_some((DifferenceKind::Attributes, degree))
}
