//! A plain directory that becomes an archive: what of the store is at work for it, and what comes when. Whoever reads the directory
//! feeds data, hears of runs, writes blocks of records that name these runs, and then publishes.

use cairn_content::codec::Compression;
use cairn_content::objects::fence::FenceRecord;
use cairn_content::pipeline::{Feeder, Pipeline, RunSink};
use cairn_content::sealing::Sealing;
use cairn_types::SnapshotId;

use super::{BlockWriter, DirectoryRoot, IndexPart, tree_counts};
use crate::archive::error::ArchiveError;
use crate::archive::push::NodePipeline;
use crate::archive::report::{Archive, Description, Phase, Progress, Pushed};
use crate::archive::repository::{Registered, Repository};
use crate::archive::root::{ArchiveRoot, Content};
use crate::directory::Digest;
use crate::manifest::EntryCounts;

/// A directory on its way into a store. Dropped without [`DirectoryPush::publish`] nothing is to be seen of it; what was stored is
/// found by the next push, and reclaimed if none comes.
pub(crate) struct DirectoryPush<'r> {
    repository: &'r Repository,
    _registered: Registered,
    owned: FenceRecord,
    description: Description,
    base: Option<(SnapshotId, DirectoryRoot)>,
    data: Pipeline,
    nodes: Pipeline,
}

/// What was read, for [`DirectoryPush::publish`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReadSums {
    /// Files whose data was read.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Repository {
    /// Begins to archive a directory. `base` is a snapshot of the same directory whose chunks may be referred to without looking whether they are
    /// there, if it has an archive: [`DirectoryPush::base`] tells. `compression` is that of new data, if it is another than the settings'.
    ///
    /// # Errors
    /// `Fence`, `Objects`, `Store`, `Pipeline`, `Busy`, `Cancelled`.
    pub(crate) fn begin_directory(
        &self,
        description: Description,
        base: Option<SnapshotId>,
        compression: Option<Compression>,
        progress: &Progress,
    ) -> Result<DirectoryPush<'_>, ArchiveError> {
        progress.enter(Phase::Preparing);
        // Registered before the base is looked at: from here on no pack that it needs is removed.
        let (registered, noted) = self.register(description.snapshot)?;
        let owned = self.owned_as(false)?;
        self.refresh_once(&owned, progress)?;
        let base = match base {
            Some(base) => self.directory_base(base)?,
            None => None,
        };
        let mut settings = self.settings.data.clone();
        settings.compression = compression.unwrap_or(settings.compression);
        let data = Pipeline::start(settings, noted.clone())?;
        let nodes = Pipeline::start(self.settings.tree.clone(), noted)?;
        Ok(DirectoryPush {
            repository: self,
            _registered: registered,
            owned,
            description,
            base,
            data,
            nodes,
        })
    }

    fn directory_base(&self, base: SnapshotId) -> Result<Option<(SnapshotId, DirectoryRoot)>, ArchiveError> {
        match self.root(base) {
            Ok(Some(ArchiveRoot {
                content: Content::Directory(root),
                ..
            })) => Ok(Some((base, root))),
            Ok(_) => Ok(None),
            Err(error @ (ArchiveError::Damaged { .. } | ArchiveError::NewerVersion { .. })) => {
                tracing::warn!(snapshot = %base, %error, "an archive cannot be built upon: everything is read");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl DirectoryPush<'_> {
    /// Where the manifest of the base begins, if the store has its archive.
    pub fn base(&self) -> Option<&DirectoryRoot> {
        self.base.as_ref().map(|(_, root)| root)
    }

    /// Whether the store has an archive of the snapshot already. Errors: those of reading it, but for what is damaged.
    pub fn exists(&self) -> Result<bool, ArchiveError> {
        match self.repository.root(self.description.snapshot) {
            Ok(found) => Ok(found.is_some()),
            Err(ArchiveError::Damaged { .. } | ArchiveError::NewerVersion { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// How chunks are named.
    pub fn sealing(&self) -> &Sealing {
        self.repository.store.sealing()
    }

    /// Bytes up to which a file is one chunk for sure, unless it is all zeros.
    pub fn one_chunk_bytes(&self) -> u64 {
        u64::from(self.repository.settings.data.chunk_sizes.minimum())
    }

    /// Feeds data of files.
    pub fn feeder<S: RunSink>(&self, sink: S) -> Feeder<'_, S> {
        self.data.feeder(sink)
    }

    /// Stored bytes so far.
    pub fn stored_bytes(&self) -> u64 {
        self.data.totals().stored_bytes + self.nodes.totals().stored_bytes
    }

    /// Keeps parts of the manifest.
    pub fn sink(&self) -> NodePipeline<'_> {
        NodePipeline(&self.nodes, self.sealing())
    }

    /// A manifest to write.
    pub fn blocks<'s>(&self, sink: &'s NodePipeline<'s>) -> BlockWriter<'s, NodePipeline<'s>> {
        BlockWriter::new(sink, self.sealing().is_plain())
    }

    /// Makes it an archive, once everything that was fed, and all blocks, are durable.
    ///
    /// # Errors
    /// `Pipeline`, `Fence`, `Objects`, `Description`.
    pub fn publish(
        self,
        (index, blocks): (Vec<IndexPart>, u64),
        counts: EntryCounts,
        tree_hash: Option<Digest>,
        read: ReadSums,
        progress: &Progress,
    ) -> Result<Pushed, ArchiveError> {
        // Both are durable before anything refers to them. The manifest last, as it refers to the data.
        let (data, nodes) = (self.data.finish()?, self.nodes.finish()?);
        let bytes_stored = data.stored_bytes + nodes.stored_bytes;
        progress.transferred(bytes_stored.saturating_sub(progress.now().transferred_bytes));
        progress.enter(Phase::Finishing);
        let root = ArchiveRoot {
            archive: Archive {
                description: self.description,
                archived: self.repository.now(),
                counts: tree_counts(&counts),
                base: self.base.map(|(snapshot, _)| snapshot),
                added_bytes: bytes_stored,
            },
            content: Content::Directory(DirectoryRoot {
                index,
                blocks,
                counts,
                tree_hash,
            }),
        };
        Ok(Pushed {
            archive: self.repository.publish(root, &self.owned)?,
            already_there: false,
            files_read: read.files,
            bytes_read: read.bytes,
            bytes_new: data.new_bytes,
            bytes_stored,
            packs: data.packs + nodes.packs,
        })
    }
}
