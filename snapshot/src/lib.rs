//! Snapshots that leave the place where they were taken.
//!
//! - [`archive`]: trees in an object store, deduplicated, compressed, verified; how they get there and back, and what is freed
//!   when they go.
//! - [`directory`]: plain directories as trees of entries.
//! - [`repository`]: what is on disk around the snapshots of a plain directory.

pub mod archive;
pub mod directory;
pub mod repository;
