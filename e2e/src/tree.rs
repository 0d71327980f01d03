//! Whole trees, local or behind NFS: listing, copying and comparing them to the last bit.
//!
//! A [`Tree`] is a listing with a way to read the contents. Paths are bytes, relative to the tree's root, which has the
//! empty path. What a tree says: type, mode, owner, group, size, modification time to the nanosecond, link target,
//! device, and which names are the same object.

pub mod compare;
pub mod copy_in;
pub mod copy_out;
pub mod local;
pub mod remote;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::client::attributes::Kind;
use crate::client::files::Run;
use crate::client::{Attributes, Client, ClientError, Handle};

/// Calls in flight of one copy or comparison.
pub const IN_FLIGHT: usize = 48;

/// A path relative to the root of a tree.
pub type TreePath = Vec<u8>;

/// An object of a tree.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its attributes. `fileid` is the same for the names of one object, `links` counts them.
    pub attributes: Attributes,
    /// Where a symbolic link points.
    pub target: Option<Vec<u8>>,
    /// Its handle, in a remote tree.
    pub handle: Option<Handle>,
}

impl Node {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.attributes.kind
    }
}

/// Where a tree is.
#[derive(Debug, Clone)]
pub enum Side {
    /// A directory of this machine.
    Local(PathBuf),
    /// A directory of an export.
    Remote(Arc<Client>),
}

/// A listed tree.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Where it is.
    pub side: Side,
    /// Everything in it, the root included, parents before children.
    pub nodes: BTreeMap<TreePath, Node>,
}

/// Why work on a tree failed.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A local file could not be used.
    #[error("{path}")]
    Local {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server could not be used, or refused.
    #[error("{path}")]
    Remote {
        /// The path in the tree.
        path: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// A listing contradicts itself.
    #[error("{path}: {what}")]
    Inconsistent {
        /// The path in the tree.
        path: String,
        /// How.
        what: &'static str,
    },
}

impl TreeError {
    /// What the server refused, if it was the server.
    pub fn client(&self) -> Option<&ClientError> {
        match self {
            TreeError::Remote { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A path for people.
pub fn show(path: &[u8]) -> String {
    match path {
        [] => ".".to_owned(),
        _ => path.escape_ascii().to_string(),
    }
}

pub(crate) fn local_error(path: &[u8]) -> impl FnOnce(std::io::Error) -> TreeError {
    let path = show(path);
    move |source| TreeError::Local { path, source }
}

pub(crate) fn remote_error(path: &[u8]) -> impl FnOnce(ClientError) -> TreeError {
    let path = show(path);
    move |source| TreeError::Remote { path, source }
}

/// The path of `name` in the directory `parent`.
pub fn join(parent: &[u8], name: &[u8]) -> TreePath {
    match parent {
        [] => name.to_vec(),
        _ => [parent, b"/", name].concat(),
    }
}

/// Parent and name of a path; `None` for the root.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => Some((&path[..at], &path[at + 1..])),
        None if path.is_empty() => None,
        None => Some((&[], path)),
    }
}

/// What a tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Objects of every kind, several names of one counted once each.
    pub entries: u64,
    /// Regular files, several names of one counted once.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tree {
    /// The object at `path`.
    pub fn node(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Counts.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            entries: self.nodes.len() as u64,
            ..Totals::default()
        };
        for (_, node) in self.regular_files() {
            totals.files += 1;
            totals.bytes += node.attributes.size;
        }
        totals
    }

    /// Regular files, each by the first of its names.
    pub fn regular_files(&self) -> impl Iterator<Item = (&TreePath, &Node)> {
        let mut seen = std::collections::HashSet::new();
        self.nodes.iter().filter(move |(_, node)| {
            node.kind() == Kind::Regular
                && (node.attributes.links == 1 || seen.insert(node.attributes.fileid))
        })
    }

    /// The names of each object that has several in this tree, directories aside.
    pub fn link_groups(&self) -> BTreeMap<u64, Vec<&TreePath>> {
        let mut groups: BTreeMap<u64, Vec<&TreePath>> = BTreeMap::new();
        for (path, node) in &self.nodes {
            if node.kind() != Kind::Directory && node.attributes.links > 1 {
                groups.entry(node.attributes.fileid).or_default().push(path);
            }
        }
        groups.retain(|_, paths| paths.len() > 1);
        groups
    }

    /// Reads a run of a regular file.
    pub async fn read(&self, path: &[u8], node: &Node, run: Run) -> Result<Vec<u8>, TreeError> {
        match (&self.side, &node.handle) {
            (Side::Local(root), _) => local::read(root, path, run).map_err(local_error(path)),
            (Side::Remote(client), Some(handle)) => client
                .read_exact(handle, run.offset, run.length)
                .await
                .map_err(remote_error(path)),
            (Side::Remote(_), None) => Err(TreeError::Inconsistent {
                path: show(path),
                what: "no handle",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{join, split};

    #[test]
    fn paths_split_where_they_were_joined() {
        assert_eq!(split(&join(b"a/b", b"c")), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(split(&join(b"", b"c")), Some((&b""[..], &b"c"[..])));
        assert_eq!(split(b""), None);
    }
}
