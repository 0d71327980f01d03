//! Writing: chunks into a frame, frames into a pack. Sealing a frame takes the time, and needs nothing but the frame: many
//! threads can do it at once, and one puts the pack together.

use bytes::Bytes;
use cairn_types::ChunkId;

use super::format::{
    FRAME_BYTES_MAX, FRAMES_MAX, HEADER_BYTES, PACK_BYTES_MAX, PACK_CHUNKS_MAX, header, version,
};
use super::{ChunkEntry, FrameEntry, PackError, PackId, PackIndex, SealedPack, cipher};
use crate::checksum::crc32c;
use crate::codec::{Encoder, Encoding};
use crate::sealing::{SALT_BYTES, Sealing, TAG_BYTES};

/// Chunks that will be compressed together.
#[derive(Debug, Default)]
pub struct OpenFrame {
    bytes: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
}

/// A frame as it will be stored.
#[derive(Debug, Clone)]
pub struct SealedFrame {
    stored: Vec<u8>,
    encoding: Encoding,
    checksum: u32,
    length: u32,
    chunks: Vec<(ChunkId, u32)>,
}

impl OpenFrame {
    /// A frame without chunks.
    pub fn new() -> Self {
        OpenFrame::default()
    }

    /// Bytes in it.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Chunks in it.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether a chunk of so many bytes may still be added.
    pub fn fits(&self, length: usize) -> bool {
        length > 0
            && self.bytes.len() + length <= FRAME_BYTES_MAX as usize
            && self.chunks.len() < PACK_CHUNKS_MAX
    }

    /// Adds a chunk. `id` must be [`Sealing::chunk_id`] of the data (if plain: [`crate::chunking::chunk_id`]); readers check it. Errors: `Limit` for a chunk of
    /// no bytes, or one that does not fit; the frame is as before then.
    pub fn push(&mut self, id: ChunkId, data: &[u8]) -> Result<(), PackError> {
        if !self.fits(data.len()) {
            return Err(PackError::Limit {
                what: "frame in bytes, with a chunk of one byte at least",
                found: (self.bytes.len() + data.len()) as u64,
                minimum: 1,
                maximum: FRAME_BYTES_MAX.into(),
            });
        }
        self.bytes.extend_from_slice(data);
        self.chunks.push((id, data.len() as u32));
        Ok(())
    }

    /// Compresses the chunks, and leaves a frame without chunks that keeps its memory. Errors: `Limit` if there are none,
    /// `Compress`.
    pub fn seal(&mut self, encoder: &mut Encoder) -> Result<SealedFrame, PackError> {
        if self.is_empty() {
            return Err(PackError::Limit {
                what: "frame in bytes",
                found: 0,
                minimum: 1,
                maximum: FRAME_BYTES_MAX.into(),
            });
        }
        let length = self.bytes.len() as u32;
        let mut stored = encoder.spare();
        let encoding = encoder
            .encode_or_take(&mut self.bytes, &mut stored)
            .map_err(PackError::Compress)?;
        self.bytes.clear();
        Ok(SealedFrame {
            checksum: crc32c(&stored),
            stored,
            encoding,
            length,
            chunks: std::mem::take(&mut self.chunks),
        })
    }
}

impl SealedFrame {
    /// Gives the memory back for the next frame.
    pub fn recycle(self, encoder: &mut Encoder) {
        encoder.give_back(self.stored);
    }
}

/// A pack that is being put together, in memory.
#[derive(Debug)]
pub struct PackWriter {
    bytes: Vec<u8>,
    index: PackIndex,
    sealing: Sealing,
}

impl Default for PackWriter {
    fn default() -> Self {
        PackWriter::new()
    }
}

impl PackWriter {
    /// A plain pack without frames. In a store that may be encrypted, use [`PackWriter::with`].
    pub fn new() -> Self {
        PackWriter::with(Sealing::plain())
    }

    /// A pack without frames, which will be encrypted if `sealing` is not plain. The identities of its chunks must come from the
    /// same `sealing`.
    pub fn with(sealing: Sealing) -> Self {
        PackWriter::with_room(sealing, HEADER_BYTES)
    }

    /// As [`PackWriter::with`]; up to `bytes` its memory need not grow, which would copy it.
    pub fn with_room(sealing: Sealing, bytes: usize) -> Self {
        let mut start = Vec::with_capacity(bytes.clamp(HEADER_BYTES, PACK_BYTES_MAX as usize));
        start.extend_from_slice(&header(version(&sealing)));
        PackWriter {
            bytes: start,
            index: PackIndex {
                frames: Vec::new(),
                chunks: Vec::new(),
            },
            sealing,
        }
    }

    /// Bytes of frames so far.
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len() - HEADER_BYTES
    }

    /// Whether it has so many frames or chunks that it should be finished whatever its bytes are.
    pub fn is_crowded(&self) -> bool {
        self.index.frames.len() >= FRAMES_MAX / 2 || self.index.chunks.len() >= PACK_CHUNKS_MAX / 2
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.index.frames.is_empty()
    }

    /// Adds a frame. Errors: `Limit` if the pack would exceed what a pack may have; it is as before then.
    pub fn push(&mut self, frame: &SealedFrame) -> Result<(), PackError> {
        let limit = |what, found, maximum| {
            (found > maximum).then_some(PackError::Limit {
                what,
                found,
                minimum: 1,
                maximum,
            })
        };
        let (frames, chunks) = (
            self.index.frames.len() + 1,
            self.index.chunks.len() + frame.chunks.len(),
        );
        let (salt, tag) = match self.sealing.is_plain() {
            true => (0, 0),
            false => (SALT_BYTES, TAG_BYTES),
        };
        let stored = salt + frame.stored.len() + tag;
        // The index has an envelope of its own.
        let bytes =
            (self.bytes.len() + stored + salt + tag) as u64 + self.index.end_bytes(frame.chunks.len());
        let exceeded = limit("pack in frames", frames as u64, FRAMES_MAX as u64)
            .or_else(|| limit("pack in chunks", chunks as u64, PACK_CHUNKS_MAX as u64))
            .or_else(|| limit("pack in bytes", bytes, PACK_BYTES_MAX));
        if let Some(error) = exceeded {
            return Err(error);
        }
        self.index.frames.push(FrameEntry {
            offset: self.bytes.len() as u32,
            stored: stored as u32,
            length: frame.length,
            checksum: frame.checksum,
            encoding: frame.encoding,
            first_chunk: self.index.chunks.len() as u32,
            chunks: frame.chunks.len() as u32,
        });
        let mut offset = 0;
        for &(id, length) in &frame.chunks {
            self.index.chunks.push(ChunkEntry {
                id,
                frame: frames as u32 - 1,
                offset,
                length,
            });
            offset += length;
        }
        // An envelope is filled when the pack is finished, which no other thread waits for.
        self.bytes.resize(self.bytes.len() + salt, 0);
        self.bytes.extend_from_slice(&frame.stored);
        self.bytes.resize(self.bytes.len() + tag, 0);
        Ok(())
    }

    /// The complete pack, encrypted if it has to be. Errors: `Limit` if nothing is in it, `Cipher`.
    pub fn finish(mut self) -> Result<SealedPack, PackError> {
        if self.is_empty() {
            return Err(PackError::Limit {
                what: "pack in frames",
                found: 0,
                minimum: 1,
                maximum: FRAMES_MAX as u64,
            });
        }
        if let Some(keys) = self.sealing.keys() {
            cipher::seal_frames(keys, &mut self.bytes, &mut self.index)?;
        }
        let end = self.index.encode(self.bytes.len() as u64, &self.sealing)?;
        self.bytes.extend_from_slice(&end);
        Ok(SealedPack {
            id: PackId(*blake3::hash(&self.bytes).as_bytes()),
            bytes: Bytes::from(self.bytes),
            index: self.index,
        })
    }
}
