//! What is asked of archives and what is told of them: descriptions, options, reports, and the progress of what takes time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cairn_types::{SnapshotId, Timestamp};

/// What an archive says of the snapshot that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The workspace that it was taken of.
    pub workspace: String,
    /// Which volume of which node that is: not a name, and the same for all snapshots of the volume.
    pub origin: [u8; 32],
    /// When the snapshot was taken.
    pub created: Timestamp,
    /// A person's words.
    pub note: String,
    /// Labels.
    pub tags: Vec<String>,
}

/// What a tree consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeCounts {
    /// Inodes, the root included.
    pub inodes: u64,
    /// Of these, regular files.
    pub files: u64,
    /// Of these, directories.
    pub directories: u64,
    /// Sum of the sizes of the regular files.
    pub bytes: u64,
}

/// An archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// What it says of its snapshot.
    pub description: Description,
    /// When it was archived.
    pub archived: Timestamp,
    /// What the tree consists of.
    pub counts: TreeCounts,
    /// The archive that it was made from by what had changed.
    pub base: Option<SnapshotId>,
    /// Bytes that the store took up for it beyond what it had.
    pub added_bytes: u64,
}

/// How far something is that takes time, and the way to stop it. Shared between who works and who watches.
#[derive(Debug, Default)]
pub struct Progress {
    cancelled: AtomicBool,
    phase: AtomicU64,
    files: AtomicU64,
    files_total: AtomicU64,
    bytes: AtomicU64,
    bytes_total: AtomicU64,
    transferred_bytes: AtomicU64,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The store is asked what it holds.
    Preparing,
    /// Data is read and stored, or fetched and written.
    Transferring,
    /// What refers to the data is looked through.
    Marking,
    /// Stored bytes are read and compared with their checksums.
    Verifying,
    /// What nothing needs is removed.
    Removing,
    /// The last steps.
    Finishing,
}

const PHASES: [Phase; 6] = [
    Phase::Preparing,
    Phase::Transferring,
    Phase::Marking,
    Phase::Verifying,
    Phase::Removing,
    Phase::Finishing,
];

/// A look at a [`Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgressNow {
    /// What is being done.
    pub phase: Phase,
    /// Files done.
    pub files: u64,
    /// Files that are to be done, as far as is known; 0: not known.
    pub files_total: u64,
    /// Bytes of files done.
    pub bytes: u64,
    /// Bytes of files that are to be done, as far as is known; 0: not known.
    pub bytes_total: u64,
    /// Bytes sent to the store, or fetched from it.
    pub transferred_bytes: u64,
}

impl Progress {
    /// Nothing is done yet.
    pub fn new() -> Self {
        Progress::default()
    }

    /// Asks the work to stop soon. It ends with an error that says so.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether the work shall stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// The flag of [`Progress::is_cancelled`].
    pub fn cancel_flag(&self) -> &AtomicBool {
        &self.cancelled
    }

    /// How far it is.
    pub fn now(&self) -> ProgressNow {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let phase = usize::try_from(load(&self.phase)).unwrap_or(0);
        ProgressNow {
            phase: PHASES.get(phase).copied().unwrap_or(Phase::Preparing),
            files: load(&self.files),
            files_total: load(&self.files_total),
            bytes: load(&self.bytes),
            bytes_total: load(&self.bytes_total),
            transferred_bytes: load(&self.transferred_bytes),
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        let number = PHASES.iter().position(|candidate| *candidate == phase);
        self.phase.store(number.unwrap_or(0) as u64, Ordering::Relaxed);
    }

    pub(crate) fn expect(&self, files: u64, bytes: u64) {
        self.files_total.store(files, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn transferred(&self, bytes: u64) {
        self.transferred_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The outcome of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The archive.
    pub archive: Archive,
    /// It was there already, and nothing was done.
    pub already_there: bool,
    /// Files whose data was looked at.
    pub files_read: u64,
    /// Bytes of files that were read.
    pub bytes_read: u64,
    /// Of these, bytes that the store did not have.
    pub bytes_new: u64,
    /// Bytes of packs that were stored: data and tree.
    pub bytes_stored: u64,
    /// Packs that were stored.
    pub packs: u64,
}

/// The outcome of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The archive.
    pub archive: Archive,
    /// Files written now; those of an earlier attempt do not count.
    pub files: u64,
    /// Bytes of files written now.
    pub bytes: u64,
    /// Whether it went on where an earlier attempt had ended.
    pub resumed: bool,
}

/// What an archive takes up. Bytes of chunks are before compression unless the name says *stored*.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Sum of the sizes of its files.
    pub logical_bytes: u64,
    /// Chunks that it refers to, each once.
    pub referred_bytes: u64,
    /// Of these, chunks that no other archive refers to.
    pub unique_bytes: u64,
    /// Of these, chunks that others refer to as well.
    pub shared_bytes: u64,
    /// Stored bytes that deleting the archive and reclaiming would free, about.
    pub reclaimable_stored_bytes: u64,
}

/// What a whole store takes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreSizes {
    /// Archives.
    pub archives: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes of packs.
    pub stored_bytes: u64,
    /// Bytes of chunks that archives refer to, before compression.
    pub live_bytes: u64,
    /// Stored bytes that reclaiming would free, about.
    pub reclaimable_stored_bytes: u64,
}

/// How to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Only these archives; empty: all.
    pub archives: Vec<SnapshotId>,
    /// Reads every byte, and not only the structure.
    pub deep: bool,
    /// Most stored bytes to read each second; `None`: no limit.
    pub bytes_per_second_max: Option<u64>,
}

/// Something that is not as it was written, and what it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The archive that cannot be restored as a whole; `None` if no archive refers to it.
    pub archive: Option<SnapshotId>,
    /// The path in the archive that is concerned, if one is. Bytes, not text.
    pub path: Option<Vec<u8>>,
    /// The first byte of the file that is concerned, and how many.
    pub range: Option<(u64, u64)>,
    /// The name of the object that is damaged or missing.
    pub object: String,
    /// Where in that object, in bytes, if it is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// The outcome of verifying.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Archives looked at.
    pub archives: u64,
    /// Of these, without damage.
    pub archives_sound: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Stored bytes read.
    pub bytes_read: u64,
    /// Damages told.
    pub damages: u64,
}

/// How to reclaim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReclaimOptions {
    /// How long a pack must have been found dead before it is removed.
    pub grace: Duration,
    /// Tells what would be done, and does nothing.
    pub dry_run: bool,
    /// Packs of which less than this share of the bytes is live, in per cent, are rewritten: what lives moves to new packs.
    pub rewrite_below_percent: u8,
}

impl Default for ReclaimOptions {
    /// A day of grace; packs are rewritten below 50 %.
    fn default() -> Self {
        ReclaimOptions {
            grace: Duration::from_secs(24 * 60 * 60),
            dry_run: false,
            rewrite_below_percent: 50,
        }
    }
}

/// What becomes of a pack, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackVerdict {
    /// The name of its object.
    pub object: String,
    /// What is done, or would be.
    pub action: PackAction,
    /// Bytes of the pack.
    pub stored_bytes: u64,
    /// Of these, bytes that archives need, about.
    pub live_bytes: u64,
}

/// What is done with a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackAction {
    /// Kept: enough of it is live.
    Keep,
    /// Nothing of it is live; it is removed once the grace period is over.
    Condemn,
    /// Was condemned, and is live again.
    Reinstate,
    /// Was condemned, and waits for the grace period to end.
    Wait,
    /// What lives in it moves to another pack; then it is condemned.
    Rewrite,
    /// Removed.
    Remove,
}

/// The outcome of reclaiming.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Packs before.
    pub packs: u64,
    /// Packs removed.
    pub removed_packs: u64,
    /// Bytes of removed packs.
    pub removed_bytes: u64,
    /// Packs condemned now, or waiting.
    pub condemned_packs: u64,
    /// Bytes of these.
    pub condemned_bytes: u64,
    /// Packs rewritten.
    pub rewritten_packs: u64,
    /// Bytes stored for what moved.
    pub rewritten_bytes: u64,
}
