//! The entries of a manifest, by number and by path, page by page.
//!
//! Entries are numbered in path order, the root is 0. So a number says where an entry is, and nothing has to be remembered of it.

use std::sync::{Arc, OnceLock};

use cairn_content::pipeline::Run;
use cairn_types::ChunkId;

use super::ENTRIES_CACHE_BYTES;
use super::cache::Cache;
use crate::archive::Repository;
use crate::archive::directory::{BlockReference, groups, read_group};
use crate::archive::repository::Nodes;
use crate::directory::{Attributes, Body, Hole, Record, RelativePath};
use crate::manifest::{self, ManifestReader};
use crate::operations::OperationError;
use crate::view::data::Store;

/// Where pages come from.
pub(super) enum Source {
    /// A manifest of this machine.
    Local(Arc<ManifestReader>, Vec<manifest::Page>),
    /// An archive; of each page its blocks.
    Archive(Arc<Store>, Vec<Vec<BlockReference>>),
}

/// What is known of a page without reading it.
struct Place {
    /// The path of its first entry.
    first: RelativePath,
    /// The number of its first entry.
    number: u64,
}

/// An entry, as far as a view needs it.
pub(super) struct Entry {
    pub path: RelativePath,
    pub attributes: Attributes,
    pub body: Content,
}

/// What only one kind of entry has.
pub(super) enum Content {
    /// Nothing.
    None,
    /// The target of a symbolic link.
    Target(Vec<u8>),
    /// Another name of the file at this path.
    Link(RelativePath),
    /// A regular file.
    File(FileContent),
}

/// Where the bytes of a file are.
#[derive(Clone)]
pub(super) struct FileContent {
    pub holes: Arc<[Hole]>,
    /// Ascending; what none of them covers is zeros.
    pub chunks: Arc<[Extent]>,
    /// Whether the chunks, and zeros, are all of it.
    pub is_whole: bool,
}

/// A chunk of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub offset: u64,
    pub chunk: ChunkId,
    pub length: u32,
}

/// Some entries, in order.
pub(super) struct Page {
    /// The number of the first.
    pub number: u64,
    pub entries: Vec<Entry>,
    weight: usize,
}

/// A page that is read once, however many want it.
type Slot = OnceLock<Result<Arc<Page>, Arc<OperationError>>>;

/// The entries of a manifest.
pub(super) struct Pages {
    source: Source,
    index: Vec<Place>,
    total: u64,
    kept: Cache<usize, Slot>,
}

/// An entry that was found.
#[derive(Clone)]
pub(super) struct Position {
    number: usize,
    page: Arc<Page>,
    at: usize,
}

impl Position {
    /// The entry.
    pub fn entry(&self) -> &Entry {
        &self.page.entries[self.at]
    }

    /// Its number.
    pub fn ordinal(&self) -> u64 {
        self.page.number + self.at as u64
    }
}

fn damaged(what: &'static str) -> OperationError {
    manifest::ManifestError::Damaged { what }.into()
}

impl Pages {
    /// Those of a local manifest.
    pub fn local(manifest: Arc<ManifestReader>) -> Self {
        let pages = manifest.pages();
        let index = index(pages.iter().map(|page| (&page.first, page.entries)));
        Pages::new(Source::Local(manifest, pages), index)
    }

    /// Those of a directory's archive. Its index is read now.
    ///
    /// # Errors
    /// `Archive`; `Manifest` if it is not in order, or has not as many entries as the root says.
    pub fn archive(
        store: Arc<Store>,
        root: &crate::archive::directory::DirectoryRoot,
    ) -> Result<Self, OperationError> {
        let repository = store.get()?;
        let blocks: Result<Vec<_>, _> = groups(&repository.nodes(), root, |_| {}).collect();
        let blocks = blocks.map_err(|error| repository.directory_error(error))?;
        let entries = |group: &Vec<BlockReference>| group.iter().map(|block| u64::from(block.entries)).sum();
        let firsts = blocks
            .iter()
            .filter_map(|group| Some((&group.first()?.first, entries(group))));
        let index = index(firsts);
        let ascending = index.0.windows(2).all(|pair| pair[0].first < pair[1].first);
        let begins = index.0.first().is_some_and(|place| place.first.is_root());
        if !ascending || !begins || index.1 != root.counts.entries {
            return Err(damaged("its index is not in order"));
        }
        Ok(Pages::new(Source::Archive(store, blocks), index))
    }

    fn new(source: Source, (index, total): (Vec<Place>, u64)) -> Self {
        Pages {
            source,
            index,
            total,
            kept: Cache::new(ENTRIES_CACHE_BYTES),
        }
    }

    /// Entries.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many pages there are.
    pub fn count(&self) -> usize {
        self.index.len()
    }

    /// Reads a page, which is not kept.
    pub fn read(&self, page: usize) -> Result<Page, OperationError> {
        let records = match &self.source {
            Source::Local(manifest, pages) => {
                let page = pages.get(page).ok_or_else(|| damaged("its index"))?;
                manifest.page(page)?
            }
            Source::Archive(store, blocks) => {
                let blocks = blocks.get(page).ok_or_else(|| damaged("its index"))?;
                let repository: &Repository = store.get()?;
                let nodes: Nodes<'_> = repository.nodes();
                let records = read_group(&nodes, blocks, repository.is_plain());
                records.map_err(|error| repository.directory_error(error))?
            }
        };
        let number = self.index.get(page).map_or(0, |place| place.number);
        let end = self.index.get(page + 1).map_or(self.total, |place| place.number);
        let entries: Vec<Entry> = records.into_iter().map(Entry::from).collect();
        if entries.len() as u64 != end - number {
            return Err(damaged("a block has not as many entries as its index says"));
        }
        let weight = entries.iter().map(Entry::weight).sum();
        Ok(Page {
            number,
            entries,
            weight,
        })
    }

    /// A page, read if it is not kept.
    fn page(&self, page: usize) -> Result<Arc<Page>, Arc<OperationError>> {
        let slot = self.kept.get_or_insert(&page, 0, Slot::new);
        let read = slot.get_or_init(|| {
            let read = self.read(page).map(Arc::new).map_err(Arc::new);
            if let Ok(found) = &read {
                self.kept.weigh(&page, found.weight);
            }
            read
        });
        if read.is_err() {
            // Perhaps it can be had the next time.
            self.kept.remove(&page);
        }
        read.clone()
    }

    fn position(&self, page: usize, at: usize) -> Result<Position, Arc<OperationError>> {
        Ok(Position {
            number: page,
            page: self.page(page)?,
            at,
        })
    }

    /// The entry with this number; nothing behind the last.
    pub fn at(&self, ordinal: u64) -> Result<Option<Position>, Arc<OperationError>> {
        if ordinal >= self.total {
            return Ok(None);
        }
        let behind = self.index.partition_point(|place| place.number <= ordinal);
        let page = behind.saturating_sub(1);
        let within = ordinal - self.index[page].number;
        // Less than the entries of the page, of which there is a vector.
        Ok(Some(self.position(page, within as usize)?))
    }

    /// The entry at a path.
    pub fn find(&self, path: &RelativePath) -> Result<Option<Position>, Arc<OperationError>> {
        let behind = self.index.partition_point(|place| place.first <= *path);
        let number = behind.saturating_sub(1);
        let page = self.page(number)?;
        Ok(
            match page.entries.binary_search_by(|entry| entry.path.cmp(path)) {
                Ok(at) => Some(Position { number, page, at }),
                Err(_) => None,
            },
        )
    }

    /// The entry that follows behind everything that is in this one.
    pub fn after(&self, position: &Position) -> Result<Option<Position>, Arc<OperationError>> {
        let path = &position.entry().path;
        let rest = position.at + 1;
        let inside = |entries: &[Entry]| entries.partition_point(|entry| entry.path.is_within(path));
        let at = rest + inside(&position.page.entries[rest..]);
        if at < position.page.entries.len() {
            return Ok(Some(Position {
                at,
                ..position.clone()
            }));
        }
        // Pages that begin inside, all but the last of which end there.
        let next = position.number + 1;
        let begun = self.index[next..].partition_point(|place| place.first.is_within(path));
        if begun > 0 {
            let last = self.position(next + begun - 1, 0)?;
            let at = inside(&last.page.entries);
            if at < last.page.entries.len() {
                return Ok(Some(Position { at, ..last }));
            }
        }
        match next + begun < self.index.len() {
            true => Ok(Some(self.position(next + begun, 0)?)),
            false => Ok(None),
        }
    }
}

/// The index of pages, given by their first paths and numbers of entries, and how many entries they have.
fn index<'a>(pages: impl Iterator<Item = (&'a RelativePath, u64)>) -> (Vec<Place>, u64) {
    let mut number = 0_u64;
    let places = pages
        .map(|(first, entries)| {
            let place = Place {
                first: first.clone(),
                number,
            };
            number = number.saturating_add(entries);
            place
        })
        .collect();
    (places, number)
}

impl Entry {
    /// Bytes of memory, about.
    fn weight(&self) -> usize {
        let xattrs = self.attributes.xattrs.iter();
        let body = match &self.body {
            Content::None => 0,
            Content::Target(target) => target.len(),
            Content::Link(to) => to.as_bytes().len(),
            Content::File(file) => size_of_val(&*file.holes) + size_of_val(&*file.chunks),
        };
        size_of::<Entry>()
            + self.path.as_bytes().len()
            + xattrs
                .map(|xattr| 48 + xattr.name.len() + xattr.value.len())
                .sum::<usize>()
            + body
    }
}

impl From<Record> for Entry {
    fn from(record: Record) -> Self {
        let entry = record.entry;
        let body = match entry.body {
            Body::None => Content::None,
            Body::Symlink(target) => Content::Target(target),
            Body::Link(to) => Content::Link(to),
            Body::File(file) => {
                let mut end = 0_u64;
                let mut chunks = Vec::new();
                for run in &file.runs {
                    if let Run::Chunk(chunk, length) = run {
                        chunks.push(Extent {
                            offset: end,
                            chunk: *chunk,
                            length: *length,
                        });
                    }
                    end = end.saturating_add(u64::from(run.length()));
                }
                Content::File(FileContent {
                    holes: file.holes.into(),
                    chunks: chunks.into(),
                    is_whole: end == entry.attributes.size,
                })
            }
        };
        Entry {
            path: entry.path,
            attributes: entry.attributes,
            body,
        }
    }
}
