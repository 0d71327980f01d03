//! Reading: a stored frame into chunks, everything verified.

use super::format::header;
use super::{ChunkEntry, FrameEntry, PackError, PackIndex, Trailer};
use crate::checksum::crc32c;
use crate::chunking::chunk_id;
use crate::codec::Decoder;
use crate::pack::TRAILER_BYTES;

impl PackIndex {
    /// The index of a pack that is in memory as a whole. Errors: `NotAPack`, `Version`, `Index`.
    pub fn of(pack: &[u8]) -> Result<Self, PackError> {
        let trailer = pack.last_chunk::<TRAILER_BYTES>().ok_or(PackError::NotAPack {
            what: "there are fewer bytes than any pack has",
        })?;
        let trailer = Trailer::decode(trailer, pack.len() as u64)?;
        if !pack.starts_with(&header()) {
            return Err(PackError::NotAPack {
                what: "its beginning is damaged",
            });
        }
        let at = trailer.index();
        PackIndex::decode(&trailer, &pack[at.start as usize..at.end as usize])
    }

    /// The chunks of a frame of this index.
    pub fn chunks_of(&self, frame: &FrameEntry) -> &[ChunkEntry] {
        let first = frame.first_chunk as usize;
        &self.chunks[first..first + frame.chunks as usize]
    }
}

/// Decodes frames. Keeps the memory that it works in: one per thread.
pub struct FrameReader {
    decoder: Decoder,
    bytes: Vec<u8>,
}

impl FrameReader {
    /// A reader. Errors: no memory.
    pub fn new() -> std::io::Result<Self> {
        Ok(FrameReader {
            decoder: Decoder::new()?,
            bytes: Vec::new(),
        })
    }

    /// Decodes a frame from the bytes that are stored of it, and verifies those. Errors: `Short`, `Checksum`, `Decode`.
    pub fn open(&mut self, frame: &FrameEntry, stored: &[u8]) -> Result<DecodedFrame<'_>, PackError> {
        let offset = frame.offset;
        if stored.len() != frame.stored as usize {
            return Err(PackError::Short {
                offset,
                expected: frame.stored,
                found: stored.len(),
            });
        }
        let found = crc32c(stored);
        if found != frame.checksum {
            return Err(PackError::Checksum {
                offset,
                expected: frame.checksum,
                found,
            });
        }
        self.decoder
            .decode(frame.encoding, stored, frame.length as usize, &mut self.bytes)
            .map_err(|cause| PackError::Decode { offset, cause })?;
        Ok(DecodedFrame {
            offset,
            bytes: &self.bytes,
        })
    }

    /// Decodes a frame like [`FrameReader::open`], and gives its bytes away. Whoever takes a chunk from them must verify it by
    /// its identity. Errors: as `open`.
    pub fn decode(&mut self, frame: &FrameEntry, stored: &[u8]) -> Result<Vec<u8>, PackError> {
        self.open(frame, stored)?;
        Ok(std::mem::take(&mut self.bytes))
    }
}

/// A frame's bytes. Chunks are verified as they are taken.
pub struct DecodedFrame<'a> {
    offset: u32,
    bytes: &'a [u8],
}

impl<'a> DecodedFrame<'a> {
    /// The bytes of a chunk of this frame. Errors: `Chunk` if they are not what its identity says.
    pub fn chunk(&self, chunk: &ChunkEntry) -> Result<&'a [u8], PackError> {
        let damaged = || PackError::Chunk {
            offset: self.offset,
            id: chunk.id,
        };
        let start = chunk.offset as usize;
        let end = start.saturating_add(chunk.length as usize);
        let data = self.bytes.get(start..end).ok_or_else(damaged)?;
        if chunk_id(data) == chunk.id {
            Ok(data)
        } else {
            Err(damaged())
        }
    }
}
