//! The tree of a volume's archive: looked up key by key in the sorted records of the archive, of which only those parts are fetched that are looked at.
//!
//! Inodes have the numbers that they have in the volume. The cookie of an entry is how many of its directory come before it, and 1; where in the archive these
//! are is remembered now and then, so that a listing goes on where it was.

use std::sync::{Arc, OnceLock};

use cairn_content::pipeline::Run;
use cairn_fuse::{Attributes, Detail, Listed, Seek, Taken, Totals, TreeError};
use cairn_types::{ChunkId, FileKind, InodeId, Node, SnapshotId};

use super::ENTRIES_CACHE_BYTES;
use super::cache::Cache;
use super::data::{Chunks, Store};
use super::pages::Extent;
use crate::archive::ArchiveError;
use crate::archive::tree::{
    HEIGHT_MAX, Key, NodeReference, Part, Record, TreeRoot, read_leaf, read_references,
};
use crate::operations::OperationError;

/// Every so many entries of a directory that is listed it is remembered where these are.
const REMEMBER_EVERY: u64 = 128;
/// Bytes of what is remembered of listings, about.
const LISTINGS_CACHE_BYTES: usize = 4 << 20;

/// A chunk of the tree.
enum Piece {
    Leaf(Vec<(Key, Record)>),
    References(Vec<NodeReference>),
}

/// A part that is read once, however many want it.
type Slot = OnceLock<Result<Arc<Piece>, Arc<OperationError>>>;

/// The tree of a volume's archive.
pub(super) struct VolumeTree {
    snapshot: SnapshotId,
    store: Arc<Store>,
    root: TreeRoot,
    parts: Cache<ChunkId, Slot>,
    data: Chunks,
    /// Names of entries by directory and number.
    listings: Cache<(InodeId, u64), Vec<u8>>,
}

type Failed = Arc<OperationError>;

impl VolumeTree {
    pub fn new(snapshot: SnapshotId, store: Arc<Store>, root: TreeRoot) -> Self {
        VolumeTree {
            snapshot,
            data: Chunks::new(store.clone()),
            store,
            root,
            parts: Cache::new(ENTRIES_CACHE_BYTES),
            listings: Cache::new(LISTINGS_CACHE_BYTES),
        }
    }

    fn failed(&self, inode: InodeId, error: Failed) -> TreeError {
        TreeError::Failed {
            kind: error.kind(),
            what: format!("snapshot {}: inode {inode} cannot be read", self.snapshot),
            source: Box::new(error),
        }
    }

    fn part(&self, reference: &NodeReference, level: u8) -> Result<Arc<Piece>, Failed> {
        let slot = self.parts.get_or_insert(&reference.chunk, 0, Slot::new);
        let read = slot.get_or_init(|| {
            let read = self.fetch(reference, level).map(Arc::new).map_err(Arc::new);
            if let Ok(part) = &read {
                self.parts.weigh(&reference.chunk, part.weight());
            }
            read
        });
        if read.is_err() {
            self.parts.remove(&reference.chunk);
        }
        read.clone()
    }

    fn fetch(&self, reference: &NodeReference, level: u8) -> Result<Piece, OperationError> {
        let nodes = self.store.get()?.nodes();
        let read = match level {
            0 => read_leaf(&nodes, reference).map(Piece::Leaf),
            _ => read_references(&nodes, reference).map(Piece::References),
        };
        Ok(read.map_err(ArchiveError::from)?)
    }

    /// Hands out records in order, beginning with the last whose key is not behind `from`, until `each` returns false.
    fn walk(&self, from: &Key, each: &mut dyn FnMut(&Key, &Record) -> bool) -> Result<(), Failed> {
        let root = NodeReference {
            first: Key::of(InodeId(0)),
            chunk: self.root.chunk,
            length: self.root.length,
            counts: self.root.counts,
        };
        self.walk_part(&root, self.root.height.min(HEIGHT_MAX), from, each)
            .map(drop)
    }

    fn walk_part(
        &self,
        reference: &NodeReference,
        level: u8,
        from: &Key,
        each: &mut dyn FnMut(&Key, &Record) -> bool,
    ) -> Result<bool, Failed> {
        match &*self.part(reference, level)? {
            Piece::Leaf(records) => {
                let behind = records.partition_point(|(key, _)| key <= from);
                for (key, record) in &records[behind.saturating_sub(1)..] {
                    if !each(key, record) {
                        return Ok(false);
                    }
                }
            }
            Piece::References(references) => {
                let behind = references.partition_point(|reference| reference.first <= *from);
                for below in &references[behind.saturating_sub(1)..] {
                    if !self.walk_part(below, level.saturating_sub(1), from, each)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// The record with exactly this key.
    fn record(&self, wanted: &Key) -> Result<Option<Record>, Failed> {
        let mut found = None;
        self.walk(wanted, &mut |key, record| {
            if key == wanted {
                found = Some(record.clone());
            }
            // The one before it may come first.
            key < wanted
        })?;
        Ok(found)
    }

    fn node(&self, inode: InodeId) -> Result<Node, TreeError> {
        let record = self.record(&Key::of(inode));
        match record.map_err(|error| self.failed(inode, error))? {
            Some(Record::Node(node)) => Ok(node),
            _ => Err(TreeError::Inode(inode)),
        }
    }

    fn directory(&self, inode: InodeId) -> Result<Node, TreeError> {
        let node = self.node(inode)?;
        match node.kind {
            FileKind::Directory => Ok(node),
            _ => Err(TreeError::NotADirectory),
        }
    }

    fn file(&self, inode: InodeId) -> Result<Node, TreeError> {
        let node = self.node(inode)?;
        match node.kind {
            FileKind::Regular => Ok(node),
            _ => Err(TreeError::NotAFile),
        }
    }

    /// What an entry names that the tree has. It must have its attributes too.
    fn named(&self, directory: InodeId, inode: InodeId) -> Result<Node, TreeError> {
        self.node(inode).map_err(|error| match error {
            TreeError::Inode(_) => {
                let chunk = self.root.chunk;
                let error = ArchiveError::Damaged {
                    store: self
                        .store
                        .get()
                        .map_or_else(|_| String::new(), |archives| archives.url()),
                    object: format!("tree {chunk}"),
                    what: format!("an entry names inode {inode}, which is not there"),
                };
                self.failed(directory, Arc::new(error.into()))
            }
            error => error,
        })
    }

    pub fn find(&self, directory: InodeId, name: &[u8]) -> Result<Option<(InodeId, Attributes)>, TreeError> {
        self.directory(directory)?;
        let key = Key {
            inode: directory,
            part: Part::Entry(name.to_vec()),
        };
        match self.record(&key).map_err(|error| self.failed(directory, error))? {
            Some(Record::Entry(inode, _)) => Ok(Some((inode, attributes(&self.named(directory, inode)?)))),
            _ => Ok(None),
        }
    }

    pub fn attributes(&self, inode: InodeId) -> Result<Attributes, TreeError> {
        Ok(attributes(&self.node(inode)?))
    }

    pub fn parent(&self, directory: InodeId) -> Result<InodeId, TreeError> {
        let parent = self.directory(directory)?.parent;
        Ok(if parent.0 == 0 { directory } else { parent })
    }

    pub fn list(
        &self,
        directory: InodeId,
        after: u64,
        detail: Detail,
        take: &mut dyn FnMut(&Listed<'_>) -> Taken,
    ) -> Result<(), TreeError> {
        self.directory(directory)?;
        let mut number = after;
        // The nearest entry that is remembered, or the first.
        let mut first = None;
        let mut mark = after / REMEMBER_EVERY;
        while mark > 0 && first.is_none() {
            first = self.listings.get(&(directory, mark));
            match first {
                Some(_) => number = mark * REMEMBER_EVERY,
                None => mark -= 1,
            }
        }
        if first.is_none() {
            number = 0;
        }
        let from = Key {
            inode: directory,
            part: Part::Entry(first.map_or_else(Vec::new, |name| name.to_vec())),
        };
        let mut failed = None;
        let walked = self.walk(&from, &mut |key, record| {
            if *key < from {
                return true;
            }
            let (Part::Entry(name), Record::Entry(inode, kind), true) =
                (&key.part, record, key.inode == directory)
            else {
                return false;
            };
            let this = number;
            number += 1;
            if this.is_multiple_of(REMEMBER_EVERY) && this > 0 {
                let key = (directory, this / REMEMBER_EVERY);
                self.listings
                    .get_or_insert(&key, name.len() + 96, || name.clone());
            }
            if this < after {
                return true;
            }
            let attributes = match detail {
                Detail::Names => None,
                Detail::Attributes => match self.named(directory, *inode) {
                    Ok(node) => Some(attributes(&node)),
                    Err(error) => {
                        failed = Some(error);
                        return false;
                    }
                },
            };
            let listed = Listed {
                name,
                inode: *inode,
                kind: *kind,
                cookie: this + 1,
                attributes,
            };
            take(&listed) == Taken::More
        });
        walked.map_err(|error| self.failed(directory, error))?;
        failed.map_or(Ok(()), Err)
    }

    pub fn read_link(&self, inode: InodeId) -> Result<Vec<u8>, TreeError> {
        if self.node(inode)?.kind != FileKind::Symlink {
            return Err(TreeError::NotALink);
        }
        let key = Key {
            inode,
            part: Part::Target,
        };
        match self.record(&key).map_err(|error| self.failed(inode, error))? {
            Some(Record::Target(target)) => Ok(target),
            _ => Err(TreeError::Inode(inode)),
        }
    }

    /// Hands out where chunks of a file are that end behind `offset`, ascending, until `each` returns false.
    fn extents(
        &self,
        inode: InodeId,
        offset: u64,
        each: &mut dyn FnMut(Extent) -> bool,
    ) -> Result<(), TreeError> {
        let from = Key {
            inode,
            part: Part::Data(offset),
        };
        let walked = self.walk(&from, &mut |key, record| {
            if key.inode < inode {
                return true;
            }
            if key.inode > inode {
                return false;
            }
            let (Record::Data(runs), Part::Data(start)) = (record, &key.part) else {
                return true;
            };
            let mut next = *start;
            for run in runs {
                let at = next;
                next = at.saturating_add(u64::from(run.length()));
                if let Run::Chunk(chunk, length) = run
                    && next > offset
                {
                    let extent = Extent {
                        offset: at,
                        chunk: *chunk,
                        length: *length,
                    };
                    if !each(extent) {
                        return false;
                    }
                }
            }
            true
        });
        walked.map_err(|error| self.failed(inode, error))
    }

    pub fn read(&self, inode: InodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, TreeError> {
        let rest = self.file(inode)?.size.saturating_sub(offset);
        let length = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
        let end = offset + length as u64;
        // Bounded by the buffer, but for chunks of a few bytes each.
        let mut extents = Vec::new();
        self.extents(inode, offset, &mut |extent| {
            let wanted = extent.offset < end;
            if wanted {
                extents.push(extent);
            }
            wanted
        })?;
        let read = self.data.read(&extents, offset, &mut buffer[..length]);
        read.map_err(|error| self.failed(inode, Arc::new(error.pathless())))?;
        Ok(length)
    }

    /// What no chunk covers is a hole: of zeros that were written nobody knows any more.
    pub fn seek(&self, inode: InodeId, offset: u64, what: Seek) -> Result<Option<u64>, TreeError> {
        let size = self.file(inode)?.size;
        if offset >= size {
            return Ok(None);
        }
        // Data, or a hole, from here on: chunks side by side are one run of data.
        let mut at = offset;
        let mut found = None;
        self.extents(inode, offset, &mut |extent| {
            match what {
                Seek::Data => found = Some(extent.offset.max(offset)),
                Seek::Hole if extent.offset > at => {}
                Seek::Hole => {
                    at = extent.offset.saturating_add(u64::from(extent.length));
                    return at < size;
                }
            }
            false
        })?;
        Ok(match what {
            Seek::Data => found.filter(|found| *found < size),
            Seek::Hole => Some(at.min(size)),
        })
    }

    /// Volumes have no extended attributes.
    pub fn xattrs(&self, inode: InodeId, _: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), TreeError> {
        self.node(inode).map(drop)
    }

    pub fn totals(&self) -> Totals {
        Totals {
            inodes: self.root.counts.inodes,
            bytes: self.root.counts.bytes,
        }
    }
}

impl Piece {
    /// Bytes of memory, about.
    fn weight(&self) -> usize {
        let of_key = |key: &Key| match &key.part {
            Part::Entry(name) => name.len(),
            Part::Node | Part::Target | Part::Data(_) => 0,
        };
        match self {
            Piece::Leaf(records) => records
                .iter()
                .map(|(key, record)| {
                    let of_record = match record {
                        Record::Target(target) => target.len(),
                        Record::Data(runs) => size_of_val(&**runs),
                        Record::Node(_) | Record::Entry(..) => 0,
                    };
                    size_of::<(Key, Record)>() + of_key(key) + of_record
                })
                .sum(),
            Piece::References(references) => references
                .iter()
                .map(|reference| size_of::<NodeReference>() + of_key(&reference.first))
                .sum(),
        }
    }
}

fn attributes(node: &Node) -> Attributes {
    Attributes {
        kind: node.kind,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        links: node.links,
        size: node.size,
        allocated_bytes: match node.kind {
            FileKind::Regular => node.size,
            _ => 0,
        },
        modified: node.modified,
        accessed: node.accessed,
        changed: node.changed,
        device: node.device,
    }
}
