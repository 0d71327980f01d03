//! Archives: what lies between requests about object stores and the crates that do the work.
//!
//! [`Archives`] has one method for each thing that can be asked for; all of them block. [`url`] checks where a store is said
//! to be; [`identity`] says who this daemon is towards stores; [`repositories`] opens each store once and shares it;
//! [`repository`] is what is asked of one store; [`ends`] is what is asked of the volumes, and [`volumes`] how they answer.
//!
//! What this module does not do: it decides nothing about what an archive is, and says nothing to clients: the reasons that
//! they see are made in [`crate::rpc`].

pub mod ends;
pub mod identity;
pub mod repositories;
pub mod repository;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod url;
pub mod volumes;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cairn_content::objects::ObjectStoreUrl;
use cairn_content::sealing::KeyFileError;
use cairn_snapshot::archive::{
    Archive, ArchiveError, PackAction, Progress, ReclaimOptions, Sizes, StoreSizes, VerifyOptions,
};
use cairn_types::{ExportPolicy, SnapshotId, WorkspaceName};
use cairn_vfs::ImportError;
use cairn_vfs::control::ControlError;

pub use ends::{EndError, Ends, Imported, ImportedTree, Wanted};
pub use repositories::{OpenParts, Repositories, RepositoriesParts};
pub use repository::Repository;

use crate::operations::{Finding, Operation, Outcome};

/// Archives of all stores, and the volumes of this node.
pub struct Archives {
    repositories: Repositories,
    ends: Arc<dyn Ends>,
}

impl std::fmt::Debug for Archives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archives").finish_non_exhaustive()
    }
}

/// Why something about archives failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The store, or what is in it.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The volumes of this node.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The file of a key.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A key is needed, and none is configured.
    #[error("no key is configured for the store")]
    NoKey,
    /// What is pulled cannot be written into a volume.
    #[error(transparent)]
    Import(#[from] ImportError),
}

/// What shall be pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullWanted {
    /// The store.
    pub store: ObjectStoreUrl,
    /// Which archive.
    pub reference: String,
    /// The workspace.
    pub workspace: WorkspaceName,
    /// Whether it exists and is to become equal to the archive.
    pub into_existing: bool,
    /// Who may mount it, if it is new.
    pub policy: ExportPolicy,
    /// Whether files that cannot be read are left out; else nothing is pulled if there is one.
    pub skip_damaged: bool,
}

/// What shall be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyWanted {
    /// The store.
    pub store: ObjectStoreUrl,
    /// Which archives; empty: all.
    pub references: Vec<String>,
    /// Every byte.
    pub deep: bool,
    /// Most stored bytes to read each second.
    pub bytes_per_second_max: Option<u64>,
}

impl Archives {
    /// Archives of the stores that `repositories` opens, to and from the volumes that `ends` are.
    pub fn new(repositories: Repositories, ends: Arc<dyn Ends>) -> Self {
        Archives { repositories, ends }
    }

    /// Archives a snapshot of a workspace.
    pub fn push(
        &self,
        store: &ObjectStoreUrl,
        workspace: &WorkspaceName,
        snapshot: SnapshotId,
        operation: &Operation,
    ) -> Result<Outcome, WorkError> {
        let repository = self.repositories.get(store)?;
        let (source, description) = self.ends.source(workspace, snapshot)?;
        let pushed = repository.push(source.as_ref(), description, operation.progress())?;
        Ok(Outcome::Pushed(pushed))
    }

    /// Makes a workspace from an archive, or an existing one equal to it.
    pub fn pull(&self, wanted: &PullWanted, operation: &Operation) -> Result<Outcome, WorkError> {
        let repository = self.repositories.get(&wanted.store)?;
        let archive = repository.find(Some(&wanted.reference))?;
        let progress = operation.progress();
        let mut identity = repository.identity(&archive)?;
        let mut without = BTreeSet::new();
        if wanted.skip_damaged {
            for (inode, damage) in repository.unreadable(archive.description.snapshot, progress)? {
                operation.found(Finding::Damage(damage));
                without.insert(inode);
            }
            // What was written of the whole, or without other files, is another tree.
            identity = identity::without(identity, &without);
        }
        let mut tree = self.ends.target(&Wanted {
            workspace: wanted.workspace.clone(),
            into_existing: wanted.into_existing,
            policy: wanted.policy.clone(),
            identity,
            archive: archive.clone(),
            whole: without.is_empty(),
        })?;
        let pulled = repository.pull(&archive, tree.target(), &without, progress)?;
        // The last moment at which a cancellation can still leave the workspace as it was.
        if progress.is_cancelled() {
            return Err(ArchiveError::Cancelled.into());
        }
        let Imported { snapshot, safety } = tree.finish()?;
        Ok(Outcome::Pulled {
            pulled,
            snapshot,
            safety,
            left_out: without.len() as u64,
        })
    }

    /// Compares what is stored with its checksums; damage is told as it is found.
    pub fn verify(&self, wanted: &VerifyWanted, operation: &Operation) -> Result<Outcome, WorkError> {
        let repository = self.repositories.get(&wanted.store)?;
        let archives = wanted
            .references
            .iter()
            .map(|reference| Ok(repository.find(Some(reference))?.description.snapshot))
            .collect::<Result<Vec<_>, ArchiveError>>()?;
        let options = VerifyOptions {
            archives,
            deep: wanted.deep,
            bytes_per_second_max: wanted.bytes_per_second_max,
        };
        let verified = repository.verify(&options, operation.progress(), &mut |damage| {
            operation.found(Finding::Damage(damage));
        })?;
        Ok(Outcome::Verified(verified))
    }

    /// Removes what no archive needs; what becomes of packs that are not just kept is told.
    pub fn reclaim(
        &self,
        store: &ObjectStoreUrl,
        options: &ReclaimOptions,
        operation: &Operation,
    ) -> Result<Outcome, WorkError> {
        let repository = self.repositories.get(store)?;
        let reclaimed = repository.reclaim(options, operation.progress(), &mut |verdict| {
            if verdict.action != PackAction::Keep {
                operation.found(Finding::Verdict(verdict));
            }
        })?;
        Ok(Outcome::Reclaimed {
            dry_run: options.dry_run,
            reclaimed,
        })
    }

    /// All archives of a store, newest snapshot first.
    pub fn list(&self, store: &ObjectStoreUrl) -> Result<Vec<Archive>, WorkError> {
        Ok(self.repositories.get(store)?.archives()?)
    }

    /// One archive, and what it takes up if that is asked for.
    pub fn show(
        &self,
        store: &ObjectStoreUrl,
        reference: &str,
        sizes: bool,
        progress: &Progress,
    ) -> Result<(Archive, Option<Sizes>), WorkError> {
        let repository = self.repositories.get(store)?;
        let archive = repository.find(Some(reference))?;
        let sizes = sizes
            .then(|| repository.sizes(archive.description.snapshot, progress))
            .transpose()?;
        Ok((archive, sizes))
    }

    /// What a store takes up.
    pub fn store_sizes(&self, store: &ObjectStoreUrl, progress: &Progress) -> Result<StoreSizes, WorkError> {
        Ok(self.repositories.get(store)?.store_sizes(progress)?)
    }

    /// Deletes one archive, and gives what it was.
    pub fn delete(&self, store: &ObjectStoreUrl, reference: &str) -> Result<Archive, WorkError> {
        let repository = self.repositories.get(store)?;
        let archive = repository.find(Some(reference))?;
        repository.delete(archive.description.snapshot)?;
        Ok(archive)
    }

    /// Makes a store this daemon's.
    pub fn own(&self, store: &ObjectStoreUrl, take_over: bool) -> Result<(), WorkError> {
        Ok(self.repositories.get(store)?.own(take_over)?)
    }

    /// Makes a store in which nothing is yet an encrypted one of this daemon's.
    pub fn encrypt(&self, store: &ObjectStoreUrl) -> Result<(), WorkError> {
        self.repositories.encrypt(store)
    }

    /// Lets the key in the file `new` open an encrypted store in place of the one that is configured.
    pub fn rotate_key(&self, store: &ObjectStoreUrl, new: &Path) -> Result<(), WorkError> {
        self.repositories.rotate_key(store, new)
    }
}
