//! Packs: immutable objects of tens of MiB that hold chunks, and say themselves what they hold.
//!
//! Chunks are what is deduplicated, frames are what is compressed: chunks that come together (small files of a directory, the
//! parts of a large file) share a frame, since a compressor finds more in a megabyte than in 64 KiB. A frame is stored in the
//! encoding that suits it. The index stands at the end of the pack, so that any index over packs can be built again from the
//! packs alone, reading only their ends.
//!
//! Three things are verified before a byte is returned: the index by its checksum, the stored frame by its checksum, and the
//! chunk by its identity, the BLAKE3 hash of its bytes. The pack itself is named by the BLAKE3 hash of all of it.
//!
//! In an encrypted store ([`crate::sealing`]) frames and index are encrypted, each as one envelope, and chunks are named by a keyed
//! hash. Such packs are version 2. A frame is opened with its entry and the key alone, and the index with the pack's end alone, so
//! that whoever keeps an index of packs keeps the same for both kinds. What is not given a [`crate::sealing::Sealing`] is plain.
//!
//! This module turns bytes into bytes: it knows neither where packs are kept nor which chunks are known already. The format is
//! drawn in `docs/formats/pack.md`.

use bytes::Bytes;
use cairn_types::{ChunkId, hexadecimal};

mod cipher;
mod error;
mod format;
mod read;
mod write;

pub use error::PackError;
pub use format::{
    FRAME_BYTES_MAX, FRAMES_MAX, PACK_BYTES_MAX, PACK_CHUNKS_MAX, PACK_VERSION, PACK_VERSION_ENCRYPTED,
    TRAILER_BYTES, Trailer,
};
pub use read::{DecodedFrame, FrameReader, verify_stored};
pub use write::{OpenFrame, PackWriter, SealedFrame};

use crate::codec::Encoding;

/// The BLAKE3 hash of a pack's bytes, which names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub [u8; 32]);

impl PackId {
    /// Parses the form that [`std::fmt::Display`] gives: 64 digits.
    pub fn parse(text: &str) -> Option<Self> {
        hexadecimal::parse(text).map(PackId)
    }
}

impl std::fmt::Display for PackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        hexadecimal::write(&self.0, f)
    }
}

/// A frame of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameEntry {
    /// Where it is stored, in bytes from the beginning of the pack.
    pub offset: u32,
    /// Bytes that it takes there, those of its envelope included.
    pub stored: u32,
    /// Bytes that it decodes to.
    pub length: u32,
    /// CRC-32C of the stored bytes.
    pub checksum: u32,
    /// How it is stored.
    pub encoding: Encoding,
    /// Its first chunk, as a number in the pack's chunks.
    pub first_chunk: u32,
    /// Its chunks, one at least.
    pub chunks: u32,
}

/// A chunk of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    /// What it is.
    pub id: ChunkId,
    /// The frame that holds it.
    pub frame: u32,
    /// Where it begins in the decoded frame.
    pub offset: u32,
    /// Its bytes, one at least.
    pub length: u32,
}

/// What a pack holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackIndex {
    frames: Vec<FrameEntry>,
    chunks: Vec<ChunkEntry>,
}

impl PackIndex {
    /// The frames, in the order in which they are stored; they lie side by side.
    pub fn frames(&self) -> &[FrameEntry] {
        &self.frames
    }

    /// The chunks, in the order in which the frames hold them; they lie side by side too.
    pub fn chunks(&self) -> &[ChunkEntry] {
        &self.chunks
    }
}

/// A complete pack.
#[derive(Debug, Clone)]
pub struct SealedPack {
    /// Its name.
    pub id: PackId,
    /// All of it.
    pub bytes: Bytes,
    /// What it holds.
    pub index: PackIndex,
}

impl SealedPack {
    /// Whether it is encrypted. Who stores packs refuses those that do not suit the store: what is stored plainly in an encrypted
    /// store cannot be made unread.
    pub fn is_encrypted(&self) -> bool {
        self.bytes.starts_with(&format::header(PACK_VERSION_ENCRYPTED))
    }
}

#[cfg(test)]
mod tests;
