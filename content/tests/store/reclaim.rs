//! Condemning, removing, marking; and copies of chunks in several packs.

use std::fs;

use cairn_content::store::{Marked, Removed};
use cairn_types::ErrorKind;

use super::{Bench, data, id, pack, refresh, wanted};

#[test]
fn condemned_packs_are_read_and_not_relied_on() {
    let bench = Bench::file();
    let store = bench.open();
    let (a, b) = (pack(0..20), pack(10..30));
    store.store_pack(a.clone()).unwrap();
    store.store_pack(b.clone()).unwrap();
    store.condemn(&[a.id]);
    assert!(store.is_condemned(&a.id) && !store.is_condemned(&b.id));
    for number in 0..30 {
        assert_eq!(store.contains(&id(number)).unwrap(), number >= 10, "{number}");
        let (id, length) = wanted(number);
        let expected = if number < 10 { a.id } else { b.id };
        assert_eq!(store.locate(&id).unwrap().unwrap().pack, expected);
        assert_eq!(store.read(&id, length).unwrap(), data(number));
    }
    store.reinstate(&[a.id]);
    assert!(store.contains(&id(0)).unwrap());
    // Also when it becomes known only later.
    store.condemn(&[a.id]);
    fs::remove_dir_all(bench.cache()).unwrap();
    drop(store);
    let store = bench.open();
    store.condemn(&[a.id]);
    refresh(&store);
    assert!(!store.contains(&id(0)).unwrap() && store.locate(&id(0)).unwrap().is_some());
    // Storing it again reinstates it.
    store.store_pack(a.clone()).unwrap();
    assert!(store.contains(&id(0)).unwrap() && !store.is_condemned(&a.id));
}

#[test]
fn only_condemned_packs_are_removed_and_for_good() {
    let bench = Bench::file();
    let store = bench.open();
    let (a, b, damaged) = (pack(0..20), pack(20..40), pack(40..60));
    for pack in [&a, &b] {
        store.store_pack(pack.clone()).unwrap();
    }
    let path = bench.pack_path(&damaged);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"not a pack").unwrap();
    store.condemn(&[a.id]);
    let removed = store.remove_packs(&[a.id, b.id, a.id, damaged.id]).unwrap();
    let expected = Removed {
        removed: vec![a.id, damaged.id],
        kept: vec![b.id],
    };
    assert_eq!(removed, expected);
    assert!(!bench.pack_path(&a).exists() && !path.exists() && bench.pack_path(&b).exists());
    let (first, length) = wanted(0);
    assert_eq!(
        store.read(&first, length).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(store.pack_index(&a.id).unwrap_err().kind(), ErrorKind::NotFound);
    drop(store);
    let store = bench.open();
    assert_eq!(
        store.packs().iter().map(|pack| pack.id).collect::<Vec<_>>(),
        [b.id]
    );
    assert!(!store.contains(&first).unwrap() && store.contains(&id(20)).unwrap());
    assert_eq!(refresh(&store).packs, 1);
    // It may come again.
    store.store_pack(a).unwrap();
    assert_eq!(store.read(&first, length).unwrap(), data(0));
}

#[test]
fn many_packs_come_and_go_and_the_index_stays_small_and_right() {
    let bench = Bench::memory();
    let store = bench.open();
    let mut alive = Vec::new();
    for round in 0..60u64 {
        let new = pack(round * 20..round * 20 + 20);
        store.store_pack(new.clone()).unwrap();
        alive.push((round, new.id));
        if round % 3 == 2 {
            let (_, gone) = alive.remove((round as usize * 7) % alive.len());
            store.condemn(&[gone]);
            store.remove_packs(&[gone]).unwrap();
        }
    }
    let check = |store: &cairn_content::store::ChunkStore| {
        for number in 0..1200 {
            let expected = alive.iter().any(|(round, _)| *round == number / 20);
            assert_eq!(store.contains(&id(number)).unwrap(), expected, "{number}");
        }
    };
    check(&store);
    assert!(store.index_size().runs < 8, "{:?}", store.index_size());
    drop(store);
    check(&bench.open());
}

#[test]
fn a_damaged_copy_is_made_up_for_by_a_good_one() {
    let bench = Bench::file();
    // Nothing is kept: what is read is what is there.
    let store = bench.open_with(cairn_content::store::ChunkStoreSettings {
        frame_cache_bytes: 0,
        ..super::settings()
    });
    let (a, b) = (pack(0..20), pack(5..30));
    store.store_pack(a.clone()).unwrap();
    store.store_pack(b.clone()).unwrap();
    let mut bytes = a.bytes.to_vec();
    let frames_end = a
        .index
        .frames()
        .last()
        .map(|frame| (frame.offset + frame.stored) as usize)
        .unwrap();
    bytes[32..frames_end].fill(9);
    fs::write(bench.pack_path(&a), bytes).unwrap();
    let chunks: Vec<_> = (0..30).map(wanted).collect();
    let read = store
        .read_ordered(chunks.clone().into_iter(), super::ordered::small())
        .unwrap();
    for (number, item) in (0..).zip(read) {
        let single = store.read(&chunks[number as usize].0, chunks[number as usize].1);
        if number < 5 {
            for error in [item.unwrap_err(), single.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(error.to_string().contains(&a.id.to_string()), "{error}");
            }
        } else {
            assert_eq!(item.unwrap(), data(number));
            assert_eq!(single.unwrap(), data(number));
        }
    }
    // The same when the pack is gone, or cut before its last frame.
    for cut in [Some(frames_end - 1), None] {
        match cut {
            Some(length) => fs::write(bench.pack_path(&a), &a.bytes[..length]).unwrap(),
            None => fs::remove_file(bench.pack_path(&a)).unwrap(),
        }
        let read = store
            .read_ordered(chunks.clone().into_iter(), super::ordered::small())
            .unwrap();
        for (number, item) in (0..).zip(read) {
            match (number < 5, cut) {
                (true, None) => assert_eq!(item.unwrap_err().kind(), ErrorKind::NotFound),
                _ => assert_eq!(item.unwrap(), data(number), "{number} cut at {cut:?}"),
            }
        }
    }
}

#[test]
fn a_mark_says_what_of_each_pack_is_in_use() {
    let bench = Bench::memory();
    let store = bench.open();
    let (a, b, c) = (pack(0..20), pack(10..30), pack(100..130));
    for pack in [&a, &b, &c] {
        store.store_pack(pack.clone()).unwrap();
    }
    store.condemn(&[a.id]);
    let mark = store.mark();
    assert_eq!(mark.insert(&id(50)).unwrap(), Marked::Unknown);
    for number in [3, 12, 25] {
        assert!(!mark.is_marked(&id(number)).unwrap());
        assert_eq!(mark.insert(&id(number)).unwrap(), Marked::New);
        assert_eq!(mark.insert(&id(number)).unwrap(), Marked::Again);
        assert!(mark.is_marked(&id(number)).unwrap());
    }
    // What is condemned meanwhile changes nothing about which copy is marked.
    store.condemn(&[b.id]);
    assert_eq!(mark.insert(&id(12)).unwrap(), Marked::Again);
    // Packs that come later are not spoken of.
    store.store_pack(pack(200..210)).unwrap();
    assert_eq!(mark.insert(&id(200)).unwrap(), Marked::New);
    assert_eq!(mark.insert(&id(200)).unwrap(), Marked::Again);
    assert!(mark.is_marked(&id(200)).unwrap() && !mark.is_marked(&id(201)).unwrap());
    let usage: Vec<_> = mark.packs().map(Result::unwrap).collect();
    assert_eq!(
        usage.iter().map(|usage| usage.pack).collect::<Vec<_>>(),
        [a.id, b.id, c.id]
    );
    let live: Vec<_> = usage
        .iter()
        .map(|usage| (usage.live_chunks, usage.dead_chunks))
        .collect();
    // 12 is in both a and b; a was condemned when the mark was begun.
    assert_eq!(live, [(1, 19), (2, 18), (0, 30)]);
    assert_eq!(usage[0].live_bytes as usize, data(3).len());
    assert_eq!(usage[1].live_bytes as usize, data(12).len() + data(25).len());
    for (usage, pack) in usage.iter().zip([&a, &b, &c]) {
        let decoded: u64 = pack
            .index
            .frames()
            .iter()
            .map(|frame| u64::from(frame.length))
            .sum();
        let stored: u64 = pack
            .index
            .frames()
            .iter()
            .map(|frame| u64::from(frame.stored))
            .sum();
        assert_eq!(usage.live_bytes + usage.dead_bytes, decoded);
        assert_eq!(usage.live_stored + usage.dead_stored, stored);
        assert_eq!(usage.bytes, pack.bytes.len() as u64);
        assert!(usage.live_stored <= usage.live_bytes);
    }
}
