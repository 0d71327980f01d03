//! Repositories of plain directories, as they are on disk: found, refused, damaged, shared.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod damage;
mod finding;
mod harness;
mod leases;
mod snapshots;
