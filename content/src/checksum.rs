//! CRC-32C (Castagnoli; RFC 3720, appendix B.4), streaming and per block of [`CHECKSUM_BLOCK`] bytes.
//!
//! Computed by `crc-fast`: 46 GB/s on 4 KiB blocks and 14 GB/s on 64 bytes on the reference machine (AVX-512),
//! against 21 and 8 GB/s of the `crc32c` crate.

use std::sync::Arc;

use cairn_types::CHECKSUM_BLOCK;
use crc_fast::{CrcAlgorithm, Digest};

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of a sequence of bytes that comes in parts.
#[derive(Debug, Clone, Copy)]
pub struct Crc32c(Digest);

impl Crc32c {
    /// The checksum of no bytes.
    pub fn new() -> Self {
        Crc32c(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Takes in `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes taken in so far.
    pub fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Crc32c::new()
    }
}

/// One CRC-32C per block of [`CHECKSUM_BLOCK`] bytes of the concatenated `parts`; the last block may be shorter.
pub fn block_checksums(parts: &[&[u8]]) -> Arc<[u32]> {
    const BLOCK: usize = CHECKSUM_BLOCK as usize;
    if let [whole] = parts {
        return whole.chunks(BLOCK).map(crc32c).collect();
    }
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut checksums = Vec::with_capacity(total.div_ceil(BLOCK));
    let mut open = Crc32c::new();
    let mut filled = 0;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            if filled == 0 && rest.len() >= BLOCK {
                let (block, after) = rest.split_at(BLOCK);
                checksums.push(crc32c(block));
                rest = after;
                continue;
            }
            let (piece, after) = rest.split_at(rest.len().min(BLOCK - filled));
            open.update(piece);
            filled += piece.len();
            rest = after;
            if filled == BLOCK {
                checksums.push(open.value());
                open = Crc32c::new();
                filled = 0;
            }
        }
    }
    if filled > 0 {
        checksums.push(open.value());
    }
    checksums.into()
}

#[cfg(test)]
mod tests {
    use super::{Crc32c, block_checksums, crc32c};

    #[test]
    fn agrees_with_the_test_vectors_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut streaming = Crc32c::new();
        streaming.update(b"1234");
        streaming.update(b"56789");
        assert_eq!(streaming.value(), 0xe306_9283);
    }

    #[test]
    fn blocks_do_not_depend_on_how_the_bytes_are_cut() {
        let data: Vec<u8> = (0..20_001u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8)
            .collect();
        let whole = block_checksums(&[&data]);
        assert_eq!(whole.len(), 5);
        assert_eq!(whole[4], crc32c(&data[16_384..]));
        for cut in [0, 1, 4095, 4096, 4097, 12_288, 20_000, 20_001] {
            let (a, b) = data.split_at(cut);
            assert_eq!(block_checksums(&[a, b]), whole, "cut at {cut}");
            assert_eq!(
                block_checksums(&[a, &[], &b[..b.len() / 3], &b[b.len() / 3..]]),
                whole
            );
        }
    }
}
