//! Opening snapshots: their lists of entries and their data.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use cairn_types::SnapshotId;
use rustix::fs::{Mode, OFlags, openat};

use super::OperationError;
use super::payload::{ArchivePayload, Payload, TreePayload};
use super::store::store;
use crate::archive::Progress;
use crate::engine::EngineKind;
use crate::engine::chunks::ChunksPayload;
use crate::manifest::ManifestReader;
use crate::repository::{Area, Descriptor, Repository, RepositoryError};

/// Opens the list of the entries of a snapshot. Errors: it is missing, damaged, or not the one that the descriptor names.
pub fn manifest(
    repository: &Repository,
    descriptor: &Descriptor,
) -> Result<Arc<ManifestReader>, OperationError> {
    let id = descriptor.id;
    if let Some(verified) = super::verify::verified_manifest(repository, id)? {
        return Ok(verified);
    }
    let reader = ManifestReader::open(open(repository, Area::Manifests, &id.to_string())?)?;
    match reader.summary().file_hash == descriptor.manifest.hash {
        true => Ok(Arc::new(reader)),
        false => Err(OperationError::ForeignManifest { id }),
    }
}

pub(super) fn open(repository: &Repository, area: Area, name: &str) -> Result<File, RepositoryError> {
    let control = repository.control();
    let directory = control.area(area)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(&directory, name, flags, Mode::empty());
    opened
        .map(File::from)
        .map_err(|error| RepositoryError::io("opening", &control.path_of(area, name), error.into()))
}

/// The directory of a tree that is kept in the repository.
pub(crate) fn tree(repository: &Repository, id: SnapshotId) -> Result<OwnedFd, RepositoryError> {
    let control = repository.control();
    let directory = control.area(Area::Snapshots)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&directory, id.to_string(), flags, Mode::empty()).map_err(|error| {
        RepositoryError::io(
            "opening",
            &control.path_of(Area::Snapshots, &id.to_string()),
            error.into(),
        )
    })
}

/// Opens the data of a snapshot. Errors: its engine is unknown or cannot be used here; it is missing.
pub fn payload<'a>(
    repository: &'a Repository,
    descriptor: &Descriptor,
) -> Result<Box<dyn Payload + 'a>, OperationError> {
    let unusable = |reason: &str| OperationError::NoEngine {
        id: descriptor.id,
        engine: descriptor.engine.used.clone(),
        reason: reason.to_owned(),
    };
    let kind = EngineKind::requested(&descriptor.engine.used).ok().flatten();
    match kind {
        Some(kind) if kind.is_tree() => Ok(Box::new(TreePayload::new(tree(repository, descriptor.id)?))),
        Some(_) => {
            let chunks = ChunksPayload::open(store(repository)?, descriptor.id, &Progress::new())?;
            Ok(Box::new(ArchivePayload::new(chunks)))
        }
        None => Err(unusable("this Cairn does not know it")),
    }
}
