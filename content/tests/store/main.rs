//! The chunk store over stores in memory, in a directory and behind S3's protocol: what the pipeline stores is known and comes
//! back, whatever happens to the index; what is damaged in the store is named and isolated; ordered reads against a model.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod index;
mod ordered;
mod reclaim;
#[allow(
    dead_code,
    reason = "shared with the tests of object stores, which use more of it"
)]
#[path = "../objects/server.rs"]
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cairn_content::chunking::{ChunkSizes, chunk_id};
use cairn_content::codec::{Compression, Encoder};
use cairn_content::objects::{ObjectOptions, ObjectStoreUrl, Objects};
use cairn_content::pack::{OpenFrame, PackWriter, SealedPack};
use cairn_content::pipeline::{Pipeline, PipelineSettings, Run, RunSink, Totals};
use cairn_content::store::{ChunkStore, ChunkStoreParts, ChunkStoreSettings, Refreshed};
use cairn_content::testing::{random, text};
use cairn_types::{ChunkId, Randomness};
use tokio::runtime::Runtime;

struct Random;

impl Randomness for Random {
    fn fill(&self, buffer: &mut [u8]) {
        getrandom::fill(buffer).unwrap();
    }
}

/// An object store, and a place for its index.
struct Bench {
    directory: tempfile::TempDir,
    runtime: Runtime,
    objects: Objects,
}

impl Bench {
    fn over(url: impl FnOnce(&std::path::Path) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = url(directory.path());
        let options = ObjectOptions {
            create_directory: true,
            attempts_max: 1,
            ..ObjectOptions::default()
        };
        Bench {
            runtime: runtime(),
            objects: Objects::open(&ObjectStoreUrl::parse(&url).unwrap(), options, Arc::new(Random)).unwrap(),
            directory,
        }
    }

    fn memory() -> Self {
        Bench::over(|_| "memory://".to_owned())
    }

    fn file() -> Self {
        Bench::over(|directory| format!("file://{}/objects", directory.display()))
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("index")
    }

    fn open(&self) -> ChunkStore {
        self.open_with(settings())
    }

    fn open_with(&self, settings: ChunkStoreSettings) -> ChunkStore {
        let parts = ChunkStoreParts {
            objects: self.objects.clone(),
            runtime: self.runtime.handle().clone(),
            cache: self.cache(),
            sealing: cairn_content::sealing::Sealing::plain(),
        };
        ChunkStore::open(parts, settings).unwrap()
    }

    /// The file of a pack, in a directory.
    fn pack_path(&self, pack: &SealedPack) -> PathBuf {
        let name = cairn_content::store::pack_name(&pack.id).unwrap();
        self.directory.path().join("objects").join(name.as_str())
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

/// A table so small that runs are written and merged all the time.
fn settings() -> ChunkStoreSettings {
    ChunkStoreSettings {
        table_chunks_max: 64,
        frame_cache_bytes: 1 << 20,
        index_cache_bytes: 1 << 16,
        ends_in_flight: 4,
    }
}

fn refresh(store: &ChunkStore) -> Refreshed {
    store.refresh(&|_| {}, &AtomicBool::new(false)).unwrap()
}

/// The data of a chunk.
fn data(number: u64) -> Vec<u8> {
    match number % 3 {
        0 => random(number, 100 + (number as usize * 7) % 4000),
        _ => text(number, 100 + (number as usize * 7) % 4000),
    }
}

/// What refers to a chunk.
fn wanted(number: u64) -> (ChunkId, u32) {
    let data = data(number);
    (chunk_id(&data), data.len() as u32)
}

fn id(number: u64) -> ChunkId {
    wanted(number).0
}

/// A pack of these chunks, eight a frame.
fn pack(numbers: impl IntoIterator<Item = u64>) -> SealedPack {
    let mut encoder = Encoder::new(Compression::Zstd(1)).unwrap();
    let mut writer = PackWriter::new();
    let numbers: Vec<u64> = numbers.into_iter().collect();
    for part in numbers.chunks(8) {
        let mut frame = OpenFrame::new();
        for number in part {
            frame.push(id(*number), &data(*number)).unwrap();
        }
        writer.push(&frame.seal(&mut encoder).unwrap()).unwrap();
    }
    writer.finish().unwrap()
}

/// The runs of one file.
#[derive(Default)]
struct Runs(Vec<Run>);

impl RunSink for Runs {
    fn run(&mut self, run: Run) {
        self.0.push(run);
    }

    fn end_of_file(&mut self) {}
}

/// Feeds a file through a pipeline of small chunks and packs.
fn push(store: &ChunkStore, bytes: &[u8]) -> (Vec<Run>, Totals) {
    let settings = PipelineSettings {
        workers: 2,
        stores_max: 2,
        chunk_sizes: ChunkSizes::around(4096).unwrap(),
        compression: Compression::Zstd(1),
        frame_bytes: 64 << 10,
        pack_bytes: 256 << 10,
        ..PipelineSettings::default()
    };
    let pipeline = Pipeline::start(settings, Arc::new(store.clone())).unwrap();
    let mut feeder = pipeline.feeder(Runs::default());
    feeder.write(bytes).unwrap();
    feeder.end_file().unwrap();
    let runs = feeder.finish().unwrap().0;
    (runs, pipeline.finish().unwrap())
}

/// Reads a file back, in order.
fn pull(store: &ChunkStore, runs: &[Run]) -> Vec<u8> {
    let chunks: Vec<(ChunkId, u32)> = runs
        .iter()
        .filter_map(|run| match run {
            Run::Chunk(id, length) => Some((*id, *length)),
            Run::Zeros(_) => None,
        })
        .collect();
    let mut read = store.read_ordered(chunks.into_iter(), ordered::small()).unwrap();
    let mut bytes = Vec::new();
    for run in runs {
        match run {
            Run::Chunk(_, length) => {
                let chunk = read.next().unwrap().unwrap();
                assert_eq!(chunk.len() as u32, *length);
                bytes.extend_from_slice(&chunk);
            }
            Run::Zeros(length) => bytes.resize(bytes.len() + *length as usize, 0),
        }
    }
    assert!(read.next().is_none());
    bytes
}

#[test]
fn what_goes_in_by_the_pipeline_comes_out_again_and_goes_in_once() {
    let file = [
        random(1, 3 << 20),
        text(2, 2 << 20),
        vec![0; 500_000],
        random(1, 1 << 20),
    ]
    .concat();
    for bench in [Bench::memory(), Bench::file()] {
        let store = bench.open();
        let (runs, totals) = push(&store, &file);
        assert!(totals.packs > 4 && totals.new_bytes > 4 << 20);
        assert_eq!(pull(&store, &runs), file);
        let (again, totals) = push(&store, &file);
        assert_eq!((again, totals.new_chunks, totals.packs), (runs.clone(), 0, 0));
        assert_eq!(refresh(&store).added, 0);
        // Another index over the same packs knows the same.
        drop(store);
        std::fs::remove_dir_all(bench.cache()).unwrap();
        let store = bench.open();
        assert_eq!(store.packs().len(), 0);
        let refreshed = refresh(&store);
        assert!(refreshed.added > 4 && refreshed.added == refreshed.packs && refreshed.damaged == 0);
        assert_eq!(push(&store, &file).1.new_chunks, 0);
        assert_eq!(pull(&store, &runs), file);
    }
}

#[test]
fn a_store_behind_s3_does_the_same_and_its_failures_are_told() {
    let runtime = runtime();
    let server = runtime.block_on(server::Server::start());
    let directory = tempfile::tempdir().unwrap();
    let credentials = directory.path().join("credentials");
    server::Server::credentials(&credentials, server::SECRET_KEY);
    let options = ObjectOptions {
        endpoint: Some(server.endpoint.clone()),
        region: Some("us-east-1".to_owned()),
        allow_http: true,
        credentials: cairn_content::objects::Credentials::File {
            path: credentials,
            profile: "default".to_owned(),
        },
        attempts_max: 2,
        backoff_start: std::time::Duration::from_millis(1),
        backoff_max: std::time::Duration::from_millis(1),
        ..ObjectOptions::default()
    };
    let url = ObjectStoreUrl::parse(&format!("s3://{}/some/prefix", server::BUCKET)).unwrap();
    let bench = Bench {
        objects: Objects::open(&url, options, Arc::new(Random)).unwrap(),
        runtime,
        directory,
    };
    let store = bench.open();
    let file = [text(5, 1 << 20), random(6, 1 << 20)].concat();
    let (runs, _) = push(&store, &file);
    assert_eq!(refresh(&store).added, 0);
    assert_eq!(pull(&store, &runs), file);
    // One failure is survived, and more are told.
    let Some(Run::Chunk(id, length)) = runs.last().copied() else {
        panic!("the file ends with a chunk");
    };
    let cold = ChunkStoreSettings {
        frame_cache_bytes: 0,
        ..settings()
    };
    drop(store);
    let store = bench.open_with(cold);
    server.script([server::Answer::Status(503, "SlowDown")]);
    assert_eq!(
        store.read(&id, length).unwrap(),
        file[file.len() - length as usize..]
    );
    server.script([server::Answer::Status(503, "SlowDown"); 2]);
    let error = store.read(&id, length).unwrap_err();
    assert_eq!(error.kind(), cairn_types::ErrorKind::Unavailable);
    server.script([server::Answer::Status(503, "SlowDown"); 2]);
    let failed = store.refresh(&|_| {}, &AtomicBool::new(false)).unwrap_err();
    assert_eq!(failed.kind(), cairn_types::ErrorKind::Unavailable);
    assert!(store.contains(&id).unwrap());
}
