//! Writing manifests.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use cairn_content::checksum::crc32c;
use cairn_content::codec::{Compression, Encoder};

use super::cut::{Block, BlockCutter};
use super::error::{ManifestError, io_error};
use super::format::{self, HEADER_BYTES, INDEX_BYTES_MAX, IndexEntry};
use super::read::ManifestReader;
use super::tree_hash::TreeHasher;
use super::{EntryCounts, ManifestSummary};
use crate::directory::{Record, RelativePath};

/// How a manifest is written.
#[derive(Debug, Clone)]
pub struct ManifestOptions {
    /// Whether records keep their stamps, without which every file must be read again for the next snapshot. Default: yes.
    pub stamps: bool,
    /// A manifest of a tree that is much like this one: blocks that both have in common are copied, and not compressed again.
    pub previous: Option<Arc<ManifestReader>>,
}

impl Default for ManifestOptions {
    fn default() -> Self {
        ManifestOptions {
            stamps: true,
            previous: None,
        }
    }
}

/// What a writer has written so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WrittenBlocks {
    /// Blocks.
    pub blocks: u64,
    /// Of these, copied from the previous manifest.
    pub copied: u64,
    /// Bytes of the blocks in the file.
    pub bytes: u64,
}

/// Writes a manifest, record by record, in the memory of a block and the index.
pub struct ManifestWriter {
    file: File,
    cutter: BlockCutter,
    encoder: Encoder,
    hasher: TreeHasher,
    counts: EntryCounts,
    header: [u8; HEADER_BYTES],
    index: Vec<u8>,
    /// The first path of the block that the index ends with.
    indexed: RelativePath,
    written: WrittenBlocks,
    offset: u64,
    previous: Option<Arc<ManifestReader>>,
    /// The blocks of the previous manifest by the hash of their bytes.
    known: HashMap<[u8; 32], usize>,
    stored: Vec<u8>,
}

impl ManifestWriter {
    /// Begins a manifest in `file`, which is empty and at its beginning. Errors: [`ManifestError::Io`].
    pub fn create(mut file: File, options: ManifestOptions) -> Result<Self, ManifestError> {
        let header = format::header(options.stamps);
        file.write_all(&header).map_err(io_error("written"))?;
        let known = options.previous.iter().flat_map(|previous| previous.hashes());
        Ok(ManifestWriter {
            file,
            cutter: BlockCutter::new(options.stamps),
            encoder: Encoder::new(Compression::Zstd(1)).map_err(io_error("compressed"))?,
            hasher: TreeHasher::new(),
            counts: EntryCounts::default(),
            header,
            index: Vec::new(),
            indexed: RelativePath::root(),
            written: WrittenBlocks::default(),
            offset: HEADER_BYTES as u64,
            known: known.collect(),
            previous: options.previous,
            stored: Vec::new(),
        })
    }

    /// Adds a record. The root comes first, then everything in path order.
    ///
    /// Errors: [`ManifestError::Entry`], [`ManifestError::Order`], [`ManifestError::EntryTooLarge`], after which the record is not in the
    /// manifest and others may follow; [`ManifestError::Io`], [`ManifestError::IndexTooLarge`], after which the manifest is of no use.
    pub fn push(&mut self, record: &Record) -> Result<(), ManifestError> {
        self.cutter.push(record)?;
        self.counts.add(&record.entry);
        self.hasher.push(&record.entry);
        self.write_complete()
    }

    /// What was written so far.
    pub fn written(&self) -> WrittenBlocks {
        self.written
    }

    /// Completes the file. It is whole when this returns, but not durable: the caller syncs it, or the file system that it is on.
    /// Errors: [`ManifestError::Empty`] if there was no record, [`ManifestError::Io`], [`ManifestError::IndexTooLarge`].
    pub fn finish(mut self) -> Result<ManifestSummary, ManifestError> {
        self.cutter.finish()?;
        self.write_complete()?;
        let tree_hash = self.hasher.finish();
        let (footer, file_hash) =
            format::footer(&self.header, self.offset, &self.index, &self.counts, tree_hash);
        self.file
            .write_all(&self.index)
            .and_then(|()| self.file.write_all(&footer))
            .map_err(io_error("written"))?;
        Ok(ManifestSummary {
            counts: self.counts,
            tree_hash,
            file_hash,
        })
    }

    fn write_complete(&mut self) -> Result<(), ManifestError> {
        while let Some(block) = self.cutter.complete() {
            self.write_block(&block)?;
            self.cutter.recycle(block);
        }
        Ok(())
    }

    fn write_block(&mut self, block: &Block) -> Result<(), ManifestError> {
        let hash = *blake3::hash(&block.bytes).as_bytes();
        let copied = self.copy_block(&hash);
        let encoding = match copied {
            Some(encoding) => encoding,
            None => self
                .encoder
                .encode(&block.bytes, &mut self.stored)
                .map_err(io_error("compressed"))?,
        };
        let entry = IndexEntry {
            first: block.first.clone(),
            continues: block.continues,
            offset: self.offset,
            stored: self.stored.len() as u32,
            length: block.bytes.len() as u32,
            entries: block.entries,
            encoding,
            checksum: crc32c(&self.stored),
            hash,
        };
        format::put_index_entry(&mut self.index, &entry, &self.indexed);
        if self.index.len() > INDEX_BYTES_MAX {
            return Err(ManifestError::IndexTooLarge {
                bytes: self.index.len(),
                bytes_max: INDEX_BYTES_MAX,
            });
        }
        self.indexed = entry.first;
        self.file.write_all(&self.stored).map_err(io_error("written"))?;
        self.offset += u64::from(entry.stored);
        self.written.blocks += 1;
        self.written.copied += u64::from(copied.is_some());
        self.written.bytes += u64::from(entry.stored);
        Ok(())
    }

    /// Fetches the stored form of a block with this hash from the previous manifest. A block that cannot be read there is compressed
    /// anew: the previous manifest only saves work.
    fn copy_block(&mut self, hash: &[u8; 32]) -> Option<cairn_content::codec::Encoding> {
        let block = *self.known.get(hash)?;
        self.previous.as_ref()?.stored_block(block, &mut self.stored).ok()
    }
}
