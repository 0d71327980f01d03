//! Capturing a directory: what is asked, what is told, and the threads. [`super::driver`] does it.

use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use cairn_content::codec::Compression;
use cairn_types::{SnapshotId, Timestamp};
use parking_lot::Mutex;

use super::ChunksError;
use super::driver::{Driven, Driver, DriverParts};
use super::load::{Job, Rules, read_batches};
use crate::archive::directory::{DirectoryRoot, ReadSums};
use crate::archive::{Description, Phase, Progress, Pushed, Repository};
use crate::directory::RelativePath;
use crate::directory::walk::{Walk, WalkOptions};
use crate::manifest::{ManifestReader, ManifestSummary, ManifestWriter};

/// Most threads that read small files ahead.
pub const READERS_MAX: usize = 16;
/// Most torn files that are named.
pub const TORN_TOLD_MAX: usize = 1000;
/// A stamp that is younger than the start of the capture less this proves nothing: clocks of file systems tick slowly.
const RACY_NANOSECONDS: u32 = 10_000_000;

/// What is captured, and where it is described.
pub struct ChunksCapture<'a> {
    /// The directory.
    pub source: BorrowedFd<'a>,
    /// The snapshot.
    pub description: Description,
    /// How new data is compressed; `None`: as the store's settings say.
    pub compression: Option<Compression>,
    /// What is left out.
    pub walk: WalkOptions,
    /// The snapshot that most of the data is the same as in.
    pub previous: Option<Previous<'a>>,
    /// The local manifest, with stamps.
    pub manifest: ManifestWriter,
    /// When the capture began, by the clock of the file system: what changed at that time or later may change again unnoticed.
    pub racy_after: Timestamp,
    /// Threads that read small files ahead: 1 to [`READERS_MAX`].
    pub readers: usize,
    /// How far it is.
    pub progress: &'a Progress,
}

/// A snapshot of the same directory that this engine has made in the same store.
#[derive(Clone, Copy)]
pub struct Previous<'a> {
    /// Which.
    pub snapshot: SnapshotId,
    /// Its local manifest.
    pub manifest: &'a ManifestReader,
}

/// What was captured.
#[derive(Debug)]
pub struct ChunksCaptured {
    /// The archive, and what was stored for it.
    pub pushed: Pushed,
    /// The local manifest. It is complete, and not durable.
    pub manifest: ManifestSummary,
    /// Files that changed in every attempt to read them, the first [`TORN_TOLD_MAX`]: the snapshot has perhaps no state that they ever had.
    pub torn: Vec<RelativePath>,
    /// How many these are.
    pub torn_files: u64,
    /// Entries that were gone when they were looked at.
    pub vanished: u64,
    /// Entries that were left out because the options say so.
    pub left_out: u64,
    /// Directories that were not entered because another file system is mounted there.
    pub other_file_systems: u64,
    /// Files that were not read because they are as they were.
    pub reused_files: u64,
    /// Whether `previous` was of use: it is not if the store has no archive of it any more.
    pub based: bool,
}

/// Captures a directory as an archive. On return the archive is durable and complete; the local manifest is complete. After an error or a kill
/// nothing is to be seen of it, or the archive is complete: who knows of no snapshot to it deletes it.
///
/// # Errors
/// `Exists`; `Archive` if the store fails or is another's; `Walk`, `Read` if something of the directory cannot be read; `Manifest`;
/// `Cancelled`, `Thread`, `Setting`.
pub fn capture(repository: &Repository, capture: ChunksCapture<'_>) -> Result<ChunksCaptured, ChunksError> {
    if capture.readers == 0 || capture.readers > READERS_MAX {
        return Err(ChunksError::Setting {
            what: "the number of readers",
            found: capture.readers,
            minimum: 1,
            maximum: READERS_MAX,
        });
    }
    let progress = capture.progress;
    let snapshot = capture.description.snapshot;
    let base = capture.previous.map(|previous| previous.snapshot);
    let push = repository.begin_directory(capture.description, base, capture.compression, progress)?;
    if push.exists()? {
        return Err(ChunksError::Exists { snapshot });
    }
    // A manifest that is not of the archive would name chunks that are not there.
    let previous = capture
        .previous
        .map(|previous| previous.manifest)
        .filter(|manifest| {
            let summary = manifest.summary();
            let same = |base: &DirectoryRoot| {
                base.tree_hash.is_some()
                    && base.tree_hash == summary.tree_hash
                    && base.counts == summary.counts
            };
            push.base().is_some_and(same)
        });
    progress.enter(Phase::Transferring);
    if let Some(previous) = previous {
        let counts = previous.summary().counts;
        progress.expect(counts.entries, counts.bytes);
    }
    let rules = Rules {
        racy_from: earlier(capture.racy_after),
        undigested_bytes: match push.sealing().is_plain() {
            true => push.one_chunk_bytes(),
            false => 0,
        },
    };
    let walk = Walk::new(capture.source, capture.walk)?;
    let counts = walk.counts();
    let (jobs, taken) = sync_channel(2 * capture.readers);
    let taken = Mutex::new(taken);
    let sink = push.sink();
    let driven = std::thread::scope(|scope| {
        start_readers(scope, capture.readers, &taken, rules)?;
        let driver = Driver::new(DriverParts {
            push: &push,
            sink: &sink,
            manifest: capture.manifest,
            jobs,
            readers: capture.readers,
            rules,
            progress,
        });
        driver.run(walk, previous)
    })?;
    let Driven {
        manifest,
        index,
        blocks,
        sums,
    } = driven;
    let read = ReadSums {
        files: sums.read_files,
        bytes: sums.read_bytes,
    };
    let based = previous.is_some();
    let pushed = push.publish(
        (index, blocks),
        manifest.counts,
        manifest.tree_hash,
        read,
        progress,
    )?;
    Ok(ChunksCaptured {
        pushed,
        manifest,
        torn: sums.torn,
        torn_files: sums.torn_files,
        vanished: sums.vanished + counts.vanished(),
        left_out: counts.left_out(),
        other_file_systems: counts.other_file_systems(),
        reused_files: sums.reused_files,
        based,
    })
}

/// A little earlier.
fn earlier(time: Timestamp) -> Timestamp {
    match time.nanoseconds().checked_sub(RACY_NANOSECONDS) {
        Some(nanoseconds) => Timestamp::new(time.seconds(), nanoseconds),
        None => Timestamp::new(
            time.seconds().saturating_sub(1),
            time.nanoseconds() + 1_000_000_000 - RACY_NANOSECONDS,
        ),
    }
}

fn start_readers<'scope>(
    scope: &'scope Scope<'scope, '_>,
    readers: usize,
    jobs: &'scope Mutex<Receiver<Job>>,
    rules: Rules,
) -> Result<(), ChunksError> {
    for number in 0..readers {
        std::thread::Builder::new()
            .name(format!("read-{number}"))
            .spawn_scoped(scope, move || read_batches(jobs, rules))
            .map_err(ChunksError::Thread)?;
    }
    Ok(())
}
