//! The bytes of a pack are pinned; whatever is damaged is found; whatever was written comes back.

use cairn_types::ChunkId;
use proptest::prelude::{any, prop, proptest};

use super::{
    FRAME_BYTES_MAX, FrameReader, OpenFrame, PackError, PackIndex, PackWriter, SealedPack, TRAILER_BYTES,
    Trailer,
};
use crate::chunking::chunk_id;
use crate::codec::{Compression, Encoder, Encoding};
use crate::sealing::Sealing;
use crate::testing::{random, text, weights};

mod encrypted;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A plain pack whose frames hold these chunks.
fn pack(compression: Compression, frames: &[&[&[u8]]]) -> SealedPack {
    pack_with(&Sealing::plain(), compression, frames)
}

/// A pack whose frames hold these chunks.
fn pack_with(sealing: &Sealing, compression: Compression, frames: &[&[&[u8]]]) -> SealedPack {
    let mut encoder = Encoder::new(compression).unwrap();
    let mut writer = PackWriter::with(sealing.clone());
    for chunks in frames {
        let mut frame = OpenFrame::new();
        for chunk in *chunks {
            frame.push(sealing.chunk_id(chunk), chunk).unwrap();
        }
        writer.push(&frame.seal(&mut encoder).unwrap()).unwrap();
    }
    writer.finish().unwrap()
}

/// All chunks of a plain pack, verified.
fn unpack(bytes: &[u8]) -> Result<Vec<(ChunkId, Vec<u8>)>, PackError> {
    unpack_with(bytes, &Sealing::plain())
}

/// All chunks of a pack, verified.
fn unpack_with(bytes: &[u8], sealing: &Sealing) -> Result<Vec<(ChunkId, Vec<u8>)>, PackError> {
    let index = PackIndex::of_with(bytes, sealing)?;
    let mut reader = FrameReader::with(sealing.clone()).unwrap();
    let mut found = Vec::new();
    for frame in index.frames() {
        let start = frame.offset as usize;
        let decoded = reader.open(frame, &bytes[start..start + frame.stored as usize])?;
        for chunk in index.chunks_of(frame) {
            found.push((chunk.id, decoded.chunk(chunk)?.to_vec()));
        }
    }
    Ok(found)
}

#[test]
fn the_bytes_are_pinned() {
    let found = pack(Compression::None, &[&[b"one", b"two!"], &[b"three"]]);
    let hex = hex(&found.bytes);
    let chunk = |data: &[u8]| chunk_id(data).to_string();
    let crc = |data: &[u8]| -> String {
        let sum = crate::checksum::crc32c(data).to_le_bytes();
        sum.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let expected = [
        // Header: magic, version, zeros.
        "434149524e50414b01000000",
        &"00".repeat(20),
        // Frames.
        "6f6e6574776f21",
        "7468726565",
        // Index: two frames, three chunks.
        "0200000003000000",
        &["0700000007000000", &crc(b"onetwo!"), "0200000000000000"].concat(),
        &["0500000005000000", &crc(b"three"), "0100000000000000"].concat(),
        &[&chunk(b"one"), "03000000"].concat(),
        &[&chunk(b"two!"), "04000000"].concat(),
        &[&chunk(b"three"), "05000000"].concat(),
    ]
    .concat();
    assert_eq!(hex[..expected.len()], expected);
    // Trailer: checksum, index of 156 bytes, pack of 232 bytes, zeros, version, magic.
    assert_eq!(
        hex[expected.len()..],
        *"dd5bd7b59c000000e8000000000000000000000001000000434149524e454e44"
    );
    assert_eq!(found.id.0, *blake3::hash(&found.bytes).as_bytes());
}

#[test]
fn what_went_in_comes_out_in_any_encoding() {
    let chunks = [
        text(1, 70_000),
        random(1, 70_000),
        weights(1, 70_000, 2),
        weights(2, 70_000, 4),
        vec![7],
    ];
    let frames: Vec<Vec<&[u8]>> = chunks.iter().map(|chunk| vec![&chunk[..]]).collect();
    let mut frames: Vec<&[&[u8]]> = frames.iter().map(Vec::as_slice).collect();
    let together: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
    frames.push(&together);
    for compression in [Compression::None, Compression::default(), Compression::Gzip(6)] {
        let found = pack(compression, &frames);
        assert_eq!(PackIndex::of(&found.bytes).unwrap(), found.index);
        let read = unpack(&found.bytes).unwrap();
        let expected: Vec<_> = chunks
            .iter()
            .chain(&chunks)
            .map(|chunk| (chunk_id(chunk), chunk.clone()))
            .collect();
        assert_eq!(read, expected);
        if compression == Compression::default() {
            let encodings: Vec<Encoding> = found.index.frames().iter().map(|frame| frame.encoding).collect();
            assert_eq!(
                encodings[..4],
                [
                    Encoding::Zstd,
                    Encoding::Raw,
                    Encoding::Planes2,
                    Encoding::Planes4
                ]
            );
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let (a, b, c) = (text(1, 900), weights(1, 700, 2), random(3, 50));
    let found = pack(Compression::default(), &[&[&a, &c], &[&b], &[b"x"]]);
    let whole = found.bytes.to_vec();
    unpack(&whole).unwrap();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            assert!(unpack(&damaged).is_err(), "byte {at}, bit {bit}");
        }
    }
    for length in 0..whole.len() {
        assert!(unpack(&whole[..length]).is_err(), "{length}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(unpack(&longer).is_err());
}

#[test]
fn damage_is_told_with_its_place() {
    let found = pack(Compression::None, &[&[b"one", b"two!"], &[b"three"]]);
    let mut damaged = found.bytes.to_vec();
    damaged[40] ^= 1;
    let told = unpack(&damaged).unwrap_err();
    assert!(matches!(told, PackError::Checksum { offset: 39, .. }), "{told}");
    let mut newer = found.bytes.to_vec();
    let version = newer.len() - 12;
    newer[version] = 3;
    let told = unpack(&newer).unwrap_err().to_string();
    assert!(told.contains("version 3") && told.contains("later one"), "{told}");
    // A frame whose bytes are as stored, but whose chunk was never what its name says.
    let mut frame = OpenFrame::new();
    frame.push(ChunkId([7; 32]), b"anything").unwrap();
    let mut writer = PackWriter::new();
    writer
        .push(&frame.seal(&mut Encoder::new(Compression::None).unwrap()).unwrap())
        .unwrap();
    let told = unpack(&writer.finish().unwrap().bytes).unwrap_err().to_string();
    assert!(told.contains("0707") && told.contains("frame at 32"), "{told}");
}

#[test]
fn limits_are_told_before_anything_is_changed() {
    let mut frame = OpenFrame::new();
    assert!(frame.push(chunk_id(b""), b"").is_err());
    frame.push(chunk_id(b"a"), b"a").unwrap();
    let large = vec![0; FRAME_BYTES_MAX as usize];
    assert!(!frame.fits(large.len()));
    let told = frame.push(chunk_id(&large), &large).unwrap_err().to_string();
    assert!(told.contains("4194305"), "{told}");
    assert_eq!(frame.length(), 1);
    let mut encoder = Encoder::new(Compression::None).unwrap();
    assert!(OpenFrame::new().seal(&mut encoder).is_err());
    assert!(PackWriter::new().finish().is_err());
}

proptest! {
    #[test]
    fn chunks_of_anything_come_back(
        frames in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..6), 1..6),
    ) {
        let frames: Vec<Vec<&[u8]>> = frames.iter().map(|chunks| chunks.iter().map(Vec::as_slice).collect()).collect();
        let frames: Vec<&[&[u8]]> = frames.iter().map(Vec::as_slice).collect();
        let found = pack(Compression::default(), &frames);
        let read: Vec<Vec<u8>> = unpack(&found.bytes).unwrap().into_iter().map(|(_, data)| data).collect();
        let expected: Vec<&[u8]> = frames.iter().flat_map(|chunks| chunks.iter().copied()).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn an_index_of_anything_is_an_error_or_sound(bytes in prop::collection::vec(any::<u8>(), 0..400), spliced in any::<bool>()) {
        // Behind a trailer whose checksum is right, as a faulty writer would make it.
        let mut bytes = bytes;
        if spliced && bytes.len() > 8 {
            bytes[..8].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
        }
        let pack = super::format::sealed(&bytes, 100, &Sealing::plain());
        let trailer = pack.last_chunk::<TRAILER_BYTES>().unwrap();
        let trailer = Trailer::decode(trailer, pack.len() as u64).unwrap();
        if let Ok(index) = PackIndex::decode(&trailer, &bytes) {
            let stored: u32 = index.frames().iter().map(|frame| frame.stored).sum();
            assert_eq!(stored, 100);
        }
    }

    #[test]
    fn anything_else_is_no_pack(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        assert!(unpack(&bytes).is_err());
    }
}
