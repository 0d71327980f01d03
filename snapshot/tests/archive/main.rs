//! Archives over a store in a directory: what is pushed comes back, whatever happens in between.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod damage;
mod harness;
mod model;
mod reclaiming;
mod travel;
