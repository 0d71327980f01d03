//! Pushing: a tree becomes an archive. What has not changed since the base is neither read nor looked at.

use cairn_content::objects::ObjectError;
use cairn_content::objects::fence::FenceRecord;
use cairn_content::pipeline::{Pipeline, PipelineError};
use cairn_content::sealing::Sealing;
use cairn_types::{ChunkId, InodeId, SnapshotId};

use super::ends::Source;
use super::error::ArchiveError;
use super::report::{Archive, Description, Phase, Progress, Pushed};
use super::repository::{Nodes, Repository};
use super::root::{ArchiveRoot, Content, ROOT_BYTES_MAX, root_name};
use super::tree::{NodeSink, TreeRoot, TreeWriter};

mod assemble;
mod heard;
mod merge;

use assemble::Assembler;
pub(crate) use heard::{Heard, HeardQueue, Sink};

/// Keeps parts of trees by a pipeline of their own.
pub(crate) struct NodePipeline<'a>(pub(super) &'a Pipeline, pub(super) &'a Sealing);

impl NodeSink for NodePipeline<'_> {
    type Error = PipelineError;

    fn identify(&self, bytes: &[u8]) -> ChunkId {
        self.1.chunk_id(bytes)
    }

    fn keep(&self, bytes: Vec<u8>) -> Result<(), PipelineError> {
        self.0.store_chunk(bytes)
    }
}

/// An archive to start from, and what may differ from it.
struct Base {
    snapshot: SnapshotId,
    tree: TreeRoot,
    changed: Vec<InodeId>,
}

/// What was read and stored.
#[derive(Default)]
struct Sums {
    files_read: u64,
    bytes_read: u64,
    bytes_new: u64,
    bytes_stored: u64,
    packs: u64,
}

impl Repository {
    /// Archives a volume's tree. On return the archive is durable, or was there already. After an error or a kill nothing is to be seen of it;
    /// what was stored is found by the next push, and reclaimed if none comes.
    ///
    /// # Errors
    /// `Fence`, `Objects`, `Store`, `Pipeline`, `Source`, `Order`, `Busy`, `Cancelled`, `Description`.
    pub fn push(
        &self,
        source: &dyn Source,
        description: Description,
        progress: &Progress,
    ) -> Result<Pushed, ArchiveError> {
        let snapshot = description.snapshot;
        let (_registered, noted) = self.register(snapshot)?;
        progress.enter(Phase::Preparing);
        let owned = self.owned_as(false)?;
        if let Some(root) = self.root(snapshot)? {
            return Ok(Pushed {
                archive: root.archive,
                already_there: true,
                files_read: 0,
                bytes_read: 0,
                bytes_new: 0,
                bytes_stored: 0,
                packs: 0,
            });
        }
        let base = self.base(source)?;
        let mut sums = Sums::default();
        let tree = match &base {
            Some(base) if base.changed.is_empty() => base.tree.clone(),
            _ => {
                self.refresh_once(&owned, progress)?;
                self.transfer(source, base.as_ref(), noted, progress, &mut sums)?
            }
        };
        progress.enter(Phase::Finishing);
        let root = ArchiveRoot {
            archive: Archive {
                description,
                archived: self.now(),
                counts: tree.counts,
                base: base.as_ref().map(|base| base.snapshot),
                added_bytes: sums.bytes_stored,
            },
            content: Content::Tree(tree),
        };
        let archive = self.publish(root, &owned)?;
        Ok(Pushed {
            archive,
            already_there: false,
            files_read: sums.files_read,
            bytes_read: sums.bytes_read,
            bytes_new: sums.bytes_new,
            bytes_stored: sums.bytes_stored,
            packs: sums.packs,
        })
    }

    /// The nearest base that the store has.
    fn base(&self, source: &dyn Source) -> Result<Option<Base>, ArchiveError> {
        let bases = source.bases().map_err(ArchiveError::Source)?;
        if bases.is_empty() {
            return Ok(None);
        }
        let listed = self.listed()?;
        for snapshot in bases.into_iter().filter(|base| listed.contains(base)) {
            let tree = match self.root(snapshot) {
                Ok(Some(root)) => match root.content {
                    Content::Tree(tree) => tree,
                    Content::Directory(_) => continue,
                },
                Ok(None) => continue,
                Err(error @ (ArchiveError::Damaged { .. } | ArchiveError::NewerVersion { .. })) => {
                    tracing::warn!(%snapshot, %error, "an archive cannot be built upon: another is looked for");
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(changed) = source.changed_since(snapshot).map_err(ArchiveError::Source)? {
                return Ok(Some(Base {
                    snapshot,
                    tree,
                    changed,
                }));
            }
        }
        Ok(None)
    }

    /// Reads what has to be read and stores it, and the tree. All packs are durable on return.
    fn transfer(
        &self,
        source: &dyn Source,
        base: Option<&Base>,
        noted: std::sync::Arc<super::repository::NotedStore>,
        progress: &Progress,
        sums: &mut Sums,
    ) -> Result<TreeRoot, ArchiveError> {
        progress.enter(Phase::Transferring);
        let data = Pipeline::start(self.settings.data.clone(), noted.clone())?;
        let nodes = Pipeline::start(self.settings.tree.clone(), noted)?;
        let tree = {
            let sink = NodePipeline(&nodes, self.store.sealing());
            let base_nodes = Nodes(&self.store);
            let writer = TreeWriter::new(&sink);
            let mut assembler = Assembler::new(source, &data, writer, &base_nodes, progress);
            match base {
                None => {
                    let (files, bytes) = source.expected();
                    progress.expect(files, bytes);
                    assembler.everything()?;
                }
                Some(base) => {
                    progress.expect(base.changed.len() as u64, 0);
                    merge::merge(&mut assembler, base.snapshot, &base.tree, &base.changed)?;
                }
            }
            (sums.files_read, sums.bytes_read) = assembler.read();
            assembler.finish()?
        };
        // Both are durable before anything refers to them. The tree's last, as it refers to the data.
        let (data, nodes) = (data.finish()?, nodes.finish()?);
        sums.bytes_new = data.new_bytes;
        sums.bytes_stored = data.stored_bytes + nodes.stored_bytes;
        sums.packs = data.packs + nodes.packs;
        progress.transferred(sums.bytes_stored.saturating_sub(progress.now().transferred_bytes));
        tree.ok_or_else(|| ArchiveError::Order {
            what: "it has no objects".to_owned(),
        })
    }

    /// Makes an archive of what is stored.
    pub(super) fn publish(&self, root: ArchiveRoot, owned: &FenceRecord) -> Result<Archive, ArchiveError> {
        let snapshot = root.archive.description.snapshot;
        let name = root_name(snapshot).map_err(ObjectError::from)?;
        let bytes = root.encode().map_err(|error| ArchiveError::Order {
            what: error.to_string(),
        })?;
        if bytes.len() > ROOT_BYTES_MAX {
            return Err(ArchiveError::Description {
                snapshot,
                found: bytes.len(),
                limit: ROOT_BYTES_MAX,
            });
        }
        let sealed = self.store.sealing().seal_object(&name, bytes);
        let bytes = sealed.map_err(|error| ArchiveError::Order {
            what: error.to_string(),
        })?;
        // Had somebody else owned the store meanwhile, packs that this archive needs might be gone.
        self.require_owned(owned)?;
        self.note_published(snapshot);
        self.runtime.block_on(self.objects().put(&name, bytes))?;
        Ok(root.archive)
    }
}
