//! Reading a tree: its leaves in order, the records of a leaf, the records from a key on.

use std::collections::VecDeque;

use bytes::Bytes;
use cairn_types::{ChunkId, InodeId};

use super::format::{self, HEIGHT_MAX, TreeDamage};
use super::{Key, NodeReference, Record, TreeRoot};

/// Fetches the chunks that a tree consists of.
pub trait NodeSource {
    /// Why a chunk cannot be fetched.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The chunk of that identity and length, verified.
    fn fetch(&self, chunk: &ChunkId, length: u32) -> Result<Bytes, Self::Error>;
}

/// Why a tree cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum TreeReadError<E: std::error::Error + 'static> {
    /// A chunk cannot be fetched.
    #[error("a part of the tree cannot be fetched")]
    Fetch(#[source] E),
    /// A chunk was fetched, and makes no sense.
    #[error("chunk {chunk} is no part of a tree")]
    Damage {
        /// Which.
        chunk: ChunkId,
        /// Why.
        #[source]
        damage: TreeDamage,
    },
}

fn damaged<E: std::error::Error>(chunk: ChunkId) -> impl Fn(TreeDamage) -> TreeReadError<E> {
    move |damage| TreeReadError::Damage { chunk, damage }
}

/// Says whether what is below a reference shall be looked at.
type Enter<'a> = Box<dyn FnMut(&NodeReference) -> bool + 'a>;

/// The leaves of a tree, in order.
pub struct Leaves<'a, S> {
    source: &'a S,
    /// References that are still to be looked at, of each level, the root's first.
    stack: Vec<VecDeque<NodeReference>>,
    height: usize,
    from: Key,
    enter: Enter<'a>,
}

/// The leaves that hold keys from `from` on. `enter` is asked of every chunk before it is read, the leaves too; what it declines is
/// passed over.
pub fn leaves<'a, S: NodeSource>(
    source: &'a S,
    root: &TreeRoot,
    from: Key,
    enter: impl FnMut(&NodeReference) -> bool + 'a,
) -> Leaves<'a, S> {
    let reference = NodeReference {
        first: Key::of(InodeId(0)),
        chunk: root.chunk,
        length: root.length,
        counts: root.counts,
    };
    Leaves {
        source,
        stack: vec![VecDeque::from([reference])],
        height: usize::from(root.height.min(HEIGHT_MAX)),
        from,
        enter: Box::new(enter),
    }
}

impl<S: NodeSource> Leaves<'_, S> {
    fn step(&mut self) -> Result<Option<NodeReference>, TreeReadError<S::Error>> {
        while let Some(level) = self.stack.last_mut() {
            let Some(reference) = level.pop_front() else {
                self.stack.pop();
                continue;
            };
            // What ends before the next one begins lies before `from` if the next one begins at or before it.
            if level.front().is_some_and(|next| next.first <= self.from) {
                continue;
            }
            if !(self.enter)(&reference) {
                continue;
            }
            if self.stack.len() > self.height {
                return Ok(Some(reference));
            }
            let bytes = self
                .source
                .fetch(&reference.chunk, reference.length)
                .map_err(TreeReadError::Fetch)?;
            let below = format::read_references(&bytes).map_err(damaged(reference.chunk))?;
            self.stack.push(below.into());
        }
        Ok(None)
    }
}

impl<S: NodeSource> Iterator for Leaves<'_, S> {
    type Item = Result<NodeReference, TreeReadError<S::Error>>;

    /// The next leaf. After an error about one part of the tree, the next call goes on behind it.
    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// The records of a leaf.
pub fn read_leaf<S: NodeSource>(
    source: &S,
    leaf: &NodeReference,
) -> Result<Vec<(Key, Record)>, TreeReadError<S::Error>> {
    let bytes = source
        .fetch(&leaf.chunk, leaf.length)
        .map_err(TreeReadError::Fetch)?;
    format::read_leaf(&bytes).map_err(damaged(leaf.chunk))
}

/// What a chunk above the leaves refers to.
pub(crate) fn read_references<S: NodeSource>(
    source: &S,
    node: &NodeReference,
) -> Result<Vec<NodeReference>, TreeReadError<S::Error>> {
    let bytes = source
        .fetch(&node.chunk, node.length)
        .map_err(TreeReadError::Fetch)?;
    format::read_references(&bytes).map_err(damaged(node.chunk))
}

/// The records of a tree from a key on, in order.
pub struct Records<'a, S> {
    leaves: Leaves<'a, S>,
    leaf: std::vec::IntoIter<(Key, Record)>,
}

/// The records with keys from `from` on.
pub fn records<'a, S: NodeSource>(source: &'a S, root: &TreeRoot, from: Key) -> Records<'a, S> {
    Records {
        leaves: leaves(source, root, from, |_| true),
        leaf: Vec::new().into_iter(),
    }
}

impl<S: NodeSource> Iterator for Records<'_, S> {
    type Item = Result<(Key, Record), TreeReadError<S::Error>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            for (key, record) in self.leaf.by_ref() {
                if key >= self.leaves.from {
                    return Some(Ok((key, record)));
                }
            }
            match self.leaves.next()? {
                Err(error) => return Some(Err(error)),
                Ok(leaf) => match read_leaf(self.leaves.source, &leaf) {
                    Err(error) => return Some(Err(error)),
                    Ok(records) => self.leaf = records.into_iter(),
                },
            }
        }
    }
}

/// All records of one inode; none if the tree does not have it.
pub fn records_of<S: NodeSource>(
    source: &S,
    root: &TreeRoot,
    inode: InodeId,
) -> Result<Vec<(Key, Record)>, TreeReadError<S::Error>> {
    records(source, root, Key::of(inode))
        .take_while(|found| found.as_ref().map_or(true, |(key, _)| key.inode == inode))
        .collect()
}
