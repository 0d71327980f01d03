//! Change notes that tell nothing any more.
//!
//! A note of an epoch is asked for by whoever compares a point before that epoch with one at or after it. So in a branch that started
//! empty the notes up to its first point say nothing; and of the epochs between two neighbouring points one note of an inode says all
//! that several say. New points come only at epochs that were not over when the branch was read.

use std::collections::BTreeSet;

use cairn_types::{BranchId, Epoch, InodeId};

use super::history::{Removal, advance};
use super::uses::BranchUse;
use crate::error::MetadataError;
use crate::keyspace::note::{bound_key, decode_bound, decode_note, note_key};
use crate::store::Store;

/// Inodes of one interval that are remembered. Of more, later notes stay though they say nothing new.
const INODES_MAX: usize = 1 << 20;

/// The notes of one branch, interval by interval.
pub(super) struct NotesPass {
    branch: BranchId,
    /// Notes up to this epoch, included, say nothing.
    useless: Epoch,
    /// Points, ascending; an interval ends at each, and the last one is open.
    ends: Vec<Epoch>,
    from: Vec<u8>,
    to: Vec<u8>,
    /// The end of the interval that is being read, and what it has.
    interval: Option<Epoch>,
    inodes: BTreeSet<InodeId>,
}

impl NotesPass {
    pub fn new(branch: BranchId, seen: &BranchUse) -> Self {
        let points = seen.points();
        let current = seen.record.epoch;
        let useless = match (seen.record.parent, points.first()) {
            (Some(_), _) => Epoch(0),
            (None, Some(first)) => *first,
            (None, None) if seen.live => current,
            (None, None) => Epoch(u64::MAX - 1),
        };
        NotesPass {
            branch,
            useless,
            ends: points.into_iter().collect(),
            from: bound_key(branch),
            // What is noted of the current epoch comes once for each inode.
            to: note_key(branch, current.next(), InodeId(0)),
            interval: None,
            inodes: BTreeSet::new(),
        }
    }

    /// Looks at some notes; whether there may be more.
    pub fn step(
        &mut self,
        store: &Store,
        limit: usize,
        removal: &mut Removal,
    ) -> Result<bool, MetadataError> {
        let pairs = removal.read(store, &self.from, &self.to, limit)?;
        for (key, value) in &pairs {
            if *key == bound_key(self.branch) {
                // As long as the bound is beyond what is dropped here, it says that notes are missing.
                if decode_bound(value)? <= self.useless {
                    removal.remove(key, value);
                }
                continue;
            }
            let (epoch, inode) = decode_note(key)?;
            if epoch <= self.useless || !self.is_new(epoch, inode) {
                removal.remove(key, value);
            }
        }
        Ok(advance(&mut self.from, &pairs, limit))
    }

    /// Whether the interval of the epoch has no other note of the inode yet.
    fn is_new(&mut self, epoch: Epoch, inode: InodeId) -> bool {
        let next = self.ends.partition_point(|end| *end < epoch);
        let interval = self.ends.get(next).copied().unwrap_or(Epoch(u64::MAX));
        if self.interval != Some(interval) {
            self.interval = Some(interval);
            self.inodes.clear();
        }
        if self.inodes.len() == INODES_MAX {
            return !self.inodes.contains(&inode);
        }
        self.inodes.insert(inode)
    }
}
