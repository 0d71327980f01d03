//! The tree of a manifest: of a snapshot of a plain directory, or of its archive.
//!
//! The number of an inode is that of its first name among the entries, and 1: of a manifest, the same for ever. The cookie of an entry is its
//! own number among them.

use std::sync::Arc;

use cairn_fuse::{Attributes, Detail, Listed, Seek, Taken, Totals, TreeError};
use cairn_types::{FileKind, InodeId, SnapshotId};

use super::data::{Data, next_data, next_hole};
use super::links::Links;
use super::pages::{Content, Entry, Pages, Position};
use crate::directory::RelativePath;
use crate::manifest::EntryCounts;
use crate::operations::OperationError;

/// The tree of a manifest.
pub(super) struct DirectoryTree {
    snapshot: SnapshotId,
    pages: Pages,
    links: Links,
    data: Data,
    counts: EntryCounts,
}

impl DirectoryTree {
    pub fn new(snapshot: SnapshotId, pages: Pages, data: Data, counts: EntryCounts) -> Self {
        DirectoryTree {
            snapshot,
            links: Links::new(counts.links),
            pages,
            data,
            counts,
        }
    }

    /// An error that a person must look at.
    fn failed(&self, path: Option<&RelativePath>, error: Arc<OperationError>) -> TreeError {
        let what = match path {
            Some(path) => format!("snapshot {}: {path} cannot be read", self.snapshot),
            None => format!(
                "snapshot {}: a part of its list of entries cannot be read",
                self.snapshot
            ),
        };
        TreeError::Failed {
            kind: error.kind(),
            what,
            source: Box::new(error),
        }
    }

    /// The first name of an inode.
    fn position(&self, inode: InodeId) -> Result<Position, TreeError> {
        let none = || TreeError::Inode(inode);
        let ordinal = inode.0.checked_sub(1).ok_or_else(none)?;
        let found = self.pages.at(ordinal).map_err(|error| self.failed(None, error))?;
        let position = found.ok_or_else(none)?;
        match position.entry().body {
            Content::Link(_) => Err(none()),
            Content::None | Content::Target(_) | Content::File(_) => Ok(position),
        }
    }

    fn directory(&self, inode: InodeId) -> Result<Position, TreeError> {
        let position = self.position(inode)?;
        match position.entry().attributes.kind {
            FileKind::Directory => Ok(position),
            _ => Err(TreeError::NotADirectory),
        }
    }

    /// The first name of the file that an entry is a name of.
    fn first(&self, position: Position) -> Result<Position, TreeError> {
        let Content::Link(to) = &position.entry().body else {
            return Ok(position);
        };
        let found = self
            .pages
            .find(to)
            .map_err(|error| self.failed(Some(to), error))?;
        let inconsistent = |what| {
            let path = position.entry().path.clone();
            let error = OperationError::Inconsistent {
                path: path.clone(),
                what,
            };
            self.failed(Some(&path), Arc::new(error))
        };
        let first = found.ok_or_else(|| inconsistent("it is another name of what is not there"))?;
        match (&first.entry().body, first.entry().attributes.kind) {
            (Content::Link(_), _) | (_, FileKind::Directory) => {
                Err(inconsistent("it is another name of what cannot have any"))
            }
            _ => Ok(first),
        }
    }

    fn attributes_of(&self, entry: &Entry) -> Attributes {
        let attributes = &entry.attributes;
        let holes: u64 = match &entry.body {
            Content::File(file) => file.holes.iter().map(|hole| hole.length).sum(),
            Content::None | Content::Target(_) | Content::Link(_) => 0,
        };
        Attributes {
            kind: attributes.kind,
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            links: match attributes.kind {
                // As file systems say it that do not count subdirectories: find(1) and others know it.
                FileKind::Directory => 1,
                _ => self.links.names(&self.pages, &entry.path),
            },
            size: attributes.size,
            allocated_bytes: match attributes.kind {
                FileKind::Regular => attributes.size.saturating_sub(holes),
                _ => 0,
            },
            modified: attributes.modified,
            accessed: attributes.modified,
            changed: attributes.modified,
            device: attributes.device,
        }
    }

    pub fn find(&self, directory: InodeId, name: &[u8]) -> Result<Option<(InodeId, Attributes)>, TreeError> {
        let directory = self.directory(directory)?;
        // What is no name is the name of nothing.
        let Ok(path) = directory.entry().path.join(name) else {
            return Ok(None);
        };
        let found = self
            .pages
            .find(&path)
            .map_err(|error| self.failed(Some(&path), error))?;
        let Some(found) = found else {
            return Ok(None);
        };
        let first = self.first(found)?;
        Ok(Some((inode(&first), self.attributes_of(first.entry()))))
    }

    pub fn attributes(&self, inode: InodeId) -> Result<Attributes, TreeError> {
        Ok(self.attributes_of(self.position(inode)?.entry()))
    }

    pub fn parent(&self, directory: InodeId) -> Result<InodeId, TreeError> {
        let position = self.directory(directory)?;
        let Some(path) = position.entry().path.parent() else {
            return Ok(directory);
        };
        let found = self
            .pages
            .find(&path)
            .map_err(|error| self.failed(Some(&path), error))?;
        found
            .map(|found| inode(&found))
            .ok_or(TreeError::Inode(directory))
    }

    pub fn list(
        &self,
        directory: InodeId,
        after: u64,
        detail: Detail,
        take: &mut dyn FnMut(&Listed<'_>) -> Taken,
    ) -> Result<(), TreeError> {
        let directory = self.directory(directory)?;
        let path = &directory.entry().path;
        let failed = |error| self.failed(Some(path), error);
        let mut next = match after {
            0 => self.pages.at(directory.ordinal() + 1).map_err(failed)?,
            cookie => {
                let last = self.pages.at(cookie).map_err(failed)?.ok_or(TreeError::Cookie)?;
                if last.entry().path.parent().as_ref() != Some(path) {
                    return Err(TreeError::Cookie);
                }
                self.pages.after(&last).map_err(failed)?
            }
        };
        while let Some(position) = next.filter(|position| position.entry().path.is_within(path)) {
            let first = self.first(position.clone())?;
            let listed = Listed {
                name: position.entry().path.name(),
                inode: inode(&first),
                kind: first.entry().attributes.kind,
                cookie: position.ordinal(),
                attributes: match detail {
                    Detail::Names => None,
                    Detail::Attributes => Some(self.attributes_of(first.entry())),
                },
            };
            if take(&listed) == Taken::Full {
                return Ok(());
            }
            next = self.pages.after(&position).map_err(failed)?;
        }
        Ok(())
    }

    pub fn read_link(&self, inode: InodeId) -> Result<Vec<u8>, TreeError> {
        match &self.position(inode)?.entry().body {
            Content::Target(target) => Ok(target.clone()),
            Content::None | Content::Link(_) | Content::File(_) => Err(TreeError::NotALink),
        }
    }

    pub fn xattrs(
        &self,
        inode: InodeId,
        take: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), TreeError> {
        for xattr in &self.position(inode)?.entry().attributes.xattrs {
            if !take(&xattr.name, &xattr.value) {
                break;
            }
        }
        Ok(())
    }

    pub fn read(&self, inode: InodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, TreeError> {
        let position = self.position(inode)?;
        let entry = position.entry();
        let Content::File(file) = &entry.body else {
            return Err(TreeError::NotAFile);
        };
        let read = self.data.read(inode, entry, file, offset, buffer);
        read.map_err(|error| self.failed(Some(&entry.path), Arc::new(error)))
    }

    pub fn seek(&self, inode: InodeId, offset: u64, what: Seek) -> Result<Option<u64>, TreeError> {
        let position = self.position(inode)?;
        let Content::File(file) = &position.entry().body else {
            return Err(TreeError::NotAFile);
        };
        let size = position.entry().attributes.size;
        Ok(match what {
            Seek::Data => next_data(&file.holes, size, offset),
            Seek::Hole => next_hole(&file.holes, size, offset),
        })
    }

    pub fn totals(&self) -> Totals {
        Totals {
            inodes: self.pages.total().saturating_sub(self.counts.links),
            bytes: self.counts.bytes,
        }
    }
}

/// The number of the inode whose first name this is.
fn inode(first: &Position) -> InodeId {
    InodeId(first.ordinal() + 1)
}
