//! From a stream of files to packs: cut, identify, leave out what is known, compress, pack, store; on all cores, in bounded
//! memory.
//!
//! A [`Feeder`] belongs to one thread that reads. It cuts what it is given into chunks and hands them on in batches of about
//! [`PipelineSettings::frame_bytes`]. Workers identify the chunks of a batch, drop those that are known, and compress the rest
//! in frames. Who makes a pack full completes it (and, in an encrypted store, encrypts it), and hands it to threads that store it.
//! The feeder hears, in the order in which it was fed, what became of each byte.
//!
//! **What is known.** A chunk is stored once, also when it comes twice before its pack is stored: the first who meets it
//! claims it. A claim ends when its pack is stored and [`PackStore::contains`] says so, so that claims take memory for what
//! is on its way and no more. If storing fails, everything fails: nobody may refer to chunks before
//! [`Pipeline::finish`] has returned without an error.
//!
//! **Memory**, whatever the input: queued batches (two per worker), one batch and two frames per worker, one open pack, one that
//! waits per worker, and [`PipelineSettings::stores_max`] packs being stored. Buffers of batches and frames are used again.
//!
//! No thread holds two of the locks at once, and none while it compresses a frame, or encrypts or stores a pack.

use std::io;
use std::sync::Arc;

use cairn_types::ChunkId;

use crate::chunking::ChunkSizes;
use crate::codec::{Compression, LevelError};
use crate::pack::{PACK_BYTES_MAX, PackError, SealedPack};
use crate::sealing::Sealing;

mod feeder;
mod workers;

pub use feeder::Feeder;
pub use workers::Pipeline;

/// Bytes of a frame before it is compressed: least and most.
pub const FRAME_BYTES: std::ops::RangeInclusive<usize> = (64 << 10)..=(3 << 20);
/// Bytes of frames from which on a pack is complete: least and most.
pub const PACK_BYTES: std::ops::RangeInclusive<usize> = (64 << 10)..=(PACK_BYTES_MAX as usize / 2);
/// Most workers, and most packs that are stored at once.
pub const THREADS_MAX: usize = 64;

/// What can be set about a pipeline.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// Threads that identify and compress, 1 to [`THREADS_MAX`]. Default: one per core.
    pub workers: usize,
    /// Packs that are stored at once, 1 to [`THREADS_MAX`]. Default 4.
    pub stores_max: usize,
    /// How large chunks are.
    pub chunk_sizes: ChunkSizes,
    /// How frames are compressed.
    pub compression: Compression,
    /// Whether packs are encrypted, and chunks named with a key. Must be that of the store. Default: plain.
    pub sealing: Sealing,
    /// Bytes of a frame before compression, about, in [`FRAME_BYTES`]. Default 1 MiB.
    pub frame_bytes: usize,
    /// Bytes of frames from which on a pack is complete, in [`PACK_BYTES`]. Default 32 MiB.
    pub pack_bytes: usize,
}

impl Default for PipelineSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        PipelineSettings {
            workers: cores.min(THREADS_MAX),
            stores_max: 4,
            chunk_sizes: ChunkSizes::default(),
            compression: Compression::default(),
            sealing: Sealing::plain(),
            frame_bytes: 1 << 20,
            pack_bytes: 32 << 20,
        }
    }
}

impl PipelineSettings {
    fn check(&self) -> Result<(), PipelineError> {
        let within = |what, found: usize, bounds: &std::ops::RangeInclusive<usize>| {
            if bounds.contains(&found) {
                Ok(())
            } else {
                Err(PipelineError::Setting {
                    what,
                    found,
                    minimum: *bounds.start(),
                    maximum: *bounds.end(),
                })
            }
        };
        within("workers", self.workers, &(1..=THREADS_MAX))?;
        within("stores_max", self.stores_max, &(1..=THREADS_MAX))?;
        within("frame_bytes", self.frame_bytes, &FRAME_BYTES)?;
        within("pack_bytes", self.pack_bytes, &PACK_BYTES)?;
        Ok(self.compression.check()?)
    }
}

/// Where packs go, and what is there already.
pub trait PackStore: Send + Sync + 'static {
    /// Whether a chunk is stored.
    fn contains(&self, id: &ChunkId) -> Result<bool, StoreError>;

    /// Stores a pack. When this returns the pack is durable, and [`PackStore::contains`] is true of its chunks. Blocks.
    fn store(&self, pack: SealedPack) -> Result<(), StoreError>;
}

/// Why a store failed, in its own words.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// What became of a run of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// They are a chunk of so many bytes.
    Chunk(ChunkId, u32),
    /// They are so many zeros, which are stored nowhere.
    Zeros(u32),
}

impl Run {
    /// Bytes of the file.
    pub fn length(&self) -> u32 {
        match self {
            Run::Chunk(_, length) | Run::Zeros(length) => *length,
        }
    }
}

/// Hears what became of the bytes that a feeder was fed, in order.
pub trait RunSink {
    /// The next bytes of the current file.
    fn run(&mut self, run: Run);
    /// The file ends here; what follows is of the next one.
    fn end_of_file(&mut self);
}

/// What went through a pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes fed.
    pub bytes: u64,
    /// Of these, zeros that were left out.
    pub zero_bytes: u64,
    /// Chunks, however often they came.
    pub chunks: u64,
    /// Chunks that were not known.
    pub new_chunks: u64,
    /// Bytes of the chunks that were not known.
    pub new_bytes: u64,
    /// Bytes of stored packs.
    pub stored_bytes: u64,
    /// Stored packs.
    pub packs: u64,
}

/// Why a pipeline has stopped. All who use it hear the same.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PipelineError {
    /// A setting is out of bounds.
    #[error("{what} is {found} and must be {minimum} to {maximum}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What it is.
        found: usize,
        /// The least.
        minimum: usize,
        /// The most.
        maximum: usize,
    },
    /// The compression's level is out of bounds.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// A thread cannot be started, or there is no memory for a compressor.
    #[error("the pipeline cannot be set up")]
    Start(#[source] Arc<io::Error>),
    /// A pack cannot be stored, or the store cannot say what it holds.
    #[error("the store failed")]
    Store(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// A pack cannot be made.
    #[error("a pack cannot be made")]
    Pack(#[source] Arc<PackError>),
    /// It was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A worker ended by a panic, which is a fault of Cairn.
    #[error("a worker of the pipeline ended by a panic: this is a fault of Cairn, please report it")]
    Panicked,
}

#[cfg(test)]
mod tests;
