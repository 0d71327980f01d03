//! Lists that are late or show what was; indexes whose files are damaged under a running store.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use cairn_types::{ChunkId, ErrorKind, Randomness};
use futures_util::stream::{self, StreamExt};

use super::{ChunkStore, ChunkStoreError, ChunkStoreParts, ChunkStoreSettings, pack_name};
use crate::chunking::chunk_id;
use crate::codec::{Compression, Encoder};
use crate::objects::{ObjectInfo, ObjectOptions, ObjectStoreUrl, ObjectStream, Objects};
use crate::pack::{OpenFrame, PackWriter, SealedPack};
use crate::testing::text;

struct Random;

impl Randomness for Random {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).unwrap();
    }
}

struct Bench {
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    objects: Objects,
}

impl Bench {
    fn new() -> Self {
        let url = ObjectStoreUrl::parse("memory://").unwrap();
        Bench {
            directory: tempfile::tempdir().unwrap(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            objects: Objects::open(&url, ObjectOptions::default(), Arc::new(Random)).unwrap(),
        }
    }

    fn cache(&self) -> std::path::PathBuf {
        self.directory.path().join("index")
    }

    fn open(&self, table_chunks_max: usize) -> ChunkStore {
        let parts = ChunkStoreParts {
            objects: self.objects.clone(),
            runtime: self.runtime.handle().clone(),
            cache: self.cache(),
            sealing: crate::sealing::Sealing::plain(),
        };
        let settings = ChunkStoreSettings {
            table_chunks_max,
            index_cache_bytes: 0,
            ..ChunkStoreSettings::default()
        };
        ChunkStore::open(parts, settings).unwrap()
    }

    fn runs(&self) -> Vec<std::path::PathBuf> {
        let names = fs::read_dir(self.cache())
            .unwrap()
            .map(|entry| entry.unwrap().path());
        names
            .filter(|path| path.to_string_lossy().contains("run-"))
            .collect()
    }
}

/// The data of a chunk.
fn data(number: u64) -> Vec<u8> {
    text(number, 200 + number as usize % 300)
}

fn id(number: u64) -> ChunkId {
    chunk_id(&data(number))
}

/// A pack of these chunks, ten a frame.
fn pack(numbers: impl IntoIterator<Item = u64>) -> SealedPack {
    let mut encoder = Encoder::new(Compression::Zstd(1)).unwrap();
    let mut writer = PackWriter::new();
    let numbers: Vec<u64> = numbers.into_iter().collect();
    for part in numbers.chunks(10) {
        let mut frame = OpenFrame::new();
        for number in part {
            frame.push(id(*number), &data(*number)).unwrap();
        }
        writer.push(&frame.seal(&mut encoder).unwrap()).unwrap();
    }
    writer.finish().unwrap()
}

fn list(packs: &[&SealedPack]) -> ObjectStream {
    let infos: Vec<_> = packs
        .iter()
        .map(|pack| {
            Ok(ObjectInfo {
                name: pack_name(&pack.id).unwrap(),
                bytes: pack.bytes.len() as u64,
            })
        })
        .collect();
    stream::iter(infos).boxed()
}

fn refresh_from(store: &ChunkStore, packs: &[&SealedPack]) -> (u64, u64, u64) {
    let refreshed = store
        .refresh_from(list(packs), &|_| {}, &AtomicBool::new(false))
        .unwrap();
    (refreshed.packs, refreshed.added, refreshed.forgotten)
}

#[test]
fn what_a_late_list_hides_stays_and_what_it_still_shows_does_not_come_back() {
    let bench = Bench::new();
    let store = bench.open(1000);
    let (a, b, c) = (pack(0..20), pack(20..40), pack(40..60));
    for pack in [&a, &b] {
        store.store_pack(pack.clone()).unwrap();
    }
    assert!(!store.is_refreshed());
    // The list does not show what was just stored.
    assert_eq!(refresh_from(&store, &[]), (2, 0, 0));
    assert!(store.is_refreshed());
    assert!(store.contains(&id(5)).unwrap() && store.contains(&id(25)).unwrap());
    // It still shows what was removed, and what was never there.
    store.condemn(&[a.id]);
    assert_eq!(store.remove_packs(&[a.id]).unwrap().removed, [a.id]);
    assert_eq!(refresh_from(&store, &[&a, &b, &c]), (1, 0, 0));
    assert!(!store.contains(&id(5)).unwrap() && store.contains(&id(25)).unwrap());
    // Somebody else has removed it, and the list does not know yet.
    let name = pack_name(&b.id).unwrap();
    bench.runtime.block_on(bench.objects.delete(&name)).unwrap();
    assert_eq!(refresh_from(&store, &[&b]), (1, 0, 0));
    assert_eq!(refresh_from(&store, &[]), (0, 0, 1));
    assert!(!store.contains(&id(25)).unwrap());
}

#[test]
fn a_cancelled_or_failed_refresh_says_so_and_keeps_what_it_learnt() {
    let bench = Bench::new();
    let store = bench.open(1000);
    let a = pack(0..20);
    store.store_pack(a.clone()).unwrap();
    let cancelled = store.refresh_from(stream::pending().boxed(), &|_| {}, &AtomicBool::new(true));
    assert!(matches!(cancelled, Err(ChunkStoreError::Cancelled)));
    assert!(!store.is_refreshed() && store.contains(&id(3)).unwrap());
}

/// Changes one byte in the middle of each page of each run.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let pages = bytes.len() / 4096;
    for page in 0..pages {
        bytes[page * 4096 + 100] ^= 1;
    }
    // In place: the open file is the same.
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
}

#[test]
fn damaged_runs_are_made_again_from_cached_ends_or_from_the_store() {
    for ends_too in [false, true] {
        let bench = Bench::new();
        let store = bench.open(50);
        for first in 0..10 {
            store.store_pack(pack(first * 100..first * 100 + 100)).unwrap();
        }
        let before = bench.runs();
        assert!(!before.is_empty());
        before.iter().for_each(|path| damage(path));
        if ends_too {
            let path = bench.cache().join("packs");
            let length = fs::metadata(&path).unwrap().len();
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            let zeros = vec![0; length as usize - 48];
            std::os::unix::fs::FileExt::write_all_at(&file, &zeros, 48).unwrap();
        }
        for number in 0..1000 {
            assert!(store.contains(&id(number)).unwrap(), "{number}");
            let location = store.locate(&id(number)).unwrap().unwrap();
            assert_eq!(location.chunk.id, id(number));
        }
        assert!((1000..1100).all(|number| !store.contains(&id(number)).unwrap()));
        // The damaged runs have gone.
        assert!(before.iter().all(|path| !path.exists()));
        drop(store);
        let store = bench.open(50);
        if ends_too {
            store.refresh(&|_| {}, &AtomicBool::new(false)).unwrap();
        }
        assert!((0..1000).all(|number| store.contains(&id(number)).unwrap()));
    }
}

#[test]
fn a_pack_that_is_gone_when_its_run_is_made_again_is_forgotten() {
    let bench = Bench::new();
    let store = bench.open(50);
    let (a, b) = (pack(0..100), pack(100..200));
    store.store_pack(a.clone()).unwrap();
    store.store_pack(b).unwrap();
    bench.runs().iter().for_each(|path| damage(path));
    let packs = fs::OpenOptions::new()
        .write(true)
        .open(bench.cache().join("packs"))
        .unwrap();
    packs.set_len(48).unwrap();
    bench
        .runtime
        .block_on(bench.objects.delete(&pack_name(&a.id).unwrap()))
        .unwrap();
    assert!(store.contains(&id(150)).unwrap());
    assert!(!store.contains(&id(50)).unwrap());
    assert_eq!(store.packs().len(), 1);
}

#[test]
fn numbers_of_forgotten_packs_never_mean_others() {
    let bench = Bench::new();
    let store = bench.open(1);
    let packs: Vec<_> = (0..6).map(|first| pack(first * 50..first * 50 + 50)).collect();
    for pack in &packs {
        store.store_pack(pack.clone()).unwrap();
    }
    let last: Vec<_> = packs[3..].iter().map(|pack| pack.id).collect();
    store.condemn(&last);
    store.remove_packs(&last).unwrap();
    drop(store);
    // Whatever is left of the removed packs must not speak for those that come now.
    let store = bench.open(1);
    for first in [100, 101, 102] {
        store.store_pack(pack(first * 50..first * 50 + 50)).unwrap();
    }
    for number in 0..300 {
        assert_eq!(store.contains(&id(number)).unwrap(), number < 150, "{number}");
    }
    assert!((5000..5150).all(|number| store.contains(&id(number)).unwrap()));
}

#[test]
fn a_second_opener_is_refused_and_settings_are_bounded() {
    let bench = Bench::new();
    let store = bench.open(10);
    let parts = || ChunkStoreParts {
        objects: bench.objects.clone(),
        runtime: bench.runtime.handle().clone(),
        cache: bench.cache(),
        sealing: crate::sealing::Sealing::plain(),
    };
    let second = ChunkStore::open(parts(), ChunkStoreSettings::default()).unwrap_err();
    assert!(matches!(second, ChunkStoreError::Locked { .. }) && second.kind() == ErrorKind::Conflict);
    drop(store);
    let settings = ChunkStoreSettings {
        ends_in_flight: 0,
        ..ChunkStoreSettings::default()
    };
    let refused = ChunkStore::open(parts(), settings).unwrap_err();
    assert_eq!(refused.to_string(), "ends_in_flight is 0 and must be 1 to 1024");
    ChunkStore::open(parts(), ChunkStoreSettings::default()).unwrap();
}

#[test]
fn a_pack_whose_chunk_lies_about_itself_is_named() {
    // The index of this pack says that other data is chunk 1.
    let bench = Bench::new();
    let store = bench.open(10);
    let mut frame = OpenFrame::new();
    frame.push(id(1), &data(2)).unwrap();
    let mut writer = PackWriter::new();
    writer
        .push(&frame.seal(&mut Encoder::new(Compression::None).unwrap()).unwrap())
        .unwrap();
    let liar = writer.finish().unwrap();
    store.store_pack(liar.clone()).unwrap();
    let length = data(2).len() as u32;
    let error = store.read(&id(1), length).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&liar.id.to_string()), "{error}");
    let wanted = vec![(id(1), length); 2];
    let ordered = store
        .read_ordered(wanted.into_iter(), super::ReadSettings::default())
        .unwrap();
    let errors: Vec<_> = ordered.map(|item| item.unwrap_err().kind()).collect();
    assert_eq!(errors, [ErrorKind::Corrupt; 2]);
    let _: Bytes = store
        .read(&id(1), 1)
        .map_or_else(|_| Bytes::new(), |_| unreachable!());
}
