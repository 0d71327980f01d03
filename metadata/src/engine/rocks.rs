//! The embedded engine: RocksDB in one local directory, one column family.
//!
//! A write goes to the write-ahead log (WAL) in the page cache before it is visible, so it survives the process. What
//! must survive a power cut is then covered by a sync of the WAL that all waiting callers share ([`GroupSync`]) and that
//! holds up neither readers nor other writers. A write with [`Durability::Power`] is therefore visible a moment before
//! it is durable; a later write that is durable makes it durable too, since the WAL is one sequence.
//!
//! Recovery replays the WAL up to the first record that is torn or fails its checksum, and drops the rest: the state is
//! that of one moment, with no gaps, and everything that was synced is before that moment. (A WAL damaged by the disk in
//! its synced part is not told from a torn tail: what follows the damage is dropped, with a warning in the log.)
//!
//! After a failed sync, or any failed WAL write but for lack of space, nothing more is written until the store is
//! opened again. Lack of space is different: RocksDB writes no more until a check every 5 seconds finds space again,
//! then goes on by itself, and so does this engine. In one case it does not: when the WAL itself has no room for a record
//! and a sync starts at that very moment, RocksDB takes the sync for failed and stops; nothing acknowledged is lost, but
//! the store has to be opened again. It takes somebody else to use up both the space that [`SpaceReserve`] keeps and the
//! space that RocksDB allocates for a WAL ahead.
//!
//! No write waits inside RocksDB (`no_slowdown`): one that is stalled there while a flush finds the disk full waits for the
//! recovery, and the recovery's own flush waits for it (RocksDB 11.8, `DBImpl::DelayWrite` and `DBImpl::FlushMemTable`).
//!
//! Deleted ranges are markers that scans across them pay for until compaction has removed them: delete ranges that are
//! done with, not ranges that are written and scanned all the time.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::{
    ColumnFamilyDescriptor, DBRawIteratorWithThreadMode, DBWithThreadMode, ReadOptions, ReadTier,
    SingleThreaded, WriteBatch, WriteOptions,
};

use super::group_sync::GroupSync;
use super::{
    Batch, Durability, Engine, EngineError, Operation, Pair, Precondition, SCAN_ENTRIES_MAX, limits,
};
pub use settings::RocksSettings;
use space::SpaceReserve;

mod settings;
mod space;
mod status;

/// A scan for more entries than this does not displace the block cache: it is a sweep, not a working set.
const SCAN_CACHED_ENTRIES_MAX: usize = 4096;
/// Entries that room is made for before a scan knows how many it will find.
const SCAN_ENTRIES_EXPECTED_MAX: usize = 256;
/// Pauses between two attempts of a write while RocksDB stalls writes.
const STALL_PAUSE_MIN: Duration = Duration::from_millis(1);
const STALL_PAUSE_MAX: Duration = Duration::from_millis(4);
/// The only column family. RocksDB gives this name to the one that every database has.
const COLUMN_FAMILY: &str = "default";

type Database = DBWithThreadMode<SingleThreaded>;

/// A store in a local directory, open for this process alone.
pub struct RocksEngine {
    database: Database,
    directory: PathBuf,
    read_cached: ReadOptions,
    read_any: ReadOptions,
    write_logged: WriteOptions,
    write_synced: WriteOptions,
    syncs: GroupSync,
    /// Held from the check of a batch's preconditions until the batch is visible. Taken first, before any lock inside.
    preconditions: Mutex<()>,
    /// Held by the write that waits while RocksDB stalls writes; the others wait for it. No lock is taken under it.
    stalled: Mutex<()>,
    space: SpaceReserve,
    /// Writes that RocksDB refused for lack of space.
    full: AtomicU64,
    /// The value of `full` when RocksDB was last seen to write again.
    full_ended: AtomicU64,
}

impl std::fmt::Debug for RocksEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("RocksEngine")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl RocksEngine {
    /// Opens the store in `directory`, which is made if it does not exist, and recovers what its WAL holds.
    ///
    /// # Errors
    /// [`EngineError::InvalidSetting`]; [`EngineError::Locked`] if it is open already, here or in another process;
    /// [`EngineError::Corrupt`]; [`EngineError::NoSpace`]; [`EngineError::Failed`] for everything else.
    pub fn open(directory: impl AsRef<Path>, settings: RocksSettings) -> Result<Self, EngineError> {
        let directory = directory.as_ref();
        settings.check()?;
        create_durably(directory).map_err(|error| EngineError::Failed(Box::new(error)))?;
        let options = settings.options();
        let family = ColumnFamilyDescriptor::new(COLUMN_FAMILY, options.clone());
        let database = Database::open_cf_descriptors(&options, directory, [family])
            .map_err(|error| status::open_error(error, directory))?;
        let mut read_cached = ReadOptions::default();
        read_cached.set_read_tier(ReadTier::BlockCache);
        let mut write_synced = WriteOptions::default();
        write_synced.set_sync(true);
        write_synced.set_no_slowdown(true);
        let mut write_logged = WriteOptions::default();
        write_logged.set_no_slowdown(true);
        Ok(RocksEngine {
            database,
            directory: directory.to_owned(),
            read_cached,
            read_any: ReadOptions::default(),
            write_logged,
            write_synced,
            syncs: GroupSync::default(),
            preconditions: Mutex::new(()),
            stalled: Mutex::new(()),
            space: SpaceReserve::new(directory, settings.space_reserve_bytes),
            full: AtomicU64::new(0),
            full_ended: AtomicU64::new(0),
        })
    }

    fn check_preconditions(&self, preconditions: &[Precondition]) -> Result<(), EngineError> {
        for precondition in preconditions {
            let (key, expected) = match precondition {
                Precondition::Absent(key) => (key, None),
                Precondition::Equals(key, value) => (key, Some(value.as_slice())),
            };
            let found = self
                .database
                .get_pinned_opt(key, &self.read_any)
                .map_err(status::error)?;
            if found.as_deref() != expected {
                return Err(EngineError::PreconditionFailed { key: key.clone() });
            }
        }
        Ok(())
    }

    /// Puts a batch into the WAL and makes it visible.
    fn apply(&self, batch: &Batch) -> Result<(), EngineError> {
        let Changes { changes, removes } = Changes::of(batch);
        if changes.is_empty() {
            return Ok(());
        }
        let bytes = changes.size_in_bytes() as u64;
        self.space.admit(bytes, removes)?;
        match self.database.write_opt(changes, &self.write_logged) {
            Err(error) if status::is_stall(&error) => {}
            outcome => return outcome.map_err(|error| self.write_failed(error)),
        }
        self.when_unstalled(|| {
            self.space.admit(bytes, removes)?;
            Ok((Changes::of(batch).changes, &self.write_logged))
        })
    }

    /// Tries a write until RocksDB does not want it to wait. It waits here and not in RocksDB, where the first of all waiting writes
    /// keeps the place that the recovery from a full disk needs, and both would wait for ever.
    fn when_unstalled<'a>(
        &'a self,
        write: impl Fn() -> Result<(WriteBatch, &'a WriteOptions), EngineError>,
    ) -> Result<(), EngineError> {
        // One at a time: every attempt that is turned away is counted as written when RocksDB slows writes down.
        let _turn = self.stalled.lock();
        let mut pause = STALL_PAUSE_MIN;
        loop {
            std::thread::sleep(pause);
            let (changes, options) = write()?;
            match self.database.write_opt(changes, options) {
                Err(error) if status::is_stall(&error) => pause = (pause * 2).min(STALL_PAUSE_MAX),
                outcome => return outcome.map_err(|error| self.write_failed(error)),
            }
        }
    }

    /// What a failed write means. Only a lack of space leaves the WAL in a known state.
    fn write_failed(&self, error: rocksdb::Error) -> EngineError {
        if status::is_failed_log_sync(&error) {
            self.syncs.poison();
            return EngineError::Failed(Box::new(error));
        }
        if status::is_input_output(&error) && !status::is_no_space(&error) {
            self.syncs.poison();
        }
        let error = status::error(error);
        if matches!(error, EngineError::NoSpace(_)) {
            self.full.fetch_add(1, Ordering::AcqRel);
        }
        error
    }

    /// Syncs the WAL up to what was written before.
    fn sync_log(&self) -> Result<(), EngineError> {
        let full = self.full.load(Ordering::Acquire);
        if full == self.full_ended.load(Ordering::Acquire) {
            return self
                .database
                .flush_wal(true)
                .map_err(|error| EngineError::Failed(Box::new(error)));
        }
        // A WAL that could not be appended to cannot be synced: RocksDB would take the attempt for a failed disk and
        // stop for good. A synced write is refused before it comes to that, until RocksDB has moved to a new WAL. An
        // empty one will do.
        match self.database.write_opt(WriteBatch::default(), &self.write_synced) {
            Err(error) if status::is_stall(&error) => {
                self.when_unstalled(|| Ok((WriteBatch::default(), &self.write_synced)))?;
            }
            outcome => outcome.map_err(|error| self.write_failed(error))?,
        }
        self.full_ended.fetch_max(full, Ordering::AcqRel);
        Ok(())
    }

    fn collect<'a>(
        &'a self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        seek: fn(&mut DBRawIteratorWithThreadMode<'a, Database>),
        advance: fn(&mut DBRawIteratorWithThreadMode<'a, Database>),
    ) -> Result<Vec<Pair>, EngineError> {
        if from >= to || limit == 0 {
            return Ok(Vec::new());
        }
        let limit = limit.min(SCAN_ENTRIES_MAX);
        let mut options = ReadOptions::default();
        options.fill_cache(limit <= SCAN_CACHED_ENTRIES_MAX);
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let mut cursor = self.database.raw_iterator_opt(options);
        let mut pairs = Vec::with_capacity(limit.min(SCAN_ENTRIES_EXPECTED_MAX));
        seek(&mut cursor);
        while let Some((key, value)) = cursor.item() {
            pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if pairs.len() == limit {
                return Ok(pairs);
            }
            advance(&mut cursor);
        }
        // The cursor also ends where it fails.
        cursor.status().map_err(status::error)?;
        Ok(pairs)
    }
}

impl Engine for RocksEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let found = self
            .database
            .get_pinned_opt(key, &self.read_any)
            .map_err(status::error)?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn get_cached(&self, key: &[u8]) -> Result<Option<Option<Bytes>>, EngineError> {
        match self.database.get_pinned_opt(key, &self.read_cached) {
            Ok(found) => Ok(Some(found.map(|value| Bytes::copy_from_slice(&value)))),
            Err(error) if error.kind() == rocksdb::ErrorKind::Incomplete => Ok(None),
            Err(error) => Err(status::error(error)),
        }
    }

    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let family = self
            .database
            .cf_handle(COLUMN_FAMILY)
            .expect("the database was opened with this column family");
        self.database
            .batched_multi_get_cf_opt(family, keys, false, &self.read_any)
            .into_iter()
            .map(|found| match found {
                Ok(found) => Ok(found.map(|value| Bytes::copy_from_slice(&value))),
                Err(error) => Err(status::error(error)),
            })
            .collect()
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError> {
        self.collect(
            from,
            to,
            limit,
            DBRawIteratorWithThreadMode::seek_to_first,
            DBRawIteratorWithThreadMode::next,
        )
    }

    fn scan_back(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, EngineError> {
        self.collect(
            from,
            to,
            limit,
            DBRawIteratorWithThreadMode::seek_to_last,
            DBRawIteratorWithThreadMode::prev,
        )
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        limits::check(&batch)?;
        self.syncs.check()?;
        if batch.preconditions.is_empty() {
            self.apply(&batch)?;
        } else {
            let _alone = self.preconditions.lock();
            self.check_preconditions(&batch.preconditions)?;
            self.apply(&batch)?;
        }
        match durability {
            Durability::Process => Ok(()),
            Durability::Power => self.sync(),
        }
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.syncs.sync(|| self.sync_log())
    }

    fn disk_bytes(&self) -> u64 {
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return 0;
        };
        // A file may go while the directory is read: then it takes up nothing.
        entries
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|file| file.blocks() * 512)
            .sum()
    }
}

/// What RocksDB is given of a batch.
struct Changes {
    changes: WriteBatch,
    /// Whether some of them remove something.
    removes: bool,
}

impl Changes {
    fn of(batch: &Batch) -> Self {
        let mut changes = WriteBatch::default();
        let mut removes = false;
        for operation in &batch.operations {
            match operation {
                Operation::Put(key, value) => changes.put(key, value),
                Operation::Delete(key) => {
                    removes = true;
                    changes.delete(key);
                }
                // RocksDB takes a range whose ends are in the wrong order for corruption.
                Operation::DeleteRange(from, to) if from >= to => {}
                Operation::DeleteRange(from, to) => {
                    removes = true;
                    changes.delete_range(from, to);
                }
            }
        }
        Changes { changes, removes }
    }
}

/// Makes a directory and those above it, and makes their names durable.
fn create_durably(directory: &Path) -> std::io::Result<()> {
    let directory = std::path::absolute(directory)?;
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|ancestor| !ancestor.exists())
        .collect();
    std::fs::create_dir_all(&directory)?;
    for created in missing {
        if let Some(parent) = created.parent() {
            std::fs::File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}
