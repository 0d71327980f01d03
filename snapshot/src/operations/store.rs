//! The object store of a repository whose snapshots are archives: the one that the configuration names, or a directory in the control
//! directory. Opened when it is needed, once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_content::objects::{ObjectOptions, ObjectStoreUrl, Objects, Owner, OwnerId};
use cairn_content::sealing::key_file::{self, Access};
use cairn_content::store::ChunkStoreError;

use super::OperationError;
use crate::archive::{self, ArchiveError, RepositoryParts, RepositorySettings, encrypt_new, sealing_of};
use crate::repository::{Area, Repository};

/// Processes that work on one repository at once, each with an index of its own.
const INDEXES_MAX: usize = 8;

/// Opens the store, or gives the one that is open.
///
/// # Errors
/// There is no runtime for requests; the URL, the key or the store is not as it should be.
pub fn store(repository: &Repository) -> Result<&archive::Repository, OperationError> {
    if let Some(open) = repository.store_cell().get() {
        return Ok(open);
    }
    let control = repository.control();
    let opened = open(repository, |number| {
        control.path_of(Area::Cache, &format!("index-{number}"))
    })?;
    Ok(repository.store_cell().get_or_init(|| opened))
}

/// Opens the store for reading, with what is known of its packs in the directory `scratch`, which is there: where the control directory cannot be written.
///
/// # Errors
/// As of [`store`].
pub(crate) fn open_beside(
    repository: &Repository,
    scratch: &Path,
) -> Result<archive::Repository, OperationError> {
    open(repository, |number| scratch.join(format!("index-{number}")))
}

/// Opens the store with the first of the chunk indexes that nobody uses.
fn open(
    repository: &Repository,
    index: impl Fn(usize) -> PathBuf,
) -> Result<archive::Repository, OperationError> {
    let parts = repository.parts();
    let runtime = parts.runtime.clone().ok_or(OperationError::NoRuntime)?;
    let config = repository.config()?.store;
    let control = repository.control();
    let url = match &config.url {
        Some(url) => ObjectStoreUrl::parse(url)?,
        None => {
            let path = control.path().canonicalize().map_err(OperationError::staging)?;
            ObjectStoreUrl::from_directory(&path.join(Area::Store.name()))?
        }
    };
    let objects = Objects::open(&url, ObjectOptions::default(), parts.randomness.clone())
        .map_err(ArchiveError::from)?;
    let holder = match &config.key_file {
        Some(path) => Some(key_file::read(path.as_ref(), Access::Owner)?),
        None => None,
    };
    let id = repository.identity().id;
    let owner = Owner {
        id: OwnerId::new(id.0),
        name: format!("repository {id}"),
    };
    let mut sealing = sealing_of(&objects, &runtime, holder.as_ref(), parts.randomness.clone())?;
    if let (Some(holder), true) = (&holder, sealing.is_plain()) {
        // Nobody owns it yet; a plain store with archives is refused here.
        sealing = encrypt_new(
            &objects,
            &runtime,
            owner.clone(),
            &*parts.clock,
            holder,
            parts.randomness.clone(),
        )?;
    }
    let mut settings = RepositorySettings::default();
    settings.data.compression = config.compression;
    for number in 0..INDEXES_MAX {
        let opened = archive::Repository::open(
            RepositoryParts {
                objects: objects.clone(),
                runtime: runtime.clone(),
                cache: index(number),
                clock: Arc::clone(&parts.clock),
                owner: owner.clone(),
                sealing: sealing.clone(),
            },
            settings.clone(),
        );
        match opened {
            Err(ArchiveError::Store(ChunkStoreError::Locked { .. })) if number + 1 < INDEXES_MAX => {}
            opened => return Ok(opened?),
        }
    }
    Err(OperationError::NoRuntime)
}
