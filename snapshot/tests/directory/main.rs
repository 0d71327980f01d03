//! Plain directories on real file systems: walked, read, written and compared.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod walking;
