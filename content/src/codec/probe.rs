//! A look at a sample: how far an entropy coder would get, with the bytes as they are and split into planes.

use super::Encoding;

/// Bytes that are looked at, in pieces from all over the data.
const SAMPLE_BYTES: usize = 16 << 10;
const PIECES: usize = 4;
/// Bytes that [`is_noise`] looks at; it is asked of every chunk.
const LOOK_BYTES: usize = 4 << 10;
/// Of fewer bytes it cannot be told whether they are noise.
const LOOK_BYTES_MIN: usize = 1 << 10;
/// From so many bits per byte on, data is noise: 16 KiB of random bytes measure 7.99, compressed files 7.97 and more.
const NOISE_BITS: f32 = 7.95;
/// Planes are worth a try when they save so much more than the bytes as they are.
const PLANES_GAIN: f32 = 0.93;

/// Order-0 entropies of a sample in bits per byte, 0 to 8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Of the bytes as they are.
    pub flat: f32,
    /// Mean over the planes of elements of 2 bytes.
    pub planes2: f32,
    /// Mean over the planes of elements of 4 bytes.
    pub planes4: f32,
}

impl Estimate {
    /// Whether nothing is to be gained. Long repetitions of noise would be missed: deduplication finds those.
    pub fn is_hopeless(&self) -> bool {
        self.flat >= NOISE_BITS && self.promising_planes().is_none()
    }

    /// The planes that may beat compressing the bytes as they are, if any may.
    pub fn promising_planes(&self) -> Option<Encoding> {
        let (best, encoding) = if self.planes4 < self.planes2 * 0.98 {
            (self.planes4, Encoding::Planes4)
        } else {
            (self.planes2, Encoding::Planes2)
        };
        (best < self.flat * PLANES_GAIN).then_some(encoding)
    }
}

/// Looks at a sample of `data`.
pub fn estimate(data: &[u8]) -> Estimate {
    weigh(&sample(data, SAMPLE_BYTES))
}

/// Whether data looks as if nothing were to be gained, by a short look. Such data is kept apart from other data, lest a
/// compressor waste its time and its window on it.
pub fn is_noise(data: &[u8]) -> bool {
    if data.len() < LOOK_BYTES_MIN {
        return false;
    }
    let counts = sample(data, LOOK_BYTES);
    let [a, b, c, d] = &counts;
    // Most data is told apart by this alone.
    entropy(&sum(&sum(a, c), &sum(b, d))) >= NOISE_BITS && weigh(&counts).is_hopeless()
}

/// Counts the values of the bytes at each offset in elements of 4, in at most so many bytes.
fn sample(data: &[u8], bytes_max: usize) -> [[u32; 256]; 4] {
    let mut counts = [[0u32; 256]; 4];
    if data.len() <= bytes_max {
        count(data, &mut counts);
    } else {
        let piece = bytes_max / PIECES;
        for index in 0..PIECES {
            // Planes are told apart by the offset: every piece begins at a multiple of the widest element.
            let start = ((data.len() - piece) / (PIECES - 1) * index) & !3;
            count(&data[start..start + piece], &mut counts);
        }
    }
    counts
}

fn weigh(counts: &[[u32; 256]; 4]) -> Estimate {
    let [a, b, c, d] = counts;
    let (even, odd) = (sum(a, c), sum(b, d));
    let mean = |entropies: &[f32]| entropies.iter().sum::<f32>() / entropies.len() as f32;
    Estimate {
        flat: entropy(&sum(&even, &odd)),
        planes2: mean(&[entropy(&even), entropy(&odd)]),
        planes4: mean(&[entropy(a), entropy(b), entropy(c), entropy(d)]),
    }
}

fn count(piece: &[u8], counts: &mut [[u32; 256]; 4]) {
    let elements = piece.chunks_exact(4);
    for (byte, counts) in elements.remainder().iter().zip(counts.iter_mut()) {
        counts[usize::from(*byte)] += 1;
    }
    for element in elements {
        for (byte, counts) in element.iter().zip(counts.iter_mut()) {
            counts[usize::from(*byte)] += 1;
        }
    }
}

fn sum(a: &[u32; 256], b: &[u32; 256]) -> [u32; 256] {
    std::array::from_fn(|index| a[index] + b[index])
}

/// Shannon's entropy with the correction of Miller and Madow for a sample of limited size, at most 8.
fn entropy(counts: &[u32; 256]) -> f32 {
    let total: u32 = counts.iter().sum();
    if total == 0 {
        return 0.0;
    }
    let present = counts.iter().filter(|count| **count > 0);
    let (mut bits, mut values) = (0.0, 0.0);
    for count in present {
        let share = *count as f32 / total as f32;
        bits -= share * share.log2();
        values += 1.0;
    }
    let correction = (values - 1.0) / (2.0 * total as f32) * std::f32::consts::LOG2_E;
    (bits + correction).min(8.0)
}
