//! The real `cairnd` on a fresh directory with free ports, driven by the real `cairn`. `cairn` must have been built into
//! the same target directory: `make test` does so, and `cargo build --release -p cairn`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod archives;
mod authority;
mod boot;
mod control;
mod controlled_directories;
mod controllers;
mod directories;
mod harness;
mod http;
mod ledger_kills;
mod tls;
mod travel;
