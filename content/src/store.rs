//! The chunk store: the packs of one object store, and what they hold.
//!
//! A [`ChunkStore`] stores packs for the [pipeline](crate::pipeline), knows which chunks they hold, reads chunks back, singly or
//! many in order, and tells what may be removed. What it knows is in an index on local disk, a cache that can be made again
//! from the ends of the packs: [`ChunkStore::refresh`] does that, and keeps it true.
//!
//! Invariants:
//! - No chunk is called stored unless a pack that was durably stored holds it, as far as the last refresh and this process know.
//! - No byte is returned that is not verified by the identity of its chunk.
//! - What is damaged in the index is dropped and made again, never believed. What is damaged in the store is named.
//! - Memory does not grow with the number of chunks but by 8 bytes for about a hundred of them, and with the number of packs.
//!
//! What it does not do: it does not know what chunks mean, who refers to them, or who owns the store. Condemned packs are
//! remembered as long as the process runs; writing down what is condemned since when is for whoever reclaims.
//!
//! All methods block; they are called from threads that run no async code. The store's requests run on the runtime that it is
//! given.
//!
//! The files of the index are drawn in `docs/formats/chunk-index.md`.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use cairn_types::ChunkId;
use parking_lot::{Condvar, Mutex};
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::runtime::Handle;

mod decode;
mod error;
mod index;
mod mark;
mod name;
mod ordered;
mod packs;
mod read;
mod refresh;
mod remove;
mod run;

pub use error::{ChunkReadError, ChunkStoreError};
pub use mark::{Mark, Marked, PackUse};
pub use name::{PACKS_PREFIX, pack_id, pack_name};
pub use ordered::{OrderedChunks, ReadSettings};
pub use refresh::{DAMAGES_MAX, PACKS_MAX, PackDamage, PackDamageCause, RefreshProgress, Refreshed};
pub use remove::Removed;

use crate::objects::{ObjectError, Objects};
use crate::pack::{ChunkEntry, FrameEntry, PackError, PackId, PackIndex, SealedPack};
use crate::pipeline::{PackStore, StoreError};
use crate::sealing::Sealing;
use decode::Decoding;
use index::{Index, Place};
use refresh::{EndError, read_end};

/// How often a look-up is tried when it finds damaged runs.
const REPAIRS_MAX: usize = 8;
/// Bounds of the settings; see [`ChunkStoreSettings`].
const TABLE_CHUNKS: std::ops::RangeInclusive<usize> = 1..=(1 << 22);
const CACHE_BYTES: std::ops::RangeInclusive<usize> = 0..=(1 << 36);
const ENDS_IN_FLIGHT: std::ops::RangeInclusive<usize> = 1..=1024;

/// What a chunk store is made of.
#[derive(Debug)]
pub struct ChunkStoreParts {
    /// The object store.
    pub objects: Objects,
    /// Where its requests run. It must have timers and I/O.
    pub runtime: Handle,
    /// The directory of this store's index. Made if it is missing, its parent must exist; locked against a second opener. It
    /// is a cache: nothing is lost with it but time.
    pub cache: PathBuf,
    /// How the store's chunks are named and its packs sealed.
    pub sealing: Sealing,
}

/// What can be set about a chunk store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkStoreSettings {
    /// Chunks of new packs that are kept in memory before they are written as a run, about, at 80 bytes each. 1 to 4,194,304,
    /// default 65,536.
    pub table_chunks_max: usize,
    /// Bytes of decoded frames that [`ChunkStore::read`] keeps. 0 to 64 GiB, default 64 MiB.
    pub frame_cache_bytes: usize,
    /// Bytes of decoded pack indexes that are kept. 0 to 64 GiB, default 32 MiB. An index has 44 bytes a chunk.
    pub index_cache_bytes: usize,
    /// Ends of packs that are read at once. 1 to 1024, default 32.
    pub ends_in_flight: usize,
}

impl Default for ChunkStoreSettings {
    fn default() -> Self {
        ChunkStoreSettings {
            table_chunks_max: 65_536,
            frame_cache_bytes: 64 << 20,
            index_cache_bytes: 32 << 20,
            ends_in_flight: 32,
        }
    }
}

impl ChunkStoreSettings {
    /// Checks the bounds. Errors: `Setting`.
    pub fn check(&self) -> Result<(), ChunkStoreError> {
        let within =
            |what, found: usize, bounds: &std::ops::RangeInclusive<usize>| match bounds.contains(&found) {
                true => Ok(()),
                false => Err(ChunkStoreError::Setting {
                    what,
                    found: found as u64,
                    minimum: *bounds.start() as u64,
                    maximum: *bounds.end() as u64,
                }),
            };
        within("table_chunks_max", self.table_chunks_max, &TABLE_CHUNKS)?;
        within("frame_cache_bytes", self.frame_cache_bytes, &CACHE_BYTES)?;
        within("index_cache_bytes", self.index_cache_bytes, &CACHE_BYTES)?;
        within("ends_in_flight", self.ends_in_flight, &ENDS_IN_FLIGHT)
    }
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// The frame of the pack.
    pub frame: FrameEntry,
    /// The chunk in the frame.
    pub chunk: ChunkEntry,
}

/// A pack that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackInfo {
    /// Its name.
    pub id: PackId,
    /// Bytes of its object.
    pub bytes: u64,
    /// Chunks in it.
    pub chunks: u32,
    /// Whether it is condemned.
    pub condemned: bool,
}

/// What an index is made of at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexSize {
    /// Packs that are known.
    pub packs: usize,
    /// Files that a look-up may have to read a page of.
    pub runs: usize,
    /// Bytes of memory, about, without the caches.
    pub memory: usize,
}

#[derive(Clone)]
struct FrameWeight;

impl Weighter<(u32, u32), Bytes> for FrameWeight {
    fn weight(&self, _: &(u32, u32), frame: &Bytes) -> u64 {
        frame.len() as u64
    }
}

#[derive(Clone)]
struct IndexWeight;

impl Weighter<u32, Arc<PackIndex>> for IndexWeight {
    fn weight(&self, _: &u32, index: &Arc<PackIndex>) -> u64 {
        (size_of_val(index.frames()) + size_of_val(index.chunks())) as u64
    }
}

/// The packs of one object store. Clones are cheap and mean the same.
#[derive(Clone)]
pub struct ChunkStore {
    inner: Arc<Inner>,
}

struct Inner {
    objects: Objects,
    runtime: Handle,
    settings: ChunkStoreSettings,
    index: Index,
    /// Frames that were fetched, by pack and number: their stored bytes were verified, their chunks are whenever one is taken.
    frames: Cache<(u32, u32), Bytes, FrameWeight>,
    indexes: Cache<u32, Arc<PackIndex>, IndexWeight>,
    decoding: Decoding,
    refreshing: Mutex<()>,
    refreshed: AtomicBool,
    /// Packs removed since the last refresh began.
    removed: Mutex<HashSet<PackId>>,
    /// Packs that are being stored or removed: these exclude each other.
    busy: Mutex<HashSet<PackId>>,
    idle: Condvar,
}

impl fmt::Debug for ChunkStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkStore")
            .field("objects", &self.inner.objects)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}

fn cache<K: Eq + std::hash::Hash, V: Clone, W: Weighter<K, V> + Clone>(
    bytes: usize,
    items: usize,
    weighter: W,
) -> Result<Cache<K, V, W>, ChunkStoreError> {
    // One shard: with several, an item as large as a frame may exceed its share and would never be kept.
    let options = OptionsBuilder::new()
        .shards(1)
        .estimated_items_capacity(items)
        .weight_capacity(bytes as u64)
        .build()
        .map_err(|_| ChunkStoreError::Setting {
            what: "a cache",
            found: bytes as u64,
            minimum: *CACHE_BYTES.start() as u64,
            maximum: *CACHE_BYTES.end() as u64,
        })?;
    let lifecycle = quick_cache::sync::DefaultLifecycle::default();
    Ok(Cache::with_options(
        options,
        weighter,
        DefaultHashBuilder::default(),
        lifecycle,
    ))
}

impl ChunkStore {
    /// Opens the index of a store. What is damaged in it is dropped and made again from the rest. The store is not asked
    /// anything yet.
    ///
    /// # Errors
    /// `Setting`; `Locked` if the index is in use; `Cache` if its directory cannot be made, read or written.
    pub fn open(parts: ChunkStoreParts, settings: ChunkStoreSettings) -> Result<Self, ChunkStoreError> {
        settings.check()?;
        let decoding = Decoding::new(parts.sealing);
        let store = *blake3::hash(parts.objects.url().as_str().as_bytes()).as_bytes();
        let (index, found) = Index::open(&parts.cache, store, settings.table_chunks_max, &decoding)?;
        if found.damaged {
            tracing::warn!(
                cache = %parts.cache.display(), packs = found.packs, indexed = found.indexed,
                "the chunk index was damaged or of another store or version: what was dropped is read again from the store"
            );
        }
        Ok(ChunkStore {
            inner: Arc::new(Inner {
                frames: cache(
                    settings.frame_cache_bytes,
                    settings.frame_cache_bytes >> 19,
                    FrameWeight,
                )?,
                indexes: cache(
                    settings.index_cache_bytes,
                    settings.index_cache_bytes >> 14,
                    IndexWeight,
                )?,
                objects: parts.objects,
                runtime: parts.runtime,
                settings,
                index,
                decoding,
                refreshing: Mutex::new(()),
                refreshed: AtomicBool::new(false),
                removed: Mutex::default(),
                busy: Mutex::default(),
                idle: Condvar::new(),
            }),
        })
    }

    /// How the store's chunks are named and its packs sealed.
    pub fn sealing(&self) -> &Sealing {
        self.inner.decoding.sealing()
    }

    /// The object store.
    pub fn objects(&self) -> &Objects {
        &self.inner.objects
    }

    /// Whether a pack that is not condemned holds a chunk.
    ///
    /// # Errors
    /// The index was damaged and cannot be made again: `Cache`, `Objects`, `Pack`.
    pub fn contains(&self, id: &ChunkId) -> Result<bool, ChunkStoreError> {
        self.inner.repairing(|index| index.contains(id))
    }

    /// Where a chunk is, if a known pack holds it: in one that is not condemned if there is one, and else in one that is.
    ///
    /// # Errors
    /// As [`ChunkStore::contains`], also for the index of the pack that holds it.
    pub fn locate(&self, id: &ChunkId) -> Result<Option<Location>, ChunkStoreError> {
        let mut failed = None;
        for place in self.inner.places(id)? {
            match self.inner.location(&place, id) {
                Ok(Some(location)) => return Ok(Some(location)),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// The packs that are known.
    pub fn packs(&self) -> Vec<PackInfo> {
        let info = |known: index::Known| PackInfo {
            id: known.record.id,
            bytes: known.record.bytes,
            chunks: known.record.chunks,
            condemned: known.condemned,
        };
        self.inner.index.all().into_iter().map(info).collect()
    }

    /// What a known pack holds, from the cache or from the store.
    ///
    /// # Errors
    /// `NoSuchPack`; `Objects`, `Pack` if it has to be read from the store and cannot; `Cache`.
    pub fn pack_index(&self, id: &PackId) -> Result<Arc<PackIndex>, ChunkStoreError> {
        let known = self.inner.index.known_as(id);
        let index = known
            .map(|known| self.inner.index_of(known.record.number))
            .transpose()?;
        index.flatten().ok_or_else(|| ChunkStoreError::NoSuchPack {
            store: self.inner.url(),
            pack: *id,
        })
    }

    /// How large the index is.
    pub fn index_size(&self) -> IndexSize {
        let (packs, runs, memory) = self.inner.index.size();
        IndexSize { packs, runs, memory }
    }
}

impl Inner {
    fn url(&self) -> String {
        self.objects.url().to_string()
    }

    /// Looks something up in the index; if a run is found to be damaged, makes up for it first.
    fn repairing<T>(
        &self,
        look_up: impl Fn(&Index) -> Result<T, index::DamagedRun>,
    ) -> Result<T, ChunkStoreError> {
        for _ in 0..REPAIRS_MAX {
            match look_up(&self.index) {
                Ok(found) => return Ok(found),
                Err(damage) => self.index.repair(&damage, &|number| self.index_of(number))?,
            }
        }
        Err(ChunkStoreError::Cache {
            operation: "repair",
            path: self.index.directory().to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidData, "its runs are damaged again and again"),
        })
    }

    fn places(&self, id: &ChunkId) -> Result<Vec<Place>, ChunkStoreError> {
        self.repairing(|index| index.places(id))
    }

    fn location(&self, place: &Place, id: &ChunkId) -> Result<Option<Location>, ChunkStoreError> {
        let Some(known) = self.index.known(place.pack) else {
            return Ok(None);
        };
        let Some(index) = self.index_of(place.pack)? else {
            return Ok(None);
        };
        let chunk = index
            .chunks()
            .get(place.chunk as usize)
            .filter(|chunk| chunk.id == *id);
        let frame = chunk.and_then(|chunk| index.frames().get(chunk.frame as usize));
        Ok(chunk.zip(frame).map(|(chunk, frame)| Location {
            pack: known.record.id,
            frame: *frame,
            chunk: *chunk,
        }))
    }

    /// What a pack holds: from memory, else from local disk, else from the store. Nothing if it is not there any more.
    fn index_of(&self, number: u32) -> Result<Option<Arc<PackIndex>>, ChunkStoreError> {
        if let Some(index) = self.indexes.get(&number) {
            return Ok(Some(index));
        }
        let Some(known) = self.index.known(number) else {
            return Ok(None);
        };
        let record = known.record;
        let cached = self
            .index
            .end(number)?
            .and_then(|end| self.decoding.index(&end, record.bytes).ok());
        let index = match cached {
            Some(index) => index,
            None => {
                match self
                    .runtime
                    .block_on(read_end(&self.objects, &self.decoding, &record.id, record.bytes))
                {
                    Ok((end, index)) => {
                        self.index.restore_end(number, &end)?;
                        index
                    }
                    Err(EndError::Objects(error)) if error.is_not_found() => return Ok(None),
                    Err(EndError::Objects(error)) => return Err(error.into()),
                    Err(EndError::Pack(source)) => {
                        return Err(ChunkStoreError::Pack {
                            store: self.url(),
                            pack: record.id,
                            source,
                        });
                    }
                }
            }
        };
        let index = Arc::new(index);
        self.indexes.insert(number, index.clone());
        Ok(Some(index))
    }
}

impl PackStore for ChunkStore {
    fn contains(&self, id: &ChunkId) -> Result<bool, StoreError> {
        Ok(ChunkStore::contains(self, id)?)
    }

    fn store(&self, pack: SealedPack) -> Result<(), StoreError> {
        Ok(self.store_pack(pack)?)
    }
}

impl ChunkStore {
    /// Stores a pack. On return it is durable in the object store, and its chunks are contained; if it was condemned, it is not
    /// any more.
    ///
    /// # Errors
    /// `Pack` if it is sealed otherwise than the store; `Objects` if it cannot be put; `Cache` if it is stored and cannot be remembered: the next refresh finds it then.
    pub fn store_pack(&self, pack: SealedPack) -> Result<(), ChunkStoreError> {
        let inner = &*self.inner;
        let name = pack_name(&pack.id).map_err(ObjectError::from)?;
        let unfit = match (pack.is_encrypted(), self.sealing().is_plain()) {
            (true, true) => Some(PackError::Encrypted),
            (false, false) => Some(PackError::NotEncrypted),
            _ => None,
        };
        if let Some(source) = unfit {
            return Err(ChunkStoreError::Pack {
                store: inner.url(),
                pack: pack.id,
                source,
            });
        }
        let _busy = inner.occupy(std::slice::from_ref(&pack.id));
        let bytes = pack.bytes.len() as u64;
        inner
            .runtime
            .block_on(inner.objects.put(&name, pack.bytes.clone()))?;
        let end = end_of(&pack);
        inner.index.condemn(&[pack.id], false);
        inner.removed.lock().remove(&pack.id);
        inner.index.adopt(pack.id, bytes, end, &pack.index)?;
        Ok(())
    }
}

/// The index and the trailer of a pack.
fn end_of(pack: &SealedPack) -> &[u8] {
    let frames = pack.index.frames().last();
    let from = frames.map_or(0, |frame| frame.offset as usize + frame.stored as usize);
    &pack.bytes[from..]
}

#[cfg(test)]
mod tests;
