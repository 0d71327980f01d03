//! Repositories of plain directories, as they are on disk: found, refused, damaged, shared.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod audits;
mod damage;
mod finding;
mod golden;
mod harness;
mod leases;
mod naming;
mod snapshots;
