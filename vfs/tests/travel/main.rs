//! Snapshots that travel: what a reader streams is what the file system shows, what is said to be unchanged is unchanged, and
//! what an import builds is what was exported, whatever happens on the way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod export;
mod import;
mod node;
mod tree;
