//! The hash of a file's data: the same for the same bytes, whether zeros are written or holes, and for holes without reading them.
//!
//! A *segment* is 1 MiB of a file at a multiple of 1 MiB; a shorter rest at the end is none.
//!
//! - If no segment is all zeros: BLAKE3 of the data, as `b3sum` computes it.
//! - Else: BLAKE3 in its mode of key derivation, with the context [`SPARSE_CONTEXT`], of
//!
//! ```text
//!   for each longest run of segments that are all zeros, ascending:
//!     u64 little-endian   index of its first segment
//!     u64 little-endian   segments
//!   u64 little-endian     bytes of the file
//!   32 bytes              BLAKE3 of the data without these segments
//! ```
//!
//! The modes of BLAKE3 are independent, so that no file of the first kind has the hash of one of the second. Read from its end, the
//! input of the second can be told apart into its parts.

use super::entry::Digest;

/// Bytes of a segment.
pub const SEGMENT_BYTES: u64 = 1 << 20;
/// The context of the hashes of files with segments of zeros.
pub const SPARSE_CONTEXT: &str = "cairn 2026 sparse file content";

/// Bytes that are compared with zeros at once.
const BLOCK: usize = 4096;
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// Hashes a file's data as it comes.
#[derive(Debug, Clone)]
pub struct ContentHasher {
    /// Bytes so far.
    size: u64,
    /// Zeros at the end of these, all in the segment that is not complete, if there is nothing else in it.
    pending_zeros: u64,
    /// Data without the segments that are all zeros, and without the pending zeros.
    data: blake3::Hasher,
    /// The runs so far but the last, if there are any.
    runs: Option<Box<blake3::Hasher>>,
    /// The last run: its first segment, and segments.
    run: Option<(u64, u64)>,
}

impl Default for ContentHasher {
    fn default() -> Self {
        ContentHasher::new()
    }
}

impl ContentHasher {
    /// Of no data.
    pub fn new() -> Self {
        ContentHasher {
            size: 0,
            pending_zeros: 0,
            data: blake3::Hasher::new(),
            runs: None,
            run: None,
        }
    }

    /// Bytes that follow. Fastest with 16 KiB and more.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let in_segment = self.size % SEGMENT_BYTES;
            let rest = SEGMENT_BYTES - in_segment;
            let take = usize::try_from(rest).unwrap_or(bytes.len()).min(bytes.len());
            let (now, later) = bytes.split_at(take);
            let zeros = if self.pending_zeros == in_segment {
                leading_zeros(now)
            } else {
                0
            };
            if zeros > 0 {
                self.zeros(zeros as u64);
            }
            if zeros < now.len() {
                self.hash_pending();
                self.data.update(&now[zeros..]);
                self.size += (now.len() - zeros) as u64;
            }
            bytes = later;
        }
    }

    /// Zeros that follow: the same as giving them to [`ContentHasher::update`], without the work.
    pub fn zeros(&mut self, mut length: u64) {
        while length > 0 {
            let in_segment = self.size % SEGMENT_BYTES;
            if in_segment == 0 && length >= SEGMENT_BYTES {
                let segments = length / SEGMENT_BYTES;
                self.add_run(self.size / SEGMENT_BYTES, segments);
                self.size += segments * SEGMENT_BYTES;
                length %= SEGMENT_BYTES;
                continue;
            }
            let take = length.min(SEGMENT_BYTES - in_segment);
            if self.pending_zeros == in_segment {
                self.pending_zeros += take;
            } else {
                hash_zeros(&mut self.data, take);
            }
            self.size += take;
            length -= take;
            if self.pending_zeros == SEGMENT_BYTES {
                self.pending_zeros = 0;
                self.add_run(self.size / SEGMENT_BYTES - 1, 1);
            }
        }
    }

    /// The hash of everything so far.
    pub fn finish(mut self) -> Digest {
        self.hash_pending();
        let Some(last) = self.run.take() else {
            return Digest(*self.data.finalize().as_bytes());
        };
        let mut whole = self.runs.take().unwrap_or_else(sparse_hasher);
        hash_run(&mut whole, last);
        whole.update(&self.size.to_le_bytes());
        whole.update(self.data.finalize().as_bytes());
        Digest(*whole.finalize().as_bytes())
    }

    fn hash_pending(&mut self) {
        hash_zeros(&mut self.data, std::mem::take(&mut self.pending_zeros));
    }

    fn add_run(&mut self, first: u64, segments: u64) {
        match &mut self.run {
            Some((start, length)) if *start + *length == first => *length += segments,
            run => {
                if let Some(complete) = run.replace((first, segments)) {
                    hash_run(self.runs.get_or_insert_with(sparse_hasher), complete);
                }
            }
        }
    }
}

fn sparse_hasher() -> Box<blake3::Hasher> {
    Box::new(blake3::Hasher::new_derive_key(SPARSE_CONTEXT))
}

fn hash_run(hasher: &mut blake3::Hasher, (first, segments): (u64, u64)) {
    hasher.update(&first.to_le_bytes());
    hasher.update(&segments.to_le_bytes());
}

fn hash_zeros(hasher: &mut blake3::Hasher, mut length: u64) {
    while length > 0 {
        let now = usize::try_from(length).unwrap_or(ZEROS.len()).min(ZEROS.len());
        hasher.update(&ZEROS[..now]);
        length -= now as u64;
    }
}

/// Zeros that `bytes` begin with; to the block if others follow.
fn leading_zeros(bytes: &[u8]) -> usize {
    let mut at = 0;
    for block in bytes.chunks(BLOCK) {
        if block != &ZEROS[..block.len()] {
            break;
        }
        at += block.len();
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop, proptest};

    use super::{ContentHasher, SEGMENT_BYTES, SPARSE_CONTEXT};
    use crate::directory::entry::Digest;

    /// The definition, word by word.
    fn expected(data: &[u8]) -> Digest {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut rest = Vec::new();
        for (index, segment) in data.chunks(SEGMENT_BYTES as usize).enumerate() {
            let index = index as u64;
            if segment.len() as u64 == SEGMENT_BYTES && segment.iter().all(|byte| *byte == 0) {
                match runs.last_mut() {
                    Some((first, count)) if *first + *count == index => *count += 1,
                    _ => runs.push((index, 1)),
                }
            } else {
                rest.extend_from_slice(segment);
            }
        }
        if runs.is_empty() {
            return Digest(*blake3::hash(data).as_bytes());
        }
        let mut input = Vec::new();
        for (first, count) in runs {
            input.extend_from_slice(&first.to_le_bytes());
            input.extend_from_slice(&count.to_le_bytes());
        }
        input.extend_from_slice(&(data.len() as u64).to_le_bytes());
        input.extend_from_slice(blake3::hash(&rest).as_bytes());
        Digest(blake3::derive_key(SPARSE_CONTEXT, &input))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Parts of a file in any cut, zeros as bytes or as holes: always the hash of the definition.
        #[test]
        fn holes_and_zeros_are_the_same(
            parts in prop::collection::vec((any::<bool>(), any::<bool>(), 1_usize..3_000_000), 0..6),
            aligned in any::<bool>(),
        ) {
            let mut data = Vec::new();
            let mut hasher = ContentHasher::new();
            for (zeros, as_hole, length) in parts {
                let length = if aligned { length.next_multiple_of(1 << 19) } else { length };
                let start = data.len();
                if zeros {
                    data.resize(start + length, 0);
                } else {
                    data.extend((0..length).map(|at| (at % 251) as u8 + 1));
                }
                if zeros && as_hole {
                    hasher.zeros(length as u64);
                } else {
                    for piece in data[start..].chunks(100_000) {
                        hasher.update(piece);
                    }
                }
            }
            assert_eq!(hasher.finish(), expected(&data));
        }
    }

    #[test]
    fn holes_of_exabytes_cost_nothing() {
        let mut one = ContentHasher::new();
        one.zeros(1 << 62);
        one.update(b"x");
        let mut other = ContentHasher::new();
        other.zeros((1 << 62) - 1);
        other.zeros(1);
        other.update(b"x");
        let mut shorter = ContentHasher::new();
        shorter.zeros((1 << 62) - SEGMENT_BYTES);
        shorter.update(b"x");
        assert_eq!(one.clone().finish(), other.finish());
        assert_ne!(one.finish(), shorter.finish());
    }

    /// These stand in manifests.
    #[test]
    fn the_hash_of_a_sparse_file_does_not_change() {
        let mut hasher = ContentHasher::new();
        hasher.zeros(2 * SEGMENT_BYTES);
        hasher.update(&[1; SEGMENT_BYTES as usize]);
        hasher.zeros(SEGMENT_BYTES);
        hasher.update(b"rest");
        assert_eq!(
            hasher.finish().to_string(),
            "c63e2e30a213105c9ed6c948965feeeadabaf73e22409660e1a99c00f56c25d5"
        );
    }

    #[test]
    fn small_files_have_the_hash_of_b3sum() {
        let mut hasher = ContentHasher::new();
        assert_eq!(
            hasher.clone().finish().to_string(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        hasher.update(&[0; 100]);
        assert_eq!(hasher.finish(), Digest(*blake3::hash(&[0; 100]).as_bytes()));
    }
}
