//! Reading many chunks in order: a window of frames is fetched and decoded ahead of whoever takes the chunks.
//!
//! A planner thread looks up where the wanted chunks are. Frames that are needed are gathered into rounds of about a window's
//! share; within a round, frames that lie side by side in a pack are fetched by one request. Fetches run on the runtime, a
//! bounded number at once; fetched frames are decoded and the wanted chunks verified by as many threads as asked for; the
//! taker gets chunks in the order wanted.
//!
//! **Memory**: the window in decoded bytes, their stored bytes while they wait for a decoder (never more), and [`SLOTS_MAX`]
//! chunks that are planned. A frame counts until the last of its planned chunks was taken. What the taker holds on to counts
//! no more, but a chunk keeps its frame.
//!
//! **It never waits for itself**: before the planner waits for room it hands out the round that it has, so that all that is
//! planned can be taken; and whatever does not come (a fetch that is aborted, a thread that panics) is an error of its chunks.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use bytes::Bytes;
use cairn_types::ChunkId;

use super::error::ChunkReadError;
use super::{ChunkStore, Inner, Location};

mod fetch;
mod flow;

use fetch::fetch_round;
use flow::{Failure, Flow, Frame, Job};

/// Most chunks that are planned and not taken.
const SLOTS_MAX: usize = 8192;
/// Most chunks that are wanted of a frame and verified ahead; further ones are verified when they are taken.
const AHEAD_PER_FRAME_MAX: usize = 8192;
/// Frames that are looked through before those that have gone are dropped from the list of open ones.
const OPEN_MIN: usize = 256;

const WINDOW_BYTES: std::ops::RangeInclusive<usize> = 1..=(1 << 36);
const FETCH_BYTES: std::ops::RangeInclusive<usize> = 1..=(1 << 29);
const GAP_BYTES: std::ops::RangeInclusive<usize> = 0..=(1 << 29);
const IN_FLIGHT: std::ops::RangeInclusive<usize> = 1..=1024;
const DECODERS: std::ops::RangeInclusive<usize> = 1..=64;

/// What can be set about reading in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSettings {
    /// Decoded bytes that are on their way or wait to be taken; one frame may be more. 1 to 64 GiB, default 64 MiB.
    pub window_bytes: usize,
    /// Bytes that one request asks for, at most; one frame may be more. 1 to 512 MiB, default 8 MiB.
    pub fetch_bytes_max: usize,
    /// Bytes between two frames that are fetched and thrown away rather than spend another request. 0 to 512 MiB, default
    /// 128 KiB.
    pub gap_bytes_max: usize,
    /// Requests at once. 1 to 1024, default 8.
    pub fetches_in_flight: usize,
    /// Threads that decode and verify. 1 to 64, default: one per core.
    pub decoders: usize,
}

impl Default for ReadSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        ReadSettings {
            window_bytes: 64 << 20,
            fetch_bytes_max: 8 << 20,
            gap_bytes_max: 128 << 10,
            fetches_in_flight: 8,
            decoders: cores.min(*DECODERS.end()),
        }
    }
}

impl ReadSettings {
    /// Checks the bounds. Errors: `Setting`.
    pub fn check(&self) -> Result<(), ChunkReadError> {
        let within =
            |what, found: usize, bounds: &std::ops::RangeInclusive<usize>| match bounds.contains(&found) {
                true => Ok(()),
                false => Err(ChunkReadError::Setting {
                    what,
                    found: found as u64,
                    minimum: *bounds.start() as u64,
                    maximum: *bounds.end() as u64,
                }),
            };
        within("window_bytes", self.window_bytes, &WINDOW_BYTES)?;
        within("fetch_bytes_max", self.fetch_bytes_max, &FETCH_BYTES)?;
        within("gap_bytes_max", self.gap_bytes_max, &GAP_BYTES)?;
        within("fetches_in_flight", self.fetches_in_flight, &IN_FLIGHT)?;
        within("decoders", self.decoders, &DECODERS)
    }
}

/// A chunk that is planned.
enum Slot {
    /// It is or will be in this frame.
    Chunk {
        id: ChunkId,
        length: u32,
        location: Location,
        frame: Arc<Frame>,
    },
    /// It is nowhere, or that cannot be told.
    Failed(ChunkId, u32, ChunkReadError),
    /// No more are wanted.
    End,
}

/// Chunks in the order in which they were wanted, each verified; one item for each. A chunk that cannot be read is an error
/// item, and those behind it still come. Dropping this stops everything.
pub struct OrderedChunks {
    inner: Arc<Inner>,
    flow: Arc<Flow>,
    /// Gone when everything was taken.
    slots: Option<Receiver<Slot>>,
    decoders: Vec<JoinHandle<()>>,
}

impl ChunkStore {
    /// Reads the chunks that `wanted` names, with their lengths, in this order. `wanted` is asked on a thread of its own, ahead
    /// of what is taken; it must not wait for what is taken. A chunk in several packs is tried in each before it is an
    /// error; the kinds of error are those of [`ChunkStore::read`], and `Stopped`.
    ///
    /// # Errors
    /// `Setting`; `Start` if a thread cannot be started.
    pub fn read_ordered(
        &self,
        wanted: impl Iterator<Item = (ChunkId, u32)> + Send + 'static,
        settings: ReadSettings,
    ) -> Result<OrderedChunks, ChunkReadError> {
        settings.check()?;
        let start = |error: io::Error| ChunkReadError::Start(Arc::new(error));
        let (sender, slots) = sync_channel(SLOTS_MAX);
        let flow = Flow::new(settings.window_bytes, settings.fetches_in_flight);
        let mut chunks = OrderedChunks {
            inner: self.inner.clone(),
            flow: flow.clone(),
            slots: Some(slots),
            decoders: Vec::with_capacity(settings.decoders),
        };
        for number in 0..settings.decoders {
            let (inner, flow) = (self.inner.clone(), flow.clone());
            let decoder = spawn(format!("unpack-{number}"), move || fetch::decode(&inner, &flow));
            chunks.decoders.push(decoder.map_err(start)?);
        }
        let planner = Planner {
            inner: self.inner.clone(),
            flow,
            slots: sender,
            settings,
            round: Vec::new(),
            round_bytes: 0,
            open: HashMap::new(),
            prune_at: OPEN_MIN,
        };
        // Not joined: `wanted` may wait for somebody who waits for us. It ends when `wanted` next answers.
        spawn("plan-reads".to_owned(), move || planner.run(wanted)).map_err(start)?;
        Ok(chunks)
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(work)
}

impl Iterator for OrderedChunks {
    type Item = Result<Bytes, ChunkReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.slots.as_ref()?.recv() {
            Ok(Slot::Chunk {
                id,
                length,
                location,
                frame,
            }) => Some(self.receive(&id, length, &location, &frame)),
            Ok(Slot::Failed(id, length, error)) => Some(self.or_elsewhere(&id, length, None, error)),
            Ok(Slot::End) => {
                self.slots = None;
                None
            }
            Err(_) => {
                self.slots = None;
                Some(Err(ChunkReadError::Stopped))
            }
        }
    }
}

impl OrderedChunks {
    /// Waits for a frame and takes a chunk from it.
    fn receive(
        &self,
        id: &ChunkId,
        length: u32,
        location: &Location,
        frame: &Frame,
    ) -> Result<Bytes, ChunkReadError> {
        let error = match frame.wait() {
            Ok(decoded) => {
                let start = location.chunk.offset as usize;
                let bytes = match decoded.verified.binary_search(&location.chunk.offset) {
                    Ok(_) => Ok(decoded.bytes.slice(start..start + location.chunk.length as usize)),
                    Err(_) => self
                        .inner
                        .decoding
                        .chunk(&decoded.bytes, &location.frame, &location.chunk, id),
                };
                match bytes {
                    Ok(bytes) => return Ok(bytes),
                    Err(error) => self.inner.damaged(location, id, Arc::new(error)),
                }
            }
            Err(Failure::Fetch(error)) => self.inner.not_fetched(location, id, error),
            Err(Failure::Pack(error)) => self.inner.damaged(location, id, error),
            Err(Failure::Memory(error)) => ChunkReadError::Start(error),
            Err(Failure::Stopped) => ChunkReadError::Stopped,
        };
        self.or_elsewhere(id, length, Some(frame.key.0), error)
    }

    /// Tries the other copies of a chunk; if none is better, the error is the first one's.
    fn or_elsewhere(
        &self,
        id: &ChunkId,
        length: u32,
        failed: Option<u32>,
        error: ChunkReadError,
    ) -> Result<Bytes, ChunkReadError> {
        match error.is_of_this_copy() {
            true => self.inner.read_except(id, length, failed).map_err(|_| error),
            false => Err(error),
        }
    }
}

impl Drop for OrderedChunks {
    fn drop(&mut self) {
        // First nobody waits for a slot any more, then nobody for room, a job or a fetch.
        self.slots = None;
        self.flow.stop();
        for decoder in self.decoders.drain(..) {
            // One that panicked has said so, and its chunks were errors.
            let _ = decoder.join();
        }
    }
}

/// The thread that plans.
struct Planner {
    inner: Arc<Inner>,
    flow: Arc<Flow>,
    slots: SyncSender<Slot>,
    settings: ReadSettings,
    /// Frames that are to be fetched, in the order in which they are needed. As jobs, so that their takers hear if this thread
    /// ends.
    round: Vec<(Location, Job)>,
    /// Their decoded bytes.
    round_bytes: usize,
    /// Frames that are in the window.
    open: HashMap<(u32, u32), Weak<Frame>>,
    prune_at: usize,
}

/// Nobody takes any more.
struct Stopped;

impl Planner {
    fn run(mut self, wanted: impl Iterator<Item = (ChunkId, u32)>) {
        for (id, length) in wanted {
            let planned = match self.plan(id, length) {
                Ok(slot) => self.send(slot),
                Err(Stopped) => Err(Stopped),
            };
            if planned.is_err() {
                return;
            }
        }
        self.hand_out();
        // Whoever does not take any more does not need to hear.
        let _ = self.slots.send(Slot::End);
    }

    fn send(&mut self, slot: Slot) -> Result<(), Stopped> {
        match self.slots.try_send(slot) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(slot)) => {
                self.hand_out();
                self.slots.send(slot).map_err(|_| Stopped)
            }
            Err(TrySendError::Disconnected(_)) => Err(Stopped),
        }
    }

    fn plan(&mut self, id: ChunkId, length: u32) -> Result<Slot, Stopped> {
        let failed = |error| Ok(Slot::Failed(id, length, error));
        let places = match self.inner.places(&id) {
            Ok(places) => places,
            Err(error) => return failed(self.inner.index_failed(&id, error)),
        };
        let mut error = None;
        for place in places {
            let location = match self.inner.location(&place, &id) {
                Ok(Some(location)) => location,
                Ok(None) => continue,
                Err(cause) => {
                    error = error.or_else(|| Some(self.inner.index_failed(&id, cause)));
                    continue;
                }
            };
            if let Err(cause) = self.inner.check_length(&location, &id, length) {
                error = error.or(Some(cause));
                continue;
            }
            let frame = self.frame((place.pack, location.chunk.frame), &location)?;
            frame.want(&location.chunk, AHEAD_PER_FRAME_MAX);
            return Ok(Slot::Chunk {
                id,
                length,
                location,
                frame,
            });
        }
        failed(error.unwrap_or_else(|| self.inner.missing(&id)))
    }

    /// The frame in the window; one that is not in it yet is fetched with the next round.
    fn frame(&mut self, key: (u32, u32), location: &Location) -> Result<Arc<Frame>, Stopped> {
        if let Some(frame) = self.open.get(&key).and_then(Weak::upgrade) {
            return Ok(frame);
        }
        let bytes = location.frame.length as usize;
        if !self.flow.try_enter(bytes) {
            self.hand_out();
            if !self.flow.enter(bytes) {
                return Err(Stopped);
            }
        }
        let frame = Frame::new(key, location.frame, self.flow.clone());
        if self.open.len() >= self.prune_at {
            self.open.retain(|_, frame| frame.strong_count() > 0);
            self.prune_at = (self.open.len() * 2).max(OPEN_MIN);
        }
        self.open.insert(key, Arc::downgrade(&frame));
        if let Some(bytes) = self.inner.frames.get(&key) {
            frame.fill(Ok(flow::Decoded {
                bytes,
                verified: Vec::new(),
            }));
            return Ok(frame);
        }
        self.round.push((*location, Job::of(frame.clone())));
        self.round_bytes += bytes;
        // A share of the window, so that as many requests are under way as may be.
        let share = self.settings.window_bytes / self.settings.fetches_in_flight;
        if self.round_bytes >= share.min(self.settings.fetch_bytes_max) {
            self.hand_out();
        }
        Ok(frame)
    }

    /// Fetches what has been gathered.
    fn hand_out(&mut self) {
        self.round_bytes = 0;
        let round = std::mem::take(&mut self.round);
        fetch_round(&self.inner, &self.flow, &self.settings, round);
    }
}
