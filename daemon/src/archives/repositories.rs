//! Every store is opened once, when it is first asked for, and shared from then on: what writes to a store and what removes
//! from it in this process must know of each other.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_content::objects::{ObjectOptions, ObjectStoreUrl, Objects, Owner};
use cairn_content::store::ChunkStoreError;
use cairn_snapshot::archive::{self, ArchiveError, RepositoryParts, RepositorySettings};
use cairn_types::{Clock, Randomness};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::Repository;
use crate::config::stores::{StoreSettings, options};

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
    /// Who this daemon is.
    pub owner: Owner,
}

/// Opens the archives of a store; nothing is asked of it yet.
pub type Opener = Box<dyn Fn(OpenParts) -> Result<Arc<dyn Repository>, ArchiveError> + Send + Sync>;

/// Opens the archives of a store as they are. Its directory on local disk is made if it is missing.
pub fn open(parts: OpenParts) -> Result<Arc<dyn Repository>, ArchiveError> {
    if let Some(parent) = parts.cache.parent() {
        make_directory(parent).map_err(|source| ChunkStoreError::Cache {
            operation: "make a directory for",
            path: parts.cache.clone(),
            source,
        })?;
    }
    let parts = RepositoryParts {
        objects: parts.objects,
        runtime: parts.runtime,
        cache: parts.cache,
        clock: parts.clock,
        owner: parts.owner,
    };
    let repository = archive::Repository::open(parts, RepositorySettings::default())?;
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
    /// What [`Objects::open`] and the opener fail with.
    pub fn get(&self, url: &ObjectStoreUrl) -> Result<Arc<dyn Repository>, ArchiveError> {
        let slot = self.slot(url);
        let mut repository = slot.lock();
        if let Some(open) = &*repository {
            return Ok(Arc::clone(open));
        }
        let parts = &self.parts;
        let options: ObjectOptions = options(&parts.stores, url);
        let opened = (parts.opener)(OpenParts {
            objects: Objects::open(url, options, Arc::clone(&parts.randomness))?,
            runtime: parts.runtime.clone(),
            cache: parts.directory.join(directory_name(url)),
            clock: Arc::clone(&parts.clock),
            owner: parts.owner.clone(),
        })?;
        *repository = Some(Arc::clone(&opened));
        Ok(opened)
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
