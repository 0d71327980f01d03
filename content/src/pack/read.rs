//! Reading: a stored frame into chunks, everything verified.

use bytes::Bytes;

use super::format::header;
use super::{ChunkEntry, FrameEntry, PackError, PackId, PackIndex, TRAILER_BYTES, Trailer, cipher};
use crate::checksum::crc32c;
use crate::codec::{Decoder, Encoding};
use crate::sealing::Sealing;

impl PackIndex {
    /// The index of a plain pack that is in memory as a whole. Errors: as [`PackIndex::of_with`].
    pub fn of(pack: &[u8]) -> Result<Self, PackError> {
        PackIndex::of_with(pack, &Sealing::plain())
    }

    /// The index of a pack that is in memory as a whole. Errors: `NotAPack`, `Version`, `Index`; `Encrypted` if `sealing` is plain
    /// and the pack is not; `NotEncrypted` the other way round; `Key`.
    pub fn of_with(pack: &[u8], sealing: &Sealing) -> Result<Self, PackError> {
        let (trailer, index) = ends(pack)?;
        PackIndex::decode_with(&trailer, index, sealing)
    }

    /// The chunks of a frame of this index.
    pub fn chunks_of(&self, frame: &FrameEntry) -> &[ChunkEntry] {
        let first = frame.first_chunk as usize;
        &self.chunks[first..first + frame.chunks as usize]
    }
}

/// The trailer and the stored index of a pack that is in memory as a whole; its beginning is checked.
fn ends(pack: &[u8]) -> Result<(Trailer, &[u8]), PackError> {
    let trailer = pack.last_chunk::<TRAILER_BYTES>().ok_or(PackError::NotAPack {
        what: "there are fewer bytes than any pack has",
    })?;
    let trailer = Trailer::decode(trailer, pack.len() as u64)?;
    if !pack.starts_with(&header(trailer.version())) {
        return Err(PackError::NotAPack {
            what: "its beginning is damaged",
        });
    }
    let at = trailer.index();
    Ok((trailer, &pack[at.start as usize..at.end as usize]))
}

/// Verifies without any key that a pack is exactly what was stored under `name`: its ends, the checksum over them, and the hash of
/// all its bytes. What is in it is not looked at. Errors: `NotAPack`, `Version`, `Index`; `Name`.
pub fn verify_stored(name: PackId, pack: &[u8]) -> Result<Trailer, PackError> {
    let (trailer, index) = ends(pack)?;
    trailer.verify(index)?;
    if *blake3::hash(pack).as_bytes() == name.0 {
        Ok(trailer)
    } else {
        Err(PackError::Name)
    }
}

/// Decodes frames. Keeps the memory that it works in: one per thread.
pub struct FrameReader {
    decoder: Decoder,
    sealing: Sealing,
    /// A frame as the decoder takes it, if it is stored encrypted.
    opened: Vec<u8>,
    bytes: Vec<u8>,
}

impl FrameReader {
    /// A reader for plain packs. Errors: no memory.
    pub fn new() -> std::io::Result<Self> {
        FrameReader::with(Sealing::plain())
    }

    /// A reader for the packs of a store. Errors: no memory.
    pub fn with(sealing: Sealing) -> std::io::Result<Self> {
        Ok(FrameReader {
            decoder: Decoder::new()?,
            sealing,
            opened: Vec::new(),
            bytes: Vec::new(),
        })
    }

    /// Decodes a frame from the bytes that are stored of it, and verifies those. Errors: `Short`, `Checksum`, `Key`,
    /// `Decode`.
    pub fn open(&mut self, frame: &FrameEntry, stored: &[u8]) -> Result<DecodedFrame<'_>, PackError> {
        verify_frame(frame, stored)?;
        self.expand(frame, stored)?;
        Ok(DecodedFrame {
            offset: frame.offset,
            bytes: &self.bytes,
            sealing: &self.sealing,
        })
    }

    /// Decodes a frame like [`FrameReader::open`], and gives its bytes away: those that are stored raw and plain as they are, without a
    /// copy, so they keep all of what `stored` is a part of. Whoever takes a chunk from them must verify it by its identity. Errors: as
    /// `open`.
    pub fn decode(&mut self, frame: &FrameEntry, stored: &Bytes) -> Result<Bytes, PackError> {
        verify_frame(frame, stored)?;
        if frame.encoding == Encoding::Raw
            && self.sealing.keys().is_none()
            && stored.len() == frame.length as usize
        {
            return Ok(stored.clone());
        }
        self.expand(frame, stored)?;
        Ok(Bytes::from(std::mem::take(&mut self.bytes)))
    }

    /// Decrypts and decodes into the reader's own memory.
    fn expand(&mut self, frame: &FrameEntry, stored: &[u8]) -> Result<(), PackError> {
        let offset = frame.offset;
        let encoded = match self.sealing.keys() {
            None => stored,
            Some(keys) => {
                cipher::open_frame(keys, frame, stored, &mut self.opened)?;
                &self.opened[..]
            }
        };
        self.decoder
            .decode(frame.encoding, encoded, frame.length as usize, &mut self.bytes)
            .map_err(|cause| PackError::Decode { offset, cause })
    }
}

/// Whether these are the bytes that are stored of a frame. Errors: `Short`, `Checksum`.
fn verify_frame(frame: &FrameEntry, stored: &[u8]) -> Result<(), PackError> {
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
    Ok(())
}

/// A frame's bytes. Chunks are verified as they are taken.
pub struct DecodedFrame<'a> {
    offset: u32,
    bytes: &'a [u8],
    sealing: &'a Sealing,
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
        if self.sealing.chunk_id(data) == chunk.id {
            Ok(data)
        } else {
            Err(damaged())
        }
    }
}
