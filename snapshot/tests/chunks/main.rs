//! The engine `archive`: what is captured of a plain directory comes back, whatever happens in between.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod changes;
mod damage;
mod faults;
mod ground;
#[path = "../archive/harness.rs"]
#[allow(
    dead_code,
    reason = "the harness of the archives of volumes, of which half is used here"
)]
mod harness;
mod kinds;
#[path = "../archive/model.rs"]
#[allow(
    dead_code,
    reason = "the harness of the archives of volumes, of which half is used here"
)]
mod model;
mod sharing;
#[path = "../archive/site.rs"]
#[allow(
    dead_code,
    reason = "the harness of the archives of volumes, of which half is used here"
)]
mod site;
mod travel;
