//! Engines on real file systems: what they capture is what was there, whatever it was.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod btrfs;
#[path = "../common/filesystems.rs"]
mod filesystems;
#[path = "../directory/forest.rs"]
#[allow(dead_code, reason = "shared with the tests of directories")]
mod forest;
mod juicefs;
mod probing;
#[path = "../directory/replica.rs"]
#[allow(dead_code, reason = "shared with the tests of directories")]
mod replica;
mod site;
mod trees;
