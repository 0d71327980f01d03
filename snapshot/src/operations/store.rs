//! The object store of a repository whose snapshots are archives: the one that the configuration names, or a directory in the control
//! directory. Opened when it is needed, once.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cairn_content::objects::{ObjectOptions, ObjectStoreUrl, Objects, Owner, OwnerId};
use cairn_content::sealing::key_file::{self, Access};
use cairn_content::store::ChunkStoreError;

use super::OperationError;
use crate::archive::{self, ArchiveError, RepositoryParts, RepositorySettings, encrypt_new, sealing_of};
use crate::repository::{Area, Lease, Repository, RepositoryError};

/// Processes that work on one repository at once, each with an index of its own.
const INDEXES_MAX: usize = 8;
/// Directories below that of a store in which puts leave something.
const STORE_DEPTH_MAX: usize = 8;
/// What a put into a store elsewhere has left is removed when it is so old: perhaps somebody else puts there.
const LEFT_ELSEWHERE_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Opens the store, or gives the one that is open.
///
/// # Errors
/// There is no runtime for requests; the URL, the key or the store is not as it should be.
pub fn store(repository: &Repository) -> Result<&archive::Repository, OperationError> {
    if let Some(open) = repository.store_cell().get() {
        return Ok(open);
    }
    let opened = open(repository, &repository.cache_directory()?)?;
    Ok(repository.store_cell().get_or_init(|| opened))
}

/// Opens the store with the first of the chunk indexes in a directory that nobody uses.
fn open(repository: &Repository, caches: &Path) -> Result<archive::Repository, OperationError> {
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
                cache: caches.join(format!("index-{number}")),
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

/// The directory of the store, if it is one of this machine, and whether nobody but this repository writes there.
fn local(repository: &Repository) -> Option<(PathBuf, bool)> {
    match repository.config().ok()?.store.url {
        None => Some((repository.control().path_of(Area::Store, ""), true)),
        // A path with escapes is left alone.
        Some(url) => {
            let path = url.strip_prefix("file://").filter(|path| !path.contains('%'))?;
            Some((PathBuf::from(path), false))
        }
    }
}

/// Whether a name is that of an object that is being put into a directory: such a name, `#`, and a number. No object of ours has such a name.
fn is_temporary(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What puts that were interrupted have left in the store, if that is a directory. Errors: it cannot be listed.
pub(super) fn temporaries(repository: &Repository) -> Result<Vec<PathBuf>, RepositoryError> {
    let mut found = Vec::new();
    if let Some((path, own)) = local(repository) {
        // A clock that went back makes nothing old.
        let old = (!own).then(|| {
            let age = i64::try_from(LEFT_ELSEWHERE_AGE.as_secs()).unwrap_or(i64::MAX);
            repository.parts().clock.now().seconds().saturating_sub(age)
        });
        find_temporaries(&path, old, STORE_DEPTH_MAX, &mut found)
            .map_err(|error| RepositoryError::io("listing", &path, error))?;
    }
    Ok(found)
}

/// Adds those that were written before `before`, in seconds since 1970; without it all.
fn find_temporaries(
    path: &Path,
    before: Option<i64>,
    depth: usize,
    found: &mut Vec<PathBuf>,
) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            find_temporaries(&entry.path(), before, depth - 1, found)?;
        }
        if !kind.is_file() || !entry.file_name().to_str().is_some_and(is_temporary) {
            continue;
        }
        // Gone meanwhile: it was put after all.
        let old = |before| entry.metadata().is_ok_and(|metadata| metadata.mtime() < before);
        if before.is_none_or(old) {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Removes what puts that were interrupted have left. Gives how many. Errors: the lease is lost; I/O.
pub(super) fn remove_temporaries(repository: &Repository, lease: &Lease) -> Result<u64, RepositoryError> {
    let mut removed = 0;
    for path in temporaries(repository)? {
        lease.check()?;
        match std::fs::remove_file(&path) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(RepositoryError::io("removing", &path, error)),
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::is_temporary;

    #[test]
    fn only_what_a_put_has_left_is_temporary() {
        assert!(is_temporary("0123abcd#1") && is_temporary("a#b#12"));
        for name in ["0123abcd", "#", "a#", "a#b", "a#1b"] {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
