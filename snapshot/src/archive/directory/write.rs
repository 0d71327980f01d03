//! Writing the manifest of a directory, record by record and block by block, in order and in constant memory.

use cairn_content::pipeline::Run;

use super::format::{index_header, put_block};
use super::{BlockReference, IndexPart};
use crate::archive::tree::NodeSink;
use crate::directory::{Body, Digest, Record, RelativePath};
use crate::manifest::{Block, BlockCutter, ManifestError};

/// No part of the index ends before it has so many bytes, but for the last.
const INDEX_BYTES_MIN: usize = 32 << 10;
/// A part of the index ends when it has so many bytes, whatever its paths are.
const INDEX_BYTES_MAX: usize = 512 << 10;
/// Of the first paths of blocks, one in so many is one behind which a part may end.
const INDEX_PATHS: u64 = 256;

/// Why a manifest cannot be written on.
#[derive(Debug)]
pub enum BlockWriteError<E> {
    /// A record is at fault.
    Manifest(ManifestError),
    /// A chunk cannot be kept.
    Sink(E),
}

/// A manifest that is being written. Records come in path order.
pub struct BlockWriter<'a, S> {
    sink: &'a S,
    /// Whether a chunk's name is the hash of its bytes.
    plain: bool,
    cutter: BlockCutter,
    blocks: u64,
    index: Vec<u8>,
    /// The first path of the last block in `index`.
    last: RelativePath,
    parts: Vec<IndexPart>,
}

/// A number that the path decides alone, the same for ever: where manifests are cut depends on it.
fn lot(path: &RelativePath) -> u64 {
    let hash = blake3::hash(path.as_bytes());
    let (first, _) = hash.as_bytes().split_at(8);
    first
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Whether a file's digest is the name of its only chunk, in a plain store: then one of them is enough.
fn named_by_chunk(digest: Option<Digest>, runs: &[Run], size: u64) -> bool {
    matches!((digest, runs), (Some(digest), [Run::Chunk(id, length)]) if u64::from(*length) == size && id.0 == digest.0)
}

/// Puts back what [`named_by_chunk`] has left out. Digests of files as long as a segment of zeros can be are kept as they are.
pub(super) fn restore_digest(record: &mut Record, plain: bool) {
    let size = record.entry.attributes.size;
    if let (true, Body::File(file)) = (plain, &mut record.entry.body)
        && file.digest.is_none()
        && let [Run::Chunk(id, length)] = file.runs[..]
        && u64::from(length) == size
    {
        file.digest = Some(Digest(id.0));
    }
}

impl<'a, S: NodeSink> BlockWriter<'a, S> {
    /// A manifest without records. `plain` says whether the store names chunks by the hash of their bytes alone.
    pub fn new(sink: &'a S, plain: bool) -> Self {
        BlockWriter {
            sink,
            plain,
            cutter: BlockCutter::new(false),
            blocks: 0,
            index: index_header(),
            last: RelativePath::root(),
            parts: Vec::new(),
        }
    }

    /// Adds a record; its stamp is not kept.
    ///
    /// # Errors
    /// [`BlockWriteError::Manifest`] if it is none that a tree can have, or comes where it cannot; those of the sink.
    pub fn push(&mut self, mut record: Record) -> Result<(), BlockWriteError<S::Error>> {
        let size = record.entry.attributes.size;
        if let (true, Body::File(file)) = (self.plain, &mut record.entry.body)
            && named_by_chunk(file.digest, &file.runs, size)
        {
            file.digest = None;
        }
        self.cutter.push(&record).map_err(BlockWriteError::Manifest)?;
        self.keep_complete().map_err(BlockWriteError::Sink)
    }

    fn keep_complete(&mut self) -> Result<(), S::Error> {
        while let Some(block) = self.cutter.complete() {
            let Block {
                first,
                continues,
                entries,
                bytes,
            } = block;
            let IndexPart { chunk, length } = self.keep(bytes)?;
            self.refer(&BlockReference {
                first,
                continues,
                entries,
                chunk,
                length,
            })?;
        }
        Ok(())
    }

    fn keep(&self, bytes: Vec<u8>) -> Result<IndexPart, S::Error> {
        let chunk = self.sink.identify(&bytes);
        let length = bytes.len() as u32;
        self.sink.keep(bytes)?;
        Ok(IndexPart { chunk, length })
    }

    fn refer(&mut self, block: &BlockReference) -> Result<(), S::Error> {
        put_block(&mut self.index, &self.last, block);
        self.last.clone_from(&block.first);
        self.blocks += 1;
        let bytes = self.index.len();
        let ends = bytes >= INDEX_BYTES_MIN && lot(&block.first).is_multiple_of(INDEX_PATHS);
        if ends || bytes >= INDEX_BYTES_MAX {
            self.end_index()?;
        }
        Ok(())
    }

    fn end_index(&mut self) -> Result<(), S::Error> {
        let bytes = std::mem::replace(&mut self.index, index_header());
        self.last = RelativePath::root();
        let part = self.keep(bytes)?;
        self.parts.push(part);
        Ok(())
    }

    /// The index, and the number of blocks.
    ///
    /// # Errors
    /// [`BlockWriteError::Manifest`] if there was no record; those of the sink.
    pub fn finish(mut self) -> Result<(Vec<IndexPart>, u64), BlockWriteError<S::Error>> {
        self.cutter.finish().map_err(BlockWriteError::Manifest)?;
        self.keep_complete().map_err(BlockWriteError::Sink)?;
        if self.index.len() > index_header().len() {
            self.end_index().map_err(BlockWriteError::Sink)?;
        }
        Ok((self.parts, self.blocks))
    }
}
