//! What stands around the blocks of a manifest's file: header, index, footer. `docs/formats/manifest.md` draws them.

use cairn_content::codec::Encoding;

use super::block::{BLOCK_BYTES_MAX, BlockDamage};
use super::codec::{Reader, put, put_bytes, shared};
use super::error::ManifestError;
use super::{EntryCounts, ManifestSummary};
use crate::directory::path::PATH_BYTES_MAX;
use crate::directory::{Digest, RelativePath};

const MAGIC: &[u8; 8] = b"CAIRNMAN";
const END_MAGIC: &[u8; 8] = b"CAIRNEND";
/// The version that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 32;
pub(super) const FOOTER_BYTES: usize = 160;
/// Where the hash stands in the footer.
const SEAL_AT: usize = 120;
/// Most bytes of an index: about a hundred million entries.
pub(super) const INDEX_BYTES_MAX: usize = 256 << 20;

/// Records have stamps.
const STAMPS: u32 = 1;
/// A block begins with more of the record before.
const CONTINUES: u8 = 1 << 7;

/// What the index says of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub first: RelativePath,
    pub continues: bool,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes in the file.
    pub stored: u32,
    /// Its bytes before compression.
    pub length: u32,
    pub entries: u32,
    pub encoding: Encoding,
    /// CRC-32C of the stored bytes.
    pub checksum: u32,
    /// BLAKE3 of the bytes before compression.
    pub hash: [u8; 32],
}

pub(super) fn header(stamps: bool) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&if stamps { STAMPS } else { 0 }.to_le_bytes());
    header
}

/// Whether records have stamps.
pub(super) fn read_header(header: &[u8; HEADER_BYTES]) -> Result<bool, ManifestError> {
    if header[..8] != *MAGIC {
        return Err(ManifestError::NotAManifest);
    }
    let number = |at| u32::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
    let version = number(8);
    if version != VERSION {
        return Err(ManifestError::Version {
            found: version,
            known: VERSION,
        });
    }
    if number(12) & !STAMPS != 0 || header[16..].iter().any(|byte| *byte != 0) {
        return Err(ManifestError::Damaged { what: "its header" });
    }
    Ok(number(12) & STAMPS != 0)
}

/// Adds what is said of a block, whose offset follows from the blocks before.
pub(super) fn put_index_entry(out: &mut Vec<u8>, entry: &IndexEntry, before: &RelativePath) {
    out.push(entry.encoding as u8 | if entry.continues { CONTINUES } else { 0 });
    put(out, u64::from(entry.stored));
    put(out, u64::from(entry.length));
    put(out, u64::from(entry.entries));
    out.extend_from_slice(&entry.checksum.to_le_bytes());
    out.extend_from_slice(&entry.hash);
    let path = entry.first.as_bytes();
    let equal = shared(before.as_bytes(), path);
    put(out, equal as u64);
    put_bytes(out, &path[equal..]);
}

/// The index of blocks that begin behind the header and end at `end`.
pub(super) fn read_index(bytes: &[u8], end: u64) -> Result<Vec<IndexEntry>, ManifestError> {
    let damaged = |_: BlockDamage| ManifestError::Damaged { what: "its index" };
    let wrong = |what| ManifestError::Damaged { what };
    let mut reader = Reader::new(bytes, 0);
    let mut entries: Vec<IndexEntry> = Vec::new();
    let mut path = Vec::new();
    let mut offset = HEADER_BYTES as u64;
    while !reader.is_empty() {
        let head = reader.u8("").map_err(damaged)?;
        let encoding = Encoding::from_number(head & !CONTINUES).ok_or(wrong("an encoding in its index"))?;
        let stored = reader.u32("").map_err(damaged)?;
        let length = reader.u32("").map_err(damaged)?;
        if length == 0 || length as usize > BLOCK_BYTES_MAX || stored > length {
            return Err(wrong("a length in its index"));
        }
        let count = reader.u32("").map_err(damaged)?;
        let checksum = u32::from_le_bytes(reader.array("").map_err(damaged)?);
        let hash = reader.array("").map_err(damaged)?;
        let equal = reader.u64("").map_err(damaged)?;
        let equal = usize::try_from(equal).ok().filter(|equal| *equal <= path.len());
        let rest = reader.bytes(PATH_BYTES_MAX, "").map_err(damaged)?;
        path.truncate(equal.ok_or(wrong("a path in its index"))?);
        path.extend_from_slice(rest);
        let first = RelativePath::new(&path).map_err(|_| wrong("a path in its index"))?;
        let continues = head & CONTINUES != 0;
        let follows = match entries.last() {
            None => first.is_root() && !continues,
            Some(before) => before.first < first || (continues && before.first == first),
        };
        if !follows {
            return Err(wrong("the order of its index"));
        }
        entries.push(IndexEntry {
            first,
            continues,
            offset,
            stored,
            length,
            entries: count,
            encoding,
            checksum,
            hash,
        });
        offset += u64::from(stored);
    }
    if offset != end || entries.is_empty() {
        return Err(wrong("its blocks do not fill it"));
    }
    Ok(entries)
}

/// Where the index lies, and what the footer says.
pub(super) struct Footer {
    pub index_offset: u64,
    pub index_bytes: u64,
    pub summary: ManifestSummary,
}

/// The footer, and the file's hash, which stands in it.
pub(super) fn footer(
    header: &[u8; HEADER_BYTES],
    index_offset: u64,
    index: &[u8],
    counts: &EntryCounts,
    tree_hash: Option<Digest>,
) -> ([u8; FOOTER_BYTES], Digest) {
    let mut footer = [0; FOOTER_BYTES];
    let numbers = [
        index_offset,
        index.len() as u64,
        counts.entries,
        counts.files,
        counts.directories,
        counts.symlinks,
        counts.special,
        counts.links,
        counts.bytes,
        counts.unhashed,
    ];
    for (number, field) in numbers.iter().zip(footer.as_chunks_mut::<8>().0) {
        *field = number.to_le_bytes();
    }
    footer[80..112].copy_from_slice(&tree_hash.unwrap_or(Digest([0; 32])).0);
    footer[112] = u8::from(tree_hash.is_some());
    let seal = seal(header, index, &footer);
    footer[SEAL_AT..SEAL_AT + 32].copy_from_slice(&seal.0);
    footer[SEAL_AT + 32..].copy_from_slice(END_MAGIC);
    (footer, seal)
}

fn seal(header: &[u8; HEADER_BYTES], index: &[u8], footer: &[u8; FOOTER_BYTES]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(index).update(&footer[..SEAL_AT]);
    Digest(*hasher.finalize().as_bytes())
}

/// Reads a footer of a file of `bytes` bytes. It is not to be trusted before [`check_seal`].
pub(super) fn read_footer(footer: &[u8; FOOTER_BYTES], bytes: u64) -> Result<Footer, ManifestError> {
    let damaged = ManifestError::Damaged { what: "its footer" };
    if footer[SEAL_AT + 32..] != *END_MAGIC {
        return Err(ManifestError::Truncated { bytes });
    }
    let (fields, _) = footer.as_chunks::<8>();
    let number = |field: usize| u64::from_le_bytes(fields[field]);
    let (index_offset, index_bytes) = (number(0), number(1));
    let end = index_offset.checked_add(index_bytes);
    let end = end.and_then(|end| end.checked_add(FOOTER_BYTES as u64));
    if end != Some(bytes) || index_offset < HEADER_BYTES as u64 || index_bytes > INDEX_BYTES_MAX as u64 {
        return Err(damaged);
    }
    let digest = |at: usize| Digest(std::array::from_fn(|byte| footer[at + byte]));
    let tree_hash = match footer[112] {
        0 => None,
        1 => Some(digest(80)),
        _ => return Err(damaged),
    };
    if footer[113..SEAL_AT].iter().any(|byte| *byte != 0) {
        return Err(damaged);
    }
    Ok(Footer {
        index_offset,
        index_bytes,
        summary: ManifestSummary {
            counts: EntryCounts {
                entries: number(2),
                files: number(3),
                directories: number(4),
                symlinks: number(5),
                special: number(6),
                links: number(7),
                bytes: number(8),
                unhashed: number(9),
            },
            tree_hash,
            file_hash: digest(SEAL_AT),
        },
    })
}

/// Whether header, index and footer are those that were written.
pub(super) fn check_seal(
    header: &[u8; HEADER_BYTES],
    index: &[u8],
    footer: &[u8; FOOTER_BYTES],
) -> Result<(), ManifestError> {
    match seal(header, index, footer).0[..] == footer[SEAL_AT..SEAL_AT + 32] {
        true => Ok(()),
        false => Err(ManifestError::Damaged {
            what: "the hash of its header, index and footer does not match",
        }),
    }
}
