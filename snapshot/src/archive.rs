//! Archives: snapshots of trees in an object store.

pub mod ends;

pub use ends::{Source, SourceError, Target, TargetError};
