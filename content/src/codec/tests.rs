//! What goes in comes out, what is damaged is an error, and the choice is the one that saves.

use proptest::prelude::{any, prop, proptest};

use super::{Compression, DecodeError, Decoder, Encoder, Encoding, estimate, is_noise};
use crate::testing::{random, text, weights};

fn encode(compression: Compression, data: &[u8]) -> (Encoding, Vec<u8>) {
    let mut out = Vec::new();
    let encoding = Encoder::new(compression).unwrap().encode(data, &mut out);
    (encoding.unwrap(), out)
}

fn decode(encoding: Encoding, stored: &[u8], length: usize) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    let mut decoder = Decoder::new().unwrap();
    decoder.decode(encoding, stored, length, &mut out).map(|()| out)
}

/// The share of its size that data is stored in.
fn share(compression: Compression, data: &[u8]) -> (Encoding, f64) {
    let (encoding, stored) = encode(compression, data);
    assert_eq!(decode(encoding, &stored, data.len()).unwrap(), data);
    (encoding, stored.len() as f64 / data.len() as f64)
}

#[test]
fn the_codec_suits_the_data() {
    let zstd = Compression::default();
    const MIB: usize = 1 << 20;
    assert_eq!(share(zstd, &random(1, MIB)), (Encoding::Raw, 1.0));
    let (encoding, found) = share(zstd, &text(1, MIB));
    assert!(encoding == Encoding::Zstd && found < 0.35, "{encoding:?} {found}");
    let (encoding, found) = share(zstd, &weights(1, MIB, 2));
    assert!(
        encoding == Encoding::Planes2 && found < 0.7,
        "{encoding:?} {found}"
    );
    let (encoding, found) = share(zstd, &weights(1, MIB, 4));
    assert!(
        encoding == Encoding::Planes4 && found < 0.86,
        "{encoding:?} {found}"
    );
    let (encoding, found) = share(zstd, &vec![0; MIB]);
    assert!(
        encoding == Encoding::Zstd && found < 0.001,
        "{encoding:?} {found}"
    );
    // Integers that count: repetitions at a distance, which planes would not see better than zstd does.
    let counters: Vec<u8> = (0..MIB as u32 / 4).flat_map(|n| (n / 7).to_le_bytes()).collect();
    assert!(share(zstd, &counters).1 < 0.35);
    let (encoding, found) = share(Compression::Gzip(6), &text(1, MIB));
    assert!(encoding == Encoding::Gzip && found < 0.35, "{encoding:?} {found}");
    assert_eq!(share(Compression::Gzip(6), &random(2, MIB)).0, Encoding::Raw);
    assert_eq!(share(Compression::None, &text(2, MIB)), (Encoding::Raw, 1.0));
}

#[test]
fn tensors_in_the_middle_of_other_bytes_are_found() {
    for shift in 0..4 {
        let mut data = random(3, shift);
        data.extend(weights(4, 200_001, 4));
        let (encoding, found) = share(Compression::default(), &data);
        assert!(encoding == Encoding::Planes4 && found < 0.87, "{shift}: {found}");
    }
}

#[test]
fn levels_out_of_bounds_are_refused() {
    for wrong in [
        Compression::Zstd(0),
        Compression::Zstd(20),
        Compression::Gzip(0),
        Compression::Gzip(10),
    ] {
        let told = wrong.check().unwrap_err().to_string();
        assert!(told.contains("choose one from 1 to"), "{told}");
        assert!(Encoder::new(wrong).is_err());
    }
}

#[test]
fn a_wrong_length_is_an_error_whatever_the_encoding() {
    let all = [
        (Compression::None, text(5, 10_000)),
        (Compression::Zstd(3), text(5, 10_000)),
        (Compression::Gzip(6), text(5, 10_000)),
        (Compression::Zstd(3), weights(5, 10_000, 2)),
        (Compression::Zstd(3), weights(5, 10_000, 4)),
    ];
    let encodings = all.map(|(compression, data)| {
        let (encoding, stored) = encode(compression, &data);
        for wrong in [0, data.len() - 1, data.len() + 1, 2 * data.len()] {
            assert!(decode(encoding, &stored, wrong).is_err(), "{encoding:?} {wrong}");
        }
        for length in 0..stored.len() {
            assert!(decode(encoding, &stored[..length], data.len()).is_err());
        }
        encoding
    });
    assert_eq!(encodings.map(|encoding| encoding as u8), [0, 1, 2, 3, 4]);
    assert_eq!([0, 1, 2, 3, 4].map(Encoding::from_number), encodings.map(Some));
    assert_eq!(Encoding::from_number(5), None);
}

#[test]
fn entropies_are_those_of_the_sample() {
    let noise = estimate(&random(6, 100_000));
    assert!(noise.flat > 7.98 && noise.is_hopeless(), "{noise:?}");
    assert_eq!(estimate(&[7; 5000]).flat, 0.0);
    assert_eq!(estimate(&[]).flat, 0.0);
    let alternating: Vec<u8> = [1, 2].repeat(1000);
    let found = estimate(&alternating);
    assert!(
        (found.flat - 1.0).abs() < 0.01 && found.planes2 == 0.0,
        "{found:?}"
    );
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(data in prop::collection::vec(any::<u8>(), 0..5000), repeat in 1usize..4, kind in 0u8..4) {
        let compression = [Compression::None, Compression::Zstd(1), Compression::Zstd(9), Compression::Gzip(1)][usize::from(kind)];
        let data = data.repeat(repeat);
        let (encoding, stored) = encode(compression, &data);
        assert!(stored.len() <= data.len());
        assert_eq!(decode(encoding, &stored, data.len()).unwrap(), data);
    }

    #[test]
    fn planes_of_anything_come_out(data in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut encoder = Encoder::new(Compression::default()).unwrap();
        for encoding in [Encoding::Planes2, Encoding::Planes4] {
            let mut out = Vec::new();
            encoder.encode_as(encoding, 0, &data, &mut out).unwrap();
            assert_eq!(decode(encoding, &out, data.len()).unwrap(), data);
        }
    }

    #[test]
    fn foreign_bytes_are_an_error_or_some_bytes_of_that_length(
        stored in prop::collection::vec(any::<u8>(), 0..300), length in 0usize..2000, number in 0u8..5,
    ) {
        let encoding = Encoding::from_number(number).unwrap();
        if let Ok(bytes) = decode(encoding, &stored, length) {
            assert_eq!(bytes.len(), length);
        }
    }
}

#[test]
fn noise_is_told_from_what_may_compress() {
    for length in [1024, 4096, 12_000, 300_000] {
        assert!(is_noise(&random(3, length)), "{length} bytes");
        let text: Vec<u8> = b"some words that come again "
            .iter()
            .cycle()
            .take(length)
            .copied()
            .collect();
        assert!(!is_noise(&text));
        // Of every fourth byte much can be known.
        let mut tensors = random(4, length);
        tensors.iter_mut().skip(3).step_by(4).for_each(|byte| *byte &= 3);
        assert!(!is_noise(&tensors), "{length} bytes");
    }
    assert!(!is_noise(&random(3, 1023)));
    assert!(!is_noise(&[]));
}

#[test]
fn compressions_are_parsed() {
    for (text, expected) in [
        ("none", Compression::None),
        ("zstd", Compression::default()),
        ("zstd:19", Compression::Zstd(19)),
        ("gzip", Compression::Gzip(6)),
        ("gzip:1", Compression::Gzip(1)),
    ] {
        assert_eq!(text.parse(), Ok(expected));
    }
    for wrong in [
        "", "lz4", "zstd:", "zstd:0", "zstd:20", "gzip:0", "gzip:10", "none:1", "zstd:x", "zstd:1:2", "ZSTD",
    ] {
        let error = wrong.parse::<Compression>().unwrap_err();
        assert!(!error.to_string().is_empty(), "{wrong}");
    }
}
