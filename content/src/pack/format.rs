//! The bytes of a pack: header, frames, index, trailer. All integers are little-endian, all checksums CRC-32C.
//!
//! Header, 32 bytes:
//!
//! | offset | width | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `CAIRNPAK` |
//! | 8 | 4 | version: 1, or 2 if encrypted |
//! | 12 | 20 | zeros |
//!
//! Frames follow side by side, as [`crate::codec`] encodes them; if encrypted, each in an envelope (`sealing/envelope.rs`). Then the
//! index, if encrypted all of it in an envelope:
//!
//! | width | field |
//! | --- | --- |
//! | 4 + 4 | number of frames; number of chunks |
//! | 20 each | frames: stored bytes u32, decoded bytes u32, checksum of the stored bytes u32, chunks u32, encoding u8, zeros 3 |
//! | 36 each | chunks: identity 32, bytes u32 |
//!
//! Offsets are not stored: frames begin behind the header and lie side by side, chunks lie side by side in their frames. And
//! the trailer, 32 bytes:
//!
//! | offset | width | field |
//! | --- | --- | --- |
//! | 0 | 4 | checksum of the header, the stored index and bytes 4 to 31 of the trailer |
//! | 4 | 4 | bytes of the stored index |
//! | 8 | 8 | bytes of the pack |
//! | 16 | 4 | zeros |
//! | 20 | 4 | version, as in the header |
//! | 24 | 8 | magic `CAIRNEND` |

use std::ops::Range;

use cairn_types::ChunkId;

use super::{ChunkEntry, FrameEntry, PackError, PackIndex, cipher};
use crate::checksum::Crc32c;
use crate::chunking::CHUNK_BYTES_MAX;
use crate::codec::Encoding;
use crate::sealing::{ENVELOPE_BYTES, Sealing};

/// Version of a plain pack. Version 1 was the first.
pub const PACK_VERSION: u32 = 1;
/// Version of an encrypted pack, and the newest that is read.
pub const PACK_VERSION_ENCRYPTED: u32 = 2;
/// Most bytes of a pack.
pub const PACK_BYTES_MAX: u64 = 512 << 20;
/// Most bytes that a frame decodes to: what a reader of one chunk has to take.
pub const FRAME_BYTES_MAX: u32 = CHUNK_BYTES_MAX;
/// Most frames of a pack.
pub const FRAMES_MAX: usize = 1 << 16;
/// Most chunks of a pack.
pub const PACK_CHUNKS_MAX: usize = 1 << 20;
/// Bytes at the end of a pack that say where its index is.
pub const TRAILER_BYTES: usize = 32;

const HEADER_MAGIC: [u8; 8] = *b"CAIRNPAK";
const TRAILER_MAGIC: [u8; 8] = *b"CAIRNEND";
pub(super) const HEADER_BYTES: usize = 32;
const INDEX_HEAD_BYTES: usize = 8;
const FRAME_BYTES: usize = 20;
const CHUNK_BYTES: usize = 36;

/// The version of packs that are written with `sealing`.
pub(super) fn version(sealing: &Sealing) -> u32 {
    match sealing.is_plain() {
        true => PACK_VERSION,
        false => PACK_VERSION_ENCRYPTED,
    }
}

/// The header, which is the same for all packs of a version.
pub(super) fn header(version: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&HEADER_MAGIC);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// What stands at a pack's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    version: u32,
    checksum: u32,
    index_bytes: u32,
    pack_bytes: u64,
}

impl Trailer {
    /// Decodes the last [`TRAILER_BYTES`] of a pack of `pack_bytes`. Errors: `NotAPack`, `Version`, `Index`.
    pub fn decode(bytes: &[u8; TRAILER_BYTES], pack_bytes: u64) -> Result<Self, PackError> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[24..] != TRAILER_MAGIC {
            return Err(PackError::NotAPack {
                what: "the magic of a pack's end is missing",
            });
        }
        let version = word(20);
        if !(PACK_VERSION..=PACK_VERSION_ENCRYPTED).contains(&version) {
            return Err(PackError::Version { found: version });
        }
        let trailer = Trailer {
            version,
            checksum: word(0),
            index_bytes: word(4),
            pack_bytes: u64::from(word(8)) | u64::from(word(12)) << 32,
        };
        if word(16) != 0 {
            return Err(PackError::NotAPack {
                what: "its end is damaged",
            });
        }
        if trailer.pack_bytes != pack_bytes {
            return Err(PackError::NotAPack {
                what: "the pack had another length when it was written",
            });
        }
        let around = (HEADER_BYTES + TRAILER_BYTES) as u64;
        if pack_bytes > PACK_BYTES_MAX || u64::from(trailer.index_bytes) + around > pack_bytes {
            return Err(PackError::Index {
                offset: pack_bytes,
                what: "its length cannot be",
            });
        }
        Ok(trailer)
    }

    /// Where the index is in the pack.
    pub fn index(&self) -> Range<u64> {
        let end = self.pack_bytes - TRAILER_BYTES as u64;
        end - u64::from(self.index_bytes)..end
    }

    /// Whether the pack is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.version == PACK_VERSION_ENCRYPTED
    }

    pub(super) fn version(&self) -> u32 {
        self.version
    }

    /// Bytes that a stored frame has more than its encoding.
    fn envelope_bytes(&self) -> u32 {
        if self.is_encrypted() {
            ENVELOPE_BYTES as u32
        } else {
            0
        }
    }

    /// Verifies the stored index, [`Trailer::index`] of the pack, by its checksum; for that an encrypted one need not be opened.
    /// Errors: `Index`.
    pub fn verify(&self, index: &[u8]) -> Result<(), PackError> {
        let wrong = |what| PackError::Index {
            offset: self.index().start,
            what,
        };
        if index.len() != self.index_bytes as usize {
            return Err(wrong("it came with another length"));
        }
        if self.sum(index) != self.checksum {
            return Err(wrong("its checksum is another"));
        }
        Ok(())
    }

    fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..4].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.index_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.pack_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.version.to_le_bytes());
        bytes[24..].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }

    /// The trailer behind an index of so many stored bytes that begins at `frames_end`; its checksum is still to be made.
    fn new(version: u32, index_bytes: usize, frames_end: u64) -> Self {
        Trailer {
            version,
            checksum: 0,
            index_bytes: index_bytes as u32,
            pack_bytes: frames_end + (index_bytes + TRAILER_BYTES) as u64,
        }
    }

    /// With the checksum over the stored index.
    fn over(mut self, index: &[u8]) -> Self {
        self.checksum = self.sum(index);
        self
    }

    fn sum(&self, index: &[u8]) -> u32 {
        let mut sum = Crc32c::new();
        sum.update(&header(self.version));
        sum.update(index);
        sum.update(&self.encode()[4..]);
        sum.value()
    }
}

/// Takes integers off the front of what a checksum has vouched for.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

impl PackIndex {
    /// Decodes and checks the index of a plain pack. Errors: as [`PackIndex::decode_with`].
    pub fn decode(trailer: &Trailer, bytes: &[u8]) -> Result<Self, PackError> {
        PackIndex::decode_with(trailer, bytes, &Sealing::plain())
    }

    /// Decodes and checks the index whose stored bytes are [`Trailer::index`] of the pack. Errors: `Index`; `Encrypted` if
    /// `sealing` is plain and the pack is not; `NotEncrypted` the other way round; `Key`.
    pub fn decode_with(trailer: &Trailer, bytes: &[u8], sealing: &Sealing) -> Result<Self, PackError> {
        // Damage is told before anything that a key has to do with.
        trailer.verify(bytes)?;
        match (trailer.is_encrypted(), sealing.keys()) {
            (false, None) => PackIndex::decode_entries(trailer, bytes),
            (true, None) => Err(PackError::Encrypted),
            (false, Some(_)) => Err(PackError::NotEncrypted),
            (true, Some(keys)) => {
                let about = &trailer.encode()[4..];
                let entries = cipher::open_index(keys, bytes, about, trailer.index().start)?;
                PackIndex::decode_entries(trailer, &entries)
            }
        }
    }

    fn decode_entries(trailer: &Trailer, bytes: &[u8]) -> Result<Self, PackError> {
        let at = trailer.index();
        let wrong = |what| PackError::Index {
            offset: at.start,
            what,
        };
        let envelope = trailer.envelope_bytes();
        // From here on only a faulty writer could be to blame; it is no reason to trust it.
        let short = || wrong("it ends early");
        let mut fields = Fields(bytes);
        let frames = fields.u32().ok_or_else(short)? as usize;
        let chunks = fields.u32().ok_or_else(short)? as usize;
        let length =
            INDEX_HEAD_BYTES as u64 + frames as u64 * FRAME_BYTES as u64 + chunks as u64 * CHUNK_BYTES as u64;
        if frames > FRAMES_MAX || chunks > PACK_CHUNKS_MAX || length != bytes.len() as u64 {
            return Err(wrong("its counts and its length do not agree"));
        }
        let mut index = PackIndex {
            frames: Vec::with_capacity(frames),
            chunks: Vec::with_capacity(chunks),
        };
        let (mut offset, mut first_chunk) = (HEADER_BYTES as u64, 0);
        for _ in 0..frames {
            let stored = fields.u32().ok_or_else(short)?;
            let length = fields.u32().ok_or_else(short)?;
            let checksum = fields.u32().ok_or_else(short)?;
            let count = fields.u32().ok_or_else(short)?;
            let [encoding, zeros @ ..] = *fields.take::<4>().ok_or_else(short)?;
            let encoding = Encoding::from_number(encoding).ok_or(wrong("a frame has an unknown encoding"))?;
            if zeros != [0; 3] || count == 0 || length == 0 || length > FRAME_BYTES_MAX {
                return Err(wrong("a frame cannot be like that"));
            }
            if stored < envelope || stored - envelope > length {
                return Err(wrong("a frame is not as long as its encoding can be"));
            }
            index.frames.push(FrameEntry {
                offset: u32::try_from(offset).map_err(|_| wrong("a frame lies too far behind"))?,
                stored,
                length,
                checksum,
                encoding,
                first_chunk,
                chunks: count,
            });
            offset += u64::from(stored);
            first_chunk = first_chunk
                .checked_add(count)
                .filter(|sum| *sum as usize <= chunks)
                .ok_or(wrong("its frames have more chunks than it has"))?;
        }
        if offset != at.start || first_chunk as usize != chunks {
            return Err(wrong("its frames do not fill the pack"));
        }
        for number in 0..frames {
            let frame = index.frames[number];
            let mut offset = 0u32;
            for _ in 0..frame.chunks {
                let id = ChunkId(*fields.take().ok_or_else(short)?);
                let length = fields.u32().ok_or_else(short)?;
                let end = offset.checked_add(length).filter(|end| *end <= frame.length);
                index.chunks.push(ChunkEntry {
                    id,
                    frame: number as u32,
                    offset,
                    length,
                });
                offset = end
                    .filter(|_| length > 0)
                    .ok_or(wrong("a chunk does not fit its frame"))?;
            }
            if offset != frame.length {
                return Err(wrong("the chunks of a frame do not fill it"));
            }
        }
        Ok(index)
    }

    /// The end of a pack with this index: the index and the trailer. `frames_end` is where the frames end. Errors: `Cipher`.
    pub(super) fn encode(&self, frames_end: u64, sealing: &Sealing) -> Result<Vec<u8>, PackError> {
        let length = INDEX_HEAD_BYTES + self.frames.len() * FRAME_BYTES + self.chunks.len() * CHUNK_BYTES;
        let mut bytes = Vec::with_capacity(length + TRAILER_BYTES);
        bytes.extend_from_slice(&(self.frames.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.chunks.len() as u32).to_le_bytes());
        for frame in &self.frames {
            for field in [frame.stored, frame.length, frame.checksum, frame.chunks] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
            bytes.extend_from_slice(&[frame.encoding as u8, 0, 0, 0]);
        }
        for chunk in &self.chunks {
            bytes.extend_from_slice(&chunk.id.0);
            bytes.extend_from_slice(&chunk.length.to_le_bytes());
        }
        let mut trailer = Trailer::new(version(sealing), bytes.len(), frames_end);
        if let Some(keys) = sealing.keys() {
            trailer = Trailer::new(version(sealing), bytes.len() + ENVELOPE_BYTES, frames_end);
            bytes = cipher::seal_index(keys, &bytes, &trailer.encode()[4..])?;
        }
        let trailer = trailer.over(&bytes);
        bytes.extend_from_slice(&trailer.encode());
        Ok(bytes)
    }

    /// Bytes that the end of the pack takes with these and so many more chunks, in one more frame.
    pub(super) fn end_bytes(&self, more_chunks: usize) -> u64 {
        let frames = (self.frames.len() + 1) * FRAME_BYTES;
        let chunks = (self.chunks.len() + more_chunks) * CHUNK_BYTES;
        (INDEX_HEAD_BYTES + frames + chunks + TRAILER_BYTES) as u64
    }
}

/// A pack of `frames` bytes of frames and an index of any bytes, checksums right.
#[cfg(test)]
pub(super) fn sealed(index: &[u8], frames: usize, sealing: &Sealing) -> Vec<u8> {
    let version = version(sealing);
    let mut pack = header(version).to_vec();
    pack.resize(HEADER_BYTES + frames, 0);
    let mut trailer = Trailer::new(version, index.len(), pack.len() as u64);
    let mut stored = index.to_vec();
    if let Some(keys) = sealing.keys() {
        trailer = Trailer::new(version, index.len() + ENVELOPE_BYTES, pack.len() as u64);
        stored = cipher::seal_index(keys, index, &trailer.encode()[4..]).unwrap_or_default();
    }
    let trailer = trailer.over(&stored);
    pack.extend_from_slice(&stored);
    pack.extend_from_slice(&trailer.encode());
    pack
}

/// The trailer of a pack of so many bytes behind an index, checksum right.
#[cfg(test)]
pub(super) fn trailer(index: &[u8], frames_end: u64, version: u32) -> Trailer {
    Trailer::new(version, index.len(), frames_end).over(index)
}
