//! Plain directories on real file systems: walked, read, written and compared.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod changing;
mod deep;
#[path = "../common/filesystems.rs"]
mod filesystems;
mod forest;
mod identical;
mod ignoring;
mod losing;
mod replica;
mod walking;
