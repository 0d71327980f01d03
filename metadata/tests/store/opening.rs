//! Opening: an empty store, one of this format, one of a later format, and damaged ones.

use cairn_metadata::engine::memory::MemoryEngine;
use cairn_metadata::engine::{Batch, Durability, Engine};
use cairn_metadata::store::OpenVolume;
use cairn_metadata::{MetadataError, Store};
use cairn_types::{ErrorKind, InodeId, LogPosition};

use crate::{assert_kind, change, create, dump, fresh, inode, name, open, snapshot};

fn engine_with(key: &[u8], value: &[u8]) -> MemoryEngine {
    let engine = MemoryEngine::new();
    let mut batch = Batch::default();
    batch.put(key.to_vec(), value.to_vec());
    engine.write(batch, Durability::Power).unwrap();
    engine
}

#[test]
fn an_empty_store_gets_the_format_durably() {
    let (engine, store) = fresh();
    assert_eq!(store.volumes().unwrap(), []);
    assert_eq!(store.checkpoint().unwrap(), LogPosition(0));
    let stored = dump(&engine.power_cut());
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].0, "Fv");
    assert_eq!(stored[0].1.as_ref(), [3, 0, 0, 0]);
}

#[test]
fn a_store_is_opened_as_it_was_left() {
    let (engine, store) = fresh();
    let volume = create(&store, "w");
    drop(store);
    let before = dump(&engine);
    let store = open(&engine).unwrap();
    assert_eq!(store.volumes().unwrap(), [volume]);
    assert_eq!(dump(&engine), before, "opening changes nothing");
}

#[test]
fn a_later_format_is_refused_and_left_alone() {
    let engine = engine_with(b"Fv", &[4, 0, 0, 0]);
    let before = dump(&engine);
    let refused = open(&engine).err().unwrap();
    assert!(
        matches!(
            refused,
            MetadataError::NewerFormat {
                found: 4,
                supported: 3
            }
        ),
        "{refused:?}"
    );
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert_eq!(dump(&engine), before);
}

/// Takes the notes away, as a store of format 1 has none.
fn as_format_1(engine: &MemoryEngine) -> MemoryEngine {
    let old = engine.power_cut();
    let mut batch = Batch::default();
    batch.delete_range(b"D".to_vec(), b"E".to_vec());
    batch.put(b"Fv".to_vec(), vec![1, 0, 0, 0]);
    old.write(batch, Durability::Power).unwrap();
    old
}

#[test]
fn of_what_format_1_has_seen_nothing_is_said_to_be_unchanged() {
    let (engine, store) = fresh();
    let mut volume = create(&store, "w");
    let touch = |store: &Store, volume: &OpenVolume, number: u64| {
        change(store, volume, |transaction| {
            transaction.put_inode(InodeId(number), &inode(number))
        });
    };
    let first = snapshot(&store, &mut volume, 1).point;
    touch(&store, &volume, 2);
    let second = snapshot(&store, &mut volume, 2).point;
    touch(&store, &volume, 3);
    engine.sync().unwrap();
    drop(store);

    let engine = as_format_1(&engine);
    let store = open(&engine).unwrap();
    assert_eq!(store.volumes().unwrap(), [volume.clone()]);
    let third = snapshot(&store, &mut volume, 3).point;
    touch(&store, &volume, 4);
    let fourth = snapshot(&store, &mut volume, 4).point;
    let fifth = snapshot(&store, &mut volume, 5).point;
    for (one, other) in [(first, second), (second, third), (third, second), (first, fourth)] {
        assert_eq!(
            store.changed_between(one, other).unwrap(),
            None,
            "{one:?} {other:?}"
        );
    }
    assert_eq!(
        store.changed_between(third, fourth).unwrap(),
        Some(vec![InodeId(4)])
    );
    assert_eq!(
        store.changed_between(fifth, third).unwrap(),
        Some(vec![InodeId(4)])
    );
    assert_eq!(store.changed_between(fifth, fourth).unwrap(), Some(Vec::new()));
    assert_eq!(store.changed_between(second, second).unwrap(), Some(Vec::new()));

    // Of format 2 nothing but the number is old.
    let old = engine.power_cut();
    let mut batch = Batch::default();
    batch.put(b"Fv".to_vec(), vec![2, 0, 0, 0]);
    old.write(batch, Durability::Power).unwrap();
    drop(open(&old).unwrap());
    assert_eq!(dump(&old), dump(&engine));

    // The upgrade is one durable step, done once.
    let before = dump(&engine);
    drop(store);
    drop(open(&engine).unwrap());
    assert_eq!(dump(&engine), before);
    let cut = as_format_1(&engine);
    drop(open(&cut).unwrap());
    assert_eq!(dump(&cut.power_cut()), dump(&cut));
}

#[test]
fn a_damaged_format_is_refused() {
    for value in [&[][..], &[1, 0, 0], &[1, 0, 0, 0, 0], &[0, 0, 0, 0]] {
        let refused = open(&engine_with(b"Fv", value)).err().unwrap();
        assert!(
            matches!(refused, MetadataError::Damaged(_)),
            "{value:?}: {refused:?}"
        );
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_store_without_a_format_is_not_taken_for_an_empty_one() {
    for key in [&b"Fc"[..], b"V12345678", b"\x00", b"\xfe"] {
        let engine = engine_with(key, b"");
        let refused = open(&engine).err().unwrap();
        assert!(
            matches!(refused, MetadataError::Missing { .. }),
            "{key:?}: {refused:?}"
        );
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        assert_eq!(dump(&engine).len(), 1);
    }
}

#[test]
fn damaged_records_are_errors() {
    let (engine, store) = fresh();
    let volume = create(&store, "w");
    let pairs = dump(&engine);
    let key_of = |family: u8| {
        let pair = pairs.iter().find(|(key, _)| key[0] == family).unwrap();
        pair.0.to_vec()
    };
    for family in [b'V', b'B', b'U'] {
        for lost in [false, true] {
            let damaged = engine.power_cut();
            let mut batch = Batch::default();
            match lost {
                true => batch.delete(key_of(family)),
                false => batch.put(key_of(family), vec![9]),
            }
            damaged.write(batch, Durability::Power).unwrap();
            let store = open(&damaged).unwrap();
            // Nothing tells that a volume's own record is lost but its name, which still refers to it.
            if lost && family == b'V' {
                assert_eq!(store.volumes().unwrap(), []);
                assert_eq!(store.volume_named(&name("w")).unwrap(), Some(volume.id));
            } else {
                assert_kind(store.volumes(), ErrorKind::Corrupt);
                assert_kind(store.sweep_branches(), ErrorKind::Corrupt);
            }
        }
    }
    let mut batch = Batch::default();
    batch.put(key_of(b'N'), vec![1; 7]);
    engine.write(batch, Durability::Power).unwrap();
    assert_kind(store.volume_named(&name("w")), ErrorKind::Corrupt);
}
