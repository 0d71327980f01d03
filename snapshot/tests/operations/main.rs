//! Saving, restoring, verifying and materializing, on real file systems.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/filesystems.rs"]
mod filesystems;
#[path = "../directory/forest.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod forest;
mod full;
mod importing;
mod kills;
mod place;
#[path = "../directory/replica.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod replica;
mod restoring;
#[path = "../common/samples.rs"]
mod samples;
mod tagging;
mod verifying;
