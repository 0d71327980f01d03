//! Encrypted packs: pinned; nothing readable in them; whatever is changed, exchanged, or of another key is found.

use std::collections::HashSet;
use std::sync::Arc;

use cairn_types::ErrorKind;
use proptest::prelude::{any, prop, proptest};

use super::{hex, pack_with, unpack, unpack_with};
use crate::checksum::crc32c;
use crate::codec::Compression;
use crate::pack::{FrameReader, PackError, PackIndex, SealedPack, TRAILER_BYTES, Trailer, verify_stored};
use crate::sealing::Sealing;
use crate::sealing::tests::{System, data_key, stuck};
use crate::testing::{random, text, weights};

fn keyed() -> Sealing {
    Sealing::keyed(&data_key(0), Arc::new(System))
}

fn sample(sealing: &Sealing) -> SealedPack {
    let (a, b, c) = (text(1, 900), weights(1, 700, 2), random(3, 50));
    pack_with(sealing, Compression::default(), &[&[&a, &c], &[&b], &[b"x"]])
}

#[test]
fn the_bytes_are_pinned() {
    // Computed by the format page with other implementations of BLAKE3 and AES-GCM.
    let found = pack_with(&stuck(0), Compression::None, &[&[b"one", b"two!"], &[b"three"]]);
    let expected = [
        // Header: magic, version, zeros.
        "434149524e50414b02000000",
        &"00".repeat(20),
        // Frames of 7 and 5 bytes, each behind a salt and before a tag.
        "c1d4306b14726bf8642334527079a9e9f5f133129908d63438d1059cf7e1e5616291bcd9eb8da5b37999b5816a2300",
        "b7fea2d4d4493e89e0993c812b435464761937720b7235f455f5d435878613ea411637871a4c4210a2c1da6764",
        // The index of 156 bytes, likewise.
        "2b03814cab188796aaf5be9425b9abefad406d36aa248e3975e4e9fe446f6312a9a101b5d6d2debd38801a2cbb0e7e4529b8bc7ba302a428684dc8759e67c64e11410daecfc3efe6783083f64c2da075a7dff8d354703b88f7c7de901f9b13f7f106491f8170885702f857a86aa5ceec38eaf100ef2c104b9e9ed65d91e4295ec83e03f7ad34813a7685a395f8bb5bb735403bc9a98f23500c77bff5b5bf707c1380200fa7b6c80344339fd5bfd78b2a494e42198be8c21c0938bcb87fd659a924052905",
        // Trailer: checksum, index of 196 bytes, pack of 352 bytes, zeros, version, magic.
        "60aa9de1c400000060010000000000000000000002000000434149524e454e44",
    ];
    assert_eq!(hex(&found.bytes), expected.concat());
    assert_eq!(found.bytes.len(), 352);
    assert_eq!(found.id.0, *blake3::hash(&found.bytes).as_bytes());
}

#[test]
fn what_went_in_comes_out_with_the_key() {
    let sealing = keyed();
    let (a, b, c) = (text(1, 70_000), random(1, 70_000), weights(1, 70_000, 4));
    let together: &[&[u8]] = &[&a, &b, &c];
    for compression in [Compression::None, Compression::default(), Compression::Gzip(6)] {
        let found = pack_with(&sealing, compression, &[together, &[b"x"]]);
        assert_eq!(PackIndex::of_with(&found.bytes, &sealing).unwrap(), found.index);
        let read = unpack_with(&found.bytes, &stuck(0)).unwrap();
        let expected = [&a[..], &b, &c, b"x"].map(|chunk| (sealing.chunk_id(chunk), chunk.to_vec()));
        assert_eq!(read, expected);
        let plain = pack_with(&Sealing::plain(), compression, &[together, &[b"x"]]);
        // Two frames and the index.
        assert_eq!(found.bytes.len(), plain.bytes.len() + 3 * 40);
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found_with_and_without_the_key() {
    let sealing = keyed();
    let found = sample(&sealing);
    let whole = found.bytes.to_vec();
    unpack_with(&whole, &sealing).unwrap();
    assert!(verify_stored(found.id, &whole).unwrap().is_encrypted());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            let told = unpack_with(&damaged, &sealing).unwrap_err();
            // Never taken for a wrong key.
            assert!(
                !matches!(told, PackError::Key { .. }),
                "byte {at}, bit {bit}: {told}"
            );
            verify_stored(found.id, &damaged).unwrap_err();
        }
    }
    for length in 0..whole.len() {
        assert!(unpack_with(&whole[..length], &sealing).is_err(), "{length}");
        assert!(verify_stored(found.id, &whole[..length]).is_err(), "{length}");
    }
    let other = sample(&sealing);
    assert!(matches!(
        verify_stored(found.id, &other.bytes),
        Err(PackError::Name)
    ));
    let plain = sample(&Sealing::plain());
    assert!(found.is_encrypted() && !plain.is_encrypted());
    assert!(!verify_stored(plain.id, &plain.bytes).unwrap().is_encrypted());
}

#[test]
fn a_wrong_key_no_key_and_a_key_too_many_are_told_apart() {
    let found = sample(&keyed());
    let told = unpack_with(&found.bytes, &stuck(1)).unwrap_err();
    assert!(matches!(told, PackError::Key { what: "index", .. }), "{told}");
    assert_eq!(told.kind(), ErrorKind::Corrupt);
    let told = unpack(&found.bytes).unwrap_err();
    assert!(matches!(told, PackError::Encrypted), "{told}");
    assert_eq!(told.kind(), ErrorKind::Denied);
    let plain = sample(&Sealing::plain());
    let told = unpack_with(&plain.bytes, &stuck(0)).unwrap_err();
    assert!(matches!(told, PackError::NotEncrypted), "{told}");
    // Frames alone too.
    let frame = &found.index.frames()[0];
    let stored = &found.bytes[frame.offset as usize..][..frame.stored as usize];
    let told = FrameReader::with(stuck(1)).unwrap().open(frame, stored).err();
    assert!(
        matches!(
            told,
            Some(PackError::Key {
                what: "frame",
                offset: 32
            })
        ),
        "{told:?}"
    );
    assert!(FrameReader::new().unwrap().open(frame, stored).is_err());
}

#[test]
fn nothing_of_what_is_in_it_can_be_read() {
    let sealing = keyed();
    let data = [b"a phrase that would be found", &random(5, 70)[..]].concat();
    let found = pack_with(&sealing, Compression::None, &[&[&data], &[&data[..90]]]);
    let sees = |what: &[u8]| found.bytes.windows(what.len()).any(|window| window == what);
    assert!(!sees(&data[..8]) && !sees(&data[60..68]));
    for chunk in found.index.chunks() {
        assert!(!sees(&chunk.id.0[..8]));
    }
    // Where frames begin, neither: what stands there is different each time.
    let mut salts = HashSet::new();
    for pack in [&found, &sample(&sealing), &sample(&sealing)] {
        for frame in pack.index.frames() {
            assert!(salts.insert(pack.bytes[frame.offset as usize..][..24].to_vec()));
        }
    }
}

/// What comes of the frame of an entry if other bytes are stored there and their checksum is right.
fn open_forged(sealing: &Sealing, pack: &SealedPack, frame: usize, stored: &[u8]) -> Result<(), PackError> {
    let mut entry = pack.index.frames()[frame];
    entry.checksum = crc32c(stored);
    let mut reader = FrameReader::with(sealing.clone()).unwrap();
    let decoded = reader.open(&entry, stored)?;
    for chunk in pack.index.chunks_of(&entry) {
        decoded.chunk(chunk)?;
    }
    Ok(())
}

#[test]
fn exchanged_frames_and_ends_are_found_even_if_the_checksums_are_right() {
    let sealing = keyed();
    let frames = |seed| [random(seed, 100), random(seed + 1, 100)];
    let [one, two] = [frames(1), frames(5)].map(|frames| {
        let frames = frames.each_ref().map(|frame| [&frame[..]]);
        pack_with(&sealing, Compression::None, &[&frames[0], &frames[1]])
    });
    let stored = |pack: &SealedPack, frame: usize| {
        let frame = pack.index.frames()[frame];
        pack.bytes[frame.offset as usize..][..frame.stored as usize].to_vec()
    };
    open_forged(&sealing, &one, 0, &stored(&one, 0)).unwrap();
    // At another place, of the same pack or of another one.
    for other in [stored(&one, 1), stored(&two, 1)] {
        let told = open_forged(&sealing, &one, 0, &other).unwrap_err();
        assert!(matches!(told, PackError::Key { what: "frame", .. }), "{told}");
    }
    // At the same place of another pack: it opens, and is not what the index promises.
    let told = open_forged(&sealing, &one, 0, &stored(&two, 0)).unwrap_err();
    assert!(matches!(told, PackError::Chunk { .. }), "{told}");
    // A pack with the end of another.
    let frames_end = 32 + 2 * 140;
    let mixed = [&one.bytes[..frames_end], &two.bytes[frames_end..]].concat();
    let told = unpack_with(&mixed, &sealing).unwrap_err();
    assert!(matches!(told, PackError::Checksum { .. }), "{told}");
    assert!(matches!(verify_stored(one.id, &mixed), Err(PackError::Name)));
    // An index behind another trailer, checksum right: the length of the pack is a part of what was encrypted.
    let at = Trailer::decode(one.bytes.last_chunk().unwrap(), one.bytes.len() as u64).unwrap();
    let index = &one.bytes[at.index().start as usize..at.index().end as usize];
    let told =
        PackIndex::decode_with(&super::super::format::trailer(index, 400, 2), index, &sealing).unwrap_err();
    assert!(matches!(told, PackError::Key { what: "index", .. }), "{told}");
}

proptest! {
    #[test]
    fn chunks_of_anything_come_back(
        frames in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..6), 1..6),
    ) {
        let sealing = stuck(9);
        let frames: Vec<Vec<&[u8]>> = frames.iter().map(|chunks| chunks.iter().map(Vec::as_slice).collect()).collect();
        let frames: Vec<&[&[u8]]> = frames.iter().map(Vec::as_slice).collect();
        let found = pack_with(&sealing, Compression::default(), &frames);
        let read: Vec<Vec<u8>> = unpack_with(&found.bytes, &sealing).unwrap().into_iter().map(|(_, data)| data).collect();
        let expected: Vec<&[u8]> = frames.iter().flat_map(|chunks| chunks.iter().copied()).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn an_index_of_anything_is_an_error_or_sound(bytes in prop::collection::vec(any::<u8>(), 0..400), spliced in any::<bool>()) {
        // Encrypted with the right key, as a faulty writer would make it.
        let mut bytes = bytes;
        if spliced && bytes.len() > 8 {
            bytes[..8].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
        }
        let sealing = stuck(0);
        let pack = crate::pack::format::sealed(&bytes, 100, &sealing);
        let trailer = Trailer::decode(pack.last_chunk::<TRAILER_BYTES>().unwrap(), pack.len() as u64).unwrap();
        let at = trailer.index();
        let index = PackIndex::decode_with(&trailer, &pack[at.start as usize..at.end as usize], &sealing);
        if let Ok(index) = index {
            assert_eq!(index.frames().iter().map(|frame| frame.stored).sum::<u32>(), 100);
        }
    }
}
