//! From stored bytes to what they mean: ends of packs to indexes, frames to bytes, bytes to identities. Everything that the
//! chunk store decodes is decoded here.

use std::io;

use bytes::Bytes;
use cairn_types::ChunkId;
use parking_lot::Mutex;

use crate::pack::{ChunkEntry, FrameEntry, FrameReader, PackError, PackIndex, TRAILER_BYTES, Trailer};
use crate::sealing::Sealing;

/// Bytes of a pack's index and trailer, from its trailer.
pub(super) fn end_bytes(trailer: &Trailer, pack_bytes: u64) -> u64 {
    pack_bytes - trailer.index().start
}

/// The trailer, from the last bytes of a pack of `pack_bytes`.
pub(super) fn decode_trailer(last: &[u8], pack_bytes: u64) -> Result<Trailer, PackError> {
    let trailer = last.last_chunk::<TRAILER_BYTES>().ok_or(PackError::NotAPack {
        what: "there are fewer bytes than any pack has",
    })?;
    Trailer::decode(trailer, pack_bytes)
}

/// Decodes and verifies; keeps decoders, as many as there were threads that needed one at a time.
pub(super) struct Decoding {
    sealing: Sealing,
    idle: Mutex<Vec<FrameReader>>,
}

impl Decoding {
    /// Decodes what was sealed so.
    pub fn new(sealing: Sealing) -> Self {
        Decoding {
            sealing,
            idle: Mutex::default(),
        }
    }

    /// How chunks are named and packs sealed.
    pub fn sealing(&self) -> &Sealing {
        &self.sealing
    }

    /// The index, from the end of a pack: index and trailer.
    pub fn index(&self, end: &[u8], pack_bytes: u64) -> Result<PackIndex, PackError> {
        let trailer = decode_trailer(end, pack_bytes)?;
        PackIndex::decode_with(&trailer, &end[..end.len() - TRAILER_BYTES], &self.sealing)
    }

    /// Decodes a frame. Its stored bytes are verified; its chunks are not. What is stored raw is a part of `stored`. The outer error is
    /// that there is no memory.
    pub fn frame(&self, frame: &FrameEntry, stored: &Bytes) -> io::Result<Result<Bytes, PackError>> {
        let idle = self.idle.lock().pop();
        let mut reader = match idle {
            Some(reader) => reader,
            None => FrameReader::with(self.sealing.clone())?,
        };
        let decoded = reader.decode(frame, stored);
        self.idle.lock().push(reader);
        Ok(decoded)
    }

    /// Whether bytes are the chunk.
    pub fn is_chunk(&self, data: &[u8], id: &ChunkId) -> bool {
        self.sealing.chunk_id(data) == *id
    }

    /// The bytes of a chunk in its decoded frame, verified. Errors: `Chunk`.
    pub fn chunk(
        &self,
        decoded: &Bytes,
        frame: &FrameEntry,
        chunk: &ChunkEntry,
        id: &ChunkId,
    ) -> Result<Bytes, PackError> {
        let start = chunk.offset as usize;
        let end = start.saturating_add(chunk.length as usize);
        match decoded.get(start..end) {
            Some(data) if self.is_chunk(data, id) => Ok(decoded.slice(start..end)),
            _ => Err(PackError::Chunk {
                offset: frame.offset,
                id: *id,
            }),
        }
    }
}
