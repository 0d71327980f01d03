//! The threads: workers, which identify and compress, and storers. After a failure they take what comes and drop it, so that
//! nobody who hands something on waits for ever.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use cairn_types::ChunkId;
use parking_lot::Mutex;

use super::feeder::Feeder;
use super::{PackStore, PipelineError, PipelineSettings, Run, RunSink, StoreError, Totals};
use crate::codec::{Encoder, is_noise};
use crate::pack::{OpenFrame, PackError, PackWriter, SealedPack};

/// Claims are spread over so many locks.
const CLAIM_SHARDS: usize = 64;
/// Batches that wait, per worker.
const QUEUED_PER_WORKER: usize = 2;
/// Most chunks of a frame: tiny files would otherwise make frames with a larger index than content.
const FRAME_CHUNKS_MAX: usize = 4096;

/// Chunks, side by side, and where their fate is told.
pub(super) struct Batch {
    data: Vec<u8>,
    lengths: Vec<u32>,
    told: SyncSender<Vec<Run>>,
}

impl Batch {
    pub fn new(data: Vec<u8>, lengths: Vec<u32>) -> (Self, Receiver<Vec<Run>>) {
        let (told, runs) = sync_channel(1);
        (Batch { data, lengths, told }, runs)
    }
}

#[derive(Default)]
struct Counters {
    bytes: AtomicU64,
    zero_bytes: AtomicU64,
    chunks: AtomicU64,
    new_chunks: AtomicU64,
    new_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    packs: AtomicU64,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// What all threads of a pipeline see.
struct Shared {
    settings: PipelineSettings,
    store: Arc<dyn PackStore>,
    claims: Vec<Mutex<HashSet<ChunkId>>>,
    packing: Mutex<PackWriter>,
    /// Buffers of batches that are done with: made anew, each would cost its page faults.
    spare: Mutex<Vec<Vec<u8>>>,
    counters: Counters,
    /// Why everything stops.
    failure: OnceLock<PipelineError>,
}

fn store_failed(error: StoreError) -> PipelineError {
    PipelineError::Store(error.into())
}

fn pack_failed(error: PackError) -> PipelineError {
    PipelineError::Pack(Arc::new(error))
}

impl Shared {
    fn fail(&self, error: PipelineError) {
        // The first failure is the one that is told; what follows from it says less.
        let _ = self.failure.set(error);
    }

    fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    fn new_pack(&self) -> PackWriter {
        // One frame more than makes it full, and its index.
        let room = self.settings.pack_bytes + self.settings.frame_bytes + (self.settings.pack_bytes >> 5);
        PackWriter::with_room(self.settings.sealing.clone(), room)
    }

    /// Memory for a batch.
    pub(super) fn spare_buffer(&self) -> Vec<u8> {
        self.spare.lock().pop().unwrap_or_default()
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.spare.lock();
        if spare.len() < self.settings.workers * QUEUED_PER_WORKER {
            spare.push(buffer);
        }
    }

    fn shard(&self, id: &ChunkId) -> &Mutex<HashSet<ChunkId>> {
        &self.claims[usize::from(id.0[0]) % CLAIM_SHARDS]
    }

    /// Whether the caller has to store the chunk.
    fn claim(&self, id: ChunkId) -> Result<bool, PipelineError> {
        if !self.shard(&id).lock().insert(id) {
            return Ok(false);
        }
        // Asked after the claim: a pack that has been stored is known before its claims end.
        let known = self.store.contains(&id).map_err(store_failed)?;
        if known {
            self.shard(&id).lock().remove(&id);
        }
        Ok(!known)
    }
}

/// The threads. Dropping it without [`Pipeline::finish`] cancels it.
pub struct Pipeline {
    shared: Arc<Shared>,
    /// Gone when no more batches come.
    batches: Option<SyncSender<Batch>>,
    /// Gone when no more packs come.
    packs: Option<SyncSender<SealedPack>>,
    workers: Vec<JoinHandle<()>>,
    storers: Vec<JoinHandle<()>>,
}

impl Pipeline {
    /// Starts the threads. Errors: `Setting`, `Level`, `Start`.
    pub fn start(settings: PipelineSettings, store: Arc<dyn PackStore>) -> Result<Self, PipelineError> {
        settings.check()?;
        let (workers, stores) = (settings.workers, settings.stores_max);
        let start = |error| PipelineError::Start(Arc::new(error));
        let encoders = (0..workers).map(|_| Encoder::new(settings.compression));
        let encoders: Vec<Encoder> = encoders.collect::<Result<_, _>>().map_err(start)?;
        let (batches, queue) = sync_channel(workers * QUEUED_PER_WORKER);
        // No pack waits: memory is bounded by those that are being stored, and the workers hold one each at most.
        let (packs, sealed) = sync_channel(0);
        let packing = Mutex::new(PackWriter::with(settings.sealing.clone()));
        let mut pipeline = Pipeline {
            shared: Arc::new(Shared {
                settings,
                store,
                claims: (0..CLAIM_SHARDS).map(|_| Mutex::default()).collect(),
                packing,
                spare: Mutex::default(),
                counters: Counters::default(),
                failure: OnceLock::new(),
            }),
            batches: Some(batches),
            packs: Some(packs.clone()),
            workers: Vec::with_capacity(workers),
            storers: Vec::with_capacity(stores),
        };
        let (queue, sealed) = (Arc::new(Mutex::new(queue)), Arc::new(Mutex::new(sealed)));
        for (number, mut encoder) in encoders.into_iter().enumerate() {
            let (queue, packs) = (queue.clone(), packs.clone());
            let worker = pipeline.spawn(format!("pack-{number}"), move |shared| {
                work(shared, &queue, &packs, &mut encoder);
            });
            pipeline.workers.push(worker.map_err(start)?);
        }
        for number in 0..stores {
            let sealed = sealed.clone();
            let storer = pipeline.spawn(format!("store-{number}"), move |shared| {
                store_packs(shared, &sealed);
            });
            pipeline.storers.push(storer.map_err(start)?);
        }
        Ok(pipeline)
    }

    fn spawn(
        &self,
        name: String,
        work: impl FnOnce(&Shared) + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        let shared = self.shared.clone();
        std::thread::Builder::new()
            .name(name)
            .spawn(move || work(&shared))
    }

    /// A feeder whose bytes `sink` hears of.
    pub fn feeder<S: RunSink>(&self, sink: S) -> Feeder<'_, S> {
        Feeder::new(self, sink)
    }

    /// One chunk, cut by the caller: at least one byte, at most [`crate::chunking::CHUNK_BYTES_MAX`]. Waits while the pipeline is
    /// busy. Errors: those of the pipeline.
    pub fn store_chunk(&self, data: Vec<u8>) -> Result<(), PipelineError> {
        let lengths = vec![data.len() as u32];
        let (batch, _) = Batch::new(data, lengths);
        self.submit(batch)
    }

    /// What has gone through so far.
    pub fn totals(&self) -> Totals {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        Totals {
            bytes: count(&counters.bytes),
            zero_bytes: count(&counters.zero_bytes),
            chunks: count(&counters.chunks),
            new_chunks: count(&counters.new_chunks),
            new_bytes: count(&counters.new_bytes),
            stored_bytes: count(&counters.stored_bytes),
            packs: count(&counters.packs),
        }
    }

    /// Stops everything soon. Packs that are stored stay.
    pub fn cancel(&self) {
        self.shared.fail(PipelineError::Cancelled);
    }

    /// Waits until everything that was fed is stored durably. Errors: the first failure; then what is stored is of use only
    /// to a later pipeline, which will know it.
    pub fn finish(mut self) -> Result<Totals, PipelineError> {
        self.join();
        match self.shared.failure.get() {
            Some(failure) => Err(failure.clone()),
            None => Ok(self.totals()),
        }
    }

    fn join(&mut self) {
        let join = |threads: &mut Vec<JoinHandle<()>>| {
            for thread in threads.drain(..) {
                if thread.join().is_err() {
                    self.shared.fail(PipelineError::Panicked);
                }
            }
        };
        self.batches = None;
        join(&mut self.workers);
        if let Some(packs) = self.packs.take() {
            let rest = std::mem::replace(&mut *self.shared.packing.lock(), self.shared.new_pack());
            if !self.shared.has_failed() && !rest.is_empty() {
                send_pack(&self.shared, rest, &packs).unwrap_or_else(|error| self.shared.fail(error));
            }
        }
        join(&mut self.storers);
    }

    pub(super) fn spare_buffer(&self) -> Vec<u8> {
        self.shared.spare_buffer()
    }

    pub(super) fn settings(&self) -> &PipelineSettings {
        &self.shared.settings
    }

    /// Batches of one feeder that may be on their way.
    pub(super) fn batches_max(&self) -> usize {
        self.shared.settings.workers * (QUEUED_PER_WORKER + 1)
    }

    /// Why the pipeline has stopped.
    pub(super) fn stopped(&self) -> PipelineError {
        let failure = self.shared.failure.get().cloned();
        failure.unwrap_or(PipelineError::Panicked)
    }

    pub(super) fn submit(&self, batch: Batch) -> Result<(), PipelineError> {
        match &self.batches {
            Some(batches) if !self.shared.has_failed() => batches.send(batch).map_err(|_| self.stopped()),
            _ => Err(self.stopped()),
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if self.batches.is_some() {
            self.cancel();
            self.join();
        }
    }
}

/// A worker: batches into frames, frames into the open pack.
fn work(
    shared: &Shared,
    queue: &Mutex<Receiver<Batch>>,
    packs: &SyncSender<SealedPack>,
    encoder: &mut Encoder,
) {
    let mut frames = OpenFrames::default();
    loop {
        let next = queue.lock().recv();
        let Ok(batch) = next else { break };
        if !shared.has_failed()
            && let Err(error) = take(shared, batch, &mut frames, encoder, packs)
        {
            shared.fail(error);
        }
    }
    for frame in [&mut frames.dense, &mut frames.noise] {
        if !shared.has_failed()
            && !frame.is_empty()
            && let Err(error) = add_frame(shared, frame, encoder, packs)
        {
            shared.fail(error);
        }
    }
}

/// The frames that a worker fills: what may compress shares none with what looks like noise.
#[derive(Default)]
struct OpenFrames {
    dense: OpenFrame,
    noise: OpenFrame,
}

fn is_zero(data: &[u8]) -> bool {
    // Every byte equals the one before it: that is one call of memcmp.
    data.first() == Some(&0) && data[1..] == data[..data.len() - 1]
}

fn take(
    shared: &Shared,
    batch: Batch,
    frames: &mut OpenFrames,
    encoder: &mut Encoder,
    packs: &SyncSender<SealedPack>,
) -> Result<(), PipelineError> {
    let counters = &shared.counters;
    let mut runs = Vec::with_capacity(batch.lengths.len());
    let mut rest = &batch.data[..];
    for &length in &batch.lengths {
        let (data, after) = rest.split_at(length as usize);
        rest = after;
        add(&counters.bytes, data.len());
        if is_zero(data) {
            add(&counters.zero_bytes, data.len());
            runs.push(Run::Zeros(length));
            continue;
        }
        let id = shared.settings.sealing.chunk_id(data);
        add(&counters.chunks, 1);
        runs.push(Run::Chunk(id, length));
        if !shared.claim(id)? {
            continue;
        }
        add(&counters.new_chunks, 1);
        add(&counters.new_bytes, data.len());
        let frame = match is_noise(data) {
            true => &mut frames.noise,
            false => &mut frames.dense,
        };
        let full =
            frame.length() + data.len() > shared.settings.frame_bytes || frame.chunks() >= FRAME_CHUNKS_MAX;
        if full && !frame.is_empty() {
            add_frame(shared, frame, encoder, packs)?;
        }
        frame.push(id, data).map_err(pack_failed)?;
    }
    shared.give_back(batch.data);
    // A feeder that has gone does not want to hear.
    let _ = batch.told.send(runs);
    Ok(())
}

fn add_frame(
    shared: &Shared,
    frame: &mut OpenFrame,
    encoder: &mut Encoder,
    packs: &SyncSender<SealedPack>,
) -> Result<(), PipelineError> {
    let sealed = frame.seal(encoder).map_err(pack_failed)?;
    let full = {
        let mut packing = shared.packing.lock();
        packing.push(&sealed).map_err(pack_failed)?;
        let full = packing.stored_bytes() >= shared.settings.pack_bytes || packing.is_crowded();
        full.then(|| std::mem::replace(&mut *packing, shared.new_pack()))
    };
    sealed.recycle(encoder);
    full.map_or(Ok(()), |full| send_pack(shared, full, packs))
}

/// Completes a pack and hands it to whoever stores next. Waits while all are busy.
fn send_pack(shared: &Shared, pack: PackWriter, packs: &SyncSender<SealedPack>) -> Result<(), PipelineError> {
    let pack = pack.finish().map_err(pack_failed)?;
    packs.send(pack).map_err(|_| {
        let failure = shared.failure.get().cloned();
        failure.unwrap_or(PipelineError::Panicked)
    })
}

/// A storer.
fn store_packs(shared: &Shared, sealed: &Mutex<Receiver<SealedPack>>) {
    loop {
        let next = sealed.lock().recv();
        let Ok(pack) = next else { return };
        if shared.has_failed() {
            continue;
        }
        let ids: Vec<ChunkId> = pack.index.chunks().iter().map(|chunk| chunk.id).collect();
        let bytes = pack.bytes.len();
        match shared.store.store(pack) {
            Ok(()) => {
                for id in &ids {
                    shared.shard(id).lock().remove(id);
                }
                add(&shared.counters.packs, 1);
                add(&shared.counters.stored_bytes, bytes);
            }
            Err(error) => shared.fail(store_failed(error)),
        }
    }
}
