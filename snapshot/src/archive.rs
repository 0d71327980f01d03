//! Archives: snapshots of trees in an object store.
//!
//! - [`ends`]: the two ends that an archive travels between.
//! - [`repository`]: the archives of one object store.
//! - [`tree`]: what the archive of a volume holds; [`directory`]: what that of a plain directory holds; [`root`]: what makes it
//!   an archive.
//! - [`report`]: what is asked and told.
//!
//! Pushing, pulling, verifying and reclaiming are methods of [`Repository`], each in a file of its own.

pub mod directory;
pub mod ends;
pub mod error;
pub mod pull;
pub(crate) mod push;
pub mod reclaim;
pub mod report;
pub mod repository;
pub mod root;
mod sizes;
pub mod tree;
mod verify;

pub use directory::DirectoryArchive;
pub use ends::{Source, SourceError, Target, TargetError};
pub use error::ArchiveError;
pub use report::{
    Archive, Damage, Description, PackAction, PackVerdict, Phase, Progress, ProgressNow, Pulled, Pushed,
    ReclaimOptions, Reclaimed, Sizes, StoreSizes, TreeCounts, Verified, VerifyOptions,
};
pub use repository::{Repository, RepositoryParts, RepositorySettings, encrypt_new, rotate_key, sealing_of};
