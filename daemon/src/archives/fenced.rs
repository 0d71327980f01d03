//! A store of which this version knows who owns it, and nothing else: what a store is asked for until archives are there.
//! Everything but ownership is refused, with a reason that says so.

use std::sync::Arc;

use cairn_content::objects::{Fence, TakeOver};
use cairn_snapshot::archive::{
    Archive, Damage, Description, PackVerdict, Progress, Pulled, Pushed, ReclaimOptions, Reclaimed, Sizes,
    Source, StoreSizes, Target, Verified, VerifyOptions,
};
use cairn_types::{SnapshotId, WorkspaceName};

use super::{ArchiveError, Ends, ImportedTree, OpenParts, Repository, Wanted, WorkError};

/// A store and its owner.
pub struct Fenced(OpenParts);

/// Opens a store.
pub fn open(parts: OpenParts) -> Result<Arc<dyn Repository>, ArchiveError> {
    Ok(Arc::new(Fenced(parts)))
}

fn unsupported<T>(what: &'static str) -> Result<T, ArchiveError> {
    Err(ArchiveError::Unsupported { what })
}

impl Repository for Fenced {
    fn own(&self, take_over: bool) -> Result<(), ArchiveError> {
        let parts = &self.0;
        let take_over = match take_over {
            true => TakeOver::Yes,
            false => TakeOver::No,
        };
        let acquiring = Fence::acquire(
            &parts.objects,
            parts.owner.clone(),
            take_over,
            parts.clock.as_ref(),
        );
        parts.runtime.block_on(acquiring)?;
        Ok(())
    }

    fn push(&self, _: &dyn Source, _: Description, _: &Progress) -> Result<Pushed, ArchiveError> {
        unsupported("push snapshots")
    }

    fn archives(&self) -> Result<Vec<Archive>, ArchiveError> {
        unsupported("list archives")
    }

    fn find(&self, _: Option<&str>) -> Result<Archive, ArchiveError> {
        unsupported("find archives")
    }

    fn pull(&self, _: &Archive, _: &mut dyn Target, _: &Progress) -> Result<Pulled, ArchiveError> {
        unsupported("pull archives")
    }

    fn identity(&self, _: &Archive) -> Result<[u8; 32], ArchiveError> {
        unsupported("pull archives")
    }

    fn sizes(&self, _: SnapshotId, _: &Progress) -> Result<Sizes, ArchiveError> {
        unsupported("measure archives")
    }

    fn store_sizes(&self, _: &Progress) -> Result<StoreSizes, ArchiveError> {
        unsupported("measure stores")
    }

    fn verify(
        &self,
        _: &VerifyOptions,
        _: &Progress,
        _: &mut dyn FnMut(Damage),
    ) -> Result<Verified, ArchiveError> {
        unsupported("verify archives")
    }

    fn delete(&self, _: SnapshotId) -> Result<(), ArchiveError> {
        unsupported("delete archives")
    }

    fn reclaim(
        &self,
        _: &ReclaimOptions,
        _: &Progress,
        _: &mut dyn FnMut(PackVerdict),
    ) -> Result<Reclaimed, ArchiveError> {
        unsupported("reclaim space in stores")
    }
}

/// Volumes that can be neither read as archives nor written from them.
pub struct NoEnds;

impl Ends for NoEnds {
    fn source(&self, _: &WorkspaceName, _: SnapshotId) -> Result<(Box<dyn Source>, Description), WorkError> {
        Err(ArchiveError::Unsupported {
            what: "push snapshots",
        }
        .into())
    }

    fn target(&self, _: &Wanted) -> Result<Box<dyn ImportedTree>, WorkError> {
        Err(ArchiveError::Unsupported {
            what: "pull archives",
        }
        .into())
    }
}
