//! Archives: snapshots of trees in an object store.

pub mod ends;
pub mod report;
pub mod tree;

pub use ends::{Source, SourceError, Target, TargetError};
pub use report::{
    Archive, Damage, Description, PackAction, PackVerdict, Phase, Progress, ProgressNow, Pulled, Pushed,
    ReclaimOptions, Reclaimed, Sizes, StoreSizes, TreeCounts, Verified, VerifyOptions,
};
