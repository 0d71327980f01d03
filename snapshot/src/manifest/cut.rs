//! Where blocks end: behind a record whose path says so, so that trees that are equal in a region have the blocks of that region in common.

use std::collections::VecDeque;

use cairn_content::checksum::crc32c;
use cairn_content::pipeline::Run;

use super::block::{BLOCK_BYTES_MAX, Before, put_continuation, put_lists, put_record};
use super::check::{Sequence, fault};
use super::error::ManifestError;
use crate::directory::{Body, Hole, Record, RelativePath};

/// A block ends behind no record as long as it has fewer bytes.
const BLOCK_BYTES_LEAST: usize = 16 << 10;
/// A block ends behind the first record, hole or chunk with which it has so many bytes or more.
const BLOCK_BYTES_ENOUGH: usize = 256 << 10;
/// Of so many records, or chunks of one file, a block ends behind one.
const LOTS: u32 = 512;
/// Most bytes of a record without its lists: with what may stand before and behind it in its block, no more than a block has.
const RECORD_BYTES_MAX: usize = BLOCK_BYTES_MAX - 2 * BLOCK_BYTES_ENOUGH;
/// More than the bytes of a hole or a chunk.
const LIST_ITEM_BYTES: usize = 48;

/// A run of records as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The path of the first record, or of the one that it goes on with.
    pub first: RelativePath,
    /// Whether it begins with more of a record of the blocks before.
    pub continues: bool,
    /// Records that begin in it.
    pub entries: u32,
    /// Its bytes: at most [`BLOCK_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// Cuts a stream of records into blocks.
#[derive(Debug)]
pub struct BlockCutter {
    stamps: bool,
    sequence: Sequence,
    before: Before,
    open: Block,
    ready: VecDeque<Block>,
    spare: Vec<u8>,
}

impl BlockCutter {
    /// For a whole tree; `stamps` says whether records keep theirs. Without them blocks depend on the tree alone, and not on where it lies.
    pub fn new(stamps: bool) -> Self {
        BlockCutter {
            stamps,
            sequence: Sequence::whole(),
            before: Before::default(),
            open: empty(Vec::new()),
            ready: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    /// Takes the next record. Blocks that it completes are then to be taken by [`BlockCutter::complete`].
    /// Errors, after which the cutter is as before: [`ManifestError::Entry`] if it is none that a tree can have, [`ManifestError::Order`]
    /// if it cannot come here, [`ManifestError::EntryTooLarge`].
    pub fn push(&mut self, record: &Record) -> Result<(), ManifestError> {
        let entry = &record.entry;
        if let Some(what) = fault(entry) {
            let path = entry.path.clone();
            return Err(ManifestError::Entry { path, what });
        }
        let bytes = bytes_about(record);
        if bytes > RECORD_BYTES_MAX {
            return Err(ManifestError::EntryTooLarge {
                path: entry.path.clone(),
                bytes,
                bytes_max: RECORD_BYTES_MAX,
            });
        }
        self.sequence
            .admit(&entry.path, entry.attributes.kind)
            .map_err(|what| ManifestError::Order {
                before: self.sequence.before(),
                path: entry.path.clone(),
                what,
            })?;
        if self.open.bytes.is_empty() {
            self.open.first = entry.path.clone();
        }
        let start = put_record(&mut self.open.bytes, &mut self.before, record, self.stamps);
        self.open.entries += 1;
        if let Body::File(file) = &entry.body
            && (!file.holes.is_empty() || !file.runs.is_empty())
        {
            self.put_lists(&entry.path, start, &file.holes, &file.runs);
        }
        let length = self.open.bytes.len();
        let ends = length >= BLOCK_BYTES_ENOUGH
            || length >= BLOCK_BYTES_LEAST && crc32c(entry.path.as_bytes()).is_multiple_of(LOTS);
        if ends {
            self.end_block();
        }
        Ok(())
    }

    /// The next block that is complete, in order.
    pub fn complete(&mut self) -> Option<Block> {
        self.ready.pop_front()
    }

    /// After the last record: what is left is a block too. Errors: [`ManifestError::Empty`].
    pub fn finish(&mut self) -> Result<(), ManifestError> {
        if self.sequence.is_empty() {
            return Err(ManifestError::Empty);
        }
        if !self.open.bytes.is_empty() {
            self.end_block();
        }
        Ok(())
    }

    /// Takes the memory of a block for the next one.
    pub fn recycle(&mut self, block: Block) {
        self.spare = block.bytes;
        self.spare.clear();
    }

    fn end_block(&mut self) {
        let next = empty(std::mem::take(&mut self.spare));
        self.before.reset();
        self.ready.push_back(std::mem::replace(&mut self.open, next));
    }

    /// Adds the lists of the record that begins at `start`, in as many blocks as they need.
    fn put_lists(&mut self, path: &RelativePath, mut start: usize, mut holes: &[Hole], mut runs: &[Run]) {
        loop {
            let room = BLOCK_BYTES_ENOUGH.saturating_sub(self.open.bytes.len());
            // A list that is begun holds something, so that there always is progress.
            let now_holes = holes.len().min((room / LIST_ITEM_BYTES).max(1));
            let room = room - room.min(now_holes * LIST_ITEM_BYTES);
            let now_runs = match now_holes == holes.len() {
                true => self.runs_until_cut(runs, room, now_holes == 0),
                false => 0,
            };
            let more = now_holes < holes.len() || now_runs < runs.len();
            put_lists(
                &mut self.open.bytes,
                start,
                &holes[..now_holes],
                &runs[..now_runs],
                more,
            );
            if !more {
                return;
            }
            (holes, runs) = (&holes[now_holes..], &runs[now_runs..]);
            self.end_block();
            self.open.first = path.clone();
            self.open.continues = true;
            start = put_continuation(&mut self.open.bytes);
        }
    }

    /// How many chunks go into the open block, where `room` bytes are left.
    fn runs_until_cut(&self, runs: &[Run], room: usize, least_one: bool) -> usize {
        let fitting = runs
            .len()
            .min((room / LIST_ITEM_BYTES).max(usize::from(least_one)));
        let length = self.open.bytes.len();
        let lot = |run: &Run| match run {
            Run::Chunk(id, _) => {
                u32::from_le_bytes([id.0[0], id.0[1], id.0[2], id.0[3]]).is_multiple_of(LOTS)
            }
            Run::Zeros(_) => false,
        };
        let ends = |(at, run): (usize, &Run)| lot(run) && length + at * LIST_ITEM_BYTES >= BLOCK_BYTES_LEAST;
        match runs[..fitting]
            .iter()
            .enumerate()
            .position(|(at, run)| ends((at, run)))
        {
            Some(at) => at + 1,
            None => fitting,
        }
    }
}

fn empty(bytes: Vec<u8>) -> Block {
    Block {
        first: RelativePath::root(),
        continues: false,
        entries: 0,
        bytes,
    }
}

/// No less than the bytes of a record without its lists.
fn bytes_about(record: &Record) -> usize {
    let entry = &record.entry;
    let body = match &entry.body {
        Body::Link(to) => to.as_bytes().len(),
        Body::Symlink(target) => target.len(),
        Body::None | Body::File(_) => 0,
    };
    let xattrs = entry.attributes.xattrs.iter();
    let xattrs: usize = xattrs.map(|xattr| xattr.name.len() + xattr.value.len() + 8).sum();
    256 + entry.path.as_bytes().len() + body + xattrs
}
