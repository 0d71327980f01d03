//! Versions that nobody can see any more, in branches that stay.
//!
//! A version is valid from its birth to its last epoch. It is needed if a snapshot or a pin sees its branch at one of these epochs, if
//! it is the newest one of a live branch, or if a branch that starts at one of these epochs looks through to it, having nothing of
//! its own in the way. Taking away a version that is not needed changes no answer at a point that is seen: there another version of
//! the branch answers, or none did.
//!
//! The plan is made under the catalogue lock. Later only epochs get new points that were not over when their branch was read, so a
//! version that was history then and is not needed never will be. Hence the passes need no lock, nothing of them is kept, and
//! after a stop they begin again: what was removed stays removed.
//!
//! A version that says *removed* hides what an ancestor has. When the ancestor has nothing any more it goes, too; at the head of a
//! live branch that is for the volume to do ([`Store::drop_hiding`]), which excludes changes of it.

use std::collections::VecDeque;

use cairn_types::{BranchId, Epoch, InodeId};

use super::uses::BranchUse;
use super::{Branches, notes};
use crate::engine::{Batch, Durability, Pair};
use crate::error::MetadataError;
use crate::keyspace::branch::{branch_key, decode_orphan_key, orphan_key};
use crate::keyspace::{HEAD_KEY_PREFIX, ObjectKind, Version, body, head_key, history_prefix, prefix_end};
use crate::store::Store;
use crate::view::{Lineage, View, split_history};

/// A sweep of all branches that need one. Made by [`Store::plan_history_sweep`]; it goes on with [`HistorySweep::step`].
pub struct HistorySweep {
    branches: Branches<BranchUse>,
    queue: VecDeque<BranchId>,
    pass: Option<Pass>,
}

/// What a step of a sweep has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// Versions and other keys that were looked at.
    pub scanned: u64,
    /// Of these, how many were removed.
    pub removed: u64,
    /// Bytes of the keys and values that were removed.
    pub bytes: u64,
    /// Bodies of versions at the head of this live branch that hide nothing any more, for [`Store::drop_hiding`].
    pub hiding: Option<(BranchId, Vec<Vec<u8>>)>,
}

/// The pass over one branch.
struct Pass {
    id: BranchId,
    lineage: Lineage,
    phase: Phase,
}

/// What of a branch is looked at: a range of keys that is left.
enum Phase {
    History(Vec<u8>),
    Newest(Vec<u8>),
    Orphans(Vec<u8>),
    Notes(notes::NotesPass),
}

impl Store {
    /// Plans a sweep: over the branches in which versions may have become invisible since the last one, or over all if
    /// `everything`, as it must be now and then, for what only branches see that start elsewhere is not watched.
    pub fn plan_history_sweep(&self, everything: bool) -> Result<HistorySweep, MetadataError> {
        let _catalogue = self.catalogue.lock();
        let (branches, _) = self.branch_uses()?;
        let due = self.swept.plan(&branches);
        let queue = match everything {
            // Parents before children: they have lower numbers.
            true => branches.keys().copied().collect(),
            false => due.into(),
        };
        Ok(HistorySweep {
            branches,
            queue,
            pass: None,
        })
    }

    /// Removes from the live branch of the lineage those of these bodies' newest versions that say *removed* where no ancestor has
    /// anything. Changes of the branch must be excluded. Tells how many keys and how many bytes went.
    pub fn drop_hiding(&self, lineage: &Lineage, bodies: &[Vec<u8>]) -> Result<(u64, u64), MetadataError> {
        let view = View::new(self.engine(), lineage);
        let mut batch = Batch::default();
        let mut bytes = 0;
        for body in bodies {
            let key = head_key(lineage.branch(), body);
            let Some(value) = self.engine.get(&key)? else {
                continue;
            };
            if Version::decode(&value)?.value.is_none() && view.get_inherited(body)?.is_none() {
                bytes += (key.len() + value.len()) as u64;
                batch.delete(key);
            }
        }
        let count = batch.operations.len() as u64;
        if count > 0 {
            self.engine.write(batch, Durability::Process)?;
        }
        Ok((count, bytes))
    }
}

impl HistorySweep {
    /// Branches that are not done.
    pub fn branches_left(&self) -> usize {
        self.queue.len() + usize::from(self.pass.is_some())
    }

    /// Does a part of the work: looks at about `limit` keys, and removes those of them that nobody needs, in one batch. `None` when all is
    /// done. An error leaves what is there sound; the sweep is then to be planned anew.
    pub fn step(&mut self, store: &Store, limit: usize) -> Result<Option<Step>, MetadataError> {
        if self.pass.is_none() {
            let Some(id) = self.queue.pop_front() else {
                return Ok(None);
            };
            if store.engine.get(&branch_key(id))?.is_none() {
                // Swept as a whole since the plan was made.
                return Ok(Some(Step::default()));
            }
            self.pass = Some(Pass {
                id,
                lineage: Lineage::live(store.engine(), id)?,
                phase: Phase::History(history_prefix(id, &[])),
            });
        }
        let Some(pass) = self.pass.as_mut() else {
            return Ok(None);
        };
        let Some(seen) = self.branches.get(&pass.id) else {
            self.pass = None;
            return Ok(Some(Step::default()));
        };
        let limit = limit.max(1);
        let mut work = Removal::default();
        let id = pass.id;
        let next = match &mut pass.phase {
            Phase::History(from) => {
                let to = prefix_end(&history_prefix(id, &[]));
                let pairs = work.read(store, from, &to, limit)?;
                for (key, value) in &pairs {
                    let (body, last) = split_history(key)?;
                    // What came into the history after the plan may be needed by a snapshot after the plan.
                    if last < seen.record.epoch
                        && !needed(
                            &self.branches,
                            store,
                            &pass.lineage,
                            seen,
                            &body,
                            value,
                            Some(last),
                        )?
                    {
                        work.remove(key, value);
                    }
                }
                let newest = !seen.live || pass.lineage.inherits();
                match (advance(from, &pairs, limit), newest) {
                    (true, _) => None,
                    (false, true) => Some(Phase::Newest(head_key(id, &[]))),
                    (false, false) => Some(Phase::Notes(notes::NotesPass::new(id, seen))),
                }
            }
            Phase::Newest(from) => {
                let to = prefix_end(&head_key(id, &[]));
                let pairs = work.read(store, from, &to, limit)?;
                let mut hiding = Vec::new();
                for (key, value) in &pairs {
                    let body = key.slice(HEAD_KEY_PREFIX..);
                    if needed(&self.branches, store, &pass.lineage, seen, &body, value, None)? {
                        continue;
                    }
                    match seen.live {
                        true => hiding.push(body.to_vec()),
                        false => work.remove(key, value),
                    }
                }
                if !hiding.is_empty() {
                    work.step.hiding = Some((id, hiding));
                }
                match (advance(from, &pairs, limit), seen.live) {
                    (true, _) => None,
                    (false, true) => Some(Phase::Notes(notes::NotesPass::new(id, seen))),
                    (false, false) => Some(Phase::Orphans(orphan_key(id, InodeId(0)))),
                }
            }
            Phase::Orphans(from) => {
                let to = prefix_end(&orphan_key(id, InodeId(u64::MAX)));
                let pairs = work.read(store, from, &to, limit)?;
                for (key, value) in &pairs {
                    // Nobody sweeps the orphans of a branch that is not live: they go with their extents.
                    let extents = head_key(id, &body(decode_orphan_key(key)?.1, ObjectKind::Extent));
                    if store.engine.scan(&extents, &prefix_end(&extents), 1)?.is_empty() {
                        work.remove(key, value);
                    }
                }
                match advance(from, &pairs, limit) {
                    true => None,
                    false => Some(Phase::Notes(notes::NotesPass::new(id, seen))),
                }
            }
            Phase::Notes(notes) => {
                let more = notes.step(store, limit, &mut work)?;
                work.write(store)?;
                if !more {
                    store.swept.passed(id, seen);
                    self.pass = None;
                }
                return Ok(Some(work.step));
            }
        };
        work.write(store)?;
        if let Some(next) = next {
            pass.phase = next;
        }
        Ok(Some(work.step))
    }
}

/// Moves `from` behind what was read; whether there may be more.
pub(super) fn advance(from: &mut Vec<u8>, pairs: &[Pair], limit: usize) -> bool {
    match pairs.last() {
        Some((last, _)) if pairs.len() == limit => {
            from.clear();
            from.extend_from_slice(last);
            from.push(0);
            true
        }
        _ => false,
    }
}

/// What a step removes.
#[derive(Default)]
pub(super) struct Removal {
    step: Step,
    batch: Batch,
}

impl Removal {
    pub fn read(
        &mut self,
        store: &Store,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>, MetadataError> {
        let pairs = store.engine.scan(from, to, limit)?;
        self.step.scanned += pairs.len() as u64;
        Ok(pairs)
    }

    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.step.removed += 1;
        self.step.bytes += (key.len() + value.len()) as u64;
        self.batch.delete(key.to_vec());
    }

    fn write(&mut self, store: &Store) -> Result<(), MetadataError> {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            store.engine.write(batch, Durability::Process)?;
        }
        Ok(())
    }
}

/// Whether somebody needs a version: of this body in this branch, valid until `last`, or the newest one.
fn needed(
    branches: &Branches<BranchUse>,
    store: &Store,
    lineage: &Lineage,
    seen: &BranchUse,
    body: &[u8],
    value: &[u8],
    last: Option<Epoch>,
) -> Result<bool, MetadataError> {
    let version = Version::decode(value)?;
    if version.value.is_none() && View::new(store.engine(), lineage).get_inherited(body)?.is_none() {
        // Nothing to hide.
        return Ok(false);
    }
    if last.is_none() && seen.live {
        return Ok(true);
    }
    let valid = version.birth..=last.unwrap_or(Epoch(u64::MAX));
    if valid.is_empty() {
        return Ok(false);
    }
    if seen.direct.range(valid.clone()).next().is_some() {
        return Ok(true);
    }
    for child in seen.children.range(valid).flat_map(|(_, children)| children) {
        if looks_through(branches, store, *child, body)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether somebody who sees the branch, or one that starts at it, sees what its parent has of the body.
fn looks_through(
    branches: &Branches<BranchUse>,
    store: &Store,
    child: BranchId,
    body: &[u8],
) -> Result<bool, MetadataError> {
    let mut below = vec![child];
    while let Some(id) = below.pop() {
        let Some(seen) = branches.get(&id) else {
            continue;
        };
        let nothing = |epoch| View::says_nothing(store.engine(), id, epoch, body);
        if seen.live && nothing(None)? {
            return Ok(true);
        }
        for epoch in &seen.direct {
            if nothing(Some(*epoch))? {
                return Ok(true);
            }
        }
        for (epoch, children) in &seen.children {
            if nothing(Some(*epoch))? {
                below.extend(children);
            }
        }
    }
    Ok(false)
}
