//! The bytes of the index of blocks. Reading never panics, and takes nothing for granted that is merely announced.

use cairn_content::chunking::CHUNK_BYTES_MAX;
use cairn_types::ChunkId;

use super::BlockReference;
use crate::archive::tree::TreeDamage;
use crate::archive::tree::codec::{Reader, put, put_bytes};
use crate::directory::RelativePath;
use crate::directory::path::PATH_BYTES_MAX;

/// The first bytes of a chunk of the index: what it is, and the version.
const INDEX_HEADER: [u8; 2] = [0xd2, 1];

/// The beginning of a chunk of the index.
pub fn index_header() -> Vec<u8> {
    INDEX_HEADER.to_vec()
}

/// Adds a block to a chunk of the index, behind one that begins at `last`; at the beginning of a chunk that is the root.
pub fn put_block(out: &mut Vec<u8>, last: &RelativePath, block: &BlockReference) {
    let (before, first) = (last.as_bytes(), block.first.as_bytes());
    let shared = before.iter().zip(first).take_while(|(a, b)| a == b).count();
    put(out, shared as u64);
    put_bytes(out, &first[shared..]);
    put(out, u64::from(block.entries) << 1 | u64::from(block.continues));
    out.extend_from_slice(&block.chunk.0);
    put(out, u64::from(block.length));
}

/// The blocks that a chunk of the index names: one at least, in order.
pub fn read_index(bytes: &[u8]) -> Result<Vec<BlockReference>, TreeDamage> {
    let mut reader = Reader::new(bytes, 0);
    if reader.array::<2>("the header of an index of blocks")? != INDEX_HEADER {
        return Err(reader.damage("the header of an index of blocks"));
    }
    let mut blocks: Vec<BlockReference> = Vec::new();
    loop {
        let last = blocks.last().map_or(&[][..], |block| block.first.as_bytes());
        let shared = usize::try_from(reader.u64("the path of a block")?).unwrap_or(usize::MAX);
        let shared = last
            .get(..shared)
            .ok_or_else(|| reader.damage("the path of a block"))?;
        let rest = reader.bytes(PATH_BYTES_MAX, "the path of a block")?;
        let path = RelativePath::new(&[shared, rest].concat());
        let first = path.map_err(|_| reader.damage("the path of a block"))?;
        let number = reader.u64("the number of entries of a block")?;
        let continues = number & 1 != 0;
        let entries = u32::try_from(number >> 1)
            .ok()
            .filter(|entries| *entries > 0 || continues);
        let entries = entries.ok_or_else(|| reader.damage("the number of entries of a block"))?;
        let in_order = blocks.last().is_none_or(|last| match continues {
            true => last.first <= first,
            false => last.first < first,
        });
        if !in_order {
            return Err(reader.damage("the order of blocks"));
        }
        let chunk = ChunkId(reader.array("the chunk of a block")?);
        let length = reader.u32("the length of a block")?;
        if length == 0 || length > CHUNK_BYTES_MAX {
            return Err(reader.damage("the length of a block"));
        }
        blocks.push(BlockReference {
            first,
            continues,
            entries,
            chunk,
            length,
        });
        if reader.is_empty() {
            return Ok(blocks);
        }
    }
}
