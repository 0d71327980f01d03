//! Where a file is cut into chunks: content-defined boundaries, so that an insertion changes the chunks around it and no
//! others, and equal data at different offsets gives equal chunks.
//!
//! The cut is FastCDC in its 2020 form with normalisation level 1 (Xia et al., "The Design of Fast Content-Defined Chunking
//! for Data Deduplication Based Storage Systems", IEEE TPDS 31(9)), by the crate `fastcdc`. Boundaries depend on nothing but
//! the data and the sizes: not on how the data arrives. They are a part of what a store deduplicates by: other sizes, or
//! another algorithm, share no chunks with what was stored before, and are still read.

use cairn_types::ChunkId;
use fastcdc::v2020::{Normalization, cut, select_masks};

/// Smallest and largest [`ChunkSizes::average`] in bytes.
pub const CHUNK_AVERAGE_BYTES: std::ops::RangeInclusive<u32> = (4 << 10)..=(1 << 20);
/// Largest chunk in bytes, whatever the sizes: four times the largest average.
pub const CHUNK_BYTES_MAX: u32 = 4 << 20;

/// The sizes of chunks. The smallest is a quarter of the average, the largest four times the average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSizes {
    average: u32,
}

impl Default for ChunkSizes {
    /// 64 KiB on average: of the sizes measured (16 KiB to 4 MiB, insertions in large files) the one that stores least for
    /// the time it takes.
    fn default() -> Self {
        ChunkSizes { average: 64 << 10 }
    }
}

impl ChunkSizes {
    /// Sizes around an average in bytes; `None` unless it is a power of two in [`CHUNK_AVERAGE_BYTES`].
    pub fn around(average: u32) -> Option<Self> {
        let fits = average.is_power_of_two() && CHUNK_AVERAGE_BYTES.contains(&average);
        fits.then_some(ChunkSizes { average })
    }

    /// The average in bytes.
    pub fn average(self) -> u32 {
        self.average
    }

    /// The smallest chunk in bytes, but for the last of a file.
    pub fn minimum(self) -> u32 {
        self.average / 4
    }

    /// The largest chunk in bytes.
    pub fn maximum(self) -> u32 {
        self.average * 4
    }
}

/// Cuts data into chunks of certain sizes.
#[derive(Debug, Clone)]
pub struct Chunker {
    sizes: ChunkSizes,
    mask_small: u64,
    mask_large: u64,
}

impl Chunker {
    /// A chunker. It keeps no state between cuts.
    pub fn new(sizes: ChunkSizes) -> Self {
        let (mask_small, mask_large) = select_masks(sizes.average as usize, Normalization::Level1);
        Chunker {
            sizes,
            mask_small,
            mask_large,
        }
    }

    /// The sizes.
    pub fn sizes(&self) -> ChunkSizes {
        self.sizes
    }

    /// Length of the first chunk of `data`, which begins where the chunk before ended. `end` says that `data` is all there
    /// is. `None` if there is no chunk, or more data is needed to tell: fewer bytes than [`ChunkSizes::maximum`], and not
    /// the end.
    pub fn cut(&self, data: &[u8], end: bool) -> Option<usize> {
        let maximum = self.sizes.maximum() as usize;
        if data.is_empty() || (data.len() < maximum && !end) {
            return None;
        }
        let (_, length) = cut(
            &data[..data.len().min(maximum)],
            self.sizes.minimum() as usize,
            self.sizes.average as usize,
            maximum,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
        );
        Some(length)
    }
}

/// The identity of a chunk: the BLAKE3 hash of its bytes.
pub fn chunk_id(data: &[u8]) -> ChunkId {
    ChunkId(*blake3::hash(data).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{CHUNK_AVERAGE_BYTES, CHUNK_BYTES_MAX, ChunkSizes, Chunker, chunk_id};
    use crate::testing::random;

    fn lengths(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while let Some(length) = chunker.cut(data, true) {
            lengths.push(length);
            data = &data[length..];
        }
        lengths
    }

    #[test]
    fn boundaries_are_pinned() {
        // A store shares chunks with what an older version stored only as long as these stay.
        let data = random(7, 1 << 20);
        let found = lengths(&Chunker::new(ChunkSizes::default()), &data);
        assert_eq!(
            found[..6],
            [44_677, 82_447, 91_081, 55_284, 79_605, 28_393],
            "{found:?}"
        );
        assert_eq!(found.iter().sum::<usize>(), data.len());
    }

    #[test]
    fn boundaries_do_not_depend_on_how_much_is_there() {
        let chunker = Chunker::new(ChunkSizes::around(4096).unwrap());
        let data = random(1, 300_000);
        let whole = lengths(&chunker, &data);
        let (mut at, mut pieces, mut have) = (0, Vec::new(), 0);
        while at < data.len() {
            match chunker.cut(&data[at..have], have == data.len()) {
                Some(length) => {
                    pieces.push(length);
                    at += length;
                }
                None => have = (have + 1000).min(data.len()),
            }
        }
        assert_eq!(pieces, whole);
        let sizes = chunker.sizes();
        let (last, others) = whole.split_last().unwrap();
        for length in others {
            assert!((sizes.minimum() as usize..=sizes.maximum() as usize).contains(length));
        }
        assert!(*last <= sizes.maximum() as usize);
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let chunker = Chunker::new(ChunkSizes::around(4096).unwrap());
        let before = random(2, 1 << 20);
        let mut after = before.clone();
        after.splice(500_000..500_000, *b"inserted");
        let ids = |data: &[u8]| -> HashSet<_> {
            let mut at = 0;
            lengths(&chunker, data)
                .into_iter()
                .map(|length| {
                    at += length;
                    chunk_id(&data[at - length..at])
                })
                .collect()
        };
        let (old, new) = (ids(&before), ids(&after));
        assert!(
            new.difference(&old).count() <= 4,
            "{}",
            new.difference(&old).count()
        );
        assert!(old.len() > 150);
    }

    #[test]
    fn sizes_have_bounds() {
        for wrong in [0, 1, 2048, 5000, 2 << 20] {
            assert_eq!(ChunkSizes::around(wrong), None);
        }
        let largest = ChunkSizes::around(*CHUNK_AVERAGE_BYTES.end()).unwrap();
        assert_eq!(largest.maximum(), CHUNK_BYTES_MAX);
        assert_eq!(Chunker::new(largest).cut(&[], true), None);
        assert_eq!(Chunker::new(largest).cut(b"short", false), None);
        assert_eq!(Chunker::new(largest).cut(b"short", true), Some(5));
    }
}
