//! Marking what is in use: one bit a chunk, and what that says of each pack.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_types::ChunkId;
use parking_lot::RwLock;

use super::error::ChunkStoreError;
use super::index::Place;
use super::{ChunkStore, Inner};
use crate::pack::PackId;

/// What marking a chunk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// It was not marked yet.
    New,
    /// It was marked already.
    Again,
    /// No known pack holds it.
    Unknown,
}

/// What of a pack is in use. Decoded bytes are those of the chunks; stored bytes their share of the frames, as if every chunk
/// of a frame compressed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackUse {
    /// The pack.
    pub pack: PackId,
    /// Bytes of its object.
    pub bytes: u64,
    /// Whether it is condemned now.
    pub condemned: bool,
    /// Chunks that are marked.
    pub live_chunks: u32,
    /// Their decoded bytes.
    pub live_bytes: u64,
    /// Their share of the stored bytes.
    pub live_stored: u64,
    /// Chunks that are not.
    pub dead_chunks: u32,
    /// Their decoded bytes.
    pub dead_bytes: u64,
    /// Their share of the stored bytes.
    pub dead_stored: u64,
}

/// The bits of a pack.
struct Bits {
    condemned: bool,
    words: Box<[AtomicU64]>,
}

impl Bits {
    fn new(chunks: u32, condemned: bool) -> Self {
        Bits {
            condemned,
            words: (0..chunks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Sets a bit; says whether it was set.
    fn set(&self, number: u32) -> bool {
        let bit = 1 << (number % 64);
        let word = self.words.get(number as usize / 64);
        word.is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit != 0)
    }

    fn is_set(&self, number: u32) -> bool {
        let word = self.words.get(number as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (number % 64)) != 0)
    }
}

/// A mark over the packs that were known when it was begun. Many threads may mark at once. Of the copies of a chunk one is
/// marked: in the pack that has been known longest, before any that was condemned when the mark was begun.
pub struct Mark {
    inner: Arc<Inner>,
    packs: HashMap<u32, Bits>,
    /// Packs that became known later, which nothing is said of.
    later: RwLock<HashMap<u32, Bits>>,
}

impl ChunkStore {
    /// Begins a mark: nothing is marked. Takes a bit for each chunk of the store.
    pub fn mark(&self) -> Mark {
        let bits = |known: super::index::Known| {
            let record = known.record;
            (record.number, Bits::new(record.chunks, known.condemned))
        };
        Mark {
            inner: self.inner.clone(),
            packs: self.inner.index.all().into_iter().map(bits).collect(),
            later: RwLock::default(),
        }
    }
}

impl Mark {
    /// Marks a chunk. Errors: as [`ChunkStore::contains`].
    pub fn insert(&self, id: &ChunkId) -> Result<Marked, ChunkStoreError> {
        let Some(place) = self.copy(id)? else {
            return Ok(Marked::Unknown);
        };
        let was_set = match self.packs.get(&place.pack) {
            Some(bits) => bits.set(place.chunk),
            None => self.set_later(&place),
        };
        Ok(match was_set {
            true => Marked::Again,
            false => Marked::New,
        })
    }

    /// Whether a chunk is marked. Errors: as [`ChunkStore::contains`].
    pub fn is_marked(&self, id: &ChunkId) -> Result<bool, ChunkStoreError> {
        let Some(place) = self.copy(id)? else {
            return Ok(false);
        };
        Ok(match self.packs.get(&place.pack) {
            Some(bits) => bits.is_set(place.chunk),
            None => {
                let later = self.later.read();
                later
                    .get(&place.pack)
                    .is_some_and(|bits| bits.is_set(place.chunk))
            }
        })
    }

    /// The copy of a chunk that is marked for all.
    fn copy(&self, id: &ChunkId) -> Result<Option<Place>, ChunkStoreError> {
        let places = self.inner.places(id)?;
        let order = |place: &Place| {
            let bits = self.packs.get(&place.pack);
            (
                bits.is_none(),
                bits.is_some_and(|bits| bits.condemned),
                place.pack,
                place.chunk,
            )
        };
        Ok(places.into_iter().min_by_key(order))
    }

    fn set_later(&self, place: &Place) -> bool {
        let chunks = self
            .inner
            .index
            .known(place.pack)
            .map_or(0, |known| known.record.chunks);
        let mut later = self.later.write();
        let bits = later
            .entry(place.pack)
            .or_insert_with(|| Bits::new(chunks, false));
        bits.set(place.chunk)
    }

    /// What of each pack is in use, of the packs that were known when the mark was begun and still are, by age. Ends with an
    /// error if the index of a pack cannot be read: as [`ChunkStore::pack_index`].
    pub fn packs(&self) -> impl Iterator<Item = Result<PackUse, ChunkStoreError>> + '_ {
        let mut numbers: Vec<u32> = self.packs.keys().copied().collect();
        numbers.sort_unstable();
        numbers
            .into_iter()
            .filter_map(|number| self.usage(number).transpose())
    }

    fn usage(&self, number: u32) -> Result<Option<PackUse>, ChunkStoreError> {
        let (Some(bits), Some(known)) = (self.packs.get(&number), self.inner.index.known(number)) else {
            return Ok(None);
        };
        let Some(index) = self.inner.index_of(number)? else {
            return Ok(None);
        };
        let mut usage = PackUse {
            pack: known.record.id,
            bytes: known.record.bytes,
            condemned: known.condemned,
            live_chunks: 0,
            live_bytes: 0,
            live_stored: 0,
            dead_chunks: 0,
            dead_bytes: 0,
            dead_stored: 0,
        };
        for frame in index.frames() {
            let mut live = 0;
            for (chunk, at) in index.chunks_of(frame).iter().zip(frame.first_chunk..) {
                if bits.is_set(at) {
                    usage.live_chunks += 1;
                    live += u64::from(chunk.length);
                } else {
                    usage.dead_chunks += 1;
                }
            }
            // Both fit in 32 bits, and a frame has a byte at least.
            let share = u64::from(frame.stored) * live / u64::from(frame.length);
            usage.live_bytes += live;
            usage.dead_bytes += u64::from(frame.length) - live;
            usage.live_stored += share;
            usage.dead_stored += u64::from(frame.stored) - share;
        }
        Ok(Some(usage))
    }
}
