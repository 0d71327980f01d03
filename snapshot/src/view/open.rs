//! Opening snapshots to look at them.

use std::path::Path;
use std::sync::Arc;

use cairn_content::objects::{ObjectOptions, ObjectStoreUrl, Objects, Owner, OwnerId};
use cairn_content::sealing::key_file::{self, Access};
use cairn_content::store::ChunkStoreError;
use cairn_types::SnapshotId;

use super::data::{Chunks, Data, KeptTree, Store};
use super::directory::DirectoryTree;
use super::pages::Pages;
use super::volume::VolumeTree;
use super::{Kind, SnapshotTree, View, Viewed};
use crate::archive::root::Content;
use crate::archive::{
    self, ArchiveError, Progress, Repository as Archives, RepositoryParts, RepositorySettings, sealing_of,
};
use crate::engine::EngineKind;
use crate::operations::OperationError;
use crate::operations::snapshots::{manifest, tree};
use crate::operations::store::store;
use crate::repository::{Parts, Repository};

/// Processes that look at one object store at once, each with an index of its own.
const INDEXES_MAX: usize = 32;

/// Where an archive is, and what is needed to read it.
pub struct ArchivePlace<'a> {
    /// The URL of the object store.
    pub url: &'a str,
    /// The server to speak to, if it is not the provider's own: `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket. Default: the environment's, else `us-east-1`.
    pub region: Option<String>,
    /// The storage account of an Azure container. Default: the environment's.
    pub account: Option<String>,
    /// Whether to speak HTTP without TLS.
    pub allow_http: bool,
    /// The key file that unlocks it, if it is encrypted.
    pub key_file: Option<&'a Path>,
    /// A directory that is there, for what is known of the packs of stores: a cache, for all of them.
    pub cache: &'a Path,
    /// Where requests run, the clock, and the randomness of retries.
    pub parts: &'a Parts,
}

/// Opens a snapshot of a plain directory. The lease of a reader is held until the value is dropped; where the control directory cannot be written there is none,
/// which [`View::unleased`] tells.
///
/// # Errors
/// No such snapshot; its list is damaged, or not the one that the descriptor names; its engine is unknown, or its data is missing; its object store
/// cannot be used; I/O; `Cancelled`.
pub fn open_snapshot(
    repository: Arc<Repository>,
    id: SnapshotId,
    progress: &Progress,
) -> Result<View, OperationError> {
    let (lease, unleased) = match repository.read_lease("view", [id].into()) {
        Ok(lease) => match lease.unguarded() {
            None => (Some(lease), None),
            Some(error) => {
                tracing::warn!(%error, snapshot = %id, "no lease can be taken: nothing keeps the snapshot from being removed meanwhile");
                (None, Some(error.to_string()))
            }
        },
        Err(error) => return Err(error.into()),
    };
    let descriptor = repository.descriptor(id)?;
    let list = manifest(&repository, &descriptor)?;
    let counts = list.summary().counts;
    let data = match EngineKind::requested(&descriptor.engine.used).ok().flatten() {
        Some(kind) if kind.is_tree() => Data::Kept(KeptTree::new(tree(&repository, id)?)),
        Some(_) => {
            store(&repository)?;
            let opened = Store::OfRepository(repository.clone());
            opened.get()?.refresh(progress)?;
            Data::Chunks(Chunks::new(Arc::new(opened)))
        }
        None => {
            return Err(OperationError::NoEngine {
                id,
                engine: descriptor.engine.used.clone(),
                reason: "this Cairn does not know it".to_owned(),
            });
        }
    };
    let tree = DirectoryTree::new(id, Pages::local(list), data, counts);
    Ok(View {
        tree: Arc::new(SnapshotTree(Kind::Directory(tree))),
        lease,
        viewed: Viewed::Snapshot(Box::new(descriptor)),
        unleased,
    })
}

/// Opens an archive in an object store, of a plain directory or of a volume; without a reference the newest. The store is only read. Nothing keeps the archive from
/// being deleted meanwhile; what it needs is not removed before the grace period of the reclaim that follows is over.
///
/// # Errors
/// `Archive`: the store cannot be reached, refuses, or is encrypted and there is no key that fits; no such archive, or several; it is damaged. `StoreUrl`, `Key`: what was given is none.
pub fn open_archive(
    place: &ArchivePlace<'_>,
    reference: Option<&str>,
    progress: &Progress,
) -> Result<View, OperationError> {
    open_in(open_archives(place)?, reference, progress)
}

/// The same of an object store that is open.
///
/// # Errors
/// `Archive`: no such archive, or several; it is damaged; the store cannot be reached.
pub fn open_in(
    archives: Archives,
    reference: Option<&str>,
    progress: &Progress,
) -> Result<View, OperationError> {
    let archive = archives.find(reference)?;
    let id = archive.description.snapshot;
    let root = archives.require_root(id)?;
    archives.refresh(progress)?;
    let store = Arc::new(Store::Own(Box::new(archives)));
    let kind = match root.content {
        Content::Tree(tree) => Kind::Volume(VolumeTree::new(id, store, tree)),
        Content::Directory(directory) => {
            let pages = Pages::archive(store.clone(), &directory)?;
            let data = Data::Chunks(Chunks::new(store));
            Kind::Directory(DirectoryTree::new(id, pages, data, directory.counts))
        }
    };
    Ok(View {
        tree: Arc::new(SnapshotTree(kind)),
        lease: None,
        viewed: Viewed::Archive(Box::new(archive)),
        unleased: None,
    })
}

fn open_archives(place: &ArchivePlace<'_>) -> Result<Archives, OperationError> {
    let runtime = place.parts.runtime.clone().ok_or(OperationError::NoRuntime)?;
    let randomness = place.parts.randomness.clone();
    let url = ObjectStoreUrl::parse(place.url)?;
    let holder = match place.key_file {
        Some(path) => Some(key_file::read(path, Access::Owner)?),
        None => None,
    };
    let options = ObjectOptions {
        endpoint: place.endpoint.clone(),
        region: place.region.clone(),
        account: place.account.clone(),
        allow_http: place.allow_http,
        ..ObjectOptions::default()
    };
    let objects = Objects::open(&url, options, randomness.clone()).map_err(ArchiveError::from)?;
    let sealing = sealing_of(&objects, &runtime, holder.as_ref(), randomness.clone())?;
    let mut id = [0; 16];
    randomness.fill(&mut id);
    // Never written: nothing here makes the store anybody's.
    let owner = Owner {
        id: OwnerId::new(id),
        name: "view".to_owned(),
    };
    let of_store = blake3::hash(url.as_str().as_bytes()).to_hex();
    let mut number = 0;
    loop {
        let parts = RepositoryParts {
            objects: objects.clone(),
            runtime: runtime.clone(),
            cache: place
                .cache
                .join(format!("store-{}-{number}", &of_store.as_str()[..32])),
            clock: place.parts.clock.clone(),
            owner: owner.clone(),
            sealing: sealing.clone(),
        };
        match archive::Repository::open(parts, RepositorySettings::default()) {
            Err(ArchiveError::Store(ChunkStoreError::Locked { .. })) if number + 1 < INDEXES_MAX => {
                number += 1
            }
            opened => return Ok(opened?),
        }
    }
}
