//! Pulling: an archive becomes a tree again. The tree is read in order; the data that it names is fetched ahead by a second
//! reader of the same tree, and comes in the same order, verified.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_content::pipeline::Run;
use cairn_content::store::{ChunkStore, OrderedChunks};
use cairn_types::{ChunkId, FileKind, InodeId};

use super::ends::Target;
use super::error::ArchiveError;
use super::report::{Archive, Phase, Progress, Pulled};
use super::repository::{Nodes, Repository};
use super::tree::{Key, Part, Record, TreeRoot, records};

/// Why an archive cannot be pulled as a whole: what of it cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("file {inode} of the archive cannot be read")]
pub struct UnreadableFile {
    /// The inode in the archive.
    pub inode: InodeId,
    /// Why.
    #[source]
    pub cause: cairn_content::store::ChunkReadError,
}

/// The chunks of a tree from an inode on, without those of some inodes, in order. Ends where the tree cannot be read: whoever reads
/// the tree itself finds out why.
fn wanted(
    store: ChunkStore,
    tree: TreeRoot,
    from: Key,
    without: Arc<BTreeSet<InodeId>>,
) -> impl Iterator<Item = (ChunkId, u32)> + Send + 'static {
    // The iterator over records borrows what fetches them, so it lives on a thread's stack: hence a generator by hand.
    let mut next = Some(from);
    let mut ready = Vec::new().into_iter();
    std::iter::from_fn(move || {
        loop {
            if let Some(chunk) = ready.next() {
                return Some(chunk);
            }
            let from = next.take()?;
            let nodes = Nodes(&store);
            let mut chunks = Vec::new();
            for found in records(&nodes, &tree, from) {
                let Ok((key, record)) = found else { break };
                if !without.contains(&key.inode) {
                    chunks.extend(record.chunks(&key).map(|(_, id, length)| (id, length)));
                }
                if chunks.len() >= CHUNKS_AHEAD {
                    next = Some(after(key));
                    break;
                }
            }
            if chunks.is_empty() && next.is_none() {
                return None;
            }
            ready = chunks.into_iter();
        }
    })
}

/// Chunks that are looked up in the tree at once.
const CHUNKS_AHEAD: usize = 16_384;

/// The first key that can stand behind a record of data.
fn after(key: Key) -> Key {
    match key.part {
        Part::Data(offset) => Key {
            inode: key.inode,
            part: Part::Data(offset.saturating_add(1)),
        },
        _ => Key::of(InodeId(key.inode.0.saturating_add(1))),
    }
}

impl Repository {
    /// Writes an archive's tree into a target, verified. Whether it becomes visible is for the target's owner to say, and only
    /// after this has succeeded. The files in `without`, and the entries that name them, are left out.
    ///
    /// # Errors
    /// `NotFound`, also of an archive of a plain directory; `Objects`, `Store`; `Read` or `Tree` if something is damaged or missing (see [`Repository::verify`]); `Target`,
    /// `Cancelled`.
    pub fn pull(
        &self,
        archive: &Archive,
        target: &mut dyn Target,
        without: &BTreeSet<InodeId>,
        progress: &Progress,
    ) -> Result<Pulled, ArchiveError> {
        progress.enter(Phase::Preparing);
        let root = self.require_root(archive.description.snapshot)?;
        let tree = self.tree_of(&root)?;
        self.refresh(progress)?;
        progress.enter(Phase::Transferring);
        progress.expect(tree.counts.inodes, tree.counts.bytes);
        let from = target.resume_after().map_or(Key::of(InodeId(1)), |last| {
            Key::of(InodeId(last.0.saturating_add(1)))
        });
        let resumed = target.resume_after().is_some();
        let without = Arc::new(without.clone());
        let chunks = wanted(self.store.clone(), tree.clone(), from.clone(), without.clone());
        let chunks = self.store.read_ordered(chunks, self.settings.read.clone())?;
        let mut writing = Writing {
            target,
            chunks,
            progress,
            files: 0,
            bytes: 0,
        };
        let nodes = Nodes(&self.store);
        for found in records(&nodes, tree, from) {
            if progress.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let (key, record) = found?;
            let left_out = match &record {
                Record::Entry(inode, _) => without.contains(inode),
                _ => without.contains(&key.inode),
            };
            if !left_out {
                writing.record(key, record)?;
            }
        }
        progress.enter(Phase::Finishing);
        Ok(Pulled {
            files: writing.files,
            bytes: writing.bytes,
            archive: root.archive,
            resumed,
        })
    }
}

struct Writing<'a> {
    target: &'a mut dyn Target,
    chunks: OrderedChunks,
    progress: &'a Progress,
    files: u64,
    bytes: u64,
}

impl Writing<'_> {
    fn record(&mut self, key: Key, record: Record) -> Result<(), ArchiveError> {
        let written = match (&key.part, record) {
            (_, Record::Node(node)) => {
                self.progress.add(1, 0);
                self.files += u64::from(node.kind == FileKind::Regular);
                self.target.node(key.inode, &node)
            }
            (Part::Entry(name), Record::Entry(inode, kind)) => self.target.entry(name, inode, kind),
            (_, Record::Target(target)) => self.target.link_target(&target),
            (Part::Data(start), Record::Data(runs)) => return self.data(key.inode, *start, &runs),
            // The format knows no other pairs.
            _ => Ok(()),
        };
        written.map_err(ArchiveError::Target)
    }

    fn data(&mut self, inode: InodeId, start: u64, runs: &[Run]) -> Result<(), ArchiveError> {
        let mut at = start;
        for run in runs {
            if let Run::Chunk(_, length) = run {
                let data = match self.chunks.next() {
                    Some(Ok(data)) => data,
                    Some(Err(cause)) => {
                        return Err(ArchiveError::Unreadable(UnreadableFile { inode, cause }));
                    }
                    None => return Err(cairn_content::store::ChunkReadError::Stopped.into()),
                };
                self.target.data(at, &data).map_err(ArchiveError::Target)?;
                self.bytes += u64::from(*length);
                self.progress.add(0, u64::from(*length));
                self.progress.transferred(u64::from(*length));
            }
            at = at.saturating_add(u64::from(run.length()));
        }
        Ok(())
    }
}
