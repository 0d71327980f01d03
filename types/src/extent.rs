//! Where a run of a file's bytes is stored: the two homes of content, and the arithmetic of cutting a run.

use std::fmt;
use std::sync::Arc;

use crate::ByteRange;

/// Bytes per checksum in the hot log. Small enough that a 4 KiB read verifies 4 to 8 KiB, large enough that the
/// checksums of 1 MiB are 1 KiB.
pub const CHECKSUM_BLOCK: u32 = 4096;

/// A segment file of the hot log. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u64);

/// A place in the hot log's endless byte sequence: appends come later, so their positions are higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogPosition(pub u64);

/// The BLAKE3 hash that names a sealed chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::hexadecimal::write(&self.0, f)
    }
}

/// Bytes in a segment of the hot log, with the checksums to verify them.
///
/// `offset` is where the first checksum block that holds any of the bytes begins; the blocks cover `covered` bytes from
/// there, each block [`CHECKSUM_BLOCK`] long but possibly the last; the bytes meant are `length` bytes, `skip` bytes in.
/// Invariants: `skip < CHECKSUM_BLOCK`, `0 < length`, `skip + length <= covered`,
/// `covered - (skip + length) < CHECKSUM_BLOCK`, one CRC-32C per block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSlice {
    segment: SegmentId,
    offset: u64,
    covered: u32,
    skip: u32,
    length: u32,
    checksums: Arc<[u32]>,
}

impl LogSlice {
    /// Checks the invariants above; `None` if they do not hold.
    pub fn new(
        segment: SegmentId,
        offset: u64,
        covered: u32,
        skip: u32,
        length: u32,
        checksums: Arc<[u32]>,
    ) -> Option<Self> {
        let end = skip.checked_add(length)?;
        let sound = skip < CHECKSUM_BLOCK
            && length > 0
            && end <= covered
            && covered - end < CHECKSUM_BLOCK
            && offset.checked_add(u64::from(covered)).is_some()
            && checksums.len() == covered.div_ceil(CHECKSUM_BLOCK) as usize;
        sound.then_some(LogSlice {
            segment,
            offset,
            covered,
            skip,
            length,
            checksums,
        })
    }

    /// The segment that holds the bytes.
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    /// Byte offset of the first covering checksum block in the segment file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that the checksum blocks cover.
    pub fn covered(&self) -> u32 {
        self.covered
    }

    /// Bytes of the first block that precede the data.
    pub fn skip(&self) -> u32 {
        self.skip
    }

    /// Bytes of data.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// One CRC-32C (Castagnoli) per block, in order.
    pub fn checksums(&self) -> &[u32] {
        &self.checksums
    }

    /// The bytes `range` of this slice (relative to its data), with only the blocks that they need; `None` if the range
    /// is empty or reaches beyond the data.
    pub fn slice(&self, range: ByteRange) -> Option<LogSlice> {
        if range.is_empty() || range.end() > u64::from(self.length) {
            return None;
        }
        let start = u32::try_from(range.start()).ok()? + self.skip;
        let end = u32::try_from(range.end()).ok()? + self.skip;
        let first_block = start / CHECKSUM_BLOCK;
        let blocks_end = end.div_ceil(CHECKSUM_BLOCK);
        let covered_end =
            (u64::from(blocks_end) * u64::from(CHECKSUM_BLOCK)).min(u64::from(self.covered)) as u32;
        let base = first_block * CHECKSUM_BLOCK;
        LogSlice::new(
            self.segment,
            self.offset + u64::from(base),
            covered_end - base,
            start - base,
            end - start,
            self.checksums
                .get(first_block as usize..blocks_end as usize)?
                .into(),
        )
    }
}

/// Bytes of a sealed chunk: `length` bytes from `offset` of the chunk's uncompressed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSlice {
    /// The chunk.
    pub chunk: ChunkId,
    /// First byte within the chunk.
    pub offset: u32,
    /// Bytes, at least one.
    pub length: u32,
}

/// A run of a file's bytes and its home. Offsets of a file without any extent are holes and read as zeros; an extent
/// whose bytes cannot be had is an error, never a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// In the hot log on this node.
    Log(LogSlice),
    /// In a sealed chunk.
    Chunk(ChunkSlice),
}

impl Extent {
    /// Bytes of data.
    pub fn length(&self) -> u32 {
        match self {
            Extent::Log(slice) => slice.length(),
            Extent::Chunk(slice) => slice.length,
        }
    }

    /// The bytes `range` of this extent; `None` if the range is empty or reaches beyond it.
    pub fn slice(&self, range: ByteRange) -> Option<Extent> {
        match self {
            Extent::Log(slice) => slice.slice(range).map(Extent::Log),
            Extent::Chunk(slice) => {
                let fits = !range.is_empty() && range.end() <= u64::from(slice.length);
                fits.then(|| {
                    Extent::Chunk(ChunkSlice {
                        chunk: slice.chunk,
                        offset: slice.offset + range.start() as u32,
                        length: range.length() as u32,
                    })
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CHECKSUM_BLOCK, ChunkId, ChunkSlice, Extent, LogSlice, SegmentId};
    use crate::ByteRange;

    fn log(length: u32) -> LogSlice {
        let blocks: Vec<u32> = (0..length.div_ceil(CHECKSUM_BLOCK)).collect();
        LogSlice::new(SegmentId(1), 100, length, 0, length, blocks.into()).unwrap()
    }

    #[test]
    fn cutting_keeps_only_the_blocks_that_are_needed() {
        let cut = log(10_000).slice(ByteRange::at(5000, 1000)).unwrap();
        assert_eq!(
            (cut.offset(), cut.covered(), cut.skip(), cut.length()),
            (100 + 4096, 4096, 904, 1000)
        );
        assert_eq!(cut.checksums(), [1]);
        let again = cut.slice(ByteRange::at(999, 1)).unwrap();
        assert_eq!(
            (again.offset(), again.skip(), again.length()),
            (100 + 4096, 904 + 999, 1)
        );
    }

    #[test]
    fn the_last_block_may_be_short() {
        let cut = log(10_000).slice(ByteRange::at(9_999, 1)).unwrap();
        assert_eq!(
            (cut.offset(), cut.covered(), cut.skip()),
            (100 + 8192, 10_000 - 8192, 9_999 - 8192)
        );
        assert_eq!(cut.checksums(), [2]);
    }

    #[test]
    fn every_cut_of_a_cut_is_the_cut_of_the_sum() {
        let whole = log(9_000);
        for start in [0u64, 1, 4095, 4096, 4097, 8191, 8999] {
            for end in [start + 1, (start + 5000).min(9000), 9000] {
                let outer = whole.slice(ByteRange::new(start, end).unwrap()).unwrap();
                let length = u64::from(outer.length());
                let inner = outer.slice(ByteRange::new(length / 2, length).unwrap()).unwrap();
                assert_eq!(
                    Some(inner),
                    whole.slice(ByteRange::new(start + length / 2, end).unwrap())
                );
            }
        }
    }

    #[test]
    fn ranges_outside_are_refused() {
        assert_eq!(log(10).slice(ByteRange::at(5, 6)), None);
        assert_eq!(log(10).slice(ByteRange::at(5, 0)), None);
        let chunk = Extent::Chunk(ChunkSlice {
            chunk: ChunkId([0; 32]),
            offset: 7,
            length: 10,
        });
        assert_eq!(chunk.slice(ByteRange::at(9, 2)), None);
        assert_eq!(chunk.slice(ByteRange::at(9, 1)).unwrap().length(), 1);
    }
}
