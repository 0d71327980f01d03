//! Snapshots: of volumes, as archives off the node; of plain directories, versioned in place.
//!
//! - [`archive`]: trees in an object store, deduplicated, compressed, verified; how they get there and back, and what is freed
//!   when they go.
//! - [`directory`]: plain directories as trees of entries.
//! - [`engine`]: how the data of a snapshot of a plain directory is captured, kept, and removed.
//! - [`manifest`]: lists of all entries of a tree, as files.
//! - [`repository`]: what is on disk around the snapshots of a plain directory. [`operations`]: what is done with
//!   them.
//! - [`view`]: a snapshot as a tree to look at, read as far as somebody looks.

pub mod archive;
mod codec;
pub mod directory;
pub mod engine;
pub mod manifest;
pub mod operations;
pub mod repository;
pub mod view;
