//! Files whose newest data is in the hot log but whose metadata does not say so yet.
//!
//! A write appends to the log and notes its extent here; the background flush moves notes into the metadata once the log is
//! durable. After a crash the same notes come back from the log's records.

use std::collections::{BTreeMap, HashMap};

use cairn_metadata::{ExtentRecord, InodeRecord};
use cairn_types::{ByteRange, Extent, InodeId, LogPosition, Timestamp};

/// A run of a file's bytes: an extent, or a hole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub range: ByteRange,
    pub extent: Option<Extent>,
}

/// Extents of a file, in order, none overlapping another.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    by_start: BTreeMap<u64, Extent>,
}

impl Overlay {
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = ExtentRecord> + '_ {
        self.by_start.iter().map(|(start, extent)| ExtentRecord {
            start: *start,
            extent: extent.clone(),
        })
    }

    /// Makes `extent` the content from `start` on.
    pub fn insert(&mut self, start: u64, extent: Extent) {
        let range = ByteRange::at(start, u64::from(extent.length()));
        self.remove(range);
        self.by_start.insert(start, extent);
    }

    /// Cuts `range` out.
    pub fn remove(&mut self, range: ByteRange) {
        let before = self
            .by_start
            .range(..range.start())
            .next_back()
            .map(|(start, _)| *start);
        let inside: Vec<u64> = self
            .by_start
            .range(range.start()..range.end())
            .map(|(start, _)| *start)
            .collect();
        for start in before.into_iter().chain(inside) {
            let Some(extent) = self.by_start.get(&start) else {
                continue;
            };
            let old = ExtentRecord {
                start,
                extent: extent.clone(),
            };
            if old.range().intersection(range).is_some() {
                self.by_start.remove(&start);
                for rest in remainders(&old, range) {
                    self.by_start.insert(rest.start, rest.extent);
                }
            }
        }
    }

    /// The extents that hold any byte of `range`.
    pub fn overlapping(&self, range: ByteRange) -> Vec<ExtentRecord> {
        let before = self.by_start.range(..range.start()).next_back();
        before
            .into_iter()
            .chain(self.by_start.range(range.start()..range.end()))
            .map(|(start, extent)| ExtentRecord {
                start: *start,
                extent: extent.clone(),
            })
            .filter(|record| record.range().intersection(range).is_some())
            .collect()
    }
}

/// What is left of an extent, up to two pieces, when `cut` is taken out of it.
pub(crate) fn remainders(old: &ExtentRecord, cut: ByteRange) -> Vec<ExtentRecord> {
    let whole = old.range();
    let mut left = Vec::with_capacity(2);
    for (start, end) in [
        (whole.start(), cut.start().min(whole.end())),
        (cut.end().max(whole.start()), whole.end()),
    ] {
        let within = start
            .checked_sub(whole.start())
            .zip(end.checked_sub(whole.start()));
        let piece = within.and_then(|(from, to)| old.extent.slice(ByteRange::new(from, to)?));
        left.extend(piece.map(|extent| ExtentRecord { start, extent }));
    }
    left
}

/// Lays `above` over `below` and tells, without gaps, what every byte of `range` is.
pub(crate) fn lay_over(range: ByteRange, below: &[ExtentRecord], above: &[ExtentRecord]) -> Vec<Piece> {
    let mut merged = Overlay::default();
    for record in below.iter().chain(above) {
        if let Some(part) = record.range().intersection(range) {
            let within = ByteRange::at(part.start() - record.start, part.length());
            if let Some(extent) = record.extent.slice(within) {
                merged.insert(part.start(), extent);
            }
        }
    }
    let mut pieces = Vec::with_capacity(merged.len());
    let mut next = range.start();
    for record in merged.iter() {
        let found = record.range();
        pieces.extend(
            ByteRange::new(next, found.start())
                .filter(|hole| !hole.is_empty())
                .map(hole),
        );
        next = found.end();
        pieces.push(Piece {
            range: found,
            extent: Some(record.extent),
        });
    }
    pieces.extend(
        ByteRange::new(next, range.end())
            .filter(|rest| !rest.is_empty())
            .map(hole),
    );
    pieces
}

fn hole(range: ByteRange) -> Piece {
    Piece { range, extent: None }
}

/// A file with changes that only the log has.
#[derive(Debug)]
pub(crate) struct DirtyFile {
    /// The attributes as everybody sees them.
    pub record: InodeRecord,
    /// The attributes as the metadata has them.
    pub stored: InodeRecord,
    /// Extents that only the log has.
    pub overlay: Overlay,
    /// The log must be durable up to here before the extents may go into the metadata.
    pub log_end: LogPosition,
}

impl DirtyFile {
    pub fn new(stored: InodeRecord) -> Self {
        DirtyFile {
            record: stored,
            stored,
            overlay: Overlay::default(),
            log_end: LogPosition(0),
        }
    }

    /// Notes a write that the log has.
    pub fn note(&mut self, write: &LoggedWrite, extent: Extent, sequence: u64, end: LogPosition) {
        let changed = next_change(self.record.changed, write.time);
        self.record.modified = changed;
        self.record.changed = changed;
        self.take(write, extent, sequence, end);
    }

    /// Notes a write that the log has kept over a stop. The attributes may have been stored after it, with a later change.
    pub fn note_replayed(&mut self, write: &LoggedWrite, extent: Extent, sequence: u64, end: LogPosition) {
        self.record.modified = write.time;
        self.record.changed = self.record.changed.max(write.time);
        self.take(write, extent, sequence, end);
    }

    fn take(&mut self, write: &LoggedWrite, extent: Extent, sequence: u64, end: LogPosition) {
        let length = u64::from(extent.length());
        self.record.inline = false;
        self.record.size = self.record.size.max(write.offset + length);
        self.record.used = self.record.used.saturating_add(length);
        self.record.data_version = next_data_version(self.record.data_version, self.record.changed);
        self.record.log_sequence = sequence;
        self.overlay.insert(write.offset, extent);
        self.log_end = self.log_end.max(end);
    }
}

impl DirtyFile {
    /// Bytes by which it is longer than the metadata says.
    fn grown(&self) -> i64 {
        self.record.size as i64 - self.stored.size as i64
    }
}

/// The dirty files of a volume. They can be read as the map that they are; changes go through the methods, which keep count of what
/// the metadata does not know yet.
#[derive(Debug, Default)]
pub(crate) struct DirtyFiles {
    files: HashMap<InodeId, DirtyFile>,
    grown: i64,
}

impl std::ops::Deref for DirtyFiles {
    type Target = HashMap<InodeId, DirtyFile>;

    fn deref(&self) -> &Self::Target {
        &self.files
    }
}

impl DirtyFiles {
    /// Bytes by which all of them together are longer than the metadata says.
    pub fn grown(&self) -> i64 {
        self.grown
    }

    /// Changes a file, which becomes dirty with `stored` as the attributes that the metadata has if it is not.
    pub fn change<T>(
        &mut self,
        inode: InodeId,
        stored: InodeRecord,
        change: impl FnOnce(&mut DirtyFile) -> T,
    ) -> T {
        let file = self.files.entry(inode).or_insert_with(|| DirtyFile::new(stored));
        let before = file.grown();
        let outcome = change(file);
        self.grown += file.grown() - before;
        outcome
    }

    /// By how much [`DirtyFiles::grown`] changes if the file gets these attributes (as seen, as stored), or becomes clean.
    pub fn growth(&self, inode: InodeId, after: Option<(&InodeRecord, &InodeRecord)>) -> i64 {
        let Some(file) = self.files.get(&inode) else {
            return 0;
        };
        let after = after.map_or(0, |(seen, stored)| seen.size as i64 - stored.size as i64);
        after - file.grown()
    }

    /// Gives a file that is dirty other attributes.
    pub fn set(&mut self, inode: InodeId, seen: InodeRecord, stored: InodeRecord) {
        self.grown += self.growth(inode, Some((&seen, &stored)));
        if let Some(file) = self.files.get_mut(&inode) {
            (file.record, file.stored) = (seen, stored);
        }
    }

    /// Says that a file is clean, or gone.
    pub fn forget(&mut self, inode: InodeId) {
        self.grown += self.growth(inode, None);
        self.files.remove(&inode);
    }

    /// Forgets all; tells how many extents they had that only the log has.
    pub fn forget_all(&mut self) -> u64 {
        self.grown = 0;
        let extents = self.files.drain().map(|(_, file)| file.overlay.len() as u64);
        extents.sum()
    }
}

/// The time of a change: now, but never the time of the change before.
pub(crate) fn next_change(before: Timestamp, now: Timestamp) -> Timestamp {
    now.max(before.successor())
}

/// The data version after a change at that time: higher than before, and different in lines that parted before it.
pub(crate) fn next_data_version(before: u64, time: Timestamp) -> u64 {
    let seconds = u64::try_from(time.seconds()).unwrap_or(0);
    let nanoseconds = seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(time.nanoseconds()));
    nanoseconds.max(before + 1)
}

/// What a record of the hot log is about: the context that the log keeps for us.
///
/// | offset | width | field (little-endian) |
/// | --- | --- | --- |
/// | 0 | 1 | layout, 1 |
/// | 1 | 8 | branch; 0 of data that an import appends, which a replay passes over |
/// | 9 | 8 | inode |
/// | 17 | 8 | offset in the file |
/// | 25 | 8 + 4 | time of the write: seconds (signed), nanoseconds |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoggedWrite {
    pub branch: cairn_types::BranchId,
    pub inode: InodeId,
    pub offset: u64,
    pub time: Timestamp,
}

impl LoggedWrite {
    pub const BYTES: usize = 37;
    /// The branch of what is no write to a live branch: ids of branches begin at 1.
    pub const NOBODY: cairn_types::BranchId = cairn_types::BranchId(0);

    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let fields: [&[u8]; 6] = [
            &[1],
            &self.branch.0.to_le_bytes(),
            &self.inode.0.to_le_bytes(),
            &self.offset.to_le_bytes(),
            &self.time.seconds().to_le_bytes(),
            &self.time.nanoseconds().to_le_bytes(),
        ];
        for (to, from) in bytes.iter_mut().zip(fields.concat()) {
            *to = from;
        }
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let nanoseconds = u32::from_le_bytes(bytes.get(33..37)?.try_into().ok()?);
        (bytes.first() == Some(&1)).then_some(())?;
        Some(LoggedWrite {
            branch: cairn_types::BranchId(word(1)?),
            inode: InodeId(word(9)?),
            offset: word(17)?,
            time: Timestamp::new(word(25)? as i64, nanoseconds),
        })
    }
}

#[cfg(test)]
mod tests {
    use cairn_types::{BranchId, ByteRange, ChunkId, ChunkSlice, Extent, InodeId, Timestamp};

    use super::{LoggedWrite, Overlay, lay_over};

    fn extent(tag: u8, length: u32) -> Extent {
        Extent::Chunk(ChunkSlice {
            chunk: ChunkId([tag; 32]),
            offset: 0,
            length,
        })
    }

    #[test]
    fn writes_cut_what_they_cover() {
        let mut overlay = Overlay::default();
        let mut model = [0u8; 64];
        for (tag, start, length) in [
            (1, 0, 64),
            (2, 10, 10),
            (3, 15, 20),
            (4, 0, 5),
            (5, 12, 1),
            (6, 60, 4),
        ] {
            overlay.insert(start, extent(tag, length));
            model[start as usize..(start + u64::from(length)) as usize].fill(tag);
        }
        overlay.remove(ByteRange::at(30, 10));
        model[30..40].fill(0);
        let mut seen = [0u8; 64];
        for record in overlay.iter() {
            let Extent::Chunk(slice) = record.extent else {
                unreachable!()
            };
            seen[record.start as usize..][..slice.length as usize].fill(slice.chunk.0[0]);
        }
        assert_eq!(seen, model);
    }

    #[test]
    fn laying_over_leaves_no_gap() {
        let mut below = Overlay::default();
        below.insert(5, extent(1, 10));
        let mut above = Overlay::default();
        above.insert(8, extent(2, 2));
        let range = ByteRange::at(2, 20);
        let pieces = lay_over(range, &below.overlapping(range), &above.overlapping(range));
        let summary: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.range.start(), piece.range.end(), piece.extent.is_some()))
            .collect();
        assert_eq!(
            summary,
            [
                (2, 5, false),
                (5, 8, true),
                (8, 10, true),
                (10, 15, true),
                (15, 22, false)
            ]
        );
    }

    #[test]
    fn log_contexts_keep_their_bytes() {
        let write = LoggedWrite {
            branch: BranchId(2),
            inode: InodeId(3),
            offset: 4,
            time: Timestamp::new(-5, 6),
        };
        let bytes = write.encode();
        assert_eq!(LoggedWrite::decode(&bytes), Some(write));
        assert_eq!(
            bytes[..18],
            [1, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4]
        );
        assert_eq!(
            bytes[25..],
            [0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 6, 0, 0, 0]
        );
        assert_eq!(LoggedWrite::decode(&bytes[1..]), None);
    }
}
