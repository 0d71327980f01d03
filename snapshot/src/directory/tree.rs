//! A tree on disk as a stream of complete entries: a walk with attributes, targets, links, holes and hashes read.
//!
//! For comparing a tree with another or with a snapshot. Knows no earlier state, so it reads all data that it hashes.

use std::os::fd::AsFd;

use cairn_types::{ErrorKind, FileKind};

use super::entry::{Body, Entry, FileBody, Record};
use super::links::LinkTable;
use super::path::RelativePath;
use super::read::{Piece, holes, summarize};
use super::walk::{Found, Walk, WalkError, WalkOptions};
use crate::archive::Progress;

/// What is read of a tree.
#[derive(Debug, Clone, Default)]
pub struct TreeOptions {
    /// What is walked.
    pub walk: WalkOptions,
    /// Data is read and hashed; else no entry has a digest.
    pub digests: bool,
}

/// Why an entry was not read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The walk did not get there.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The entry was found, but not read.
    #[error("{path} cannot be read")]
    Read {
        /// The entry.
        path: RelativePath,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Somebody asked to stop.
    #[error("reading the tree was cancelled")]
    Cancelled,
}

impl TreeError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            TreeError::Walk(error) => error.kind(),
            TreeError::Read { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Unavailable,
            },
            TreeError::Cancelled => ErrorKind::Conflict,
        }
    }
}

/// Reads the tree at `root`. Entries come in path order with their stamps. What vanishes before it is read is left out; a file that changes
/// while it is read has no digest. Counts files and bytes in `progress`, which may also end it. Errors: as for [`Walk::new`].
pub fn read_tree(
    root: impl AsFd,
    options: TreeOptions,
    progress: &Progress,
) -> Result<ReadTree<'_>, WalkError> {
    let walk = Walk::new(root, options.walk)?;
    Ok(ReadTree {
        walk,
        digests: options.digests,
        links: LinkTable::new(),
        progress,
        ended: false,
    })
}

/// The entries of a tree: see [`read_tree`].
pub struct ReadTree<'a> {
    walk: Walk,
    digests: bool,
    links: LinkTable,
    progress: &'a Progress,
    ended: bool,
}

/// What ends the reading of one file.
enum Stop {
    Io(std::io::Error),
    Cancelled,
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::Io(error)
    }
}

impl Iterator for ReadTree<'_> {
    type Item = Result<Record, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.ended {
                return None;
            }
            if self.progress.is_cancelled() {
                self.ended = true;
                return Some(Err(TreeError::Cancelled));
            }
            let found = match self.walk.next()? {
                Ok(found) => found,
                Err(error) => return Some(Err(error.into())),
            };
            let first = self.links.meet(&found);
            let is_link = first.is_some();
            match self.read(&found, first) {
                Ok(entry) => {
                    let counted = u64::from(found.kind() == FileKind::Regular);
                    self.progress.add(counted, 0);
                    return Some(Ok(Record {
                        entry,
                        stamp: Some(found.stamp),
                    }));
                }
                Err(Stop::Cancelled) => {
                    self.ended = true;
                    return Some(Err(TreeError::Cancelled));
                }
                Err(Stop::Io(source)) => {
                    if !is_link {
                        self.links.forget(&found.stamp);
                    }
                    // It has vanished, or another entry has taken its place.
                    if source.kind() != std::io::ErrorKind::NotFound {
                        return Some(Err(TreeError::Read {
                            path: found.path,
                            source,
                        }));
                    }
                }
            }
        }
    }
}

impl ReadTree<'_> {
    fn read(&self, found: &Found, first: Option<RelativePath>) -> Result<Entry, Stop> {
        let mut attributes = found.attributes.clone();
        let body = match (first, attributes.kind) {
            (Some(first), _) => {
                attributes.xattrs = found.xattrs()?;
                Body::Link(first)
            }
            (None, FileKind::Regular) => {
                let file = found.open()?;
                attributes.xattrs = super::xattr::of_file(&file)?;
                Body::File(match self.digests {
                    false => FileBody {
                        holes: holes(&file, attributes.size)?,
                        ..FileBody::default()
                    },
                    true => {
                        let steady = summarize(&file, |piece| self.tick(piece))?;
                        // What is told is what was hashed.
                        attributes.size = steady.state.size;
                        attributes.modified = steady.state.modified;
                        let digest = (!steady.torn).then_some(steady.value.digest);
                        FileBody {
                            digest,
                            holes: steady.value.holes,
                            runs: Vec::new(),
                        }
                    }
                })
            }
            (None, FileKind::Symlink) => {
                attributes.xattrs = found.xattrs()?;
                let target = found.read_link()?;
                attributes.size = target.len() as u64;
                Body::Symlink(target)
            }
            (None, _) => {
                attributes.xattrs = found.xattrs()?;
                Body::None
            }
        };
        Ok(Entry {
            path: found.path.clone(),
            attributes,
            body,
        })
    }

    fn tick(&self, piece: Piece<'_>) -> Result<(), Stop> {
        if let Piece::Data(bytes) = piece {
            self.progress.add(0, bytes.len() as u64);
        }
        match self.progress.is_cancelled() {
            true => Err(Stop::Cancelled),
            false => Ok(()),
        }
    }
}
