//! Learning which packs a store has: the list of them, the ends of those that are not known, and a second look at those that
//! are known and not listed, since a list may be late.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};

use super::decode::{Decoding, decode_trailer, end_bytes};
use super::error::ChunkStoreError;
use super::name::{PACKS_PREFIX, pack_id, pack_name};
use super::{ChunkStore, Inner};
use crate::objects::{ObjectError, ObjectName, ObjectStream, Objects};
use crate::pack::{PACK_BYTES_MAX, PackError, PackId, PackIndex, TRAILER_BYTES};

/// Bytes that the first read of a pack's end asks for; most ends fit in.
const END_GUESS_BYTES: u64 = 64 << 10;
/// Most damages that are named; further ones are counted.
pub const DAMAGES_MAX: usize = 1000;
/// Most packs of a store that a refresh takes in.
pub const PACKS_MAX: usize = 1 << 24;
/// How often a refresh that waits looks whether it is cancelled.
const CANCEL_INTERVAL: Duration = Duration::from_millis(100);

/// How far a refresh is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefreshProgress {
    /// Objects that were listed.
    pub listed: u64,
    /// Ends of packs that were read.
    pub read: u64,
    /// Ends of packs that are to be read in all, as far as is known.
    pub to_read: u64,
}

/// What a refresh found.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// Packs that are known now.
    pub packs: u64,
    /// Packs that were not known before.
    pub added: u64,
    /// Packs that were known and are gone.
    pub forgotten: u64,
    /// Objects among the packs that cannot be used, [`DAMAGES_MAX`] at most.
    pub damages: Vec<PackDamage>,
    /// How many there are of them in all.
    pub damaged: u64,
}

/// An object among the packs that cannot be used.
#[derive(Debug)]
pub struct PackDamage {
    /// Its name.
    pub name: ObjectName,
    /// Its bytes, as the store says.
    pub bytes: u64,
    /// What is wrong with it.
    pub cause: PackDamageCause,
}

/// What is wrong with an object among the packs.
#[derive(Debug, thiserror::Error)]
pub enum PackDamageCause {
    /// Its name is not that of a pack.
    #[error("its name is not that of a pack")]
    Foreign,
    /// Its end is not that of a pack, or is damaged.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// It is shorter than the store's list says.
    #[error(transparent)]
    Short(ObjectError),
}

/// Why the end of a pack was not read.
pub(super) enum EndError {
    Objects(ObjectError),
    Pack(PackError),
}

/// Reads the end of a pack of `bytes`: its index and trailer, and what they say.
pub(super) async fn read_end(
    objects: &Objects,
    decoding: &Decoding,
    id: &PackId,
    bytes: u64,
) -> Result<(Bytes, PackIndex), EndError> {
    if !(TRAILER_BYTES as u64..=PACK_BYTES_MAX).contains(&bytes) {
        return Err(EndError::Pack(PackError::NotAPack {
            what: "it has more or fewer bytes than any pack",
        }));
    }
    let name = pack_name(id).map_err(|error| EndError::Objects(error.into()))?;
    let from = bytes.saturating_sub(END_GUESS_BYTES);
    let last = objects
        .get_range(&name, from..bytes)
        .await
        .map_err(EndError::Objects)?;
    let trailer = decode_trailer(&last, bytes).map_err(EndError::Pack)?;
    let wanted = end_bytes(&trailer, bytes);
    let end = match wanted.checked_sub(last.len() as u64) {
        None | Some(0) => last.slice(last.len() - wanted as usize..),
        Some(missing) => {
            let before = objects
                .get_range(&name, from - missing..from)
                .await
                .map_err(EndError::Objects)?;
            [before, last].concat().into()
        }
    };
    let index = decoding.index(&end, bytes).map_err(EndError::Pack)?;
    Ok((end, index))
}

/// A refresh under way.
struct Refresh<'a> {
    inner: &'a Inner,
    progress: &'a (dyn Fn(RefreshProgress) + Sync),
    cancel: &'a AtomicBool,
    at: RefreshProgress,
    outcome: Refreshed,
}

impl ChunkStore {
    /// Brings the index up to date with the store: lists the packs, reads the ends of those that are not known, and forgets
    /// those that are gone. A known pack that is not listed is asked for by its name before it is forgotten. Damaged and
    /// foreign objects are named and left out; they stop nothing.
    ///
    /// Until a refresh has succeeded ([`ChunkStore::is_refreshed`]), what the index says is what was true when it was last used:
    /// whoever pushes to a store that somebody else may have removed packs from must refresh first. `progress` is called
    /// often, from this thread. `cancel` ends it within about a second; what was learnt stays.
    ///
    /// # Errors
    /// `Cancelled`; `Objects` if the store fails; `Cache` if the index cannot be written; `TooManyPacks`.
    pub fn refresh(
        &self,
        progress: &(dyn Fn(RefreshProgress) + Sync),
        cancel: &AtomicBool,
    ) -> Result<Refreshed, ChunkStoreError> {
        let list = self
            .inner
            .objects
            .list(Some(PACKS_PREFIX))
            .map_err(ObjectError::from)?;
        self.refresh_from(list, progress, cancel)
    }

    /// [`ChunkStore::refresh`] from a list that somebody else may have made.
    pub(super) fn refresh_from(
        &self,
        list: ObjectStream,
        progress: &(dyn Fn(RefreshProgress) + Sync),
        cancel: &AtomicBool,
    ) -> Result<Refreshed, ChunkStoreError> {
        let inner = &*self.inner;
        let _alone = inner.refreshing.lock();
        // Packs that are removed from here on may still be listed, and their ends may just have been read.
        inner.removed.lock().clear();
        let mut refresh = Refresh {
            inner,
            progress,
            cancel,
            at: RefreshProgress::default(),
            outcome: Refreshed::default(),
        };
        inner.runtime.block_on(refresh.run(list))?;
        let mut outcome = refresh.outcome;
        outcome.packs = inner.index.size().0 as u64;
        inner.refreshed.store(true, Ordering::Release);
        Ok(outcome)
    }

    /// Whether a refresh has succeeded since the store was opened.
    pub fn is_refreshed(&self) -> bool {
        self.inner.refreshed.load(Ordering::Acquire)
    }
}

impl Refresh<'_> {
    async fn run(&mut self, list: ObjectStream) -> Result<(), ChunkStoreError> {
        let before = self.inner.index.all();
        let (unknown, listed) = self.list(list).await?;
        self.read_ends(unknown).await?;
        let missing: Vec<PackId> = before
            .iter()
            .map(|known| known.record.id)
            .filter(|id| !listed.contains(id))
            .collect();
        self.look_again(missing).await
    }

    /// The next of a stream; looks whether it is cancelled meanwhile.
    async fn next<T>(
        &self,
        stream: &mut (impl stream::Stream<Item = T> + Unpin),
    ) -> Result<Option<T>, ChunkStoreError> {
        loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(ChunkStoreError::Cancelled);
            }
            if let Ok(next) = tokio::time::timeout(CANCEL_INTERVAL, stream.next()).await {
                return Ok(next);
            }
        }
    }

    /// Sorts what is listed: packs to read, and packs that are known and as they were.
    async fn list(
        &mut self,
        mut list: ObjectStream,
    ) -> Result<(Vec<(PackId, u64)>, HashSet<PackId>), ChunkStoreError> {
        let mut unknown = Vec::new();
        let mut listed = HashSet::new();
        while let Some(info) = self.next(&mut list).await? {
            let info = info?;
            self.at.listed += 1;
            let Some(id) = pack_id(&info.name) else {
                self.damaged(info.name, info.bytes, PackDamageCause::Foreign);
                continue;
            };
            if !listed.insert(id) {
                // A list that was taken up again may repeat a name.
                continue;
            }
            if listed.len() > PACKS_MAX {
                return Err(ChunkStoreError::TooManyPacks {
                    maximum: PACKS_MAX as u64,
                });
            }
            match self.inner.index.known_as(&id) {
                Some(known) if known.record.bytes == info.bytes => {}
                Some(_) => {
                    // Not the object that was indexed.
                    self.outcome.forgotten += self.inner.forget(&[id], false)? as u64;
                    unknown.push((id, info.bytes));
                }
                None => unknown.push((id, info.bytes)),
            }
            self.at.to_read = unknown.len() as u64;
            (self.progress)(self.at);
        }
        Ok((unknown, listed))
    }

    async fn read_ends(&mut self, packs: Vec<(PackId, u64)>) -> Result<(), ChunkStoreError> {
        let (objects, decoding) = (&self.inner.objects, &self.inner.decoding);
        let mut ends = stream::iter(packs)
            .map(|(id, bytes)| async move { (id, bytes, read_end(objects, decoding, &id, bytes).await) })
            .buffer_unordered(self.inner.settings.ends_in_flight);
        while let Some((id, bytes, end)) = self.next(&mut ends).await? {
            match end {
                Ok((end, index)) => {
                    // Held over the change of the index, so that nobody removes the pack in between.
                    let removed = self.inner.removed.lock();
                    if !removed.contains(&id) && self.inner.index.adopt(id, bytes, &end, &index)? {
                        self.outcome.added += 1;
                    }
                }
                // Lists may show what was removed.
                Err(EndError::Objects(error)) if error.is_not_found() => {}
                Err(EndError::Objects(error @ ObjectError::Short { .. })) => {
                    let name = pack_name(&id).map_err(ObjectError::from)?;
                    self.damaged(name, bytes, PackDamageCause::Short(error));
                }
                Err(EndError::Objects(error)) => return Err(error.into()),
                Err(EndError::Pack(error)) => {
                    let name = pack_name(&id).map_err(ObjectError::from)?;
                    self.damaged(name, bytes, PackDamageCause::Pack(error));
                }
            }
            self.at.read += 1;
            (self.progress)(self.at);
        }
        Ok(())
    }

    /// Forgets those of these packs that really are not there.
    async fn look_again(&mut self, packs: Vec<PackId>) -> Result<(), ChunkStoreError> {
        let objects = &self.inner.objects;
        let mut heads = stream::iter(packs)
            .map(|id| async move {
                let name = pack_name(&id).map_err(ObjectError::from)?;
                match objects.head(&name).await {
                    Ok(info) => Ok((id, Some(info))),
                    Err(error) if error.is_not_found() => Ok((id, None)),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(self.inner.settings.ends_in_flight);
        let mut gone = Vec::new();
        while let Some(found) = self.next(&mut heads).await? {
            let (id, info) = found?;
            let Some(known) = self.inner.index.known_as(&id) else {
                continue;
            };
            match info {
                Some(info) if info.bytes == known.record.bytes => {}
                Some(info) => {
                    gone.push(id);
                    let cause = PackError::NotAPack {
                        what: "the pack had another length when it was indexed",
                    };
                    self.damaged(info.name, info.bytes, cause.into());
                }
                None => gone.push(id),
            }
        }
        drop(heads);
        self.outcome.forgotten += self.inner.forget(&gone, false)? as u64;
        Ok(())
    }

    fn damaged(&mut self, name: ObjectName, bytes: u64, cause: PackDamageCause) {
        self.outcome.damaged += 1;
        if self.outcome.damages.len() < DAMAGES_MAX {
            self.outcome.damages.push(PackDamage { name, bytes, cause });
        }
    }
}
