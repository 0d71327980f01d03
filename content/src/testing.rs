//! Data for tests and benchmarks: the same bytes each time.

/// Bytes without structure (xorshift64*).
pub fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        bytes.extend_from_slice(&x.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Something like a log: lines with words that come again.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    let words = [
        "snapshot", "volume", "restore", "error", "chunk", "pack", "the", "of", "verified",
    ];
    let mut bytes = Vec::with_capacity(length + 64);
    for (index, byte) in random(seed, length).into_iter().enumerate() {
        if bytes.len() >= length {
            break;
        }
        bytes.extend_from_slice(words[usize::from(byte) % words.len()].as_bytes());
        bytes.push(if index % 9 == 8 { b'\n' } else { b' ' });
    }
    bytes.truncate(length);
    bytes
}

/// Weights of a model: normally distributed floats, as `width` bytes each: 4 (f32) or 2 (bf16, its upper half).
pub fn weights(seed: u64, length: usize, width: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + width);
    for sample in random(seed, (length / width + 1) * 8).chunks_exact(8) {
        // The sum of four uniform values is normal enough.
        let sum: i32 = sample
            .chunks_exact(2)
            .map(|pair| i32::from(i16::from_le_bytes([pair[0], pair[1]])))
            .sum();
        let value = sum as f32 / 65536.0 * 0.02 + f32::from(sample[0]) * 1e-9;
        bytes.extend_from_slice(&value.to_le_bytes()[4 - width..]);
    }
    bytes.truncate(length);
    bytes
}
