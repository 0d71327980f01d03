//! Plain directories on real file systems: walked, read, written and compared.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../common/filesystems.rs"]
mod filesystems;
mod changing;
mod deep;
mod forest;
mod identical;
mod ignoring;
mod losing;
mod replica;
mod walking;
