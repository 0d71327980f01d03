//! What is encrypted is pinned, found when it is changed or exchanged, and comes back with its key only.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use cairn_types::{ErrorKind, Randomness};
use zeroize::Zeroizing;

use super::{DataKey, KeyId, Sealing, SealingError};
use crate::chunking::chunk_id;
use crate::objects::ObjectName;
use crate::testing::{random, text};

/// The worst randomness: always the same.
pub(crate) struct Stuck;

impl Randomness for Stuck {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(7);
    }
}

/// What the system gives.
pub(crate) struct System;

impl Randomness for System {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).unwrap();
    }
}

/// Bytes `from`, `from` + 1 and so on.
pub(crate) fn data_key(from: u8) -> DataKey {
    DataKey::new(Zeroizing::new(std::array::from_fn(|at| from + at as u8)))
}

/// Always the same bytes for the same content.
pub(crate) fn stuck(from: u8) -> Sealing {
    Sealing::keyed(&data_key(from), Arc::new(Stuck))
}

fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    super::key::encode_hex(bytes)
}

#[test]
fn the_bytes_are_pinned() {
    // Computed by the format pages with other implementations of BLAKE3 and AES-GCM.
    let sealing = stuck(0);
    assert_eq!(
        sealing.id().unwrap().to_string(),
        "d9ac1372d1a89eb050acca7a0c6e7a81"
    );
    assert_eq!(
        sealing.chunk_id(b"three").to_string(),
        "b84587c70550eb40a78d424fb15406dc5823b95a8df22625526265c97474f212"
    );
    let stored = sealing
        .seal_object(&name("archives/00ff"), Bytes::from_static(b"a root"))
        .unwrap();
    assert_eq!(
        hex(&stored),
        "434149524e5345430100000078e0c0e6a4255d594e0280ce48eb13c639783a4fce76e296ae5a2fd129dfa32b91c99dd9955cfc785b3129500aa12611835e"
    );
}

#[test]
fn objects_come_back_with_their_key_and_their_name_only() {
    let root = Bytes::from(text(1, 300));
    let (a, b) = (name("archives/a"), name("archives/b"));
    let sealing = Sealing::keyed(&data_key(0), Arc::new(System));
    let stored = sealing.seal_object(&a, root.clone()).unwrap();
    assert_eq!(sealing.open_object(&a, stored.clone()).unwrap(), root);
    assert_eq!(stuck(0).open_object(&a, stored.clone()).unwrap(), root);
    let again = sealing.seal_object(&a, root.clone()).unwrap();
    assert_ne!(stored, again);
    let empty = sealing.seal_object(&a, Bytes::new()).unwrap();
    assert_eq!(sealing.open_object(&a, empty).unwrap(), Bytes::new());

    let told = sealing.open_object(&b, stored.clone()).unwrap_err();
    assert!(matches!(told, SealingError::Key { .. }), "{told}");
    let told = stuck(1).open_object(&a, stored.clone()).unwrap_err();
    assert!(matches!(told, SealingError::Key { .. }), "{told}");
    assert_eq!(told.kind(), ErrorKind::Corrupt);
    let told = Sealing::plain().open_object(&a, stored.clone()).unwrap_err();
    assert!(matches!(told, SealingError::Encrypted { .. }), "{told}");
    assert_eq!(told.kind(), ErrorKind::Denied);
    let told = sealing.open_object(&a, root.clone()).unwrap_err();
    assert!(matches!(told, SealingError::NotEncrypted { .. }), "{told}");

    let plain = Sealing::plain();
    assert_eq!(plain.seal_object(&a, root.clone()).unwrap(), root);
    assert_eq!(plain.open_object(&b, root.clone()).unwrap(), root);
}

#[test]
fn damage_of_an_object_is_told_apart_from_another_key() {
    let a = name("archives/a");
    let sealing = stuck(0);
    let stored = sealing.seal_object(&a, Bytes::from(random(1, 50))).unwrap();
    for bit in 0..stored.len() * 8 {
        let mut damaged = stored.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let told = sealing.open_object(&a, damaged.into()).unwrap_err();
        match bit / 8 {
            0..8 => assert!(matches!(told, SealingError::NotEncrypted { .. }), "{bit}: {told}"),
            8..12 if bit > 64 => assert!(matches!(told, SealingError::Version { .. }), "{bit}: {told}"),
            _ => assert!(matches!(told, SealingError::Damaged { .. }), "{bit}: {told}"),
        }
    }
    for length in 0..stored.len() {
        sealing.open_object(&a, stored.slice(..length)).unwrap_err();
    }
    // Whoever makes the checksum right has no key.
    for at in 16..stored.len() {
        let mut forged = stored.to_vec();
        forged[at] ^= 1;
        let checksum = super::object_checksum(&forged).to_le_bytes();
        forged[12..16].copy_from_slice(&checksum);
        let told = sealing.open_object(&a, forged.into()).unwrap_err();
        assert!(matches!(told, SealingError::Key { .. }), "{at}: {told}");
    }
}

#[test]
fn with_stuck_randomness_salts_still_differ_with_what_they_are_for() {
    let sealing = stuck(0);
    let mut salts = HashSet::new();
    for place in 0..20 {
        for content in 0..20 {
            let place = name(&format!("archives/{place}"));
            let stored = sealing
                .seal_object(&place, Bytes::from(vec![content; 9]))
                .unwrap();
            assert!(salts.insert(stored[16..40].to_vec()));
        }
    }
    let keyed_otherwise = stuck(1)
        .seal_object(&name("archives/0"), Bytes::from(vec![0; 9]))
        .unwrap();
    assert!(salts.insert(keyed_otherwise[16..40].to_vec()));
}

#[test]
fn identities_depend_on_the_key() {
    let ids = HashSet::from([
        chunk_id(b"data"),
        stuck(0).chunk_id(b"data"),
        stuck(1).chunk_id(b"data"),
    ]);
    assert_eq!(ids.len(), 3);
    assert_eq!(Sealing::plain().chunk_id(b"data"), chunk_id(b"data"));
    assert_eq!(Sealing::default().id(), None);
    assert_ne!(stuck(0).id(), stuck(1).id());
    let shown = format!("{:?} {:?} {:?}", stuck(0), data_key(0), Sealing::plain());
    let id = data_key(0).id();
    assert_eq!(shown, format!("Sealing({id}) DataKey({id}) Sealing(plain)"));
}

#[test]
fn ids_of_keys_are_read_as_they_are_shown() {
    let id = data_key(0).id();
    assert_eq!(KeyId::parse(&id.to_string()), Some(id));
    for wrong in [
        "",
        "00",
        &"G".repeat(32),
        &id.to_string().to_uppercase(),
        &format!("{id}0"),
    ] {
        assert_eq!(KeyId::parse(wrong), None, "{wrong}");
    }
}
