//! Puts a tree together: what the source tells and what became of its data, in order.
//!
//! Data goes through the pipeline and comes back as runs, later than the records behind it are known. So everything waits in a
//! queue until all before it is complete. The queue is bounded: when it is full, the pipeline is waited for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use cairn_content::pipeline::{Feeder, Pipeline, Run};
use cairn_types::{ByteRange, Extent, FileKind, InodeId, Node, TreeCursor, TreeItem, TreeObject};

use super::NodePipeline;
use super::heard::{Heard, HeardQueue, Sink};
use crate::archive::ends::Source;
use crate::archive::error::ArchiveError;
use crate::archive::report::Progress;
use crate::archive::repository::Nodes;
use crate::archive::tree::{Key, NodeReference, Part, RUNS_MAX, Record, TreeRoot, TreeWriter, read_leaf};

/// Most that waits for the pipeline, about.
const QUEUE_MAX: usize = 32_768;
/// Objects asked of the source at once.
const ITEMS: usize = 1024;
/// Bytes that are read of an extent at once.
const READ_BYTES: u64 = 1 << 20;
/// A record of data ends behind one chunk in so many, wherever it began: so changes in a long file do not move what follows.
const RECORD_CHUNKS: u8 = 16;

/// What waits.
enum Waiting {
    Record(Key, Record),
    /// A leaf of the base in which nothing has changed.
    Leaf(NodeReference),
    /// Data of the inode at this offset: its runs are heard of next.
    Fed(InodeId, u64),
    /// Data of the inode at this offset that is as it was.
    Kept(InodeId, u64, Run),
}

/// A record of data that is being put together.
struct Open {
    inode: InodeId,
    start: u64,
    end: u64,
    runs: Vec<Run>,
}

/// Runs of a file that are as they were: offsets ascend.
pub(super) type Kept = VecDeque<(u64, Run)>;

/// The file whose data comes.
struct File {
    inode: InodeId,
    size: u64,
    /// Whether something of it is on its way to the pipeline, and where that ends.
    feeding: Option<u64>,
    /// Up to here everything is known.
    done: u64,
    kept: Kept,
}

pub(super) struct Assembler<'a> {
    source: &'a dyn Source,
    feeder: Feeder<'a, Sink>,
    data: &'a Pipeline,
    heard: HeardQueue,
    queue: VecDeque<Waiting>,
    writer: TreeWriter<'a, NodePipeline<'a>>,
    nodes: &'a Nodes<'a>,
    progress: &'a Progress,
    open: Option<Open>,
    file: Option<File>,
    last: InodeId,
    files: u64,
    bytes: u64,
    told: u64,
}

impl<'a> Assembler<'a> {
    pub fn new(
        source: &'a dyn Source,
        data: &'a Pipeline,
        writer: TreeWriter<'a, NodePipeline<'a>>,
        nodes: &'a Nodes<'a>,
        progress: &'a Progress,
    ) -> Self {
        let heard = Rc::new(RefCell::new(VecDeque::new()));
        Assembler {
            source,
            feeder: data.feeder(Sink(heard.clone())),
            data,
            heard,
            queue: VecDeque::new(),
            writer,
            nodes,
            progress,
            open: None,
            file: None,
            last: InodeId(0),
            files: 0,
            bytes: 0,
            told: 0,
        }
    }

    pub fn source(&self) -> &'a dyn Source {
        self.source
    }

    pub fn nodes(&self) -> &'a Nodes<'a> {
        self.nodes
    }

    /// Files and bytes that were read.
    pub fn read(&self) -> (u64, u64) {
        (self.files, self.bytes)
    }

    /// The whole tree.
    pub fn everything(&mut self) -> Result<(), ArchiveError> {
        self.inodes(InodeId(1), InodeId(u64::MAX), &mut |_, _| Ok(Kept::new()))
    }

    /// The inodes `from..to` as the source has them. `kept` says what of a file's data is as it was.
    pub fn inodes(
        &mut self,
        from: InodeId,
        to: InodeId,
        kept: &mut dyn FnMut(InodeId, &Node) -> Result<Kept, ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let mut cursor = TreeCursor::new(from, to);
        let mut items = Vec::new();
        loop {
            if self.progress.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let found = self.source.items(&mut cursor, ITEMS, &mut items);
            found.map_err(ArchiveError::Source)?;
            if items.is_empty() {
                self.end_file()?;
                return Ok(());
            }
            for item in items.drain(..) {
                self.item(item, kept)?;
            }
            let sent = self.data.totals().stored_bytes;
            self.progress.transferred(sent - self.told);
            self.told = sent;
        }
    }

    fn item(
        &mut self,
        item: TreeItem,
        kept: &mut dyn FnMut(InodeId, &Node) -> Result<Kept, ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let inode = item.inode;
        match item.object {
            TreeObject::Node(node) => {
                self.end_file()?;
                if inode <= self.last {
                    return Err(ArchiveError::Order {
                        what: format!("inode {inode} comes behind inode {}", self.last),
                    });
                }
                self.last = inode;
                self.wait(Waiting::Record(Key::of(inode), Record::Node(node)))?;
                if node.kind == FileKind::Regular {
                    self.file = Some(File {
                        inode,
                        size: node.size,
                        feeding: None,
                        done: 0,
                        kept: kept(inode, &node)?,
                    });
                    self.files += 1;
                }
                self.progress.add(1, 0);
                Ok(())
            }
            TreeObject::Entry {
                name,
                inode: child,
                kind,
            } => self.record(inode, Part::Entry(name.to_vec()), Record::Entry(child, kind)),
            TreeObject::Target(target) => self.record(inode, Part::Target, Record::Target(target.to_vec())),
            TreeObject::Inline(data) => {
                let size = self.file(inode)?.size;
                let length = data.len().min(usize::try_from(size).unwrap_or(usize::MAX));
                self.feed(0, &data[..length])
            }
            TreeObject::Extent { start, extent } => self.extent(inode, start, &extent),
        }
    }

    fn record(&mut self, inode: InodeId, part: Part, record: Record) -> Result<(), ArchiveError> {
        if inode != self.last {
            return Err(ArchiveError::Order {
                what: format!("an object of inode {inode} comes without its attributes"),
            });
        }
        self.wait(Waiting::Record(Key { inode, part }, record))
    }

    fn file(&mut self, inode: InodeId) -> Result<&mut File, ArchiveError> {
        let file = self.file.as_mut().filter(|file| file.inode == inode);
        file.ok_or_else(|| ArchiveError::Order {
            what: format!("data of inode {inode}, which is no regular file or comes without its attributes"),
        })
    }

    /// Data of a file, where the source has it.
    fn extent(&mut self, inode: InodeId, start: u64, extent: &Extent) -> Result<(), ArchiveError> {
        let file = self.file(inode)?;
        let end = start.saturating_add(u64::from(extent.length())).min(file.size);
        let mut at = start.max(file.done);
        while at < end {
            let file = self.file(inode)?;
            let next = file.kept.front().copied();
            if let Some((offset, run)) = next
                && offset <= at
            {
                file.kept.pop_front();
                if offset == at {
                    file.done = offset + u64::from(run.length());
                    at = file.done;
                    self.end_fed()?;
                    self.wait(Waiting::Kept(inode, offset, run))?;
                    self.progress.add(0, u64::from(run.length()));
                }
                continue;
            }
            let until = next
                .map_or(end, |(offset, _)| offset.min(end))
                .min(at + READ_BYTES);
            let piece = extent.slice(ByteRange::at(at - start, until - at));
            let piece = piece.ok_or_else(|| ArchiveError::Order {
                what: format!("an extent of inode {inode} is shorter than it says"),
            })?;
            let data = self.source.read(&piece).map_err(ArchiveError::Source)?;
            if data.len() as u64 != until - at {
                return Err(ArchiveError::Order {
                    what: format!(
                        "an extent of inode {inode} gives {} bytes and not {}",
                        data.len(),
                        until - at
                    ),
                });
            }
            self.feed(at, &data)?;
            at = until;
        }
        Ok(())
    }

    /// Hands data to the pipeline.
    fn feed(&mut self, offset: u64, data: &[u8]) -> Result<(), ArchiveError> {
        if data.is_empty() {
            return Ok(());
        }
        let Some(file) = &self.file else { return Ok(()) };
        let inode = file.inode;
        if file.feeding != Some(offset) {
            self.end_fed()?;
            self.wait(Waiting::Fed(inode, offset))?;
        }
        self.feeder.write(data)?;
        let end = offset + data.len() as u64;
        if let Some(file) = &mut self.file {
            file.feeding = Some(end);
            file.done = end;
        }
        self.bytes += data.len() as u64;
        self.progress.add(0, data.len() as u64);
        Ok(())
    }

    fn end_fed(&mut self) -> Result<(), ArchiveError> {
        if let Some(file) = &mut self.file
            && file.feeding.take().is_some()
        {
            self.feeder.end_file()?;
        }
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), ArchiveError> {
        self.end_fed()?;
        self.file = None;
        Ok(())
    }

    /// A record of the base that stands.
    pub fn keep_record(&mut self, key: Key, record: Record) -> Result<(), ArchiveError> {
        self.wait(Waiting::Record(key, record))
    }

    /// A leaf of the base that stands.
    pub fn keep_leaf(&mut self, leaf: NodeReference) -> Result<(), ArchiveError> {
        self.wait(Waiting::Leaf(leaf))
    }

    fn wait(&mut self, waiting: Waiting) -> Result<(), ArchiveError> {
        self.queue.push_back(waiting);
        self.advance()?;
        if self.queue.len() >= QUEUE_MAX {
            self.feeder.flush()?;
            self.advance()?;
        }
        Ok(())
    }

    /// Writes what is complete.
    fn advance(&mut self) -> Result<(), ArchiveError> {
        while let Some(first) = self.queue.front_mut() {
            if let Waiting::Fed(inode, offset) = first {
                let (inode, at) = (*inode, *offset);
                let heard = self.heard.borrow_mut().pop_front();
                match heard {
                    None => return Ok(()),
                    Some(Heard::End) => {
                        self.queue.pop_front();
                    }
                    Some(Heard::Run(run)) => {
                        *offset += u64::from(run.length());
                        self.run(inode, at, run)?;
                    }
                }
                continue;
            }
            match self.queue.pop_front() {
                Some(Waiting::Record(key, record)) => self.write(&key, &record)?,
                Some(Waiting::Kept(inode, offset, run)) => self.run(inode, offset, run)?,
                Some(Waiting::Leaf(leaf)) => self.leaf(leaf)?,
                Some(Waiting::Fed(..)) | None => {}
            }
        }
        Ok(())
    }

    fn write(&mut self, key: &Key, record: &Record) -> Result<(), ArchiveError> {
        self.close()?;
        Ok(self.writer.push(key, record)?)
    }

    fn leaf(&mut self, leaf: NodeReference) -> Result<(), ArchiveError> {
        self.close()?;
        if self.writer.is_between_leaves() {
            return Ok(self.writer.reuse(leaf)?);
        }
        for (key, record) in read_leaf(self.nodes, &leaf)? {
            self.writer.push(&key, &record)?;
        }
        Ok(())
    }

    /// A run of a file. Runs of zeros are left out, and stand for themselves between chunks of one record.
    fn run(&mut self, inode: InodeId, offset: u64, run: Run) -> Result<(), ArchiveError> {
        let Run::Chunk(id, length) = run else {
            return Ok(());
        };
        let follows = self.open.as_ref().is_some_and(|open| {
            open.inode == inode && offset >= open.end && u32::try_from(offset - open.end).is_ok()
        });
        if !follows {
            self.close()?;
        }
        let open = self.open.get_or_insert(Open {
            inode,
            start: offset,
            end: offset,
            runs: Vec::new(),
        });
        if let Ok(gap) = u32::try_from(offset - open.end)
            && gap > 0
        {
            open.runs.push(Run::Zeros(gap));
        }
        open.runs.push(run);
        open.end = offset + u64::from(length);
        if id.0[0].is_multiple_of(RECORD_CHUNKS) || open.runs.len() + 2 > RUNS_MAX {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ArchiveError> {
        if let Some(open) = self.open.take() {
            let key = Key {
                inode: open.inode,
                part: Part::Data(open.start),
            };
            self.writer.push(&key, &Record::Data(open.runs))?;
        }
        Ok(())
    }

    /// Waits for the pipeline and ends the tree.
    pub fn finish(mut self) -> Result<Option<TreeRoot>, ArchiveError> {
        self.end_file()?;
        self.feeder.flush()?;
        self.advance()?;
        self.close()?;
        Ok(self.writer.finish()?)
    }
}
