//! Where the bytes of files that are read again and again are, so that a read from the page cache asks no database.
//!
//! A file is cut into windows of [`WINDOW_BYTES`]. A window is known for one version of the file's data: any change makes
//! it useless, moving bytes elsewhere does not make it wrong, since what it names is verified when it is read. Windows with
//! many extents are remembered as such and not kept. Only files without unsettled writes are worth a window.

use std::sync::Arc;

use cairn_types::{BranchId, ByteRange, Extent, InodeId};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::dirty::Piece;

/// Bytes of a file whose extents are kept together.
pub(crate) const WINDOW_BYTES: u64 = 8 << 20;
/// Most extents that are kept of a window; one with more is not kept.
pub(crate) const WINDOW_EXTENTS_MAX: usize = 256;
/// Most memory of all windows, in bytes, roughly: with large extents, what 10 GiB of files need.
const CACHE_BYTES_MAX: u64 = 16 << 20;
/// How many windows that may be; the cache's tables are made for so many.
const WINDOWS_EXPECTED: usize = 4096;
/// What a window takes beside its pieces, the cache's own memory included.
const WINDOW_OVERHEAD_BYTES: u64 = 160;

type Key = (BranchId, InodeId, u64);

struct Window {
    data_version: u64,
    /// Without gaps; `None` if there are too many.
    pieces: Option<Vec<Piece>>,
}

/// Weighs windows by the memory that they take.
#[derive(Clone)]
struct ByMemory;

impl Weighter<Key, Arc<Window>> for ByMemory {
    fn weight(&self, _: &Key, window: &Arc<Window>) -> u64 {
        let piece = |piece: &Piece| match &piece.extent {
            Some(Extent::Log(slice)) => 16 + 4 * slice.checksums().len() as u64,
            Some(Extent::Chunk(_)) | None => 0,
        };
        let pieces = window.pieces.iter().flatten();
        WINDOW_OVERHEAD_BYTES
            + pieces
                .map(|found| size_of::<Piece>() as u64 + piece(found))
                .sum::<u64>()
    }
}

/// What is known of the bytes of a file.
pub(crate) enum Known {
    /// What they are, without gaps.
    Pieces(Vec<Piece>),
    /// There are too many extents to keep.
    Dense,
    /// Nothing.
    Nothing,
}

/// The windows of all volumes.
pub(crate) struct ExtentCache {
    windows: Cache<Key, Arc<Window>, ByMemory>,
}

/// The windows that hold any byte of `range`, which is not empty.
pub(crate) fn windows(range: ByteRange) -> impl Iterator<Item = ByteRange> {
    let (first, last) = (
        range.start() / WINDOW_BYTES,
        (range.end() - 1).max(range.start()) / WINDOW_BYTES,
    );
    (first..=last).map(|index| ByteRange::at(index * WINDOW_BYTES, WINDOW_BYTES))
}

impl ExtentCache {
    pub fn new() -> Self {
        ExtentCache {
            windows: Cache::with_weighter(WINDOWS_EXPECTED, CACHE_BYTES_MAX, ByMemory),
        }
    }

    /// What is known of `range` of the file's data of that version.
    pub fn get(&self, branch: BranchId, inode: InodeId, data_version: u64, range: ByteRange) -> Known {
        let mut found = Vec::new();
        for window in windows(range) {
            let known = self.windows.get(&(branch, inode, window.start()));
            let Some(known) = known.filter(|known| known.data_version == data_version) else {
                return Known::Nothing;
            };
            let Some(pieces) = &known.pieces else {
                return Known::Dense;
            };
            let first = pieces.partition_point(|piece| piece.range.end() <= range.start());
            for piece in &pieces[first..] {
                let Some(part) = piece.range.intersection(range).filter(|part| !part.is_empty()) else {
                    break;
                };
                let within = ByteRange::at(part.start() - piece.range.start(), part.length());
                let extent = match &piece.extent {
                    None => None,
                    Some(extent) => match extent.slice(within) {
                        None => return Known::Nothing,
                        cut => cut,
                    },
                };
                found.push(Piece { range: part, extent });
            }
        }
        Known::Pieces(found)
    }

    /// Notes what the window from `start` on is, gaps laid out as holes.
    pub fn insert(
        &self,
        branch: BranchId,
        inode: InodeId,
        data_version: u64,
        start: u64,
        pieces: Option<Vec<Piece>>,
    ) {
        let window = Window { data_version, pieces };
        self.windows.insert((branch, inode, start), Arc::new(window));
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{BranchId, ByteRange, ChunkId, ChunkSlice, Extent, InodeId};

    use super::{ExtentCache, Known, WINDOW_BYTES, windows};
    use crate::dirty::Piece;

    const BRANCH: BranchId = BranchId(1);
    const FILE: InodeId = InodeId(2);

    fn piece(start: u64, end: u64, tag: Option<u8>) -> Piece {
        let extent = tag.map(|tag| {
            Extent::Chunk(ChunkSlice {
                chunk: ChunkId([tag; 32]),
                offset: 0,
                length: (end - start) as u32,
            })
        });
        Piece {
            range: ByteRange::new(start, end).unwrap(),
            extent,
        }
    }

    /// First byte, end, and of what is no hole the chunk and the offset in it.
    type Summary = Vec<(u64, u64, Option<(u8, u32)>)>;

    fn summary(known: Known) -> Summary {
        let Known::Pieces(pieces) = known else {
            return Vec::new();
        };
        let home = |extent: &Extent| match extent {
            Extent::Chunk(slice) => (slice.chunk.0[0], slice.offset),
            Extent::Log(_) => unreachable!("the test has none"),
        };
        let pieces = pieces.iter();
        pieces
            .map(|piece| {
                (
                    piece.range.start(),
                    piece.range.end(),
                    piece.extent.as_ref().map(home),
                )
            })
            .collect()
    }

    #[test]
    fn ranges_are_cut_out_of_windows_and_across_them() {
        let cache = ExtentCache::new();
        let middle = WINDOW_BYTES / 2;
        let first = vec![piece(0, middle, Some(1)), piece(middle, WINDOW_BYTES, None)];
        cache.insert(BRANCH, FILE, 7, 0, Some(first));
        let get = |version, start, end| {
            let range = ByteRange::new(start, end).unwrap();
            cache.get(BRANCH, FILE, version, range)
        };
        assert_eq!(
            summary(get(7, middle - 3, middle + 5)),
            [
                (middle - 3, middle, Some((1, middle as u32 - 3))),
                (middle, middle + 5, None)
            ]
        );
        assert!(matches!(get(8, 0, 1), Known::Nothing));
        assert!(matches!(
            get(7, WINDOW_BYTES - 1, WINDOW_BYTES + 1),
            Known::Nothing
        ));
        let second = vec![piece(WINDOW_BYTES, 2 * WINDOW_BYTES, Some(2))];
        cache.insert(BRANCH, FILE, 7, WINDOW_BYTES, Some(second));
        assert_eq!(
            summary(get(7, WINDOW_BYTES - 1, WINDOW_BYTES + 1)),
            [
                (WINDOW_BYTES - 1, WINDOW_BYTES, None),
                (WINDOW_BYTES, WINDOW_BYTES + 1, Some((2, 0)))
            ]
        );
        cache.insert(BRANCH, FILE, 9, 0, None);
        assert!(matches!(get(9, 0, 1), Known::Dense));
        assert!(matches!(get(7, 0, 1), Known::Nothing));
    }

    #[test]
    fn windows_cover_a_range_and_no_more() {
        let starts = |start, end| -> Vec<u64> {
            windows(ByteRange::new(start, end).unwrap())
                .map(|window| window.start() / WINDOW_BYTES)
                .collect()
        };
        assert_eq!(starts(0, WINDOW_BYTES), [0]);
        assert_eq!(starts(WINDOW_BYTES - 1, WINDOW_BYTES + 1), [0, 1]);
        assert_eq!(starts(3 * WINDOW_BYTES, 3 * WINDOW_BYTES + 1), [3]);
    }
}
