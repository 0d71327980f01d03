//! Every store is opened once, when it is first asked for, and shared from then on: what writes to a store and what removes
//! from it in this process must know of each other.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_content::codec::Compression;
use cairn_content::objects::{ObjectStoreUrl, Objects, Owner};
use cairn_content::sealing::key_file::{self, Access};
use cairn_content::sealing::{KeyEncryptionKey, KeysError};
use cairn_content::store::ChunkStoreError;
use cairn_snapshot::archive::{self, ArchiveError, RepositoryParts, RepositorySettings, repository};
use cairn_types::{Clock, Randomness};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{Repository, WorkError};
use crate::config::stores::{StoreSettings, table};

/// Stores that are kept open; beyond that, those that nobody uses are closed.
pub const OPEN_MAX: usize = 32;

/// What one store is opened with.
pub struct OpenParts {
    /// The store.
    pub objects: Objects,
    /// Where its requests are made.
    pub runtime: Handle,
    /// Its directory on local disk; it may not exist yet.
    pub cache: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub randomness: Arc<dyn Randomness>,
    /// Who this daemon is.
    pub owner: Owner,
    /// The key that is configured for it.
    pub holder: Option<KeyEncryptionKey>,
    /// How what is pushed to it is compressed.
    pub compression: Compression,
}

/// Opens the archives of a store.
pub type Opener = Box<dyn Fn(OpenParts) -> Result<Arc<dyn Repository>, ArchiveError> + Send + Sync>;

/// Opens the archives of a store as they are: asks it whether it is encrypted, and by which keys. Its directory on local disk
/// is made if it is missing.
///
/// # Errors
/// What [`repository::sealing_of`] and [`archive::Repository::open`] fail with; `Keys` also if a key is configured and the store
/// is not encrypted, even if nothing is in it yet: who has configured a key must not push without one by an oversight.
pub fn open(parts: OpenParts) -> Result<Arc<dyn Repository>, ArchiveError> {
    let sealing = repository::sealing_of(
        &parts.objects,
        &parts.runtime,
        parts.holder.as_ref(),
        Arc::clone(&parts.randomness),
    )?;
    if let (true, Some(holder)) = (sealing.is_plain(), &parts.holder) {
        return Err(ArchiveError::Keys(KeysError::NotEncrypted {
            store: parts.objects.url().to_string(),
            given: holder.id(),
        }));
    }
    if let Some(parent) = parts.cache.parent() {
        make_directory(parent).map_err(|source| ChunkStoreError::Cache {
            operation: "make a directory for",
            path: parts.cache.clone(),
            source,
        })?;
    }
    let compression = parts.compression;
    let parts = RepositoryParts {
        objects: parts.objects,
        runtime: parts.runtime,
        cache: parts.cache,
        clock: parts.clock,
        owner: parts.owner,
        sealing,
    };
    let mut settings = RepositorySettings::default();
    settings.data.compression = compression;
    settings.tree.compression = compression;
    let repository = archive::Repository::open(parts, settings)?;
    Ok(Arc::new(repository))
}

/// For the owner alone: what a store holds is nobody else's business.
fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// What all stores are opened with.
pub struct RepositoriesParts {
    /// How stores are reached.
    pub stores: Vec<StoreSettings>,
    /// The directory of the stores' directories.
    pub directory: PathBuf,
    /// Where requests are made.
    pub runtime: Handle,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub randomness: Arc<dyn Randomness>,
    /// Who this daemon is.
    pub owner: Owner,
    /// Opens them.
    pub opener: Opener,
}

/// The stores that are open.
pub struct Repositories {
    parts: RepositoriesParts,
    /// Lock order: this one, then that of a slot; never the other way round, and this one not while a store is opened.
    open: Mutex<HashMap<String, Arc<Slot>>>,
}

/// A store that is open or about to be. Opening one may wait for a disk and holds up only those who want the same.
type Slot = Mutex<Option<Arc<dyn Repository>>>;

impl Repositories {
    /// None is open yet.
    pub fn new(parts: RepositoriesParts) -> Self {
        Repositories {
            parts,
            open: Mutex::new(HashMap::new()),
        }
    }

    /// The store at `url`.
    ///
    /// # Errors
    /// Those of [`Objects::open`], of the key file, and of the opener.
    pub fn get(&self, url: &ObjectStoreUrl) -> Result<Arc<dyn Repository>, WorkError> {
        let slot = self.slot(url);
        let mut repository = slot.lock();
        if let Some(open) = &*repository {
            return Ok(Arc::clone(open));
        }
        let opened = (self.parts.opener)(self.parts_of(url)?)?;
        *repository = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Makes the store at `url`, in which nothing is yet, an encrypted one of this daemon's, with the key that is configured for it.
    ///
    /// # Errors
    /// `NoKey` if none is; those of [`repository::encrypt_new`].
    pub fn encrypt(&self, url: &ObjectStoreUrl) -> Result<(), WorkError> {
        let parts = self.parts_of(url)?;
        let holder = parts.holder.as_ref().ok_or(WorkError::NoKey)?;
        repository::encrypt_new(
            &parts.objects,
            &parts.runtime,
            parts.owner,
            parts.clock.as_ref(),
            holder,
            parts.randomness,
        )?;
        Ok(())
    }

    /// Lets the key in the file `new` open the store at `url` in place of the one that is configured for it. Who has the store open
    /// goes on with it.
    ///
    /// # Errors
    /// `NoKey` if none is configured; those of the files and of [`repository::rotate_key`].
    pub fn rotate_key(&self, url: &ObjectStoreUrl, new: &Path) -> Result<(), WorkError> {
        let parts = self.parts_of(url)?;
        let old = parts.holder.as_ref().ok_or(WorkError::NoKey)?;
        let new = key_file::read(new, Access::Owner)?;
        repository::rotate_key(
            &parts.objects,
            &parts.runtime,
            old,
            &new,
            parts.randomness.as_ref(),
        )?;
        Ok(())
    }

    fn parts_of(&self, url: &ObjectStoreUrl) -> Result<OpenParts, WorkError> {
        let parts = &self.parts;
        let table = table(&parts.stores, url);
        let options = table.map(|table| table.options.clone()).unwrap_or_default();
        let holder = table
            .and_then(|table| table.key_file.as_ref())
            .map(|file| key_file::read(&file.path, file.access))
            .transpose()?;
        Ok(OpenParts {
            objects: Objects::open(url, options, Arc::clone(&parts.randomness))
                .map_err(ArchiveError::from)?,
            runtime: parts.runtime.clone(),
            cache: parts.directory.join(directory_name(url)),
            clock: Arc::clone(&parts.clock),
            randomness: Arc::clone(&parts.randomness),
            owner: parts.owner.clone(),
            holder,
            compression: table.map(|table| table.compression).unwrap_or_default(),
        })
    }

    fn slot(&self, url: &ObjectStoreUrl) -> Arc<Slot> {
        let mut open = self.open.lock();
        if let Some(slot) = open.get(url.as_str()) {
            return Arc::clone(slot);
        }
        if open.len() >= OPEN_MAX {
            open.retain(|_, slot| is_in_use(slot));
        }
        let slot = Arc::new(Mutex::new(None));
        open.insert(url.as_str().to_owned(), Arc::clone(&slot));
        slot
    }
}

/// Nobody can begin to use it meanwhile: that takes the lock of the map. Those in use are bounded by the operations and
/// requests that run.
fn is_in_use(slot: &Arc<Slot>) -> bool {
    Arc::strong_count(slot) > 1
        || slot.try_lock().is_none_or(|repository| {
            repository
                .as_ref()
                .is_some_and(|open| Arc::strong_count(open) > 1)
        })
}

/// The name of a store's directory: a hash of its URL, because a URL is no file name.
pub fn directory_name(url: &ObjectStoreUrl) -> String {
    let mut name = blake3::hash(url.as_str().as_bytes()).to_hex().to_string();
    name.truncate(32);
    name
}
