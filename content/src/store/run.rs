//! Runs: sorted files on local disk that say which pack holds which chunk.
//!
//! A run is written once, under another name, and renamed; it is never changed. A look-up is one `pread` of a page: the pages'
//! first keys are in memory (8 bytes for [`PAGE_ENTRIES`] chunks), everything else stays on disk. Every page has a checksum
//! that is verified whenever the page is read, so that a damaged run is never believed. It is not this file's business to
//! make up for it: runs are a cache, and [`super::index`] writes them anew from what the packs say.
//!
//! The format is drawn in `docs/formats/chunk-index.md`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use cairn_types::ChunkId;

use crate::checksum::{Crc32c, crc32c};
use crate::pack::PackId;

/// Bytes of a page.
pub(super) const PAGE_BYTES: usize = 4096;
const PAGE_HEAD_BYTES: usize = 12;
const ENTRY_BYTES: usize = 40;
/// Entries of a full page; all pages but the last are full.
pub(super) const PAGE_ENTRIES: usize = (PAGE_BYTES - PAGE_HEAD_BYTES) / ENTRY_BYTES;
const PACK_BYTES: usize = 12;
const FOOTER_BYTES: usize = 40;
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"CAIRNRUN";

/// A chunk in a pack. Their order is that of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// The chunk.
    pub id: ChunkId,
    /// The number of the pack that holds it.
    pub pack: u32,
    /// Its number among the pack's chunks.
    pub chunk: u32,
}

/// A pack whose chunks are in a run: its number, and the beginning of its name, which shows that the number still means it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunPack {
    pub number: u32,
    pub prefix: [u8; 8],
}

impl RunPack {
    pub fn new(number: u32, id: &PackId) -> Self {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&id.0[..8]);
        RunPack { number, prefix }
    }
}

/// Why a run cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not what was written.
    #[error("{0}")]
    Damaged(&'static str),
}

/// An open run.
#[derive(Debug)]
pub(super) struct Run {
    path: PathBuf,
    file: File,
    /// The first key of each page, ascending.
    keys: Vec<u64>,
    entries: u64,
    /// Ascending.
    packs: Vec<RunPack>,
}

/// The part of an identity that finds a page.
fn key(id: &ChunkId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.0[..8]);
    u64::from_be_bytes(bytes)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn entry(page: &[u8], number: usize) -> Entry {
    let at = PAGE_HEAD_BYTES + number * ENTRY_BYTES;
    let mut id = [0; 32];
    id.copy_from_slice(&page[at..at + 32]);
    Entry {
        id: ChunkId(id),
        pack: word(page, at + 32),
        chunk: word(page, at + 36),
    }
}

impl Run {
    /// Opens a run and verifies what stands behind its pages. Pages are verified when they are read.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let damaged = RunError::Damaged;
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let tail_from = length
            .checked_sub(FOOTER_BYTES as u64)
            .ok_or(damaged("it is too short"))?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_exact_at(&mut footer, tail_from)?;
        if footer[32..] != MAGIC || word(&footer, 28) != VERSION {
            return Err(damaged("its end is missing or of another version"));
        }
        let (pages, packs) = (word(&footer, 12) as usize, word(&footer, 16) as usize);
        let entries = u64::from(word(&footer, 4)) | u64::from(word(&footer, 8)) << 32;
        let tail = (pages as u64) * 8 + (packs as u64) * PACK_BYTES as u64;
        // The file is as long as its counts say, so that nothing is reserved for what is not there.
        if pages as u64 * PAGE_BYTES as u64 + tail != tail_from
            || entries.div_ceil(PAGE_ENTRIES as u64) != pages as u64
        {
            return Err(damaged("its counts and its length do not agree"));
        }
        let mut bytes = vec![0; tail as usize];
        file.read_exact_at(&mut bytes, tail_from - tail)?;
        let mut sum = Crc32c::new();
        sum.update(&bytes);
        sum.update(&footer[4..]);
        if sum.value() != word(&footer, 0) {
            return Err(damaged("the checksum of its end is another"));
        }
        let (keys, rest) = bytes.split_at(pages * 8);
        let keys: Vec<u64> = keys
            .as_chunks::<8>()
            .0
            .iter()
            .map(|key| u64::from_le_bytes(*key))
            .collect();
        let packs: Vec<RunPack> = rest
            .as_chunks::<PACK_BYTES>()
            .0
            .iter()
            .map(|pack| {
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&pack[4..]);
                RunPack {
                    number: word(pack, 0),
                    prefix,
                }
            })
            .collect();
        Ok(Run {
            path: path.to_owned(),
            file,
            keys,
            entries,
            packs,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Entries in it.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The packs whose chunks it has, all of them each, ascending.
    pub fn packs(&self) -> &[RunPack] {
        &self.packs
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        self.keys.capacity() * 8 + self.packs.capacity() * size_of::<RunPack>()
    }

    /// Adds every entry of a chunk to `found`.
    pub fn find(&self, id: &ChunkId, found: &mut Vec<Entry>) -> Result<(), RunError> {
        let wanted = key(id);
        // The first page that may hold it: the last that begins below it. Copies of a chunk may go on over several pages.
        let first = self.keys.partition_point(|key| *key < wanted).saturating_sub(1);
        let mut page = [0; PAGE_BYTES];
        for number in first..self.keys.len() {
            if self.keys[number] > wanted {
                break;
            }
            let count = self.read_page(number, &mut page)?;
            let mut at = partition(count, |at| entry_id(&page, at) < &id.0[..]);
            while at < count && entry_id(&page, at) == &id.0[..] {
                found.push(entry(&page, at));
                at += 1;
            }
        }
        Ok(())
    }

    /// Reads and verifies a page; says how many entries it has.
    fn read_page(&self, number: usize, page: &mut [u8; PAGE_BYTES]) -> Result<usize, RunError> {
        self.file.read_exact_at(page, (number * PAGE_BYTES) as u64)?;
        let count = usize::from(u16::from_le_bytes([page[8], page[9]]));
        let before = number as u64 * PAGE_ENTRIES as u64;
        let expected = (self.entries - before).min(PAGE_ENTRIES as u64);
        if crc32c(&page[4..]) != word(page, 0) {
            return Err(RunError::Damaged("the checksum of a page is another"));
        }
        if word(page, 4) as usize != number || count as u64 != expected {
            return Err(RunError::Damaged("a page is not the one that belongs there"));
        }
        Ok(count)
    }

    /// All entries, in order.
    pub fn iter(&self) -> Entries<'_> {
        Entries {
            run: self,
            page: Box::new([0; PAGE_BYTES]),
            number: 0,
            at: 0,
            count: 0,
        }
    }
}

fn entry_id(page: &[u8], number: usize) -> &[u8] {
    let at = PAGE_HEAD_BYTES + number * ENTRY_BYTES;
    &page[at..at + 32]
}

/// The first of `count` numbers for which `below` is false, as `partition_point` of a slice.
fn partition(count: usize, below: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        match below(middle) {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

/// The entries of a run; ends after an error.
pub(super) struct Entries<'a> {
    run: &'a Run,
    page: Box<[u8; PAGE_BYTES]>,
    /// The next page.
    number: usize,
    at: usize,
    count: usize,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.count {
            if self.number == self.run.keys.len() {
                return None;
            }
            match self.run.read_page(self.number, &mut self.page) {
                Ok(count) => (self.number, self.at, self.count) = (self.number + 1, 0, count),
                Err(error) => {
                    (self.number, self.at, self.count) = (self.run.keys.len(), 0, 0);
                    return Some(Err(error));
                }
            }
        }
        self.at += 1;
        Some(Ok(entry(&self.page[..], self.at - 1)))
    }
}

/// Writes entries, which must come in order, as a run at `path`; another file must not have this name. `packs` are those
/// whose chunks are all among them. Not synced: after a power cut the checksums tell whether it is there.
pub(super) fn write_run(
    path: &Path,
    entries: impl Iterator<Item = Result<Entry, RunError>>,
    mut packs: Vec<RunPack>,
) -> Result<Run, RunError> {
    packs.sort_unstable();
    let unfinished = path.with_extension("tmp");
    let written = write_file(&unfinished, entries, &packs);
    let opened = written
        .and_then(|()| Ok(fs::rename(&unfinished, path)?))
        .and_then(|()| Run::open(path));
    if opened.is_err() {
        // What is left of it goes when the cache is opened again.
        let _ = fs::remove_file(&unfinished);
    }
    opened
}

fn write_file(
    path: &Path,
    entries: impl Iterator<Item = Result<Entry, RunError>>,
    packs: &[RunPack],
) -> Result<(), RunError> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut keys: Vec<u64> = Vec::new();
    let mut page = [0; PAGE_BYTES];
    let (mut count, mut total) = (0, 0u64);
    let mut put = |page: &mut [u8; PAGE_BYTES], count: usize| -> io::Result<()> {
        let first: &[u8] = entry_id(page, 0);
        let mut key_bytes = [0; 8];
        key_bytes.copy_from_slice(&first[..8]);
        let number = keys.len() as u32;
        keys.push(u64::from_be_bytes(key_bytes));
        page[4..8].copy_from_slice(&number.to_le_bytes());
        page[8..10].copy_from_slice(&(count as u16).to_le_bytes());
        let sum = crc32c(&page[4..]);
        page[..4].copy_from_slice(&sum.to_le_bytes());
        file.write_all(page)?;
        page.fill(0);
        Ok(())
    };
    for next in entries {
        let next = next?;
        let at = PAGE_HEAD_BYTES + count * ENTRY_BYTES;
        page[at..at + 32].copy_from_slice(&next.id.0);
        page[at + 32..at + 36].copy_from_slice(&next.pack.to_le_bytes());
        page[at + 36..at + 40].copy_from_slice(&next.chunk.to_le_bytes());
        (count, total) = (count + 1, total + 1);
        if count == PAGE_ENTRIES {
            put(&mut page, count)?;
            count = 0;
        }
    }
    if count > 0 {
        put(&mut page, count)?;
    }
    let mut tail = Vec::with_capacity(keys.len() * 8 + packs.len() * PACK_BYTES + FOOTER_BYTES);
    for key in &keys {
        tail.extend_from_slice(&key.to_le_bytes());
    }
    for pack in packs {
        tail.extend_from_slice(&pack.number.to_le_bytes());
        tail.extend_from_slice(&pack.prefix);
    }
    let mut footer = [0; FOOTER_BYTES];
    footer[4..12].copy_from_slice(&total.to_le_bytes());
    footer[12..16].copy_from_slice(&(keys.len() as u32).to_le_bytes());
    footer[16..20].copy_from_slice(&(packs.len() as u32).to_le_bytes());
    footer[28..32].copy_from_slice(&VERSION.to_le_bytes());
    footer[32..].copy_from_slice(&MAGIC);
    let mut sum = Crc32c::new();
    sum.update(&tail);
    sum.update(&footer[4..]);
    footer[..4].copy_from_slice(&sum.value().to_le_bytes());
    tail.extend_from_slice(&footer);
    file.write_all(&tail)?;
    file.flush()?;
    Ok(())
}

/// Merges sorted entries; of equal ones, one remains.
pub(super) fn merge<'a>(
    sources: Vec<Box<dyn Iterator<Item = Result<Entry, RunError>> + 'a>>,
) -> impl Iterator<Item = Result<Entry, RunError>> + 'a {
    let mut sources: Vec<_> = sources.into_iter().map(Iterator::peekable).collect();
    let mut last = None;
    std::iter::from_fn(move || {
        loop {
            // There are a handful at most: looking at each is cheaper than a heap.
            let mut least: Option<(usize, Entry)> = None;
            for (number, source) in sources.iter_mut().enumerate() {
                match source.peek() {
                    Some(Err(_)) => return source.next(),
                    Some(Ok(entry)) if least.is_none_or(|(_, found)| *entry < found) => {
                        least = Some((number, *entry));
                    }
                    _ => {}
                }
            }
            let (number, entry) = least?;
            sources[number].next();
            if last.replace(entry) != Some(entry) {
                return Some(Ok(entry));
            }
        }
    })
}

#[cfg(test)]
mod tests;
