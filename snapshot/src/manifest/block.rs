//! Blocks: runs of records as bytes, before they are compressed.
//!
//! A block can be decoded alone, and what it holds depends on its records and nothing else: two trees that are equal over a block's
//! records have that block in common. Lists of holes and chunks that are too long for one block go on in the next ones.
//!
//! The bytes are drawn in `docs/formats/manifest.md`. Where blocks end is decided elsewhere, and compression and checksums are the
//! business of files and object stores.

use cairn_content::pipeline::Run;
use cairn_types::{ChunkId, DeviceNumber, FileKind, Timestamp};

use super::check::{HOLE_UNIT, Sequence, TARGET_BYTES_MAX, XATTR_VALUE_BYTES_MAX, fault};
use super::codec::{Reader, is_device, kind_code, kind_of, put, put_bytes, put_signed, shared};
use crate::directory::path::{NAME_BYTES_MAX, PATH_BYTES_MAX};
use crate::directory::{Attributes, Body, Digest, Entry, FileBody, Hole, Record, RelativePath, Stamp, Xattr};

/// Most bytes of a block before compression: no more than a chunk of an object store has.
pub const BLOCK_BYTES_MAX: usize = 4 << 20;

const KIND: u8 = 0b111;
const LINK: u8 = 1 << 3;
const DIGEST: u8 = 1 << 4;
const HOLES: u8 = 1 << 5;
const RUNS: u8 = 1 << 6;
const XATTRS: u8 = 1 << 7;
/// The kind of what goes on with the lists of the file before.
const CONTINUATION: u8 = 0;

const STAMP: u8 = 1;
const SAME_OWNER: u8 = 1 << 1;
const SAME_MODE: u8 = 1 << 2;
const SAME_DEVICE: u8 = 1 << 3;
const CHANGED_IS_MODIFIED: u8 = 1 << 4;
const MORE: u8 = 1 << 5;
const FLAGS: u8 = STAMP | SAME_OWNER | SAME_MODE | SAME_DEVICE | CHANGED_IS_MODIFIED | MORE;

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockDamage {
    /// It cannot be decompressed, or to something else than it should.
    #[error("it cannot be decompressed: {reason}")]
    Compression {
        /// Why, in the codec's words.
        reason: String,
    },
    /// Its bytes are not those that were written.
    #[error("its checksum does not match")]
    Checksum,
    /// Its bytes are what they should be, and cannot be decoded.
    #[error("{what} at byte {offset} makes no sense")]
    Nonsense {
        /// What.
        what: &'static str,
        /// Where, from the beginning of the uncompressed block.
        offset: usize,
    },
    /// An entry is none that a tree can have, or not where it can be.
    #[error("{path}: {what}")]
    Entry {
        /// The entry.
        path: RelativePath,
        /// What is wrong.
        what: &'static str,
    },
    /// It holds another number of entries than the index says.
    #[error("it holds {found} entries, the index says {expected}")]
    Entries {
        /// What the index says.
        expected: u32,
        /// What it holds.
        found: u32,
    },
    /// Its first record is another one than the index says.
    #[error("its first entry is not the one that the index says")]
    First,
    /// The lists of a file go on where no file before it says so, or do not go on where one does.
    #[error("it does not go on where the block before it ends")]
    Continuation,
}

/// What a record is told against: the one before it in the block. All zeros at the beginning.
#[derive(Debug, Clone, Default)]
pub(super) struct Before {
    path: Vec<u8>,
    mode: u16,
    uid: u32,
    gid: u32,
    seconds: i64,
    device: u64,
    inode: u64,
}

impl Before {
    /// As at the beginning of a block; keeps its memory.
    pub fn reset(&mut self) {
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        *self = Before {
            path,
            ..Before::default()
        };
    }
}

/// Adds a record without its lists of holes and chunks; the answer is where it begins. The record must have passed [`fault`].
pub(super) fn put_record(out: &mut Vec<u8>, before: &mut Before, record: &Record, stamps: bool) -> usize {
    let start = out.len();
    let entry = &record.entry;
    let attributes = &entry.attributes;
    let stamp = record.stamp.filter(|_| stamps);
    let (head, flags) = heads(entry, stamp, before);
    out.extend_from_slice(&[head, flags]);
    let path = entry.path.as_bytes();
    let equal = shared(&before.path, path);
    put(out, equal as u64);
    put_bytes(out, &path[equal..]);
    before.path.truncate(equal);
    before.path.extend_from_slice(&path[equal..]);
    if flags & SAME_MODE == 0 {
        put(out, u64::from(attributes.mode));
    }
    if flags & SAME_OWNER == 0 {
        put(out, u64::from(attributes.uid));
        put(out, u64::from(attributes.gid));
    }
    let seconds = attributes.modified.seconds();
    put_signed(out, seconds.wrapping_sub(before.seconds));
    out.extend_from_slice(&attributes.modified.nanoseconds().to_le_bytes());
    if has_size(attributes.kind, head & LINK != 0) {
        put(out, attributes.size);
    }
    if is_device(attributes.kind) {
        put(out, u64::from(attributes.device.major));
        put(out, u64::from(attributes.device.minor));
    }
    if head & XATTRS != 0 {
        put(out, attributes.xattrs.len() as u64);
        for xattr in &attributes.xattrs {
            put_bytes(out, &xattr.name);
            put_bytes(out, &xattr.value);
        }
    }
    if let Some(stamp) = stamp {
        if flags & SAME_DEVICE == 0 {
            put(out, stamp.device);
        }
        put_signed(out, stamp.inode.wrapping_sub(before.inode) as i64);
        if flags & CHANGED_IS_MODIFIED == 0 {
            put_signed(out, stamp.changed.seconds().wrapping_sub(seconds));
            out.extend_from_slice(&stamp.changed.nanoseconds().to_le_bytes());
        }
        (before.device, before.inode) = (stamp.device, stamp.inode);
    }
    match &entry.body {
        Body::None => {}
        Body::Symlink(target) => put_bytes(out, target),
        Body::Link(to) => {
            let equal = shared(path, to.as_bytes());
            put(out, equal as u64);
            put_bytes(out, &to.as_bytes()[equal..]);
        }
        Body::File(file) => {
            if let Some(digest) = file.digest {
                out.extend_from_slice(&digest.0);
            }
        }
    }
    (before.mode, before.uid, before.gid) = (attributes.mode, attributes.uid, attributes.gid);
    before.seconds = seconds;
    start
}

/// The two bytes that a record begins with, but for the flags of its lists.
fn heads(entry: &Entry, stamp: Option<Stamp>, before: &Before) -> (u8, u8) {
    let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
    let attributes = &entry.attributes;
    let digest = matches!(&entry.body, Body::File(file) if file.digest.is_some());
    let head = kind_code(attributes.kind)
        | flag(matches!(entry.body, Body::Link(_)), LINK)
        | flag(digest, DIGEST)
        | flag(!attributes.xattrs.is_empty(), XATTRS);
    let mut flags = flag(attributes.mode == before.mode, SAME_MODE)
        | flag(
            (attributes.uid, attributes.gid) == (before.uid, before.gid),
            SAME_OWNER,
        );
    if let Some(stamp) = stamp {
        flags |= STAMP
            | flag(stamp.device == before.device, SAME_DEVICE)
            | flag(stamp.changed == attributes.modified, CHANGED_IS_MODIFIED);
    }
    (head, flags)
}

/// Whether a record says its size: that of a symbolic link is its target's.
fn has_size(kind: FileKind, link: bool) -> bool {
    kind == FileKind::Regular || (kind == FileKind::Symlink && link)
}

/// Adds the two bytes that go on with the lists of the file before; the answer is where they begin.
pub(super) fn put_continuation(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[CONTINUATION, 0]);
    out.len() - 2
}

/// Adds lists to the record that begins at `start`, and says whether there is more of them.
pub(super) fn put_lists(out: &mut Vec<u8>, start: usize, holes: &[Hole], runs: &[Run], more: bool) {
    if !holes.is_empty() {
        out[start] |= HOLES;
        put(out, holes.len() as u64);
        let mut end = 0;
        for hole in holes {
            // Holes begin at multiples of the unit; only the last of a file may end elsewhere, and none follows it.
            put(out, (hole.offset - end) / HOLE_UNIT);
            put(out, hole.length);
            end = hole.offset + hole.length;
        }
    }
    if !runs.is_empty() {
        out[start] |= RUNS;
        put(out, runs.len() as u64);
        for run in runs {
            match run {
                Run::Zeros(length) => put(out, u64::from(*length) << 1),
                Run::Chunk(id, length) => {
                    put(out, u64::from(*length) << 1 | 1);
                    out.extend_from_slice(&id.0);
                }
            }
        }
    }
    if more {
        out[start + 1] |= MORE;
    }
}

/// What stands in a block.
#[derive(Debug)]
pub(super) enum Item {
    /// A record, not checked yet.
    Record(Record),
    /// More of the lists of the file before.
    Continuation(Vec<Hole>, Vec<Run>),
}

/// Reads the next item; says also whether its lists go on in the next block.
pub(super) fn read_item(reader: &mut Reader<'_>, before: &mut Before) -> Result<(Item, bool), BlockDamage> {
    let start = reader.at();
    let nonsense = |what| BlockDamage::Nonsense { what, offset: start };
    let [head, flags] = reader.array("an item")?;
    let more = flags & MORE != 0;
    if flags & !FLAGS != 0 {
        return Err(nonsense("flags"));
    }
    if head & KIND == CONTINUATION {
        let lists = head & (HOLES | RUNS);
        if head & !lists != CONTINUATION || lists == 0 || flags & !MORE != 0 {
            return Err(nonsense("a continuation"));
        }
        let holes = read_holes(reader, head)?;
        let runs = read_runs(reader, head)?;
        return Ok((Item::Continuation(holes, runs), more));
    }
    let kind = kind_of(head & KIND).ok_or_else(|| nonsense("a type"))?;
    let link = head & LINK != 0;
    let file = kind == FileKind::Regular && !link;
    if !file && (head & (DIGEST | HOLES | RUNS) != 0 || more) {
        return Err(nonsense("flags"));
    }
    if flags & STAMP == 0 && flags & (SAME_DEVICE | CHANGED_IS_MODIFIED) != 0 {
        return Err(nonsense("flags"));
    }
    let path = read_path(reader, &mut before.path, "a path")?;
    let mut attributes = read_attributes(reader, before, kind, head, flags)?;
    let stamp = match flags & STAMP {
        0 => None,
        _ => Some(read_stamp(reader, before, flags, attributes.modified)?),
    };
    let body = match (link, kind) {
        (true, _) => Body::Link(read_path(reader, &mut before.path.clone(), "the path of a link")?),
        (false, FileKind::Symlink) => {
            let target = reader.bytes(TARGET_BYTES_MAX, "the target of a symbolic link")?;
            attributes.size = target.len() as u64;
            Body::Symlink(target.to_vec())
        }
        (false, FileKind::Regular) => Body::File(FileBody {
            digest: match head & DIGEST {
                0 => None,
                _ => Some(Digest(reader.array("a digest")?)),
            },
            holes: read_holes(reader, head)?,
            runs: read_runs(reader, head)?,
        }),
        _ => Body::None,
    };
    let entry = Entry {
        path,
        attributes,
        body,
    };
    Ok((Item::Record(Record { entry, stamp }), more))
}

/// Reads a path that begins as `before` does, and leaves it there.
fn read_path(
    reader: &mut Reader<'_>,
    before: &mut Vec<u8>,
    what: &'static str,
) -> Result<RelativePath, BlockDamage> {
    let start = reader.at();
    let nonsense = || BlockDamage::Nonsense { what, offset: start };
    let equal = usize::try_from(reader.u64(what)?).map_err(|_| nonsense())?;
    if equal > before.len() {
        return Err(nonsense());
    }
    let rest = reader.bytes(PATH_BYTES_MAX, what)?;
    before.truncate(equal);
    before.extend_from_slice(rest);
    RelativePath::new(before).map_err(|_| nonsense())
}

fn read_attributes(
    reader: &mut Reader<'_>,
    before: &mut Before,
    kind: FileKind,
    head: u8,
    flags: u8,
) -> Result<Attributes, BlockDamage> {
    if flags & SAME_MODE == 0 {
        let damage = reader.damage("a mode");
        let mode = u16::try_from(reader.u64("a mode")?).ok();
        before.mode = mode.filter(|mode| *mode <= 0o7777).ok_or(damage)?;
    }
    if flags & SAME_OWNER == 0 {
        before.uid = reader.u32("an owner")?;
        before.gid = reader.u32("a group")?;
    }
    before.seconds = before.seconds.wrapping_add(reader.i64("a time")?);
    let modified = read_time(reader, before.seconds)?;
    let size = match has_size(kind, head & LINK != 0) {
        true => reader.u64("a size")?,
        false => 0,
    };
    let device = match is_device(kind) {
        true => DeviceNumber {
            major: reader.u32("a device")?,
            minor: reader.u32("a device")?,
        },
        false => DeviceNumber::default(),
    };
    let mut xattrs = Vec::new();
    if head & XATTRS != 0 {
        let damage = reader.damage("extended attributes");
        let count = reader.count("extended attributes")?;
        if count == 0 {
            return Err(damage);
        }
        for _ in 0..count {
            xattrs.push(Xattr {
                name: reader.bytes(NAME_BYTES_MAX, "the name of an attribute")?.to_vec(),
                value: reader
                    .bytes(XATTR_VALUE_BYTES_MAX, "the value of an attribute")?
                    .to_vec(),
            });
        }
    }
    Ok(Attributes {
        kind,
        mode: before.mode,
        uid: before.uid,
        gid: before.gid,
        modified,
        size,
        device,
        xattrs,
    })
}

fn read_time(reader: &mut Reader<'_>, seconds: i64) -> Result<Timestamp, BlockDamage> {
    let damage = reader.damage("nanoseconds");
    let nanoseconds = u32::from_le_bytes(reader.array("nanoseconds")?);
    match nanoseconds < 1_000_000_000 {
        true => Ok(Timestamp::new(seconds, nanoseconds)),
        false => Err(damage),
    }
}

fn read_stamp(
    reader: &mut Reader<'_>,
    before: &mut Before,
    flags: u8,
    modified: Timestamp,
) -> Result<Stamp, BlockDamage> {
    if flags & SAME_DEVICE == 0 {
        before.device = reader.u64("a device's number")?;
    }
    before.inode = before.inode.wrapping_add(reader.i64("an inode's number")? as u64);
    let changed = match flags & CHANGED_IS_MODIFIED {
        0 => {
            let seconds = modified.seconds().wrapping_add(reader.i64("a time")?);
            read_time(reader, seconds)?
        }
        _ => modified,
    };
    Ok(Stamp {
        device: before.device,
        inode: before.inode,
        changed,
    })
}

fn read_holes(reader: &mut Reader<'_>, head: u8) -> Result<Vec<Hole>, BlockDamage> {
    let mut holes = Vec::new();
    if head & HOLES == 0 {
        return Ok(holes);
    }
    let damage = reader.damage("a list of holes");
    let count = reader.count("a list of holes")?;
    if count == 0 {
        return Err(damage);
    }
    let mut end = 0u64;
    for _ in 0..count {
        let damage = reader.damage("a hole");
        let gap = reader.u64("a hole")?.checked_mul(HOLE_UNIT);
        let offset = gap
            .and_then(|gap| end.checked_add(gap))
            .ok_or_else(|| damage.clone())?;
        let length = reader.u64("a hole")?;
        end = offset.checked_add(length).ok_or(damage)?;
        holes.push(Hole { offset, length });
    }
    Ok(holes)
}

fn read_runs(reader: &mut Reader<'_>, head: u8) -> Result<Vec<Run>, BlockDamage> {
    let mut runs = Vec::new();
    if head & RUNS == 0 {
        return Ok(runs);
    }
    let damage = reader.damage("a list of chunks");
    let count = reader.count("a list of chunks")?;
    if count == 0 {
        return Err(damage);
    }
    for _ in 0..count {
        let damage = reader.damage("a chunk");
        let number = reader.u64("a chunk")?;
        let length = u32::try_from(number >> 1).ok().filter(|length| *length > 0);
        let length = length.ok_or(damage)?;
        runs.push(match number & 1 {
            0 => Run::Zeros(length),
            _ => Run::Chunk(ChunkId(reader.array("a chunk")?), length),
        });
    }
    Ok(runs)
}

/// Makes records of blocks that come one after another, and checks that they are a tree's.
#[derive(Debug)]
pub struct BlockDecoder {
    assembler: Assembler,
}

impl BlockDecoder {
    /// For all blocks of a tree, from the first on.
    pub fn whole() -> Self {
        BlockDecoder {
            assembler: Assembler::whole(),
        }
    }

    /// For blocks from the middle of a tree. What goes on with an entry of a block before is passed over.
    pub fn middle() -> Self {
        BlockDecoder {
            assembler: Assembler::middle(),
        }
    }

    /// Hands on the records that the next block completes, in order. Errors: [`BlockDamage`]; what was handed on before is sound, and the
    /// decoder is of no use afterwards.
    pub fn decode(&mut self, block: &[u8], each: &mut dyn FnMut(Record)) -> Result<(), BlockDamage> {
        let mut reader = Reader::new(block, 0);
        self.assembler.begin();
        while !reader.is_empty() {
            if let Some(record) = self.assembler.next(&mut reader)? {
                each(record);
            }
        }
        Ok(())
    }

    /// After the last block of a tree. Errors: [`BlockDamage::Continuation`] if an entry lacks a part.
    pub fn finish(self) -> Result<(), BlockDamage> {
        self.assembler.end()
    }
}

/// What [`BlockDecoder`] does, item by item.
#[derive(Debug)]
pub(super) struct Assembler {
    before: Before,
    sequence: Sequence,
    /// A record whose lists go on.
    open: Option<Record>,
    /// Whether a leading continuation belongs to a record that nobody asked for.
    passing: bool,
    /// Records that began in this block.
    begun: u32,
}

impl Assembler {
    /// Of all blocks from the first on.
    pub fn whole() -> Self {
        Assembler {
            before: Before::default(),
            sequence: Sequence::whole(),
            open: None,
            passing: false,
            begun: 0,
        }
    }

    /// From some block on. What goes on with a record of the blocks before is passed over.
    pub fn middle() -> Self {
        Assembler {
            sequence: Sequence::middle(),
            passing: true,
            ..Assembler::whole()
        }
    }

    /// Before the first item of each block.
    pub fn begin(&mut self) {
        self.before.reset();
        self.begun = 0;
    }

    /// A block is not read; nothing was open before it, and nothing is after it.
    pub fn pass(&mut self) {
        self.sequence = Sequence::middle();
    }

    /// Records that began since then.
    pub fn begun(&self) -> u32 {
        self.begun
    }

    /// Whether the record that began last, or goes on, is at this path, as far as that is known: who begins in the middle of a record's lists
    /// has not met it.
    pub fn is_at(&self, path: &RelativePath) -> bool {
        self.sequence.is_empty() || self.sequence.is_at(path)
    }

    /// After the last block: no record is open.
    pub fn end(&self) -> Result<(), BlockDamage> {
        match self.open {
            None => Ok(()),
            Some(_) => Err(BlockDamage::Continuation),
        }
    }

    /// Takes the next item. The answer is a record if one is complete.
    pub fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<Record>, BlockDamage> {
        let (item, more) = read_item(reader, &mut self.before)?;
        if more && !reader.is_empty() {
            return Err(BlockDamage::Continuation);
        }
        let record = match (item, self.open.take()) {
            (Item::Record(record), None) => {
                self.passing = false;
                self.begun += 1;
                let path = &record.entry.path;
                if let Err(what) = self.sequence.admit(path, record.entry.attributes.kind) {
                    return Err(BlockDamage::Entry {
                        path: path.clone(),
                        what,
                    });
                }
                record
            }
            (Item::Continuation(mut holes, mut runs), Some(mut record)) => {
                if let Body::File(file) = &mut record.entry.body {
                    file.holes.append(&mut holes);
                    file.runs.append(&mut runs);
                }
                record
            }
            (Item::Continuation(..), None) if self.passing => {
                self.passing = more;
                return Ok(None);
            }
            (Item::Record(_), Some(_)) | (Item::Continuation(..), None) => {
                return Err(BlockDamage::Continuation);
            }
        };
        if more {
            self.open = Some(record);
            return Ok(None);
        }
        match fault(&record.entry) {
            None => Ok(Some(record)),
            Some(what) => Err(BlockDamage::Entry {
                path: record.entry.path,
                what,
            }),
        }
    }
}
