//! The bytes of the tree's chunks. `docs/formats/archive.md` draws them; `tree/tests.rs` pins them.
//!
//! A leaf begins with the byte 0xC1, a chunk of references with 0xC2; the second byte is the layout, 1.

use cairn_content::pipeline::Run;
use cairn_types::{ChunkId, DeviceNumber, FileKind, InodeId, Node, Timestamp};

use super::codec::{Reader, is_device, kind_code, kind_of, put, put_bytes, put_signed};
use super::{Key, NAME_BYTES_MAX, NodeReference, Part, RUNS_MAX, Record, TARGET_BYTES_MAX};
use crate::archive::report::TreeCounts;

const LEAF: u8 = 0xC1;
const REFERENCES: u8 = 0xC2;
const LAYOUT: u8 = 1;
/// Most levels above the leaves: more than any tree has.
pub(crate) const HEIGHT_MAX: u8 = 16;

const NODE: u8 = 0;
const ENTRY: u8 = 1;
const TARGET: u8 = 2;
const DATA: u8 = 3;

/// Flags of attributes.
const ACCESSED_IS_MODIFIED: u8 = 1;
const CHANGED_IS_MODIFIED: u8 = 2;

/// Bytes of a tree's chunk that are not what they must be, although they are what their identity says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset} of a part of the tree makes no sense")]
pub struct TreeDamage {
    /// What.
    pub what: &'static str,
    /// Where, from the beginning of the chunk.
    pub offset: usize,
}

fn put_key(out: &mut Vec<u8>, key: &Key, before: InodeId) {
    put(out, key.inode.0.wrapping_sub(before.0));
    match &key.part {
        Part::Node => out.push(NODE),
        Part::Entry(name) => {
            out.push(ENTRY);
            put_bytes(out, name);
        }
        Part::Target => out.push(TARGET),
        Part::Data(offset) => {
            out.push(DATA);
            put(out, *offset);
        }
    }
}

fn read_key(reader: &mut Reader<'_>, before: InodeId) -> Result<Key, TreeDamage> {
    let damage = reader.damage("an inode number");
    let inode = before
        .0
        .checked_add(reader.u64("an inode number")?)
        .filter(|inode| *inode > 0)
        .ok_or(damage)?;
    let damage = reader.damage("the kind of a record");
    let part = match reader.u8("the kind of a record")? {
        NODE => Part::Node,
        ENTRY => {
            let damage = reader.damage("a name");
            let name = reader.bytes(NAME_BYTES_MAX, "a name")?;
            if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
                return Err(damage);
            }
            Part::Entry(name.to_vec())
        }
        TARGET => Part::Target,
        DATA => Part::Data(reader.u64("an offset")?),
        _ => return Err(damage),
    };
    Ok(Key {
        inode: InodeId(inode),
        part,
    })
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    put_signed(out, time.seconds());
    put(out, u64::from(time.nanoseconds()));
}

fn read_time(reader: &mut Reader<'_>) -> Result<Timestamp, TreeDamage> {
    let damage = reader.damage("a time");
    let (seconds, nanoseconds) = (reader.i64("a time")?, reader.u32("a time")?);
    (nanoseconds < 1_000_000_000)
        .then(|| Timestamp::new(seconds, nanoseconds))
        .ok_or(damage)
}

fn put_node(out: &mut Vec<u8>, node: &Node) {
    let accessed = node.accessed == node.modified;
    let changed = node.changed == node.modified;
    out.push(kind_code(node.kind));
    let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
    out.push(flag(accessed, ACCESSED_IS_MODIFIED) | flag(changed, CHANGED_IS_MODIFIED));
    put(out, u64::from(node.mode));
    put(out, u64::from(node.links));
    put(out, u64::from(node.uid));
    put(out, u64::from(node.gid));
    put(out, node.size);
    put_time(out, node.modified);
    if !accessed {
        put_time(out, node.accessed);
    }
    if !changed {
        put_time(out, node.changed);
    }
    out.extend_from_slice(&node.generation.to_le_bytes());
    put(out, node.data_version);
    if node.kind == FileKind::Directory {
        put(out, node.parent.0);
    }
    if is_device(node.kind) {
        put(out, u64::from(node.device.major));
        put(out, u64::from(node.device.minor));
    }
}

fn read_node(reader: &mut Reader<'_>) -> Result<Node, TreeDamage> {
    let damage = reader.damage("the type of an inode");
    let kind = kind_of(reader.u8("the type of an inode")?).ok_or(damage)?;
    let damage = reader.damage("flags of attributes");
    let flags = reader.u8("flags of attributes")?;
    if flags & !(ACCESSED_IS_MODIFIED | CHANGED_IS_MODIFIED) != 0 {
        return Err(damage);
    }
    let damage = reader.damage("a mode");
    let mode = reader.u32("a mode")?;
    if mode > 0o7777 {
        return Err(damage);
    }
    let links = reader.u32("a count of links")?;
    let (uid, gid) = (reader.u32("an owner")?, reader.u32("a group")?);
    let size = reader.u64("a size")?;
    let modified = read_time(reader)?;
    let accessed = match flags & ACCESSED_IS_MODIFIED {
        0 => read_time(reader)?,
        _ => modified,
    };
    let changed = match flags & CHANGED_IS_MODIFIED {
        0 => read_time(reader)?,
        _ => modified,
    };
    let generation = u32::from_le_bytes(reader.array("a generation")?);
    let data_version = reader.u64("a data version")?;
    let parent = match kind {
        FileKind::Directory => InodeId(reader.u64("a parent")?),
        _ => InodeId(0),
    };
    let device = match is_device(kind) {
        true => DeviceNumber {
            major: reader.u32("a device")?,
            minor: reader.u32("a device")?,
        },
        false => DeviceNumber::default(),
    };
    Ok(Node {
        kind,
        mode: mode as u16,
        links,
        uid,
        gid,
        size,
        device,
        accessed,
        modified,
        changed,
        generation,
        data_version,
        parent,
    })
}

/// Adds a record behind one of the inode `before` (0 at the beginning of a leaf).
pub(super) fn put_record(out: &mut Vec<u8>, key: &Key, record: &Record, before: InodeId) {
    put_key(out, key, before);
    match record {
        Record::Node(node) => put_node(out, node),
        Record::Entry(inode, kind) => {
            out.push(kind_code(*kind));
            put(out, inode.0);
        }
        Record::Target(target) => put_bytes(out, target),
        Record::Data(runs) => {
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
    }
}

fn read_run(reader: &mut Reader<'_>) -> Result<Run, TreeDamage> {
    let damage = reader.damage("a run");
    let head = reader.u64("a run")?;
    let length = u32::try_from(head >> 1)
        .ok()
        .filter(|length| *length > 0)
        .ok_or(damage)?;
    Ok(match head & 1 {
        0 => Run::Zeros(length),
        _ => Run::Chunk(ChunkId(reader.array("a chunk")?), length),
    })
}

fn read_record(reader: &mut Reader<'_>, key: &Key) -> Result<Record, TreeDamage> {
    Ok(match &key.part {
        Part::Node => Record::Node(read_node(reader)?),
        Part::Entry(_) => {
            let damage = reader.damage("an entry");
            let kind = kind_of(reader.u8("an entry")?).ok_or(damage)?;
            let inode = reader.u64("an entry")?;
            if inode == 0 {
                return Err(damage);
            }
            Record::Entry(InodeId(inode), kind)
        }
        Part::Target => {
            let damage = reader.damage("the target of a link");
            let target = reader.bytes(TARGET_BYTES_MAX, "the target of a link")?;
            if target.is_empty() || target.contains(&0) {
                return Err(damage);
            }
            Record::Target(target.to_vec())
        }
        Part::Data(offset) => {
            let damage = reader.damage("runs of data");
            let count = reader.u64("runs of data")?;
            if count == 0 || count > RUNS_MAX as u64 {
                return Err(damage);
            }
            let mut runs = Vec::with_capacity(count as usize);
            let mut end = *offset;
            for _ in 0..count {
                let run = read_run(reader)?;
                end = end.checked_add(u64::from(run.length())).ok_or(damage)?;
                runs.push(run);
            }
            Record::Data(runs)
        }
    })
}

/// The two bytes that a leaf begins with.
pub(super) fn leaf_header() -> [u8; 2] {
    [LEAF, LAYOUT]
}

fn check_header(reader: &mut Reader<'_>, kind: u8) -> Result<(), TreeDamage> {
    let damage = reader.damage("the header");
    if reader.array::<2>("the header")? == [kind, LAYOUT] {
        Ok(())
    } else {
        Err(damage)
    }
}

/// The records of a leaf: ascending, at least one.
pub(super) fn read_leaf(bytes: &[u8]) -> Result<Vec<(Key, Record)>, TreeDamage> {
    let mut reader = Reader::new(bytes, 0);
    check_header(&mut reader, LEAF)?;
    let mut records: Vec<(Key, Record)> = Vec::new();
    loop {
        let damage = reader.damage("the order of records");
        let before = records.last().map(|(key, _)| key);
        let key = read_key(&mut reader, before.map_or(InodeId(0), |key| key.inode))?;
        if before.is_some_and(|before| *before >= key) {
            return Err(damage);
        }
        let record = read_record(&mut reader, &key)?;
        records.push((key, record));
        if reader.is_empty() {
            return Ok(records);
        }
    }
}

/// A chunk of references, side by side in order.
pub(super) fn write_references(references: &[NodeReference]) -> Vec<u8> {
    let mut out = vec![REFERENCES, LAYOUT];
    let mut before = InodeId(0);
    for reference in references {
        put_key(&mut out, &reference.first, before);
        before = reference.first.inode;
        out.extend_from_slice(&reference.chunk.0);
        put(&mut out, u64::from(reference.length));
        let counts = &reference.counts;
        for count in [counts.inodes, counts.files, counts.directories, counts.bytes] {
            put(&mut out, count);
        }
    }
    out
}

/// The references of a chunk: ascending, at least one.
pub(super) fn read_references(bytes: &[u8]) -> Result<Vec<NodeReference>, TreeDamage> {
    let mut reader = Reader::new(bytes, 0);
    check_header(&mut reader, REFERENCES)?;
    let mut references: Vec<NodeReference> = Vec::new();
    loop {
        let damage = reader.damage("the order of references");
        let before = references.last().map(|reference| &reference.first);
        let first = read_key(&mut reader, before.map_or(InodeId(0), |key| key.inode))?;
        if before.is_some_and(|before| *before >= first) {
            return Err(damage);
        }
        let chunk = ChunkId(reader.array("a chunk")?);
        let length = reader.u32("a length")?;
        let counts = TreeCounts {
            inodes: reader.u64("a count")?,
            files: reader.u64("a count")?,
            directories: reader.u64("a count")?,
            bytes: reader.u64("a count")?,
        };
        references.push(NodeReference {
            first,
            chunk,
            length,
            counts,
        });
        if reader.is_empty() {
            return Ok(references);
        }
    }
}
