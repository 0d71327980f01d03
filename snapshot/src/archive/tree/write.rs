//! Writing a tree, record by record and leaf by leaf, in order and in constant memory.

use cairn_types::{ChunkId, InodeId};

use super::format::{leaf_header, put_record, write_references};
use super::{Key, NodeReference, Part, Record, TreeRoot};
use crate::archive::report::TreeCounts;

/// No leaf ends before it has so many bytes, but for the last.
const LEAF_BYTES_MIN: usize = 4 << 10;
/// A leaf ends when it has so many bytes, whatever its keys are.
const LEAF_BYTES_MAX: usize = 64 << 10;
/// Of the keys, one in so many is one after which a leaf may end.
const LEAF_KEYS: u64 = 512;
/// The same for chunks of references.
const REFERENCES_MIN: usize = 32;
const REFERENCES_MAX: usize = 1024;
const REFERENCES_KEYS: u64 = 256;

/// Keeps the chunks that a tree consists of.
pub trait NodeSink {
    /// Why a chunk cannot be kept.
    type Error;

    /// What names these bytes.
    fn identify(&self, bytes: &[u8]) -> ChunkId;

    /// Keeps a chunk. It need not be durable on return.
    fn keep(&self, bytes: Vec<u8>) -> Result<(), Self::Error>;
}

/// A tree that is being written. Keys must ascend.
pub struct TreeWriter<'a, S> {
    sink: &'a S,
    leaf: Vec<u8>,
    /// The first key of the leaf; `None` while it is empty.
    first: Option<Key>,
    last_inode: InodeId,
    counts: TreeCounts,
    levels: Vec<Level>,
}

/// References that are not in a chunk yet.
#[derive(Default)]
struct Level {
    references: Vec<NodeReference>,
    /// Whether any chunk of this level was written.
    written: bool,
}

/// A number that the key decides alone, the same for ever: where trees are cut depends on it.
fn lot(key: &Key) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&key.inode.0.to_le_bytes());
    match &key.part {
        Part::Node => hasher.update(&[0]),
        Part::Entry(name) => hasher.update(&[1]).update(name),
        Part::Target => hasher.update(&[2]),
        Part::Data(offset) => hasher.update(&[3]).update(&offset.to_le_bytes()),
    };
    let hash = hasher.finalize();
    let (first, _) = hash.as_bytes().split_at(8);
    first
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl<'a, S: NodeSink> TreeWriter<'a, S> {
    /// A tree without records.
    pub fn new(sink: &'a S) -> Self {
        TreeWriter {
            sink,
            leaf: leaf_header().to_vec(),
            first: None,
            last_inode: InodeId(0),
            counts: TreeCounts::default(),
            levels: vec![Level::default()],
        }
    }

    /// Adds a record. Its key is above all before it: whoever orders the records sees to that, and a reader checks it.
    pub fn push(&mut self, key: &Key, record: &Record) -> Result<(), S::Error> {
        if self.first.is_none() {
            self.first = Some(key.clone());
            self.last_inode = InodeId(0);
        }
        put_record(&mut self.leaf, key, record, self.last_inode);
        self.last_inode = key.inode;
        if let Record::Node(node) = record {
            self.counts = self.counts.plus(TreeCounts::of(node));
        }
        let bytes = self.leaf.len();
        let ends = bytes >= LEAF_BYTES_MIN && lot(key).is_multiple_of(LEAF_KEYS);
        if ends || bytes >= LEAF_BYTES_MAX {
            self.end_leaf()?;
        }
        Ok(())
    }

    /// Whether a leaf ended with the last record, so that a leaf of another tree can follow.
    pub fn is_between_leaves(&self) -> bool {
        self.first.is_none()
    }

    /// Adds a leaf of another tree of the same store, whose keys are above all before it. Only between leaves
    /// ([`TreeWriter::is_between_leaves`]).
    pub fn reuse(&mut self, leaf: NodeReference) -> Result<(), S::Error> {
        debug_assert!(self.is_between_leaves());
        self.refer(0, leaf)
    }

    fn end_leaf(&mut self) -> Result<(), S::Error> {
        let Some(first) = self.first.take() else {
            return Ok(());
        };
        let bytes = std::mem::replace(&mut self.leaf, leaf_header().to_vec());
        let counts = std::mem::take(&mut self.counts);
        let reference = self.keep(first, bytes, counts)?;
        self.refer(0, reference)
    }

    fn keep(&self, first: Key, bytes: Vec<u8>, counts: TreeCounts) -> Result<NodeReference, S::Error> {
        let reference = NodeReference {
            first,
            chunk: self.sink.identify(&bytes),
            length: bytes.len() as u32,
            counts,
        };
        self.sink.keep(bytes)?;
        Ok(reference)
    }

    /// Adds a reference to a level, and what follows from that to those above.
    fn refer(&mut self, level: usize, reference: NodeReference) -> Result<(), S::Error> {
        if self.levels.len() == level {
            self.levels.push(Level::default());
        }
        let found = &mut self.levels[level];
        let ends = found.references.len() + 1 >= REFERENCES_MIN
            && lot(&reference.first).is_multiple_of(REFERENCES_KEYS);
        found.references.push(reference);
        if ends || found.references.len() >= REFERENCES_MAX {
            self.end_references(level)?;
        }
        Ok(())
    }

    fn end_references(&mut self, level: usize) -> Result<(), S::Error> {
        let found = &mut self.levels[level];
        found.written = true;
        let references = std::mem::take(&mut found.references);
        let Some(first) = references.first().map(|reference| reference.first.clone()) else {
            return Ok(());
        };
        let counts = references
            .iter()
            .fold(TreeCounts::default(), |sum, reference| sum.plus(reference.counts));
        let reference = self.keep(first, write_references(&references), counts)?;
        self.refer(level + 1, reference)
    }

    /// The root of the tree; `None` if it has no record.
    pub fn finish(mut self) -> Result<Option<TreeRoot>, S::Error> {
        self.end_leaf()?;
        let mut level = 0;
        loop {
            let top = self.levels.len() == level + 1;
            let found = &mut self.levels[level];
            if top && !found.written && found.references.len() <= 1 {
                return Ok(found.references.pop().map(|root| TreeRoot {
                    chunk: root.chunk,
                    length: root.length,
                    height: level as u8,
                    counts: root.counts,
                }));
            }
            self.end_references(level)?;
            level += 1;
        }
    }
}
