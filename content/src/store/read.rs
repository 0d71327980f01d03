//! Reading one chunk.

use std::sync::Arc;

use bytes::Bytes;
use cairn_types::ChunkId;

use super::error::{ChunkReadError, ChunkStoreError};
use super::index::Place;
use super::name::pack_name;
use super::{ChunkStore, Inner, Location};
use crate::objects::ObjectError;

impl ChunkStore {
    /// The bytes of a chunk, verified by its identity. A chunk in several packs is tried in each. The frame that it is in is
    /// kept for a while ([`super::ChunkStoreSettings::frame_cache_bytes`]), for the next chunk that is read from it.
    ///
    /// # Errors
    /// `Missing`; else what was wrong with the first of its places: `Length`, `Damaged`, `Fetch`, `Index`; `Start` without
    /// memory for a decoder.
    pub fn read(&self, id: &ChunkId, expected_length: u32) -> Result<Bytes, ChunkReadError> {
        self.inner.read_except(id, expected_length, None)
    }

    /// Forgets the frames that are kept: what is read from here on is read from the store. For whoever asks what the store holds
    /// now, and not what it held.
    pub fn forget_frames(&self) {
        self.inner.frames.clear();
    }
}

impl Inner {
    pub(super) fn missing(&self, id: &ChunkId) -> ChunkReadError {
        ChunkReadError::Missing {
            store: self.url(),
            id: *id,
        }
    }

    pub(super) fn index_failed(&self, id: &ChunkId, error: ChunkStoreError) -> ChunkReadError {
        ChunkReadError::Index {
            store: self.url(),
            id: *id,
            source: Arc::new(error),
        }
    }

    /// Reads a chunk, not from the pack `except`.
    pub(super) fn read_except(
        &self,
        id: &ChunkId,
        expected: u32,
        except: Option<u32>,
    ) -> Result<Bytes, ChunkReadError> {
        let places = self.places(id).map_err(|error| self.index_failed(id, error))?;
        let mut failed = None;
        for place in places.iter().filter(|place| Some(place.pack) != except) {
            match self.read_at(place, id, expected) {
                Ok(Some(bytes)) => return Ok(bytes),
                Ok(None) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| self.missing(id)))
    }

    /// Reads a chunk at one of its places; nothing if that is not there any more.
    fn read_at(&self, place: &Place, id: &ChunkId, expected: u32) -> Result<Option<Bytes>, ChunkReadError> {
        let location = self
            .location(place, id)
            .map_err(|error| self.index_failed(id, error))?;
        let Some(location) = location else { return Ok(None) };
        self.check_length(&location, id, expected)?;
        let key = (place.pack, location.chunk.frame);
        let fetched = self
            .frames
            .get_or_insert_with(&key, || self.fetch_frame(&location, id));
        let damaged = |error| self.damaged(&location, id, Arc::new(error));
        let bytes = self
            .decoding
            .chunk(&fetched?, &location.frame, &location.chunk, id)
            .map_err(damaged);
        if bytes.is_err() {
            self.frames.remove(&key);
        }
        bytes.map(Some)
    }

    pub(super) fn check_length(
        &self,
        location: &Location,
        id: &ChunkId,
        expected: u32,
    ) -> Result<(), ChunkReadError> {
        match location.chunk.length == expected {
            true => Ok(()),
            false => Err(ChunkReadError::Length {
                store: self.url(),
                pack: location.pack,
                id: *id,
                expected,
                found: location.chunk.length,
            }),
        }
    }

    pub(super) fn damaged(
        &self,
        location: &Location,
        id: &ChunkId,
        source: Arc<crate::pack::PackError>,
    ) -> ChunkReadError {
        ChunkReadError::Damaged {
            store: self.url(),
            pack: location.pack,
            offset: location.frame.offset,
            id: *id,
            source,
        }
    }

    pub(super) fn not_fetched(
        &self,
        location: &Location,
        id: &ChunkId,
        source: Arc<ObjectError>,
    ) -> ChunkReadError {
        ChunkReadError::Fetch {
            store: self.url(),
            pack: location.pack,
            offset: location.frame.offset,
            id: *id,
            source,
        }
    }

    fn fetch_frame(&self, location: &Location, id: &ChunkId) -> Result<Bytes, ChunkReadError> {
        let frame = &location.frame;
        let failed = |error: ObjectError| self.not_fetched(location, id, Arc::new(error));
        let name = pack_name(&location.pack).map_err(|error| failed(error.into()))?;
        let range = u64::from(frame.offset)..u64::from(frame.offset) + u64::from(frame.stored);
        let stored = self
            .runtime
            .block_on(self.objects.get_range(&name, range))
            .map_err(failed)?;
        let decoded = self.decoding.frame(frame, &stored);
        decoded
            .map_err(|error| ChunkReadError::Start(Arc::new(error)))?
            .map_err(|error| self.damaged(location, id, Arc::new(error)))
    }
}
