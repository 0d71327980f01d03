//! What is fed comes back from the packs; what is known is not stored again; a failure stops everything and is told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cairn_types::ChunkId;
use parking_lot::Mutex;

use super::{PackStore, Pipeline, PipelineError, PipelineSettings, Run, RunSink, StoreError};
use crate::chunking::ChunkSizes;
use crate::codec::Compression;
use crate::pack::{FrameReader, PackIndex, SealedPack};
use crate::sealing::Sealing;
use crate::sealing::tests::stuck;
use crate::testing::{random, text};

/// A store in memory. Fails from a certain pack on.
#[derive(Default)]
struct Memory {
    chunks: Mutex<HashMap<ChunkId, Vec<u8>>>,
    packs: AtomicUsize,
    fails_from: Option<usize>,
    panics: bool,
    sealing: Sealing,
}

impl PackStore for Memory {
    fn contains(&self, id: &ChunkId) -> Result<bool, StoreError> {
        Ok(self.chunks.lock().contains_key(id))
    }

    fn store(&self, pack: SealedPack) -> Result<(), StoreError> {
        let number = self.packs.fetch_add(1, Ordering::SeqCst);
        if self.fails_from.is_some_and(|first| number >= first) {
            return Err("the disk is full".into());
        }
        if self.panics {
            std::panic::resume_unwind(Box::new("expected by the test"));
        }
        let mut reader = FrameReader::with(self.sealing.clone())?;
        assert_eq!(PackIndex::of_with(&pack.bytes, &self.sealing)?, pack.index);
        for frame in pack.index.frames() {
            let start = frame.offset as usize;
            let decoded = reader.open(frame, &pack.bytes[start..start + frame.stored as usize])?;
            for chunk in pack.index.chunks_of(frame) {
                let before = self
                    .chunks
                    .lock()
                    .insert(chunk.id, decoded.chunk(chunk)?.to_vec());
                assert_eq!(before, None, "a chunk was stored twice");
            }
        }
        Ok(())
    }
}

/// The runs of each file.
#[derive(Default)]
struct Files {
    complete: Vec<Vec<Run>>,
    open: Vec<Run>,
}

impl RunSink for Files {
    fn run(&mut self, run: Run) {
        self.open.push(run);
    }

    fn end_of_file(&mut self) {
        self.complete.push(std::mem::take(&mut self.open));
    }
}

fn settings() -> PipelineSettings {
    PipelineSettings {
        workers: 3,
        stores_max: 2,
        chunk_sizes: ChunkSizes::around(4096).unwrap(),
        compression: Compression::Zstd(1),
        sealing: Sealing::plain(),
        frame_bytes: 64 << 10,
        pack_bytes: 256 << 10,
    }
}

/// Files of many kinds: none, tiny, equal, large, with zeros.
fn sample() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = (0..300)
        .map(|seed| text(seed, (seed as usize * 37) % 9000))
        .collect();
    files.push(random(1, 3 << 20));
    files.push([random(2, 100_000), vec![0; 200_000], random(3, 100_001)].concat());
    files.push(random(1, 3 << 20));
    files.push(Vec::new());
    files.extend((0..5000).map(|_| Vec::new()));
    files.push(b"the end".to_vec());
    files
}

fn feed(pipeline: &Pipeline, files: &[Vec<u8>], piece: usize) -> Result<Vec<Vec<Run>>, PipelineError> {
    let mut feeder = pipeline.feeder(Files::default());
    for file in files {
        for part in file.chunks(piece) {
            feeder.write(part)?;
        }
        feeder.end_file()?;
    }
    Ok(feeder.finish()?.complete)
}

fn read(store: &Memory, runs: &[Run]) -> Vec<u8> {
    let chunks = store.chunks.lock();
    let mut bytes = Vec::new();
    for run in runs {
        match run {
            Run::Chunk(id, length) => {
                assert_eq!(chunks[id].len(), *length as usize);
                bytes.extend_from_slice(&chunks[id]);
            }
            Run::Zeros(length) => bytes.resize(bytes.len() + *length as usize, 0),
        }
    }
    bytes
}

#[test]
fn files_come_back_from_packs() {
    let files = sample();
    for piece in [1 << 20, 1000] {
        let store = Arc::new(Memory::default());
        let pipeline = Pipeline::start(settings(), store.clone()).unwrap();
        let runs = feed(&pipeline, &files, piece).unwrap();
        let totals = pipeline.finish().unwrap();
        assert_eq!(runs.len(), files.len());
        for (runs, file) in runs.iter().zip(&files) {
            assert!(read(&store, runs) == *file);
        }
        let bytes: usize = files.iter().map(Vec::len).sum();
        let stored: usize = store.chunks.lock().values().map(Vec::len).sum();
        assert_eq!((totals.bytes, totals.new_bytes), (bytes as u64, stored as u64));
        // The large file came twice; zeros are nowhere.
        assert!(stored < bytes - (3 << 20));
        assert!(totals.zero_bytes > 150_000, "{totals:?}");
        assert_eq!(totals.new_chunks, store.chunks.lock().len() as u64);
        assert!(
            totals.packs >= 10 && totals.stored_bytes < totals.new_bytes,
            "{totals:?}"
        );
    }
}

#[test]
fn in_an_encrypted_store_files_come_back_and_what_is_known_is_not_stored_again() {
    let files = sample();
    let store = Arc::new(Memory {
        sealing: stuck(0),
        ..Memory::default()
    });
    let encrypted = PipelineSettings {
        sealing: stuck(0),
        ..settings()
    };
    let pipeline = Pipeline::start(encrypted.clone(), store.clone()).unwrap();
    let runs = feed(&pipeline, &files, 1 << 20).unwrap();
    pipeline.finish().unwrap();
    for (runs, file) in runs.iter().zip(&files) {
        assert!(read(&store, runs) == *file);
    }
    let again = Pipeline::start(encrypted, store.clone()).unwrap();
    assert!(feed(&again, &files, 1 << 20).unwrap() == runs);
    let totals = again.finish().unwrap();
    assert_eq!((totals.new_chunks, totals.packs), (0, 0));
    // The names of chunks are of this key only.
    let plain = Pipeline::start(settings(), Arc::new(Memory::default())).unwrap();
    let others = feed(&plain, &files, 1 << 20).unwrap();
    plain.finish().unwrap();
    let ids = |runs: &[Vec<Run>]| -> HashSet<ChunkId> {
        let chunk = |run: &Run| match run {
            Run::Chunk(id, _) => Some(*id),
            Run::Zeros(_) => None,
        };
        runs.iter().flatten().filter_map(chunk).collect()
    };
    assert!(ids(&runs).is_disjoint(&ids(&others)));
}

#[test]
fn what_is_known_is_not_stored_again() {
    let files = sample();
    let store = Arc::new(Memory::default());
    let first = Pipeline::start(settings(), store.clone()).unwrap();
    let before = feed(&first, &files, 1 << 20).unwrap();
    first.finish().unwrap();
    let again = Pipeline::start(settings(), store.clone()).unwrap();
    let after = feed(&again, &files, 1 << 20).unwrap();
    let totals = again.finish().unwrap();
    assert_eq!((totals.new_chunks, totals.packs), (0, 0));
    assert!(totals.chunks > 100 && before == after);
}

#[test]
fn several_feeders_share_a_pipeline() {
    let files = sample();
    let store = Arc::new(Memory::default());
    let pipeline = Pipeline::start(settings(), store.clone()).unwrap();
    std::thread::scope(|scope| {
        let feeders: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| feed(&pipeline, &files, 50_000).unwrap()))
            .collect();
        let runs: Vec<_> = feeders.into_iter().map(|feeder| feeder.join().unwrap()).collect();
        assert!(runs[0] == runs[1] && runs[1] == runs[2]);
    });
    let totals = pipeline.finish().unwrap();
    assert_eq!(totals.new_chunks, store.chunks.lock().len() as u64);
}

#[test]
fn a_store_that_fails_stops_everything() {
    for fails_from in [0, 3] {
        let store = Arc::new(Memory {
            fails_from: Some(fails_from),
            ..Memory::default()
        });
        let pipeline = Pipeline::start(settings(), store).unwrap();
        // The feeder hears of it, unless it had been fed before.
        let large = vec![random(9, 40 << 20)];
        let told = feed(&pipeline, &large, 1 << 20).unwrap_err();
        assert!(matches!(told, PipelineError::Store(_)), "{told}");
        let told = pipeline.finish().unwrap_err();
        let PipelineError::Store(cause) = told else {
            panic!("{told}")
        };
        assert_eq!(cause.to_string(), "the disk is full");
    }
}

#[test]
fn a_store_that_fails_at_the_last_pack_is_told() {
    let store = Arc::new(Memory {
        fails_from: Some(0),
        ..Memory::default()
    });
    let pipeline = Pipeline::start(settings(), store).unwrap();
    feed(&pipeline, &[b"little".to_vec()], 100).unwrap();
    assert!(matches!(pipeline.finish(), Err(PipelineError::Store(_))));
}

#[test]
fn a_store_that_panics_is_told_and_nobody_waits_for_ever() {
    let store = Arc::new(Memory {
        panics: true,
        ..Memory::default()
    });
    let pipeline = Pipeline::start(settings(), store).unwrap();
    let fed = feed(&pipeline, &[random(9, 40 << 20)], 1 << 20);
    assert!(matches!(fed, Err(PipelineError::Panicked)), "{:?}", fed.err());
    assert!(matches!(pipeline.finish(), Err(PipelineError::Panicked)));
}

#[test]
fn cancelling_and_dropping_end_the_threads() {
    let store = Arc::new(Memory::default());
    let pipeline = Pipeline::start(settings(), store.clone()).unwrap();
    let mut feeder = pipeline.feeder(Files::default());
    feeder.write(&random(1, 1 << 20)).unwrap();
    pipeline.cancel();
    feeder.end_file().unwrap_or_default();
    assert!(matches!(feeder.finish(), Err(PipelineError::Cancelled)));
    assert!(matches!(pipeline.finish(), Err(PipelineError::Cancelled)));
    drop(Pipeline::start(settings(), store.clone()).unwrap());
    // All threads have let go of it.
    assert_eq!(Arc::strong_count(&store), 1);
}

#[test]
fn settings_out_of_bounds_are_told() {
    let wrong = [
        PipelineSettings {
            workers: 0,
            ..settings()
        },
        PipelineSettings {
            frame_bytes: 1,
            ..settings()
        },
        PipelineSettings {
            compression: Compression::Zstd(99),
            ..settings()
        },
    ];
    for wrong in wrong {
        let told = Pipeline::start(wrong, Arc::new(Memory::default()));
        let told = told.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.contains("must be") || told.contains("choose one"), "{told}");
    }
}
