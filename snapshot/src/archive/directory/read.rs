//! Reading the manifest of a directory's archive: blocks, then records, in order.

use cairn_types::ChunkId;

use super::format::read_index;
use super::write::restore_digest;
use super::{BlockReference, DirectoryRoot, IndexPart};
use crate::archive::tree::{NodeSource, TreeDamage};
use crate::directory::{Record, RelativePath};
use crate::manifest::{BlockDamage, BlockDecoder};

/// Why a manifest cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryReadError<E: std::error::Error + 'static> {
    /// A chunk cannot be fetched.
    #[error("a part of the manifest cannot be fetched")]
    Fetch(#[source] E),
    /// A chunk was fetched, and is no part of an index.
    #[error("chunk {chunk} is no index of a manifest")]
    Index {
        /// Which.
        chunk: ChunkId,
        /// Why.
        #[source]
        damage: TreeDamage,
    },
    /// Chunks were fetched, and are no block.
    #[error("chunk {chunk} is no block of a manifest")]
    Block {
        /// The first of the block.
        chunk: ChunkId,
        /// Why.
        #[source]
        damage: BlockDamage,
    },
    /// A block is not that which the index says.
    #[error("the block at chunk {chunk} is not the one that the index names")]
    Other {
        /// The first of the block.
        chunk: ChunkId,
    },
}

/// The blocks of a manifest, in order, in groups: each begins with a block whose first entry begins in it, and goes on with blocks that
/// go on with an entry of it. A group can be read alone. Most are one block.
pub struct Groups<'a, S> {
    source: &'a S,
    index: std::vec::IntoIter<IndexPart>,
    part: std::iter::Peekable<std::vec::IntoIter<BlockReference>>,
    enter: Box<dyn FnMut(&IndexPart) + 'a>,
}

/// The blocks of a manifest, in groups. `enter` is told of every part of the index before it is read.
pub fn groups<'a, S: NodeSource>(
    source: &'a S,
    root: &DirectoryRoot,
    enter: impl FnMut(&IndexPart) + 'a,
) -> Groups<'a, S> {
    Groups {
        source,
        index: root.index.clone().into_iter(),
        part: Vec::new().into_iter().peekable(),
        enter: Box::new(enter),
    }
}

impl<S: NodeSource> Groups<'_, S> {
    /// Reads the next part of the index; false if there is none.
    fn load(&mut self) -> Result<bool, DirectoryReadError<S::Error>> {
        let Some(part) = self.index.next() else {
            return Ok(false);
        };
        (self.enter)(&part);
        let chunk = part.chunk;
        let bytes = self.source.fetch(&chunk, part.length);
        let bytes = bytes.map_err(DirectoryReadError::Fetch)?;
        let blocks = read_index(&bytes).map_err(|damage| DirectoryReadError::Index { chunk, damage })?;
        self.part = blocks.into_iter().peekable();
        Ok(true)
    }

    fn step(&mut self) -> Result<Option<Vec<BlockReference>>, DirectoryReadError<S::Error>> {
        let mut group: Vec<BlockReference> = Vec::new();
        loop {
            let belongs = |block: &BlockReference| group.is_empty() || block.continues;
            match self.part.next_if(belongs) {
                Some(block) => group.push(block),
                None if self.part.peek().is_some() => return Ok(Some(group)),
                // What the group goes on with may stand in the next part.
                None if !self.load()? => return Ok(Some(group).filter(|group| !group.is_empty())),
                None => {}
            }
        }
    }
}

impl<S: NodeSource> Iterator for Groups<'_, S> {
    type Item = Result<Vec<BlockReference>, DirectoryReadError<S::Error>>;

    /// The next group. After an error about one part of the index, the next call goes on behind it; the group before it is lost with it.
    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// The records of a group. `plain` says whether the store names chunks by the hash of their bytes alone.
///
/// # Errors
/// `Fetch`, `Block`, `Other`.
pub fn read_group<S: NodeSource>(
    source: &S,
    group: &[BlockReference],
    plain: bool,
) -> Result<Vec<Record>, DirectoryReadError<S::Error>> {
    let mut decoder = BlockDecoder::middle();
    let mut records = Vec::new();
    let damaged = |chunk| move |damage| DirectoryReadError::Block { chunk, damage };
    for block in group {
        let chunk = block.chunk;
        let bytes = source.fetch(&chunk, block.length);
        let bytes = bytes.map_err(DirectoryReadError::Fetch)?;
        decoder
            .decode(&bytes, &mut |record| records.push(record))
            .map_err(damaged(chunk))?;
    }
    let Some(first) = group.first() else {
        return Ok(records);
    };
    decoder.finish().map_err(damaged(first.chunk))?;
    let expected: u64 = group.iter().map(|block| u64::from(block.entries)).sum();
    let begins = records.first().map(|record| &record.entry.path) == Some(&first.first);
    if !begins || first.continues || records.len() as u64 != expected {
        return Err(DirectoryReadError::Other { chunk: first.chunk });
    }
    for record in &mut records {
        restore_digest(record, plain);
    }
    Ok(records)
}

/// The records of a manifest, in order, without stamps.
pub struct Records<'a, S: NodeSource> {
    source: &'a S,
    plain: bool,
    groups: std::iter::Peekable<Groups<'a, S>>,
    group: std::vec::IntoIter<Record>,
    from: RelativePath,
}

/// The records with paths from `from` on.
pub fn records<'a, S: NodeSource>(
    source: &'a S,
    root: &DirectoryRoot,
    from: RelativePath,
    plain: bool,
) -> Records<'a, S> {
    Records {
        source,
        plain,
        groups: groups(source, root, |_| {}).peekable(),
        group: Vec::new().into_iter(),
        from,
    }
}

impl<S: NodeSource> Iterator for Records<'_, S> {
    type Item = Result<Record, DirectoryReadError<S::Error>>;

    /// The next record. After an error about one group, the next call goes on behind it.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            for record in self.group.by_ref() {
                if record.entry.path >= self.from {
                    return Some(Ok(record));
                }
            }
            let group = match self.groups.next()? {
                Ok(group) => group,
                Err(error) => return Some(Err(error)),
            };
            // What ends before the next one begins lies before `from` if the next one begins at or before it.
            let passed = |next: &Result<Vec<BlockReference>, _>| {
                let next = next.as_ref().ok().and_then(|next| next.first());
                next.is_some_and(|next| next.first <= self.from)
            };
            if self.groups.peek().is_some_and(passed) {
                continue;
            }
            match read_group(self.source, &group, self.plain) {
                Ok(records) => self.group = records.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
