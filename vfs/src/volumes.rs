//! All volumes of a node: opening them, the file system that clients see, the work in the background. What administrators
//! ask for is in `volumes/control.rs`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_content::log::store::SegmentStore;
use cairn_content::log::{Log, LogParts, LogSettings, ReplayStart, ReplayedRecord};
use cairn_metadata::engine::Engine;
use cairn_metadata::{MetadataError, Store};
use cairn_types::{Clock, ErrorKind, InodeId, Randomness, Timestamp, VolumeId, with_causes};
use parking_lot::{Mutex, RwLock};

use crate::dirty::LoggedWrite;
use crate::extent_cache::ExtentCache;
use crate::filesystem::{
    Attributes, Caller, Capacity, Change, CreateMode, Created, Entry, Export, FileSystem, Found, Linked,
    Listed, ObjectId, ReadData, Record, Renamed, ReplyRecord, SetAttributes, SpecialFile, Stability, Written,
};
use crate::references::References;
use crate::space::{Nudge, SpaceGuard};
use crate::sync::GroupSync;
use crate::volume::{Shared, Volume, metadata_failed};
use crate::{Error, Pending};

mod background;
mod control;
mod diff;
mod export;
mod import;
mod labels;
mod ledger;
mod settings;

pub use export::SnapshotReader;
pub use import::{Import, ImportError, ImportFault, ImportRequest, ImportStatus, ImportedSnapshot};
pub use settings::UsageCheck;

/// What the volumes are made of.
pub struct VolumesParts {
    /// The metadata.
    pub engine: Arc<dyn Engine>,
    /// The hot log's segments: a `DirectoryStore`, but for tests.
    pub segments: Arc<dyn SegmentStore>,
    /// Tells the time of changes.
    pub clock: Arc<dyn Clock>,
    /// Gives ids, generations and verifiers.
    pub randomness: Arc<dyn Randomness>,
}

/// What can be set about the volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumesSettings {
    /// The hot log.
    pub log: LogSettings,
    /// Below this many free bytes on the log's file system, changes that need room fail with [`Error::NoSpace`].
    /// Default 128 MiB.
    pub disk_reserve_bytes: u64,
    /// Inodes kept in memory, about 200 bytes each. Default 65,536.
    pub cached_inodes_max: usize,
    /// Extents that only the log has, of all volumes together, before they are flushed ahead of time. Bounds the time that
    /// a start after a crash takes. Default 65,536.
    pub overlay_extents_max: u64,
    /// Time between flushes in the background. Default 1 s.
    pub flush_interval: Duration,
    /// Time between looks for storage that nothing refers to any more. Default 60 s.
    pub sweep_interval: Duration,
    /// Most versions of metadata that a sweep in the background looks at in a second, on average. Default 200,000.
    pub sweep_versions_per_second: u64,
    /// Seconds for which replies are kept to answer retransmissions. Default 300.
    pub reply_seconds: u64,
}

impl Default for VolumesSettings {
    fn default() -> Self {
        VolumesSettings {
            log: LogSettings::default(),
            disk_reserve_bytes: 128 << 20,
            cached_inodes_max: 65_536,
            overlay_extents_max: 65_536,
            flush_interval: Duration::from_secs(1),
            sweep_interval: Duration::from_secs(60),
            sweep_versions_per_second: 200_000,
            reply_seconds: 300,
        }
    }
}

/// Why the volumes cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The metadata.
    #[error("the metadata cannot be opened")]
    Metadata(#[from] MetadataError),
    /// The hot log.
    #[error("the hot log cannot be opened")]
    Log {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What the caller can do.
        kind: ErrorKind,
    },
    /// What the log holds beyond the metadata cannot be brought in.
    #[error("the hot log cannot be replayed")]
    Replay(#[source] Error),
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
}

impl OpenError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            OpenError::Metadata(error) => error.kind(),
            OpenError::Log { kind, .. } => *kind,
            OpenError::Replay(error) => error.kind(),
            OpenError::Thread(_) => ErrorKind::Unavailable,
        }
    }
}

/// All volumes of a node. Dropping it flushes and ends the work in the background.
pub struct Volumes {
    shared: Arc<Shared>,
    volumes: Arc<RwLock<BTreeMap<VolumeId, Arc<Volume>>>>,
    /// Held while workspaces are made, forked or deleted.
    administration: Mutex<()>,
    /// Held while a sweep is under way; what it counts.
    sweeping: Arc<background::Sweeping>,
    background: Mutex<Option<background::Background>>,
}

impl Volumes {
    /// Opens the volumes in these parts: reads the catalogue and replays what the log holds beyond the metadata. The time
    /// this takes is bounded by the log, not by the number of files.
    pub fn open(parts: VolumesParts, settings: VolumesSettings) -> Result<Arc<Volumes>, OpenError> {
        let store = Arc::new(Store::open(parts.engine)?);
        let mut replayed = Vec::new();
        let log = Arc::new(open_log(
            &store,
            parts.segments,
            &settings,
            &*parts.randomness,
            &mut replayed,
        )?);

        let mut first_verifier = [0; 8];
        parts.randomness.fill(&mut first_verifier);
        let verifier = Arc::new(Mutex::new(first_verifier));
        let commits = Arc::new(AtomicU64::new(0));
        let reroll = |what: &'static str| {
            let (verifier, randomness) = (verifier.clone(), parts.randomness.clone());
            move |reason: &str| {
                tracing::error!(
                    reason,
                    "syncing the {what} failed: changes are refused until the daemon is restarted on a sound disk"
                );
                randomness.fill(&mut *verifier.lock());
            }
        };
        let (engine, counter) = (store.shared_engine(), commits.clone());
        let sync_metadata = move || {
            let covered = counter.load(Ordering::SeqCst);
            engine
                .sync()
                .map(|()| covered)
                .map_err(|error| with_causes(&error))
        };
        let metadata_sync = GroupSync::start("sync-metadata", sync_metadata, reroll("metadata"));
        let metadata_sync = metadata_sync.map_err(OpenError::Thread)?;
        let synced = log.clone();
        let sync_log = move || {
            synced
                .sync()
                .map(|position| position.0)
                .map_err(|error| with_causes(&error))
        };
        let log_sync = GroupSync::start("sync-log", sync_log, reroll("log")).map_err(OpenError::Thread)?;

        let measured = log.clone();
        let free = Box::new(move || measured.free_bytes().ok());
        let shared = Arc::new(Shared {
            space: SpaceGuard::new(free, settings.disk_reserve_bytes, settings.log.segment_bytes),
            inodes: quick_cache::sync::Cache::new(settings.cached_inodes_max.max(1)),
            extents: ExtentCache::new(),
            applying: RwLock::new(()),
            overlay_extents: AtomicU64::new(0),
            unstable_bytes: AtomicU64::new(0),
            references: References::default(),
            importing: Mutex::default(),
            flush_early: Nudge::default(),
            clock: parts.clock,
            randomness: parts.randomness,
            store,
            log,
            settings,
            metadata_sync,
            commits,
            log_sync,
            verifier,
        });
        let mut volumes = BTreeMap::new();
        for open in shared.store.volumes()? {
            volumes.insert(open.id, Arc::new(Volume::new(shared.clone(), open)?));
        }
        apply_replayed(&volumes, replayed).map_err(OpenError::Replay)?;
        let volumes = Volumes {
            shared,
            volumes: Arc::new(RwLock::new(volumes)),
            administration: Mutex::new(()),
            sweeping: Arc::default(),
            background: Mutex::new(None),
        };
        match volumes.flush() {
            // What the log alone knows stays in memory, as before the restart: reads and removals must work on a full disk.
            Err(Error::NoSpace) => {
                tracing::warn!("the disk is full: free some space, or remove files from a workspace")
            }
            outcome => outcome.map_err(OpenError::Replay)?,
        }
        *volumes.background.lock() =
            Some(background::Background::start(&volumes).map_err(OpenError::Thread)?);
        Ok(Arc::new(volumes))
    }

    /// Ends the work in the background and brings everything that was acknowledged, stable or not, into the metadata,
    /// durably.
    pub fn close(&self) -> Result<(), Error> {
        drop(self.background.lock().take());
        self.flush()?;
        self.shared
            .store
            .engine()
            .sync()
            .map_err(|error| metadata_failed(error.into()))
    }

    /// Whether a sync has failed, so that changes are refused until a restart.
    pub fn has_stopped(&self) -> bool {
        self.shared.metadata_sync.has_failed() || self.shared.log_sync.has_failed()
    }

    /// Whether changes that need room are accepted.
    pub fn has_room(&self) -> bool {
        self.shared.space.has_room()
    }

    fn volume(&self, id: VolumeId) -> Result<Arc<Volume>, Error> {
        self.volumes.read().get(&id).cloned().ok_or(Error::Stale)
    }

    fn all(&self) -> Vec<Arc<Volume>> {
        self.volumes.read().values().cloned().collect()
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        if self.background.lock().is_some()
            && let Err(error) = self.close()
        {
            tracing::error!(%error, "the last flush failed; the log is replayed at the next start");
        }
    }
}

/// A record of the log as it waits for the volumes to be opened.
struct Replayed {
    write: LoggedWrite,
    extent: cairn_types::Extent,
    sequence: u64,
    end: cairn_types::LogPosition,
}

/// A record of the log with a context that no version of this code wrote.
#[derive(Debug, thiserror::Error)]
#[error("the context of log record {sequence} is malformed")]
struct ForeignContext {
    sequence: u64,
}

fn open_log(
    store: &Store,
    segments: Arc<dyn SegmentStore>,
    settings: &VolumesSettings,
    randomness: &dyn Randomness,
    replayed: &mut Vec<Replayed>,
) -> Result<Log, OpenError> {
    let checkpoint = store.checkpoint()?;
    let mut new_identity = [0; 16];
    randomness.fill(&mut new_identity);
    let parts = LogParts {
        store: segments,
        settings: settings.log.clone(),
        new_identity,
    };
    let start = ReplayStart {
        from: checkpoint,
        known_durable: checkpoint,
        expected_identity: None,
    };
    let opened = Log::open(parts, start, &mut |record: ReplayedRecord<'_>| {
        let foreign = ForeignContext {
            sequence: record.sequence,
        };
        let write = LoggedWrite::decode(record.context).ok_or(foreign)?;
        let extent = cairn_types::Extent::Log(record.slice);
        replayed.push(Replayed {
            write,
            extent,
            sequence: record.sequence,
            end: record.end,
        });
        Ok::<(), ForeignContext>(())
    });
    opened.map_err(|error| match &error {
        cairn_content::log::OpenError::Log(log) => OpenError::Log {
            kind: log.kind(),
            source: error.into(),
        },
        cairn_content::log::OpenError::Visit { .. } => OpenError::Log {
            kind: ErrorKind::Corrupt,
            source: error.into(),
        },
    })
}

/// Hands the log's records to the volumes whose live branch they were written to. Records of other branches were brought
/// into the metadata before the branch was left, or never acknowledged.
fn apply_replayed(volumes: &BTreeMap<VolumeId, Arc<Volume>>, replayed: Vec<Replayed>) -> Result<(), Error> {
    let by_branch: BTreeMap<u64, &Arc<Volume>> = volumes
        .values()
        .map(|volume| (volume.state.read().lineage.branch().0, volume))
        .collect();
    let mut applied = 0u64;
    for record in replayed {
        let Some(volume) = by_branch.get(&record.write.branch.0) else {
            continue;
        };
        let mut state = volume.state.write();
        let Replayed {
            write,
            extent,
            sequence,
            end,
        } = record;
        applied += u64::from(volume.note_replayed(&mut state, &write, extent, sequence, end)?);
    }
    if applied > 0 {
        tracing::info!(
            records = applied,
            "brought in what the log held beyond the metadata"
        );
    }
    Ok(())
}

impl FileSystem for Volumes {
    fn exports(&self) -> Vec<Export> {
        let mut exports: Vec<Export> = self.all().iter().filter_map(|volume| volume.export()).collect();
        exports.sort_by(|a, b| a.path.cmp(&b.path));
        exports
    }

    fn export(&self, volume: VolumeId) -> Option<Export> {
        self.volume(volume).ok()?.export()
    }

    fn mount(&self, path: &[u8]) -> Result<Attributes, Error> {
        let mut parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let name = parts.next().ok_or(Error::NotFound)?;
        let volume = self
            .all()
            .into_iter()
            .find(|volume| volume.name().as_str().as_bytes() == name);
        let volume = volume.ok_or(Error::NotFound)?;
        let root = Caller {
            uid: 0,
            gid: 0,
            groups: Arc::new([]),
        };
        let mut at = volume.root()?;
        for part in parts {
            at = volume.lookup(&root, at.object, part)?.attributes;
        }
        if at.kind == cairn_types::FileKind::Directory {
            Ok(at)
        } else {
            Err(Error::NotDirectory)
        }
    }

    fn getattr_cached(&self, object: ObjectId) -> Option<Attributes> {
        self.volume(object.volume).ok()?.getattr_cached(object)
    }

    fn getattr(&self, object: ObjectId) -> Result<Attributes, Error> {
        self.volume(object.volume)?.getattr(object)
    }

    fn setattr(
        &self,
        caller: &Caller,
        object: ObjectId,
        set: SetAttributes,
        guard: Option<Timestamp>,
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.volume(object.volume)?
            .setattr(caller, object, set, guard, record)
    }

    fn lookup(&self, caller: &Caller, directory: ObjectId, name: &[u8]) -> Result<Found, Error> {
        self.volume(directory.volume)?.lookup(caller, directory, name)
    }

    fn lookup_cached(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
    ) -> Option<Result<Found, Error>> {
        self.volume(directory.volume)
            .ok()?
            .lookup_cached(caller, directory, name)
    }

    fn readlink(&self, _caller: &Caller, object: ObjectId) -> Result<(Bytes, Attributes), Error> {
        self.volume(object.volume)?.readlink(object)
    }

    fn read_cached(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        count: u32,
    ) -> Option<Result<ReadData, Error>> {
        self.volume(object.volume)
            .ok()?
            .read_cached(caller, object, offset, count)
    }

    fn read(&self, caller: &Caller, object: ObjectId, offset: u64, count: u32) -> Result<ReadData, Error> {
        self.volume(object.volume)?.read(caller, object, offset, count)
    }

    fn write(
        &self,
        caller: &Caller,
        object: ObjectId,
        offset: u64,
        data: Bytes,
        stability: Stability,
    ) -> Result<Pending<Written>, Error> {
        self.volume(object.volume)?
            .write(caller, object, offset, data, stability)
    }

    fn commit(
        &self,
        caller: &Caller,
        object: ObjectId,
        _offset: u64,
        _count: u32,
    ) -> Result<Pending<Change>, Error> {
        self.volume(object.volume)?.commit(caller, object)
    }

    fn write_verifier(&self) -> [u8; 8] {
        *self.shared.verifier.lock()
    }

    fn create(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        mode: CreateMode,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.volume(directory.volume)?
            .create(caller, directory, name, mode, record)
    }

    fn mkdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.volume(directory.volume)?
            .mkdir(caller, directory, name, set, record)
    }

    fn symlink(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        target: &[u8],
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.volume(directory.volume)?
            .symlink(caller, directory, name, target, set, record)
    }

    fn mknod(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        special: SpecialFile,
        set: SetAttributes,
        record: Record<'_, Created>,
    ) -> Result<Pending<Created>, Error> {
        self.volume(directory.volume)?
            .mknod(caller, directory, name, special, set, record)
    }

    fn remove(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.volume(directory.volume)?
            .remove(caller, directory, name, record)
    }

    fn rmdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Change>,
    ) -> Result<Pending<Change>, Error> {
        self.volume(directory.volume)?
            .rmdir(caller, directory, name, record)
    }

    fn rename(
        &self,
        caller: &Caller,
        from: (ObjectId, &[u8]),
        to: (ObjectId, &[u8]),
        record: Record<'_, Renamed>,
    ) -> Result<Pending<Renamed>, Error> {
        if from.0.volume != to.0.volume {
            return Err(Error::CrossVolume);
        }
        self.volume(from.0.volume)?.rename(caller, from, to, record)
    }

    fn link(
        &self,
        caller: &Caller,
        object: ObjectId,
        directory: ObjectId,
        name: &[u8],
        record: Record<'_, Linked>,
    ) -> Result<Pending<Linked>, Error> {
        if object.volume != directory.volume {
            return Err(Error::CrossVolume);
        }
        self.volume(object.volume)?
            .link(caller, object, directory, name, record)
    }

    fn readdir(
        &self,
        caller: &Caller,
        directory: ObjectId,
        cookie: u64,
        with_attributes: bool,
        visit: &mut dyn FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<Listed, Error> {
        self.volume(directory.volume)?
            .readdir(caller, directory, cookie, with_attributes, visit)
    }

    fn capacity(&self, object: ObjectId) -> Result<Capacity, Error> {
        let volume = self.volume(object.volume)?;
        let usage = volume.usage();
        let free = self.shared.space.free_bytes();
        let available = free.saturating_sub(self.shared.space.reserve_bytes());
        let stored = self.shared.log.disk_bytes() + self.shared.store.engine().disk_bytes();
        // An inode takes a few hundred bytes of metadata; there is no other limit on their number.
        let inodes_free = available / 512;
        let limits = volume.state.read().open.record.limits;
        let mut capacity = Capacity {
            bytes_total: stored.saturating_add(free),
            bytes_free: free,
            bytes_available: available,
            inodes_total: usage.inodes.saturating_add(inodes_free),
            inodes_free,
        };
        if let Some(limit) = limits.bytes {
            let left = limit.saturating_sub(usage.bytes);
            capacity.bytes_total = limit;
            capacity.bytes_free = left.min(free);
            capacity.bytes_available = left.min(available);
        }
        if let Some(limit) = limits.inodes {
            capacity.inodes_total = limit;
            capacity.inodes_free = limit.saturating_sub(usage.inodes).min(inodes_free);
        }
        Ok(capacity)
    }

    fn recorded_replies(&self, limit: usize) -> Result<Vec<ReplyRecord>, Error> {
        let now = u64::try_from(self.shared.now().seconds()).unwrap_or(0);
        let since = now.saturating_sub(self.shared.settings.reply_seconds);
        let replies = self.shared.store.replies(since, limit).map_err(metadata_failed)?;
        Ok(replies
            .into_iter()
            .map(|(key, body)| ReplyRecord { key, body })
            .collect())
    }
}

impl Volume {
    fn export(&self) -> Option<Export> {
        let state = self.state.read();
        let path = format!("/{}", state.open.record.name);
        let policy = Arc::new(state.open.record.policy.clone());
        (!state.deleted).then_some(Export {
            path,
            volume: self.id,
            policy,
        })
    }

    fn name(&self) -> cairn_types::WorkspaceName {
        self.state.read().open.record.name.clone()
    }

    fn root(&self) -> Result<Attributes, Error> {
        let state = self.state.read();
        let record = self.load_inode(&state, InodeId::ROOT)?.ok_or(Error::Stale)?;
        Ok(self.attributes(InodeId::ROOT, &record))
    }

    /// What the live tree holds, with what the log alone knows.
    fn usage(&self) -> cairn_metadata::Usage {
        let state = self.state.read();
        cairn_metadata::Usage {
            bytes: crate::capacity::used_bytes(&state.open, &state.dirty),
            ..state.open.usage
        }
    }
}
