//! The operator against an API server in this process and daemons that are doubles: what people apply goes in, what they would see comes out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect ends"
)]

mod bench;
mod crashes;
mod ditto_servers;
mod double;
mod faults;
mod leadership;
mod metrics;
mod nodes;
mod restores;
mod samples;
mod scale;
mod snapshots;
mod workspaces;
