//! One volume: its state in memory, the locks around it, and how dirty files reach the metadata.
//!
//! Lock order: [`Shared::applying`] (read), then a file's write lock, then the volume's state.
//! - `state` shared: reads. Exclusive: every change of metadata, from the reads it depends on to its commit, so that
//!   attributes before and after are exact and a snapshot sees each change whole or not at all. No disk is waited for
//!   under it except for cold metadata and, at a snapshot, what little the log has not synced by then.
//! - a write lock per file (one of [`WRITE_LOCKS`] shares): held from appending to the log until the write is noted, so
//!   that the log's order is the order in which writes take effect.
//! - `applying`: held shared over the same time; taken exclusively for a moment to learn a position of the log below which
//!   every record has been noted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_content::log::Log;
use cairn_metadata::engine::Durability;
use cairn_metadata::store::OpenVolume;
use cairn_metadata::{InodeRecord, Lineage, MetadataError, Store, Transaction, View};
use cairn_types::{
    BranchId, ByteRange, Clock, ErrorKind, Extent, FileKind, InodeId, Randomness, Timestamp, VolumeId,
    WorkspaceName, with_causes,
};
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::capacity::Reserved;
use crate::dirty::{DirtyFile, DirtyFiles, LoggedWrite, Overlay};
use crate::extent_cache::ExtentCache;
use crate::filesystem::{Attributes, Before, Change, ObjectId, ReplyRecord};
use crate::references::References;
use crate::sync::{BothBarriers, GroupSync};
use crate::volumes::VolumesSettings;
use crate::{Error, Pending, capacity};

pub(crate) mod attributes;
pub(crate) mod data;
pub(crate) mod directory;
pub(crate) mod names;
pub(crate) mod rename;

/// Files share this many write locks of a volume.
const WRITE_LOCKS: usize = 64;
/// Inode numbers drawn at once from the volume's counter. Those not used before a crash are never used.
const INODES_RESERVED: u64 = 4096;
/// Largest file whose data stays in the metadata, in bytes.
pub(crate) const INLINE_BYTES_MAX: usize = 4096;
/// Storage that a small file or a link target is said to use, in bytes.
pub(crate) const INLINE_BYTES_USED: u64 = 4096;
/// Extents read from the metadata at once.
pub(crate) const EXTENTS_BATCH: usize = 1024;

/// What all volumes of a node share.
pub(crate) struct Shared {
    pub store: Arc<Store>,
    pub log: Arc<Log>,
    pub clock: Arc<dyn Clock>,
    pub randomness: Arc<dyn Randomness>,
    pub settings: VolumesSettings,
    /// Attributes as of the last commit, by branch and inode. Filled and changed under the volume's state lock.
    pub inodes: quick_cache::sync::Cache<(BranchId, InodeId), InodeRecord>,
    /// Where the bytes of files without unsettled writes are.
    pub extents: ExtentCache,
    pub applying: RwLock<()>,
    pub metadata_sync: GroupSync,
    /// Number of the last commit: what `metadata_sync` counts in.
    pub commits: Arc<AtomicU64>,
    pub log_sync: GroupSync,
    pub verifier: Arc<Mutex<[u8; 8]>>,
    pub space: crate::space::SpaceGuard,
    /// Extents that only the log has, of all volumes.
    pub overlay_extents: AtomicU64,
    /// Bytes acknowledged as unstable and not yet synced or committed.
    pub unstable_bytes: AtomicU64,
    /// What keeps segments of the log besides the metadata.
    pub references: References,
    /// The workspaces that somebody is importing for. Held while imports are begun, abandoned and forgotten.
    pub importing: Mutex<BTreeSet<WorkspaceName>>,
    /// Wakes the background flush before its time.
    pub flush_early: crate::space::Nudge,
}

impl Shared {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.randomness.fill(&mut bytes);
        bytes
    }
}

/// Turns a failure of the metadata into an outcome.
pub(crate) fn metadata_failed(error: MetadataError) -> Error {
    match error.kind() {
        ErrorKind::NoSpace => Error::NoSpace,
        kind => Error::Io {
            what: with_causes(&error),
            kind,
        },
    }
}

/// Turns a failure of the log into an outcome.
pub(crate) fn log_failed(error: cairn_content::log::LogError) -> Error {
    let kind = match &error {
        // The segment may have been freed since the extent was looked up: a reader looks again.
        cairn_content::log::LogError::NoSegment { .. } => ErrorKind::NotFound,
        error => error.kind(),
    };
    match kind {
        ErrorKind::NoSpace => Error::NoSpace,
        kind => Error::Io {
            what: with_causes(&error),
            kind,
        },
    }
}

/// The state of a volume.
pub(crate) struct State {
    pub open: OpenVolume,
    pub lineage: Lineage,
    pub dirty: DirtyFiles,
    pub next_inode: u64,
    /// Set when the workspace is deleted: whoever still has the volume finds nothing in it.
    pub deleted: bool,
}

/// A volume.
pub(crate) struct Volume {
    pub id: VolumeId,
    pub shared: Arc<Shared>,
    pub state: RwLock<State>,
    /// Room that is promised to writes on their way.
    pub reserved: Reserved,
    write_locks: Vec<Mutex<()>>,
}

impl Volume {
    pub fn new(shared: Arc<Shared>, open: OpenVolume) -> Result<Self, MetadataError> {
        let lineage = Lineage::live(shared.store.engine(), open.record.head)?;
        let next_inode = open.record.inodes_reserved.0;
        let id = open.id;
        let state = State {
            open,
            lineage,
            dirty: DirtyFiles::default(),
            next_inode,
            deleted: false,
        };
        let write_locks = (0..WRITE_LOCKS).map(|_| Mutex::new(())).collect();
        Ok(Volume {
            id,
            shared,
            state: RwLock::new(state),
            reserved: Reserved::default(),
            write_locks,
        })
    }

    /// Excludes other writers of the file.
    pub fn write_lock(&self, inode: InodeId) -> MutexGuard<'_, ()> {
        let index = inode.0 as usize % WRITE_LOCKS;
        self.write_locks[index].lock()
    }

    /// The object's attributes, as everybody sees them. Errors: `Stale`.
    pub fn load(&self, state: &State, object: ObjectId) -> Result<InodeRecord, Error> {
        let record = self.load_inode(state, object.inode)?.ok_or(Error::Stale)?;
        if record.generation == object.generation {
            Ok(record)
        } else {
            Err(Error::Stale)
        }
    }

    /// The inode's attributes; `None` if there is none.
    pub fn load_inode(&self, state: &State, inode: InodeId) -> Result<Option<InodeRecord>, Error> {
        if state.deleted {
            return Err(Error::Stale);
        }
        if let Some(file) = state.dirty.get(&inode) {
            return Ok(Some(file.record));
        }
        let key = (state.lineage.branch(), inode);
        if let Some(record) = self.shared.inodes.get(&key) {
            return Ok(Some(record));
        }
        let found = self.view(state).inode(inode).map_err(metadata_failed)?;
        if let Some(record) = found {
            self.shared.inodes.insert(key, record);
        }
        Ok(found)
    }

    /// As [`Volume::load_inode`], from memory or not at all.
    pub fn load_inode_cached(&self, state: &State, inode: InodeId) -> Option<InodeRecord> {
        if state.deleted {
            return None;
        }
        if let Some(file) = state.dirty.get(&inode) {
            return Some(file.record);
        }
        self.shared
            .inodes
            .get(&(state.lineage.branch(), inode))
            .or_else(|| {
                let record = self.view(state).inode_cached(inode).ok().flatten().flatten()?;
                self.shared.inodes.insert((state.lineage.branch(), inode), record);
                Some(record)
            })
    }

    /// A directory's attributes. Errors: `Stale`, `NotDirectory`.
    pub fn load_directory(&self, state: &State, object: ObjectId) -> Result<InodeRecord, Error> {
        let record = self.load(state, object)?;
        if record.kind == FileKind::Directory {
            Ok(record)
        } else {
            Err(Error::NotDirectory)
        }
    }

    pub fn view<'a>(&'a self, state: &'a State) -> View<'a> {
        View::new(self.shared.store.engine(), &state.lineage)
    }

    pub fn attributes(&self, inode: InodeId, record: &InodeRecord) -> Attributes {
        Attributes {
            object: ObjectId {
                volume: self.id,
                inode,
                generation: record.generation,
            },
            kind: record.kind,
            mode: u32::from(record.mode),
            links: record.links,
            uid: record.uid,
            gid: record.gid,
            size: record.size,
            used: record.used,
            device: record.device,
            accessed: record.accessed,
            modified: record.modified,
            changed: record.changed,
        }
    }

    pub fn change(&self, inode: InodeId, before: &InodeRecord, after: &InodeRecord) -> Change {
        let before = Before {
            size: before.size,
            modified: before.modified,
            changed: before.changed,
        };
        Change {
            before,
            after: self.attributes(inode, after),
        }
    }

    /// Fails if the node has too little room for changes that need some.
    pub fn require_space(&self) -> Result<(), Error> {
        if self.shared.space.has_room() {
            Ok(())
        } else {
            Err(Error::NoSpace)
        }
    }

    /// Fails if an earlier failure means that no change can become durable any more.
    pub fn require_healthy(&self) -> Result<(), Error> {
        if self.shared.metadata_sync.has_failed() || self.shared.log_sync.has_failed() {
            let what = "a sync failed; restart the daemon after repairing the disk".to_owned();
            return Err(Error::Io {
                what,
                kind: ErrorKind::Unavailable,
            });
        }
        Ok(())
    }
}

/// A change in the making, under the exclusive state lock: it collects what the transaction and, after the commit, the
/// memory must learn. Each inode is changed at most once in it.
pub(crate) struct Work<'a> {
    volume: &'a Volume,
    pub transaction: Transaction<'a>,
    changed: Vec<(InodeId, Learned)>,
    inodes: i64,
    bytes: i64,
}

/// What the memory learns of an inode when the change is committed.
enum Learned {
    /// New attributes of a clean inode.
    Clean(InodeRecord),
    /// New attributes of a dirty inode: as seen, and as stored.
    Dirty(InodeRecord, InodeRecord),
    /// A dirty inode became clean.
    Flushed(InodeRecord),
    /// The inode is gone.
    Removed,
}

impl<'a> Work<'a> {
    /// `lineage` and `epoch` are the state's; the state itself stays free for reading and for drawing inode numbers.
    pub fn new(volume: &'a Volume, lineage: &'a Lineage, epoch: cairn_types::Epoch) -> Self {
        let transaction = volume.shared.store.transaction(lineage, epoch);
        Work {
            volume,
            transaction,
            changed: Vec::new(),
            inodes: 0,
            bytes: 0,
        }
    }

    /// Sets the attributes of an inode that may be dirty: then only what does not concern the data is stored, while the
    /// data that the log alone has stays to be flushed.
    pub fn put(&mut self, dirty: &HashMap<InodeId, DirtyFile>, inode: InodeId, record: &InodeRecord) {
        let Some(file) = dirty.get(&inode) else {
            self.transaction.put_inode(inode, record);
            self.changed.push((inode, Learned::Clean(*record)));
            return;
        };
        let stored = InodeRecord {
            size: file.stored.size,
            modified: file.stored.modified,
            data_version: file.stored.data_version,
            log_sequence: file.stored.log_sequence,
            used: file.stored.used,
            inline: file.stored.inline,
            ..*record
        };
        self.transaction.put_inode(inode, &stored);
        self.changed.push((inode, Learned::Dirty(*record, stored)));
    }

    /// Makes an inode.
    pub fn insert(&mut self, inode: InodeId, record: &InodeRecord) {
        self.transaction.insert_inode(inode, record);
        self.changed.push((inode, Learned::Clean(*record)));
        self.inodes += 1;
        if record.kind == FileKind::Regular {
            self.resized(0, record.size);
        }
    }

    /// Removes an inode whose last name went.
    pub fn remove(&mut self, dirty: &HashMap<InodeId, DirtyFile>, inode: InodeId, record: &InodeRecord) {
        let stored = dirty.get(&inode).map_or(*record, |file| file.stored);
        self.transaction.remove_inode(inode);
        self.inodes -= 1;
        match record.kind {
            FileKind::Regular => {
                self.resized(stored.size, 0);
                if stored.inline {
                    self.transaction.remove_inline_data(inode);
                } else {
                    self.transaction.orphan(inode);
                }
            }
            FileKind::Symlink => self.transaction.remove_link_target(inode),
            _ => {}
        }
        self.changed.push((inode, Learned::Removed));
    }

    /// Says that a regular file's stored size changed.
    pub fn resized(&mut self, before: u64, after: u64) {
        self.bytes += after as i64 - before as i64;
    }

    /// Keeps the reply with the change.
    pub fn record_reply(&mut self, reply: Option<ReplyRecord>) {
        if let Some(reply) = reply {
            let seconds = u64::try_from(self.volume.shared.now().seconds()).unwrap_or(0);
            self.transaction.record_reply(seconds, &reply.key, &reply.body);
        }
    }

    /// Moves a file's dirty data into the metadata, without what lies in `cut`, and with attributes changed by `adjust`.
    /// The log must be durable as far as the data that stays needs it.
    pub fn flush(
        &mut self,
        inode: InodeId,
        file: &DirtyFile,
        cut: Option<ByteRange>,
        adjust: impl FnOnce(&mut InodeRecord),
    ) -> Result<(), Error> {
        let mut record = InodeRecord {
            used: file.stored.used,
            ..file.record
        };
        if file.stored.inline && !record.inline {
            self.transaction.remove_inline_data(inode);
            record.used = 0;
        }
        let mut old = BTreeMap::new();
        if !file.stored.inline {
            let written = file.overlay.iter().map(|new| new.range());
            for range in written
                .chain(cut)
                .filter(|range| range.start() < file.stored.size)
            {
                let view = self.transaction.view();
                let found = view.extents(inode, range, usize::MAX).map_err(metadata_failed)?;
                old.extend(found.into_iter().map(|record| (record.start, record)));
            }
        }
        let mut merged = Overlay::default();
        for new in old.values().cloned().chain(file.overlay.iter()) {
            merged.insert(new.start, new.extent);
        }
        if let Some(cut) = cut {
            merged.remove(cut);
        }
        for old in old.values() {
            self.transaction.remove_extent(inode, old);
            record.used = record.used.saturating_sub(u64::from(old.extent.length()));
        }
        for new in merged.iter() {
            self.transaction.put_extent(inode, &new);
            record.used += u64::from(new.extent.length());
            if let Extent::Log(slice) = &new.extent {
                self.volume.shared.references.note(slice.segment());
            }
        }
        adjust(&mut record);
        self.resized(file.stored.size, record.size);
        self.transaction.put_inode(inode, &record);
        self.changed.push((inode, Learned::Flushed(record)));
        Ok(())
    }

    /// Sets all attributes of a file that has no dirty data, or none that stays.
    pub fn put_whole(&mut self, inode: InodeId, record: &InodeRecord) {
        self.transaction.put_inode(inode, record);
        self.changed.push((inode, Learned::Flushed(*record)));
    }

    /// Refuses a change that takes the volume beyond what it may hold. What only moves from the log into the metadata takes it nowhere. To be asked before a reply is made; the commit
    /// asks again.
    pub fn require_capacity(&self, open: &OpenVolume, dirty: &DirtyFiles) -> Result<(), Error> {
        let limits = open.record.limits;
        if limits.inodes.is_none() && limits.bytes.is_none() {
            return Ok(());
        }
        let growth = self.changed.iter().map(|(inode, learned)| match learned {
            Learned::Dirty(record, stored) => dirty.growth(*inode, Some((record, stored))),
            Learned::Clean(_) | Learned::Flushed(_) | Learned::Removed => dirty.growth(*inode, None),
        });
        let bytes = self.bytes + growth.sum::<i64>();
        let inodes = u64::try_from(self.inodes).unwrap_or(0);
        capacity::require_inodes(open, inodes)?;
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.volume.reserved.require_bytes(open, dirty, bytes)
    }

    /// Commits and lets the memory follow. Tells the number of the commit, to wait for. Errors: `OverCapacity`, then nothing is changed;
    /// those of the metadata.
    pub fn commit(mut self, open: &mut OpenVolume, dirty: &mut DirtyFiles) -> Result<u64, Error> {
        self.require_capacity(open, dirty)?;
        let mut usage = open.usage;
        usage.inodes = usage.inodes.saturating_add_signed(self.inodes);
        usage.bytes = usage.bytes.saturating_add_signed(self.bytes);
        if usage != open.usage {
            self.transaction.put_usage(usage);
        }
        let shared = &self.volume.shared;
        let branch = open.record.head;
        let outcome = self.transaction.commit(Durability::Process);
        if let Err(error) = outcome {
            // What the store has of these inodes now is for the store to say.
            for (inode, _) in &self.changed {
                shared.inodes.remove(&(branch, *inode));
            }
            return Err(metadata_failed(error));
        }
        for (inode, learned) in self.changed {
            let overlay_before = dirty.get(&inode).map_or(0, |file| file.overlay.len() as u64);
            match learned {
                Learned::Clean(record) => shared.inodes.insert((branch, inode), record),
                Learned::Dirty(record, stored) => dirty.set(inode, record, stored),
                Learned::Flushed(record) => {
                    dirty.forget(inode);
                    shared
                        .overlay_extents
                        .fetch_sub(overlay_before, Ordering::Relaxed);
                    shared.inodes.insert((branch, inode), record);
                }
                Learned::Removed => {
                    dirty.forget(inode);
                    shared
                        .overlay_extents
                        .fetch_sub(overlay_before, Ordering::Relaxed);
                    shared.inodes.remove(&(branch, inode));
                }
            }
        }
        open.usage = usage;
        Ok(shared.commits.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

impl Volume {
    /// A pending value that waits for a commit.
    pub fn after_commit<T>(&self, value: T, commit: u64) -> Pending<T> {
        Pending::after(value, Box::new(self.shared.metadata_sync.barrier(commit)))
    }

    /// A pending value that waits for the log and, perhaps, a commit.
    pub fn after_log<T>(&self, value: T, log_end: u64, commit: Option<u64>) -> Pending<T> {
        let log = self.shared.log_sync.barrier(log_end);
        match commit {
            Some(commit) => Pending::after(
                value,
                Box::new(BothBarriers(log, self.shared.metadata_sync.barrier(commit))),
            ),
            None if self.shared.log_sync.covers(log_end) => Pending::ready(value),
            None => Pending::after(value, Box::new(log)),
        }
    }

    /// Draws a fresh inode number, reserving more in the same transaction when none is left.
    pub fn draw_inode(
        open: &mut OpenVolume,
        next_inode: &mut u64,
        transaction: &mut Transaction<'_>,
    ) -> InodeId {
        if *next_inode >= open.record.inodes_reserved.0 {
            open.record.inodes_reserved = InodeId(*next_inode + INODES_RESERVED);
            transaction.put_volume(open.id, &open.record);
        }
        let inode = InodeId(*next_inode);
        *next_inode += 1;
        inode
    }

    /// Moves the dirty data of these files into the metadata. The log must be durable up to each file's `log_end`.
    pub fn flush_files(&self, state: &mut State, files: &[InodeId]) -> Result<(), Error> {
        let State {
            open, lineage, dirty, ..
        } = state;
        let mut work = Work::new(self, lineage, open.branch.epoch);
        for inode in files {
            if let Some(file) = dirty.get(inode) {
                work.flush(*inode, file, None, |_| {})?;
            }
        }
        work.commit(open, dirty).map(|_| ())
    }

    /// Flushes every dirty file. On return the state is in the metadata as far as it was acknowledged.
    pub fn flush_all(&self, state: &mut State) -> Result<(), Error> {
        let newest = state.dirty.values().map(|file| file.log_end).max();
        if newest.is_some_and(|end| end > self.shared.log.durable()) {
            self.shared.log.sync().map_err(log_failed)?;
        }
        let files: Vec<InodeId> = state.dirty.keys().copied().collect();
        self.flush_files(state, &files)
    }

    /// Notes a write found in the log after a restart; `false` if the metadata has it already, or nobody wants it.
    pub fn note_replayed(
        &self,
        state: &mut State,
        write: &LoggedWrite,
        extent: Extent,
        sequence: u64,
        end: cairn_types::LogPosition,
    ) -> Result<bool, Error> {
        let Some(record) = self.load_inode(state, write.inode)? else {
            return Ok(false);
        };
        if record.kind != FileKind::Regular || sequence <= record.log_sequence {
            return Ok(false);
        }
        let (before, grown) = state.dirty.change(write.inode, record, |file| {
            let before = file.overlay.len();
            file.note_replayed(write, extent, sequence, end);
            (before, file.overlay.len() as u64)
        });
        self.shared.overlay_extents.fetch_add(grown, Ordering::Relaxed);
        self.shared
            .overlay_extents
            .fetch_sub(before as u64, Ordering::Relaxed);
        Ok(true)
    }
}

/// Refuses names that no entry can have.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Error> {
    use cairn_types::{FileName, FileNameError};
    match FileName::new(name) {
        Ok(_) => Ok(()),
        Err(FileNameError::TooLong { .. }) => Err(Error::NameTooLong),
        Err(FileNameError::Empty) => Err(Error::Invalid("empty name")),
        Err(FileNameError::ForbiddenByte) => Err(Error::Access),
        Err(FileNameError::DotOrDotDot) => Err(Error::Invalid("'.' or '..'")),
    }
}

/// As [`check_name`] for names of new entries: `.` and `..` exist already.
pub(crate) fn check_new_name(name: &[u8]) -> Result<(), Error> {
    match name {
        b"." | b".." => Err(Error::Exists),
        _ => check_name(name),
    }
}
