//! What archives take up: each by itself, and all together.

use cairn_types::SnapshotId;

use super::error::ArchiveError;
use super::reclaim::Marks;
use super::report::{Phase, Progress, Sizes, StoreSizes};
use super::repository::Repository;
use super::root::ArchiveRoot;

impl Repository {
    /// What one archive takes up. Errors: `NotFound`, `Objects`, `Store`, `Tree`, `Cancelled`.
    pub fn sizes(&self, snapshot: SnapshotId, progress: &Progress) -> Result<Sizes, ArchiveError> {
        progress.enter(Phase::Preparing);
        self.refresh(progress)?;
        let (roots, _) = self.roots()?;
        let of = |root: &&ArchiveRoot| root.archive.description.snapshot == snapshot;
        let root = roots.iter().find(of).ok_or_else(|| ArchiveError::NotFound {
            store: self.url(),
            reference: snapshot.to_string(),
        })?;
        progress.enter(Phase::Marking);
        let (alone, others) = (Marks::new(&self.store), Marks::new(&self.store));
        self.mark_archive(&alone, root, progress)?;
        for other in roots.iter().filter(|root| !of(root)) {
            self.mark_archive(&others, other, progress)?;
        }
        let (alone, others) = (&alone.live, &others.live);
        let mut sizes = Sizes {
            logical_bytes: root.archive.counts.bytes,
            ..Sizes::default()
        };
        for (of_others, found) in others.packs().zip(alone.packs()) {
            let (of_others, found) = (of_others?, found?);
            sizes.referred_bytes += found.live_bytes;
            if found.live_chunks == 0 {
                continue;
            }
            if of_others.live_chunks == 0 {
                sizes.unique_bytes += found.live_bytes;
                sizes.reclaimable_stored_bytes += found.live_stored;
                continue;
            }
            let index = self.store.pack_index(&found.pack)?;
            for frame in index.frames() {
                let (mut unique, mut all) = (0u64, 0u64);
                for chunk in index.chunks_of(frame) {
                    let length = u64::from(chunk.length);
                    all += length;
                    if alone.is_marked(&chunk.id)? && !others.is_marked(&chunk.id)? {
                        unique += length;
                    }
                }
                sizes.unique_bytes += unique;
                sizes.reclaimable_stored_bytes += u64::from(frame.stored) * unique / all.max(1);
            }
        }
        sizes.shared_bytes = sizes.referred_bytes.saturating_sub(sizes.unique_bytes);
        Ok(sizes)
    }

    /// What the whole store takes up. Errors: `Objects`, `Store`, `Tree`, `Cancelled`.
    pub fn store_sizes(&self, progress: &Progress) -> Result<StoreSizes, ArchiveError> {
        progress.enter(Phase::Preparing);
        self.refresh(progress)?;
        let (roots, failed) = self.roots()?;
        progress.enter(Phase::Marking);
        let marks = Marks::new(&self.store);
        for root in &roots {
            self.mark_archive(&marks, root, progress)?;
        }
        let mut sizes = StoreSizes {
            archives: (roots.len() + failed.len()) as u64,
            ..StoreSizes::default()
        };
        for found in marks.live.packs() {
            let found = found?;
            sizes.packs += 1;
            sizes.stored_bytes += found.bytes;
            sizes.live_bytes += found.live_bytes;
            sizes.reclaimable_stored_bytes += found.dead_stored;
        }
        Ok(sizes)
    }
}
