//! One thread merges the walk with the manifest before, feeds the pipeline, and writes both manifests; it does so in path order. Other threads
//! read batches of small files ahead of it ([`super::load`]).
//!
//! Data goes through the pipeline and comes back as runs, later than the records behind it are known. So everything waits in a queue
//! until all before it is complete. The queue is bounded: when it is full, the pipeline is waited for.

use std::cell::RefCell;
use std::collections::hash_map::Entry as Slots;
use std::collections::{HashMap, HashSet, VecDeque};
use std::iter::Peekable;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use cairn_content::pipeline::{Feeder, PipelineError, Run};
use cairn_types::FileKind;

use super::ChunksError;
use super::capture::TORN_TOLD_MAX;
use super::load::{Batch, Item, Job, Loaded, LoadedBatch, Rules};
use super::stream::{Streamed, stream};
use crate::archive::directory::{BlockWriteError, BlockWriter, DirectoryPush, IndexPart, is_whole};
use crate::archive::push::{Heard, HeardQueue, NodePipeline, Sink};
use crate::archive::{ArchiveError, Progress};
use crate::directory::walk::{Found, Walk};
use crate::directory::{Body, ContentHasher, Digest, Record, RelativePath};
use crate::manifest::{ManifestReader, ManifestSummary, ManifestWriter, Records};

/// Longest run of zeros that a hole is described by.
const ZEROS_BYTES_MAX: u32 = 1 << 31;
/// Most entries that wait for the pipeline, about.
const QUEUE_MAX: usize = 32_768;

/// An entry that waits for the pipeline, or for one before it.
struct Waiting {
    record: Record,
    /// Files of the pipeline that are heard of before those of this one, and mean nothing.
    passed: usize,
    /// Files of the pipeline that are still to be heard of.
    fed: usize,
    /// Bytes of the file that its runs are of so far.
    known: u64,
    /// Holes of the file that its runs are of so far.
    holes: usize,
    /// Its runs are those of the snapshot before.
    kept: bool,
}

impl Waiting {
    /// Adds a run of data, and before it the holes that are there.
    fn add(&mut self, run: Option<Run>) {
        let Body::File(file) = &mut self.record.entry.body else {
            return;
        };
        while let Some(hole) = file
            .holes
            .get(self.holes)
            .filter(|hole| hole.offset == self.known)
        {
            self.holes += 1;
            self.known += hole.length;
            let mut rest = hole.length;
            while rest > 0 {
                let length = u32::try_from(rest).unwrap_or(ZEROS_BYTES_MAX);
                file.runs.push(Run::Zeros(length));
                rest -= u64::from(length);
            }
        }
        if let Some(run) = run {
            self.known += u64::from(run.length());
            file.runs.push(run);
        }
    }
}

/// A batch on its way.
enum Slot {
    Here(LoadedBatch),
    Coming(Receiver<LoadedBatch>),
}

/// What was read, and what not.
#[derive(Default)]
pub(super) struct Sums {
    pub read_files: u64,
    pub read_bytes: u64,
    pub reused_files: u64,
    pub vanished: u64,
    pub torn: Vec<RelativePath>,
    pub torn_files: u64,
}

/// What came of it.
pub(super) struct Driven {
    pub manifest: ManifestSummary,
    pub index: Vec<IndexPart>,
    pub blocks: u64,
    pub sums: Sums,
}

/// What a driver is made of.
pub(super) struct DriverParts<'a> {
    pub push: &'a DirectoryPush<'a>,
    pub sink: &'a NodePipeline<'a>,
    pub manifest: ManifestWriter,
    /// To the threads that read batches, and how many these are.
    pub jobs: SyncSender<Job>,
    pub readers: usize,
    pub rules: Rules,
    pub progress: &'a Progress,
}

pub(super) struct Driver<'a> {
    feeder: Feeder<'a, Sink>,
    heard: HeardQueue,
    queue: VecDeque<Waiting>,
    manifest: ManifestWriter,
    blocks: BlockWriter<'a, NodePipeline<'a>>,
    push: &'a DirectoryPush<'a>,
    jobs: SyncSender<Job>,
    window: VecDeque<Slot>,
    window_max: usize,
    rules: Rules,
    progress: &'a Progress,
    /// Files with several names that are read, or known, by one of them. Holds those only.
    seen: HashSet<(u64, u64)>,
    /// The first name of each, once it is described.
    names: HashMap<(u64, u64), RelativePath>,
    sums: Sums,
    told: u64,
}

fn block_error(error: BlockWriteError<PipelineError>) -> ChunksError {
    match error {
        BlockWriteError::Manifest(error) => error.into(),
        BlockWriteError::Sink(error) => ArchiveError::from(error).into(),
    }
}

/// Whether an entry is as it was. Of a file that also says that its chunks are known.
fn is_unchanged(record: &Record, found: &Found, rules: Rules) -> bool {
    let (before, now) = (&record.entry.attributes, &found.attributes);
    let same = record.stamp == Some(found.stamp)
        && found.stamp.changed < rules.racy_from
        && (before.kind, before.mode, before.uid, before.gid) == (now.kind, now.mode, now.uid, now.gid)
        && (before.size, before.modified, before.device) == (now.size, now.modified, now.device);
    same && match &record.entry.body {
        Body::File(file) => file.digest.is_some() && is_whole(file, before.size),
        _ => true,
    }
}

impl<'a> Driver<'a> {
    pub fn new(parts: DriverParts<'a>) -> Self {
        let heard = Rc::new(RefCell::new(VecDeque::new()));
        Driver {
            feeder: parts.push.feeder(Sink(heard.clone())),
            heard,
            queue: VecDeque::new(),
            manifest: parts.manifest,
            blocks: parts.push.blocks(parts.sink),
            push: parts.push,
            jobs: parts.jobs,
            window: VecDeque::new(),
            window_max: 2 * parts.readers + 2,
            rules: parts.rules,
            progress: parts.progress,
            seen: HashSet::new(),
            names: HashMap::new(),
            sums: Sums::default(),
            told: 0,
        }
    }

    /// Captures everything that the walk finds. `previous` is the manifest before, whose chunks are known.
    pub fn run(mut self, walk: Walk, previous: Option<&ManifestReader>) -> Result<Driven, ChunksError> {
        let mut before = previous.map(|manifest| manifest.records().peekable());
        let mut batch = Batch::default();
        for found in walk {
            let found = found?;
            let item = self.item(found, &mut before)?;
            batch.push(item);
            if batch.is_full() {
                self.dispatch(std::mem::take(&mut batch))?;
            }
        }
        self.dispatch(batch)?;
        while !self.window.is_empty() {
            self.take_batch()?;
        }
        self.feeder.flush().map_err(ArchiveError::from)?;
        self.advance()?;
        let (index, blocks) = self.blocks.finish().map_err(block_error)?;
        Ok(Driven {
            manifest: self.manifest.finish()?,
            index,
            blocks,
            sums: self.sums,
        })
    }

    /// What has to be done for an entry.
    fn item(
        &mut self,
        found: Found,
        before: &mut Option<Peekable<Records<'_>>>,
    ) -> Result<Item, ChunksError> {
        let mut kept = None;
        if let Some(before) = before {
            // An error is met, too, once it is the next.
            let passed = |next: &Result<Record, _>| match next {
                Ok(record) => record.entry.path < found.path,
                Err(_) => false,
            };
            while before.next_if(passed).is_some() {}
            let wanted = |next: &Result<Record, _>| match next {
                Ok(record) => record.entry.path == found.path,
                Err(_) => true,
            };
            if let Some(record) = before.next_if(wanted) {
                kept = Some(record?).filter(|record| is_unchanged(record, &found, self.rules));
            }
        }
        let several = found.kind() == FileKind::Regular && found.links > 1;
        let again = several && !self.seen.insert((found.stamp.device, found.stamp.inode));
        Ok(match kept {
            // The name that was the first may be gone: the file has to be read by another one then.
            Some(record) if !matches!(record.entry.body, Body::Link(_)) && !again => {
                Item::Kept(record, found.links)
            }
            _ if again => Item::Link(found),
            _ => Item::Read(found),
        })
    }

    /// Has a batch read; takes the oldest one before if there are too many.
    fn dispatch(&mut self, batch: Batch) -> Result<(), ChunksError> {
        if self.progress.is_cancelled() {
            return Err(ChunksError::Cancelled);
        }
        while self.window.len() >= self.window_max {
            self.take_batch()?;
        }
        if batch.is_known() {
            self.window.push_back(Slot::Here(batch.known()));
            // Nothing has to be waited for: what stands before it is only as much as is being read.
            while let Some(Slot::Here(_)) = self.window.front() {
                self.take_batch()?;
            }
            return Ok(());
        }
        let (told, coming) = sync_channel(1);
        self.jobs.send((batch, told)).map_err(|_| ended())?;
        self.window.push_back(Slot::Coming(coming));
        Ok(())
    }

    fn take_batch(&mut self) -> Result<(), ChunksError> {
        let loaded = match self.window.pop_front() {
            None => return Ok(()),
            Some(Slot::Here(loaded)) => loaded,
            Some(Slot::Coming(coming)) => coming.recv().map_err(|_| ended())?,
        };
        let LoadedBatch { items, data, error } = loaded;
        let mut rest = &data[..];
        for item in items {
            match item {
                Loaded::Kept(record, links) => self.keep(record, links)?,
                Loaded::Vanished => self.sums.vanished += 1,
                Loaded::WithoutData(found) => self.read_now(&found.0, found.1)?,
                Loaded::Whole {
                    record,
                    links,
                    identity,
                    bytes,
                    torn,
                } => {
                    let (now, after) = rest.split_at(bytes);
                    rest = after;
                    self.whole(record, links, identity, now, torn)?;
                }
            }
        }
        self.tell();
        match error {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// Tells who watches what the store was sent.
    fn tell(&mut self) {
        let sent = self.push.stored_bytes();
        self.progress.transferred(sent - self.told);
        self.told = sent;
    }

    /// The first name of the file that a record is of, if that is another one. Else the record's is.
    fn first_name(&mut self, record: &Record, identity: (u64, u64), links: u64) -> Option<RelativePath> {
        if links < 2 || record.entry.attributes.kind == FileKind::Directory {
            return None;
        }
        match self.names.entry(identity) {
            Slots::Occupied(name) => Some(name.get().clone()),
            Slots::Vacant(name) => {
                name.insert(record.entry.path.clone());
                None
            }
        }
    }

    fn keep(&mut self, mut record: Record, links: u64) -> Result<(), ChunksError> {
        let identity = record.stamp.map_or((0, 0), |stamp| (stamp.device, stamp.inode));
        if let Some(first) = self.first_name(&record, identity, links) {
            record.entry.body = Body::Link(first);
        }
        let mut bytes = 0;
        if let Body::File(_) = &record.entry.body {
            self.sums.reused_files += 1;
            bytes = record.entry.attributes.size;
        }
        self.progress.add(1, bytes);
        if self.queue.is_empty() {
            return self.describe(record);
        }
        self.wait(record, true, 0, 0)
    }

    /// An entry whose data is here.
    fn whole(
        &mut self,
        mut record: Record,
        links: u64,
        identity: (u64, u64),
        data: &[u8],
        torn: bool,
    ) -> Result<(), ChunksError> {
        if torn {
            self.torn(&record.entry.path);
        }
        self.progress.add(1, data.len() as u64);
        if let Some(first) = self.first_name(&record, identity, links) {
            record.entry.body = Body::Link(first);
            return self.wait(record, false, 0, 0);
        }
        if let Body::File(_) = &record.entry.body {
            self.sums.read_files += 1;
            self.sums.read_bytes += data.len() as u64;
        }
        let fed = usize::from(!data.is_empty());
        if fed > 0 {
            self.feeder.write(data).map_err(ArchiveError::from)?;
            self.feeder.end_file().map_err(ArchiveError::from)?;
        }
        self.wait(record, false, 0, fed)
    }

    /// An entry whose data is not here: another name, or a file that is fed as it is read.
    fn read_now(&mut self, found: &Found, mut record: Record) -> Result<(), ChunksError> {
        let identity = (found.stamp.device, found.stamp.inode);
        if found.links > 1
            && let Some(first) = self.names.get(&identity)
        {
            record.entry.body = Body::Link(first.clone());
            self.progress.add(1, 0);
            return self.wait(record, false, 0, 0);
        }
        // What is complete need not wait for a long file.
        self.advance()?;
        let streamed = stream(found, record, self.rules, &mut self.feeder, self.progress)?;
        let Some(streamed) = streamed else {
            self.sums.vanished += 1;
            return Ok(());
        };
        let Streamed {
            record,
            passed,
            fed,
            bytes,
            torn,
        } = streamed;
        if torn {
            self.torn(&record.entry.path);
        }
        self.first_name(&record, identity, found.links);
        self.sums.read_files += 1;
        self.sums.read_bytes += bytes;
        self.progress.add(1, 0);
        self.tell();
        self.wait(record, false, passed, fed)
    }

    fn torn(&mut self, path: &RelativePath) {
        self.sums.torn_files += 1;
        if self.sums.torn.len() < TORN_TOLD_MAX {
            self.sums.torn.push(path.clone());
        }
    }

    fn wait(&mut self, record: Record, kept: bool, passed: usize, fed: usize) -> Result<(), ChunksError> {
        self.queue.push_back(Waiting {
            record,
            passed,
            fed,
            known: 0,
            holes: 0,
            kept,
        });
        if self.queue.len() >= QUEUE_MAX {
            self.feeder.flush().map_err(ArchiveError::from)?;
        }
        self.advance()
    }

    /// Describes what is complete.
    fn advance(&mut self) -> Result<(), ChunksError> {
        while let Some(first) = self.queue.front_mut() {
            while first.passed + first.fed > 0 {
                let next = self.heard.borrow_mut().pop_front();
                match next {
                    None => return Ok(()),
                    Some(Heard::End) if first.passed > 0 => first.passed -= 1,
                    Some(Heard::End) => first.fed -= 1,
                    Some(Heard::Run(_)) if first.passed > 0 => {}
                    Some(Heard::Run(run)) => first.add(Some(run)),
                }
            }
            if let Some(mut first) = self.queue.pop_front() {
                if !first.kept {
                    first.add(None);
                }
                self.describe(first.record)?;
            }
        }
        Ok(())
    }

    /// Writes an entry into both manifests.
    fn describe(&mut self, mut record: Record) -> Result<(), ChunksError> {
        let size = record.entry.attributes.size;
        if let Body::File(file) = &mut record.entry.body
            && file.digest.is_none()
        {
            file.digest = match file.runs[..] {
                // In a plain store a chunk's name is the hash of its data.
                [Run::Chunk(id, length)] if u64::from(length) == size => Some(Digest(id.0)),
                // So short a file is one chunk, or zeros.
                [] | [Run::Zeros(_)] => {
                    let mut hasher = ContentHasher::new();
                    hasher.zeros(size);
                    Some(hasher.finish())
                }
                _ => None,
            };
        }
        self.manifest.push(&record)?;
        self.blocks.push(record).map_err(block_error)
    }
}

fn ended() -> ChunksError {
    ChunksError::Thread(std::io::Error::other("a thread that reads ahead ended early"))
}
