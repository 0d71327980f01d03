//! Reading manifests: in order, from a path on, below a path, one entry.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use cairn_content::checksum::crc32c;
use cairn_content::codec::{Decoder, Encoding};

use super::block::{Assembler, BlockDamage};
use super::codec::Reader;
use super::error::{ManifestError, io_error};
use super::format::{self, FOOTER_BYTES, HEADER_BYTES, IndexEntry};
use super::tree_hash::TreeHasher;
use super::{EntryCounts, ManifestSummary};
use crate::directory::{Record, RelativePath};

/// A block whose first entry begins in it, and the blocks behind it that go on with an entry of it: what can be read alone. Most are
/// one block.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// The path of its first entry.
    pub first: RelativePath,
    /// Entries in it.
    pub entries: u64,
    /// The number of its first block.
    block: usize,
}

/// A manifest that is open. Holds its index: about 60 bytes for every thousand entries.
#[derive(Debug)]
pub struct ManifestReader {
    file: File,
    stamps: bool,
    index: Vec<IndexEntry>,
    summary: ManifestSummary,
}

impl ManifestReader {
    /// Opens a manifest: reads and checks its header, index and footer. Blocks are checked when they are read.
    /// Errors: [`ManifestError::NotAManifest`], [`ManifestError::Version`], [`ManifestError::Truncated`], [`ManifestError::Damaged`],
    /// [`ManifestError::Io`].
    pub fn open(file: File) -> Result<Self, ManifestError> {
        let bytes = file.metadata().map_err(io_error("read"))?.len();
        let mut header = [0; HEADER_BYTES];
        if bytes < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(short_file(&file, bytes)?);
        }
        file.read_exact_at(&mut header, 0).map_err(io_error("read"))?;
        let stamps = format::read_header(&header)?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, bytes - FOOTER_BYTES as u64)
            .map_err(io_error("read"))?;
        let found = format::read_footer(&footer, bytes)?;
        // No longer than the file, and bounded.
        let mut index = vec![0; found.index_bytes as usize];
        file.read_exact_at(&mut index, found.index_offset)
            .map_err(io_error("read"))?;
        format::check_seal(&header, &index, &footer)?;
        Ok(ManifestReader {
            file,
            stamps,
            index: format::read_index(&index, found.index_offset)?,
            summary: found.summary,
        })
    }

    /// What it holds.
    pub fn summary(&self) -> &ManifestSummary {
        &self.summary
    }

    /// Whether its records have stamps.
    pub fn has_stamps(&self) -> bool {
        self.stamps
    }

    /// All records, in path order.
    pub fn records(&self) -> Records<'_> {
        Records::new(self, 0, Assembler::whole(), RelativePath::root(), None)
    }

    /// The records whose path is `path` or comes after it.
    pub fn records_from(&self, path: &RelativePath) -> Records<'_> {
        self.records_between(path, None)
    }

    /// The record at `path` and all below it: nothing if there is no such entry.
    pub fn records_within(&self, path: &RelativePath) -> Records<'_> {
        self.records_between(path, Some(path.clone()))
    }

    /// The record at `path`. Errors: [`ManifestError::Block`], [`ManifestError::Io`].
    pub fn find(&self, path: &RelativePath) -> Result<Option<Record>, ManifestError> {
        match self.records_from(path).next() {
            Some(Ok(record)) if record.entry.path == *path => Ok(Some(record)),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Ok(None),
        }
    }

    /// Reads everything and holds it against what the footer says. Errors: those of [`Records`], and
    /// [`ManifestError::Damaged`] if the counts or the tree hash are others.
    pub fn check(&self) -> Result<(), ManifestError> {
        let mut counts = EntryCounts::default();
        let mut hasher = TreeHasher::new();
        for record in self.records() {
            let entry = record?.entry;
            counts.add(&entry);
            hasher.push(&entry);
        }
        let what = match (
            counts == self.summary.counts,
            hasher.finish() == self.summary.tree_hash,
        ) {
            (true, true) => return Ok(()),
            (false, _) => "it does not hold as many entries as its footer says",
            (true, false) => "its entries do not have the tree hash that its footer says",
        };
        Err(ManifestError::Damaged { what })
    }

    /// Its blocks, in order, as pages.
    pub(crate) fn pages(&self) -> Vec<Page> {
        let mut pages: Vec<Page> = Vec::new();
        for (block, entry) in self.index.iter().enumerate() {
            match pages.last_mut().filter(|_| entry.continues) {
                Some(page) => page.entries += u64::from(entry.entries),
                None => pages.push(Page {
                    first: entry.first.clone(),
                    entries: u64::from(entry.entries),
                    block,
                }),
            }
        }
        pages
    }

    /// The records of a page. Errors: [`ManifestError::Block`], [`ManifestError::Io`].
    pub(crate) fn page(&self, page: &Page) -> Result<Vec<Record>, ManifestError> {
        let assembler = match page.block {
            0 => Assembler::whole(),
            _ => Assembler::middle(),
        };
        let records = Records::new(self, page.block, assembler, RelativePath::root(), None);
        // No more than a block holds were announced for each; the last one is complete with the last block of the page.
        records
            .take(usize::try_from(page.entries).unwrap_or(usize::MAX))
            .collect()
    }

    fn records_between(&self, from: &RelativePath, within: Option<RelativePath>) -> Records<'_> {
        let begun = self.index.partition_point(|entry| entry.first <= *from);
        let mut block = begun.saturating_sub(1);
        // The record begins before what goes on with it.
        while block > 0 && self.index[block].continues && self.index[block].first == *from {
            block -= 1;
        }
        let assembler = match block {
            0 => Assembler::whole(),
            _ => Assembler::middle(),
        };
        Records::new(self, block, assembler, from.clone(), within)
    }

    /// All records but those of some blocks, which must be among the [`ManifestReader::closed_blocks`].
    pub(super) fn records_without(&self, passed: HashSet<usize>) -> Records<'_> {
        let mut records = self.records();
        records.passed = passed;
        records
    }

    /// The numbers and hashes of the blocks whose records all begin and end in them.
    pub(super) fn closed_blocks(&self) -> impl Iterator<Item = (usize, [u8; 32])> {
        let open = |block: usize| self.index.get(block).is_some_and(|entry| entry.continues);
        let blocks = self.index.iter().enumerate();
        let closed = blocks.filter(move |(block, _)| !open(*block) && !open(block + 1));
        closed.map(|(block, entry)| (block, entry.hash))
    }

    /// The hashes of the blocks, with their numbers.
    pub(super) fn hashes(&self) -> impl Iterator<Item = ([u8; 32], usize)> {
        self.index
            .iter()
            .enumerate()
            .map(|(block, entry)| (entry.hash, block))
    }

    /// Reads a block as it is stored, and checks it.
    pub(super) fn stored_block(&self, block: usize, stored: &mut Vec<u8>) -> Result<Encoding, ManifestError> {
        let entry = &self.index[block];
        stored.resize(entry.stored as usize, 0);
        self.file
            .read_exact_at(stored, entry.offset)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => ManifestError::Truncated { bytes: entry.offset },
                _ => io_error("read")(source),
            })?;
        match crc32c(stored) == entry.checksum {
            true => Ok(entry.encoding),
            false => Err(self.damaged(block)(BlockDamage::Checksum)),
        }
    }

    fn damaged(&self, block: usize) -> impl Fn(BlockDamage) -> ManifestError {
        let entry = &self.index[block];
        move |source| ManifestError::Block {
            block,
            offset: entry.offset,
            bytes: entry.stored,
            first: entry.first.clone(),
            source,
        }
    }
}

/// Why a file that is too short for header and footer is no manifest.
fn short_file(file: &File, bytes: u64) -> Result<ManifestError, ManifestError> {
    let mut header = [0; HEADER_BYTES];
    if bytes < HEADER_BYTES as u64 {
        return Ok(ManifestError::Truncated { bytes });
    }
    file.read_exact_at(&mut header, 0).map_err(io_error("read"))?;
    Ok(match format::read_header(&header) {
        Ok(_) => ManifestError::Truncated { bytes },
        Err(error) => error,
    })
}

/// The records of a manifest, in path order. After an error there are no more: [`ManifestError::Block`] names the block and where its entries
/// begin, [`ManifestError::Io`] says that it could not be read. What came before is sound.
pub struct Records<'a> {
    manifest: &'a ManifestReader,
    assembler: Assembler,
    /// The block that is read next.
    next: usize,
    /// Blocks that are not read.
    passed: HashSet<usize>,
    from: Option<RelativePath>,
    within: Option<RelativePath>,
    decoder: Option<Decoder>,
    stored: Vec<u8>,
    block: Vec<u8>,
    at: usize,
    done: bool,
}

impl<'a> Records<'a> {
    fn new(
        manifest: &'a ManifestReader,
        next: usize,
        assembler: Assembler,
        from: RelativePath,
        within: Option<RelativePath>,
    ) -> Self {
        Records {
            manifest,
            assembler,
            next,
            passed: HashSet::new(),
            from: Some(from).filter(|from| !from.is_root()),
            within,
            decoder: None,
            stored: Vec::new(),
            block: Vec::new(),
            at: 0,
            done: false,
        }
    }

    fn step(&mut self) -> Result<Option<Record>, ManifestError> {
        loop {
            if self.at == self.block.len() && !self.load()? {
                return Ok(None);
            }
            let mut reader = Reader::new(&self.block, self.at);
            let record = self.assembler.next(&mut reader);
            let record = record.map_err(self.manifest.damaged(self.next - 1))?;
            if self.at == 0 {
                self.check_first()?;
            }
            self.at = reader.at();
            if self.at == self.block.len() {
                self.check_entries()?;
            }
            let Some(record) = record else { continue };
            if self.from.as_ref().is_some_and(|from| record.entry.path < *from) {
                continue;
            }
            self.from = None;
            let inside = |within: &RelativePath| record.entry.path.is_within(within);
            return Ok(self.within.as_ref().is_none_or(inside).then_some(record));
        }
    }

    /// After the first item of a block: what the index says of it is what paths are found by.
    fn check_first(&self) -> Result<(), ManifestError> {
        let entry = &self.manifest.index[self.next - 1];
        let begins = self.assembler.begun() == 1;
        match begins != entry.continues && self.assembler.is_at(&entry.first) {
            true => Ok(()),
            false => Err(self.manifest.damaged(self.next - 1)(BlockDamage::First)),
        }
    }

    /// At the end of a block.
    fn check_entries(&self) -> Result<(), ManifestError> {
        let (expected, found) = (self.manifest.index[self.next - 1].entries, self.assembler.begun());
        match expected == found {
            true => Ok(()),
            false => Err(self.manifest.damaged(self.next - 1)(BlockDamage::Entries {
                expected,
                found,
            })),
        }
    }

    /// Reads the next block; false if there is none.
    fn load(&mut self) -> Result<bool, ManifestError> {
        while self.passed.contains(&self.next) {
            self.next += 1;
            self.assembler.pass();
        }
        let Some(entry) = self.manifest.index.get(self.next) else {
            let last = self.next.saturating_sub(1);
            self.assembler.end().map_err(self.manifest.damaged(last))?;
            return Ok(false);
        };
        let damaged = self.manifest.damaged(self.next);
        let encoding = self.manifest.stored_block(self.next, &mut self.stored)?;
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None => self.decoder.insert(Decoder::new().map_err(io_error("read"))?),
        };
        decoder
            .decode(encoding, &self.stored, entry.length as usize, &mut self.block)
            .map_err(|error| BlockDamage::Compression {
                reason: error.to_string(),
            })
            .map_err(&damaged)?;
        if *blake3::hash(&self.block).as_bytes() != entry.hash {
            return Err(damaged(BlockDamage::Checksum));
        }
        self.assembler.begin();
        self.at = 0;
        self.next += 1;
        Ok(true)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.step().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}
