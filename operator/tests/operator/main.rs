//! The operator against an API server in this process and daemons that are doubles, or real ones: what people apply goes in, what they would see comes out.
//!
//! `bench` has two backends, `double` and `real`. What is about the operator alone is tested with the first, where everything can be made to go wrong; what is
//! about data, and that the parts fit together, with the second (`whole`).

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
mod real;
mod restores;
mod rights;
mod samples;
mod scale;
mod snapshots;
mod upgrades;
mod whole;
mod workspaces;
