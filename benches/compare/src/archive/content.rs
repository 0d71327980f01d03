//! The bytes of the trees: noise, text and tensors, each reproducible from a seed.

use std::f32::consts::TAU;

use cairn_e2e::random::Random;

/// Different words of the text.
const WORDS: usize = 4096;
/// Letters in about the order of their frequency in English; the front ones are drawn more often.
const LETTERS: &[u8; 26] = b"etaoinshrdlcumwfgypbvkjxqz";
/// Words between two ends of lines, on average.
const LINE_WORDS: u64 = 12;

/// Bytes that no compressor makes smaller.
pub fn noise(random: &mut Random, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A number in [0, 1) of 24 bits, from the upper or the lower half of a word.
fn fraction(half: u32) -> f32 {
    (half >> 8) as f32 / (1 << 24) as f32
}

/// Text of invented words. How often each is used falls with its rank (Zipf's law), as in natural text.
pub struct Text {
    words: Vec<Vec<u8>>,
}

impl Text {
    /// Invents the words.
    pub fn new(random: &mut Random) -> Self {
        let letter = |random: &mut Random| {
            let share = fraction(random.next() as u32);
            LETTERS[((share * share) * LETTERS.len() as f32) as usize]
        };
        let words = (0..WORDS)
            .map(|_| (0..2 + random.below(8)).map(|_| letter(random)).collect())
            .collect();
        Text { words }
    }

    /// Text of `length` bytes.
    pub fn bytes(&self, random: &mut Random, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 16);
        while bytes.len() < length {
            let word = random.next();
            // Ranks whose logarithms are even: rank r comes with a frequency of 1/r.
            let rank = (WORDS as f32).powf(fraction(word as u32)) as usize - 1;
            bytes.extend_from_slice(&self.words[rank.min(WORDS - 1)]);
            bytes.push(if (word >> 32).is_multiple_of(LINE_WORDS) {
                b'\n'
            } else {
                b' '
            });
        }
        bytes.truncate(length);
        bytes
    }
}

/// Two numbers of the standard normal distribution (Box and Muller 1958).
fn normal(random: &mut Random) -> [f32; 2] {
    let word = random.next();
    let radius = (-2.0 * (1.0 - fraction(word as u32)).ln()).sqrt();
    let (sine, cosine) = (TAU * fraction((word >> 32) as u32)).sin_cos();
    [radius * cosine, radius * sine]
}

/// The nearest bfloat16, ties to even, of a number that is finite.
fn bf16(value: f32) -> [u8; 2] {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    ((rounded >> 16) as u16).to_le_bytes()
}

/// `length` bytes (a multiple of 4) of weights in bfloat16, and of the same weights some steps of training later: the
/// update of a weight is normal, too, and a thousandth of the weights' deviation.
pub fn weights(random: &mut Random, length: usize) -> (Vec<u8>, Vec<u8>) {
    const DEVIATION: f32 = 0.02;
    const UPDATE: f32 = DEVIATION / 1000.0;
    let (mut first, mut second) = (Vec::with_capacity(length), Vec::with_capacity(length));
    while first.len() < length {
        let (weights, updates) = (normal(random), normal(random));
        for (weight, update) in weights.into_iter().zip(updates) {
            first.extend_from_slice(&bf16(weight * DEVIATION));
            second.extend_from_slice(&bf16(weight * DEVIATION + update * UPDATE));
        }
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cairn_e2e::random::Random;

    use super::{Text, bf16, noise, normal, weights};

    /// Bits a byte, if each byte stood alone.
    fn entropy<'a>(symbols: impl Iterator<Item = &'a [u8]>) -> f64 {
        let mut counts: BTreeMap<&[u8], u64> = BTreeMap::new();
        symbols.for_each(|symbol| *counts.entry(symbol).or_default() += 1);
        let total: u64 = counts.values().sum();
        counts
            .values()
            .map(|count| *count as f64 / total as f64)
            .map(|share| -share * share.log2())
            .sum()
    }

    #[test]
    fn text_can_be_compressed_and_noise_cannot() {
        let mut random = Random::new(1);
        let text = Text::new(&mut random).bytes(&mut random, 100_000);
        assert_eq!(text.len(), 100_000);
        assert!(entropy(text.chunks(1)) < 4.7);
        let words = entropy(text.split(|byte| byte.is_ascii_whitespace()));
        assert!((7.0..10.0).contains(&words), "{words} bits a word");
        assert!(entropy(noise(&mut random, 100_000).chunks(1)) > 7.99);
    }

    #[test]
    fn numbers_are_normal_and_rounded_to_the_nearest() {
        let mut random = Random::new(2);
        let numbers: Vec<f32> = (0..50_000).flat_map(|_| normal(&mut random)).collect();
        let mean = numbers.iter().sum::<f32>() / numbers.len() as f32;
        let variance = numbers.iter().map(|number| number * number).sum::<f32>() / numbers.len() as f32;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
        assert_eq!(bf16(1.0), [0x80, 0x3f]);
        // Half way between two neighbours: to the even one, downwards and upwards.
        assert_eq!(bf16(f32::from_bits(0x3f80_8000)), [0x80, 0x3f]);
        assert_eq!(bf16(f32::from_bits(0x3f81_8000)), [0x82, 0x3f]);
    }

    #[test]
    fn training_changes_some_bits_of_some_weights() {
        let (first, second) = weights(&mut Random::new(3), 400_000);
        assert_eq!((first.len(), second.len()), (400_000, 400_000));
        let changed = first
            .chunks(2)
            .zip(second.chunks(2))
            .filter(|(a, b)| a != b)
            .count();
        let share = changed as f64 / 200_000.0;
        assert!((0.05..0.6).contains(&share), "{share}");
        let exponents = entropy(first.chunks(2).map(|weight| &weight[1..]));
        assert!(exponents < 4.0, "{exponents} bits");
    }
}
