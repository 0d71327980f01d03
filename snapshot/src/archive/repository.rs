//! The archives of one object store: who owns it, what is in it, and what of this process is at work on it.
//!
//! **Order.** An archive comes to be when its root is written, after every pack that it needs is durable, and after a look at the
//! fence. It ends when its root is removed; what only it needed is reclaimed later (`reclaim.rs`).
//!
//! **Pushes and reclaiming** may run at the same time in one process. A push registers itself, and the packs that it stores:
//! these are not judged while it runs, and what was condemned after it began is not removed before it has ended.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use cairn_content::objects::fence::FenceRecord;
use cairn_content::objects::{Fence, FenceError, ObjectError, ObjectName, Objects, Owner, TakeOver};
use cairn_content::pack::{PackId, SealedPack};
use cairn_content::pipeline::{PackStore, PipelineSettings, StoreError};
use cairn_content::sealing::{KeyEncryptionKey, Sealing, keys};
use cairn_content::store::{
    ChunkReadError, ChunkStore, ChunkStoreParts, ChunkStoreSettings, OrderedChunks, ReadSettings, Refreshed,
};
use cairn_types::{ChunkId, Clock, Randomness, SnapshotId, Timestamp};
use futures_util::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::directory::{DirectoryArchive, DirectoryReadError, DirectoryRoot};
use super::error::ArchiveError;
use super::reclaim::Condemned;
use super::report::{Archive, Progress};
use super::root::{
    ARCHIVES_PREFIX, ArchiveRoot, Content, ROOT_BYTES_MAX, ROOT_VERSION, RootError, root_name, snapshot_of,
};
use super::tree::{NodeSource, TreeRoot};

/// Roots that are read at once.
const ROOTS_IN_FLIGHT: usize = 32;
/// Candidates that an ambiguous reference lists.
const CANDIDATES_MAX: usize = 10;
/// Fewest digits of an id that is not whole.
const PREFIX_DIGITS_MIN: usize = 4;

/// What a repository is made of.
pub struct RepositoryParts {
    /// The object store.
    pub objects: Objects,
    /// Where its requests run. It must have timers and I/O.
    pub runtime: Handle,
    /// The directory of the store's chunk index: a cache. Made if it is missing; its parent must exist.
    pub cache: PathBuf,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Who writes to the store when this process does.
    pub owner: Owner,
    /// How the store's chunks are named, and its packs and roots sealed: [`sealing_of`] tells.
    pub sealing: Sealing,
}

/// How a store is sealed: plain if it has no owner yet or no keys, else by the data key that `holder` unlocks. Blocks.
///
/// # Errors
/// `Fence` if the store is newer or its fence is damaged; `Keys` if it is encrypted and `holder` is missing or not among its keys, or
/// if it is plain and there is a `holder`.
pub fn sealing_of(
    objects: &Objects,
    runtime: &Handle,
    holder: Option<&KeyEncryptionKey>,
    randomness: Arc<dyn Randomness>,
) -> Result<Sealing, ArchiveError> {
    runtime.block_on(async {
        match Fence::read(objects).await? {
            None => Ok(Sealing::plain()),
            Some(fence) => Ok(keys::open(objects, fence.store, holder, randomness).await?),
        }
    })
}

/// Makes a store encrypted, which must be empty: gives it an owner, and draws its data key, which `holder` unlocks. Done again, it
/// finds what is there. Blocks.
///
/// # Errors
/// `Fence` if it is another's; `Keys` if it has archives already, or other keys; `Objects`.
pub fn encrypt_new(
    objects: &Objects,
    runtime: &Handle,
    owner: Owner,
    clock: &dyn Clock,
    holder: &KeyEncryptionKey,
    randomness: Arc<dyn Randomness>,
) -> Result<Sealing, ArchiveError> {
    runtime.block_on(async {
        let fence = Fence::acquire(objects, owner, TakeOver::No, clock).await?;
        Ok(keys::create(objects, fence.record().store, holder, randomness).await?)
    })
}

/// Lets `new` unlock an encrypted store in place of `old`. Its data is not written again. Blocks.
///
/// # Errors
/// `Fence`; `NotFound` if the store has no owner; `Keys` if it is plain, or `old` is not among its keys, or somebody else changes them.
pub fn rotate_key(
    objects: &Objects,
    runtime: &Handle,
    old: &KeyEncryptionKey,
    new: &KeyEncryptionKey,
    randomness: &dyn Randomness,
) -> Result<(), ArchiveError> {
    runtime.block_on(async {
        let fence = Fence::read(objects)
            .await?
            .ok_or_else(|| ArchiveError::NotFound {
                store: objects.url().to_string(),
                reference: "at all: it is empty".to_owned(),
            })?;
        Ok(keys::rewrap(objects, fence.store, old, new, randomness).await?)
    })
}

/// What can be set about a repository.
#[derive(Debug, Clone)]
pub struct RepositorySettings {
    /// How data is cut, compressed and packed.
    pub data: PipelineSettings,
    /// The same for trees. One worker and one store at once are enough.
    pub tree: PipelineSettings,
    /// The chunk index and its caches.
    pub store: ChunkStoreSettings,
    /// How data is fetched.
    pub read: ReadSettings,
}

impl Default for RepositorySettings {
    /// Packs of 16 MiB and two stored at once; trees in packs of 8 MiB.
    fn default() -> Self {
        let data = PipelineSettings {
            pack_bytes: 16 << 20,
            stores_max: 2,
            ..PipelineSettings::default()
        };
        let tree = PipelineSettings {
            workers: 1,
            stores_max: 1,
            pack_bytes: 8 << 20,
            ..PipelineSettings::default()
        };
        RepositorySettings {
            data,
            tree,
            store: ChunkStoreSettings::default(),
            read: ReadSettings::default(),
        }
    }
}

/// The archives of one object store. All methods block, and may be called from many threads at once.
pub struct Repository {
    pub(super) store: ChunkStore,
    pub(super) runtime: Handle,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) settings: RepositorySettings,
    owner: Owner,
    /// Held while the fence is looked at, and so before everything else here.
    owned: Mutex<Option<Fence>>,
    pub(super) work: Arc<Mutex<Work>>,
    /// Held while packs are judged and removed.
    pub(super) reclaiming: Mutex<()>,
}

/// What of this process is at work on the store.
#[derive(Default)]
pub(super) struct Work {
    next: u64,
    /// Pushes by the order in which they began.
    pub pushes: BTreeMap<u64, Push>,
    /// Packs that were stored since packs began to be judged, and before by pushes that ran then; `None`: none are judged.
    pub stored: Option<HashSet<PackId>>,
    /// Archives that this process has published, or has tried to: a list may lack them. Their roots tell.
    published: BTreeSet<SnapshotId>,
    /// What the fence said when the index was brought up to date for pushes.
    refreshed_as: Option<FenceRecord>,
    /// What is condemned; known once the store is ours.
    pub condemned: Option<Condemned>,
}

/// A push that runs.
pub(super) struct Push {
    snapshot: SnapshotId,
    /// Packs that it has stored or is storing.
    pub packs: HashSet<PackId>,
}

impl Work {
    /// The number of the next push.
    pub fn next_push(&self) -> u64 {
        self.next
    }
}

/// A registered push. Ends when it is dropped.
pub(crate) struct Registered {
    work: Arc<Mutex<Work>>,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.work.lock().pushes.remove(&self.number);
    }
}

/// Stores packs for a push, and notes which.
pub(super) struct NotedStore {
    store: ChunkStore,
    work: Arc<Mutex<Work>>,
    number: u64,
}

impl PackStore for NotedStore {
    fn contains(&self, id: &ChunkId) -> Result<bool, StoreError> {
        PackStore::contains(&self.store, id)
    }

    fn store(&self, pack: SealedPack) -> Result<(), StoreError> {
        {
            let mut work = self.work.lock();
            if let Some(stored) = &mut work.stored {
                stored.insert(pack.id);
            }
            if let Some(push) = work.pushes.get_mut(&self.number) {
                push.packs.insert(pack.id);
            }
        }
        PackStore::store(&self.store, pack)
    }
}

/// Roots, newest snapshot first, and why others cannot be read.
pub(super) type Roots = (Vec<ArchiveRoot>, Vec<(SnapshotId, ArchiveError)>);

/// Fetches parts of trees.
pub(crate) struct Nodes<'a>(pub &'a ChunkStore);

impl NodeSource for Nodes<'_> {
    type Error = ChunkReadError;

    fn fetch(&self, chunk: &ChunkId, length: u32) -> Result<Bytes, ChunkReadError> {
        self.0.read(chunk, length)
    }
}

impl Repository {
    /// Opens a repository. The store is not asked anything yet.
    ///
    /// # Errors
    /// `Store` if the chunk index cannot be opened.
    pub fn open(parts: RepositoryParts, mut settings: RepositorySettings) -> Result<Self, ArchiveError> {
        settings.data.sealing = parts.sealing.clone();
        settings.tree.sealing = parts.sealing.clone();
        let chunks = ChunkStoreParts {
            objects: parts.objects,
            runtime: parts.runtime.clone(),
            cache: parts.cache,
            sealing: parts.sealing,
        };
        Ok(Repository {
            store: ChunkStore::open(chunks, settings.store.clone())?,
            runtime: parts.runtime,
            clock: parts.clock,
            settings,
            owner: parts.owner,
            owned: Mutex::new(None),
            work: Arc::default(),
            reclaiming: Mutex::new(()),
        })
    }

    pub(super) fn objects(&self) -> &Objects {
        self.store.objects()
    }

    pub(crate) fn url(&self) -> String {
        self.objects().url().to_string()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes the store ours, or finds that it is. A store without an owner gets one; another's is taken only if `take_over`, and
    /// then the former owner must not run any more. Everything that changes the store does this first, without taking over.
    ///
    /// # Errors
    /// `Fence`: another's, newer, damaged, out of reach; `Objects`; `NewerVersion` of what is condemned.
    pub fn own(&self, take_over: bool) -> Result<(), ArchiveError> {
        self.owned_as(take_over).map(drop)
    }

    /// [`Repository::own`], and what our fence says: whatever is decided from here on holds as long as it says that.
    pub(super) fn owned_as(&self, take_over: bool) -> Result<FenceRecord, ArchiveError> {
        let mut owned = self.owned.lock();
        if let (Some(fence), false) = (&*owned, take_over)
            && self.runtime.block_on(fence.check()).is_ok()
        {
            return Ok(fence.record().clone());
        }
        // Nobody's yet, or perhaps nobody's any more, or its answer was lost; acquiring tells.
        let take_over = match take_over {
            true => TakeOver::Yes,
            false => TakeOver::No,
        };
        let acquired = Fence::acquire(self.objects(), self.owner.clone(), take_over, &*self.clock);
        let fence = self.runtime.block_on(acquired)?;
        let record = fence.record().clone();
        if owned.as_ref().is_some_and(|before| *before.record() == record) {
            // It was ours all the time. What is known of condemned packs stays: pushes that run may need some of them.
            return Ok(record);
        }
        let condemned = Condemned::load(self)?;
        if owned.take().is_some() {
            // Somebody else has had it, and may have removed packs that the index knows. Pushes that run do not publish.
            self.work.lock().refreshed_as = None;
        }
        let before = self.work.lock().condemned.take().unwrap_or_default();
        self.store.reinstate(&before.packs());
        self.store.condemn(&condemned.packs());
        self.work.lock().condemned = Some(condemned);
        *owned = Some(fence);
        Ok(record)
    }

    /// Looks whether the store is ours as it was, without a break, when the fence said `record`. Errors: `Fence`.
    pub(super) fn require_owned(&self, record: &FenceRecord) -> Result<(), ArchiveError> {
        let found = self.owned_as(false)?;
        match found == *record {
            true => Ok(()),
            false => Err(ArchiveError::Fence(FenceError::Fenced {
                store: self.url(),
                epoch: record.epoch,
                found: Some(Box::new(found)),
            })),
        }
    }

    /// Brings the chunk index up to date, unless that was done since the store became ours as `record` says. Errors: `Store`,
    /// `Cancelled`.
    pub(super) fn refresh_once(&self, record: &FenceRecord, progress: &Progress) -> Result<(), ArchiveError> {
        let refreshed = self.work.lock().refreshed_as.as_ref() == Some(record);
        if !refreshed {
            self.refresh(progress)?;
            self.work.lock().refreshed_as = Some(record.clone());
        }
        Ok(())
    }

    /// Brings the chunk index up to date. Errors: `Store`, `Cancelled`.
    pub(crate) fn refresh(&self, progress: &Progress) -> Result<Refreshed, ArchiveError> {
        let refreshed = self.store.refresh(&|_| {}, progress.cancel_flag())?;
        for damage in &refreshed.damages {
            tracing::warn!(store = %self.url(), ?damage, "an object among the packs cannot be used: run `cairn archive verify`");
        }
        Ok(refreshed)
    }

    /// Registers a push. Errors: `Busy`.
    pub(super) fn register(
        &self,
        snapshot: SnapshotId,
    ) -> Result<(Registered, Arc<NotedStore>), ArchiveError> {
        let mut work = self.work.lock();
        if work.pushes.values().any(|push| push.snapshot == snapshot) {
            return Err(ArchiveError::Busy { snapshot });
        }
        let number = work.next;
        work.next += 1;
        let packs = HashSet::new();
        work.pushes.insert(number, Push { snapshot, packs });
        drop(work);
        let (work, store) = (self.work.clone(), self.store.clone());
        let noted = NotedStore {
            store,
            work: work.clone(),
            number,
        };
        Ok((Registered { work, number }, Arc::new(noted)))
    }

    /// Notes that an archive may be published from now on. Before its root is put: the answer may be lost.
    pub(super) fn note_published(&self, snapshot: SnapshotId) {
        self.work.lock().published.insert(snapshot);
    }

    /// The snapshots that have an archive, as the store lists them; with those that this process has published.
    pub(super) fn listed(&self) -> Result<BTreeSet<SnapshotId>, ArchiveError> {
        let list = self
            .objects()
            .list(Some(ARCHIVES_PREFIX))
            .map_err(ObjectError::from)?;
        let names = list.map_ok(|object| object.name).try_collect::<Vec<ObjectName>>();
        let names = self.runtime.block_on(names)?;
        let mut listed: BTreeSet<SnapshotId> = names.iter().filter_map(snapshot_of).collect();
        listed.extend(&self.work.lock().published);
        Ok(listed)
    }

    /// The root of a snapshot's archive; `None` if there is none.
    pub(super) fn root(&self, snapshot: SnapshotId) -> Result<Option<ArchiveRoot>, ArchiveError> {
        self.runtime.block_on(self.fetch_root(snapshot))
    }

    async fn fetch_root(&self, snapshot: SnapshotId) -> Result<Option<ArchiveRoot>, ArchiveError> {
        let name = root_name(snapshot).map_err(ObjectError::from)?;
        let bytes = match self.objects().get(&name).await {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = |what: &str| ArchiveError::Damaged {
            store: self.url(),
            object: name.to_string(),
            what: what.to_owned(),
        };
        if bytes.len() > ROOT_BYTES_MAX {
            return Err(damaged("it is longer than any root"));
        }
        let opened = self.store.sealing().open_object(&name, bytes);
        let bytes = opened.map_err(|error| damaged(&error.to_string()))?;
        let root = ArchiveRoot::decode(&bytes).map_err(|error| match error {
            RootError::Damaged(what) => damaged(what),
            RootError::Version(found) => ArchiveError::NewerVersion {
                store: self.url(),
                object: name.to_string(),
                found,
                supported: ROOT_VERSION,
            },
        })?;
        if root.archive.description.snapshot == snapshot {
            Ok(Some(root))
        } else {
            Err(damaged("it is the root of another snapshot"))
        }
    }

    /// All roots, newest snapshot first, and why some cannot be read.
    pub(super) fn roots(&self) -> Result<Roots, ArchiveError> {
        let listed = self.listed()?;
        let fetched = futures_util::stream::iter(listed)
            .map(|snapshot| async move { (snapshot, self.fetch_root(snapshot).await) })
            .buffer_unordered(ROOTS_IN_FLIGHT)
            .collect::<Vec<_>>();
        let (mut roots, mut failed) = (Vec::new(), Vec::new());
        for (snapshot, fetched) in self.runtime.block_on(fetched) {
            match fetched {
                Ok(Some(root)) => roots.push(root),
                // Removed since it was listed.
                Ok(None) => {}
                Err(error @ (ArchiveError::Damaged { .. } | ArchiveError::NewerVersion { .. })) => {
                    failed.push((snapshot, error));
                }
                Err(error) => return Err(error),
            }
        }
        let age = |root: &ArchiveRoot| {
            let description = &root.archive.description;
            std::cmp::Reverse((description.created, description.snapshot))
        };
        roots.sort_by_key(age);
        failed.sort_by_key(|(snapshot, _)| *snapshot);
        Ok((roots, failed))
    }

    /// The archives, newest snapshot first. One that cannot be read is passed over, with a warning in the log.
    ///
    /// # Errors
    /// `Objects`.
    pub fn archives(&self) -> Result<Vec<Archive>, ArchiveError> {
        let (roots, failed) = self.roots()?;
        for (snapshot, error) in failed {
            tracing::warn!(store = %self.url(), %snapshot, %error, "an archive cannot be read");
        }
        Ok(roots.into_iter().map(|root| root.archive).collect())
    }

    /// The archives of plain directories, newest snapshot first, with what their roots say. One that cannot be read is passed over, as by
    /// [`Repository::archives`].
    ///
    /// # Errors
    /// `Objects`.
    pub fn directories(&self) -> Result<Vec<DirectoryArchive>, ArchiveError> {
        let (roots, _) = self.roots()?;
        let directory = |root: ArchiveRoot| match root.content {
            Content::Directory(directory) => Some(DirectoryArchive {
                archive: root.archive,
                counts: directory.counts,
                tree_hash: directory.tree_hash,
            }),
            Content::Tree(_) => None,
        };
        Ok(roots.into_iter().filter_map(directory).collect())
    }

    /// The archive that a reference means: a whole id; else the newest (`None`, or `latest`); else the newest with this tag; else
    /// the one whose id begins with these digits, at least four.
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous`, `Damaged`, `NewerVersion`, `Objects`.
    pub fn find(&self, reference: Option<&str>) -> Result<Archive, ArchiveError> {
        let text = reference.unwrap_or("latest");
        let not_found = || ArchiveError::NotFound {
            store: self.url(),
            reference: text.to_owned(),
        };
        if let Some(snapshot) = SnapshotId::parse(text) {
            return Ok(self.root(snapshot)?.ok_or_else(not_found)?.archive);
        }
        let archives = self.archives()?;
        if text == "latest" {
            return archives.into_iter().next().ok_or_else(not_found);
        }
        let tagged = |archive: &Archive| archive.description.tags.iter().any(|tag| tag == text);
        if let Some(found) = archives.iter().find(|archive| tagged(archive)) {
            return Ok(found.clone());
        }
        let fits = |archive: &&Archive| {
            text.len() >= PREFIX_DIGITS_MIN && archive.description.snapshot.to_string().starts_with(text)
        };
        let mut fitting = archives.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(found), None) => Ok(found.clone()),
            (None, _) => Err(not_found()),
            _ => Err(ArchiveError::Ambiguous {
                store: self.url(),
                reference: text.to_owned(),
                candidates: archives
                    .iter()
                    .filter(fits)
                    .take(CANDIDATES_MAX)
                    .map(|archive| archive.description.snapshot)
                    .collect(),
            }),
        }
    }

    /// Removes an archive. Durable on return, as far as the store says; what only it needed is reclaimed later.
    ///
    /// # Errors
    /// `NotFound`, `Fence`, `Objects`.
    pub fn delete(&self, snapshot: SnapshotId) -> Result<(), ArchiveError> {
        let owned = self.owned_as(false)?;
        let name = root_name(snapshot).map_err(ObjectError::from)?;
        if let Err(error) = self.runtime.block_on(self.objects().head(&name)) {
            return Err(match error.is_not_found() {
                true => ArchiveError::NotFound {
                    store: self.url(),
                    reference: snapshot.to_string(),
                },
                false => error.into(),
            });
        }
        self.require_owned(&owned)?;
        self.runtime.block_on(self.objects().delete(&name))?;
        self.work.lock().published.remove(&snapshot);
        Ok(())
    }

    /// Names an archive and all that is in it: equal only for the same tree.
    pub fn identity(&self, archive: &Archive) -> Result<[u8; 32], ArchiveError> {
        let root = self.require_root(archive.description.snapshot)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&archive.description.snapshot.0);
        match &root.content {
            Content::Tree(tree) => {
                hasher.update(&tree.chunk.0);
            }
            Content::Directory(directory) => {
                for part in &directory.index {
                    hasher.update(&part.chunk.0);
                }
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// The tree of a volume's archive. Errors: `NotFound` if it is of a plain directory.
    pub(super) fn tree_of<'a>(&self, root: &'a ArchiveRoot) -> Result<&'a TreeRoot, ArchiveError> {
        match &root.content {
            Content::Tree(tree) => Ok(tree),
            Content::Directory(_) => Err(self.of_other_kind(root, "a volume", "a plain directory")),
        }
    }

    /// The manifest of a directory's archive. Errors: `NotFound` if it is of a volume.
    pub(crate) fn directory_of<'a>(&self, root: &'a ArchiveRoot) -> Result<&'a DirectoryRoot, ArchiveError> {
        match &root.content {
            Content::Directory(directory) => Ok(directory),
            Content::Tree(_) => Err(self.of_other_kind(root, "a plain directory", "a volume")),
        }
    }

    /// Reads parts of archives.
    pub(crate) fn nodes(&self) -> Nodes<'_> {
        Nodes(&self.store)
    }

    /// Whether chunks are named by the hash of their bytes alone.
    pub(crate) fn is_plain(&self) -> bool {
        self.store.sealing().is_plain()
    }

    /// Lets go of what chunks were fetched with: as [`ChunkStore::forget_frames`].
    pub(crate) fn forget_frames(&self) {
        self.store.forget_frames();
    }

    /// Reads chunks ahead: as [`ChunkStore::read_ordered`].
    pub(crate) fn read_ordered(
        &self,
        wanted: impl Iterator<Item = (ChunkId, u32)> + Send + 'static,
    ) -> Result<OrderedChunks, ChunkReadError> {
        self.store.read_ordered(wanted, self.settings.read.clone())
    }

    /// Reads a chunk: as [`ChunkStore::read`].
    pub(crate) fn read_chunk(&self, id: &ChunkId, length: u32) -> Result<Bytes, ChunkReadError> {
        self.store.read(id, length)
    }

    /// Why a manifest cannot be read.
    pub(crate) fn directory_error(&self, error: DirectoryReadError<ChunkReadError>) -> ArchiveError {
        let what = error.to_string();
        let chunk = match error {
            DirectoryReadError::Fetch(cause) => return cause.into(),
            DirectoryReadError::Index { chunk, .. }
            | DirectoryReadError::Block { chunk, .. }
            | DirectoryReadError::Other { chunk } => chunk,
        };
        ArchiveError::Damaged {
            store: self.url(),
            object: format!("chunk {chunk}"),
            what,
        }
    }

    fn of_other_kind(&self, root: &ArchiveRoot, wanted: &str, found: &str) -> ArchiveError {
        let snapshot = root.archive.description.snapshot;
        ArchiveError::NotFound {
            store: self.url(),
            reference: format!("{snapshot} of {wanted}: that one is of {found}"),
        }
    }

    /// The root of an archive that was there a moment ago.
    pub(crate) fn require_root(&self, snapshot: SnapshotId) -> Result<ArchiveRoot, ArchiveError> {
        self.root(snapshot)?.ok_or_else(|| ArchiveError::NotFound {
            store: self.url(),
            reference: snapshot.to_string(),
        })
    }
}
