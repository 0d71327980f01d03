//! Packs that are to go: condemned first, so that nobody relies on them any more, removed later.

use std::collections::HashSet;

use super::error::ChunkStoreError;
use super::name::pack_name;
use super::{ChunkStore, Inner};
use crate::objects::ObjectError;
use crate::pack::PackId;

/// What became of packs that were to be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Packs whose objects are not there any more.
    pub removed: Vec<PackId>,
    /// Packs that are known and not condemned, and so were left alone: somebody has stored or reinstated them.
    pub kept: Vec<PackId>,
}

/// Packs that are being stored or removed; others wait until this is dropped.
pub(super) struct Busy<'a> {
    inner: &'a Inner,
    packs: &'a [PackId],
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut busy = self.inner.busy.lock();
        for pack in self.packs {
            busy.remove(pack);
        }
        drop(busy);
        self.inner.idle.notify_all();
    }
}

impl Inner {
    /// Waits until nobody stores or removes these packs, and keeps others from doing so.
    pub(super) fn occupy<'a>(&'a self, packs: &'a [PackId]) -> Busy<'a> {
        let mut busy = self.busy.lock();
        while packs.iter().any(|pack| busy.contains(pack)) {
            self.idle.wait(&mut busy);
        }
        busy.extend(packs);
        Busy { inner: self, packs }
    }

    /// Forgets packs, also in the caches. Durable on return if `sync`.
    pub(super) fn forget(&self, packs: &[PackId], sync: bool) -> Result<usize, ChunkStoreError> {
        let numbers: HashSet<u32> = packs
            .iter()
            .filter_map(|id| Some(self.index.known_as(id)?.record.number))
            .collect();
        let forgotten = self.index.forget(packs, sync)?;
        self.indexes.retain(|number, _| !numbers.contains(number));
        self.frames.retain(|(number, _), _| !numbers.contains(number));
        Ok(forgotten)
    }
}

impl ChunkStore {
    /// Condemns packs: chunks that only they hold are no longer contained, so that whoever needs them stores them again. They
    /// can still be read. Names of packs that are not known are remembered for when they become known. Holds as long as the
    /// process runs, or until the pack is reinstated or stored again.
    pub fn condemn(&self, packs: &[PackId]) {
        self.inner.index.condemn(packs, true);
    }

    /// Takes back that packs are condemned.
    pub fn reinstate(&self, packs: &[PackId]) {
        self.inner.index.condemn(packs, false);
    }

    /// Whether a pack is condemned.
    pub fn is_condemned(&self, pack: &PackId) -> bool {
        self.inner.index.is_condemned(pack)
    }

    /// Removes packs from the object store and forgets them. Known packs must be condemned; those that are not (any more) are
    /// kept. Packs that are not known, as damaged ones, are removed without a question. They are forgotten, durably, before the
    /// first object is removed: no kill and no power cut leaves a chunk contained that is gone.
    ///
    /// # Errors
    /// `Objects`: some may be removed and others not, and none is known any more; a refresh finds those that are still there.
    /// `Cache`: nothing was removed.
    pub fn remove_packs(&self, packs: &[PackId]) -> Result<Removed, ChunkStoreError> {
        let inner = &*self.inner;
        let _busy = inner.occupy(packs);
        let (mut outcome, mut seen) = (Removed::default(), HashSet::new());
        for pack in packs.iter().filter(|pack| seen.insert(**pack)) {
            match inner.index.known_as(pack) {
                Some(known) if !known.condemned => outcome.kept.push(*pack),
                _ => outcome.removed.push(*pack),
            }
        }
        let names = outcome
            .removed
            .iter()
            .map(pack_name)
            .collect::<Result<Vec<_>, _>>();
        let names = names.map_err(ObjectError::from)?;
        inner.removed.lock().extend(&outcome.removed);
        inner.forget(&outcome.removed, true)?;
        inner.runtime.block_on(inner.objects.delete_many(&names))?;
        inner.index.condemn(&outcome.removed, false);
        Ok(outcome)
    }
}
