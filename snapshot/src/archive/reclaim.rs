//! Reclaiming: what no archive needs is condemned, and what was condemned long enough is removed.
//!
//! **Two phases.** A pack that nothing live is in is *condemned*: its chunks are not known any more, so that a push that needs
//! them stores them again, but they can be read. That is written down, in the object `reclaim`, with the time. A pack that was
//! condemned for longer than the grace period, and that nothing refers to still, is removed. So a reader of an archive that is
//! deleted, and an archive that was published while packs were judged, find their packs.
//!
//! **Packs of which little is live** are rewritten: what lives in them is stored again, and they are condemned with the rest.
//!
//! **Beside pushes.** A push that began before a pack was condemned may have found a chunk in it. So a condemned pack is removed only
//! by a mark whose roots were listed after all such pushes had ended: then the mark has seen what they published. Without a grace
//! period there are therefore two rounds, one that condemns and one that removes. Packs that are stored while packs are judged
//! are not judged.
//!
//! **A kill** between any two steps leaves too much, never too little: what is live is stored before the old pack is condemned; a
//! condemned pack that a later mark finds live is reinstated; a pack without a root is judged like any other.

use std::collections::BTreeSet;
use std::time::Duration;

use cairn_content::objects::ObjectError;
use cairn_content::objects::fence::FenceRecord;
use cairn_content::pack::PackId;
use cairn_content::pipeline::Pipeline;
use cairn_content::store::{ChunkStore, Mark, Marked, PackUse, pack_name};
use cairn_types::{ErrorKind, InodeId, Timestamp};

use super::error::ArchiveError;
use super::report::{PackAction, PackVerdict, Phase, Progress, ReclaimOptions, Reclaimed};
use super::repository::{Nodes, Repository};
use super::root::{ArchiveRoot, Content};
use super::tree::{Key, TreeReadError, TreeRoot, leaves, read_leaf};

mod condemned;
mod directories;

pub(super) use condemned::Condemned;
use condemned::{CONDEMNED_MAX, Sentence};

/// Packs that are removed between two looks at the fence.
const REMOVED_AT_ONCE: usize = 256;

/// Seconds from one time to another; 0 if the clock went back.
fn age(since: Timestamp, now: Timestamp) -> Duration {
    let seconds = u64::try_from(now.seconds().saturating_sub(since.seconds())).unwrap_or(0);
    let whole = Duration::from_secs(seconds) + Duration::from_nanos(u64::from(now.nanoseconds()));
    whole.saturating_sub(Duration::from_nanos(u64::from(since.nanoseconds())))
}

/// While it lives, packs that are stored are noted: they are not judged.
struct Noting<'a>(&'a Repository);

impl<'a> Noting<'a> {
    /// Begins, with the packs of the pushes that run; returns the number of the first of these.
    fn begin(repository: &'a Repository) -> (Self, Option<u64>) {
        let mut work = repository.work.lock();
        let stored = work.pushes.values().flat_map(|push| push.packs.iter().copied());
        work.stored = Some(stored.collect());
        let oldest = work.pushes.keys().next().copied();
        (Noting(repository), oldest)
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        self.0.work.lock().stored = None;
    }
}

/// What archives need. A chunk of a file may have the bytes of a part of a tree; that it is marked does not say that what stands
/// below that part is: hence two marks.
pub(super) struct Marks {
    /// Chunks that are needed.
    pub live: Mark,
    /// Parts of trees whose own parts are marked.
    entered: Mark,
}

impl Marks {
    /// Nothing is marked.
    pub fn new(store: &ChunkStore) -> Self {
        Marks {
            live: store.mark(),
            entered: store.mark(),
        }
    }
}

/// What was found of the packs, and what is to be done.
struct Judgement {
    verdicts: Vec<(PackUse, PackAction)>,
}

impl Judgement {
    fn packs(&self, action: PackAction) -> Vec<PackId> {
        self.of(action).map(|found| found.pack).collect()
    }

    fn of(&self, action: PackAction) -> impl Iterator<Item = &PackUse> {
        let verdicts = self.verdicts.iter();
        verdicts
            .filter(move |(_, found)| *found == action)
            .map(|(found, _)| found)
    }
}

impl Repository {
    /// Frees what no archive needs. Runs beside pushes and pulls. Tells `verdict` what becomes of every pack, and why.
    ///
    /// Nothing is freed while an archive's tree cannot be read, or is not there: what it needs is not known.
    ///
    /// # Errors
    /// `Fence`, `Objects`, `Store`, `Damaged`, `NewerVersion`, `Tree` if an archive cannot be read; `Pipeline`, `Cancelled`, `Option`.
    pub fn reclaim(
        &self,
        options: &ReclaimOptions,
        progress: &Progress,
        verdict: &mut dyn FnMut(PackVerdict),
    ) -> Result<Reclaimed, ArchiveError> {
        if options.rewrite_below_percent > 100 {
            return Err(ArchiveError::Option {
                what: "rewrite_below_percent",
                found: options.rewrite_below_percent.into(),
                minimum: 0,
                maximum: 100,
            });
        }
        let _reclaiming = self.reclaiming.lock();
        let owned = self.owned_as(false)?;
        let mut outcome = self.reclaim_round(&owned, options, progress, verdict)?;
        let again = options.grace.is_zero() && outcome.condemned_packs > 0 && !options.dry_run;
        if again {
            let second = self.reclaim_round(&owned, options, progress, verdict)?;
            outcome.removed_packs += second.removed_packs;
            outcome.removed_bytes += second.removed_bytes;
            outcome.condemned_packs = second.condemned_packs;
            outcome.condemned_bytes = second.condemned_bytes;
            outcome.rewritten_packs += second.rewritten_packs;
            outcome.rewritten_bytes += second.rewritten_bytes;
        }
        Ok(outcome)
    }

    fn reclaim_round(
        &self,
        owned: &FenceRecord,
        options: &ReclaimOptions,
        progress: &Progress,
        verdict: &mut dyn FnMut(PackVerdict),
    ) -> Result<Reclaimed, ArchiveError> {
        progress.enter(Phase::Preparing);
        // Before the roots are listed: who has ended by now has published.
        let (noting, oldest) = Noting::begin(self);
        let refreshed = self.refresh(progress)?;
        // A push that begins from here on stores packs that the mark does not judge.
        let marks = Marks::new(&self.store);
        let mark = &marks.live;
        let (roots, failed) = self.roots()?;
        if let Some((_, error)) = failed.into_iter().next() {
            return Err(error);
        }
        progress.enter(Phase::Marking);
        progress.expect(roots.len() as u64, 0);
        for root in &roots {
            // It may stand in a pack that the list does not show yet, or that can be repaired: what it needs is not known.
            if let Some(missing) = self.mark_archive(&marks, root, progress)? {
                return Err(missing);
            }
        }
        let judgement = self.judge(mark, options, oldest)?;
        for (found, action) in &judgement.verdicts {
            verdict(PackVerdict {
                object: pack_name(&found.pack).map_err(ObjectError::from)?.to_string(),
                action: *action,
                stored_bytes: found.bytes,
                live_bytes: found.live_stored,
            });
        }
        let bytes = |action| judgement.of(action).map(|found| found.bytes).sum::<u64>();
        let count = |action| judgement.of(action).count() as u64;
        let mut outcome = Reclaimed {
            packs: refreshed.packs,
            removed_packs: count(PackAction::Remove),
            removed_bytes: bytes(PackAction::Remove),
            condemned_packs: count(PackAction::Condemn)
                + count(PackAction::Wait)
                + count(PackAction::Rewrite),
            condemned_bytes: bytes(PackAction::Condemn)
                + bytes(PackAction::Wait)
                + bytes(PackAction::Rewrite),
            rewritten_packs: count(PackAction::Rewrite),
            rewritten_bytes: 0,
        };
        if options.dry_run {
            return Ok(outcome);
        }
        self.require_owned(owned)?;
        outcome.rewritten_bytes = self.rewrite(mark, &judgement.packs(PackAction::Rewrite), progress)?;
        self.execute(owned, &judgement, progress)?;
        drop(noting);
        Ok(outcome)
    }

    /// Marks everything that an archive needs. Parts of the tree that another archive has marked are not read again. Returns
    /// what of the tree no known pack holds, if anything: what stands below that is not marked.
    pub(super) fn mark_archive(
        &self,
        marks: &Marks,
        root: &ArchiveRoot,
        progress: &Progress,
    ) -> Result<Option<ArchiveError>, ArchiveError> {
        let missing = match &root.content {
            Content::Tree(tree) => self.mark_tree(marks, tree, progress),
            Content::Directory(directory) => self.mark_directory(marks, directory, progress),
        };
        if missing.is_ok() {
            progress.add(1, 0);
        }
        missing
    }

    fn mark_tree(
        &self,
        marks: &Marks,
        tree: &TreeRoot,
        progress: &Progress,
    ) -> Result<Option<ArchiveError>, ArchiveError> {
        let nodes = Nodes(&self.store);
        let mut failed = None;
        let enter = |node: &super::tree::NodeReference| {
            let marked = marks.live.insert(&node.chunk);
            match marked.and_then(|_| marks.entered.insert(&node.chunk)) {
                Ok(Marked::New | Marked::Unknown) => true,
                Ok(Marked::Again) => false,
                Err(error) => {
                    failed = Some(error);
                    true
                }
            }
        };
        let mut found = Vec::new();
        for leaf in leaves(&nodes, tree, Key::of(InodeId(0)), enter) {
            if progress.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let records = leaf.and_then(|leaf| read_leaf(&nodes, &leaf));
            match records {
                Ok(records) => {
                    for (key, record) in records {
                        for (_, id, _) in record.chunks(&key) {
                            marks.live.insert(&id)?;
                        }
                    }
                }
                Err(error) => found.push(error),
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        let missing = |error: &TreeReadError<_>| matches!(error, TreeReadError::Fetch(cause) if ErrorKind::NotFound == cairn_content::store::ChunkReadError::kind(cause));
        match found.iter().position(|error| !missing(error)) {
            Some(at) => Err(found.swap_remove(at).into()),
            None => Ok(found.into_iter().next().map(ArchiveError::from)),
        }
    }

    /// `oldest` is the first of the pushes that ran before the roots were listed.
    fn judge(
        &self,
        mark: &Mark,
        options: &ReclaimOptions,
        oldest: Option<u64>,
    ) -> Result<Judgement, ArchiveError> {
        let now = self.now();
        let (stored, condemned) = {
            let work = self.work.lock();
            let stored = work.stored.clone().unwrap_or_default();
            (stored, work.condemned.clone().unwrap_or_default())
        };
        let mut verdicts = Vec::new();
        let mut room = CONDEMNED_MAX.saturating_sub(condemned.packs.len());
        for found in mark.packs() {
            let found = found?;
            let sentence = condemned.packs.get(&found.pack);
            let live = found.live_chunks > 0;
            let total = found.live_stored + found.dead_stored;
            let sparse = found.live_stored * 100 < total * u64::from(options.rewrite_below_percent);
            let action = match sentence {
                _ if stored.contains(&found.pack) => PackAction::Keep,
                Some(_) if live => PackAction::Reinstate,
                Some(sentence) => {
                    let waited = age(sentence.since, now) >= options.grace;
                    let nobody = oldest.is_none_or(|oldest| oldest >= sentence.after);
                    match waited && nobody {
                        true => PackAction::Remove,
                        false => PackAction::Wait,
                    }
                }
                None if room == 0 => PackAction::Keep,
                None if !live => PackAction::Condemn,
                None if sparse => PackAction::Rewrite,
                None => PackAction::Keep,
            };
            room -= usize::from(matches!(action, PackAction::Condemn | PackAction::Rewrite));
            verdicts.push((found, action));
        }
        Ok(Judgement { verdicts })
    }

    /// Stores what is live in these packs again. Durable on return. Returns the bytes stored.
    fn rewrite(&self, mark: &Mark, packs: &[PackId], progress: &Progress) -> Result<u64, ArchiveError> {
        if packs.is_empty() {
            return Ok(0);
        }
        progress.enter(Phase::Transferring);
        // Condemned first, so that what is live counts as not stored; in memory only, so that a failure changes nothing.
        self.store.condemn(packs);
        let moved = self.move_live(mark, packs, progress);
        if moved.is_err() {
            self.store.reinstate(packs);
        }
        moved
    }

    fn move_live(&self, mark: &Mark, packs: &[PackId], progress: &Progress) -> Result<u64, ArchiveError> {
        let pipeline = Pipeline::start(
            self.settings.data.clone(),
            std::sync::Arc::new(self.store.clone()),
        )?;
        for pack in packs {
            let index = self.store.pack_index(pack)?;
            for chunk in index.chunks() {
                if progress.is_cancelled() {
                    return Err(ArchiveError::Cancelled);
                }
                if mark.is_marked(&chunk.id)? && !self.store.contains(&chunk.id)? {
                    let data = self.store.read(&chunk.id, chunk.length)?;
                    progress.transferred(data.len() as u64);
                    pipeline.store_chunk(data.to_vec())?;
                }
            }
        }
        Ok(pipeline.finish()?.stored_bytes)
    }

    /// Writes down what is condemned, and removes what is to be removed.
    fn execute(
        &self,
        owned: &FenceRecord,
        judgement: &Judgement,
        progress: &Progress,
    ) -> Result<(), ArchiveError> {
        progress.enter(Phase::Removing);
        let now = self.now();
        let mut fresh = judgement.packs(PackAction::Condemn);
        fresh.extend(judgement.packs(PackAction::Rewrite));
        self.store.condemn(&fresh);
        self.store.reinstate(&judgement.packs(PackAction::Reinstate));
        let mut condemned = {
            let mut work = self.work.lock();
            // Pushes from this number on begin after the packs were condemned.
            let after = work.next_push();
            let mut condemned = work.condemned.clone().unwrap_or_default();
            // Of packs that are gone nothing is to be said.
            let known: BTreeSet<PackId> = judgement.verdicts.iter().map(|(found, _)| found.pack).collect();
            condemned.packs.retain(|pack, _| known.contains(pack));
            for pack in judgement.packs(PackAction::Reinstate) {
                condemned.packs.remove(&pack);
            }
            let sentence = Sentence { since: now, after };
            condemned
                .packs
                .extend(fresh.into_iter().map(|pack| (pack, sentence)));
            work.condemned = Some(condemned.clone());
            condemned
        };
        self.require_owned(owned)?;
        condemned.save(self)?;
        let doomed = judgement.packs(PackAction::Remove);
        for some in doomed.chunks(REMOVED_AT_ONCE) {
            if progress.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            self.require_owned(owned)?;
            let removed = self.store.remove_packs(some)?;
            for pack in removed.removed.iter().chain(&removed.kept) {
                condemned.packs.remove(pack);
            }
        }
        if !doomed.is_empty() {
            condemned.save(self)?;
            self.work.lock().condemned = Some(condemned);
        }
        Ok(())
    }
}
