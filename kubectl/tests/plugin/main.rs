//! The real `kubectl-cairn` against an API server in this process, with the real operator behind it and daemons that are doubles.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets what it does not expect ends"
)]

mod cluster;
#[allow(dead_code, reason = "other tests play more of it")]
#[path = "../../../operator/tests/operator/double.rs"]
mod double;
mod explaining;
#[allow(dead_code, reason = "only told")]
mod real;
mod refusals;
mod restoring;
mod snapshots;
mod viewing;
