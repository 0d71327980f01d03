//! Extents: where a file's bytes are.
//!
//! The key ends with the offset one past the extent's last byte, so that the first key beyond an offset is the extent that
//! covers it or the next one: finding it is one seek, however long extents are. Extents of a file never overlap; offsets
//! without one are holes.
//!
//! | offset | width | field |
//! | --- | --- | --- |
//! | 0 | 1 | home: 1 hot log, 2 sealed chunk |
//! | 1 | 4 | length of the data |
//! | 5 | | the home's own fields |
//!
//! Hot log: segment u64, offset of the first checksum block u64, bytes covered by the blocks u32, bytes of the first block
//! before the data u32, then one CRC-32C u32 for each block of 4,096 bytes.
//! Sealed chunk: BLAKE3 id, 32 bytes; offset within the chunk's data u32.

use std::sync::Arc;

use cairn_types::{ByteRange, ChunkId, ChunkSlice, Extent, InodeId, LogSlice, SegmentId};

use super::codec::{DecodeError, Reader, Writer};
use super::{ObjectKind, body};

const HOME_LOG: u8 = 1;
const HOME_CHUNK: u8 = 2;

/// An extent at its place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentRecord {
    /// Offset of its first byte in the file.
    pub start: u64,
    /// Where the bytes are.
    pub extent: Extent,
}

impl ExtentRecord {
    /// The file's bytes that it holds.
    pub fn range(&self) -> ByteRange {
        ByteRange::at(self.start, u64::from(self.extent.length()))
    }

    pub(crate) fn body(inode: InodeId, end: u64) -> Vec<u8> {
        let mut key = body(inode, ObjectKind::Extent);
        key.extend_from_slice(&end.to_be_bytes());
        key
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match &self.extent {
            Extent::Log(slice) => {
                let mut writer = Writer::with_capacity(29 + 4 * slice.checksums().len());
                writer.u8(HOME_LOG);
                writer.u32(slice.length());
                writer.u64(slice.segment().0);
                writer.u64(slice.offset());
                writer.u32(slice.covered());
                writer.u32(slice.skip());
                slice
                    .checksums()
                    .iter()
                    .for_each(|checksum| writer.u32(*checksum));
                writer.finish()
            }
            Extent::Chunk(slice) => {
                let mut writer = Writer::with_capacity(41);
                writer.u8(HOME_CHUNK);
                writer.u32(slice.length);
                writer.bytes(&slice.chunk.0);
                writer.u32(slice.offset);
                writer.finish()
            }
        }
    }

    /// `key` is the body under which the value was found.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, DecodeError> {
        let mut end = Reader::new("extent key", key);
        end.take(9)?;
        let offset = u64::from_be_bytes(end.array()?);
        end.end()?;
        let mut reader = Reader::new("extent", value);
        let error = reader.error();
        let home = reader.u8()?;
        let length = reader.u32()?;
        let start = offset
            .checked_sub(u64::from(length))
            .filter(|_| length > 0)
            .ok_or(reader.error())?;
        let extent = match home {
            HOME_LOG => {
                let segment = SegmentId(reader.u64()?);
                let offset = reader.u64()?;
                let covered = reader.u32()?;
                let skip = reader.u32()?;
                let error = reader.error();
                let (words, left) = reader.rest().as_chunks::<4>();
                let checksums: Arc<[u32]> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
                if !left.is_empty() {
                    return Err(error);
                }
                Extent::Log(LogSlice::new(segment, offset, covered, skip, length, checksums).ok_or(error)?)
            }
            HOME_CHUNK => {
                let chunk = ChunkId(reader.array()?);
                let offset = reader.u32()?;
                reader.end()?;
                Extent::Chunk(ChunkSlice {
                    chunk,
                    offset,
                    length,
                })
            }
            _ => return Err(error),
        };
        Ok(ExtentRecord { start, extent })
    }
}
