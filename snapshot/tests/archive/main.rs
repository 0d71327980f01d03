//! Archives over a store in a directory: what is pushed comes back, whatever happens in between.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod damage;
mod faults;
mod harness;
mod model;
mod races;
mod reclaiming;
mod site;
mod stale;
mod travel;
