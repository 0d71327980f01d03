//! A store whose archives are a list in memory, and volumes that note what is asked of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use cairn_snapshot::archive::{
    Archive, ArchiveError, Damage, Description, PackAction, PackVerdict, Progress, Pulled, Pushed,
    ReclaimOptions, Reclaimed, Sizes, Source, SourceError, StoreSizes, Target, TargetError, TreeCounts,
    Verified, VerifyOptions,
};
use cairn_types::{
    ByteRange, Extent, FileKind, InodeId, Node, SnapshotId, Timestamp, TreeCursor, TreeItem, WorkspaceName,
};
use parking_lot::Mutex;

use super::{Ends, Imported, ImportedTree, Repository, Wanted, WorkError};

/// What an archive of a snapshot says.
pub fn description(snapshot: SnapshotId, tags: &[&str]) -> Description {
    Description {
        snapshot,
        workspace: "w".to_owned(),
        origin: [3; 32],
        created: Timestamp::new(1, 0),
        note: String::new(),
        tags: tags.iter().map(ToString::to_string).collect(),
    }
}

fn archive(description: Description) -> Archive {
    Archive {
        description,
        archived: Timestamp::new(2, 0),
        counts: TreeCounts::default(),
        base: None,
        added_bytes: 0,
    }
}

/// A store in memory.
#[derive(Default)]
pub struct FakeRepository {
    pub archives: Mutex<Vec<Archive>>,
    pub verified: Mutex<Vec<VerifyOptions>>,
    /// Whether a pull is cancelled while it runs.
    pub cancel_pulls: bool,
}

impl FakeRepository {
    /// With these archives.
    pub fn with(archives: Vec<Description>) -> Arc<Self> {
        Arc::new(FakeRepository {
            archives: Mutex::new(archives.into_iter().map(archive).collect()),
            ..FakeRepository::default()
        })
    }
}

impl Repository for FakeRepository {
    fn own(&self, _: bool) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn push(
        &self,
        source: &dyn Source,
        description: Description,
        _: &Progress,
    ) -> Result<Pushed, ArchiveError> {
        source.bases().map_err(ArchiveError::Source)?;
        let pushed = archive(description);
        self.archives.lock().push(pushed.clone());
        Ok(Pushed {
            archive: pushed,
            already_there: false,
            files_read: 1,
            bytes_read: 2,
            bytes_new: 3,
            bytes_stored: 4,
            packs: 5,
        })
    }

    fn archives(&self) -> Result<Vec<Archive>, ArchiveError> {
        Ok(self.archives.lock().clone())
    }

    fn find(&self, reference: Option<&str>) -> Result<Archive, ArchiveError> {
        let reference = reference.unwrap_or("latest");
        let fits = |archive: &&Archive| {
            archive.description.tags.iter().any(|tag| tag == reference)
                || archive.description.snapshot.to_string().starts_with(reference)
        };
        let archives = self.archives.lock();
        archives
            .iter()
            .find(fits)
            .cloned()
            .ok_or_else(|| ArchiveError::NotFound {
                store: "file:///fake".to_owned(),
                reference: reference.to_owned(),
            })
    }

    fn pull(
        &self,
        archive: &Archive,
        target: &mut dyn Target,
        _: &BTreeSet<InodeId>,
        progress: &Progress,
    ) -> Result<Pulled, ArchiveError> {
        target.link_target(b"t").map_err(ArchiveError::Target)?;
        if self.cancel_pulls {
            progress.cancel();
        }
        Ok(Pulled {
            archive: archive.clone(),
            files: 1,
            bytes: 2,
            resumed: false,
        })
    }

    fn unreadable(&self, _: SnapshotId, _: &Progress) -> Result<BTreeMap<InodeId, Damage>, ArchiveError> {
        Ok(BTreeMap::new())
    }

    fn identity(&self, archive: &Archive) -> Result<[u8; 32], ArchiveError> {
        Ok([archive.description.snapshot.0[0]; 32])
    }

    fn sizes(&self, _: SnapshotId, _: &Progress) -> Result<Sizes, ArchiveError> {
        Ok(Sizes {
            logical_bytes: 9,
            ..Sizes::default()
        })
    }

    fn store_sizes(&self, _: &Progress) -> Result<StoreSizes, ArchiveError> {
        Ok(StoreSizes {
            archives: self.archives.lock().len() as u64,
            ..StoreSizes::default()
        })
    }

    fn verify(
        &self,
        options: &VerifyOptions,
        _: &Progress,
        found: &mut dyn FnMut(Damage),
    ) -> Result<Verified, ArchiveError> {
        self.verified.lock().push(options.clone());
        found(Damage {
            archive: None,
            path: None,
            range: None,
            object: "packs/x".to_owned(),
            offset: None,
            what: "gone".to_owned(),
        });
        Ok(Verified {
            damages: 1,
            ..Verified::default()
        })
    }

    fn delete(&self, snapshot: SnapshotId) -> Result<(), ArchiveError> {
        self.archives
            .lock()
            .retain(|archive| archive.description.snapshot != snapshot);
        Ok(())
    }

    fn reclaim(
        &self,
        _: &ReclaimOptions,
        _: &Progress,
        verdict: &mut dyn FnMut(PackVerdict),
    ) -> Result<Reclaimed, ArchiveError> {
        for action in [
            PackAction::Keep,
            PackAction::Condemn,
            PackAction::Keep,
            PackAction::Remove,
        ] {
            verdict(PackVerdict {
                object: "packs/x".to_owned(),
                action,
                stored_bytes: 1,
                live_bytes: 0,
            });
        }
        Ok(Reclaimed::default())
    }
}

/// Volumes that note what is asked of them.
#[derive(Default)]
pub struct FakeEnds {
    pub wanted: Mutex<Vec<Wanted>>,
    pub finished: Arc<AtomicUsize>,
}

struct NoTree;

impl Source for NoTree {
    fn expected(&self) -> (u64, u64) {
        (0, 0)
    }

    fn bases(&self) -> Result<Vec<SnapshotId>, SourceError> {
        Ok(Vec::new())
    }

    fn changed_since(&self, _: SnapshotId) -> Result<Option<Vec<InodeId>>, SourceError> {
        Ok(None)
    }

    fn items(&self, _: &mut TreeCursor, _: usize, _: &mut Vec<TreeItem>) -> Result<(), SourceError> {
        Ok(())
    }

    fn same_data(&self, _: SnapshotId, _: InodeId) -> Result<Vec<ByteRange>, SourceError> {
        Ok(Vec::new())
    }

    fn read(&self, _: &Extent) -> Result<Bytes, SourceError> {
        Ok(Bytes::new())
    }
}

struct FakeTree {
    targets: usize,
    finished: Arc<AtomicUsize>,
}

impl Target for FakeTree {
    fn resume_after(&self) -> Option<InodeId> {
        None
    }

    fn node(&mut self, _: InodeId, _: &Node) -> Result<(), TargetError> {
        Ok(())
    }

    fn entry(&mut self, _: &[u8], _: InodeId, _: FileKind) -> Result<(), TargetError> {
        Ok(())
    }

    fn link_target(&mut self, _: &[u8]) -> Result<(), TargetError> {
        self.targets += 1;
        Ok(())
    }

    fn data(&mut self, _: u64, _: &[u8]) -> Result<(), TargetError> {
        Ok(())
    }
}

impl ImportedTree for FakeTree {
    fn target(&mut self) -> &mut dyn Target {
        self
    }

    fn finish(self: Box<Self>) -> Result<Imported, WorkError> {
        assert_eq!(self.targets, 1, "the tree was not written before it was finished");
        self.finished.fetch_add(1, Ordering::Relaxed);
        Ok(Imported {
            snapshot: SnapshotId([0xcd; 16]),
            safety: Some(SnapshotId([0xef; 16])),
        })
    }
}

impl Ends for FakeEnds {
    fn source(
        &self,
        _: &WorkspaceName,
        snapshot: SnapshotId,
    ) -> Result<(Box<dyn Source>, Description), WorkError> {
        Ok((Box::new(NoTree), description(snapshot, &[])))
    }

    fn target(&self, wanted: &Wanted) -> Result<Box<dyn ImportedTree>, WorkError> {
        self.wanted.lock().push(wanted.clone());
        Ok(Box::new(FakeTree {
            targets: 0,
            finished: Arc::clone(&self.finished),
        }))
    }
}
