//! Snapshots that are looked at: through the kernel, on a mount point, and where no kernel is needed as trees.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod archives;
mod damage;
mod engines;
#[path = "../common/filesystems.rs"]
mod filesystems;
#[path = "../directory/forest.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod forest;
#[path = "../archive/harness.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod harness;
mod large;
#[path = "../archive/model.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod model;
#[path = "../operations/place.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod place;
mod readers;
#[path = "../directory/replica.rs"]
#[allow(dead_code, reason = "shared with another test program")]
mod replica;
mod shown;
