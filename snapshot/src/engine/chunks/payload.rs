//! The data of a snapshot again: the manifest if the local one is lost, all data in order, any part of a file.
//!
//! Every byte is verified by the identity of its chunk before it is handed out.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cairn_content::pipeline::Run;
use cairn_content::store::{ChunkReadError, OrderedChunks};
use cairn_types::{ChunkId, SnapshotId};
use parking_lot::Mutex;

use super::ChunksError;
use crate::archive::directory::{DirectoryReadError, DirectoryRoot, Records, is_whole, layout, records};
use crate::archive::repository::Nodes;
use crate::archive::{Archive, Progress, Repository};
use crate::directory::{Body, Digest, Entry, FileBody, Record, RelativePath};
use crate::manifest::{EntryCounts, ManifestError, ManifestSummary, ManifestWriter};

/// The data of a snapshot that this engine has made.
pub struct ChunksPayload<'a> {
    repository: &'a Repository,
    archive: Archive,
    root: DirectoryRoot,
    nodes: Nodes<'a>,
}

/// After so many records, what they were fetched with is let go: in order, nobody needs it again.
const FETCHED_KEPT_RECORDS: u32 = 10_000;

/// The records of an archive's manifest, in order, without stamps.
pub struct PayloadRecords<'a> {
    repository: &'a Repository,
    records: Records<'a, Nodes<'a>>,
    /// Records since then.
    fetched: u32,
}

impl Iterator for PayloadRecords<'_> {
    type Item = Result<Record, ChunksError>;

    /// The next record. After an error about one part of the manifest, the next call goes on behind it.
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.records.next()?;
        self.fetched += 1;
        if self.fetched >= FETCHED_KEPT_RECORDS {
            self.fetched = 0;
            self.repository.forget_frames();
        }
        Some(next.map_err(|error: DirectoryReadError<_>| self.repository.directory_error(error).into()))
    }
}

impl<'a> ChunksPayload<'a> {
    /// Opens the archive of a snapshot.
    ///
    /// # Errors
    /// `Archive`: there is none, or it is of a volume, or it cannot be read; `Cancelled`.
    pub fn open(
        repository: &'a Repository,
        snapshot: SnapshotId,
        progress: &Progress,
    ) -> Result<Self, ChunksError> {
        let root = repository.require_root(snapshot)?;
        let directory = repository.directory_of(&root)?.clone();
        repository.refresh(progress)?;
        Ok(ChunksPayload {
            repository,
            archive: root.archive,
            root: directory,
            nodes: repository.nodes(),
        })
    }

    /// What the archive says of itself.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// What is in it.
    pub fn counts(&self) -> EntryCounts {
        self.root.counts
    }

    /// The hash of the whole tree.
    pub fn tree_hash(&self) -> Option<Digest> {
        self.root.tree_hash
    }

    /// The records with paths from `from` on, read from the store.
    pub fn records(&self, from: RelativePath) -> PayloadRecords<'_> {
        PayloadRecords {
            repository: self.repository,
            records: records(&self.nodes, &self.root, from, self.repository.is_plain()),
            fetched: 0,
        }
    }

    /// Writes the manifest as a local one, without stamps, for one that is lost.
    ///
    /// # Errors
    /// `Archive`; `Manifest`, also if it is not the tree that the archive's root says; `Cancelled`.
    pub fn write_manifest(
        &self,
        mut manifest: ManifestWriter,
        progress: &Progress,
    ) -> Result<ManifestSummary, ChunksError> {
        for record in self.records(RelativePath::root()) {
            if progress.is_cancelled() {
                return Err(ChunksError::Cancelled);
            }
            manifest.push(&record?)?;
            progress.add(1, 0);
        }
        let summary = manifest.finish()?;
        if summary.counts == self.root.counts && summary.tree_hash == self.root.tree_hash {
            return Ok(summary);
        }
        let what = "its tree is not the one that the archive's root names";
        Err(ManifestError::Damaged { what }.into())
    }

    /// The data of files, in the order in which they are wanted, fetched ahead. `wanted` is asked on a thread of its own, and must not wait for
    /// what is taken. Entries without chunks (no regular files, empty ones, those of holes and zeros only) are passed over: the length is all
    /// that there is to them.
    ///
    /// # Errors
    /// `Data` if a thread cannot be started.
    pub fn files<I>(&self, wanted: I) -> Result<Files, ChunksError>
    where
        I: Iterator<Item = Result<Entry, WantedError>> + Send + 'static,
    {
        let plan = Arc::new(Mutex::new(VecDeque::new()));
        let chunks = Planner {
            wanted,
            plan: plan.clone(),
            file: Arc::new([]),
            next: 0,
        };
        let chunks = self
            .repository
            .read_ordered(chunks)
            .map_err(|source| ChunksError::Data {
                path: RelativePath::root(),
                source,
            })?;
        Ok(Files {
            plan,
            chunks,
            held: None,
            left: 0,
        })
    }

    /// A file to read anywhere.
    ///
    /// # Errors
    /// `NoRuns`.
    pub fn content(&self, entry: &Entry) -> Result<FileContent<'_>, ChunksError> {
        let no_runs = || ChunksError::NoRuns {
            path: entry.path.clone(),
        };
        let Body::File(file) = &entry.body else {
            return Err(no_runs());
        };
        if !is_whole(file, entry.attributes.size) {
            return Err(no_runs());
        }
        Ok(FileContent {
            repository: self.repository,
            path: entry.path.clone(),
            size: entry.attributes.size,
            chunks: chunks_of(file).collect(),
        })
    }

    /// Reads bytes of a file from `offset` on; fewer than asked for at its end only. For one read; for several, [`ChunksPayload::content`].
    ///
    /// # Errors
    /// `NoRuns`, `Data`.
    pub fn read(&self, entry: &Entry, offset: u64, buffer: &mut [u8]) -> Result<usize, ChunksError> {
        self.content(entry)?.read(offset, buffer)
    }
}

/// A file that is read anywhere.
pub struct FileContent<'a> {
    repository: &'a Repository,
    path: RelativePath,
    size: u64,
    /// Chunks with their offsets, ascending. Everything else is zeros.
    chunks: Vec<(u64, ChunkId, u32)>,
}

impl FileContent<'_> {
    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads bytes from `offset` on; fewer than asked for at the end only, none behind it.
    ///
    /// # Errors
    /// `Data`.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ChunksError> {
        let rest = self.size.saturating_sub(offset);
        let length = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..length];
        buffer.fill(0);
        let end = offset + length as u64;
        let first = self
            .chunks
            .partition_point(|(at, _, length)| at + u64::from(*length) <= offset);
        for (at, id, length) in &self.chunks[first..] {
            if *at >= end {
                break;
            }
            let data = self
                .repository
                .read_chunk(id, *length)
                .map_err(|source| ChunksError::Data {
                    path: self.path.clone(),
                    source,
                })?;
            let from = offset.max(*at);
            let to = end.min(at + u64::from(*length));
            // Both lie in the chunk and in the buffer, whose lengths fit.
            let source = &data[(from - at) as usize..(to - at) as usize];
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
        }
        Ok(length)
    }
}

/// Why whoever says what is wanted cannot go on, in its own words.
pub type WantedError = Box<dyn std::error::Error + Send + Sync>;

/// Chunks of a file, with their offsets.
type FileChunks = Arc<[(u64, ChunkId, u32)]>;

/// What is planned and not taken yet: of files as many as the store plans chunks ahead, at most, and one more.
enum Plan {
    File(Entry, FileChunks),
    Failed(ChunksError),
}

/// Asks what is wanted, and notes it for whoever takes it: before the first chunk of it comes.
struct Planner<I> {
    wanted: I,
    plan: Arc<Mutex<VecDeque<Plan>>>,
    file: FileChunks,
    next: usize,
}

impl<I: Iterator<Item = Result<Entry, WantedError>>> Iterator for Planner<I> {
    type Item = (ChunkId, u32);

    fn next(&mut self) -> Option<(ChunkId, u32)> {
        loop {
            if let Some((_, id, length)) = self.file.get(self.next) {
                self.next += 1;
                return Some((*id, *length));
            }
            let planned = match self.wanted.next()? {
                Ok(entry) => plan(entry),
                Err(error) => Some(Plan::Failed(ChunksError::Wanted(error))),
            };
            match planned {
                None => {}
                Some(Plan::File(entry, chunks)) => {
                    (self.file, self.next) = (chunks.clone(), 0);
                    self.plan.lock().push_back(Plan::File(entry, chunks));
                }
                Some(failed @ Plan::Failed(_)) => {
                    self.plan.lock().push_back(failed);
                    return None;
                }
            }
        }
    }
}

/// What of an entry is to be fetched, if anything is. The runs are not needed any more then.
fn plan(mut entry: Entry) -> Option<Plan> {
    let Body::File(file) = &mut entry.body else {
        return None;
    };
    if !is_whole(file, entry.attributes.size) {
        let path = entry.path;
        return Some(Plan::Failed(ChunksError::NoRuns { path }));
    }
    let chunks: FileChunks = chunks_of(file).collect();
    file.runs = Vec::new();
    (!chunks.is_empty()).then_some(Plan::File(entry, chunks))
}

fn chunks_of(file: &FileBody) -> impl Iterator<Item = (u64, ChunkId, u32)> + '_ {
    layout(file).filter_map(|(at, run)| match run {
        Run::Chunk(id, length) => Some((at, id, length)),
        Run::Zeros(_) => None,
    })
}

/// The data of many files, in order.
pub struct Files {
    plan: Arc<Mutex<VecDeque<Plan>>>,
    chunks: OrderedChunks,
    /// The next chunk, if it has come already.
    held: Option<Result<Bytes, ChunkReadError>>,
    /// Chunks of the file before that nobody has taken.
    left: usize,
}

/// A file whose data is to be taken. What is not taken is passed over.
pub struct Wanted<'f> {
    files: &'f mut Files,
    /// The entry, without its runs.
    pub entry: Entry,
    chunks: FileChunks,
}

impl Files {
    /// The next file; none behind the last.
    ///
    /// # Errors
    /// `Wanted`, `NoRuns`: behind these there is nothing.
    pub fn next_file(&mut self) -> Result<Option<Wanted<'_>>, ChunksError> {
        while self.left > 0 {
            self.left -= 1;
            if self.held.take().is_none() {
                drop(self.chunks.next());
            }
        }
        // Once a chunk is here, its file is planned; without one nothing more will be.
        self.held = self.chunks.next();
        let next = self.plan.lock().pop_front();
        match next {
            None => match self.held.take() {
                None | Some(Ok(_)) => Ok(None),
                Some(Err(source)) => Err(ChunksError::Data {
                    path: RelativePath::root(),
                    source,
                }),
            },
            Some(Plan::Failed(error)) => Err(error),
            Some(Plan::File(entry, chunks)) => {
                self.left = chunks.len();
                Ok(Some(Wanted {
                    files: self,
                    entry,
                    chunks,
                }))
            }
        }
    }

    fn take(&mut self) -> Result<Bytes, ChunkReadError> {
        self.left -= 1;
        let next = self.held.take().or_else(|| self.chunks.next());
        next.unwrap_or(Err(ChunkReadError::Stopped))
    }
}

impl Wanted<'_> {
    /// Hands out the data with its offsets, ascending. What is not handed out is zeros. Call it once.
    ///
    /// # Errors
    /// `Data` if something of it cannot be read; `Write` if `take` says so. The next file can be had all the same.
    pub fn data(self, mut take: impl FnMut(u64, &[u8]) -> std::io::Result<()>) -> Result<(), ChunksError> {
        for (at, _, _) in self.chunks.iter() {
            let data = self.files.take().map_err(|source| ChunksError::Data {
                path: self.entry.path.clone(),
                source,
            })?;
            take(*at, &data).map_err(|source| ChunksError::Write {
                path: self.entry.path.clone(),
                source,
            })?;
        }
        Ok(())
    }
}
