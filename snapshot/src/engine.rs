//! Engines: how the data of a snapshot of a plain directory is captured, kept, and removed again.
//!
//! - [`chunks`]: as deduplicated chunks in an object store.

pub mod chunks;
