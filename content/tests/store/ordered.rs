//! Ordered reading: every pattern gives what a model says, in order; errors are items; dropping stops it.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};

use cairn_content::store::{ChunkStore, ReadSettings};
use cairn_types::{ChunkId, ErrorKind};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::{Bench, data, pack, wanted};

/// A small window, so that everything waits for everything.
pub fn small() -> ReadSettings {
    ReadSettings {
        window_bytes: 100_000,
        fetch_bytes_max: 50_000,
        gap_bytes_max: 1000,
        fetches_in_flight: 3,
        decoders: 2,
    }
}

fn check(store: &ChunkStore, numbers: &[u64], settings: ReadSettings) {
    let chunks: Vec<(ChunkId, u32)> = numbers.iter().map(|number| wanted(*number)).collect();
    let mut read = store.read_ordered(chunks.into_iter(), settings).unwrap();
    for number in numbers {
        assert_eq!(read.next().unwrap().unwrap(), data(*number));
    }
    assert!(read.next().is_none() && read.next().is_none());
}

fn filled(bench: &Bench) -> ChunkStore {
    let store = bench.open();
    for first in 0..8 {
        store.store_pack(pack(first * 50..first * 50 + 60)).unwrap();
    }
    store
}

#[test]
fn common_patterns_come_in_order() {
    let bench = Bench::file();
    let store = filled(&bench);
    let forward: Vec<u64> = (0..400).collect();
    let backward: Vec<u64> = (0..400).rev().collect();
    let strided: Vec<u64> = (0..400).map(|number| number * 37 % 400).collect();
    let interleaved: Vec<u64> = (0..400).map(|number| number / 2 + 200 * (number % 2)).collect();
    let one: Vec<u64> = vec![77; 30_000];
    for numbers in [&forward, &backward, &strided, &interleaved, &one, &Vec::new()] {
        check(&store, numbers, small());
        check(&store, numbers, ReadSettings::default());
    }
    let tight = ReadSettings {
        window_bytes: 1,
        fetch_bytes_max: 1,
        gap_bytes_max: 0,
        fetches_in_flight: 1,
        decoders: 1,
    };
    check(&store, &strided, tight);
}

/// One store for all cases of a property: what is read changes nothing but caches.
fn shared() -> &'static (Bench, ChunkStore) {
    static SHARED: OnceLock<(Bench, ChunkStore)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let bench = Bench::memory();
        let store = filled(&bench);
        (bench, store)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pattern_comes_in_order(
        pieces in prop::collection::vec((0..410u64, 1..40u64, any::<bool>()), 0..30),
        window in 1..200_000usize,
        fetch in 1..60_000usize,
        gap in 0..20_000usize,
        in_flight in 1..6usize,
        decoders in 1..4usize,
    ) {
        let numbers: Vec<u64> = pieces
            .iter()
            .flat_map(|(first, count, forward)| (0..*count).map(move |at| match forward {
                true => (first + at) % 410,
                false => (first + 410 - at) % 410,
            }))
            .collect();
        let settings = ReadSettings {
            window_bytes: window,
            fetch_bytes_max: fetch,
            gap_bytes_max: gap,
            fetches_in_flight: in_flight,
            decoders,
        };
        check(&shared().1, &numbers, settings);
    }
}

#[test]
fn errors_are_items_and_the_rest_still_comes() {
    let bench = Bench::file();
    let store = bench.open();
    let packs: Vec<_> = (0..4).map(|first| pack(first * 40..first * 40 + 40)).collect();
    for pack in &packs {
        store.store_pack(pack.clone()).unwrap();
    }
    // One frame of the second pack is damaged, the third is cut in the middle of its frames, the fourth is gone.
    let mut bytes = packs[1].bytes.to_vec();
    let broken = packs[1].index.frames()[2];
    bytes[broken.offset as usize + 5] ^= 1;
    fs::write(bench.pack_path(&packs[1]), bytes).unwrap();
    let cut = packs[2].index.frames()[3].offset as usize + 1;
    fs::write(bench.pack_path(&packs[2]), &packs[2].bytes[..cut]).unwrap();
    fs::remove_file(bench.pack_path(&packs[3])).unwrap();
    // 500 was never stored.
    let numbers: Vec<u64> = (0..160).chain([500]).chain((0..160).rev()).collect();
    for settings in [small(), ReadSettings::default()] {
        let chunks: Vec<_> = numbers.iter().map(|number| wanted(*number)).collect();
        let items: Vec<_> = store
            .read_ordered(chunks.into_iter(), settings)
            .unwrap()
            .collect();
        assert_eq!(items.len(), numbers.len());
        for (number, item) in numbers.iter().zip(items) {
            let pack = *number as usize / 40;
            let expected = match (*number, number % 40 / 8) {
                (500, _) | (120.., _) => Some(ErrorKind::NotFound),
                (40..80, 2) | (80..120, 3..) => Some(ErrorKind::Corrupt),
                _ => None,
            };
            match (item, expected) {
                (Ok(bytes), None) => assert_eq!(bytes, data(*number)),
                (Err(error), Some(kind)) => {
                    assert_eq!(error.kind(), kind, "{number}: {error}");
                    let text = error.to_string();
                    assert!(text.contains(&wanted(*number).0.to_string()), "{text}");
                    if *number != 500 {
                        assert!(text.contains(&packs[pack].id.to_string()), "{text}");
                        let frame = packs[pack].index.frames()[*number as usize % 40 / 8];
                        assert!(text.contains(&format!("frame at {} ", frame.offset)), "{text}");
                    }
                }
                (item, expected) => panic!("{number}: {item:?} where {expected:?} was expected"),
            }
        }
    }
}

#[test]
fn dropping_stops_it_at_any_moment() {
    let (_, store) = shared();
    for taken in [0, 1, 5, 100] {
        let asked = Arc::new(AtomicUsize::new(0));
        let (gone, went) = sync_channel::<()>(1);
        let counter = asked.clone();
        let endless = (0..).map(move |number: u64| {
            // The sender goes with the planner.
            let _ = &gone;
            counter.fetch_add(1, Ordering::SeqCst);
            wanted(number * 13 % 410)
        });
        let mut read = store.read_ordered(endless, small()).unwrap();
        for number in 0..taken {
            assert_eq!(read.next().unwrap().unwrap(), data(number * 13 % 410));
        }
        drop(read);
        assert!(went.recv().is_err());
        // It has not run ahead without bounds: a window and what is planned.
        assert!(asked.load(Ordering::SeqCst) < 20_000);
    }
}

#[test]
fn what_is_wanted_may_come_slowly_and_may_panic() {
    let (_, store) = shared();
    let (sender, receiver) = sync_channel(0);
    let feeder = std::thread::spawn(move || {
        for number in 0..50 {
            sender.send(wanted(number)).unwrap();
        }
    });
    let read = store
        .read_ordered(receiver.into_iter(), ReadSettings::default())
        .unwrap();
    let items: Vec<_> = read.map(Result::unwrap).collect();
    feeder.join().unwrap();
    assert_eq!(items.len(), 50);
    let panics = (0..10).map(|number| match number {
        7 => std::panic::resume_unwind(Box::new("expected by the test")),
        _ => wanted(number),
    });
    let items: Vec<_> = store.read_ordered(panics, small()).unwrap().collect();
    assert_eq!(
        items.last().unwrap().as_ref().unwrap_err().kind(),
        ErrorKind::Internal
    );
}

#[test]
fn settings_are_bounded() {
    let (_, store) = shared();
    let settings = ReadSettings {
        decoders: 65,
        ..small()
    };
    let refused = store.read_ordered(std::iter::empty(), settings).err().unwrap();
    assert_eq!(refused.to_string(), "decoders is 65 and must be 1 to 64");
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[test]
fn a_runtime_that_is_gone_is_an_error_and_no_endless_wait() {
    let bench = Bench::memory();
    let store = filled(&bench);
    drop(store);
    let store = bench.open();
    let Bench {
        runtime,
        directory,
        objects,
    } = bench;
    runtime.shutdown_background();
    let items: Vec<_> = store
        .read_ordered((0..20).map(wanted), small())
        .unwrap()
        .collect();
    assert!(items.iter().all(|item| {
        item.as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Internal)
    }));
    drop((directory, objects));
}
